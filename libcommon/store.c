/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The half of the object store that all drivers share: checks, limits, sinks, and the choice
 * between one request and many.
 */
#include "libcommon/store.h"

#include "libcommon/store_intern.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SINGLE_PUT_MAX ((uint64_t)64 << 20) /* a file above it goes in parts */
#define FILE_PART_SIZE ((uint64_t)16 << 20) /* of such a file: 10,000 parts are 156 GiB */
#define DEFAULT_CONNECT_MS 5000
#define DEFAULT_TIMEOUT_MS 30000
#define TIMEOUT_MAX_MS (6U * 3600 * 1000)

/* Splits "http://host:port/" into the parts that requests need. */
static int parse_endpoint(const char *url, bool *ret_tls, char **ret_endpoint, char **ret_authority,
                          struct err *err)
{
    bool tls = strncmp(url, "https://", 8) == 0;

    if (!tls && strncmp(url, "http://", 7) != 0) {
        return err_set(err, ERR_FATAL, "config", "the store's endpoint '%s' is no http(s) URL",
                       url);
    }
    const char *authority = url + (tls ? 8 : 7);
    size_t len = strcspn(authority, "/?#");
    const char *rest = authority + len;
    if (len == 0 || memchr(authority, '@', len) || (rest[0] && strcmp(rest, "/") != 0)) {
        return err_set(err, ERR_FATAL, "config",
                       "the store's endpoint '%s' must be scheme://host[:port] and no more", url);
    }
    /* The default port is not part of the Host header, and so not of what is signed. */
    const char *port = tls ? ":443" : ":80";
    size_t port_len = strlen(port);
    if (len > port_len && strncmp(authority + len - port_len, port, port_len) == 0) {
        len -= port_len;
    }
    CLEANUP(free_cleanup) char *copy = strndup(authority, len);
    char *endpoint = NULL;
    if (!copy || asprintf(&endpoint, "http%s://%s", tls ? "s" : "", copy) < 0) {
        return err_nomem(err);
    }
    *ret_tls = tls;
    *ret_endpoint = endpoint;
    *ret_authority = STEAL(copy);
    return 0;
}

static int copy_string(char **ret_copy, const char *s, const char *what, struct err *err)
{
    if (!s || !s[0]) {
        return err_set(err, ERR_FATAL, "config", "the store has no %s", what);
    }
    *ret_copy = strdup(s);
    return *ret_copy ? 0 : err_nomem(err);
}

static int copy_config(struct store *store, const struct store_config *config, struct err *err)
{
    const char *public_endpoint =
        config->public_endpoint ? config->public_endpoint : config->endpoint;
    bool tls = false;

    if (!config->endpoint) {
        return err_set(err, ERR_FATAL, "config", "the store has no endpoint");
    }
    if (parse_endpoint(public_endpoint, &tls, &store->public_endpoint, &store->public_authority,
                       err) < 0 ||
        parse_endpoint(config->endpoint, &store->tls, &store->endpoint, &store->authority, err) <
            0 ||
        copy_string(&store->region, config->region ? config->region : "us-east-1", "region", err) <
            0 ||
        copy_string(&store->bucket, config->bucket, "bucket", err) < 0 ||
        copy_string(&store->access_key, config->access_key, "access key", err) < 0 ||
        copy_string(&store->secret_key, config->secret_key, "secret key", err) < 0 ||
        copy_string(&store->scratch_dir, config->scratch_dir ? config->scratch_dir : "/tmp",
                    "scratch directory", err) < 0 ||
        (config->ca_file && copy_string(&store->ca_file, config->ca_file, "CA file", err) < 0)) {
        return -1;
    }
    store->connect_timeout_ms =
        config->connect_timeout_ms ? config->connect_timeout_ms : DEFAULT_CONNECT_MS;
    store->timeout_ms = config->timeout_ms ? config->timeout_ms : DEFAULT_TIMEOUT_MS;
    store->abort = config->abort;
    return 0;
}

