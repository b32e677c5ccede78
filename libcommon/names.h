/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File names from clients: what is taken, how they stand in object keys and in headers.
 * Invariant: a name that passed name_check is UTF-8 without control characters, path separators and
 * direction overrides; it is shown, never used as a path.
 */
#pragma once

#include "libcommon/buf.h"

#define NAME_BYTES_MAX 255U

size_t name_chars(const char *text); /* code points of valid UTF-8 */

/* ERR_PERMANENT "invalid_name" with a reason in plain words. */
int name_check(const char *name, size_t len, struct err *err) WARN_UNUSED;

/* The name as text that may be shown in an error: invalid bytes and controls become '?', cut at
 * size - 1 bytes. */
void name_for_display(const char *name, size_t len, char *out, size_t size);

/* A form for object keys: letters, digits, dot, dash, underscore; at most 80 bytes. */
void name_for_key(const char *name, char *out, size_t size);

/* A Content-Disposition value (RFC 6266): type is "inline" or "attachment". */
int name_disposition(const char *type, const char *name, struct buf *buf,
                     struct err *err) WARN_UNUSED;
