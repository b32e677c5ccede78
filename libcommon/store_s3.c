/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The s3 driver: path-style requests, Signature V4, every body signed by its SHA-256 so that the
 * store itself refuses bytes that changed on the way.
 * Invariant: a fault of the setup (keys, bucket, region, certificate) is transient "store_denied",
 * never the end of a file.
 */
#include "libcommon/store_s3.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <curl/curl.h>

#include "libcommon/trace.h"

#define URL_MAX 16384
#define HEADER_LINES 12
#define STALL_SECONDS 20

/* The texts of one request, freed together. */
struct prepared {
    struct buf url;
    struct buf lines[HEADER_LINES];
    const char *headers[HEADER_LINES];
    size_t n_headers;
};

static void prepared_done(struct prepared *p)
{
    buf_done(&p->url);
    for (size_t i = 0; i < p->n_headers; i++) {
        buf_done(&p->lines[i]);
    }
}

void s3_add_query(struct s3_call *call, const char *name, const char *value)
{
    if (call->n_query < ARRAY_LEN(call->query)) {
        call->query[call->n_query++] = (struct sigv4_pair){.name = name, .value = value};
    }
}

static int s3_open(struct store *store, struct err *err)
{
    struct s3 *s3 = calloc(1, sizeof(*s3));
    struct http_client_config config = {.ca_file = store->ca_file, .max_idle = 32};

    if (!s3) {
        return err_nomem(err);
    }
    store->driver = s3;
    return http_client_new(&config, &s3->http, err);
}

static void s3_close(struct store *store)
{
    struct s3 *s3 = store->driver;

    if (s3) {
        http_client_free(s3->http);
        free(s3);
        store->driver = NULL;
    }
}

int s3_error(struct err *err, int status, const char *code, const char *message)
{
    static const struct {
        const char *code;
        enum err_class class;
        const char *ours;
    } table[] = {
        {"NoSuchKey", ERR_PERMANENT, "input_gone"},
        {"NoSuchVersion", ERR_PERMANENT, "input_gone"},
        {"NoSuchUpload", ERR_TRANSIENT, "store_unavailable"}, /* aborted from outside: send again */
        {"InvalidRange", ERR_PERMANENT, "range"},
        {"EntityTooLarge", ERR_PERMANENT, "too_large"},
        {"KeyTooLongError", ERR_PERMANENT, "invalid_name"},
        {"KeyTooLong", ERR_PERMANENT, "invalid_name"},
        {"XAmzContentSHA256Mismatch", ERR_UNKNOWN, "hash_mismatch"},
        {"BadDigest", ERR_UNKNOWN, "hash_mismatch"},
        {"IncompleteBody", ERR_TRANSIENT, "store_unavailable"},
        {"RequestTimeout", ERR_TRANSIENT, "store_unavailable"},
        {"NotImplemented", ERR_UNKNOWN, "unsupported"},
        {"AccessDenied", ERR_TRANSIENT, "store_denied"},
        {"NoSuchBucket", ERR_TRANSIENT, "store_denied"},
        {"InvalidBucketName", ERR_TRANSIENT, "store_denied"},
        {"ExpiredToken", ERR_TRANSIENT, "store_denied"},
        {"InvalidToken", ERR_TRANSIENT, "store_denied"},
        {"AuthorizationHeaderMalformed", ERR_TRANSIENT, "store_denied"},
        {"MethodNotAllowed", ERR_TRANSIENT, "store_denied"},
    };
    enum err_class class = ERR_UNKNOWN;
    const char *ours = "store_refused";

    if (status == 408 || status == 409 || status == 425 || status == 429 || status >= 500) {
        class = ERR_TRANSIENT;
        ours = "store_unavailable";
    } else if (status == 416) {
        class = ERR_PERMANENT;
        ours = "range";
    } else if (status == 401 || status == 403 || status == 404 || status < 400) {
        /* A 404 that names no object comes from something that is not our bucket. */
        class = ERR_TRANSIENT;
        ours = "store_denied";
    }
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (strcmp(table[i].code, code) == 0) {
            class = table[i].class;
            ours = table[i].ours;
        }
    }
    return err_set(err, class, ours, "the store answered %d %s%s%s", status, code,
                   message[0] ? ": " : "", message);
}

