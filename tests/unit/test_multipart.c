/* SPDX-License-Identifier: Apache-2.0 */
/* SRCS: services/ingest-gateway/multipart.c services/ingest-gateway/multipart_header.c */
/*
 * The multipart parser: the same events for any slicing, and an error for everything hostile.
 */
#include "services/ingest-gateway/multipart.h"

#include "libcommon/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What happened, as text: [name|filename|type:data] a part. */
struct trace {
    struct buf text;
};

static int on_begin(void *ctx, const struct multipart_part *part, struct err *err)
{
    struct trace *t = ctx;

    return buf_printf(&t->text, err, "[%s|%s|%s:", part->name,
                      part->filename ? part->filename : "-",
                      part->content_type ? part->content_type : "-");
}

static int on_data(void *ctx, const char *data, size_t len, struct err *err)
{
    struct trace *t = ctx;

    return buf_append(&t->text, data, len, err);
}

static int on_end(void *ctx, struct err *err)
{
    struct trace *t = ctx;

    return buf_puts(&t->text, "]", err);
}

static const struct multipart_events events = {on_begin, on_data, on_end};

static int run(const char *body, size_t len, size_t step, unsigned max_parts, struct trace *trace,
               struct err *err)
{
    CLEANUP(multipart_cleanup) struct multipart *parser = NULL;

    buf_init(&trace->text, 1 << 20);
    assert_int_equal(multipart_new("xYz", max_parts, &events, trace, &parser, err), 0);
    for (size_t i = 0; i < len; i += step) {
        if (multipart_feed(parser, body + i, min_size(step, len - i), err) < 0) {
            return -1;
        }
    }
    return multipart_finish(parser, err);
}

static const size_t steps[] = {1, 7, 61, 1 << 20};

static void expect_bytes(const char *body, size_t len, const char *want)
{
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct trace trace;
        struct err err = ERR_INIT;
        int rc = run(body, len, steps[i], 10, &trace, &err);
        if (rc < 0) {
            print_error("step %zu: %s\n", steps[i], err.msg);
        }
        assert_int_equal(rc, 0);
        assert_string_equal(trace.text.data ? trace.text.data : "", want);
        buf_done(&trace.text);
    }
}

static void expect(const char *body, const char *want)
{
    expect_bytes(body, strlen(body), want);
}

static void expect_error_bytes(const char *body, size_t len, const char *code)
{
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct trace trace;
        struct err err = ERR_INIT;
        assert_int_equal(run(body, len, steps[i], 3, &trace, &err), -1);
        assert_string_equal(err.code, code);
        buf_done(&trace.text);
    }
}

static void expect_error(const char *body, const char *code)
{
    expect_error_bytes(body, strlen(body), code);
}

#define CD "Content-Disposition: form-data; name=\"file\""

static void test_parts(void **state UNUSED)
{
    expect("--xYz\r\n" CD
           "; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nhello\r\n--xYz--",
           "[file|a.txt|text/plain:hello]");
    expect("--xYz\r\n" CD "\r\n\r\none\r\n--xYz\r\n" CD "\r\n\r\ntwo\r\n--xYz--\r\nepilogue",
           "[file|-|-:one][file|-|-:two]");
    expect("preamble\r\n--xYz\t \r\n" CD "\r\n\r\n\r\n--xYz--", "[file|-|-:]");
    expect("--xYz--", "");
}

/* Bytes that look like a delimiter for a while are data. */
static void test_false_delimiters(void **state UNUSED)
{
    expect("--xYz\r\n" CD "\r\n\r\n\r\n--xY\r\n--x\r\r\n-\r\n--xYz--",
           "[file|-|-:\r\n--xY\r\n--x\r\r\n-]");
    expect("--xYz\r\n" CD "\r\n\r\n--xYa\r\n--xYz--", "[file|-|-:--xYa]");
    expect("--xYz\r\n" CD "\r\n\r\n-\r\n--xYz--", "[file|-|-:-]");
    expect("--xYz\r\n" CD "\r\n\r\nend\r\n\r\n--xYz--", "[file|-|-:end\r\n]");
    expect("--xYz\r\n" CD "\r\n\r\n--xYz--", "[file|-|-:]");
}

static void test_binary(void **state UNUSED)
{
    static const char body[] = "--xYz\r\n" CD "\r\n\r\na\0b\r\0\n\r\n--xYz--";
    struct trace trace;
    struct err err = ERR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        assert_int_equal(run(body, sizeof(body) - 1, steps[i], 2, &trace, &err), 0);
        assert_int_equal(trace.text.len, strlen("[file|-|-:]") + 6);
        assert_memory_equal(trace.text.data + 10, "a\0b\r\0\n", 6);
        buf_done(&trace.text);
    }
}

