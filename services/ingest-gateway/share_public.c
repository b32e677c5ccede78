/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What somebody with a share link sees: the file's name and size, a question for the password, the
 * file. Nobody is signed in here: the token is the credential, and the link's row says whose view
 * of the database the rest of the request has.
 */
#include "libcommon/password.h"
#include "libcommon/sha256.h"
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/cond.h"
#include "services/ingest-gateway/file_content.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/problem.h"
#include "services/ingest-gateway/session.h"
#include "services/ingest-gateway/shares.h"
#include "services/ingest-gateway/sql.h"
#include "services/ingest-gateway/throttle.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define UNLOCK_S 3600 /* how long a password that was right counts in that browser */
#define COOKIE_VALUE_SIZE (24 + SHA256_HEX_SIZE)

struct share {
    char id[UUID_TEXT];
    char file_id[UUID_TEXT];
    char user_id[UUID_TEXT];
    PGresult *row;             /* what the two point into */
    const char *password_hash; /* NULL: none */
    const char *expires_at;    /* RFC 3339 */
    int64_t max_downloads;     /* 0: any number */
    int64_t downloads;
};

#define EXPIRES SQL_TIME("s.expires_at")

static const char find_sql[] =
    "SELECT s.share_id, s.file_id, s.user_id, s.password_hash, " EXPIRES ","
    " s.max_downloads, s.downloads, " SHARE_OPEN " AND a.disabled_at IS NULL"
    " FROM share_link s JOIN account a USING (user_id) WHERE s.token_sha256 = decode($1, 'hex')";

static int ended(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "share_ended",
                   "the link has ended, or its file is no longer there");
}

static void share_done(struct share *share)
{
    PQclear(share->row);
    *share = (struct share){0};
}

