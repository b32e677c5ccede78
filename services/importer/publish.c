/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a run: once every file of it has come to its end, the run either becomes the version
 * that the dataset shows, in one transaction, or fails and changes nothing there.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/fault.h"
#include "libcommon/import.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/reason.h"
#include "services/importer/importer.h"

/* What came of the objects. Of vanished ones only their number counts. */
struct verdict {
    int64_t objects, fresh, changed, unchanged, vanished;
    int64_t done, failed, rejected, unfetched, kept, removed, pending;
    bool had_objects; /* the published version has some */
};

static const char count_sql[] =
    "SELECT count(*) FILTER (WHERE there), count(*) FILTER (WHERE change = 'new'),"
    "  count(*) FILTER (WHERE change = 'changed'), count(*) FILTER (WHERE change = 'unchanged'),"
    "  count(*) FILTER (WHERE change = 'vanished'),"
    "  count(*) FILTER (WHERE there AND s = 'file' AND f = 2),"
    "  count(*) FILTER (WHERE there AND s = 'file' AND f BETWEEN 3 AND 5),"
    "  count(*) FILTER (WHERE there AND s = 'rejected'),"
    "  count(*) FILTER (WHERE there AND s = 'unfetched'),"
    "  count(*) FILTER (WHERE there AND s = 'kept'),"
    "  count(*) FILTER (WHERE there AND (s = 'gone' OR (s = 'file' AND f >= 6))),"
    "  count(*) FILTER (WHERE s = 'file' AND f < 2 AND shadow),"
    "  (SELECT EXISTS (SELECT 1 FROM import_item p WHERE p.run_id = (SELECT published_run"
    "    FROM import_source WHERE import_id = $2::uuid) AND p.state IN ('file', 'kept')))"
    " FROM (SELECT n.change, n.change <> 'vanished' AS there, n.state AS s,"
    "    coalesce(f.state, 7) AS f, f.dataset_id = $3::uuid AS shadow"
    "  FROM import_item n LEFT JOIN file f USING (file_id) WHERE n.run_id = $1::uuid) x";

