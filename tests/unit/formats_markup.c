/* SPDX-License-Identifier: Apache-2.0 */
/* HTML and RTF: what is shown is text, what is not shown is not. */
#include "tests/unit/formats_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_html_blocks(void **state)
{
    (void)state;
    assert_text(BYTES("<html><head><title>T</title><style>p{}</style><script>x<y</script></head>"
                      "<body><p>One\n two</p><p>A&amp;B&nbsp;&euro;&#x263a;<br>next</p>"
                      "<div>d1</div><div>d2 <b>bo</b>ld</div><ul><li>a<li>b</ul></body></html>"),
                "a.html", "T\n\nOne two\n\nA&B \u20ac\u263a\nnext\n\nd1\nd2 bold\n\na\nb");
}

static void test_html_tables(void **state)
{
    (void)state;
    assert_text(BYTES("<html><table><tr><th>Item</th><th>Price</th></tr>\n"
                      "<tr>\n <td><p>Pen</p></td>\n <td><div>1.20</div></td></tr>"
                      "<tr><td></td><td>2.40</td></tr></table>after"),
                "a.html", "Item\tPrice\nPen\t1.20\n\t2.40\n\nafter");
    /* A table used for layout keeps its lines. */
    assert_text(BYTES("<html><table><tr><td><p>one</p><p>two</p></td></tr></table>"), "a.html",
                "one\n\ntwo");
}

static void test_html_hidden(void **state)
{
    (void)state;
    assert_text(BYTES("<html><body>a<span style=\"color:red; display : none\">x<b>y</b></span>"
                      "<p hidden>z</p>b<template>t</template><!-- c --></body></html>"),
                "a.html", "ab");
}

static void test_html_charset(void **state)
{
    (void)state;
    assert_text(BYTES("<html><meta charset=\"iso-8859-2\"><p>\xb3\xf3"
                      "d\xbc</p>"),
                "a.html", "\u0142\u00f3d\u017a");
    assert_text(BYTES("<html><meta charset=\"utf-16\"><p>plain</p>"), "a.html", "plain");
    assert_text(BYTES("\xff\xfe<\0h\0t\0m\0l\0>\0\xe9\0"), "a.html", "\u00e9");
}

static void test_html_depth(void **state)
{
    size_t n = 20000;
    char *html = malloc(6 + n * 5 + 1);

    (void)state;
    assert_non_null(html);
    memcpy(html, "<html>", 6);
    for (size_t i = 0; i < n; i++) {
        memcpy(html + 6 + i * 5, "<div>", 5);
    }
    html[6 + n * 5] = 'x';
    assert_text(html, 6 + n * 5 + 1, "a.html", "x");
    free(html);
}

static void test_rtf(void **state)
{
    (void)state;
    assert_text(BYTES("{\\rtf1\\ansi\\ansicpg1252{\\fonttbl{\\f0 Arial;}{\\f1\\fcharset204 A;}}"
                      "{\\colortbl;\\red0;}{\\*\\generator X;}\\f0 Gr\\'fc\\'dfe\\par "
                      "\\u8364? {\\b bold}\\tab x\\line y{\\pict 0102ab}\\f1\\'ef\\'f0\\f0 z"
                      "{\\v hidden}{\\*\\unknown gone}\\~\\emdash\\{q\\}\\par}"),
                "a.rtf", "Gr\u00fc\u00dfe\n\u20ac bold\tx\ny\u043f\u0440z\u00a0\u2014{q}");
}

static void test_rtf_parts(void **state)
{
    (void)state;
    assert_text(BYTES("{\\rtf1{\\info{\\title T}{\\author Ann}{\\creatim\\yr2020}}{\\header H\\par}"
                      "a{\\field{\\*\\fldinst HYPERLINK x}{\\fldrslt link}}b{\\footnote note}\\par"
                      "\\trowd A\\cell B\\cell\\row C\\cell D\\cell\\row}"),
                "a.rtf", "TITLE: T\n\nAUTHOR: Ann\n\nH\nalinkb [note]\nA\tB\nC\tD");
    assert_text(BYTES("{\\rtf1\\uc1\\u-10179?\\u-8704?{\\uc2\\u233 ab}c\\bin3 }}}d}"), "a.rtf",
                "\U0001f600\u00e9cd");
}

static void test_rtf_damage(void **state)
{
    char deep[5000];

    (void)state;
    memset(deep, '{', sizeof(deep));
    memcpy(deep, "{\\rtf1 ok", 9);
    assert_text(deep, sizeof(deep), "a.rtf", "ok");
    assert_text(BYTES("{\\rtf1 a}}}}\\'"), "a.rtf", "a");
    assert_text(BYTES("{\\rtf1 a\\bin99999999 b"), "a.rtf", "a");
    assert_text(BYTES("{\\rtf1 a\\"), "a.rtf", "a");
}

int formats_markup_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_html_blocks), cmocka_unit_test(test_html_tables),
        cmocka_unit_test(test_html_hidden), cmocka_unit_test(test_html_charset),
        cmocka_unit_test(test_html_depth),  cmocka_unit_test(test_rtf),
        cmocka_unit_test(test_rtf_parts),   cmocka_unit_test(test_rtf_damage),
    };

    return cmocka_run_group_tests_name("markup", tests, NULL, NULL);
}
