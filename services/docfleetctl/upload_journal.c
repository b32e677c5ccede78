/* SPDX-License-Identifier: Apache-2.0 */
#include "services/docfleetctl/upload_journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libcommon/http.h"
#include "libcommon/jget.h"
#include "services/docfleetctl/strtab.h"

#define FORMAT "docfleet-upload-1"
#define LINE_BYTES_MAX ((size_t)16 << 20)
#define KEPT_DAYS 90

struct journal {
    int fd;
    char *path;
    struct journal_plan *plans; /* all that were read */
    size_t n, cap;
    struct strtab by_key;   /* key -> plan */
    struct strtab accepted; /* path -> plan * JOURNAL_BATCH_MAX + file */
};

static void plan_done(struct journal_plan *plan)
{
    for (size_t i = 0; i < plan->n; i++) {
        free(plan->files[i].path);
    }
    free(plan->files);
    *plan = (struct journal_plan){.n = 0};
}

void journal_free(struct journal *journal)
{
    if (!journal) {
        return;
    }
    for (size_t i = 0; i < journal->n; i++) {
        plan_done(&journal->plans[i]);
    }
    free(journal->plans);
    strtab_done(&journal->by_key);
    strtab_done(&journal->accepted);
    fd_cleanup(&journal->fd);
    free(journal->path);
    free(journal);
}

const char *journal_path(const struct journal *journal)
{
    return journal->path;
}

/* Reading ---------------------------------------------------------------------------------------*/

static int damaged(const struct journal *journal, size_t line, struct err *err)
{
    return err_set(err, ERR_PERMANENT, "journal",
                   "%.150s is damaged at line %zu; remove it, or say --again", journal->path, line);
}

static void decode(char *s)
{
    char *out = s;

    for (; *s; s++) {
        unsigned v;
        if (*s == '%' && sscanf(s + 1, "%2x", &v) == 1) { /* NOLINT(cert-err34-c) */
            *out++ = (char)v;
            s += 2;
        } else {
            *out++ = *s;
        }
    }
    *out = '\0';
}

static int read_file_entry(const json_t *entry, struct journal_file *file, struct err *err)
{
    const char *path = json_string_value(json_array_get(entry, 0));
    const char *sha = json_string_value(json_array_get(entry, 3));

    if (!path || !sha || strlen(sha) != SHA256_HEX_SIZE - 1 ||
        !json_is_integer(json_array_get(entry, 1))) {
        return -1;
    }
    file->path = strdup(path);
    if (!file->path) {
        return err_nomem(err);
    }
    decode(file->path);
    file->size = (uint64_t)json_integer_value(json_array_get(entry, 1));
    file->mtime_ns = json_integer_value(json_array_get(entry, 2));
    memcpy(file->sha256, sha, SHA256_HEX_SIZE);
    return 0;
}

static int read_plan(struct journal *j, const json_t *line, const char *key, struct err *err)
{
    const json_t *files = json_object_get(line, "files");
    size_t n = json_array_size(files);

    if (!uuid_valid(key) || n == 0 || n > JOURNAL_BATCH_MAX) {
        return -1;
    }
    if (j->n == j->cap) {
        size_t cap = j->cap ? j->cap * 2 : 16;
        struct journal_plan *plans = realloc(j->plans, cap * sizeof(*plans));
        if (!plans) {
            return err_nomem(err);
        }
        j->plans = plans;
        j->cap = cap;
    }
    struct journal_plan *plan = &j->plans[j->n];
    *plan = (struct journal_plan){.at_ms = json_integer_value(json_object_get(line, "at")),
                                  .files = calloc(n, sizeof(*plan->files))};
    snprintf(plan->key, sizeof(plan->key), "%s", key);
    if (!plan->files) {
        return err_nomem(err);
    }
    j->n++;
    size_t older = 0;
    if (strtab_get(&j->by_key, key, &older)) {
        j->plans[older].ended = true; /* the same request, of fewer files */
    }
    for (size_t i = 0; i < n; i++) {
        plan->n = i + 1;
        if (read_file_entry(json_array_get(files, i), &plan->files[i], err) < 0) {
            return -1;
        }
    }
    return strtab_put(&j->by_key, key, j->n - 1, err);
}

static int read_end(struct journal *j, const json_t *line, const char *key, bool done,
                    struct err *err)
{
    bool refused[JOURNAL_BATCH_MAX] = {false};
    size_t at = 0, i;
    json_t *item;

