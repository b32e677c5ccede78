/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Imports: what is read from where, into which dataset, and when. The importer does the work; here
 * is only what it is told. No key of a store passes through here: a source is a name.
 */
#include "services/ingest-gateway/imports.h"

#include "libcommon/import.h"
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/idem.h"
#include "services/ingest-gateway/sql.h"

#include <stdio.h>
#include <string.h>

#define NAME_MAX_BYTES 200U
#define ZONE_MAX 64U

#define IMPORT_COLUMNS                                                                                    \
    "i.import_id, i.name, i.dataset_id, i.source, i.prefix, i.cron, i.time_zone, i.enabled,"              \
    " i.on_vanished, i.max_failed_percent, i.max_unfetched, i.keep_versions, i.health, " SQL_TIME(        \
        "i.next_at") ", " SQL_TIME("i.last_success_at") ", p.run_id, p.no, " SQL_TIME("i.created_"        \
                                                                                      "at") ","           \
                                                                                            " " SQL_TIME( \
                                                                                                "i.updated_at")
#define IMPORT_FROM                                                                                \
    " FROM import_source i LEFT JOIN import_run p ON p.run_id = i.published_run"                   \
    " WHERE i.deleted_at IS NULL AND ($1::uuid IS NULL OR i.user_id = $1::uuid)"

static const char get_sql[] = "SELECT " IMPORT_COLUMNS IMPORT_FROM " AND i.import_id = $2::uuid";

static const char list_sql[] =
    "SELECT " IMPORT_COLUMNS IMPORT_FROM " AND ($2::uuid IS NULL OR i.import_id < $2::uuid)"
    " ORDER BY i.import_id DESC LIMIT $3::int";

/* The shadow is deleted from its beginning: nothing that looks at datasets shows it. */
static const char insert_sql[] =
    "WITH d AS (SELECT dataset_id, user_id, name, schema_version, options FROM dataset"
    "    WHERE dataset_id = $2::uuid AND deleted_at IS NULL),"
    " s AS (INSERT INTO dataset (dataset_id, user_id, name, schema_version, options, deleted_at)"
    "    SELECT $3::uuid, user_id, 'import of ' || name, schema_version, options, now() FROM d),"
    " v AS (INSERT INTO schema_version (dataset_id, version, columns)"
    "    SELECT $3::uuid, v.version, v.columns FROM schema_version v JOIN d USING (dataset_id))"
    " INSERT INTO import_source (import_id, user_id, dataset_id, shadow_id, name, source, prefix,"
    "   cron, time_zone, enabled, on_vanished, max_failed_percent, max_unfetched, keep_versions,"
    "   next_at, created_by)"
    " SELECT $1::uuid, d.user_id, d.dataset_id, $3::uuid, $4, $5, $6, $7, $8, $9::boolean, $10,"
    "   $11::real, $12::int, $13::int, $14::timestamptz, $15 FROM d RETURNING 1";

static const char update_sql[] =
    "UPDATE import_source SET name = $2, source = $3, prefix = $4, cron = $5, time_zone = $6,"
    "   enabled = $7::boolean, on_vanished = $8, max_failed_percent = $9::real,"
    "   max_unfetched = $10::int, keep_versions = $11::int, next_at = $12::timestamptz,"
    "   updated_at = now() WHERE import_id = $1::uuid";

const char *import_viewer(const struct request *req)
{
    if (!(req->who.scopes & SCOPE_OPERATE)) {
        return req->who.user_id;
    }
    db_view_take(DB_VIEW_ALL, req->who.user_id);
    return NULL;
}

