/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traces: a context that goes from the HTTP request through rows and Kafka headers into every unit
 * (W3C Trace Context), and spans that tell what took how long. otlp.h sends them away.
 * Invariants: with tracing off, or in a trace that is not sampled, a span costs a branch; a span
 * never holds text of documents, names, addresses or secrets, only what the code itself names.
 * Refuses to block, and to fail: a span that cannot be kept is counted, and that is all.
 */
#pragma once

#include "libcommon/err.h"

#define TRACE_PARENT_SIZE 56 /* "00-<32 hex>-<16 hex>-<2 hex>" and its end */
#define TRACE_ATTRS_MAX 14U
#define TRACE_TEXT_MAX 72U

/* Where in which trace something happens. */
struct trace_ctx {
    uint8_t trace[16];
    uint8_t span[8];
    bool sampled;
    bool valid; /* false: in none */
};

enum trace_kind { /* OTLP's numbers */
                  TRACE_INTERNAL = 1,
                  TRACE_SERVER,
                  TRACE_CLIENT,
                  TRACE_PRODUCER,
                  TRACE_CONSUMER,
};

struct trace_attr {
    const char *key;
    bool is_text;
    int64_t number;
    char text[TRACE_TEXT_MAX];
};

/* One span, on its maker's stack or in its struct; all but ctx is meaningless unless live. */
struct trace_span {
    struct trace_ctx ctx; /* what is handed on to those below */
    bool live;            /* recorded */
    bool failed;
    bool has_parent;
    bool has_link;
    enum trace_kind kind;
    uint8_t parent[8];
    uint64_t start_ns; /* since the epoch; may be set back before the end */
    char name[TRACE_TEXT_MAX];
    char error[TRACE_TEXT_MAX];
    struct trace_ctx link;
    size_t n_attrs;
    struct trace_attr attrs[TRACE_ATTRS_MAX];
    struct trace_ctx outer; /* of trace_begin: the thread's context before */
};

/* Takes a finished span; must not block. */
typedef void (*trace_sink_fn)(const struct trace_span *span, uint64_t end_ns);

/* From now on spans go to the sink, and this share of new traces is sampled. NULL: off again. */
void trace_setup(trace_sink_fn fn, double sample);
bool trace_on(void);

/* traceparent as text: version, ids, flags. false: it is none, by the letter of the specification
 * (later versions are read as far as this one goes). */
bool trace_parse(const char *text, struct trace_ctx *ret_ctx);
/* "" when ctx is in no trace. */
void trace_format(const struct trace_ctx *ctx, char ret_text[TRACE_PARENT_SIZE]);
/* The trace id as 32 hex digits, or "". */
void trace_id_text(const struct trace_ctx *ctx, char ret_text[33]);

/* A new span below parent, or in a new trace when parent is NULL or none; with tracing off the
 * parent's context is handed through. It changes nothing of the thread. */
void trace_open(struct trace_span *span, const char *name, enum trace_kind kind,
                const struct trace_ctx *parent);
/* Ends it. A span is ended once. */
void trace_close(struct trace_span *span);

/* The thread's context; and another one in its place, of which the old one is the answer. */
const struct trace_ctx *trace_current(void);
struct trace_ctx trace_switch(const struct trace_ctx *ctx);
/* The thread's context as traceparent, or NULL: for a row. */
const char *trace_current_text(char ret_text[TRACE_PARENT_SIZE]);

/* A span below the thread's context, which it becomes until trace_end. Nothing when the thread is
 * in no sampled trace. */
void trace_begin(struct trace_span *span, const char *name, enum trace_kind kind);
void trace_end(struct trace_span *span);
/* trace_end for a call that answered r: of *err only the code is kept. */
void trace_end_call(struct trace_span *span, int r, const struct err *err);

/* key is a constant. Texts are cut, and what is not printable ASCII becomes '?'. */
void trace_attr_text(struct trace_span *span, const char *key, const char *value);
void trace_attr_i64(struct trace_span *span, const char *key, int64_t value);
/* The span's status is an error of this code. */
void trace_fail(struct trace_span *span, const char *code);
/* Another span that this one has to do with. */
void trace_link(struct trace_span *span, const struct trace_ctx *to);

/* A span id that both who makes it and who refers to it can tell: by the trace and a text. */
void trace_derive(struct trace_ctx *ctx, const char *text);
uint64_t trace_now_ns(void);
