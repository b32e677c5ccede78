/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The opaque cursor of a keyset page: which sort it belongs to, and the last row's key.
 * Invariant: a cursor of another sort or of another shape is refused, so it can never turn into a
 * wrong page. It is no secret and carries nothing the client has not seen.
 */
#pragma once

#include "libcommon/err.h"

#define CURSOR_VALUE_MAX 512U

struct cursor {
    char id[37];
    char value[CURSOR_VALUE_MAX + 1]; /* of the sort column; "" when the id alone sorts */
};

/* malloc'd base64url text; NULL when out of memory or value is too long. */
char *cursor_encode(const char *sort, const char *id, const char *value);
/* ERR_PERMANENT "bad_request". */
int cursor_decode(const char *text, const char *sort, struct cursor *ret_cursor,
                  struct err *err) WARN_UNUSED;
