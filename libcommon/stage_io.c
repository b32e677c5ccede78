/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What handlers do with bytes: fetch the input, store results, run the jail. Remembers what was
 * stored, so that a unit that does not win takes its objects back. Calls go through the breakers.
 */
#include "libcommon/stage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libcommon/fault.h"
#include "libcommon/metrics.h"
#include "libcommon/scratch.h"
#include "libcommon/sha256.h"
#include "libcommon/stage_intern.h"
#include "libcommon/trace.h"

#define PUTS_MAX 20000U

struct job_puts {
    char **keys;
    size_t n, cap;
};

struct job_puts *job_puts_new(void)
{
    return calloc(1, sizeof(struct job_puts));
}

void job_puts_free(struct job_puts *puts, struct store *store, bool keep)
{
    struct err err = ERR_INIT;

    if (!puts) {
        return;
    }
    for (size_t i = 0; !keep && i < puts->n; i += STORE_DELETE_MAX) {
        size_t n = min_size(puts->n - i, STORE_DELETE_MAX);
        if (store_delete_many(store, (const char *const *)(puts->keys + i), n, &err) < 0) {
            break; /* the cleaner's orphan sweep finds them */
        }
    }
    for (size_t i = 0; i < puts->n; i++) {
        free(puts->keys[i]);
    }
    free(puts->keys);
    free(puts);
}

static int remember(struct job_puts *puts, const char *key, const char **ret_key, struct err *err)
{
    if (puts->n >= PUTS_MAX) {
        return err_set(err, ERR_PERMANENT, "too_large", "more than %u objects", PUTS_MAX);
    }
    if (puts->n == puts->cap) {
        size_t cap = puts->cap ? puts->cap * 2 : 16;
        char **keys = realloc(puts->keys, cap * sizeof(*keys));
        if (!keys) {
            return err_nomem(err);
        }
        puts->keys = keys;
        puts->cap = cap;
    }
    puts->keys[puts->n] = strdup(key);
    if (!puts->keys[puts->n]) {
        return err_nomem(err);
    }
    *ret_key = puts->keys[puts->n++];
    return 0;
}

int job_enter(struct job *job, enum guard_dep dep, struct err *err)
{
    int64_t wait = 0;

    if (guard_enter(job->ctx->guard, dep, clock_mono_ms(), &wait, err) < 0) {
        job->retry_after_ms = wait;
        return -1;
    }
    return 0;
}

void job_leave(struct job *job, enum guard_dep dep, int r, const struct err *err)
{
    guard_leave(job->ctx->guard, dep, clock_mono_ms(), guard_answer(r, err));
}

