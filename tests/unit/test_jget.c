/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed JSON reading: every wrong document or member is an error that names it, and outputs stay
 * untouched then.
 */
#include "libcommon/jget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MAX 65536

static json_t *load(const char *text)
{
    struct err err = ERR_INIT;
    json_t *json = NULL;

    assert_int_equal(jget_load(text, strlen(text), MAX, &json, &err), 0);
    return json;
}

static void assert_malformed(const char *text, size_t len, size_t max)
{
    struct err err = ERR_INIT;
    json_t *json = NULL;

    assert_int_equal(jget_load(text, len, max, &json, &err), -1);
    assert_null(json);
    assert_int_equal(err.class, ERR_PERMANENT);
    assert_string_equal(err.code, "malformed_json");
}

static void test_load(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "{\"a\":1,\"a\":2}",
        "{\"a\":\"\xff\"}",
        "[1] x",
        "{\"a\":1e999}",
        "nul",
        "{\"a\":99999999999999999999}",
        "{\"a\":\"\\u0000\"}",
    };
    struct err err = ERR_INIT;
    json_t *json = NULL;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_malformed(bad[i], strlen(bad[i]), MAX);
    }
    assert_malformed("[1,2,3]", 7, 6);
    assert_int_equal(jget_load("{\n \"a\": }", 9, MAX, &json, &err), -1);
    assert_non_null(strstr(err.msg, "line 2"));
    assert_int_equal(jget_load("{\"a\\u0000\":1}", 13, MAX, &json, &err), -1);
    assert_null(strstr(err.msg, "JSON_")); /* the parser's flags are nobody's business */
    assert_non_null(strstr(err.msg, "NUL character"));
}

/* JSON knows one kind of number: 7.0 is a whole one. */
static void test_whole_numbers(void **state)
{
    CLEANUP(json_cleanup)
    json_t *obj = load("{\"a\":7.0,\"b\":-3e2,\"c\":7.5,\"d\":1e300,\"e\":9007199254740992.0}");
    struct err err = ERR_INIT;
    int64_t n = 0;

    (void)state;
    assert_int_equal(jget_int(obj, "a", 0, 9, &n, &err), 0);
    assert_int_equal(n, 7);
    assert_int_equal(jget_int(obj, "b", -300, 0, &n, &err), 0);
    assert_int_equal(n, -300);
    assert_int_equal(jget_int(obj, "e", 0, INT64_MAX, &n, &err), 0);
    assert_true(n == 9007199254740992);
    assert_int_equal(jget_int(obj, "c", 0, 9, &n, &err), -1);
    assert_int_equal(jget_int(obj, "d", 0, INT64_MAX, &n, &err), -1);
    assert_int_equal(jget_int(obj, "a", 8, 9, &n, &err), -1);
}

static void test_depth(void **state)
{
    CLEANUP(json_cleanup) json_t *json = NULL;
    struct err err = ERR_INIT;
    char text[200001];

    (void)state;
    for (size_t depth = JGET_DEPTH_MAX; depth <= JGET_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        int rc = jget_load(text, 2 * depth, MAX, &json, &err);
        assert_int_equal(rc, depth <= JGET_DEPTH_MAX ? 0 : -1);
    }
    memset(text, '[', 200000);
    assert_malformed(text, 200000, sizeof(text));
    /* brackets inside strings do not count */
    text[0] = text[2] = '"';
    memset(text + 1, '[', 200);
    memcpy(text, "[\"\\\"", 4);
    memcpy(text + 200, "\"]", 2);
    json_decref(STEAL(json));
    assert_int_equal(jget_load(text, 202, MAX, &json, &err), 0);
}

static void test_required(void **state)
{
    CLEANUP(json_cleanup)
    json_t *obj = load("{\"s\":\"text\",\"i\":-5,\"b\":true,\"r\":1.5,\"a\":[1,2],\"n\":null}");
    struct err err = ERR_INIT;
    const char *text = NULL;
    int64_t number = 77;
    bool flag = false;
    double real = 0;
    json_t *list = NULL;

    (void)state;
    assert_int_equal(jget_str(obj, "s", 4, &text, &err), 0);
    assert_string_equal(text, "text");
    assert_int_equal(jget_str(obj, "s", 3, &text, &err), -1);
    assert_int_equal(jget_int(obj, "i", -5, 0, &number, &err), 0);
    assert_int_equal(number, -5);
    assert_int_equal(jget_int(obj, "i", -4, 0, &number, &err), -1);
    assert_string_equal(err.code, "invalid_json");
    assert_non_null(strstr(err.msg, "\"i\""));
    assert_int_equal(jget_int(obj, "r", 0, 9, &number, &err), -1);
    assert_int_equal(jget_int(obj, "missing", 0, 9, &number, &err), -1);
    assert_non_null(strstr(err.msg, "missing"));
    assert_int_equal(jget_int(obj, "n", 0, 9, &number, &err), -1);
    assert_int_equal(number, -5);
    assert_int_equal(jget_bool(obj, "b", &flag, &err), 0);
    assert_true(flag);
    assert_int_equal(jget_bool(obj, "i", &flag, &err), -1);
    assert_int_equal(jget_real(obj, "r", &real, &err), 0);
    assert_true(real > 1.4 && real < 1.6);
    assert_int_equal(jget_real(obj, "i", &real, &err), 0);
    assert_int_equal(jget_real(obj, "s", &real, &err), -1);
    assert_int_equal(jget_array(obj, "a", 2, &list, &err), 0);
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(jget_array(obj, "a", 1, &list, &err), -1);
    assert_int_equal(jget_array(obj, "s", 1, &list, &err), -1);
    assert_int_equal(jget_str(list, "s", 9, &text, &err), -1); /* not an object */
    assert_int_equal(jget_str(NULL, "s", 9, &text, &err), -1);
}

static void test_optional(void **state)
{
    CLEANUP(json_cleanup) json_t *obj = load("{\"s\":\"text\",\"i\":5,\"b\":true,\"n\":null}");
    struct err err = ERR_INIT;
    const char *text = NULL;
    int64_t number = 0;
    bool flag = false;

    (void)state;
    assert_int_equal(jget_opt_str(obj, "none", 9, "fallback", &text, &err), 0);
    assert_string_equal(text, "fallback");
    assert_int_equal(jget_opt_str(obj, "s", 9, "fallback", &text, &err), 0);
    assert_string_equal(text, "text");
    assert_int_equal(jget_opt_str(obj, "i", 9, "fallback", &text, &err), -1);
    assert_int_equal(jget_opt_int(obj, "n", 0, 9, 3, &number, &err), 0);
    assert_int_equal(number, 3);
    assert_int_equal(jget_opt_int(obj, "i", 6, 9, 7, &number, &err), -1);
    assert_int_equal(number, 3);
    assert_int_equal(jget_opt_bool(obj, "none", true, &flag, &err), 0);
    assert_true(flag);
    assert_int_equal(jget_opt_bool(obj, "s", true, &flag, &err), -1);
    assert_int_equal(jget_opt_int(NULL, "i", 0, 9, 7, &number, &err), 0);
    assert_int_equal(number, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),     cmocka_unit_test(test_whole_numbers),
        cmocka_unit_test(test_depth),    cmocka_unit_test(test_required),
        cmocka_unit_test(test_optional),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
