/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults of HTTP/1.1 links. What happens to a request is drawn when its head is complete; the next
 * request begins where the body of this one ends, or, for a chunked body, where the reply begins.
 * Pipelining is not understood: no client here does it.
 */
#include "tests/chaos/faultproxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void http_done(struct http_state *http)
{
    free(http->head);
    http->head = NULL;
}

static enum http_fault draw(struct link *link, const char *head)
{
    const struct faults *f = &link->faults;
    size_t method = strlen(f->method);
    const char *line_end = strchr(head, '\r'), *at = f->path[0] ? strstr(head, f->path) : head;
    double r = link_random(link);

    if (method && (strncmp(head, f->method, method) != 0 || head[method] != ' ')) {
        return HTTP_NONE;
    }
    if (!at || at > line_end) {
        return HTTP_NONE;
    }
    const struct {
        double p;
        enum http_fault fault;
    } shares[] = {{f->error_p, HTTP_ERROR},
                  {f->hang_p, HTTP_HANG},
                  {f->truncate_p, HTTP_TRUNCATE},
                  {f->flip_p, HTTP_FLIP},
                  {f->swallow_p, HTTP_SWALLOW}};
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        if (r < shares[i].p) {
            return shares[i].fault;
        }
        r -= shares[i].p;
    }
    return HTTP_NONE;
}

/* The value of a header in a head that ends with a NUL, or NULL. */
static const char *header(const char *head, const char *name)
{
    size_t n = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line && line[2] != '\r';
         line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, n) == 0 && line[2 + n] == ':') {
            const char *value = line + 3 + n;
            return value + strspn(value, " \t");
        }
    }
    return NULL;
}

static void answer_error(struct conn *conn)
{
    char text[512], body[256];
    int code = conn->link->faults.error_code;

    int n = snprintf(body, sizeof(body),
                     "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>injected</Message>"
                     "</Error>",
                     code == 503 ? "SlowDown" : "InternalError");
    int m = snprintf(text, sizeof(text),
                     "HTTP/1.1 %d Injected\r\nContent-Type: application/xml\r\n"
                     "Content-Length: %d\r\nConnection: close\r\n\r\n%s",
                     code, n, body);
    conn->link->stats.errors++;
    conn->client.close_when_empty = true;
    conn_send(&conn->client, (unsigned char *)text, (size_t)m);
}

static void request_over(struct conn *conn)
{
    conn->http.in_body = false;
    conn->http.head_len = 0;
    if (conn->http.fault == HTTP_ERROR) {
        answer_error(conn);
    }
}

static void head_complete(struct conn *conn)
{
    struct http_state *h = &conn->http;
    const char *length = header(h->head, "Content-Length");
    const char *coding = header(h->head, "Transfer-Encoding");

    conn->link->stats.requests++;
    h->fault = draw(conn->link, h->head);
    h->replied = h->reply_in_body = false;
    h->reply_head_len = 0;
    h->body_left = length ? strtoull(length, NULL, 10) : 0;
    h->until_reply = coding && strncasecmp(coding, "chunked", 7) == 0;
    h->in_body = true;
    if (h->fault != HTTP_ERROR) {
        conn_send(&conn->server, (unsigned char *)h->head, h->head_len);
    } else if (h->until_reply) {
        h->until_reply = false; /* its end is not known: answer at once */
    }
    if (h->body_left == 0 && !h->until_reply) {
        request_over(conn);
    }
}

/* Takes bytes up to the end of the head; gives how many. */
static size_t take_head(struct conn *conn, const unsigned char *data, size_t len)
{
    struct http_state *h = &conn->http;

    if (!h->head && !(h->head = malloc(HTTP_HEAD_MAX + 1))) {
        conn_cut(conn);
        return len;
    }
    for (size_t i = 0; i < len; i++) {
        if (h->head_len == HTTP_HEAD_MAX) {
            conn_cut(conn);
            return len;
        }
        h->head[h->head_len++] = (char)data[i];
        if (h->head_len >= 4 && memcmp(h->head + h->head_len - 4, "\r\n\r\n", 4) == 0) {
            h->head[h->head_len] = '\0';
            head_complete(conn);
            return i + 1;
        }
    }
    return len;
}

void http_from_client(struct conn *conn, const unsigned char *data, size_t len)
{
    struct http_state *h = &conn->http;

    while (len > 0 && !conn->dead && !conn->client.close_when_empty) {
        size_t n = len;
        if (!h->in_body) {
            n = take_head(conn, data, len);
        } else {
            if (!h->until_reply) {
                n = n < h->body_left ? n : (size_t)h->body_left;
                h->body_left -= n;
            }
            if (h->fault != HTTP_ERROR) {
                conn_send(&conn->server, data, n);
            }
            if (h->body_left == 0 && !h->until_reply) {
                request_over(conn);
            }
        }
        data += n;
        len -= n;
    }
}

/* Reads the reply's head; gives how many bytes belong to it. */
static size_t take_reply_head(struct conn *conn, const unsigned char *data, size_t len)
{
    struct http_state *h = &conn->http;

    for (size_t i = 0; i < len; i++) {
        if (h->reply_head_len == sizeof(h->reply_head) - 1) {
            conn_cut(conn);
            return len;
        }
        h->reply_head[h->reply_head_len++] = (char)data[i];
        if (h->reply_head_len >= 4 &&
            memcmp(h->reply_head + h->reply_head_len - 4, "\r\n\r\n", 4) == 0) {
            h->reply_head[h->reply_head_len] = '\0';
            if (strncmp(h->reply_head + 9, "100", 3) == 0) {
                h->reply_head_len = 0;
                continue;
            }
            const char *length = header(h->reply_head, "Content-Length");
            h->reply_left = length ? strtoull(length, NULL, 10) / 2 : 10;
            h->reply_in_body = true;
            return i + 1;
        }
    }
    return len;
}

static void broken_body(struct conn *conn, unsigned char *data, size_t len)
{
    struct http_state *h = &conn->http;

    if (h->fault == HTTP_HANG) {
        return;
    }
    if (len <= h->reply_left) {
        h->reply_left -= len;
        conn_send(&conn->client, data, len);
        return;
    }
    if (h->fault == HTTP_FLIP) {
        data[h->reply_left] ^= 0x5A;
        conn->link->stats.flipped++;
        h->fault = HTTP_NONE;
        conn_send(&conn->client, data, len);
        return;
    }
    conn->link->stats.truncated++;
    conn_send(&conn->client, data, (size_t)h->reply_left);
    conn->client.close_when_empty = true;
    h->reply_left = 0;
}

void http_from_server(struct conn *conn, unsigned char *data, size_t len)
{
    struct http_state *h = &conn->http;

    if (conn->client.close_when_empty) {
        return;
    }
    if (h->until_reply) {
        h->until_reply = false;
        request_over(conn);
    }
    switch (h->fault) {
    case HTTP_NONE:
        conn_send(&conn->client, data, len);
        return;
    case HTTP_ERROR:
        return;
    case HTTP_SWALLOW:
        conn->link->stats.swallowed++;
        conn_cut(conn);
        return;
    case HTTP_HANG:
    case HTTP_TRUNCATE:
    case HTTP_FLIP:
        break;
    }
    size_t n = h->reply_in_body ? 0 : take_reply_head(conn, data, len);
    if (n > 0) {
        conn_send(&conn->client, data, n);
        if (h->reply_in_body && h->fault == HTTP_HANG) {
            conn->link->stats.hangs++;
        }
    }
    if (h->reply_in_body && len > n) {
        broken_body(conn, data + n, len - n);
    }
}
