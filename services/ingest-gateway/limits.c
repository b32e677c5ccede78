/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/limits.h"

#include "libcommon/db.h"
#include "libcommon/fnv.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/origin.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define SLOTS 8192U /* a power of two */
#define PROBES 8U
#define GOOD_SLOTS 4096U
#define KEY_SIZE 64U
#define NEEDS_MAX 3U
#define FAILURE_WINDOW_S 300
#define TURNS_MAX 8 /* leases of one request, when other threads are faster to spend them */

enum kind { PER_KEY, PER_USER, PER_ADDRESS, FAILURES, KINDS };

static const char *const kind_names[KINDS] = {"key", "user", "address", "failures"};

/* What this replica knows of a bucket. */
struct slot {
    char key[KEY_SIZE]; /* "" : free */
    double tokens;      /* leased and not yet spent */
    double left;        /* what Postgres had left after the last lease */
    uint64_t until_ms;  /* the lease's end */
    uint64_t since_ms;  /* the lease's begin */
    uint64_t none_ms;   /* no token before this time */
    double want;        /* size of the next lease */
};

struct policy {
    double rate;  /* tokens a second; 0: no limit */
    double burst; /* at most in the bucket */
    int64_t window_s;
};

struct limits {
    struct policy policies[KINDS];
    pthread_mutex_t lock;
    struct slot slots[SLOTS];
    uint64_t good[GOOD_SLOTS]; /* digests of credentials that were good */
};

/* A bucket that a request needs a token of. */
struct need {
    enum kind kind;
    char key[KEY_SIZE];
};

int limits_new(const struct limits_config *config, struct limits **ret_limits, struct err *err)
{
    struct limits *limits = calloc(1, sizeof(*limits));
    const int64_t rates[] = {config->per_key, config->per_user, config->per_address};

    if (!limits) {
        return err_nomem(err);
    }
    for (size_t k = 0; k < ARRAY_LEN(rates); k++) {
        limits->policies[k] = (struct policy){
            (double)rates[k], (double)(rates[k] * config->window_s), config->window_s};
    }
    limits->policies[FAILURES] = (struct policy){(double)config->failures / FAILURE_WINDOW_S,
                                                 (double)config->failures, FAILURE_WINDOW_S};
    for (size_t k = 0; k < KINDS; k++) {
        char labels[40];
        snprintf(labels, sizeof(labels), "bucket=\"%s\"", kind_names[k]);
        metrics_add("docfleet_http_limited_total", labels, 0);
    }
    pthread_mutex_init(&limits->lock, NULL);
    *ret_limits = limits;
    return 0;
}

void limits_free(struct limits *limits)
{
    if (limits) {
        pthread_mutex_destroy(&limits->lock);
        free(limits);
    }
}

/* The slot of a bucket; of a full row the one whose lease ends first is given up. Lock held. */
static struct slot *slot_of(struct limits *limits, const char *key)
{
    const uint64_t h = fnv64(FNV64_START, key, strlen(key));
    struct slot *oldest = NULL;

    for (uint64_t i = 0; i < PROBES; i++) {
        struct slot *slot = &limits->slots[(h + i) % SLOTS];
        if (strcmp(slot->key, key) == 0) {
            return slot;
        }
        if (!oldest || slot->until_ms < oldest->until_ms) {
            oldest = slot;
        }
    }
    *oldest = (struct slot){.tokens = 0};
    snprintf(oldest->key, sizeof(oldest->key), "%s", key);
    return oldest;
}

static void add_need(const struct limits *limits, enum kind kind, char prefix, const char *id,
                     struct need needs[NEEDS_MAX], size_t *n)
{
    if (limits->policies[kind].rate > 0 && id[0] != '\0') {
        needs[*n].kind = kind;
        snprintf(needs[(*n)++].key, KEY_SIZE, "%c:%s", prefix, id);
    }
}

static size_t needs_of(const struct limits *limits, const struct request *req,
                       struct need needs[NEEDS_MAX])
{
    const struct principal *who = &req->who;
    char net[ORIGIN_ADDRESS_SIZE];
    size_t n = 0;

