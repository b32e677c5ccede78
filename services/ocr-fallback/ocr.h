/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the operations of ocr-fallback-zygote share: pages as grey bitmaps, and two engines' worth
 * of work on them. Everything here runs in a jailed child on untrusted bytes.
 * Invariant: sizes are checked on headers before pixels are decoded or drawn; a page that cannot be
 * drawn is an error of that page, not of the file.
 */
#pragma once

#include "services/ocr-fallback/ocr_page.h"

#include "libcommon/filetype.h"
#include "libcommon/zygote.h"

#define OCR_PAGES_MAX 5000
#define OCR_INPUT_MAX (1ULL << 30)

/* --- pages as pictures ----------------------------------------------------------------------- */

/* 8 bits grey, white paper, upright as the file says. */
struct bitmap {
    unsigned char *pixels; /* owned, width bytes a row */
    int width, height;
    int dpi;                        /* guess for pictures */
    double tilt;                    /* degrees it was turned clockwise to stand straight */
    double page_width, page_height; /* points; for pictures: pixels as stored, upright */
};

void bitmap_done(struct bitmap *bitmap);
/* Turned clockwise by 90, 180 or 270 degrees. */
int bitmap_turn(const struct bitmap *from, int degrees, struct bitmap *ret,
                struct err *err) WARN_UNUSED;
/* Degrees to turn clockwise so that lines run straight; 0 when they do, or nobody can tell. */
double bitmap_skew(const struct bitmap *bitmap);
int bitmap_straighten(const struct bitmap *from, double degrees, struct bitmap *ret,
                      struct err *err) WARN_UNUSED;
/* A box (fractions) on a straightened bitmap of that size, back on the page as it was. */
void bitmap_tilt_back(const struct bitmap *bitmap, int width, int height, double box[4]);
/* True when nothing is on it but an even ground. */
bool bitmap_blank(const struct bitmap *bitmap);
int bitmap_jpeg(const struct bitmap *bitmap, void **ret_data, size_t *ret_len,
                struct err *err) WARN_UNUSED;

struct pages; /* an opened file */

/* kind: PDF or a raster kind; content decides among the raster ones. Errors: encrypted, corrupt,
 * too_many_pages, too_many_pixels, unsupported_type. data must outlive it. */
int pages_open(const char *data, size_t len, enum file_kind kind, struct pages **ret_pages,
               struct err *err) WARN_UNUSED;
void pages_close(struct pages *pages);
DEFINE_CLEANUP(struct pages *, pages_cleanup, pages_close)
int pages_count(const struct pages *pages);
/* page counts from 1. dpi is that of a PDF page and stands for a size of bitmap elsewhere. */
int pages_draw(struct pages *pages, int page, int dpi, struct bitmap *ret,
               struct err *err) WARN_UNUSED;

int render_pages_warm(const char *argv0, struct err *err) WARN_UNUSED;

/* --- engines --------------------------------------------------------------------------------- */

/* Loads the default language and the orientation model. Not having them is no error here. */
void tesseract_warm(void);
/* ERR_TRANSIENT provider_unavailable when a language's data is missing. Cheap for the default. */
int tesseract_prepare(const char *languages, struct err *err) WARN_UNUSED;
/* How a bitmap is read: with an analysis of its layout and one threshold between ink and paper; the
 * same with a threshold for each part, for faint print and shadows; as one block of text, too. */
enum reading_mode { READ_LAYOUT, READ_FAINT, READ_BLOCK };
/* Reads a bitmap that was turned clockwise by `turned` degrees before; boxes are of the page as it
 * was. */
int tesseract_read(const struct bitmap *bitmap, enum reading_mode mode, int turned,
                   struct ocr_page *ret_page, struct err *err) WARN_UNUSED;
/* How far to turn the bitmap clockwise so that text stands upright: 0 when it is not sure. */
int tesseract_turn(const struct bitmap *bitmap);

/* The pages (numbers from 1) of a PDF as a PDF of their own; *ret_data is malloc'd. */
int split_pdf(const char *data, size_t len, const int *pages, size_t n_pages, char **ret_data,
              size_t *ret_len, struct err *err) WARN_UNUSED;
