/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datasets and the versions of their schema. A version is never changed, only followed; records
 * name the version they were made under.
 */
#include "libcommon/columns.h"
#include "libcommon/names.h"
#include "services/ingest-gateway/cond.h"
#include "services/ingest-gateway/encoding.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/holds.h"
#include "services/ingest-gateway/idem.h"
#include "services/ingest-gateway/sql.h"

#include <string.h>

#define DATASET_NAME_MAX 200U
#define OPTIONS_MAX 4096U
#define RETENTION_DAYS_MAX 36500

#define DATASET_COLUMNS                                                                            \
    "d.dataset_id, d.name, d.schema_version, s.columns, " SQL_TIME("d.created_at") ", " SQL_TIME(  \
        "d.updated_at") ", d.options, d.hold_at IS NOT NULL"

static const char get_sql[] =
    "SELECT " DATASET_COLUMNS " FROM dataset d JOIN schema_version s ON s.dataset_id = d.dataset_id"
    "   AND s.version = d.schema_version"
    " WHERE d.dataset_id = $1::uuid AND d.user_id = $2::uuid AND d.deleted_at IS NULL";

static const char locked_sql[] =
    "SELECT " DATASET_COLUMNS " FROM dataset d JOIN schema_version s ON s.dataset_id = d.dataset_id"
    "   AND s.version = d.schema_version"
    " WHERE d.dataset_id = $1::uuid AND d.user_id = $2::uuid AND d.deleted_at IS NULL"
    " FOR UPDATE OF d";

static const char list_sql[] =
    "SELECT " DATASET_COLUMNS " FROM dataset d JOIN schema_version s ON s.dataset_id = d.dataset_id"
    "   AND s.version = d.schema_version"
    " WHERE d.user_id = $1::uuid AND d.deleted_at IS NULL"
    "   AND ($2::uuid IS NULL OR d.dataset_id < $2::uuid)"
    " ORDER BY d.dataset_id DESC LIMIT $3::int";

static const char insert_sql[] =
    "WITH d AS (INSERT INTO dataset (dataset_id, user_id, name, options)"
    "   VALUES ($1::uuid, $2::uuid, $3, $4::jsonb) RETURNING dataset_id)"
    " INSERT INTO schema_version (dataset_id, version, columns)"
    " SELECT dataset_id, 1, $5::jsonb FROM d";

static const char change_sql[] = "UPDATE dataset SET name = coalesce($3, name),"
                                 "   options = coalesce($4::jsonb, options), updated_at = now()"
                                 " WHERE dataset_id = $1::uuid AND user_id = $2::uuid"
                                 "   AND deleted_at IS NULL RETURNING 1";

static const char schema_sql[] =
    "WITH d AS (UPDATE dataset SET schema_version = schema_version + 1, updated_at = now()"
    "   WHERE dataset_id = $1::uuid AND user_id = $2::uuid AND deleted_at IS NULL"
    "   RETURNING dataset_id, schema_version)"
    " INSERT INTO schema_version (dataset_id, version, columns)"
    " SELECT dataset_id, schema_version, $3::jsonb FROM d RETURNING version";

static const char delete_sql[] = "UPDATE dataset SET deleted_at = now(), updated_at = now()"
                                 " WHERE dataset_id = $1::uuid AND user_id = $2::uuid"
                                 "   AND deleted_at IS NULL RETURNING 1";

static json_t *dataset_json(const PGresult *res, int row)
{
    return json_pack("{s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:b}", "id", sql_json_str(res, row, 0),
                     "name", sql_json_str(res, row, 1), "schemaVersion",
                     (json_int_t)db_i64(res, row, 2), "columns", sql_json_doc(res, row, 3),
                     "createdAt", sql_json_str(res, row, 4), "updatedAt", sql_json_str(res, row, 5),
                     "options", sql_json_doc(res, row, 6), "legalHold", (int)db_bool(res, row, 7));
}

static int not_found(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "not_found", "no such dataset");
}

