/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removal, cancel and retry, of one file or of many. The changes are libcommon/task.h's; here is
 * only who may ask for what, and how many at a time.
 */
#include "libcommon/states.h"
#include "libcommon/task.h"
#include "services/ingest-gateway/file_filter.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/holds.h"
#include "services/ingest-gateway/idem.h"

#include "libcommon/notify.h"

#include <string.h>

#define REMOVE_IDS_MAX 1000U
#define RETRY_MAX 10000
#define REMOVE_TIME_MS 25000U

static int not_found(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "not_found", "no such file");
}

static int require_file(struct request *req, const char *file_id, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;

    return db_acquire(req->gw->db, &conn, err) < 0 ? -1 : file_require(conn, req, file_id, err);
}

static void wake_stages(struct request *req)
{
    for (int stage = STAGE_TEXT; stage <= STAGE_THUMBNAIL; stage++) {
        notify_stage(req->gw->notifier, stage, req->who.user_id);
    }
}

/* stage of {stage} or {from}; *ret 0 when absent. */
static int read_stage(struct request *req, const json_t *body, const char *member, int *ret_stage,
                      struct err *err)
{
    const json_t *value = json_object_get(body, member);

    *ret_stage = STAGE_NONE;
    if (!value || json_is_null(value)) {
        return 0;
    }
    int stage = (int)stage_parse(json_is_string(value) ? json_string_value(value) : "");
    if (stage == STAGE_NONE || stage == STAGE_CLEAN) {
        return request_invalid(req, member[0] == 's' ? "/stage" : "/from", "no such stage", err);
    }
    *ret_stage = stage;
    return 0;
}

/* Why a retry found nothing to do: retention has taken what would be read. */
static int content_gone(struct request *req, const char *file_id, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {file_id, req->who.user_id};

    if (db_run(req->gw->db,
               "SELECT 1 FROM file WHERE file_id = $1::uuid AND user_id = $2::uuid"
               " AND content_removed_at IS NOT NULL",
               2, params, &res, err) < 0) {
        return -1;
    }
    return PQntuples(res) == 0 ? 0
                               : err_set(err, ERR_PERMANENT, "input_gone",
                                         "the dataset's retention is over: the file's content was"
                                         " removed, its record stays");
}

int file_retry(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    int stage;
    int from;
    int64_t n = 0;

    if (request_json(req, true, &body, err) < 0 ||
        read_stage(req, body, "stage", &stage, err) < 0 ||
        read_stage(req, body, "from", &from, err) < 0 ||
        require_file(req, req->params[0], err) < 0) {
        return -1;
    }
    int rc = from ? task_rerun(req->gw->db, req->who.user_id, req->params[0], from, &n, err)
                  : task_retry(req->gw->db, req->who.user_id, req->params[0], stage, req->who.name,
                               &n, err);
    if (rc < 0) {
        return -1;
    }
    if (n == 0 && content_gone(req, req->params[0], err) < 0) {
        return -1;
    }
    wake_stages(req);
    return reply_take_json(reply, 202, json_pack("{s:I}", "retried", (json_int_t)n), err);
}

int file_cancel(struct request *req, struct reply *reply, struct err *err)
{
    int64_t n = 0;

    if (require_file(req, req->params[0], err) < 0 ||
        task_cancel(req->gw->db, req->who.user_id, req->params[0], &n, err) < 0) {
        return -1;
    }
    notify_events(req->gw->notifier);
    return reply_take_json(reply, 202, json_pack("{s:I}", "cancelled", (json_int_t)n), err);
}

static int remove_ids(struct request *req, const char *const *ids, size_t n, int64_t *ret_removed,
                      struct err *err)
{
    int64_t removed = 0;
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i += TASK_REMOVE_MAX) {
        int64_t some = 0;
        rc = task_remove(req->gw->db, req->who.user_id, ids + i, min_size(TASK_REMOVE_MAX, n - i),
                         &some, err);
        removed += some;
    }
    if (removed > 0) {
        notify_stage(req->gw->notifier, STAGE_CLEAN, req->who.user_id);
    }
    *ret_removed = removed;
    return rc;
}

