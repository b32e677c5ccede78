/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every statement over dead_letter but those that a unit's end and its retry contain (task_ops.c,
 * task_accept.c). A letter of a removed file's cleaning is the one of a removed file that counts:
 * without its replay the file would never be gone.
 */
#include "libcommon/deadletter.h"

#include "libcommon/notify.h"
#include "libcommon/states.h"
#include "libcommon/task.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define CHUNK TASK_REMOVE_MAX /* letters a transaction */
#define UNITS_PER_S 1000      /* a replay never floods the queue faster */
#define REPLAY_TIME_MS 20000U

#define LETTERS                                                                                    \
    " FROM dead_letter d LEFT JOIN file f ON f.file_id = d.file_id LEFT JOIN task t"               \
    "   ON t.file_id = d.file_id AND t.stage = d.stage AND t.unit = d.unit"                        \
    "   AND t.generation = d.generation"                                                           \
    " WHERE ($1::text = 'any' OR d.state = $1::text)"                                              \
    "   AND ($2::smallint IS NULL OR d.stage = $2::smallint)"                                      \
    "   AND ($3::text IS NULL OR d.reason = $3::text)"                                             \
    "   AND ($4::text IS NULL OR d.class = $4::text)"                                              \
    "   AND ($5::text IS NULL OR d.code_version = $5::text)"                                       \
    "   AND ($6::uuid IS NULL OR d.user_id = $6::uuid)"                                            \
    "   AND ($7::uuid IS NULL OR d.dataset_id = $7::uuid OR f.dataset_id = $7::uuid)"              \
    "   AND ($8::uuid IS NULL OR d.file_id = $8::uuid)"                                            \
    "   AND ($9::uuid IS NULL OR d.id = $9::uuid)"                                                 \
    "   AND ($10::timestamptz IS NULL OR d.last_at >= $10::timestamptz)"                           \
    "   AND ($11::timestamptz IS NULL OR d.last_at < $11::timestamptz)"
#define FILTER_PARAMS 11

#define REPLAYABLE                                                                                 \
    "coalesce(d.state = 'open' AND t.state = 5 AND f.generation = d.generation"                    \
    " AND CASE WHEN d.stage = 6 THEN f.state = 6 ELSE f.state < 6 END, false)"

#define TIME(column) "to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"

static const char list_sql[] =
    "SELECT d.id, d.file_id, d.user_id, d.stage, d.unit, d.generation, d.reason, d.class,"
    "   d.attempts, d.failures, d.crashes, d.last_error, " TIME("d.first_at") ", " TIME(
        "d.last_at") ", d.child, " REPLAYABLE
                     ", d.state, d.actor, " TIME(
                         "d.closed_at") ","
                                        "   d.code_version, coalesce(d.dataset_id, f.dataset_id), "
                                        "coalesce(d.version, 0), d.input_key,"
                                        "   d.input_etag, d.input_bytes, d.input_kind, "
                                        "d.outage_retries, d.worker, d.trace,"
                                        "   d.replay_of, CASE WHEN f.state < 6 THEN f.name "
                                        "END" LETTERS
                                        " AND ($12::uuid IS NULL OR d.id < $12::uuid) ORDER BY "
                                        "d.id DESC LIMIT $13::int";

static const char count_sql[] = "SELECT count(*), count(*) FILTER (WHERE " REPLAYABLE ")" LETTERS;

static const char groups_sql[] =
    "SELECT d.stage, d.reason, d.class, count(*), count(*) FILTER (WHERE " REPLAYABLE ")" LETTERS
    " GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT 100";

static const char chunk_sql[] =
    "SELECT d.id, d.file_id, d.stage, d.unit, d.generation, d.user_id" LETTERS " AND " REPLAYABLE
    " AND ($12::uuid IS NULL OR d.id > $12::uuid) ORDER BY d.id LIMIT $13::int";

/* What somebody sends back or closes at this moment is left to them: they hold their letters in an
 * order of their own, and waiting for them here would be a deadlock. */
static const char discard_sql[] =
    "WITH c AS (UPDATE dead_letter SET state = 'discarded', actor = $12, closed_at = now()"
    "   WHERE state = 'open' AND id IN (SELECT d.id" LETTERS
    "     AND d.state = 'open' ORDER BY d.id LIMIT $13::int FOR UPDATE OF d SKIP LOCKED)"
    "   RETURNING 1) SELECT count(*) FROM c";

