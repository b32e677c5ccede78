/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object store: one interface over two drivers, `s3` (own, Signature V4) and `libs3` (the
 * package of that name, Signature V2).
 * Invariant: a call that returns 0 has moved all of the bytes, and an object is visible whole or
 * not at all.
 * Refuses to guess: what a driver cannot do it does not declare in store_caps(), and asking for it
 * is ERR_FATAL "unsupported".
 *
 * Keys are UTF-8, 1..STORE_KEY_MAX bytes, without control characters and without empty, "." and
 * ".." segments ("invalid_name" otherwise). Every call may fail with
 *   ERR_TRANSIENT "store_unavailable"  timeout, connection, 5xx, throttling
 *   ERR_TRANSIENT "store_denied"       refused key, signature or bucket: a fault of the setup,
 * which must not cost a file its life ERR_PERMANENT "input_gone"         there is no such object
 *   ERR_PERMANENT "too_large"          more bytes than the caller allows
 *   ERR_UNKNOWN   "hash_mismatch"      stored bytes are not those sent
 *   ERR_TRANSIENT "aborted"            the abort flag was raised
 * A store is safe for any number of threads; a store_upload belongs to one at a time.
 */
#pragma once

#include "libcommon/buf.h"
#include "libcommon/err.h"
#include "libcommon/sha256.h"

#include <stdatomic.h>

#define STORE_KEY_MAX 1024
#define STORE_PART_SIZE ((size_t)8 << 20) /* of a streaming upload: its memory, too */
#define STORE_DELETE_MAX 1000             /* keys of one store_delete_many */
#define STORE_LIST_MAX 1000               /* entries of one store_list */

struct store;

struct store_config {
    const char *driver;          /* "s3" or "libs3" */
    const char *endpoint;        /* "http://127.0.0.1:7070", path-style */
    const char *public_endpoint; /* presigned URLs are made for it; NULL: endpoint */
    const char *region;          /* NULL: "us-east-1" */
    const char *bucket;
    const char *access_key;
    const char *secret_key;
    const char *ca_file;         /* NULL: the system's */
    unsigned connect_timeout_ms; /* 0: 5 s */
    unsigned timeout_ms;      /* 0: 30 s; a transfer gets 1 s more per MiB, stalls end after 20 s */
    const char *scratch_dir;  /* for spooled uploads; NULL: /tmp */
    const atomic_bool *abort; /* may be NULL; running calls end when it becomes true */
};

enum store_cap {
    STORE_CAP_PRESIGN = 1U << 0,     /* store_presign */
    STORE_CAP_MULTIPART = 1U << 1,   /* parts: store_list_uploads, store_abort_upload */
    STORE_CAP_DELETE_MANY = 1U << 2, /* one request for many; without it they go one by one */
    STORE_CAP_CHECKSUM = 1U << 3,    /* the store itself checks the SHA-256 of what it gets */
};

/* Connects nothing. Strings are copied. ERR_FATAL "config" for an unknown driver or a bad
 * endpoint. */
int store_open(const struct store_config *config, struct store **ret_store,
               struct err *err) WARN_UNUSED;
/* No call or upload may be running. Takes NULL. */
void store_free(struct store *store);
DEFINE_CLEANUP(struct store *, store_cleanup, store_free)

unsigned store_caps(const struct store *store); /* enum store_cap, or-ed */

/* Is the bucket there, and may we use it? */
int store_ping(struct store *store, struct err *err) WARN_UNUSED;
/* Makes the bucket; one of ours that exists already is success. */
int store_bucket_create(struct store *store, struct err *err) WARN_UNUSED;

/* content_type may be NULL (application/octet-stream). An existing object is replaced. */
int store_put_mem(struct store *store, const char *key, const void *data, size_t len,
                  const char *content_type, struct err *err) WARN_UNUSED;
/* size bytes of fd from its start, by pread. sha256_hex (may be NULL) is that of the bytes, checked
 * by the store where it can. A file that is shorter is ERR_UNKNOWN "io". */
int store_put_fd(struct store *store, const char *key, int fd, uint64_t size,
                 const char *content_type, const char *sha256_hex, struct err *err) WARN_UNUSED;

/* length 0: to the end. The whole object: STORE_WHOLE. */
struct store_range {
    uint64_t offset;
    uint64_t length;
};
#define STORE_WHOLE ((struct store_range){.offset = 0, .length = 0})

/* A range that starts at or past the end is ERR_PERMANENT "range"; one that ends past it is cut.
 * More than max bytes is "too_large" (max is not optional). */