static json_t *import_json(const PGresult *res, int row)
{
    json_t *schedule = PQgetisnull(res, row, 5)
                           ? json_null()
                           : json_pack("{s:s, s:s}", "cron", PQgetvalue(res, row, 5), "timeZone",
                                       PQgetvalue(res, row, 6));
    json_t *published = PQgetisnull(res, row, 15)
                            ? json_null()
                            : json_pack("{s:s, s:I}", "runId", PQgetvalue(res, row, 15), "no",
                                        (json_int_t)db_i64(res, row, 16));

    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:f, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}",
        "id", sql_json_str(res, row, 0), "name", sql_json_str(res, row, 1), "datasetId",
        sql_json_str(res, row, 2), "source", sql_json_str(res, row, 3), "prefix",
        sql_json_str(res, row, 4), "schedule", schedule, "enabled", (int)db_bool(res, row, 7),
        "onVanished", sql_json_str(res, row, 8), "maxFailedPercent",
        strtod(PQgetvalue(res, row, 9), NULL), "maxUnfetched", (json_int_t)db_i64(res, row, 10),
        "keepVersions", (json_int_t)db_i64(res, row, 11), "health", sql_json_str(res, row, 12),
        "nextAt", sql_json_str(res, row, 13), "lastSuccessAt", sql_json_str(res, row, 14),
        "published", published, "createdAt", sql_json_str(res, row, 17), "updatedAt",
        sql_json_str(res, row, 18));
}

static int not_found(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "not_found", "no such import");
}

