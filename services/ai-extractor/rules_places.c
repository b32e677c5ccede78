/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a label's value can stand: behind it in its cell, in the cells to the right, below it.
 * It refuses headings of tables, sentences, and figures that are one of many.
 */
#include "services/ai-extractor/norm.h"
#include "services/ai-extractor/rules.h"

#include <math.h>
#include <string.h>

#define PROSE_WORDS 14U /* a longer cell is a sentence */
#define BELOW_MAX 12U

static uint32_t cell_last(const struct lcell *cell)
{
    return cell->first + cell->n - 1;
}

static bool has_digit(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            return true;
        }
    }
    return false;
}

static bool cell_starts_labelled(const struct rules_page *rules, const struct lcell *cell)
{
    return rules->labelled[cell->first];
}

static bool figures(const struct rules_target *target)
{
    return target->column->type == COLUMN_MONEY || target->column->type == COLUMN_NUMBER ||
           target->column->type == COLUMN_INTEGER;
}

/* The first token of the column's type in a cell. */
static bool cell_token(const struct rules_target *target, const struct lpage *page,
                       const struct lcell *cell, struct token *ret)
{
    const uint32_t last = run_end(page, cell->first, cell_last(cell));
    const size_t base = doctext_byte_of(page->page, page->words[cell->first].start);
    const size_t end = doctext_byte_of(page->page, page->words[last].end);
    size_t at = 0;

    return typing_next(target->column->type, page->page->text + base, end - base, &at,
                       &target->job->hint, ret) &&
           !(ret->value.flags & VALUE_PERCENT);
}

/* --- to the right ----------------------------------------------------------------------------- */

static bool is_mark_cell(const struct lpage *page, const struct lcell *cell)
{
    size_t len;
    const char *text = word_text(page, cell->first, &len);

    return cell->n == 1 && len <= 3 && !has_digit(text, len);
}

/* Amounts side by side are net, tax and gross, or the columns of a table: the last one sums up. */
static int try_amounts(const struct rules_target *target, const struct rules_page *rules,
                       uint32_t cell, float prior, struct err *err)
{
    const struct lpage *page = rules->page;
    const struct lline *line = &page->lines[page->cells[cell].line];
    const struct lcell *best = NULL;
    size_t n = 0;

    for (uint32_t k = cell + 1; k < line->first_cell + line->n_cells; k++) {
        struct token token;
        if (cell_starts_labelled(rules, &page->cells[k])) {
            break;
        }
        if (cell_token(target, page, &page->cells[k], &token)) {
            best = &page->cells[k];
            n++;
        }
    }
    if (!best) {
        return 0;
    }
    const struct place place = {rules, best->first, cell_last(best), prior * (n > 1 ? 0.8F : 1),
                                true,  true};
    return place_propose(target, &place, err);
}

static int try_right(const struct rules_target *target, const struct rules_page *rules,
                     uint32_t cell, float prior, struct err *err)
{
    const struct lpage *page = rules->page;
    const struct lline *line = &page->lines[page->cells[cell].line];

    if (target->column->type == COLUMN_MONEY) {
        return try_amounts(target, rules, cell, prior, err);
    }
    for (uint32_t k = cell + 1; k < line->first_cell + line->n_cells; k++) {
        const struct lcell *right = &page->cells[k];
        const struct place place = {rules, right->first, cell_last(right), prior, true, true};
        if (cell_starts_labelled(rules, right)) {
            break;
        }
        if (is_mark_cell(page, right) && k + 1 < line->first_cell + line->n_cells) {
            continue; /* ":" in a column of its own */
        }
        return place_propose(target, &place, err);
    }
    return 0;
}

/* --- below ------------------------------------------------------------------------------------ */

static bool under(const struct lcell *head, const struct lcell *cell, float slack)
{
    const float overlap = fminf(head->x1, cell->x1) - fmaxf(head->x0, cell->x0);
    const float narrow = fminf(head->x1 - head->x0, cell->x1 - cell->x0);

    return cell->line > head->line && overlap >= slack * narrow && overlap > 0;
}

/* The figures below a heading, one per line, without gaps. */
static size_t column_below(const struct rules_target *target, const struct lpage *page,
                           uint32_t cell, uint32_t *ret_cells, struct token *ret_tokens)
{
    const struct lcell *head = &page->cells[cell];
    float bottom = head->y1;
    size_t n = 0;

    for (uint32_t k = cell + 1; k < page->n_cells && n < BELOW_MAX; k++) {
        const struct lcell *below = &page->cells[k];
        if (below->y0 - bottom > 2.2F * page->line_h) {
            break;
        }
        if (!under(head, below, 0.3F)) {
            continue;
        }
        if (!cell_token(target, page, below, &ret_tokens[n])) {
            break;
        }
        bottom = below->y1;
        ret_cells[n++] = k;
    }
    return n;
}

