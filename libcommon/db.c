/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool and the one place where libpq results become errors. Statements are sent asynchronously
 * and awaited with a deadline of our own, so that a silent server cannot hold a slot for ever.
 */
#include "libcommon/db.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/log.h"
#include "libcommon/metrics.h"

#define DB_PREPARED_MAX 256U

struct db_conn {
    struct db *db;
    PGconn *pg;
    bool broken;
    const char *prepared[DB_PREPARED_MAX]; /* open addressing by address */
    unsigned n_prepared;
};

struct db {
    char *url;
    char *app;
    struct db_config config;
    pthread_mutex_t lock;
    pthread_cond_t freed;
    struct db_conn **idle;
    unsigned n_idle;
    unsigned n_open;      /* idle + checked out */
    uint64_t waits, busy; /* acquisitions that had to wait; that gave up */
};

/* For metrics_collect. */
static void show_pool(void *arg)
{
    struct db *db = arg;
    char label[48], labels[64];

    pthread_mutex_lock(&db->lock);
    unsigned idle = db->n_idle, used = db->n_open - db->n_idle;
    uint64_t waits = db->waits, busy = db->busy;
    pthread_mutex_unlock(&db->lock);
    snprintf(label, sizeof(label), "pool=\"%s\"", db->config.pool);
    snprintf(labels, sizeof(labels), "%s,state=\"used\"", label);
    metrics_set("docfleet_db_connections", labels, used);
    snprintf(labels, sizeof(labels), "%s,state=\"idle\"", label);
    metrics_set("docfleet_db_connections", labels, idle);
    metrics_set("docfleet_db_connections_max", label, db->config.max_conns);
    metrics_set("docfleet_db_waits_total", label, (double)waits);
    metrics_set("docfleet_db_busy_total", label, (double)busy);
}

static void conn_close(struct db_conn *conn)
{
    PQfinish(conn->pg);
    free(conn);
}

int db_open(const struct db_config *config, struct db **ret_db, struct err *err)
{
    struct db *db = calloc(1, sizeof(*db));
    pthread_condattr_t attr;

    if (!db) {
        return err_nomem(err);
    }
    db->config = *config;
    if (db->config.max_conns < 1 || db->config.max_conns > 100) {
        db->config.max_conns = 4;
    }
    db->config.connect_timeout_ms = config->connect_timeout_ms ? config->connect_timeout_ms : 5000;
    db->config.acquire_timeout_ms = config->acquire_timeout_ms ? config->acquire_timeout_ms : 5000;
    db->config.statement_timeout_ms =
        config->statement_timeout_ms ? config->statement_timeout_ms : 5000;
    db->url = strdup(config->url ? config->url : "");
    db->app = strdup(config->application_name ? config->application_name : "docfleet");
    db->idle = calloc(db->config.max_conns, sizeof(struct db_conn *));
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&db->lock, NULL);
    pthread_cond_init(&db->freed, &attr);
    pthread_condattr_destroy(&attr);
    if (!db->url || !db->app || !db->idle) {
        db->config.pool = NULL;
        db_free(db);
        return err_nomem(err);
    }
    if (db->config.pool) {
        metrics_collect(show_pool, db);
    }
    *ret_db = db;
    return 0;
}

void db_free(struct db *db)
{
    if (!db) {
        return;
    }
    if (db->config.pool) {
        metrics_uncollect(show_pool, db);
    }
    for (unsigned i = 0; db->idle && i < db->n_idle; i++) {
        conn_close(db->idle[i]);
    }
    pthread_mutex_destroy(&db->lock);
    pthread_cond_destroy(&db->freed);
    free(db->idle);
    free(db->url);
    free(db->app);
    free(db);
}

static void first_line(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%.*s", (int)strcspn(text ? text : "", "\n"), text ? text : "");
}