struct filter_params {
    struct db_num stage;
    const char *values[FILTER_PARAMS + 2];
};

static void set_params(const struct deadletter_filter *filter, struct filter_params *p)
{
    *p = (struct filter_params){0};
    p->values[0] = filter->state ? filter->state : "open";
    p->values[1] = filter->stage != STAGE_NONE ? db_num(&p->stage, filter->stage) : NULL;
    p->values[2] = filter->reason;
    p->values[3] = filter->class;
    p->values[4] = filter->version;
    p->values[5] = filter->user_id;
    p->values[6] = filter->dataset_id;
    p->values[7] = filter->file_id;
    p->values[8] = filter->id;
    p->values[9] = filter->since;
    p->values[10] = filter->until;
}

int deadletter_list(struct db *db, const struct deadletter_filter *filter, const char *before,
                    int64_t limit, PGresult **ret_list, struct err *err)
{
    struct filter_params p;
    struct db_num n;

    set_params(filter, &p);
    p.values[FILTER_PARAMS] = before;
    p.values[FILTER_PARAMS + 1] =
        db_num(&n, limit < DEADLETTER_PAGE_MAX ? limit : DEADLETTER_PAGE_MAX);
    return db_run(db, list_sql, FILTER_PARAMS + 2, p.values, ret_list, err);
}

struct deadletter deadletter_at(const PGresult *list, int i)
{
    return (struct deadletter){.id = db_str(list, i, 0),
                               .file_id = db_str(list, i, 1),
                               .user_id = db_str(list, i, 2),
                               .stage = (int)db_i64(list, i, 3),
                               .unit = db_i64(list, i, 4),
                               .generation = db_i64(list, i, 5),
                               .reason = db_str(list, i, 6),
                               .class = db_str(list, i, 7),
                               .attempts = db_i64(list, i, 8),
                               .failures = db_i64(list, i, 9),
                               .crashes = db_i64(list, i, 10),
                               .last_error = db_str(list, i, 11),
                               .first_at = db_str(list, i, 12),
                               .last_at = db_str(list, i, 13),
                               .child = db_str(list, i, 14),
                               .replayable = db_bool(list, i, 15),
                               .state = db_str(list, i, 16),
                               .actor = db_str(list, i, 17),
                               .closed_at = db_str(list, i, 18),
                               .code_version = db_str(list, i, 19),
                               .dataset_id = db_str(list, i, 20),
                               .version = db_i64(list, i, 21),
                               .input_key = db_str(list, i, 22),
                               .input_etag = db_str(list, i, 23),
                               .input_bytes = db_str(list, i, 24),
                               .input_kind = db_str(list, i, 25),
                               .outage_retries = db_i64(list, i, 26),
                               .worker = db_str(list, i, 27),
                               .trace = db_str(list, i, 28),
                               .replay_of = db_str(list, i, 29),
                               .file_name = db_str(list, i, 30)};
}

int deadletter_groups(struct db *db, const struct deadletter_filter *filter, PGresult **ret_groups,
                      struct err *err)
{
    struct filter_params p;

    set_params(filter, &p);
    return db_run(db, groups_sql, FILTER_PARAMS, p.values, ret_groups, err);
}

static int count_letters(struct db *db, const struct filter_params *p,
                         struct deadletter_count *count, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(db, count_sql, FILTER_PARAMS, p->values, &res, err) < 0) {
        return -1;
    }
    count->matched = db_i64(res, 0, 0);
    count->replayable = db_i64(res, 0, 1);
    return 0;
}

/* Each user's stages once: hints are cheap, but not free. */
static void wake(struct notifier *notifier, const PGresult *chunk)
{
    for (int i = 0; notifier && i < PQntuples(chunk); i++) {
        bool told = false;
        for (int k = i - 1; k >= 0 && k >= i - 50 && !told; k--) {
            told = strcmp(PQgetvalue(chunk, i, 2), PQgetvalue(chunk, k, 2)) == 0 &&
                   strcmp(PQgetvalue(chunk, i, 5), PQgetvalue(chunk, k, 5)) == 0;
        }
        if (!told) {
            notify_stage(notifier, (int)db_i64(chunk, i, 2), PQgetvalue(chunk, i, 5));
        }
    }
}

