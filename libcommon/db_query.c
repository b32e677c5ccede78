/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statements, and the one place where libpq results become errors. They are sent asynchronously and
 * awaited with a deadline of our own, so that a silent server cannot hold a slot for ever.
 */
#include "libcommon/db.h"
#include "libcommon/db_intern.h"
#include "libcommon/uuid.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

static _Thread_local enum db_view view_now;
static _Thread_local char view_user[UUID_TEXT];

void db_view_take(enum db_view view, const char *user_id)
{
    view_now = view;
    snprintf(view_user, sizeof(view_user), "%s", user_id ? user_id : "");
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

int db_await_socket(PGconn *pg, short events, uint64_t deadline, struct err *err)
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

/* Of two results the one to tell: a failure stays. */
static PGresult *later_result(PGresult *last, PGresult *res)
{
    bool failed = last && PQresultStatus(last) == PGRES_FATAL_ERROR;

    PQclear(failed ? res : last);
    return failed ? last : res;
}

int db_collect(PGconn *pg, uint64_t deadline, PGresult **ret_res, struct err *err)
{
    bool pipeline = PQpipelineStatus(pg) != PQ_PIPELINE_OFF;
    PGresult *last = NULL;

    for (;;) {
        int flush = PQflush(pg);
        if (flush < 0) {
            PQclear(last);
            return err_from_pg(err, pg, NULL);
        }
        if (flush == 0 && !PQisBusy(pg)) {
            PGresult *res = PQgetResult(pg);
            if (!res && pipeline && PQstatus(pg) == CONNECTION_OK) {
                continue; /* between two statements */
            }
            if (!res || PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
                PQclear(res);
                *ret_res = last;
                return last ? 0 : err_from_pg(err, pg, NULL);
            }
            last = later_result(last, res);
            continue;
        }
        if (db_await_socket(pg, flush ? POLLIN | POLLOUT : POLLIN, deadline, err) < 0 ||
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
    if (db_collect(conn->pg, deadline, &res, err) < 0) {
        conn->broken = true;
        return -1;
    }
    return check_result(conn->pg, res, NULL, err);
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
    if (db_collect(conn->pg, conn_deadline(conn), &res, err) < 0) {
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

/* One statement: by its name when it has one. */
struct statement {
    const char *name; /* NULL: sql is sent as it is */
    const char *sql;
    int n;
    const char *const *params;
};

static int send_one(PGconn *pg, const struct statement *st)
{
    return st->name ? PQsendQueryPrepared(pg, st->name, st->n, st->params, NULL, NULL, 0)
                    : PQsendQueryParams(pg, st->sql, st->n, NULL, st->params, NULL, NULL, 0);
}

/* Two statements in one round trip, and without BEGIN in one transaction; the result is the
 * second's, or the first failure. */
static int run_two(struct db_conn *conn, const struct statement *first,
                   const struct statement *second, PGresult **ret_res, struct err *err)
{
    int sent = PQenterPipelineMode(conn->pg) && send_one(conn->pg, first) &&
               send_one(conn->pg, second) && PQpipelineSync(conn->pg);
    int rc = finish(conn, sent, ret_res, err);

    if (!conn->broken && !PQexitPipelineMode(conn->pg)) {
        conn->broken = true;
    }
    return rc;
}

/* Prepares it on this connection if it is not; name stays empty when there are too many. */
static int prepare(struct db_conn *conn, const char *sql, int n, char name[16], struct err *err)
{
    unsigned slot;
    bool ready = prepared_slot(conn, sql, &slot);

    name[0] = '\0';
    if (slot == DB_PREPARED_MAX) {
        return 0;
    }
    snprintf(name, 16, "s%u", slot);
    if (!ready) {
        if (finish(conn, PQsendPrepare(conn->pg, name, sql, n, NULL), NULL, err) < 0) {
            return -1;
        }
        conn->prepared[slot] = sql;
    }
    return 0;
}

/* The statement that tells the server the thread's view, for one transaction; *ret_n its
 * parameters. */
static const char *view_sql(int *ret_n)
{
    *ret_n = view_now == DB_VIEW_LOGIN ? 0 : 1;
    return view_now == DB_VIEW_USER ? "SELECT set_config('docfleet.user_id', $1, true)"
           : view_now == DB_VIEW_LOGIN
               ? "SELECT set_config('docfleet.role', 'login', true), set_config('docfleet.user_id',"
                 " '00000000-0000-0000-0000-000000000000', true)"
               : "SELECT set_config('docfleet.role', 'operator', true),"
                 " set_config('docfleet.user_id', $1, true)";
}

/* Runs a statement; outside of a transaction with the view before it, BEGIN with the view behind.
 */
static int run_viewed(struct db_conn *conn, const struct statement *st, bool begins,
                      PGresult **ret_res, struct err *err)
{
    if (!conn->db->config.row_security || view_now == DB_VIEW_NONE ||
        PQtransactionStatus(conn->pg) != PQTRANS_IDLE) {
        return finish(conn, send_one(conn->pg, st), ret_res, err);
    }
    const char *params[] = {view_user};
    char name[16];
    struct statement view = {.params = params};
    view.sql = view_sql(&view.n);
    if (prepare(conn, view.sql, view.n, name, err) < 0) {
        return -1;
    }
    view.name = name[0] ? name : NULL;
    return begins ? run_two(conn, st, &view, ret_res, err) : run_two(conn, &view, st, ret_res, err);
}

int db_query_dynamic(struct db_conn *conn, const char *sql, int n, const char *const *params,
                     PGresult **ret_res, struct err *err)
{
    return run_viewed(conn, &(struct statement){NULL, sql, n, params}, false, ret_res, err);
}

int db_query(struct db_conn *conn, const char *sql, int n, const char *const *params,
             PGresult **ret_res, struct err *err)
{
    char name[16];

    if (prepare(conn, sql, n, name, err) < 0) {
        return -1;
    }
    return run_viewed(conn, &(struct statement){name[0] ? name : NULL, sql, n, params}, false,
                      ret_res, err);
}

static int begin_with(struct db_conn *conn, const char *sql, struct err *err)
{
    char name[16];

    if (prepare(conn, sql, 0, name, err) < 0) {
        return -1;
    }
    return run_viewed(conn, &(struct statement){name[0] ? name : NULL, sql, 0, NULL}, true, NULL,
                      err);
}

int db_begin(struct db_conn *conn, struct err *err)
{
    return begin_with(conn, "BEGIN", err);
}

int db_begin_snapshot(struct db_conn *conn, struct err *err)
{
    return begin_with(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err);
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
