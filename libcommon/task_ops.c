/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workers do to tasks: claim, renew, end, put back. The end of a unit is one statement for
 * done and dead alike, so that join, pipeline, next tasks, record, counts and events can never
 * disagree. No scalar subquery may read a data-modifying CTE in it: a concurrent end of another
 * pipeline makes Postgres re-check the file row, and such a subquery cannot be re-run.
 */
#include "libcommon/task.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/jget.h"
#include "libcommon/service.h"

/* Claim -----------------------------------------------------------------------------------------*/

static const char claim_sql[] =
    "WITH c AS (UPDATE task t SET state = 2, lease_token = lease_token + 1,"
    "    attempts = attempts + 1, lease_owner = $6, lease_until = now() + $7::bigint * interval '1 "
    "ms',"
    "    updated_at = now()"
    "  FROM file f WHERE t.file_id = $1::uuid AND t.stage = $2::smallint AND t.unit = $3::int"
    "    AND t.generation = $4::int AND t.state = 1 AND t.dispatch_seq = $5::int"
    "    AND f.file_id = t.file_id AND f.generation = t.generation"
    "    AND f.state = CASE WHEN t.stage = 6 THEN 6 ELSE 1 END"
    "  RETURNING t.*, f.version, f.name, f.bytes, f.dataset_id, f.batch_id),"
    " e AS (INSERT INTO event (user_id, file_id, kind, stage, body) SELECT user_id, file_id,"
    "    'file_updated', stage, jsonb_build_object('datasetId', dataset_id, 'batchId', batch_id,"
    "    'state', 'running', 'unit', unit, 'attempt', attempts, 'worker', lease_owner) FROM c"
    /* A removed file is gone for its user: its cleaning is nobody's news. */
    "    WHERE stage <> 6)"
    " SELECT c.user_id, c.dataset_id, c.lease_token, c.attempts, c.failures, c.refunds,"
    "   extract(epoch FROM now() - c.created_at)::bigint, c.cost, c.version, c.bytes, c.name,"
    "   v.object_key, v.sha256, v.mime, v.kind, c.ext_job_id, c.traceparent, c.input,"
    "   c.outage_retries"
    " FROM c JOIN file_version v ON v.file_id = c.file_id AND v.version = c.version";

void task_claim_done(struct task_claim *claim)
{
    free(claim->name);
    free(claim->object_key);
    free(claim->sha256);
    free(claim->mime);
    free(claim->kind);
    free(claim->ext_job_id);
    free(claim->traceparent);
    json_decref(claim->input);
    *claim = (struct task_claim){0};
}

static char *copy_cell(const PGresult *res, int col, bool *failed)
{
    const char *s = db_str(res, 0, col);
    char *copy = s ? strdup(s) : NULL;

    *failed = *failed || (s && !copy);
    return copy;
}

static int claim_from_row(const PGresult *res, struct task_claim *claim, struct err *err)
{
    const char *input = db_str(res, 0, 17);
    bool failed = false;

    snprintf(claim->user_id, sizeof(claim->user_id), "%s", PQgetvalue(res, 0, 0));
    snprintf(claim->dataset_id, sizeof(claim->dataset_id), "%s", PQgetvalue(res, 0, 1));
    claim->token = db_i64(res, 0, 2);
    claim->attempts = (int)db_i64(res, 0, 3);
    claim->failures = (int)db_i64(res, 0, 4);
    claim->refunds = (int)db_i64(res, 0, 5);
    claim->age_s = db_i64(res, 0, 6);
    claim->cost = (int)db_i64(res, 0, 7);
    claim->version = (int)db_i64(res, 0, 8);
    claim->bytes = db_i64(res, 0, 9);
    claim->outage_retries = (int)db_i64(res, 0, 18);
    claim->name = copy_cell(res, 10, &failed);
    claim->object_key = copy_cell(res, 11, &failed);
    claim->sha256 = copy_cell(res, 12, &failed);
    claim->mime = copy_cell(res, 13, &failed);
    claim->kind = copy_cell(res, 14, &failed);
    claim->ext_job_id = copy_cell(res, 15, &failed);
    claim->traceparent = copy_cell(res, 16, &failed);
    if (failed) {
        return err_nomem(err);
    }
    return input ? jget_load(input, strlen(input), 65536, &claim->input, err) : 0;
}

