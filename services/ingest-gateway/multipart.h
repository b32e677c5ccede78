/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A push parser for multipart/form-data (RFC 7578): bytes in any slices, events out.
 * Invariant: the events are the same however the body was cut into feeds, and memory is bounded by
 * one part's headers; file bytes are handed through, never kept.
 * Refuses to guess: folded header lines, bare line ends, NUL, nested multiparts and a body without
 * its closing delimiter are errors. File names come out as sent; judging them is names.h's task.
 */
#pragma once

#include "libcommon/err.h"

#define MULTIPART_BOUNDARY_MAX 70U
#define MULTIPART_HEADER_MAX 8192U /* bytes of all header lines of one part */

/* Strings are borrowed for the callback. filename NULL: the part is not a file. */
struct multipart_part {
    const char *name;
    size_t name_len;
    const char *filename;
    size_t filename_len;
    const char *content_type; /* NULL when absent */
};

/* Any callback may return -1 with *err set: feeding ends with that error. */
struct multipart_events {
    int (*begin)(void *ctx, const struct multipart_part *part, struct err *err);
    int (*data)(void *ctx, const char *data, size_t len, struct err *err);
    int (*end)(void *ctx, struct err *err);
};

struct multipart;

/* Takes the boundary out of a Content-Type value. ERR_PERMANENT "unsupported_media_type" when it is
 * not multipart/form-data, "malformed_multipart" when the boundary is missing or not allowed. */
int multipart_boundary(const char *content_type, char ret_boundary[MULTIPART_BOUNDARY_MAX + 1],
                       struct err *err) WARN_UNUSED;

/* max_parts: parts of any kind; one more is ERR_PERMANENT "too_many_parts". */
int multipart_new(const char *boundary, unsigned max_parts, const struct multipart_events *events,
                  void *ctx, struct multipart **ret_parser, struct err *err) WARN_UNUSED;
void multipart_free(struct multipart *parser);
DEFINE_CLEANUP(struct multipart *, multipart_cleanup, multipart_free)

/* ERR_PERMANENT "malformed_multipart", "part_header_too_large" or "too_many_parts". After an error
 * every further call gives an error. */
int multipart_feed(struct multipart *parser, const char *data, size_t len,
                   struct err *err) WARN_UNUSED;
/* To be called at the body's end: fails unless the closing delimiter has been seen. */
int multipart_finish(struct multipart *parser, struct err *err) WARN_UNUSED;
