/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators do with files that the virus scanner has quarantined: look at them, and let one
 * through that was held back by mistake. Removing one is its user's DELETE, as for any file.
 */
#include "libcommon/notify.h"
#include "libcommon/task.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/sql.h"

#include <string.h>

/* Only few files are ever in it: file_unfinished finds them by dataset. */
static const char list_sql[] =
    "SELECT f.file_id, f.user_id, f.dataset_id, f.name, f.bytes, v.sha256,"
    "   f.errors->'main'->>'detail', " SQL_TIME("f.accepted_at") ", " SQL_TIME(
        "f.updated_at") " FROM dataset d JOIN file f USING (dataset_id) JOIN file_version v"
                        "   ON v.file_id = f.file_id AND v.version = f.version"
                        " WHERE f.state = 5 AND ($1::uuid IS NULL OR f.file_id > $1::uuid)"
                        " ORDER BY f.file_id LIMIT $2::int";

static json_t *item_json(const PGresult *res, int i)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:s?, s:s, s:s}", "id", db_str(res, i, 0),
                     "userId", db_str(res, i, 1), "datasetId", db_str(res, i, 2), "name",
                     db_str(res, i, 3), "size", (json_int_t)db_i64(res, i, 4), "sha256",
                     db_str(res, i, 5), "detail", db_str(res, i, 6), "createdAt", db_str(res, i, 7),
                     "updatedAt", db_str(res, i, 8));
}

int quarantine_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct list_page page;
    struct db_num limit;

    if (list_page_read(req, "quarantine", &page, err) < 0) {
        return -1;
    }
    const char *params[] = {page.has_cursor ? page.cursor.id : NULL,
                            db_num(&limit, page.limit + 1)};
    if (db_run(req->gw->search_db, list_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    return list_reply_rows(reply, &page, "quarantine", res, item_json, err);
}

int quarantine_release(struct request *req, struct reply *reply, struct err *err)
{
    char user[UUID_TEXT];
    unsigned stages = 0;
    bool released = false;

    if (task_release(req->gw->db, req->params[0], req->who.name, &released, &stages, user, err) <
        0) {
        return -1;
    }
    if (!released) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such file in quarantine");
    }
    for (int s = 1; s <= STAGE_MAX; s++) {
        if (stages >> s & 1U) {
            notify_stage(req->gw->notifier, s, user);
        }
    }
    return reply_take_json(reply, 202, json_pack("{s:i}", "released", 1), err);
}
