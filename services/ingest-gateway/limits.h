/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many requests a key, an account and an address may send, over all replicas: token buckets in
 * Postgres (rate_bucket). A replica leases some tokens of a bucket at a time and spends them
 * without asking; what it has not spent after the window is forgotten (ADR 0029). Invariant: no
 * more requests pass than tokens were handed out, and Postgres hands out at most the burst and what
 * has grown back. While Postgres is away requests are let through: those that need it fail anyway.
 * Refuses to wait: who has no token left gets a 429 at once, and without a query until there may be
 * one again.
 */
#pragma once

#include "services/ingest-gateway/request.h"

struct limits;

struct limits_config {
    int64_t per_key; /* requests a second, on average over the window; 0: no limit */
    int64_t per_user;
    int64_t per_address;
    int64_t failures; /* refused credentials of an address in five minutes; 0: no limit */
    int64_t window_s; /* so many seconds' worth may come at once */
};

int limits_new(const struct limits_config *config, struct limits **ret_limits,
               struct err *err) WARN_UNUSED;
void limits_free(struct limits *limits);

/* One request, counted once however often it is asked for. 0: it may pass; 1 (only when
 * cached_only): a worker has to ask, nothing was taken; -1: ERR_PERMANENT "too_many_requests",
 * req->retry_after_s is set. Without an account only the address counts. */
int limits_take(struct request *req, bool cached_only, struct err *err);

/* Before credentials are looked up in Postgres: -1 when this address has shown too many that were
 * none. Those that this replica has found to be good once are looked up in any case, so that
 * somebody else's wrong ones do not keep their owner out. */
int limits_before_login(struct request *req, struct err *err);
/* What came of it. */
void limits_after_login(struct request *req, bool good);

/* RateLimit-Policy and RateLimit (IETF httpapi draft) of the bucket that is closest to its end. */
void limits_headers(const struct request *req, reply_header_fn add, void *cls);
