/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a request's credentials to its principal: an API key `dfk_<id>_<secret>` or a JWT in the
 * Authorization header, or the cookie of a login session.
 * Invariant: secrets are compared in constant time and only by digest; what is revoked works no
 * longer than AUTH_CACHE_MS; a request that comes with a cookie changes nothing without its CSRF
 * token.
 * Refuses to say which half of a credential was wrong.
 */
#pragma once

#include "libcommon/db.h"
#include "services/ingest-gateway/request.h"

#define AUTH_CACHE_MS 20000U
#define AUTH_ID_SIZE 72U

struct auth_cache;
struct gateway;

int auth_cache_new(struct auth_cache **ret_cache, struct err *err) WARN_UNUSED;
void auth_cache_free(struct auth_cache *cache);
/* A credential by its public part and the digest of its secret; false when it is not held. */
bool auth_cache_get(struct auth_cache *cache, const char *id, const char *sha256,
                    struct principal *ret_who);
void auth_cache_put(struct auth_cache *cache, const char *id, const char *sha256,
                    const struct principal *who, uint64_t ms);
/* Forgets, in this process and at once: a key, a session, all of an account. */
void auth_cache_drop_key(struct auth_cache *cache, const char *key_id);
void auth_cache_drop_session(struct auth_cache *cache, const char *session_id);
void auth_cache_drop_user(struct auth_cache *cache, const char *user_id);

/* Fills req->who. 0; 1 (only when cached_only): a worker has to ask; -1: "unauthorized", "csrf",
 * or transient when Postgres is away. */
int auth_request(struct gateway *gw, struct request *req, bool cached_only, struct err *err);

/* Keeps a key for some datasets to those; 0 for everybody else. 1 and -1 as above; "not_found" for
 * another dataset, "forbidden" for what is of no dataset. */
int auth_limit(struct gateway *gw, const struct request *req, bool cached_only, struct err *err);

struct auth_new_key {
    char id[16];
    char key[96];    /* the whole key, shown once */
    char sha256[65]; /* hex of the secret's digest */
};
int auth_key_make(struct auth_new_key *ret_key, struct err *err) WARN_UNUSED;
