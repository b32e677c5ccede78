/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators may do: make accounts, look at the stages, look at dead letters and send them
 * back. These statements see all accounts; every change leaves a line in `audit`.
 */
#include "libcommon/notify.h"
#include "libcommon/states.h"
#include "libcommon/task.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/idem.h"
#include "services/ingest-gateway/sql.h"

#include <stdio.h>
#include <string.h>

#define LETTERS_MAX 1000

static const char audit_sql[] = "INSERT INTO audit (user_id, actor, action, target, detail)"
                                " VALUES ($1::uuid, $2, $3, $4, $5::jsonb)";

static int audit(struct request *req, const char *action, const char *target, const json_t *detail,
                 struct err *err)
{
    CLEANUP(free_cleanup) char *text = detail ? json_dumps(detail, JSON_COMPACT) : strdup("{}");
    const char *params[] = {req->who.user_id, req->who.name, action, target, text};

    return text ? db_run(req->gw->db, audit_sql, 5, params, NULL, err) : err_nomem(err);
}

static const char user_sql[] = "INSERT INTO account (user_id, name, role, weight)"
                               " VALUES ($1::uuid, $2, $3, $4::real)";

int user_create(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    const char *name = NULL;
    const char *role = NULL;
    char weight[32];
    char id[UUID_TEXT];

    if (request_json(req, false, &body, err) < 0 || jget_str(body, "name", 100, &name, err) < 0 ||
        jget_opt_str(body, "role", 10, "user", &role, err) < 0) {
        return -1;
    }
    const json_t *w = json_object_get(body, "weight");
    double value = w ? json_number_value(w) : 1.0;
    if (name[0] == '\0' || strpbrk(name, "\r\n\t")) {
        return request_invalid(req, "/name", "a name of 1 to 100 bytes is needed", err);
    }
    if (strcmp(role, "user") != 0 && strcmp(role, "operator") != 0 && strcmp(role, "admin") != 0) {
        return request_invalid(req, "/role", "a role is user, operator or admin", err);
    }
    if (!(value > 0 && value <= 1000)) {
        return request_invalid(req, "/weight", "a weight is above 0 and at most 1000", err);
    }
    snprintf(weight, sizeof(weight), "%g", value);
    uuid_v7(id);
    const char *params[] = {id, name, role, weight};
    if (db_run(req->gw->db, user_sql, 4, params, NULL, err) < 0) {
        return strcmp(err->code, "db_unique") == 0
                   ? err_set(err, ERR_PERMANENT, "name_taken", "there is an account of that name")
                   : -1;
    }
    if (audit(req, "user.create", id, NULL, err) < 0) {
        return -1;
    }
    return reply_take_json(
        reply, 201,
        json_pack("{s:s, s:s, s:s, s:f}", "id", id, "name", name, "role", role, "weight", value),
        err);
}

static const char stages_sql[] =
    "SELECT s.stage, coalesce(b.n, 0), extract(epoch FROM now() - b.oldest_at)::bigint,"
    "   coalesce(c.paused, false), w.n, w.slots, w.busy,"
    "   (SELECT count(*) FROM dead_letter d WHERE d.stage = s.stage AND d.state = 'open')"
    " FROM generate_series(1, 6) AS s(stage)"
    " LEFT JOIN backlog b ON b.stage = s.stage"
    " LEFT JOIN stage_control c ON c.stage = s.stage"
    " LEFT JOIN LATERAL (SELECT count(*) AS n, coalesce(sum(slots), 0) AS slots,"
    "   coalesce(sum(busy), 0) AS busy FROM worker WHERE worker.stage = s.stage"
    "   AND seen > now() - interval '10 seconds') w ON true ORDER BY s.stage";

int stage_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(req->gw->db, stages_sql, 0, NULL, &res, err) < 0) {
        return -1;
    }
    json_t *items = json_array();
    for (int i = 0; i < PQntuples(res); i++) {
        json_array_append_new(
            items,
            json_pack("{s:s, s:I, s:o, s:b, s:{s:I, s:I, s:I}, s:I}", "stage",
                      stage_name((int)db_i64(res, i, 0)), "depth", (json_int_t)db_i64(res, i, 1),
                      "oldestSeconds",
                      db_str(res, i, 2) ? json_integer(db_i64(res, i, 2)) : json_null(), "paused",
                      (int)db_bool(res, i, 3), "workers", "live", (json_int_t)db_i64(res, i, 4),
                      "slots", (json_int_t)db_i64(res, i, 5), "busy", (json_int_t)db_i64(res, i, 6),
                      "deadLetters", (json_int_t)db_i64(res, i, 7)));
    }
    return list_reply(reply, items, NULL, err);
}

