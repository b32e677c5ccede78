/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was proven a moment ago: one slot per credential, the newest wins. A slot holds the digest
 * of the secret, so a hit needs the same secret and not only the same name.
 */
#include "services/ingest-gateway/auth.h"

#include "libcommon/fnv.h"
#include "libcommon/sha256.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CACHE_SLOTS 1024U

struct slot {
    char id[AUTH_ID_SIZE];
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

static struct slot *slot_of(struct auth_cache *cache, const char *id)
{
    return &cache->slots[fnv32(id) % CACHE_SLOTS];
}

bool auth_cache_get(struct auth_cache *cache, const char *id, const char *sha256,
                    struct principal *ret_who)
{
    pthread_mutex_lock(&cache->lock);
    const struct slot *slot = slot_of(cache, id);
    bool hit = slot->until_ms > clock_mono_ms() && strcmp(slot->id, id) == 0 &&
               CRYPTO_memcmp(slot->sha256, sha256, SHA256_HEX_SIZE - 1) == 0;
    if (hit) {
        *ret_who = slot->who;
    }
    pthread_mutex_unlock(&cache->lock);
    return hit;
}

void auth_cache_put(struct auth_cache *cache, const char *id, const char *sha256,
                    const struct principal *who, uint64_t ms)
{
    pthread_mutex_lock(&cache->lock);
    struct slot *slot = slot_of(cache, id);
    snprintf(slot->id, sizeof(slot->id), "%s", id);
    snprintf(slot->sha256, sizeof(slot->sha256), "%s", sha256);
    slot->who = *who;
    slot->until_ms = clock_mono_ms() + ms;
    pthread_mutex_unlock(&cache->lock);
}

static void drop(struct auth_cache *cache, const char *key, const char *session, const char *user)
{
    pthread_mutex_lock(&cache->lock);
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        struct slot *slot = &cache->slots[i];
        if ((key && strcmp(slot->who.key_id, key) == 0) ||
            (session && strcmp(slot->who.session_id, session) == 0) ||
            (user && strcmp(slot->who.user_id, user) == 0)) {
            slot->until_ms = 0;
        }
    }
    pthread_mutex_unlock(&cache->lock);
}

void auth_cache_drop_key(struct auth_cache *cache, const char *key_id)
{
    drop(cache, key_id, NULL, NULL);
}

void auth_cache_drop_session(struct auth_cache *cache, const char *session_id)
{
    drop(cache, NULL, session_id, NULL);
}

void auth_cache_drop_user(struct auth_cache *cache, const char *user_id)
{
    drop(cache, NULL, NULL, user_id);
}