    origin_network(req->address, net);
    add_need(limits, PER_KEY, 'k',
             who->key_id[0] != '\0'       ? who->key_id
             : who->session_id[0] != '\0' ? who->session_id
                                          : who->user_id,
             needs, &n);
    add_need(limits, PER_USER, 'u', who->user_id, needs, &n);
    add_need(limits, PER_ADDRESS, 'a', net, needs, &n);
    return n;
}

/* For the answer: the bucket with the smallest part left. Lock held. */
static void note(const struct limits *limits, struct request *req, const struct need *need,
                 const struct slot *slot)
{
    const struct policy *p = &limits->policies[need->kind];
    const double left = fmin(p->burst, slot->tokens + slot->left);
    const double part = left / p->burst;

    if (!req->limit.name || part < req->limit.part) {
        req->limit.name = kind_names[need->kind];
        req->limit.part = part;
        req->limit.quota = (int64_t)p->burst;
        req->limit.window_s = p->window_s;
        req->limit.left = (int64_t)fmax(0, left);
        req->limit.reset_s = (int64_t)ceil((p->burst - left) / p->rate);
    }
}

static int refuse(struct request *req, enum kind kind, uint64_t wait_ms, struct err *err)
{
    char labels[40];

    req->retry_after_s = (int64_t)((wait_ms + 999) / 1000);
    snprintf(labels, sizeof(labels), "bucket=\"%s\"", kind_names[kind]);
    metrics_inc("docfleet_http_limited_total", labels);
    return err_set(err, ERR_PERMANENT, "too_many_requests",
                   "too many %s of this %s; please wait %lld s",
                   kind == FAILURES ? "refused credentials" : "requests",
                   kind == FAILURES ? "address" : kind_names[kind], (long long)req->retry_after_s);
}

/* All or nothing. 0 taken, 1 a lease is needed, -1 refused. Lock held. */
static int take_known(struct limits *limits, struct request *req, const struct need *needs,
                      size_t n, struct err *err)
{
    const uint64_t now = clock_mono_ms();
    bool lease = false;

    for (size_t i = 0; i < n; i++) {
        const struct slot *slot = slot_of(limits, needs[i].key);
        if (slot->tokens >= 1 && slot->until_ms > now) {
            continue;
        }
        if (slot->none_ms > now) {
            note(limits, req, &needs[i], slot);
            return refuse(req, needs[i].kind, slot->none_ms - now, err);
        }
        lease = true;
    }
    for (size_t i = 0; i < n && !lease; i++) {
        struct slot *slot = slot_of(limits, needs[i].key);
        slot->tokens -= 1;
        note(limits, req, &needs[i], slot);
    }
    return lease ? 1 : 0;
}

/* $1 keys $2 rates $3 bursts $4 wanted. Rows in one order, so that two replicas never wait for each
 * other in a circle. A new bucket is full; excluded.tokens + excluded.granted is its burst. */
static const char lease_sql[] =
    "WITH b AS (SELECT * FROM unnest($1::text[], $2::float8[], $3::float8[], $4::float8[])"
    "   AS b(key, rate, burst, want))"
    " INSERT INTO rate_bucket AS r (key, rate, tokens, granted)"
    "   SELECT key, rate, burst - least(want, burst), least(want, burst) FROM b ORDER BY key"
    " ON CONFLICT (key) DO UPDATE SET at = greatest(r.at, now()), rate = excluded.rate,"
    "   granted = least(excluded.granted, floor(least(excluded.tokens + excluded.granted,"
    "     r.tokens + excluded.rate * greatest(0, extract(epoch FROM now() - r.at))))),"
    "   tokens = least(excluded.tokens + excluded.granted,"
    "     r.tokens + excluded.rate * greatest(0, extract(epoch FROM now() - r.at)))"
    "     - least(excluded.granted, floor(least(excluded.tokens + excluded.granted,"
    "     r.tokens + excluded.rate * greatest(0, extract(epoch FROM now() - r.at)))))"
    " RETURNING key, granted, tokens";

