/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers end at their maximum, and a failed append leaves nothing behind.
 */
#include "libcommon/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_append(void **state)
{
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;

    (void)state;
    buf_init(&buf, 1U << 20);
    assert_null(buf.data);
    assert_int_equal(buf_append(&buf, "ab\0c", 4, &err), 0);
    assert_int_equal(buf_puts(&buf, "de", &err), 0);
    assert_int_equal(buf_printf(&buf, &err, "%d-%s", 42, "f"), 0);
    assert_int_equal(buf.len, 10);
    assert_memory_equal(buf.data, "ab\0cde42-f", 11);
    assert_int_equal(buf_append(&buf, NULL, 0, &err), 0);
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(buf_puts(&buf, "0123456789", &err), 0);
    }
    assert_int_equal(buf.len, 100010);
    assert_int_equal(buf.data[buf.len], '\0');
    buf_reset(&buf);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.data, "");
}

static void test_maximum(void **state)
{
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;

    (void)state;
    buf_init(&buf, 10);
    assert_int_equal(buf_puts(&buf, "0123456789", &err), 0);
    assert_int_equal(buf_append(&buf, "", 0, &err), 0);
    assert_int_equal(buf_puts(&buf, "x", &err), -1);
    assert_int_equal(err.class, ERR_PERMANENT);
    assert_string_equal(err.code, "too_large");
    assert_null(buf.data);
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf_append(&buf, "x", SIZE_MAX, &err), -1);
    assert_int_equal(buf_printf(&buf, &err, "%20d", 1), -1);
    assert_int_equal(buf_puts(&buf, "again", &err), 0);
    assert_string_equal(buf.data, "again");
}

static void test_steal(void **state)
{
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;

    (void)state;
    buf_init(&buf, 100);
    char *empty = buf_steal(&buf);
    assert_string_equal(empty, "");
    free(empty);
    assert_int_equal(buf_puts(&buf, "mine", &err), 0);
    char *mine = buf_steal(&buf);
    assert_string_equal(mine, "mine");
    free(mine);
    assert_null(buf.data);
    assert_int_equal(buf.max, 100);
    buf_done(NULL);
    buf_done(&buf);
    buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_maximum),
        cmocka_unit_test(test_steal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
