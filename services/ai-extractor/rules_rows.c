/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables: headings that name at least two item columns fix where columns stand; lines below with
 * figures in them are rows, until a label of totals.
 * It refuses tables without headings, lines that fill only one column, and rows without the amount
 * that their table has a column for.
 */
#include "services/ai-extractor/norm.h"
#include "services/ai-extractor/rules_bands.h"

#include <string.h>

#define ROW_PRIOR 0.92F

static bool has_letters(const struct lpage *page, uint32_t first, uint32_t last)
{
    for (uint32_t w = first; w <= last; w++) {
        size_t len;
        const char *text = word_text(page, w, &len);
        for (size_t i = 0; i < len; i++) {
            if ((unsigned char)text[i] >= 'A') {
                return true;
            }
        }
    }
    return false;
}

/* A value of the item's type among the words: its code points. */
static bool read_item(const struct table *table, size_t item, const struct span *span,
                      struct candidate *ret)
{
    const struct lpage *page = table->rules->page;
    const struct column *column = &table->items->items[item];
    const uint32_t last = run_end(page, span->first, span->last);
    uint32_t start = page->words[span->first].start;
    uint32_t end = page->words[last].end;
    const size_t base = doctext_byte_of(page->page, start);
    const size_t len = doctext_byte_of(page->page, end) - base;
    const struct locale_hint hint = typing_hint(column, &table->job->hint);
    struct token token;
    size_t at = 0;

    if (column->type == COLUMN_STRING) {
        const bool named =
            table->meanings[item] != CONCEPT_DESCRIPTION || has_letters(page, span->first, last);
        if (last != span->last || !named) {
            return false;
        }
    } else if (column->type == COLUMN_ENUM || column->type == COLUMN_BOOLEAN) {
        struct value value;
        if (!typing_parse(column, page->page->text + base, len, &hint, &value)) {
            return false;
        }
    } else {
        if (!typing_next(column->type, page->page->text + base, len, &at, &hint, &token) ||
            ((token.value.flags & VALUE_PERCENT) && table->meanings[item] != CONCEPT_TAX_RATE)) {
            return false;
        }
        start = doctext_cp_of(page->page, base + token.start);
        end = doctext_cp_of(page->page, base + token.end);
    }
    *ret = (struct candidate){
        .page = page->page->page, .start = start, .end = end, .prior = ROW_PRIOR};
    return true;
}

/* --- rows ------------------------------------------------------------------------------------- */

static char *span_text(const struct doc_page *page, uint32_t start, uint32_t end)
{
    const size_t from = doctext_byte_of(page, start);
    const size_t to = doctext_byte_of(page, end);
    char *raw = calloc(to - from + 1, 1);
    size_t n = 0;

    for (size_t i = from; raw && i < to; i++) {
        const char c = page->text[i];
        const bool blank = c == ' ' || (c >= '\t' && c <= '\r');
        if (!blank && (unsigned char)c >= 0x20) {
            raw[n++] = c;
        } else if (blank && n && raw[n - 1] != ' ') {
            raw[n++] = ' ';
        }
    }
    if (raw) {
        n -= n && raw[n - 1] == ' ';
        raw[n] = '\0';
    }
    return raw;
}

static bool is_figure(const struct table *table, size_t item)
{
    const enum column_type type = table->items->items[item].type;

    return type == COLUMN_MONEY || type == COLUMN_NUMBER || type == COLUMN_INTEGER;
}

static int fill_row(struct table *table, const struct candidate *found, const bool *has,
                    struct err *err)
{
    for (size_t i = 0; i < table->items->n; i++) {
        if (!has[i] || table->row[i].raw) {
            continue;
        }
        table->row[i] = found[i];
        table->row[i].raw = span_text(table->rules->page->page, found[i].start, found[i].end);
        if (!table->row[i].raw) {
            return err_nomem(err);
        }
    }
    return 0;
}

static bool line_has_colon(const struct lpage *page, uint32_t line)
{
    const struct lline *cells = &page->lines[line];
    const struct lcell *last = &page->cells[cells->first_cell + cells->n_cells - 1];

    for (uint32_t w = page->cells[cells->first_cell].first; w < last->first + last->n; w++) {
        size_t len;
        const char *text = word_text(page, w, &len);
        if (memchr(text, ':', len)) {
            return true;
        }
    }
    return false;
}

