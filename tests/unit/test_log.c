/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever a line is given, one valid JSON object comes out.
 */
#include "libcommon/log.h"

#include "libcommon/jget.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int saved_fd = -1;
static FILE *sink;

static int begin(void **state)
{
    (void)state;
    sink = tmpfile();
    assert_non_null(sink);
    saved_fd = dup(STDERR_FILENO);
    dup2(fileno(sink), STDERR_FILENO);
    log_setup("unit", LOG_INFO);
    return 0;
}

static int end(void **state)
{
    (void)state;
    log_context_clear();
    dup2(saved_fd, STDERR_FILENO);
    close(saved_fd);
    fclose(sink);
    return 0;
}

/* The one line written since the last call, parsed; NULL: nothing. */
static json_t *line(void)
{
    char text[16384];
    json_t *doc = NULL;
    struct err err = ERR_INIT;
    off_t len = lseek(fileno(sink), 0, SEEK_END);

    assert_in_range(len, 0, sizeof(text) - 1);
    assert_int_equal(pread(fileno(sink), text, (size_t)len, 0), len);
    assert_int_equal(ftruncate(fileno(sink), 0), 0);
    lseek(fileno(sink), 0, SEEK_SET);
    if (len == 0) {
        return NULL;
    }
    assert_int_equal(text[len - 1], '\n');
    assert_null(memchr(text, '\n', (size_t)len - 1));
    if (jget_load(text, (size_t)len, sizeof(text), &doc, &err) < 0) {
        dup2(saved_fd, STDERR_FILENO);
        fail_msg("%s: %.*s", err.msg, (int)len, text);
    }
    return doc;
}

static const char *str(const json_t *doc, const char *name)
{
    const char *value = json_string_value(json_object_get(doc, name));

    return value ? value : "(none)";
}

static void test_fields(void **state)
{
    (void)state;
    log_info("batch stored", kv_str("batch", "b1"), kv_i64("left", -5),
             kv_u64("bytes", UINT64_MAX / 4), kv_f64("share", 0.25), kv_bool("final", true),
             kv_str("none", NULL));
    CLEANUP(json_cleanup) json_t *doc = line();
    assert_string_equal(str(doc, "msg"), "batch stored");
    assert_string_equal(str(doc, "level"), "info");
    assert_string_equal(str(doc, "service"), "unit");
    assert_string_equal(str(doc, "batch"), "b1");
    assert_string_equal(str(doc, "none"), "");
    assert_int_equal(json_integer_value(json_object_get(doc, "left")), -5);
    assert_true(json_is_true(json_object_get(doc, "final")));
    assert_int_equal(strlen(str(doc, "time")), strlen("2026-01-02T03:04:05.678Z"));
}

static void test_levels(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    log_debug("hidden");
    assert_null(line());
    log_setup("unit", LOG_ERROR);
    log_warn("hidden");
    assert_null(line());
    err_set(&err, ERR_TRANSIENT, "io", "disk \"full\"");
    log_err(LOG_ERROR, "it failed", &err);
    CLEANUP(json_cleanup) json_t *doc = line();
    assert_string_equal(str(doc, "class"), "transient");
    assert_string_equal(str(doc, "code"), "io");
    assert_string_equal(str(doc, "reason"), "disk \"full\"");
    assert_int_equal(log_level_parse("warn"), LOG_WARN);
    assert_int_equal(log_level_parse("WARN"), -1);
}

static void test_hostile(void **state)
{
    static const char *const bad[] = {
        "\"\\\b\f\n\r\t\x01\x1f\x7f",
        "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
        "\xff\xfe",
        "cut \xe2\x82",
        "\xc0\xaf\xed\xa0\x80\xf5\x80\x80\x80",
        "\x80",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        log_info("hostile", kv_str("name", bad[i]), kv_i64("after", 1));
        CLEANUP(json_cleanup) json_t *doc = line();
        assert_int_equal(json_integer_value(json_object_get(doc, "after")), 1);
        if (i < 2) {
            assert_string_equal(str(doc, "name"), bad[i]);
        }
    }
    log_info("numbers", kv_f64("nan", NAN), kv_f64("inf", -INFINITY));
    CLEANUP(json_cleanup) json_t *doc = line();
    assert_non_null(doc);
}

static void test_long(void **state)
{
    static char big[10000];

    (void)state;
    memset(big, '\n', sizeof(big) - 1);
    log_info("long", kv_i64("before", 1), kv_str("big", big), kv_i64("after", 2));
    CLEANUP(json_cleanup) json_t *doc = line();
    assert_null(json_object_get(doc, "big")); /* left out whole */
    assert_int_equal(json_integer_value(json_object_get(doc, "before")), 1);
    assert_int_equal(json_integer_value(json_object_get(doc, "after")), 2);
}

static void test_text_form(void **state)
{
    char text[512] = "";

    (void)state;
    log_set_format("text");
    log_warn("it is late", kv_str("stage", "ocr"), kv_str("why", "two\nlines"), kv_i64("n", 3));
    log_set_format("json");
    assert_true(pread(fileno(sink), text, sizeof(text) - 1, 0) > 0);
    assert_string_equal(text + strlen("2026-01-02T03:04:05.678Z"),
                        " warn  unit: it is late stage=ocr why=\"two\\u000alines\" n=3\n");
}

static void test_context(void **state)
{
    char key[16], value[200];

    (void)state;
    memset(value, 'x', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    log_context_set("file", "f1");
    log_context_set("file", "f2");
    log_context_set("long", value);
    {
        log_info("with");
        CLEANUP(json_cleanup) json_t *doc = line();
        assert_string_equal(str(doc, "file"), "f2");
        assert_int_equal(strlen(str(doc, "long")), 79);
    }
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        log_context_set(key, "v");
    }
    {
        log_info("bounded");
        CLEANUP(json_cleanup) json_t *doc = line();
        assert_int_equal(json_object_size(doc), 4 + 8);
    }
    log_context_clear();
    log_info("without");
    CLEANUP(json_cleanup) json_t *doc = line();
    assert_int_equal(json_object_size(doc), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fields, begin, end),
        cmocka_unit_test_setup_teardown(test_levels, begin, end),
        cmocka_unit_test_setup_teardown(test_hostile, begin, end),
        cmocka_unit_test_setup_teardown(test_long, begin, end),
        cmocka_unit_test_setup_teardown(test_text_form, begin, end),
        cmocka_unit_test_setup_teardown(test_context, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
