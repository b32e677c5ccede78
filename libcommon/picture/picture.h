/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raster pictures for the two zygotes that need them (preview and thumbnail), through libvips.
 * Not part of libcommon.a: a zygote names these files in its build.mk.
 * Invariant: the kind comes from our own signature table, and only that kind's loader can run;
 * the modules that sniff (ImageMagick, OpenSlide, poppler) are never loaded into the process.
 * The number of pixels is checked on the header, before anything is decoded.
 */
#pragma once

#include "libcommon/err.h"
#include "libcommon/filetype.h"

#include <vips/vips.h>

#define PICTURE_PIXELS_MAX 200000000ULL
#define PICTURE_PAGES_MAX 5000

struct picture {
    const void *data; /* borrowed */
    size_t len;
    enum file_kind kind;
    int width; /* of the first page as stored, before orientation */
    int height;
    int pages;             /* more than one only for TIFF */
    bool whole;            /* for the caller to set: a file that is cut off is "corrupt" */
    VipsImage *ready;      /* owned: decoded already (BMP), else NULL */
    unsigned char *pixels; /* owned: under ready */
};

/* In the zygote, once: libvips without foreign modules, one thread, no cache. Starts no thread. */
int picture_setup(const char *argv0, struct err *err) WARN_UNUSED;

/* In the child: reads the header of len bytes. Errors, all permanent: unsupported_type,
 * too_many_pixels, too_many_pages, corrupt. data must outlive *ret. */
int picture_open(const void *data, size_t len, struct picture *ret_picture,
                 struct err *err) WARN_UNUSED;
void picture_close(struct picture *picture);

/* One page (from 0), upright, in sRGB on white, 8 bits, three bands, fitted into width x height,
 * never enlarged, in memory. A cut-off file gives what can be seen of it, unless `whole` is set.
 * The caller unrefs. */
int picture_fit(const struct picture *picture, int page, int width, int height,
                VipsImage **ret_image, struct err *err) WARN_UNUSED;
/* The same from a picture that picture_fit made. */
int picture_shrink(VipsImage *from, int width, int height, VipsImage **ret_image,
                   struct err *err) WARN_UNUSED;
/* Encodes as WebP; *ret_data is freed with g_free. */
int picture_webp(VipsImage *image, void **ret_data, size_t *ret_len, struct err *err) WARN_UNUSED;

/* The process-wide vips error text as an error: permanent, "corrupt" or "expands_too_much". */
int err_from_vips(struct err *err, const char *context);

DEFINE_CLEANUP(VipsImage *, vips_image_cleanup, g_object_unref)
