/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gateway's handlers share: pools, store, caches, limits.
 * Invariant: everything here is set up before the first request and safe for any thread.
 */
#pragma once

#include "libcommon/db.h"
#include "libcommon/store.h"
#include "services/ingest-gateway/cors.h"
#include "services/ingest-gateway/origin.h"
#include "services/ingest-gateway/request.h"

#include <stdatomic.h>

struct audit_late;
struct auth_cache;
struct event_hub;
struct issuer;
struct limits;
struct notifier;
struct pool;

#define FILE_BYTES_MAX ((uint64_t)5 << 30)
#define UPLOAD_PARTS_MAX 1000U
#define LIST_LIMIT 50
#define LIST_LIMIT_MAX 200
#define PENDING_FILES_MAX 100000

struct gateway {
    struct db *db;
    struct db *search_db; /* statement timeout 1 s */
    struct store *store;
    struct pool *work;    /* short jobs: Postgres, small objects */
    struct pool *uploads; /* one job as long as a body comes */
    struct pool *streams; /* one job as long as an answer goes */
    struct auth_cache *auth;
    struct issuer *issuer; /* NULL: none is trusted */
    struct limits *limits;
    struct audit_late *audit_late;
    struct origin_rules proxies;
    struct cors_rules cors;
    const char *public_url; /* without a slash at its end; "" when not told */
    int64_t session_idle_s;
    int64_t session_max_s;
    int64_t password_min;
    int64_t share_days_max; /* 0: no share links */
    struct event_hub *hub;
    struct notifier *notifier;
    const char *console_dir; /* NULL: no console */
    const char *openapi;     /* JSON text; NULL: none */
    size_t openapi_len;
    uint64_t file_bytes_max;
    int event_days;
    atomic_bool draining;
};

/* One line of the access log and the metrics of a finished request. */
void gateway_observe(struct gateway *gw, const struct request *req, unsigned status,
                     uint64_t elapsed_us);
/* From now on the thread's log lines say which request and trace they belong to. */
void gateway_log_context(const struct request *req);
/* Logs an error that was answered with 5xx, or that ended a stream. */
void gateway_log_error(struct gateway *gw, const struct request *req, const struct err *err);
/* Credentials of a request. cached_only: only what needs no query; then 1 means "ask a worker". */
int gateway_authorize(struct gateway *gw, struct request *req, bool cached_only, struct err *err);
/* From here on this thread's statements see what the request may: its account's rows, on routes of
 * operators all, and where nobody has to log in only what a log-in needs. */
void gateway_take_view(const struct request *req);
