/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables: a line of headings that names at least two item columns fixes where columns stand; lines
 * below with figures in them are rows, until a label of totals.
 * It refuses tables without headings, and lines that fill only one column.
 */
#include "services/ai-extractor/norm.h"
#include "services/ai-extractor/rules.h"

#include <math.h>
#include <string.h>

#define BANDS_MAX 40U
#define ROW_PRIOR 0.92F

/* Where a column stands; item -1: a heading nobody asked for. */
struct band {
    float x0, x1;
    int item;
};

struct table {
    const struct backend_job *job;
    const struct columns *items;
    const struct rules_page *rules;
    size_t column;
    enum concept meanings[COLUMNS_MAX];
    struct band bands[BANDS_MAX];
    size_t n_bands;
    struct proposals *out;
    struct candidate *row; /* being filled; NULL before the first */
    float row_bottom;
    size_t row_lines; /* of text added below its first */
};

/* In a table "total" and "amount" mean the line's. */
static enum concept item_concept(const char *name)
{
    const enum concept meaning = concept_of(name);

    switch ((int)meaning) {
    case CONCEPT_TOTAL:
    case CONCEPT_NET_TOTAL:
    case CONCEPT_DUE_AMOUNT:
        return CONCEPT_LINE_TOTAL;
    case CONCEPT_NUMBER:
        return CONCEPT_POSITION;
    default:
        return meaning;
    }
}

/* --- headings --------------------------------------------------------------------------------- */

static int hit_item(const struct table *table, const struct label_hit *hit)
{
    for (size_t i = 0; i < table->items->n; i++) {
        if (label_serves(hit->label, i, table->meanings[i])) {
            return (int)i;
        }
    }
    return -1;
}

static uint32_t hit_line(const struct table *table, const struct label_hit *hit)
{
    const struct lpage *page = table->rules->page;

    return page->cells[page->words[hit_first_word(table->rules, hit)].cell].line;
}

/* Item columns named in this line, as a count of different ones. */
static size_t named_items(const struct table *table, uint32_t line)
{
    bool named[COLUMNS_MAX] = {false};
    size_t n = 0;

    for (size_t i = 0; i < table->rules->n_hits; i++) {
        const int item = hit_line(table, &table->rules->hits[i]) == line
                             ? hit_item(table, &table->rules->hits[i])
                             : -1;
        if (item >= 0 && !named[item]) {
            named[item] = true;
            n++;
        }
    }
    return n;
}

static void add_band(struct table *table, float x0, float x1, int item)
{
    if (table->n_bands == BANDS_MAX) {
        return;
    }
    size_t at = table->n_bands;
    while (at > 0 && table->bands[at - 1].x0 > x0) {
        table->bands[at] = table->bands[at - 1];
        at--;
    }
    table->bands[at] = (struct band){x0, x1, item};
    table->n_bands++;
}

static bool has_item(const struct table *table, int item)
{
    for (size_t i = 0; i < table->n_bands; i++) {
        if (table->bands[i].item == item) {
            return true;
        }
    }
    return false;
}

static bool named_later(const struct table *table, size_t hit, uint32_t line, int item)
{
    for (size_t i = hit + 1; i < table->rules->n_hits; i++) {
        const struct label_hit *other = &table->rules->hits[i];
        if (other->first != table->rules->hits[hit].first && hit_line(table, other) == line &&
            hit_item(table, other) == item) {
            return true;
        }
    }
    return false;
}

static void add_line_items(struct table *table, uint32_t line)
{
    const struct lpage *page = table->rules->page;

    for (size_t i = 0; i < table->rules->n_hits; i++) {
        const struct label_hit *hit = &table->rules->hits[i];
        const int item = hit_line(table, hit) == line ? hit_item(table, hit) : -1;
        if (item >= 0 && table->meanings[item] == CONCEPT_LINE_TOTAL &&
            named_later(table, i, line, item)) {
            continue; /* "Amount ... Price Total": the last one is the line's total */
        }
        if (item >= 0 && !has_item(table, item)) {
            add_band(table, page->words[hit_first_word(table->rules, hit)].x0,
                     page->words[hit_last_word(table->rules, hit)].x1, item);
        }
    }
}

/* Bands of a heading line: the labels, and what else stands there. */
static void read_headings(struct table *table, uint32_t line)
{
    const struct lpage *page = table->rules->page;
    const struct lline *heads = &page->lines[line];

    table->n_bands = 0;
    add_line_items(table, line);
    for (uint32_t k = heads->first_cell; k < heads->first_cell + heads->n_cells; k++) {
        const struct lcell *cell = &page->cells[k];
        for (uint32_t w = cell->first; w < cell->first + cell->n; w++) {
            bool taken = false;
            for (size_t b = 0; b < table->n_bands && !taken; b++) {
                taken = page->words[w].x0 < table->bands[b].x1 + page->char_w &&
                        page->words[w].x1 > table->bands[b].x0 - page->char_w;
            }
            if (!taken) {
                add_band(table, page->words[w].x0, page->words[w].x1, -1);
            }
        }
    }
    for (uint32_t step = 1; step <= 2; step++) { /* headings of two or three lines */
        if (line >= step && page->lines[line].y0 - page->lines[line - step].y1 < 2 * page->line_h) {
            add_line_items(table, line - step);
        }
        if (line + step < page->n_lines &&
            page->lines[line + step].y0 - page->lines[line].y1 < 2 * page->line_h) {
            add_line_items(table, line + step);
        }
    }
}

