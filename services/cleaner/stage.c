/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A removed file is cleaned twice: at once, and again after the time in which a worker that was cut
 * off might still have stored something. Only then the row says deleted.
 */
#include "services/cleaner/stage.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/fault.h"
#include "libcommon/metrics.h"
#include "services/cleaner/options.h"
#include "services/cleaner/sweep.h"

#define SECOND_PASS "second-pass"
#define LEGAL_HOLD "legal-hold"
#define HOLD_LOOK_MS 3600000

static const char close_letters_sql[] =
    "UPDATE dead_letter SET state = 'discarded', actor = 'cleaner', closed_at = now()"
    " WHERE file_id = $1::uuid AND state = 'open'";

/* Paid answers about the file's own pages (keys of services/ocr-fallback); '0' follows '/'. */
static const char close_effects_sql[] =
    "DELETE FROM effect WHERE idem_key >= 'textract/' || $1::text || '/'"
    " AND idem_key < 'textract/' || $1::text || '0'";

static const char *const forget_sql[] = {
    "DELETE FROM record WHERE file_id = $1::uuid",
    "DELETE FROM file_page WHERE file_id = $1::uuid",
    "DELETE FROM artifact WHERE file_id = $1::uuid",
    "DELETE FROM stage_join WHERE file_id = $1::uuid",
    "DELETE FROM spend WHERE file_id = $1::uuid",
    close_letters_sql,
    /* Paid answers about the file's own pages; keys as in services/ocr-fallback. */
    close_effects_sql,
};

static int forget_rows(struct job *job, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    const char *params[] = {job->claim->key.file_id};

    if (db_acquire(job->ctx->service->db, &conn, err) < 0 || db_begin(conn, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(forget_sql); i++) {
        if (db_query(conn, forget_sql[i], 1, params, NULL, err) < 0) {
            return -1;
        }
    }
    return db_commit(conn, err);
}

static int remove_prefix(struct job *job, const char *prefix, uint64_t *n, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *guard = NULL;

    if (sweep_guard(job->ctx->service, &guard, err) < 0 || job_enter(job, GUARD_STORE, err) < 0) {
        return -1;
    }
    int r = sweep_prefix(job->ctx->service->store, prefix, n, err);
    job_leave(job, GUARD_STORE, r, err);
    return r;
}

static int clean_handle(struct job *job, struct err *err)
{
    const struct task_claim *claim = job->claim;
    char prefix[160];
    uint64_t n = 0;
    bool held = false;

    if (sweep_held(job->ctx->service, job->claim->dataset_id, &held, err) < 0) {
        return -1;
    }
    if (held) { /* removed before the hold; its bytes are not, and wait */
        job->ext_job_id = strdup(LEGAL_HOLD);
        job->retry_after_ms = HOLD_LOOK_MS;
        return job->ext_job_id ? STAGE_WAIT : err_nomem(err);
    }

    snprintf(prefix, sizeof(prefix), "uploads/%s/%s/", claim->user_id, claim->key.file_id);
    if (remove_prefix(job, prefix, &n, err) < 0) {
        return -1;
    }
    fault_point("clean.after_uploads");
    snprintf(prefix, sizeof(prefix), "artifacts/%s/", claim->key.file_id);
    if (remove_prefix(job, prefix, &n, err) < 0) {
        return -1;
    }
    metrics_add("docfleet_objects_deleted_total", "reason=\"removed\"", (double)n);
    fault_point("clean.after_objects");
    if (forget_rows(job, err) < 0) {
        return -1;
    }
    fault_point("clean.after_rows");
    if (!claim->ext_job_id || strcmp(claim->ext_job_id, SECOND_PASS) != 0) {
        job->ext_job_id = strdup(SECOND_PASS);
        job->retry_after_ms = cleaner_options.second_pass_ms;
        return job->ext_job_id ? STAGE_WAIT : err_nomem(err);
    }
    return outcome_detail(job->out, "objects", json_integer((json_int_t)n), err);
}

static int clean_tick(struct stage_ctx *ctx, struct err *err)
{
    return sweep_tick(ctx->service, err);
}

const struct stage cleaner = {
    .id = STAGE_CLEAN,
    .service = "cleaner",
    .options = cleaner_option_defs,
    .n_options = 4,
    .options_target = &cleaner_options,
    .store_required = true,
    .handle = clean_handle,
    .tick = clean_tick,
    .tick_ms = 1000,
};