int job_fetch(struct job *job, const char *key, uint64_t max, int *ret_fd, struct err *err)
{
    CLEANUP(fd_cleanup) int fd = -1;
    uint64_t bytes = 0;

    if (scratch_open(job->ctx->service->core.scratch_dir, &fd, err) < 0 ||
        job_enter(job, GUARD_STORE, err) < 0) {
        return -1;
    }
    int r = store_get_fd(job->ctx->service->store, key, STORE_WHOLE, fd, max, &bytes, err);
    job_leave(job, GUARD_STORE, r, err);
    if (r < 0) {
        return -1;
    }
    if (lseek(fd, 0, SEEK_SET) < 0) {
        return err_from_errno(err, errno, "seek");
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}

static const char artifact_sql[] =
    "SELECT object_key FROM artifact WHERE file_id = $1::uuid AND version = $2::int"
    "  AND kind = $4 AND generation <= $3::int AND ($5::int = 0 OR page = $5::int)"
    "  ORDER BY generation DESC, artifact_id DESC LIMIT 1";

int job_artifact(struct job *job, const char *kind, int page, uint64_t max, int *ret_fd,
                 struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num version, generation, number;
    const char *params[] = {job->claim->key.file_id, db_num(&version, job->claim->version),
                            db_num(&generation, job->claim->key.generation), kind,
                            db_num(&number, page)};

    if (db_run(job->ctx->service->db, artifact_sql, 5, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return 0;
    }
    return job_fetch(job, PQgetvalue(res, 0, 0), max, ret_fd, err) < 0 ? -1 : 1;
}

int job_input(struct job *job, int *ret_fd, struct err *err)
{
    const struct task_claim *claim = job->claim;
    CLEANUP(fd_cleanup) int fd = -1;
    char hex[SHA256_HEX_SIZE];

    if (!claim->object_key) {
        return err_set(err, ERR_PERMANENT, "input_gone", "the version names no object");
    }
    if (job_fetch(job, claim->object_key, (uint64_t)claim->bytes, &fd, err) < 0) {
        if (strcmp(err->code, "too_large") == 0) {
            return err_set(err, ERR_PERMANENT, "input_gone",
                           "the stored object is larger than what was uploaded");
        }
        return err->class == ERR_PERMANENT
                   ? err_set(err, ERR_PERMANENT, "input_gone", "the stored object is gone")
                   : err_wrap(err, "fetching the file");
    }
    off_t size = lseek(fd, 0, SEEK_END);
    if (size < 0 || lseek(fd, 0, SEEK_SET) < 0) {
        return err_from_errno(err, errno, "seek");
    }
    if (sha256_fd_hex(fd, 0, (uint64_t)size, hex, err) < 0) {
        return -1;
    }
    if (strcmp(hex, claim->sha256) != 0) {
        /* A transfer may have been cut or garbled: read again before giving the file up. */
        return claim->failures >= 2
                   ? err_set(err, ERR_PERMANENT, "input_gone", "the stored object has changed")
                   : err_set(err, ERR_UNKNOWN, "hash_mismatch", "the bytes read are not the file");
    }
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int job_put(struct job *job, const char *name, const void *data, size_t len, const char *mime,
            const char **ret_key, struct err *err)
{
    const struct task_key *key = &job->claim->key;
    char path[STORE_KEY_MAX];
    const char *kept = NULL;

    if (atomic_load(&job->cancel)) {
        return err_set(err, ERR_TRANSIENT, "cancelled", "the unit was taken back");
    }
    snprintf(path, sizeof(path), "artifacts/%s/%d/%s/%d/%" PRId64 "/%s", key->file_id,
             key->generation, stage_name(key->stage), key->unit, job->claim->token, name);
    if (job_enter(job, GUARD_STORE, err) < 0) {
        return -1;
    }
    int r = remember(job->puts, path, &kept, err);
    r = r < 0 ? r : store_put_mem(job->ctx->service->store, path, data, len, mime, err);
    job_leave(job, GUARD_STORE, r, err);
    if (r < 0) {
        return err_wrap(err, "storing %s", name);
    }
    fault_point("work.after_put");
    *ret_key = kept;
    return 0;
}

int job_jail(struct job *job, struct jail *jail, const char *op, const json_t *params, int input_fd,
             const struct jail_limits *limits, struct frames **ret_frames, struct err *err)
{
    struct jail_request request = {
        .op = op, .params = params, .input_fd = input_fd, .aux_fd = -1, .cancel = &job->cancel};
    char labels[96];

    if (limits) {
        request.limits = *limits;
    }
    job->usage = (struct jail_usage){0};
    struct trace_span span;
    trace_begin(&span, "child", TRACE_INTERNAL);
    int r = jail_run(jail, &request, ret_frames, &job->usage, err);
    trace_attr_text(&span, "docfleet.child.op", op);
    trace_attr_text(&span, "docfleet.child.end", job->usage.reason);
    trace_attr_i64(&span, "docfleet.child.cpu_us", (int64_t)job->usage.cpu_us);
    trace_attr_i64(&span, "docfleet.child.max_rss", (int64_t)job->usage.max_rss);
    if (job->usage.signal) {
        trace_attr_i64(&span, "docfleet.child.signal", job->usage.signal);
    }
    trace_end_call(&span, r, err);
    if (r < 0 && job->usage.reason && strcmp(job->usage.reason, "ok") != 0 &&
        strcmp(job->usage.reason, "error") != 0) {
        snprintf(labels, sizeof(labels), "stage=\"%s\",reason=\"%s\"",
                 stage_name(job->claim->key.stage), job->usage.reason);
        metrics_inc("docfleet_jail_kills_total", labels);
    }
    return r;
}
