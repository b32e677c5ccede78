/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes out of the store: originals with ranges, preview pages, thumbnails. Small ones go out of
 * memory; large ones through the ring, as fast as the client reads.
 */
#include "services/ingest-gateway/file_content.h"

#include "libcommon/names.h"
#include "libcommon/states.h"
#include "services/ingest-gateway/cond.h"
#include "services/ingest-gateway/exchange.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/problem.h"
#include "services/ingest-gateway/sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SMALL_MAX ((uint64_t)256 << 10)

struct object_stream {
    struct store *store;
    struct store_range range;
    struct exchange *ex;
    char key[STORE_KEY_MAX + 1];
};

static int to_client(void *ctx, const char *data, size_t len, struct err *err)
{
    struct object_stream *s = ctx;

    return exchange_write(s->ex, data, len, err);
}

static int stream_object(void *ctx, struct exchange *ex, struct err *err)
{
    struct object_stream *s = ctx;
    uint64_t n;

    s->ex = ex;
    return store_get_cb(s->store, s->key, s->range, FILE_BYTES_MAX, to_client, s, &n, err);
}

/* Body of the answer: length bytes of the object from offset. */
static int send_object(struct request *req, const char *key, uint64_t offset, uint64_t length,
                       const char *type, unsigned status, struct reply *reply, struct err *err)
{
    struct store_range range = {.offset = offset, .length = length};

    reply->status = status;
    reply->content_type = type;
    if (strcmp(req->method, "HEAD") != 0 && length > 0 && length <= SMALL_MAX) {
        CLEANUP(buf_done) struct buf buf;
        buf_init(&buf, SMALL_MAX);
        if (store_get_mem(req->gw->store, key, range, SMALL_MAX, &buf, err) < 0) {
            return -1;
        }
        reply_take_buf(reply, status, type, &buf);
        return 0;
    }
    if (length == 0) {
        return 0;
    }
    struct object_stream *s = calloc(1, sizeof(*s));
    if (!s) {
        return err_nomem(err);
    }
    s->store = req->gw->store;
    s->range = range;
    snprintf(s->key, sizeof(s->key), "%s", key);
    reply->stream = stream_object;
    reply->stream_ctx = s;
    reply->stream_free = free;
    reply->stream_len = (int64_t)length;
    return 0;
}

static const char content_sql[] =
    "SELECT f.name, f.bytes, v.object_key, v.sha256, v.mime, f.state FROM file f JOIN file_version "
    "v"
    "   ON v.file_id = f.file_id AND v.version = f.version"
    " WHERE f.file_id = $1::uuid AND f.user_id = $2::uuid AND f.state < 6";

/* Types a browser may show; anything else is a download of bytes. Static text for the reply. */
static const char *safe_type(const char *mime)
{
    static const char *const known[] = {
        "application/pdf", "image/jpeg",      "image/png",      "image/webp", "image/gif",
        "image/tiff",      "image/bmp",       "text/csv",       "text/plain", "application/json",
        "message/rfc822",  "application/zip", "application/rtf"};

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(mime, known[i]) == 0) {
            return known[i];
        }
    }
    return NULL;
}

static int reply_416(struct request *req, uint64_t size, struct reply *reply)
{
    struct err why = ERR_INIT;
    char text[48];

    err_set(&why, ERR_PERMANENT, "range", "the range begins behind the end");
    reply_done(reply);
    problem_reply(&why, req->id, NULL, reply);
    snprintf(text, sizeof(text), "bytes */%" PRIu64, size);
    return reply_header(reply, "Content-Range", text, &why);
}

static int content_headers(const char *name, const char *mime, const char *etag, bool ranges,
                           struct reply *reply, struct err *err)
{
    CLEANUP(buf_done) struct buf disposition;

    buf_init(&disposition, 4096);
    if (name_disposition("attachment", name, &disposition, err) < 0 ||
        reply_header(reply, "Content-Disposition", disposition.data, err) < 0 ||
        reply_header(reply, "ETag", etag, err) < 0 ||
        reply_header(reply, "Accept-Ranges", ranges ? "bytes" : "none", err) < 0 ||
        reply_header(reply, "Cache-Control", "private, no-cache", err) < 0) {
        return -1;
    }
    reply->content_type = safe_type(mime);
    /* A type that is not in the table is sent as it was told, as text of our own. */
    return reply->content_type ? 0 : reply_header(reply, "Content-Type", mime, err);
}

