/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a handler answers: a status, headers, and a body in memory or from a producer.
 * Invariant: a reply owns everything in it; reply_done frees it in any state.
 */
#pragma once

#include "libcommon/buf.h"
#include "libcommon/uuid.h"

#include <jansson.h>

#define REPLY_HEADERS_MAX 12U

struct exchange;

/* Takes one header of an answer. */
typedef void (*reply_header_fn)(void *cls, const char *name, const char *value);

/* Writes the body with exchange_write() in a thread of its own; -1 cuts the connection, so that
 * the client sees an answer that is not complete. */
typedef int (*reply_stream_fn)(void *ctx, struct exchange *ex, struct err *err);

/* How a stream of events begins. */
enum events_start {
    EVENTS_NEW,     /* with what comes from now on */
    EVENTS_RESUMED, /* where an earlier one ended */
    EVENTS_RESET,   /* from now on, as what came after the earlier one is no longer kept */
};

struct reply {
    unsigned status;
    const char *content_type; /* static text; NULL: none */
    struct {
        const char *name; /* static text */
        char *value;
    } headers[REPLY_HEADERS_MAX];
    size_t n_headers;
    char *body; /* malloc'd */
    bool own;   /* body is the gateway's own (JSON it made, the console), not a user's file */
    size_t len;
    reply_stream_fn stream; /* instead of body */
    void *stream_ctx;
    void (*stream_free)(void *ctx);
    int64_t stream_len;           /* -1: unknown */
    char stream_owner[UUID_TEXT]; /* whose share of the threads it takes; "": who asks */
    bool events;                  /* the event hub writes the body, as long as the client stays */
    enum events_start events_start;
    int64_t last_pos; /* of events: the stream has what comes after it */
};

void reply_done(struct reply *reply);

#define REPLY_TAG_SIZE 17U /* with its NUL */

/* What the entity tag of a JSON body is made of: the beginning of its digest. */
int reply_tag(const char *body, size_t len, char ret_tag[REPLY_TAG_SIZE],
              struct err *err) WARN_UNUSED;
/* Adds a header; name is static text, value is copied. */
int reply_header(struct reply *reply, const char *name, const char *value,
                 struct err *err) WARN_UNUSED;
/* Replaces Retry-After; without memory the old one stays. */
void reply_retry_after(struct reply *reply, int64_t seconds);
/* A JSON body; takes the reference of json, also on failure; NULL counts as out of memory. */
int reply_take_json(struct reply *reply, unsigned status, json_t *json,
                    struct err *err) WARN_UNUSED;
/* Bytes of a buffer become the body; the buffer is empty afterwards. */
void reply_take_buf(struct reply *reply, unsigned status, const char *content_type,
                    struct buf *buf);
