/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl restore: a backup into an empty database and bucket. Objects first, rows after and in
 * one transaction, so that one that was interrupted is simply started again.
 * Refuses a database that holds docfleet's schema, and a bucket with objects the backup does not
 * have.
 */
#include "services/docfleetctl/backup.h"

#include "libcommon/jget.h"
#include "libcommon/task.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_MAX ((size_t)1 << 20)
#define LINE_MAX_BYTES 8192

struct restore {
    struct ctl *ctl;
    char folder[BACKUP_PATH_MAX];  /* with the manifest */
    char objects[BACKUP_PATH_MAX]; /* with the bytes */
    json_t *manifest;
    bool in_place; /* the bucket has the objects already */
    int64_t put, kept, missing;
};

static int refuse(struct err *err, const char *why)
{
    return err_set(err, ERR_PERMANENT, "not_empty", "%s", why);
}

/* The newest folder with a manifest, or DIR itself. */
static int find_folder(const char *dir, char out[BACKUP_PATH_MAX], struct err *err)
{
    char path[BACKUP_PATH_MAX], newest[256] = "";
    struct dirent *entry;

    if (backup_path(path, dir, "manifest.json", false, err) < 0) {
        return -1;
    }
    if (access(path, R_OK) == 0) {
        snprintf(out, BACKUP_PATH_MAX, "%s", dir);
        return 0;
    }
    DIR *d = opendir(dir);
    if (!d) {
        return err_from_errno(err, errno, "%.120s", dir);
    }
    while ((entry = readdir(d)) != NULL) { /* NOLINT(concurrency-mt-unsafe): one thread */
        char name[300];
        snprintf(name, sizeof(name), "%s/manifest.json", entry->d_name);
        if (strlen(entry->d_name) == 16 && strcmp(entry->d_name, newest) > 0 &&
            backup_path(path, dir, name, false, err) == 0 && access(path, R_OK) == 0) {
            snprintf(newest, sizeof(newest), "%s", entry->d_name);
        }
    }
    closedir(d);
    if (!newest[0]) {
        return err_set(err, ERR_PERMANENT, "not_found", "there is no backup in %.120s", dir);
    }
    return backup_path(out, dir, newest, false, err);
}

static int read_manifest(struct restore *r, struct err *err)
{
    char path[BACKUP_PATH_MAX], sum[SHA256_HEX_SIZE];
    CLEANUP(free_cleanup) char *text = calloc(1, MANIFEST_MAX);
    static const char *const parts[] = {"database", "listing"};
    uint64_t size;

    if (!text) {
        return err_nomem(err);
    }
    if (backup_path(path, r->folder, "manifest.json", false, err) < 0) {
        return -1;
    }
    CLEANUP(fd_cleanup) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, MANIFEST_MAX);
    if (n < 0) {
        return err_from_errno(err, errno, "%.120s", path);
    }
    if (jget_load(text, (size_t)n, MANIFEST_MAX, &r->manifest, err) < 0) {
        return -1;
    }
    const char *format = json_string_value(json_object_get(r->manifest, "format"));
    if (!format || strcmp(format, BACKUP_FORMAT) != 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "%.120s is no backup of docfleet", path);
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        const json_t *part = json_object_get(r->manifest, parts[i]);
        const char *file = json_string_value(json_object_get(part, "file"));
        const char *want = json_string_value(json_object_get(part, "sha256"));
        if (!file || !want || backup_path(path, r->folder, file, false, err) < 0 ||
            backup_file_sum(path, &size, sum, err) < 0) {
            return file && want ? -1 : err_set(err, ERR_PERMANENT, "invalid", "a broken manifest");
        }
        if (strcmp(sum, want) != 0) {
            return err_set(err, ERR_PERMANENT, "hash_mismatch", "%.120s is damaged", path);
        }
    }
    return 0;
}

/* Objects
 * ----------------------------------------------------------------------------------------*/