/* Which letters: every member may be absent. */
struct letter_filter {
    struct db_num stage;
    const char *stage_text; /* NULL: any */
    const char *reason;
    const char *user_id;
    const char *file_id;
    const char *id;
};

#define LETTER_WHERE                                                                               \
    " WHERE d.state = 'open' AND ($1::smallint IS NULL OR d.stage = $1::smallint)"                 \
    " AND ($2::text IS NULL OR d.reason = $2) AND ($3::uuid IS NULL OR d.user_id = $3::uuid)"      \
    " AND ($4::uuid IS NULL OR d.file_id = $4::uuid) AND ($5::uuid IS NULL OR d.id = $5::uuid)"

static const char letters_sql[] =
    "SELECT d.id, d.file_id, d.user_id, d.stage, d.unit, d.generation, d.reason, d.class,"
    "   d.attempts, d.failures, d.crashes, d.last_error, " SQL_TIME("d.first_at") ", " SQL_TIME(
        "d.last_at") ", d.child, d.state FROM dead_letter d" LETTER_WHERE
                     " AND ($6::uuid IS NULL OR d.id < $6::uuid) ORDER BY d.id DESC LIMIT $7::int";

static const char letter_units_sql[] =
    "SELECT d.file_id, d.user_id, d.stage, count(*) FROM dead_letter d JOIN file f USING "
    "(file_id)" LETTER_WHERE " AND f.state < 6 GROUP BY 1, 2, 3 ORDER BY 1, 3 LIMIT 1000";

static const char discard_sql[] =
    "UPDATE dead_letter SET state = 'discarded', actor = $6, closed_at = now() WHERE id IN"
    " (SELECT d.id FROM dead_letter d" LETTER_WHERE
    " ORDER BY d.id LIMIT 10000) AND state = 'open'";

static const char letters_count_sql[] = "SELECT count(*) FROM dead_letter d" LETTER_WHERE;

static int set_filter(struct request *req, struct letter_filter *f, const char *name,
                      const char *value, struct err *err)
{
    if (!value) {
        return 0;
    }
    if (strcmp(name, "stage") == 0) {
        int stage = (int)stage_parse(value);
        if (stage == STAGE_NONE) {
            return request_invalid(req, "/filter/stage", "no such stage", err);
        }
        f->stage_text = db_num(&f->stage, stage);
        return 0;
    }
    if (strcmp(name, "reason") == 0) {
        f->reason = value;
        return 0;
    }
    if (!uuid_text_valid(value)) {
        return request_invalid(req, "/filter", "an id is not one", err);
    }
    if (strcmp(name, "userId") == 0) {
        f->user_id = value;
    } else if (strcmp(name, "fileId") == 0) {
        f->file_id = value;
    } else {
        f->id = value;
    }
    return 0;
}

static const char *const filter_names[] = {"stage", "reason", "userId", "fileId", "id"};

int dead_letter_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct letter_filter f = {0};
    struct list_page page;
    struct db_num limit;
    char *next = NULL;

    if (list_page_read(req, "letters", &page, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(filter_names); i++) {
        if (set_filter(req, &f, filter_names[i], uri_arg(&req->uri, filter_names[i]), err) < 0) {
            return -1;
        }
    }
    const char *params[] = {f.stage_text,
                            f.reason,
                            f.user_id,
                            f.file_id,
                            f.id,
                            page.has_cursor ? page.cursor.id : NULL,
                            db_num(&limit, page.limit + 1)};
    if (db_run(req->gw->db, letters_sql, 7, params, &res, err) < 0) {
        return -1;
    }
    json_t *items = json_array();
    for (int i = 0; i < PQntuples(res) && i < page.limit; i++) {
        json_array_append_new(
            items,
            json_pack("{s:o,s:o,s:o,s:s?,s:I,s:I,s:o,s:o,s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:o}", "id",
                      sql_json_str(res, i, 0), "fileId", sql_json_str(res, i, 1), "userId",
                      sql_json_str(res, i, 2), "stage", stage_name((int)db_i64(res, i, 3)), "unit",
                      (json_int_t)db_i64(res, i, 4), "generation", (json_int_t)db_i64(res, i, 5),
                      "reason", sql_json_str(res, i, 6), "class", sql_json_str(res, i, 7),
                      "attempts", (json_int_t)db_i64(res, i, 8), "failures",
                      (json_int_t)db_i64(res, i, 9), "crashes", (json_int_t)db_i64(res, i, 10),
                      "lastError", sql_json_str(res, i, 11), "firstAt", sql_json_str(res, i, 12),
                      "lastAt", sql_json_str(res, i, 13), "child", sql_json_doc(res, i, 14),
                      "state", sql_json_str(res, i, 15)));
    }
    if (PQntuples(res) > page.limit) {
        next = cursor_encode("letters", db_str(res, (int)page.limit - 1, 0), "");
    }
    return list_reply(reply, items, next, err);
}

