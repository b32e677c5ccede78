/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One view of a page for every backend: words in printed lines, lines cut into cells at column
 * gaps. Text without boxes gets boxes from its own rows and columns of characters.
 * Invariant: a cell's words are in reading order and lie in one line.
 */
#pragma once

#include "libcommon/doctext.h"

#include <jansson.h>

struct lword {
    uint32_t start, end; /* code points of the page's text */
    float x0, y0, x1, y1;
    float conf;
    uint32_t cell;
};

struct lcell {
    uint32_t first, n; /* words */
    uint32_t line;
    float x0, y0, x1, y1;
};

struct lline {
    uint32_t first_cell, n_cells;
    float y0, y1;
};

struct lpage {
    const struct doc_page *page;
    bool synthetic; /* boxes were made from text: never published */
    float char_w;   /* median width of a character */
    float line_h;   /* median height of a line */
    struct lword *words;
    size_t n_words;
    struct lcell *cells;
    size_t n_cells;
    struct lline *lines;
    size_t n_lines;
};

struct layout {
    struct lpage *pages; /* as doctext.pages */
    size_t n;
};

int layout_new(const struct doctext *doc, struct layout **ret_layout, struct err *err) WARN_UNUSED;
void layout_free(struct layout *layout);

/* The line (index) that holds this code point of the page, or -1. */
int layout_line_of(const struct lpage *page, uint32_t cp);

/* The boxes of a span, one per printed line: [[x0, y0, x1, y1], ...]; empty without geometry. */
json_t *layout_boxes(const struct lpage *page, uint32_t start, uint32_t end);

DEFINE_CLEANUP(struct layout *, layout_cleanup, layout_free)