int err_from_pg(struct err *err, PGconn *pg, const PGresult *res)
{
    const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
    char text[200];

    first_line(text, sizeof(text), res ? PQresultErrorMessage(res) : PQerrorMessage(pg));
    if (!state || PQstatus(pg) != CONNECTION_OK || strncmp(state, "08", 2) == 0) {
        return err_set(err, ERR_TRANSIENT, "db_unavailable", "postgres: %s", text);
    }
    if (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0 || strcmp(state, "55P03") == 0 ||
        strcmp(state, "57014") == 0) {
        return err_set(err, ERR_TRANSIENT, "db_conflict", "postgres: %s", text);
    }
    /* 25006: a server that may not write, before a replica is promoted; 58: its disk or system. */
    if (strncmp(state, "57", 2) == 0 || strncmp(state, "53", 2) == 0 ||
        strncmp(state, "58", 2) == 0 || strcmp(state, "25006") == 0) {
        return err_set(err, ERR_TRANSIENT, "db_unavailable", "postgres: %s", text);
    }
    if (strcmp(state, "23505") == 0) {
        const char *name = PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME);
        return err_set(err, ERR_PERMANENT, "db_unique", "%s", name ? name : text);
    }
    if (strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0) {
        return err_set(err, ERR_PERMANENT, "db_constraint", "postgres: %s", text);
    }
    return err_set(err, ERR_UNKNOWN, "db_error", "postgres %s: %s", state, text);
}

/* libpq would write them to stderr, between the lines of the log. */
static void on_notice(void *arg, const char *message)
{
    (void)arg;
    log_debug("postgres says", kv_str("notice", message));
}

/* Waits until the socket is readable (or writable when it asks for it), at most to the deadline. */
static int await_socket(PGconn *pg, short events, uint64_t deadline, struct err *err)
{
    for (;;) {
        uint64_t now = clock_mono_ms();
        if (now >= deadline) {
            return err_set(err, ERR_TRANSIENT, "db_unavailable", "postgres: no answer in time");
        }
        struct pollfd p = {.fd = PQsocket(pg), .events = events};
        int n = poll(&p, 1, (int)min_u64(deadline - now, 60000));
        if (n > 0) {
            return 0;
        }
        if (n < 0 && errno != EINTR) {
            return err_from_errno(err, errno, "poll");
        }
    }
}

int db_connect_raw(const char *url, const char *app, unsigned connect_timeout_ms, PGconn **ret_pg,
                   struct err *err)
{
    const char *keys[] = {"dbname",
                          "fallback_application_name",
                          "keepalives_idle",
                          "keepalives_interval",
                          "keepalives_count",
                          "tcp_user_timeout",
                          NULL};
    const char *values[] = {url, app, "10", "5", "3", "30000", NULL};
    uint64_t deadline = clock_mono_ms() + connect_timeout_ms;
    PGconn *pg = PQconnectStartParams(keys, values, 1);

    if (!pg) {
        return err_nomem(err);
    }
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    while (PQstatus(pg) != CONNECTION_BAD) {
        if (await_socket(pg, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline, err)) {
            PQfinish(pg);
            return -1;
        }
        state = PQconnectPoll(pg);
        if (state == PGRES_POLLING_OK) {
            PQsetNoticeProcessor(pg, on_notice, NULL);
            *ret_pg = pg;
            return 0;
        }
        if (state == PGRES_POLLING_FAILED) {
            break;
        }
    }
    err_from_pg(err, pg, NULL);
    PQfinish(pg);
    return -1;
}

/* Collects the results of what was sent; keeps the last one. */
static int collect(PGconn *pg, uint64_t deadline, PGresult **ret_res, struct err *err)
{
    PGresult *last = NULL;

    for (;;) {
        int flush = PQflush(pg);
        if (flush < 0) {
            PQclear(last);
            return err_from_pg(err, pg, NULL);
        }
        if (flush == 0 && !PQisBusy(pg)) {
            PGresult *res = PQgetResult(pg);
            if (!res) {
                *ret_res = last;
                return 0;
            }
            /* The first failure of a script is the one to tell. */
            if (last && PQresultStatus(last) == PGRES_FATAL_ERROR) {
                PQclear(res);
            } else {
                PQclear(last);
                last = res;
            }
            continue;
        }
        if (await_socket(pg, flush ? POLLIN | POLLOUT : POLLIN, deadline, err) < 0 ||
            (PQconsumeInput(pg) == 0 && err_from_pg(err, pg, NULL) < 0)) {
            PQclear(last);
            return -1;
        }
    }
}

static int check_result(PGconn *pg, PGresult *res, PGresult **ret_res, struct err *err)
{
    ExecStatusType status = PQresultStatus(res);

    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
        if (ret_res) {
            *ret_res = res;
        } else {
            PQclear(res);
        }
        return 0;
    }
    err_from_pg(err, pg, res);
    PQclear(res);
    return -1;
}

