/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring between a connection and a worker, and the hand-over of an answer to the library. The
 * content reader never returns "nothing yet" without having suspended first: it would spin.
 */
#include "services/ingest-gateway/cors.h"
#include "services/ingest-gateway/events.h"
#include "services/ingest-gateway/exchange.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/pool.h"
#include "services/ingest-gateway/problem.h"
#include "services/ingest-gateway/server.h"

#include <errno.h>
#include <string.h>

#define STALL_MS 60000U
#define BLOCK_SIZE ((size_t)64 << 10)

/* Waits on the condition, lock held; false when nothing happened for STALL_MS. */
static bool wait_change(struct exchange *ex)
{
    uint64_t until = clock_mono_ms() + STALL_MS;
    struct timespec ts = {.tv_sec = (time_t)(until / 1000),
                          .tv_nsec = (long)(until % 1000) * 1000000L};

    return pthread_cond_timedwait(&ex->cond, &ex->lock, &ts) != ETIMEDOUT;
}

static size_t ring_take(struct exchange *ex, char *data, size_t size)
{
    size_t n = min_size(size, ex->ring_len);
    size_t first = min_size(n, ex->ring_cap - ex->ring_head);

    memcpy(data, ex->ring + ex->ring_head, first);
    memcpy(data + first, ex->ring, n - first);
    ex->ring_head = (ex->ring_head + n) % ex->ring_cap;
    ex->ring_len -= n;
    return n;
}

static void ring_put(struct exchange *ex, const char *data, size_t n)
{
    size_t tail = (ex->ring_head + ex->ring_len) % ex->ring_cap;
    size_t first = min_size(n, ex->ring_cap - tail);

    memcpy(ex->ring + tail, data, first);
    memcpy(ex->ring, data + first, n - first);
    ex->ring_len += n;
}

int exchange_read(struct exchange *ex, char *data, size_t size, size_t *ret_len, struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&ex->lock);
    while (ex->ring_len == 0 && !ex->ring_eof && !ex->gone && rc == 0) {
        if (!wait_change(ex)) {
            rc = err_set(err, ERR_PERMANENT, "request_timeout", "no body bytes for a minute");
        }
    }
    if (rc == 0 && ex->ring_len > 0) {
        *ret_len = ring_take(ex, data, size);
        if (ex->ring_len < ex->ring_cap / 2 && !ex->ring_eof) {
            exchange_wake(ex);
        }
    } else if (rc == 0 && ex->ring_eof) {
        *ret_len = 0;
    } else if (rc == 0) {
        rc = err_set(err, ERR_PERMANENT, "body_cut", "the client left before the body's end");
    }
    pthread_mutex_unlock(&ex->lock);
    return rc;
}

int exchange_write(struct exchange *ex, const char *data, size_t len, struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&ex->lock);
    while (len > 0 && rc == 0) {
        if (ex->gone) {
            rc = err_set(err, ERR_TRANSIENT, "aborted", "the client left");
        } else if (ex->ring_len == ex->ring_cap) {
            if (!wait_change(ex)) {
                rc = err_set(err, ERR_TRANSIENT, "aborted", "the client reads nothing");
            }
        } else {
            size_t n = min_size(len, ex->ring_cap - ex->ring_len);
            ring_put(ex, data, n);
            data += n;
            len -= n;
            exchange_wake(ex);
        }
    }
    pthread_mutex_unlock(&ex->lock);
    return rc;
}

bool exchange_try_write(struct exchange *ex, const char *data, size_t len, bool wake)
{
    pthread_mutex_lock(&ex->lock);
    bool ok = !ex->gone && !ex->ring_eof && len <= ex->ring_cap - ex->ring_len;
    if (ok) {
        ring_put(ex, data, len);
        if (wake) {
            exchange_wake(ex);
        }
    }
    pthread_mutex_unlock(&ex->lock);
    return ok;
}

void exchange_poke(struct exchange *ex)
{
    pthread_mutex_lock(&ex->lock);
    exchange_wake(ex);
    pthread_mutex_unlock(&ex->lock);
}

void exchange_finish(struct exchange *ex, bool failed)
{
    pthread_mutex_lock(&ex->lock);
    ex->ring_eof = true;
    ex->ring_failed = ex->ring_failed || failed;
    exchange_wake(ex);
    pthread_mutex_unlock(&ex->lock);
}

bool exchange_gone(struct exchange *ex)
{
    pthread_mutex_lock(&ex->lock);
    bool gone = ex->gone;
    pthread_mutex_unlock(&ex->lock);
    return gone;
}

