/* SPDX-License-Identifier: Apache-2.0 */
#include "libcommon/quota.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/metrics.h"

static const char *const names[QUOTA_KINDS] = {"files", "bytes", "pages", "money"};

const char *quota_kind_name(enum quota_kind kind)
{
    return names[kind];
}

static void count(enum quota_kind kind, double n)
{
    char labels[32];

    snprintf(labels, sizeof(labels), "quota=\"%s\"", names[kind]);
    metrics_add("docfleet_quota_exceeded_total", labels, n);
}

void quota_metrics(void)
{
    for (int k = 0; k < QUOTA_KINDS; k++) {
        count((enum quota_kind)k, 0);
    }
}

#define MONTH "date_trunc('month', now() AT TIME ZONE 'UTC')::date"

/* One row: four limits, four sums, the month. Totals and deltas are of one snapshot, so a fold in
 * between counts nothing twice. */
static const char read_sql[] =
    "SELECT coalesce(q.files, d.files, -1), coalesce(q.bytes, d.bytes, -1),"
    "   coalesce(q.pages, d.pages, -1), coalesce(q.micros, d.micros, -1),"
    "   greatest(0, s.files), greatest(0, s.bytes), s.pages, s.micros, " MONTH
    " FROM (SELECT coalesce(sum(files), 0)::bigint AS files,"
    "     coalesce(sum(bytes), 0)::bigint AS bytes,"
    "     coalesce(sum(pages) FILTER (WHERE month = " MONTH "), 0)::bigint AS pages,"
    "     coalesce(sum(micros) FILTER (WHERE month = " MONTH "), 0)::bigint AS micros FROM"
    "     (SELECT files, bytes, pages, micros, month FROM usage_total WHERE user_id = $1::uuid"
    "      UNION ALL SELECT files, bytes, pages, micros,"
    "        date_trunc('month', at AT TIME ZONE 'UTC')::date FROM usage_delta"
    "        WHERE user_id = $1::uuid) x) s"
    " LEFT JOIN quota q ON q.user_id = $1::uuid"
    " LEFT JOIN quota d ON d.user_id = '" QUOTA_DEFAULT_USER "'";

