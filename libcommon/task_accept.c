/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What users do to files: acceptance, removal, cancel, retry and re-run. Each is one statement or
 * one short transaction, always limited to the user's own rows.
 */
#include "libcommon/task.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/filetype.h"
#include "libcommon/jget.h"
#include "libcommon/trace.h"

static const char accept_sql[] =
    "WITH p AS (SELECT $1::uuid AS batch_id, $2::uuid AS user_id, $3::uuid AS dataset_id,"
    "                  $4::jsonb AS files, coalesce($5::jsonb, '[]') AS rejects),"
    " f AS (SELECT p.user_id, p.dataset_id, p.batch_id, x.* FROM p,"
    "   jsonb_to_recordset(p.files) AS x(id uuid, name text, key text, sha256 text, mime text,"
    "     kind text, etag text, bytes bigint, stages smallint[])),"
    " b AS (INSERT INTO batch (batch_id, user_id, dataset_id, accepted, rejected, rejects)"
    "   SELECT batch_id, user_id, dataset_id, jsonb_array_length(files),"
    "          jsonb_array_length(rejects), rejects FROM p),"
    " fi AS (INSERT INTO file (file_id, user_id, dataset_id, batch_id, name, bytes, etag, state)"
    "   SELECT id, user_id, dataset_id, batch_id, name, bytes, etag, 1 FROM f),"
    " fv AS (INSERT INTO file_version (file_id, version, object_key, bytes, sha256, mime, kind,"
    "     etag) SELECT id, 1, key, bytes, sha256, mime, kind, etag FROM f),"
    /* An estimate by size; the stage tells the true cost when it is done. */
    " t AS (INSERT INTO task (user_id, file_id, stage, unit, generation, cost, traceparent, lane)"
    "   SELECT user_id, id, s, 0, 1, least(100, greatest(1, bytes / 1048576))::int, $6,"
    "     $7::smallint"
    "   FROM f, unnest(f.stages) AS s),"
    " e AS (INSERT INTO event (user_id, file_id, kind, body)"
    "   SELECT user_id, id, 'file_created', jsonb_build_object('datasetId', dataset_id,"
    "     'batchId', batch_id, 'state', 'processing', 'name', name) FROM f),"
    " eb AS (INSERT INTO event (user_id, kind, body)"
    "   SELECT user_id, 'batch_updated', jsonb_build_object('datasetId', dataset_id, 'batchId',"
    "     batch_id, 'accepted', jsonb_array_length(files), 'rejected',"
    "     jsonb_array_length(rejects)) FROM p)"
    " INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"
    " SELECT dataset_id, batch_id, NULL, 1, count(*) FROM f GROUP BY dataset_id, batch_id";

static json_t *stages_json(unsigned stages)
{
    json_t *list = json_array();

    for (int s = 1; s <= STAGE_MAX; s++) {
        if (stages >> s & 1U) {
            json_array_append_new(list, json_integer(s));
        }
    }
    return list;
}

static json_t *accept_file_json(const struct task_file *file)
{
    /* jsonb_to_recordset reads a Postgres array from its JSON form. */
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s?, s:I, s:o}", "id", file->file_id, "name",
                     file->name, "key", file->object_key, "sha256", file->sha256, "mime",
                     file->mime, "kind", file->kind, "etag", file->etag, "bytes",
                     (json_int_t)file->bytes, "stages", stages_json(file->stages));
}

