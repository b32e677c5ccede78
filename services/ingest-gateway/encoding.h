/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip for answers that are in memory: JSON and the console's files, from 1 KiB on.
 * Invariant: an answer that could have been either way says so with Vary, and each way has an
 * entity tag of its own ("x" and "x-gz", of which conditions accept both).
 * Refuses users' files in any form, streams (ranges, events, exports) and what is compressed
 * already (pictures).
 */
#pragma once

#include "services/ingest-gateway/request.h"

/* Would a body of this type and length be sent as gzip or plain, depending on the client? */
bool encoding_varies(const char *content_type, size_t len);
/* ... and this client takes gzip? */
bool encoding_chosen(const struct request *req, const char *content_type, size_t len);
/* Adds Vary when the answer varies, and compresses the body (level 1) when gzip was chosen. */
int encoding_apply(const struct request *req, struct reply *reply, struct err *err) WARN_UNUSED;

/* The quoted tag as this client gets it: `base` in quotes, with "-gz" inside when gzip. */
struct etag {
    char text[80];
};
struct etag encoding_tag(const char *base, bool gzip);
