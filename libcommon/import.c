/* SPDX-License-Identifier: Apache-2.0 */
#include "libcommon/import.h"

#include "libcommon/cron.h"

#include <stdio.h>
#include <string.h>

/* Times
 * ------------------------------------------------------------------------------------------*/

static const char local_sql[] =
    "SELECT extract(year FROM t)::int, extract(month FROM t)::int, extract(day FROM t)::int,"
    "  extract(hour FROM t)::int, extract(minute FROM t)::int"
    " FROM (SELECT coalesce($2::timestamptz, now()) AT TIME ZONE $1 AS t) x";

/* A time that a change of the clocks leaves out is moved on, one that comes twice is its later. */
static const char moment_sql[] = "SELECT m::text, m > coalesce($3::timestamptz, now())"
                                 " FROM (SELECT $2::timestamp AT TIME ZONE $1 AS m) x";

static int local_time(struct db_conn *conn, const char *time_zone, const char *after,
                      struct cron_time *ret_time, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {time_zone, after};

    if (db_query(conn, local_sql, 2, params, &res, err) < 0) {
        return strcmp(err->code, "db_constraint") == 0
                   ? err_set(err, ERR_PERMANENT, "invalid_value", "there is no such time zone")
                   : -1;
    }
    *ret_time = (struct cron_time){
        .year = (int)db_i64(res, 0, 0),
        .month = (int)db_i64(res, 0, 1),
        .day = (int)db_i64(res, 0, 2),
        .hour = (int)db_i64(res, 0, 3),
        .minute = (int)db_i64(res, 0, 4),
    };
    return 0;
}

int import_next_at(struct db_conn *conn, const char *cron_text, const char *time_zone,
                   const char *after, char ret_at[IMPORT_TIME], struct err *err)
{
    struct cron cron;
    struct cron_time t;

    if (cron_parse(cron_text, &cron, err) < 0 || local_time(conn, time_zone, after, &t, err) < 0) {
        return -1;
    }
    /* In the hour that clocks are set back by, a later civil time may be an earlier moment. */
    for (int i = 0; i < 120 && cron_next(&cron, &t, &t); i++) {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        char civil[80];
        snprintf(civil, sizeof(civil), "%04d-%02d-%02d %02d:%02d", t.year, t.month, t.day, t.hour,
                 t.minute);
        const char *params[] = {time_zone, civil, after};
        if (db_query(conn, moment_sql, 3, params, &res, err) < 0) {
            return -1;
        }
        if (db_bool(res, 0, 1)) {
            snprintf(ret_at, IMPORT_TIME, "%s", db_str(res, 0, 0));
            return 0;
        }
    }
    return err_set(err, ERR_PERMANENT, "invalid_value", "the schedule never comes");
}

/* Runs
 * -------------------------------------------------------------------------------------------*/

static const char number_sql[] =
    "UPDATE import_source SET run_no = run_no + 1 WHERE import_id = $1::uuid"
    " AND deleted_at IS NULL RETURNING run_no";

static const char add_sql[] =
    "INSERT INTO import_run (run_id, import_id, no, trigger, state, note, ended_at)"
    " SELECT $1::uuid, $2::uuid, $3::int, $4, CASE WHEN o THEN 'skipped' ELSE 'queued' END,"
    "   CASE WHEN o THEN 'the run before was still at work' END, CASE WHEN o THEN now() END"
    " FROM (SELECT EXISTS (SELECT 1 FROM import_run WHERE import_id = $2::uuid AND state IN"
    "   ('queued', 'listing', 'fetching', 'processing')) AS o) x RETURNING state = 'queued'";

int import_run_add(struct db_conn *conn, const char *import_id, const char *trigger,
                   char ret_run_id[UUID_TEXT], bool *ret_queued, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *number = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {ret_run_id, import_id, NULL, trigger};

    /* The source's row is locked from here on, so that two do not both find nothing open. */
    if (db_query(conn, number_sql, 1, &import_id, &number, err) < 0) {
        return -1;
    }
    if (PQntuples(number) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such import");
    }
    uuid_v7(ret_run_id);
    params[2] = db_str(number, 0, 0);
    if (db_query(conn, add_sql, 4, params, &res, err) < 0) {
        return -1;
    }
    *ret_queued = db_bool(res, 0, 0);
    return 0;
}

/* Versions
 * ---------------------------------------------------------------------------------------*/

static const char lock_sql[] =
    "SELECT 1 FROM file WHERE file_id IN (SELECT file_id FROM import_item WHERE run_id = $2::uuid"
    "   OR run_id = (SELECT published_run FROM import_source WHERE import_id = $1::uuid))"
    " ORDER BY file_id FOR UPDATE";

static const char switch_sql[] =
    "WITH i AS (SELECT dataset_id, shadow_id, published_run FROM import_source"
    "    WHERE import_id = $1::uuid),"
    " m AS (SELECT DISTINCT file_id FROM import_item WHERE run_id = $2::uuid"
    "    AND file_id IS NOT NULL),"
    " x AS (SELECT f.file_id, i.shadow_id AS was, i.dataset_id AS will FROM i, m JOIN file f"
    "      USING (file_id) WHERE f.state < 6 AND f.dataset_id = i.shadow_id"
    "    UNION ALL"
    "    SELECT f.file_id, i.dataset_id, i.shadow_id FROM i, file f WHERE f.file_id IN"
    "      (SELECT p.file_id FROM import_item p, i WHERE p.run_id = i.published_run)"
    "      AND f.state < 6 AND f.dataset_id = i.dataset_id"
    "      AND NOT EXISTS (SELECT 1 FROM m WHERE m.file_id = f.file_id)),"
    " f AS (UPDATE file SET dataset_id = x.will, updated_at = now() FROM x"
    "    WHERE file.file_id = x.file_id RETURNING file.file_id, file.user_id, file.batch_id,"
    "      file.name, file.state, x.was, x.will, x.will = (SELECT dataset_id FROM i) AS is_in),"
    " r AS (UPDATE record SET dataset_id = f.will FROM f WHERE record.file_id = f.file_id),"
    " c AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"
    "    SELECT was, batch_id, state, NULL::smallint, count(*) FROM f GROUP BY 1, 2, 3"
    "    UNION ALL"
    "    SELECT will, batch_id, NULL::smallint, state, count(*) FROM f GROUP BY 1, 2, 4),"
    " e AS (INSERT INTO event (user_id, file_id, kind, body)"
    "    SELECT user_id, file_id, CASE WHEN is_in THEN 'file_created' ELSE 'file_deleted' END,"
    "      CASE WHEN is_in THEN jsonb_build_object('datasetId', will, 'batchId', batch_id, 'state',"
    "        (ARRAY['processing','done','failed','cancelled','quarantined'])[state], 'name', name)"
    "      ELSE jsonb_build_object('datasetId', was, 'batchId', batch_id) END FROM f),"
    " s AS (UPDATE import_source SET published_run = $2::uuid, updated_at = now()"
    "    WHERE import_id = $1::uuid)"
    " SELECT count(*) FILTER (WHERE is_in), count(*) FILTER (WHERE NOT is_in) FROM f";

int import_switch(struct db_conn *conn, const char *import_id, const char *run_id, int64_t *ret_in,
                  int64_t *ret_out, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {import_id, run_id};

    if (db_query(conn, lock_sql, 2, params, NULL, err) < 0 ||
        db_query(conn, switch_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    *ret_in = db_i64(res, 0, 0);
    *ret_out = db_i64(res, 0, 1);
    return 0;
}
