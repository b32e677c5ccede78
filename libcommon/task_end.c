/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a unit: one statement for done and dead alike, so that join, pipeline, next tasks,
 * record, counts and events can never disagree.
 * The statement is put together from pieces, because each of them costs the server some work even
 * when it finds nothing to do: units with nothing special leave out what they do not need. A piece
 * is written once; what is left out would have done nothing.
 * Rows are found by the parameters, never by a column of a CTE: while a table is nearly empty, a
 * join may as well read all of it, and that plan outlives the empty table.
 * No scalar subquery may read a data-modifying CTE in it: a concurrent end of another pipeline
 * makes Postgres re-check the file row, and such a subquery cannot be re-run.
 */
#include "libcommon/task.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/outcome.h"
#include "libcommon/reason.h"
#include "libcommon/service.h"

/* $1 file $2 stage $3 unit $4 generation $5 token $6 outcome $7 dead $8 code $9 class $10 message
 * for the owner $11 child $12 letter id $13 version of this program $14 message for operators. */
/* The unit itself. */
#define END_UNIT                                                                                   \
    "WITH o AS (SELECT $6::jsonb AS o),"                                                           \
    " d AS (UPDATE task SET state = CASE WHEN $7::boolean THEN 5 ELSE 4 END, q = NULL,"            \
    "    lease_until = NULL, updated_at = now(), last_error = $10,"                                \
    "    cost = coalesce((o.o->>'cost')::int, cost) FROM o"                                        \
    "  WHERE file_id = $1::uuid AND stage = $2::smallint AND unit = $3::int"                       \
    "    AND generation = $4::int AND lease_token = $5::bigint AND state = 2"                      \
    "  RETURNING file_id, user_id, stage, unit, generation, attempts, failures, refunds,"          \
    "    created_at, traceparent, outage_retries, lease_owner, lane),"

/* The stage of ranges: planned, and counted down. The unit past the last range is the next task of
 * the join itself: it is not counted. */
#define END_JOIN                                                                                   \
    " j0 AS (INSERT INTO stage_join (file_id, stage, generation, total, left_)"                    \
    "  SELECT d.file_id, d.stage, d.generation, jsonb_array_length(o.o->'units'),"                 \
    "    jsonb_array_length(o.o->'units') FROM d, o WHERE jsonb_array_length(o.o->'units') > 0"    \
    "  ON CONFLICT (file_id, stage, generation) DO UPDATE SET total = excluded.total,"             \
    "    left_ = excluded.left_, failed = 0),"                                                     \
    " j AS (UPDATE stage_join s SET left_ = left_ - 1,"                                            \
    "    failed = failed + CASE WHEN $7::boolean THEN 1 ELSE 0 END FROM d"                         \
    "  WHERE s.file_id = $1::uuid AND s.stage = $2::smallint AND s.generation = $4::int"           \
    "    AND d.unit > 0 AND d.unit <= s.total RETURNING s.left_, s.failed),"
#define END_NO_JOIN " j AS (SELECT NULL::int AS left_, NULL::int AS failed WHERE false),"

/* How the unit ends its stage: plan (units follow), part (others are still out), end, broken (the
 * last one, and some failed); and the tasks that follow. */
#define END_NEXT                                                                                   \
    " g AS MATERIALIZED (SELECT d.*, o.o, CASE"                                                    \
    "    WHEN jsonb_array_length(o.o->'units') > 0 THEN 'plan'"                                    \
    "    WHEN d.unit = 0 OR j.left_ IS NULL THEN 'end'"                                            \
    "    WHEN j.left_ > 0 THEN 'part' WHEN j.failed > 0 THEN 'broken' ELSE 'end' END AS how"       \
    "  FROM d CROSS JOIN o LEFT JOIN j ON true),"                                                  \
    " t AS (INSERT INTO task (user_id, file_id, stage, unit, generation, cost, input, "            \
    "traceparent,"                                                                                 \
    "    lane)"                                                                                    \
    "  SELECT g.user_id, g.file_id, CASE WHEN x.stage = 0 THEN g.stage ELSE x.stage END, x.unit,"  \
    "    g.generation, greatest(x.cost, 1), x.input, g.traceparent, g.lane"                        \
    "  FROM g, jsonb_to_recordset((CASE WHEN g.how = 'plan' THEN g.o->'units' ELSE '[]' END)"      \
    "      || (CASE WHEN g.how = 'end' THEN g.o->'next' ELSE '[]' END) || (g.o->'spawn'))"         \
    "    AS x(stage smallint, unit int, cost int, input jsonb)"                                    \
    "  ON CONFLICT DO NOTHING RETURNING stage),"

