/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every read goes through a bounds check against the input, every write through put(), which
 * drops what lies outside the picture: that is what makes run lengths harmless.
 */
#include "libcommon/picture/bmp.h"

#include <string.h>

enum { BMP_SIDE_MAX = 1 << 24, BMP_FILE_HEADER = 14 };
enum { BMP_PLAIN = 0, BMP_RLE8 = 1, BMP_RLE4 = 2, BMP_FIELDS = 3, BMP_ALPHA_FIELDS = 6 };

struct bmp {
    const unsigned char *data;
    size_t len;
    const struct bmp_header *header;
    unsigned char *pixels;
    uint8_t palette[256][3];
};

/* Little-endian reads; zero behind the end. */
static unsigned get8(const unsigned char *data, size_t len, size_t at)
{
    return at < len ? data[at] : 0U;
}

static uint32_t get16(const unsigned char *data, size_t len, size_t at)
{
    return get8(data, len, at) | get8(data, len, at + 1) << 8;
}

static uint32_t get32(const unsigned char *data, size_t len, size_t at)
{
    return get16(data, len, at) | get16(data, len, at + 2) << 16;
}

static int check_format(const struct bmp_header *header, struct err *err)
{
    const unsigned bits = header->bits;
    const bool fits = header->compression == BMP_PLAIN
                          ? bits == 1 || bits == 2 || bits == 4 || bits == 8 || bits == 16 ||
                                bits == 24 || bits == 32
                      : header->compression == BMP_RLE8   ? bits == 8
                      : header->compression == BMP_RLE4   ? bits == 4
                      : header->compression == BMP_FIELDS ? bits == 16 || bits == 32
                                                          : false;

    if (header->compression == 4 || header->compression == 5) {
        return err_set(err, ERR_PERMANENT, "unsupported_type", "a BMP that wraps JPEG or PNG");
    }
    if (!fits) {
        return err_set(err, ERR_PERMANENT, "corrupt", "a BMP of %u bits with compression %u", bits,
                       header->compression);
    }
    return 0;
}

static void read_masks(const unsigned char *data, size_t len, uint32_t size,
                       struct bmp_header *header)
{
    static const uint32_t plain16[3] = {0x7c00, 0x03e0, 0x001f};
    static const uint32_t plain32[3] = {0xff0000, 0x00ff00, 0x0000ff};
    const uint32_t *plain = header->bits == 16 ? plain16 : plain32;
    const bool fields = header->compression == BMP_FIELDS;

    for (size_t i = 0; i < 3; i++) {
        /* behind a 40 byte header, or its next members: the same place */
        header->masks[i] = fields ? get32(data, len, BMP_FILE_HEADER + 40 + 4 * i) : plain[i];
    }
    header->palette_at = BMP_FILE_HEADER + size + (fields && size == 40 ? 12 : 0);
}

int bmp_read_header(const unsigned char *data, size_t len, struct bmp_header *ret_header,
                    struct err *err)
{
    const uint32_t size = get32(data, len, BMP_FILE_HEADER);
    const bool core = size == 12; /* OS/2 1.x */
    struct bmp_header header = {0};

    if (len < BMP_FILE_HEADER + 12 || data[0] != 'B' || data[1] != 'M' ||
        (!core && (size < 40 || size > 1024))) {
        return err_set(err, ERR_PERMANENT, "corrupt", "no BMP header");
    }
    int64_t width = core ? (int64_t)get16(data, len, 18) : (int32_t)get32(data, len, 18);
    int64_t height = core ? (int64_t)get16(data, len, 20) : (int32_t)get32(data, len, 22);

    header.top_down = height < 0;
    height = height < 0 ? -height : height;
    if (width <= 0 || height == 0 || width > BMP_SIDE_MAX || height > BMP_SIDE_MAX) {
        return err_set(err, ERR_PERMANENT, "corrupt", "a BMP of %lld x %lld", (long long)width,
                       (long long)height);
    }
    header.width = (int)width;
    header.height = (int)height;
    header.bits = get16(data, len, core ? 24 : 28);
    header.compression = core ? BMP_PLAIN : get32(data, len, 30);
    if (header.compression == BMP_ALPHA_FIELDS) {
        header.compression = BMP_FIELDS;
    }
    if (check_format(&header, err) != 0) {
        return -1;
    }
    read_masks(data, len, size, &header);
    header.palette_entry = core ? 3 : 4;
    header.pixels_at = get32(data, len, 10);
    if (header.bits <= 8) {
        const uint32_t used = core ? 0 : get32(data, len, 46);
        const unsigned full = 1U << header.bits;

        header.palette_len = used == 0 || used > full ? full : used;
    }
    *ret_header = header;
    return 0;
}

static void read_palette(struct bmp *bmp)
{
    for (size_t i = 0; i < bmp->header->palette_len; i++) {
        const size_t at = bmp->header->palette_at + i * bmp->header->palette_entry;

        for (size_t c = 0; c < 3; c++) {
            bmp->palette[i][c] = (uint8_t)get8(bmp->data, bmp->len, at + 2 - c);
        }
    }
}

