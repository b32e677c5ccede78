/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What request headers ask about a representation: a byte range, an entity tag, a media type.
 * Invariant: pure functions over strings; anything malformed is treated as if it were absent, as
 * RFC 9110 wants, never as an error.
 */
#pragma once

#include "libcommon/base.h"

enum range_kind {
    RANGE_WHOLE,         /* no usable range: 200 with everything */
    RANGE_PART,          /* 206 */
    RANGE_UNSATISFIABLE, /* 416 */
};

/* One range of bytes over size bytes; several ranges count as none. header may be NULL. */
enum range_kind range_parse(const char *header, uint64_t size, uint64_t *ret_offset,
                            uint64_t *ret_length);

/* Weak comparison of an If-None-Match list (may be NULL) with one quoted tag; the tag of the gzip
 * form ("x-gz" for "x") counts as the same. */
bool etag_listed(const char *header, const char *etag);
/* Strong comparison of an If-Match list: weak tags never match. */
bool etag_matches(const char *header, const char *etag);

/* Does Accept (NULL: everything) prefer application/json to text/plain? What is named wins over
 * what a wildcard allows; when both or neither are, the higher q, then text. */
bool accept_prefers_json(const char *accept);
/* Does Accept-Encoding (NULL: no) allow gzip, by name or by wildcard? */
bool accept_gzip(const char *accept_encoding);
/* Is this exact type named with q > 0? */
bool accept_names(const char *accept, const char *type);