struct lists {
    char keys[NEEDS_MAX * (KEY_SIZE + 3) + 3];
    char rates[96];
    char bursts[96];
    char wants[96];
    size_t n;
};

/* A lease lasts about a second under load: one used up sooner is followed by a larger one. */
static double next_want(const struct policy *p, const struct slot *slot, uint64_t now)
{
    const double least = fmax(1, p->burst / 100);
    const double most = fmax(1, p->burst / 10);
    double want = fmax(least, slot->want);

    if (slot->since_ms > 0) {
        want = now - slot->since_ms < 1000 ? want * 2 : want / 2;
    }
    return floor(fmin(fmax(want, least), most));
}

static void add_number(char *list, size_t size, double value)
{
    const size_t n = strlen(list);

    snprintf(list + n, size - n, "%s%.6g", n > 1 ? "," : "", value);
}

static void add_bucket(struct lists *lists, const struct policy *p, const char *key, double want)
{
    const size_t n = strlen(lists->keys);

    snprintf(lists->keys + n, sizeof(lists->keys) - n, "%s\"%s\"", n > 1 ? "," : "", key);
    add_number(lists->rates, sizeof(lists->rates), p->rate);
    add_number(lists->bursts, sizeof(lists->bursts), p->burst);
    add_number(lists->wants, sizeof(lists->wants), want);
    lists->n++;
}

/* Which of them are short, as arrays for the statement. fixed > 0: all of them, by so much. Lock
 * held. */
static void list_short(struct limits *limits, const struct need *needs, size_t n, double fixed,
                       struct lists *lists)
{
    const uint64_t now = clock_mono_ms();

    *lists = (struct lists){"{", "{", "{", "{", 0};
    for (size_t i = 0; i < n; i++) {
        const struct policy *p = &limits->policies[needs[i].kind];
        struct slot *slot = slot_of(limits, needs[i].key);
        if (fixed > 0 || slot->tokens < 1 || slot->until_ms <= now) {
            slot->want = fixed > 0 ? fixed : next_want(p, slot, now);
            add_bucket(lists, p, needs[i].key, slot->want);
        }
    }
    strncat(lists->keys, "}", sizeof(lists->keys) - strlen(lists->keys) - 1);
    strncat(lists->rates, "}", sizeof(lists->rates) - strlen(lists->rates) - 1);
    strncat(lists->bursts, "}", sizeof(lists->bursts) - strlen(lists->bursts) - 1);
    strncat(lists->wants, "}", sizeof(lists->wants) - strlen(lists->wants) - 1);
}

/* Lock held. */
static void enter_lease(const struct policy *p, struct slot *slot, double granted, double left)
{
    const uint64_t now = clock_mono_ms();

    slot->tokens = (slot->until_ms > now ? slot->tokens : 0) + granted;
    slot->left = left;
    slot->since_ms = now;
    slot->until_ms = now + (uint64_t)p->window_s * 1000;
    slot->none_ms = granted < 1 ? now + (uint64_t)((1 - left) / p->rate * 1000) + 1 : 0;
}

static void enter_leases(struct limits *limits, const struct need *needs, size_t n,
                         const PGresult *res)
{
    for (int row = 0; row < PQntuples(res); row++) {
        for (size_t i = 0; i < n; i++) {
            if (strcmp(needs[i].key, PQgetvalue(res, row, 0)) == 0) {
                enter_lease(&limits->policies[needs[i].kind], slot_of(limits, needs[i].key),
                            strtod(PQgetvalue(res, row, 1), NULL),
                            strtod(PQgetvalue(res, row, 2), NULL));
            }
        }
    }
}

