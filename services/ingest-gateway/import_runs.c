/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs of an import: asked for, looked at, and gone back to.
 */
#include "libcommon/import.h"
#include "libcommon/log.h"
#include "libcommon/notify.h"
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/idem.h"
#include "services/ingest-gateway/imports.h"
#include "services/ingest-gateway/sql.h"

#include <stdio.h>
#include <string.h>

#define RUN_COLUMNS                                                                                \
    "r.run_id, r.import_id, r.no, r.trigger, r.state, r.code, r.note, r.counts, " SQL_TIME(        \
        "r.queued_at") ", " SQL_TIME("r.started_at") ", " SQL_TIME("r.ended_at") ", "              \
                                                                                 "i.published_"    \
                                                                                 "run = "          \
                                                                                 "r.run_id, "      \
                                                                                 "r.pruned_at IS " \
                                                                                 "NULL AND "       \
                                                                                 "r.state = "      \
                                                                                 "'published'"
#define RUN_FROM                                                                                   \
    " FROM import_run r JOIN import_source i USING (import_id) WHERE i.deleted_at IS NULL"         \
    " AND ($1::uuid IS NULL OR i.user_id = $1::uuid) AND r.import_id = $2::uuid"

static const char get_sql[] = "SELECT " RUN_COLUMNS RUN_FROM " AND r.run_id = $3::uuid";
static const char list_sql[] =
    "SELECT " RUN_COLUMNS RUN_FROM " AND ($3::uuid IS NULL OR r.run_id < $3::uuid)"
    " ORDER BY r.run_id DESC LIMIT $4::int";

/* What came of an object, in one word. */
#define OUTCOME                                                                                    \
    "CASE WHEN n.state <> 'file' THEN n.state WHEN f.state IS NULL OR f.state >= 6 THEN 'gone'"    \
    " ELSE (ARRAY['processing','processing','done','failed','cancelled','quarantined'])"           \
    "[f.state + 1] END"

static const char items_sql[] =
    "SELECT * FROM (SELECT n.object_key, n.etag, n.bytes, n.change, " OUTCOME " AS outcome,"
    "   n.tries, n.file_id, coalesce(n.code, f.errors->'main'->>'code'),"
    "   coalesce(n.detail, f.errors->'main'->>'detail')"
    " FROM import_item n LEFT JOIN file f USING (file_id) WHERE n.run_id = $1::uuid"
    "   AND ($2::text IS NULL OR n.object_key > $2::text)) x"
    " WHERE ($3::text IS NULL OR outcome = $3::text OR change = $3::text)"
    " ORDER BY object_key LIMIT $4::int";

static json_t *run_json(const PGresult *res, int row)
{
    json_t *error = PQgetisnull(res, row, 5)
                        ? json_null()
                        : json_pack("{s:s, s:o}", "code", PQgetvalue(res, row, 5), "detail",
                                    sql_json_str(res, row, 6));

    return json_pack("{s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b}", "id",
                     sql_json_str(res, row, 0), "importId", sql_json_str(res, row, 1), "no",
                     (json_int_t)db_i64(res, row, 2), "trigger", sql_json_str(res, row, 3), "state",
                     sql_json_str(res, row, 4), "error", error, "note", sql_json_str(res, row, 6),
                     "counts", sql_json_doc(res, row, 7), "queuedAt", sql_json_str(res, row, 8),
                     "startedAt", sql_json_str(res, row, 9), "endedAt", sql_json_str(res, row, 10),
                     "current", (int)db_bool(res, row, 11), "kept", (int)db_bool(res, row, 12));
}

static int find_run(struct request *req, struct db_conn *conn, const char *run_id,
                    PGresult **ret_res, struct err *err)
{
    const char *params[] = {import_viewer(req), req->params[0], run_id};

    if (db_query(conn, get_sql, 3, params, ret_res, err) < 0) {
        return -1;
    }
    return PQntuples(*ret_res) > 0 ? 0 : err_set(err, ERR_PERMANENT, "not_found", "no such run");
}

