/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The offline backend: label and pattern rules, no AI, and it says so. Columns that only reading
 * could answer stay empty with the reason needs_ai_backend.
 */
#include "services/ai-extractor/norm.h"
#include "services/ai-extractor/rules.h"

#include <string.h>

#define PAGES_MAX 300U /* labels are looked for on the first pages only */

/* --- a page and its labels -------------------------------------------------------------------- */

uint32_t hit_first_word(const struct rules_page *page, const struct label_hit *hit)
{
    return page->tokens.items[hit->first].word;
}

uint32_t hit_last_word(const struct rules_page *page, const struct label_hit *hit)
{
    return page->tokens.items[hit->first + hit->n - 1].word;
}

/* Hits come in reading order, so those of a line are neighbours. */
static void index_lines(struct rules_page *rules)
{
    const struct lpage *page = rules->page;
    size_t at = 0;

    for (uint32_t line = 0; line <= page->n_lines; line++) {
        while (at < rules->n_hits &&
               page->cells[page->words[hit_first_word(rules, &rules->hits[at])].cell].line < line) {
            at++;
        }
        rules->line_hits[line] = at;
    }
}

static unsigned header_bit(enum concept meaning)
{
    switch ((int)meaning) {
    case CONCEPT_DESCRIPTION:
        return 1;
    case CONCEPT_QUANTITY:
        return 2;
    case CONCEPT_UNIT_PRICE:
        return 4;
    case CONCEPT_POSITION:
        return 8;
    case CONCEPT_ITEM_NUMBER:
        return 16;
    case CONCEPT_LINE_TOTAL:
        return 32;
    default:
        return 0;
    }
}

static void mark_headers(struct rules_page *rules)
{
    const struct lpage *page = rules->page;
    uint32_t line = UINT32_MAX;
    unsigned bits = 0;

    for (size_t i = 0; i < rules->n_hits; i++) {
        const struct label_hit *hit = &rules->hits[i];
        const uint32_t now = page->cells[page->words[hit_first_word(rules, hit)].cell].line;
        if (now != line) {
            bits = 0;
            line = now;
        }
        bits |= header_bit(hit->label->meaning);
        const int kinds = __builtin_popcount(bits);
        rules->header_line[line] |=
            kinds >= 3 || (kinds == 2 && (bits & 7U) && page->lines[line].n_cells >= 3);
        for (uint32_t w = hit_first_word(rules, hit); w <= hit_last_word(rules, hit); w++) {
            rules->labelled[w] = true;
        }
    }
}

/* Cells below a buyer's heading, in its column, until a seller's heading or a gap. */
static void mark_buyer(struct rules_page *rules)
{
    const struct lpage *page = rules->page;

    for (size_t i = 0; i < rules->n_hits; i++) {
        if (rules->hits[i].label->meaning != CONCEPT_BUYER) {
            continue;
        }
        const uint32_t cell = page->words[hit_first_word(rules, &rules->hits[i])].cell;
        const struct lcell *head = &page->cells[cell];
        rules->buyer_cell[cell] = true;
        for (size_t k = cell + 1; k < page->n_cells && page->cells[k].line <= head->line + 14;
             k++) {
            const struct lcell *below = &page->cells[k];
            const bool near =
                below->x0 < head->x1 + 20 * page->char_w && below->x1 > head->x0 - 2 * page->char_w;
            rules->buyer_cell[k] |= near;
        }
    }
    for (size_t i = 0; i < rules->n_hits; i++) { /* and a seller's heading ends it */
        if (rules->hits[i].label->meaning != CONCEPT_SELLER) {
            continue;
        }
        const uint32_t cell = page->words[hit_first_word(rules, &rules->hits[i])].cell;
        const struct lcell *head = &page->cells[cell];
        for (size_t k = cell; k < page->n_cells && page->cells[k].line <= head->line + 8; k++) {
            const bool below = page->cells[k].x0 < head->x1 + 20 * page->char_w &&
                               page->cells[k].x1 > head->x0 - 2 * page->char_w;
            if (below && rules->buyer_cell[k] && rules->buyer_cell[cell]) {
                rules->buyer_cell[k] = false;
            }
        }
    }
}

int rules_page_new(const struct labels *labels, const struct lpage *page, struct rules_page *ret,
                   struct err *err)
{
    struct rules_page rules = {.page = page};

    if (tokens_new(page, &rules.tokens, err) < 0 ||
        labels_find(labels, page, &rules.tokens, &rules.hits, &rules.n_hits, err) < 0) {
        rules_page_done(&rules);
        return -1;
    }
    rules.line_hits = calloc(page->n_lines + 1, sizeof(*rules.line_hits));
    rules.labelled = calloc(page->n_words + 1, sizeof(bool));
    rules.header_line = calloc(page->n_lines + 1, sizeof(bool));
    rules.buyer_cell = calloc(page->n_cells + 1, sizeof(bool));
    if (!rules.line_hits || !rules.labelled || !rules.header_line || !rules.buyer_cell) {
        rules_page_done(&rules);
        return err_nomem(err);
    }
    index_lines(&rules);
    mark_headers(&rules);
    mark_buyer(&rules);
    *ret = rules;
    return 0;
}

