/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/encoding.h"

#include "services/ingest-gateway/cond.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define ENCODE_MIN 1024U
#define ENCODE_MAX ((size_t)64 << 20)

bool encoding_varies(const char *content_type, size_t len)
{
    static const char *const types[] = {"application/json", "text/html", "text/javascript",
                                        "text/css", "image/svg+xml"};

    if (!content_type || len < ENCODE_MIN || len > ENCODE_MAX) {
        return false;
    }
    size_t n = strcspn(content_type, ";");
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strlen(types[i]) == n && memcmp(types[i], content_type, n) == 0) {
            return true;
        }
    }
    return false;
}

bool encoding_chosen(const struct request *req, const char *content_type, size_t len)
{
    return encoding_varies(content_type, len) && accept_gzip(req->headers[H_ACCEPT_ENCODING]);
}

static int compress_body(struct reply *reply, struct err *err)
{
    z_stream z = {0};

    if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return err_nomem(err);
    }
    size_t cap = deflateBound(&z, reply->len);
    CLEANUP(free_cleanup) char *out = malloc(cap);
    if (!out) {
        deflateEnd(&z);
        return err_nomem(err);
    }
    z.next_in = (Bytef *)reply->body;
    z.avail_in = (uInt)reply->len;
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)cap;
    int rc = deflate(&z, Z_FINISH);
    size_t len = cap - z.avail_out;
    deflateEnd(&z);
    if (rc != Z_STREAM_END) {
        return err_set(err, ERR_UNKNOWN, "internal", "an answer could not be compressed");
    }
    free(reply->body);
    reply->body = STEAL(out);
    reply->len = len;
    return 0;
}

int encoding_apply(const struct request *req, struct reply *reply, struct err *err)
{
    if (!reply->own || !reply->body || !encoding_varies(reply->content_type, reply->len)) {
        return 0;
    }
    bool chosen = encoding_chosen(req, reply->content_type, reply->len);
    if (reply_header(reply, "Vary", "Accept-Encoding", err) < 0) {
        return -1;
    }
    if (!chosen) {
        return 0;
    }
    return compress_body(reply, err) < 0 ? -1
                                         : reply_header(reply, "Content-Encoding", "gzip", err);
}

struct etag encoding_tag(const char *base, bool gzip)
{
    struct etag tag;

    snprintf(tag.text, sizeof(tag.text), "\"%s%s\"", base, gzip ? "-gz" : "");
    return tag;
}
