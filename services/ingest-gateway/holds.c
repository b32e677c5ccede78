/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Legal hold: set and lifted by operators, on any dataset. What a hold forbids is decided where
 * things are removed (task_remove, the cleaner); here is only the answer to whoever asks for it.
 */
#include "services/ingest-gateway/holds.h"

#include "libcommon/jget.h"
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/sql.h"

#define REASON_MAX 500

static const char set_sql[] =
    "UPDATE dataset SET hold_at = coalesce(hold_at, now()), hold_by = $2, hold_reason = $3"
    " WHERE dataset_id = $1::uuid AND deleted_at IS NULL RETURNING " SQL_TIME("hold_at");

static const char lift_sql[] =
    "UPDATE dataset SET hold_at = NULL, hold_by = NULL, hold_reason = NULL"
    " WHERE dataset_id = $1::uuid AND deleted_at IS NULL RETURNING 1";

static int held(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "legal_hold",
                   "the dataset is under a legal hold: nothing of it can be removed");
}

static int ask(struct request *req, const char *sql, const char *id, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {id, req->who.user_id};

    if (db_run(req->gw->db, sql, 2, params, &res, err) < 0) {
        return -1;
    }
    return PQntuples(res) > 0 ? held(err) : 0;
}

int hold_check_dataset(struct request *req, const char *dataset_id, struct err *err)
{
    return ask(req,
               "SELECT 1 FROM dataset WHERE dataset_id = $1::uuid AND user_id = $2::uuid"
               " AND deleted_at IS NULL AND dataset_held(dataset_id)",
               dataset_id, err);
}

int hold_check_file(struct request *req, const char *file_id, struct err *err)
{
    return ask(req,
               "SELECT 1 FROM file WHERE file_id = $1::uuid AND user_id = $2::uuid AND state < 6"
               " AND dataset_held(dataset_id)",
               file_id, err);
}

int hold_put(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *reason;

    if (request_json(req, false, &body, err) < 0 ||
        jget_str(body, "reason", REASON_MAX, &reason, err) < 0) {
        return -1;
    }
    if (reason[0] == '\0') {
        return request_invalid(req, "/reason", "a hold has a reason", err);
    }
    const char *params[] = {req->params[0], req->who.name, reason};
    if (db_run(req->gw->db, set_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such dataset");
    }
    audit_detail(req, "reason", json_string(reason));
    return reply_take_json(reply, 200,
                           json_pack("{s:s, s:b, s:s, s:s, s:s}", "datasetId", req->params[0],
                                     "held", 1, "since", PQgetvalue(res, 0, 0), "by", req->who.name,
                                     "reason", reason),
                           err);
}

int hold_delete(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0]};

    if (db_run(req->gw->db, lift_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such dataset");
    }
    return reply_take_json(reply, 200,
                           json_pack("{s:s, s:b}", "datasetId", req->params[0], "held", 0), err);
}
