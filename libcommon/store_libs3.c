/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The libs3 driver: the libs3 package, for stores that take Signature V2 (libs3 2.0 knows no
 * other). It has no multipart, no deletion of many and no checksum but Content-MD5.
 * Invariant: every request runs in a context of its own under a deadline, because libs3 itself only
 * ends transfers that are slow, not those that are silent from the start.
 * libs3 is GPL-3: a program that links this file is distributed under it. Built by default,
 * left out with LIBS3=0.
 */
#include "libcommon/store_intern.h"

#ifdef DOCFLEET_LIBS3

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include <libs3.h>

#define WAIT_MAX_US 50000
#define DETAIL_SIZE 160

/* One request while it runs: what the callbacks share. */
struct call {
    const struct store *store;
    S3RequestContext *context;
    S3Status status;
    bool done;
    char detail[DETAIL_SIZE];
    struct err err; /* set by a callback of ours that ended the request */
    uint64_t deadline;

    const struct store_source *source; /* put */
    uint64_t sent;
    store_sink_fn sink; /* get */
    void *sink_ctx;
    uint64_t max;
    uint64_t received;
    struct store_info info; /* from the headers */
    store_list_fn list_fn;  /* list */
    void *list_ctx;
    bool truncated;
    char last_key[STORE_KEY_MAX + 1];
};

static pthread_once_t libs3_once = PTHREAD_ONCE_INIT;
static S3Status libs3_init_rc;

/* Held from call_begin to call_finish: libs3 writes the date of a request with gmtime(), whose
 * result all threads share. No request is sent meanwhile, only written down. */
static pthread_mutex_t libs3_prepare = PTHREAD_MUTEX_INITIALIZER;

static void init_libs3(void)
{
    libs3_init_rc = S3_initialize("docfleet", S3_INIT_ALL, NULL);
}

static S3Status on_properties(const S3ResponseProperties *properties, void *ctx)
{
    struct call *call = ctx;

    call->info.size = properties->contentLength;
    call->info.mtime_ms = properties->lastModified < 0 ? -1 : properties->lastModified * 1000;
    store_copy_etag(call->info.etag, properties->eTag);
    snprintf(call->info.content_type, sizeof(call->info.content_type), "%s",
             properties->contentType ? properties->contentType : "");
    return S3StatusOK;
}

static void on_complete(S3Status status, const S3ErrorDetails *details, void *ctx)
{
    struct call *call = ctx;

    call->status = status;
    call->done = true;
    if (details && details->message) {
        snprintf(call->detail, sizeof(call->detail), "%s", details->message);
    }
}

static const S3ResponseHandler response_handler = {
    .propertiesCallback = on_properties,
    .completeCallback = on_complete,
};

static S3BucketContext make_bucket(const struct store *store)
{
    return (S3BucketContext){
        .hostName = store->authority,
        .bucketName = store->bucket,
        .protocol = store->tls ? S3ProtocolHTTPS : S3ProtocolHTTP,
        .uriStyle = S3UriStylePath,
        .accessKeyId = store->access_key,
        .secretAccessKey = store->secret_key,
    };
}

static int libs3_open(struct store *store, struct err *err)
{
    if (store->tls) {
        /* libs3 2.0 switches libcurl's check of the certificate off, and offers no switch. */
        return err_set(err, ERR_FATAL, "config",
                       "the libs3 driver checks no certificate, so it takes no https endpoint");
    }
    pthread_once(&libs3_once, init_libs3);
    if (libs3_init_rc != S3StatusOK) {
        return err_set(err, ERR_FATAL, "internal", "libs3 does not start: %s",
                       S3_get_status_name(libs3_init_rc));
    }
    return 0;
}

static void libs3_close(struct store *store)
{
    (void)store; /* libs3 stays initialised: it is once for the process */
}

