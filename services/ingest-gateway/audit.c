/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/audit.h"

#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "services/ingest-gateway/audit_late.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/sql.h"

#include <stdio.h>
#include <string.h>

static const char *outcome_of(unsigned status)
{
    return status < 400                                      ? "ok"
           : status == 401 || status == 403 || status == 429 ? "denied"
                                                             : "failed";
}

static const char *or_null(const char *text)
{
    return text && text[0] != '\0' ? text : NULL;
}

static int write_row(struct gateway *gw, struct request *req, const char *action, unsigned status,
                     bool *ret_kept, struct err *err)
{
    static const char *const credentials[] = {"", "key", "session", "token"};
    const struct audit_note *note = &req->audit;
    const struct principal *who = &req->who;
    const char *target = note->target[0] != '\0' ? note->target : req->params[0];

    audit_detail(req, "status", json_integer((json_int_t)status));
    CLEANUP(free_cleanup)
    char *detail = note->detail ? json_dumps(note->detail, JSON_COMPACT) : NULL;
    const char *params[] = {or_null(who->user_id),
                            who->user_id[0] != '\0' ? who->name : note->actor,
                            action,
                            or_null(target),
                            detail ? detail : "{}",
                            note->denied ? "denied" : outcome_of(status),
                            credentials[who->credential],
                            or_null(who->key_id),
                            or_null(who->session_id),
                            or_null(req->address),
                            req->id,
                            NULL};
    if (db_run(gw->db, audit_insert_sql, ARRAY_LEN(params), params, NULL, err) == 0) {
        return 0;
    }
    *ret_kept = err->class == ERR_TRANSIENT && audit_late_keep(gw->audit_late, params) == 0;
    return -1;
}

void audit_request(struct gateway *gw, struct request *req, unsigned status)
{
    const char *action = req->audit.action ? req->audit.action : req->route->audit;
    struct err err = ERR_INIT;
    bool kept = false;

    if (!action || req->audit.skip || write_row(gw, req, action, status, &kept, &err) == 0) {
        return;
    }
    if (!kept) {
        metrics_inc("docfleet_audit_failures_total", "");
    }
    log_write(kept ? LOG_WARN : LOG_ERROR,
              kept ? "audit row waits for Postgres" : "audit row not written",
              kv_str("action", action), kv_str("userId", req->who.user_id),
              kv_str("target", req->params[0]), kv_u64("status", status),
              kv_str("address", req->address), kv_str("requestId", req->id),
              kv_str("code", err.code), kv_str("reason", err.msg), KV_END);
}

void audit_detail(struct request *req, const char *name, json_t *value)
{
    if (value && !req->audit.detail) {
        req->audit.detail = json_object();
    }
    if (!req->audit.detail || json_object_set_new(req->audit.detail, name, value) < 0) {
        return; /* without memory the row says less */
    }
}

void audit_target(struct request *req, const char *target)
{
    snprintf(req->audit.target, sizeof(req->audit.target), "%s", target ? target : "");
}

/* GET /admin/audit ------------------------------------------------------------------------------*/

static const char list_sql[] = "SELECT chain, " SQL_TIME(
    "at") ", user_id, actor, action, target, detail, outcome, credential,"
          "   key_id, session_id, address, request_id FROM audit WHERE chain IS NOT NULL"
          "   AND ($1::bigint IS NULL OR chain < $1::bigint)"
          "   AND ($2::uuid IS NULL OR user_id = $2::uuid)"
          "   AND ($3::text IS NULL OR action = $3::text OR action LIKE $3::text || '.%')"
          "   AND ($4::text IS NULL OR outcome = $4::text)"
          "   AND ($5::text IS NULL OR target = $5::text)"
          "   AND ($6::text IS NULL OR address = $6::text)"
          "   AND ($7::timestamptz IS NULL OR at >= $7::timestamptz)"
          "   AND ($8::timestamptz IS NULL OR at < $8::timestamptz)"
          " ORDER BY chain DESC LIMIT $9::int";

