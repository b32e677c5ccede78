/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded growth by doubling. Refuses to hand out a partly filled buffer after a failure.
 */
#include "libcommon/buf.h"

#include <stdio.h>
#include <string.h>

void buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max};
}

void buf_done(struct buf *buf)
{
    if (!buf) {
        return;
    }
    free(buf->data);
    buf->data = NULL;
    buf->len = 0;
    buf->cap = 0;
}

void buf_reset(struct buf *buf)
{
    buf->len = 0;
    if (buf->data) {
        buf->data[0] = '\0';
    }
}

static int buf_reserve(struct buf *buf, size_t more, struct err *err)
{
    if (more > buf->max || buf->len > buf->max - more) {
        buf_done(buf);
        return err_set(err, ERR_PERMANENT, "too_large", "more than %zu bytes", buf->max);
    }
    size_t need = buf->len + more + 1;
    if (need <= buf->cap) {
        return 0;
    }
    size_t cap = buf->cap ? buf->cap : 256;
    while (cap < need) {
        cap *= 2;
    }
    char *data = realloc(buf->data, cap);
    if (!data) {
        buf_done(buf);
        return err_nomem(err);
    }
    buf->data = data;
    buf->cap = cap;
    return 0;
}

int buf_append(struct buf *buf, const void *data, size_t len, struct err *err)
{
    if (buf_reserve(buf, len, err) < 0) {
        return -1;
    }
    if (len > 0) {
        memcpy(buf->data + buf->len, data, len);
    }
    buf->len += len;
    buf->data[buf->len] = '\0';
    return 0;
}

int buf_puts(struct buf *buf, const char *s, struct err *err)
{
    return buf_append(buf, s, strlen(s), err);
}

int buf_printf(struct buf *buf, struct err *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        return err_set(err, ERR_UNKNOWN, "internal", "bad format");
    }
    if (buf_reserve(buf, (size_t)n, err) < 0) {
        return -1;
    }
    va_start(ap, fmt);
    vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    buf->len += (size_t)n;
    return 0;
}

char *buf_steal(struct buf *buf)
{
    char *data = buf->data ? buf->data : calloc(1, 1);

    *buf = (struct buf){.max = buf->max};
    return data;
}