    if (!strtab_get(&j->by_key, key, &at) || at >= j->n || !j->plans) {
        return -1;
    }
    struct journal_plan *plan = &j->plans[at];
    plan->ended = true;
    json_array_foreach(json_object_get(line, "refused"), i, item)
    {
        json_int_t index = json_integer_value(item);
        if (index >= 0 && (size_t)index < plan->n) {
            refused[index] = true;
        }
    }
    for (i = 0; done && i < plan->n; i++) {
        if (!refused[i] &&
            strtab_put(&j->accepted, plan->files[i].path, at * JOURNAL_BATCH_MAX + i, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int read_line(struct journal *j, const char *text, size_t len, struct err *err)
{
    CLEANUP(json_cleanup) json_t *line = NULL;
    struct err ignored = ERR_INIT;

    if (jget_load(text, len, LINE_BYTES_MAX, &line, &ignored) < 0) {
        return -1;
    }
    const char *plan = json_string_value(json_object_get(line, "plan"));
    const char *done = json_string_value(json_object_get(line, "done"));
    const char *drop = json_string_value(json_object_get(line, "drop"));
    return plan   ? read_plan(j, line, plan, err)
           : done ? read_end(j, line, done, true, err)
           : drop ? read_end(j, line, drop, false, err)
                  : -1;
}

static int check_head(const struct journal *j, const char *text, size_t len, const char *dataset,
                      struct err *err)
{
    CLEANUP(json_cleanup) json_t *line = NULL;
    struct err ignored = ERR_INIT;
    const char *format = NULL, *of = NULL;

    if (jget_load(text, len, 4096, &line, &ignored) < 0 ||
        jget_str(line, "journal", 40, &format, &ignored) < 0 ||
        jget_str(line, "dataset", 40, &of, &ignored) < 0 || strcmp(format, FORMAT) != 0) {
        return damaged(j, 1, err);
    }
    return strcmp(of, dataset) == 0 ? 0
                                    : err_set(err, ERR_PERMANENT, "usage",
                                              "%.150s is of an upload to another dataset", j->path);
}

/* Reads whole lines; what a crash cut off behind them is cut off here, too. */
static int read_all(struct journal *j, const char *dataset, struct err *err)
{
    CLEANUP(free_cleanup) char *line = NULL;
    size_t cap = 0, number = 0;
    off_t good = 0;
    ssize_t len;
    int rc = 0;
    FILE *f = fdopen(dup(j->fd), "r");

    if (!f) {
        return err_nomem(err);
    }
    while (rc == 0 && (len = getline(&line, &cap, f)) > 0 && line[len - 1] == '\n') {
        struct err why = ERR_INIT;
        number++;
        rc = number == 1 ? check_head(j, line, (size_t)len, dataset, err)
                         : read_line(j, line, (size_t)len, &why);
        if (rc < 0 && number > 1) {
            rc = why.class != ERR_NONE ? (*err = why, -1) : damaged(j, number, err);
        }
        good += len;
    }
    fclose(f);
    if (rc == 0 && (ftruncate(j->fd, good) < 0 || lseek(j->fd, good, SEEK_SET) < 0)) {
        rc = err_from_errno(err, errno, "%.150s", j->path);
    }
    return rc;
}

/* Writing ---------------------------------------------------------------------------------------*/

static int append(struct journal *j, json_t *line, struct err *err)
{
    CLEANUP(json_cleanup) json_t *owned = line;
    CLEANUP(free_cleanup) char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    struct stat st;

    if (!text) {
        return err_nomem(err);
    }
    if (fstat(j->fd, &st) == 0 && (size_t)st.st_size > JOURNAL_BYTES_MAX) {
        return err_set(err, ERR_PERMANENT, "too_large", "%.150s has grown past 1 GiB", j->path);
    }
    size_t len = strlen(text);
    text[len] = '\n'; /* in the place of the NUL */
    for (size_t done = 0; done < len + 1;) {
        ssize_t n = write(j->fd, text + done, len + 1 - done);
        if (n < 0 && errno != EINTR) {
            return err_from_errno(err, errno, "%.150s", j->path);
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return fdatasync(j->fd) < 0 ? err_from_errno(err, errno, "%.150s", j->path) : 0;
}

int journal_plan(struct journal *journal, const struct journal_plan *plan, struct err *err)
{
    CLEANUP(json_cleanup) json_t *files = json_array();

    for (size_t i = 0; i < plan->n; i++) {
        const struct journal_file *f = &plan->files[i];
        CLEANUP(buf_done) struct buf path;
        buf_init(&path, 65536);
        if (http_encode(&path, f->path, true, err) < 0 ||
            json_array_append_new(files, json_pack("[s, I, I, s]", path.data, (json_int_t)f->size,
                                                   (json_int_t)f->mtime_ns, f->sha256)) < 0) {
            return err_wrap(err, "%.150s", journal->path);
        }
    }
    return append(journal,
                  json_pack("{s:s, s:I, s:O}", "plan", plan->key, "at", (json_int_t)plan->at_ms,
                            "files", files),
                  err);
}

int journal_done(struct journal *journal, const char *key, const char *batch, const bool *refused,
                 size_t n, struct err *err)
{
    CLEANUP(json_cleanup) json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        if (refused[i] && json_array_append_new(list, json_integer((json_int_t)i)) < 0) {
            return err_nomem(err);
        }
    }
    return append(journal,
                  json_pack("{s:s, s:s, s:O}", "done", key, "batch", batch, "refused", list), err);
}

int journal_drop(struct journal *journal, const char *key, struct err *err)
{
    return append(journal, json_pack("{s:s}", "drop", key), err);
}

/* Opening ---------------------------------------------------------------------------------------*/

int journal_open(const char *path, const char *dataset, bool again, struct journal **ret_journal,
                 struct err *err)
{
    CLEANUP(journal_cleanup) struct journal *j = calloc(1, sizeof(*j));
    struct stat st;

    if (!j) {
        return err_nomem(err);
    }
    j->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    j->path = strdup(path);
    if (j->fd < 0 || !j->path) {
        return err_from_errno(err, errno, "%.150s", path);
    }
    if (flock(j->fd, LOCK_EX | LOCK_NB) < 0) {
        return err_set(err, ERR_TRANSIENT, "busy", "the same upload is at work already (%.150s)",
                       path);
    }
    if ((again && ftruncate(j->fd, 0) < 0) || fstat(j->fd, &st) < 0) {
        return err_from_errno(err, errno, "%.150s", path);
    }
    if (st.st_size > 0 && read_all(j, dataset, err) < 0) {
        return -1;
    }
    if (lseek(j->fd, 0, SEEK_CUR) == 0 &&
        append(j, json_pack("{s:s, s:s}", "journal", FORMAT, "dataset", dataset), err) < 0) {
        return -1;
    }
    *ret_journal = STEAL(j);
    return 0;
}

const struct journal_file *journal_accepted(const struct journal *journal, const char *path)
{
    size_t at = 0;

    return strtab_get(&journal->accepted, path, &at)
               ? &journal->plans[at / JOURNAL_BATCH_MAX].files[at % JOURNAL_BATCH_MAX]
               : NULL;
}

size_t journal_plans(const struct journal *journal, const struct journal_plan **ret_plans)
{
    *ret_plans = journal->plans;
    return journal->n;
}

/* Place -----------------------------------------------------------------------------------------*/

static int make_folders(char *path, struct err *err)
{
    for (char *p = path + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        int rc = mkdir(path, 0700);
        int error = errno;
        *p = '/';
        if (rc < 0 && error != EEXIST) {
            return err_from_errno(err, error, "%.150s", path);
        }
    }
    return 0;
}

/* Journals that nobody has touched for long. */
static void forget_old(const char *folder)
{
    time_t before = (time_t)(clock_wall_ms() / 1000) - (time_t)KEPT_DAYS * 86400;
    DIR *dir = opendir(folder);
    const struct dirent *e;
    struct stat st;

    while (dir && (e = readdir(dir)) != NULL) { /* NOLINT(concurrency-mt-unsafe): own stream */
        size_t len = strlen(e->d_name);
        if (len > 8 && strcmp(e->d_name + len - 8, ".journal") == 0 &&
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_mtime < before) {
            unlinkat(dirfd(dir), e->d_name, 0);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

int journal_default_path(const char *dataset, char *const *roots, size_t n, char *path, size_t size,
                         struct err *err)
{
    const char *xdg = getenv("XDG_STATE_HOME"); /* NOLINT(concurrency-mt-unsafe): no thread yet */
    const char *home = getenv("HOME");          /* NOLINT(concurrency-mt-unsafe) */
    CLEANUP(hash_done) struct hash hash = HASH_NONE;
    char hex[SHA256_HEX_SIZE];
    int len = -1;

    if (hash_init(&hash, HASH_SHA256, err) < 0 ||
        hash_update(&hash, dataset, strlen(dataset), err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (hash_update(&hash, roots[i], strlen(roots[i]) + 1, err) < 0) {
            return -1;
        }
    }
    if (hash_final_hex(&hash, hex, sizeof(hex), err) < 0) {
        return -1;
    }
    if (xdg && *xdg == '/') {
        len = snprintf(path, size, "%s/docfleet/uploads/", xdg);
    } else if (home && *home == '/') {
        len = snprintf(path, size, "%s/.local/state/docfleet/uploads/", home);
    }
    if (len < 0 || (size_t)len + 40 > size) {
        return err_set(err, ERR_PERMANENT, "usage",
                       "no folder for the journal: set HOME, or say --journal FILE");
    }
    if (make_folders(path, err) < 0) {
        return -1;
    }
    forget_old(path);
    snprintf(path + len, size - (size_t)len, "%.24s.journal", hex);
    return 0;
}
