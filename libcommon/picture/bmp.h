/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BMP, which libvips reads only through ImageMagick: a small reader of our own.
 * Invariant: reads nothing outside [data, data + len); pixels the file does not hold stay white.
 * It knows 1 to 32 bits, palettes, bit fields and both run-length codes; alpha is ignored, as
 * most programs leave it zero. It refuses JPEG and PNG inside BMP.
 */
#pragma once

#include "libcommon/err.h"

struct bmp_header {
    int width;
    int height;
    bool top_down;
    unsigned bits;        /* per pixel */
    unsigned compression; /* 0 none, 1 RLE8, 2 RLE4, 3 bit fields */
    size_t palette_at;
    unsigned palette_len;   /* entries */
    unsigned palette_entry; /* bytes of one: 3 or 4 */
    uint32_t masks[3];      /* red, green, blue of 16 and 32 bits */
    size_t pixels_at;
};

/* Errors, permanent: corrupt, unsupported_type. Sizes are positive and at most 2^24 a side; the
 * caller checks the product before it decodes. */
int bmp_read_header(const unsigned char *data, size_t len, struct bmp_header *ret_header,
                    struct err *err) WARN_UNUSED;
/* width * height * 3 bytes of RGB, rows from the top, malloc'd for the caller. */
int bmp_decode(const unsigned char *data, size_t len, const struct bmp_header *header,
               unsigned char **ret_pixels, struct err *err) WARN_UNUSED;