int task_accept_batch(struct db_conn *conn, const struct task_batch *batch, struct err *err)
{
    CLEANUP(json_cleanup) json_t *files = json_array();
    CLEANUP(free_cleanup) char *text = NULL;
    CLEANUP(free_cleanup) char *rejects = NULL;

    if (batch->n_files > TASK_BATCH_FILES_MAX) {
        return err_set(err, ERR_PERMANENT, "too_many_parts", "more than %d files in one batch",
                       TASK_BATCH_FILES_MAX);
    }
    for (size_t i = 0; i < batch->n_files; i++) {
        json_t *file = accept_file_json(&batch->files[i]);
        if (!file || json_array_append_new(files, file) < 0) {
            return err_nomem(err);
        }
    }
    text = json_dumps(files, JSON_COMPACT);
    rejects = batch->rejects ? json_dumps(batch->rejects, JSON_COMPACT) : NULL;
    if (!text || (batch->rejects && !rejects)) {
        return err_nomem(err);
    }
    struct db_num lane;
    const char *params[] = {batch->batch_id, batch->user_id,     batch->dataset_id,         text,
                            rejects,         batch->traceparent, db_num(&lane, batch->lane)};
    return db_query(conn, accept_sql, 7, params, NULL, err);
}

/* Removal ---------------------------------------------------------------------------------------*/

/* Of many files, what may still change: live tasks, and dead ones, which a retry may wake. So two
 * that change the same file take turns here, before either has looked. */
static const char many_lock_sql[] =
    "SELECT 1 FROM task t JOIN file f USING (file_id) WHERE f.file_id = ANY ($1::uuid[])"
    " AND ($2::uuid IS NULL OR f.user_id = $2::uuid) AND t.state NOT IN (4, 6)"
    " ORDER BY t.file_id, t.stage, t.unit, t.generation FOR UPDATE OF t";

static const char remove_sql[] =
    "WITH old AS (SELECT file_id, state, generation FROM file WHERE file_id = ANY ($1::uuid[])"
    "    AND user_id = $2::uuid AND state < 6 AND NOT dataset_held(dataset_id)"
    "    ORDER BY file_id FOR UPDATE),"
    " t AS (UPDATE task SET state = 6, q = NULL, updated_at = now() FROM old"
    "    WHERE task.file_id = old.file_id AND task.state < 4),"
    " f AS (UPDATE file SET state = 6, generation = file.generation + 1, deleted_at = now(),"
    "    updated_at = now() FROM old WHERE file.file_id = old.file_id"
    "    RETURNING file.file_id, file.user_id, file.dataset_id, file.batch_id, file.generation,"
    "      old.state AS was),"
    " c AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"
    "    SELECT dataset_id, batch_id, was, 6, count(*) FROM f GROUP BY 1, 2, 3),"
    " n AS (INSERT INTO task (user_id, file_id, stage, unit, generation, traceparent)"
    "    SELECT user_id, file_id, 6, 0, generation, $3 FROM f),"
    " r AS (DELETE FROM record USING f WHERE record.file_id = f.file_id),"
    " e AS (INSERT INTO event (user_id, file_id, kind, body) SELECT user_id, file_id,"
    "    'file_deleted', jsonb_build_object('datasetId', dataset_id, 'batchId', batch_id) FROM f)"
    " SELECT count(*) FROM f";

/* '{id,id}' for a uuid[] parameter; malloc'd. */
static char *uuid_array(const char *const *ids, size_t n)
{
    size_t size = 3 + n * UUID_TEXT;
    char *text = malloc(size);
    size_t len = 0;

    if (!text) {
        return NULL;
    }
    text[len++] = '{';
    for (size_t i = 0; i < n; i++) {
        len += (size_t)snprintf(text + len, size - len, "%s%s", i ? "," : "", ids[i]);
    }
    text[len++] = '}';
    text[len] = '\0';
    return text;
}

/* Locks tasks (first in lock order), then runs a statement that returns one count. */
static int locked_update(struct db *db, const char *lock_sql, int n_lock, const char *sql, int n,
                         const char *const *params, int64_t *ret_n, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_acquire(db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        db_query(conn, lock_sql, n_lock, params, NULL, err) < 0 ||
        db_query(conn, sql, n, params, &res, err) < 0 || db_commit(conn, err) < 0) {
        return -1;
    }
    *ret_n = PQntuples(res) > 0 ? db_i64(res, 0, 0) : 0;
    return 0;
}