int task_claim(struct db *db, const struct task_key *key, int dispatch_seq, const char *owner,
               int64_t lease_ms, struct task_claim *ret_claim, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num stage, unit, generation, seq, lease;
    struct task_claim claim = {.key = *key};
    const char *params[] = {key->file_id,
                            db_num(&stage, key->stage),
                            db_num(&unit, key->unit),
                            db_num(&generation, key->generation),
                            db_num(&seq, dispatch_seq),
                            owner,
                            db_num(&lease, lease_ms)};

    if (db_run(db, claim_sql, 7, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return 0;
    }
    if (claim_from_row(res, &claim, err) < 0) {
        task_claim_done(&claim);
        return -1;
    }
    *ret_claim = claim;
    return 1;
}

/* Renewal ---------------------------------------------------------------------------------------*/

static const char renew_sql[] =
    "UPDATE task SET lease_until = now() + $2::bigint * interval '1 ms'"
    " FROM (SELECT (x->>0)::uuid AS f, (x->>1)::smallint AS s, (x->>2)::int AS u,"
    "   (x->>3)::int AS g, (x->>4)::bigint AS tok, (x->>5)::int AS i"
    "   FROM jsonb_array_elements($1::jsonb) AS x ORDER BY 1, 2, 3, 4) v"
    " WHERE file_id = v.f AND stage = v.s AND unit = v.u AND generation = v.g"
    "   AND lease_token = v.tok AND state = 2 RETURNING v.i";

int task_renew(struct db *db, const struct task_key *keys, const int64_t *tokens, size_t n,
               int64_t lease_ms, bool *lost, struct err *err)
{
    CLEANUP(json_cleanup) json_t *list = json_array();
    CLEANUP(free_cleanup) char *text = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("[s, i, i, i, I, i]", keys[i].file_id, keys[i].stage,
                                              keys[i].unit, keys[i].generation,
                                              (json_int_t)tokens[i], (int)i));
    }
    text = json_dumps(list, JSON_COMPACT);
    if (!text || json_array_size(list) != n) {
        return err_nomem(err);
    }
    struct db_num lease;
    const char *params[] = {text, db_num(&lease, lease_ms)};
    if (db_run(db, renew_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        lost[i] = true;
    }
    for (int row = 0; row < PQntuples(res); row++) {
        int64_t i = db_i64(res, row, 0);
        if (i >= 0 && (size_t)i < n) {
            lost[i] = false;
        }
    }
    return 0;
}

/* The end ---------------------------------------------------------------------------------------*/

/* $1 file $2 stage $3 unit $4 generation $5 token $6 outcome $7 dead $8 code $9 class $10 message
 * $11 child $12 letter id $13 version of this program. How the unit ends its stage: plan (units
 * follow), part (others are still out), end, broken (the last one, and some failed). */
