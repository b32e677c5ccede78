/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an answer says beside its body: headers, Retry-After, the meaning of a status; and the
 * encoding of names in URLs.
 * Invariant: header text lives in one block of fixed size, so views into it never move.
 */
#include "libcommon/http.h"

#include "libcommon/http_intern.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

int http_parse_status(const char *line, size_t len)
{
    const char *space = memchr(line, ' ', len);
    int status = 0;

    if (!space || (size_t)(space - line) + 4 > len) {
        return 0;
    }
    for (int i = 1; i <= 3; i++) {
        if (space[i] < '0' || space[i] > '9') {
            return 0;
        }
        status = status * 10 + (space[i] - '0');
    }
    return status;
}

int http_headers_init(struct http_response *resp, struct err *err)
{
    resp->header_bytes = malloc(HTTP_HEADER_BYTES_MAX);
    return resp->header_bytes ? 0 : err_nomem(err);
}

void http_headers_reset(struct http_response *resp)
{
    resp->header_len = 0;
    resp->n_headers = 0;
}

static const char *keep(struct http_response *resp, const char *text, size_t len)
{
    char *copy = resp->header_bytes + resp->header_len;

    memcpy(copy, text, len);
    copy[len] = '\0';
    resp->header_len += len + 1;
    return copy;
}

void http_headers_add(struct http_response *resp, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);

    if (!colon || colon == line || resp->n_headers == HTTP_HEADERS_MAX ||
        len + 2 > HTTP_HEADER_BYTES_MAX - resp->header_len) {
        return;
    }
    const char *value = colon + 1;
    const char *end = line + len;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) {
        end--;
    }
    struct http_header *header = &resp->headers[resp->n_headers++];
    header->name = keep(resp, line, (size_t)(colon - line));
    header->value = keep(resp, value, (size_t)(end - value));
}

void http_response_done(struct http_response *resp)
{
    if (!resp) {
        return;
    }
    buf_done(&resp->body);
    free(resp->header_bytes);
    *resp = HTTP_RESPONSE_INIT;
}

const char *http_header_get(const struct http_response *resp, const char *name)
{
    for (size_t i = 0; i < resp->n_headers; i++) {
        if (strcasecmp(resp->headers[i].name, name) == 0) {
            return resp->headers[i].value;
        }
    }
    return NULL;
}

int64_t http_retry_after_ms(const struct http_response *resp, int64_t now_ms)
{
    const char *value = http_header_get(resp, "Retry-After");
    int64_t wait;

    if (!value || !value[0]) {
        return -1;
    }
    char *end = NULL;
    errno = 0;
    long long seconds = strtoll(value, &end, 10);
    if (end != value && *end == '\0' && value[0] >= '0' && value[0] <= '9') {
        wait =
            errno || seconds > HTTP_RETRY_AFTER_MAX / 1000 ? HTTP_RETRY_AFTER_MAX : seconds * 1000;
    } else {
        time_t when = curl_getdate(value, NULL);
        if (when < 0) {
            return -1;
        }
        wait = (int64_t)when * 1000 - now_ms;
    }
    if (wait < 0) {
        return 0;
    }
    return wait > HTTP_RETRY_AFTER_MAX ? HTTP_RETRY_AFTER_MAX : wait;
}

int http_error_from_status(struct err *err, int status, const char *what)
{
    enum err_class class = ERR_UNKNOWN;

    if (status == 408 || status == 425 || status == 429 || status >= 500) {
        class = ERR_TRANSIENT;
    } else if (status >= 400) {
        class = ERR_PERMANENT;
    }
    return err_set(err, class, "http_status", "%s: HTTP %d", what, status);
}

int http_encode(struct buf *buf, const char *s, bool keep_slash, struct err *err)
{
    static const char digits[] = "0123456789ABCDEF";

    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && keep_slash);
        char code[3] = {'%', digits[c >> 4], digits[c & 15]};
        if (plain ? buf_append(buf, s, 1, err) < 0 : buf_append(buf, code, 3, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int http_peer_check(void *arg, struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct http_peer *peer = arg;
    const struct http_request request = {
        .url = peer->url, .connect_timeout_ms = 3000, .timeout_ms = 5000};

    if (http_call(peer->client, &request, &resp, err) < 0) {
        /* It says more than we want to hear. */
        return strcmp(err->code, "too_large") == 0 ? 0 : -1;
    }
    return resp.status >= 502 && resp.status <= 504
               ? http_error_from_status(err, resp.status, "health call")
               : 0;
}