static int reply_dataset(struct request *req, struct db_conn *conn, const char *id, unsigned status,
                         struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {id, req->who.user_id};

    if (db_query(conn, get_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    return PQntuples(res) == 0 ? not_found(err)
                               : reply_take_json(reply, status, dataset_json(res, 0), err);
}

/* The tag that GET gives for this answer, so that the next change can name it. */
static int add_tag(struct reply *reply, struct err *err)
{
    char base[REPLY_TAG_SIZE];

    if (reply_tag(reply->body, reply->len, base, err) < 0) {
        return -1;
    }
    struct etag tag = encoding_tag(base, false);
    return reply_header(reply, "ETag", tag.text, err);
}

/* If-Match: locks the dataset until the transaction's end and compares with what GET would show.
 * "precondition_failed" (412) when it is another, or none; nothing without the header. */
static int check_match(struct request *req, struct db_conn *conn, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(reply_done) struct reply now = {0};
    const char *params[] = {req->params[0], req->who.user_id};
    char base[REPLY_TAG_SIZE];

    if (!req->headers[H_IF_MATCH]) {
        return 0;
    }
    if (db_query(conn, locked_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return not_found(err);
    }
    if (reply_take_json(&now, 200, dataset_json(res, 0), err) < 0 ||
        reply_tag(now.body, now.len, base, err) < 0) {
        return -1;
    }
    struct etag tag = encoding_tag(base, false);
    return etag_matches(req->headers[H_IF_MATCH], tag.text)
               ? 0
               : err_set(err, ERR_PERMANENT, "precondition_failed",
                         "the dataset is no longer what If-Match names; get it again");
}

static int read_name(struct request *req, const json_t *body, const char **ret_name,
                     struct err *err)
{
    const char *name = json_string_value(json_object_get(body, "name"));
    size_t n = name ? strlen(name) : 0;

    if (n == 0 || name_chars(name) > DATASET_NAME_MAX) {
        return request_invalid(req, "/name", "a name of 1 to 200 characters is needed", err);
    }
    if (!text_plain(name)) {
        return request_invalid(req, "/name", "a name holds no control characters", err);
    }
    if (strspn(name, " ") == n) {
        return request_invalid(req, "/name", "a name is more than blanks", err);
    }
    *ret_name = name;
    return 0;
}

/* The validated columns as stored JSON text (malloc'd). */
static int read_columns(struct request *req, const json_t *body, char **ret_text, struct err *err)
{
    CLEANUP(columns_cleanup) struct columns *columns = NULL;
    CLEANUP(json_cleanup) json_t *json = NULL;

    if (!req->errors) {
        req->errors = json_array();
    }
    if (columns_parse_request(json_object_get(body, "columns"), &columns, req->errors, err) < 0) {
        return -1;
    }
    json = columns_to_json(columns);
    *ret_text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    return *ret_text ? 0 : err_nomem(err);
}

/* retentionDays: null or absent for never. */
static int check_retention(struct request *req, json_t *options, struct err *err)
{
    json_t *days = json_object_get(options, "retentionDays");
    const json_t *what = json_object_get(options, "retentionRemoves");
    const char *word = json_string_value(what);
    struct err ignored = ERR_INIT;
    int64_t n = 0;

    if (days && !json_is_null(days)) {
        if (jget_int(options, "retentionDays", 0, RETENTION_DAYS_MAX, &n, &ignored) < 0) {
            return request_invalid(req, "/options/retentionDays", "days from 0 to 36500, or null",
                                   err);
        }
        if (json_object_set_new(options, "retentionDays", json_integer((json_int_t)n)) < 0) {
            return err_nomem(err); /* 30.0 is stored as 30 */
        }
    }
    if (what && (!word || (strcmp(word, "content") != 0 && strcmp(word, "file") != 0))) {
        return request_invalid(req, "/options/retentionRemoves", "content or file", err);
    }
    return 0;
}

static int read_options(struct request *req, const json_t *body, char **ret_text, struct err *err)
{
    json_t *options = json_object_get(body, "options");

    if (options && !json_is_object(options) && !json_is_null(options)) {
        return request_invalid(req, "/options", "options are an object", err);
    }
    if (check_retention(req, options, err) < 0) {
        return -1;
    }
    char *text = json_is_object(options) ? json_dumps(options, JSON_COMPACT) : strdup("{}");
    if (text && strlen(text) > OPTIONS_MAX) {
        free(text);
        return request_invalid(req, "/options", "options exceed 4096 bytes", err);
    }
    *ret_text = text;
    return text ? 0 : err_nomem(err);
}

/* After a lost race for the idempotency key: the winner's answer. */
static int replay_winner(struct request *req, const struct idem *mine, struct reply *reply,
                         struct err *err)
{
    CLEANUP(idem_done) struct idem idem = {0};

    reply_done(reply);
    if (idem_find(req, &idem, err) < 0) {
        return -1;
    }
    memcpy(idem.hash, mine->hash, sizeof(idem.hash));
    int rc = idem_replay(&idem, reply, err);
    return rc == 0 ? err_set(err, ERR_TRANSIENT, "db_conflict", "the key's other request failed")
                   : (rc > 0 ? 0 : -1);
}

static int insert_dataset(struct request *req, const struct idem *idem, const char *const *params,
                          struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;

    if (db_acquire(req->gw->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        db_query(conn, insert_sql, 5, params, NULL, err) < 0 ||
        reply_dataset(req, conn, params[0], 201, reply, err) < 0 ||
        idem_store(conn, req, idem, reply, err) < 0) {
        return -1;
    }
    return db_commit(conn, err);
}

int dataset_create(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(idem_done) struct idem idem = {0};
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(free_cleanup) char *columns = NULL;
    CLEANUP(free_cleanup) char *options = NULL;
    const char *name;
    char id[UUID_TEXT];

    if (request_json(req, false, &body, err) < 0 || idem_find(req, &idem, err) < 0 ||
        idem_hash_request(req, &idem, err) < 0) {
        return -1;
    }
    int rc = idem_replay(&idem, reply, err);
    if (rc != 0) {
        return rc > 0 ? 0 : -1;
    }
    if (read_name(req, body, &name, err) < 0 || read_options(req, body, &options, err) < 0 ||
        read_columns(req, body, &columns, err) < 0) {
        return -1;
    }
    uuid_v7(id);
    const char *params[] = {id, req->who.user_id, name, options, columns};
    if (insert_dataset(req, &idem, params, reply, err) < 0) {
        return strcmp(err->code, "db_unique") == 0 ? replay_winner(req, &idem, reply, err) : -1;
    }
    char location[80] = "/api/v1/datasets/";
    strncat(location, id, UUID_TEXT);
    return reply_header(reply, "Location", location, err);
}

int dataset_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct list_page page;
    struct db_num limit;

    if (list_page_read(req, "datasets", &page, err) < 0) {
        return -1;
    }
    const char *params[] = {req->who.user_id, page.has_cursor ? page.cursor.id : NULL,
                            db_num(&limit, page.limit + 1)};
    if (db_run(req->gw->db, list_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    return list_reply_rows(reply, &page, "datasets", res, dataset_json, err);
}

int dataset_get(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;

    if (db_acquire(req->gw->db, &conn, err) < 0) {
        return -1;
    }
    return reply_dataset(req, conn, req->params[0], 200, reply, err);
}

int dataset_patch(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(free_cleanup) char *options = NULL;
    const char *name = NULL;

    if (request_json(req, false, &body, err) < 0) {
        return -1;
    }
    bool has_options = json_object_get(body, "options") != NULL;
    if ((!has_options || json_object_get(body, "name")) && read_name(req, body, &name, err) < 0) {
        return -1;
    }
    if ((has_options && read_options(req, body, &options, err) < 0) ||
        db_acquire(req->gw->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        check_match(req, conn, err) < 0) {
        return -1;
    }
    const char *params[] = {req->params[0], req->who.user_id, name, options};
    if (db_query(conn, change_sql, 4, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return not_found(err);
    }
    if (reply_dataset(req, conn, req->params[0], 200, reply, err) < 0 || add_tag(reply, err) < 0) {
        return -1;
    }
    return db_commit(conn, err);
}

static int insert_schema(struct request *req, const struct idem *idem, const char *columns,
                         struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0], req->who.user_id, columns};

    if (db_acquire(req->gw->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        check_match(req, conn, err) < 0 || db_query(conn, schema_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return not_found(err);
    }
    if (reply_dataset(req, conn, req->params[0], 200, reply, err) < 0 || add_tag(reply, err) < 0 ||
        idem_store(conn, req, idem, reply, err) < 0) {
        return -1;
    }
    return db_commit(conn, err);
}

int dataset_schema(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(idem_done) struct idem idem = {0};
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(free_cleanup) char *columns = NULL;

    if (request_json(req, false, &body, err) < 0 || idem_find(req, &idem, err) < 0 ||
        idem_hash_request(req, &idem, err) < 0) {
        return -1;
    }
    int rc = idem_replay(&idem, reply, err);
    if (rc != 0) {
        return rc > 0 ? 0 : -1;
    }
    if (read_columns(req, body, &columns, err) < 0) {
        return -1;
    }
    if (insert_schema(req, &idem, columns, reply, err) < 0) {
        return strcmp(err->code, "db_unique") == 0 ? replay_winner(req, &idem, reply, err) : -1;
    }
    return 0;
}

static int mark_deleted(struct request *req, bool *ret_marked, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0], req->who.user_id};

    if (db_acquire(req->gw->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        check_match(req, conn, err) < 0 || db_query(conn, delete_sql, 2, params, &res, err) < 0 ||
        db_commit(conn, err) < 0) {
        return -1;
    }
    *ret_marked = PQntuples(res) > 0;
    return 0;
}

/* The mark on the dataset comes first: from then on nothing of it shows. A dataset with very many
 * files is emptied by several calls; only then it is not found. */
int dataset_delete(struct request *req, struct reply *reply, struct err *err)
{
    int64_t removed = 0;
    bool marked = false;
    bool more = false;

    if (hold_check_dataset(req, req->params[0], err) < 0 || mark_deleted(req, &marked, err) < 0 ||
        files_remove_dataset(req, req->params[0], &removed, &more, err) < 0) {
        return -1;
    }
    if (!marked && removed == 0) {
        return not_found(err);
    }
    return reply_take_json(
        reply, 202, json_pack("{s:I, s:b}", "removed", (json_int_t)removed, "more", (int)more),
        err);
}