static const char end_sql[] =
    "WITH o AS (SELECT $6::jsonb AS o),"
    " d AS (UPDATE task SET state = CASE WHEN $7::boolean THEN 5 ELSE 4 END, q = NULL,"
    "    lease_until = NULL, updated_at = now(), last_error = $10"
    "  WHERE file_id = $1::uuid AND stage = $2::smallint AND unit = $3::int"
    "    AND generation = $4::int AND lease_token = $5::bigint AND state = 2"
    "  RETURNING file_id, user_id, stage, unit, generation, attempts, failures, refunds,"
    "    created_at, traceparent, outage_retries, lease_owner),"
    " j0 AS (INSERT INTO stage_join (file_id, stage, generation, total, left_)"
    "  SELECT d.file_id, d.stage, d.generation, jsonb_array_length(o.o->'units'),"
    "    jsonb_array_length(o.o->'units') FROM d, o WHERE jsonb_array_length(o.o->'units') > 0"
    "  ON CONFLICT (file_id, stage, generation) DO UPDATE SET total = excluded.total,"
    "    left_ = excluded.left_, failed = 0),"
    " j AS (UPDATE stage_join s SET left_ = left_ - 1,"
    "    failed = failed + CASE WHEN $7::boolean THEN 1 ELSE 0 END FROM d"
    "  WHERE s.file_id = d.file_id AND s.stage = d.stage AND s.generation = d.generation"
    /* The unit past the last range is the next task of the join itself: it is not counted. */
    "    AND d.unit > 0 AND d.unit <= s.total RETURNING s.left_, s.failed),"
    " g AS MATERIALIZED (SELECT d.*, o.o, CASE"
    "    WHEN jsonb_array_length(o.o->'units') > 0 THEN 'plan'"
    "    WHEN d.unit = 0 OR j.left_ IS NULL THEN 'end'"
    "    WHEN j.left_ > 0 THEN 'part' WHEN j.failed > 0 THEN 'broken' ELSE 'end' END AS how"
    "  FROM d CROSS JOIN o LEFT JOIN j ON true),"
    " t AS (INSERT INTO task (user_id, file_id, stage, unit, generation, cost, input, traceparent)"
    "  SELECT g.user_id, g.file_id, CASE WHEN x.stage = 0 THEN g.stage ELSE x.stage END, x.unit,"
    "    g.generation, greatest(x.cost, 1), x.input, g.traceparent"
    "  FROM g, jsonb_to_recordset((CASE WHEN g.how = 'plan' THEN g.o->'units' ELSE '[]' END)"
    "      || (CASE WHEN g.how = 'end' THEN g.o->'next' ELSE '[]' END) || (g.o->'spawn'))"
    "    AS x(stage smallint, unit int, cost int, input jsonb)"
    "  ON CONFLICT DO NOTHING RETURNING stage),"
    " a AS (INSERT INTO artifact (file_id, version, generation, stage, unit, kind, page,"
    "    object_key, bytes, mime, meta)"
    "  SELECT g.file_id, (g.o->>'version')::int, g.generation, g.stage, g.unit, x.kind, x.page,"
    "    x.key, x.bytes, x.mime, x.meta FROM g, jsonb_to_recordset(g.o->'artifacts')"
    "    AS x(kind text, page int, key text, bytes bigint, mime text, meta jsonb)),"
    " pg AS (INSERT INTO file_page (file_id, version, page, generation, engine, chars, confidence,"
    "    width, height, needs_ocr, text_key, text_start, text_bytes, words_key, words_start,"
    "    words_bytes)"
    "  SELECT g.file_id, (g.o->>'version')::int, x.page, g.generation, x.engine, x.chars,"
    "    x.confidence, x.width, x.height, x.needs_ocr, x.text_key, x.text_start, x.text_bytes,"
    "    x.words_key, x.words_start, x.words_bytes"
    "  FROM g, jsonb_to_recordset(g.o->'pages') AS x(page int, engine text, chars int,"
    "    confidence real, width real, height real, needs_ocr boolean, text_key text,"
    "    text_start bigint, text_bytes bigint, words_key text, words_start bigint,"
    "    words_bytes bigint)"
    "  ON CONFLICT (file_id, version, page, generation) DO UPDATE SET engine = excluded.engine,"
    "    chars = excluded.chars, confidence = excluded.confidence, width = excluded.width,"
    "    height = excluded.height, needs_ocr = excluded.needs_ocr, text_key = excluded.text_key,"
    "    text_start = excluded.text_start, text_bytes = excluded.text_bytes,"
    "    words_key = excluded.words_key, words_start = excluded.words_start,"
    "    words_bytes = excluded.words_bytes),"
    /* The pipeline's new state, if the unit ends one; 'end' of a dead unit is failed. */
    " p AS MATERIALIZED (SELECT g.*, CASE WHEN g.how = 'broken' THEN 3"
    "      WHEN g.how = 'end' AND $7::boolean THEN 3"
    "      WHEN g.how = 'end' THEN (g.o->'pipeline'->>'state')::smallint END AS ends,"
    "    CASE WHEN g.how = 'broken' AND NOT $7::boolean THEN jsonb_build_object('code',"
    "        'pages_failed', 'detail', 'some pages could not be read', 'class', 'permanent',"
    "        'stage', g.stage, 'attempts', g.attempts)"
    "      WHEN $7::boolean THEN jsonb_build_object('code', $8::text, 'detail', $10::text,"
    "        'class', $9::text, 'stage', g.stage, 'attempts', g.attempts)"
    "      WHEN g.o->'pipeline'->>'code' IS NOT NULL THEN jsonb_build_object('code',"
    "        g.o->'pipeline'->>'code', 'detail', g.o->'pipeline'->>'detail', 'class',"
    "        'permanent', 'stage', g.stage, 'attempts', g.attempts) END AS why,"
    "    CASE g.stage WHEN 4 THEN 'preview' WHEN 5 THEN 'thumbnail' WHEN 6 THEN 'none'"
    "      ELSE 'main' END AS pipe,"
    "    (g.o->>'noThumbnail' IS NOT NULL OR (g.stage = 4 AND g.how = 'end' AND $7::boolean))"
    "      AND NOT EXISTS (SELECT 1 FROM task x WHERE x.file_id = g.file_id AND x.stage = 5"
    "        AND x.unit = 0 AND x.generation = g.generation) AS no_thumb,"
    "    (g.o->'record' IS NOT NULL AND g.how = 'end') AS has_record FROM g),"
    /* An old office file has its text from the preview's conversion: no conversion, no text. */
    " q AS MATERIALIZED (SELECT p.*, (p.stage = 4 AND p.ends = 3 AND v.kind = 'ole2'"
    "      AND NOT EXISTS (SELECT 1 FROM task x WHERE x.file_id = p.file_id AND x.stage = 1"
    "        AND x.unit = 0 AND x.generation = p.generation)) AS no_text"
    "  FROM p JOIN file_version v ON v.file_id = p.file_id"
    "    AND v.version = (p.o->>'version')::int),"
    " f AS (UPDATE file SET"
    "    main_state = CASE WHEN q.pipe = 'main' AND q.ends IS NOT NULL THEN q.ends"
    "                      WHEN q.no_text THEN 3 ELSE main_state END,"
    "    preview_state = CASE WHEN q.pipe = 'preview' AND q.ends IS NOT NULL THEN q.ends"
    "                         ELSE preview_state END,"
    "    thumb_state = CASE WHEN q.pipe = 'thumbnail' AND q.ends IS NOT NULL THEN q.ends"
    "                       WHEN q.no_thumb AND thumb_state = 0 THEN 4 ELSE thumb_state END,"
    "    state = CASE WHEN file.state = 1"
    "      AND CASE WHEN q.pipe = 'main' AND q.ends IS NOT NULL THEN q.ends"
    "               WHEN q.no_text THEN 3 ELSE main_state END <> 0"
    "      AND CASE WHEN q.pipe = 'preview' AND q.ends IS NOT NULL THEN q.ends"
    "               ELSE preview_state END <> 0"
    "      AND CASE WHEN q.pipe = 'thumbnail' AND q.ends IS NOT NULL THEN q.ends"
    "               WHEN q.no_thumb AND thumb_state = 0 THEN 4 ELSE thumb_state END <> 0"
    "      THEN CASE CASE WHEN q.pipe = 'main' AND q.ends IS NOT NULL THEN q.ends"
    "                     WHEN q.no_text THEN 3 ELSE main_state END"
    "           WHEN 3 THEN 3 WHEN 5 THEN 4 ELSE 2 END ELSE file.state END,"
    "    record_generation = CASE WHEN q.has_record THEN q.generation ELSE record_generation END,"
    "    errors = CASE WHEN q.why IS NOT NULL AND q.ends IS NOT NULL"
    "        THEN errors || jsonb_build_object(q.pipe, q.why)"
    "      WHEN q.ends IS NOT NULL THEN errors - q.pipe ELSE errors END"
    "      || CASE WHEN q.no_thumb THEN jsonb_build_object('thumbnail', jsonb_build_object('code',"
    "        'no_preview', 'detail', 'there is no first page to picture', 'class', 'permanent',"
    "        'stage', 5, 'attempts', 0)) ELSE '{}' END"
    "      || CASE WHEN q.no_text THEN jsonb_build_object('main', q.why) ELSE '{}' END,"
    "    updated_at = now()"
    "  FROM q WHERE file.file_id = q.file_id AND file.generation = q.generation"
    "    AND (q.ends IS NOT NULL OR q.no_thumb OR q.has_record)"
    "  RETURNING file.file_id, file.user_id, file.dataset_id, file.batch_id, file.state,"
    "    file.version),"
    " c AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"
    "  SELECT dataset_id, batch_id, 1, state, 1 FROM f WHERE state BETWEEN 2 AND 5),"
    /* The cleaner's last pass: the file is gone. */
    " z AS (UPDATE file SET state = 7, updated_at = now() FROM q WHERE file.file_id = q.file_id"
    "    AND q.stage = 6 AND q.how = 'end' AND NOT $7::boolean AND file.state = 6"
    "  RETURNING file.dataset_id, file.batch_id),"
    " cz AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"
    "  SELECT dataset_id, batch_id, 6, 7, 1 FROM z),"
    /* A record set takes the place of the older generation's. */
    " rd AS (DELETE FROM record USING q WHERE q.has_record AND record.file_id = q.file_id"
    "    AND record.generation < q.generation),"
    " r AS (INSERT INTO record (record_id, file_id, dataset_id, user_id, version, generation,"
    "    schema_version, doc_no, backend, \"values\", cells, needs_review, completeness)"
    "  SELECT (x->>'recordId')::uuid, q.file_id, fl.dataset_id, q.user_id,"
    "    (q.o->>'version')::int, q.generation, (x->>'schemaVersion')::int,"
    "    coalesce((x->>'docNo')::int, 0), x->>'backend', x->'values', x->'cells',"
    "    (x->>'needsReview')::boolean, (x->>'completeness')::real"
    "  FROM q JOIN file fl ON fl.file_id = q.file_id, LATERAL (SELECT q.o->'record' AS x) y"
    "  WHERE q.has_record RETURNING record_id),"
    " rr AS (INSERT INTO record_row (record_id, column_id, row_no, \"values\", cells)"
    "  SELECT r.record_id, x.\"columnId\", x.\"rowNo\", x.values, x.cells"
    "  FROM r, q, jsonb_to_recordset(coalesce(q.o->'record'->'rows', '[]'))"
    "    AS x(\"columnId\" text, \"rowNo\" int, values jsonb, cells jsonb)),"
    /* Evidence as it is now: the file may be gone when somebody reads the letter. */
    " dl AS (INSERT INTO dead_letter (id, file_id, user_id, stage, unit, generation, reason, class,"
    "    attempts, failures, crashes, last_error, child, first_at, code_version, dataset_id,"
    "    version, input_key, input_etag, input_bytes, input_kind, outage_retries, worker, trace,"
    "    replay_of)"
    "  SELECT $12::uuid, d.file_id, d.user_id, d.stage, d.unit, d.generation, $8::text, $9::text,"
    "    d.attempts, d.failures, greatest(d.attempts - d.failures - d.refunds, 0),"
    "    left($10::text, 4000), $11::jsonb, d.created_at, $13::text, fl.dataset_id, v.version,"
    "    v.object_key, v.etag, v.bytes, v.kind, d.outage_retries, d.lease_owner, d.traceparent,"
    "    (SELECT x.id FROM dead_letter x WHERE x.file_id = d.file_id AND x.stage = d.stage"
    "      AND x.unit = d.unit AND x.generation = d.generation ORDER BY x.id DESC LIMIT 1)"
    "  FROM d LEFT JOIN file fl ON fl.file_id = d.file_id LEFT JOIN file_version v"
    "    ON v.file_id = d.file_id AND v.version = ($6::jsonb->>'version')::int"
    "  WHERE $7::boolean),"
    " e AS (INSERT INTO event (user_id, file_id, kind, stage, body)"
    "  SELECT q.user_id, q.file_id, k.kind, q.stage, jsonb_strip_nulls(jsonb_build_object("
    "      'datasetId', fl.dataset_id, 'batchId', fl.batch_id, 'unit', q.unit,"
    "      'attempt', q.attempts, 'state', CASE WHEN $7::boolean THEN 'failed' ELSE 'done' END,"
    "      'ends', q.ends, 'units', nullif(jsonb_array_length(q.o->'units'), 0),"
    "      'detail', nullif(q.o->'detail', '{}'), 'error', q.why))"
    "  FROM q JOIN file fl ON fl.file_id = q.file_id, LATERAL (VALUES ('file_updated'),"
    "    (CASE WHEN q.has_record THEN 'record_updated' END),"
    "    (CASE WHEN $7::boolean THEN 'dead_letter' END)) AS k(kind) WHERE k.kind IS NOT NULL"
    "    AND (q.stage <> 6 OR k.kind = 'dead_letter')"
    "  RETURNING 1),"
    " ef AS (INSERT INTO event (user_id, file_id, kind, body) SELECT user_id, file_id,"
    "    'file_updated', jsonb_build_object('datasetId', dataset_id, 'batchId', batch_id, 'state',"
    "    (ARRAY['done','failed','cancelled','quarantined'])[state - 1], 'final', true)"
    /* The file's last event comes after the unit's: hence the look at e. */
    "  FROM f WHERE state BETWEEN 2 AND 5 AND (SELECT count(*) FROM e) >= 0)"
    " SELECT g.how, f.state, (SELECT string_agg(DISTINCT stage::text, ',') FROM t)"
    " FROM g LEFT JOIN f ON true";

