/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/session.h"

#include "libcommon/sha256.h"
#include "services/ingest-gateway/auth.h"
#include "services/ingest-gateway/gateway.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#define AGENT_MAX 200

static int refuse(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "unauthorized", "a sign-in or a valid API key is needed");
}

/* Cookies ---------------------------------------------------------------------------------------*/

void session_cookie_name(const struct request *req, const char *what, char *out, size_t size)
{
    snprintf(out, size, "%sdocfleet_%s", req->https ? "__Host-" : "", what);
}

bool session_cookie(const struct request *req, const char *name, char *out, size_t size)
{
    const char *s = req->headers[H_COOKIE];
    size_t n = strlen(name);

    while (s && *s != '\0') {
        s += strspn(s, "; ,");
        size_t len = strcspn(s, ";,");
        if (len > n && strncmp(s, name, n) == 0 && s[n] == '=') {
            if (len - n - 1 >= size) {
                return false;
            }
            memcpy(out, s + n + 1, len - n - 1);
            out[len - n - 1] = '\0';
            return true;
        }
        s += len;
    }
    return false;
}

int session_set_cookie(const struct request *req, struct reply *reply, const char *name,
                       const char *value, int64_t max_age, bool lax, struct err *err)
{
    char text[512];
    int n =
        snprintf(text, sizeof(text), "%s=%s; Path=/; Max-Age=%lld; HttpOnly; SameSite=%s%s", name,
                 value, (long long)max_age, lax ? "Lax" : "Strict", req->https ? "; Secure" : "");

    if (n < 0 || (size_t)n >= sizeof(text)) {
        return err_set(err, ERR_UNKNOWN, "internal", "a cookie is too long");
    }
    return reply_header(reply, "Set-Cookie", text, err);
}

static bool token_of(const struct request *req, char token[SESSION_TOKEN_SIZE])
{
    char name[40];

    session_cookie_name(req, "session", name, sizeof(name));
    return session_cookie(req, name, token, SESSION_TOKEN_SIZE) &&
           strlen(token) == SESSION_TOKEN_SIZE - 1 &&
           strspn(token, "0123456789abcdef") == SESSION_TOKEN_SIZE - 1;
}

bool session_has_cookie(const struct request *req)
{
    char token[SESSION_TOKEN_SIZE];

    return token_of(req, token);
}

static int new_token(char token[SESSION_TOKEN_SIZE], struct err *err)
{
    unsigned char random[32];

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return err_set(err, ERR_TRANSIENT, "io", "no random bytes");
    }
    hex_encode(random, sizeof(random), token);
    return 0;
}

/* Cross-site requests ---------------------------------------------------------------------------*/

static int csrf_of(const char *token, char ret_csrf[SESSION_TOKEN_SIZE], struct err *err)
{
    char text[SESSION_TOKEN_SIZE + 8];

    snprintf(text, sizeof(text), "csrf:%s", token);
    return sha256_hex(text, strlen(text), ret_csrf, err);
}

int session_csrf(const struct request *req, char ret_csrf[SESSION_TOKEN_SIZE], struct err *err)
{
    char token[SESSION_TOKEN_SIZE];

    return token_of(req, token) ? csrf_of(token, ret_csrf, err) : refuse(err);
}

static int cross_site(struct err *err, const char *why)
{
    return err_set(err, ERR_PERMANENT, "csrf", "%s", why);
}

/* The Origin header against the address people use: what is configured, else the Host header. */
static bool own_origin(const struct gateway *gw, const struct request *req, const char *origin)
{
    const char *host = req->headers[H_HOST];
    const char *after = strstr(origin, "://");

    if (gw->public_url[0] != '\0' && strcasecmp(origin, gw->public_url) == 0) {
        return true;
    }
    return after && host && strcasecmp(after + 3, host) == 0;
}

