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

#define DISCARD_MAX 10000
#define GROUPS_MAX 200
#define REPLAY_TIME_MS 20000U

#define LETTERS                                                                                    \
    " FROM dead_letter d LEFT JOIN file f ON f.file_id = d.file_id LEFT JOIN task t"               \
    "   ON t.file_id = d.file_id AND t.stage = d.stage AND t.unit = d.unit"                        \
    "   AND t.generation = d.generation"                                                           \
    " WHERE d.state = 'open' AND ($1::smallint IS NULL OR d.stage = $1::smallint)"                 \
    "   AND ($2::text IS NULL OR d.reason = $2::text)"                                             \
    "   AND ($3::uuid IS NULL OR d.user_id = $3::uuid)"                                            \
    "   AND ($4::uuid IS NULL OR d.file_id = $4::uuid)"                                            \
    "   AND ($5::uuid IS NULL OR d.id = $5::uuid)"

#define REPLAYABLE                                                                                 \
    "coalesce(t.state = 5 AND f.generation = d.generation"                                         \
    " AND CASE WHEN d.stage = 6 THEN f.state = 6 ELSE f.state < 6 END, false)"

#define TIME(column) "to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"

static const char list_sql[] =
    "SELECT d.id, d.file_id, d.user_id, d.stage, d.unit, d.generation, d.reason, d.class,"
    "   d.attempts, d.failures, d.crashes, d.last_error, " TIME("d.first_at") ", " TIME(
        "d.last_at") ", d.child, " REPLAYABLE LETTERS
                     "   AND ($6::uuid IS NULL OR d.id < $6::uuid) ORDER BY d.id DESC LIMIT "
                     "$7::int";

static const char count_sql[] = "SELECT count(*), count(*) FILTER (WHERE " REPLAYABLE ")" LETTERS;

static const char groups_sql[] =
    "SELECT d.file_id, d.stage, d.user_id, array_agg(DISTINCT d.unit)" LETTERS " AND " REPLAYABLE
    "   AND ($6::uuid IS NULL OR (d.file_id, d.stage) > ($6::uuid, $7::smallint))"
    " GROUP BY 1, 2, 3 ORDER BY 1, 2 LIMIT $8::int";

static const char discard_sql[] =
    "WITH c AS (UPDATE dead_letter SET state = 'discarded', actor = $6, closed_at = now()"
    "   WHERE state = 'open' AND id IN (SELECT d.id" LETTERS " ORDER BY d.id LIMIT $7::int)"
    "   RETURNING 1) SELECT count(*) FROM c";

/* The first five parameters of all of them. */
#define FILTER_PARAMS 5
struct filter_params {
    struct db_num stage;
    const char *values[8];
};

static void set_params(const struct deadletter_filter *filter, struct filter_params *p)
{
    *p = (struct filter_params){0};
    p->values[0] = filter->stage != STAGE_NONE ? db_num(&p->stage, filter->stage) : NULL;
    p->values[1] = filter->reason;
    p->values[2] = filter->user_id;
    p->values[3] = filter->file_id;
    p->values[4] = filter->id;
}

int deadletter_list(struct db *db, const struct deadletter_filter *filter, const char *before,
                    int64_t limit, PGresult **ret_list, struct err *err)
{
    struct filter_params p;
    struct db_num n;

    set_params(filter, &p);
    p.values[5] = before;
    p.values[6] = db_num(&n, limit < DEADLETTER_PAGE_MAX ? limit : DEADLETTER_PAGE_MAX);
    return db_run(db, list_sql, 7, p.values, ret_list, err);
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
                               .replayable = db_bool(list, i, 15)};
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

/* The units of one page of (file, stage). */
static int replay_groups(struct db *db, struct notifier *notifier, const PGresult *groups,
                         const char *actor, struct deadletter_count *count, struct err *err)
{
    for (int i = 0; i < PQntuples(groups); i++) {
        int stage = (int)db_i64(groups, i, 1);
        int64_t n = 0;
        if (task_retry_units(db, db_str(groups, i, 0), stage, db_str(groups, i, 3), actor, &n,
                             err) < 0) {
            return -1;
        }
        count->changed += n;
        if (n > 0 && notifier) {
            notify_stage(notifier, stage, db_str(groups, i, 2));
        }
    }
    return 0;
}

int deadletter_replay(struct db *db, struct notifier *notifier,
                      const struct deadletter_filter *filter, const char *actor, bool dry_run,
                      struct deadletter_count *ret_count, struct err *err)
{
    uint64_t until = clock_mono_ms() + REPLAY_TIME_MS;
    struct deadletter_count count = {0};
    CLEANUP(db_result_cleanup) PGresult *page = NULL;
    struct filter_params p;
    struct db_num limit;

    set_params(filter, &p);
    p.values[7] = db_num(&limit, GROUPS_MAX);
    if (count_letters(db, &p, &count, err) < 0) {
        return -1;
    }
    bool going = !dry_run && count.replayable > 0;
    while (going) {
        PGresult *next = NULL; /* the parameters still point into the page before */
        if (db_run(db, groups_sql, 8, p.values, &next, err) < 0) {
            return -1;
        }
        PQclear(page);
        page = next;
        if (replay_groups(db, notifier, page, actor, &count, err) < 0) {
            return -1;
        }
        int n = PQntuples(page);
        going = n == GROUPS_MAX;
        if (going && clock_mono_ms() >= until) {
            count.more = true;
            break;
        }
        p.values[5] = n > 0 ? db_str(page, n - 1, 0) : NULL;
        p.values[6] = n > 0 ? db_str(page, n - 1, 1) : NULL;
    }
    *ret_count = count;
    return 0;
}

int deadletter_discard(struct db *db, const struct deadletter_filter *filter, const char *actor,
                       bool dry_run, struct deadletter_count *ret_count, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct deadletter_count count = {0};
    struct filter_params p;
    struct db_num limit;

    set_params(filter, &p);
    if (count_letters(db, &p, &count, err) < 0) {
        return -1;
    }
    if (!dry_run) {
        p.values[5] = actor;
        p.values[6] = db_num(&limit, DISCARD_MAX);
        if (db_run(db, discard_sql, 7, p.values, &res, err) < 0) {
            return -1;
        }
        count.changed = db_i64(res, 0, 0);
        count.more = count.changed == DISCARD_MAX;
    }
    *ret_count = count;
    return 0;
}