/* y counts rows as the file stores them. */
static void put(const struct bmp *bmp, int64_t x, int64_t y, const uint8_t rgb[3])
{
    const struct bmp_header *header = bmp->header;

    if (x < 0 || y < 0 || x >= header->width || y >= header->height) {
        return;
    }
    const int64_t row = header->top_down ? y : header->height - 1 - y;

    memcpy(bmp->pixels + ((size_t)row * (size_t)header->width + (size_t)x) * 3, rgb, 3);
}

/* The bits of value under mask, spread to 0..255. */
static uint8_t field(uint32_t value, uint32_t mask)
{
    if (mask == 0) {
        return 0;
    }
    const unsigned shift = (unsigned)__builtin_ctz(mask);
    const uint32_t max = mask >> shift;

    return (uint8_t)((uint64_t)((value & mask) >> shift) * 255 / max);
}

static void plain_row(const struct bmp *bmp, int64_t y, size_t at)
{
    const struct bmp_header *header = bmp->header;
    const unsigned bits = header->bits;

    for (int64_t x = 0; x < header->width; x++) {
        const size_t bit = (size_t)x * bits;
        const size_t p = at + bit / 8;
        uint8_t rgb[3];

        if (p + (bits + 7) / 8 > bmp->len) {
            return;
        }
        if (bits <= 8) {
            const unsigned index =
                bmp->data[p] >> (8 - bits - (unsigned)(bit % 8)) & ((1U << bits) - 1);

            memcpy(rgb, bmp->palette[index], 3);
        } else if (bits == 24) {
            rgb[0] = bmp->data[p + 2];
            rgb[1] = bmp->data[p + 1];
            rgb[2] = bmp->data[p];
        } else {
            const uint32_t value =
                bits == 16 ? get16(bmp->data, bmp->len, p) : get32(bmp->data, bmp->len, p);

            for (size_t c = 0; c < 3; c++) {
                rgb[c] = field(value, header->masks[c]);
            }
        }
        put(bmp, x, y, rgb);
    }
}

static void decode_plain(const struct bmp *bmp)
{
    const size_t stride = ((size_t)bmp->header->width * bmp->header->bits + 31) / 32 * 4;

    for (int64_t y = 0; y < bmp->header->height; y++) {
        const size_t at = bmp->header->pixels_at + (size_t)y * stride;

        if (at >= bmp->len) {
            return;
        }
        plain_row(bmp, y, at);
    }
}

/* One stored index of a run: a byte, or a nibble of it. */
static const uint8_t *run_colour(const struct bmp *bmp, unsigned byte, unsigned i)
{
    return bmp->palette[bmp->header->compression == BMP_RLE8 ? byte
                        : i % 2 == 0                         ? byte >> 4
                                                             : byte & 15];
}

/* n literal indices at `at`; returns the place behind them, padded to 16 bits. */
static size_t literal(const struct bmp *bmp, size_t at, unsigned n, int64_t *x, int64_t y)
{
    const unsigned per_byte = bmp->header->compression == BMP_RLE8 ? 1 : 2;

    for (unsigned i = 0; i < n; i++) {
        put(bmp, (*x)++, y, run_colour(bmp, get8(bmp->data, bmp->len, at + i / per_byte), i));
    }
    return at + ((n + per_byte - 1) / per_byte + 1) / 2 * 2;
}

static void decode_runs(const struct bmp *bmp)
{
    size_t at = bmp->header->pixels_at;
    int64_t x = 0;
    int64_t y = 0;

    while (at + 1 < bmp->len && y < bmp->header->height) {
        const unsigned count = bmp->data[at];
        const unsigned code = bmp->data[at + 1];

        at += 2;
        if (count > 0) {
            for (unsigned i = 0; i < count; i++) {
                put(bmp, x++, y, run_colour(bmp, code, i));
            }
        } else if (code == 0) { /* end of line */
            x = 0;
            y++;
        } else if (code == 1) { /* end of picture */
            return;
        } else if (code == 2) { /* jump */
            x += get8(bmp->data, bmp->len, at);
            y += get8(bmp->data, bmp->len, at + 1);
            at += 2;
        } else {
            at = literal(bmp, at, code, &x, y);
        }
    }
}

int bmp_decode(const unsigned char *data, size_t len, const struct bmp_header *header,
               unsigned char **ret_pixels, struct err *err)
{
    const size_t size = (size_t)header->width * (size_t)header->height * 3;
    struct bmp bmp = {.data = data, .len = len, .header = header, .pixels = malloc(size)};

    if (!bmp.pixels) {
        return err_set(err, ERR_PERMANENT, "expands_too_much",
                       "the BMP needs more memory than a unit may take");
    }
    memset(bmp.pixels, 0xff, size);
    read_palette(&bmp);
    if (header->compression == BMP_RLE8 || header->compression == BMP_RLE4) {
        decode_runs(&bmp);
    } else {
        decode_plain(&bmp);
    }
    *ret_pixels = bmp.pixels;
    return 0;
}
