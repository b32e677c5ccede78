/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statements of the dispatcher: heads, dispatch, what is out, what is due, events.
 */
#include "libcommon/task_dispatch.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/jget.h"
#include "libcommon/notify.h"

/* Dispatch --------------------------------------------------------------------------------------*/

/* The typeof is true always and lets the planner expect one row instead of a hundred: while the
 * table is small, a pass over it would look cheaper, and the plan outlives the small table. */
#define KEYS_FROM_JSON                                                                             \
    "(SELECT (x->>0)::uuid AS f, (x->>1)::smallint AS s, (x->>2)::int AS u, (x->>3)::int AS g,"    \
    " (x->>4)::int AS d, (x->>5)::int AS i FROM jsonb_array_elements($1::jsonb) AS x"              \
    " WHERE jsonb_typeof(x) = 'array' ORDER BY 1, 2, 3, 4) v"

/* coalesce() keeps the partial index task_send out of the plan: by it, each row would be looked for
 * among everything that waits. */
static const char dispatch_sql[] =
    "UPDATE task t SET state = 1, q = NULL, dispatch_seq = dispatch_seq + 1, updated_at = now()"
    " FROM " KEYS_FROM_JSON " WHERE t.file_id = v.f AND t.stage = v.s AND t.unit = v.u"
    " AND t.generation = v.g AND t.state = 0 AND coalesce(t.q, 1) = 0"
    " RETURNING v.i, t.dispatch_seq, t.traceparent, CASE WHEN t.traceparent IS NOT NULL THEN"
    "   greatest(0, extract(epoch FROM now() - greatest(t.created_at, t.not_before,"
    "     t.lease_until)) * 1000)::bigint END";

static char *keys_json(const struct task_key *keys, const int *seqs, size_t n)
{
    CLEANUP(json_cleanup) json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("[s, i, i, i, i, i]", keys[i].file_id, keys[i].stage,
                                              keys[i].unit, keys[i].generation, seqs ? seqs[i] : 0,
                                              (int)i));
    }
    return json_array_size(list) == n ? json_dumps(list, JSON_COMPACT) : NULL;
}

