/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors keep class and code through every wrap, never overflow, and work without memory.
 */
#include "libcommon/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_set(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(err_set(&err, ERR_PERMANENT, "corrupt", "page %d has no contents", 3), -1);
    assert_int_equal(err.class, ERR_PERMANENT);
    assert_string_equal(err.code, "corrupt");
    assert_string_equal(err.msg, "page 3 has no contents");
    assert_int_equal(err_set(NULL, ERR_PERMANENT, "corrupt", "x"), -1);
    assert_int_equal(err_set(&err, ERR_FATAL, NULL, "x"), -1);
    assert_string_equal(err.code, "internal");
}

static void test_wrap(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    err_set(&err, ERR_TRANSIENT, "io", "disk full");
    assert_int_equal(err_wrap(&err, "writing %s", "a"), -1);
    assert_int_equal(err_wrap(&err, "batch %d", 7), -1);
    assert_string_equal(err.msg, "batch 7: writing a: disk full");
    assert_string_equal(err.code, "io");
    assert_int_equal(err.class, ERR_TRANSIENT);
    for (int i = 0; i < 100; i++) {
        err_wrap(&err, "one more layer of context");
    }
    assert_true(strlen(err.msg) < ERR_MSG_MAX);
    assert_int_equal(err_wrap(NULL, "x"), -1);
}

static void test_long(void **state)
{
    struct err err = ERR_INIT;
    char big[2000];

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    err_set(&err, ERR_UNKNOWN, big, "%s", big);
    assert_int_equal(strlen(err.code), ERR_CODE_MAX - 1);
    assert_int_equal(strlen(err.msg), ERR_MSG_MAX - 1);
    err_wrap(&err, "%s", big);
    assert_int_equal(strlen(err.msg), ERR_MSG_MAX - 1);
    err_from_errno(&err, ENOENT, "%s", big);
    assert_int_equal(strlen(err.msg), ERR_MSG_MAX - 1);
}

/* A precision counts bytes, and a file's name may hold anything. */
static void test_text(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    err_set(&err, ERR_PERMANENT, "bad_request", "argument %.3s is given twice", "\xc3\xa9\xc3\xa9");
    assert_string_equal(err.msg, "argument \xc3\xa9? is given twice");
    err_wrap(&err, "file %.1s", "\xe2\x82\xac");
    assert_string_equal(err.msg, "file ?: argument \xc3\xa9? is given twice");
    err_from_errno(&err, ENOENT, "opening %s", "\xff");
    assert_string_equal(err.msg, "opening ?: No such file or directory");
}

static void test_errno(void **state)
{
    static const int transient[] = {ENOMEM, EMFILE, ENOSPC, ECONNRESET, EPIPE, ETIMEDOUT};
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(transient); i++) {
        assert_int_equal(err_from_errno(&err, transient[i], "x"), -1);
        assert_int_equal(err.class, ERR_TRANSIENT);
    }
    err_from_errno(&err, ENOENT, "opening %s", "f");
    assert_int_equal(err.class, ERR_UNKNOWN);
    assert_string_equal(err.code, "io");
    assert_string_equal(err.msg, "opening f: No such file or directory");
    assert_int_equal(err_nomem(&err), -1);
    assert_int_equal(err.class, ERR_TRANSIENT);
    assert_string_equal(err.code, "no_memory");
}

static void test_names(void **state)
{
    (void)state;
    for (int c = ERR_NONE; c <= ERR_FATAL; c++) {
        assert_int_equal(err_class_parse(err_class_name((enum err_class)c)), c);
    }
    assert_int_equal(err_class_parse("nonsense"), ERR_UNKNOWN);
    assert_int_equal(err_class_parse(NULL), ERR_UNKNOWN);
    assert_string_equal(err_class_name((enum err_class)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),   cmocka_unit_test(test_wrap),  cmocka_unit_test(test_long),
        cmocka_unit_test(test_errno), cmocka_unit_test(test_names), cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
