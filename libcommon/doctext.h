/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A document's extracted text in memory: pages of UTF-8 with word boxes where the format has them.
 * Invariant: offsets are Unicode code points of the page's text, and every word lies inside it;
 * pages are kept sorted by number, each number once.
 * It refuses text that is not UTF-8 and boxes or spans outside their page.
 */
#pragma once

#include "libcommon/err.h"

#define DOCTEXT_PAGES_MAX 5000U
#define DOCTEXT_PAGE_BYTES_MAX (16U * 1024U * 1024U)
#define DOCTEXT_BYTES_MAX (256U * 1024U * 1024U)
#define DOCTEXT_WORDS_MAX 200000U /* of one page */

struct doc_word {
    float x0, y0, x1, y1; /* fractions 0..1 of the page, origin top left */
    uint32_t start, end;  /* code points [start, end) of the page's text */
    float conf;           /* 0..1; 1 for native text */
};

struct doc_page {
    int page;             /* counts from 1 */
    double width, height; /* points; 0: the document has no geometry */
    char *text;           /* UTF-8, NUL-terminated */
    size_t len;           /* bytes */
    uint32_t n_cp;        /* code points */
    struct doc_word *words;
    size_t n_words;   /* 0: only text */
    char engine[24];  /* native, tesseract, textract */
    uint32_t *marks_; /* byte offset of every 64th code point */
};

struct doctext {
    size_t n_pages;
    struct doc_page *pages; /* by page number */
    size_t cap_;
    size_t bytes_;
};

/* An empty document, or NULL when out of memory. */
struct doctext *doctext_new(void);
void doctext_free(struct doctext *doc);

/* Adds one page (len bytes of UTF-8, copied). words_line is the payload of a `words` frame
 * (libcommon/frames.h) or NULL; engine NULL means "native". ERR_PERMANENT "corrupt" for anything
 * outside the limits, and for a page number that is already there. */
int doctext_add_page(struct doctext *doc, int page, const char *text, size_t len,
                     const char *words_line, size_t words_len, const char *engine,
                     struct err *err) WARN_UNUSED;

/* The page with this number or NULL. */
const struct doc_page *doctext_page(const struct doctext *doc, int page);

/* Code point <-> byte offset in a page's text; past the end gives the end. A byte inside a code
 * point gives that code point. */
size_t doctext_byte_of(const struct doc_page *page, uint32_t cp);
uint32_t doctext_cp_of(const struct doc_page *page, size_t byte);

/* Words grouped into printed lines by vertical overlap, top to bottom, left to right in each:
 * order holds word indices, line i is order[starts[i] .. starts[i + 1]). */
struct doc_lines {
    uint32_t *order;
    uint32_t *starts; /* n + 1 entries */
    size_t n;
};

int doctext_lines(const struct doc_word *words, size_t n_words, struct doc_lines *ret,
                  struct err *err) WARN_UNUSED;
void doctext_lines_done(struct doc_lines *lines);

DEFINE_CLEANUP(struct doctext *, doctext_cleanup, doctext_free)
