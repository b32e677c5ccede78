/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the renderers of the preview zygote share: the options of a unit, the page canvas that
 * becomes a WebP image, and the list of words that becomes the page's text layer.
 * Invariant: everything here runs in a jailed child, on bytes nobody trusts; sizes are capped
 * before memory is taken. Nothing here opens a file or a connection.
 */
#pragma once

#include "libcommon/buf.h"
#include "libcommon/filetype.h"
#include "libcommon/zygote.h"

#include <cairo.h>

enum {
    RENDER_WIDTH_DEFAULT = 1200,
    RENDER_WIDTH_MAX = 4000,
    RENDER_SIDE_MAX = 16000,      /* WebP ends at 16383 */
    RENDER_PIXELS_MAX = 20000000, /* of one page image */
    RENDER_PAGES_MAX = 5000,
    RENDER_WORDS_MAX = 50000, /* of one page; later ones are left out */
};

/* Pixels per point: 288 dpi. */
#define RENDER_SCALE_MAX 4.0

/* Page size of what has none of its own: A4 in points. */
#define RENDER_A4_WIDTH 595.0
#define RENDER_A4_HEIGHT 842.0

struct render_opts {
    enum file_kind kind;
    unsigned first;      /* counts from 1; 0: plan (page 1 and the total only) */
    unsigned last;       /* 0: the end */
    unsigned width;      /* of the images, pixels */
    uint64_t max_pixels; /* of one image; larger pages are drawn smaller */
};

/* Reads and clamps the unit's parameters. */
int render_opts_read(const struct jail_unit *unit, struct render_opts *ret_opts,
                     struct err *err) WARN_UNUSED;
/* The pages to draw of a document with `total` pages, both ends included. A range outside the
 * document is ERR_PERMANENT "corrupt"; more than RENDER_PAGES_MAX pages "too_many_pages". */
int render_range(const struct render_opts *opts, unsigned total, unsigned *ret_first,
                 unsigned *ret_last, struct err *err) WARN_UNUSED;
/* Writes the end frame {pages: total, truncated?: true}. */
int render_end(struct jail_unit *unit, unsigned total, bool truncated, struct err *err) WARN_UNUSED;

/* One page being drawn: cr is scaled so that one unit is one point, the ground is white. */
struct canvas {
    cairo_surface_t *surface;
    cairo_t *cr;
    double scale; /* pixels per point */
    bool broken;  /* says so in the frame: the page could not be read */
};

/* Starts a page of width x height points; nonsense sizes become A4. */
int canvas_init(struct canvas *canvas, double width, double height, const struct render_opts *opts,
                struct err *err) WARN_UNUSED;
/* Encodes the page and writes its image frame. */
int canvas_write(struct canvas *canvas, unsigned page, struct jail_unit *unit,
                 struct err *err) WARN_UNUSED;
void canvas_done(struct canvas *canvas);

/* The text layer of one page, in the order of reading. */
struct word_list {
    double width; /* of the page, points */
    double height;
    unsigned n;
    struct buf boxes;
    struct buf texts;
};

void word_list_init(struct word_list *words, double width, double height);
void word_list_done(struct word_list *words);
/* Adds a word: box in points from the top left, clipped to the page; start and end count code
 * points of the page's text; text is len bytes of UTF-8 (bad bytes become U+FFFD). Past
 * RENDER_WORDS_MAX words it does nothing. */
int word_list_add(struct word_list *words, const double box[4], unsigned start, unsigned end,
                  const char *text, size_t len, struct err *err) WARN_UNUSED;
/* Writes the words frame of the page. */
int word_list_write(struct word_list *words, unsigned page, struct jail_unit *unit,
                    struct err *err) WARN_UNUSED;

/* The renderers, one file each: they write image and words frames and the end frame. */
int render_pdf(struct jail_unit *unit, const struct render_opts *opts, struct err *err) WARN_UNUSED;
int render_image(struct jail_unit *unit, const struct render_opts *opts,
                 struct err *err) WARN_UNUSED;
int render_text(struct jail_unit *unit, const struct render_opts *opts,
                struct err *err) WARN_UNUSED;

/* Loads what render_pdf needs into the zygote: fonts, poppler's tables, one kept document. */
int render_pdf_warm(struct err *err) WARN_UNUSED;
/* The same for mail: character sets that would be loaded from files. */
void render_mail_warm(void);
