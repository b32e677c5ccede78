/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool: connections are made, lent, and closed when they are no longer to be trusted.
 */
#include "libcommon/db.h"

#include "libcommon/db_intern.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/log.h"
#include "libcommon/metrics.h"

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

/* libpq would write them to stderr, between the lines of the log. */
static void on_notice(void *arg, const char *message)
{
    (void)arg;
    log_debug("postgres says", kv_str("notice", message));
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
        if (db_await_socket(pg, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline, err)) {
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

/* A plan is made once for each connection, perhaps while the tables are empty or their statistics
 * old; then a pass over a table looks cheap, and stays when the table has a million rows. */
#define KEY_PLANS                                                                                  \
    "; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;"                        \
    " SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"

/* Once a process: a role that owns the tables, or is a superuser, is held by no policy. */
static void tell_wall(struct db_conn *conn)
{
    struct db *db = conn->db;
    struct err ignored = ERR_INIT;
    PGresult *res = NULL;

    pthread_mutex_lock(&db->lock);
    bool told = db->wall_told;
    db->wall_told = true;
    pthread_mutex_unlock(&db->lock);
    if (told || !db->config.row_security ||
        !PQsendQuery(conn->pg, "SELECT row_security_active('docfleet.file')") ||
        db_collect(conn->pg, clock_mono_ms() + 5000, &res, &ignored) < 0) {
        return;
    }
    bool active = PQresultStatus(res) == PGRES_TUPLES_OK && PQgetvalue(res, 0, 0)[0] == 't';
    metrics_set("docfleet_row_security", "", active ? 1 : 0);
    if (!active) {
        log_warn("row security does not hold this database role; see docs/security.md");
    }
    PQclear(res);
}

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
    tell_wall(conn);
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
