/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds are told by content; names only help between kinds of text. */
#include "libcommon/filetype.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct sample {
    const char *bytes;
    size_t len;
    const char *name;
    enum file_kind kind;
};

#define S(s) s, sizeof(s) - 1

static const struct sample samples[] = {
    {S("%PDF-1.7\n"), "a.txt", FILE_PDF},
    {S("junk\n\n%PDF-2.0\n"), NULL, FILE_PDF},
    {S("\xff\xd8\xff\xe0\0\0"), "a.png", FILE_JPEG},
    {S("\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "", FILE_PNG},
    {S("II*\0\x08\0\0\0"), NULL, FILE_TIFF},
    {S("MM\0*\0\0\0\x08"), NULL, FILE_TIFF},
    {S("RIFF\x10\0\0\0WEBPVP8 "), NULL, FILE_WEBP},
    {S("GIF89a\1\0\1\0"), NULL, FILE_GIF},
    {S("BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0"), NULL, FILE_BMP},
    {S("BMW is a make of cars, said the text"), NULL, FILE_TEXT},
    {S("\0\0\0\x18"
       "ftypheic\0\0\0\0mif1heic"),
     NULL, FILE_HEIC},
    {S("\0\0\0\x1c"
       "ftypmif1\0\0\0\0avifmif1miaf"),
     NULL, FILE_AVIF},
    {S("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0"), "x.docx", FILE_OLE2},
    {S("{\\rtf1\\ansi hello}"), "a.doc", FILE_RTF},
    {S("<!DOCTYPE html><title>x</title>"), NULL, FILE_HTML},
    {S("\xef\xbb\xbf<?xml version=\"1.0\"?><html xmlns=\"http://www.w3.org/1999/xhtml\">"), NULL,
     FILE_HTML},
    {S("<?xml version=\"1.0\"?><invoice/>"), "a.txt", FILE_XML},
    {S("<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"/>"), NULL, FILE_SVG},
    {S("\xff\xfe<\0h\0t\0m\0l\0>\0"), NULL, FILE_HTML},
    {S("From: a@example.org\r\nTo: b@example.org\r\nSubject: x\r\n\r\nhello"), NULL, FILE_EML},
    {S("Subject: x\r\n\r\nhello"), "a.eml", FILE_EML},
    {S("Subject: x\r\n\r\nhello"), "a.txt", FILE_TEXT},
    {S("{\"a\": 1}"), NULL, FILE_JSON},
    {S("[draft] not json"), NULL, FILE_TEXT},
    {S("a,b,c\n1,2,3\n"), "x.csv", FILE_CSV},
    {S("a\tb\n"), "x.TSV", FILE_TSV},
    {S("# title\n"), "README.md", FILE_MD},
    {S("plain words"), "x.pdf", FILE_TEXT},
    {S("plain words"), "x.docx", FILE_TEXT},
    {S("h\0e\0l\0l\0o\0 \0w\0o\0r\0l\0d\0"), NULL, FILE_TEXT},
    {S("caf\xe9 au lait"), NULL, FILE_TEXT},
    {S("\x7f"
       "ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0>\0\1\0\0\0"),
     "a.txt", FILE_BINARY},
    {S(""), "a.pdf", FILE_TEXT},
};

static void test_samples(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct filetype got;

        filetype_detect(samples[i].bytes, samples[i].len, samples[i].name, &got);
        if (got.kind != samples[i].kind) {
            print_error("sample %zu: got %s\n", i, got.name);
        }
        assert_int_equal(got.kind, samples[i].kind);
    }
}

static size_t zip_entry(char *p, const char *name, const char *data)
{
    size_t n = strlen(name);
    size_t len = strlen(data);

    memset(p, 0, 30);
    memcpy(p, "PK\x03\x04", 4);
    p[18] = (char)len;
    p[22] = (char)len;
    p[26] = (char)n;
    memcpy(p + 30, name, n);
    memcpy(p + 30 + n, data, len);
    return 30 + n + len;
}

static void test_packages(void **state)
{
    static const struct {
        const char *first, *data, *second;
        enum file_kind kind;
    } zips[] = {
        {"[Content_Types].xml", "<x/>", "word/document.xml", FILE_DOCX},
        {"_rels/.rels", "<x/>", "xl/workbook.xml", FILE_XLSX},
        {"docProps/app.xml", "<x/>", "ppt/presentation.xml", FILE_PPTX},
        {"[Content_Types].xml", "<x/>", "customXml/item1.xml", FILE_ZIP},
        {"word/letter.txt", "x", "word/other.txt", FILE_ZIP},
        {"mimetype", "application/vnd.oasis.opendocument.text", "content.xml", FILE_ODT},
        {"mimetype", "application/vnd.oasis.opendocument.spreadsheet", "content.xml", FILE_ODS},
        {"mimetype", "application/vnd.oasis.opendocument.presentation", "a", FILE_ODP},
        {"mimetype", "application/epub+zip", "META-INF/container.xml", FILE_EPUB},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(zips); i++) {
        char zip[512];
        struct filetype got;
        size_t len = zip_entry(zip, zips[i].first, zips[i].data);

        len += zip_entry(zip + len, zips[i].second, "");
        filetype_detect(zip, len, "x.zip", &got);
        assert_int_equal(got.kind, zips[i].kind);
        /* Any cut is read without a step beyond it. */
        for (size_t cut = 0; cut < len; cut++) {
            char *exact = malloc(cut + 1);

            assert_non_null(exact);
            memcpy(exact, zip, cut);
            filetype_detect(exact, cut, NULL, &got);
            free(exact);
        }
    }
}

static void test_table(void **state)
{
    (void)state;
    for (unsigned k = 0; k < FILE_KINDS; k++) {
        const struct filetype *row = filetype_of((enum file_kind)k);

        assert_int_equal(row->kind, k);
        assert_int_equal(file_kind_parse(row->name), k);
        assert_non_null(strchr(row->mime, '/'));
        assert_true(row->tasks & FILE_TASK_PREVIEW);
        assert_int_equal(!!(row->tasks & FILE_TASK_TEXT), k != FILE_OLE2);
        assert_false(row->raster && !(row->tasks & FILE_TASK_THUMBNAIL));
    }
    assert_int_equal(file_kind_parse("nonsense"), FILE_BINARY);
    assert_string_equal(file_kind_name((enum file_kind)999), "binary");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_packages),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
