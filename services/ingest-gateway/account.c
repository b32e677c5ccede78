/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One's keys. A key's secret leaves the service once, in the answer that made it;
 * that answer is therefore not kept for its Idempotency-Key: a repeated one is refused.
 */
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/auth.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/idem.h"
#include "services/ingest-gateway/sql.h"

#include <stdio.h>
#include <string.h>

/* Everybody's, with userId=, is for admins. */
static const char list_sql[] =
    "SELECT key_id, name, array_to_json(scopes), " SQL_TIME("created_at") ", " SQL_TIME(
        "expires_at") ", " SQL_TIME("last_used_at") ", array_to_json(dataset_ids)"
                                                    " FROM api_key WHERE user_id = $1::uuid AND "
                                                    "revoked_at IS NULL ORDER BY created_at LIMIT "
                                                    "200";

int key_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *user = uri_arg(&req->uri, "userId");
    const char *params[] = {user ? user : req->who.user_id};

    if (user && !uuid_text_valid(user)) {
        return err_set(err, ERR_PERMANENT, "bad_request", "argument userId is no account's id");
    }
    if (strcmp(params[0], req->who.user_id) != 0 && !(req->who.scopes & SCOPE_ADMIN)) {
        return err_set(err, ERR_PERMANENT, "forbidden", "only an admin sees the keys of others");
    }
    if (strcmp(params[0], req->who.user_id) != 0) {
        db_view_take(DB_VIEW_ALL, req->who.user_id);
    }
    if (db_run(req->gw->db, list_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    json_t *items = json_array();
    for (int i = 0; i < PQntuples(res); i++) {
        json_array_append_new(
            items,
            json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id", sql_json_str(res, i, 0), "name",
                      sql_json_str(res, i, 1), "scopes", sql_json_doc(res, i, 2), "createdAt",
                      sql_json_str(res, i, 3), "expiresAt", sql_json_str(res, i, 4), "lastUsedAt",
                      sql_json_str(res, i, 5), "datasetIds", sql_json_doc(res, i, 6)));
    }
    return list_reply(reply, items, NULL, err);
}

/* A key never gives more than the one that makes it has. */
static int read_scopes(struct request *req, const json_t *body, unsigned *ret_scopes,
                       struct err *err)
{
    const json_t *list = json_object_get(body, "scopes");
    unsigned scopes = 0;
    size_t i;
    json_t *one;

    if (!list || json_is_null(list)) {
        *ret_scopes = SCOPE_READ | SCOPE_WRITE;
        return 0;
    }
    json_array_foreach(list, i, one)
    {
        unsigned s = json_is_string(one) ? scope_parse(json_string_value(one)) : 0;
        if (s == 0) {
            return request_invalid(req, "/scopes", "a scope is read, write, operate or admin", err);
        }
        scopes |= s;
    }
    if (!json_is_array(list) || scopes == 0) {
        return request_invalid(req, "/scopes", "at least one scope is needed", err);
    }
    if (scopes & ~req->who.scopes) {
        return err_set(err, ERR_PERMANENT, "forbidden", "this key cannot give that scope");
    }
    *ret_scopes = scopes;
    return 0;
}

/* "{id,id}", or "" for no limit. A limited key makes no keys, so this cannot widen one. */
static int read_datasets(struct request *req, const json_t *body, char *out, size_t size,
                         struct err *err)
{
    const json_t *list = json_object_get(body, "datasetIds");
    size_t at = 0;
    size_t i;
    json_t *one;

    out[0] = '\0';
    if (!list || json_is_null(list)) {
        return 0;
    }
    if (!json_is_array(list) || json_array_size(list) == 0 ||
        json_array_size(list) > PRINCIPAL_DATASETS_MAX) {
        return request_invalid(req, "/datasetIds", "1 to 20 datasets, or none", err);
    }
    json_array_foreach(list, i, one)
    {
        const char *id = json_string_value(one);
        if (!id || !uuid_text_valid(id)) {
            return request_invalid(req, "/datasetIds", "an entry is no dataset's id", err);
        }
        at += (size_t)snprintf(out + at, size - at, "%c%s", i ? ',' : '{', id);
    }
    snprintf(out + at, size - at, "}");
    return 0;
}