int task_dispatch(struct db *db, const struct task_key *keys, size_t n, int *seqs,
                  struct task_trace *traces, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(free_cleanup) char *text = keys_json(keys, NULL, n);
    const char *params[] = {text};

    if (!text) {
        return err_nomem(err);
    }
    if (db_run(db, dispatch_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        seqs[i] = 0;
        traces[i] = (struct task_trace){.wait_ms = 0};
    }
    for (int row = 0; row < PQntuples(res); row++) {
        size_t i = (size_t)db_i64(res, row, 0);
        const char *trace = db_str(res, row, 2);
        if (i < n) {
            seqs[i] = (int)db_i64(res, row, 1);
            snprintf(traces[i].parent, sizeof(traces[i].parent), "%s", trace ? trace : "");
            traces[i].wait_ms = db_i64(res, row, 3);
        }
    }
    return 0;
}

/* What is out -----------------------------------------------------------------------------------*/

static const char check_sql[] =
    "SELECT v.i, t.state, t.dispatch_seq, t.attempts, t.failures, t.refunds, t.lease_token,"
    "  coalesce(t.lease_until < now(), false), t.cost, t.lane FROM " KEYS_FROM_JSON
    " LEFT JOIN task t ON t.file_id = v.f AND t.stage = v.s AND t.unit = v.u"
    " AND t.generation = v.g";

static void out_from_row(const PGresult *res, int row, int col, struct task_out *out)
{
    int state = PQgetisnull(res, row, col) ? -1 : (int)db_i64(res, row, col);

    out->state = state;
    out->cost = (int)db_i64(res, row, col + 7);
    out->lane = (int)db_i64(res, row, col + 8);
    out->back = (state != TASK_DISPATCHED && state != TASK_RUNNING) ||
                (int)db_i64(res, row, col + 1) != out->dispatch_seq;
    out->running = !out->back && state == TASK_RUNNING;
    out->attempts = (int)db_i64(res, row, col + 2);
    out->failures = (int)db_i64(res, row, col + 3);
    out->refunds = (int)db_i64(res, row, col + 4);
    out->crashes = out->attempts - out->failures - out->refunds;
    out->token = db_i64(res, row, col + 5);
    out->expired = out->running && db_bool(res, row, col + 6);
}

int task_check_out(struct db *db, struct task_out *outs, size_t n, struct err *err)
{
    for (size_t at = 0; at < n; at += DISPATCH_BATCH_MAX) {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        struct task_key keys[DISPATCH_BATCH_MAX];
        size_t k = min_size(n - at, DISPATCH_BATCH_MAX);
        for (size_t i = 0; i < k; i++) {
            keys[i] = outs[at + i].key;
        }
        CLEANUP(free_cleanup) char *text = keys_json(keys, NULL, k);
        const char *params[] = {text};
        if (!text) {
            return err_nomem(err);
        }
        if (db_run(db, check_sql, 1, params, &res, err) < 0) {
            return -1;
        }
        for (int row = 0; row < PQntuples(res); row++) {
            size_t i = (size_t)db_i64(res, row, 0);
            if (i < k) {
                out_from_row(res, row, 1, &outs[at + i]);
            }
        }
    }
    return 0;
}

static const char strays_sql[] =
    "SELECT file_id, unit, generation, user_id, cost, dispatch_seq, state, dispatch_seq, attempts,"
    "  failures, refunds, lease_token, coalesce(lease_until < now(), false), cost, lane"
    " FROM task WHERE stage = $1::smallint AND state IN (1, 2)";

int task_strays(struct db *db, int stage, task_stray_fn fn, void *ctx, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num n_stage;
    const char *params[] = {db_num(&n_stage, stage)};

    if (db_run(db, strays_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    for (int row = 0; row < PQntuples(res); row++) {
        struct task_out out = {.dispatch_seq = (int)db_i64(res, row, 5)};
        snprintf(out.key.file_id, UUID_TEXT, "%s", PQgetvalue(res, row, 0));
        out.key.stage = stage;
        out.key.unit = (int)db_i64(res, row, 1);
        out.key.generation = (int)db_i64(res, row, 2);
        out_from_row(res, row, 6, &out);
        if (fn(ctx, &out, PQgetvalue(res, row, 3), (int)db_i64(res, row, 4), err) < 0) {
            return -1;
        }
    }
    return 0;
}

static const char expire_sql[] =
    "WITH d AS (UPDATE task SET state = 0, q = 0, lease_until = NULL, updated_at = now(),"
    "    last_error = 'the worker was lost'"
    "  WHERE file_id = $1::uuid AND stage = $2::smallint AND unit = $3::int"
    "    AND generation = $4::int AND lease_token = $5::bigint AND state = 2"
    "    AND lease_until < now() RETURNING user_id, file_id, stage, unit, attempts),"
    " e AS (INSERT INTO event (user_id, file_id, kind, stage, body) SELECT d.user_id, d.file_id,"
    "    'file_updated', d.stage, jsonb_build_object('datasetId', f.dataset_id, 'batchId',"
    "    f.batch_id, 'state', 'waiting', 'unit', d.unit, 'attempt', d.attempts, 'reason',"
    "    'worker_lost') FROM d JOIN file f ON f.file_id = $1::uuid)"
    " SELECT count(*) FROM d";

int task_expire(struct db *db, const struct task_out *out, bool *ret_done, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num stage, unit, generation, token;
    const char *params[] = {out->key.file_id, db_num(&stage, out->key.stage),
                            db_num(&unit, out->key.unit), db_num(&generation, out->key.generation),
                            db_num(&token, out->token)};

    if (db_run(db, expire_sql, 5, params, &res, err) < 0) {
        return -1;
    }
    *ret_done = db_i64(res, 0, 0) > 0;
    return 0;
}

int task_expire_dead(struct db *db, const struct task_out *out, struct task_end *ret_end,
                     struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct task_claim claim = {.key = out->key, .token = out->token};
    struct err why;
    const char *params[] = {out->key.file_id};

    if (db_run(db, "SELECT version FROM file WHERE file_id = $1::uuid", 1, params, &res, err) < 0) {
        return -1;
    }
    claim.version = PQntuples(res) > 0 ? (int)db_i64(res, 0, 0) : 1;
    err_set(&why, ERR_UNKNOWN, "crash_loop", "the worker was lost %d times while it worked on this",
            out->crashes);
    return task_dead(db, &claim, &why, NULL, ret_end, err);
}

/* Later and workers -----------------------------------------------------------------------------*/

static const char promote_sql[] =
    "WITH due AS (SELECT file_id, stage, unit, generation FROM task WHERE q = 1"
    "    AND not_before <= now() ORDER BY not_before LIMIT 500 FOR UPDATE SKIP LOCKED),"
    " p AS (UPDATE task t SET state = 0, q = 0, not_before = NULL, updated_at = now() FROM due"
    "  WHERE t.file_id = due.file_id AND t.stage = due.stage AND t.unit = due.unit"
    "    AND t.generation = due.generation RETURNING t.stage, t.user_id)"
    " SELECT DISTINCT stage, user_id FROM p";

int task_promote(struct db *db, task_due_fn fn, void *ctx, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(db, promote_sql, 0, NULL, &res, err) < 0) {
        return -1;
    }
    for (int row = 0; row < PQntuples(res); row++) {
        fn(ctx, (int)db_i64(res, row, 0), PQgetvalue(res, row, 1));
    }
    return 0;
}

static const char workers_sql[] =
    "SELECT worker_id, slots, array_to_string(partitions, ','),"
    "  coalesce((SELECT paused FROM stage_control WHERE stage = $1::smallint), false),"
    /* the column comes with a later migration */
    "  coalesce((to_jsonb(worker)->>'open')::boolean, false)"
    " FROM (SELECT 1) one LEFT JOIN worker ON stage = $1::smallint"
    "  AND seen > now() - interval '10 s' ORDER BY worker_id";

int task_workers(struct db *db, int stage, struct task_worker *workers, size_t max, size_t *ret_n,
                 bool *ret_paused, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num n_stage;
    const char *params[] = {db_num(&n_stage, stage)};
    size_t n = 0;

    if (db_run(db, workers_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    for (int row = 0; row < PQntuples(res) && n < max; row++) {
        *ret_paused = db_bool(res, row, 3);
        if (PQgetisnull(res, row, 0)) {
            continue;
        }
        struct task_worker *worker = &workers[n++];
        *worker =
            (struct task_worker){.slots = (int)db_i64(res, row, 1), .open = db_bool(res, row, 4)};
        snprintf(worker->id, sizeof(worker->id), "%s", PQgetvalue(res, row, 0));
        for (const char *p = PQgetvalue(res, row, 2);
             *p && worker->n_partitions < (int)ARRAY_LEN(worker->partitions);) {
            char *end;
            worker->partitions[worker->n_partitions++] = (int32_t)strtol(p, &end, 10);
            p = *end == ',' ? end + 1 : end;
        }
    }
    *ret_n = n;
    return 0;
}

static const char pause_sql[] =
    "WITH c AS (INSERT INTO stage_control (stage, paused) VALUES ($1::smallint, $2::boolean)"
    "  ON CONFLICT (stage) DO UPDATE SET paused = excluded.paused)"
    " SELECT pg_notify('" NOTIFY_CHANNEL "', $1::text || ':' || '" NOTIFY_CONTROL "')";

int task_pause(struct db *db, int stage, bool paused, struct err *err)
{
    struct db_num n_stage;
    const char *params[] = {db_num(&n_stage, stage), paused ? "t" : "f"};

    return db_run(db, pause_sql, 2, params, NULL, err);
}

static const char letters_sql[] =
    "SELECT stage, reason, count(*) FROM dead_letter WHERE state = 'open' GROUP BY 1, 2"
    " ORDER BY 3 DESC LIMIT 200";

int task_letters(struct db *db, task_letters_fn fn, void *ctx, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(db, letters_sql, 0, NULL, &res, err) < 0) {
        return -1;
    }
    for (int row = 0; row < PQntuples(res); row++) {
        fn(ctx, (int)db_i64(res, row, 0), PQgetvalue(res, row, 1), db_i64(res, row, 2));
    }
    return 0;
}

int task_db_uptime(struct db *db, int64_t *ret_s, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(db,
               "SELECT extract(epoch FROM now() - pg_postmaster_start_time())::bigint,"
               " current_setting('transaction_read_only') = 'on'",
               0, NULL, &res, err) < 0) {
        return -1;
    }
    if (db_bool(res, 0, 1)) {
        return err_set(err, ERR_TRANSIENT, "db_unavailable", "postgres takes no writes");
    }
    *ret_s = db_i64(res, 0, 0);
    return 0;
}

/* Events ----------------------------------------------------------------------------------------*/

/* The lock serialises leaders that overlap; positions are given after the rows are visible, so
 * that no lower position can appear later. They go by time: event_id comes from blocks that each
 * connection takes ahead, and would tell of a unit's end before its beginning. */
static const char assign_sql[] =
    "WITH l AS MATERIALIZED (SELECT value FROM dispatcher_state WHERE name = 'last_pos'"
    "    FOR UPDATE),"
    " e AS MATERIALIZED (SELECT event_id, at, row_number() OVER (ORDER BY at, event_id) AS rn"
    "    FROM (SELECT event_id, at FROM event WHERE pos IS NULL ORDER BY at, event_id"
    "      LIMIT $1::int) x),"
    " u AS (UPDATE event SET pos = l.value + e.rn FROM e, l WHERE event.event_id = e.event_id"
    "    AND event.at = e.at AND event.pos IS NULL"
    "    RETURNING event.pos, event.at, event.user_id, event.file_id, event.kind, event.body,"
    "      event.stage),"
    " s AS (UPDATE dispatcher_state SET value = l.value + c.n, updated_at = now()"
    "    FROM l, (SELECT count(*) AS n FROM e) c WHERE name = 'last_pos' AND c.n > 0)"
    " SELECT pos, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), user_id,"
    "   file_id, kind, body, stage FROM u ORDER BY pos";

static const char since_sql[] =
    "SELECT pos, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), user_id,"
    "   file_id, kind, body, stage FROM event WHERE pos > $1::bigint ORDER BY pos LIMIT $2::int";

static int each_event(const PGresult *res, task_event_fn fn, void *ctx, int *ret_n, struct err *err)
{
    for (int row = 0; row < PQntuples(res); row++) {
        struct task_event event = {.pos = db_i64(res, row, 0),
                                   .at = PQgetvalue(res, row, 1),
                                   .user_id = PQgetvalue(res, row, 2),
                                   .file_id = db_str(res, row, 3),
                                   .kind = PQgetvalue(res, row, 4),
                                   .body = PQgetvalue(res, row, 5),
                                   .stage = (int)db_i64(res, row, 6)};
        if (fn(ctx, &event, err) < 0) {
            return -1;
        }
    }
    *ret_n = PQntuples(res);
    return 0;
}

/* Joined by hash: row by row, a batch of 500 would be compared with itself 250,000 times. And a
 * position that was shown must not be given again, so this commit is durable. */
static const char lock_sql[] =
    "SELECT pg_advisory_xact_lock(776001, 0), set_config('enable_hashjoin', 'on', true),"
    " set_config('enable_nestloop', 'off', true), set_config('synchronous_commit', 'on', true)";

int task_events_assign(struct db *db, int limit, task_event_fn fn, void *ctx, int *ret_n,
                       struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num n;
    const char *params[] = {db_num(&n, limit)};

    if (db_acquire(db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        db_query(conn, lock_sql, 0, NULL, NULL, err) < 0 ||
        db_query(conn, assign_sql, 1, params, &res, err) < 0 || db_commit(conn, err) < 0) {
        return -1;
    }
    return each_event(res, fn, ctx, ret_n, err);
}

int task_events_since(struct db *db, int64_t after, int limit, task_event_fn fn, void *ctx,
                      int *ret_n, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num n_after, n_limit;
    const char *params[] = {db_num(&n_after, after), db_num(&n_limit, limit)};

    if (db_run(db, since_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    return each_event(res, fn, ctx, ret_n, err);
}

int task_events_state(struct db *db, const char *name, int64_t *ret_value, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {name};

    if (db_run(db, "SELECT value FROM dispatcher_state WHERE name = $1", 1, params, &res, err) <
        0) {
        return -1;
    }
    *ret_value = PQntuples(res) > 0 ? db_i64(res, 0, 0) : 0;
    return 0;
}

int task_events_published(struct db *db, int64_t pos, struct err *err)
{
    struct db_num n;
    const char *params[] = {db_num(&n, pos)};

    return db_run(db,
                  "UPDATE dispatcher_state SET value = $1::bigint, updated_at = now()"
                  " WHERE name = 'published_pos' AND value < $1::bigint",
                  1, params, NULL, err);
}

int task_partitions(struct db *db, int *ret_partitions, struct err *err)
{
    int64_t value = 0;

    if (task_events_state(db, "partitions", &value, err) < 0) {
        return -1;
    }
    *ret_partitions = (int)value;
    return 0;
}

int task_partitions_note(struct db *db, int partitions, struct err *err)
{
    struct db_num n;
    const char *params[] = {db_num(&n, partitions)};

    return db_run(db,
                  "INSERT INTO dispatcher_state (name, value) VALUES ('partitions', $1::bigint)"
                  " ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = now()",
                  1, params, NULL, err);
}
