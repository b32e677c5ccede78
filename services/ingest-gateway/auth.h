/* SPDX-License-Identifier: Apache-2.0 */
/*
 * API keys `dfk_<id>_<secret>`: told apart by id, proven by the SHA-256 of the secret.
 * Invariant: comparison takes the same time whatever differs, and a revoked key works no longer
 * than AUTH_CACHE_MS.
 * Refuses to say which half of a key was wrong.
 */
#pragma once

#include "libcommon/db.h"
#include "services/ingest-gateway/request.h"

#define AUTH_CACHE_MS 20000U

struct auth_cache;

int auth_cache_new(struct auth_cache **ret_cache, struct err *err) WARN_UNUSED;
void auth_cache_free(struct auth_cache *cache);
/* Forgets a key at once in this process. */
void auth_cache_drop(struct auth_cache *cache, const char *key_id);

/* Checks an Authorization value. 0: *ret_who is filled; 1 (only when db is NULL): not in the cache;
 * -1: "unauthorized", or transient when Postgres is away. */
int auth_check(struct auth_cache *cache, struct db *db, const char *authorization,
               struct principal *ret_who, struct err *err);

struct auth_new_key {
    char id[16];
    char key[96];    /* the whole key, shown once */
    char sha256[65]; /* hex of the secret's digest */
};
int auth_key_make(struct auth_new_key *ret_key, struct err *err) WARN_UNUSED;

/* "read" "write" "admin" -> enum scope; 0 for another name. */
unsigned scope_parse(const char *name);
