/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stage reports arrives in the document under the names that the completing statement reads.
 */
#include "libcommon/outcome.h"

#include "libcommon/jget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *dumped(const struct outcome *out)
{
    CLEANUP(free_cleanup) char *text = outcome_dump(out);
    json_t *doc = NULL;

    assert_non_null(text);
    assert_int_equal(jget_load(text, strlen(text), 1U << 24, &doc, NULL), 0);
    return doc;
}

static void test_empty(void **state)
{
    CLEANUP(outcome_cleanup) struct outcome *out = NULL;
    struct err err = ERR_INIT;
    static const char *const lists[] = {"artifacts", "pages", "units", "next", "spawn"};

    (void)state;
    assert_int_equal(outcome_new(3, &out, &err), 0);
    CLEANUP(json_cleanup) json_t *doc = dumped(out);
    assert_int_equal(json_integer_value(json_object_get(doc, "version")), 3);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        assert_true(json_is_array(json_object_get(doc, lists[i])));
    }
    assert_true(json_is_object(json_object_get(doc, "detail")));
    assert_null(json_object_get(doc, "pipeline"));
    assert_null(json_object_get(doc, "record"));
}

/* Read from the text, so that the completing statement knows what it can leave out. */
static void test_has(void **state)
{
    struct err err = ERR_INIT;

    (void)state;
    for (int what = 0; what < 16; what++) {
        CLEANUP(outcome_cleanup) struct outcome *out = NULL;
        assert_int_equal(outcome_new(1, &out, &err), 0);
        outcome_set_cost(out, 3);
        assert_int_equal(outcome_next(out, STAGE_AI, 0, 1, NULL, &err), 0);
        assert_true(!(what & OUTCOME_UNITS) || outcome_unit(out, 1, 1, NULL, &err) == 0);
        assert_true(!(what & OUTCOME_RESULTS) ||
                    outcome_artifact(out, "text", 0, "k", 1, "text/plain", NULL, &err) == 0);
        assert_true(!(what & OUTCOME_RECORD) || outcome_record(out, json_object(), &err) == 0);
        assert_true(!(what & OUTCOME_ENDS) ||
                    outcome_pipeline(out, PIPE_DONE, NULL, NULL, &err) == 0);
        CLEANUP(free_cleanup) char *text = outcome_dump(out);
        assert_int_equal(outcome_has(text), what);
    }
    assert_int_equal(outcome_has("{\"version\":1}"), 15);
    assert_int_equal(outcome_has("{\"has\":16,\"version\":1}"), 15);
    assert_int_equal(outcome_has("{\"has\":"), 15);
    assert_int_equal(outcome_has(""), 15);
}

static void check(const json_t *doc, const char *list, const char *want)
{
    CLEANUP(json_cleanup) json_t *expected = json_loads(want, 0, NULL);

    assert_non_null(expected);
    if (!json_equal(json_object_get(doc, list), expected)) {
        CLEANUP(free_cleanup) char *got = json_dumps(json_object_get(doc, list), JSON_ENCODE_ANY);
        fail_msg("%s is %s", list, got ? got : "nothing");
    }
}

static void test_members(void **state)
{
    CLEANUP(outcome_cleanup) struct outcome *out = NULL;
    struct err err = ERR_INIT;
    struct outcome_page page = {.page = 2,
                                .engine = "native",
                                .chars = 10,
                                .confidence = -1,
                                .width = 595.5,
                                .height = 842,
                                .text_key = "k",
                                .text_start = 5,
                                .text_bytes = 7};

    (void)state;
    assert_int_equal(outcome_new(1, &out, &err), 0);
    assert_int_equal(outcome_artifact(out, "text", 0, "a/b", 9, "text/plain", NULL, &err), 0);
    assert_int_equal(
        outcome_artifact(out, "page", 4, "a/c", 1, "image/webp", json_pack("{s:i}", "w", 2), &err),
        0);
    assert_int_equal(outcome_page(out, &page, &err), 0);
    assert_int_equal(outcome_unit(out, 1, 0, json_pack("{s:i}", "from", 1), &err), 0);
    assert_int_equal(outcome_next(out, STAGE_AI, 1, 3, NULL, &err), 0);
    assert_int_equal(outcome_spawn(out, STAGE_THUMBNAIL, 0, 1, NULL, &err), 0);
    assert_int_equal(outcome_pipeline(out, PIPE_DONE, NULL, NULL, &err), 0);
    assert_int_equal(outcome_record(out, json_pack("{s:s}", "recordId", "r"), &err), 0);
    assert_int_equal(outcome_detail(out, "pages", json_integer(4), &err), 0);
    outcome_no_thumbnail(out);
    CLEANUP(json_cleanup) json_t *doc = dumped(out);
    check(doc, "artifacts",
          "[{\"kind\":\"text\",\"key\":\"a/b\",\"bytes\":9,\"mime\":\"text/plain\",\"meta\":{}},"
          "{\"kind\":\"page\",\"key\":\"a/c\",\"bytes\":1,\"mime\":\"image/webp\","
          "\"meta\":{\"w\":2},\"page\":4}]");
    check(doc, "pages",
          "[{\"page\":2,\"engine\":\"native\",\"chars\":10,\"width\":595.5,\"height\":842.0,"
          "\"needs_ocr\":false,\"text_key\":\"k\",\"text_start\":5,\"text_bytes\":7}]");
    check(doc, "units", "[{\"stage\":0,\"unit\":1,\"cost\":1,\"input\":{\"from\":1}}]");
    check(doc, "next", "[{\"stage\":3,\"unit\":1,\"cost\":3}]");
    check(doc, "spawn", "[{\"stage\":5,\"unit\":0,\"cost\":1}]");
    check(doc, "pipeline", "{\"state\":2,\"code\":null,\"detail\":null}");
    check(doc, "record", "{\"recordId\":\"r\"}");
    check(doc, "detail", "{\"pages\":4}");
    assert_true(json_is_true(json_object_get(doc, "noThumbnail")));
}

static void test_limits(void **state)
{
    CLEANUP(outcome_cleanup) struct outcome *out = NULL;
    struct err err = ERR_INIT;
    int rc = 0, n = 0;

    (void)state;
    assert_int_equal(outcome_new(1, &out, &err), 0);
    while (rc == 0 && n < 100000) {
        rc = outcome_unit(out, ++n, 1, json_object(), &err);
    }
    assert_int_equal(rc, -1);
    assert_int_equal(n, 20001);
    assert_int_equal(err.class, ERR_PERMANENT);
    assert_string_equal(err.code, "too_large");
    /* Text that is not UTF-8 fits into no document. */
    assert_int_equal(outcome_artifact(out, "text", 0, "\xff", 9, "x", json_object(), &err), -1);
    outcome_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_has),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
