/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Judges the request headers before anything is believed. The library accepts what proxies and we
 * could read differently (two lengths, length with transfer coding, names that are no tokens); here
 * such a request ends, and its connection with it.
 */
#include "services/ingest-gateway/exchange.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HEADERS_MAX 100U
#define HEADER_BYTES_MAX 16384U

static const char *const header_names[H_COUNT] = {
    [H_AUTHORIZATION] = "Authorization",
    [H_CONTENT_TYPE] = "Content-Type",
    [H_ACCEPT] = "Accept",
    [H_ACCEPT_ENCODING] = "Accept-Encoding",
    [H_RANGE] = "Range",
    [H_IF_RANGE] = "If-Range",
    [H_IF_MATCH] = "If-Match",
    [H_IF_NONE_MATCH] = "If-None-Match",
    [H_IDEMPOTENCY_KEY] = "Idempotency-Key",
    [H_LAST_EVENT_ID] = "Last-Event-ID",
    [H_TRACEPARENT] = "traceparent",
    [H_REQUEST_ID] = "X-Request-Id",
    [H_COOKIE] = "Cookie",
    [H_CSRF] = "X-CSRF-Token",
    [H_HOST] = "Host",
    [H_ORIGIN] = "Origin",
    [H_SEC_FETCH_SITE] = "Sec-Fetch-Site",
    [H_USER_AGENT] = "User-Agent",
    [H_FORWARDED_FOR] = "X-Forwarded-For",
    [H_FORWARDED_PROTO] = "X-Forwarded-Proto",
};

struct scan {
    struct exchange *ex;
    struct err *err;
    unsigned n_headers;
    unsigned n_lengths;
    unsigned n_hosts;
    unsigned n_codings;
    size_t n_bytes;
    bool failed;
};

static enum MHD_Result fail(struct scan *scan, const char *why)
{
    if (!scan->failed) {
        err_set(scan->err, ERR_PERMANENT, "bad_request", "%s", why);
    }
    scan->failed = true;
    return MHD_NO;
}

static bool token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c != '\0' && strchr("!#$%&'*+-.^_`|~", c)))) {
            return false;
        }
    }
    return n > 0;
}

/* Lists may come in several lines; anything else only once. */
static enum MHD_Result keep(struct scan *scan, size_t i, const char *value)
{
    char **slot = &scan->ex->req.headers[i];
    char *joined = NULL;

    if (!*slot) {
        *slot = strdup(value);
        return *slot ? MHD_YES : fail(scan, "out of memory");
    }
    if (i != H_ACCEPT && i != H_ACCEPT_ENCODING && i != H_IF_NONE_MATCH && i != H_IF_MATCH &&
        i != H_COOKIE && i != H_FORWARDED_FOR) {
        return fail(scan, "a header is given twice");
    }
    if (asprintf(&joined, "%s, %s", *slot, value) < 0) {
        return fail(scan, "out of memory");
    }
    free(*slot);
    *slot = joined;
    return MHD_YES;
}

static enum MHD_Result take_header(struct scan *scan, const char *key, const char *value)
{
    struct exchange *ex = scan->ex;

    if (strcasecmp(key, "Content-Length") == 0) {
        int64_t n = 0;
        if (++scan->n_lengths > 1 || !decimal_parse(value, 0, INT64_MAX, &n)) {
            return fail(scan, "the content length cannot be told");
        }
        ex->content_length = n;
        ex->has_body = n > 0;
    } else if (strcasecmp(key, "Transfer-Encoding") == 0) {
        if (++scan->n_codings > 1 || strcasecmp(value, "chunked") != 0) {
            return fail(scan, "the only transfer coding is chunked");
        }
        ex->has_body = true;
    } else if (strcasecmp(key, "Host") == 0) {
        return ++scan->n_hosts == 1 ? keep(scan, H_HOST, value) : MHD_YES;
    } else if (strcasecmp(key, "Expect") == 0) {
        ex->expects_continue = strcasecmp(value, "100-continue") == 0;
    } else {
        for (size_t i = 0; i < H_COUNT; i++) {
            if (strcasecmp(key, header_names[i]) == 0) {
                return keep(scan, i, value);
            }
        }
    }
    return MHD_YES;
}

static enum MHD_Result each_header(void *cls, enum MHD_ValueKind kind UNUSED, const char *key,
                                   size_t key_len, const char *value, size_t value_len)
{
    struct scan *scan = cls;

    scan->n_bytes += key_len + value_len + 4;
    if (++scan->n_headers > HEADERS_MAX || scan->n_bytes > HEADER_BYTES_MAX) {
        err_set(scan->err, ERR_PERMANENT, "headers_too_large",
                "a request has at most %u headers and %u bytes of them", HEADERS_MAX,
                HEADER_BYTES_MAX);
        scan->failed = true;
        return MHD_NO;
    }
    if (!token(key, key_len)) {
        return fail(scan, "a header's name is no token");
    }
    if (!value) {
        return fail(scan, "a header has no value");
    }
    for (size_t i = 0; i < value_len; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7F) {
            return fail(scan, "a header holds control characters");
        }
    }
    return take_header(scan, key, value);
}

/* A request id of the caller's is kept when it is harmless. */
static void choose_id(struct request *req)
{
    const char *given = req->headers[H_REQUEST_ID];

    if (given && strlen(given) < sizeof(req->id) && strlen(given) >= 8 &&
        token(given, strlen(given)) && !strpbrk(given, "!#$%&'*^`|~")) {
        snprintf(req->id, sizeof(req->id), "%s", given);
    }
}

int exchange_check_headers(struct exchange *ex, const char *method, struct err *err)
{
    static const char *const methods[] = {"GET",   "HEAD",    "POST",  "PUT",
                                          "PATCH", "OPTIONS", "DELETE"};
    struct scan scan = {.ex = ex, .err = err};

    ex->content_length = -1;
    ex->req.method = "?";
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (strcmp(method, methods[i]) == 0) {
            ex->req.method = methods[i];
        }
    }
    MHD_get_connection_values_n(ex->conn, MHD_HEADER_KIND, each_header, &scan);
    choose_id(&ex->req);
    if (scan.failed) {
        return -1;
    }
    if (scan.n_codings > 0 && scan.n_lengths > 0) {
        return err_set(err, ERR_PERMANENT, "bad_request",
                       "a content length and a transfer coding contradict each other");
    }
    if (scan.n_hosts != 1) {
        return err_set(err, ERR_PERMANENT, "bad_request", "exactly one Host header is needed");
    }
    return 0;
}
