/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What backup, restore and verify share: the objects that rows name beside the objects of the
 * store, the form of a backup's folder, and running Postgres' own programs.
 *
 *   DIR/<time>/manifest.json   written last: a folder without one is no backup
 *   DIR/<time>/database.dump   pg_dump's custom format
 *   DIR/<time>/objects.jsonl   one line an object: {"key","size","sha256","etag"}
 *   DIR/objects/<key>          the bytes, shared by all backups of DIR: a key's bytes never change
 */
#pragma once

#include "libcommon/sha256.h"
#include "services/docfleetctl/ctl.h"

#include <jansson.h>

#define BACKUP_FORMAT "docfleet-backup-1"
#define BACKUP_PATH_MAX 4096
/* Held shared while the cleaner deletes objects, exclusively by a backup (ADR 0026). */
#define BACKUP_LOCK "776005, 0"

/* One key: named by a row, in the store, or both. */
struct object {
    const char *key;
    bool named, stored;
    uint64_t row_bytes;
    const char *sha256; /* of the row; NULL: it has none */
    uint64_t bytes;     /* of the store */
    int64_t mtime_ms;
    const char *etag;
};
typedef int (*object_fn)(void *ctx, const struct object *object, struct err *err);

/* Every key of uploads/, artifacts/ and chunks/, in order. conn is in a transaction that sees the
 * rows; store may be NULL: rows only. */
int objects_walk(struct db_conn *conn, struct store *store, object_fn fn, void *ctx,
                 struct err *err) WARN_UNUSED;

/* Opens ctl->service.db and the store. */
int backup_open(struct ctl *ctl, struct err *err) WARN_UNUSED;

/* A program of Postgres with the connection's password in the environment, not in the list of
 * processes; argv[0] is found by PATH, "%s" stands for the connection. Its messages go to stderr.
 */
int backup_spawn(const char *database_url, const char *const *argv, struct err *err) WARN_UNUSED;

/* DIR/a/b with its folders made; ERR_PERMANENT "too_large" for a path that is too long. */
int backup_path(char out[BACKUP_PATH_MAX], const char *dir, const char *name, bool make_folders,
                struct err *err) WARN_UNUSED;
/* Size and digest of a file. */
int backup_file_sum(const char *path, uint64_t *ret_size, char ret_hex[SHA256_HEX_SIZE],
                    struct err *err) WARN_UNUSED;
/* Writes a file whole or not at all, synced. */
int backup_write_file(const char *path, const void *data, size_t len, struct err *err) WARN_UNUSED;