/* Leases what is short; what came is known when it returns, with the lock held again. */
static int lease(struct limits *limits, struct db *db, const struct need *needs, size_t n,
                 double fixed, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct lists lists;

    list_short(limits, needs, n, fixed, &lists);
    if (lists.n == 0) {
        return 0;
    }
    pthread_mutex_unlock(&limits->lock);
    const char *params[] = {lists.keys, lists.rates, lists.bursts, lists.wants};
    const int rc = db_run(db, lease_sql, 4, params, &res, err);
    pthread_mutex_lock(&limits->lock);
    if (rc == 0) {
        enter_leases(limits, needs, n, res);
    }
    return rc;
}

int limits_take(struct request *req, bool cached_only, struct err *err)
{
    struct limits *limits = req->gw->limits;
    struct need needs[NEEDS_MAX];
    struct err away = ERR_INIT;

    if (req->limit.passed) {
        return 0;
    }
    const size_t n = needs_of(limits, req, needs);
    pthread_mutex_lock(&limits->lock);
    int rc = take_known(limits, req, needs, n, err);
    for (int turn = 0; rc > 0 && !cached_only; turn++) {
        if (turn == TURNS_MAX) {
            rc = refuse(req, needs[0].kind, 1000, err);
        } else if (lease(limits, req->gw->db, needs, n, 0, &away) < 0) {
            rc = 0;
        } else {
            rc = take_known(limits, req, needs, n, err);
        }
    }
    pthread_mutex_unlock(&limits->lock);
    req->limit.passed = rc == 0;
    return rc;
}

/* Refused credentials
 * -----------------------------------------------------------------------------*/

static uint64_t credential_of(const struct request *req)
{
    const char *header = req->headers[H_AUTHORIZATION];
    const char *cookie = req->headers[H_COOKIE];
    const char *shown = header ? header : (cookie ? cookie : "");

    return fnv64(fnv64(FNV64_START, req->address, strlen(req->address)), shown, strlen(shown)) | 1U;
}

static bool failures_need(const struct request *req, struct need *need)
{
    char net[ORIGIN_ADDRESS_SIZE];
    size_t n = 0;
    struct need needs[NEEDS_MAX];

    origin_network(req->address, net);
    add_need(req->gw->limits, FAILURES, 'f', net, needs, &n);
    if (n > 0) {
        *need = needs[0];
    }
    return n > 0;
}

int limits_before_login(struct request *req, struct err *err)
{
    struct limits *limits = req->gw->limits;
    const uint64_t now = clock_mono_ms();
    const uint64_t credential = credential_of(req);
    struct need need;

    if (!failures_need(req, &need)) {
        return 0;
    }
    pthread_mutex_lock(&limits->lock);
    const bool good = limits->good[credential % GOOD_SLOTS] == credential;
    const uint64_t none = slot_of(limits, need.key)->none_ms;
    pthread_mutex_unlock(&limits->lock);
    return none > now && !good ? refuse(req, FAILURES, none - now, err) : 0;
}

void limits_after_login(struct request *req, bool good)
{
    struct limits *limits = req->gw->limits;
    const uint64_t credential = credential_of(req);
    struct err err = ERR_INIT;
    struct need need;

    if (!failures_need(req, &need)) {
        return;
    }
    pthread_mutex_lock(&limits->lock);
    uint64_t *known = &limits->good[credential % GOOD_SLOTS];
    if (good) {
        *known = credential;
    } else if (*known == credential) {
        *known = 0;
    }
    const int rc = good ? 0 : lease(limits, req->gw->db, &need, 1, 1, &err);
    pthread_mutex_unlock(&limits->lock);
    if (rc < 0) {
        log_err(LOG_DEBUG, "a refused credential is not counted", &err);
    }
}

void limits_headers(const struct request *req, reply_header_fn add, void *cls)
{
    char text[96];

    if (!req->limit.name) {
        return;
    }
    snprintf(text, sizeof(text), "\"%s\";q=%lld;w=%lld", req->limit.name,
             (long long)req->limit.quota, (long long)req->limit.window_s);
    add(cls, "RateLimit-Policy", text);
    snprintf(text, sizeof(text), "\"%s\";r=%lld;t=%lld", req->limit.name,
             (long long)req->limit.left, (long long)req->limit.reset_s);
    add(cls, "RateLimit", text);
}