static int reply_run(struct request *req, struct db_conn *conn, const char *run_id, unsigned status,
                     struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    return find_run(req, conn, run_id, &res, err) < 0
               ? -1
               : reply_take_json(reply, status, run_json(res, 0), err);
}

/* An open run is the answer, too: whoever asks twice gets one. */
static const char open_sql[] = "SELECT r.run_id FROM import_run r WHERE r.import_id = $1::uuid"
                               " AND r.state IN ('queued', 'listing', 'fetching', 'processing')";

static int queue_run(struct request *req, struct db_conn *conn, char ret_run_id[UUID_TEXT],
                     struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *lock = NULL;
    CLEANUP(db_result_cleanup) PGresult *open = NULL;
    const char *params[] = {req->params[0], import_viewer(req)};
    bool queued;

    if (db_query(conn,
                 "SELECT 1 FROM import_source WHERE import_id = $1::uuid AND deleted_at IS NULL"
                 " AND ($2::uuid IS NULL OR user_id = $2::uuid) FOR UPDATE",
                 2, params, &lock, err) < 0) {
        return -1;
    }
    if (PQntuples(lock) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such import");
    }
    if (db_query(conn, open_sql, 1, params, &open, err) < 0) {
        return -1;
    }
    if (PQntuples(open) > 0) {
        snprintf(ret_run_id, UUID_TEXT, "%s", PQgetvalue(open, 0, 0));
        return 0;
    }
    return import_run_add(conn, req->params[0], "manual", ret_run_id, &queued, err);
}

int import_run_post(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(idem_done) struct idem idem = {0};
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    char run_id[UUID_TEXT];
    char location[140];

    if (idem_find(req, &idem, err) < 0 || idem_hash_request(req, &idem, err) < 0) {
        return -1;
    }
    int rc = idem_replay(&idem, reply, err);
    if (rc != 0) {
        return rc > 0 ? 0 : -1;
    }
    if (db_acquire(req->gw->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        queue_run(req, conn, run_id, err) < 0 ||
        reply_run(req, conn, run_id, 202, reply, err) < 0 ||
        idem_store(conn, req, &idem, reply, err) < 0 || db_commit(conn, err) < 0) {
        return -1;
    }
    snprintf(location, sizeof(location), "/api/v1/imports/%s/runs/%s", req->params[0], run_id);
    return reply_header(reply, "Location", location, err);
}

int import_run_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(reply_done) struct reply seen = {0};
    struct list_page page;
    struct db_num limit;

    if (list_page_read(req, "import-runs", &page, err) < 0 ||
        db_acquire(req->gw->db, &conn, err) < 0 ||
        import_reply(req, conn, req->params[0], 200, &seen, err) < 0) {
        return -1;
    }
    const char *params[] = {import_viewer(req), req->params[0],
                            page.has_cursor ? page.cursor.id : NULL,
                            db_num(&limit, page.limit + 1)};
    if (db_query(conn, list_sql, 4, params, &res, err) < 0) {
        return -1;
    }
    return list_reply_rows(reply, &page, "import-runs", res, run_json, err);
}

static json_t *item_json(const PGresult *res, int row)
{
    json_t *error = PQgetisnull(res, row, 7)
                        ? json_null()
                        : json_pack("{s:s, s:o}", "code", PQgetvalue(res, row, 7), "detail",
                                    sql_json_str(res, row, 8));

    return json_pack("{s:o, s:o, s:I, s:o, s:o, s:I, s:o, s:o}", "key", sql_json_str(res, row, 0),
                     "etag", sql_json_str(res, row, 1), "size", (json_int_t)db_i64(res, row, 2),
                     "change", sql_json_str(res, row, 3), "outcome", sql_json_str(res, row, 4),
                     "tries", (json_int_t)db_i64(res, row, 5), "fileId", sql_json_str(res, row, 6),
                     "error", error);
}