/* Of several figures the last may be their sum, or all may be the same; else it is a table. */
static bool settled(const struct token *tokens, size_t n)
{
    int64_t sum = 0;
    int64_t last = 0;
    bool same = true;

    for (size_t i = 0; i < n; i++) {
        if (!decimal_cents(tokens[i].value.text, &last)) {
            return false;
        }
        sum += last;
        same = same && value_equal(&tokens[i].value, &tokens[0].value);
    }
    return same || sum - last == last;
}

static int below_figures(const struct rules_target *target, const struct rules_page *rules,
                         uint32_t cell, float prior, struct err *err)
{
    uint32_t cells[BELOW_MAX];
    struct token tokens[BELOW_MAX];
    const size_t n = column_below(target, rules->page, cell, cells, tokens);

    if (n == 0 || !settled(tokens, n)) {
        return 0;
    }
    const struct lcell *below = &rules->page->cells[cells[n - 1]];
    const struct place place = {rules, below->first, cell_last(below), prior * 0.85F, true, true};
    return place_propose(target, &place, err);
}

static int try_below(const struct rules_target *target, const struct rules_page *rules,
                     uint32_t cell, float prior, struct err *err)
{
    const struct lpage *page = rules->page;
    const struct lcell *head = &page->cells[cell];

    if (figures(target)) {
        return below_figures(target, rules, cell, prior, err);
    }
    for (uint32_t k = cell + 1; k < page->n_cells && page->cells[k].line <= head->line + 2; k++) {
        const struct lcell *below = &page->cells[k];
        if (!under(head, below, 0.5F)) {
            continue;
        }
        if (below->y0 - head->y1 > 2.2F * page->line_h || cell_starts_labelled(rules, below)) {
            return 0;
        }
        const struct place place = {rules,         below->first, cell_last(below),
                                    prior * 0.85F, true,         true};
        return place_propose(target, &place, err);
    }
    return 0;
}

/* --- the label -------------------------------------------------------------------------------- */

/* Label cells side by side: a row of headings, whose values are below. */
static bool among_labels(const struct rules_page *rules, uint32_t cell)
{
    const struct lpage *page = rules->page;
    const struct lline *line = &page->lines[page->cells[cell].line];
    size_t n = 0;

    for (uint32_t k = line->first_cell; k < line->first_cell + line->n_cells; k++) {
        n += cell_starts_labelled(rules, &page->cells[k]);
    }
    return n >= 2;
}

/* A tax for one rate is part of the tax. */
static bool line_has_percent(const struct lpage *page, uint32_t line)
{
    const struct lline *cells = &page->lines[line];
    const struct lcell *last = &page->cells[cells->first_cell + cells->n_cells - 1];

    for (uint32_t w = page->cells[cells->first_cell].first; w <= cell_last(last); w++) {
        size_t len;
        const char *text = word_text(page, w, &len);
        if (memchr(text, '%', len)) {
            return true;
        }
    }
    return false;
}

/* "total" and "sum" in a label: it speaks of all, not of a part. */
static bool says_all(const struct label *label)
{
    static const char words[] = " total totale totaal summe gesamt steuerbetrag amount montant "
                                "betrag grand sub subtotal ";

    for (size_t i = 0; i < label->n; i++) {
        char padded[LABEL_TOKEN_BYTES + 2] = " ";
        const size_t n = strlen(label->tokens[i]);
        memcpy(padded + 1, label->tokens[i], n);
        padded[n + 1] = ' ';
        padded[n + 2 < sizeof(padded) ? n + 2 : sizeof(padded) - 1] = '\0';
        if (strstr(words, padded)) {
            return true;
        }
    }
    return false;
}

static float label_weight(const struct rules_target *target, const struct rules_page *rules,
                          const struct label_hit *hit, uint32_t line)
{
    float weight = hit->label->weight * (1 - 0.06F * (float)hit->distance);

    if (hit->n == 1 && target->meaning != CONCEPT_NONE) {
        weight *= 0.85F; /* one general word says less than two */
    }
    if (target->meaning == CONCEPT_TAX_TOTAL && !says_all(hit->label)) {
        weight *= 0.9F;
    }
    const bool sum = target->meaning == CONCEPT_TAX_TOTAL || target->meaning == CONCEPT_NET_TOTAL;
    return sum && line_has_percent(rules->page, line) ? weight * 0.85F : weight;
}