#define END_RESULTS                                                                                \
    " a AS (INSERT INTO artifact (file_id, version, generation, stage, unit, kind, page,"          \
    "    object_key, bytes, mime, meta)"                                                           \
    "  SELECT g.file_id, (g.o->>'version')::int, g.generation, g.stage, g.unit, x.kind, x.page,"   \
    "    x.key, x.bytes, x.mime, x.meta FROM g, jsonb_to_recordset(g.o->'artifacts')"              \
    "    AS x(kind text, page int, key text, bytes bigint, mime text, meta jsonb)),"               \
    " pg AS (INSERT INTO file_page (file_id, version, page, generation, engine, chars, "           \
    "confidence,"                                                                                  \
    "    width, height, needs_ocr, text_key, text_start, text_bytes, words_key, words_start,"      \
    "    words_bytes, text_sum, words_sum)"                                                        \
    "  SELECT g.file_id, (g.o->>'version')::int, x.page, g.generation, x.engine, x.chars,"         \
    "    x.confidence, x.width, x.height, x.needs_ocr, x.text_key, x.text_start, x.text_bytes,"    \
    "    x.words_key, x.words_start, x.words_bytes, x.text_sum, x.words_sum"                       \
    "  FROM g, jsonb_to_recordset(g.o->'pages') AS x(page int, engine text, chars int,"            \
    "    confidence real, width real, height real, needs_ocr boolean, text_key text,"              \
    "    text_start bigint, text_bytes bigint, words_key text, words_start bigint,"                \
    "    words_bytes bigint, text_sum text, words_sum text)"                                       \
    "  ON CONFLICT (file_id, version, page, generation) DO UPDATE SET engine = excluded.engine,"   \
    "    chars = excluded.chars, confidence = excluded.confidence, width = excluded.width,"        \
    "    height = excluded.height, needs_ocr = excluded.needs_ocr, text_key = excluded.text_key,"  \
    "    text_start = excluded.text_start, text_bytes = excluded.text_bytes,"                      \
    "    words_key = excluded.words_key, words_start = excluded.words_start,"                      \
    "    words_bytes = excluded.words_bytes, text_sum = excluded.text_sum,"                        \
    "    words_sum = excluded.words_sum),"

/* The pipeline's new state, if the unit ends one; 'end' of a dead unit is failed. An old office
 * file has its text from the preview's conversion: no conversion, no text. */
#define END_STATE                                                                                  \
    " p AS MATERIALIZED (SELECT g.*, CASE WHEN g.how = 'broken' THEN 3"                            \
    "      WHEN g.how = 'end' AND $7::boolean THEN 3"                                              \
    "      WHEN g.how = 'end' THEN (g.o->'pipeline'->>'state')::smallint END AS ends,"             \
    "    CASE WHEN g.how = 'broken' AND NOT $7::boolean THEN jsonb_build_object('code',"           \
    "        'pages_failed', 'detail', 'some pages could not be read', 'class', 'permanent',"      \
    "        'stage', g.stage, 'attempts', g.attempts)"                                            \
    "      WHEN $7::boolean THEN jsonb_build_object('code', $8::text, 'detail', $10::text,"        \
    "        'class', $9::text, 'stage', g.stage, 'attempts', g.attempts)"                         \
    "      WHEN g.o->'pipeline'->>'code' IS NOT NULL THEN jsonb_build_object('code',"              \
    "        g.o->'pipeline'->>'code', 'detail', g.o->'pipeline'->>'detail', 'class',"             \
    "        'permanent', 'stage', g.stage, 'attempts', g.attempts) END AS why,"                   \
    "    CASE g.stage WHEN 4 THEN 'preview' WHEN 5 THEN 'thumbnail' WHEN 6 THEN 'none'"            \
    "      ELSE 'main' END AS pipe,"                                                               \
    "    (g.o->>'noThumbnail' IS NOT NULL OR (g.stage = 4 AND g.how = 'end' AND $7::boolean))"     \
    "      AND NOT EXISTS (SELECT 1 FROM task x WHERE x.file_id = $1::uuid AND x.stage = 5"        \
    "        AND x.unit = 0 AND x.generation = $4::int) AS no_thumb,"                              \
    "    (g.o->'record' IS NOT NULL AND g.how = 'end') AS has_record FROM g),"                     \
    " q AS MATERIALIZED (SELECT p.*, (p.stage = 4 AND p.ends = 3 AND EXISTS (SELECT 1"             \
    "      FROM file_version v WHERE v.file_id = $1::uuid"                                         \
    "        AND v.version = (p.o->>'version')::int AND v.kind = 'ole2')"                          \
    "      AND NOT EXISTS (SELECT 1 FROM task x WHERE x.file_id = $1::uuid AND x.stage = 1"        \
    "        AND x.unit = 0 AND x.generation = $4::int)) AS no_text FROM p),"

