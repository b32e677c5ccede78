/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts and spans. https://www.w3.org/TR/trace-context/ says how a traceparent looks and what is
 * wrong with one; the share of sampled traces is taken from the trace id, so that every process
 * comes to the same answer.
 */
#include "libcommon/trace.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static _Atomic(trace_sink_fn) sink;
static uint64_t sample_below; /* of 2^56; set before threads */

static _Thread_local struct trace_ctx current;

void trace_setup(trace_sink_fn fn, double sample)
{
    sample_below = (uint64_t)(sample * (double)(1ULL << 56));
    atomic_store(&sink, fn);
}

bool trace_on(void)
{
    return atomic_load_explicit(&sink, memory_order_relaxed) != NULL;
}

uint64_t trace_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* Text ------------------------------------------------------------------------------------------*/

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Lower case only, as the specification wants it. */
static bool read_hex(const char *text, uint8_t *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int high = hex_digit(text[2 * i]);
        int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);
        if (low < 0) {
            return false;
        }
        ret[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

static void write_hex(const uint8_t *data, size_t n, char *ret)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        ret[2 * i] = digits[data[i] >> 4];
        ret[2 * i + 1] = digits[data[i] & 15];
    }
    ret[2 * n] = '\0';
}

static bool all_zero(const uint8_t *data, size_t n)
{
    uint8_t any = 0;

    for (size_t i = 0; i < n; i++) {
        any |= data[i];
    }
    return any == 0;
}

bool trace_parse(const char *text, struct trace_ctx *ret_ctx)
{
    struct trace_ctx ctx = {.valid = true};
    uint8_t version = 0, flags = 0;
    size_t len = text ? strnlen(text, 512) : 0;

    if (len < TRACE_PARENT_SIZE - 1 || text[2] != '-' || text[35] != '-' || text[52] != '-' ||
        !read_hex(text, &version, 1) || version == 0xff || !read_hex(text + 3, ctx.trace, 16) ||
        !read_hex(text + 36, ctx.span, 8) || !read_hex(text + 53, &flags, 1) ||
        all_zero(ctx.trace, 16) || all_zero(ctx.span, 8)) {
        return false;
    }
    if (len > TRACE_PARENT_SIZE - 1 && (version == 0 || text[55] != '-')) {
        return false;
    }
    ctx.sampled = flags & 1;
    *ret_ctx = ctx;
    return true;
}

void trace_format(const struct trace_ctx *ctx, char ret_text[TRACE_PARENT_SIZE])
{
    char trace[33], span[17];

    ret_text[0] = '\0';
    if (ctx->valid) {
        write_hex(ctx->trace, 16, trace);
        write_hex(ctx->span, 8, span);
        snprintf(ret_text, TRACE_PARENT_SIZE, "00-%s-%s-%s", trace, span,
                 ctx->sampled ? "01" : "00");
    }
}

void trace_id_text(const struct trace_ctx *ctx, char ret_text[33])
{
    ret_text[0] = '\0';
    if (ctx->valid) {
        write_hex(ctx->trace, 16, ret_text);
    }
}

/* Ids -------------------------------------------------------------------------------------------*/

static void random_bytes(uint8_t *data, size_t n)
{
    if (getrandom(data, n, GRND_NONBLOCK) != (ssize_t)n) {
        uint64_t t = clock_mono_us();
        memcpy(data, &t, n < sizeof(t) ? n : sizeof(t));
    }
    data[n - 1] |= 1; /* none is all zero */
}

static bool is_sampled(const uint8_t trace[16])
{
    uint64_t low = 0;

    for (int i = 9; i < 16; i++) {
        low = low << 8 | trace[i];
    }
    return low < sample_below;
}

/* No secret is kept by it, so a short hash does (FNV-1a, finished as splitmix64 does). */
void trace_derive(struct trace_ctx *ctx, const char *text)
{
    uint64_t h = 0xcbf29ce484222325ULL;

    for (size_t i = 0; i < sizeof(ctx->trace); i++) {
        h = (h ^ ctx->trace[i]) * 0x100000001b3ULL;
    }
    for (; *text; text++) {
        h = (h ^ (unsigned char)*text) * 0x100000001b3ULL;
    }
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ULL;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebULL;
    h = (h ^ (h >> 31)) | 1;
    memcpy(ctx->span, &h, sizeof(ctx->span));
}