int quota_read(struct db_conn *conn, const char *user_id, struct quota *ret_quota, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {user_id};

    if (db_query(conn, read_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    for (int k = 0; k < QUOTA_KINDS; k++) {
        ret_quota->limit[k] = db_i64(res, 0, k);
        ret_quota->used[k] = db_i64(res, 0, QUOTA_KINDS + k);
    }
    snprintf(ret_quota->month, sizeof(ret_quota->month), "%s", PQgetvalue(res, 0, 2 * QUOTA_KINDS));
    return 0;
}

/* The lock is its own statement: what the next one sees is of after it was given. */
static const char lock_sql[] =
    "SELECT pg_advisory_xact_lock(776006, hashtext($1)) WHERE EXISTS (SELECT 1 FROM quota"
    " WHERE user_id IN ($1::uuid, '" QUOTA_DEFAULT_USER "'))";

int quota_lock(struct db_conn *conn, const char *user_id, struct quota *ret_quota, struct err *err)
{
    const char *params[] = {user_id};

    return db_query(conn, lock_sql, 1, params, NULL, err) < 0
               ? -1
               : quota_read(conn, user_id, ret_quota, err);
}

int quota_take(struct quota *quota, enum quota_kind kind, int64_t n, struct err *err)
{
    const int64_t limit = quota->limit[kind];
    const int64_t used = quota->used[kind];

    if (n > 0 && limit != QUOTA_NONE && (used >= limit || n > limit - used)) {
        count(kind, 1);
        if (kind == QUOTA_MICROS) {
            return err_set(err, ERR_PERMANENT, "quota_exceeded",
                           "quota of money: limit %.6g a month, used %.6g, asked for %.6g more",
                           (double)limit / 1e6, (double)used / 1e6, (double)n / 1e6);
        }
        return err_set(err, ERR_PERMANENT, "quota_exceeded",
                       "quota of %s: limit %" PRId64 "%s, used %" PRId64 ", asked for %" PRId64
                       " more",
                       names[kind], limit, kind == QUOTA_PAGES ? " a month" : "", used, n);
    }
    quota->used[kind] += n;
    return 0;
}

int quota_take_file(struct quota *quota, uint64_t bytes, struct err *err)
{
    if (quota_take(quota, QUOTA_FILES, 1, err) < 0) {
        return -1;
    }
    if (quota_take(quota, QUOTA_BYTES, (int64_t)bytes, err) < 0) {
        quota->used[QUOTA_FILES]--;
        return -1;
    }
    return 0;
}

/* $1 file $2 generation $3 pages. */
static const char pages_sql[] =
    "INSERT INTO spend (file_id, generation, stage, unit, calls, tokens, micros, pages)"
    " VALUES ($1::uuid, $2::int, 1, 0, 0, 0, 0, $3::int) ON CONFLICT DO NOTHING";

/* Where nobody has a limit, one round trip: $4 user. No row: there is one, or they are counted. */
static const char free_pages_sql[] =
    "INSERT INTO spend (file_id, generation, stage, unit, calls, tokens, micros, pages)"
    " SELECT $1::uuid, $2::int, 1, 0, 0, 0, 0, $3::int WHERE NOT EXISTS (SELECT 1 FROM quota"
    "   WHERE user_id IN ($4::uuid, '" QUOTA_DEFAULT_USER "')) ON CONFLICT DO NOTHING RETURNING 1";

static const char counted_sql[] =
    "SELECT 1 FROM spend WHERE file_id = $1::uuid AND generation = $2::int AND stage = 1"
    " AND unit = 0";

int quota_charge_pages(struct db *db, const char *user_id, const char *file_id, int generation,
                       int pages, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *counted = NULL;
    CLEANUP(db_result_cleanup) PGresult *free_of = NULL;
    struct quota quota;
    struct db_num n[2];
    const char *params[] = {file_id, db_num(&n[0], generation), db_num(&n[1], pages), user_id};

    if (db_run(db, free_pages_sql, 4, params, &free_of, err) < 0) {
        return -1;
    }
    if (PQntuples(free_of) > 0) {
        return 0;
    }
    if (db_acquire(db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        quota_lock(conn, user_id, &quota, err) < 0 ||
        db_query(conn, counted_sql, 2, params, &counted, err) < 0) {
        return -1;
    }
    if (PQntuples(counted) > 0) {
        return 0;
    }
    return quota_take(&quota, QUOTA_PAGES, pages, err) < 0 ||
                   db_query(conn, pages_sql, 3, params, NULL, err) < 0
               ? -1
               : db_commit(conn, err);
}

/* $1 file $2 generation $3 stage $4 unit $5 micros $6 calls. */
static const char call_sql[] =
    "INSERT INTO spend (file_id, generation, stage, unit, calls, tokens, micros)"
    " VALUES ($1::uuid, $2::int, $3::smallint, $4::int, $6::int, 0, $5::bigint)"
    " ON CONFLICT (file_id, generation, stage, unit) DO UPDATE SET"
    "   calls = spend.calls + excluded.calls, micros = spend.micros + excluded.micros";

int quota_charge_call(struct db *db, const char *user_id, const char *file_id, int generation,
                      int stage, int unit, int64_t micros, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    struct quota quota;
    struct db_num n[5];
    const char *params[] = {file_id,
                            db_num(&n[0], generation),
                            db_num(&n[1], stage),
                            db_num(&n[2], unit),
                            db_num(&n[3], micros),
                            db_num(&n[4], micros < 0 ? -1 : 1)};

    return db_acquire(db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
                   quota_lock(conn, user_id, &quota, err) < 0 ||
                   quota_take(&quota, QUOTA_MICROS, micros, err) < 0 ||
                   db_query(conn, call_sql, 6, params, NULL, err) < 0
               ? -1
               : db_commit(conn, err);
}
