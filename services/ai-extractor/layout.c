/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cells are what people see as one thing: words closer than a column gap. The gap is measured in
 * character widths of the page, so the same rule serves print, scans and plain text.
 */
#include "services/ai-extractor/layout.h"
#include "libcommon/utf8.h"

#include <math.h>
#include <string.h>

#define GAP_CHARS 1.9F /* wider than any space between two words of one cell */
#define TAB_COLUMNS 8U
#define TEXT_COLUMNS 400.0F /* synthetic pages: columns and lines of a unit page */
#define TEXT_LINE (1.0F / 4000.0F)

static bool is_space(uint32_t cp)
{
    return cp == ' ' || (cp >= '\t' && cp <= '\r') || cp == 0xA0 ||
           (cp >= 0x2000 && cp <= 0x200B) || cp == 0x202F || cp == 0x205F || cp == 0x3000 ||
           cp == 0xFEFF;
}

/* --- boxes ------------------------------------------------------------------------------------ */

struct pen {
    uint32_t cp, column, row;
};

static void pen_word(const struct pen *at, uint32_t length, struct doc_word *ret)
{
    const float x = (float)at->column / TEXT_COLUMNS;
    const float y = (float)at->row * TEXT_LINE;

    *ret = (struct doc_word){.x0 = x,
                             .y0 = y,
                             .x1 = x + (float)length / TEXT_COLUMNS,
                             .y1 = y + TEXT_LINE * 0.8F,
                             .start = at->cp,
                             .end = at->cp + length,
                             .conf = 1};
}

/* A tab and a bar part cells: both move the pen by a gap. */
static void pen_blank(struct pen *pen, uint32_t cp)
{
    if (cp == '\n' || cp == '\f') {
        pen->row++;
        pen->column = 0;
    } else if (cp == '\t') {
        pen->column += TAB_COLUMNS - pen->column % TAB_COLUMNS + 2;
    } else {
        pen->column += cp == '|' ? 3 : 1;
    }
}

static size_t synthetic_words(const struct doc_page *page, struct doc_word *words, size_t max)
{
    struct pen pen = {.cp = 0};
    struct pen begin = pen;
    uint32_t length = 0;
    size_t n = 0;

    for (size_t at = 0; at < page->len; pen.cp++) {
        const uint32_t cp = utf8_next(page->text, page->len, &at);
        if (!is_space(cp) && cp != '|') {
            begin = length == 0 ? pen : begin;
            length++;
            pen.column++;
            continue;
        }
        if (length && n < max) {
            pen_word(&begin, length, &words[n++]);
        }
        length = 0;
        pen_blank(&pen, cp);
    }
    if (length && n < max) {
        pen_word(&begin, length, &words[n++]);
    }
    return n;
}

static size_t count_words(const struct doc_page *page)
{
    size_t n = 0;
    bool inside = false;

    for (size_t at = 0; at < page->len;) {
        const uint32_t cp = utf8_next(page->text, page->len, &at);
        const bool gap = is_space(cp) || cp == '|';
        n += !gap && !inside;
        inside = !gap;
    }
    return min_size(n, DOCTEXT_WORDS_MAX);
}

/* --- medians ---------------------------------------------------------------------------------- */

static int by_float(const void *a, const void *b)
{
    const float l = *(const float *)a;
    const float r = *(const float *)b;

    return l < r ? -1 : l > r;
}

static float median(float *values, size_t n)
{
    if (n == 0) {
        return 0;
    }
    qsort(values, n, sizeof(*values), by_float);
    return values[n / 2];
}

static int measure(struct lpage *out, const struct doc_word *words, size_t n, struct err *err)
{
    float *values = calloc(n + 1, sizeof(*values));

    if (!values) {
        return err_nomem(err);
    }
    for (size_t i = 0; i < n; i++) {
        const uint32_t length = words[i].end > words[i].start ? words[i].end - words[i].start : 1;
        values[i] = (words[i].x1 - words[i].x0) / (float)length;
    }
    out->char_w = fmaxf(median(values, n), 0.0005F);
    for (size_t i = 0; i < n; i++) {
        values[i] = words[i].y1 - words[i].y0;
    }
    out->line_h = fmaxf(median(values, n), 0.0001F);
    free(values);
    return 0;
}