/* After success the request is put into the context at once, and then call_finish() called. */
static int call_begin(struct call *call, const struct store *store, unsigned timeout_ms,
                      struct err *err)
{
    *call = (struct call){.store = store, .status = S3StatusInternalError};
    call->info.mtime_ms = -1;
    call->deadline = clock_mono_ms() + timeout_ms;
    if (store->abort && atomic_load(store->abort)) {
        return err_set(err, ERR_TRANSIENT, "aborted", "the call was cancelled");
    }
    if (S3_create_request_context(&call->context) != S3StatusOK) {
        return err_nomem(err);
    }
    pthread_mutex_lock(&libs3_prepare);
    return 0;
}

static void wait_for_sockets(S3RequestContext *context)
{
    fd_set reads, writes, excepts;
    int max_fd = -1;
    struct timeval wait = {.tv_usec = WAIT_MAX_US};

    FD_ZERO(&reads);
    FD_ZERO(&writes);
    FD_ZERO(&excepts);
    /* Descriptors above FD_SETSIZE are left out by libcurl: then we poll. */
    if (S3_get_request_context_fdsets(context, &reads, &writes, &excepts, &max_fd) != S3StatusOK ||
        max_fd < 0) {
        usleep(2000);
        return;
    }
    select(max_fd + 1, &reads, &writes, &excepts, &wait);
}

/* A fault of the setup is transient: it must not cost a file its life. */
static int error_from_status(const struct call *call, struct err *err)
{
    const char *name = S3_get_status_name(call->status);
    enum err_class class = ERR_TRANSIENT;
    const char *code = "store_unavailable";

    switch (call->status) {
    case S3StatusErrorNoSuchKey:
    case S3StatusHttpErrorNotFound:
        class = ERR_PERMANENT;
        code = "input_gone";
        break;
    case S3StatusErrorInvalidRange:
        class = ERR_PERMANENT;
        code = "range";
        break;
    case S3StatusErrorEntityTooLarge:
        class = ERR_PERMANENT;
        code = "too_large";
        break;
    case S3StatusKeyTooLong:
    case S3StatusUriTooLong:
    case S3StatusErrorKeyTooLong:
        class = ERR_PERMANENT;
        code = "invalid_name";
        break;
    case S3StatusErrorBadDigest:
    case S3StatusErrorInvalidDigest:
        class = ERR_UNKNOWN;
        code = "hash_mismatch";
        break;
    case S3StatusErrorAccessDenied:
    case S3StatusErrorAccountProblem:
    case S3StatusErrorCredentialsNotSupported:
    case S3StatusErrorExpiredToken:
    case S3StatusErrorInvalidAccessKeyId:
    case S3StatusErrorInvalidBucketName:
    case S3StatusErrorInvalidSecurity:
    case S3StatusErrorInvalidToken:
    case S3StatusErrorMethodNotAllowed:
    case S3StatusErrorNoSuchBucket:
    case S3StatusErrorNotSignedUp:
    case S3StatusErrorPermanentRedirect:
    case S3StatusErrorRequestTimeTooSkewed:
    case S3StatusErrorSignatureDoesNotMatch:
    case S3StatusHttpErrorForbidden:
    case S3StatusServerFailedVerification:
    case S3StatusInvalidBucketNameTooLong:
    case S3StatusInvalidBucketNameTooShort:
    case S3StatusInvalidBucketNameFirstCharacter:
    case S3StatusInvalidBucketNameCharacter:
    case S3StatusInvalidBucketNameCharacterSequence:
    case S3StatusInvalidBucketNameDotQuadNotation:
        code = "store_denied";
        break;
    case S3StatusHttpErrorBadRequest:
    case S3StatusErrorInvalidArgument:
        class = ERR_UNKNOWN;
        code = "store_refused";
        break;
    default:
        break;
    }
    return err_set(err, class, code, "the store answered %s%s%s", name, call->detail[0] ? ": " : "",
                   call->detail);
}

