/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the owner of a file does with its share links: make, list, revoke. The link itself leaves
 * the service once, in the answer that made it; Postgres has the digest of its token.
 */
#include "services/ingest-gateway/shares.h"

#include "libcommon/password.h"
#include "libcommon/sha256.h"
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/idem.h"
#include "services/ingest-gateway/sql.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* At most 50 open links a file; those that ended 30 days ago go. */
static const char create_sql[] =
    "WITH gone AS (DELETE FROM share_link WHERE file_id = $2::uuid"
    "    AND coalesce(revoked_at, expires_at) < now() - interval '30 days')"
    "INSERT INTO share_link (share_id, file_id, user_id, token_sha256, password_hash, expires_at,"
    "    max_downloads)"
    " SELECT $1::uuid, f.file_id, f.user_id, decode($4, 'hex'), $5,"
    "    now() + make_interval(days => $6::int), $7::int"
    " FROM file f WHERE f.file_id = $2::uuid AND f.user_id = $3::uuid AND f.state < 6"
    "    AND (SELECT count(*) FROM share_link s WHERE s.file_id = $2::uuid AND " SHARE_OPEN ") < 50"
    " RETURNING " SQL_TIME("expires_at");

/* What a link may be, out of the body. */
struct wanted {
    int64_t days;
    int64_t max_downloads; /* 0: any number */
    const char *password;  /* borrowed; NULL: none */
};

static int read_wanted(struct request *req, const json_t *body, struct wanted *ret, struct err *err)
{
    const int64_t most = req->gw->share_days_max;
    struct wanted w = {0};

    if (most == 0) {
        return err_set(err, ERR_PERMANENT, "forbidden", "share links are switched off here");
    }
    if (jget_opt_int(body, "expiresInDays", 1, most,
                     most < SHARE_DAYS_DEFAULT ? most : SHARE_DAYS_DEFAULT, &w.days, err) < 0 ||
        jget_opt_int(body, "maxDownloads", 1, SHARE_DOWNLOADS_MAX, 0, &w.max_downloads, err) < 0 ||
        jget_opt_str(body, "password", PASSWORD_BYTES_MAX, NULL, &w.password, err) < 0) {
        return -1;
    }
    struct err why = ERR_INIT;
    if (w.password && password_check(w.password, SHARE_PASSWORD_MIN, NULL, &why) < 0) {
        request_invalid(req, "/password", why.msg, err);
        *err = why;
        return -1;
    }
    *ret = w;
    return 0;
}

/* Of the body without the password: a digest of it is not for keeping. */
static int hash_wanted(const struct request *req, const struct wanted *w, struct idem *idem,
                       struct err *err)
{
    char text[160];

    snprintf(text, sizeof(text), "share %s %lld %lld %d", req->params[0], (long long)w->days,
             (long long)w->max_downloads, w->password != NULL);
    return idem->key ? sha256_hex(text, strlen(text), idem->hash, err) : 0;
}

static int make_token(char token[SHARE_TOKEN_SIZE], char digest[SHA256_HEX_SIZE], struct err *err)
{
    unsigned char random[16];

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return err_set(err, ERR_TRANSIENT, "io", "no random bytes");
    }
    hex_encode(random, sizeof(random), token);
    return sha256_hex(token, strlen(token), digest, err);
}

/* Where people reach this service: as configured, else as this request did. */
static json_t *share_url(const struct request *req, const char *token)
{
    if (req->gw->public_url[0] != '\0') {
        return json_sprintf("%s/s/%s", req->gw->public_url, token);
    }
    return json_sprintf("%s://%s/s/%s", req->https ? "https" : "http", req->headers[H_HOST], token);
}

static int check_file(struct request *req, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;

    return db_acquire(req->gw->db, &conn, err) < 0 ? -1
                                                   : file_require(conn, req, req->params[0], err);
}

