/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing byte buffer with a maximum that its creator must name.
 * Invariant: after a failed append the buffer is empty and freed, so half a result is never used;
 * data is always followed by a NUL that len does not count.
 */
#pragma once

#include "libcommon/err.h"

#include <stdarg.h>

struct buf {
    char *data; /* NULL while empty; NUL-terminated */
    size_t len;
    size_t cap;
    size_t max; /* bytes it may hold, fixed at init */
};

/* Makes an empty buffer that may grow to max bytes. No memory is taken yet. */
void buf_init(struct buf *buf, size_t max);
/* Frees; usable again after buf_init. Takes NULL. Works as CLEANUP(buf_done). */
void buf_done(struct buf *buf);
/* Empties, keeps the memory. */
void buf_reset(struct buf *buf);
/* Appends; past max: ERR_PERMANENT "too_large", and the buffer is freed. */
int buf_append(struct buf *buf, const void *data, size_t len, struct err *err) WARN_UNUSED;
int buf_puts(struct buf *buf, const char *s, struct err *err) WARN_UNUSED;
int buf_printf(struct buf *buf, struct err *err, const char *fmt, ...) WARN_UNUSED
PRINTF(3, 4);
/* Gives the caller the malloc'd, NUL-terminated bytes (never NULL on success: "" when empty). */
char *buf_steal(struct buf *buf);
