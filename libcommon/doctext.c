/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages live in one sorted array; a sparse table of byte offsets (every 64th code point) turns a
 * span into bytes without decoding the whole page.
 */
#include "libcommon/doctext.h"
#include "libcommon/utf8.h"

#include <jansson.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MARK_STEP 64U

struct doctext *doctext_new(void)
{
    return calloc(1, sizeof(struct doctext));
}

static void page_done(struct doc_page *page)
{
    free(page->text);
    free(page->words);
    free(page->marks_);
}

void doctext_free(struct doctext *doc)
{
    if (!doc) {
        return;
    }
    for (size_t i = 0; i < doc->n_pages; i++) {
        page_done(&doc->pages[i]);
    }
    free(doc->pages);
    free(doc);
}

/* --- pages ------------------------------------------------------------------------------------ */

static int page_mark(struct doc_page *page, struct err *err)
{
    page->marks_ = calloc(page->len / MARK_STEP + 2, sizeof(*page->marks_));
    if (!page->marks_) {
        return err_nomem(err);
    }
    uint32_t cp = 0;
    for (size_t at = 0; at < page->len; cp++) {
        if (cp % MARK_STEP == 0) {
            page->marks_[cp / MARK_STEP] = (uint32_t)at;
        }
        at += utf8_len(page->text[at]);
    }
    page->n_cp = cp;
    return 0;
}

size_t doctext_byte_of(const struct doc_page *page, uint32_t cp)
{
    if (cp >= page->n_cp) {
        return page->len;
    }
    size_t at = page->marks_[cp / MARK_STEP];
    for (uint32_t i = cp / MARK_STEP * MARK_STEP; i < cp; i++) {
        at += utf8_len(page->text[at]);
    }
    return at;
}

uint32_t doctext_cp_of(const struct doc_page *page, size_t byte)
{
    if (byte >= page->len) {
        return page->n_cp;
    }
    uint32_t low = 0;
    uint32_t high = page->n_cp / MARK_STEP;
    while (low < high) {
        const uint32_t mid = (low + high + 1) / 2;
        const bool used = mid * MARK_STEP < page->n_cp;
        if (used && page->marks_[mid] <= byte) {
            low = mid;
        } else {
            high = mid - 1;
        }
    }
    uint32_t cp = low * MARK_STEP;
    size_t at = page->marks_[low];
    for (;;) {
        at += utf8_len(page->text[at]);
        if (at > byte) {
            return cp;
        }
        cp++;
    }
}

const struct doc_page *doctext_page(const struct doctext *doc, int page)
{
    size_t low = 0;
    size_t high = doc->n_pages;

    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (doc->pages[mid].page == page) {
            return &doc->pages[mid];
        }
        if (doc->pages[mid].page < page) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return NULL;
}

static bool read_word(const json_t *item, uint32_t n_cp, struct doc_word *ret)
{
    double v[7];

    if (json_array_size(item) != 7) {
        return false;
    }
    for (size_t i = 0; i < 7; i++) {
        const json_t *number = json_array_get(item, i);
        if (!json_is_number(number)) {
            return false;
        }
        v[i] = json_number_value(number);
    }
    if (!(v[4] >= 0 && v[5] >= v[4] && v[5] <= (double)n_cp)) {
        return false;
    }
    for (size_t i = 0; i < 4; i++) { /* a glyph may stick out of its page by a little */
        if (!(v[i] >= -1 && v[i] <= 2)) {
            return false;
        }
        v[i] = fmin(fmax(v[i], 0), 1);
    }
    *ret = (struct doc_word){
        .x0 = (float)fmin(v[0], v[2]),
        .y0 = (float)fmin(v[1], v[3]),
        .x1 = (float)fmax(v[0], v[2]),
        .y1 = (float)fmax(v[1], v[3]),
        .start = (uint32_t)v[4],
        .end = (uint32_t)v[5],
        .conf = (float)fmin(fmax(v[6], 0), 1),
    };
    return true;
}

static int page_words(struct doc_page *page, const char *line, size_t len, struct err *err)
{
    json_error_t why;
    json_t *root = json_loadb(line, len, JSON_DISABLE_EOF_CHECK, &why);
    const json_t *words = json_object_get(root, "words");
    const size_t n = json_array_size(words);
    int result = -1;

    if (!json_is_array(words) || n > DOCTEXT_WORDS_MAX) {
        (void)err_set(err, ERR_PERMANENT, "corrupt", "page %d has no readable words", page->page);
        goto out;
    }
    page->width = json_number_value(json_object_get(root, "width"));
    page->height = json_number_value(json_object_get(root, "height"));
    page->words = calloc(n + 1, sizeof(*page->words));
    if (!page->words) {
        (void)err_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        if (!read_word(json_array_get(words, i), page->n_cp, &page->words[i])) {
            (void)err_set(err, ERR_PERMANENT, "corrupt", "word %zu of page %d lies outside of it",
                          i, page->page);
            goto out;
        }
    }
    page->n_words = n;
    result = 0;
out:
    json_decref(root);
    return result;
}