/* What http.c reports in the words of this module. */
static int transport_error(struct err *err)
{
    if (strncmp(err->code, "http_", 5) == 0) {
        struct err cause = *err;
        bool setup = strcmp(cause.code, "http_url") == 0 || strcmp(cause.code, "http_tls") == 0;
        err_set(err, ERR_TRANSIENT, setup ? "store_denied" : "store_unavailable", "%s", cause.msg);
    }
    return -1;
}

static int add_header(struct prepared *p, const char *name, const char *value, struct err *err)
{
    if (p->n_headers == HEADER_LINES) {
        return err_set(err, ERR_FATAL, "internal", "too many headers");
    }
    struct buf *line = &p->lines[p->n_headers++];
    buf_init(line, URL_MAX);
    if (buf_printf(line, err, "%s: %s", name, value) < 0) {
        return -1;
    }
    p->headers[p->n_headers - 1] = line->data;
    return 0;
}

static int make_path(const struct store *store, const char *key, struct buf *path, struct err *err)
{
    return buf_printf(path, err, "/%s%s%s", store->bucket, key ? "/" : "", key ? key : "");
}

static struct sigv4_creds make_creds(const struct store *store)
{
    return (struct sigv4_creds){
        .access_key = store->access_key,
        .secret_key = store->secret_key,
        .region = store->region,
        .service = "s3",
    };
}

static int payload_hash(const struct store_source *source, char hex[SHA256_HEX_SIZE],
                        struct err *err)
{
    if (!source) {
        return sha256_hex("", 0, hex, err);
    }
    if (source->sha256_hex) {
        snprintf(hex, SHA256_HEX_SIZE, "%s", source->sha256_hex);
        return 0;
    }
    return source->fd >= 0 ? sha256_fd_hex(source->fd, source->offset, source->len, hex, err)
                           : sha256_hex(source->data, source->len, hex, err);
}

static int make_url(const struct store *store, const struct s3_call *call, const char *path,
                    struct buf *url, struct err *err)
{
    if (buf_puts(url, store->endpoint, err) < 0 || sigv4_path(url, path, false, err) < 0) {
        return -1;
    }
    if (call->n_query == 0) {
        return 0;
    }
    return buf_puts(url, "?", err) < 0 ? -1 : sigv4_query(url, call->query, call->n_query, err);
}

/* Signs the request and writes down everything that is sent. */
static int prepare(const struct store *store, const struct s3_call *call, struct prepared *p,
                   struct err *err)
{
    CLEANUP(buf_done) struct buf path = {.max = URL_MAX};
    CLEANUP(sigv4_signature_done) struct sigv4_signature sig = SIGV4_SIGNATURE_INIT;
    char hash[SHA256_HEX_SIZE], md5[MD5_BASE64_SIZE];
    struct sigv4_pair pairs[6];
    size_t n = 0;

