/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dataset's summary. Counts per file state are exact; counts per stage are grouped over live
 * files, kept for two seconds, and given up after one (then `approximate` is true).
 */
#include "services/ingest-gateway/counts.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/position.h"
#include "services/ingest-gateway/sql.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CACHE_SLOTS 64U
#define CACHE_MS 2000U

static const char dataset_counts_sql[] = COUNTS_SQL("dataset_id = $1::uuid");

static void add_count(struct file_counts *counts, int64_t state, int64_t n)
{
    if (state >= 0 && state < FILE_DELETING) {
        counts->by_state[state] += n;
        counts->total += n;
    } else {
        counts->deleted += n;
    }
}

int counts_of_dataset(struct db_conn *conn, const char *dataset_id, struct file_counts *ret_counts,
                      struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct file_counts counts = {0};
    const char *params[] = {dataset_id};

    if (db_query(conn, dataset_counts_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        add_count(&counts, db_i64(res, i, 0), db_i64(res, i, 1));
    }
    *ret_counts = counts;
    return 0;
}

void counts_of_json(const json_t *pairs, struct file_counts *ret_counts)
{
    struct file_counts counts = {0};
    size_t i;
    json_t *pair;

    json_array_foreach(pairs, i, pair)
    {
        add_count(&counts, json_integer_value(json_array_get(pair, 0)),
                  json_integer_value(json_array_get(pair, 1)));
    }
    *ret_counts = counts;
}

json_t *counts_json(const struct file_counts *counts)
{
    json_t *doc = json_object();

    for (int i = 0; doc && i < FILE_DELETING; i++) {
        json_object_set_new(doc, file_state_name(i), json_integer(counts->by_state[i]));
    }
    return doc;
}

static const char stages_sql[] =
    "SELECT t.stage, t.state, count(*),"
    "   extract(epoch FROM now() - min(t.created_at) FILTER (WHERE t.state < 2))::bigint"
    " FROM file f JOIN task t ON t.file_id = f.file_id AND t.generation = f.generation"
    " WHERE f.dataset_id = $1::uuid AND f.user_id = $2::uuid AND f.state = 1 AND t.stage <> 6"
    " GROUP BY t.stage, t.state";

static const char pipelines_sql[] =
    "SELECT count(*) FILTER (WHERE preview_state = 3), count(*) FILTER (WHERE thumb_state = 3)"
    " FROM file WHERE dataset_id = $1::uuid AND user_id = $2::uuid AND state < 6";

static struct {
    pthread_mutex_t lock;
    struct {
        char dataset_id[UUID_TEXT];
        uint64_t until_ms;
        json_t *doc; /* {stages, oldestWaitingSeconds, pipelines, approximate} */
    } slots[CACHE_SLOTS];
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

static unsigned slot_of(const char *dataset_id)
{
    unsigned h = 0;

    for (const char *s = dataset_id; *s != '\0'; s++) {
        h = h * 31U + (unsigned char)*s;
    }
    return h % CACHE_SLOTS;
}

static json_t *cache_get(const char *dataset_id)
{
    json_t *doc = NULL;
    unsigned i = slot_of(dataset_id);

    pthread_mutex_lock(&cache.lock);
    if (strcmp(cache.slots[i].dataset_id, dataset_id) == 0 &&
        cache.slots[i].until_ms > clock_mono_ms()) {
        doc = json_deep_copy(cache.slots[i].doc);
    }
    pthread_mutex_unlock(&cache.lock);
    return doc;
}

static void cache_put(const char *dataset_id, const json_t *doc)
{
    unsigned i = slot_of(dataset_id);
    json_t *copy = json_deep_copy(doc);

    pthread_mutex_lock(&cache.lock);
    json_decref(cache.slots[i].doc);
    cache.slots[i].doc = copy;
    cache.slots[i].until_ms = copy ? clock_mono_ms() + CACHE_MS : 0;
    snprintf(cache.slots[i].dataset_id, UUID_TEXT, "%s", dataset_id);
    pthread_mutex_unlock(&cache.lock);
}

/* Units by what a reader cares for. */
static const char *bucket(int64_t state)
{
    switch (state) {
    case TASK_PENDING:
    case TASK_DISPATCHED:
        return "pending";
    case TASK_RUNNING:
        return "running";
    case TASK_WAITING_EXT:
        return "waiting";
    case TASK_DONE:
        return "done";
    case TASK_DEAD:
        return "failed";
    default:
        return NULL;
    }
}

static json_t *stages_doc(const PGresult *res, int64_t *ret_oldest)
{
    json_t *stages = json_object();

    for (int s = STAGE_TEXT; s <= STAGE_THUMBNAIL; s++) {
        json_object_set_new(stages, stage_name(s),
                            json_pack("{s:i, s:i, s:i, s:i, s:i}", "pending", 0, "running", 0,
                                      "waiting", 0, "done", 0, "failed", 0));
    }
    for (int i = 0; i < PQntuples(res); i++) {
        json_t *stage = json_object_get(stages, stage_name((int)db_i64(res, i, 0)));
        const char *name = bucket(db_i64(res, i, 1));
        if (stage && name) {
            json_int_t before = json_integer_value(json_object_get(stage, name));
            json_object_set_new(stage, name, json_integer(before + db_i64(res, i, 2)));
        }
        *ret_oldest = db_i64(res, i, 3) > *ret_oldest ? db_i64(res, i, 3) : *ret_oldest;
    }
    return stages;
}

/* Never fails: what takes too long is left out and called approximate. */
static json_t *stage_summary(struct request *req)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(db_result_cleanup) PGresult *pipes = NULL;
    const char *params[] = {req->params[0], req->who.user_id};
    struct err ignored = ERR_INIT;
    int64_t oldest = 0;
    json_t *doc = cache_get(req->params[0]);

    if (doc) {
        return doc;
    }
    bool ok = db_acquire(req->gw->search_db, &conn, &ignored) == 0 &&
              db_query(conn, stages_sql, 2, params, &res, &ignored) == 0 &&
              db_query(conn, pipelines_sql, 2, params, &pipes, &ignored) == 0;
    json_t *stages = ok ? stages_doc(res, &oldest) : json_object();
    struct position_last last = {-1, -1};
    if (ok) {
        db_release(STEAL(conn));
        position_last(req->gw->search_db, req->who.user_id, req->params[0], NULL, &last);
    }
    doc = json_pack("{s:o, s:I, s:o, s:{s:I, s:I}, s:b}", "stages", stages, "oldestWaitingSeconds",
                    (json_int_t)oldest, "etaSeconds",
                    last.eta < 0 ? json_null() : json_integer(last.eta), "pipelines",
                    "previewFailed", (json_int_t)(ok ? db_i64(pipes, 0, 0) : 0), "thumbnailFailed",
                    (json_int_t)(ok ? db_i64(pipes, 0, 1) : 0), "approximate", (int)!ok);
    cache_put(req->params[0], doc);
    return doc;
}

int dataset_summary(struct request *req, struct reply *reply, struct err *err)
{
    struct file_counts counts;

    {
        CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
        if (db_acquire(req->gw->db, &conn, err) < 0 ||
            dataset_require(conn, req, req->params[0], err) < 0 ||
            counts_of_dataset(conn, req->params[0], &counts, err) < 0) {
            return -1;
        }
    }
    json_t *doc = stage_summary(req);
    if (doc) {
        json_object_set_new(doc, "files",
                            json_pack("{s:I, s:o}", "total", (json_int_t)counts.total, "byState",
                                      counts_json(&counts)));
    }
    return reply_take_json(reply, 200, doc, err);
}