int file_delete(struct request *req, struct reply *reply, struct err *err)
{
    const char *id = req->params[0];
    int64_t removed;

    if (hold_check_file(req, id, err) < 0 || remove_ids(req, &id, 1, &removed, err) < 0) {
        return -1;
    }
    return removed == 0 ? not_found(err)
                        : reply_take_json(reply, 202,
                                          json_pack("{s:I}", "removed", (json_int_t)removed), err);
}

/* Up to 500 ids of the dataset that the filter means; after: the last one of those before, or "".
 */
static int select_ids(struct request *req, const char *dataset_id, const struct file_filter *filter,
                      const char *more, const char *after, PGresult **ret_res, struct err *err)
{
    CLEANUP(query_done) struct query query;
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;

    query_init(&query);
    if (query_param(&query, dataset_id) < 0 || query_param(&query, req->who.user_id) < 0 ||
        query_param(&query, after[0] ? after : NULL) < 0) {
        return err_nomem(err);
    }
    if (buf_printf(&query.sql, err,
                   "SELECT f.file_id FROM file_visible f WHERE f.dataset_id = $1::uuid"
                   " AND f.user_id = $2::uuid AND f.state < 6"
                   " AND ($3::uuid IS NULL OR f.file_id > $3::uuid)%s",
                   more) < 0 ||
        file_filter_sql(filter, &query, err) < 0 ||
        buf_puts(&query.sql, " ORDER BY f.file_id LIMIT 500", err) < 0 ||
        db_acquire(req->gw->db, &conn, err) < 0) {
        return -1;
    }
    return db_query_dynamic(conn, query.sql.data, query.n, query.params, ret_res, err);
}

/* Goes on until none is left or the time is over; then *ret_more is true. */
static int remove_matching(struct request *req, const char *dataset_id,
                           const struct file_filter *filter, int64_t *ret_removed, bool *ret_more,
                           struct err *err)
{
    uint64_t until = clock_mono_ms() + REMOVE_TIME_MS;
    int64_t removed = 0;

    *ret_more = true;
    while (clock_mono_ms() < until) {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        const char *ids[TASK_REMOVE_MAX];
        int64_t some = 0;
        if (select_ids(req, dataset_id, filter, "", "", &res, err) < 0) {
            return -1;
        }
        int n = PQntuples(res);
        for (int i = 0; i < n; i++) {
            ids[i] = db_str(res, i, 0);
        }
        if (n > 0 && remove_ids(req, ids, (size_t)n, &some, err) < 0) {
            return -1;
        }
        removed += some;
        if (n < TASK_REMOVE_MAX || some == 0) {
            *ret_more = false;
            break;
        }
    }
    *ret_removed = removed;
    return 0;
}

int files_remove_dataset(struct request *req, const char *dataset_id, int64_t *ret_removed,
                         bool *ret_more, struct err *err)
{
    struct file_filter all = {0};

    return remove_matching(req, dataset_id, &all, ret_removed, ret_more, err);
}

static const char in_dataset_sql[] =
    "SELECT file_id FROM file WHERE file_id = ANY ($1::uuid[]) AND user_id = $2::uuid"
    "   AND dataset_id = $3::uuid AND state < 6 ORDER BY file_id";