static const struct store_ops *find_driver(const char *name)
{
    if (strcmp(name, "s3") == 0) {
        return &store_s3_ops;
    }
#ifdef DOCFLEET_LIBS3
    if (strcmp(name, "libs3") == 0) {
        return &store_libs3_ops;
    }
#endif
    return NULL;
}

int store_open(const struct store_config *config, struct store **ret_store, struct err *err)
{
    const char *name = config->driver ? config->driver : "s3";
    const struct store_ops *ops = find_driver(name);

    if (!ops) {
        return err_set(err, ERR_FATAL, "config", "no store driver '%s' in this build", name);
    }
    CLEANUP(store_cleanup) struct store *store = calloc(1, sizeof(*store));
    if (!store) {
        return err_nomem(err);
    }
    if (copy_config(store, config, err) < 0) {
        return -1;
    }
    store->ops = ops;
    if (ops->open(store, err) < 0) {
        return -1;
    }
    *ret_store = STEAL(store);
    return 0;
}

void store_free(struct store *store)
{
    if (!store) {
        return;
    }
    if (store->ops) {
        store->ops->close(store);
    }
    free(store->authority);
    free(store->endpoint);
    free(store->public_endpoint);
    free(store->public_authority);
    free(store->region);
    free(store->bucket);
    free(store->access_key);
    free(store->secret_key);
    free(store->ca_file);
    free(store->scratch_dir);
    free(store);
}

unsigned store_caps(const struct store *store)
{
    return store->ops->caps;
}

static int need(const struct store *store, unsigned cap, const char *what, struct err *err)
{
    if (store->ops->caps & cap) {
        return 0;
    }
    return err_set(err, ERR_FATAL, "unsupported", "the store driver %s cannot %s", store->ops->name,
                   what);
}

/* Length of the UTF-8 sequence at s, 0 when it is none. Overlong forms and surrogates are none. */
static size_t utf8_len(const unsigned char *s)
{
    if (s[0] < 0x80) {
        return 1;
    }
    size_t len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) {
        return 0;
    }
    return len;
}

static bool good_segment(const char *s, size_t len)
{
    return len > 0 && !(len == 1 && s[0] == '.') && !(len == 2 && s[0] == '.' && s[1] == '.');
}

int store_check_key(const char *key, struct err *err)
{
    size_t len = key ? strnlen(key, STORE_KEY_MAX + 1) : 0;
    bool good = len >= 1 && len <= STORE_KEY_MAX;

    for (size_t i = 0, n = 0; good && i < len; i += n) {
        const unsigned char *c = (const unsigned char *)key + i;
        n = utf8_len(c);
        good = n > 0 && c[0] >= 0x20 && c[0] != 0x7f;
    }
    for (const char *p = key; good; p++) {
        size_t segment = strcspn(p, "/");
        good = good_segment(p, segment);
        p += segment;
        if (!*p) {
            break;
        }
    }
    return good ? 0 : err_set(err, ERR_PERMANENT, "invalid_name", "not a key of an object");
}

unsigned store_timeout(const struct store *store, uint64_t bytes)
{
    uint64_t ms = store->timeout_ms + (bytes >> 20) * 1000;

    return (unsigned)min_u64(ms, TIMEOUT_MAX_MS);
}

void store_copy_etag(char ret_etag[80], const char *etag)
{
    size_t len = etag ? strlen(etag) : 0;

    if (len >= 2 && etag[0] == '"' && etag[len - 1] == '"') {
        etag++;
        len -= 2;
    }
    if (len >= 80) {
        len = 0;
    }
    if (len > 0) {
        memcpy(ret_etag, etag, len);
    }
    ret_etag[len] = '\0';
}

int64_t store_parse_time(const char *text)
{
    struct tm tm = {.tm_isdst = 0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int64_t ms = 0;

    if (!rest) {
        return -1;
    }
    if (*rest == '.') {
        int scale = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10) {
            ms += (*rest - '0') * scale;
        }
    }
    return strcmp(rest, "Z") == 0 ? (int64_t)timegm(&tm) * 1000 + ms : -1;
}

