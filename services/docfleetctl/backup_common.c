/* SPDX-License-Identifier: Apache-2.0 */
#include "services/docfleetctl/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 1000
#define ARGS_MAX 16

/* Objects
 * ----------------------------------------------------------------------------------------*/

/* Of removed files nothing is named: their bytes are on their way out. */
static const char declare_sql[] =
    "DECLARE objects CURSOR FOR SELECT object_key, bytes, sha256 FROM ("
    " SELECT v.object_key, v.bytes, v.sha256 FROM docfleet.file_version v"
    "   JOIN docfleet.file f USING (file_id) WHERE f.state < 6 AND v.object_key IS NOT NULL"
    " UNION SELECT a.object_key, a.bytes, NULL FROM docfleet.artifact a"
    "   JOIN docfleet.file f USING (file_id) WHERE f.state < 6) x"
    " ORDER BY object_key COLLATE \"C\"";

struct listed {
    char *key;
    uint64_t size;
    int64_t mtime_ms;
    char etag[80];
};

struct walk {
    struct db_conn *conn;
    struct store *store;
    PGresult *rows;
    int row, n_rows;
    size_t prefix; /* of prefixes[] */
    char *token;
    bool begun; /* the prefix has been asked for */
    struct listed page[PAGE];
    size_t at, n;
};

static const char *const prefixes[] = {"artifacts/", "chunks/", "uploads/"};

static void clear_page(struct walk *w)
{
    for (size_t i = 0; i < w->n; i++) {
        free(w->page[i].key);
    }
    w->at = w->n = 0;
}

static int on_entry(void *ctx, const struct store_entry *entry, struct err *err)
{
    struct walk *w = ctx;

    if (w->n == PAGE) {
        return err_set(err, ERR_FATAL, "internal", "the listing is longer than asked for");
    }
    struct listed *l = &w->page[w->n];
    l->key = strdup(entry->key);
    if (!l->key) {
        return err_nomem(err);
    }
    l->size = entry->size;
    l->mtime_ms = entry->mtime_ms;
    memcpy(l->etag, entry->etag, sizeof(l->etag));
    w->n++;
    return 0;
}

/* The next of the listing in *ret_listed, NULL at its end. */
static int peek_listed(struct walk *w, const struct listed **ret_listed, struct err *err)
{
    while (w->at == w->n) {
        char *next = NULL;
        if (!w->store || w->prefix == ARRAY_LEN(prefixes)) {
            *ret_listed = NULL;
            return 0;
        }
        if (w->begun && !w->token) {
            w->prefix++;
            w->begun = false;
            continue;
        }
        clear_page(w);
        if (store_list(w->store, prefixes[w->prefix], w->token, PAGE, on_entry, w, &next, err) <
            0) {
            return -1;
        }
        free(w->token);
        w->token = next;
        w->begun = true;
    }
    *ret_listed = &w->page[w->at];
    return 0;
}

static int peek_row(struct walk *w, const char **ret_key, struct err *err)
{
    if (w->row == w->n_rows && (!w->rows || w->n_rows > 0)) {
        PQclear(w->rows);
        w->rows = NULL;
        if (db_query_dynamic(w->conn, "FETCH 1000 FROM objects", 0, NULL, &w->rows, err) < 0) {
            return -1;
        }
        w->row = 0;
        w->n_rows = PQntuples(w->rows);
    }
    *ret_key = w->row < w->n_rows ? PQgetvalue(w->rows, w->row, 0) : NULL;
    return 0;
}

static int step(struct walk *w, object_fn fn, void *ctx, bool *ret_more, struct err *err)
{
    const struct listed *l;
    const char *key;
    struct object o = {.mtime_ms = -1, .etag = ""};

    if (peek_row(w, &key, err) < 0 || peek_listed(w, &l, err) < 0) {
        return -1;
    }
    *ret_more = key || l;
    if (!*ret_more) {
        return 0;
    }
    int order = !key ? 1 : !l ? -1 : strcmp(key, l->key);
    if (order <= 0) {
        o.named = true;
        o.key = key;
        o.row_bytes = (uint64_t)db_i64(w->rows, w->row, 1);
        o.sha256 = db_str(w->rows, w->row, 2);
        w->row++;
    }
    if (order >= 0) {
        o.stored = true;
        o.key = l->key;
        o.bytes = l->size;
        o.mtime_ms = l->mtime_ms;
        o.etag = l->etag;
        w->at++;
    }
    return fn(ctx, &o, err);
}

int objects_walk(struct db_conn *conn, struct store *store, object_fn fn, void *ctx,
                 struct err *err)
{
    struct walk *w = calloc(1, sizeof(*w));
    bool more = true;
    int r = w ? 0 : err_nomem(err);

    if (r == 0) {
        w->conn = conn;
        w->store = store;
        r = db_query_dynamic(conn, declare_sql, 0, NULL, NULL, err);
    }
    while (r == 0 && more) {
        r = step(w, fn, ctx, &more, err);
    }
    if (w) {
        clear_page(w);
        PQclear(w->rows);
        free(w->token);
        free(w);
    }
    return r;
}

