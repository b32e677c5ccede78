/* SPDX-License-Identifier: Apache-2.0 */
/* What is UTF-8 and what is not (RFC 3629 section 4), and that cleaning leaves only the former. */
#include "libcommon/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *text, *clean;
    uint32_t cp; /* of the first sequence; 0: there is none */
} cases[] = {
    {"a", "a", 'a'},
    {"\xc3\xa9", "\xc3\xa9", 0xe9},
    {"\xe2\x82\xac", "\xe2\x82\xac", 0x20ac},
    {"\xf0\x9f\x93\x84", "\xf0\x9f\x93\x84", 0x1f4c4},
    {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf", 0x10ffff},
    {"\xf4\x90\x80\x80", "????", 0}, /* beyond the last code point */
    {"\xed\xa0\x80", "???", 0},      /* a surrogate */
    {"\xc0\xaf", "??", 0},           /* a slash in two bytes */
    {"\xe0\x80\xaf", "???", 0},      /* and in three */
    {"\xff", "?", 0},
    {"\x80z", "?z", 0},
    {"\xe2\x82", "??", 0}, /* cut off */
    {"ok \xc3", "ok ?", 'o'},
    {"\xc3\xa9 \xe2\x82 is given twice", "\xc3\xa9 ?? is given twice", 0xe9},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *text = cases[i].text;
        uint32_t cp = 0;
        char copy[64];

        assert_true((utf8_sequence(text, strlen(text), &cp) > 0) == (cases[i].cp != 0));
        assert_int_equal(cp, cases[i].cp);
        assert_true(utf8_valid(text, strlen(text)) == (strcmp(text, cases[i].clean) == 0));
        snprintf(copy, sizeof(copy), "%s", text);
        utf8_clean(copy);
        assert_string_equal(copy, cases[i].clean);
        assert_true(utf8_valid(copy, strlen(copy)));
    }
    assert_int_equal(utf8_sequence("", 0, NULL), 0);
    assert_true(utf8_valid("", 0));
}

static void test_there_and_back(void **state)
{
    (void)state;
    for (uint32_t cp = 1; cp <= 0x10ffff; cp += cp < 0x900 ? 1 : 37) {
        char text[4];
        uint32_t found = 0;
        size_t at = 0;

        if (cp >= 0xd800 && cp < 0xe000) {
            continue;
        }
        const size_t n = utf8_put(cp, text);
        assert_int_equal(utf8_sequence(text, n, &found), n);
        assert_int_equal(found, cp);
        assert_int_equal(utf8_sequence(text, n - 1, NULL), 0);
        assert_int_equal(utf8_len(text[0]), n);
        assert_int_equal(utf8_next(text, n, &at), cp);
        assert_int_equal(at, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_there_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