/* Figures that the row at hand still lacks belong to it when they stand close below. */
static bool continues(const struct table *table, const bool *has, float y0)
{
    bool adds = false;

    if (!table->row || y0 - table->row_bottom > table->rules->page->line_h) {
        return false;
    }
    for (size_t i = 0; i < table->items->n; i++) {
        if (!has[i]) {
            continue;
        }
        if (table->row[i].raw && is_figure(table, i)) {
            return false;
        }
        adds |= !table->row[i].raw && is_figure(table, i);
    }
    return adds;
}

/* A line with nothing but text right below a row: its missing description, or the next words of
 * it (those only if they follow in the stored text as well). */
static int continue_text(struct table *table, uint32_t line, const struct candidate *found,
                         const bool *has, size_t filled, struct err *err)
{
    const struct lpage *page = table->rules->page;
    const struct lline *cells = &page->lines[line];

    if (!table->row || filled != 1 || cells->n_cells > 2 || table->row_lines >= 3 ||
        cells->y0 - table->row_bottom > 0.7F * page->line_h) {
        return 0;
    }
    for (size_t i = 0; i < table->items->n; i++) {
        struct candidate *cell = &table->row[i];
        if (!has[i] || table->meanings[i] != CONCEPT_DESCRIPTION) {
            continue;
        }
        if (!cell->raw) {
            table->row_bottom = cells->y1;
            return fill_row(table, found, has, err);
        }
        const uint32_t gap = found[i].start - cell->end;
        const char *text = page->page->text + doctext_byte_of(page->page, cell->end);
        if (cells->n_cells > 1 || found[i].start < cell->end || gap > 2 ||
            (gap && text[0] != ' ' && text[0] != '\n') || line_has_colon(page, line)) {
            return 0;
        }
        char *raw = span_text(page->page, cell->start, found[i].end);
        if (!raw) {
            return err_nomem(err);
        }
        free(cell->raw);
        cell->raw = raw;
        cell->end = found[i].end;
        table->row_bottom = cells->y1;
        table->row_lines++;
    }
    return 0;
}

static void read_items(const struct table *table, const struct span *spans, struct candidate *found,
                       bool *has, size_t *figures, size_t *filled)
{
    *figures = 0;
    *filled = 0;
    for (size_t i = 0; i < table->items->n; i++) {
        has[i] = spans[i].used && read_item(table, i, &spans[i], &found[i]);
        *figures += has[i] && is_figure(table, i);
        *filled += has[i];
    }
}

static int table_line(struct table *table, uint32_t line, struct err *err)
{
    const struct lpage *page = table->rules->page;
    struct span spans[COLUMNS_MAX] = {{0, 0, false}};
    struct candidate found[COLUMNS_MAX];
    bool has[COLUMNS_MAX] = {false};
    size_t figures = 0;
    size_t filled = 0;

    if (!bands_assign(table, line, false, spans)) {
        return 0;
    }
    read_items(table, spans, found, has, &figures, &filled);
    if (figures == 0 && table->row) {
        memset(spans, 0, sizeof(spans));
        (void)bands_assign(table, line, true, spans);
        read_items(table, spans, found, has, &figures, &filled);
    }
    if (figures && continues(table, has, page->lines[line].y0)) {
        table->row_bottom = page->lines[line].y1;
        return fill_row(table, found, has, err);
    }
    if (figures == 0 || filled < 2) {
        return continue_text(table, line, found, has, filled, err);
    }
    table->row = proposals_add_row(table->out, table->column);
    if (!table->row) {
        return table->out->rows[table->column].n_rows >= EXTRACT_ROWS_MAX ? 0 : err_nomem(err);
    }
    table->row_lines = 0;
    table->row_bottom = page->lines[line].y1;
    return fill_row(table, found, has, err);
}

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

static bool line_has_figure(const struct lpage *page, uint32_t line)
{
    const struct lline *cells = &page->lines[line];

    for (uint32_t k = cells->first_cell; k < cells->first_cell + cells->n_cells; k++) {
        if (cell_has_digit(page, &page->cells[k])) {
            return true;
        }
    }
    return false;
}

static bool says_totals(enum concept meaning)
{
    switch ((int)meaning) {
    case CONCEPT_TOTAL:
    case CONCEPT_NET_TOTAL:
    case CONCEPT_TAX_TOTAL:
    case CONCEPT_DUE_AMOUNT:
    case CONCEPT_LINES_SUM:
    case CONCEPT_PAID_AMOUNT:
    case CONCEPT_TERMS:
        return true;
    default:
        return false;
    }
}

