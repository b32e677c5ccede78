/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches: what one upload brought, and how far it is. Counts come from the same deltas as the
 * dataset's and are read in one statement with the batch, so that they add up in every answer:
 * total = accepted + rejected, accepted = the states + deleted.
 */
#include "libcommon/notify.h"
#include "libcommon/states.h"
#include "libcommon/task.h"
#include "services/ingest-gateway/counts.h"
#include "services/ingest-gateway/file_json.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/position.h"
#include "services/ingest-gateway/sql.h"

#include <string.h>

#define CHANGE_TIME_MS 25000U

static const char batch_sql[] =
    "SELECT b.batch_id, b.dataset_id, b.accepted, b.rejected, b.rejects, " SQL_TIME(
        "b.created_at") ", (SELECT jsonb_agg(jsonb_build_array(state, n)) FROM "
                        "(" COUNTS_SQL("batch_id = $1::uuid") ") g) FROM batch b JOIN "
                                                              "dataset d USING (dataset_id)"
                                                              " WHERE b.batch_id = "
                                                              "$1::uuid AND b.user_id = "
                                                              "$2::uuid AND d.deleted_at "
                                                              "IS NULL";

static int load_batch(struct request *req, struct db_conn *conn, PGresult **ret_res,
                      struct err *err)
{
    const char *params[] = {req->params[0], req->who.user_id};

    if (db_query(conn, batch_sql, 2, params, ret_res, err) < 0) {
        return -1;
    }
    return PQntuples(*ret_res) == 1 ? 0 : err_set(err, ERR_PERMANENT, "not_found", "no such batch");
}

static const char page_sql[] =
    "SELECT file_id FROM file WHERE batch_id = $1::uuid AND user_id = $2::uuid AND state < 6"
    "   AND ($3::uuid IS NULL OR file_id > $3::uuid) ORDER BY file_id LIMIT $4::int";

/* {href, items, nextCursor}: the batch's files, one page of them. */
static int files_page(struct request *req, struct db_conn *conn, const char *dataset_id,
                      json_t **ret_files, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(buf_done) struct buf ids;
    CLEANUP(free_cleanup) char *next = NULL;
    struct list_page page;
    struct db_num limit;
    json_t *items = NULL;

    buf_init(&ids, 16384);
    if (list_page_read(req, "batch", &page, err) < 0) {
        return -1;
    }
    const char *params[] = {req->params[0], req->who.user_id,
                            page.has_cursor ? page.cursor.id : NULL,
                            db_num(&limit, page.limit + 1)};
    if (db_query(conn, page_sql, 4, params, &res, err) < 0 || buf_puts(&ids, "{", err) < 0) {
        return -1;
    }
    int n = PQntuples(res) < page.limit ? PQntuples(res) : (int)page.limit;
    for (int i = 0; i < n; i++) {
        if (buf_printf(&ids, err, "%s%s", i ? "," : "", PQgetvalue(res, i, 0)) < 0) {
            return -1;
        }
    }
    if (PQntuples(res) > page.limit) {
        next = cursor_encode("batch", PQgetvalue(res, n - 1, 0), "");
    }
    if (buf_puts(&ids, "}", err) < 0 ||
        file_json_load(conn, req->who.user_id, ids.data, &items, err) < 0) {
        return -1;
    }
    *ret_files =
        json_pack("{s:s++++, s:o, s:s?}", "href", "/api/v1/datasets/", dataset_id,
                  "/files?batchId=", req->params[0], "", "items", items, "nextCursor", next);
    return *ret_files ? 0 : err_nomem(err);
}

static int add_files(struct request *req, struct db_conn *conn, const PGresult *res, json_t *doc,
                     struct err *err)
{
    json_t *files = NULL;

    if (files_page(req, conn, db_str(res, 0, 1), &files, err) < 0) {
        return -1;
    }
    json_object_set_new(doc, "files", files);
    json_object_set_new(doc, "rejects", sql_json_doc(res, 0, 4));
    return json_object_set_new(
               doc, "receipt",
               json_pack("{s:s++}", "href", "/api/v1/batches/", req->params[0], "/receipt")) < 0
               ? err_nomem(err)
               : 0;
}

static json_t *seconds(int64_t value)
{
    return value < 0 ? json_null() : json_integer(value);
}