int db_script(struct db_conn *conn, const char *sql, unsigned timeout_ms, struct err *err)
{
    uint64_t deadline = timeout_ms ? clock_mono_ms() + timeout_ms : UINT64_MAX;
    PGresult *res = NULL;

    if (!PQsendQuery(conn->pg, sql)) {
        conn->broken = true;
        return err_from_pg(err, conn->pg, NULL);
    }
    if (collect(conn->pg, deadline, &res, err) < 0) {
        conn->broken = true;
        return -1;
    }
    return check_result(conn->pg, res, NULL, err);
}

/* A plan is made once for each connection, perhaps while the tables are empty or their statistics
 * old; then a pass over a table looks cheap, and stays when the table has a million rows. */
#define KEY_PLANS                                                                                  \
    "; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;"                        \
    " SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"

static int conn_open(struct db *db, struct db_conn **ret_conn, struct err *err)
{
    char setup[512];
    struct db_conn *conn = calloc(1, sizeof(*conn));

    if (!conn) {
        return err_nomem(err);
    }
    conn->db = db;
    if (db_connect_raw(db->url, db->app, db->config.connect_timeout_ms, &conn->pg, err) < 0) {
        free(conn);
        return -1;
    }
    PQsetnonblocking(conn->pg, 1);
    snprintf(setup, sizeof(setup),
             "SET search_path = docfleet, public; SET statement_timeout = %u; "
             "SET lock_timeout = 2000; SET idle_in_transaction_session_timeout = 30000%s%s",
             db->config.statement_timeout_ms, db->config.generic_plans ? KEY_PLANS : "",
             db->config.lazy_commit ? "; SET synchronous_commit = off" : "");
    if (db_script(conn, setup, db->config.connect_timeout_ms, err) < 0) {
        conn_close(conn);
        return -1;
    }
    *ret_conn = conn;
    return 0;
}

/* A server that went away has closed the sockets of idle connections: an idle one with something to
 * read is looked at first, so that a restart of Postgres fails no request that comes after it. */
static bool still_alive(struct db_conn *conn)
{
    struct pollfd p = {.fd = PQsocket(conn->pg), .events = POLLIN};

    if (poll(&p, 1, 0) > 0 && PQconsumeInput(conn->pg) == 0) {
        return false;
    }
    return PQstatus(conn->pg) == CONNECTION_OK;
}

int db_acquire(struct db *db, struct db_conn **ret_conn, struct err *err)
{
    struct timespec until;
    uint64_t limit = clock_mono_ms() + db->config.acquire_timeout_ms;

    until.tv_sec = (time_t)(limit / 1000);
    until.tv_nsec = (long)(limit % 1000) * 1000000L;
    pthread_mutex_lock(&db->lock);
    db->waits += db->n_idle == 0 && db->n_open >= db->config.max_conns ? 1 : 0;
    while (db->n_idle == 0 && db->n_open >= db->config.max_conns) {
        if (pthread_cond_timedwait(&db->freed, &db->lock, &until) == ETIMEDOUT) {
            db->busy++;
            pthread_mutex_unlock(&db->lock);
            return err_set(err, ERR_TRANSIENT, "db_busy", "no free database connection");
        }
    }
    while (db->n_idle > 0) {
        struct db_conn *conn = db->idle[--db->n_idle];
        if (still_alive(conn)) {
            pthread_mutex_unlock(&db->lock);
            *ret_conn = conn;
            return 0;
        }
        db->n_open--;
        conn_close(conn);
    }
    db->n_open++;
    pthread_mutex_unlock(&db->lock);
    if (conn_open(db, ret_conn, err) < 0) {
        pthread_mutex_lock(&db->lock);
        db->n_open--;
        pthread_cond_signal(&db->freed);
        pthread_mutex_unlock(&db->lock);
        return -1;
    }
    return 0;
}

void db_release(struct db_conn *conn)
{
    if (!conn) {
        return;
    }
    struct db *db = conn->db;
    if (!conn->broken && PQtransactionStatus(conn->pg) != PQTRANS_IDLE) {
        db_rollback(conn);
    }
    bool keep = !conn->broken && PQstatus(conn->pg) == CONNECTION_OK &&
                PQtransactionStatus(conn->pg) == PQTRANS_IDLE;
    pthread_mutex_lock(&db->lock);
    if (keep) {
        db->idle[db->n_idle++] = conn;
    } else {
        db->n_open--;
    }
    pthread_cond_signal(&db->freed);
    pthread_mutex_unlock(&db->lock);
    if (!keep) {
        conn_close(conn);
    }
}

