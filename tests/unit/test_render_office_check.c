/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may reach LibreOffice: recognised containers only, and none that unpacks to far more than
 * its size, whatever it declares.
 * PKGS: zlib jansson
 * SRCS: services/preview-worker/office_check.c
 */
#include "libcommon/buf.h"
#include "services/preview-worker/office.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

struct zip {
    struct buf body;
    struct buf directory;
    unsigned members;
};

static void put(struct buf *buf, const void *data, size_t len)
{
    assert_int_equal(buf_append(buf, data, len, NULL), 0);
}

static void put16(struct buf *buf, unsigned value)
{
    const unsigned char bytes[] = {(unsigned char)(value & 255U), (unsigned char)(value >> 8)};

    put(buf, bytes, 2);
}

static void put32(struct buf *buf, size_t value)
{
    put16(buf, (unsigned)(value & 0xffffU));
    put16(buf, (unsigned)(value >> 16 & 0xffffU));
}

static void zip_begin(struct zip *zip)
{
    zip->members = 0;
    buf_init(&zip->body, 64U << 20);
    buf_init(&zip->directory, 1U << 20);
}

static void zip_add(struct zip *zip, const char *name, const void *data, size_t len,
                    size_t declared, unsigned method)
{
    const size_t at = zip->body.len;

    put(&zip->body, "PK\x03\x04", 4);
    for (int i = 0; i < 7; i++) {
        put16(&zip->body, 0);
    }
    put32(&zip->body, len);
    put32(&zip->body, declared);
    put16(&zip->body, (unsigned)strlen(name));
    put16(&zip->body, 0);
    put(&zip->body, name, strlen(name));
    put(&zip->body, data, len);
    put(&zip->directory, "PK\x01\x02", 4);
    for (int i = 0; i < 3; i++) {
        put16(&zip->directory, 0);
    }
    put16(&zip->directory, method);
    put32(&zip->directory, 0);
    put32(&zip->directory, 0);
    put32(&zip->directory, len);
    put32(&zip->directory, declared);
    put16(&zip->directory, (unsigned)strlen(name));
    for (int i = 0; i < 6; i++) {
        put16(&zip->directory, 0);
    }
    put32(&zip->directory, at);
    put(&zip->directory, name, strlen(name));
    zip->members++;
}

static void zip_end(struct zip *zip)
{
    const size_t at = zip->body.len;

    put(&zip->body, zip->directory.data, zip->directory.len);
    put(&zip->body, "PK\x05\x06\0\0\0\0", 8);
    put16(&zip->body, zip->members);
    put16(&zip->body, zip->members);
    put32(&zip->body, zip->directory.len);
    put32(&zip->body, at);
    put16(&zip->body, 0);
}

static void zip_done(struct zip *zip)
{
    buf_done(&zip->body);
    buf_done(&zip->directory);
}

static void expect_family(const void *data, size_t len, enum office_family expected)
{
    enum office_family family = OFFICE_SLIDES;
    struct err err = ERR_INIT;

    if (office_check(data, len, &family, &err) != 0) {
        fail_msg("%s: %s", err.code, err.msg);
    }
    assert_int_equal(family, expected);
}

static void expect_error(const void *data, size_t len, const char *code)
{
    enum office_family family = OFFICE_TEXT;
    struct err err = ERR_INIT;

    assert_int_equal(office_check(data, len, &family, &err), -1);
    assert_int_equal(err.class, ERR_PERMANENT);
    assert_string_equal(err.code, code);
}

static void test_packages(void **state)
{
    static const char ods[] = "application/vnd.oasis.opendocument.spreadsheet";
    struct zip zip;

    (void)state;
    zip_begin(&zip);
    zip_add(&zip, "[Content_Types].xml", "x", 1, 1, 0);
    zip_add(&zip, "ppt/presentation.xml", "x", 1, 1, 0);
    zip_end(&zip);
    expect_family(zip.body.data, zip.body.len, OFFICE_SLIDES);
    zip_done(&zip);

    zip_begin(&zip);
    zip_add(&zip, "mimetype", ods, strlen(ods), strlen(ods), 0);
    zip_end(&zip);
    expect_family(zip.body.data, zip.body.len, OFFICE_SHEET);
    zip_done(&zip);

    zip_begin(&zip);
    zip_add(&zip, "readme.txt", "x", 1, 1, 0);
    zip_end(&zip);
    expect_error(zip.body.data, zip.body.len, "unsupported_type");
    expect_error(zip.body.data, zip.body.len - 30, "corrupt");
    zip_done(&zip);
}

/* Zeros, deflated; the size that is declared is a lie. */
static void test_bomb(void **state)
{
    const size_t size = 48U << 20;
    uLongf packed_len = 1U << 20;
    unsigned char *zeros = calloc(1, size);
    unsigned char *packed = malloc(packed_len);
    struct zip zip;

    (void)state;
    assert_non_null(zeros);
    assert_non_null(packed);
    assert_int_equal(compress2(packed, &packed_len, zeros, size, 9), Z_OK);
    zip_begin(&zip);
    zip_add(&zip, "word/document.xml", packed + 2, packed_len - 6, 10, 8);
    zip_end(&zip);
    expect_error(zip.body.data, zip.body.len, "expands_too_much");
    zip_done(&zip);
    free(zeros);
    free(packed);
}

static void add_entry(struct buf *ole, const char *name)
{
    unsigned char entry[128] = {0};

    for (size_t i = 0; name[i] != '\0'; i++) {
        entry[2 * i] = (unsigned char)name[i];
    }
    entry[64] = (unsigned char)(2 * (strlen(name) + 1));
    put(ole, entry, sizeof(entry));
}

static void test_ole2(void **state)
{
    static const struct {
        const char *stream;
        const char *error; /* NULL: fine */
    } cases[] = {
        {"WordDocument", NULL},
        {"Workbook", NULL},
        {"PowerPoint Document", NULL},
        {"EncryptedPackage", "encrypted"},
        {"__properties_version1.0", "unsupported_type"},
        {"Something", "unsupported_type"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buf_done) struct buf ole;
        unsigned char header[512] = {0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1};

        buf_init(&ole, 4096);
        put(&ole, header, sizeof(header));
        add_entry(&ole, "Root Entry");
        add_entry(&ole, cases[i].stream);
        if (cases[i].error) {
            expect_error(ole.data, ole.len, cases[i].error);
        } else {
            expect_family(ole.data, ole.len, (enum office_family)i);
        }
    }
}

static void test_others(void **state)
{
    (void)state;
    expect_family("{\\rtf1 hello}", 13, OFFICE_TEXT);
    expect_error("plain text", 10, "unsupported_type");
    expect_error("PK\x03\x04", 4, "corrupt");
    expect_error("", 0, "empty_file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packages),
        cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_ole2),
        cmocka_unit_test(test_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
