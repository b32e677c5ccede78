/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fleet, as Postgres knows it: who lives, who leads, what waits.
 */
#include <stdio.h>
#include <string.h>

#include "services/docfleetctl/doctor.h"

#define OLD_WARN_S 600
#define OLD_BAD_S 3600

static int ask(struct doctor *d, const char *sql, PGresult **ret_res)
{
    struct err err = ERR_INIT;

    if (needs_db(d)) {
        return -1;
    }
    if (db_run(d->db, sql, 0, NULL, ret_res, &err) < 0) {
        found(d, FOUND_SKIPPED, NULL, "%s", err.msg);
        return -1;
    }
    return 0;
}

static const char workers_sql[] =
    "SELECT s.stage, count(w.worker_id), coalesce(sum(w.slots), 0),"
    "   EXISTS (SELECT 1 FROM docfleet.task t WHERE t.stage = s.stage AND t.q = 0)"
    "   OR EXISTS (SELECT 1 FROM docfleet.backlog b WHERE b.stage = s.stage AND b.n > 0)"
    " FROM generate_series(1, 7) AS s(stage) LEFT JOIN docfleet.worker w"
    "   ON w.stage = s.stage AND w.seen > now() - interval '10 seconds'"
    " GROUP BY s.stage ORDER BY s.stage";

void check_workers(struct doctor *d)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    long long workers = 0, slots = 0;
    bool good = true;

    if (ask(d, workers_sql, &res) < 0) {
        return;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        int64_t n = db_i64(res, i, 1);
        if (db_i64(res, i, 0) == STAGE_SCAN && n == 0 && *d->options.clamd == '\0') {
            continue; /* nobody asked for it */
        }
        workers += (long long)n;
        slots += (long long)db_i64(res, i, 2);
        if (n == 0) {
            bool waits = db_bool(res, i, 3);
            found(d, waits ? FOUND_PROBLEM : FOUND_WARNING, NULL, "no worker of %s lives%s",
                  stage_name((int)db_i64(res, i, 0)), waits ? ", and work waits" : "");
            good = false;
        }
    }
    if (good) {
        found(d, FOUND_OK, NULL, "%lld workers, %lld slots", workers, slots);
    }
}

static const char dispatcher_sql[] =
    "SELECT s.stage FROM generate_series(1, 7) AS s(stage) WHERE NOT EXISTS"
    " (SELECT 1 FROM docfleet.queue_state q WHERE q.stage = s.stage"
    "   AND q.updated_at > now() - interval '10 seconds') ORDER BY 1";

void check_dispatcher(struct doctor *d)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (ask(d, dispatcher_sql, &res) < 0) {
        return;
    }
    int n = PQntuples(res);
    if (n == STAGE_MAX) {
        found(d, FOUND_PROBLEM, NULL, "none has said anything for 10 s");
    }
    for (int i = 0; i < n && n < STAGE_MAX; i++) {
        found(d, FOUND_PROBLEM, NULL, "nobody leads %s", stage_name((int)db_i64(res, i, 0)));
    }
    if (n == 0) {
        found(d, FOUND_OK, NULL, "every stage is led");
    }
}

void check_paused(struct doctor *d)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (ask(d, "SELECT stage FROM docfleet.stage_control WHERE paused ORDER BY stage", &res) < 0) {
        return;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        found(d, FOUND_WARNING, NULL, "%s is paused", stage_name((int)db_i64(res, i, 0)));
    }
    if (PQntuples(res) == 0) {
        found(d, FOUND_OK, NULL, "none is");
    }
}

static const char breakers_sql[] = "SELECT stage, count(*) FROM docfleet.worker WHERE open AND "
                                   "seen > now() - interval '10 seconds'"
                                   " GROUP BY stage ORDER BY stage";

void check_breakers(struct doctor *d)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (ask(d, breakers_sql, &res) < 0) {
        return;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        found(d, FOUND_PROBLEM, NULL, "%s: open in %s workers", stage_name((int)db_i64(res, i, 0)),
              db_str(res, i, 1));
    }
    if (PQntuples(res) == 0) {
        found(d, FOUND_OK, NULL, "all are");
    }
}

static const char backlog_sql[] =
    "SELECT stage, n, extract(epoch FROM now() - oldest_at)::bigint FROM docfleet.backlog"
    " WHERE n > 0 AND oldest_at IS NOT NULL ORDER BY stage";

void check_backlog(struct doctor *d)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    bool good = true;
    long long all = 0;

    if (ask(d, backlog_sql, &res) < 0) {
        return;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        int64_t age = db_i64(res, i, 2);
        all += (long long)db_i64(res, i, 1);
        if (age > OLD_WARN_S) {
            found(d, age > OLD_BAD_S ? FOUND_PROBLEM : FOUND_WARNING, NULL,
                  "%s: %s wait, the oldest for %lld minutes", stage_name((int)db_i64(res, i, 0)),
                  db_str(res, i, 1), (long long)(age / 60));
            good = false;
        }
    }
    if (good) {
        found(d, FOUND_OK, NULL, "%lld units wait, none for long", all);
    }
}

void check_events(struct doctor *d)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (ask(d,
            "SELECT count(*) FROM (SELECT 1 FROM docfleet.event WHERE pos IS NULL"
            "   AND at < now() - interval '10 seconds' LIMIT 1000) e",
            &res) < 0) {
        return;
    }
    int64_t n = db_i64(res, 0, 0);
    found(d, n > 0 ? FOUND_PROBLEM : FOUND_OK, NULL,
          n > 0 ? "%lld events have waited for more than 10 s" : "they do", (long long)n);
}

void check_letters(struct doctor *d)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (ask(d,
            "SELECT count(*) FILTER (WHERE last_at > now() - interval '1 day'), count(*)"
            " FROM docfleet.dead_letter WHERE state = 'open' AND class <> 'permanent'",
            &res) < 0) {
        return;
    }
    int64_t day = db_i64(res, 0, 0);
    found(d, day > 0 ? FOUND_WARNING : FOUND_OK, NULL,
          "%lld units in the last day, %lld are open (without those whose file is at fault)",
          (long long)day, (long long)db_i64(res, 0, 1));
}

void check_ledger(struct doctor *d)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (ask(d, "SELECT count(*) FROM docfleet.ledger_mismatch(now() - interval '7 days')", &res) <
        0) {
        return;
    }
    int64_t n = db_i64(res, 0, 0);
    found(d, n > 0 ? FOUND_PROBLEM : FOUND_OK, NULL, n > 0 ? "%lld counts do not" : "they do",
          (long long)n);
}
