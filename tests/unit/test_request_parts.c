/* SPDX-License-Identifier: Apache-2.0 */
/* SRCS: services/ingest-gateway/uri.c */
/* SRCS: services/ingest-gateway/cond.c services/ingest-gateway/cursor.c */
/* SRCS: services/ingest-gateway/csv.c */
/*
 * The pure parts of a request and its answer: names, addresses, ranges, tags, cursors, CSV.
 */
#include "libcommon/names.h"
#include "services/ingest-gateway/cond.h"
#include "services/ingest-gateway/csv.h"
#include "services/ingest-gateway/cursor.h"
#include "services/ingest-gateway/uri.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int check(const char *name)
{
    struct err err = ERR_INIT;
    int rc = name_check(name, strlen(name), &err);

    if (rc < 0) {
        assert_string_equal(err.code, "invalid_name");
    }
    return rc;
}

static void test_names(void **state UNUSED)
{
    static const char *const good[] = {"a",
                                       "a.txt",
                                       "R\xc3\xa9sum\xc3\xa9 (1).pdf",
                                       ".hidden",
                                       "\xf0\x9f\x93\x84.pdf",
                                       "a..b",
                                       "%2e%2e",
                                       "con"};
    static const char *const bad[] = {"",
                                      ".",
                                      "..",
                                      " . ",
                                      "../x",
                                      "a/b",
                                      "a\\b",
                                      "a\nb",
                                      "a\x7f",
                                      "a\xc2\x85",
                                      "\xff",
                                      "a\xc0\xafz",
                                      "\xed\xa0\x80",
                                      "a\xe2\x80\xaexdp",
                                      "\xf4\x90\x80\x80",
                                      "\xe2\x82"};
    struct err err = ERR_INIT;
    char longer[300];

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(check(good[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(check(bad[i]), -1);
    }
    memset(longer, 'a', sizeof(longer));
    assert_int_equal(name_check(longer, 255, &err), 0);
    assert_int_equal(name_check(longer, 256, &err), -1);
    assert_int_equal(name_check("a\0b", 3, &err), -1);
}

static void test_name_forms(void **state UNUSED)
{
    char out[100];
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;

    name_for_display("a\n\xff"
                     "b",
                     4, out, sizeof(out));
    assert_string_equal(out, "a??b");
    name_for_display("\xe2\x82\xac\xe2\x82\xac", 6, out, 5);
    assert_string_equal(out, "\xe2\x82\xac");
    name_for_key("..R\xc3\xa9 sum/e..pdf", out, sizeof(out));
    assert_null(strstr(out, ".."));
    assert_null(strpbrk(out, "/ \xc3"));
    name_for_key("\xe2\x82\xac", out, sizeof(out));
    assert_string_equal(out, "f");
    buf_init(&buf, 1000);
    assert_int_equal(name_disposition("attachment", "a\"\xe2\x82\xac;.pdf", &buf, &err), 0);
    assert_string_equal(buf.data,
                        "attachment; filename=\"a__;.pdf\"; filename*=UTF-8''a%22%E2%82%AC%3B.pdf");
}

static void test_uri(void **state UNUSED)
{
    struct uri uri;
    struct err err = ERR_INIT;
    int64_t n = 0;
    static const char *const bad[] = {"x",          "/%",       "/%4",  "/%zz",
                                      "/a%2Fb",     "/a%00",    "/%ff", "/a?x=%0a",
                                      "/a?x=1&x=2", "/a?x=%c3", "*"};

    assert_int_equal(uri_parse("/a%20b/c?q=x+y%26z&e&limit=7&f=", &uri, &err), 0);
    assert_string_equal(uri.path, "/a b/c");
    assert_string_equal(uri_arg(&uri, "q"), "x y&z");
    assert_null(uri_arg(&uri, "e"));
    assert_null(uri_arg(&uri, "f"));
    assert_int_equal(uri_arg_int(&uri, "limit", 1, 10, 5, &n, &err), 0);
    assert_int_equal(n, 7);
    assert_int_equal(uri_arg_int(&uri, "limit", 1, 6, 5, &n, &err), -1);
    assert_int_equal(uri_arg_int(&uri, "none", 1, 6, 5, &n, &err), 0);
    assert_int_equal(n, 5);
    uri_done(&uri);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(uri_parse(bad[i], &uri, &err), -1);
        assert_string_equal(err.code, "bad_request");
    }
    assert_false(decimal_parse("-1", 0, 10, &n) || decimal_parse("", 0, 10, &n) ||
                 decimal_parse("1e3", 0, 1000000, &n) ||
                 decimal_parse("9999999999999999999", 0, INT64_MAX, &n));
    assert_true(uuid_text_valid("01900000-0000-7000-8000-00000000000a"));
    assert_false(uuid_text_valid("01900000-0000-7000-8000-00000000000A"));
    assert_false(uuid_text_valid("01900000-0000-7000-8000-00000000000"));
}

static enum range_kind range(const char *h, uint64_t size, uint64_t *o, uint64_t *l)
{
    *o = 0;
    *l = 0;
    return range_parse(h, size, o, l);
}

static void test_range(void **state UNUSED)
{
    static const char *const none[] = {
        "bytes=",    "bytes=-",       "bytes=a-b",  "items=0-1",
        "bytes=5-2", "bytes=0-1,3-4", "bytes=0-1x", "bytes=99999999999999999999-",
        "bytes 0-1"};
    uint64_t o;
    uint64_t l;

    assert_int_equal(range("bytes=0-0", 10, &o, &l), RANGE_PART);
    assert_true(o == 0 && l == 1);
    assert_int_equal(range("bytes=3-", 10, &o, &l), RANGE_PART);
    assert_true(o == 3 && l == 7);
    assert_int_equal(range("bytes=-4", 10, &o, &l), RANGE_PART);
    assert_true(o == 6 && l == 4);
    assert_int_equal(range("bytes=-40", 10, &o, &l), RANGE_PART);
    assert_true(o == 0 && l == 10);
    assert_int_equal(range("Bytes= 2-99", 10, &o, &l), RANGE_PART);
    assert_true(o == 2 && l == 8);
    assert_int_equal(range("bytes=10-", 10, &o, &l), RANGE_UNSATISFIABLE);
    assert_int_equal(range("bytes=-0", 10, &o, &l), RANGE_UNSATISFIABLE);
    assert_int_equal(range("bytes=0-", 0, &o, &l), RANGE_UNSATISFIABLE);
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        assert_int_equal(range(none[i], 10, &o, &l), RANGE_WHOLE);
    }
    assert_int_equal(range(NULL, 10, &o, &l), RANGE_WHOLE);
}

