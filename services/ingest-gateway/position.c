/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/position.h"

#include "libcommon/states.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A user's tasks that are looked at for a page, per stage and lane; who has more in front of him is
 * told nothing. */
#define OWN_MAX "20000"
#define ETA_MAX (30.0 * 86400)

struct queue_views {
    struct queue_view stages[STAGE_MAX + 1];
    double weight; /* of the user */
};

/* A paused stage has no rate. Older than 10 s: its leader is away. */
static const char queues_sql[] =
    "SELECT q.stage, q.rate, q.waiting, q.users, q.curve, q.curve_bulk,"
    "   coalesce(c.paused, false), (SELECT weight FROM account WHERE user_id = $1::uuid)"
    " FROM queue_state q LEFT JOIN stage_control c USING (stage)"
    " WHERE q.updated_at > now() - interval '10 seconds'";

static const char page_sql[] =
    "WITH w AS MATERIALIZED (SELECT t.file_id, t.stage, t.lane, t.seq, t.state, t.q, t.not_before"
    "    FROM unnest($2::uuid[]) AS i(file_id) JOIN file f USING (file_id) JOIN task t"
    "      ON t.file_id = f.file_id AND t.generation = f.generation"
    "    WHERE f.user_id = $1::uuid AND f.state = 1 AND t.state IN (0, 1, 3) AND t.stage <> 6),"
    " s AS (SELECT stage, lane, max(seq) AS hi FROM w WHERE q = 0 GROUP BY 1, 2),"
    " m AS (SELECT s.stage, x.seq, row_number() OVER o - 1 AS own,"
    "      sum(x.cost) OVER o - x.cost AS ahead"
    "    FROM s, LATERAL (SELECT seq, cost FROM task x WHERE x.stage = s.stage"
    "      AND x.lane = s.lane AND x.user_id = $1::uuid AND x.q = 0 AND x.seq <= s.hi"
    "      ORDER BY x.seq LIMIT " OWN_MAX ") x"
    "    WINDOW o AS (PARTITION BY s.stage, s.lane ORDER BY x.seq ROWS UNBOUNDED PRECEDING))"
    " SELECT w.file_id, w.stage, min(w.lane), bool_or(w.state = 1), " SQL_TIME(
        "min(w.not_before) FILTER (WHERE w.q = 1)") ","
                                                    "   min(m.own), min(m.ahead) FROM w LEFT JOIN "
                                                    "m USING (stage, seq)"
                                                    " GROUP BY 1, 2";

/* Per stage and lane: what waits of these files, the age of its oldest, and all of the user's tasks
 * up to the last of them. */
#define LAST_SQL(scope)                                                                            \
    "WITH w AS MATERIALIZED (SELECT t.stage, t.lane, t.seq, t.created_at, t.q, t.state"            \
    "    FROM file f JOIN task t ON t.file_id = f.file_id AND t.generation = f.generation"         \
    "    WHERE " scope " = $2::uuid AND f.user_id = $1::uuid AND f.state = 1 AND t.state < 4"      \
    "      AND t.stage <> 6),"                                                                     \
    " s AS (SELECT stage, lane, count(*) AS n, max(seq) FILTER (WHERE q = 0) AS hi,"               \
    "      min(created_at) FILTER (WHERE state IN (0, 1)) AS oldest FROM w GROUP BY 1, 2)"         \
    " SELECT s.stage, s.lane, s.n, extract(epoch FROM now() - s.oldest)::bigint, m.own, m.ahead"   \
    " FROM s LEFT JOIN LATERAL (SELECT count(*) AS own, sum(cost) AS ahead FROM (SELECT cost"      \
    "    FROM task x WHERE x.stage = s.stage AND x.lane = s.lane AND x.user_id = $1::uuid"         \
    "      AND x.q = 0 AND x.seq <= s.hi ORDER BY x.seq LIMIT " OWN_MAX ") x) m ON true"           \
    " ORDER BY s.stage <> 7, 1, 2" /* the scan is before all others */

static const char last_of_dataset_sql[] = LAST_SQL("f.dataset_id");
static const char last_of_batch_sql[] = LAST_SQL("f.batch_id");

static void views_done(struct queue_views *views)
{
    for (size_t i = 0; i < ARRAY_LEN(views->stages); i++) {
        json_decref(views->stages[i].curve[0]);
        json_decref(views->stages[i].curve[1]);
    }
}