/* The same, of up to TASK_REMOVE_MAX valid ids. */
static int checked_ids(const char *const *file_ids, size_t n, char **ret_text, struct err *err)
{
    if (n > TASK_REMOVE_MAX) {
        return err_set(err, ERR_FATAL, "internal", "too many files in one transaction");
    }
    for (size_t i = 0; i < n; i++) {
        if (!uuid_valid(file_ids[i])) {
            return err_set(err, ERR_PERMANENT, "invalid_id", "not a file id");
        }
    }
    *ret_text = uuid_array(file_ids, n);
    return *ret_text ? 0 : err_nomem(err);
}

int task_remove(struct db *db, const char *user_id, const char *const *file_ids, size_t n,
                int64_t *ret_removed, struct err *err)
{
    CLEANUP(free_cleanup) char *ids = NULL;
    char trace[TRACE_PARENT_SIZE];

    if (checked_ids(file_ids, n, &ids, err) < 0) {
        return -1;
    }
    const char *params[] = {ids, user_id, trace_current_text(trace)};
    return locked_update(db, many_lock_sql, 2, remove_sql, 3, params, ret_removed, err);
}

/* Cancel ----------------------------------------------------------------------------------------*/

static const char one_lock_sql[] =
    "SELECT 1 FROM task t JOIN file f USING (file_id) WHERE f.file_id = $1::uuid"
    " AND ($2::uuid IS NULL OR f.user_id = $2::uuid)"
    " ORDER BY t.stage, t.unit, t.generation FOR UPDATE OF t";

static const char cancel_sql[] =
    "WITH old AS (SELECT file_id, generation FROM file WHERE file_id = ANY ($1::uuid[])"
    "    AND user_id = $2::uuid AND state = 1 ORDER BY file_id FOR UPDATE),"
    " t AS (UPDATE task SET state = 6, q = NULL, updated_at = now() FROM old"
    "    WHERE task.file_id = old.file_id AND task.state < 4),"
    " f AS (UPDATE file SET generation = file.generation + 1, updated_at = now(),"
    "    main_state = CASE WHEN main_state = 0 THEN 5 ELSE main_state END,"
    "    preview_state = CASE WHEN preview_state = 0 THEN 5 ELSE preview_state END,"
    "    thumb_state = CASE WHEN thumb_state = 0 THEN 5 ELSE thumb_state END,"
    "    state = CASE main_state WHEN 0 THEN 4 WHEN 2 THEN 2 WHEN 4 THEN 2 WHEN 3 THEN 3"
    "            ELSE 4 END"
    "    FROM old WHERE file.file_id = old.file_id RETURNING file.*),"
    " c AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"
    "    SELECT dataset_id, batch_id, 1, state, count(*) FROM f GROUP BY 1, 2, 4),"
    " e AS (INSERT INTO event (user_id, file_id, kind, body) SELECT user_id, file_id,"
    "    'file_updated', jsonb_build_object('datasetId', dataset_id, 'batchId', batch_id,"
    "    'state', (ARRAY['done','failed','cancelled'])[state - 1], 'action', 'cancel') FROM f)"
    " SELECT count(*) FROM f";

int task_cancel_many(struct db *db, const char *user_id, const char *const *file_ids, size_t n,
                     int64_t *ret_n, struct err *err)
{
    CLEANUP(free_cleanup) char *ids = NULL;

    if (checked_ids(file_ids, n, &ids, err) < 0) {
        return -1;
    }
    const char *params[] = {ids, user_id};
    return locked_update(db, many_lock_sql, 2, cancel_sql, 2, params, ret_n, err);
}

int task_cancel(struct db *db, const char *user_id, const char *file_id, int64_t *ret_n,
                struct err *err)
{
    return task_cancel_many(db, user_id, &file_id, 1, ret_n, err);
}