static int count_items(struct db_conn *conn, const struct run *run, struct verdict *ret_v,
                       struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {run->run_id, run->import_id, run->shadow_id};

    if (db_query(conn, count_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    *ret_v = (struct verdict){
        .objects = db_i64(res, 0, 0),
        .fresh = db_i64(res, 0, 1),
        .changed = db_i64(res, 0, 2),
        .unchanged = db_i64(res, 0, 3),
        .vanished = db_i64(res, 0, 4),
        .done = db_i64(res, 0, 5),
        .failed = db_i64(res, 0, 6),
        .rejected = db_i64(res, 0, 7),
        .unfetched = db_i64(res, 0, 8),
        .kept = db_i64(res, 0, 9),
        .removed = db_i64(res, 0, 10),
        .pending = db_i64(res, 0, 11),
        .had_objects = db_bool(res, 0, 12),
    };
    return 0;
}

static void counts_text(const struct verdict *v, char *out, size_t size)
{
    snprintf(out, size,
             "{\"objects\":%lld,\"new\":%lld,\"changed\":%lld,\"unchanged\":%lld,"
             "\"vanished\":%lld,\"done\":%lld,\"failed\":%lld,\"rejected\":%lld,"
             "\"unfetched\":%lld,\"kept\":%lld,\"removed\":%lld}",
             (long long)v->objects, (long long)v->fresh, (long long)v->changed,
             (long long)v->unchanged, (long long)v->vanished, (long long)v->done,
             (long long)v->failed, (long long)v->rejected, (long long)v->unfetched,
             (long long)v->kept, (long long)v->removed);
}

/* 0: may be published; -1: *why says why not. */
static int judge(const struct run *run, const struct verdict *v, struct err *why)
{
    int64_t broken = v->failed + v->rejected + v->unfetched + v->kept;

    if (run->dataset_gone) {
        return err_set(why, ERR_PERMANENT, "dataset_gone", "the dataset was removed");
    }
    if (run->remove_vanished && v->objects == 0 && v->had_objects) {
        return err_set(why, ERR_PERMANENT, "source_empty",
                       "the source is empty, and taking its objects away would empty the dataset");
    }
    if (v->unfetched > run->max_unfetched) {
        return err_set(why, ERR_PERMANENT, "unfetched",
                       "%lld of %lld objects could not be read; at most %lld may",
                       (long long)v->unfetched, (long long)v->objects,
                       (long long)run->max_unfetched);
    }
    if (v->objects > 0 && (double)broken * 100 > run->max_failed_percent * (double)v->objects) {
        return err_set(why, ERR_PERMANENT, "too_many_failed",
                       "%lld of %lld objects are broken; at most %g %% may be", (long long)broken,
                       (long long)v->objects, run->max_failed_percent);
    }
    return 0;
}

/* Failure
 * ----------------------------------------------------------------------------------------*/

static const char fail_sql[] =
    "UPDATE import_run SET state = 'failed', code = $3, note = $4, counts = $5::jsonb,"
    "   ended_at = now() WHERE run_id = $1::uuid AND token = $2::bigint AND state IN"
    "   ('queued', 'listing', 'fetching', 'processing') RETURNING 1";

/* Only a change is told. */
static const char ill_sql[] =
    "UPDATE import_source SET health = 'failing', alert_tries = 0, alert_at = now(), alert = $2"
    " WHERE import_id = $1::uuid AND health <> 'failing'";

int run_fail(struct importer *imp, const struct run *run, const struct err *why, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct verdict v;
    struct db_num token;
    char counts[400], alert[700];

    if (db_acquire(imp->service.db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        count_items(conn, run, &v, err) < 0) {
        return -1;
    }
    counts_text(&v, counts, sizeof(counts));
    snprintf(alert, sizeof(alert),
             "docfleet: import \"%s\", run %lld, failed: %s. The dataset keeps what it had.",
             run->name, (long long)run->no, why->msg);
    const char *params[] = {run->run_id, db_num(&token, run->token), why->code,
                            reason_said(why->code, why->msg), counts};
    const char *tell[] = {run->import_id, alert};
    if (db_query(conn, fail_sql, 5, params, &res, err) < 0 ||
        (PQntuples(res) > 0 && db_query(conn, ill_sql, 2, tell, NULL, err) < 0) ||
        db_commit(conn, err) < 0) {
        return -1;
    }
    metrics_inc("docfleet_import_runs_total", "outcome=\"failed\"");
    log_err(LOG_WARN, "a run failed, the dataset keeps what it had", why);
    return 0;
}

/* Publishing
 * -------------------------------------------------------------------------------------*/

/* A changed object whose new content cannot be used leaves the file from before in its place. One
 * that could not be read is asked for again next time: its etag is forgotten. */
static const char keep_old_sql[] =
    "UPDATE import_item n SET state = 'kept', file_id = o.file_id,"
    "   etag = CASE WHEN n.state = 'unfetched' THEN '' ELSE n.etag END,"
    "   code = coalesce(n.code, x.code, 'failed'), detail = coalesce(n.detail, x.detail)"
    " FROM (SELECT i.object_key, f.errors->'main'->>'code' AS code,"
    "     f.errors->'main'->>'detail' AS detail FROM import_item i LEFT JOIN file f USING (file_id)"
    "   WHERE i.run_id = $1::uuid AND i.change = 'changed' AND (i.state IN ('rejected', "
    "'unfetched')"
    "     OR (i.state = 'file' AND coalesce(f.state, 7) <> 2))) x, file o"
    " WHERE n.run_id = $1::uuid AND n.object_key = x.object_key AND o.file_id = n.old_file_id"
    "   AND o.state < 6";

static const char gone_sql[] =
    "UPDATE import_item n SET state = 'gone', file_id = NULL, code = 'removed',"
    "   detail = 'removed by hand' WHERE n.run_id = $1::uuid AND n.state IN ('file', 'kept')"
    "   AND NOT EXISTS (SELECT 1 FROM file f WHERE f.file_id = n.file_id AND f.state < 6)";

static const char done_sql[] = "UPDATE import_run SET state = 'published', counts = $2::jsonb,"
                               "   ended_at = now() WHERE run_id = $1::uuid";

static const char well_sql[] =
    "UPDATE import_source SET health = 'ok', last_success_at = now(),"
    "   alert = CASE WHEN health = 'failing' THEN $2 ELSE alert END,"
    "   alert_at = CASE WHEN health = 'failing' THEN now() ELSE alert_at END,"
    "   alert_tries = CASE WHEN health = 'failing' THEN 0 ELSE alert_tries END"
    " WHERE import_id = $1::uuid";

static int write_version(struct db_conn *conn, const struct run *run, const struct verdict *v,
                         struct err *err)
{
    int64_t in, out;
    char counts[400], alert[700];

    counts_text(v, counts, sizeof(counts));
    snprintf(alert, sizeof(alert), "docfleet: import \"%s\" works again: run %lld, %lld objects.",
             run->name, (long long)run->no, (long long)v->objects);
    const char *params[] = {run->run_id, counts};
    const char *tell[] = {run->import_id, alert};
    if (db_query(conn, keep_old_sql, 1, params, NULL, err) < 0 ||
        db_query(conn, gone_sql, 1, params, NULL, err) < 0 ||
        import_switch(conn, run->import_id, run->run_id, &in, &out, err) < 0 ||
        db_query(conn, done_sql, 2, params, NULL, err) < 0 ||
        db_query(conn, well_sql, 2, tell, NULL, err) < 0) {
        return -1;
    }
    fault_point("import.before_publish");
    if (db_commit(conn, err) < 0) {
        return -1;
    }
    fault_point("import.after_publish");
    metrics_inc("docfleet_import_runs_total", "outcome=\"published\"");
    log_info("a version is published", kv_str("import", run->import_id), kv_str("run", run->run_id),
             kv_i64("no", run->no), kv_i64("objects", v->objects), kv_i64("filesIn", in),
             kv_i64("filesOut", out));
    return 0;
}

int run_publish(struct importer *imp, struct run *run, enum step *ret_step, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    struct verdict v;
    struct err why = ERR_INIT;
    bool ours;

    *ret_step = STEP_OVER;
    if (db_acquire(imp->service.db, &conn, err) < 0) {
        return -1;
    }
    /* Asked without a lock first: this may take hours. */
    if (count_items(conn, run, &v, err) < 0) {
        return -1;
    }
    if (v.pending > 0 && !run->dataset_gone) {
        *ret_step = STEP_WAIT;
        return 0;
    }
    const char *params[] = {run->import_id};
    if (db_begin(conn, err) < 0 ||
        db_query(conn, "SELECT 1 FROM import_source WHERE import_id = $1::uuid FOR UPDATE", 1,
                 params, NULL, err) < 0 ||
        run_hold(conn, run, &ours, err) < 0) {
        return -1;
    }
    if (!ours) {
        return 0;
    }
    if (count_items(conn, run, &v, err) < 0) {
        return -1;
    }
    if (judge(run, &v, &why) < 0) {
        db_release(STEAL(conn));
        return run_fail(imp, run, &why, err);
    }
    return write_version(conn, run, &v, err);
}
