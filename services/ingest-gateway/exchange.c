/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The access handler as a state machine. Answers go out in the call after the body's end; an
 * earlier one either closes the connection (before the body) or goes around the library (inside
 * it), because the library can send nothing while a body is coming.
 */
#include "services/ingest-gateway/exchange.h"

#include "libcommon/log.h"
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/cond.h"
#include "services/ingest-gateway/cors.h"
#include "services/ingest-gateway/encoding.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/pool.h"
#include "services/ingest-gateway/problem.h"
#include "services/ingest-gateway/router.h"
#include "services/ingest-gateway/server.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

void *exchange_start(void *cls, const char *uri, struct MHD_Connection *conn)
{
    struct server *server = cls;
    struct exchange *ex = calloc(1, sizeof(*ex));
    pthread_condattr_t attr;

    if (!ex) {
        return NULL;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    ex->entry = info ? info->socket_context : NULL;
    ex->server = server;
    ex->conn = conn;
    ex->req.gw = server->gw;
    ex->req.ex = ex;
    ex->req.method = "?";
    ex->started_us = clock_mono_us();
    ex->refs = 1;
    buf_init(&ex->req.body, REQUEST_BODY_MAX);
    uuid_v7(ex->req.id);
    pthread_mutex_init(&ex->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&ex->cond, &attr);
    pthread_condattr_destroy(&attr);
    if (uri_parse(uri, &ex->req.uri, &ex->refusal) < 0) {
        ex->req.uri.path = NULL;
    }
    server_attach(server, ex->entry, ex);
    return ex;
}

struct exchange *exchange_ref(struct exchange *ex)
{
    pthread_mutex_lock(&ex->lock);
    ex->refs++;
    pthread_mutex_unlock(&ex->lock);
    return ex;
}

void exchange_unref(struct exchange *ex)
{
    pthread_mutex_lock(&ex->lock);
    bool last = --ex->refs == 0;
    pthread_mutex_unlock(&ex->lock);
    if (!last) {
        return;
    }
    struct server *server = ex->server;
    reply_done(&ex->reply);
    uri_done(&ex->req.uri);
    for (size_t i = 0; i < H_COUNT; i++) {
        free(ex->req.headers[i]);
    }
    buf_done(&ex->req.body);
    json_decref(ex->req.json);
    json_decref(ex->req.errors);
    free(ex->span);
    json_decref(ex->req.audit.detail);
    free(ex->ring);
    pthread_mutex_destroy(&ex->lock);
    pthread_cond_destroy(&ex->cond);
    free(ex);
    server_exchange_freed(server);
}

void exchange_wake(struct exchange *ex)
{
    if (ex->suspended) {
        ex->suspended = false;
        MHD_resume_connection(ex->conn);
    }
}

/* Lock held, in the connection's own thread. */
static void sleep_now(struct exchange *ex)
{
    ex->suspended = true;
    MHD_suspend_connection(ex->conn);
}

static void set_reply_error(struct exchange *ex, const struct err *err)
{
    struct reply reply;

    problem_reply(err, ex->req.id, ex->req.errors, &reply);
    if (ex->req.retry_after_s > 0) {
        reply_retry_after(&reply, ex->req.retry_after_s);
    }
    if (reply.status >= 500) {
        gateway_log_error(ex->req.gw, &ex->req, err);
    }
    pthread_mutex_lock(&ex->lock);
    reply_done(&ex->reply);
    ex->reply = reply;
    ex->replied = true;
    pthread_mutex_unlock(&ex->lock);
}

/* JSON that was asked for with GET gets a tag of its bytes, so that asking again costs little. */
static int tag_json(struct exchange *ex, struct reply *reply, struct err *err)
{
    struct request *req = &ex->req;
    char base[REPLY_TAG_SIZE];

    if (strcmp(req->route->method, "GET") != 0 || reply->status != 200 || !reply->body ||
        !reply->own || !reply->content_type ||
        strcmp(reply->content_type, "application/json") != 0) {
        return 0;
    }
    if (reply_tag(reply->body, reply->len, base, err) < 0) {
        return -1;
    }
    bool gzip = encoding_chosen(req, reply->content_type, reply->len);
    struct etag tag = encoding_tag(base, gzip);
    if (reply_header(reply, "ETag", tag.text, err) < 0 ||
        reply_header(reply, "Cache-Control", "private, no-cache", err) < 0) {
        return -1;
    }
    if (etag_listed(req->headers[H_IF_NONE_MATCH], tag.text)) {
        bool varies = encoding_varies(reply->content_type, reply->len);
        free(STEAL(reply->body));
        reply->len = 0;
        reply->status = 304;
        reply->content_type = NULL;
        return varies ? reply_header(reply, "Vary", "Accept-Encoding", err) : 0;
    }
    return 0;
}

/* The request's span, from its first byte on; its name comes with its end. */
static void begin_trace(struct exchange *ex)
{
    struct trace_ctx parent = {.valid = false};
    struct trace_span span;

    (void)trace_parse(ex->req.headers[H_TRACEPARENT], &parent);
    trace_open(&span, "request", TRACE_SERVER, &parent);
    ex->req.trace = span.ctx;
    if (span.live && (ex->span = malloc(sizeof(span)))) {
        span.start_ns -= (clock_mono_us() - ex->started_us) * 1000;
        *ex->span = span;
    }
}

static void end_trace(struct exchange *ex)
{
    struct trace_span *span = ex->span;
    const struct route *route = ex->req.route;

    if (!span || ex->reply.events) {
        return; /* a stream lasts as long as its reader likes */
    }
    const char *pattern = !route ? "none" : route == &console_route ? "console" : route->pattern;
    snprintf(span->name, sizeof(span->name), "%s %s", ex->req.method, pattern);
    trace_attr_text(span, "http.request.method", ex->req.method);
    trace_attr_text(span, "http.route", pattern);
    trace_attr_i64(span, "http.response.status_code", ex->status);
    trace_attr_text(span, "docfleet.request_id", ex->req.id);
    if (ex->status >= 500 || ex->cut) {
        trace_fail(span, ex->cut ? "body_cut" : "server_error");
    }
    trace_close(span);
}

/* A worker's job: credentials if still open, then the handler. */
static void run_handler(void *ctx)
{
    struct exchange *ex = ctx;
    const struct trace_ctx outer = trace_switch(&ex->req.trace);
    struct err err = ERR_INIT;
    struct reply reply = {0};
    gateway_log_context(&ex->req);
    int rc = ex->authorized ? 0 : gateway_authorize(ex->req.gw, &ex->req, false, &err);

    if (rc == 0) {
        gateway_take_view(&ex->req);
        rc = request_check_json(&ex->req, &err);
        rc = rc == 0 ? ex->req.route->handle(&ex->req, &reply, &err) : rc;
        audit_request(ex->req.gw, &ex->req, rc == 0 ? reply.status : problem_find(&err)->status);
    }
    db_view_take(DB_VIEW_NONE, NULL);
    if (rc == 0) {
        rc = tag_json(ex, &reply, &err);
    }
    if (rc == 0) {
        rc = encoding_apply(&ex->req, &reply, &err);
    }
    if (rc < 0) {
        reply_done(&reply);
        set_reply_error(ex, &err);
        pthread_mutex_lock(&ex->lock);
    } else {
        pthread_mutex_lock(&ex->lock);
        reply_done(&ex->reply);
        ex->reply = reply;
        ex->replied = true;
    }
    exchange_wake(ex);
    pthread_cond_broadcast(&ex->cond);
    pthread_mutex_unlock(&ex->lock);
    exchange_unref(ex);
    log_context_clear();
    trace_switch(&outer);
}

/* A worker's job before a body is asked for. */
static void run_authorize(void *ctx)
{
    struct exchange *ex = ctx;
    struct err err = ERR_INIT;

    if (gateway_authorize(ex->req.gw, &ex->req, false, &err) < 0) {
        set_reply_error(ex, &err);
    } else {
        ex->authorized = true;
    }
    pthread_mutex_lock(&ex->lock);
    exchange_wake(ex);
    pthread_mutex_unlock(&ex->lock);
    exchange_unref(ex);
}

static void set_overloaded(struct exchange *ex)
{
    struct err err = ERR_INIT;

    err_set(&err, ERR_TRANSIENT, "overloaded", "too many requests in work");
    set_reply_error(ex, &err);
}

/* Suspends, then queues; the order matters, since the job may end at once. */
static void sleep_and_submit(struct exchange *ex, struct pool *pool, pool_fn fn)
{
    pthread_mutex_lock(&ex->lock);
    ex->refs++;
    sleep_now(ex);
    pthread_mutex_unlock(&ex->lock);
    if (!pool_submit(pool, ex->req.who.user_id, fn, ex)) {
        set_overloaded(ex);
        pthread_mutex_lock(&ex->lock);
        exchange_wake(ex);
        pthread_mutex_unlock(&ex->lock);
        exchange_unref(ex);
    }
}

/* An answer before the body has come. */
static enum MHD_Result answer_early(struct exchange *ex)
{
    if (ex->has_body && ex->expects_continue) {
        return exchange_send(ex);
    }
    ex->phase = EX_DISCARD;
    return MHD_YES;
}

static enum MHD_Result refuse_early(struct exchange *ex, const struct err *err)
{
    set_reply_error(ex, err);
    return answer_early(ex);
}

/* Starts the handler of a streaming route; false: there is an answer already. */
static bool start_streaming(struct exchange *ex)
{
    ex->ring = malloc(RING_SIZE);
    ex->ring_cap = RING_SIZE;
    if (!ex->ring) {
        set_overloaded(ex);
        return false;
    }
    ex->streaming = true;
    exchange_ref(ex);
    if (!pool_submit(ex->req.gw->uploads, ex->req.who.user_id, run_handler, ex)) {
        ex->streaming = false;
        set_overloaded(ex);
        exchange_unref(ex);
        return false;
    }
    return true;
}

static enum MHD_Result begin_body(struct exchange *ex)
{
    ex->phase = EX_BODY;
    if (ex->has_body && ex->req.route->body == BODY_STREAM && !start_streaming(ex)) {
        return answer_early(ex);
    }
    return MHD_YES;
}

static bool is_json(const char *type)
{
    size_t n = type ? strcspn(type, "; \t") : 0;

    return n == 16 && strncasecmp(type, "application/json", 16) == 0;
}

/* What can be told from route and headers alone. */
static int check_request(struct exchange *ex, struct err *err)
{
    struct request *req = &ex->req;
    char allow[96];

    if (!req->uri.path) {
        *err = ex->refusal;
        return -1;
    }
    req->route = route_find(req->method, req->uri.path, req->params, allow, sizeof(allow));
    if (!req->route && allow[0] == '\0' && strncmp(req->uri.path, "/api/", 5) != 0) {
        req->route = &console_route;
        if (strcmp(req->method, "GET") != 0 && strcmp(req->method, "HEAD") != 0) {
            return err_set(err, ERR_PERMANENT, "method_not_allowed",
                           "this address takes GET, HEAD");
        }
    }
    if (!req->route) {
        return allow[0] != '\0' ? err_set(err, ERR_PERMANENT, "method_not_allowed",
                                          "this address takes %s", allow)
                                : err_set(err, ERR_PERMANENT, "not_found", "no such address");
    }
    if (req->route->body == BODY_JSON && ex->has_body && !is_json(req->headers[H_CONTENT_TYPE])) {
        return err_set(err, ERR_PERMANENT, "unsupported_media_type",
                       "this call takes application/json");
    }
    if (req->route->body != BODY_STREAM && ex->content_length > (int64_t)REQUEST_BODY_MAX) {
        return err_set(err, ERR_PERMANENT, "body_too_large", "the body exceeds %zu bytes",
                       REQUEST_BODY_MAX);
    }
    if (atomic_load(&req->gw->draining) && req->route->body == BODY_STREAM) {
        return err_set(err, ERR_TRANSIENT, "draining", "shutting down");
    }
    return 0;
}

/* The methods of the address, when it has others than the request's; else NULL. */
static const char *allowed(const struct err *err)
{
    return strcmp(err->code, "method_not_allowed") == 0 ? err->msg + strlen("this address takes ")
                                                        : NULL;
}

static void add_allow(struct exchange *ex, const struct err *err)
{
    struct err ignored = ERR_INIT;

    if (allowed(err) && reply_header(&ex->reply, "Allow", allowed(err), &ignored) < 0) {
        ex->reply.n_headers = 0;
    }
}

/* What a browser asks before a page of another origin may call. */
static bool answer_preflight(struct exchange *ex, const struct err *err)
{
    if (!allowed(err) || !cors_preflight(&ex->req, allowed(err), &ex->reply)) {
        return false;
    }
    ex->replied = true;
    return true;
}

static void find_origin(struct exchange *ex)
{
    struct request *req = &ex->req;
    const union MHD_ConnectionInfo *peer =
        MHD_get_connection_info(ex->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    bool tls = MHD_get_connection_info(ex->conn, MHD_CONNECTION_INFO_GNUTLS_SESSION) != NULL;

    origin_find(&req->gw->proxies, peer ? peer->client_addr : NULL, req->headers[H_FORWARDED_FOR],
                req->headers[H_FORWARDED_PROTO], tls, req->address, &req->https);
    req->https = req->https || strncmp(req->gw->public_url, "https://", 8) == 0;
}

static enum MHD_Result first_call(struct exchange *ex, const char *method)
{
    struct err err = ERR_INIT;

    if (exchange_check_headers(ex, method, &err) < 0) {
        set_reply_error(ex, &err);
        return exchange_send(ex); /* in the first call: the connection closes behind it */
    }
    begin_trace(ex);
    find_origin(ex);
    if (check_request(ex, &err) < 0) {
        if (!answer_preflight(ex, &err)) {
            set_reply_error(ex, &err);
            add_allow(ex, &err);
        }
        return answer_early(ex);
    }
    int rc = gateway_authorize(ex->req.gw, &ex->req, true, &err);
    if (rc < 0) {
        return refuse_early(ex, &err);
    }
    ex->authorized = rc == 0;
    if (ex->has_body && !ex->authorized) {
        ex->phase = EX_AUTH;
        sleep_and_submit(ex, ex->req.gw->work, run_authorize);
        return MHD_YES;
    }
    return begin_body(ex);
}

static enum MHD_Result take_stream(struct exchange *ex, const char *data, size_t *size)
{
    pthread_mutex_lock(&ex->lock);
    if (ex->replied) {
        pthread_mutex_unlock(&ex->lock);
        ex->phase = EX_DISCARD;
        return exchange_discard(ex, size);
    }
    size_t n = min_size(*size, ex->ring_cap - ex->ring_len);
    size_t tail = (ex->ring_head + ex->ring_len) % ex->ring_cap;
    size_t first = min_size(n, ex->ring_cap - tail);
    memcpy(ex->ring + tail, data, first);
    memcpy(ex->ring, data + first, n - first);
    ex->ring_len += n;
    ex->body_bytes += n;
    *size -= n;
    if (*size > 0) {
        sleep_now(ex);
    }
    pthread_cond_signal(&ex->cond);
    pthread_mutex_unlock(&ex->lock);
    atomic_fetch_add(&ex->progress, n);
    return MHD_YES;
}

static enum MHD_Result take_body(struct exchange *ex, const char *data, size_t *size)
{
    struct err err = ERR_INIT;

    if (ex->streaming) {
        return take_stream(ex, data, size);
    }
    ex->body_bytes += *size;
    atomic_fetch_add(&ex->progress, *size);
    if (ex->body_bytes > REQUEST_BODY_MAX) {
        err_set(&err, ERR_PERMANENT, "body_too_large", "the body exceeds %zu bytes",
                REQUEST_BODY_MAX);
    } else if (ex->req.route->body == BODY_JSON) {
        if (buf_append(&ex->req.body, data, *size, &err) == 0) {
            *size = 0;
            return MHD_YES;
        }
    } else {
        *size = 0;
        return MHD_YES;
    }
    set_reply_error(ex, &err);
    ex->phase = EX_DISCARD;
    return exchange_discard(ex, size);
}

static enum MHD_Result end_of_body(struct exchange *ex)
{
    ex->phase = EX_HANDLE;
    if (!ex->streaming) {
        if (ex->req.route->body == BODY_STREAM) { /* there was no body at all */
            ex->ring_eof = true;
            sleep_and_submit(ex, ex->req.gw->uploads, run_handler);
        } else {
            sleep_and_submit(ex, ex->req.gw->work, run_handler);
        }
        return MHD_YES;
    }
    pthread_mutex_lock(&ex->lock);
    ex->ring_eof = true;
    pthread_cond_broadcast(&ex->cond);
    bool ready = ex->replied;
    if (!ready) {
        sleep_now(ex);
    }
    pthread_mutex_unlock(&ex->lock);
    return ready ? exchange_send(ex) : MHD_YES;
}

enum MHD_Result exchange_call(void *cls UNUSED, struct MHD_Connection *conn UNUSED,
                              const char *url UNUSED, const char *method,
                              const char *version UNUSED, const char *data, size_t *size,
                              void **con_cls)
{
    struct exchange *ex = *con_cls;

    if (!ex) {
        return MHD_NO; /* out of memory at the start */
    }
    enum phase phase = ex->phase;
    switch (phase) {
    case EX_NEW:
        return first_call(ex, method);
    case EX_AUTH:
        return ex->replied ? answer_early(ex) : begin_body(ex);
    case EX_BODY:
        return *size > 0 ? take_body(ex, data, size) : end_of_body(ex);
    case EX_DISCARD:
        return *size > 0 ? exchange_discard(ex, size) : exchange_send(ex);
    case EX_RAW:
        return *size > 0 ? exchange_discard(ex, size) : MHD_NO;
    case EX_HANDLE:
        return exchange_send(ex);
    case EX_SENT:
        break;
    }
    return MHD_NO;
}

void exchange_abandon(struct exchange *ex)
{
    pthread_mutex_lock(&ex->lock);
    ex->gone = true;
    pthread_cond_broadcast(&ex->cond);
    pthread_mutex_unlock(&ex->lock);
    exchange_unref(ex);
}

void exchange_completed(void *cls, struct MHD_Connection *conn UNUSED, void **con_cls,
                        enum MHD_RequestTerminationCode code UNUSED)
{
    struct server *server = cls;
    struct exchange *ex = *con_cls;

    if (!ex) {
        return;
    }
    *con_cls = NULL;
    server_attach(server, ex->entry, NULL);
    pthread_mutex_lock(&ex->lock);
    ex->cut = ex->phase == EX_BODY;
    ex->gone = true;
    pthread_cond_broadcast(&ex->cond);
    pthread_mutex_unlock(&ex->lock);
    end_trace(ex);
    gateway_observe(server->gw, &ex->req, ex->status, clock_mono_us() - ex->started_us);
    exchange_unref(ex);
}