/* Retry -----------------------------------------------------------------------------------------*/

/* $1 files $2 user, null: any $3 stage, 0: all $4 actor $5 [[file, stage, unit, generation], ...],
 * null: every dead unit $6 lane. */
static const char retry_sql[] =
    "WITH old AS (SELECT file_id, state, generation FROM file WHERE file_id = ANY ($1::uuid[])"
    "    AND ($2::uuid IS NULL OR user_id = $2::uuid)"
    /* Of a removed file only the cleaning goes again, and only for operators. */
    "    AND (state < 6 OR (state = 6 AND $2::uuid IS NULL)) AND content_removed_at IS NULL"
    "    ORDER BY file_id FOR UPDATE),"
    " k AS (SELECT (x->>0)::uuid AS file_id, (x->>1)::smallint AS stage, (x->>2)::int AS unit,"
    "    (x->>3)::int AS generation FROM jsonb_array_elements($5::jsonb) AS x),"
    " t AS (UPDATE task SET state = 0, q = 0, attempts = 0, failures = 0, refunds = 0,"
    "    outage_retries = 0, dispatch_seq = dispatch_seq + 1, lease_until = NULL,"
    "    not_before = NULL, lane = $6::smallint, created_at = now(), updated_at = now() FROM old"
    "    WHERE task.file_id = old.file_id AND task.generation = old.generation"
    "    AND task.state = 5 AND (old.state < 6) <> (task.stage = 6)"
    "    AND ($3::smallint = 0 OR task.stage = $3::smallint)"
    "    AND ($5::jsonb IS NULL OR (task.file_id, task.stage, task.unit, task.generation) IN"
    "      (SELECT file_id, stage, unit, generation FROM k))"
    "    RETURNING task.file_id, task.user_id, task.stage, task.unit, task.generation),"
    " s AS (SELECT t.file_id, t.stage, t.generation, count(*) AS n FROM t JOIN stage_join j USING"
    "    (file_id, stage, generation) WHERE t.unit BETWEEN 1 AND j.total GROUP BY 1, 2, 3),"
    " j AS (UPDATE stage_join SET left_ = left_ + s.n, failed = failed - s.n FROM s"
    "    WHERE stage_join.file_id = s.file_id AND stage_join.stage = s.stage"
    "    AND stage_join.generation = s.generation),"
    " dl AS (UPDATE dead_letter d SET state = 'replayed', actor = $4, closed_at = now() FROM t"
    "    WHERE d.file_id = t.file_id AND d.stage = t.stage AND d.unit = t.unit"
    "    AND d.generation = t.generation AND d.state = 'open'),"
    " p AS (SELECT file_id, bool_or(stage IN (1, 2, 3, 7)) AS main,"
    "    bool_or(stage IN (4, 7)) AS preview, bool_or(stage IN (5, 7)) AS thumb FROM t GROUP BY "
    "file_id),"
    " f AS (UPDATE file SET state = 1, updated_at = now(),"
    "    main_state = CASE WHEN p.main THEN 0 ELSE main_state END,"
    "    preview_state = CASE WHEN p.preview THEN 0 ELSE preview_state END,"
    /* A preview that lives again may yet give page 1 to a skipped thumbnail. */
    "    thumb_state = CASE WHEN p.thumb OR (p.preview AND thumb_state = 4) THEN 0"
    "                  ELSE thumb_state END,"
    "    errors = errors - CASE WHEN p.main THEN 'main' ELSE '' END"
    "                    - CASE WHEN p.preview THEN 'preview' ELSE '' END"
    "                    - CASE WHEN p.thumb OR p.preview THEN 'thumbnail' ELSE '' END"
    "    FROM p, old WHERE file.file_id = p.file_id AND old.file_id = p.file_id"
    "      AND file.state < 6"
    "    RETURNING file.file_id, file.user_id, file.dataset_id, file.batch_id, old.state AS was),"
    " c AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"
    "    SELECT dataset_id, batch_id, was, 1, count(*) FROM f WHERE was <> 1 GROUP BY 1, 2, 3),"
    " e AS (INSERT INTO event (user_id, file_id, kind, body) SELECT user_id, file_id,"
    "    'file_updated', jsonb_build_object('datasetId', dataset_id, 'batchId', batch_id,"
    "    'state', 'processing', 'action', 'retry') FROM f)"
    " SELECT count(*), count(DISTINCT file_id), coalesce(sum(DISTINCT 1 << stage), 0) FROM t";

