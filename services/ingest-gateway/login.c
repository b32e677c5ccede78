/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signing in and out with a password, one's sessions, one's password. What a sign-in answers never
 * says whether the name or the password was wrong, and costs the same for both.
 */
#include "libcommon/password.h"
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/auth.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/issuer.h"
#include "services/ingest-gateway/session.h"
#include "services/ingest-gateway/sql.h"
#include "services/ingest-gateway/throttle.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_BYTES 400

json_t *scopes_json(unsigned scopes)
{
    json_t *list = json_array();

    for (unsigned bit = SCOPE_READ; bit <= SCOPE_ADMIN; bit <<= 1) {
        if (scopes & bit) {
            json_array_append_new(list, json_string(scope_name(bit)));
        }
    }
    return list;
}

static json_t *text_or_null(const char *text)
{
    return text[0] != '\0' ? json_string(text) : json_null();
}

static json_t *me_json(const struct request *req, const char *csrf)
{
    static const char *const kinds[] = {"", "key", "session", "token"};

    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "id", req->who.user_id, "name",
                     req->who.name, "role", role_name(req->who.role), "credential",
                     kinds[req->who.credential], "keyId", text_or_null(req->who.key_id),
                     "sessionId", text_or_null(req->who.session_id), "scopes",
                     scopes_json(req->who.scopes), "csrfToken", text_or_null(csrf));
}

int auth_me(struct request *req, struct reply *reply, struct err *err)
{
    char csrf[SESSION_TOKEN_SIZE] = "";

    if (req->who.credential == CREDENTIAL_SESSION && session_csrf(req, csrf, err) < 0) {
        return -1;
    }
    return reply_take_json(reply, 200, me_json(req, csrf), err);
}

int auth_methods(struct request *req, struct reply *reply, struct err *err)
{
    const char *name = issuer_label(req->gw->issuer);
    json_t *oidc = name ? json_pack("{s:s, s:s}", "name", name, "href", "/api/v1/auth/oidc/start")
                        : json_null();

    return reply_take_json(reply, 200,
                           json_pack("{s:b, s:b, s:b, s:o, s:I}", "password", 1, "apiKey", 1,
                                     "cookie", session_has_cookie(req), "oidc", oidc, "passwordMin",
                                     (json_int_t)req->gw->password_min),
                           err);
}

/* Sign-in ---------------------------------------------------------------------------------------*/

static int slow_down(struct request *req, const char *account, struct err *err)
{
    return throttle_try(req, account, &req->retry_after_s, err);
}

static const char find_sql[] = "SELECT user_id, name, role, password_hash, disabled_at IS NULL"
                               " FROM account WHERE name = $1";

/* A hash made with other parameters is replaced while the password is at hand. */
static void renew_hash(struct request *req, const char *user_id, const char *password)
{
    char hash[PASSWORD_HASH_SIZE];
    struct err ignored = ERR_INIT;
    const char *params[] = {user_id, hash};

    if (password_hash(password, hash, &ignored) == 0 &&
        db_run(req->gw->db, "UPDATE account SET password_hash = $2 WHERE user_id = $1::uuid", 2,
               params, NULL, &ignored) == 0) {
        audit_detail(req, "rehashed", json_true());
    }
}

