/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP calls to servers we depend on: the object store, Textract, AI services, webhooks.
 * Invariant: every call ends. It has a connect timeout, a total timeout and a maximum of response
 * bytes, and it can be cancelled from another thread.
 * Refuses to follow redirects, to speak anything but http and https, and to retry by policy: the
 * one repeat it makes is of a connection that was reset.
 */
#pragma once

#include "libcommon/buf.h"
#include "libcommon/err.h"

#include <stdatomic.h>
#include <sys/types.h>

#define HTTP_HEADERS_MAX 48          /* response headers kept; further ones are dropped */
#define HTTP_HEADER_BYTES_MAX 16384  /* of all of them together; longer ones are dropped */
#define HTTP_ERROR_BODY_MAX 65536    /* a non-2xx body is cut here, not an error */
#define HTTP_RETRY_AFTER_MAX 3600000 /* ms */

/* A pool of connections, safe for any number of threads; one call occupies one thread. */
struct http_client;

struct http_client_config {
    const char *user_agent; /* NULL: "docfleet" */
    const char *ca_file;    /* PEM bundle; NULL: the system's */
    int max_idle;           /* kept connections; 0: 16 */
    bool public_only;       /* refuses loopback, private, link-local and reserved addresses, by
                               whatever name: for addresses that are not the operator's own.
                               Proxies are not used then */
};

struct sockaddr;
/* Is this IPv4 or IPv6 address out on the net? */
bool http_address_public(const struct sockaddr *address);

/* config may be NULL. Strings are copied. ERR_FATAL "invalid_config": the CA file cannot be read;
 * it is read again by each new connection. */
int http_client_new(const struct http_client_config *config, struct http_client **ret_client,
                    struct err *err) WARN_UNUSED;
/* No call may be running. Takes NULL. */
void http_client_free(struct http_client *client);
DEFINE_CLEANUP(struct http_client *, http_client_cleanup, http_client_free)

/* Fills at most size bytes of the request body; returns their count, 0 at the end, -1 to cancel
 * the call (then it fails with *err as set by the callback). */
typedef ssize_t (*http_source_fn)(void *ctx, char *data, size_t size, struct err *err);
/* Takes body bytes of a 2xx answer as they come; -1 cancels the call, which fails with *err. */
typedef int (*http_sink_fn)(void *ctx, const char *data, size_t len, struct err *err);

/* Everything is borrowed until http_call returns. A zeroed field means its default. */
struct http_request {
    const char *method; /* NULL: GET; "HEAD" reads no body */
    const char *url;
    const char *const *headers; /* n_headers lines "Name: value", no line ends inside */
    size_t n_headers;

    /* The body is one of: none; memory; a piece of a file; a callback. */
    const void *body;
    size_t body_len;
    bool body_from_fd; /* body_fd, read with pread: body_len bytes from body_offset */
    int body_fd;
    uint64_t body_offset;
    http_source_fn source; /* cannot be replayed */
    void *source_ctx;
    int64_t source_len; /* -1: unknown, sent chunked */

    /* Where a 2xx body goes: the response's buffer, or the sink. Other statuses always go to the
     * buffer, cut at HTTP_ERROR_BODY_MAX, so that an error document can be read. */
    http_sink_fn sink;
    void *sink_ctx;
    bool sink_to_fd; /* sink_fd, written at its position */
    int sink_fd;
    int sink_status;       /* not 0: the one status whose body is wanted, instead of any 2xx */
    uint64_t max_response; /* bytes of a 2xx body; 0: 1 MiB. More is ERR_PERMANENT "too_large" */

    unsigned connect_timeout_ms; /* 0: 5 s */
    unsigned timeout_ms;         /* total; 0: 60 s */
    unsigned low_speed_bytes;    /* bytes/s; 0: no limit */
    unsigned low_speed_seconds;  /* fails when slower than that for so long */
    const atomic_bool *abort;    /* when it becomes true the call fails, "aborted" */
    bool no_repeat;              /* not even after a reset, at the price of a new connection
                                (paid calls) */
};

struct http_header {
    const char *name;
    const char *value;
};

struct http_response {
    int status;
    struct buf body;
    uint64_t body_bytes; /* of a 2xx body, in the buffer or given to the sink */
    unsigned elapsed_ms;
    struct http_header headers[HTTP_HEADERS_MAX];
    size_t n_headers;
    char *header_bytes; /* where the headers' text lives */
    size_t header_len;
};
#define HTTP_RESPONSE_INIT ((struct http_response){.status = 0})

/* Sends and waits. Returns 0 for an answer of any status; -1 only when there is none, by class and
 * code: ERR_TRANSIENT "http_timeout", "http_connect", "http_reset", "http_tls" (a certificate that
 * is not trusted), "aborted"; ERR_PERMANENT "http_url", "too_large"; or what source and sink set.
 * On success the caller owns *ret_response (http_response_done). */
int http_call(struct http_client *client, const struct http_request *request,
              struct http_response *ret_response, struct err *err) WARN_UNUSED;

/* Frees; takes an initialised response in any state. `CLEANUP(http_response_done) struct
 * http_response resp = HTTP_RESPONSE_INIT;` */
void http_response_done(struct http_response *resp);

/* The first header of that name in any case, or NULL. */
const char *http_header_get(const struct http_response *resp, const char *name);

/* Retry-After in milliseconds, as seconds or as a date against now_ms (clock_wall_ms()), capped at
 * HTTP_RETRY_AFTER_MAX; -1 when there is none or it cannot be read. */
int64_t http_retry_after_ms(const struct http_response *resp, int64_t now_ms);

/* A status that is no success as an error, code "http_status": 408, 425, 429 and 5xx are transient,
 * other 4xx permanent, anything else unknown. Message: "what: HTTP 503". Returns -1. */
int http_error_from_status(struct err *err, int status, const char *what);

/* Appends s percent-encoded (RFC 3986: all but letters, digits, -._~ become %XX). '/' stays when
 * keep_slash. */
int http_encode(struct buf *buf, const char *s, bool keep_slash, struct err *err) WARN_UNUSED;

/* A server that is called often enough to be worth a look: for health_dep.check. */
struct http_peer {
    struct http_client *client;
    char url[512];
};
#define HTTP_PEER_EVERY_MS 10000U /* for health_dep.every_ms; it may be somebody else's server */
/* arg: struct http_peer. A GET without credentials: any answer will do but 502, 503 and 504. */
int http_peer_check(void *arg, struct err *err) WARN_UNUSED;