/* The states of file and pipeline, and the counts; only where the unit ends a pipeline. */
#define END_FILE                                                                                   \
    " f AS (UPDATE file SET"                                                                       \
    "    main_state = CASE WHEN q.pipe = 'main' AND q.ends IS NOT NULL THEN q.ends"                \
    "                      WHEN q.no_text THEN 3 ELSE main_state END,"                             \
    "    preview_state = CASE WHEN q.pipe = 'preview' AND q.ends IS NOT NULL THEN q.ends"          \
    "                         ELSE preview_state END,"                                             \
    "    thumb_state = CASE WHEN q.pipe = 'thumbnail' AND q.ends IS NOT NULL THEN q.ends"          \
    "                       WHEN q.no_thumb AND thumb_state = 0 THEN 4 ELSE thumb_state END,"      \
    "    state = CASE WHEN file.state = 1"                                                         \
    "      AND CASE WHEN q.pipe = 'main' AND q.ends IS NOT NULL THEN q.ends"                       \
    "               WHEN q.no_text THEN 3 ELSE main_state END <> 0"                                \
    "      AND CASE WHEN q.pipe = 'preview' AND q.ends IS NOT NULL THEN q.ends"                    \
    "               ELSE preview_state END <> 0"                                                   \
    "      AND CASE WHEN q.pipe = 'thumbnail' AND q.ends IS NOT NULL THEN q.ends"                  \
    "               WHEN q.no_thumb AND thumb_state = 0 THEN 4 ELSE thumb_state END <> 0"          \
    "      THEN CASE CASE WHEN q.pipe = 'main' AND q.ends IS NOT NULL THEN q.ends"                 \
    "                     WHEN q.no_text THEN 3 ELSE main_state END"                               \
    "           WHEN 3 THEN 3 WHEN 5 THEN 4 ELSE 2 END ELSE file.state END,"                       \
    "    record_generation = CASE WHEN q.has_record THEN q.generation ELSE record_generation END," \
    "    errors = CASE WHEN q.why IS NOT NULL AND q.ends IS NOT NULL"                              \
    "        THEN errors || jsonb_build_object(q.pipe, q.why)"                                     \
    "      WHEN q.ends IS NOT NULL THEN errors - q.pipe ELSE errors END"                           \
    "      || CASE WHEN q.no_thumb THEN jsonb_build_object('thumbnail', "                          \
    "jsonb_build_object('code',"                                                                   \
    "        'no_preview', 'detail', 'there is no first page to picture', 'class', 'permanent',"   \
    "        'stage', 5, 'attempts', 0)) ELSE '{}' END"                                            \
    "      || CASE WHEN q.no_text THEN jsonb_build_object('main', q.why) ELSE '{}' END,"           \
    "    updated_at = now()"                                                                       \
    "  FROM q WHERE file.file_id = $1::uuid AND file.generation = $4::int"                         \
    "    AND (q.ends IS NOT NULL OR q.no_thumb OR q.has_record)"                                   \
    "  RETURNING file.file_id, file.user_id, file.dataset_id, file.batch_id, file.state,"          \
    "    file.version),"                                                                           \
    " c AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"               \
    "  SELECT dataset_id, batch_id, 1, state, 1 FROM f WHERE state BETWEEN 2 AND 5),"
/* The scan, where it does not just let the file through: dead or quarantined, it ends all three
 * pipelines, of which nothing has begun. */
#define END_SCAN                                                                                   \
    " f AS (UPDATE file SET main_state = 3, preview_state = 4, thumb_state = 4,"                   \
    "    state = CASE WHEN $7::boolean THEN 3 ELSE 5 END,"                                         \
    "    errors = jsonb_build_object('main', q.why, 'preview', q.why, 'thumbnail', q.why),"        \
    "    updated_at = now()"                                                                       \
    "  FROM q WHERE file.file_id = $1::uuid AND file.generation = $4::int AND file.state = 1"      \
    "    AND q.ends IS NOT NULL"                                                                   \
    "  RETURNING file.file_id, file.user_id, file.dataset_id, file.batch_id, file.state,"          \
    "    file.version),"                                                                           \
    " c AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"               \
    "  SELECT dataset_id, batch_id, 1, state, 1 FROM f),"
