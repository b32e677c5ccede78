/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sweeps. Each is short, repeats safely, and runs under a transaction-free advisory lock, so that
 * several cleaners do not do the same work.
 */
#include "services/cleaner/sweep.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "services/cleaner/options.h"
#include "services/cleaner/retention.h"

#define LIST_PAGE 500U
#define USAGE_PAGE 20000
#define RETENTION_STEPS 200 /* of 500 files, in one sweep */

/* A page of keys, copied out of the listing. */
struct key_page {
    char *keys[LIST_PAGE];
    size_t n;
    int64_t older_than_ms; /* entries that are younger are left alone; 0: none is */
};

static void key_page_clear(struct key_page *page)
{
    for (size_t i = 0; i < page->n; i++) {
        free(page->keys[i]);
    }
    page->n = 0;
}

static int take_key(void *ctx, const struct store_entry *entry, struct err *err)
{
    struct key_page *page = ctx;

    if (page->older_than_ms && entry->mtime_ms >= page->older_than_ms) {
        return 0;
    }
    if (page->n == LIST_PAGE) {
        return err_set(err, ERR_FATAL, "internal", "the listing is longer than asked for");
    }
    page->keys[page->n] = strdup(entry->key);
    if (!page->keys[page->n]) {
        return err_nomem(err);
    }
    page->n++;
    return 0;
}

int sweep_guard(struct service *service, struct db_conn **ret_guard, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    /* The other side is docfleetctl backup, which holds it alone (ADR 0026). */
    if (db_acquire(service->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        db_query(conn, "SELECT pg_try_advisory_xact_lock_shared(776005, 0)", 0, NULL, &res, err) <
            0) {
        return -1;
    }
    if (!db_bool(res, 0, 0)) {
        return err_set(err, ERR_TRANSIENT, "backup_running", "a backup runs: deletions wait");
    }
    *ret_guard = STEAL(conn);
    return 0;
}

int sweep_held(struct service *service, const char *dataset_id, bool *ret_held, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(service->db, "SELECT dataset_held($1::uuid)", 1, &dataset_id, &res, err) < 0) {
        return -1;
    }
    *ret_held = db_bool(res, 0, 0);
    return 0;
}

int sweep_prefix(struct store *store, const char *prefix, uint64_t *n, struct err *err)
{
    struct key_page page = {0};

    for (;;) {
        char *token = NULL;
        int r = store_list(store, prefix, NULL, LIST_PAGE, take_key, &page, &token, err);
        bool more = token != NULL;
        free(token);
        if (r == 0 && page.n > 0) {
            r = store_delete_many(store, (const char *const *)page.keys, page.n, err);
        }
        *n += r == 0 ? page.n : 0;
        bool empty = page.n == 0;
        key_page_clear(&page);
        if (r < 0 || !more || empty) {
            return r;
        }
    }
}

/* Orphans ---------------------------------------------------------------------------------------*/

/* Of these keys the ones that no row names. */
static const char unnamed_sql[] =
    "SELECT k FROM jsonb_array_elements_text($1::jsonb) AS k WHERE NOT EXISTS"
    " (SELECT 1 FROM artifact a WHERE a.object_key = k) AND NOT EXISTS"
    " (SELECT 1 FROM file_version v JOIN file f USING (file_id) WHERE v.object_key = k"
    "   AND f.state <> 7)";

int sweep_keys(struct service *service, const char *const *keys, size_t k, uint64_t *n,
               struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *guard = NULL;

    if (sweep_guard(service, &guard, err) < 0) {
        return strcmp(err->code, "backup_running") == 0 ? 0 : -1;
    }
    if (store_delete_many(service->store, keys, k, err) < 0) {
        return -1;
    }
    *n += k;
    return 0;
}