/* {filter:{...}, dryRun}; a filter has to be there, so that nobody replays all by mistake. */
static int read_filter(struct request *req, const json_t *body, struct letter_filter *ret_filter,
                       bool *ret_dry, struct err *err)
{
    json_t *filter = json_object_get(body, "filter");
    const char *key;
    json_t *value;

    if (!json_is_object(filter)) {
        return request_invalid(req, "/filter", "a filter is needed; {} means all", err);
    }
    json_object_foreach(filter, key, value)
    {
        size_t i = 0;
        while (i < ARRAY_LEN(filter_names) && strcmp(filter_names[i], key) != 0) {
            i++;
        }
        if (i == ARRAY_LEN(filter_names) || !json_is_string(value)) {
            return request_invalid(req, "/filter", "unknown member", err);
        }
        if (set_filter(req, ret_filter, key, json_string_value(value), err) < 0) {
            return -1;
        }
    }
    return jget_opt_bool(body, "dryRun", false, ret_dry, err);
}

static int count_letters(struct request *req, const char *const *params, int64_t *ret_n,
                         struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(req->gw->db, letters_count_sql, 5, params, &res, err) < 0) {
        return -1;
    }
    *ret_n = db_i64(res, 0, 0);
    return 0;
}

int dead_letter_replay(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct letter_filter f = {0};
    int64_t matched = 0;
    int64_t replayed = 0;
    bool dry = false;

    if (request_json(req, false, &body, err) < 0 || read_filter(req, body, &f, &dry, err) < 0) {
        return -1;
    }
    const char *params[] = {f.stage_text, f.reason, f.user_id, f.file_id, f.id};
    if (count_letters(req, params, &matched, err) < 0) {
        return -1;
    }
    if (!dry) {
        if (db_run(req->gw->db, letter_units_sql, 5, params, &res, err) < 0) {
            return -1;
        }
        for (int i = 0; i < PQntuples(res); i++) {
            int64_t n = 0;
            int stage = (int)db_i64(res, i, 2);
            if (task_retry(req->gw->db, NULL, db_str(res, i, 0), stage, req->who.name, &n, err) <
                0) {
                return -1;
            }
            replayed += n;
            notify_stage(req->gw->notifier, stage, db_str(res, i, 1));
        }
        if (audit(req, "dead_letter.replay", NULL, body, err) < 0) {
            return -1;
        }
    }
    return reply_take_json(reply, 202,
                           json_pack("{s:I, s:I, s:b}", "matched", (json_int_t)matched, "replayed",
                                     (json_int_t)replayed, "dryRun", (int)dry),
                           err);
}

int dead_letter_discard(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    struct letter_filter f = {0};
    int64_t matched = 0;
    bool dry = false;

    if (request_json(req, false, &body, err) < 0 || read_filter(req, body, &f, &dry, err) < 0) {
        return -1;
    }
    const char *params[] = {f.stage_text, f.reason, f.user_id, f.file_id, f.id, req->who.name};
    if (count_letters(req, params, &matched, err) < 0 ||
        (!dry && (db_run(req->gw->db, discard_sql, 6, params, NULL, err) < 0 ||
                  audit(req, "dead_letter.discard", NULL, body, err) < 0))) {
        return -1;
    }
    return reply_take_json(reply, 202,
                           json_pack("{s:I, s:I, s:b}", "matched", (json_int_t)matched, "discarded",
                                     (json_int_t)(dry ? 0 : matched), "dryRun", (int)dry),
                           err);
}
