/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The delimiter search is a counter, not a buffer: CR stands only at the delimiter's start, so a
 * failed match gives back exactly what had matched and may begin anew at the current byte alone.
 */
#include "services/ingest-gateway/multipart.h"

#include "services/ingest-gateway/multipart_header.h"

#include <string.h>

#define PREAMBLE_MAX 8192U
#define PADDING_MAX 256U

enum state {
    ST_PREAMBLE,
    ST_AFTER,   /* behind a delimiter: "--", blanks or the line's end */
    ST_DASH,    /* one "-" seen behind a delimiter */
    ST_PADDING, /* blanks behind a delimiter */
    ST_LF,      /* CR of a delimiter's line seen */
    ST_HEADERS,
    ST_BODY,
    ST_EPILOGUE,
    ST_ERROR,
};

struct multipart {
    enum state state;
    struct multipart_events events;
    void *ctx;
    unsigned max_parts;
    unsigned n_parts;
    size_t skipped; /* bytes of preamble, or of padding */
    size_t matched; /* bytes of the delimiter seen */
    size_t lent;    /* of these, the line end that belongs to the part's headers */
    size_t delim_len;
    char delim[MULTIPART_BOUNDARY_MAX + 5]; /* CR LF - - boundary */
    size_t head_len;
    char head[MULTIPART_HEADER_MAX + 1];
};

static int malformed(struct err *err, const char *what)
{
    return err_set(err, ERR_PERMANENT, "malformed_multipart", "the multipart body %s", what);
}

int multipart_new(const char *boundary, unsigned max_parts, const struct multipart_events *events,
                  void *ctx, struct multipart **ret_parser, struct err *err)
{
    size_t n = strlen(boundary);

    if (n == 0 || n > MULTIPART_BOUNDARY_MAX) {
        return malformed(err, "has no usable boundary");
    }
    struct multipart *p = calloc(1, sizeof(*p));
    if (!p) {
        return err_nomem(err);
    }
    p->events = *events;
    p->ctx = ctx;
    p->max_parts = max_parts;
    p->state = ST_PREAMBLE;
    memcpy(p->delim, "\r\n--", 4);
    memcpy(p->delim + 4, boundary, n);
    p->delim_len = n + 4;
    p->matched = 2; /* the body's start counts as a line's start */
    *ret_parser = p;
    return 0;
}

void multipart_free(struct multipart *p)
{
    free(p);
}

static int emit(struct multipart *p, const char *data, size_t len, struct err *err)
{
    return len > 0 ? p->events.data(p->ctx, data, len, err) : 0;
}

/* Parts' bytes up to the next delimiter or the feed's end. */
static int feed_body(struct multipart *p, const char *data, size_t len, size_t *at, struct err *err)
{
    size_t i = *at;

    while (i < len) {
        if (p->matched == 0) {
            const char *cr = memchr(data + i, '\r', len - i);
            size_t n = cr ? (size_t)(cr - (data + i)) : len - i;
            if (emit(p, data + i, n, err) < 0) {
                return -1;
            }
            i += n;
            if (cr) {
                p->matched = 1;
                i++;
            }
            continue;
        }
        if (data[i] == p->delim[p->matched]) {
            i++;
            if (++p->matched == p->delim_len) {
                p->matched = 0;
                p->lent = 0;
                p->skipped = 0;
                p->state = ST_AFTER;
                *at = i;
                return p->events.end(p->ctx, err);
            }
            continue;
        }
        size_t lent = p->lent;
        size_t back = p->matched - lent;
        p->matched = 0;
        p->lent = 0;
        if (emit(p, p->delim + lent, back, err) < 0) {
            return -1;
        }
    }
    *at = i;
    return 0;
}

static int feed_preamble(struct multipart *p, const char *data, size_t len, size_t *at,
                         struct err *err)
{
    for (size_t i = *at; i < len; i++) {
        char c = data[i];
        if (c == p->delim[p->matched]) {
            p->matched++;
        } else {
            p->matched = c == '\r' ? 1 : 0;
        }
        if (p->matched == p->delim_len) {
            p->matched = 0;
            p->skipped = 0;
            p->state = ST_AFTER;
            *at = i + 1;
            return 0;
        }
        if (++p->skipped > PREAMBLE_MAX + p->delim_len) {
            return malformed(err, "does not begin with its boundary");
        }
    }
    *at = len;
    return 0;
}

