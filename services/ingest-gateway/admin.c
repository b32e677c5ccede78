/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators may do: make accounts, look at the stages, look at dead letters and send them
 * back. These statements see all accounts; every change leaves a line in the audit log (routes.c).
 */
#include "libcommon/states.h"
#include "libcommon/task_dispatch.h"
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/auth.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/idem.h"
#include "services/ingest-gateway/sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char user_sql[] = "INSERT INTO account (user_id, name, role, weight)"
                               " VALUES ($1::uuid, $2, $3, $4::real)";

/* The weight, or `fallback` when it is absent or null. */
static int read_weight(struct request *req, const json_t *body, double fallback, double *ret_weight,
                       struct err *err)
{
    const json_t *w = json_object_get(body, "weight");
    double value = !w || json_is_null(w) ? fallback : json_number_value(w);

    if (w && !json_is_null(w) && !(value >= 0.001 && value <= 1000)) {
        return request_invalid(req, "/weight", "a weight is from 0.001 to 1000", err);
    }
    *ret_weight = value;
    return 0;
}

int user_create(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    const char *name = NULL;
    const char *role = NULL;
    double value = 0;
    char weight[32];
    char id[UUID_TEXT];

    if (request_json(req, false, &body, err) < 0 || jget_str(body, "name", 100, &name, err) < 0 ||
        jget_opt_str(body, "role", 10, "user", &role, err) < 0) {
        return -1;
    }
    if (read_weight(req, body, 1.0, &value, err) < 0) {
        return -1;
    }
    if (name[0] == '\0' || !text_plain(name)) {
        return request_invalid(
            req, "/name", "a name of 1 to 100 bytes without control characters is needed", err);
    }
    if (role_parse(role) == ROLE_NONE) {
        return request_invalid(req, "/role", "a role is user, operator or admin", err);
    }
    snprintf(weight, sizeof(weight), "%g", value);
    uuid_v7(id);
    const char *params[] = {id, name, role, weight};
    if (db_run(req->gw->db, user_sql, 4, params, NULL, err) < 0) {
        return strcmp(err->code, "db_unique") == 0
                   ? err_set(err, ERR_PERMANENT, "name_taken", "there is an account of that name")
                   : -1;
    }
    audit_target(req, id);
    audit_detail(req, "role", json_string(role));
    return reply_take_json(
        reply, 201,
        json_pack("{s:s, s:s, s:s, s:f}", "id", id, "name", name, "role", role, "weight", value),
        err);
}

/* What the leader tells of a stage is shown only while it is fresh. */
static const char stages_sql[] =
    "SELECT s.stage, coalesce(b.n, 0), extract(epoch FROM now() - b.oldest_at)::bigint,"
    "   coalesce(c.paused, false), w.n, w.slots, w.busy, w.open,"
    "   (SELECT count(*) FROM dead_letter d WHERE d.stage = s.stage AND d.state = 'open'),"
    "   " SQL_TIME(
        "b.updated_at") ", q.waiting, q.out, q.users, q.rate, q.credit,"
                        "   coalesce(c.paused AND q.paused, false) AND NOT EXISTS (SELECT 1 FROM"
                        "     stage_shard x WHERE x.stage = s.stage AND NOT x.paused"
                        "     AND x.updated_at > now() - interval '10 seconds')"
                        " FROM generate_series(1, 7) AS s(stage)"
                        " LEFT JOIN backlog b ON b.stage = s.stage"
                        " LEFT JOIN stage_control c ON c.stage = s.stage"
                        " LEFT JOIN queue_state q ON q.stage = s.stage AND q.updated_at > now() - "
                        "interval '10 seconds'"
                        " LEFT JOIN LATERAL (SELECT count(*) AS n, coalesce(sum(slots), 0) AS "
                        "slots,"
                        "   coalesce(sum(busy), 0) AS busy, count(*) FILTER (WHERE open) AS open "
                        "FROM worker"
                        "   WHERE worker.stage = s.stage AND seen > now() - interval '10 seconds') "
                        "w ON true"
                        " WHERE $1::smallint IS NULL OR s.stage = $1::smallint ORDER BY s.stage";

static json_t *int_or_null(const PGresult *res, int row, int col)
{
    return db_str(res, row, col) ? json_integer(db_i64(res, row, col)) : json_null();
}

static json_t *real_or_null(const PGresult *res, int row, int col)
{
    const char *text = db_str(res, row, col);

    return text ? json_real(strtod(text, NULL)) : json_null();
}