static json_t *curve_or_null(const PGresult *res, int row, int col)
{
    json_t *curve = sql_json_doc(res, row, col);

    if (json_array_size(curve) == 0) {
        json_decref(curve);
        return NULL;
    }
    return curve;
}

static bool load_views(struct db_conn *conn, const char *user_id, struct queue_views *views)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct err ignored = ERR_INIT;
    const char *params[] = {user_id};

    views->weight = 1.0;
    if (db_query(conn, queues_sql, 1, params, &res, &ignored) < 0) {
        return false;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        int64_t stage = db_i64(res, i, 0);
        const char *rate = db_str(res, i, 1);
        const char *weight = db_str(res, i, 7);
        if (stage < 1 || stage > STAGE_MAX) {
            continue;
        }
        struct queue_view *v = &views->stages[stage];
        v->known = true;
        v->rate = rate && !db_bool(res, i, 6) ? strtod(rate, NULL) : 0.0;
        v->waiting = db_i64(res, i, 2);
        v->users = db_i64(res, i, 3);
        v->curve[0] = curve_or_null(res, i, 4);
        v->curve[1] = curve_or_null(res, i, 5);
        views->weight = weight ? strtod(weight, NULL) : 1.0;
    }
    return true;
}

static double point(const json_t *curve, size_t i, size_t k)
{
    return json_number_value(json_array_get(json_array_get(curve, i), k));
}

/* Straight lines between the points; beyond the last one its slope goes on. */
static double read_curve(const json_t *curve, double x)
{
    size_t n = json_array_size(curve);
    size_t i = 1;

    if (n == 1 || x <= point(curve, 0, 0)) {
        return point(curve, 0, 1);
    }
    while (i + 1 < n && point(curve, i, 0) < x) {
        i++;
    }
    double x0 = point(curve, i - 1, 0);
    double y0 = point(curve, i - 1, 1);
    double x1 = point(curve, i, 0);
    double y1 = point(curve, i, 1);
    return x1 > x0 ? y0 + (y1 - y0) * (x - x0) / (x1 - x0) : y1;
}

int64_t queue_position(const struct queue_view *view, int lane, double ahead, int64_t own)
{
    const json_t *curve = view->curve[lane == LANE_FIRST ? 0 : 1];
    double before = (double)own;

    if (!view->known || (!curve && view->users > 1)) {
        return -1;
    }
    /* With nobody else there is nothing to reckon, and nothing a second old. */
    if (curve && !(view->users <= 1 && lane == LANE_FIRST)) {
        double others = read_curve(curve, ahead);
        before = others > before ? others : before;
    }
    if (!(before >= 0 && before < 1e15)) {
        return -1;
    }
    int64_t place = (int64_t)before;
    /* The curve is a second old and straight; nobody stands behind the end of the queue. */
    if (view->waiting > own && place >= view->waiting) {
        place = view->waiting - 1;
    }
    return place + 1;
}

int64_t queue_eta(const struct queue_view *view, int64_t position)
{
    if (position < 0 || !view->known || !(view->rate > 0)) {
        return -1;
    }
    double eta = ceil((double)position / view->rate);
    return eta < ETA_MAX ? (int64_t)eta : -1;
}

static json_t *known(int64_t value)
{
    return value < 0 ? json_null() : json_integer(value);
}

static json_t *find_file(const json_t *files, const char *id)
{
    size_t i;
    json_t *file;

    json_array_foreach(files, i, file)
    {
        const char *have = json_string_value(json_object_get(file, "id"));
        if (have && strcmp(have, id) == 0) {
            return file;
        }
    }
    return NULL;
}

/* The pipeline that waits for this stage; NULL when it is at another or at work. */
static json_t *waiting_pipeline(const json_t *files, const char *file_id, int stage)
{
    const char *name = stage_pipeline(stage);
    const json_t *pipelines = json_object_get(find_file(files, file_id), "pipelines");
    json_t *pipe = name ? json_object_get(pipelines, name) : NULL;
    const char *state = json_string_value(json_object_get(pipe, "state"));
    const char *at = json_string_value(json_object_get(pipe, "stage"));

    return state && at && strcmp(state, "waiting") == 0 && strcmp(at, stage_name(stage)) == 0
               ? pipe
               : NULL;
}