/* A label of totals ends the table: first in its line, or with the line's last figure behind it. */
static bool ends_table(const struct table *table, uint32_t line)
{
    const struct lpage *page = table->rules->page;
    const struct lline *cells = &page->lines[line];

    for (size_t i = table->rules->line_hits[line]; i < table->rules->line_hits[line + 1]; i++) {
        const struct label_hit *hit = &table->rules->hits[i];
        const uint32_t word = hit_first_word(table->rules, hit);
        const uint32_t cell = page->words[word].cell;
        if (page->cells[cell].first != word || !says_totals(hit->label->meaning)) {
            continue;
        }
        if (hit->label->meaning == CONCEPT_TERMS) {
            return true;
        }
        const bool last = cell + 2 == cells->first_cell + cells->n_cells &&
                          cell_has_digit(page, &page->cells[cell + 1]);
        const bool tax = hit->label->meaning == CONCEPT_TAX_TOTAL;
        if ((cell == cells->first_cell && line_has_figure(page, line)) || (last && !tax)) {
            return true;
        }
    }
    return false;
}

/* Rows that lack the amount their table has a column for were something else. */
static void drop_poor_rows(const struct table *table, size_t from)
{
    struct candidate_rows *rows = &table->out->rows[table->column];
    size_t kept = from;

    for (size_t i = from; i < rows->n_rows; i++) {
        struct candidate *row = &rows->cells[i * rows->n_columns];
        bool poor = false;
        for (size_t b = 0; b < table->n_bands; b++) {
            const int item = table->bands[b].item;
            poor |= item >= 0 && table->meanings[item] == CONCEPT_LINE_TOTAL && !row[item].raw;
        }
        for (size_t k = 0; k < rows->n_columns; k++) {
            if (poor) {
                candidate_done(&row[k]);
            } else {
                rows->cells[kept * rows->n_columns + k] = row[k];
            }
        }
        kept += !poor;
    }
    rows->n_rows = min_size(kept, rows->n_rows);
}

static int read_table(struct table *table, uint32_t head, uint32_t *ret_line, struct err *err)
{
    const struct lpage *page = table->rules->page;
    uint32_t line = head + 1;

    table->row = NULL;
    bands_read(table, head);
    for (; line < page->n_lines; line++) {
        if (table->rules->header_line[line] && bands_named(table, line) >= 2) {
            continue;
        }
        if (ends_table(table, line)) {
            break;
        }
        if (table_line(table, line, err) < 0) {
            return -1;
        }
    }
    *ret_line = line;
    return 0;
}

static int page_tables(struct table *table, struct err *err)
{
    const struct lpage *page = table->rules->page;
    const size_t least = table->items->n == 1 ? 1 : 2;

    for (uint32_t line = 0; line < page->n_lines; line++) {
        if (bands_named(table, line) < least) {
            continue;
        }
        while (line + 1 < page->n_lines && bands_own(table, line + 1) > bands_own(table, line)) {
            line++; /* the fullest line of the headings leads */
        }
        const size_t before = table->out->rows[table->column].n_rows;
        if (read_table(table, line, &line, err) < 0) {
            return -1;
        }
        drop_poor_rows(table, before);
        if (table->out->rows[table->column].n_rows > before) {
            return 0; /* one table a page: others are summaries */
        }
    }
    return 0;
}

int rules_rows(const struct backend_job *job, size_t column, struct proposals *ret, struct err *err)
{
    const struct columns *items = job->columns->items[column].item_columns;
    struct table *table = calloc(1, sizeof(*table));
    struct labels labels;
    int result = 0;

    if (!table) {
        return err_nomem(err);
    }
    if (labels_new(items, &labels, err) < 0) {
        free(table);
        return -1;
    }
    *table = (struct table){.job = job, .items = items, .column = column, .out = ret};
    for (size_t i = 0; i < items->n; i++) {
        table->meanings[i] = item_concept(items->items[i].name);
    }
    for (size_t i = 0; result == 0 && i < job->layout->n; i++) {
        struct rules_page rules;
        if (!job_sees(job, job->layout->pages[i].page->page)) {
            continue;
        }
        result = rules_page_new(&labels, &job->layout->pages[i], &rules, err);
        if (result == 0) {
            table->rules = &rules;
            result = page_tables(table, err);
            rules_page_done(&rules);
        }
    }
    labels_done(&labels);
    free(table);
    return result;
}