static json_t *stage_json(const PGresult *res, int i)
{
    return json_pack(
        "{s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:{s:I, s:I, s:I, s:I}, s:I,"
        " s:o}",
        "stage", stage_name((int)db_i64(res, i, 0)), "depth", (json_int_t)db_i64(res, i, 1),
        "waiting", int_or_null(res, i, 10), "out", int_or_null(res, i, 11), "users",
        int_or_null(res, i, 12), "ratePerSecond", real_or_null(res, i, 13), "credit",
        int_or_null(res, i, 14), "oldestSeconds", int_or_null(res, i, 2), "paused",
        (int)db_bool(res, i, 3), "pauseHolds", (int)db_bool(res, i, 15), "workers", "live",
        (json_int_t)db_i64(res, i, 4), "slots", (json_int_t)db_i64(res, i, 5), "busy",
        (json_int_t)db_i64(res, i, 6), "breakersOpen", (json_int_t)db_i64(res, i, 7), "deadLetters",
        (json_int_t)db_i64(res, i, 8), "countedAt", sql_json_str(res, i, 9));
}

int stage_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {NULL};

    if (db_run(req->gw->db, stages_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    json_t *items = json_array();
    for (int i = 0; i < PQntuples(res); i++) {
        json_array_append_new(items, stage_json(res, i));
    }
    return list_reply(reply, items, NULL, err);
}

static int set_paused(struct request *req, bool paused, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    enum stage_id stage = stage_parse(req->params[0]);
    struct db_num num;
    const char *params[] = {db_num(&num, (int)stage)};

    if (stage == STAGE_NONE) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such stage");
    }
    if (task_pause(req->gw->db, (int)stage, paused, err) < 0 ||
        db_run(req->gw->db, stages_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    return reply_take_json(reply, 200, stage_json(res, 0), err);
}

int stage_pause(struct request *req, struct reply *reply, struct err *err)
{
    return set_paused(req, true, reply, err);
}

int stage_resume(struct request *req, struct reply *reply, struct err *err)
{
    return set_paused(req, false, reply, err);
}

/* Users -----------------------------------------------------------------------------------------*/

static const char users_sql[] = "SELECT user_id, name, role, weight, " SQL_TIME(
    "created_at") ", disabled_at IS NOT NULL"
                  " FROM account WHERE ($1::uuid IS NULL OR user_id > $1::uuid)"
                  "   AND ($3::uuid IS NULL OR user_id = $3::uuid) ORDER BY user_id LIMIT $2::int";

/* Files of a user by their datasets (there is no index by user), work by its own. */
static const char usage_sql[] =
    "SELECT u.user_id, coalesce(f.files, 0), coalesce(f.bytes, 0), coalesce(f.live, 0),"
    "   coalesce(d.datasets, 0), coalesce(l.letters, 0)"
    " FROM unnest($1::uuid[]) AS u(user_id)"
    " LEFT JOIN LATERAL (SELECT count(*) AS datasets FROM dataset"
    "   WHERE dataset.user_id = u.user_id AND deleted_at IS NULL) d ON true"
    " LEFT JOIN LATERAL (SELECT count(*) AS files, sum(bytes) AS bytes,"
    "   count(*) FILTER (WHERE f.state < 2) AS live FROM dataset JOIN file f USING (dataset_id)"
    "   WHERE dataset.user_id = u.user_id AND f.state < 6) f ON true"
    " LEFT JOIN LATERAL (SELECT count(*) AS letters FROM dead_letter"
    "   WHERE dead_letter.user_id = u.user_id AND dead_letter.state = 'open') l ON true";

static json_t *user_json(const PGresult *res, int i)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:b, s:n}", "id", sql_json_str(res, i, 0), "name",
                     sql_json_str(res, i, 1), "role", sql_json_str(res, i, 2), "weight",
                     real_or_null(res, i, 3), "createdAt", sql_json_str(res, i, 4), "disabled",
                     (int)db_bool(res, i, 5), "usage");
}

/* Never fails: what takes longer than a second stays null. */
static void add_usage(struct request *req, const PGresult *users, int n, json_t *items)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(buf_done) struct buf ids;
    struct err ignored = ERR_INIT;

    buf_init(&ids, 16384);
    for (int i = 0; i < n; i++) {
        if (buf_printf(&ids, &ignored, "%c%s", i ? ',' : '{', PQgetvalue(users, i, 0)) < 0) {
            return;
        }
    }
    if (n == 0 || buf_puts(&ids, "}", &ignored) < 0) {
        return;
    }
    const char *params[] = {ids.data};
    if (db_run(req->gw->search_db, usage_sql, 1, params, &res, &ignored) < 0) {
        return;
    }
    for (int i = 0; i < PQntuples(res) && i < n; i++) {
        json_object_set_new(
            json_array_get(items, (size_t)i), "usage",
            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "files", (json_int_t)db_i64(res, i, 1),
                      "bytes", (json_int_t)db_i64(res, i, 2), "inWork",
                      (json_int_t)db_i64(res, i, 3), "inWorkMax", (json_int_t)PENDING_FILES_MAX,
                      "datasets", (json_int_t)db_i64(res, i, 4), "deadLetters",
                      (json_int_t)db_i64(res, i, 5)));
    }
}