int store_get_mem(struct store *store, const char *key, struct store_range range, size_t max,
                  struct buf *ret_buf, struct err *err) WARN_UNUSED;
/* Writes at fd's position. After an error fd holds a part; truncating is the caller's. */
int store_get_fd(struct store *store, const char *key, struct store_range range, int fd,
                 uint64_t max, uint64_t *ret_bytes, struct err *err) WARN_UNUSED;
/* Bytes as they come; -1 from the sink ends the call with the error the sink set. A sink may take
 * its time (a slow reader of a download): only a store that stalls is given up. */
typedef int (*store_sink_fn)(void *ctx, const char *data, size_t len, struct err *err);
int store_get_cb(struct store *store, const char *key, struct store_range range, uint64_t max,
                 store_sink_fn sink, void *ctx, uint64_t *ret_bytes, struct err *err) WARN_UNUSED;

struct store_info {
    uint64_t size;
    int64_t mtime_ms; /* wall clock; -1 unknown */
    char etag[80];    /* without quotes */
    char content_type[128];
};
int store_head(struct store *store, const char *key, struct store_info *ret_info,
               struct err *err) WARN_UNUSED;

/* Deleting what is not there is success. */
int store_delete(struct store *store, const char *key, struct err *err) WARN_UNUSED;
/* At most STORE_DELETE_MAX keys. On error some may be gone; it can be repeated. */
int store_delete_many(struct store *store, const char *const *keys, size_t n,
                      struct err *err) WARN_UNUSED;

struct store_entry {
    const char *key; /* borrowed for the callback */
    uint64_t size;
    int64_t mtime_ms;
    char etag[80]; /* without quotes; "" unknown */
};
typedef int (*store_list_fn)(void *ctx, const struct store_entry *entry, struct err *err);
/* One page in key order: at most max (1..STORE_LIST_MAX) entries that start with prefix (may be
 * ""). token NULL begins; *ret_token (malloc'd) continues, or is NULL at the end. */
int store_list(struct store *store, const char *prefix, const char *token, unsigned max,
               store_list_fn fn, void *ctx, char **ret_token, struct err *err) WARN_UNUSED;

/* Unfinished multipart uploads, what a killed process leaves behind (STORE_CAP_MULTIPART). */
struct store_pending {
    const char *key;
    const char *upload_id;
    int64_t initiated_ms;
};
typedef int (*store_pending_fn)(void *ctx, const struct store_pending *pending, struct err *err);
int store_list_uploads(struct store *store, const char *prefix, store_pending_fn fn, void *ctx,
                       struct err *err) WARN_UNUSED;
/* One that is gone already is success. */
int store_abort_upload(struct store *store, const char *key, const char *upload_id,
                       struct err *err) WARN_UNUSED;

/* A URL that lets its holder make one kind of call (STORE_CAP_PRESIGN). */
struct store_presign {
    const char *method; /* "GET" or "PUT" */
    const char *key;
    unsigned expires; /* seconds, 1..604800 */
    /* GET: the headers the store is to answer with; NULL: its own. */
    const char *response_type;
    const char *response_disposition;
    /* PUT of a part of a multipart upload; NULL and 0: of an object. */
    const char *upload_id;
    unsigned part;
};
int store_presign(struct store *store, const struct store_presign *presign, char **ret_url,
                  struct err *err) WARN_UNUSED;

/*
 * An upload of unknown length. Nothing is visible before store_upload_commit returns 0, and
 * nothing stays behind without it, except when the store cannot be reached to take parts back
 * (store_list_uploads finds those).
 */
struct store_upload;

struct store_stored {
    uint64_t size;
    char sha256[SHA256_HEX_SIZE];
    char etag[80];
};
/* max: bytes this upload may hold. content_type may be NULL. Nothing is sent yet. */
int store_upload_begin(struct store *store, const char *key, const char *content_type, uint64_t max,
                       struct store_upload **ret_upload, struct err *err) WARN_UNUSED;
/* Blocks while a full part is sent. After an error every further call gives that error. */
int store_upload_write(struct store_upload *upload, const void *data, size_t len,
                       struct err *err) WARN_UNUSED;
/* Makes the object visible. The upload still has to be freed. */
int store_upload_commit(struct store_upload *upload, struct store_stored *ret_stored,
                        struct err *err) WARN_UNUSED;
/* Frees, and takes everything back when there was no successful commit. Takes NULL. */
void store_upload_free(struct store_upload *upload);
DEFINE_CLEANUP(struct store_upload *, store_upload_cleanup, store_upload_free)