static void test_conditions(void **state UNUSED)
{
    assert_true(etag_listed("\"a\"", "\"a\""));
    assert_true(etag_listed("\"b\", W/\"a\"", "\"a\""));
    assert_true(etag_listed("*", "\"a\""));
    assert_false(etag_listed("\"b\"", "\"a\""));
    assert_false(etag_listed("a", "\"a\""));
    assert_false(etag_listed("\"open", "\"a\""));
    assert_false(etag_listed(NULL, "\"a\""));
    assert_true(etag_listed("\"a-gz\"", "\"a\""));
    assert_true(etag_listed("\"a\"", "\"a-gz\""));
    assert_false(etag_listed("\"-gz\"", "\"a\""));
    assert_false(etag_listed("\"\"", "\"a\""));
    assert_true(etag_matches("\"b\", \"a\"", "\"a\""));
    assert_true(etag_matches("W/\"a\", \"a-gz\"", "\"a\""));
    assert_false(etag_matches("W/\"a\"", "\"a\""));
    assert_true(accept_gzip("br, gzip"));
    assert_true(accept_gzip("*;q=0.1"));
    assert_false(accept_gzip("gzip;q=0, *"));
    assert_false(accept_gzip("identity"));
    assert_false(accept_gzip(NULL));
    assert_true(accept_prefers_json("application/json"));
    assert_true(accept_prefers_json("text/html, Application/JSON;q=0.9"));
    assert_false(accept_prefers_json("text/plain, application/json;q=0.5"));
    assert_false(accept_prefers_json("application/json;q=0"));
    assert_false(accept_prefers_json("*/*"));
    assert_false(accept_prefers_json(NULL));
    assert_true(accept_names("text/csv, */*", "text/csv"));
    assert_false(accept_names("text/csv;q=0", "text/csv"));
}

static void test_cursor(void **state UNUSED)
{
    static const char id[] = "01900000-0000-7000-8000-00000000000a";
    static const char *const values[] = {"", "a", "ab", "a|b", "\xe2\x82\xac \"x\""};
    struct cursor c;
    struct err err = ERR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        char *text = cursor_encode("-name", id, values[i]);
        assert_non_null(text);
        assert_null(strpbrk(text, "+/="));
        assert_int_equal(cursor_decode(text, "-name", &c, &err), 0);
        assert_string_equal(c.id, id);
        assert_string_equal(c.value, values[i]);
        assert_int_equal(cursor_decode(text, "name", &c, &err), -1);
        text[3] = text[3] == 'A' ? 'B' : 'A';
        if (cursor_decode(text, "-name", &c, &err) == 0) {
            assert_true(uuid_text_valid(c.id));
        }
        free(text);
    }
    assert_int_equal(cursor_decode("!!!", "name", &c, &err), -1);
    assert_int_equal(cursor_decode("", "name", &c, &err), -1);
    assert_string_equal(err.code, "bad_request");
}

static void csv_is(json_t *value, const char *want)
{
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;

    buf_init(&buf, 1000);
    assert_int_equal(csv_json(&buf, value, &err), 0);
    assert_string_equal(buf.data ? buf.data : "", want);
    json_decref(value);
}

static void test_csv(void **state UNUSED)
{
    csv_is(json_string("plain"), "plain");
    csv_is(json_string("a,b"), "\"a,b\"");
    csv_is(json_string("say \"hi\"\n"), "\"say \"\"hi\"\"\n\"");
    csv_is(json_string("=1+2"), "\"'=1+2\"");
    csv_is(json_string("@SUM(A1)"), "\"'@SUM(A1)\"");
    csv_is(json_string("-cmd"), "\"'-cmd\"");
    csv_is(json_string("+49 30"), "\"'+49 30\"");
    csv_is(json_string("\tx"), "\"'\tx\"");
    csv_is(json_string(""), "");
    csv_is(json_integer(-5), "-5");
    csv_is(json_real(1.5), "1.5");
    csv_is(json_true(), "true");
    csv_is(json_null(), "");
    csv_is(json_pack("[s]", "=x"), "\"[\"\"=x\"\"]\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),      cmocka_unit_test(test_name_forms),
        cmocka_unit_test(test_uri),        cmocka_unit_test(test_range),
        cmocka_unit_test(test_conditions), cmocka_unit_test(test_cursor),
        cmocka_unit_test(test_csv),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
