/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two places where a value stands without a label of its own: the title line, and the block of
 * seller or buyer.
 */
#include "services/ai-extractor/norm.h"
#include "services/ai-extractor/rules.h"

#include <string.h>

#define TITLE_GAP 6U /* words between the kind of document and "no." */
#define BLOCK_LINES 7U

static size_t word_key(const struct lpage *page, uint32_t word, char *ret, size_t size)
{
    size_t len;
    const char *text = word_text(page, word, &len);

    return norm_key(text, min_size(len, 60), ret, size);
}

static bool in_list(const char *list, const char *key)
{
    char padded[40];
    const size_t n = strlen(key);

    if (n == 0 || n + 3 > sizeof(padded) || strchr(key, ' ')) {
        return false;
    }
    padded[0] = ' ';
    memcpy(padded + 1, key, n);
    memcpy(padded + 1 + n, " ", 2);
    return strstr(list, padded) != NULL;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text);
    const size_t k = strlen(end);

    return n >= k && strcmp(text + n - k, end) == 0;
}

/* --- the title -------------------------------------------------------------------------------- */

static bool document_word(const char *key)
{
    static const char words[] = " invoice facture factura fattura factuur fatura gutschrift avoir "
                                "creditnota receipt bill rechnungskorrektur ";

    return in_list(words, key) || ends_with(key, "rechnung") || ends_with(key, "beleg");
}

static bool number_word(const char *key)
{
    static const char words[] = " nr no n num numero number nummer id ";

    return in_list(words, key);
}

/* "vom", "of", "issued at": what a date follows in a title. Returns the words used. */
static uint32_t date_word(const struct lpage *page, uint32_t word, uint32_t last)
{
    static const char one[] = " vom of dated du del van am on date datum ";
    char key[64];

    (void)word_key(page, word, key, sizeof(key));
    if (strcmp(key, "issued") == 0 && word < last) {
        return 2;
    }
    return in_list(one, key) ? 1 : 0;
}

/* Whether the word belongs to a label of something else than the document's number. */
static bool other_label(const struct rules_page *rules, uint32_t word)
{
    const uint32_t line = rules->page->cells[rules->page->words[word].cell].line;

    for (size_t i = rules->line_hits[line]; i < rules->line_hits[line + 1]; i++) {
        const struct label_hit *hit = &rules->hits[i];
        if (hit_first_word(rules, hit) <= word && word <= hit_last_word(rules, hit) &&
            hit->label->column < 0) {
            return hit->label->meaning != CONCEPT_NUMBER && hit->label->meaning != CONCEPT_NONE;
        }
    }
    return false;
}

/* The word that follows "Invoice no." or "Facture", or 0. */
static uint32_t title_number(const struct rules_page *rules, const struct lcell *cell)
{
    const struct lpage *page = rules->page;
    const uint32_t last = cell->first + cell->n - 1;
    char key[64];

    (void)word_key(page, cell->first, key, sizeof(key));
    if (!document_word(key)) {
        return 0;
    }
    for (uint32_t w = cell->first + 1; w <= last && w <= cell->first + TITLE_GAP; w++) {
        size_t len;
        const char *text = word_text(page, w, &len);
        (void)word_key(page, w, key, sizeof(key));
        if (other_label(rules, w)) {
            return 0;
        }
        if (w < last && (number_word(key) || (len == 1 && text[0] == '#'))) {
            return w + 1;
        }
    }
    size_t digits = 0;
    size_t len;
    const char *text = word_text(page, last, &len);
    for (size_t i = 0; i < len; i++) {
        digits += text[i] >= '0' && text[i] <= '9';
    }
    return cell->n == 2 && digits >= 3 ? last : 0;
}