int session_same_site(const struct gateway *gw, const struct request *req, struct err *err)
{
    const char *fetch = req->headers[H_SEC_FETCH_SITE];
    const char *origin = req->headers[H_ORIGIN];

    if (fetch && strcmp(fetch, "same-origin") != 0 && strcmp(fetch, "none") != 0) {
        return cross_site(err, "the browser says that another site asks");
    }
    if (origin && !own_origin(gw, req, origin)) {
        return cross_site(err, "the request comes from another origin");
    }
    return 0;
}

static int check_csrf(const struct gateway *gw, const struct request *req, const char *token,
                      struct err *err)
{
    char want[SESSION_TOKEN_SIZE];
    const char *given = req->headers[H_CSRF];

    if (strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0) {
        return 0;
    }
    if (session_same_site(gw, req, err) < 0 || csrf_of(token, want, err) < 0) {
        return -1;
    }
    if (!given || strlen(given) != SESSION_TOKEN_SIZE - 1 ||
        CRYPTO_memcmp(given, want, SESSION_TOKEN_SIZE - 1) != 0) {
        return cross_site(err, "with a cookie, X-CSRF-Token is needed; GET /auth/me tells it");
    }
    return 0;
}

/* Lookups ---------------------------------------------------------------------------------------*/

/* Seen is written once a minute at most, so the idle time is exact to the minute. */
static const char find_sql[] =
    "WITH seen AS (UPDATE session SET seen_at = now() WHERE session_id = (SELECT session_id"
    "   FROM session WHERE token_sha256 = decode($1, 'hex') AND ended_at IS NULL"
    "   AND expires_at > now() AND seen_at > now() - make_interval(secs => $2::int)"
    "   AND seen_at < now() - interval '1 minute' FOR UPDATE SKIP LOCKED))"
    "SELECT s.session_id, a.user_id, a.name, a.role FROM session s JOIN account a USING (user_id)"
    " WHERE s.token_sha256 = decode($1, 'hex') AND s.ended_at IS NULL AND s.expires_at > now()"
    "   AND s.seen_at > now() - make_interval(secs => $2::int) AND a.disabled_at IS NULL";

static int find(struct gateway *gw, const char *sha, struct principal *ret_who, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct principal who = {.credential = CREDENTIAL_SESSION};
    struct db_num idle;
    const char *params[] = {sha, db_num(&idle, gw->session_idle_s)};

    if (db_run(gw->db, find_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) != 1) {
        return refuse(err);
    }
    who.role = role_parse(db_str(res, 0, 3));
    who.scopes = role_scopes(who.role);
    snprintf(who.session_id, sizeof(who.session_id), "%s", db_str(res, 0, 0));
    snprintf(who.user_id, sizeof(who.user_id), "%s", db_str(res, 0, 1));
    snprintf(who.name, sizeof(who.name), "%s", db_str(res, 0, 2));
    *ret_who = who;
    return 0;
}

int session_check(struct gateway *gw, struct request *req, bool cached_only, struct err *err)
{
    char token[SESSION_TOKEN_SIZE];
    char sha[SHA256_HEX_SIZE];
    char id[AUTH_ID_SIZE];

    if (!token_of(req, token)) {
        return refuse(err);
    }
    if (sha256_hex(token, strlen(token), sha, err) < 0) {
        return -1;
    }
    snprintf(id, sizeof(id), "s-%.32s", sha);
    if (!auth_cache_get(gw->auth, id, sha, &req->who)) {
        if (cached_only) {
            return 1;
        }
        if (find(gw, sha, &req->who, err) < 0) {
            return -1;
        }
        auth_cache_put(gw->auth, id, sha, &req->who, SESSION_CACHE_MS);
    }
    return check_csrf(gw, req, token, err);
}

/* Beginning and end -----------------------------------------------------------------------------*/