/* --- lines ------------------------------------------------------------------------------------ */

static bool is_string(const struct table *table, int item)
{
    return item >= 0 && table->items->items[item].type == COLUMN_STRING;
}

static int nearest_band(const struct table *table, float x0, float x1)
{
    float best = 1e9F;
    int found = -1;

    for (size_t b = 0; b < table->n_bands; b++) {
        const struct band *band = &table->bands[b];
        const float gap = fmaxf(fmaxf(band->x0 - x1, x0 - band->x1), 0);
        const float middle = fabsf((band->x0 + band->x1) - (x0 + x1)) / 2;
        if (gap + middle * 0.01F < best) {
            best = gap + middle * 0.01F;
            found = (int)b;
        }
    }
    return found;
}

static size_t bands_under(const struct table *table, const struct lcell *cell, int *ret_first)
{
    size_t n = 0;

    for (size_t b = 0; b < table->n_bands; b++) {
        const float overlap =
            fminf(cell->x1, table->bands[b].x1) - fmaxf(cell->x0, table->bands[b].x0);
        if (overlap > 0) {
            *ret_first = n == 0 ? (int)b : *ret_first;
            n++;
        }
    }
    return n;
}

struct span {
    uint32_t first, last;
    bool used;
};

static void take_word(struct span *span, uint32_t word)
{
    if (!span->used) {
        *span = (struct span){word, word, true};
    } else if (word == span->last + 1) {
        span->last = word;
    }
}

static bool mostly_letters(const struct lpage *page, const struct lcell *cell)
{
    size_t letters = 0;
    size_t digits = 0;

    for (uint32_t w = cell->first; w < cell->first + cell->n; w++) {
        size_t len;
        const char *text = word_text(page, w, &len);
        for (size_t i = 0; i < len; i++) {
            digits += text[i] >= '0' && text[i] <= '9';
            letters += (unsigned char)text[i] >= 'A';
        }
    }
    return letters > digits;
}

/* Gives a line's words to the columns they stand under. */
static void assign_line(const struct table *table, uint32_t line, struct span *spans)
{
    const struct lpage *page = table->rules->page;
    const struct lline *cells = &page->lines[line];

    for (uint32_t k = cells->first_cell; k < cells->first_cell + cells->n_cells; k++) {
        const struct lcell *cell = &page->cells[k];
        int first = -1;
        const size_t under = bands_under(table, cell, &first);
        const bool text =
            under > 1 && is_string(table, table->bands[first].item) && mostly_letters(page, cell);
        for (uint32_t w = cell->first; w < cell->first + cell->n; w++) {
            const int band = under == 1 || text
                                 ? first
                                 : nearest_band(table, under ? page->words[w].x0 : cell->x0,
                                                under ? page->words[w].x1 : cell->x1);
            if (band >= 0 && table->bands[band].item >= 0) {
                take_word(&spans[table->bands[band].item], w);
            }
        }
    }
}

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

static int table_line(struct table *table, uint32_t line, struct err *err)
{
    const struct lpage *page = table->rules->page;
    struct span spans[COLUMNS_MAX] = {{0, 0, false}};
    struct candidate found[COLUMNS_MAX];
    bool has[COLUMNS_MAX] = {false};
    size_t figures = 0;
    size_t filled = 0;

    assign_line(table, line, spans);
    for (size_t i = 0; i < table->items->n; i++) {
        has[i] = spans[i].used && read_item(table, i, &spans[i], &found[i]);
        figures += has[i] && is_figure(table, i);
        filled += has[i];
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

    for (size_t i = 0; i < table->rules->n_hits; i++) {
        const struct label_hit *hit = &table->rules->hits[i];
        const uint32_t word = hit_first_word(table->rules, hit);
        const uint32_t cell = page->words[word].cell;
        if (hit_line(table, hit) != line || page->cells[cell].first != word ||
            !says_totals(hit->label->meaning)) {
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

static int read_table(struct table *table, uint32_t head, uint32_t *ret_line, struct err *err)
{
    const struct lpage *page = table->rules->page;
    uint32_t line = head + 1;

    table->row = NULL;
    read_headings(table, head);
    for (; line < page->n_lines; line++) {
        if (table->rules->header_line[line] && named_items(table, line) >= 2) {
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
        if (named_items(table, line) < least) {
            continue;
        }
        const size_t before = table->out->rows[table->column].n_rows;
        if (read_table(table, line, &line, err) < 0) {
            return -1;
        }
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