/* --- cells ------------------------------------------------------------------------------------ */

static float char_width(const struct lword *word, float fallback)
{
    const uint32_t length = word->end > word->start ? word->end - word->start : 1;

    return length >= 3 ? (word->x1 - word->x0) / (float)length : fallback;
}

static bool begins_cell(const struct lpage *page, const struct lword *before,
                        const struct lword *word)
{
    /* Type sizes differ within a page: the smaller of page and neighbour decides, within bounds. */
    const float local = char_width(before, page->char_w);
    const float width = fminf(fmaxf(local, page->char_w * 0.7F), page->char_w * 2.5F);

    return word->x0 - before->x1 > GAP_CHARS * width;
}

static void grow(struct lcell *cell, const struct lword *word)
{
    cell->x0 = fminf(cell->x0, word->x0);
    cell->y0 = fminf(cell->y0, word->y0);
    cell->x1 = fmaxf(cell->x1, word->x1);
    cell->y1 = fmaxf(cell->y1, word->y1);
    cell->n++;
}

static void cut_cells(struct lpage *page, const struct doc_word *words,
                      const struct doc_lines *lines)
{
    for (size_t i = 0; i < lines->n; i++) {
        struct lline *line = &page->lines[page->n_lines];
        *line = (struct lline){.first_cell = (uint32_t)page->n_cells, .y0 = 2, .y1 = -1};
        for (uint32_t k = lines->starts[i]; k < lines->starts[i + 1]; k++) {
            const struct doc_word *word = &words[lines->order[k]];
            struct lword *out = &page->words[page->n_words];
            *out = (struct lword){word->start, word->end, word->x0,   word->y0,
                                  word->x1,    word->y1,  word->conf, 0};
            if (line->n_cells == 0 || begins_cell(page, out - 1, out)) {
                page->cells[page->n_cells++] =
                    (struct lcell){(uint32_t)page->n_words, 0, (uint32_t)i, 2, 2, -1, -1};
                line->n_cells++;
            }
            out->cell = (uint32_t)page->n_cells - 1;
            grow(&page->cells[out->cell], out);
            page->n_words++;
            line->y0 = fminf(line->y0, word->y0);
            line->y1 = fmaxf(line->y1, word->y1);
        }
        page->n_lines++;
    }
}

/* --- labels that stick to their value --------------------------------------------------------- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

/* "Customer:2", "Bill#:VO-1": characters that belong to the label, or 0. Not "10:35", not URLs. */
static uint32_t label_part(const struct doc_page *page, const struct doc_word *word)
{
    const size_t to = doctext_byte_of(page, word->end);
    const size_t from = doctext_byte_of(page, word->start);

    for (size_t i = from + 1; i + 1 < to; i++) {
        const char c = page->text[i];
        const char before = page->text[i - 1];
        const char next = page->text[i + 1];
        if ((c == ':' || c == '#') && (is_letter(before) || before == '.' || before == '#') &&
            next != '/' && next != ':' && next != '#') {
            return doctext_cp_of(page, i + 1) - word->start;
        }
    }
    return 0;
}

static size_t split_words(const struct doc_page *page, const struct doc_word *words, size_t n,
                          struct doc_word *out)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        const uint32_t part = label_part(page, &words[i]);
        out[count] = words[i];
        if (part) {
            const float share = (float)part / (float)(words[i].end - words[i].start);
            const float x = words[i].x0 + (words[i].x1 - words[i].x0) * share;
            out[count].end = words[i].start + part;
            out[count++].x1 = x;
            out[count] = words[i];
            out[count].start = words[i].start + part;
            out[count].x0 = x;
        }
        count++;
    }
    return count;
}

