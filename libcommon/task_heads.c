/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits: the heads of each flow (a user's lane of a stage), a census of all of it, and what
 * the leader shows of it. All reads go by the index (stage, lane, user_id, seq) where q = 0.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/jget.h"
#include "libcommon/task_dispatch.h"

static int each_head(const PGresult *res, int stage, task_head_fn fn, void *ctx, struct err *err)
{
    for (int i = 0; i < PQntuples(res); i++) {
        struct task_head head = {.seq = db_i64(res, i, 4),
                                 .cost = (int)db_i64(res, i, 5),
                                 .lane = (int)db_i64(res, i, 6),
                                 .weight = strtod(PQgetvalue(res, i, 7), NULL)};
        snprintf(head.key.file_id, UUID_TEXT, "%s", PQgetvalue(res, i, 0));
        head.key.stage = stage;
        head.key.unit = (int)db_i64(res, i, 1);
        head.key.generation = (int)db_i64(res, i, 2);
        snprintf(head.user_id, UUID_TEXT, "%s", PQgetvalue(res, i, 3));
        if (fn(ctx, &head, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A loose index scan: one probe per flow instead of a pass over all waiting tasks. */
static const char page_sql[] =
    "WITH RECURSIVE f AS ("
    "  (SELECT lane, user_id, 1 AS n FROM task WHERE stage = $1::smallint AND q = 0"
    "    AND (lane, user_id) > ($2::smallint, $3::uuid) ORDER BY lane, user_id LIMIT 1)"
    "  UNION ALL"
    "  SELECT t.lane, t.user_id, f.n + 1 FROM f, LATERAL ("
    "    SELECT lane, user_id FROM task WHERE stage = $1::smallint AND q = 0"
    "      AND (lane, user_id) > (f.lane, f.user_id) ORDER BY lane, user_id LIMIT 1) t"
    "  WHERE f.n < $4::int)"
    " SELECT h.file_id, h.unit, h.generation, f.user_id, h.seq, h.cost, f.lane,"
    "   coalesce((SELECT weight FROM account a WHERE a.user_id = f.user_id), 1), f.n"
    " FROM f, LATERAL (SELECT file_id, unit, generation, seq, cost FROM task t"
    "   WHERE t.stage = $1::smallint AND t.lane = f.lane AND t.user_id = f.user_id AND t.q = 0"
    "   ORDER BY t.seq LIMIT $5::int) h"
    " ORDER BY f.n, h.seq";

int task_heads_page(struct db *db, int stage, int flows, int per_flow, task_head_fn fn, void *ctx,
                    struct task_place *place, bool *ret_end, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num n_stage, n_lane, n_flows, n_limit;
    const char *params[] = {db_num(&n_stage, stage), db_num(&n_lane, place->lane), place->user_id,
                            db_num(&n_flows, flows), db_num(&n_limit, per_flow)};

    if (db_run(db, page_sql, 5, params, &res, err) < 0 || each_head(res, stage, fn, ctx, err) < 0) {
        return -1;
    }
    int last = PQntuples(res) - 1;
    *ret_end = last < 0 || db_i64(res, last, 8) < flows;
    if (last >= 0) {
        place->lane = (int)db_i64(res, last, 6);
        snprintf(place->user_id, UUID_TEXT, "%s", PQgetvalue(res, last, 3));
    }
    return 0;
}

static const char asked_sql[] =
    "SELECT h.file_id, h.unit, h.generation, a.u, h.seq, h.cost, a.l,"
    "   coalesce((SELECT weight FROM account w WHERE w.user_id = a.u), 1)"
    " FROM (SELECT (x->>0)::smallint AS l, (x->>1)::uuid AS u, (x->>2)::bigint AS s,"
    "     (x->>3)::int AS k, i FROM jsonb_array_elements($2::jsonb) WITH ORDINALITY AS e (x, i)) a,"
    "   LATERAL (SELECT file_id, unit, generation, seq, cost FROM task t"
    "   WHERE t.stage = $1::smallint AND t.lane = a.l AND t.user_id = a.u AND t.q = 0"
    "     AND t.seq > a.s ORDER BY t.seq LIMIT a.k) h"
    " ORDER BY a.i, h.seq";

int task_heads_asked(struct db *db, int stage, const struct task_ask *asks, size_t n,
                     task_head_fn fn, void *ctx, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(json_cleanup) json_t *list = json_array();
    CLEANUP(free_cleanup) char *text = NULL;
    struct db_num n_stage;

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("[i, s, I, i]", asks[i].lane, asks[i].user_id,
                                              (json_int_t)asks[i].after, asks[i].limit));
    }
    text = json_dumps(list, JSON_COMPACT);
    if (!text || json_array_size(list) != n) {
        return err_nomem(err);
    }
    const char *params[] = {db_num(&n_stage, stage), text};
    if (db_run(db, asked_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    return each_head(res, stage, fn, ctx, err);
}

int task_heads_any(struct db *db, int stage, bool *ret_any, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num n_stage;
    const char *params[] = {db_num(&n_stage, stage)};

    if (db_run(db, "SELECT 1 FROM task WHERE stage = $1::smallint AND q = 0 LIMIT 1", 1, params,
               &res, err) < 0) {
        return -1;
    }
    *ret_any = PQntuples(res) > 0;
    return 0;
}

/* Census and publication -------------------------------------------------------------------------
 */

static const char census_sql[] =
    "SELECT user_id, lane, count(*), sum(cost),"
    "   extract(epoch FROM now() - min(min(created_at)) OVER ()) FROM task"
    " WHERE stage = $1::smallint AND q = 0 GROUP BY lane, user_id";

int task_census(struct db *db, int stage, task_census_fn fn, void *ctx, double *ret_oldest_s,
                struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num n_stage;
    const char *params[] = {db_num(&n_stage, stage)};

    if (db_run(db, census_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    for (int row = 0; row < PQntuples(res); row++) {
        fn(ctx, PQgetvalue(res, row, 0), (int)db_i64(res, row, 1), db_i64(res, row, 2),
           db_i64(res, row, 3));
    }
    *ret_oldest_s = PQntuples(res) > 0 ? strtod(PQgetvalue(res, 0, 4), NULL) : 0;
    return 0;
}

static const char publish_sql[] =
    "WITH b AS (INSERT INTO backlog (stage, n, oldest_at, updated_at)"
    "    VALUES ($1::smallint, $2::bigint + $3::bigint,"
    "      CASE WHEN $2::bigint > 0 THEN now() - $6::float8 * interval '1 s' END, now())"
    "    ON CONFLICT (stage) DO UPDATE SET n = excluded.n, oldest_at = excluded.oldest_at,"
    "      updated_at = now())"
    " INSERT INTO queue_state (stage, waiting, out, users, rate, curve, curve_bulk, credit,"
    "   paused)"
    "  VALUES ($1::smallint, $2::bigint, $3::int, $4::int, $5::float8, $7::jsonb, $8::jsonb,"
    "   $9::int, $10::boolean)"
    "  ON CONFLICT (stage) DO UPDATE SET updated_at = now(), waiting = excluded.waiting,"
    "   out = excluded.out, users = excluded.users, rate = excluded.rate, curve = excluded.curve,"
    "   curve_bulk = excluded.curve_bulk, credit = excluded.credit,"
    "   paused = excluded.paused";

int task_publish(struct db *db, int stage, const struct task_queue_state *state, struct err *err)
{
    struct db_num n_stage, waiting, out, users, credit;
    char rate[32], oldest[32];
    const char *params[] = {db_num(&n_stage, stage),
                            db_num(&waiting, state->waiting),
                            db_num(&out, state->out),
                            db_num(&users, state->users),
                            state->rate < 0 ? NULL : rate,
                            oldest,
                            state->curve,
                            state->curve_bulk,
                            db_num(&credit, state->credit),
                            state->paused ? "t" : "f"};

    snprintf(rate, sizeof(rate), "%.6g", state->rate);
    snprintf(oldest, sizeof(oldest), "%.3f", state->oldest_s > 0 ? state->oldest_s : 0);
    return db_run(db, publish_sql, 10, params, NULL, err);
}

static const char publish_shard_sql[] =
    "INSERT INTO stage_shard (stage, shard, paused) VALUES ($1::smallint, $2::smallint, "
    "$3::boolean)"
    " ON CONFLICT (stage, shard) DO UPDATE SET paused = excluded.paused, updated_at = now()";

int task_publish_shard(struct db *db, int stage, int shard, bool paused, struct err *err)
{
    struct db_num n_stage, n_shard;
    const char *params[] = {db_num(&n_stage, stage), db_num(&n_shard, shard), paused ? "t" : "f"};

    return db_run(db, publish_shard_sql, 3, params, NULL, err);
}
