/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every code that a pipeline can fail with has words for people; no word of the table is twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "libcommon/reason.h"

static void test_known_codes(void **state)
{
    static const char *const codes[] = {
        "empty_file",    "file_too_large", "unsupported_type", "encrypted",
        "corrupt",       "too_many_pages", "too_many_pixels",  "expands_too_much",
        "child_crashed", "child_timeout",  "crash_loop",       "pages_failed",
        "no_preview",    "input_gone",     "upload_failed",    "upload_stale",
        "hash_mismatch", "budget",         "invalid_schema",   "provider_unavailable",
        "invalid_name"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        assert_string_equal(reason_find(codes[i])->code, codes[i]);
    }
}

static void test_other_codes(void **state)
{
    (void)state;
    assert_string_equal(reason_find("never_heard_of")->code, "internal");
    assert_string_equal(reason_find("")->code, "internal");
    assert_string_equal(reason_find(NULL)->code, "internal");
}

static void test_table(void **state)
{
    size_t n = 0;
    const struct reason *table = reason_table(&n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        assert_true(strlen(table[i].text) > 10 && strlen(table[i].advice) > 5);
        assert_true(table[i].text[strlen(table[i].text) - 1] != '.');
        for (size_t k = i + 1; k < n; k++) {
            assert_string_not_equal(table[i].code, table[k].code);
            assert_string_not_equal(table[i].text, table[k].text);
        }
    }
}

static void test_words(void **state)
{
    (void)state;
    assert_string_equal(reason_words("corrupt", "page 3 is cut off"), "page 3 is cut off");
    assert_null(reason_words("db_unavailable", "postgres: connection to 10.1.2.3 refused"));
    assert_null(reason_words("never_heard_of", "anything"));
    assert_string_equal(reason_said("corrupt", "page 3 is cut off"), "page 3 is cut off");
    assert_string_equal(reason_said("store_denied", "http://s3:9000: 403"),
                        "the file store did not let this step in");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_codes),
        cmocka_unit_test(test_other_codes),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