int file_content_reply(struct request *req, const char *file_id, const char *user_id, bool whole,
                       struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {file_id, user_id};
    uint64_t offset = 0;
    uint64_t length;
    char etag[80];

    if (db_run(req->gw->db, content_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such file");
    }
    if (db_i64(res, 0, 5) == FILE_QUARANTINED) {
        return err_set(err, ERR_PERMANENT, "quarantined",
                       "the virus scanner holds this file back; it can be removed");
    }
    if (!db_str(res, 0, 2)) {
        return err_set(err, ERR_PERMANENT, "input_gone", "the file's content is no longer kept");
    }
    uint64_t size = (uint64_t)db_i64(res, 0, 1);
    snprintf(etag, sizeof(etag), "\"%s\"", db_str(res, 0, 3));
    if (content_headers(db_str(res, 0, 0), db_str(res, 0, 4), etag, !whole, reply, err) < 0) {
        return -1;
    }
    if (etag_listed(req->headers[H_IF_NONE_MATCH], etag)) {
        reply->status = 304;
        return 0;
    }
    const char *range = whole ? NULL : req->headers[H_RANGE];
    const char *if_range = req->headers[H_IF_RANGE];
    if (if_range && strcmp(if_range, etag) != 0) {
        range = NULL;
    }
    length = size;
    enum range_kind kind = range_parse(range, size, &offset, &length);
    if (kind == RANGE_UNSATISFIABLE) {
        return reply_416(req, size, reply);
    }
    if (kind == RANGE_PART) {
        char text[80];
        snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, offset,
                 offset + length - 1, size);
        if (reply_header(reply, "Content-Range", text, err) < 0) {
            return -1;
        }
    }
    return send_object(req, db_str(res, 0, 2), offset, length, reply->content_type,
                       kind == RANGE_PART ? 206 : 200, reply, err);
}

int file_content(struct request *req, struct reply *reply, struct err *err)
{
    return file_content_reply(req, req->params[0], req->who.user_id, false, reply, err);
}

static const char picture_sql[] =
    "SELECT a.object_key, a.bytes, a.artifact_id FROM file f JOIN artifact a"
    "   ON a.file_id = f.file_id AND a.version = f.version"
    " WHERE f.file_id = $1::uuid AND f.user_id = $2::uuid AND f.state < 6 AND a.kind = $3"
    "   AND a.page = $4::int ORDER BY a.generation DESC, a.unit LIMIT 1";

static int send_picture(struct request *req, const char *kind, int64_t page, struct reply *reply,
                        struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num num;
    const char *params[] = {req->params[0], req->who.user_id, kind, db_num(&num, page)};
    char etag[40];

    if (db_run(req->gw->db, picture_sql, 4, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "there is no such picture (yet)");
    }
    snprintf(etag, sizeof(etag), "\"a%s\"", db_str(res, 0, 2));
    if (reply_header(reply, "ETag", etag, err) < 0 ||
        reply_header(reply, "Cache-Control", "private, no-cache", err) < 0) {
        return -1;
    }
    if (etag_listed(req->headers[H_IF_NONE_MATCH], etag)) {
        reply->status = 304;
        return 0;
    }
    return send_object(req, db_str(res, 0, 0), 0, (uint64_t)db_i64(res, 0, 1), "image/webp", 200,
                       reply, err);
}

int preview_page(struct request *req, struct reply *reply, struct err *err)
{
    int64_t page = 0;

    if (!decimal_parse(req->params[1], 1, 100000, &page)) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such page");
    }
    return send_picture(req, "page", page, reply, err);
}

int thumbnail_get(struct request *req, struct reply *reply, struct err *err)
{
    int64_t size = 0;

    if (uri_arg_int(&req->uri, "size", 64, 512, 256, &size, err) < 0) {
        return -1;
    }
    if (size != 64 && size != 256 && size != 512) {
        return err_set(err, ERR_PERMANENT, "bad_request", "size is 64, 256 or 512");
    }
    return send_picture(req, "thumb", size, reply, err);
}