/* The one the browser had ends with the new one's beginning; so do the oldest beyond the limit. */
static const char start_sql[] =
    "WITH old AS (UPDATE session SET ended_at = now() WHERE ended_at IS NULL"
    "   AND (token_sha256 = decode($7, 'hex') OR session_id IN (SELECT session_id FROM session"
    "     WHERE user_id = $2::uuid AND ended_at IS NULL ORDER BY created_at DESC OFFSET $8::int)))"
    "INSERT INTO session (session_id, user_id, token_sha256, method, address, agent, expires_at)"
    " VALUES ($1::uuid, $2::uuid, decode($3, 'hex'), $4, $5, $6,"
    "   now() + make_interval(secs => $9::int))";

static int give_cookie(const struct request *req, const char *token, struct reply *reply,
                       char ret_csrf[SESSION_TOKEN_SIZE], struct err *err)
{
    char name[40];

    session_cookie_name(req, "session", name, sizeof(name));
    return csrf_of(token, ret_csrf, err) < 0
               ? -1
               : session_set_cookie(req, reply, name, token, req->gw->session_max_s, false, err);
}

int session_start(struct request *req, const char *method, struct reply *reply,
                  char ret_csrf[SESSION_TOKEN_SIZE], struct err *err)
{
    char token[SESSION_TOKEN_SIZE];
    char old[SESSION_TOKEN_SIZE] = "";
    char sha[SHA256_HEX_SIZE];
    char old_sha[SHA256_HEX_SIZE] = "";
    char agent[AGENT_MAX + 1];
    struct db_num keep;
    struct db_num life;

    snprintf(agent, sizeof(agent), "%s",
             req->headers[H_USER_AGENT] ? req->headers[H_USER_AGENT] : "");
    for (char *s = agent; *s != '\0'; s++) {
        *s = (unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e ? '?' : *s;
    }
    if (new_token(token, err) < 0 || sha256_hex(token, strlen(token), sha, err) < 0 ||
        (token_of(req, old) && sha256_hex(old, strlen(old), old_sha, err) < 0)) {
        return -1;
    }
    uuid_v7(req->who.session_id);
    const char *params[] = {req->who.session_id,
                            req->who.user_id,
                            sha,
                            method,
                            req->address,
                            agent,
                            old_sha,
                            db_num(&keep, SESSIONS_MAX - 1),
                            db_num(&life, req->gw->session_max_s)};
    if (db_run(req->gw->db, start_sql, 9, params, NULL, err) < 0) {
        return -1;
    }
    req->who.credential = CREDENTIAL_SESSION;
    return give_cookie(req, token, reply, ret_csrf, err);
}

int session_rotate(struct request *req, struct reply *reply, char ret_csrf[SESSION_TOKEN_SIZE],
                   struct err *err)
{
    char token[SESSION_TOKEN_SIZE];
    char sha[SHA256_HEX_SIZE];

    if (new_token(token, err) < 0 || sha256_hex(token, strlen(token), sha, err) < 0) {
        return -1;
    }
    const char *params[] = {req->who.session_id, sha};
    if (db_run(req->gw->db,
               "UPDATE session SET token_sha256 = decode($2, 'hex') WHERE session_id = $1::uuid", 2,
               params, NULL, err) < 0 ||
        session_end_all(req->gw, req->who.user_id, req->who.session_id, err) < 0) {
        return -1;
    }
    return give_cookie(req, token, reply, ret_csrf, err);
}

int session_forget(const struct request *req, struct reply *reply, struct err *err)
{
    char name[40];

    session_cookie_name(req, "session", name, sizeof(name));
    return session_set_cookie(req, reply, name, "", 0, false, err);
}

int session_end_all(struct gateway *gw, const char *user_id, const char *except, struct err *err)
{
    const char *params[] = {user_id, except};

    if (db_run(gw->db,
               "UPDATE session SET ended_at = now() WHERE user_id = $1::uuid AND ended_at IS NULL"
               " AND ($2::uuid IS NULL OR session_id <> $2::uuid)",
               2, params, NULL, err) < 0) {
        return -1;
    }
    auth_cache_drop_user(gw->auth, user_id);
    return 0;
}