static int check_password(struct request *req, const char *name, const char *password,
                          struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {name};
    bool right = false;
    bool stale = false;

    if (db_run(req->gw->db, find_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    bool known = PQntuples(res) == 1;
    if (password_verify(known ? db_str(res, 0, 3) : NULL, password, &right, &stale, err) < 0) {
        return -1;
    }
    if (!right || !db_bool(res, 0, 4)) {
        audit_target(req, known ? db_str(res, 0, 0) : NULL);
        return err_set(err, ERR_PERMANENT, "unauthorized", "the name or the password is wrong");
    }
    struct principal who = {.credential = CREDENTIAL_SESSION,
                            .role = role_parse(db_str(res, 0, 2))};
    who.scopes = role_scopes(who.role);
    snprintf(who.user_id, sizeof(who.user_id), "%s", db_str(res, 0, 0));
    snprintf(who.name, sizeof(who.name), "%s", db_str(res, 0, 1));
    req->who = who;
    if (stale) {
        renew_hash(req, who.user_id, password);
    }
    return 0;
}

/* Out of the copy that the request's body holds, and of the parsed one. */
static void forget_secret(struct request *req, json_t *body, const char *member)
{
    const char *text = json_string_value(json_object_get(body, member));

    if (text) {
        OPENSSL_cleanse((char *)(uintptr_t)text, strlen(text));
    }
    if (req->body.data) {
        OPENSSL_cleanse(req->body.data, req->body.len);
    }
}

int auth_login(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    char csrf[SESSION_TOKEN_SIZE];
    const char *name = NULL;
    const char *password = NULL;

    if (session_same_site(req->gw, req, err) < 0 || request_json(req, false, &body, err) < 0 ||
        jget_str(body, "name", NAME_MAX_BYTES, &name, err) < 0 ||
        jget_str(body, "password", PASSWORD_BYTES_MAX, &password, err) < 0) {
        req->audit.skip = true;
        return -1;
    }
    snprintf(req->audit.actor, sizeof(req->audit.actor), "%s", name);
    if (slow_down(req, name, err) < 0) {
        req->audit.skip = true; /* or a guesser could fill the log */
        return -1;
    }
    int rc = check_password(req, name, password, err);
    forget_secret(req, body, "password");
    if (rc < 0) {
        return -1;
    }
    if (throttle_passed(req, name, err) < 0 ||
        session_start(req, "password", reply, csrf, err) < 0) {
        return -1;
    }
    audit_target(req, req->who.session_id);
    return reply_take_json(reply, 200, me_json(req, csrf), err);
}

/* Sign-out and sessions -------------------------------------------------------------------------*/

static int need_session(const struct request *req, struct err *err)
{
    return req->who.credential == CREDENTIAL_SESSION
               ? 0
               : err_set(err, ERR_PERMANENT, "conflict", "this needs a sign-in, not a key");
}

static const char end_sql[] = "UPDATE session SET ended_at = now() WHERE session_id = $1::uuid"
                              " AND user_id = $2::uuid AND ended_at IS NULL RETURNING method";

int auth_logout(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(free_cleanup) char *url = NULL;
    const char *params[] = {req->who.session_id, req->who.user_id};

    if (need_session(req, err) < 0 || db_run(req->gw->db, end_sql, 2, params, &res, err) < 0 ||
        session_forget(req, reply, err) < 0) {
        return -1;
    }
    auth_cache_drop_session(req->gw->auth, req->who.session_id);
    audit_target(req, req->who.session_id);
    if (PQntuples(res) == 1 && strcmp(db_str(res, 0, 0), "oidc") == 0) {
        url = issuer_logout_url(req);
    }
    return reply_take_json(reply, 200, json_pack("{s:s?}", "logoutUrl", url), err);
}

int auth_logout_all(struct request *req, struct reply *reply, struct err *err)
{
    if (session_end_all(req->gw, req->who.user_id, NULL, err) < 0 ||
        (req->who.credential == CREDENTIAL_SESSION && session_forget(req, reply, err) < 0)) {
        return -1;
    }
    reply->status = 204;
    return 0;
}

static const char sessions_sql[] =
    "SELECT session_id, method, address, agent, " SQL_TIME("created_at") ", " SQL_TIME(
        "seen_at") ", " SQL_TIME("least(expires_at, seen_at + make_interval(secs => "
                                 "$2::int))") " FROM session WHERE user_id = $1::uuid AND "
                                              "ended_at IS NULL AND expires_at > now()"
                                              "   AND seen_at > now() - make_interval(secs "
                                              "=> $2::int) ORDER BY created_at DESC LIMIT "
                                              "200";

int session_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num idle;
    const char *params[] = {req->who.user_id, db_num(&idle, req->gw->session_idle_s)};

    if (db_run(req->gw->db, sessions_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    json_t *items = json_array();
    for (int i = 0; i < PQntuples(res); i++) {
        json_array_append_new(
            items,
            json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "id", sql_json_str(res, i, 0),
                      "method", sql_json_str(res, i, 1), "address", sql_json_str(res, i, 2),
                      "agent", sql_json_str(res, i, 3), "createdAt", sql_json_str(res, i, 4),
                      "seenAt", sql_json_str(res, i, 5), "expiresAt", sql_json_str(res, i, 6),
                      "current", strcmp(db_str(res, i, 0), req->who.session_id) == 0));
    }
    return list_reply(reply, items, NULL, err);
}

int session_revoke(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0], req->who.user_id};

    if (db_run(req->gw->db, end_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    auth_cache_drop_session(req->gw->auth, req->params[0]);
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such session");
    }
    reply->status = 204;
    return 0;
}

/* Passwords -------------------------------------------------------------------------------------*/

static int store_password(struct request *req, const char *user_id, const char *password,
                          struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    char hash[PASSWORD_HASH_SIZE];
    const char *params[] = {user_id, password ? hash : NULL};

    if (password && password_hash(password, hash, err) < 0) {
        return -1;
    }
    if (db_run(req->gw->db,
               "UPDATE account SET password_hash = $2, password_at = now()"
               " WHERE user_id = $1::uuid RETURNING 1",
               2, params, &res, err) < 0) {
        return -1;
    }
    return PQntuples(res) == 1 ? 0 : err_set(err, ERR_PERMANENT, "not_found", "no such user");
}

static int policy(struct request *req, const char *member, const char *password, const char *name,
                  struct err *err)
{
    struct err why = ERR_INIT;

    if (password_check(password, (size_t)req->gw->password_min, name, &why) == 0) {
        return 0;
    }
    request_invalid(req, member, why.msg, err);
    *err = why;
    return -1;
}

int auth_password(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    char csrf[SESSION_TOKEN_SIZE];
    const char *current = NULL;
    const char *wanted = NULL;
    struct principal who = req->who;

    if (need_session(req, err) < 0 || request_json(req, false, &body, err) < 0 ||
        jget_str(body, "current", PASSWORD_BYTES_MAX, &current, err) < 0 ||
        jget_str(body, "new", PASSWORD_BYTES_MAX, &wanted, err) < 0 ||
        policy(req, "/new", wanted, req->who.name, err) < 0) {
        return -1;
    }
    if (slow_down(req, who.name, err) < 0) {
        return -1;
    }
    int rc = check_password(req, who.name, current, err);
    req->who = who;
    if (rc < 0) {
        return strcmp(err->code, "unauthorized") == 0
                   ? err_set(err, ERR_PERMANENT, "forbidden", "the present password is wrong")
                   : -1;
    }
    rc = store_password(req, who.user_id, wanted, err);
    forget_secret(req, body, "new");
    forget_secret(req, body, "current");
    if (rc < 0 || throttle_passed(req, who.name, err) < 0 ||
        session_rotate(req, reply, csrf, err) < 0) {
        return -1;
    }
    audit_target(req, who.user_id);
    return reply_take_json(reply, 200, me_json(req, csrf), err);
}

/* {password}: null takes it away. All sessions of the account end. */
int user_password(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = NULL;
    const char *password = NULL;

    if (request_json(req, false, &body, err) < 0 ||
        jget_opt_str(body, "password", PASSWORD_BYTES_MAX, NULL, &password, err) < 0 ||
        (!json_object_get(body, "password") &&
         request_invalid(req, "/password", "a password, or null for none", err) < 0) ||
        (password && policy(req, "/password", password, NULL, err) < 0)) {
        return -1;
    }
    int rc = store_password(req, req->params[0], password, err);
    audit_detail(req, "password", password ? json_string("set") : json_string("none"));
    forget_secret(req, body, "password");
    if (rc < 0 || session_end_all(req->gw, req->params[0], NULL, err) < 0) {
        return -1;
    }
    reply->status = 204;
    return 0;
}

int user_sessions_end(struct request *req, struct reply *reply, struct err *err)
{
    if (session_end_all(req->gw, req->params[0], NULL, err) < 0) {
        return -1;
    }
    reply->status = 204;
    return 0;
}