static json_t *row_json(const PGresult *res, int i)
{
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "number",
                     (json_int_t)db_i64(res, i, 0), "at", sql_json_str(res, i, 1), "userId",
                     sql_json_str(res, i, 2), "actor", sql_json_str(res, i, 3), "action",
                     sql_json_str(res, i, 4), "target", sql_json_str(res, i, 5), "detail",
                     sql_json_doc(res, i, 6), "outcome", sql_json_str(res, i, 7), "credential",
                     sql_json_str(res, i, 8), "keyId", sql_json_str(res, i, 9), "sessionId",
                     sql_json_str(res, i, 10), "address", sql_json_str(res, i, 11), "requestId",
                     sql_json_str(res, i, 12));
}

static bool plain(const char *text, const char *more, size_t max)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

    for (const char *s = text; *s != '\0'; s++) {
        if (!strchr(letters, *s) && !strchr(more, *s)) {
            return false;
        }
    }
    return strlen(text) <= max;
}

/* Times as RFC 3339 in UTC or with an offset; Postgres has the last word. */
static int check_filter(struct request *req, const char **ret_target, const char **ret_address,
                        struct err *err)
{
    static const char *const times[] = {"since", "until"};
    const char *user = uri_arg(&req->uri, "userId");
    const char *outcome = uri_arg(&req->uri, "outcome");
    const char *action = uri_arg(&req->uri, "action");

    if (user && !uuid_text_valid(user)) {
        return err_set(err, ERR_PERMANENT, "bad_request", "argument userId is no account's id");
    }
    if (outcome && strcmp(outcome, "ok") != 0 && strcmp(outcome, "denied") != 0 &&
        strcmp(outcome, "failed") != 0) {
        return err_set(err, ERR_PERMANENT, "bad_request",
                       "argument outcome is ok, denied or failed");
    }
    if (action && !plain(action, "._-", 60)) {
        return err_set(err, ERR_PERMANENT, "bad_request", "argument action is no action's name");
    }
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        const char *t = uri_arg(&req->uri, times[i]);
        if (t && !time_text_valid(t)) {
            return err_set(err, ERR_PERMANENT, "bad_request",
                           "argument %s is no time such as 2026-01-31T12:00:00Z", times[i]);
        }
    }
    return uri_arg_text(&req->uri, "target", 80, ret_target, err) < 0
               ? -1
               : uri_arg_text(&req->uri, "address", 45, ret_address, err);
}

int audit_list(struct request *req, struct reply *reply, struct err *err)
{
    static const char no_id[] = "00000000-0000-0000-0000-000000000000";
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct list_page page;
    struct db_num limit;
    const char *target = NULL;
    const char *address = NULL;
    int64_t before = 0;
    char *next = NULL;

    if (check_filter(req, &target, &address, err) < 0 ||
        list_page_read(req, "audit", &page, err) < 0) {
        return -1;
    }
    if (page.has_cursor && !decimal_parse(page.cursor.value, 1, INT64_MAX, &before)) {
        return err_set(err, ERR_PERMANENT, "bad_request", "the cursor belongs to no page");
    }
    const char *params[] = {page.has_cursor ? page.cursor.value : NULL,
                            uri_arg(&req->uri, "userId"),
                            uri_arg(&req->uri, "action"),
                            uri_arg(&req->uri, "outcome"),
                            target,
                            address,
                            uri_arg(&req->uri, "since"),
                            uri_arg(&req->uri, "until"),
                            db_num(&limit, page.limit + 1)};
    if (db_run(req->gw->db, list_sql, ARRAY_LEN(params), params, &res, err) < 0) {
        return strcmp(err->code, "db_constraint") == 0
                   ? err_set(err, ERR_PERMANENT, "bad_request",
                             "a time is written 2026-01-31T12:00:00Z")
                   : -1;
    }
    int n = PQntuples(res) < page.limit ? PQntuples(res) : (int)page.limit;
    json_t *items = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(items, row_json(res, i));
    }
    if (PQntuples(res) > page.limit) {
        next = cursor_encode("audit", no_id, PQgetvalue(res, n - 1, 0));
    }
    return list_reply(reply, items, next, err);
}