/* Drives the request that was put into the context; frees the context. */
static int call_finish(struct call *call, struct err *err)
{
    int remaining = 1;
    const char *ended = NULL;

    pthread_mutex_unlock(&libs3_prepare);
    while (!call->done && !ended) {
        if (S3_runonce_request_context(call->context, &remaining) != S3StatusOK) {
            ended = "libs3 failed";
        } else if (call->done || remaining == 0) {
            break;
        } else if (clock_mono_ms() > call->deadline) {
            ended = "the store did not answer in time";
        } else if (call->store->abort && atomic_load(call->store->abort)) {
            err_set(&call->err, ERR_TRANSIENT, "aborted", "the call was cancelled");
            ended = "aborted";
        } else {
            wait_for_sockets(call->context);
        }
    }
    S3_destroy_request_context(call->context); /* completes what still runs */
    call->context = NULL;
    if (call->err.class != ERR_NONE) {
        if (err) {
            *err = call->err;
        }
        return -1;
    }
    if (ended) {
        return err_set(err, ERR_TRANSIENT, "store_unavailable", "%s", ended);
    }
    return call->status == S3StatusOK ? 0 : error_from_status(call, err);
}

static S3Status on_ping(int truncated, const char *next_marker, int n,
                        const S3ListBucketContent *contents, int n_prefixes, const char **prefixes,
                        void *ctx)
{
    (void)truncated, (void)next_marker, (void)n, (void)contents;
    (void)n_prefixes, (void)prefixes, (void)ctx;
    return S3StatusOK;
}

/* Lists one object: asking for the bucket's location succeeds at S3Proxy for any name. */
static int libs3_ping(struct store *store, struct err *err)
{
    static const S3ListBucketHandler handler = {
        .responseHandler = {.propertiesCallback = on_properties, .completeCallback = on_complete},
        .listBucketCallback = on_ping,
    };
    S3BucketContext bucket = make_bucket(store);
    struct call call;

    if (call_begin(&call, store, store->timeout_ms, err) < 0) {
        return -1;
    }
    S3_list_bucket(&bucket, NULL, NULL, NULL, 1, call.context, &handler, &call);
    if (call_finish(&call, err) < 0) {
        if (call.status == S3StatusHttpErrorNotFound) {
            err_set(err, ERR_TRANSIENT, "store_denied", "there is no such bucket");
        }
        return err_wrap(err, "bucket %s", store->bucket);
    }
    return 0;
}

static int libs3_bucket_create(struct store *store, struct err *err)
{
    struct call call;
    const char *region = strcmp(store->region, "us-east-1") == 0 ? NULL : store->region;

    if (call_begin(&call, store, store->timeout_ms, err) < 0) {
        return -1;
    }
    S3_create_bucket(store->tls ? S3ProtocolHTTPS : S3ProtocolHTTP, store->access_key,
                     store->secret_key, store->authority, store->bucket, S3CannedAclPrivate, region,
                     call.context, &response_handler, &call);
    if (call_finish(&call, err) == 0 || call.status == S3StatusErrorBucketAlreadyOwnedByYou) {
        return 0;
    }
    /* Stores differ in what they call a bucket of our own; if we may use it, it is. */
    if (call.status == S3StatusErrorBucketAlreadyExists ||
        call.status == S3StatusHttpErrorConflict) {
        return libs3_ping(store, err);
    }
    return -1;
}

static S3Status on_get_data(int size, const char *data, void *ctx)
{
    struct call *call = ctx;
    size_t len = (size_t)size;

    if (len > call->max - call->received) {
        err_set(&call->err, ERR_PERMANENT, "too_large", "the object has more than %llu bytes",
                (unsigned long long)call->max);
        return S3StatusAbortedByCallback;
    }
    call->received += len;
    if (call->sink(call->sink_ctx, data, len, &call->err) < 0) {
        return S3StatusAbortedByCallback;
    }
    return S3StatusOK;
}