static const char create_sql[] =
    "INSERT INTO api_key (key_id, user_id, secret_sha256, name, scopes, expires_at, dataset_ids)"
    " SELECT $1, a.user_id, decode($3, 'hex'), $4, $5::text[],"
    "        CASE WHEN $6::int > 0 THEN now() + make_interval(days => $6::int) END, $7::uuid[]"
    "   FROM account a WHERE a.user_id = $2::uuid AND a.disabled_at IS NULL"
    " RETURNING user_id, " SQL_TIME("expires_at");

static const char *owner_of(struct request *req, const json_t *body, struct err *err)
{
    const json_t *user = json_object_get(body, "userId");
    const char *id = json_string_value(user);

    if (!user || json_is_null(user)) {
        return req->who.user_id;
    }
    if (!id || !uuid_text_valid(id)) {
        request_invalid(req, "/userId", "no account's id", err);
        return NULL;
    }
    if (strcmp(id, req->who.user_id) != 0 && !(req->who.scopes & SCOPE_ADMIN)) {
        err_set(err, ERR_PERMANENT, "forbidden", "only an admin makes keys for others");
        return NULL;
    }
    if (strcmp(id, req->who.user_id) != 0) {
        db_view_take(DB_VIEW_ALL, req->who.user_id);
    }
    return id;
}

int key_create(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *made = NULL;
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(idem_done) struct idem idem = {0};
    struct auth_new_key key;
    unsigned scopes = 0;
    const char *name = NULL;
    int64_t days = 0;
    struct db_num days_text;
    char list[48] = "{";
    char datasets[PRINCIPAL_DATASETS_MAX * UUID_TEXT + 3];

    if (request_json(req, true, &body, err) < 0 || idem_find(req, &idem, err) < 0 ||
        idem_hash_request(req, &idem, err) < 0 || idem_refuse_repeated(&idem, err) < 0 ||
        read_scopes(req, body, &scopes, err) < 0 ||
        read_datasets(req, body, datasets, sizeof(datasets), err) < 0 ||
        jget_opt_str(body, "name", 100, "", &name, err) < 0 ||
        jget_opt_int(body, "expiresInDays", 1, 3650, 0, &days, err) < 0) {
        return -1;
    }
    const char *owner = owner_of(req, body, err);
    if (!owner || auth_key_make(&key, err) < 0) {
        return -1;
    }
    scopes_text(scopes, list + 1, sizeof(list) - 2);
    memcpy(list + strlen(list), "}", 2);
    audit_target(req, key.id);
    audit_detail(req, "scopes", scopes_json(scopes));
    audit_detail(req, "userId", json_string(owner));
    const char *params[] = {key.id,
                            owner,
                            key.sha256,
                            name,
                            list,
                            db_num(&days_text, days),
                            datasets[0] != '\0' ? datasets : NULL};
    if (idem_make_secret(req, &idem, key.id, create_sql, 7, params, &made, err) < 0) {
        return -1;
    }
    if (PQntuples(made) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such account");
    }
    return reply_take_json(reply, 201,
                           json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "id", key.id, "key", key.key,
                                     "userId", owner, "name", name, "scopes", scopes_json(scopes),
                                     "expiresAt", sql_json_str(made, 0, 1)),
                           err);
}

static const char revoke_sql[] = "UPDATE api_key SET revoked_at = now() WHERE key_id = $1"
                                 " AND (user_id = $2::uuid OR $3::bool) AND revoked_at IS NULL"
                                 " RETURNING 1";

int key_revoke(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0], req->who.user_id,
                            req->who.scopes & SCOPE_ADMIN ? "true" : "false"};

    if (req->who.scopes & SCOPE_ADMIN) {
        db_view_take(DB_VIEW_ALL, req->who.user_id);
    }
    if (db_run(req->gw->db, revoke_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    auth_cache_drop_key(req->gw->auth, req->params[0]);
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such key");
    }
    reply->status = 204;
    return 0;
}