int rules_title(const struct rules_target *target, const struct rules_page *rules, struct err *err)
{
    const struct lpage *page = rules->page;
    const bool number = target->meaning == CONCEPT_NUMBER && target->column->type != COLUMN_DATE;
    const bool date =
        target->meaning == CONCEPT_ISSUE_DATE &&
        (target->column->type == COLUMN_DATE || target->column->type == COLUMN_DATETIME);

    for (size_t i = 0; (number || date) && i < page->n_cells; i++) {
        const struct lcell *cell = &page->cells[i];
        const uint32_t last = cell->first + cell->n - 1;
        const uint32_t found = title_number(rules, cell);
        if (found == 0) {
            continue;
        }
        if (number) {
            const struct place place = {rules, found, found, 0.93F, false, true};
            return place_propose(target, &place, err) < 0 ? -1 : 0;
        }
        for (uint32_t w = found + 1; w < last; w++) {
            const uint32_t skip = date_word(page, w, last);
            if (skip && w + skip <= last) {
                const struct place place = {rules, w + skip, last, 0.93F, false, true};
                return place_propose(target, &place, err) < 0 ? -1 : 0;
            }
        }
    }
    return 0;
}

/* --- seller and buyer ------------------------------------------------------------------------- */

static bool cell_has_digit(const struct lpage *page, const struct lcell *cell)
{
    for (uint32_t w = cell->first; w < cell->first + cell->n; w++) {
        size_t len;
        const char *text = word_text(page, w, &len);
        for (size_t i = 0; i < len; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                return true;
            }
        }
    }
    return false;
}

static bool cell_has_colon(const struct lpage *page, const struct lcell *cell)
{
    for (uint32_t w = cell->first; w < cell->first + cell->n; w++) {
        size_t len;
        const char *text = word_text(page, w, &len);
        if (memchr(text, ':', len)) {
            return true;
        }
    }
    return false;
}

static bool is_name_label(const struct lpage *page, const struct lcell *cell)
{
    static const char words[] = " name firma company firmenname nom nombre nome naam unternehmen ";
    char key[64];

    (void)word_key(page, cell->first, key, sizeof(key));
    return in_list(words, key);
}

/* "Name: X", in one cell or two. */
static int named_cell(const struct rules_target *target, const struct rules_page *rules,
                      const struct lcell *cell, float prior, struct err *err)
{
    const struct lpage *page = rules->page;
    uint32_t first = cell->first + 1;
    uint32_t last = cell->first + cell->n - 1;
    char key[64];

    while (first <= last && word_key(page, first, key, sizeof(key)) == 0) {
        first++;
    }
    if (first > last) {
        const size_t next = (size_t)(cell - page->cells) + 1;
        if (next >= page->n_cells || page->cells[next].line != cell->line) {
            return 0;
        }
        first = page->cells[next].first;
        last = first + page->cells[next].n - 1;
    }
    const struct place place = {rules, first, run_end(page, first, last), prior, true, true};
    return place_words(target, &place, place.first, place.last, prior, err);
}

static bool is_heading(const struct rules_page *rules, const struct label_hit *hit)
{
    const struct lpage *page = rules->page;
    const uint32_t last = hit_last_word(rules, hit);
    const struct lcell *cell = &page->cells[page->words[last].cell];
    char key[64];

    for (uint32_t w = last + 1; w < cell->first + cell->n; w++) {
        if (word_key(page, w, key, sizeof(key))) {
            return false;
        }
    }
    for (uint32_t w = cell->first; w < hit_first_word(rules, hit); w++) {
        if (!rules->labelled[w]) {
            return false;
        }
    }
    return true;
}

/* Neither a label nor something with its own label. */
static bool stands_alone(const struct rules_page *rules, const struct lcell *cell)
{
    const struct lpage *page = rules->page;
    const size_t next = (size_t)(cell - page->cells) + 1;
    bool labelled = true;

    for (uint32_t w = cell->first; w < cell->first + cell->n; w++) {
        labelled = labelled && rules->labelled[w];
    }
    if (labelled || cell_has_digit(page, cell) || cell_has_colon(page, cell)) {
        return false;
    }
    if (next < page->n_cells && page->cells[next].line == cell->line) {
        size_t len;
        const char *text = word_text(page, page->cells[next].first, &len);
        return text[0] != ':';
    }
    return true;
}