int store_ping(struct store *store, struct err *err)
{
    return store->ops->ping(store, err);
}

int store_bucket_create(struct store *store, struct err *err)
{
    return store->ops->bucket_create(store, err);
}

static int put_in_parts(struct store *store, const char *key, const struct store_source *source,
                        const char *content_type, char ret_etag[80], struct err *err)
{
    const struct store_ops *ops = store->ops;
    struct store_multipart *multipart = NULL;
    int rc = 0;

    if (source->sha256_hex) {
        /* The store checks the parts; the whole is ours to check. */
        char hex[SHA256_HEX_SIZE];
        if (sha256_fd_hex(source->fd, source->offset, source->len, hex, err) < 0) {
            return -1;
        }
        if (strcmp(hex, source->sha256_hex) != 0) {
            return err_set(err, ERR_UNKNOWN, "hash_mismatch", "the file is not what was said");
        }
    }
    if (ops->multipart_begin(store, key, content_type, &multipart, err) < 0) {
        return -1;
    }
    for (uint64_t done = 0; rc == 0 && done < source->len; done += FILE_PART_SIZE) {
        struct store_source part = {
            .fd = source->fd,
            .offset = source->offset + done,
            .len = min_u64(FILE_PART_SIZE, source->len - done),
        };
        rc = ops->multipart_part(multipart, &part, err);
    }
    if (rc == 0) {
        rc = ops->multipart_complete(multipart, ret_etag, err);
    }
    ops->multipart_free(multipart);
    return rc;
}

int store_put_source(struct store *store, const char *key, const struct store_source *source,
                     const char *content_type, char ret_etag[80], struct err *err)
{
    if (store_check_key(key, err) < 0) {
        return -1;
    }
    if (!content_type) {
        content_type = "application/octet-stream";
    }
    if (source->fd >= 0 && source->len > SINGLE_PUT_MAX &&
        (store->ops->caps & STORE_CAP_MULTIPART)) {
        return put_in_parts(store, key, source, content_type, ret_etag, err);
    }
    return store->ops->put(store, key, source, content_type, ret_etag, err);
}

int store_put_mem(struct store *store, const char *key, const void *data, size_t len,
                  const char *content_type, struct err *err)
{
    struct store_source source = {.data = len ? data : "", .fd = -1, .len = len};
    char etag[80];

    return store_put_source(store, key, &source, content_type, etag, err);
}

int store_put_fd(struct store *store, const char *key, int fd, uint64_t size,
                 const char *content_type, const char *sha256_hex, struct err *err)
{
    struct store_source source = {.fd = fd, .len = size, .sha256_hex = sha256_hex};
    char etag[80];

    return store_put_source(store, key, &source, content_type, etag, err);
}

static int get(struct store *store, const char *key, struct store_range range, uint64_t max,
               unsigned timeout_ms, store_sink_fn sink, void *ctx, uint64_t *ret_bytes,
               struct err *err)
{
    uint64_t bytes = 0;

    if (store_check_key(key, err) < 0) {
        return -1;
    }
    if (range.length > max || range.offset > INT64_MAX - range.length) {
        return err_set(err, ERR_PERMANENT, "too_large", "more than %llu bytes asked for",
                       (unsigned long long)max);
    }
    if (store->ops->get(store, key, range, max, timeout_ms, sink, ctx, &bytes, err) < 0) {
        return -1;
    }
    if (ret_bytes) {
        *ret_bytes = bytes;
    }
    return 0;
}

int store_get_cb(struct store *store, const char *key, struct store_range range, uint64_t max,
                 store_sink_fn sink, void *ctx, uint64_t *ret_bytes, struct err *err)
{
    return get(store, key, range, max, TIMEOUT_MAX_MS, sink, ctx, ret_bytes, err);
}