static int libs3_head(struct store *store, const char *key, struct store_info *ret_info,
                      struct err *err)
{
    S3BucketContext bucket = make_bucket(store);
    struct call call;

    if (call_begin(&call, store, store->timeout_ms, err) < 0) {
        return -1;
    }
    S3_head_object(&bucket, key, call.context, &response_handler, &call);
    if (call_finish(&call, err) < 0) {
        /* An answer to HEAD has no body: only the bucket tells a missing object from a wrong
         * address. */
        if (call.status == S3StatusHttpErrorNotFound && libs3_ping(store, err) == 0) {
            return err_set(err, ERR_PERMANENT, "input_gone", "there is no such object");
        }
        return -1;
    }
    *ret_info = call.info;
    return 0;
}

static int on_put_data(int size, char *data, void *ctx)
{
    struct call *call = ctx;
    const struct store_source *source = call->source;
    size_t n = (size_t)min_u64((uint64_t)size, source->len - call->sent);

    if (n == 0) {
        return 0;
    }
    if (source->fd < 0) {
        memcpy(data, (const char *)source->data + call->sent, n);
    } else {
        ssize_t got;
        do {
            got = pread(source->fd, data, n, (off_t)(source->offset + call->sent));
        } while (got < 0 && errno == EINTR);
        if (got <= 0) {
            if (got < 0) {
                err_from_errno(&call->err, errno, "reading a file to store");
            } else {
                err_set(&call->err, ERR_UNKNOWN, "io", "the file is shorter than was said");
            }
            return -1;
        }
        n = (size_t)got;
    }
    call->sent += n;
    return (int)n;
}

static int source_md5(const struct store_source *source, char md5[MD5_BASE64_SIZE], struct err *err)
{
    if (source->fd >= 0) {
        return md5_base64_fd(source->fd, source->offset, source->len, md5, err);
    }
    return md5_base64(source->data, source->len, md5, err);
}

static int libs3_put(struct store *store, const char *key, const struct store_source *source,
                     const char *content_type, char ret_etag[80], struct err *err)
{
    static const S3PutObjectHandler handler = {
        .responseHandler = {.propertiesCallback = on_properties, .completeCallback = on_complete},
        .putObjectDataCallback = on_put_data,
    };
    S3BucketContext bucket = make_bucket(store);
    char md5[MD5_BASE64_SIZE], hex[SHA256_HEX_SIZE];
    struct call call;

    /* The store cannot check a SHA-256; so it is checked before. */
    if (source->sha256_hex && source->fd >= 0) {
        if (sha256_fd_hex(source->fd, source->offset, source->len, hex, err) < 0) {
            return -1;
        }
        if (strcmp(hex, source->sha256_hex) != 0) {
            return err_set(err, ERR_UNKNOWN, "hash_mismatch", "the file is not what was said");
        }
    }
    if (source_md5(source, md5, err) < 0 ||
        call_begin(&call, store, store_timeout(store, source->len), err) < 0) {
        return -1;
    }
    call.source = source;
    S3PutProperties properties = {
        .contentType = content_type,
        .md5 = md5,
        .expires = -1,
        .cannedAcl = S3CannedAclPrivate,
    };
    S3_put_object(&bucket, key, source->len, &properties, call.context, &handler, &call);
    if (call_finish(&call, err) < 0) {
        return -1;
    }
    if (call.sent != source->len) {
        return err_set(err, ERR_TRANSIENT, "store_unavailable", "the object was sent only in part");
    }
    /* libs3 takes the headers of "100 Continue" for those of the answer, so what was stored is
     * asked for. */
    struct store_info info;
    if (libs3_head(store, key, &info, err) < 0) {
        return -1;
    }
    if (info.size != source->len) {
        return err_set(err, ERR_TRANSIENT, "store_unavailable", "the object was stored in part");
    }
    memcpy(ret_etag, info.etag, sizeof(info.etag));
    return 0;
}