static int lay_out_split(struct lpage *out, const struct doc_word *words, size_t n, struct err *err)
{
    struct doc_lines lines;

    if (doctext_lines(words, n, &lines, err) < 0) {
        return -1;
    }
    out->words = calloc(n + 1, sizeof(*out->words));
    out->cells = calloc(n + 1, sizeof(*out->cells));
    out->lines = calloc(lines.n + 1, sizeof(*out->lines));
    int result = 0;
    if (!out->words || !out->cells || !out->lines) {
        result = err_nomem(err);
    } else if (measure(out, words, n, err) < 0) {
        result = -1;
    } else {
        cut_cells(out, words, &lines);
    }
    doctext_lines_done(&lines);
    return result;
}

static int lay_out_words(struct lpage *out, const struct doc_word *words, size_t n, struct err *err)
{
    CLEANUP(free_cleanup) struct doc_word *split = calloc(n * 2 + 1, sizeof(*split));

    if (!split) {
        return err_nomem(err);
    }
    return lay_out_split(out, split, split_words(out->page, words, n, split), err);
}

static int lay_out_text(struct lpage *out, const struct doc_page *page, struct err *err)
{
    const size_t max = count_words(page);
    CLEANUP(free_cleanup) struct doc_word *words = calloc(max + 1, sizeof(*words));

    if (!words) {
        return err_nomem(err);
    }
    out->synthetic = true;
    return lay_out_words(out, words, synthetic_words(page, words, max), err);
}

int layout_new(const struct doctext *doc, struct layout **ret_layout, struct err *err)
{
    CLEANUP(layout_cleanup) struct layout *layout = calloc(1, sizeof(*layout));

    if (!layout) {
        return err_nomem(err);
    }
    layout->pages = calloc(doc->n_pages + 1, sizeof(*layout->pages));
    if (!layout->pages) {
        return err_nomem(err);
    }
    for (size_t i = 0; i < doc->n_pages; i++) {
        const struct doc_page *page = &doc->pages[i];
        struct lpage *out = &layout->pages[layout->n++];
        out->page = page;
        const int r = page->n_words ? lay_out_words(out, page->words, page->n_words, err)
                                    : lay_out_text(out, page, err);
        if (r < 0) {
            return -1;
        }
    }
    *ret_layout = STEAL(layout);
    return 0;
}

void layout_free(struct layout *layout)
{
    if (!layout) {
        return;
    }
    for (size_t i = 0; i < layout->n; i++) {
        free(layout->pages[i].words);
        free(layout->pages[i].cells);
        free(layout->pages[i].lines);
    }
    free(layout->pages);
    free(layout);
}

int layout_line_of(const struct lpage *page, uint32_t cp)
{
    for (size_t i = 0; i < page->n_words; i++) {
        if (page->words[i].start <= cp && cp < page->words[i].end) {
            return (int)page->cells[page->words[i].cell].line;
        }
    }
    return -1;
}

/* --- boxes ---------------------------------------------------------------------------------------
 */

static json_t *box_json(const struct lcell *box)
{
    const double v[4] = {box->x0, box->y0, box->x1, box->y1};
    json_t *list = json_array();

    for (size_t i = 0; i < 4; i++) {
        if (json_array_append_new(list, json_real(round(v[i] * 10000) / 10000)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *layout_boxes(const struct lpage *page, uint32_t start, uint32_t end)
{
    json_t *boxes = json_array();
    struct lcell box = {.n = 0};

    for (size_t i = 0; boxes && !page->synthetic && i <= page->n_words; i++) {
        const struct lword *word = i < page->n_words ? &page->words[i] : NULL;
        const bool inside = word && word->start < end && word->end > start;
        const bool same = inside && box.n && page->cells[word->cell].line == box.line;
        if (box.n && (!word || (inside && !same))) {
            if (json_array_append_new(boxes, box_json(&box)) < 0) {
                json_decref(boxes);
                return NULL;
            }
            box.n = 0;
        }
        if (!inside) {
            continue;
        }
        if (box.n == 0) {
            box = (struct lcell){0, 0, page->cells[word->cell].line, 2, 2, -1, -1};
        }
        box.x0 = fminf(box.x0, word->x0);
        box.y0 = fminf(box.y0, word->y0);
        box.x1 = fmaxf(box.x1, word->x1);
        box.y1 = fmaxf(box.y1, word->y1);
        box.n++;
    }
    return boxes;
}
