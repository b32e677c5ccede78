/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text onto A4-like pages, line by line, with pango and cairo: paragraphs, headings, tables.
 * Invariant: nothing is kept but the current page, at most FLOW_PAGES_MAX pages are made, and each
 * piece of text laid out at once is short, so that cost follows the pages and not the input.
 * Used in the child only: pango starts threads.
 */
#pragma once

#include "services/preview-worker/render.h"

#include <pango/pangocairo.h>

enum { FLOW_PAGES_MAX = 50, FLOW_COLUMNS_MAX = 24, FLOW_CELL_MAX = 2000 };

enum flow_style {
    FLOW_BODY,
    FLOW_TITLE,
    FLOW_HEADING,
    FLOW_SUBHEADING,
    FLOW_MONO,
    FLOW_SMALL,
    FLOW_STYLES,
};

struct flow {
    struct jail_unit *unit;
    const struct render_opts *opts;
    PangoContext *context;
    PangoFontDescription *fonts[FLOW_STYLES];
    double width; /* of a page, points */
    double height;
    double y;         /* where the next line begins */
    unsigned page;    /* the current one, from 1; 0: none yet */
    bool drawing;     /* the current page is wanted: canvas and words are open */
    bool full;        /* FLOW_PAGES_MAX reached: what comes is left out */
    unsigned text_at; /* code points on this page so far */
    struct canvas canvas;
    struct word_list words;
};

int flow_init(struct flow *flow, struct jail_unit *unit, const struct render_opts *opts,
              struct err *err) WARN_UNUSED;
void flow_done(struct flow *flow);
/* Lying pages instead of upright ones; before the first text. */
void flow_turn(struct flow *flow);
/* The room for text on a line, in points. */
double flow_room(const struct flow *flow);

/* Adds UTF-8 text; line feeds break lines. Indented by so many points, with a mark (a bullet) in
 * front of the first line if that is not NULL. Bad bytes become U+FFFD. Does nothing when full. */
int flow_text(struct flow *flow, enum flow_style style, double indent, const char *mark,
              const char *text, size_t len, struct err *err) WARN_UNUSED;
/* Empty space, but none at the top of a page. */
void flow_space(struct flow *flow, double points);
/* A thin line across the page. */
int flow_rule(struct flow *flow, struct err *err) WARN_UNUSED;

/* Writes the last page and the end frame; an empty document has one white page. */
int flow_finish(struct flow *flow, bool truncated, struct err *err) WARN_UNUSED;

/* Makes room for so many points: starts a page if the current one has less left. */
int flow_need(struct flow *flow, double points, struct err *err) WARN_UNUSED;
double flow_margin(void);
/* A layout of a short text, for tables; the caller unrefs. */
PangoLayout *flow_layout(struct flow *flow, enum flow_style style, const char *text, size_t len,
                         double width);
/* Draws the line that iter stands on, its baseline at `baseline`, the left edge of its layout at
 * x, and notes its words. */
int flow_draw_line(struct flow *flow, PangoLayoutIter *iter, double x, double baseline,
                   struct err *err) WARN_UNUSED;

/* Rows of cells with lines between them (render_table.c). Rows are malloc'd by table_add. */
struct table {
    char **cells; /* row after row, n_columns each; NULL: empty */
    size_t n_rows;
    size_t cap_rows;
    unsigned n_columns; /* of the widest row so far, at most FLOW_COLUMNS_MAX */
    bool header;        /* the first row is one; repeated on each page */
    bool cut;           /* rows or columns were left out */
};

enum { TABLE_ROWS_MAX = 5000 };

/* Adds a row of n cells (copied, cut to FLOW_CELL_MAX bytes). */
int table_add(struct table *table, const char *const *cells, const size_t *lens, unsigned n,
              struct err *err) WARN_UNUSED;
void table_done(struct table *table);
/* The width the table would like to have, in points. */
double table_natural_width(struct flow *flow, const struct table *table);
int table_draw(struct flow *flow, const struct table *table, struct err *err) WARN_UNUSED;

/* Bytes in any common encoding as UTF-8 without NULs, at most max bytes of input; *ret_cut tells
 * whether there was more. hint: an encoding's name or NULL. (render_charset.c) */
int charset_to_utf8(const char *data, size_t len, size_t max, const char *hint,
                    struct buf *ret_text, bool *ret_cut, struct err *err) WARN_UNUSED;

/* Formats, one file each: they fill the flow. */
int flow_html(struct flow *flow, const char *html, size_t len, struct err *err) WARN_UNUSED;
int flow_mail(struct flow *flow, const char *mail, size_t len, struct err *err) WARN_UNUSED;