static int delete_unnamed(struct service *service, const struct key_page *page, uint64_t *n,
                          struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    json_t *list = json_array();
    const char *keys[LIST_PAGE];

    for (size_t i = 0; i < page->n; i++) {
        json_array_append_new(list, json_string(page->keys[i]));
    }
    CLEANUP(free_cleanup) char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    const char *params[] = {text};
    if (!text) {
        return err_nomem(err);
    }
    if (db_run(service->db, unnamed_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    size_t k = 0;
    for (int row = 0; row < PQntuples(res) && k < LIST_PAGE; row++) {
        keys[k++] = PQgetvalue(res, row, 0);
    }
    return k > 0 ? sweep_keys(service, keys, k, n, err) : 0;
}

static int sweep_orphans(struct service *service, const char *prefix, struct err *err)
{
    struct key_page page = {.older_than_ms = clock_wall_ms() - cleaner_options.orphan_grace_ms};
    char *token = NULL;
    uint64_t n = 0;
    int r;

    do {
        char *next = NULL;
        r = store_list(service->store, prefix, token, LIST_PAGE, take_key, &page, &next, err);
        free(token);
        token = next;
        if (r == 0 && page.n > 0) {
            r = delete_unnamed(service, &page, &n, err);
        }
        key_page_clear(&page);
    } while (r == 0 && token && !atomic_load(&service->stopping));
    free(token);
    if (n > 0) {
        metrics_add("docfleet_objects_deleted_total", "reason=\"orphan\"", (double)n);
        log_info("orphan objects removed", kv_str("prefix", prefix), kv_u64("n", n));
    }
    return r;
}

struct pending_ctx {
    struct store *store;
    int64_t older_than_ms;
    uint64_t n;
};

static int abort_pending(void *ctx, const struct store_pending *pending, struct err *err)
{
    struct pending_ctx *p = ctx;

    if (pending->initiated_ms >= p->older_than_ms) {
        return 0;
    }
    p->n++;
    return store_abort_upload(p->store, pending->key, pending->upload_id, err);
}

static int sweep_pending_uploads(struct service *service, struct err *err)
{
    struct pending_ctx ctx = {.store = service->store,
                              .older_than_ms = clock_wall_ms() - cleaner_options.orphan_grace_ms};

    if (!(store_caps(service->store) & STORE_CAP_MULTIPART)) {
        return 0;
    }
    if (store_list_uploads(service->store, "uploads/", abort_pending, &ctx, err) < 0) {
        return -1;
    }
    metrics_add("docfleet_objects_deleted_total", "reason=\"stale_upload\"", (double)ctx.n);
    return 0;
}

/* Rows ------------------------------------------------------------------------------------------*/

static const char fold_sql[] =
    "WITH d AS (DELETE FROM count_delta WHERE id IN (SELECT id FROM count_delta ORDER BY id"
    "    LIMIT 5000 FOR UPDATE SKIP LOCKED) RETURNING dataset_id, batch_id, from_state, to_state,"
    "    n),"
    " m AS (SELECT dataset_id, batch_id, state, sum(n) AS n FROM ("
    "    SELECT dataset_id, batch_id, to_state AS state, n FROM d WHERE to_state IS NOT NULL"
    "    UNION ALL"
    "    SELECT dataset_id, batch_id, from_state, -n FROM d WHERE from_state IS NOT NULL) x"
    "    GROUP BY 1, 2, 3)"
    " INSERT INTO count_base (dataset_id, batch_id, state, n)"
    " SELECT dataset_id, batch_id, state, n FROM m ORDER BY 1, 2, 3"
    " ON CONFLICT (dataset_id, batch_id, state) DO UPDATE SET n = count_base.n + excluded.n";

/* Usage of accounts, by month; whoever sums sees a delta or what it was folded into. */
static const char fold_usage_sql[] =
    "WITH d AS (DELETE FROM usage_delta WHERE id IN (SELECT id FROM usage_delta ORDER BY id"
    "    LIMIT $1::int FOR UPDATE SKIP LOCKED) RETURNING *),"
    " m AS (SELECT user_id, date_trunc('month', at AT TIME ZONE 'UTC')::date AS month,"
    "    sum(files) AS files, sum(bytes) AS bytes, sum(pages) AS pages, sum(micros) AS micros"
    "    FROM d GROUP BY 1, 2),"
    " i AS (INSERT INTO usage_total AS t (user_id, month, files, bytes, pages, micros)"
    " SELECT user_id, month, files, bytes, pages, micros FROM m ORDER BY 1, 2"
    " ON CONFLICT (user_id, month) DO UPDATE SET files = t.files + excluded.files,"
    "    bytes = t.bytes + excluded.bytes, pages = t.pages + excluded.pages,"
    "    micros = t.micros + excluded.micros) SELECT count(*) FROM d";

/* What does not add up, of the last week; the one truth about it is the function in the schema. */
static const char ledger_sql[] = "SELECT count(*) FROM ledger_mismatch(now() - interval '7 days')";

static const char *const prune_sql[] = {
    "DELETE FROM idempotency WHERE (user_id, key) IN (SELECT user_id, key FROM idempotency"
    " WHERE created_at < now() - interval '24 hours' LIMIT 500)",
    "DELETE FROM worker WHERE seen < now() - interval '1 hour'",
    "DELETE FROM session WHERE session_id IN (SELECT session_id FROM session"
    " WHERE expires_at < now() - interval '7 days' LIMIT 500)",
    "DELETE FROM login_throttle WHERE key IN (SELECT key FROM login_throttle"
    " WHERE at < now() - interval '1 day' LIMIT 500)",
    /* Whoever asked nothing for an hour has a full bucket. */
    "DELETE FROM rate_bucket WHERE key IN (SELECT key FROM rate_bucket"
    " WHERE at < now() - interval '1 hour' ORDER BY at LIMIT 5000)",
    "DELETE FROM effect WHERE idem_key IN (SELECT idem_key FROM effect"
    " WHERE created_at < now() - interval '30 days' LIMIT 500)",
    /* Tasks of deleted files, then the files: nobody asks for them any more. */
    "DELETE FROM task WHERE (file_id, stage, unit, generation) IN (SELECT t.file_id, t.stage,"
    " t.unit, t.generation FROM file f JOIN task t USING (file_id) WHERE f.state = 7"
    " AND f.updated_at < now() - interval '7 days' LIMIT 500)",
    "DELETE FROM file_version WHERE file_id IN (SELECT file_id FROM file WHERE state = 7"
    " AND updated_at < now() - interval '7 days' LIMIT 500)",
    "DELETE FROM file WHERE file_id IN (SELECT file_id FROM file f WHERE state = 7"
    " AND updated_at < now() - interval '7 days' AND NOT EXISTS (SELECT 1 FROM task t"
    "  WHERE t.file_id = f.file_id) LIMIT 500)",
    "SELECT event_partitions(4)",
};

static int drop_old_events(struct service *service, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num days;
    const char *params[] = {db_num(&days, cleaner_options.event_days)};

    if (db_run(service->db, "SELECT event_drop_older($1::int)", 1, params, &res, err) < 0) {
        return -1;
    }
    for (int row = 0; row < PQntuples(res); row++) {
        log_info("old events dropped", kv_str("partition", PQgetvalue(res, row, 0)));
    }
    return 0;
}

static int fold_usage(struct service *service, struct err *err)
{
    int64_t n = USAGE_PAGE;

    while (n == USAGE_PAGE && !atomic_load(&service->stopping)) {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        struct db_num limit;
        const char *params[] = {db_num(&limit, USAGE_PAGE)};
        if (db_run(service->db, fold_usage_sql, 1, params, &res, err) < 0) {
            return -1;
        }
        n = db_i64(res, 0, 0);
    }
    return 0;
}

static int fold_counts(struct service *service, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(service->db, fold_sql, 0, NULL, NULL, err) < 0 || fold_usage(service, err) < 0 ||
        db_run(service->db, ledger_sql, 0, NULL, &res, err) < 0) {
        return -1;
    }
    metrics_set("docfleet_ledger_mismatch", "", (double)db_i64(res, 0, 0));
    return 0;
}

static const char *const import_states[] = {"state=\"new\"", "state=\"ok\"", "state=\"failing\"",
                                            "state=\"paused\""};

/* Another replica sweeps now, and tells. */
static void show_nothing(void)
{
    for (size_t i = 0; i < ARRAY_LEN(import_states); i++) {
        metrics_remove("docfleet_imports", import_states[i]);
    }
    metrics_remove("docfleet_import_success_age_seconds", "");
    metrics_remove("docfleet_backup_last_success_seconds", "");
    metrics_remove("docfleet_ledger_mismatch", "");
    metrics_remove("docfleet_cleaner_last_success_seconds", "");
}

/* The importer ends when it has nothing to do; whoever asks for metrics finds its imports here. */
static const char imports_sql[] =
    "SELECT count(*) FILTER (WHERE enabled AND health = 'new'),"
    " count(*) FILTER (WHERE enabled AND health = 'ok'),"
    " count(*) FILTER (WHERE enabled AND health = 'failing'),"
    " count(*) FILTER (WHERE NOT enabled), extract(epoch FROM now() - min(coalesce(last_success_at,"
    "   created_at)) FILTER (WHERE enabled AND cron IS NOT NULL))::bigint"
    " FROM import_source WHERE deleted_at IS NULL";

static int count_imports(struct service *service, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(service->db, imports_sql, 0, NULL, &res, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(import_states); i++) {
        metrics_set("docfleet_imports", import_states[i], (double)db_i64(res, 0, (int)i));
    }
    metrics_set("docfleet_import_success_age_seconds", "", (double)db_i64(res, 0, 4));
    return 0;
}

/* Nothing is shown before the first: an installation may have other backups. */
static int show_backups(struct service *service, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(service->db,
               "SELECT extract(epoch FROM max(moment))::bigint FROM backup WHERE missing = 0", 0,
               NULL, &res, err) < 0) {
        return -1;
    }
    if (db_str(res, 0, 0)) {
        metrics_set("docfleet_backup_last_success_seconds", "", (double)db_i64(res, 0, 0));
    }
    return 0;
}