int import_reply(struct request *req, struct db_conn *conn, const char *import_id, unsigned status,
                 struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {import_viewer(req), import_id};

    if (db_query(conn, get_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    return PQntuples(res) == 0 ? not_found(err)
                               : reply_take_json(reply, status, import_json(res, 0), err);
}

/* Reading
 * ----------------------------------------------------------------------------------------*/

struct settings {
    const char *name, *source, *prefix, *cron, *time_zone, *on_vanished;
    bool enabled;
    double max_failed_percent;
    int64_t max_unfetched, keep_versions;
    char next_at[IMPORT_TIME];
    char percent[32];
    struct db_num unfetched, keep;
};

/* Where the fleet itself keeps its objects: what others have uploaded. */
static bool is_private(const char *prefix)
{
    static const char *const own[] = {"uploads/", "artifacts/", "chunks/"};

    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        size_t n = min_size(strlen(own[i]), strlen(prefix));
        if (strncmp(own[i], prefix, n) == 0) {
            return true;
        }
    }
    return false;
}

static int read_place(struct request *req, const json_t *body, struct settings *s, struct err *err)
{
    if (jget_opt_str(body, "source", 63, s->source, &s->source, err) < 0 ||
        jget_opt_str(body, "prefix", 900, s->prefix, &s->prefix, err) < 0) {
        return -1;
    }
    if (json_is_null(json_object_get(body, "source"))) {
        s->source = NULL;
    }
    if (s->source &&
        (s->source[0] == '\0' || strspn(s->source, "abcdefghijklmnopqrstuvwxyz"
                                                   "0123456789-_.") != strlen(s->source))) {
        return request_invalid(req, "/source", "a source's name is of a-z, 0-9, dash and dot", err);
    }
    if (!s->prefix || !text_plain(s->prefix)) {
        return request_invalid(req, "/prefix", "a prefix of the source's keys is needed", err);
    }
    if (!s->source && is_private(s->prefix)) {
        return request_invalid(req, "/prefix",
                               "in the fleet's own store a prefix may not touch uploads/,"
                               " artifacts/ or chunks/",
                               err);
    }
    return 0;
}

static int read_schedule(struct request *req, const json_t *body, struct settings *s,
                         struct err *err)
{
    const json_t *schedule = json_object_get(body, "schedule");

    if (!schedule) {
        return 0;
    }
    if (json_is_null(schedule)) {
        s->cron = NULL;
        return 0;
    }
    if (!json_is_object(schedule)) {
        return request_invalid(req, "/schedule", "a schedule is an object or null", err);
    }
    return jget_str(schedule, "cron", 100, &s->cron, err) < 0 ||
                   jget_opt_str(schedule, "timeZone", ZONE_MAX, "UTC", &s->time_zone, err) < 0
               ? -1
               : 0;
}

static int read_limits(struct request *req, const json_t *body, struct settings *s, struct err *err)
{
    const json_t *percent = json_object_get(body, "maxFailedPercent");

    if (jget_opt_str(body, "onVanished", 6, s->on_vanished, &s->on_vanished, err) < 0 ||
        jget_opt_int(body, "maxUnfetched", 0, 10000000, s->max_unfetched, &s->max_unfetched, err) <
            0 ||
        jget_opt_int(body, "keepVersions", 1, 100, s->keep_versions, &s->keep_versions, err) < 0 ||
        jget_opt_bool(body, "enabled", s->enabled, &s->enabled, err) < 0) {
        return -1;
    }
    if (strcmp(s->on_vanished, "keep") != 0 && strcmp(s->on_vanished, "remove") != 0) {
        return request_invalid(req, "/onVanished", "keep or remove", err);
    }
    if (percent && !json_is_null(percent)) {
        s->max_failed_percent = json_is_number(percent) ? json_number_value(percent) : -1;
        if (!(s->max_failed_percent >= 0 && s->max_failed_percent <= 100)) {
            return request_invalid(req, "/maxFailedPercent", "a number from 0 to 100", err);
        }
    }
    return 0;
}

/* What the body says over what is there (or the defaults), and the next time of the schedule. */
static int read_settings(struct request *req, struct db_conn *conn, const json_t *body,
                         struct settings *s, struct err *err)
{
    if (jget_opt_str(body, "name", NAME_MAX_BYTES, s->name, &s->name, err) < 0) {
        return -1;
    }
    if (!s->name || strspn(s->name, " ") == strlen(s->name) || !text_plain(s->name)) {
        return request_invalid(req, "/name", "a name of 1 to 200 bytes is needed", err);
    }
    if (read_place(req, body, s, err) < 0 || read_schedule(req, body, s, err) < 0 ||
        read_limits(req, body, s, err) < 0) {
        return -1;
    }
    /* Digits, no exponent: what is too small for the column is nothing. */
    snprintf(s->percent, sizeof(s->percent), "%.6f", s->max_failed_percent);
    if (s->cron && import_next_at(conn, s->cron, s->time_zone, NULL, s->next_at, err) < 0) {
        return strcmp(err->code, "invalid_value") == 0
                   ? request_invalid(req, "/schedule", err->msg, err)
                   : -1;
    }
    return 0;
}

/* Handlers
 * ---------------------------------------------------------------------------------------*/

static int insert_import(struct request *req, struct db_conn *conn, const json_t *body,
                         const char *import_id, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct settings s = {.time_zone = "UTC",
                         .on_vanished = "keep",
                         .enabled = true,
                         .max_failed_percent = 5,
                         .keep_versions = 5};
    const char *dataset;
    char shadow[UUID_TEXT];

    if (read_settings(req, conn, body, &s, err) < 0 ||
        jget_str(body, "datasetId", 36, &dataset, err) < 0) {
        return -1;
    }
    if (!uuid_text_valid(dataset)) {
        return request_invalid(req, "/datasetId", "not a dataset's id", err);
    }
    uuid_v7(shadow);
    const char *params[] = {import_id,
                            dataset,
                            shadow,
                            s.name,
                            s.source,
                            s.prefix,
                            s.cron,
                            s.time_zone,
                            s.enabled ? "t" : "f",
                            s.on_vanished,
                            s.percent,
                            db_num(&s.unfetched, s.max_unfetched),
                            db_num(&s.keep, s.keep_versions),
                            s.cron ? s.next_at : NULL,
                            req->who.name};
    if (db_query(conn, insert_sql, 15, params, &res, err) < 0) {
        return -1;
    }
    return PQntuples(res) > 0 ? 0 : err_set(err, ERR_PERMANENT, "not_found", "no such dataset");
}

int import_create(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(idem_done) struct idem idem = {0};
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    char id[UUID_TEXT];
    char location[80];

    if (request_json(req, false, &body, err) < 0 || idem_find(req, &idem, err) < 0 ||
        idem_hash_request(req, &idem, err) < 0) {
        return -1;
    }
    int rc = idem_replay(&idem, reply, err);
    if (rc != 0) {
        return rc > 0 ? 0 : -1;
    }
    uuid_v7(id);
    if (db_acquire(req->gw->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        insert_import(req, conn, body, id, err) < 0 ||
        import_reply(req, conn, id, 201, reply, err) < 0 ||
        idem_store(conn, req, &idem, reply, err) < 0 || db_commit(conn, err) < 0) {
        return -1;
    }
    audit_target(req, id);
    audit_detail(req, "settings", json_incref(body));
    snprintf(location, sizeof(location), "/api/v1/imports/%s", id);
    return reply_header(reply, "Location", location, err);
}

int import_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct list_page page;
    struct db_num limit;

    if (list_page_read(req, "imports", &page, err) < 0) {
        return -1;
    }
    const char *params[] = {import_viewer(req), page.has_cursor ? page.cursor.id : NULL,
                            db_num(&limit, page.limit + 1)};
    if (db_run(req->gw->db, list_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    return list_reply_rows(reply, &page, "imports", res, import_json, err);
}

int import_get(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;

    return db_acquire(req->gw->db, &conn, err) < 0
               ? -1
               : import_reply(req, conn, req->params[0], 200, reply, err);
}

static int change_import(struct request *req, struct db_conn *conn, const json_t *body,
                         struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *find[] = {import_viewer(req), req->params[0]};

    if (db_query(conn,
                 "SELECT " IMPORT_COLUMNS IMPORT_FROM " AND i.import_id = $2::uuid FOR UPDATE OF i",
                 2, find, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return not_found(err);
    }
    struct settings s = {.name = db_str(res, 0, 1),
                         .source = db_str(res, 0, 3),
                         .prefix = db_str(res, 0, 4),
                         .cron = db_str(res, 0, 5),
                         .time_zone = db_str(res, 0, 6),
                         .enabled = db_bool(res, 0, 7),
                         .on_vanished = db_str(res, 0, 8),
                         .max_failed_percent = strtod(PQgetvalue(res, 0, 9), NULL),
                         .max_unfetched = db_i64(res, 0, 10),
                         .keep_versions = db_i64(res, 0, 11)};
    if (read_settings(req, conn, body, &s, err) < 0) {
        return -1;
    }
    const char *params[] = {req->params[0],
                            s.name,
                            s.source,
                            s.prefix,
                            s.cron,
                            s.time_zone,
                            s.enabled ? "t" : "f",
                            s.on_vanished,
                            s.percent,
                            db_num(&s.unfetched, s.max_unfetched),
                            db_num(&s.keep, s.keep_versions),
                            s.cron ? s.next_at : NULL};
    return db_query(conn, update_sql, 12, params, NULL, err);
}

/* What the audit log keeps of a body: the members that mean something. */
static json_t *known_members(const json_t *body)
{
    static const char *const names[] = {
        "name",       "source",           "prefix",       "schedule",    "enabled",
        "onVanished", "maxFailedPercent", "maxUnfetched", "keepVersions"};
    json_t *known = json_object();

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        json_t *value = json_object_get(body, names[i]);
        if (value) {
            json_object_set(known, names[i], value);
        }
    }
    return known;
}

int import_patch(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;

    if (request_json(req, false, &body, err) < 0 || db_acquire(req->gw->db, &conn, err) < 0 ||
        db_begin(conn, err) < 0 || change_import(req, conn, body, err) < 0 ||
        import_reply(req, conn, req->params[0], 200, reply, err) < 0 || db_commit(conn, err) < 0) {
        return -1;
    }
    audit_detail(req, "changes", known_members(body));
    return 0;
}

static const char delete_sql[] =
    "WITH i AS (UPDATE import_source SET deleted_at = now(), enabled = false, alert = NULL"
    "    WHERE import_id = $2::uuid AND deleted_at IS NULL"
    "      AND ($1::uuid IS NULL OR user_id = $1::uuid) RETURNING import_id),"
    " r AS (UPDATE import_run SET state = 'failed', code = 'cancelled', ended_at = now(),"
    "    token = token + 1, note = 'the import was removed' FROM i"
    "    WHERE import_run.import_id = i.import_id"
    "      AND state IN ('queued', 'listing', 'fetching', 'processing'))"
    " SELECT import_id FROM i";

/* Its published files stay in the dataset; the importer takes away what it kept beside them. */
int import_delete(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {import_viewer(req), req->params[0]};

    if (db_run(req->gw->db, delete_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return not_found(err);
    }
    return reply_take_json(reply, 200, json_pack("{s:b}", "deleted", 1), err);
}