void rules_page_done(struct rules_page *page)
{
    tokens_done(&page->tokens);
    free(page->hits);
    free(page->line_hits);
    free(page->labelled);
    free(page->header_line);
    free(page->buyer_cell);
    *page = (struct rules_page){.page = NULL};
}

/* --- columns ---------------------------------------------------------------------------------- */

static int label_pass(const struct rules_target *target, const struct rules_page *page,
                      enum concept meaning, float weight, struct err *err)
{
    for (size_t i = 0; i < page->n_hits; i++) {
        const struct label_hit *hit = &page->hits[i];
        if (label_serves(hit->label, target->index, meaning) &&
            rules_label(target, page, hit, weight, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int column_pass(const struct rules_target *target, const struct rules_page *pages, size_t n,
                       struct err *err)
{
    const struct candidate_list *list = &target->out->scalars[target->index];

    for (size_t i = 0; i < n; i++) {
        if (label_pass(target, &pages[i], target->meaning, 1, err) < 0 ||
            rules_title(target, &pages[i], err) < 0 || rules_party(target, &pages[i], err) < 0) {
            return -1;
        }
    }
    if (list->n == 0 && target->meaning == CONCEPT_TOTAL) { /* what is due is the next best */
        for (size_t i = 0; i < n; i++) {
            if (label_pass(target, &pages[i], CONCEPT_DUE_AMOUNT, 0.8F, err) < 0) {
                return -1;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (rules_pattern(target, &pages[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static bool document_has_words(const struct layout *layout)
{
    for (size_t i = 0; i < layout->n; i++) {
        if (layout->pages[i].n_words) {
            return true;
        }
    }
    return false;
}

static const char *why_empty(const struct rules_target *target, const struct rules_page *pages,
                             size_t n)
{
    if (!document_has_words(target->job->layout)) {
        return "no_text";
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < pages[i].n_hits; k++) {
            if (label_serves(pages[i].hits[k].label, target->index, target->meaning)) {
                return "no_value_at_label";
            }
        }
    }
    return target->column->type == COLUMN_STRING || target->column->type == COLUMN_ENUM ||
                   target->column->type == COLUMN_BOOLEAN
               ? "needs_ai_backend"
               : "no_label";
}

static int scalars(const struct backend_job *job, const struct rules_page *pages, size_t n,
                   struct proposals *ret, struct err *err)
{
    for (size_t i = 0; i < job->columns->n; i++) {
        const struct column *column = &job->columns->items[i];
        const struct rules_target target = {job, ret, i, column, concept_of(column->name)};
        if (column->type == COLUMN_ROWS || !job_wants(job, i)) {
            continue;
        }
        if (column_pass(&target, pages, n, err) < 0) {
            return -1;
        }
        if (ret->scalars[i].n == 0) {
            ret->scalars[i].reason = why_empty(&target, pages, n);
        }
    }
    return 0;
}

static int scalar_pages(const struct backend_job *job, struct proposals *ret, struct err *err)
{
    struct labels labels;
    size_t n = 0;
    int result = 0;

    if (job->options->part == EXTRACT_ROWS) {
        return 0;
    }
    struct rules_page *pages = calloc(min_size(job->layout->n, PAGES_MAX) + 1, sizeof(*pages));
    if (!pages) {
        return err_nomem(err);
    }
    if (labels_new(job->columns, &labels, err) < 0) {
        free(pages);
        return -1;
    }
    for (size_t i = 0; result == 0 && i < job->layout->n && n < PAGES_MAX; i++) {
        if (job_sees(job, job->layout->pages[i].page->page)) {
            result = rules_page_new(&labels, &job->layout->pages[i], &pages[n], err);
            n += result == 0;
        }
    }
    if (result == 0) {
        result = scalars(job, pages, n, ret, err);
    }
    for (size_t i = 0; i < n; i++) {
        rules_page_done(&pages[i]);
    }
    free(pages);
    labels_done(&labels);
    return result;
}

static int rules_propose(const struct backend *backend, const struct backend_job *job,
                         struct proposals *ret, struct err *err)
{
    (void)backend;
    if (scalar_pages(job, ret, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < job->columns->n; i++) {
        if (job->columns->items[i].type != COLUMN_ROWS || !job_wants(job, i)) {
            continue;
        }
        if (rules_rows(job, i, ret, err) < 0) {
            return -1;
        }
        if (ret->rows[i].n_rows == 0) {
            ret->scalars[i].reason = "no_table";
        }
    }
    return 0;
}

static const struct backend rules = {.name = "rules", .propose = rules_propose};

const struct backend *backend_rules(void)
{
    return &rules;
}
