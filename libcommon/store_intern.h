/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store driver is: a table of functions, and what every driver gets ready-made.
 * Invariant: store.c has checked keys, limits and capabilities before a driver is called.
 * Not for other modules than the store's own files.
 */
#pragma once

#include "libcommon/store.h"

struct store_ops;

struct store {
    const struct store_ops *ops;
    void *driver; /* the driver's own state */
    bool tls;
    char *authority;        /* host[:port] of the endpoint, as the Host header says it */
    char *public_endpoint;  /* scheme://authority */
    char *public_authority; /* its authority */
    char *endpoint;         /* scheme://authority */
    char *region;
    char *bucket;
    char *access_key;
    char *secret_key;
    char *ca_file; /* or NULL */
    char *scratch_dir;
    unsigned connect_timeout_ms;
    unsigned timeout_ms;
    const atomic_bool *abort; /* borrowed, or NULL */
};

/* Bytes to store: memory, or a piece of a file when fd >= 0. */
struct store_source {
    const void *data;
    int fd;
    uint64_t offset;
    uint64_t len;
    const char *sha256_hex; /* NULL: the driver works it out if it needs it */
};

struct store_multipart; /* the driver's */

/* Required: all up to list. Where the capability is not declared the rest may be NULL. */
struct store_ops {
    const char *name;
    unsigned caps;
    int (*open)(struct store *store, struct err *err);
    void (*close)(struct store *store);
    int (*ping)(struct store *store, struct err *err);
    int (*bucket_create)(struct store *store, struct err *err);
    int (*put)(struct store *store, const char *key, const struct store_source *source,
               const char *content_type, char ret_etag[80], struct err *err);
    int (*get)(struct store *store, const char *key, struct store_range range, uint64_t max,
               unsigned timeout_ms, store_sink_fn sink, void *ctx, uint64_t *ret_bytes,
               struct err *err);
    int (*head)(struct store *store, const char *key, struct store_info *ret_info, struct err *err);
    int (*remove)(struct store *store, const char *key, struct err *err);
    int (*list)(struct store *store, const char *prefix, const char *token, unsigned max,
                store_list_fn fn, void *ctx, char **ret_token, struct err *err);
    /* STORE_CAP_DELETE_MANY */
    int (*remove_many)(struct store *store, const char *const *keys, size_t n, struct err *err);
    /* STORE_CAP_PRESIGN */
    int (*presign)(struct store *store, const struct store_presign *presign, char **ret_url,
                   struct err *err);
    /* STORE_CAP_MULTIPART. free takes the parts back unless complete succeeded. */
    int (*multipart_begin)(struct store *store, const char *key, const char *content_type,
                           struct store_multipart **ret_multipart, struct err *err);
    int (*multipart_part)(struct store_multipart *multipart, const struct store_source *source,
                          struct err *err);
    int (*multipart_complete)(struct store_multipart *multipart, char ret_etag[80],
                              struct err *err);
    void (*multipart_free)(struct store_multipart *multipart);
    int (*list_uploads)(struct store *store, const char *prefix, store_pending_fn fn, void *ctx,
                        struct err *err);
    int (*abort_upload)(struct store *store, const char *key, const char *upload_id,
                        struct err *err);
};

extern const struct store_ops store_s3_ops;
#ifdef DOCFLEET_LIBS3
extern const struct store_ops store_libs3_ops;
#endif

/* Checks a key as the head of store.h says. */
int store_check_key(const char *key, struct err *err) WARN_UNUSED;
/* Puts source as one object or, when it is large and the driver can, in parts. */
int store_put_source(struct store *store, const char *key, const struct store_source *source,
                     const char *content_type, char ret_etag[80], struct err *err) WARN_UNUSED;
/* Milliseconds a transfer of that many bytes may take in all. */
unsigned store_timeout(const struct store *store, uint64_t bytes);
/* Copies an ETag without its quotes; one that does not fit becomes empty. */
void store_copy_etag(char ret_etag[80], const char *etag);
/* "2026-03-01T10:20:30.000Z" in milliseconds, -1 when it is none. */
int64_t store_parse_time(const char *text);