/* Only ids of this dataset count. */
static int remove_listed(struct request *req, const json_t *list, int64_t *ret_removed,
                         struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(buf_done) struct buf text;
    const char *ids[REMOVE_IDS_MAX];
    size_t i;
    json_t *id;

    buf_init(&text, (size_t)REMOVE_IDS_MAX * 40);
    if (json_array_size(list) > REMOVE_IDS_MAX) {
        return request_invalid(req, "/ids", "more than 1,000 ids", err);
    }
    json_array_foreach(list, i, id)
    {
        if (!json_is_string(id) || !uuid_text_valid(json_string_value(id))) {
            return request_invalid(req, "/ids", "an id is not one", err);
        }
        if (buf_printf(&text, err, "%c%s", i ? ',' : '{', json_string_value(id)) < 0) {
            return -1;
        }
    }
    if (buf_puts(&text, text.len ? "}" : "{}", err) < 0) {
        return -1;
    }
    const char *params[] = {text.data, req->who.user_id, req->params[0]};
    if (db_run(req->gw->db, in_dataset_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    size_t n = (size_t)PQntuples(res);
    for (i = 0; i < n; i++) {
        ids[i] = db_str(res, (int)i, 0);
    }
    *ret_removed = 0;
    return n == 0 ? 0 : remove_ids(req, ids, n, ret_removed, err);
}

static int require_dataset(struct request *req, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;

    if (db_acquire(req->gw->db, &conn, err) < 0) {
        return -1;
    }
    return dataset_require(conn, req, req->params[0], err);
}

int files_remove(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    struct file_filter filter;
    int64_t removed = 0;
    bool more = false;

    if (request_json(req, false, &body, err) < 0 || require_dataset(req, err) < 0 ||
        hold_check_dataset(req, req->params[0], err) < 0) {
        return -1;
    }
    const json_t *ids = json_object_get(body, "ids");
    const json_t *by = json_object_get(body, "filter");
    if (!ids == !by) {
        return request_invalid(req, "/", "either ids or filter is needed", err);
    }
    if (ids && !json_is_array(ids)) {
        return request_invalid(req, "/ids", "ids are an array", err);
    }
    int rc =
        ids ? remove_listed(req, ids, &removed, err) : file_filter_parse(req, by, &filter, err);
    if (rc == 0 && by) {
        rc = remove_matching(req, req->params[0], &filter, &removed, &more, err);
    }
    if (rc < 0) {
        return -1;
    }
    return reply_take_json(
        reply, 202, json_pack("{s:I, s:b}", "removed", (json_int_t)removed, "more", (int)more),
        err);
}

static const char failed_only[] =
    " AND (f.main_state = 3 OR f.preview_state = 3 OR f.thumb_state = 3)";

/* One transaction of up to 500 files, into the bulk lane. *ret_n: how many were looked at. */
static int retry_some(struct request *req, const struct file_filter *filter, char *after,
                      struct task_retried *total, int *ret_n, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *ids[TASK_REMOVE_MAX];
    struct task_retried done = {0};

    if (select_ids(req, req->params[0], filter, failed_only, after, &res, err) < 0) {
        return -1;
    }
    int n = PQntuples(res);
    for (int i = 0; i < n; i++) {
        ids[i] = PQgetvalue(res, i, 0);
    }
    if (n > 0 && task_retry_many(req->gw->db, req->who.user_id, ids, (size_t)n, STAGE_NONE,
                                 req->who.name, LANE_BULK, &done, err) < 0) {
        return -1;
    }
    if (n > 0) {
        memcpy(after, ids[n - 1], UUID_TEXT);
    }
    total->files += done.files;
    total->units += done.units;
    total->stages |= done.stages;
    *ret_n = n;
    return 0;
}

/* Up to 10,000 files a call, in transactions of 500; `more` tells the client to call again. */
int files_retry(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    struct file_filter filter = {0};
    struct task_retried total = {0};
    uint64_t until = clock_mono_ms() + REMOVE_TIME_MS;
    char after[UUID_TEXT] = "";
    int looked = 0;
    int n = TASK_REMOVE_MAX;

    if (request_json(req, true, &body, err) < 0 || require_dataset(req, err) < 0) {
        return -1;
    }
    const json_t *by = json_object_get(body, "filter");
    if (by && file_filter_parse(req, by, &filter, err) < 0) {
        return -1;
    }
    while (n == TASK_REMOVE_MAX && looked < RETRY_MAX && clock_mono_ms() < until) {
        if (retry_some(req, &filter, after, &total, &n, err) < 0) {
            return -1;
        }
        looked += n;
    }
    wake_stages(req);
    return reply_take_json(reply, 202,
                           json_pack("{s:I, s:I, s:b}", "retried", (json_int_t)total.files, "units",
                                     (json_int_t)total.units, "more", (int)(n == TASK_REMOVE_MAX)),
                           err);
}