/* One byte of the line behind a delimiter. */
static int feed_after(struct multipart *p, char c, struct err *err)
{
    switch (p->state) {
    case ST_AFTER:
        if (c == '-') {
            p->state = ST_DASH;
            return 0;
        }
        p->state = ST_PADDING;
        return feed_after(p, c, err);
    case ST_DASH:
        if (c != '-') {
            return malformed(err, "has a delimiter that is no delimiter");
        }
        p->state = ST_EPILOGUE;
        return 0;
    case ST_PADDING:
        if (c == '\r') {
            p->state = ST_LF;
            return 0;
        }
        if ((c != ' ' && c != '\t') || ++p->skipped > PADDING_MAX) {
            return malformed(err, "has a delimiter that is no delimiter");
        }
        return 0;
    case ST_LF:
        if (c != '\n') {
            return malformed(err, "has a delimiter that is no delimiter");
        }
        if (p->n_parts++ >= p->max_parts) {
            return err_set(err, ERR_PERMANENT, "too_many_parts", "more than %u parts in one body",
                           p->max_parts);
        }
        p->head_len = 0;
        p->state = ST_HEADERS;
        return 0;
    case ST_PREAMBLE:
    case ST_HEADERS:
    case ST_BODY:
    case ST_EPILOGUE:
    case ST_ERROR:
        break;
    }
    return malformed(err, "cannot be read");
}

static bool headers_complete(const struct multipart *p)
{
    size_t n = p->head_len;

    return (n == 2 && memcmp(p->head, "\r\n", 2) == 0) ||
           (n >= 4 && memcmp(p->head + n - 4, "\r\n\r\n", 4) == 0);
}

static int feed_headers(struct multipart *p, const char *data, size_t len, size_t *at,
                        struct err *err)
{
    for (size_t i = *at; i < len; i++) {
        if (p->head_len == MULTIPART_HEADER_MAX) {
            return err_set(err, ERR_PERMANENT, "part_header_too_large",
                           "the headers of a part exceed %u bytes", MULTIPART_HEADER_MAX);
        }
        p->head[p->head_len++] = data[i];
        if (data[i] == '\n' && headers_complete(p)) {
            struct multipart_part part;
            p->head[p->head_len] = '\0';
            if (multipart_header_parse(p->head, p->head_len, &part, err) < 0) {
                return -1;
            }
            p->state = ST_BODY;
            /* A part may be empty: its delimiter's line end is the header's. */
            p->matched = 2;
            p->lent = 2;
            *at = i + 1;
            return p->events.begin(p->ctx, &part, err);
        }
    }
    *at = len;
    return 0;
}

static int feed_some(struct multipart *p, const char *data, size_t len, size_t *at, struct err *err)
{
    switch (p->state) {
    case ST_PREAMBLE:
        return feed_preamble(p, data, len, at, err);
    case ST_AFTER:
    case ST_DASH:
    case ST_PADDING:
    case ST_LF:
        return feed_after(p, data[(*at)++], err);
    case ST_HEADERS:
        return feed_headers(p, data, len, at, err);
    case ST_BODY:
        return feed_body(p, data, len, at, err);
    case ST_EPILOGUE:
        *at = len;
        return 0;
    case ST_ERROR:
        break;
    }
    return malformed(err, "could not be read before");
}

int multipart_feed(struct multipart *p, const char *data, size_t len, struct err *err)
{
    size_t at = 0;

    while (at < len) {
        if (feed_some(p, data, len, &at, err) < 0) {
            p->state = ST_ERROR;
            return -1;
        }
    }
    return 0;
}

int multipart_finish(struct multipart *p, struct err *err)
{
    if (p->state == ST_EPILOGUE) {
        return 0;
    }
    p->state = ST_ERROR;
    return malformed(err, "ends before its closing delimiter");
}