    if (make_path(store, call->key, &path, err) < 0 || payload_hash(call->source, hash, err) < 0 ||
        make_url(store, call, path.data, &p->url, err) < 0) {
        return -1;
    }
    pairs[n++] = (struct sigv4_pair){"Host", store->authority};
    pairs[n++] = (struct sigv4_pair){"x-amz-content-sha256", hash};
    if (call->content_type) {
        pairs[n++] = (struct sigv4_pair){"Content-Type", call->content_type};
    }
    if (call->range) {
        pairs[n++] = (struct sigv4_pair){"Range", call->range};
    }
    if (call->content_md5) {
        if (md5_base64(call->source->data, call->source->len, md5, err) < 0) {
            return -1;
        }
        pairs[n++] = (struct sigv4_pair){"Content-MD5", md5};
    }
    struct sigv4_creds creds = make_creds(store);
    struct sigv4_request request = {
        .method = call->method,
        .path = path.data,
        .query = call->query,
        .n_query = call->n_query,
        .headers = pairs,
        .n_headers = n,
        .payload_hash = hash,
        .now = clock_wall_ms() / 1000,
    };
    if (sigv4_sign(&request, &creds, &sig, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (add_header(p, pairs[i].name, pairs[i].value, err) < 0) {
            return -1;
        }
    }
    if (add_header(p, "x-amz-date", sig.date, err) < 0) {
        return -1;
    }
    return add_header(p, "Authorization", sig.authorization, err);
}

static struct http_request make_request(const struct store *store, const struct s3_call *call,
                                        const struct prepared *p)
{
    const struct store_source *source = call->source;
    uint64_t max = call->max_response ? call->max_response : S3_XML_MAX;
    struct http_request req = {
        .method = call->method,
        .url = p->url.data,
        .headers = p->headers,
        .n_headers = p->n_headers,
        .sink = call->sink,
        .sink_ctx = call->sink_ctx,
        .sink_status = call->range ? 206 : 0,
        .max_response = max,
        .connect_timeout_ms = store->connect_timeout_ms,
        .timeout_ms =
            call->timeout_ms ? call->timeout_ms : store_timeout(store, source ? source->len : 0),
        .low_speed_bytes = 256,
        .low_speed_seconds = call->slow_answer ? 0 : STALL_SECONDS,
        .abort = call->even_if_aborted ? NULL : store->abort,
    };

    if (source) {
        req.body = source->fd >= 0 ? NULL : source->data;
        req.body_from_fd = source->fd >= 0;
        req.body_fd = source->fd;
        req.body_offset = source->offset;
        req.body_len = source->len;
    }
    return req;
}

static int error_from_response(const struct http_response *resp, char code[S3_CODE_SIZE],
                               struct err *err)
{
    char message[120] = "";

    code[0] = '\0';
    if (resp->body.len > 0) {
        s3_xml_find(resp->body.data, resp->body.len, "Code", code, S3_CODE_SIZE);
        s3_xml_find(resp->body.data, resp->body.len, "Message", message, sizeof(message));
    }
    return s3_error(err, resp->status, code, message);
}

static int perform(struct store *store, const struct s3_call *call,
                   struct http_response *ret_response, char *ret_code, struct err *err)
{
    const struct s3 *s3 = store->driver;
    CLEANUP(prepared_done) struct prepared p = {.url = {.max = URL_MAX}};
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    char code[S3_CODE_SIZE] = "";
    int rc;

