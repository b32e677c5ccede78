/* SPDX-License-Identifier: Apache-2.0 */
/* Encodings of plain text, and that nothing else about it changes. */
#include "tests/unit/formats_help.h"

#include "libcommon/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_marks(void **state)
{
    (void)state;
    assert_text(BYTES("\xef\xbb\xbfh\xc3\xa9"), "a.txt", "h\u00e9");
    assert_text(BYTES("\xff\xfeh\0\xe9\0\r\0\n\0x\0"), "a.txt", "h\u00e9\nx");
    assert_text(BYTES("\xfe\xff\0h\0\xe9"), "a.txt", "h\u00e9");
    assert_text(BYTES("\xfe\xff\xd8\x3d\xde\x00"), "a.txt", "\U0001f600");
    assert_text(BYTES("\xff\xfe\0\0h\0\0\0\xe9\0\0\0"), "a.txt", "h\u00e9");
}

static void test_no_mark(void **state)
{
    (void)state;
    assert_text(BYTES("T\0o\0t\0a\0l\0 \0 \0001\0002\0.\0005\0000\0"), "a.txt", "Total  12.50");
    assert_text(BYTES("\0T\0o\0t\0a\0l\0 \0 \0001\0002\0.\0005\0000"), "a.txt", "Total  12.50");
    assert_text(BYTES("plain \xe2\x82\xac"), "a.txt", "plain \u20ac");
}

/* Each text in one old encoding has to be told from its bytes alone. */
static void test_detection(void **state)
{
    static const struct {
        const char *charset;
        const char *text;
    } samples[] = {
        {"windows-1252",
         "Rechnung f\u00fcr das B\u00fcro: Gesamtbetrag 12,50 \u20ac, zahlbar bis "
         "M\u00e4rz. Gr\u00fc\u00dfe aus K\u00f6ln und \u201eD\u00fcsseldorf\u201c"},
        {"ibm-500",
         "Please pay the total amount of this invoice within thirty days after receipt."},
        {"windows-1251",
         "\u0421\u0447\u0435\u0442 \u043d\u0430 \u043e\u043f\u043b\u0430\u0442\u0443"
         " \u0437\u0430 \u0443\u0441\u043b\u0443\u0433\u0438 \u0441\u0432\u044f"
         "\u0437\u0438, \u0432\u0441\u0435\u0433\u043e \u043a \u043e\u043f\u043b"
         "\u0430\u0442\u0435 \u0441\u0442\u043e \u0440\u0443\u0431\u043b\u0435"
         "\u0439"},
        {"KOI8-R", "\u0421\u0447\u0435\u0442 \u043d\u0430 \u043e\u043f\u043b\u0430\u0442\u0443"
                   " \u0437\u0430 \u0443\u0441\u043b\u0443\u0433\u0438 \u0441\u0432\u044f\u0437"
                   "\u0438, \u0432\u0441\u0435\u0433\u043e \u043a \u043e\u043f\u043b\u0430\u0442"
                   "\u0435 \u0441\u0442\u043e \u0440\u0443\u0431\u043b\u0435\u0439"},
        {"IBM866", "\u0421\u0447\u0435\u0442 \u043d\u0430 \u043e\u043f\u043b\u0430\u0442\u0443"
                   " \u0437\u0430 \u0443\u0441\u043b\u0443\u0433\u0438 \u0441\u0432\u044f\u0437"
                   "\u0438, \u0432\u0441\u0435\u0433\u043e \u043a \u043e\u043f\u043b\u0430\u0442"
                   "\u0435 \u0441\u0442\u043e \u0440\u0443\u0431\u043b\u0435\u0439"},
        {"Shift_JIS",
         "\u8acb\u6c42\u66f8\u306e\u5408\u8a08\u91d1\u984d\u306f\u6d88\u8cbb\u7a0e\u3092"
         "\u542b\u3080\u4e07\u5186\u3067\u3059\u3002\u304a\u652f\u6255\u3044\u304f"
         "\u3060\u3055\u3044\u3002\u3088\u308d\u3057\u304f\u304a\u9858\u3044\u3057"
         "\u307e\u3059\u3002"},
        {"EUC-JP", "\u8acb\u6c42\u66f8\u306e\u5408\u8a08\u91d1\u984d\u306f\u6d88\u8cbb\u7a0e\u3092"
                   "\u542b\u3080\u4e07\u5186\u3067\u3059\u3002\u304a\u652f\u6255\u3044\u304f\u3060"
                   "\u3055\u3044\u3002\u3088\u308d\u3057\u304f\u304a\u9858\u3044\u3057\u307e"
                   "\u3059\u3002"},
        {"GB18030", "\u4e2d\u534e\u4eba\u6c11\u5171\u548c\u56fd\u7684\u53d1\u7968\u603b\u91d1\u989d"
                    "\u662f\u4e00\u5343\u5143\u3002\u6211\u4eec\u5728\u8fd9\u4e2a\u65f6\u5019\u6709"
                    "\u4e86\u4e00\u4e2a\u4eba\u7684\u5de5\u4f5c\u3002"},
        {"Big5", "\u9019\u500b\u4eba\u7684\u767c\u7968\u7e3d\u91d1\u984d\u662f\u4e00\u5343\u5143"
                 "\u3002\u6211\u5011\u5728\u9019\u88e1\u6709\u4e86\u4e00\u500b\u4e0d\u540c\u7684"
                 "\u5de5\u4f5c\u3002"},
        {"EUC-KR",
         "\uc774 \uccad\uad6c\uc11c\uc758 \ucd1d\uc561\uc740 \ub9cc \uc6d0\uc785\ub2c8\ub2e4"
         ". \uac10\uc0ac\ud569\ub2c8\ub2e4. \uc6b0\ub9ac\ub294 \uadf8 \uc0ac\ub78c\uc744 "
         "\ub9cc\ub0ac\ub2e4."},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        char bytes[1024];
        size_t len = encode_as(samples[i].charset, samples[i].text, bytes, sizeof(bytes));

        if (len == 0) {
            print_error("no converter for %s\n", samples[i].charset);
        }
        assert_true(len > 0);
        assert_text(bytes, len, "a.txt", samples[i].text);
    }
}