static int reply_batch(struct request *req, bool full, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(json_cleanup) json_t *states = NULL;
    CLEANUP(json_cleanup) json_t *doc = NULL;
    struct position_last last = {-1, -1};
    struct file_counts counts;

    if (db_acquire(req->gw->db, &conn, err) < 0 || load_batch(req, conn, &res, err) < 0) {
        return -1;
    }
    states = sql_json_doc(res, 0, 6);
    counts_of_json(states, &counts);
    int64_t open = counts.by_state[FILE_UPLOADING] + counts.by_state[FILE_PROCESSING];
    int64_t accepted = db_i64(res, 0, 2);
    int64_t rejected = db_i64(res, 0, 3);
    doc = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:s, s:o, s:o}", "id", sql_json_str(res, 0, 0),
                    "datasetId", sql_json_str(res, 0, 1), "total",
                    (json_int_t)accepted + (json_int_t)rejected, "accepted", (json_int_t)accepted,
                    "rejected", (json_int_t)rejected, "deleted", (json_int_t)counts.deleted,
                    "state", open > 0 ? "processing" : "done", "byState", counts_json(&counts),
                    "createdAt", sql_json_str(res, 0, 5));
    if (!doc) {
        return err_nomem(err);
    }
    if (full && add_files(req, conn, res, doc, err) < 0) {
        return -1;
    }
    db_release(STEAL(conn));
    if (open > 0) {
        position_last(req->gw->search_db, req->who.user_id, NULL, req->params[0], &last);
    }
    json_object_set_new(doc, "oldestWaitingSeconds", seconds(last.oldest));
    json_object_set_new(doc, "etaSeconds", seconds(last.eta));
    return reply_take_json(reply, 200, STEAL(doc), err);
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
    "   AND ($3::uuid IS NULL OR file_id > $3::uuid) ORDER BY file_id LIMIT 500";
static const char failed_sql[] =
    "SELECT file_id FROM file WHERE batch_id = $1::uuid AND user_id = $2::uuid AND state < 6"
    "   AND (main_state = 3 OR preview_state = 3 OR thumb_state = 3)"
    "   AND ($3::uuid IS NULL OR file_id > $3::uuid) ORDER BY file_id LIMIT 500";

/* One transaction of up to 500 files. */
static int change_some(struct request *req, const PGresult *res, bool cancel, int64_t *files,
                       struct err *err)
{
    const char *ids[TASK_REMOVE_MAX];
    struct task_retried done = {0};
    size_t n = (size_t)PQntuples(res);

    for (size_t i = 0; i < n; i++) {
        ids[i] = PQgetvalue(res, (int)i, 0);
    }
    int rc = cancel ? task_cancel_many(req->gw->db, req->who.user_id, ids, n, &done.files, err)
                    : task_retry_many(req->gw->db, req->who.user_id, ids, n, STAGE_NONE,
                                      req->who.name, LANE_BULK, &done, err);
    if (rc < 0) {
        return -1;
    }
    for (int stage = STAGE_TEXT; stage <= STAGE_THUMBNAIL; stage++) {
        if (done.stages & (1U << stage)) {
            notify_stage(req->gw->notifier, stage, req->who.user_id);
        }
    }
    *files += done.files;
    return 0;
}

static int each_file(struct request *req, const char *sql, bool cancel, int64_t *ret_n,
                     bool *ret_more, struct err *err)
{
    uint64_t until = clock_mono_ms() + CHANGE_TIME_MS;
    char after[UUID_TEXT] = "";
    int64_t files = 0;
    bool more = true;

    {
        CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
        CLEANUP(db_result_cleanup) PGresult *batch = NULL;
        if (db_acquire(req->gw->db, &conn, err) < 0 || load_batch(req, conn, &batch, err) < 0) {
            return -1;
        }
    }
    while (more && clock_mono_ms() < until) {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        const char *params[] = {req->params[0], req->who.user_id, after[0] ? after : NULL};
        if (db_run(req->gw->db, sql, 3, params, &res, err) < 0) {
            return -1;
        }
        int n = PQntuples(res);
        if (n > 0 && change_some(req, res, cancel, &files, err) < 0) {
            return -1;
        }
        more = n == TASK_REMOVE_MAX;
        if (more) {
            memcpy(after, PQgetvalue(res, n - 1, 0), UUID_TEXT);
        }
    }
    notify_events(req->gw->notifier);
    *ret_n = files;
    *ret_more = more;
    return 0;
}

static int change_batch(struct request *req, bool cancel, struct reply *reply, struct err *err)
{
    int64_t n = 0;
    bool more = false;

    if (each_file(req, cancel ? live_sql : failed_sql, cancel, &n, &more, err) < 0) {
        return -1;
    }
    return reply_take_json(
        reply, 202,
        json_pack("{s:I, s:b}", cancel ? "cancelled" : "retried", (json_int_t)n, "more", (int)more),
        err);
}

int batch_cancel(struct request *req, struct reply *reply, struct err *err)
{
    return change_batch(req, true, reply, err);
}

int batch_retry(struct request *req, struct reply *reply, struct err *err)
{
    return change_batch(req, false, reply, err);
}