    if (ret_code) {
        ret_code[0] = '\0';
    }
    if (prepare(store, call, &p, err) < 0) {
        return -1;
    }
    struct http_request req = make_request(store, call, &p);
    if (http_call(s3->http, &req, &resp, err) < 0) {
        return transport_error(err);
    }
    if (call->range ? resp.status == 206 : resp.status >= 200 && resp.status < 300) {
        *ret_response = resp;
        resp = HTTP_RESPONSE_INIT; /* moved out */
        return 0;
    }
    if (resp.status == 200) {
        return err_set(err, ERR_FATAL, "unsupported", "the store ignores ranges");
    }
    rc = error_from_response(&resp, code, err);
    if (ret_code && code[0]) {
        snprintf(ret_code, S3_CODE_SIZE, "%s", code);
    } else if (ret_code) {
        snprintf(ret_code, S3_CODE_SIZE, "%d", resp.status);
    }
    return rc;
}

int s3_call(struct store *store, const struct s3_call *call, struct http_response *ret_response,
            char *ret_code, struct err *err)
{
    struct trace_span span;
    struct err local;

    err = err ? err : &local;
    trace_begin(&span, "S3", TRACE_CLIENT);
    trace_attr_text(&span, "http.request.method", call->method ? call->method : "GET");
    int rc = perform(store, call, ret_response, ret_code, err);
    trace_end_call(&span, rc, err);
    return rc;
}

int s3_call_simple(struct store *store, const struct s3_call *call, char *ret_code, struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;

    return s3_call(store, call, &resp, ret_code, err);
}

static int s3_ping(struct store *store, struct err *err)
{
    struct s3_call call = {.method = "HEAD"};

    if (s3_call_simple(store, &call, NULL, err) < 0) {
        return err_wrap(err, "bucket %s", store->bucket);
    }
    return 0;
}

static int s3_bucket_create(struct store *store, struct err *err)
{
    CLEANUP(buf_done) struct buf body = {.max = 1024};
    char code[S3_CODE_SIZE];
    struct store_source source = {.fd = -1, .data = ""};
    struct s3_call call = {.method = "PUT", .source = &source};

    if (strcmp(store->region, "us-east-1") != 0) {
        if (buf_printf(&body, err,
                       "<CreateBucketConfiguration "
                       "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>%s"
                       "</LocationConstraint></CreateBucketConfiguration>",
                       store->region) < 0) {
            return -1;
        }
        source.data = body.data;
        source.len = body.len;
    }
    if (s3_call_simple(store, &call, code, err) == 0 ||
        strcmp(code, "BucketAlreadyOwnedByYou") == 0) {
        return 0;
    }
    /* Stores differ in what they call a bucket of our own; if we may use it, it is. */
    if (strcmp(code, "BucketAlreadyExists") == 0) {
        return s3_ping(store, err);
    }
    return -1;
}

static int s3_put(struct store *store, const char *key, const struct store_source *source,
                  const char *content_type, char ret_etag[80], struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct s3_call call = {
        .method = "PUT",
        .key = key,
        .source = source,
        .content_type = content_type,
    };

    if (s3_call(store, &call, &resp, NULL, err) < 0) {
        return -1;
    }
    store_copy_etag(ret_etag, http_header_get(&resp, "ETag"));
    return 0;
}

/* "bytes 5-9/100" must begin where we asked. */
static int check_range(const struct http_response *resp, struct store_range range, struct err *err)
{
    const char *text = http_header_get(resp, "Content-Range");
    uint64_t first = 0, last = 0;

    if (!text || sscanf(text, "bytes %" SCNu64 "-%" SCNu64, &first, &last) != 2 ||
        first != range.offset || last < first || last - first + 1 != resp->body_bytes) {
        return err_set(err, ERR_TRANSIENT, "store_unavailable",
                       "the store's answer does not fit the range");
    }
    return 0;
}

static int s3_get(struct store *store, const char *key, struct store_range range, uint64_t max,
                  unsigned timeout_ms, store_sink_fn sink, void *ctx, uint64_t *ret_bytes,
                  struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    bool part = range.offset > 0 || range.length > 0;
    char text[64];
    struct s3_call call = {
        .method = "GET",
        .key = key,
        .sink = sink,
        .sink_ctx = ctx,
        .max_response = max ? max : 1,
        .timeout_ms = timeout_ms,
    };

    if (part) {
        if (range.length) {
            snprintf(text, sizeof(text), "bytes=%" PRIu64 "-%" PRIu64, range.offset,
                     range.offset + range.length - 1);
        } else {
            snprintf(text, sizeof(text), "bytes=%" PRIu64 "-", range.offset);
        }
        call.range = text;
    }
    if (s3_call(store, &call, &resp, NULL, err) < 0) {
        return -1;
    }
    if (part && check_range(&resp, range, err) < 0) {
        return -1;
    }
    const char *length = http_header_get(&resp, "Content-Length");
    if (length && strtoull(length, NULL, 10) != resp.body_bytes) {
        return err_set(err, ERR_TRANSIENT, "store_unavailable", "the store's answer was cut");
    }
    *ret_bytes = resp.body_bytes;
    return 0;
}

static int s3_head(struct store *store, const char *key, struct store_info *ret_info,
                   struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct s3_call call = {.method = "HEAD", .key = key};
    struct store_info info = {.mtime_ms = -1};
    char code[S3_CODE_SIZE];

    if (s3_call(store, &call, &resp, code, err) < 0) {
        /* An answer to HEAD has no body: only the bucket tells a missing object from a wrong
         * address. */
        if (strcmp(code, "404") == 0 && s3_ping(store, err) == 0) {
            return err_set(err, ERR_PERMANENT, "input_gone", "there is no such object");
        }
        return -1;
    }
    const char *length = http_header_get(&resp, "Content-Length");
    const char *type = http_header_get(&resp, "Content-Type");
    const char *mtime = http_header_get(&resp, "Last-Modified");
    if (!length) {
        return err_set(err, ERR_TRANSIENT, "store_unavailable", "the store says no length");
    }
    info.size = strtoull(length, NULL, 10);
    store_copy_etag(info.etag, http_header_get(&resp, "ETag"));
    snprintf(info.content_type, sizeof(info.content_type), "%s", type ? type : "");
    if (mtime) {
        time_t seconds = curl_getdate(mtime, NULL);
        info.mtime_ms = seconds < 0 ? -1 : (int64_t)seconds * 1000;
    }
    *ret_info = info;
    return 0;
}

static int s3_remove(struct store *store, const char *key, struct err *err)
{
    struct s3_call call = {.method = "DELETE", .key = key};
    char code[S3_CODE_SIZE];

    if (s3_call_simple(store, &call, code, err) < 0 && strcmp(code, "NoSuchKey") != 0) {
        return -1;
    }
    return 0;
}

static int s3_presign(struct store *store, const struct store_presign *presign, char **ret_url,
                      struct err *err)
{
    CLEANUP(buf_done) struct buf path = {.max = URL_MAX};
    CLEANUP(buf_done) struct buf url = {.max = URL_MAX};
    struct sigv4_pair host = {"Host", store->public_authority};
    struct s3_call call = {.n_query = 0};
    char part[12];

