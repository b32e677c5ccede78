/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids are UUIDv7, never the same twice, and later ones sort later, also between threads.
 */
#include "libcommon/uuid.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define N 20000

static void test_form(void **state)
{
    char id[UUID_TEXT];

    (void)state;
    uuid_v7(id);
    assert_int_equal(strlen(id), 36);
    assert_true(uuid_valid(id));
    assert_int_equal(id[14], '7');
    assert_non_null(strchr("89ab", id[19]));
    for (const char *p = id; *p; p++) {
        assert_non_null(strchr("0123456789abcdef-", *p));
    }
    char head[14];
    snprintf(head, sizeof(head), "%.8s%.4s", id, id + 9);
    long long ms = strtoll(head, NULL, 16);
    assert_true(llabs(ms - (long long)clock_wall_ms()) < 10000);
}

static void test_order(void **state)
{
    char last[UUID_TEXT] = "", id[UUID_TEXT];

    (void)state;
    for (int i = 0; i < N; i++) {
        uuid_v7(id);
        assert_true(strcmp(last, id) < 0);
        memcpy(last, id, sizeof(last));
    }
}

static void *make_many(void *arg)
{
    char(*ids)[UUID_TEXT] = arg;

    for (int i = 0; i < N; i++) {
        uuid_v7(ids[i]);
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void test_threads(void **state)
{
    char(*ids)[UUID_TEXT] = calloc(2 * N, UUID_TEXT);
    pthread_t threads[2];

    (void)state;
    assert_non_null(ids);
    for (int t = 0; t < 2; t++) {
        assert_int_equal(pthread_create(&threads[t], NULL, make_many, ids + (size_t)t * N), 0);
    }
    for (int t = 0; t < 2; t++) {
        pthread_join(threads[t], NULL);
        for (int i = 1; i < N; i++) {
            assert_true(strcmp(ids[t * N + i - 1], ids[t * N + i]) < 0);
        }
    }
    qsort(ids, 2 * N, UUID_TEXT, compare);
    for (int i = 1; i < 2 * N; i++) {
        assert_true(strcmp(ids[i - 1], ids[i]) != 0);
    }
    free(ids);
}

static void test_valid(void **state)
{
    static const char *const bad[] = {
        "",
        "018f0000-0000-7000-8000-00000000000",
        "018f0000-0000-7000-8000-0000000000000",
        "018f0000-0000-7000-8000-00000000000g",
        "018f00000-000-7000-8000-000000000000",
        "018f0000000070008000000000000000----",
        "{18f0000-0000-7000-8000-00000000000}",
        " 18f0000-0000-7000-8000-000000000000",
    };

    (void)state;
    assert_true(uuid_valid("018F0000-0000-7000-8000-00000000000a"));
    assert_false(uuid_valid(NULL));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(uuid_valid(bad[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
