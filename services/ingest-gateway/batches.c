/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches: what one upload brought, and how far it is. Counts come from the same deltas as the
 * dataset's, so they add up to `accepted`.
 */
#include "libcommon/notify.h"
#include "libcommon/states.h"
#include "libcommon/task.h"
#include "services/ingest-gateway/counts.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/sql.h"

#define REJECTS_SHOWN 1000

static const char batch_sql[] =
    "SELECT b.batch_id, b.dataset_id, b.accepted, b.rejected, b.rejects, " SQL_TIME(
        "b.created_at") " FROM batch b JOIN dataset d USING (dataset_id) WHERE b.batch_id = "
                        "$1::uuid"
                        "   AND b.user_id = $2::uuid AND d.deleted_at IS NULL";

static int load_batch(struct request *req, struct db_conn *conn, PGresult **ret_res,
                      struct err *err)
{
    const char *params[] = {req->params[0], req->who.user_id};

    if (db_query(conn, batch_sql, 2, params, ret_res, err) < 0) {
        return -1;
    }
    return PQntuples(*ret_res) == 1 ? 0 : err_set(err, ERR_PERMANENT, "not_found", "no such batch");
}

static int reply_batch(struct request *req, bool full, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct file_counts counts;

    if (db_acquire(req->gw->db, &conn, err) < 0 || load_batch(req, conn, &res, err) < 0 ||
        counts_of_batch(conn, req->params[0], &counts, err) < 0) {
        return -1;
    }
    int64_t accepted = db_i64(res, 0, 2);
    int64_t rejected = db_i64(res, 0, 3);
    int64_t total = accepted + rejected;
    int64_t open = counts.by_state[FILE_UPLOADING] + counts.by_state[FILE_PROCESSING];
    json_t *doc =
        json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:s, s:o, s:o}", "id", sql_json_str(res, 0, 0),
                  "datasetId", sql_json_str(res, 0, 1), "total", (json_int_t)total, "accepted",
                  (json_int_t)accepted, "rejected", (json_int_t)rejected, "deleted",
                  (json_int_t)counts.deleted, "state", open > 0 ? "processing" : "done", "byState",
                  counts_json(&counts), "createdAt", sql_json_str(res, 0, 5));
    if (doc && full) {
        json_object_set_new(doc, "rejects", sql_json_doc(res, 0, 4));
        json_object_set_new(doc, "files",
                            json_pack("{s:s++++}", "href", "/api/v1/datasets/", db_str(res, 0, 1),
                                      "/files?batchId=", req->params[0], ""));
    }
    return reply_take_json(reply, 200, doc, err);
}

int batch_get(struct request *req, struct reply *reply, struct err *err)
{
    return reply_batch(req, true, reply, err);
}

int batch_summary(struct request *req, struct reply *reply, struct err *err)
{
    return reply_batch(req, false, reply, err);
}

static const char live_sql[] =
    "SELECT file_id FROM file WHERE batch_id = $1::uuid AND user_id = $2::uuid AND state = 1"
    " ORDER BY file_id LIMIT 2000";
static const char failed_sql[] =
    "SELECT file_id FROM file WHERE batch_id = $1::uuid AND user_id = $2::uuid AND state < 6"
    "   AND (main_state = 3 OR preview_state = 3 OR thumb_state = 3) ORDER BY file_id LIMIT 2000";

static int each_file(struct request *req, const char *sql, bool cancel, int64_t *ret_n,
                     struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(db_result_cleanup) PGresult *batch = NULL;
    const char *params[] = {req->params[0], req->who.user_id};
    int64_t total = 0;

    {
        CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
        if (db_acquire(req->gw->db, &conn, err) < 0 || load_batch(req, conn, &batch, err) < 0 ||
            db_query(conn, sql, 2, params, &res, err) < 0) {
            return -1;
        }
    }
    for (int i = 0; i < PQntuples(res); i++) {
        int64_t n = 0;
        const char *id = db_str(res, i, 0);
        int rc = cancel ? task_cancel(req->gw->db, req->who.user_id, id, &n, err)
                        : task_retry(req->gw->db, req->who.user_id, id, STAGE_NONE, req->who.name,
                                     &n, err);
        if (rc < 0) {
            return -1;
        }
        total += n > 0;
    }
    for (int stage = STAGE_TEXT; !cancel && stage <= STAGE_THUMBNAIL; stage++) {
        notify_stage(req->gw->notifier, stage, req->who.user_id);
    }
    notify_events(req->gw->notifier);
    *ret_n = total;
    return 0;
}

int batch_cancel(struct request *req, struct reply *reply, struct err *err)
{
    int64_t n;

    if (each_file(req, live_sql, true, &n, err) < 0) {
        return -1;
    }
    return reply_take_json(reply, 202, json_pack("{s:I}", "cancelled", (json_int_t)n), err);
}

int batch_retry(struct request *req, struct reply *reply, struct err *err)
{
    int64_t n;

    if (each_file(req, failed_sql, false, &n, err) < 0) {
        return -1;
    }
    return reply_take_json(reply, 202, json_pack("{s:I}", "retried", (json_int_t)n), err);
}