/* Spans -----------------------------------------------------------------------------------------*/

static void copy_text(char *ret, size_t size, const char *text)
{
    size_t n = 0;

    for (; text[n] && n < size - 1; n++) {
        ret[n] = text[n] >= 0x20 && text[n] < 0x7f ? text[n] : '?';
    }
    ret[n] = '\0';
}

void trace_open(struct trace_span *span, const char *name, enum trace_kind kind,
                const struct trace_ctx *parent)
{
    bool below = parent && parent->valid;

    span->live = false;
    span->ctx = below ? *parent : (struct trace_ctx){.valid = false};
    if (!trace_on() || (below && !parent->sampled)) {
        return;
    }
    if (!below) {
        random_bytes(span->ctx.trace, sizeof(span->ctx.trace));
        span->ctx.sampled = is_sampled(span->ctx.trace);
        span->ctx.valid = true;
    }
    random_bytes(span->ctx.span, sizeof(span->ctx.span));
    if (!span->ctx.sampled) {
        return;
    }
    span->live = true;
    span->failed = span->has_link = false;
    span->n_attrs = 0;
    span->kind = kind;
    span->has_parent = below;
    if (below) {
        memcpy(span->parent, parent->span, sizeof(span->parent));
    }
    copy_text(span->name, sizeof(span->name), name);
    span->start_ns = trace_now_ns();
}

void trace_close(struct trace_span *span)
{
    trace_sink_fn fn = atomic_load(&sink);

    if (span->live && fn) {
        uint64_t now = trace_now_ns();
        fn(span, now > span->start_ns ? now : span->start_ns);
    }
    span->live = false;
}

const struct trace_ctx *trace_current(void)
{
    return &current;
}

struct trace_ctx trace_switch(const struct trace_ctx *ctx)
{
    struct trace_ctx before = current;

    current = *ctx;
    return before;
}

const char *trace_current_text(char ret_text[TRACE_PARENT_SIZE])
{
    trace_format(&current, ret_text);
    return ret_text[0] ? ret_text : NULL;
}

void trace_begin(struct trace_span *span, const char *name, enum trace_kind kind)
{
    span->live = false;
    if (!current.valid || !current.sampled) {
        return;
    }
    trace_open(span, name, kind, &current);
    if (span->live) {
        span->outer = trace_switch(&span->ctx);
    }
}

void trace_end(struct trace_span *span)
{
    if (span->live) {
        trace_switch(&span->outer);
        trace_close(span);
    }
}

void trace_end_call(struct trace_span *span, int r, const struct err *err)
{
    if (span->live && r < 0) {
        trace_fail(span, err ? err->code : "error");
    }
    trace_end(span);
}

static struct trace_attr *add_attr(struct trace_span *span, const char *key)
{
    if (!span->live || span->n_attrs == TRACE_ATTRS_MAX) {
        return NULL;
    }
    struct trace_attr *attr = &span->attrs[span->n_attrs++];
    attr->key = key;
    return attr;
}

void trace_attr_text(struct trace_span *span, const char *key, const char *value)
{
    struct trace_attr *attr = value ? add_attr(span, key) : NULL;

    if (attr) {
        attr->is_text = true;
        copy_text(attr->text, sizeof(attr->text), value);
    }
}

void trace_attr_i64(struct trace_span *span, const char *key, int64_t value)
{
    struct trace_attr *attr = add_attr(span, key);

    if (attr) {
        attr->is_text = false;
        attr->number = value;
    }
}

void trace_fail(struct trace_span *span, const char *code)
{
    if (span->live) {
        span->failed = true;
        copy_text(span->error, sizeof(span->error), code);
        trace_attr_text(span, "error.type", code);
    }
}

void trace_link(struct trace_span *span, const struct trace_ctx *to)
{
    if (span->live) {
        span->has_link = true;
        span->link = *to;
    }
}