#define END_NO_FILE " f AS (SELECT NULL::smallint AS state WHERE false),"

/* The cleaner's last pass: the file is gone. */
#define END_CLEAN                                                                                  \
    " z AS (UPDATE file SET state = 7, updated_at = now() FROM q WHERE file.file_id = $1::uuid"    \
    "    AND q.stage = 6 AND q.how = 'end' AND NOT $7::boolean AND file.state = 6"                 \
    "  RETURNING file.dataset_id, file.batch_id),"                                                 \
    " cz AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"              \
    "  SELECT dataset_id, batch_id, 6, 7, 1 FROM z),"

/* A record set takes the place of the older generation's. */
#define END_RECORD                                                                                 \
    " rd AS (DELETE FROM record USING q WHERE q.has_record AND record.file_id = $1::uuid"          \
    "    AND record.generation < $4::int),"                                                        \
    " r AS (INSERT INTO record (record_id, file_id, dataset_id, user_id, version, generation,"     \
    "    schema_version, doc_no, backend, \"values\", cells, needs_review, completeness)"          \
    "  SELECT (x->>'recordId')::uuid, q.file_id, fl.dataset_id, q.user_id,"                        \
    "    (q.o->>'version')::int, q.generation, (x->>'schemaVersion')::int,"                        \
    "    coalesce((x->>'docNo')::int, 0), x->>'backend', x->'values', x->'cells',"                 \
    "    (x->>'needsReview')::boolean, (x->>'completeness')::real"                                 \
    "  FROM q JOIN file fl ON fl.file_id = $1::uuid, LATERAL (SELECT q.o->'record' AS x) y"        \
    "  WHERE q.has_record RETURNING record_id),"                                                   \
    " rr AS (INSERT INTO record_row (record_id, column_id, row_no, \"values\", cells)"             \
    "  SELECT r.record_id, x.\"columnId\", x.\"rowNo\", x.values, x.cells"                         \
    "  FROM r, q, jsonb_to_recordset(coalesce(q.o->'record'->'rows', '[]'))"                       \
    "    AS x(\"columnId\" text, \"rowNo\" int, values jsonb, cells jsonb)),"

/* Evidence as it is now: the file may be gone when somebody reads the letter. The last attempt
 * ended here as a failure, unless it ended with its worker. */
#define END_DEAD                                                                                   \
    " dl AS (INSERT INTO dead_letter (id, file_id, user_id, stage, unit, generation, reason, "     \
    "class,"                                                                                       \
    "    attempts, failures, crashes, last_error, child, first_at, code_version, dataset_id,"      \
    "    version, input_key, input_etag, input_bytes, input_kind, outage_retries, worker, trace,"  \
    "    replay_of)"                                                                               \
    "  SELECT $12::uuid, d.file_id, d.user_id, d.stage, d.unit, d.generation, $8::text, $9::text," \
    "    d.attempts, d.failures + l.n, greatest(d.attempts - d.failures - d.refunds - l.n, 0),"    \
    "    left($14::text, 4000), $11::jsonb, d.created_at, $13::text, fl.dataset_id, v.version,"    \
    "    v.object_key, v.etag, v.bytes, v.kind, d.outage_retries, d.lease_owner, d.traceparent,"   \
    "    (SELECT x.id FROM dead_letter x WHERE x.file_id = $1::uuid AND x.stage = d.stage"         \
    "      AND x.unit = d.unit AND x.generation = d.generation ORDER BY x.id::text DESC LIMIT 1)"  \
    "  FROM d CROSS JOIN (SELECT CASE $8::text WHEN 'crash_loop' THEN 0 ELSE 1 END AS n) l"        \
    "  LEFT JOIN file fl ON fl.file_id = $1::uuid LEFT JOIN file_version v"                        \
    "    ON v.file_id = $1::uuid AND v.version = ($6::jsonb->>'version')::int"                     \
    "  WHERE $7::boolean),"

