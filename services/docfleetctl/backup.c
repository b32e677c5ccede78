/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl backup: the database as of one moment, and every object that its rows name.
 * Invariant: from before that moment until the end no object is deleted, since the cleaner asks for
 * the lock that is held here; so what the dump names is there to be copied. The fleet goes on
 * working meanwhile.
 */
#include "services/docfleetctl/backup.h"

#include "libcommon/jget.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct backup {
    struct ctl *ctl;
    const char *dir; /* as given */
    char name[24];   /* 20261123T031500Z */
    char folder[BACKUP_PATH_MAX];
    bool copy;
    FILE *list;
    int64_t objects, bytes, copied, missing;
};

/* Objects
 * ----------------------------------------------------------------------------------------*/

static int fetch(struct backup *b, const struct object *o, const char *path, struct err *err)
{
    char part[BACKUP_PATH_MAX + 8];
    uint64_t got = 0;

    snprintf(part, sizeof(part), "%s.part", path);
    CLEANUP(fd_cleanup) int fd = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_from_errno(err, errno, "%.120s", part);
    }
    if (store_get_fd(b->ctl->service.store, o->key, STORE_WHOLE, fd, o->row_bytes + 1, &got, err) <
        0) {
        return err_wrap(err, "%s", o->key);
    }
    if (fsync(fd) < 0 || rename(part, path) < 0) {
        return err_from_errno(err, errno, "%.120s", path);
    }
    b->copied++;
    return 0;
}

/* The bytes in DIR/objects, and their digest; those of an earlier backup are used as they are. */
static int copy_object(struct backup *b, const struct object *o, char sum[SHA256_HEX_SIZE],
                       struct err *err)
{
    char objects[BACKUP_PATH_MAX], path[BACKUP_PATH_MAX];
    struct stat st;
    uint64_t size = 0;

    if (backup_path(objects, b->dir, "objects", false, err) < 0 ||
        backup_path(path, objects, o->key, true, err) < 0) {
        return -1;
    }
    bool there = stat(path, &st) == 0 && (uint64_t)st.st_size == o->row_bytes;
    if ((!there && fetch(b, o, path, err) < 0) || backup_file_sum(path, &size, sum, err) < 0) {
        return -1;
    }
    if (there && o->sha256 && strcmp(sum, o->sha256) != 0) {
        if (fetch(b, o, path, err) < 0 || backup_file_sum(path, &size, sum, err) < 0) {
            return -1;
        }
    }
    if (size != o->row_bytes || (o->sha256 && strcmp(sum, o->sha256) != 0)) {
        return err_set(err, ERR_PERMANENT, "hash_mismatch",
                       "%s is not what its row says; docfleetctl verify tells more", o->key);
    }
    return 0;
}

static int on_object(void *ctx, const struct object *o, struct err *err)
{
    struct backup *b = ctx;
    char sum[SHA256_HEX_SIZE] = "";

    if (atomic_load(&ctl_stop)) {
        return err_set(err, ERR_TRANSIENT, "aborted", "interrupted");
    }
    if (!o->named) {
        return 0; /* stored since, or an orphan */
    }
    if (!o->stored) {
        fprintf(stderr, "missing: %s\n", o->key);
        b->missing++;
    } else if (b->copy && copy_object(b, o, sum, err) < 0) {
        return -1;
    }
    b->objects++;
    b->bytes += (int64_t)o->row_bytes;
    const char *known = sum[0] ? sum : o->sha256;
    CLEANUP(json_cleanup)
    json_t *line =
        json_pack("{s:s, s:I, s:s?, s:s, s:b}", "key", o->key, "size", (json_int_t)o->row_bytes,
                  "sha256", known, "etag", o->etag, "missing", (int)!o->stored);
    if (!line || json_dumpf(line, b->list, JSON_COMPACT | JSON_SORT_KEYS) < 0 ||
        fputc('\n', b->list) == EOF) {
        return err_from_errno(err, errno, "writing objects.jsonl");
    }
    return 0;
}

static int list_objects(struct backup *b, struct db_conn *conn, struct err *err)
{
    char path[BACKUP_PATH_MAX];

    if (backup_path(path, b->folder, "objects.jsonl", false, err) < 0) {
        return -1;
    }
    b->list = fopen(path, "we");
    if (!b->list) {
        return err_from_errno(err, errno, "%.120s", path);
    }
    int r = objects_walk(conn, b->ctl->service.store, on_object, b, err);
    if (r == 0 && (fflush(b->list) != 0 || fsync(fileno(b->list)) < 0)) {
        r = err_from_errno(err, errno, "%.120s", path);
    }
    fclose(b->list);
    return r;
}

/* Manifest
 * ---------------------------------------------------------------------------------------*/

static const char counts_sql[] =
    "SELECT jsonb_build_object('datasets', (SELECT count(*) FROM docfleet.dataset),"
    " 'files', (SELECT count(*) FROM docfleet.file),"
    " 'records', (SELECT count(*) FROM docfleet.record),"
    " 'tasks', (SELECT count(*) FROM docfleet.task),"
    " 'accounts', (SELECT count(*) FROM docfleet.account)),"
    " (SELECT jsonb_agg(version ORDER BY version) FROM docfleet.migration),"
    " current_setting('server_version'),"
    " (SELECT coalesce(jsonb_agg(rolname), '[]') FROM pg_roles WHERE rolname LIKE 'docfleet\\_%')";