/* The first line of the block under a heading that can be a name. */
static int block_name(const struct rules_target *target, const struct rules_page *rules,
                      const struct label_hit *hit, struct err *err)
{
    const struct lpage *page = rules->page;
    const uint32_t index = page->words[hit_last_word(rules, hit)].cell;
    const struct lcell *head = &page->cells[index];
    const struct lcell *candidate = NULL;
    float bottom = head->y1;

    for (size_t k = index + 1; k < page->n_cells && page->cells[k].line <= head->line + BLOCK_LINES;
         k++) {
        const struct lcell *cell = &page->cells[k];
        const bool column = cell->x0 > head->x0 - 3 * page->char_w &&
                            cell->x0 < head->x0 + 4 * page->char_w && cell->line != head->line;
        if (!column) {
            continue;
        }
        if (cell->y0 - bottom > 3.5F * page->line_h) {
            break;
        }
        bottom = cell->y1;
        if (is_name_label(page, cell)) {
            return named_cell(target, rules, cell, 0.95F * hit->label->weight, err);
        }
        if (!candidate && cell->n <= 9 && stands_alone(rules, cell)) {
            candidate = cell;
        }
    }
    if (!candidate) {
        return 0;
    }
    const struct place place = {rules,
                                candidate->first,
                                candidate->first + candidate->n - 1,
                                0.85F * hit->label->weight,
                                true,
                                true};
    const uint32_t last = run_end(page, place.first, place.last);
    return last == place.last ? place_words(target, &place, place.first, last, place.prior, err)
                              : 0;
}

static bool legal_form(const char *key)
{
    static const char words[] =
        " gmbh ag kg ohg ug ltd limited llc inc corp sarl sas sa srl spa bv nv "
        "bhd plc oy ab aps kft sro pty gbr ek eurl ev llp lp ";

    return in_list(words, key);
}

/* After a legal form a name ends: with its cell, or before a mark. */
static bool name_ends(const struct lpage *page, uint32_t word, const struct lcell *cell)
{
    char key[64];
    size_t len;
    const char *text = word_text(page, word, &len);

    if (word + 1 == cell->first + cell->n || text[len - 1] == ',') {
        return true;
    }
    return word_key(page, word + 1, key, sizeof(key)) == 0;
}

/* The word in which a company's name ends with its legal form, or 0. */
static uint32_t legal_end(const struct lpage *page, const struct lcell *cell)
{
    uint32_t found = 0;

    for (uint32_t w = cell->first + 1; w < cell->first + cell->n && w < cell->first + 8; w++) {
        char key[64];
        (void)word_key(page, w, key, sizeof(key));
        if (legal_form(key) && name_ends(page, w, cell)) {
            found = w;
        }
    }
    return found;
}

/* A company's name at the top of the first page: up to its legal form. */
static int company_name(const struct rules_target *target, const struct rules_page *rules,
                        struct err *err)
{
    const struct lpage *page = rules->page;
    const size_t top = min_size(page->n_cells, 30);
    const struct lcell *best = NULL;

    for (size_t i = 0; i < top && page->cells[i].line < 14; i++) {
        const struct lcell *cell = &page->cells[i];
        if (rules->buyer_cell[i] || cell_has_colon(page, cell) || !legal_end(page, cell)) {
            continue;
        }
        if (best) {
            return 0; /* two companies: which is it? */
        }
        best = cell;
    }
    if (!best) {
        return 0;
    }
    const uint32_t last = legal_end(page, best);
    const struct place place = {rules, best->first, last, 0.75F, true, true};
    return run_end(page, best->first, last) == last
               ? place_words(target, &place, best->first, last, place.prior, err)
               : 0;
}

int rules_party(const struct rules_target *target, const struct rules_page *rules, struct err *err)
{
    const bool party = target->meaning == CONCEPT_SELLER || target->meaning == CONCEPT_BUYER;

    if (!party || target->column->type != COLUMN_STRING) {
        return 0;
    }
    for (size_t i = 0; i < rules->n_hits; i++) {
        const struct label_hit *hit = &rules->hits[i];
        if (hit->label->column < 0 && hit->label->meaning == target->meaning &&
            is_heading(rules, hit) && block_name(target, rules, hit, err) < 0) {
            return -1;
        }
    }
    const bool first = rules->page == &target->job->layout->pages[0];
    if (first && target->meaning == CONCEPT_SELLER && target->out->scalars[target->index].n == 0) {
        return company_name(target, rules, err) < 0 ? -1 : 0;
    }
    return 0;
}