/* The run, and a page of its objects; cursor= is an object's key. */
int import_run_get(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *run = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *after = NULL;
    const char *outcome = NULL;
    struct db_num num;
    int64_t limit;

    if (uri_arg_int(&req->uri, "limit", 1, LIST_LIMIT_MAX, LIST_LIMIT, &limit, err) < 0 ||
        uri_arg_text(&req->uri, "after", 1024, &after, err) < 0 ||
        uri_arg_text(&req->uri, "outcome", 20, &outcome, err) < 0 ||
        db_acquire(req->gw->db, &conn, err) < 0 ||
        find_run(req, conn, req->params[1], &run, err) < 0) {
        return -1;
    }
    const char *params[] = {req->params[1], after, outcome, db_num(&num, limit + 1)};
    if (db_query(conn, items_sql, 4, params, &res, err) < 0) {
        return -1;
    }
    json_t *items = json_array();
    for (int i = 0; i < PQntuples(res) && i < limit; i++) {
        json_array_append_new(items, item_json(res, i));
    }
    json_t *doc = run_json(run, 0);
    json_object_set_new(doc, "items", items);
    json_object_set_new(doc, "nextAfter",
                        PQntuples(res) > limit ? json_string(PQgetvalue(res, (int)limit - 1, 0))
                                               : json_null());
    return reply_take_json(reply, 200, doc, err);
}

/* Rollback
 * ---------------------------------------------------------------------------------------*/

/* A run at work would publish over it: it ends here. The schedule waits, unless told otherwise, or
 * the next tick would bring back what was rolled back. */
static const char stop_sql[] =
    "WITH r AS (UPDATE import_run SET state = 'failed', code = 'rolled_back', ended_at = now(),"
    "    token = token + 1, note = 'another version was chosen' WHERE import_id = $1::uuid"
    "      AND state IN ('queued', 'listing', 'fetching', 'processing'))"
    " UPDATE import_source SET enabled = enabled AND $2::boolean WHERE import_id = $1::uuid";

static int check_run(const PGresult *run, struct err *err)
{
    if (strcmp(PQgetvalue(run, 0, 4), "published") != 0) {
        return err_set(err, ERR_PERMANENT, "conflict",
                       "only a run that was published is a version");
    }
    if (!db_bool(run, 0, 12)) {
        return err_set(err, ERR_PERMANENT, "version_gone",
                       "the version is no longer kept (keepVersions)");
    }
    return 0;
}

static int roll_back(struct request *req, struct db_conn *conn, bool keep_schedule, int64_t *ret_in,
                     int64_t *ret_out, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *run = NULL;
    const char *params[] = {req->params[0], keep_schedule ? "t" : "f"};

    /* The source's row first, as the importer does. */
    if (db_query(conn, "SELECT 1 FROM import_source WHERE import_id = $1::uuid FOR UPDATE", 1,
                 params, NULL, err) < 0 ||
        find_run(req, conn, req->params[1], &run, err) < 0 || check_run(run, err) < 0 ||
        db_query(conn, stop_sql, 2, params, NULL, err) < 0) {
        return -1;
    }
    return import_switch(conn, req->params[0], req->params[1], ret_in, ret_out, err);
}

int import_rollback(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    bool keep_schedule = false;
    int64_t in, out;

    if (request_json(req, true, &body, err) < 0 ||
        jget_opt_bool(body, "keepSchedule", false, &keep_schedule, err) < 0 ||
        db_acquire(req->gw->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        roll_back(req, conn, keep_schedule, &in, &out, err) < 0 ||
        import_reply(req, conn, req->params[0], 200, reply, err) < 0 || db_commit(conn, err) < 0) {
        return -1;
    }
    notify_events(req->gw->notifier);
    audit_detail(req, "run", json_string(req->params[1]));
    audit_detail(req, "filesIn", json_integer((json_int_t)in));
    audit_detail(req, "filesOut", json_integer((json_int_t)out));
    log_info("an import was rolled back", kv_str("import", req->params[0]),
             kv_str("run", req->params[1]), kv_i64("filesIn", in), kv_i64("filesOut", out));
    return 0;
}