    if (presign->response_type) {
        s3_add_query(&call, "response-content-type", presign->response_type);
    }
    if (presign->response_disposition) {
        s3_add_query(&call, "response-content-disposition", presign->response_disposition);
    }
    if (presign->upload_id) {
        snprintf(part, sizeof(part), "%u", presign->part);
        s3_add_query(&call, "partNumber", part);
        s3_add_query(&call, "uploadId", presign->upload_id);
    }
    struct sigv4_creds creds = make_creds(store);
    if (make_path(store, presign->key, &path, err) < 0 ||
        buf_puts(&url, store->public_endpoint, err) < 0 ||
        sigv4_path(&url, path.data, false, err) < 0 || buf_puts(&url, "?", err) < 0) {
        return -1;
    }
    struct sigv4_request request = {
        .method = presign->method,
        .path = path.data,
        .query = call.query,
        .n_query = call.n_query,
        .headers = &host,
        .n_headers = 1,
        .payload_hash = SIGV4_UNSIGNED_PAYLOAD,
        .now = clock_wall_ms() / 1000,
    };
    if (sigv4_presign(&request, &creds, presign->expires, &url, err) < 0) {
        return -1;
    }
    *ret_url = buf_steal(&url);
    return 0;
}

const struct store_ops store_s3_ops = {
    .name = "s3",
    .caps = STORE_CAP_PRESIGN | STORE_CAP_MULTIPART | STORE_CAP_DELETE_MANY | STORE_CAP_CHECKSUM,
    .open = s3_open,
    .close = s3_close,
    .ping = s3_ping,
    .bucket_create = s3_bucket_create,
    .put = s3_put,
    .get = s3_get,
    .head = s3_head,
    .remove = s3_remove,
    .list = s3_list,
    .remove_many = s3_remove_many,
    .presign = s3_presign,
    .multipart_begin = s3_multipart_begin,
    .multipart_part = s3_multipart_part,
    .multipart_complete = s3_multipart_complete,
    .multipart_free = s3_multipart_free,
    .list_uploads = s3_list_uploads,
    .abort_upload = s3_abort_upload,
};