/* The library asks for answer bytes. */
static ssize_t read_answer(void *cls, uint64_t pos UNUSED, char *data, size_t max)
{
    struct exchange *ex = cls;
    ssize_t n;

    pthread_mutex_lock(&ex->lock);
    if (ex->ring_len > 0) {
        n = (ssize_t)ring_take(ex, data, max);
        pthread_cond_signal(&ex->cond);
    } else if (ex->ring_failed) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (ex->ring_eof) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        ex->suspended = true;
        MHD_suspend_connection(ex->conn);
        n = 0;
    }
    pthread_mutex_unlock(&ex->lock);
    if (n > 0) {
        atomic_fetch_add(&ex->progress, (uint64_t)n);
    }
    return n;
}

static void answer_freed(void *cls)
{
    exchange_abandon(cls);
}

static void run_stream(void *ctx)
{
    struct exchange *ex = ctx;
    struct err err = ERR_INIT;

    gateway_take_view(&ex->req);
    int rc = ex->reply.stream(ex->reply.stream_ctx, ex, &err);
    db_view_take(DB_VIEW_NONE, NULL);

    if (rc < 0 && strcmp(err.code, "aborted") != 0) {
        gateway_log_error(ex->req.gw, &ex->req, &err);
    }
    exchange_finish(ex, rc < 0);
    exchange_unref(ex);
}

static const char *stream_owner(const struct exchange *ex)
{
    return ex->reply.stream_owner[0] != '\0' ? ex->reply.stream_owner : ex->req.who.user_id;
}

/* Prepares a streamed body; false when there is no room for another. */
static bool start_stream(struct exchange *ex)
{
    size_t cap = ex->reply.events ? (size_t)128 << 10 : RING_SIZE;
    char *ring = realloc(ex->ring, cap);

    if (!ring) {
        return false;
    }
    ex->ring = ring;
    ex->ring_cap = cap;
    ex->ring_head = 0;
    ex->ring_len = 0;
    ex->ring_eof = false;
    if (ex->reply.events || strcmp(ex->req.method, "HEAD") == 0) {
        return true;
    }
    exchange_ref(ex);
    if (!pool_submit(ex->req.gw->streams, stream_owner(ex), run_stream, ex)) {
        exchange_unref(ex);
        return false;
    }
    return true;
}

static struct MHD_Response *make_response(struct exchange *ex)
{
    struct reply *r = &ex->reply;

    if (r->stream || r->events) {
        if (start_stream(ex)) {
            uint64_t size =
                r->events || r->stream_len < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)r->stream_len;
            exchange_ref(ex);
            struct MHD_Response *resp =
                MHD_create_response_from_callback(size, BLOCK_SIZE, read_answer, ex, answer_freed);
            if (!resp) {
                answer_freed(ex);
            }
            return resp;
        }
        struct err err = ERR_INIT;
        err_set(&err, ERR_TRANSIENT, "overloaded", "too many downloads in work");
        reply_done(r);
        problem_reply(&err, ex->req.id, NULL, r);
    }
    if (!r->body) {
        return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    }
    return MHD_create_response_from_buffer(r->len, STEAL(r->body), MHD_RESPMEM_MUST_FREE);
}

static void add_header(void *resp, const char *name, const char *value)
{
    MHD_add_response_header(resp, name, value);
}

static void add_headers(struct exchange *ex, struct MHD_Response *resp)
{
    const struct reply *r = &ex->reply;

    for (size_t i = 0; i < r->n_headers; i++) {
        MHD_add_response_header(resp, r->headers[i].name, r->headers[i].value);
    }
    MHD_add_response_header(resp, "X-Request-Id", ex->req.id);
    if (r->content_type) {
        MHD_add_response_header(resp, "Content-Type", r->content_type);
    }
    answer_headers(&ex->req, r, add_header, resp);
    if (atomic_load(&ex->req.gw->draining)) {
        MHD_add_response_header(resp, "Connection", "close");
    }
}

enum MHD_Result exchange_send(struct exchange *ex)
{
    bool events = ex->reply.events;
    struct MHD_Response *resp = make_response(ex);

    ex->phase = EX_SENT;
    if (!resp) {
        return MHD_NO;
    }
    ex->status = ex->reply.status;
    add_headers(ex, resp);
    events = events && ex->reply.events && strcmp(ex->req.method, "HEAD") != 0;
    enum MHD_Result rc = MHD_queue_response(ex->conn, ex->reply.status, resp);
    if (rc == MHD_YES && events) {
        event_hub_add(ex->req.gw->hub, ex, ex->reply.events_start, ex->reply.last_pos);
    }
    MHD_destroy_response(resp);
    return rc;
}