static int retry_ids(struct db *db, const char *ids, const char *user_id, int stage,
                     const char *keys, const char *actor, int lane, struct task_retried *ret_done,
                     struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num n_stage, n_lane;
    const char *params[] = {ids,   user_id, db_num(&n_stage, stage),
                            actor, keys,    db_num(&n_lane, lane)};

    if (db_acquire(db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        db_query(conn, many_lock_sql, 2, params, NULL, err) < 0 ||
        db_query(conn, retry_sql, 6, params, &res, err) < 0 || db_commit(conn, err) < 0) {
        return -1;
    }
    *ret_done = (struct task_retried){.units = db_i64(res, 0, 0),
                                      .files = db_i64(res, 0, 1),
                                      .stages = (unsigned)db_i64(res, 0, 2)};
    return 0;
}

int task_retry(struct db *db, const char *user_id, const char *file_id, int stage,
               const char *actor, int64_t *ret_n, struct err *err)
{
    struct task_retried done;

    if (task_retry_many(db, user_id, &file_id, 1, stage, actor, LANE_FIRST, &done, err) < 0) {
        return -1;
    }
    *ret_n = done.units;
    return 0;
}

int task_retry_many(struct db *db, const char *user_id, const char *const *file_ids, size_t n,
                    int stage, const char *actor, int lane, struct task_retried *ret_done,
                    struct err *err)
{
    CLEANUP(free_cleanup) char *ids = NULL;

    if (checked_ids(file_ids, n, &ids, err) < 0) {
        return -1;
    }
    return retry_ids(db, ids, user_id, stage, NULL, actor, lane, ret_done, err);
}

int task_retry_units(struct db *db, const struct task_key *keys, size_t n, const char *actor,
                     struct task_retried *ret_done, struct err *err)
{
    CLEANUP(json_cleanup) json_t *list = json_array();
    CLEANUP(free_cleanup) char *ids = NULL;
    CLEANUP(free_cleanup) char *text = NULL;
    const char *files[TASK_REMOVE_MAX];

    for (size_t i = 0; i < n && i < TASK_REMOVE_MAX; i++) {
        files[i] = keys[i].file_id;
        json_array_append_new(list, json_pack("[s, i, i, i]", keys[i].file_id, keys[i].stage,
                                              keys[i].unit, keys[i].generation));
    }
    text = json_dumps(list, JSON_COMPACT);
    if (!text || (n <= TASK_REMOVE_MAX && json_array_size(list) != n)) {
        return err_nomem(err);
    }
    if (checked_ids(files, n, &ids, err) < 0) {
        return -1;
    }
    return retry_ids(db, ids, NULL, STAGE_NONE, text, actor, LANE_REPLAY, ret_done, err);
}

/* Re-run ----------------------------------------------------------------------------------------*/

/* main: text, ocr and ai start the main pipeline again; preview restarts the thumbnail too unless
 * the file is a raster image, whose thumbnail never waited for it. An old office file (ole2) has
 * its text from the preview's conversion, so a re-run from text starts there, and a preview that
 * starts again brings the text task itself. A file whose scan never ended well begins with the
 * scan, wherever the re-run wants to begin. */
static const char rerun_sql[] =
    "WITH old AS (SELECT f.file_id, f.state, f.version, v.kind,"
    "      EXISTS (SELECT 1 FROM task x WHERE x.file_id = $1::uuid AND x.stage = 7)"
    "        AND NOT EXISTS (SELECT 1 FROM task x WHERE x.file_id = $1::uuid AND x.stage = 7"
    "          AND x.state = 4) AS unscanned FROM file f JOIN file_version v"
    "      USING (file_id, version) WHERE f.file_id = $1::uuid AND f.user_id = $2::uuid"
    "      AND f.state BETWEEN 1 AND 4 AND f.content_removed_at IS NULL FOR UPDATE OF f),"
    " w AS (SELECT old.*, CASE WHEN kind IN ('ole2') AND $3::smallint = 1 THEN 4"
    "      ELSE $3::smallint END AS from_stage,"
    "      $3::smallint <= 3 OR unscanned OR (kind = 'ole2' AND $3::smallint = 4) AS main,"
    "      kind IN ('jpeg','png','tiff','webp','gif','bmp','heic','avif') AS raster FROM old),"
    " t AS (UPDATE task SET state = 6, q = NULL, updated_at = now() FROM w"
    "    WHERE task.file_id = w.file_id AND task.state < 4),"
    " f AS (UPDATE file SET generation = file.generation + 1, state = 1, updated_at = now(),"
    "    main_state = CASE WHEN w.main OR main_state = 0 THEN 0 ELSE main_state END,"
    "    preview_state = CASE WHEN w.from_stage = 4 OR w.unscanned OR preview_state = 0 THEN 0"
    "      ELSE preview_state END,"
    "    thumb_state = CASE WHEN w.from_stage = 5 OR (w.from_stage = 4 AND NOT w.raster)"
    "      OR w.unscanned OR thumb_state = 0 THEN 0 ELSE thumb_state END,"
    "    errors = errors"
    "      - CASE WHEN w.main OR main_state = 0 THEN 'main' ELSE '' END"
    "      - CASE WHEN w.from_stage = 4 OR w.unscanned OR preview_state = 0 THEN 'preview'"
    "        ELSE '' END"
    "      - CASE WHEN w.from_stage = 5 OR (w.from_stage = 4 AND NOT w.raster) OR w.unscanned"
    "        OR thumb_state = 0 THEN 'thumbnail' ELSE '' END"
    "    FROM w WHERE file.file_id = w.file_id"
    "    RETURNING file.*, w.state AS was, w.from_stage, w.kind, w.raster, w.unscanned),"
    /* What died in a pipeline that starts again has its new try with it. */
    " dl AS (UPDATE dead_letter d SET state = 'replayed', actor = 'rerun', closed_at = now() FROM f"
    "    WHERE d.file_id = f.file_id AND d.state = 'open' AND CASE WHEN d.stage <= 3"
    "      THEN f.main_state WHEN d.stage = 4 THEN f.preview_state ELSE f.thumb_state END = 0),"
    /* Pipelines that were still live start again from their beginning: their tasks are gone. */
    " n AS (INSERT INTO task (user_id, file_id, stage, unit, generation, traceparent)"
    "    SELECT f.user_id, f.file_id, s.stage, 0, f.generation, $4 FROM f, LATERAL (VALUES"
    "      (CASE WHEN f.unscanned THEN 7"
    "            WHEN f.main_state = 0 AND NOT (f.kind = 'ole2' AND f.preview_state = 0) THEN"
    /* A file whose text was never read has nothing to re-run ocr or ai on: it starts with text. */
    "            CASE WHEN $3::smallint IN (2, 3) AND NOT (f.raster AND $3::smallint = 2)"
    "              AND NOT EXISTS (SELECT 1 FROM file_page p WHERE p.file_id = f.file_id"
    "                AND p.version = f.version) THEN 1"
    "            WHEN $3::smallint <= 3 THEN $3::smallint ELSE 1 END END),"
    "      (CASE WHEN f.preview_state = 0 AND NOT f.unscanned THEN 4 END),"
    "      (CASE WHEN f.thumb_state = 0 AND NOT f.unscanned AND (f.raster OR f.preview_state <> 0) "
    "THEN 5 END))"
    "      AS s(stage) WHERE s.stage IS NOT NULL),"
    " c AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"
    "    SELECT dataset_id, batch_id, was, 1, 1 FROM f WHERE was <> 1),"
    " e AS (INSERT INTO event (user_id, file_id, kind, body) SELECT user_id, file_id,"
    "    'file_updated', jsonb_build_object('datasetId', dataset_id, 'batchId', batch_id,"
    "    'state', 'processing', 'action', 'rerun', 'from', $3::smallint) FROM f)"
    " SELECT count(*) FROM f";

int task_rerun(struct db *db, const char *user_id, const char *file_id, int from, int64_t *ret_n,
               struct err *err)
{
    struct db_num num;
    char trace[TRACE_PARENT_SIZE];
    const char *params[] = {file_id, user_id, db_num(&num, from), trace_current_text(trace)};

    if (from < STAGE_TEXT || from > STAGE_THUMBNAIL) {
        return err_set(err, ERR_PERMANENT, "invalid_stage", "no re-run from that stage");
    }
    return locked_update(db, one_lock_sql, 2, rerun_sql, 4, params, ret_n, err);
}

/* Quarantine ------------------------------------------------------------------------------------*/

/* $1 file $2 stages $3 actor. */
static const char release_sql[] =
    "WITH old AS (SELECT file_id FROM file WHERE file_id = $1::uuid AND state = 5 FOR UPDATE),"
    " f AS (UPDATE file SET state = 1, main_state = 0, preview_state = 0, thumb_state = 0,"
    "    errors = '{}', updated_at = now() FROM old WHERE file.file_id = old.file_id"
    "    RETURNING file.*),"
    " t AS (INSERT INTO task (user_id, file_id, stage, unit, generation, cost)"
    "    SELECT user_id, file_id, s::smallint, 0, generation, least(100, greatest(1, bytes / "
    "1048576))::int"
    "    FROM f, jsonb_array_elements_text($2::jsonb) AS x(s) ON CONFLICT DO NOTHING),"
    " c AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"
    "    SELECT dataset_id, batch_id, 5, 1, 1 FROM f),"
    " e AS (INSERT INTO event (user_id, file_id, kind, body) SELECT user_id, file_id,"
    "    'file_updated', jsonb_build_object('datasetId', dataset_id, 'batchId', batch_id,"
    "    'state', 'processing', 'action', 'release', 'actor', $3::text) FROM f)"
    " SELECT user_id FROM f";

int task_release(struct db *db, const char *file_id, const char *actor, bool *ret_released,
                 unsigned *ret_stages, char ret_user[UUID_TEXT], struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *kind = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *find[] = {file_id};

    if (db_run(db,
               "SELECT v.kind FROM file f JOIN file_version v USING (file_id, version)"
               " WHERE f.file_id = $1::uuid AND f.state = 5",
               1, find, &kind, err) < 0) {
        return -1;
    }
    if (PQntuples(kind) == 0) {
        *ret_released = false;
        return 0;
    }
    unsigned first = filetype_of(file_kind_parse(PQgetvalue(kind, 0, 0)))->tasks;
    CLEANUP(json_cleanup) json_t *list = stages_json(first);
    CLEANUP(free_cleanup) char *stages = json_dumps(list, JSON_COMPACT);
    const char *params[] = {file_id, stages, actor};
    if (!stages) {
        return err_nomem(err);
    }
    if (db_run(db, release_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    *ret_released = PQntuples(res) > 0;
    if (*ret_released) {
        snprintf(ret_user, UUID_TEXT, "%s", PQgetvalue(res, 0, 0));
        *ret_stages = first;
    }
    return 0;
}