static void test_damage(void **state)
{
    CLEANUP(buf_done) struct buf text = {0};
    struct err err = ERR_INIT;

    (void)state;
    assert_text(BYTES("some words\0 and a NUL here, quite a few words around it"), "a.txt",
                "some words and a NUL here, quite a few words around it");
    buf_init(&text, 100);
    assert_int_equal(buf_append(&text, BYTES("a\xff\xc3z\r\nb\rc\x01\x7f\xed\xa0\x80"), &err), 0);
    text_clean(&text);
    assert_true(utf8_valid(text.data, text.len));
    assert_string_equal(text.data, "a??z\nb\nc???");
}

static void test_kept_as_it_is(void **state)
{
    (void)state;
    assert_text(BYTES("a,b,,\"c\nd\"\r\n1;2;  3\n"), "x.csv", "a,b,,\"c\nd\"\n1;2;  3\n");
    assert_text(BYTES("a\tb\t\tc\n"), "x.tsv", "a\tb\t\tc\n");
    assert_text(BYTES("{\"a\": [1,\n 2]}"), "x.json", "{\"a\": [1,\n 2]}");
    assert_text(BYTES("# T\n\n\n\n* x"), "x.md", "# T\n\n\n\n* x");
    assert_text(BYTES("<?xml version=\"1.0\" encoding=\"windows-1252\"?><a>\xe9</a>"), "x.xml",
                "<?xml version=\"1.0\" encoding=\"windows-1252\"?><a>\u00e9</a>");
}

static void test_long_text_is_cut(void **state)
{
    size_t len = 250000;
    char *text = malloc(len);
    size_t sum = 0;

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < len; i++) {
        text[i] = i % 1000 == 998 || i % 1000 == 999 ? '\n' : 'x';
    }
    CLEANUP(extracted_cleanup) struct extracted *got = extract(text, len, "a.txt", 0);
    assert_int_equal(got->n_pages, 3);
    for (unsigned i = 0; i < got->n_pages; i++) {
        size_t n = strlen(got->pages[i]);

        assert_true(n <= TEXT_PAGE_CHARS && n > 40000);
        assert_int_equal(got->pages[i][n - 1], '\n');
        sum += n;
    }
    assert_int_equal(sum, len);
    free(text);
}

int formats_plain_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_marks),         cmocka_unit_test(test_no_mark),
        cmocka_unit_test(test_detection),     cmocka_unit_test(test_damage),
        cmocka_unit_test(test_kept_as_it_is), cmocka_unit_test(test_long_text_is_cut),
    };

    return cmocka_run_group_tests_name("plain", tests, NULL, NULL);
}