int user_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct list_page page;
    struct db_num limit;
    char *next = NULL;

    if (list_page_read(req, "users", &page, err) < 0) {
        return -1;
    }
    const char *params[] = {page.has_cursor ? page.cursor.id : NULL, db_num(&limit, page.limit + 1),
                            NULL};
    if (db_run(req->gw->db, users_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    int n = PQntuples(res) < page.limit ? PQntuples(res) : (int)page.limit;
    json_t *items = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(items, user_json(res, i));
    }
    add_usage(req, res, n, items);
    if (PQntuples(res) > page.limit) {
        next = cursor_encode("users", PQgetvalue(res, n - 1, 0), "");
    }
    return list_reply(reply, items, next, err);
}

/* A role, or an account that may no longer do anything: whoever is signed in has to do it again. */
static const char patch_sql[] =
    "WITH old AS (SELECT role, disabled_at IS NOT NULL AS disabled FROM account"
    "   WHERE user_id = $1::uuid FOR UPDATE),"
    " done AS (UPDATE account a SET weight = coalesce($2::real, a.weight),"
    "   role = coalesce($3, a.role), disabled_at = CASE WHEN $4::bool"
    "     THEN coalesce(a.disabled_at, now()) WHEN NOT $4::bool THEN NULL ELSE a.disabled_at END"
    "   FROM old WHERE a.user_id = $1::uuid"
    "   RETURNING a.role <> old.role OR (a.disabled_at IS NOT NULL) <> old.disabled AS other),"
    " out AS (UPDATE session SET ended_at = now() FROM done WHERE done.other"
    "   AND session.user_id = $1::uuid AND ended_at IS NULL)"
    "SELECT other FROM done";

static int read_patch(struct request *req, const json_t *body, char weight[32], const char **params,
                      struct err *err)
{
    double value = 0;
    const char *role = NULL;
    bool disabled = false;

    if (jget_opt_str(body, "role", 10, NULL, &role, err) < 0 ||
        jget_opt_bool(body, "disabled", false, &disabled, err) < 0 ||
        read_weight(req, body, 0, &value, err) < 0) {
        return -1;
    }
    if (role && role_parse(role) == ROLE_NONE) {
        return request_invalid(req, "/role", "a role is user, operator or admin", err);
    }
    bool change = json_is_boolean(json_object_get(body, "disabled"));
    if (value == 0 && !role && !change) {
        return request_invalid(req, "", "weight, role or disabled is needed", err);
    }
    if (strcmp(req->params[0], req->who.user_id) == 0 && (role || disabled)) {
        return err_set(err, ERR_PERMANENT, "conflict",
                       "another admin has to change your own role or account");
    }
    snprintf(weight, 32, "%g", value);
    params[0] = req->params[0];
    params[1] = value > 0 ? weight : NULL;
    params[2] = role;
    params[3] = !change ? NULL : disabled ? "true" : "false";
    return 0;
}

/* {weight, role, disabled}, each if it is there; the dispatcher takes a weight up within seconds.
 */
int user_patch(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(db_result_cleanup) PGresult *changed = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *set[4];
    char weight[32];

    if (request_json(req, false, &body, err) < 0 || read_patch(req, body, weight, set, err) < 0 ||
        db_run(req->gw->db, patch_sql, 4, set, &changed, err) < 0) {
        return -1;
    }
    if (PQntuples(changed) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such user");
    }
    auth_cache_drop_user(req->gw->auth, req->params[0]);
    audit_detail(req, "changes",
                 json_pack("{s:s*, s:o*, s:o*}", "role", set[2], "weight",
                           set[1] ? json_real(strtod(set[1], NULL)) : NULL, "disabled",
                           set[3] ? json_boolean(strcmp(set[3], "true") == 0) : NULL));
    const char *one[] = {NULL, "1", req->params[0]};
    if (db_run(req->gw->db, users_sql, 3, one, &res, err) < 0) {
        return -1;
    }
    CLEANUP(json_cleanup) json_t *items = json_pack("[o]", user_json(res, 0));
    add_usage(req, res, 1, items);
    return reply_take_json(reply, 200, json_incref(json_array_get(items, 0)), err);
}
