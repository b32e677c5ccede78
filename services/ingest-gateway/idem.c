/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/idem.h"

#include "libcommon/sha256.h"
#include "services/ingest-gateway/gateway.h"

#include <stdio.h>
#include <string.h>

#define KEY_MAX 200U

static const char find_sql[] = "SELECT body_sha256, status, response FROM idempotency"
                               " WHERE user_id = $1::uuid AND key = $2"
                               "   AND created_at > now() - interval '24 hours'";

/* An older row of the same key is taken over. */
static const char store_sql[] =
    "INSERT INTO idempotency AS i (user_id, key, body_sha256, status, response)"
    " VALUES ($1::uuid, $2, $3, $4::int, $5)"
    " ON CONFLICT (user_id, key) DO UPDATE SET body_sha256 = excluded.body_sha256,"
    "   status = excluded.status, response = excluded.response, created_at = now()"
    "   WHERE i.created_at <= now() - interval '24 hours' RETURNING 1";

int idem_find(struct request *req, struct idem *ret_idem, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct idem idem = {.key = req->headers[H_IDEMPOTENCY_KEY]};

    if (!idem.key) {
        *ret_idem = idem;
        return 0;
    }
    size_t n = strlen(idem.key);
    if (n == 0 || n > KEY_MAX) {
        return err_set(err, ERR_PERMANENT, "bad_request",
                       "an Idempotency-Key has 1 to %u characters", KEY_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (idem.key[i] < 0x21 || idem.key[i] > 0x7E) {
            return err_set(err, ERR_PERMANENT, "bad_request",
                           "an Idempotency-Key holds visible ASCII characters only");
        }
    }
    const char *params[] = {req->who.user_id, idem.key};
    if (db_run(req->gw->db, find_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 1) {
        idem.found = true;
        idem.status = (int)db_i64(res, 0, 1);
        snprintf(idem.stored_hash, sizeof(idem.stored_hash), "%s", db_str(res, 0, 0));
        idem.response = strdup(db_str(res, 0, 2));
        if (!idem.response) {
            return err_nomem(err);
        }
    }
    *ret_idem = idem;
    return 0;
}

void idem_done(struct idem *idem)
{
    free(idem->response);
    idem->response = NULL;
}

int idem_hash_request(struct request *req, struct idem *idem, struct err *err)
{
    CLEANUP(hash_done) struct hash h = HASH_NONE;

    if (!idem->key) {
        return 0;
    }
    if (hash_init(&h, HASH_SHA256, err) < 0 ||
        hash_update(&h, req->method, strlen(req->method) + 1, err) < 0 ||
        hash_update(&h, req->uri.path, strlen(req->uri.path) + 1, err) < 0 ||
        hash_update(&h, req->body.data ? req->body.data : "", req->body.len, err) < 0) {
        return -1;
    }
    return hash_final_hex(&h, idem->hash, sizeof(idem->hash), err);
}

int idem_replay(const struct idem *idem, struct reply *reply, struct err *err)
{
    if (!idem->found) {
        return 0;
    }
    if (strcmp(idem->hash, idem->stored_hash) != 0) {
        return err_set(err, ERR_PERMANENT, "idempotency_conflict",
                       "this Idempotency-Key was used for a request with another body");
    }
    char *copy = strdup(idem->response);
    if (!copy || reply_header(reply, "Idempotent-Replayed", "true", err) < 0) {
        free(copy);
        return err_nomem(err);
    }
    reply->status = (unsigned)idem->status;
    reply->content_type = "application/json";
    reply->body = copy;
    reply->len = strlen(copy);
    return 1;
}

int idem_store(struct db_conn *conn, const struct request *req, const struct idem *idem,
               const struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num status;

    if (!idem->key) {
        return 0;
    }
    const char *params[] = {req->who.user_id, idem->key, idem->hash, db_num(&status, reply->status),
                            reply->body};
    if (db_query(conn, store_sql, 5, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "db_unique", "idempotency_pkey");
    }
    return 0;
}

static int not_kept(struct err *err)
{
    return err_set(
        err, ERR_PERMANENT, "secret_not_kept",
        "this was done with this Idempotency-Key; the secret was in that answer only and "
        "is not kept. If it was lost, revoke what was made and use another "
        "Idempotency-Key");
}

int idem_refuse_repeated(const struct idem *idem, struct err *err)
{
    if (!idem->found) {
        return 0;
    }
    return strcmp(idem->hash, idem->stored_hash) == 0
               ? not_kept(err)
               : err_set(err, ERR_PERMANENT, "idempotency_conflict",
                         "this Idempotency-Key was used for a request with another body");
}

int idem_make_secret(struct request *req, const struct idem *idem, const char *id, const char *sql,
                     int n, const char *const *params, PGresult **ret_row, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *row = NULL;
    CLEANUP(reply_done) struct reply kept = {0};

    if (db_acquire(req->gw->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        db_query(conn, sql, n, params, &row, err) < 0) {
        return -1;
    }
    if (PQntuples(row) > 0 &&
        (reply_take_json(&kept, 201, json_pack("{s:s}", "id", id), err) < 0 ||
         idem_store(conn, req, idem, &kept, err) < 0 || db_commit(conn, err) < 0)) {
        return strcmp(err->code, "db_unique") == 0 && idem->key ? not_kept(err) : -1;
    }
    *ret_row = STEAL(row);
    return 0;
}
