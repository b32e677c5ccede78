/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded pool of Postgres connections with prepared statements and deadlines.
 * Invariant: a connection goes back to the pool only when it is idle outside a transaction;
 * a broken or half-used one is closed instead. Parameters and results are in text format.
 */
#pragma once

#include "libcommon/err.h"

#include <libpq-fe.h>

struct db;      /* pool, thread-safe */
struct db_conn; /* one checked-out connection, one thread at a time */

struct db_config {
    const char *url;              /* libpq URI or keyword string; copied */
    const char *application_name; /* shown in pg_stat_activity; copied */
    const char *pool;             /* its name in metrics, kept; NULL: not shown */
    unsigned max_conns;           /* 1..100 */
    unsigned connect_timeout_ms;  /* default 5000 */
    unsigned acquire_timeout_ms;  /* default 5000 */
    bool generic_plans;           /* prepared statements are planned once, for any values */
    bool lazy_commit; /* a crash of the server may undo the last commits: for what is then redone */
    bool row_security;             /* statements carry the view of their thread, see db_view_take */
    unsigned statement_timeout_ms; /* default 5000; enforced by the server, +2 s by the client */
};

/* Whose rows a thread's statements may see, where the database role is held by row security. It
 * goes with each transaction (never with the session, which a pooler would lend to somebody else),
 * in the same round trip. Other pools and other roles are not affected. */
enum db_view {
    DB_VIEW_NONE,  /* nobody's: statements on such tables fail */
    DB_VIEW_LOGIN, /* accounts and credentials only, of all */
    DB_VIEW_USER,  /* those of one account */
    DB_VIEW_ALL,   /* of all accounts; for operators, by name */
};
/* For this thread, until the next call. user_id: who acts; NULL for NONE and LOGIN. */
void db_view_take(enum db_view view, const char *user_id);

/* Copies the settings; connects lazily, so that a service starts while Postgres is away. */
int db_open(const struct db_config *config, struct db **ret_db, struct err *err) WARN_UNUSED;
void db_free(struct db *db);
/* One round trip on a fresh or pooled connection, for /readyz. */
int db_ping(struct db *db, struct err *err) WARN_UNUSED;

/* Waits at most acquire_timeout_ms; ERR_TRANSIENT "db_unavailable" / "db_busy". */
int db_acquire(struct db *db, struct db_conn **ret_conn, struct err *err) WARN_UNUSED;
/* Rolls back what is open. Takes NULL. */
void db_release(struct db_conn *conn);
DEFINE_CLEANUP(struct db_conn *, db_conn_cleanup, db_release)

UNUSED
static inline void db_result_cleanup(PGresult **res)
{
    PQclear(*res);
    *res = NULL;
}

/* Runs one statement. sql must be a string constant: it is prepared once per connection, keyed by
 * its address. params: n text values, NULL for SQL null. *ret_res (may be NULL) is PQclear'd by
 * the caller: CLEANUP(db_result_cleanup). Errors by SQLSTATE:
 *   connection trouble, 57xxx, 53xxx  ERR_TRANSIENT "db_unavailable"
 *   40001 40P01 55P03 57014           ERR_TRANSIENT "db_conflict"
 *   23505                             ERR_PERMANENT "db_unique", message = constraint name
 *   other class 22, 23                ERR_PERMANENT "db_constraint"
 *   else                              ERR_UNKNOWN "db_error" */
int db_query(struct db_conn *conn, const char *sql, int n, const char *const *params,
             PGresult **ret_res, struct err *err) WARN_UNUSED;
/* Same for text built at run time (filters of a list): never prepared; values still only as
 * parameters. */
int db_query_dynamic(struct db_conn *conn, const char *sql, int n, const char *const *params,
                     PGresult **ret_res, struct err *err) WARN_UNUSED;
/* Several statements without parameters (migrations). timeout_ms 0: no client limit. */
int db_script(struct db_conn *conn, const char *sql, unsigned timeout_ms,
              struct err *err) WARN_UNUSED;

int db_begin(struct db_conn *conn, struct err *err) WARN_UNUSED;
/* All that is read is of one moment, and nothing is written. */
int db_begin_snapshot(struct db_conn *conn, struct err *err) WARN_UNUSED;
int db_commit(struct db_conn *conn, struct err *err) WARN_UNUSED;
void db_rollback(struct db_conn *conn);

/* Acquires, runs one statement, releases. */
int db_run(struct db *db, const char *sql, int n, const char *const *params, PGresult **ret_res,
           struct err *err) WARN_UNUSED;

/* The raw handle, for LISTEN and COPY only. */
PGconn *db_raw(struct db_conn *conn);
/* A connection of its own outside any pool (leader locks, LISTEN, migrations). Close with
 * PQfinish. */
int db_connect_raw(const char *url, const char *application_name, unsigned connect_timeout_ms,
                   PGconn **ret_pg, struct err *err) WARN_UNUSED;
/* Fills *err from a failed result or connection; returns -1. The one translation of libpq. */
int err_from_pg(struct err *err, PGconn *pg, const PGresult *res);

/* Cells. */
static inline const char *db_str(const PGresult *res, int row, int col)
{
    return PQgetisnull(res, row, col) ? NULL : PQgetvalue(res, row, col);
}
int64_t db_i64(const PGresult *res, int row, int col); /* 0 for null */
bool db_bool(const PGresult *res, int row, int col);   /* false for null */

/* Text of an integer parameter, in a buffer owned by the caller. */
struct db_num {
    char text[24];
};
const char *db_num(struct db_num *num, int64_t value);