static int libs3_get(struct store *store, const char *key, struct store_range range, uint64_t max,
                     unsigned timeout_ms, store_sink_fn sink, void *ctx, uint64_t *ret_bytes,
                     struct err *err)
{
    static const S3GetObjectHandler handler = {
        .responseHandler = {.propertiesCallback = on_properties, .completeCallback = on_complete},
        .getObjectDataCallback = on_get_data,
    };
    static const S3GetConditions conditions = {.ifModifiedSince = -1, .ifNotModifiedSince = -1};
    S3BucketContext bucket = make_bucket(store);
    struct call call;

    if (call_begin(&call, store, timeout_ms, err) < 0) {
        return -1;
    }
    call.sink = sink;
    call.sink_ctx = ctx;
    call.max = max;
    S3_get_object(&bucket, key, &conditions, range.offset, range.length, call.context, &handler,
                  &call);
    if (call_finish(&call, err) < 0) {
        return -1;
    }
    if (call.received != call.info.size) {
        return err_set(err, ERR_TRANSIENT, "store_unavailable", "the store's answer was cut");
    }
    *ret_bytes = call.received;
    return 0;
}

static int libs3_remove(struct store *store, const char *key, struct err *err)
{
    S3BucketContext bucket = make_bucket(store);
    struct call call;

    if (call_begin(&call, store, store->timeout_ms, err) < 0) {
        return -1;
    }
    S3_delete_object(&bucket, key, call.context, &response_handler, &call);
    if (call_finish(&call, err) == 0 || call.status == S3StatusErrorNoSuchKey) {
        return 0;
    }
    return -1;
}

static S3Status on_list(int truncated, const char *next_marker, int n,
                        const S3ListBucketContent *contents, int n_prefixes, const char **prefixes,
                        void *ctx)
{
    struct call *call = ctx;

    (void)next_marker, (void)n_prefixes, (void)prefixes;
    call->truncated = truncated != 0;
    for (int i = 0; i < n; i++) {
        struct store_entry entry = {
            .key = contents[i].key,
            .size = contents[i].size,
            .mtime_ms = contents[i].lastModified < 0 ? -1 : contents[i].lastModified * 1000,
        };
        store_copy_etag(entry.etag, contents[i].eTag);
        snprintf(call->last_key, sizeof(call->last_key), "%s", contents[i].key);
        if (call->list_fn(call->list_ctx, &entry, &call->err) < 0) {
            return S3StatusAbortedByCallback;
        }
    }
    return S3StatusOK;
}

static int libs3_list(struct store *store, const char *prefix, const char *token, unsigned max,
                      store_list_fn fn, void *ctx, char **ret_token, struct err *err)
{
    static const S3ListBucketHandler handler = {
        .responseHandler = {.propertiesCallback = on_properties, .completeCallback = on_complete},
        .listBucketCallback = on_list,
    };
    S3BucketContext bucket = make_bucket(store);
    struct call call;
    char *next = NULL;

    if (call_begin(&call, store, store->timeout_ms, err) < 0) {
        return -1;
    }
    call.list_fn = fn;
    call.list_ctx = ctx;
    S3_list_bucket(&bucket, prefix, token, NULL, (int)max, call.context, &handler, &call);
    if (call_finish(&call, err) < 0) {
        return -1;
    }
    if (call.truncated && call.last_key[0]) {
        next = strdup(call.last_key); /* the marker of the page that follows */
        if (!next) {
            return err_nomem(err);
        }
    }
    *ret_token = next;
    return 0;
}

const struct store_ops store_libs3_ops = {
    .name = "libs3",
    .caps = 0,
    .open = libs3_open,
    .close = libs3_close,
    .ping = libs3_ping,
    .bucket_create = libs3_bucket_create,
    .put = libs3_put,
    .get = libs3_get,
    .head = libs3_head,
    .remove = libs3_remove,
    .list = libs3_list,
};

#endif