/* Finds or makes the slot of a prepared statement; false when it has to be prepared now. */
static bool prepared_slot(struct db_conn *conn, const char *sql, unsigned *ret_slot)
{
    unsigned i = (unsigned)(((uintptr_t)sql >> 3) * 2654435761U) % DB_PREPARED_MAX;

    for (unsigned step = 0; step < DB_PREPARED_MAX; step++) {
        unsigned k = (i + step) % DB_PREPARED_MAX;
        if (conn->prepared[k] == sql || !conn->prepared[k]) {
            *ret_slot = k;
            return conn->prepared[k] == sql;
        }
    }
    *ret_slot = DB_PREPARED_MAX;
    return false;
}

static uint64_t conn_deadline(const struct db_conn *conn)
{
    return clock_mono_ms() + conn->db->config.statement_timeout_ms + 2000;
}

static int finish(struct db_conn *conn, int sent, PGresult **ret_res, struct err *err)
{
    PGresult *res = NULL;

    if (!sent) {
        conn->broken = true;
        return err_from_pg(err, conn->pg, NULL);
    }
    if (collect(conn->pg, conn_deadline(conn), &res, err) < 0) {
        conn->broken = true;
        return -1;
    }
    if (check_result(conn->pg, res, ret_res, err) < 0) {
        /* It may lead to a server that is no longer the right one. */
        conn->broken = conn->broken || strcmp(err->code, "db_unavailable") == 0;
        return -1;
    }
    return 0;
}

int db_query_dynamic(struct db_conn *conn, const char *sql, int n, const char *const *params,
                     PGresult **ret_res, struct err *err)
{
    return finish(conn, PQsendQueryParams(conn->pg, sql, n, NULL, params, NULL, NULL, 0), ret_res,
                  err);
}

int db_query(struct db_conn *conn, const char *sql, int n, const char *const *params,
             PGresult **ret_res, struct err *err)
{
    unsigned slot;
    char name[16];
    bool ready = prepared_slot(conn, sql, &slot);

    if (slot == DB_PREPARED_MAX) {
        return db_query_dynamic(conn, sql, n, params, ret_res, err);
    }
    snprintf(name, sizeof(name), "s%u", slot);
    if (!ready) {
        if (finish(conn, PQsendPrepare(conn->pg, name, sql, n, NULL), NULL, err) < 0) {
            return -1;
        }
        conn->prepared[slot] = sql;
    }
    return finish(conn, PQsendQueryPrepared(conn->pg, name, n, params, NULL, NULL, 0), ret_res,
                  err);
}

int db_begin(struct db_conn *conn, struct err *err)
{
    return db_query(conn, "BEGIN", 0, NULL, NULL, err);
}

int db_commit(struct db_conn *conn, struct err *err)
{
    return db_query(conn, "COMMIT", 0, NULL, NULL, err);
}

void db_rollback(struct db_conn *conn)
{
    struct err err = ERR_INIT;

    if (db_query(conn, "ROLLBACK", 0, NULL, NULL, &err) < 0) {
        conn->broken = true;
    }
}

int db_run(struct db *db, const char *sql, int n, const char *const *params, PGresult **ret_res,
           struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;

    if (db_acquire(db, &conn, err) < 0) {
        return -1;
    }
    return db_query(conn, sql, n, params, ret_res, err);
}

int db_ping(struct db *db, struct err *err)
{
    return db_run(db, "SELECT 1", 0, NULL, NULL, err);
}

PGconn *db_raw(struct db_conn *conn)
{
    return conn->pg;
}

int64_t db_i64(const PGresult *res, int row, int col)
{
    const char *s = db_str(res, row, col);

    return s ? (int64_t)strtoll(s, NULL, 10) : 0;
}

bool db_bool(const PGresult *res, int row, int col)
{
    const char *s = db_str(res, row, col);

    return s && s[0] == 't';
}

const char *db_num(struct db_num *num, int64_t value)
{
    snprintf(num->text, sizeof(num->text), "%" PRId64, value);
    return num->text;
}
