/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/auth.h"

#include "libcommon/sha256.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/session.h"
#include "services/ingest-gateway/token.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#define KEY_ID_MAX 32U

static int refuse(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "unauthorized", "a sign-in or a valid API key is needed");
}

/* Splits a key into its id and its secret's digest. */
static int parse_key(const char *key, char id[KEY_ID_MAX + 1], char sha[SHA256_HEX_SIZE],
                     struct err *err)
{
    key += strlen("dfk_");
    size_t n = strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789");
    size_t secret_len = key[n] == '_' ? strlen(key + n + 1) : 0;
    if (n == 0 || n > KEY_ID_MAX || secret_len < 16 || secret_len > 200) {
        return refuse(err);
    }
    memcpy(id, key, n);
    id[n] = '\0';
    return sha256_hex(key + n + 1, secret_len, sha, err);
}

/* The time of use is written once a minute at most, and never waits for another writer. */
static const char key_sql[] =
    "WITH used AS (UPDATE api_key SET last_used_at = now() WHERE key_id = (SELECT key_id"
    "   FROM api_key WHERE key_id = $1 AND secret_sha256 = decode($2, 'hex')"
    "   AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')"
    "   FOR UPDATE SKIP LOCKED))"
    "SELECT encode(k.secret_sha256, 'hex'), a.user_id, a.name, a.role,"
    "       array_to_string(k.scopes, ','), coalesce(array_to_string(k.dataset_ids, ','), '')"
    "  FROM api_key k JOIN account a USING (user_id)"
    " WHERE k.key_id = $1 AND k.revoked_at IS NULL AND a.disabled_at IS NULL"
    "   AND (k.expires_at IS NULL OR k.expires_at > now())";

static int check_key(struct gateway *gw, struct request *req, const char *key, bool cached_only,
                     struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    char id[KEY_ID_MAX + 1];
    char sha[SHA256_HEX_SIZE];
    struct principal who = {.credential = CREDENTIAL_KEY};

    if (parse_key(key, id, sha, err) < 0) {
        return -1;
    }
    if (auth_cache_get(gw->auth, id, sha, &req->who)) {
        return 0;
    }
    if (cached_only) {
        return 1;
    }
    const char *params[] = {id, sha};
    if (db_run(gw->db, key_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    const char *stored = PQntuples(res) == 1 ? db_str(res, 0, 0) : NULL;
    if (!stored || strlen(stored) != SHA256_HEX_SIZE - 1 ||
        CRYPTO_memcmp(stored, sha, SHA256_HEX_SIZE - 1) != 0) {
        return refuse(err);
    }
    who.role = role_parse(db_str(res, 0, 3));
    who.scopes = scopes_of(db_str(res, 0, 4), who.role);
    snprintf(who.key_id, sizeof(who.key_id), "%s", id);
    snprintf(who.datasets, sizeof(who.datasets), "%s", db_str(res, 0, 5));
    snprintf(who.user_id, sizeof(who.user_id), "%s", db_str(res, 0, 1));
    snprintf(who.name, sizeof(who.name), "%s", db_str(res, 0, 2));
    auth_cache_put(gw->auth, id, sha, &who, AUTH_CACHE_MS);
    req->who = who;
    return 0;
}

int auth_request(struct gateway *gw, struct request *req, bool cached_only, struct err *err)
{
    const char *header = req->headers[H_AUTHORIZATION];

    if (!header) {
        return session_check(gw, req, cached_only, err);
    }
    if (strncasecmp(header, "Bearer ", 7) != 0) {
        return refuse(err);
    }
    const char *credential = header + 7;
    credential += strspn(credential, " ");
    return strncmp(credential, "dfk_", 4) == 0 ? check_key(gw, req, credential, cached_only, err)
                                               : token_check(gw, req, credential, cached_only, err);
}

/* What a key for some datasets may ask for: themselves, and what is in them. One statement per kind
 * of address; another kind is none of its business. */
static const struct {
    const char *prefix;
    const char *sql; /* the dataset of the first parameter; NULL: it is the parameter */
} limited[] = {
    {"/api/v1/auth/me", ""},
    {"/api/v1/datasets/{id}", NULL},
    {"/api/v1/files/{id}", "SELECT dataset_id FROM file WHERE file_id = $1::uuid"},
    {"/api/v1/batches/{id}", "SELECT dataset_id FROM batch WHERE batch_id = $1::uuid"},
    {"/api/v1/records/{id}", "SELECT dataset_id FROM record WHERE record_id = $1::uuid"},
};

static bool in_datasets(const struct principal *who, const char *id)
{
    return strlen(id) == UUID_TEXT - 1 && strstr(who->datasets, id) != NULL;
}

int auth_limit(struct gateway *gw, const struct request *req, bool cached_only, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0]};

    for (size_t i = 0; req->who.datasets[0] != '\0' && i < ARRAY_LEN(limited); i++) {
        if (strncmp(req->route->pattern, limited[i].prefix, strlen(limited[i].prefix)) != 0) {
            continue;
        }
        if (limited[i].sql && limited[i].sql[0] == '\0') {
            return 0;
        }
        if (limited[i].sql && cached_only) {
            return 1;
        }
        if (limited[i].sql && db_run(gw->db, limited[i].sql, 1, params, &res, err) < 0) {
            return -1;
        }
        const char *id = !limited[i].sql       ? req->params[0]
                         : PQntuples(res) == 1 ? db_str(res, 0, 0)
                                               : "";
        return in_datasets(&req->who, id)
                   ? 0
                   : err_set(err, ERR_PERMANENT, "not_found", "not among this key's datasets");
    }
    return req->who.datasets[0] == '\0'
               ? 0
               : err_set(err, ERR_PERMANENT, "forbidden", "this key is for some datasets alone");
}

int auth_key_make(struct auth_new_key *ret_key, struct err *err)
{
    unsigned char random[38];
    struct auth_new_key key;
    char secret[65];

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return err_set(err, ERR_TRANSIENT, "io", "no random bytes");
    }
    hex_encode(random, 6, key.id);
    hex_encode(random + 6, 32, secret);
    if (sha256_hex(secret, 64, key.sha256, err) < 0) {
        return -1;
    }
    snprintf(key.key, sizeof(key.key), "dfk_%s_%s", key.id, secret);
    *ret_key = key;
    return 0;
}