/* The open link of a token; from here on the thread's view is that of the file's owner. */
static int share_find(struct request *req, const char *token, struct share *ret_share,
                      struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    char digest[SHA256_HEX_SIZE];
    const char *params[] = {digest};

    req->audit.skip = true; /* or its target would be the token */
    if (sha256_hex(token, strlen(token), digest, err) < 0 ||
        db_run(req->gw->db, find_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such link");
    }
    if (!db_bool(res, 0, 7) || req->gw->share_days_max == 0) {
        return ended(err);
    }
    struct share share = {.password_hash = db_str(res, 0, 3),
                          .expires_at = db_str(res, 0, 4),
                          .max_downloads = db_i64(res, 0, 5),
                          .downloads = db_i64(res, 0, 6)};
    snprintf(share.id, sizeof(share.id), "%s", db_str(res, 0, 0));
    snprintf(share.file_id, sizeof(share.file_id), "%s", db_str(res, 0, 1));
    snprintf(share.user_id, sizeof(share.user_id), "%s", db_str(res, 0, 2));
    share.row = STEAL(res);
    db_view_take(DB_VIEW_USER, share.user_id);
    req->audit.skip = false;
    audit_target(req, share.id);
    audit_detail(req, "fileId", json_string(share.file_id));
    *ret_share = share;
    return 0;
}

/* The password's cookie ------------------------------------------------------------------------*/

/* One of its own for each link, so that two can be open in a browser. */
static void cookie_name(const struct request *req, const struct share *share, char *out,
                        size_t size)
{
    char what[24];

    snprintf(what, sizeof(what), "share_%s", share->id + UUID_TEXT - 1 - 12);
    session_cookie_name(req, what, out, size);
}

/* "<until>.<mac>": the hash, which nobody outside has, is the key; so every replica knows it, and
 * another password ends it. */
static int cookie_value(const struct share *share, int64_t until, char out[COOKIE_VALUE_SIZE],
                        struct err *err)
{
    unsigned char mac[SHA256_LEN];
    char hex[SHA256_HEX_SIZE];
    char text[UUID_TEXT + 24];

    snprintf(text, sizeof(text), "%s %lld", share->id, (long long)until);
    if (hmac_sha256(share->password_hash, strlen(share->password_hash), text, strlen(text), mac,
                    err) < 0) {
        return -1;
    }
    hex_encode(mac, sizeof(mac), hex);
    snprintf(out, COOKIE_VALUE_SIZE, "%lld.%s", (long long)until, hex);
    return 0;
}

static int share_unlock(const struct request *req, const struct share *share, struct reply *reply,
                        struct err *err)
{
    char value[COOKIE_VALUE_SIZE];
    char name[64];

    cookie_name(req, share, name, sizeof(name));
    return cookie_value(share, time(NULL) + UNLOCK_S, value, err) < 0
               ? -1
               : session_set_cookie(req, reply, name, value, UNLOCK_S, false, err);
}

/* 0 when the link has no password, or the request the cookie of who gave it. */
static int share_unlocked(const struct request *req, const struct share *share, struct err *err)
{
    char name[64], value[COOKIE_VALUE_SIZE], right[COOKIE_VALUE_SIZE];

    if (!share->password_hash) {
        return 0;
    }
    cookie_name(req, share, name, sizeof(name));
    if (session_cookie(req, name, value, sizeof(value))) {
        size_t n = strcspn(value, ".");
        int64_t until = 0;
        char digits[24];
        snprintf(digits, sizeof(digits), "%.*s", (int)n, value);
        if (decimal_parse(digits, 0, INT64_MAX, &until) && until > time(NULL)) {
            if (cookie_value(share, until, right, err) < 0) {
                return -1;
            }
            if (strlen(value) == strlen(right) && CRYPTO_memcmp(value, right, strlen(right)) == 0) {
                return 0;
            }
        }
    }
    return err_set(err, ERR_PERMANENT, "password_required", "the link has a password");
}

/* The file -------------------------------------------------------------------------------------*/

static const char file_sql[] =
    "SELECT f.name, f.bytes, v.mime, f.state = 5, v.object_key IS NULL,"
    "   EXISTS (SELECT 1 FROM task t WHERE t.file_id = f.file_id AND t.stage = 7"
    "     AND t.generation = f.generation AND t.state <> 4)"
    " FROM file f JOIN file_version v ON v.file_id = f.file_id AND v.version = f.version"
    " WHERE f.file_id = $1::uuid AND f.user_id = $2::uuid AND f.state < 6";

/* What may be shown of it; *ret_file is PQclear'd by the caller. */
static int load_file(struct request *req, const struct share *share, PGresult **ret_file,
                     struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {share->file_id, share->user_id};

    if (db_run(req->gw->db, file_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0 || db_bool(res, 0, 4)) {
        return ended(err);
    }
    if (db_bool(res, 0, 3)) {
        return err_set(err, ERR_PERMANENT, "quarantined", "the virus scanner holds this file back");
    }
    if (db_bool(res, 0, 5)) {
        return err_set(err, ERR_PERMANENT, "not_scanned",
                       "the file is not through the virus scanner yet");
    }
    *ret_file = STEAL(res);
    return 0;
}

static int reply_share(struct request *req, const struct share *share, struct reply *reply,
                       struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *file = NULL;
    json_t *left = share->max_downloads > 0 ? json_integer(share->max_downloads - share->downloads)
                                            : json_null();

    if (load_file(req, share, &file, err) < 0 ||
        reply_header(reply, "X-Robots-Tag", "noindex", err) < 0) {
        json_decref(left);
        return -1;
    }
    return reply_take_json(
        reply, 200,
        json_pack("{s:s, s:I, s:s, s:s, s:o, s:b, s:s++}", "name", db_str(file, 0, 0), "size",
                  (json_int_t)db_i64(file, 0, 1), "mime", db_str(file, 0, 2), "expiresAt",
                  share->expires_at, "downloadsLeft", left, "passwordProtected",
                  share->password_hash != NULL, "downloadUrl", "/s/", req->params[0], "/download"),
        err);
}

/* A browser gets the page in any case, which then asks for JSON; its status tells what there is. */
static int reply_page(struct request *req, int found, const struct err *why, struct reply *reply,
                      struct err *err)
{
    unsigned status = found == 0 ? 200 : problem_find(why)->status;

    if (status >= 500) {
        *err = *why;
        return -1;
    }
    return console_page(req, "/share.html", status, reply, err);
}

int share_get(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(share_done) struct share share = {0};
    int found = share_find(req, req->params[0], &share, err);

    if (req->gw->console_dir && accept_names(req->headers[H_ACCEPT], "text/html")) {
        return reply_page(req, found, err, reply, err);
    }
    return found < 0 || share_unlocked(req, &share, err) < 0 ? -1
                                                             : reply_share(req, &share, reply, err);
}

/* Nobody's guesses at one link keep others from their own sign-ins: the throttle's account is the
 * link. */
int share_unlock_post(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(share_done) struct share share = {0};
    CLEANUP(json_cleanup) json_t *body = NULL;
    const char *password = NULL;
    char account[UUID_TEXT + 8];
    bool right = false;

    if (share_find(req, req->params[0], &share, err) < 0) {
        return -1;
    }
    if (session_same_site(req->gw, req, err) < 0 || request_json(req, false, &body, err) < 0 ||
        jget_str(body, "password", PASSWORD_BYTES_MAX, &password, err) < 0) {
        req->audit.skip = true;
        return -1;
    }
    if (!share.password_hash) {
        return reply_share(req, &share, reply, err);
    }
    snprintf(account, sizeof(account), "share %s", share.id);
    if (throttle_try(req, account, &req->retry_after_s, err) < 0) {
        req->audit.skip = true; /* or a guesser could fill the log */
        return -1;
    }
    if (password_verify(share.password_hash, password, &right, NULL, err) < 0) {
        return -1;
    }
    if (!right) {
        return err_set(err, ERR_PERMANENT, "wrong_password", "the password is wrong");
    }
    return throttle_passed(req, account, err) < 0 || share_unlock(req, &share, reply, err) < 0
               ? -1
               : reply_share(req, &share, reply, err);
}

static const char count_sql[] = "UPDATE share_link s SET downloads = downloads + 1, last_at = now()"
                                " WHERE s.share_id = $1::uuid AND " SHARE_OPEN " RETURNING 1";

/* Is this answer a download, and not a further part of one, or a look? */
static bool counts(const struct request *req, const struct reply *reply)
{
    const char *range = req->headers[H_RANGE];

    return strcmp(req->method, "HEAD") != 0 &&
           (reply->status == 200 ||
            (reply->status == 206 && range && strncmp(range, "bytes=0-", 8) == 0));
}

int share_download(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(share_done) struct share share = {0};
    CLEANUP(db_result_cleanup) PGresult *file = NULL;
    CLEANUP(db_result_cleanup) PGresult *counted = NULL;

    /* Of a link for some downloads only whole ones are given: parts would go round the count. */
    if (share_find(req, req->params[0], &share, err) < 0 || share_unlocked(req, &share, err) < 0 ||
        load_file(req, &share, &file, err) < 0 ||
        file_content_reply(req, share.file_id, share.user_id, share.max_downloads > 0, reply, err) <
            0) {
        return -1;
    }
    /* Slow guests hold up the downloads of this account and its other guests, nobody else's. */
    snprintf(reply->stream_owner, sizeof(reply->stream_owner), "%s", share.user_id);
    req->audit.skip = !counts(req, reply);
    if (req->audit.skip) {
        return 0;
    }
    const char *params[] = {share.id};
    if (db_run(req->gw->db, count_sql, 1, params, &counted, err) < 0) {
        return -1;
    }
    return PQntuples(counted) == 1 ? 0 : ended(err);
}