static int put_object(struct restore *r, const char *key, uint64_t size, const char *sum,
                      struct err *err)
{
    char path[BACKUP_PATH_MAX], got[SHA256_HEX_SIZE];
    struct stat st;

    if (backup_path(path, r->objects, key, false, err) < 0) {
        return -1;
    }
    CLEANUP(fd_cleanup) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_from_errno(err, errno, "%.120s", path);
    }
    if ((uint64_t)st.st_size != size || sha256_fd_hex(fd, 0, size, got, err) < 0 ||
        (sum && strcmp(sum, got) != 0)) {
        return err_set(err, ERR_PERMANENT, "hash_mismatch", "%.150s is damaged", path);
    }
    r->put++;
    return store_put_fd(r->ctl->service.store, key, fd, size, NULL, got, err);
}

static int restore_object(struct restore *r, const json_t *line, struct err *err)
{
    struct store_info info;
    struct err why = ERR_INIT;
    const char *key, *sum;
    int64_t size;

    if (jget_str(line, "key", STORE_KEY_MAX, &key, err) < 0 ||
        jget_int(line, "size", 0, INT64_MAX, &size, err) < 0 ||
        jget_opt_str(line, "sha256", 64, NULL, &sum, err) < 0) {
        return -1;
    }
    if (json_is_true(json_object_get(line, "missing"))) {
        r->missing++;
        return 0;
    }
    if (store_head(r->ctl->service.store, key, &info, &why) == 0 && info.size == (uint64_t)size) {
        r->kept++;
        return 0;
    }
    if (why.class != ERR_NONE && strcmp(why.code, "input_gone") != 0) {
        *err = why;
        return -1;
    }
    if (r->in_place) {
        fprintf(stderr, "not in the bucket: %s\n", key);
        r->missing++;
        return 0;
    }
    return put_object(r, key, (uint64_t)size, sum, err);
}

static int restore_objects(struct restore *r, struct err *err)
{
    char path[BACKUP_PATH_MAX], line[LINE_MAX_BYTES];
    int rc = 0;

    if (backup_path(path, r->folder, "objects.jsonl", false, err) < 0) {
        return -1;
    }
    FILE *f = fopen(path, "re");
    if (!f) {
        return err_from_errno(err, errno, "%.120s", path);
    }
    while (rc == 0 && fgets(line, sizeof(line), f)) {
        CLEANUP(json_cleanup) json_t *doc = NULL;
        rc = atomic_load(&ctl_stop)
                 ? err_set(err, ERR_TRANSIENT, "aborted", "interrupted; start it again")
                 : jget_load(line, strlen(line), sizeof(line), &doc, err);
        rc = rc == 0 ? restore_object(r, doc, err) : rc;
    }
    if (ferror(f) && rc == 0) {
        rc = err_from_errno(err, errno, "%.120s", path);
    }
    fclose(f);
    return rc;
}

/* What is in the bucket must be of this backup: an interrupted restore. */
static int count_known(void *ctx, const struct store_entry *entry, struct err *err)
{
    const struct restore *r = ctx;
    char path[BACKUP_PATH_MAX];
    struct stat st;

    if (backup_path(path, r->objects, entry->key, false, err) < 0) {
        return -1;
    }
    return stat(path, &st) == 0 && (uint64_t)st.st_size == entry->size
               ? 0
               : refuse(err, "the bucket holds objects that the backup does not have");
}

static int check_bucket(struct restore *r, struct err *err)
{
    static const char *const prefixes[] = {"artifacts/", "chunks/", "uploads/"};

    for (size_t i = 0; i < ARRAY_LEN(prefixes) && !r->in_place; i++) {
        char *token = NULL;
        do {
            char *next = NULL;
            int rc = store_list(r->ctl->service.store, prefixes[i], token, STORE_LIST_MAX,
                                count_known, r, &next, err);
            free(token);
            token = next;
            if (rc < 0) {
                free(token);
                return -1;
            }
        } while (token);
    }
    return 0;
}

/* Rows
 * -------------------------------------------------------------------------------------------*/

