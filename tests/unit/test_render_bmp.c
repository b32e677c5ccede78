/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The BMP reader: each pixel format, both run-length codes, and files that lie about themselves.
 * PKGS: jansson
 * SRCS: libcommon/picture/bmp.c
 */
#include "libcommon/picture/bmp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct file {
    unsigned char bytes[2048];
    size_t len;
};

static void put16(struct file *file, unsigned value)
{
    file->bytes[file->len++] = (unsigned char)(value & 255U);
    file->bytes[file->len++] = (unsigned char)(value >> 8 & 255U);
}

static void put32(struct file *file, uint32_t value)
{
    put16(file, value & 0xffffU);
    put16(file, value >> 16);
}

static void put_bytes(struct file *file, const void *bytes, size_t len)
{
    memcpy(file->bytes + file->len, bytes, len);
    file->len += len;
}

/* A header of 40 bytes and a palette of `colours` greys. */
static void begin(struct file *file, int width, int height, unsigned bits, unsigned compression,
                  unsigned colours)
{
    *file = (struct file){0};
    put_bytes(file, "BM", 2);
    put32(file, 0);
    put32(file, 0);
    put32(file, 14 + 40 + 4 * colours);
    put32(file, 40);
    put32(file, (uint32_t)width);
    put32(file, (uint32_t)height);
    put16(file, 1);
    put16(file, bits);
    put32(file, compression);
    put32(file, 0);
    put32(file, 0);
    put32(file, 0);
    put32(file, colours);
    put32(file, 0);
    for (unsigned i = 0; i < colours; i++) {
        const unsigned char grey = (unsigned char)(i * 10);
        const unsigned char entry[4] = {grey, grey, grey, 0};

        put_bytes(file, entry, 4);
    }
}

static unsigned char *decode(const struct file *file)
{
    struct bmp_header header;
    struct err err = ERR_INIT;
    unsigned char *pixels = NULL;

    assert_int_equal(bmp_read_header(file->bytes, file->len, &header, &err), 0);
    assert_int_equal(bmp_decode(file->bytes, file->len, &header, &pixels, &err), 0);
    return pixels;
}

static void refused(const struct file *file, const char *code)
{
    struct bmp_header header;
    struct err err = ERR_INIT;

    assert_int_equal(bmp_read_header(file->bytes, file->len, &header, &err), -1);
    assert_int_equal(err.class, ERR_PERMANENT);
    assert_string_equal(err.code, code);
}

static void test_24_bits_bottom_up(void **state)
{
    struct file file;

    (void)state;
    begin(&file, 1, 2, 24, 0, 0);
    put_bytes(&file, "\x03\x02\x01\x00", 4); /* lower row, blue first */
    put_bytes(&file, "\x06\x05\x04\x00", 4);
    unsigned char *pixels = decode(&file);

    assert_memory_equal(pixels, "\x04\x05\x06\x01\x02\x03", 6);
    free(pixels);
}

static void test_top_down(void **state)
{
    struct file file;

    (void)state;
    begin(&file, 1, -2, 32, 0, 0);
    put_bytes(&file, "\x03\x02\x01\x00", 4);
    put_bytes(&file, "\x06\x05\x04\x00", 4);
    unsigned char *pixels = decode(&file);

    assert_memory_equal(pixels, "\x01\x02\x03\x04\x05\x06", 6);
    free(pixels);
}

static void test_palettes(void **state)
{
    struct file file;

    (void)state;
    begin(&file, 3, 1, 1, 0, 2);
    put_bytes(&file, "\xa0\0\0\0", 4); /* 101 */
    unsigned char *pixels = decode(&file);

    assert_memory_equal(pixels, "\x0a\x0a\x0a\0\0\0\x0a\x0a\x0a", 9);
    free(pixels);
    begin(&file, 2, 1, 4, 0, 16);
    put_bytes(&file, "\x2f\0\0\0", 4);
    pixels = decode(&file);
    assert_memory_equal(pixels, "\x14\x14\x14\x96\x96\x96", 6);
    free(pixels);
}

static void test_16_bits(void **state)
{
    struct file file;

    (void)state;
    begin(&file, 2, 1, 16, 0, 0);
    put16(&file, 0x7c00); /* red */
    put16(&file, 0x001f); /* blue */
    unsigned char *pixels = decode(&file);

    assert_memory_equal(pixels, "\xff\0\0\0\0\xff", 6);
    free(pixels);
}

static void test_runs(void **state)
{
    struct file file;

    (void)state;
    begin(&file, 4, 2, 8, 1, 16);
    put_bytes(&file, "\x02\x01\x00\x00", 4);         /* two pixels, end of line */
    put_bytes(&file, "\x00\x03\x02\x03\x04\x00", 6); /* three literal ones, padded */
    put_bytes(&file, "\xff\x05\x00\x01", 4);         /* a run over the edge, end */
    unsigned char *pixels = decode(&file);

    assert_memory_equal(pixels, "\x14\x14\x14\x1e\x1e\x1e\x28\x28\x28\x32\x32\x32", 12);
    assert_memory_equal(pixels + 12, "\x0a\x0a\x0a\x0a\x0a\x0a\xff\xff\xff\xff\xff\xff", 12);
    free(pixels);
}

static void test_cut_off_stays_white(void **state)
{
    struct file file;

    (void)state;
    begin(&file, 1, 3, 24, 0, 0);
    put_bytes(&file, "\x03\x02\x01\x00", 4);
    unsigned char *pixels = decode(&file);

    assert_memory_equal(pixels, "\xff\xff\xff\xff\xff\xff\x01\x02\x03", 9);
    free(pixels);
}

static void test_refused(void **state)
{
    struct file file;

    (void)state;
    begin(&file, 1, 1, 30000, 0, 0);
    refused(&file, "corrupt");
    begin(&file, 0, 1, 24, 0, 0);
    refused(&file, "corrupt");
    begin(&file, 1, INT32_MIN, 24, 0, 0);
    refused(&file, "corrupt");
    begin(&file, 1, 1, 24, 1, 0); /* run lengths of 24 bits */
    refused(&file, "corrupt");
    begin(&file, 1, 1, 24, 5, 0); /* a PNG inside */
    refused(&file, "unsupported_type");
    file.len = 20;
    refused(&file, "corrupt");
}

/* Every single byte changed to every fourth value: nothing is read or written outside. */
static void test_any_byte_may_lie(void **state)
{
    struct file good;

    (void)state;
    begin(&good, 5, 4, 8, 1, 16);
    put_bytes(&good, "\x03\x01\x00\x00\x00\x04\x01\x02\x03\x04\x00\x02\x01\x01\x05\x01\x00\x01",
              18);
    for (size_t i = 0; i < good.len; i++) {
        for (unsigned value = 0; value < 256; value += 5) {
            struct file file = good;
            struct bmp_header header;
            unsigned char *pixels = NULL;

            file.bytes[i] = (unsigned char)value;
            if (bmp_read_header(file.bytes, file.len, &header, NULL) == 0 &&
                (int64_t)header.width * header.height < 1000000 &&
                bmp_decode(file.bytes, file.len, &header, &pixels, NULL) == 0) {
                free(pixels);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_24_bits_bottom_up),
        cmocka_unit_test(test_top_down),
        cmocka_unit_test(test_palettes),
        cmocka_unit_test(test_16_bits),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_cut_off_stays_white),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_any_byte_may_lie),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