/* One transaction. */
static int replay_chunk(struct db *db, struct notifier *notifier, const PGresult *chunk,
                        const char *actor, struct deadletter_count *count, struct err *err)
{
    struct task_key keys[CHUNK];
    struct task_retried done;
    size_t n = (size_t)PQntuples(chunk);

    for (size_t i = 0; i < n && i < CHUNK; i++) {
        snprintf(keys[i].file_id, UUID_TEXT, "%s", PQgetvalue(chunk, (int)i, 1));
        keys[i].stage = (int)db_i64(chunk, (int)i, 2);
        keys[i].unit = (int)db_i64(chunk, (int)i, 3);
        keys[i].generation = (int)db_i64(chunk, (int)i, 4);
    }
    if (task_retry_units(db, keys, n, actor, &done, err) < 0) {
        return -1;
    }
    count->changed += done.units;
    if (done.units > 0) {
        wake(notifier, chunk);
    }
    return 0;
}

/* So long that `done` units since `start` are no more than the rate allows. */
static void pace(uint64_t start, int64_t done)
{
    uint64_t due = start + (uint64_t)done * 1000U / UNITS_PER_S;
    uint64_t now = clock_mono_ms();

    if (due > now) {
        struct timespec t = {.tv_sec = (time_t)((due - now) / 1000),
                             .tv_nsec = (long)((due - now) % 1000) * 1000000L};
        nanosleep(&t, NULL);
    }
}

int deadletter_replay(struct db *db, struct notifier *notifier,
                      const struct deadletter_filter *filter, const char *actor, int64_t max,
                      bool dry_run, struct deadletter_count *ret_count, struct err *err)
{
    uint64_t start = clock_mono_ms();
    struct deadletter_count count = {0};
    CLEANUP(db_result_cleanup) PGresult *chunk = NULL;
    struct filter_params p;
    struct db_num limit;
    int64_t left = max;

    set_params(filter, &p);
    if (count_letters(db, &p, &count, err) < 0) {
        return -1;
    }
    bool going = !dry_run && count.replayable > 0;
    while (going && left > 0 && clock_mono_ms() - start < REPLAY_TIME_MS) {
        PGresult *next = NULL; /* the parameters still point into the chunk before */
        int64_t want = left < CHUNK ? left : CHUNK;
        p.values[FILTER_PARAMS + 1] = db_num(&limit, want);
        if (db_run(db, chunk_sql, FILTER_PARAMS + 2, p.values, &next, err) < 0) {
            return -1;
        }
        PQclear(chunk);
        chunk = next;
        int n = PQntuples(chunk);
        if (n > 0 && replay_chunk(db, notifier, chunk, actor, &count, err) < 0) {
            return -1;
        }
        left -= n;
        going = n == want;
        p.values[FILTER_PARAMS] = n > 0 ? db_str(chunk, n - 1, 0) : NULL;
        if (going) {
            pace(start, count.changed);
        }
    }
    count.more = going && count.replayable > max - left;
    *ret_count = count;
    return 0;
}

int deadletter_discard(struct db *db, const struct deadletter_filter *filter, const char *actor,
                       int64_t max, bool dry_run, struct deadletter_count *ret_count,
                       struct err *err)
{
    struct deadletter_count count = {0};
    struct filter_params p;
    struct db_num limit;
    int64_t left = max;

    set_params(filter, &p);
    if (count_letters(db, &p, &count, err) < 0) {
        return -1;
    }
    bool going = !dry_run && count.matched > 0;
    while (going && left > 0) {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        int64_t want = left < CHUNK ? left : CHUNK;
        p.values[FILTER_PARAMS] = actor;
        p.values[FILTER_PARAMS + 1] = db_num(&limit, want);
        if (db_run(db, discard_sql, FILTER_PARAMS + 2, p.values, &res, err) < 0) {
            return -1;
        }
        int64_t n = db_i64(res, 0, 0);
        count.changed += n;
        left -= n;
        going = n == want;
    }
    count.more = going && count.matched > count.changed;
    *ret_count = count;
    return 0;
}
