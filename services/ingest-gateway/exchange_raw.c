/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of a body that nobody wants: a little of it is read to keep the connection; of a
 * longer one the answer is sent past the library, which can send nothing while a body comes.
 * Invariant: what is read and dropped has a limit in bytes and in time.
 */
#include "services/ingest-gateway/cors.h"
#include "services/ingest-gateway/exchange.h"
#include "services/ingest-gateway/server.h"

#include <sys/socket.h>

#define RAW_LINGER_MS 5000U
#define RAW_HEAD_MAX ((size_t)8 << 10)

static void add_raw_header(void *head, const char *name, const char *value)
{
    struct err ignored = ERR_INIT;

    if (buf_printf(head, &ignored, "%s: %s\r\n", name, value) < 0) {
        return; /* it is left out, as a whole */
    }
}

/* The answer's status line and headers; -1 when they do not fit. */
static int raw_head(struct exchange *ex, struct buf *head)
{
    const struct reply *r = &ex->reply;
    struct err ignored = ERR_INIT;

    if (buf_printf(head, &ignored,
                   "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                   "X-Request-Id: %s\r\n",
                   r->status, MHD_get_reason_phrase_for(r->status),
                   r->content_type ? r->content_type : "text/plain", r->body ? r->len : 0,
                   ex->req.id) < 0) {
        return -1;
    }
    for (size_t i = 0; i < r->n_headers; i++) {
        add_raw_header(head, r->headers[i].name, r->headers[i].value);
    }
    answer_headers(&ex->req, r, add_raw_header, head);
    return buf_puts(head, "Connection: close\r\n\r\n", &ignored);
}

/* The answer as bytes on the socket, for a client that is still sending. */
static void send_raw(struct exchange *ex)
{
    CLEANUP(buf_done) struct buf head;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(ex->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    const struct reply *r = &ex->reply;

    ex->phase = EX_RAW;
    ex->status = r->status;
    ex->discarded = 0;
    ex->discard_until_ms = clock_mono_ms() + RAW_LINGER_MS;
    buf_init(&head, RAW_HEAD_MAX);
    if (!info || raw_head(ex, &head) < 0) {
        return;
    }
    /* Small enough for an empty send buffer; if not, the client sees a cut answer. */
    if (send(info->connect_fd, head.data, head.len, MSG_NOSIGNAL | MSG_DONTWAIT) ==
            (ssize_t)head.len &&
        r->body && send(info->connect_fd, r->body, r->len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        ex->discarded = DISCARD_RAW;
    }
    shutdown(info->connect_fd, SHUT_WR);
}

enum MHD_Result exchange_discard(struct exchange *ex, size_t *size)
{
    ex->discarded += *size;
    atomic_fetch_add(&ex->progress, *size);
    *size = 0;
    if (ex->phase == EX_DISCARD &&
        (ex->content_length > (int64_t)DISCARD_POLITE || ex->discarded > DISCARD_POLITE)) {
        int64_t left = ex->content_length - (int64_t)ex->body_bytes;
        if (ex->content_length < 0 || left > (int64_t)DISCARD_POLITE ||
            ex->discarded > DISCARD_POLITE) {
            if (ex->server->config.tls) {
                /* Nothing can be sent around the library here: as much is read as is polite, and
                 * a client that still sends then learns no more than that it is cut off. */
                return ex->discarded > DISCARD_POLITE ? MHD_NO : MHD_YES;
            }
            send_raw(ex);
        }
    }
    if (ex->phase == EX_RAW &&
        (ex->discarded > DISCARD_RAW || clock_mono_ms() > ex->discard_until_ms)) {
        return MHD_NO;
    }
    return MHD_YES;
}