int share_create(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *made = NULL;
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(idem_done) struct idem idem = {0};
    char id[UUID_TEXT], token[SHARE_TOKEN_SIZE], digest[SHA256_HEX_SIZE];
    char hash[PASSWORD_HASH_SIZE];
    struct db_num days, downloads;
    struct wanted w = {0};

    if (request_json(req, true, &body, err) < 0 || read_wanted(req, body, &w, err) < 0 ||
        idem_find(req, &idem, err) < 0 || hash_wanted(req, &w, &idem, err) < 0 ||
        idem_refuse_repeated(&idem, err) < 0 || check_file(req, err) < 0 ||
        (w.password && password_hash(w.password, hash, err) < 0) ||
        make_token(token, digest, err) < 0) {
        return -1;
    }
    uuid_v7(id);
    const char *params[] = {id,
                            req->params[0],
                            req->who.user_id,
                            digest,
                            w.password ? hash : NULL,
                            db_num(&days, w.days),
                            w.max_downloads > 0 ? db_num(&downloads, w.max_downloads) : NULL};
    audit_detail(req, "share", json_string(id));
    audit_detail(req, "days", json_integer(w.days));
    audit_detail(req, "password", json_boolean(w.password != NULL));
    if (idem_make_secret(req, &idem, id, create_sql, 7, params, &made, err) < 0) {
        return -1;
    }
    if (PQntuples(made) == 0) {
        return err_set(err, ERR_PERMANENT, "conflict",
                       "the file has 50 open links; revoke one of them first");
    }
    return reply_take_json(
        reply, 201,
        json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:b}", "id", id, "fileId", req->params[0],
                  "token", token, "shareUrl", share_url(req, token), "expiresAt",
                  sql_json_str(made, 0, 0), "maxDownloads",
                  w.max_downloads > 0 ? json_integer(w.max_downloads) : json_null(),
                  "passwordProtected", w.password != NULL),
        err);
}

static const char list_sql[] =
    "SELECT s.share_id, s.file_id, f.name, " SQL_TIME("s.created_at") ", " SQL_TIME(
        "s.expires_at") ", " SQL_TIME("s.revoked_at") ", " SQL_TIME("s.last_at") ", s.downloads,"
                                                                                 " s.max_downloads,"
                                                                                 " s.password_hash "
                                                                                 "IS NOT "
                                                                                 "NULL, " SHARE_OPEN
                                                                                 " FROM share_link "
                                                                                 "s JOIN file f "
                                                                                 "USING (file_id)"
                                                                                 " WHERE s.user_id "
                                                                                 "= $1::uuid AND "
                                                                                 "f.state < 6 AND "
                                                                                 "($2::uuid IS "
                                                                                 "NULL OR "
                                                                                 "s.file_id = "
                                                                                 "$2::uuid)"
                                                                                 "   AND ($3::uuid "
                                                                                 "IS NULL OR "
                                                                                 "s.share_id < "
                                                                                 "$3::uuid) ORDER "
                                                                                 "BY s.share_id "
                                                                                 "DESC LIMIT "
                                                                                 "$4::int";

static json_t *item_json(const PGresult *res, int i)
{
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:o, s:b, s:b}", "id", db_str(res, i, 0),
        "fileId", db_str(res, i, 1), "fileName", db_str(res, i, 2), "createdAt", db_str(res, i, 3),
        "expiresAt", db_str(res, i, 4), "revokedAt", sql_json_str(res, i, 5), "lastDownloadAt",
        sql_json_str(res, i, 6), "downloads", (json_int_t)db_i64(res, i, 7), "maxDownloads",
        db_str(res, i, 8) ? json_integer(db_i64(res, i, 8)) : json_null(), "passwordProtected",
        (int)db_bool(res, i, 9), "open", (int)db_bool(res, i, 10));
}

/* file_id NULL: of all files. */
static int list_links(struct request *req, const char *file_id, struct reply *reply,
                      struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct list_page page;
    struct db_num limit;

    if (list_page_read(req, "shares", &page, err) < 0) {
        return -1;
    }
    const char *params[] = {req->who.user_id, file_id, page.has_cursor ? page.cursor.id : NULL,
                            db_num(&limit, page.limit + 1)};
    if (db_run(req->gw->db, list_sql, 4, params, &res, err) < 0) {
        return -1;
    }
    return list_reply_rows(reply, &page, "shares", res, item_json, err);
}

int share_list(struct request *req, struct reply *reply, struct err *err)
{
    return list_links(req, NULL, reply, err);
}

int share_list_file(struct request *req, struct reply *reply, struct err *err)
{
    return check_file(req, err) < 0 ? -1 : list_links(req, req->params[0], reply, err);
}

static const char revoke_sql[] =
    "UPDATE share_link SET revoked_at = coalesce(revoked_at, now()) WHERE share_id = $1::uuid"
    " AND file_id = $2::uuid AND user_id = $3::uuid RETURNING 1";

int share_revoke(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[1], req->params[0], req->who.user_id};

    audit_target(req, req->params[1]);
    if (db_run(req->gw->db, revoke_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such link");
    }
    reply->status = 204;
    return 0;
}