static int task_end(struct db *db, const struct task_claim *claim, const char *outcome, bool dead,
                    const struct err *why, const char *child, struct task_end *ret_end,
                    struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num stage, unit, generation, token;
    struct task_end end = {.file_state = -1};
    char letter[UUID_TEXT];
    const char *params[] = {claim->key.file_id,
                            db_num(&stage, claim->key.stage),
                            db_num(&unit, claim->key.unit),
                            db_num(&generation, claim->key.generation),
                            db_num(&token, claim->token),
                            outcome,
                            dead ? "t" : "f",
                            dead ? why->code : NULL,
                            dead ? err_class_name(why->class) : NULL,
                            dead ? why->msg : NULL,
                            child,
                            letter,
                            docfleet_version()};

    uuid_v7(letter);
    if (db_run(db, end_sql, 13, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        end.fenced = true;
        *ret_end = end;
        return 0;
    }
    const char *how = PQgetvalue(res, 0, 0);
    end.stage_over = strcmp(how, "end") == 0 || strcmp(how, "broken") == 0;
    end.file_state = db_str(res, 0, 1) ? (int)db_i64(res, 0, 1) : -1;
    for (const char *s = db_str(res, 0, 2); s && *s; s++) {
        if (*s >= '1' && *s <= '0' + STAGE_MAX) {
            end.wake[*s - '0'] = true;
        }
    }
    *ret_end = end;
    return 0;
}

int task_complete(struct db *db, const struct task_claim *claim, const char *outcome,
                  struct task_end *ret_end, struct err *err)
{
    return task_end(db, claim, outcome, false, NULL, NULL, ret_end, err);
}

int task_dead(struct db *db, const struct task_claim *claim, const struct err *why,
              const char *child, struct task_end *ret_end, struct err *err)
{
    char outcome[160];

    snprintf(outcome, sizeof(outcome),
             "{\"version\":%d,\"artifacts\":[],\"pages\":[],\"units\":[],\"next\":[],\"spawn\":[],"
             "\"detail\":{}}",
             claim->version);
    return task_end(db, claim, outcome, true, why, child, ret_end, err);
}

int task_ended_by(struct db *db, const struct task_claim *claim, bool *ret_ours, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num stage, unit, generation, token;
    const char *params[] = {
        claim->key.file_id, db_num(&stage, claim->key.stage), db_num(&unit, claim->key.unit),
        db_num(&generation, claim->key.generation), db_num(&token, claim->token)};

    if (db_run(db,
               "SELECT 1 FROM task WHERE file_id = $1::uuid AND stage = $2::smallint"
               " AND unit = $3::int AND generation = $4::int AND lease_token = $5::bigint"
               " AND state IN (4, 5)",
               5, params, &res, err) < 0) {
        return -1;
    }
    *ret_ours = PQntuples(res) > 0;
    return 0;
}

/* Put back --------------------------------------------------------------------------------------*/

static const char put_back_sql[] =
    "WITH d AS (UPDATE task SET state = CASE WHEN $6 = 'ext' THEN 3 ELSE 0 END,"
    "    q = CASE WHEN $6 = 'drain' THEN 0 ELSE 1 END,"
    "    not_before = CASE WHEN $6 = 'drain' THEN NULL"
    "                 ELSE now() + $7::bigint * interval '1 ms' END,"
    "    failures = failures + CASE WHEN $6 = 'unknown' THEN 1 ELSE 0 END,"
    "    refunds = refunds + CASE WHEN $6 = 'unknown' THEN 0 ELSE 1 END,"
    "    outage_retries = outage_retries + CASE WHEN $6 = 'transient' THEN 1 ELSE 0 END,"
    "    ext_job_id = coalesce($8, ext_job_id), lease_until = NULL, last_error = $9,"
    "    updated_at = now()"
    "  WHERE file_id = $1::uuid AND stage = $2::smallint AND unit = $3::int"
    "    AND generation = $4::int AND lease_token = $5::bigint AND state = 2"
    "  RETURNING user_id, file_id, stage, unit, attempts, not_before),"
    " e AS (INSERT INTO event (user_id, file_id, kind, stage, body) SELECT d.user_id, d.file_id,"
    "    'file_updated', d.stage, jsonb_strip_nulls(jsonb_build_object('datasetId', f.dataset_id,"
    "    'batchId', f.batch_id, 'state', 'waiting', 'unit', d.unit, 'attempt', d.attempts,"
    "    'reason', $6::text, 'until', d.not_before, 'code', $10::text, 'message', $9::text))"
    "  FROM d JOIN file f USING (file_id) WHERE d.stage <> 6)"
    " SELECT count(*) FROM d";

static const char *const back_names[] = {
    [TASK_BACK_TRANSIENT] = "transient",
    [TASK_BACK_UNKNOWN] = "unknown",
    [TASK_BACK_DRAIN] = "drain",
    [TASK_BACK_WAIT_EXT] = "ext",
};

int task_put_back(struct db *db, const struct task_claim *claim, enum task_back how,
                  int64_t delay_ms, const struct err *why, const char *ext_job_id, bool *ret_fenced,
                  struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num stage, unit, generation, token, delay;
    const char *params[] = {claim->key.file_id,
                            db_num(&stage, claim->key.stage),
                            db_num(&unit, claim->key.unit),
                            db_num(&generation, claim->key.generation),
                            db_num(&token, claim->token),
                            back_names[how],
                            db_num(&delay, delay_ms),
                            ext_job_id,
                            why ? why->msg : NULL,
                            why ? why->code : NULL};

    if (db_run(db, put_back_sql, 10, params, &res, err) < 0) {
        return -1;
    }
    *ret_fenced = db_i64(res, 0, 0) == 0;
    return 0;
}

static const char hand_back_sql[] =
    "UPDATE task SET state = 0, q = 0, updated_at = now()"
    " FROM (SELECT (x->>0)::uuid AS f, (x->>1)::smallint AS s, (x->>2)::int AS u,"
    "   (x->>3)::int AS g, (x->>4)::int AS seq FROM jsonb_array_elements($1::jsonb) AS x"
    "   ORDER BY 1, 2, 3, 4) v"
    " WHERE file_id = v.f AND stage = v.s AND unit = v.u AND generation = v.g"
    "   AND dispatch_seq = v.seq AND state = 1";

int task_hand_back(struct db *db, const struct task_key *keys, const int *dispatch_seqs, size_t n,
                   struct err *err)
{
    CLEANUP(json_cleanup) json_t *list = json_array();
    CLEANUP(free_cleanup) char *text = NULL;

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("[s, i, i, i, i]", keys[i].file_id, keys[i].stage,
                                              keys[i].unit, keys[i].generation, dispatch_seqs[i]));
    }
    text = json_dumps(list, JSON_COMPACT);
    if (!text || json_array_size(list) != n) {
        return err_nomem(err);
    }
    const char *params[] = {text};
    return db_run(db, hand_back_sql, 1, params, NULL, err);
}

/* Workers ---------------------------------------------------------------------------------------*/

static const char heartbeat_sql[] =
    "INSERT INTO worker (worker_id, stage, slots, busy, partitions, open, seen)"
    " VALUES ($1, $2::smallint, $3::int, $4::int, $5::int[], $6::boolean, now())"
    " ON CONFLICT (worker_id) DO UPDATE SET slots = excluded.slots, busy = excluded.busy,"
    "   partitions = excluded.partitions, open = excluded.open, seen = now()";

int task_heartbeat(struct db *db, const char *worker_id, int stage, int slots, int busy,
                   const char *partitions, bool open, struct err *err)
{
    struct db_num n_stage, n_slots, n_busy;
    const char *params[] = {worker_id,
                            db_num(&n_stage, stage),
                            db_num(&n_slots, slots),
                            db_num(&n_busy, busy),
                            partitions ? partitions : "{}",
                            open ? "t" : "f"};

    return db_run(db, heartbeat_sql, 6, params, NULL, err);
}

int task_goodbye(struct db *db, const char *worker_id, struct err *err)
{
    const char *params[] = {worker_id};

    return db_run(db, "DELETE FROM worker WHERE worker_id = $1", 1, params, NULL, err);
}