/* A round over all datasets that keep things for a time, a bounded piece of it in each sweep. */
static int apply_retention(struct service *service, struct err *err)
{
    bool more = true;

    for (int i = 0; i < RETENTION_STEPS && more && !atomic_load(&service->stopping); i++) {
        if (retention_step(service, &more, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int sweep_all(struct service *service, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(prune_sql); i++) {
        if (db_run(service->db, prune_sql[i], 0, NULL, NULL, err) < 0) {
            return -1;
        }
    }
    return fold_counts(service, err) < 0 || count_imports(service, err) < 0 ||
                   show_backups(service, err) < 0 || apply_retention(service, err) < 0 ||
                   drop_old_events(service, err) < 0 || sweep_pending_uploads(service, err) < 0 ||
                   sweep_orphans(service, "uploads/", err) < 0 ||
                   sweep_orphans(service, "artifacts/", err) < 0
               ? -1
               : 0;
}

int sweep_tick(struct service *service, struct err *err)
{
    static uint64_t next_ms;
    uint64_t now = clock_mono_ms();
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (now < next_ms) {
        return 0;
    }
    next_ms = now + (uint64_t)cleaner_options.sweep_ms;
    if (db_acquire(service->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        db_query(conn, "SELECT pg_try_advisory_xact_lock(776003, 0)", 0, NULL, &res, err) < 0) {
        return -1;
    }
    if (!db_bool(res, 0, 0)) {
        show_nothing();
        return 0;
    }
    /* The lock's transaction stays idle meanwhile; a sweep that outlasts its time limit goes on
     * without the lock, which costs double work at worst. */
    if (sweep_all(service, err) < 0) {
        return -1;
    }
    metrics_set("docfleet_cleaner_last_success_seconds", "", (double)clock_wall_ms() / 1000);
    return 0;
}