static int check_database(struct restore *r, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_acquire(r->ctl->service.db, &conn, err) < 0 ||
        db_query_dynamic(conn, "SELECT to_regnamespace('docfleet') IS NULL", 0, NULL, &res, err) <
            0) {
        return -1;
    }
    return db_bool(res, 0, 0) ? 0 : refuse(err, "the database holds docfleet's schema already");
}

/* Roles belong to the server, not to the database: without them the grants cannot be restored. */
static int make_roles(struct restore *r, struct db_conn *conn, struct err *err)
{
    size_t i;
    json_t *role;

    json_array_foreach(json_object_get(r->manifest, "roles"), i, role)
    {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        const char *params[] = {json_string_value(role)};
        if (db_query_dynamic(conn,
                             "SELECT format('CREATE ROLE %I NOLOGIN', $1::text) WHERE NOT EXISTS"
                             " (SELECT 1 FROM pg_roles WHERE rolname = $1::text)",
                             1, params, &res, err) < 0 ||
            (PQntuples(res) > 0 && db_script(conn, PQgetvalue(res, 0, 0), 10000, err) < 0)) {
            return -1;
        }
    }
    return db_script(conn, "CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public", 30000, err);
}

static int restore_rows(struct restore *r, int64_t *ret_tasks, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    char path[BACKUP_PATH_MAX];
    const char *argv[] = {"pg_restore",
                          "--exit-on-error",
                          "--single-transaction",
                          "--no-owner",
                          "--no-password",
                          "--dbname",
                          "%s",
                          path,
                          NULL};

    if (backup_path(path, r->folder, "database.dump", false, err) < 0 ||
        db_acquire(r->ctl->service.db, &conn, err) < 0 || make_roles(r, conn, err) < 0 ||
        backup_spawn(service_direct_url(&r->ctl->service), argv, err) < 0 ||
        db_begin(conn, err) < 0 || task_restored(conn, ret_tasks, err) < 0) {
        return -1;
    }
    return db_commit(conn, err) < 0 ? -1 : db_script(conn, "ANALYZE", 600000, err);
}

static int run_restore(struct restore *r, struct err *err)
{
    int64_t tasks = 0;
    bool copied = json_is_true(json_object_get(json_object_get(r->manifest, "objects"), "copied"));

    if (!copied && !r->in_place) {
        return err_set(err, ERR_PERMANENT, "usage",
                       "the backup holds no objects (backup --objects); with --objects-in-place the"
                       " bucket's own are used");
    }
    if (check_database(r, err) < 0 || store_bucket_create(r->ctl->service.store, err) < 0 ||
        check_bucket(r, err) < 0 || restore_objects(r, err) < 0 ||
        restore_rows(r, &tasks, err) < 0) {
        return -1;
    }
    fprintf(stderr,
            "restored %s: %lld objects stored, %lld were there, %lld missing; %lld tasks sent"
            " again\n",
            r->folder, (long long)r->put, (long long)r->kept, (long long)r->missing,
            (long long)tasks);
    r->ctl->exit = r->missing > 0 ? CTL_PARTLY : CTL_OK;
    return 0;
}

int ctl_restore(struct ctl *ctl, struct err *err)
{
    struct restore r = {.ctl = ctl, .in_place = ctl_flag(ctl, "--objects-in-place")};
    CLEANUP(free_cleanup) char *given = NULL;

    ctl_catch_signals();
    if (find_folder(ctl->argv[0], r.folder, err) < 0 || read_manifest(&r, err) < 0) {
        json_decref(r.manifest);
        return -1;
    }
    /* The bytes lie beside the folder of the backup. */
    given = strdup(r.folder);
    char *slash = given ? strrchr(given, '/') : NULL;
    if (slash) {
        *slash = '\0';
    }
    int rc = !given ? err_nomem(err)
             : backup_path(r.objects, slash ? given : ".", "objects", false, err) < 0 ||
                     backup_open(ctl, err) < 0
                 ? -1
                 : run_restore(&r, err);
    json_decref(r.manifest);
    return rc;
}
