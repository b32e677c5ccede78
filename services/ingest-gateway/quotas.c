/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an account has used and may use: everybody sees his own, admins set the limits of an account
 * and of all that have none of their own.
 */
#include "libcommon/jget.h"
#include "libcommon/quota.h"
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"

#include <stdio.h>
#include <string.h>

#define MONEY_MAX 9e9 /* in units of the price list; times a million it fits */

/* Money goes in and out in units of the price list, with six places. */
static json_t *amount_json(enum quota_kind kind, int64_t value)
{
    return kind == QUOTA_MICROS ? json_real((double)value / 1e6) : json_integer(value);
}

static json_t *limit_json(enum quota_kind kind, int64_t value)
{
    return value == QUOTA_NONE ? json_null() : amount_json(kind, value);
}

static json_t *usage_json(const struct quota *quota)
{
    json_t *doc = json_pack("{s:s%}", "month", quota->month, (size_t)7);

    for (int k = 0; k < QUOTA_KINDS; k++) {
        const enum quota_kind kind = (enum quota_kind)k;
        json_object_set_new(doc, quota_kind_name(kind),
                            json_pack("{s:o, s:o}", "used", amount_json(kind, quota->used[k]),
                                      "limit", limit_json(kind, quota->limit[k])));
    }
    return doc;
}

static int usage_of(struct request *req, const char *user_id, json_t **ret_doc, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    struct quota quota;

    if (db_acquire(req->gw->db, &conn, err) < 0 || quota_read(conn, user_id, &quota, err) < 0) {
        return -1;
    }
    *ret_doc = usage_json(&quota);
    return 0;
}

int usage_get(struct request *req, struct reply *reply, struct err *err)
{
    json_t *doc = NULL;

    return usage_of(req, req->who.user_id, &doc, err) < 0 ? -1
                                                          : reply_take_json(reply, 200, doc, err);
}

static const char own_sql[] = "SELECT files, bytes, pages, micros FROM quota"
                              " WHERE user_id = $1::uuid";

/* The row's own limits: null where it has none, "none" where it has no limit whatever others have.
 */
static int own_limits(struct request *req, const char *user_id, json_t **ret_doc, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {user_id};

    if (db_run(req->gw->db, own_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    json_t *doc = json_object();
    for (int k = 0; k < QUOTA_KINDS; k++) {
        const enum quota_kind kind = (enum quota_kind)k;
        const bool set = PQntuples(res) > 0 && db_str(res, 0, k);
        const int64_t value = set ? db_i64(res, 0, k) : 0;
        json_object_set_new(doc, quota_kind_name(kind),
                            !set                  ? json_null()
                            : value == QUOTA_NONE ? json_string("none")
                                                  : amount_json(kind, value));
    }
    *ret_doc = doc;
    return 0;
}

/* {limits, usage}; of the default, limits alone. */
static int answer(struct request *req, const char *user_id, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *limits = NULL;
    CLEANUP(json_cleanup) json_t *usage = NULL;
    const bool of_all = strcmp(user_id, QUOTA_DEFAULT_USER) == 0;

    if (own_limits(req, user_id, &limits, err) < 0 ||
        (!of_all && usage_of(req, user_id, &usage, err) < 0)) {
        return -1;
    }
    return reply_take_json(reply, 200,
                           of_all ? json_pack("{s:O}", "limits", limits)
                                  : json_pack("{s:O, s:O}", "limits", limits, "usage", usage),
                           err);
}

static int read_limit(struct request *req, const json_t *body, enum quota_kind kind,
                      struct db_num *num, const char **ret_param, bool *ret_given, struct err *err)
{
    const json_t *value = json_object_get(body, quota_kind_name(kind));
    char pointer[16];
    const bool money = kind == QUOTA_MICROS;

    *ret_given = value != NULL;
    *ret_param = NULL;
    if (!value || json_is_null(value)) {
        return 0;
    }
    const double n = json_number_value(value);
    int64_t whole = 0;
    if (json_is_string(value) && strcmp(json_string_value(value), "none") == 0) {
        *ret_param = db_num(num, QUOTA_NONE);
    } else if ((money ? json_is_number(value) : jget_whole(value, &whole)) && n >= 0 &&
               n <= (money ? MONEY_MAX : 9e15)) {
        *ret_param = db_num(num, money ? (int64_t)(n * 1e6 + 0.5) : whole);
    } else {
        snprintf(pointer, sizeof(pointer), "/%s", quota_kind_name(kind));
        return request_invalid(
            req, pointer, "a limit is a number from 0, \"none\", or null for the default", err);
    }
    return 0;
}

/* $1 account $2-$5 limits $6-$9 whether each is given. No row when there is no such account. */
static const char put_sql[] =
    "INSERT INTO quota AS q (user_id, files, bytes, pages, micros)"
    " SELECT u, $2::bigint, $3::bigint, $4::bigint, $5::bigint FROM (SELECT $1::uuid AS u) x"
    "  WHERE u = '" QUOTA_DEFAULT_USER "' OR EXISTS (SELECT 1 FROM account WHERE user_id = u)"
    " ON CONFLICT (user_id) DO UPDATE SET updated_at = now(),"
    "   files = CASE WHEN $6::bool THEN excluded.files ELSE q.files END,"
    "   bytes = CASE WHEN $7::bool THEN excluded.bytes ELSE q.bytes END,"
    "   pages = CASE WHEN $8::bool THEN excluded.pages ELSE q.pages END,"
    "   micros = CASE WHEN $9::bool THEN excluded.micros ELSE q.micros END RETURNING 1";

static int put(struct request *req, const char *user_id, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num num[QUOTA_KINDS];
    const char *params[1 + 2 * QUOTA_KINDS] = {user_id};
    bool any = false;

    if (request_json(req, false, &body, err) < 0) {
        return -1;
    }
    for (int k = 0; k < QUOTA_KINDS; k++) {
        bool given = false;
        if (read_limit(req, body, (enum quota_kind)k, &num[k], &params[1 + k], &given, err) < 0) {
            return -1;
        }
        params[1 + QUOTA_KINDS + k] = given ? "true" : "false";
        any = any || given;
    }
    if (!any) {
        return request_invalid(req, "", "files, bytes, pages or money is needed", err);
    }
    if (db_run(req->gw->db, put_sql, 1 + 2 * QUOTA_KINDS, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such user");
    }
    audit_target(req, user_id);
    audit_detail(req, "limits", json_incref(body));
    return answer(req, user_id, reply, err);
}

int quota_get(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0]};

    if (db_run(req->gw->db, "SELECT 1 FROM account WHERE user_id = $1::uuid", 1, params, &res,
               err) < 0) {
        return -1;
    }
    return PQntuples(res) == 0 ? err_set(err, ERR_PERMANENT, "not_found", "no such user")
                               : answer(req, req->params[0], reply, err);
}

int quota_put(struct request *req, struct reply *reply, struct err *err)
{
    return strcmp(req->params[0], QUOTA_DEFAULT_USER) == 0
               ? err_set(err, ERR_PERMANENT, "not_found", "no such user")
               : put(req, req->params[0], reply, err);
}

int quota_default_get(struct request *req, struct reply *reply, struct err *err)
{
    return answer(req, QUOTA_DEFAULT_USER, reply, err);
}

int quota_default_put(struct request *req, struct reply *reply, struct err *err)
{
    return put(req, QUOTA_DEFAULT_USER, reply, err);
}