static json_t *file_json(const struct backup *b, const char *name, struct err *err)
{
    char path[BACKUP_PATH_MAX], sum[SHA256_HEX_SIZE];
    uint64_t size;

    if (backup_path(path, b->folder, name, false, err) < 0 ||
        backup_file_sum(path, &size, sum, err) < 0) {
        return NULL;
    }
    return json_pack("{s:s, s:I, s:s}", "file", name, "bytes", (json_int_t)size, "sha256", sum);
}

static int write_manifest(struct backup *b, struct db_conn *conn, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(free_cleanup) char *text = NULL;
    char path[BACKUP_PATH_MAX];

    if (db_query_dynamic(conn, counts_sql, 0, NULL, &res, err) < 0) {
        return -1;
    }
    CLEANUP(json_cleanup) json_t *database = file_json(b, "database.dump", err);
    CLEANUP(json_cleanup) json_t *listing = database ? file_json(b, "objects.jsonl", err) : NULL;
    if (!listing) {
        return -1;
    }
    CLEANUP(json_cleanup)
    json_t *doc =
        json_pack("{s:s, s:s, s:s, s:O, s:O, s:{s:I, s:I, s:I, s:b}, s:o, s:o, s:s, s:o}", "format",
                  BACKUP_FORMAT, "createdAt", b->name, "version", docfleet_version(), "database",
                  database, "listing", listing, "objects", "count", (json_int_t)b->objects, "bytes",
                  (json_int_t)b->bytes, "missing", (json_int_t)b->missing, "copied", (int)b->copy,
                  "rows", json_loads(PQgetvalue(res, 0, 0), 0, NULL), "migrations",
                  json_loads(PQgetvalue(res, 0, 1), 0, NULL), "postgres", PQgetvalue(res, 0, 2),
                  "roles", json_loads(PQgetvalue(res, 0, 3), 0, NULL));
    text = doc ? json_dumps(doc, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
    if (!text) {
        return err_nomem(err);
    }
    return backup_path(path, b->folder, "manifest.json", false, err) < 0
               ? -1
               : backup_write_file(path, text, strlen(text), err);
}

/* The moment
 * -------------------------------------------------------------------------------------*/

static int dump(struct backup *b, const char *snapshot, struct err *err)
{
    char path[BACKUP_PATH_MAX], file[BACKUP_PATH_MAX + 16], at[120];

    if (backup_path(path, b->folder, "database.dump", true, err) < 0) {
        return -1;
    }
    snprintf(file, sizeof(file), "--file=%s", path);
    snprintf(at, sizeof(at), "--snapshot=%s", snapshot);
    const char *argv[] = {"pg_dump",    "--format=custom", "--schema=docfleet",
                          "--no-owner", "--no-password",   at,
                          file,         "--dbname",        "%s",
                          NULL};
    return backup_spawn(service_direct_url(&b->ctl->service), argv, err);
}

static int run_backup(struct backup *b, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *snapshot = NULL;

    /* The lock first: it waits for deletions that have begun, and holds off the next ones. */
    if (db_acquire(b->ctl->service.db, &conn, err) < 0 ||
        db_script(conn,
                  "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0;"
                  " SET lock_timeout = 0; SELECT pg_advisory_lock(" BACKUP_LOCK ")",
                  600000, err) < 0 ||
        db_script(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", 5000, err) < 0 ||
        db_query_dynamic(conn, "SELECT pg_export_snapshot()", 0, NULL, &snapshot, err) < 0) {
        return -1;
    }
    if (dump(b, PQgetvalue(snapshot, 0, 0), err) < 0 || list_objects(b, conn, err) < 0) {
        return -1;
    }
    return write_manifest(b, conn, err);
}

/* For the cleaner, which shows how old the newest is. The backup is whole without it. */
static void note_backup(struct backup *b, time_t moment)
{
    struct err err = ERR_INIT;
    struct db_num at, objects, bytes, missing;
    const char *params[] = {b->name,
                            db_num(&at, (int64_t)moment),
                            db_num(&objects, b->objects),
                            db_num(&bytes, b->bytes),
                            db_num(&missing, b->missing),
                            b->copy ? "t" : "f"};

    if (db_run(
            b->ctl->service.db,
            "INSERT INTO docfleet.backup (name, moment, objects, bytes, missing, copied)"
            " VALUES ($1, to_timestamp($2::bigint), $3::bigint, $4::bigint, $5::bigint, $6::bool)",
            ARRAY_LEN(params), params, NULL, &err) < 0) {
        fprintf(stderr, "the backup is whole, but not noted in Postgres: %s\n", err.msg);
    }
}

int ctl_backup(struct ctl *ctl, struct err *err)
{
    struct backup b = {.ctl = ctl, .dir = ctl->argv[0], .copy = ctl_flag(ctl, "--objects")};
    time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(b.name, sizeof(b.name), "%Y%m%dT%H%M%SZ", &tm);
    ctl_catch_signals();
    if (backup_path(b.folder, b.dir, b.name, true, err) < 0) {
        return -1;
    }
    if (mkdir(b.folder, 0700) < 0) {
        return err_from_errno(err, errno, "making %.120s", b.folder);
    }
    if (backup_open(ctl, err) < 0 || run_backup(&b, err) < 0) {
        fprintf(stderr, "%s is no backup: it has no manifest\n", b.folder);
        return -1;
    }
    note_backup(&b, now);
    fprintf(stderr, "%lld objects, %lld bytes; %lld copied now, %lld missing\n",
            (long long)b.objects, (long long)b.bytes, (long long)b.copied, (long long)b.missing);
    printf("%s\n", b.folder);
    ctl->exit = b.missing > 0 ? CTL_PARTLY : CTL_OK;
    return 0;
}
