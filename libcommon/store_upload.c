/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uploads of unknown length, for bodies that are stored while they arrive.
 * Invariant: at most one part is in memory; an object appears by one PUT or by the completion of
 * its parts, never in pieces.
 * Drivers without multipart get a spool: a file without a name, so a crash leaves nothing.
 */
#include "libcommon/store.h"

#include "libcommon/scratch.h"
#include "libcommon/store_intern.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define FIRST_CHUNK 65536

struct store_upload {
    struct store *store;
    char *key;
    char *content_type;
    uint64_t max;
    uint64_t size;
    struct hash hash;
    struct err failed; /* the first error; class ERR_NONE while all is well */
    bool committed;
    char *part; /* what has not been sent; grows to STORE_PART_SIZE */
    size_t part_len;
    size_t part_cap;
    struct store_multipart *multipart; /* NULL until the first full part */
    int spool;                         /* -1 when the driver has multipart */
};

int store_upload_begin(struct store *store, const char *key, const char *content_type, uint64_t max,
                       struct store_upload **ret_upload, struct err *err)
{
    if (store_check_key(key, err) < 0) {
        return -1;
    }
    CLEANUP(store_upload_cleanup) struct store_upload *upload = calloc(1, sizeof(*upload));
    if (!upload) {
        return err_nomem(err);
    }
    upload->store = store;
    upload->max = max;
    upload->spool = -1;
    upload->key = strdup(key);
    upload->content_type = strdup(content_type ? content_type : "application/octet-stream");
    if (!upload->key || !upload->content_type) {
        return err_nomem(err);
    }
    if (hash_init(&upload->hash, HASH_SHA256, err) < 0) {
        return -1;
    }
    if (!(store->ops->caps & STORE_CAP_MULTIPART)) {
        if (scratch_open(store->scratch_dir, &upload->spool, err) < 0) {
            return -1;
        }
    }
    *ret_upload = STEAL(upload);
    return 0;
}

static int send_part(struct store_upload *upload, struct err *err)
{
    const struct store_ops *ops = upload->store->ops;
    struct store_source source = {.data = upload->part, .fd = -1, .len = upload->part_len};

    if (!upload->multipart && ops->multipart_begin(upload->store, upload->key, upload->content_type,
                                                   &upload->multipart, err) < 0) {
        return -1;
    }
    if (ops->multipart_part(upload->multipart, &source, err) < 0) {
        return -1;
    }
    upload->part_len = 0;
    return 0;
}

/* Small uploads stay small in memory: the part doubles up to its size. */
static int grow_part(struct store_upload *upload, size_t more, struct err *err)
{
    size_t need = min_size(upload->part_len + more, STORE_PART_SIZE);
    size_t cap = upload->part_cap ? upload->part_cap : FIRST_CHUNK;

    if (need <= upload->part_cap) {
        return 0;
    }
    while (cap < need) {
        cap *= 2;
    }
    char *part = realloc(upload->part, cap);
    if (!part) {
        return err_nomem(err);
    }
    upload->part = part;
    upload->part_cap = cap;
    return 0;
}

/* A full part is sent when more arrives, so that an object of exactly one part is one PUT. */
static int write_parts(struct store_upload *upload, const char *data, size_t len, struct err *err)
{
    while (len > 0) {
        if (upload->part_len == STORE_PART_SIZE && send_part(upload, err) < 0) {
            return -1;
        }
        if (grow_part(upload, len, err) < 0) {
            return -1;
        }
        size_t n = min_size(len, STORE_PART_SIZE - upload->part_len);
        memcpy(upload->part + upload->part_len, data, n);
        upload->part_len += n;
        data += n;
        len -= n;
    }
    return 0;
}

static int write_spool(struct store_upload *upload, const char *data, size_t len, struct err *err)
{
    while (len > 0) {
        ssize_t n = write(upload->spool, data, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_from_errno(err, errno, "spooling an upload");
        }
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int do_write(struct store_upload *upload, const void *data, size_t len, struct err *err)
{
    if (len > upload->max - upload->size) {
        return err_set(err, ERR_PERMANENT, "file_too_large", "the upload has more than %llu bytes",
                       (unsigned long long)upload->max);
    }
    if (hash_update(&upload->hash, data, len, err) < 0) {
        return -1;
    }
    upload->size += len;
    return upload->spool >= 0 ? write_spool(upload, data, len, err)
                              : write_parts(upload, data, len, err);
}

/* Keeps the first error, and gives it again to everyone who goes on. */
static int remember(struct store_upload *upload, int rc, const struct err *failed, struct err *err)
{
    if (rc < 0) {
        upload->failed = *failed;
        if (err) {
            *err = *failed;
        }
    }
    return rc;
}

int store_upload_write(struct store_upload *upload, const void *data, size_t len, struct err *err)
{
    struct err failed = upload->failed;

    if (failed.class != ERR_NONE) {
        return remember(upload, -1, &failed, err);
    }
    if (upload->committed) {
        return err_set(err, ERR_FATAL, "internal", "the upload is complete already");
    }
    return remember(upload, do_write(upload, data, len, &failed), &failed, err);
}

static int do_commit(struct store_upload *upload, struct store_stored *ret_stored, struct err *err)
{
    const struct store_ops *ops = upload->store->ops;
    struct store_stored stored = {.size = upload->size};
    int rc;

    if (hash_final_hex(&upload->hash, stored.sha256, sizeof(stored.sha256), err) < 0) {
        return -1;
    }
    if (upload->multipart) {
        rc = upload->part_len > 0 ? send_part(upload, err) : 0;
        if (rc == 0) {
            rc = ops->multipart_complete(upload->multipart, stored.etag, err);
        }
    } else {
        struct store_source source = {
            .data = upload->part ? upload->part : "",
            .fd = upload->spool,
            .len = upload->size,
            .sha256_hex = stored.sha256,
        };
        rc = store_put_source(upload->store, upload->key, &source, upload->content_type,
                              stored.etag, err);
    }
    if (rc == 0) {
        *ret_stored = stored;
    }
    return rc;
}

int store_upload_commit(struct store_upload *upload, struct store_stored *ret_stored,
                        struct err *err)
{
    struct err failed = upload->failed;

    if (failed.class != ERR_NONE) {
        return remember(upload, -1, &failed, err);
    }
    if (upload->committed) {
        return err_set(err, ERR_FATAL, "internal", "the upload is complete already");
    }
    int rc = remember(upload, do_commit(upload, ret_stored, &failed), &failed, err);
    upload->committed = rc == 0;
    return rc;
}

void store_upload_free(struct store_upload *upload)
{
    if (!upload) {
        return;
    }
    if (upload->multipart) {
        upload->store->ops->multipart_free(upload->multipart);
    }
    fd_cleanup(&upload->spool);
    hash_done(&upload->hash);
    free(upload->part);
    free(upload->key);
    free(upload->content_type);
    free(upload);
}
