/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/auth.h"

#include "libcommon/sha256.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#define CACHE_SLOTS 1024U
#define KEY_ID_MAX 32U

struct slot {
    char sha256[SHA256_HEX_SIZE];
    struct principal who;
    uint64_t until_ms; /* 0: empty */
};

struct auth_cache {
    pthread_mutex_t lock;
    struct slot slots[CACHE_SLOTS];
};

int auth_cache_new(struct auth_cache **ret_cache, struct err *err)
{
    struct auth_cache *cache = calloc(1, sizeof(*cache));

    if (!cache) {
        return err_nomem(err);
    }
    pthread_mutex_init(&cache->lock, NULL);
    *ret_cache = cache;
    return 0;
}

void auth_cache_free(struct auth_cache *cache)
{
    if (cache) {
        pthread_mutex_destroy(&cache->lock);
        free(cache);
    }
}

static struct slot *slot_of(struct auth_cache *cache, const char *key_id)
{
    uint32_t h = 2166136261U;

    for (const char *s = key_id; *s != '\0'; s++) {
        h = (h ^ (unsigned char)*s) * 16777619U;
    }
    return &cache->slots[h % CACHE_SLOTS];
}

void auth_cache_drop(struct auth_cache *cache, const char *key_id)
{
    pthread_mutex_lock(&cache->lock);
    struct slot *slot = slot_of(cache, key_id);
    if (strcmp(slot->who.key_id, key_id) == 0) {
        slot->until_ms = 0;
    }
    pthread_mutex_unlock(&cache->lock);
}

unsigned scope_parse(const char *name)
{
    return strcmp(name, "read") == 0    ? SCOPE_READ
           : strcmp(name, "write") == 0 ? SCOPE_WRITE
           : strcmp(name, "admin") == 0 ? SCOPE_ADMIN
                                        : 0U;
}

static int refuse(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "unauthorized", "a valid API key is needed");
}

/* Splits the header into key id and the secret's digest. */
static int parse_key(const char *header, char id[KEY_ID_MAX + 1], char sha[SHA256_HEX_SIZE],
                     struct err *err)
{
    if (!header || strncasecmp(header, "Bearer ", 7) != 0) {
        return refuse(err);
    }
    const char *key = header + 7;
    key += strspn(key, " ");
    if (strncmp(key, "dfk_", 4) != 0) {
        return refuse(err);
    }
    key += 4;
    size_t n = strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789");
    size_t secret_len = key[n] == '_' ? strlen(key + n + 1) : 0;
    if (n == 0 || n > KEY_ID_MAX || secret_len < 16 || secret_len > 200) {
        return refuse(err);
    }
    memcpy(id, key, n);
    id[n] = '\0';
    return sha256_hex(key + n + 1, secret_len, sha, err);
}

static bool cache_find(struct auth_cache *cache, const char *id, const char *sha,
                       struct principal *ret_who)
{
    pthread_mutex_lock(&cache->lock);
    const struct slot *slot = slot_of(cache, id);
    bool hit = slot->until_ms > clock_mono_ms() && strcmp(slot->who.key_id, id) == 0 &&
               CRYPTO_memcmp(slot->sha256, sha, SHA256_HEX_SIZE - 1) == 0;
    if (hit) {
        *ret_who = slot->who;
    }
    pthread_mutex_unlock(&cache->lock);
    return hit;
}

static unsigned scopes_of(const char *list, const char *role)
{
    unsigned scopes = 0;
    char copy[64];
    char *save = NULL;

    snprintf(copy, sizeof(copy), "%s", list ? list : "");
    for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
        scopes |= scope_parse(s);
    }
    if (strcmp(role, "user") == 0) {
        scopes &= ~(unsigned)SCOPE_ADMIN;
    }
    return scopes & SCOPE_ADMIN ? scopes | SCOPE_READ | SCOPE_WRITE : scopes;
}

static const char key_sql[] =
    "SELECT encode(k.secret_sha256, 'hex'), a.user_id, a.name, a.role,"
    "       array_to_string(k.scopes, ',')"
    "  FROM api_key k JOIN account a USING (user_id)"
    " WHERE k.key_id = $1 AND k.revoked_at IS NULL AND a.disabled_at IS NULL"
    "   AND (k.expires_at IS NULL OR k.expires_at > now())";

int auth_check(struct auth_cache *cache, struct db *db, const char *authorization,
               struct principal *ret_who, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    char id[KEY_ID_MAX + 1];
    char sha[SHA256_HEX_SIZE];
    struct principal who = {0};

    if (parse_key(authorization, id, sha, err) < 0) {
        return -1;
    }
    if (cache_find(cache, id, sha, ret_who)) {
        return 0;
    }
    if (!db) {
        return 1;
    }
    const char *params[] = {id};
    if (db_run(db, key_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    const char *stored = PQntuples(res) == 1 ? db_str(res, 0, 0) : NULL;
    if (!stored || strlen(stored) != SHA256_HEX_SIZE - 1 ||
        CRYPTO_memcmp(stored, sha, SHA256_HEX_SIZE - 1) != 0) {
        return refuse(err);
    }
    snprintf(who.key_id, sizeof(who.key_id), "%s", id);
    snprintf(who.user_id, sizeof(who.user_id), "%s", db_str(res, 0, 1));
    snprintf(who.name, sizeof(who.name), "%s", db_str(res, 0, 2));
    snprintf(who.role, sizeof(who.role), "%s", db_str(res, 0, 3));
    who.scopes = scopes_of(db_str(res, 0, 4), who.role);
    pthread_mutex_lock(&cache->lock);
    struct slot *slot = slot_of(cache, id);
    slot->who = who;
    memcpy(slot->sha256, sha, sizeof(sha));
    slot->until_ms = clock_mono_ms() + AUTH_CACHE_MS;
    pthread_mutex_unlock(&cache->lock);
    *ret_who = who;
    return 0;
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
