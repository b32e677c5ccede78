/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators may do: make accounts, look at the stages, look at dead letters and send them
 * back. These statements see all accounts; every change leaves a line in `audit`.
 */
#include "libcommon/deadletter.h"
#include "libcommon/states.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/idem.h"
#include "services/ingest-gateway/sql.h"

#include <stdio.h>
#include <string.h>

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
    "   (SELECT count(*) FROM dead_letter d WHERE d.stage = s.stage AND d.state = 'open'),"
    "   " SQL_TIME(
        "b.updated_at") " FROM generate_series(1, 6) AS s(stage)"
                        " LEFT JOIN backlog b ON b.stage = s.stage"
                        " LEFT JOIN stage_control c ON c.stage = s.stage"
                        " LEFT JOIN LATERAL (SELECT count(*) AS n, coalesce(sum(slots), 0) AS "
                        "slots,"
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
            items, json_pack("{s:s, s:I, s:o, s:b, s:{s:I, s:I, s:I}, s:I, s:o}", "stage",
                             stage_name((int)db_i64(res, i, 0)), "depth",
                             (json_int_t)db_i64(res, i, 1), "oldestSeconds",
                             db_str(res, i, 2) ? json_integer(db_i64(res, i, 2)) : json_null(),
                             "paused", (int)db_bool(res, i, 3), "workers", "live",
                             (json_int_t)db_i64(res, i, 4), "slots", (json_int_t)db_i64(res, i, 5),
                             "busy", (json_int_t)db_i64(res, i, 6), "deadLetters",
                             (json_int_t)db_i64(res, i, 7), "countedAt", sql_json_str(res, i, 8)));
    }
    return list_reply(reply, items, NULL, err);
}

static int set_filter(struct request *req, struct deadletter_filter *f, const char *name,
                      const char *value, struct err *err)
{
    if (!value) {
        return 0;
    }
    if (strcmp(name, "stage") == 0) {
        f->stage = (int)stage_parse(value);
        return f->stage == STAGE_NONE ? request_invalid(req, "/filter/stage", "no such stage", err)
                                      : 0;
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

static json_t *letter_json(const struct deadletter *d)
{
    json_t *child = d->child ? json_loads(d->child, JSON_DECODE_ANY, NULL) : NULL;

    return json_pack("{s:s?,s:s?,s:s?,s:s?,s:I,s:I,s:s?,s:s?,s:I,s:I,s:I,s:s?,s:s?,s:s?,s:o,s:s,"
                     "s:b}",
                     "id", d->id, "fileId", d->file_id, "userId", d->user_id, "stage",
                     stage_name(d->stage), "unit", (json_int_t)d->unit, "generation",
                     (json_int_t)d->generation, "reason", d->reason, "class", d->class, "attempts",
                     (json_int_t)d->attempts, "failures", (json_int_t)d->failures, "crashes",
                     (json_int_t)d->crashes, "lastError", d->last_error, "firstAt", d->first_at,
                     "lastAt", d->last_at, "child", child ? child : json_null(), "state", "open",
                     "replayable", (int)d->replayable);
}

int dead_letter_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct deadletter_filter f = {0};
    struct list_page page;
    char *next = NULL;

    if (list_page_read(req, "letters", &page, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(filter_names); i++) {
        if (set_filter(req, &f, filter_names[i], uri_arg(&req->uri, filter_names[i]), err) < 0) {
            return -1;
        }
    }
    if (deadletter_list(req->gw->db, &f, page.has_cursor ? page.cursor.id : NULL, page.limit + 1,
                        &res, err) < 0) {
        return -1;
    }
    json_t *items = json_array();
    for (int i = 0; i < PQntuples(res) && i < page.limit; i++) {
        struct deadletter letter = deadletter_at(res, i);
        json_array_append_new(items, letter_json(&letter));
    }
    if (PQntuples(res) > page.limit) {
        next = cursor_encode("letters", deadletter_at(res, (int)page.limit - 1).id, "");
    }
    return list_reply(reply, items, next, err);
}

/* {filter:{...}, dryRun}; a filter has to be there, so that nobody replays all by mistake. */
static int read_filter(struct request *req, const json_t *body,
                       struct deadletter_filter *ret_filter, bool *ret_dry, struct err *err)
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

static int reply_count(struct reply *reply, const char *verb, const struct deadletter_count *count,
                       bool dry, struct err *err)
{
    return reply_take_json(
        reply, 202,
        json_pack("{s:I, s:I, s:I, s:b, s:b}", "matched", (json_int_t)count->matched, "replayable",
                  (json_int_t)count->replayable, verb, (json_int_t)count->changed, "more",
                  (int)count->more, "dryRun", (int)dry),
        err);
}

int dead_letter_replay(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    struct deadletter_filter f = {0};
    struct deadletter_count count;
    bool dry = false;

    if (request_json(req, false, &body, err) < 0 || read_filter(req, body, &f, &dry, err) < 0 ||
        deadletter_replay(req->gw->db, req->gw->notifier, &f, req->who.name, dry, &count, err) <
            0 ||
        (!dry && audit(req, "dead_letter.replay", NULL, body, err) < 0)) {
        return -1;
    }
    return reply_count(reply, "replayed", &count, dry, err);
}

int dead_letter_discard(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    struct deadletter_filter f = {0};
    struct deadletter_count count;
    bool dry = false;

    if (request_json(req, false, &body, err) < 0 || read_filter(req, body, &f, &dry, err) < 0 ||
        deadletter_discard(req->gw->db, &f, req->who.name, dry, &count, err) < 0 ||
        (!dry && audit(req, "dead_letter.discard", NULL, body, err) < 0)) {
        return -1;
    }
    return reply_count(reply, "discarded", &count, dry, err);
}