static void test_names(void **state UNUSED)
{
    expect(
        "--xYz\r\ncontent-disposition: FORM-DATA; NAME=file; FileName=plain.txt\r\n\r\n\r\n--xYz--",
        "[file|plain.txt|-:]");
    expect("--xYz\r\n" CD "; filename=\"a\\\"b\\\\c;d.txt\"\r\n\r\n\r\n--xYz--",
           "[file|a\"b\\c;d.txt|-:]");
    expect("--xYz\r\n" CD "; filename=\"C:\\dir\\x.txt\"\r\n\r\n\r\n--xYz--",
           "[file|C:\\dir\\x.txt|-:]");
    expect("--xYz\r\n" CD "; filename=\"x\"; filename*=UTF-8''%e2%82%ac.txt\r\n\r\n\r\n--xYz--",
           "[file|\xe2\x82\xac.txt|-:]");
    expect("--xYz\r\n" CD "; filename*=utf-8'de'n%C3%A4.txt; filename=\"x\"\r\n\r\n\r\n--xYz--",
           "[file|n\xc3\xa4.txt|-:]");
    expect("--xYz\r\n" CD "; filename=\"%0D%0A.txt\"\r\n\r\n\r\n--xYz--", "[file|%0D%0A.txt|-:]");
    expect("--xYz\r\n" CD "; filename=\"\"\r\n\r\n\r\n--xYz--", "[file||-:]");
}

static void test_hostile(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "no boundary at all",
        "--xYz",
        "--xYz\r\n" CD "\r\n\r\ncut",
        "--xYz\r\n" CD "\r\n\r\ncut\r\n--xYz",
        "--xYz\r\n" CD "\r\n\r\ncut\r\n--xYz-",
        "--xYz\r\n" CD "\r\n\r\nx\r\n--xYzz\r\n\r\n--xYz--",
        "--xYz\r\n" CD "\r\n\r\nx\r\n--xYz-x",
        "--xYz\r\n" CD "\n\n\r\n--xYz--",
        "--xYz\r\n" CD "\r\n folded: x\r\n\r\n\r\n--xYz--",
        "--xYz\r\n\r\nno headers\r\n--xYz--",
        "--xYz\r\nContent-Type: text/plain\r\n\r\n\r\n--xYz--",
        "--xYz\r\nContent-Disposition: attachment; name=\"file\"\r\n\r\n\r\n--xYz--",
        "--xYz\r\nContent-Disposition: form-data\r\n\r\n\r\n--xYz--",
        "--xYz\r\nContent-Disposition: form-data; name=\"a\"; name=\"b\"\r\n\r\n\r\n--xYz--",
        "--xYz\r\nContent-Disposition: form-data; name=\"open\r\n\r\n\r\n--xYz--",
        "--xYz\r\n" CD "; filename=a; filename=b\r\n\r\n\r\n--xYz--",
        "--xYz\r\n" CD "; filename*=UTF-8''%zz\r\n\r\n\r\n--xYz--",
        "--xYz\r\n" CD "; filename*=latin1''x\r\n\r\n\r\n--xYz--",
        "--xYz\r\n" CD "\r\n" CD "\r\n\r\n\r\n--xYz--",
        "--xYz\r\n" CD "\r\nBad Name: x\r\n\r\n\r\n--xYz--",
        "--xYz\r\n" CD "\r\n: x\r\n\r\n\r\n--xYz--",
        "--xYz\r\n" CD "\r\nContent-Transfer-Encoding: base64\r\n\r\n\r\n--xYz--",
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        expect_error(bad[i], "malformed_multipart");
    }
    static const char nul[] = "--xYz\r\n" CD "; filename=\"a\0b\"\r\n\r\n\r\n--xYz--";
    expect_error_bytes(nul, sizeof(nul) - 1, "malformed_multipart");
}

static void test_limits(void **state UNUSED)
{
    static char body[40000];
    size_t n = (size_t)snprintf(body, sizeof(body), "--xYz\r\n" CD "\r\nX: ");

    memset(body + n, 'a', 20000);
    expect_error_bytes(body, n + 20000, "part_header_too_large");
    memset(body, 'p', 20000);
    expect_error_bytes(body, 20000, "malformed_multipart");
#define PART "--xYz\r\n" CD "\r\n\r\nx\r\n"
    expect(PART PART PART "--xYz--", "[file|-|-:x][file|-|-:x][file|-|-:x]");
    expect_error(PART PART PART PART "--xYz--", "too_many_parts");
}

static void test_boundary(void **state UNUSED)
{
    char b[MULTIPART_BOUNDARY_MAX + 1];
    struct err err = ERR_INIT;

    assert_int_equal(multipart_boundary("multipart/form-data; boundary=abc", b, &err), 0);
    assert_string_equal(b, "abc");
    assert_int_equal(multipart_boundary("Multipart/Form-Data;charset=x; BOUNDARY=\"a b\"", b, &err),
                     0);
    assert_string_equal(b, "a b");
    static const char *const bad[] = {"multipart/form-data",
                                      "multipart/form-data; boundary=",
                                      "multipart/form-data; boundary=a; boundary=b",
                                      "multipart/form-data; boundary=\"a \"",
                                      "multipart/form-data; boundary=a<b",
                                      "multipart/form-data; boundary=\"open"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(multipart_boundary(bad[i], b, &err), -1);
        assert_string_equal(err.code, "malformed_multipart");
    }
    assert_int_equal(multipart_boundary("application/json", b, &err), -1);
    assert_string_equal(err.code, "unsupported_media_type");
    assert_int_equal(multipart_boundary(NULL, b, &err), -1);
    assert_int_equal(multipart_boundary("multipart/form-data-x; boundary=a", b, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),    cmocka_unit_test(test_false_delimiters),
        cmocka_unit_test(test_binary),   cmocka_unit_test(test_names),
        cmocka_unit_test(test_hostile),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_boundary),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