int backup_open(struct ctl *ctl, struct err *err)
{
    const struct core_options *core = &ctl->service.core;

    return ctl_open_db(ctl, err) < 0 ||
                   store_open(&(struct store_config){.driver = core->store_driver,
                                                     .endpoint = core->s3_endpoint,
                                                     .region = core->s3_region,
                                                     .bucket = core->s3_bucket,
                                                     .access_key = core->s3_access_key,
                                                     .secret_key = core->s3_secret_key,
                                                     .scratch_dir = core->scratch_dir,
                                                     .abort = &ctl_stop},
                              &ctl->service.store, err) < 0
               ? -1
               : 0;
}

/* Programs
 * ---------------------------------------------------------------------------------------*/

/* 'value', as a conninfo string takes it. */
static int add_info(struct buf *buf, const char *name, const char *value, struct err *err)
{
    if (buf_printf(buf, err, "%s%s='", buf->len ? " " : "", name) < 0) {
        return -1;
    }
    for (const char *p = value; *p; p++) {
        if (((*p == '\'' || *p == '\\') && buf_append(buf, "\\", 1, err) < 0) ||
            buf_append(buf, p, 1, err) < 0) {
            return -1;
        }
    }
    return buf_append(buf, "'", 1, err);
}

/* The connection without its password, which goes to *ret_password (malloc'd, may be NULL). */
static int split_url(const char *url, struct buf *info, char **ret_password, struct err *err)
{
    char *message = NULL;
    PQconninfoOption *options = PQconninfoParse(url, &message);
    int r = 0;

    PQfreemem(message);
    if (!options) {
        return err_set(err, ERR_PERMANENT, "usage", "DATABASE_URL cannot be read");
    }
    for (const PQconninfoOption *o = options; o->keyword && r == 0; o++) {
        if (!o->val) {
            continue;
        }
        if (strcmp(o->keyword, "password") == 0) {
            *ret_password = strdup(o->val);
            r = *ret_password ? 0 : err_nomem(err);
        } else {
            r = add_info(info, o->keyword, o->val, err);
        }
    }
    PQconninfoFree(options);
    return r;
}

int backup_spawn(const char *database_url, const char *const *argv, struct err *err)
{
    CLEANUP(buf_done) struct buf info;
    CLEANUP(free_cleanup) char *password = NULL;
    const char *args[ARGS_MAX + 1] = {NULL};
    pid_t pid;
    int status = 0;

    buf_init(&info, 8192);
    if (split_url(database_url, &info, &password, err) < 0) {
        return -1;
    }
    for (size_t i = 0; argv[i] && i < ARGS_MAX; i++) {
        args[i] = strcmp(argv[i], "%s") == 0 ? info.data : argv[i];
    }
    /* No other thread reads the environment. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    if (password && setenv("PGPASSWORD", password, 1) < 0) {
        return err_nomem(err);
    }
    if (!args[0]) {
        return err_set(err, ERR_FATAL, "internal", "no program to start");
    }
    int rc = posix_spawnp(&pid, args[0], NULL, NULL, (char *const *)(uintptr_t)args, environ);
    if (rc != 0) {
        return err_set(err, ERR_PERMANENT, "usage",
                       "%s cannot be started: %s (package postgresql-client)", args[0],
                       strerrordesc_np(rc));
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        if (atomic_load(&ctl_stop)) {
            kill(pid, SIGTERM);
        }
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return err_set(err, ERR_UNKNOWN, "program_failed", "%s did not end well", args[0]);
    }
    return 0;
}

/* Files
 * ------------------------------------------------------------------------------------------*/

int backup_path(char out[BACKUP_PATH_MAX], const char *dir, const char *name, bool make_folders,
                struct err *err)
{
    int n = snprintf(out, BACKUP_PATH_MAX, "%s/%s", dir, name);

    if (n < 0 || n >= BACKUP_PATH_MAX) {
        return err_set(err, ERR_PERMANENT, "too_large", "the path is too long: %.80s/..", dir);
    }
    for (char *p = out + 1; make_folders && *p; p++) {
        if (*p != '/') {
            continue;
        }
        *p = '\0';
        if (mkdir(out, 0700) < 0 && errno != EEXIST) {
            return err_from_errno(err, errno, "making %.120s", out);
        }
        *p = '/';
    }
    return 0;
}

int backup_file_sum(const char *path, uint64_t *ret_size, char ret_hex[SHA256_HEX_SIZE],
                    struct err *err)
{
    CLEANUP(fd_cleanup) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_from_errno(err, errno, "%.120s", path);
    }
    *ret_size = (uint64_t)st.st_size;
    return sha256_fd_hex(fd, 0, *ret_size, ret_hex, err);
}

int backup_write_file(const char *path, const void *data, size_t len, struct err *err)
{
    char temporary[BACKUP_PATH_MAX + 8];
    const char *p = data;

    snprintf(temporary, sizeof(temporary), "%s.part", path);
    CLEANUP(fd_cleanup) int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_from_errno(err, errno, "%.120s", path);
    }
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_from_errno(err, errno, "writing %.120s", path);
        }
        p += n;
        len -= (size_t)n;
    }
    if (fsync(fd) < 0 || rename(temporary, path) < 0) {
        return err_from_errno(err, errno, "writing %.120s", path);
    }
    return 0;
}