#define END_EVENT                                                                                  \
    " e AS (INSERT INTO event (user_id, file_id, kind, stage, body)"                               \
    "  SELECT q.user_id, q.file_id, k.kind, q.stage, jsonb_strip_nulls(jsonb_build_object("        \
    "      'datasetId', fl.dataset_id, 'batchId', fl.batch_id, 'unit', q.unit,"                    \
    "      'attempt', q.attempts, 'state', CASE WHEN $7::boolean THEN 'failed' ELSE 'done' END,"   \
    "      'ends', q.ends, 'units', nullif(jsonb_array_length(q.o->'units'), 0),"                  \
    "      'detail', nullif(q.o->'detail', '{}'), 'error', q.why))"                                \
    "  FROM q JOIN file fl ON fl.file_id = $1::uuid, LATERAL (VALUES ('file_updated'),"            \
    "    (CASE WHEN q.has_record THEN 'record_updated' END),"                                      \
    "    (CASE WHEN $7::boolean THEN 'dead_letter' END)) AS k(kind) WHERE k.kind IS NOT NULL"      \
    "    AND (q.stage <> 6 OR k.kind = 'dead_letter')"                                             \
    "  RETURNING 1)"

/* The file's last event comes after the unit's: hence the look at e. */
#define END_FINAL                                                                                  \
    ", ef AS (INSERT INTO event (user_id, file_id, kind, body) SELECT user_id, file_id,"           \
    "    'file_updated', jsonb_build_object('datasetId', dataset_id, 'batchId', batch_id, "        \
    "'state',"                                                                                     \
    "    (ARRAY['done','failed','cancelled','quarantined'])[state - 1], 'final', true)"            \
    "  FROM f WHERE state BETWEEN 2 AND 5 AND (SELECT count(*) FROM e) >= 0)"

#define END_ANSWER                                                                                 \
    " SELECT g.how, f.state, (SELECT string_agg(DISTINCT stage::text, ',') FROM t)"                \
    " FROM g LEFT JOIN f ON true"

static const char end_sql[] = END_UNIT END_JOIN END_NEXT END_RESULTS END_STATE END_FILE END_CLEAN
    END_RECORD END_DEAD END_EVENT END_FINAL END_ANSWER;

static const char scan_sql[] =
    END_UNIT END_NO_JOIN END_NEXT END_STATE END_SCAN END_DEAD END_EVENT END_FINAL END_ANSWER;

/* What units without ranges, failure and cleaning need. */
#define END_SHORT(results, file, record, final)                                                    \
    END_UNIT END_NO_JOIN END_NEXT results END_STATE file record END_EVENT final END_ANSWER

static const struct {
    int has; /* enum of outcome.h, or-ed */
    const char *sql;
} end_short[] = {
    {0, END_SHORT("", END_NO_FILE, "", "")},
    {OUTCOME_RESULTS, END_SHORT(END_RESULTS, END_NO_FILE, "", "")},
    {OUTCOME_ENDS, END_SHORT("", END_FILE, "", END_FINAL)},
    {OUTCOME_ENDS | OUTCOME_RESULTS, END_SHORT(END_RESULTS, END_FILE, "", END_FINAL)},
    {OUTCOME_ENDS | OUTCOME_RECORD, END_SHORT("", END_FILE, END_RECORD, END_FINAL)},
};

/* The shortest statement that does all that this end asks for; *ret_n: its parameters. */
static const char *choose(const struct task_claim *claim, const char *outcome, bool dead,
                          int *ret_n)
{
    bool plain = !dead && claim->key.unit == 0 && claim->key.stage != STAGE_CLEAN;
    int has = outcome_has(outcome);

    plain = plain && (claim->key.stage != STAGE_SCAN || !(has & OUTCOME_ENDS));
    for (size_t i = 0; plain && i < ARRAY_LEN(end_short); i++) {
        if (end_short[i].has == has) {
            *ret_n = 10;
            return end_short[i].sql;
        }
    }
    *ret_n = 14;
    return claim->key.stage == STAGE_SCAN ? scan_sql : end_sql;
}

static int task_end(struct db *db, const struct task_claim *claim, const char *outcome, bool dead,
                    const struct err *why, const char *child, struct task_end *ret_end,
                    struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num stage, unit, generation, token;
    struct task_end end = {.file_state = -1};
    char letter[UUID_TEXT];
    int n;
    const char *sql = choose(claim, outcome, dead, &n);
    const char *params[] = {claim->key.file_id,
                            db_num(&stage, claim->key.stage),
                            db_num(&unit, claim->key.unit),
                            db_num(&generation, claim->key.generation),
                            db_num(&token, claim->token),
                            outcome,
                            dead ? "t" : "f",
                            dead ? why->code : NULL,
                            dead ? err_class_name(why->class) : NULL,
                            dead ? reason_said(why->code, why->msg) : NULL,
                            child,
                            letter,
                            docfleet_version(),
                            dead ? why->msg : NULL};

    uuid_v7(letter);
    if (db_run(db, sql, n, params, &res, err) < 0) {
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
