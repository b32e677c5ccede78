/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request as handlers see it. Handlers run in worker threads, may block on Postgres and the
 * store, and answer through a struct reply; they never see the HTTP library.
 * Invariant: when a handler with a scope runs, `who` is an authenticated account that has it, path
 * parameters have the form their name asks for, and a JSON body is complete and within its limit.
 */
#pragma once

#include "libcommon/trace.h"
#include "libcommon/uuid.h"
#include "services/ingest-gateway/principal.h"
#include "services/ingest-gateway/reply.h"
#include "services/ingest-gateway/uri.h"

#define REQUEST_BODY_MAX ((size_t)1 << 20)
#define REQUEST_PARAMS_MAX 2U

struct gateway;
struct exchange;

enum request_header {
    H_AUTHORIZATION,
    H_CONTENT_TYPE,
    H_ACCEPT,
    H_ACCEPT_ENCODING,
    H_RANGE,
    H_IF_RANGE,
    H_IF_MATCH,
    H_IF_NONE_MATCH,
    H_IDEMPOTENCY_KEY,
    H_LAST_EVENT_ID,
    H_TRACEPARENT,
    H_REQUEST_ID,
    H_COOKIE,
    H_CSRF,
    H_HOST,
    H_ORIGIN,
    H_SEC_FETCH_SITE,
    H_USER_AGENT,
    H_FORWARDED_FOR,
    H_FORWARDED_PROTO,
    H_COUNT,
};

/* What the audit log tells of this request beside what every request has; see audit.h. */
struct audit_note {
    const char *action;              /* static text; set by a handler instead of the route's */
    char target[80];                 /* "" : the path's first parameter */
    char actor[PRINCIPAL_NAME_SIZE]; /* who it says it is, where nobody is signed in */
    json_t *detail;
    bool skip;   /* no row */
    bool denied; /* whatever the status says: a browser that is sent back */
};

/* How the request stands with its rate limits; see limits.h. */
struct limit_note {
    bool passed;
    const char *name; /* static text: the bucket that is closest to its end; NULL: none was asked */
    double part;      /* of it that is left */
    int64_t quota;
    int64_t window_s;
    int64_t left;
    int64_t reset_s;
};

struct route;

struct request {
    struct gateway *gw;
    struct exchange *ex;
    char id[65];
    const char *method; /* static text */
    struct uri uri;
    const struct route *route;
    char params[REQUEST_PARAMS_MAX][UUID_TEXT]; /* of the pattern, in order */
    char *headers[H_COUNT];                     /* NULL when absent */
    struct trace_ctx trace;                     /* of the request's span, or what the caller sent */
    struct principal who;
    char address[46]; /* of the client; behind a trusted proxy the one it names */
    bool https;       /* between the client and us, or the trusted proxy in front */
    struct audit_note audit;
    struct limit_note limit;
    int64_t retry_after_s; /* for the answer to an error; 0: the usual */
    struct buf body;
    json_t *json;   /* the body of a route that takes JSON, an object; NULL without one */
    json_t *errors; /* validation errors for the problem document; may be NULL */
};

typedef int (*handler_fn)(struct request *req, struct reply *reply, struct err *err);

enum body_kind {
    BODY_NONE,   /* whatever comes is read and dropped */
    BODY_JSON,   /* collected, at most REQUEST_BODY_MAX */
    BODY_STREAM, /* the handler reads it with exchange_read() while it comes */
};

struct route {
    const char *method;  /* GET also answers HEAD */
    const char *pattern; /* "/api/v1/files/{id}/preview/{page}.webp" */
    enum scope scope;
    enum body_kind body;
    handler_fn handle;
    const char *audit; /* what the audit log calls it; NULL: it is not kept there */
};

/* Before the handler of any route: a body of one that takes JSON is an object, whether the handler
 * looks at it or not. Fills req->json; ERR_PERMANENT "malformed_json" or "invalid_json". */
int request_check_json(struct request *req, struct err *err) WARN_UNUSED;
/* The body as a JSON object; an absent body is an empty object when optional. The reference is the
 * caller's. ERR_PERMANENT "malformed_json". */
int request_json(struct request *req, bool optional, json_t **ret_json,
                 struct err *err) WARN_UNUSED;
bool text_plain(const char *text); /* without control characters of ASCII */
/* Adds {pointer, detail} to req->errors and returns -1 with `invalid_value`. */
int request_invalid(struct request *req, const char *pointer, const char *detail, struct err *err);