static int doctext_insert(struct doctext *doc, struct doc_page *take_page, struct err *err)
{
    if (doc->n_pages == doc->cap_) {
        const size_t cap = doc->cap_ ? doc->cap_ * 2 : 8;
        struct doc_page *pages = realloc(doc->pages, cap * sizeof(*pages));
        if (!pages) {
            return err_nomem(err);
        }
        doc->pages = pages;
        doc->cap_ = cap;
    }
    size_t at = doc->n_pages;
    while (at > 0 && doc->pages[at - 1].page > take_page->page) {
        at--;
    }
    memmove(&doc->pages[at + 1], &doc->pages[at], (doc->n_pages - at) * sizeof(*doc->pages));
    doc->pages[at] = *take_page;
    doc->n_pages++;
    doc->bytes_ += take_page->len;
    return 0;
}

int doctext_add_page(struct doctext *doc, int page, const char *text, size_t len,
                     const char *words_line, size_t words_len, const char *engine, struct err *err)
{
    struct doc_page made = {.page = page, .len = len};

    if (page < 1 || doc->n_pages >= DOCTEXT_PAGES_MAX || doctext_page(doc, page)) {
        return err_set(err, ERR_PERMANENT, "corrupt", "page %d is not expected", page);
    }
    if (len > DOCTEXT_PAGE_BYTES_MAX || len > DOCTEXT_BYTES_MAX - doc->bytes_) {
        return err_set(err, ERR_PERMANENT, "corrupt", "page %d has too much text", page);
    }
    if (!utf8_valid(text, len)) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the text of page %d is not UTF-8", page);
    }
    (void)snprintf(made.engine, sizeof(made.engine), "%s", engine ? engine : "native");
    made.text = calloc(len + 1, 1);
    if (!made.text) {
        return err_nomem(err);
    }
    if (len) {
        memcpy(made.text, text, len);
    }
    if (page_mark(&made, err) < 0 ||
        (words_line && page_words(&made, words_line, words_len, err) < 0) ||
        doctext_insert(doc, &made, err) < 0) {
        page_done(&made);
        return -1;
    }
    return 0;
}

/* --- lines ------------------------------------------------------------------------------------ */

struct placed {
    float mid, height, x0;
    uint32_t index, line;
};

static int by_mid(const void *a, const void *b)
{
    const struct placed *l = a;
    const struct placed *r = b;

    if (l->mid != r->mid) {
        return l->mid < r->mid ? -1 : 1;
    }
    return l->index < r->index ? -1 : l->index > r->index;
}

static int by_line(const void *a, const void *b)
{
    const struct placed *l = a;
    const struct placed *r = b;

    if (l->line != r->line) {
        return l->line < r->line ? -1 : 1;
    }
    if (l->x0 != r->x0) {
        return l->x0 < r->x0 ? -1 : 1;
    }
    return l->index < r->index ? -1 : l->index > r->index;
}

/* Numbers the lines: a word joins the line above while its middle stays within half a height of
 * the line's running middle. Returns the number of lines. */
static uint32_t number_lines(struct placed *placed, size_t n)
{
    uint32_t line = 0;
    double mid = 0;
    double height = 0;
    size_t in_line = 0;

    for (size_t i = 0; i < n; i++) {
        const double small = fmin(placed[i].height, in_line ? height : placed[i].height);
        if (in_line && fabs(placed[i].mid - mid) > 0.5 * small) {
            line++;
            in_line = 0;
            mid = 0;
            height = 0;
        }
        const double k = (double)in_line;
        mid = (mid * k + placed[i].mid) / (k + 1);
        height = (height * k + placed[i].height) / (k + 1);
        in_line++;
        placed[i].line = line;
    }
    return n ? line + 1 : 0;
}

int doctext_lines(const struct doc_word *words, size_t n_words, struct doc_lines *ret,
                  struct err *err)
{
    struct placed *placed = calloc(n_words + 1, sizeof(*placed));
    struct doc_lines lines = {
        .order = calloc(n_words + 1, sizeof(*lines.order)),
        .starts = calloc(n_words + 2, sizeof(*lines.starts)),
    };

    if (!placed || !lines.order || !lines.starts) {
        free(placed);
        doctext_lines_done(&lines);
        return err_nomem(err);
    }
    for (size_t i = 0; i < n_words; i++) {
        placed[i] = (struct placed){.mid = (words[i].y0 + words[i].y1) / 2,
                                    .height = words[i].y1 - words[i].y0,
                                    .x0 = words[i].x0,
                                    .index = (uint32_t)i};
    }
    qsort(placed, n_words, sizeof(*placed), by_mid);
    lines.n = number_lines(placed, n_words);
    qsort(placed, n_words, sizeof(*placed), by_line);
    for (size_t i = 0; i < n_words; i++) {
        lines.order[i] = placed[i].index;
        lines.starts[placed[i].line + 1] = (uint32_t)i + 1;
    }
    free(placed);
    *ret = lines;
    return 0;
}

void doctext_lines_done(struct doc_lines *lines)
{
    free(lines->order);
    free(lines->starts);
    *lines = (struct doc_lines){.n = 0};
}