/* 0 when the label is part of a sentence. */
static float place_weight(const struct rules_page *rules, const struct label_hit *hit,
                          const struct lcell *cell, bool colon)
{
    const uint32_t first = hit_first_word(rules, hit);
    const uint32_t before = first - cell->first;
    bool labelled = true;

    if (before == 0) {
        return 1;
    }
    if (cell->n > PROSE_WORDS && !colon) {
        return 0;
    }
    for (uint32_t w = cell->first; w < first; w++) {
        labelled = labelled && rules->labelled[w];
    }
    return labelled || colon ? 0.85F : before <= 2 ? 0.75F : 0.6F;
}

/* "20%", or "20" before "%": the rate in a tax's label. */
static bool is_rate(const struct lpage *page, uint32_t word, const struct lcell *cell)
{
    size_t len;
    const char *text = word_text(page, word, &len);

    if (!has_digit(text, len)) {
        return false;
    }
    if (text[len - 1] == '%') {
        return true;
    }
    if (word == cell_last(cell)) {
        return false;
    }
    text = word_text(page, word + 1, &len);
    return len == 1 && text[0] == '%';
}

/* "Number : 5", "Total (EUR): 5": marks, brackets and a currency behind a label belong to it. */
static uint32_t label_end(const struct lpage *page, uint32_t last, const struct lcell *cell,
                          bool sum, bool *colon)
{
    while (last < cell_last(cell)) {
        size_t len;
        char key[32];
        char code[4];
        const char *text = word_text(page, last + 1, &len);
        const bool mark =
            norm_key(text, min_size(len, 20), key, sizeof(key)) == 0 && text[0] != '-';
        const bool bracket = text[0] == '(' && !has_digit(text, len) && memchr(text, ')', len);
        const bool money = len >= 3 && len <= 5 && currency_at(text, len, 0, code) + 1 >= len;
        if (!mark && !bracket && !money && !(sum && is_rate(page, last + 1, cell))) {
            break;
        }
        *colon |= text[len - 1] == ':';
        last++;
    }
    return last;
}

/* "in" before an amount in the next cell: a label's last word, not its value. */
static bool only_words(const struct lpage *page, uint32_t first, const struct lcell *cell)
{
    size_t len;
    const char *text = word_text(page, first, &len);

    return first == cell_last(cell) && !has_digit(text, len) && !memchr(text, '%', len) &&
           text[len - 1] != ':';
}

static bool percent_label(const struct lpage *page, uint32_t first, uint32_t last)
{
    for (uint32_t w = first; w <= last; w++) {
        size_t len;
        const char *text = word_text(page, w, &len);
        if (memchr(text, '%', len)) {
            return true;
        }
    }
    return false;
}

/* The rest of the label's cell. 0: the search goes on outside of it. */
static int try_behind(const struct rules_target *target, const struct rules_page *rules,
                      uint32_t last, float prior, bool colon, struct err *err)
{
    const struct lpage *page = rules->page;
    const struct lcell *cell = &page->cells[page->words[last].cell];
    const struct place place = {rules, last + 1, cell_last(cell), prior * (colon ? 1 : 0.95F),
                                false, colon};
    const int found = place_propose(target, &place, err);
    const bool on = target->column->type == COLUMN_MONEY && only_words(page, last + 1, cell);

    return found == 0 && !on ? 1 : found;
}

int rules_label(const struct rules_target *target, const struct rules_page *rules,
                const struct label_hit *hit, float weight, struct err *err)
{
    const struct lpage *page = rules->page;
    const uint32_t index = page->words[hit_last_word(rules, hit)].cell;
    const struct lcell *cell = &page->cells[index];
    bool colon = rules->tokens.items[hit->first + hit->n - 1].colon;
    const bool sum = target->column->type == COLUMN_MONEY;
    const uint32_t last = label_end(page, hit_last_word(rules, hit), cell, sum, &colon);
    const float prior = weight * label_weight(target, rules, hit, cell->line) *
                        place_weight(rules, hit, cell, colon);

    if (rules->header_line[cell->line] || prior <= 0 ||
        (sum && percent_label(page, hit_first_word(rules, hit), hit_last_word(rules, hit)))) {
        return 0;
    }
    if (last < cell_last(cell)) {
        const int behind = try_behind(target, rules, last, prior, colon, err);
        if (behind != 0) {
            return behind < 0 ? -1 : 0;
        }
    }
    if (hit_first_word(rules, hit) != cell->first && !colon) {
        return 0; /* the end of some other text */
    }
    const bool string = target->column->type == COLUMN_STRING && !place_is_id(target->meaning);
    if (!(string && place_is_party(target->meaning) && !colon)) {
        const int right = try_right(target, rules, index, prior, err);
        if (right != 0) {
            return right < 0 ? -1 : 0;
        }
    }
    if (string && (place_is_party(target->meaning) || !among_labels(rules, index))) {
        return 0;
    }
    return try_below(target, rules, index, prior, err) < 0 ? -1 : 0;
}
