/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What there is to do: schedules that have come due become runs, and open runs are taken up, each
 * import by one importer at a time. The lock is a session's, so it ends with the process; what a
 * process that lost it may still try is fended off by the run's token.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/import.h"
#include "libcommon/log.h"
#include "services/importer/importer.h"

#define LOCK_CLASS "776004"

/* Schedules
 * --------------------------------------------------------------------------------------*/

static const char due_sql[] =
    "SELECT import_id, cron, time_zone FROM import_source WHERE deleted_at IS NULL AND enabled"
    "   AND cron IS NOT NULL AND next_at <= now() ORDER BY next_at LIMIT 100";

static const char still_due_sql[] =
    "SELECT 1 FROM import_source WHERE import_id = $1::uuid AND deleted_at IS NULL AND enabled"
    "   AND next_at <= now() FOR UPDATE";

static int queue_one(struct importer *imp, const char *import_id, const char *cron,
                     const char *time_zone, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    char next[IMPORT_TIME] = "";
    char run_id[UUID_TEXT];
    bool queued;

    if (db_acquire(imp->service.db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        db_query(conn, still_due_sql, 1, &import_id, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return 0; /* another importer was faster */
    }
    /* Times that were missed while nobody looked make one run, not many. */
    if (import_next_at(conn, cron, time_zone, NULL, next, err) < 0) {
        return err_wrap(err, "schedule of import %s", import_id);
    }
    const char *params[] = {import_id, next};
    if (import_run_add(conn, import_id, "schedule", run_id, &queued, err) < 0 ||
        db_query(conn,
                 "UPDATE import_source SET next_at = $2::timestamptz WHERE import_id = $1::uuid", 2,
                 params, NULL, err) < 0 ||
        db_commit(conn, err) < 0) {
        return -1;
    }
    log_info(queued ? "a run is due" : "a run is skipped", kv_str("import", import_id),
             kv_str("run", run_id), kv_str("next", next));
    return 0;
}

int due_queue(struct importer *imp, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(imp->service.db, due_sql, 0, NULL, &res, err) < 0) {
        return -1;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        if (queue_one(imp, db_str(res, i, 0), db_str(res, i, 1), db_str(res, i, 2), err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Locks
 * ------------------------------------------------------------------------------------------*/

static int open_locks(struct importer *imp, struct err *err)
{
    if (imp->locks && PQstatus(imp->locks) == CONNECTION_OK) {
        return 0;
    }
    PQfinish(imp->locks);
    imp->locks = NULL;
    return db_connect_raw(service_direct_url(&imp->service), imp->service.id, 5000, &imp->locks,
                          err);
}

/* 1 when a query of the locks' session answers true; -1 without an answer. */
static int ask(struct importer *imp, const char *sql, const char *import_id, struct err *err)
{
    CLEANUP(db_result_cleanup)
    PGresult *res = PQexecParams(imp->locks, sql, 1, NULL, &import_id, NULL, NULL, 0);

    if (PQresultStatus(res) != PGRES_TUPLES_OK) {
        return err_from_pg(err, imp->locks, res);
    }
    return strcmp(PQgetvalue(res, 0, 0), "t") == 0;
}

/* A session may hold a lock several times; here it is asked whether it has it before. */
static const char held_sql[] =
    "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = " LOCK_CLASS " AND objid::bigint = (hashtext($1)::bigint & 4294967295))";
static const char take_lock_sql[] = "SELECT pg_try_advisory_lock(" LOCK_CLASS ", hashtext($1))";
static const char free_lock_sql[] = "SELECT pg_advisory_unlock(" LOCK_CLASS ", hashtext($1))";

void due_release(struct importer *imp, const char *import_id)
{
    struct err err = ERR_INIT;

    if (imp->locks && ask(imp, free_lock_sql, import_id, &err) < 0) {
        log_err(LOG_WARN, "a lock stays until the session ends", &err);
    }
}

/* Runs
 * -------------------------------------------------------------------------------------------*/

#define RUN_COLUMNS                                                                                \
    "r.run_id, r.import_id, i.user_id, i.dataset_id, i.shadow_id, i.name, i.source, i.prefix,"     \
    " i.on_vanished, i.max_failed_percent, i.max_unfetched, r.no, r.token,"                        \
    " extract(epoch FROM now() - coalesce(r.started_at, now())) * 1000, r.state, r.trigger,"       \
    " d.deleted_at IS NOT NULL"

static const char open_sql[] =
    "SELECT " RUN_COLUMNS " FROM import_run r JOIN import_source i USING (import_id)"
    " JOIN dataset d ON d.dataset_id = i.dataset_id WHERE r.state IN"
    " ('queued', 'listing', 'fetching', 'processing') AND i.deleted_at IS NULL"
    " ORDER BY r.run_id LIMIT 100";

static const char take_sql[] =
    "UPDATE import_run SET token = token + 1, starts = starts + 1,"
    "   started_at = coalesce(started_at, now()),"
    "   state = CASE state WHEN 'queued' THEN 'listing' ELSE state END"
    " WHERE run_id = $1::uuid AND state IN ('queued', 'listing', 'fetching', 'processing')"
    " RETURNING token, starts, state";

static void copy_cell(char *out, size_t size, const PGresult *res, int row, int col)
{
    const char *text = db_str(res, row, col);

    snprintf(out, size, "%s", text ? text : "");
}

static void read_run(const PGresult *res, int row, struct run *run)
{
    *run = (struct run){0};
    copy_cell(run->run_id, sizeof(run->run_id), res, row, 0);
    copy_cell(run->import_id, sizeof(run->import_id), res, row, 1);
    copy_cell(run->user_id, sizeof(run->user_id), res, row, 2);
    copy_cell(run->dataset_id, sizeof(run->dataset_id), res, row, 3);
    copy_cell(run->shadow_id, sizeof(run->shadow_id), res, row, 4);
    copy_cell(run->name, sizeof(run->name), res, row, 5);
    copy_cell(run->source, sizeof(run->source), res, row, 6);
    copy_cell(run->prefix, sizeof(run->prefix), res, row, 7);
    run->remove_vanished = strcmp(PQgetvalue(res, row, 8), "remove") == 0;
    run->max_failed_percent = strtod(PQgetvalue(res, row, 9), NULL);
    run->max_unfetched = db_i64(res, row, 10);
    run->no = db_i64(res, row, 11);
    run->token = db_i64(res, row, 12);
    run->age_ms = (int64_t)strtod(PQgetvalue(res, row, 13), NULL);
    copy_cell(run->state, sizeof(run->state), res, row, 14);
    copy_cell(run->queued_by, sizeof(run->queued_by), res, row, 15);
    run->dataset_gone = db_bool(res, row, 16);
}

/* After the lock: a new token shuts out whoever had the run before. */
static int take_up(struct importer *imp, struct run *run, bool *ret_taken, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {run->run_id};

    if (db_run(imp->service.db, take_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    *ret_taken = PQntuples(res) > 0;
    if (!*ret_taken) {
        return 0;
    }
    run->token = db_i64(res, 0, 0);
    bool resumed = strcmp(run->state, "queued") != 0;
    copy_cell(run->state, sizeof(run->state), res, 0, 2);
    log_info(resumed ? "a run goes on" : "a run begins", kv_str("import", run->import_id),
             kv_str("run", run->run_id), kv_str("state", run->state), kv_i64("no", run->no));
    if (db_i64(res, 0, 1) <= IMPORT_STARTS_MAX) {
        return 0;
    }
    struct err why = ERR_INIT;
    err_set(&why, ERR_UNKNOWN, "crash_loop",
            "the importer was lost %d times while it was at this run, without getting any further",
            IMPORT_STARTS_MAX);
    *ret_taken = false;
    return run_fail(imp, run, &why, err);
}

int due_take(struct importer *imp, struct run *runs, size_t max, size_t *ret_n, bool *ret_busy,
             struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    size_t n = 0;

    *ret_busy = false;
    if (open_locks(imp, err) < 0 || db_run(imp->service.db, open_sql, 0, NULL, &res, err) < 0) {
        return -1;
    }
    for (int i = 0; i < PQntuples(res) && n < max; i++) {
        bool taken = true;
        read_run(res, i, &runs[n]);
        int held = ask(imp, held_sql, runs[n].import_id, err);
        if (held == 0) {
            held = ask(imp, take_lock_sql, runs[n].import_id, err);
            if (held > 0 && take_up(imp, &runs[n], &taken, err) < 0) {
                return -1;
            }
        }
        if (held < 0) {
            return -1;
        }
        if (held > 0 && !taken) {
            due_release(imp, runs[n].import_id);
        }
        *ret_busy = *ret_busy || held == 0;
        n += held > 0 && taken;
    }
    *ret_n = n;
    return 0;
}

int run_hold(struct db_conn *conn, const struct run *run, bool *ret_ours, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num token;
    const char *params[] = {run->run_id, db_num(&token, run->token), run->state};

    if (db_query(conn,
                 "SELECT 1 FROM import_run WHERE run_id = $1::uuid AND token = $2::bigint"
                 " AND state = $3 FOR UPDATE",
                 3, params, &res, err) < 0) {
        return -1;
    }
    *ret_ours = PQntuples(res) > 0;
    return 0;
}
