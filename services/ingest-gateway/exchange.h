/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request and its answer, between the HTTP library's thread and the workers.
 * Invariant: everything mutable is guarded by `lock`; the connection is suspended before a job is
 * queued and resumed once, by whoever clears `suspended`; the phase says what a call of the access
 * handler means, never the size of its data.
 * Refuses to call the HTTP library from workers, except to resume.
 */
#pragma once

#include "services/ingest-gateway/request.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#define RING_SIZE ((size_t)512 << 10)
#define DISCARD_POLITE ((uint64_t)1 << 20) /* read to answer on a connection that stays open */
#define DISCARD_RAW ((uint64_t)16 << 20)   /* read after the answer, so that it is seen */

enum phase {
    EX_NEW,     /* headers not seen */
    EX_AUTH,    /* a worker checks the credentials before the body is asked for */
    EX_BODY,    /* body is coming */
    EX_DISCARD, /* the answer is known, the rest of a body is dropped */
    EX_RAW,     /* the answer was sent past the library; the connection ends */
    EX_HANDLE,  /* body complete, waiting for the handler */
    EX_SENT,    /* the library has the answer */
};

struct server;

struct exchange {
    struct request req;
    struct server *server;
    struct MHD_Connection *conn;
    struct conn_entry *entry; /* of the connection registry */

    pthread_mutex_t lock;
    pthread_cond_t cond; /* ring has data or room, or the exchange is over */
    unsigned refs;       /* the connection, each job, the response, the hub */
    _Atomic enum phase phase;
    bool suspended;
    bool gone; /* the client has left, or the answer is complete */
    bool authorized;
    bool streaming; /* a BODY_STREAM handler runs */
    bool replied;   /* reply holds the answer */
    bool cut;       /* gone before the body's end */
    struct reply reply;
    struct err refusal; /* what the first call found, answered later */

    int64_t content_length; /* -1 unknown */
    bool has_body;
    bool expects_continue;
    uint64_t body_bytes;
    uint64_t discarded;
    uint64_t discard_until_ms;

    /* Body bytes in, or answer bytes out; never both. */
    char *ring;
    size_t ring_cap;
    size_t ring_head;
    size_t ring_len;
    bool ring_eof;    /* nothing will be added */
    bool ring_failed; /* the producer gave up */

    atomic_uint_fast64_t progress; /* bytes moved, for the reaper */
    uint64_t started_us;
    struct trace_span *span; /* NULL: not recorded */
    unsigned status;         /* of the answer, for metrics */
};

/* The library's callbacks (server.c registers them). */
void *exchange_start(void *cls, const char *uri, struct MHD_Connection *conn);
enum MHD_Result exchange_call(void *cls, struct MHD_Connection *conn, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **con_cls);
void exchange_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                        enum MHD_RequestTerminationCode code);
/* Nobody reads or writes it any more: its worker is told, and the library's reference given back.
 * Of a request whose cookies are more than the library's memory it tells no end but the
 * connection's. */
void exchange_abandon(struct exchange *ex);

struct exchange *exchange_ref(struct exchange *ex);
void exchange_unref(struct exchange *ex);

/* Wakes a suspended connection; lock held. */
void exchange_wake(struct exchange *ex);

/* For BODY_STREAM handlers: waits for body bytes; *ret_len 0 is the body's end. ERR_PERMANENT
 * "body_cut" when the client left, "request_timeout" when it sends nothing for long. */
int exchange_read(struct exchange *ex, char *data, size_t size, size_t *ret_len,
                  struct err *err) WARN_UNUSED;
/* For reply_stream_fn: waits for room. ERR_TRANSIENT "aborted" when the client left. */
int exchange_write(struct exchange *ex, const char *data, size_t len, struct err *err) WARN_UNUSED;
/* All or nothing, without waiting; false when there is no room or the client left. wake false
 * leaves the connection asleep until exchange_poke(). */
bool exchange_try_write(struct exchange *ex, const char *data, size_t len, bool wake);
void exchange_poke(struct exchange *ex);
/* Ends an answer made by exchange_try_write. */
void exchange_finish(struct exchange *ex, bool failed);
bool exchange_gone(struct exchange *ex);

/* Internal to exchange*.c. */
enum MHD_Result exchange_send(struct exchange *ex);
/* Body bytes after the answer is known; MHD_NO ends the connection. */
enum MHD_Result exchange_discard(struct exchange *ex, size_t *size);
int exchange_check_headers(struct exchange *ex, const char *method, struct err *err) WARN_UNUSED;