static void fill(json_t *pipe, const struct queue_views *views, const PGresult *res, int row)
{
    const struct queue_view *view = &views->stages[db_i64(res, row, 1)];
    const char *ahead = db_str(res, row, 6);
    int64_t position = -1;
    int64_t eta = -1;

    if (db_bool(res, row, 3)) {
        position = eta = 0; /* sent: a worker takes it next */
    } else if (ahead) {
        position = queue_position(view, (int)db_i64(res, row, 2),
                                  strtod(ahead, NULL) / views->weight, db_i64(res, row, 5));
        eta = queue_eta(view, position);
    } else {
        json_object_set_new(pipe, "retryAt", sql_json_str(res, row, 4));
    }
    json_object_set_new(pipe, "queuePosition", known(position));
    json_object_set_new(pipe, "etaSeconds", known(eta));
}

static bool any_processing(const json_t *files)
{
    size_t i;
    json_t *file;

    json_array_foreach(files, i, file)
    {
        const char *state = json_string_value(json_object_get(file, "state"));
        if (state && strcmp(state, "processing") == 0) {
            return true;
        }
    }
    return false;
}

void position_add(struct db_conn *conn, const char *user_id, const char *ids, json_t *files)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(views_done) struct queue_views views = {0};
    struct err ignored = ERR_INIT;
    const char *params[] = {user_id, ids};

    if (!any_processing(files) || !load_views(conn, user_id, &views) ||
        db_query(conn, page_sql, 2, params, &res, &ignored) < 0) {
        return;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        int stage = (int)db_i64(res, i, 1);
        json_t *pipe = waiting_pipeline(files, PQgetvalue(res, i, 0), stage);
        if (pipe && stage >= 1 && stage <= STAGE_MAX) {
            fill(pipe, &views, res, i);
        }
    }
}

/* The stages in the order work takes: what waits before a stage will wait at it, too. */
static int64_t eta_of_rows(const PGresult *res, const struct queue_views *views)
{
    int64_t worst = -1;
    double coming = 0; /* of main, from the stages before */

    for (int i = 0; i < PQntuples(res); i++) {
        int stage = (int)db_i64(res, i, 0);
        if (stage < 1 || stage > STAGE_MAX) {
            continue;
        }
        const struct queue_view *v = &views->stages[stage];
        bool main = stage <= STAGE_AI || stage == STAGE_SCAN;
        int64_t own = db_i64(res, i, 4);
        const char *ahead = db_str(res, i, 5);
        double cost = (ahead ? strtod(ahead, NULL) : 0.0) + (main ? coming : 0.0);
        int64_t place = queue_position(v, (int)db_i64(res, i, 1), cost / views->weight,
                                       own + (main ? (int64_t)coming : 0));
        int64_t eta = queue_eta(v, place);
        if (eta < 0) {
            return -1;
        }
        worst = eta > worst ? eta : worst;
        coming += main && stage != STAGE_AI ? (double)db_i64(res, i, 2) : 0.0;
    }
    /* Nothing waits for ai yet, but what is being read will. */
    const struct queue_view *ai = &views->stages[STAGE_AI];
    if (worst >= 0 && coming > 0 && ai->rate > 0) {
        int64_t eta =
            queue_eta(ai, queue_position(ai, LANE_FIRST, coming / views->weight, (int64_t)coming));
        worst = eta > worst ? eta : worst;
    }
    return worst;
}

void position_last(struct db *db, const char *user_id, const char *dataset_id, const char *batch_id,
                   struct position_last *ret_last)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(views_done) struct queue_views views = {0};
    struct err ignored = ERR_INIT;
    const char *params[] = {user_id, dataset_id ? dataset_id : batch_id};

    *ret_last = (struct position_last){-1, -1};
    if (db_acquire(db, &conn, &ignored) < 0 || !load_views(conn, user_id, &views) ||
        db_query(conn, dataset_id ? last_of_dataset_sql : last_of_batch_sql, 2, params, &res,
                 &ignored) < 0) {
        return;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        int64_t age = db_str(res, i, 3) ? db_i64(res, i, 3) : -1;
        ret_last->oldest = age > ret_last->oldest ? age : ret_last->oldest;
    }
    ret_last->eta = PQntuples(res) > 0 ? eta_of_rows(res, &views) : -1;
}