static int sink_to_buf(void *ctx, const char *data, size_t len, struct err *err)
{
    return buf_append(ctx, data, len, err);
}

int store_get_mem(struct store *store, const char *key, struct store_range range, size_t max,
                  struct buf *ret_buf, struct err *err)
{
    CLEANUP(buf_done) struct buf buf = {.max = max};

    unsigned timeout_ms = store_timeout(store, range.length ? range.length : max);
    if (get(store, key, range, max, timeout_ms, sink_to_buf, &buf, NULL, err) < 0) {
        return -1;
    }
    *ret_buf = buf;
    buf = (struct buf){.max = 0}; /* moved out */
    return 0;
}

static int sink_to_fd(void *ctx, const char *data, size_t len, struct err *err)
{
    const int *fd = ctx;

    while (len > 0) {
        ssize_t n = write(*fd, data, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_from_errno(err, errno, "writing an object");
        }
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int store_get_fd(struct store *store, const char *key, struct store_range range, int fd,
                 uint64_t max, uint64_t *ret_bytes, struct err *err)
{
    unsigned timeout_ms = store_timeout(store, range.length ? range.length : max);

    return get(store, key, range, max, timeout_ms, sink_to_fd, &fd, ret_bytes, err);
}

int store_head(struct store *store, const char *key, struct store_info *ret_info, struct err *err)
{
    if (store_check_key(key, err) < 0) {
        return -1;
    }
    return store->ops->head(store, key, ret_info, err);
}

int store_delete(struct store *store, const char *key, struct err *err)
{
    if (store_check_key(key, err) < 0) {
        return -1;
    }
    return store->ops->remove(store, key, err);
}

int store_delete_many(struct store *store, const char *const *keys, size_t n, struct err *err)
{
    if (n > STORE_DELETE_MAX) {
        return err_set(err, ERR_PERMANENT, "too_large", "at most %d keys at once",
                       STORE_DELETE_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (store_check_key(keys[i], err) < 0) {
            return -1;
        }
    }
    if (n == 0) {
        return 0;
    }
    if (store->ops->caps & STORE_CAP_DELETE_MANY) {
        return store->ops->remove_many(store, keys, n, err);
    }
    for (size_t i = 0; i < n; i++) {
        if (store->ops->remove(store, keys[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

int store_list(struct store *store, const char *prefix, const char *token, unsigned max,
               store_list_fn fn, void *ctx, char **ret_token, struct err *err)
{
    if (max < 1 || max > STORE_LIST_MAX || strlen(prefix) > STORE_KEY_MAX) {
        return err_set(err, ERR_PERMANENT, "invalid", "bad limit or prefix of a listing");
    }
    return store->ops->list(store, prefix, token, max, fn, ctx, ret_token, err);
}

int store_list_uploads(struct store *store, const char *prefix, store_pending_fn fn, void *ctx,
                       struct err *err)
{
    if (need(store, STORE_CAP_MULTIPART, "list unfinished uploads", err) < 0) {
        return -1;
    }
    return store->ops->list_uploads(store, prefix, fn, ctx, err);
}

int store_abort_upload(struct store *store, const char *key, const char *upload_id, struct err *err)
{
    if (need(store, STORE_CAP_MULTIPART, "abort an upload", err) < 0 ||
        store_check_key(key, err) < 0) {
        return -1;
    }
    return store->ops->abort_upload(store, key, upload_id, err);
}

int store_presign(struct store *store, const struct store_presign *presign, char **ret_url,
                  struct err *err)
{
    if (need(store, STORE_CAP_PRESIGN, "presign URLs", err) < 0 ||
        store_check_key(presign->key, err) < 0) {
        return -1;
    }
    if (strcmp(presign->method, "GET") != 0 && strcmp(presign->method, "PUT") != 0) {
        return err_set(err, ERR_FATAL, "unsupported", "only GET and PUT can be presigned");
    }
    return store->ops->presign(store, presign, ret_url, err);
}
