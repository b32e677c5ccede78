/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trace contexts are read by the letter of W3C Trace Context and written back the same; spans nest
 * in their thread, respect the caller's sampling, and cost nothing while tracing is off. What is
 * written as protobuf can be found again, and broken bytes are survived.
 */
#include "libcommon/trace.h"

#include "libcommon/protobuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static struct trace_span seen[8];
static size_t n_seen;

static void keep(const struct trace_span *span, uint64_t end_ns)
{
    assert_true(end_ns >= span->start_ns);
    assert_true(n_seen < ARRAY_LEN(seen));
    seen[n_seen++] = *span;
}

static int begin(void **state)
{
    (void)state;
    n_seen = 0;
    trace_setup(keep, 1);
    return 0;
}

static int end(void **state)
{
    (void)state;
    trace_setup(NULL, 0);
    return 0;
}

static void test_text(void **state)
{
    static const char good[] = "00-" TRACE "-" SPAN "-01";
    static const char *const bad[] = {
        "",
        "00-" TRACE "-" SPAN "-0",
        "00-" TRACE "-" SPAN "-01-more",
        "ff-" TRACE "-" SPAN "-01",
        "00-0AF7651916cd43dd8448eb211c80319c-" SPAN "-01",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00_" TRACE "-" SPAN "-01",
        "00-" TRACE "-" SPAN "-zz",
        "cc-" TRACE "-" SPAN "-01.more",
    };
    struct trace_ctx ctx = {.valid = false};
    char text[TRACE_PARENT_SIZE], id[33];

    (void)state;
    assert_true(trace_parse(good, &ctx));
    assert_true(ctx.sampled);
    trace_format(&ctx, text);
    assert_string_equal(text, good);
    trace_id_text(&ctx, id);
    assert_string_equal(id, TRACE);
    assert_true(trace_parse("00-" TRACE "-" SPAN "-00", &ctx));
    assert_false(ctx.sampled);
    /* a later version is read as far as this one goes */
    assert_true(trace_parse("cc-" TRACE "-" SPAN "-01-what the future will bring", &ctx));
    assert_false(trace_parse(NULL, &ctx));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(trace_parse(bad[i], &ctx));
    }
    ctx.valid = false;
    trace_format(&ctx, text);
    assert_string_equal(text, "");
}

static void test_nesting(void **state)
{
    struct trace_ctx parent = {.valid = false};
    struct trace_span outer, inner;
    const struct err err = {.class = ERR_TRANSIENT, .code = "io"};

    (void)state;
    assert_true(trace_parse("00-" TRACE "-" SPAN "-01", &parent));
    trace_open(&outer, "outer", TRACE_SERVER, &parent);
    struct trace_ctx before = trace_switch(&outer.ctx);
    trace_begin(&inner, "inner\n", TRACE_CLIENT);
    trace_attr_text(&inner, "key", "caf\xc3\xa9");
    trace_attr_i64(&inner, "n", -7);
    trace_end_call(&inner, -1, &err);
    assert_memory_equal(trace_current()->span, outer.ctx.span, 8);
    trace_switch(&before);
    trace_close(&outer);
    assert_int_equal(n_seen, 2);
    assert_string_equal(seen[0].name, "inner?");
    assert_memory_equal(seen[0].parent, seen[1].ctx.span, 8);
    assert_memory_equal(seen[0].ctx.trace, parent.trace, 16);
    assert_memory_equal(seen[1].parent, parent.span, 8);
    assert_string_equal(seen[0].attrs[0].text, "caf??");
    assert_int_equal(seen[0].attrs[1].number, -7);
    assert_true(seen[0].failed);
    assert_string_equal(seen[0].error, "io");
    assert_false(trace_current()->valid);
}

