/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dead letters over the API: operators see all with their evidence, send back and close; users see
 * what failed of their own files, without the fleet's inside. What a letter is: deadletter.h.
 */
#include "libcommon/deadletter.h"
#include "libcommon/names.h"
#include "libcommon/reason.h"
#include "libcommon/states.h"
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/sql.h"

#include <string.h>

#define EXAMPLES 5
#define TEXT_MAX 100U

enum member {
    M_STAGE,
    M_REASON,
    M_CLASS,
    M_VERSION,
    M_USER,
    M_DATASET,
    M_FILE,
    M_ID,
    M_SINCE,
    M_UNTIL,
    M_STATE,
    M_COUNT
};
static const char *const members[M_COUNT] = {"stage",  "reason",    "class",  "version",
                                             "userId", "datasetId", "fileId", "id",
                                             "since",  "until",     "state"};

static bool one_of(const char *value, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(value, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* value is borrowed. */
static int set_member(struct request *req, struct deadletter_filter *f, enum member m,
                      const char *value, struct err *err)
{
    static const char *const states[] = {"open", "replayed", "discarded", "any"};
    static const char *const classes[] = {"transient", "permanent", "unknown", "fatal"};
    const char **const texts[M_COUNT] = {
        [M_REASON] = &f->reason, [M_CLASS] = &f->class,        [M_VERSION] = &f->version,
        [M_USER] = &f->user_id,  [M_DATASET] = &f->dataset_id, [M_FILE] = &f->file_id,
        [M_ID] = &f->id,         [M_SINCE] = &f->since,        [M_UNTIL] = &f->until,
        [M_STATE] = &f->state};
    bool ok = true;

    if (m == M_STAGE) {
        f->stage = (int)stage_parse(value);
        return f->stage == STAGE_NONE ? request_invalid(req, "/filter/stage", "no such stage", err)
                                      : 0;
    }
    switch (m) {
    case M_USER:
    case M_DATASET:
    case M_FILE:
    case M_ID:
        ok = uuid_text_valid(value);
        break;
    case M_SINCE:
    case M_UNTIL:
        ok = time_text_valid(value);
        break;
    case M_STATE:
        ok = one_of(value, states, ARRAY_LEN(states));
        break;
    case M_CLASS:
        ok = one_of(value, classes, ARRAY_LEN(classes));
        break;
    default:
        ok = name_chars(value) <= TEXT_MAX;
        break;
    }
    if (!ok) {
        char pointer[32] = "/filter/";
        strncat(pointer, members[m], sizeof(pointer) - strlen(pointer) - 1);
        return request_invalid(req, pointer, "not a value this can have", err);
    }
    *texts[m] = value;
    return 0;
}

/* From the address. */
static int read_args(struct request *req, struct deadletter_filter *f, struct err *err)
{
    for (size_t i = 0; i < M_COUNT; i++) {
        const char *value = uri_arg(&req->uri, members[i]);
        if (value && set_member(req, f, (enum member)i, value, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A date such as February 30 passes the form and is refused by Postgres. */
static int refused_time(struct request *req, const struct deadletter_filter *f, struct err *err)
{
    if ((f->since || f->until) && strcmp(err->code, "db_constraint") == 0) {
        return request_invalid(req, "/filter/since", "no such time", err);
    }
    return -1;
}

static json_t *evidence_json(const struct deadletter *d)
{
    return json_pack("{s:{s:s?, s:s?, s:o, s:s?, s:I}, s:s?, s:s?, s:s?}", "input", "key",
                     d->input_key, "etag", d->input_etag, "bytes",
                     d->input_bytes ? json_integer(strtoll(d->input_bytes, NULL, 10)) : json_null(),
                     "kind", d->input_kind, "version", (json_int_t)d->version, "worker", d->worker,
                     "codeVersion", d->code_version, "trace", d->trace);
}

/* What the owner of the file may know; the rest is added for operators. */
static json_t *letter_json(const struct deadletter *d, bool operator)
{
    const struct reason *why = reason_find(d->reason);
    const char *words = operator? d->last_error : reason_said(d->reason, d->last_error);
    json_t *doc = json_pack(
        "{s:s?, s:s?, s:s?, s:s?, s:s?, s:I, s:I, s:s?, s:s, s:s, s:s?, s:I, s:I, s:I, s:I, s:s?,"
        " s:s?, s:s?, s:s?, s:b}",
        "id", d->id, "fileId", d->file_id, "fileName", d->file_name, "datasetId", d->dataset_id,
        "stage", stage_name(d->stage), "unit", (json_int_t)d->unit, "generation",
        (json_int_t)d->generation, "reason", d->reason, "explanation", why->text, "advice",
        why->advice, "class", d->class, "attempts", (json_int_t)d->attempts, "failures",
        (json_int_t)d->failures, "crashes", (json_int_t)d->crashes, "outageRetries",
        (json_int_t)d->outage_retries, "lastError", words, "firstAt", d->first_at, "lastAt",
        d->last_at, "state", d->state, "replayable", (int)d->replayable);

    if (doc && operator) {
        json_t *child = d->child ? json_loads(d->child, JSON_DECODE_ANY, NULL) : NULL;
        CLEANUP(json_cleanup)
        json_t *more =
            json_pack("{s:s?, s:o, s:s?, s:s?, s:s?, s:o}", "userId", d->user_id, "child",
                      child ? child : json_null(), "replayOf", d->replay_of, "actor", d->actor,
                      "closedAt", d->closed_at, "evidence", evidence_json(d));
        json_object_update(doc, more);
    }
    return doc;
}

static int reply_letters(struct request *req, const struct deadletter_filter *f, bool operator,
                         struct reply * reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct list_page page;
    char *next = NULL;

    if (list_page_read(req, "letters", &page, err) < 0) {
        return -1;
    }
    if (deadletter_list(req->gw->db, f, page.has_cursor ? page.cursor.id : NULL, page.limit + 1,
                        &res, err) < 0) {
        return refused_time(req, f, err);
    }
    json_t *items = json_array();
    for (int i = 0; i < PQntuples(res) && i < page.limit; i++) {
        struct deadletter letter = deadletter_at(res, i);
        json_array_append_new(items, letter_json(&letter, operator));
    }
    if (PQntuples(res) > page.limit) {
        next = cursor_encode("letters", deadletter_at(res, (int)page.limit - 1).id, "");
    }
    return list_reply(reply, items, next, err);
}

int dead_letter_list(struct request *req, struct reply *reply, struct err *err)
{
    struct deadletter_filter f = {0};

    return read_args(req, &f, err) < 0 ? -1 : reply_letters(req, &f, true, reply, err);
}

int failure_list(struct request *req, struct reply *reply, struct err *err)
{
    struct deadletter_filter f = {0};

    if (read_args(req, &f, err) < 0) {
        return -1;
    }
    f.user_id = req->who.user_id;
    return reply_letters(req, &f, false, reply, err);
}

int dead_letter_get(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct deadletter_filter f = {.id = req->params[0], .state = "any"};

    if (deadletter_list(req->gw->db, &f, NULL, 1, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such letter");
    }
    struct deadletter letter = deadletter_at(res, 0);
    return reply_take_json(reply, 200, letter_json(&letter, true), err);
}

static int groups_json(struct request *req, const struct deadletter_filter *f, json_t **ret_groups,
                       struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (deadletter_groups(req->gw->db, f, &res, err) < 0) {
        return refused_time(req, f, err);
    }
    json_t *groups = json_array();
    for (int i = 0; i < PQntuples(res); i++) {
        const struct reason *why = reason_find(db_str(res, i, 1));
        json_array_append_new(groups, json_pack("{s:s?, s:s, s:s, s:s, s:s, s:I, s:I}", "stage",
                                                stage_name((int)db_i64(res, i, 0)), "reason",
                                                db_str(res, i, 1), "class", db_str(res, i, 2),
                                                "explanation", why->text, "advice", why->advice,
                                                "letters", (json_int_t)db_i64(res, i, 3),
                                                "replayable", (json_int_t)db_i64(res, i, 4)));
    }
    *ret_groups = groups;
    return 0;
}

int dead_letter_groups(struct request *req, struct reply *reply, struct err *err)
{
    struct deadletter_filter f = {0};
    json_t *groups = NULL;

    if (read_args(req, &f, err) < 0 || groups_json(req, &f, &groups, err) < 0) {
        return -1;
    }
    return list_reply(reply, groups, NULL, err);
}

/* {filter:{...}, dryRun, limit}; a filter has to be there, so that nobody replays all by mistake.
 */
struct change {
    struct deadletter_filter filter;
    bool dry;
    int64_t limit;
};

static int read_change(struct request *req, const json_t *body, struct change *ret_change,
                       struct err *err)
{
    struct change change = {0};
    json_t *filter = json_object_get(body, "filter");
    const char *key;
    json_t *value;

    if (!json_is_object(filter)) {
        return request_invalid(req, "/filter", "a filter is needed; {} means all", err);
    }
    json_object_foreach(filter, key, value)
    {
        size_t i = 0;
        while (i < M_COUNT && strcmp(members[i], key) != 0) {
            i++;
        }
        /* What is closed stays closed: a change never takes a state. */
        if (i == M_COUNT || i == M_STATE || !json_is_string(value)) {
            return request_invalid(req, "/filter", "unknown member", err);
        }
        if (set_member(req, &change.filter, (enum member)i, json_string_value(value), err) < 0) {
            return -1;
        }
    }
    if (jget_opt_bool(body, "dryRun", false, &change.dry, err) < 0 ||
        jget_opt_int(body, "limit", 1, DEADLETTER_CHANGE_MAX, DEADLETTER_CHANGE_DEFAULT,
                     &change.limit, err) < 0) {
        return -1;
    }
    *ret_change = change;
    return 0;
}

/* What a dry run shows: how many of what, and a few of them. */
static int add_examples(struct request *req, const struct change *change, json_t *doc,
                        struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    json_t *groups = NULL;

    if (groups_json(req, &change->filter, &groups, err) < 0) {
        return -1;
    }
    json_object_set_new(doc, "groups", groups);
    if (deadletter_list(req->gw->db, &change->filter, NULL, EXAMPLES, &res, err) < 0) {
        return -1;
    }
    json_t *examples = json_array();
    for (int i = 0; i < PQntuples(res); i++) {
        struct deadletter letter = deadletter_at(res, i);
        json_array_append_new(examples, letter_json(&letter, true));
    }
    return json_object_set_new(doc, "examples", examples) < 0 ? err_nomem(err) : 0;
}

static int change_letters(struct request *req, bool replay, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(json_cleanup) json_t *doc = NULL;
    struct deadletter_count count = {0};
    struct change c = {0};

    if (request_json(req, false, &body, err) < 0 || read_change(req, body, &c, err) < 0) {
        return -1;
    }
    int rc = replay ? deadletter_replay(req->gw->db, req->gw->notifier, &c.filter, req->who.name,
                                        c.limit, c.dry, &count, err)
                    : deadletter_discard(req->gw->db, &c.filter, req->who.name, c.limit, c.dry,
                                         &count, err);
    if (rc < 0) {
        return refused_time(req, &c.filter, err);
    }
    doc = json_pack("{s:I, s:I, s:I, s:b, s:b}", "matched", (json_int_t)count.matched, "replayable",
                    (json_int_t)count.replayable, replay ? "replayed" : "discarded",
                    (json_int_t)count.changed, "more", (int)count.more, "dryRun", (int)c.dry);
    if (!doc) {
        return err_nomem(err);
    }
    if (c.dry && add_examples(req, &c, doc, err) < 0) {
        return -1;
    }
    req->audit.skip = c.dry;
    audit_detail(req, "request", json_incref(body));
    audit_detail(req, "changed", json_integer((json_int_t)count.changed));
    return reply_take_json(reply, 202, STEAL(doc), err);
}

int dead_letter_replay(struct request *req, struct reply *reply, struct err *err)
{
    return change_letters(req, true, reply, err);
}

int dead_letter_discard(struct request *req, struct reply *reply, struct err *err)
{
    return change_letters(req, false, reply, err);
}
