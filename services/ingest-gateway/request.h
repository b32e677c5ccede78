/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request as handlers see it. Handlers run in worker threads, may block on Postgres and the
 * store, and answer through a struct reply; they never see the HTTP library.
 * Invariant: when a handler with a scope runs, `who` is an authenticated account that has it, path
 * parameters have the form their name asks for, and a JSON body is complete and within its limit.
 */
#pragma once

#include "libcommon/uuid.h"
#include "services/ingest-gateway/reply.h"
#include "services/ingest-gateway/uri.h"

#define REQUEST_BODY_MAX ((size_t)1 << 20)
#define REQUEST_PARAMS_MAX 2U

struct gateway;
struct exchange;

enum scope {
    SCOPE_NONE = 0,
    SCOPE_READ = 1 << 0,
    SCOPE_WRITE = 1 << 1,
    SCOPE_ADMIN = 1 << 2,
};

struct principal {
    char user_id[UUID_TEXT];
    char key_id[40];
    char name[104];
    char role[12];
    unsigned scopes;
};

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
    H_COUNT,
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
    struct principal who;
    struct buf body;
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
};

/* The body as a JSON object; an absent body is an empty object when optional. The reference is the
 * caller's. ERR_PERMANENT "malformed_json" or "invalid_json". */
int request_json(struct request *req, bool optional, json_t **ret_json,
                 struct err *err) WARN_UNUSED;
/* Adds {pointer, detail} to req->errors and returns -1 with `invalid_value`. */
int request_invalid(struct request *req, const char *pointer, const char *detail, struct err *err);