static void test_sampling(void **state)
{
    struct trace_ctx parent = {.valid = false};
    struct trace_span span, child;
    int sampled = 0;

    (void)state;
    /* the caller said no: its context goes on, nothing is recorded */
    assert_true(trace_parse("00-" TRACE "-" SPAN "-00", &parent));
    trace_open(&span, "x", TRACE_SERVER, &parent);
    assert_false(span.live);
    assert_memory_equal(span.ctx.span, parent.span, 8);
    struct trace_ctx before = trace_switch(&span.ctx);
    trace_begin(&child, "y", TRACE_CLIENT);
    assert_false(child.live);
    trace_end(&child);
    trace_switch(&before);
    trace_close(&span);
    assert_int_equal(n_seen, 0);
    /* a share of those that begin here */
    trace_setup(keep, 0.25);
    for (int i = 0; i < 4000; i++) {
        trace_open(&span, "x", TRACE_SERVER, NULL);
        assert_true(span.ctx.valid);
        sampled += span.live ? 1 : 0;
    }
    assert_in_range(sampled, 700, 1300);
    trace_setup(keep, 0);
    trace_open(&span, "x", TRACE_SERVER, NULL);
    assert_false(span.live);
    /* off: what the caller sent goes through */
    trace_setup(NULL, 1);
    assert_true(trace_parse("00-" TRACE "-" SPAN "-01", &parent));
    trace_open(&span, "x", TRACE_SERVER, &parent);
    assert_false(span.live);
    assert_memory_equal(&span.ctx, &parent, sizeof(parent));
    trace_open(&span, "x", TRACE_SERVER, NULL);
    assert_false(span.ctx.valid);
}

static void test_limits(void **state)
{
    struct trace_span span;
    char text[300];

    (void)state;
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    trace_open(&span, text, TRACE_INTERNAL, NULL);
    for (size_t i = 0; i < 3 * TRACE_ATTRS_MAX; i++) {
        trace_attr_text(&span, "key", text);
    }
    trace_close(&span);
    assert_int_equal(seen[0].n_attrs, TRACE_ATTRS_MAX);
    assert_int_equal(strlen(seen[0].attrs[0].text), TRACE_TEXT_MAX - 1);
}

static void test_derived_ids(void **state)
{
    struct trace_ctx a = {.trace = {1}, .valid = true}, b = a, c = a;

    (void)state;
    trace_derive(&a, "file/1/0/1/1");
    trace_derive(&b, "file/1/0/1/1");
    trace_derive(&c, "file/1/0/1/2");
    assert_memory_equal(a.span, b.span, 8);
    assert_memory_not_equal(a.span, c.span, 8);
    b.trace[0] = 2;
    trace_derive(&b, "file/1/0/1/1");
    assert_memory_not_equal(a.span, b.span, 8);
}

static void test_protobuf(void **state)
{
    unsigned char data[64];
    struct pb pb = {.at = data, .end = data + sizeof(data)};
    struct pb_view all = {data, 0}, inner;
    uint64_t n = 0;

    (void)state;
    pb_fixed64(&pb, 7, 1);
    size_t at = pb_begin(&pb, 3);
    pb_string(&pb, 1, "text");
    pb_varint(&pb, 2, 300);
    pb_end(&pb, at);
    assert_false(pb.full);
    all.len = (size_t)(pb.at - data);
    assert_true(pb_find_bytes(&all, 3, &inner));
    assert_true(pb_find_varint(&inner, 2, &n));
    assert_int_equal(n, 300);
    assert_false(pb_find_varint(&all, 3, &n));
    for (size_t cut = 0; cut < all.len; cut++) {
        struct pb_view part = {data, cut};
        assert_false(pb_find_bytes(&part, 3, &inner));
    }
    for (int i = 0; i < 20; i++) {
        pb_string(&pb, 1, "0123456789");
    }
    assert_true(pb.full);
    assert_true(pb.at <= pb.end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text, begin, end),
        cmocka_unit_test_setup_teardown(test_nesting, begin, end),
        cmocka_unit_test_setup_teardown(test_sampling, begin, end),
        cmocka_unit_test_setup_teardown(test_limits, begin, end),
        cmocka_unit_test_setup_teardown(test_derived_ids, begin, end),
        cmocka_unit_test_setup_teardown(test_protobuf, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
