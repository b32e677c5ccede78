/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workers do to tasks: claim, renew, put back, hand back, and their own row. The end of a unit
 * is in task_end.c.
 */
#include "libcommon/task.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/jget.h"
#include "libcommon/reason.h"

/* Claim -----------------------------------------------------------------------------------------*/

static const char claim_sql[] =
    "WITH c AS (UPDATE task t SET state = 2, lease_token = lease_token + 1,"
    "    attempts = attempts + CASE WHEN t.state = 1 THEN 1 ELSE 0 END, lease_owner = $6,"
    "    lease_until = now() + $7::bigint * interval '1 ms', updated_at = now()"
    "  FROM file f WHERE t.file_id = $1::uuid AND t.stage = $2::smallint AND t.unit = $3::int"
    "    AND t.generation = $4::int AND t.dispatch_seq = $5::int"
    /* Running for the same owner: its claim was committed, but the answer was lost. */
    "    AND (t.state = 1 OR (t.state = 2 AND t.lease_owner = $6))"
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
    "   c.outage_retries, c.batch_id"
    " FROM c JOIN file_version v ON v.file_id = $1::uuid AND v.version = c.version";

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
    const char *batch = db_str(res, 0, 19);
    snprintf(claim->batch_id, sizeof(claim->batch_id), "%s", batch ? batch : "");
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

/* A row that somebody else keeps locked is left out, so that the other leases do not wait for it:
 * it is still held, as the statement's snapshot shows. */
static const char renew_sql[] =
    "WITH v AS (SELECT (x->>0)::uuid AS f, (x->>1)::smallint AS s, (x->>2)::int AS u,"
    "    (x->>3)::int AS g, (x->>4)::bigint AS tok, (x->>5)::int AS i"
    "    FROM jsonb_array_elements($1::jsonb) AS x"
    "    WHERE jsonb_typeof(x) = 'array')," /* typeof: see task_dispatch.c */
    " free AS (SELECT f, s, u, g, tok, i FROM v JOIN task t ON t.file_id = v.f AND t.stage = v.s"
    "    AND t.unit = v.u AND t.generation = v.g WHERE t.lease_token = v.tok AND t.state = 2"
    "    FOR UPDATE OF t SKIP LOCKED),"
    " renewed AS (UPDATE task SET lease_until = now() + $2::bigint * interval '1 ms'"
    "    FROM free WHERE file_id = f AND stage = s AND unit = u AND generation = g"
    "    AND lease_token = tok AND state = 2 RETURNING i)"
    " SELECT i, true FROM renewed UNION ALL"
    " SELECT i, false FROM v JOIN task t ON t.file_id = v.f AND t.stage = v.s AND t.unit = v.u"
    "    AND t.generation = v.g WHERE t.lease_token = v.tok AND t.state = 2";

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
    int held = 0, renewed = 0;
    for (int row = 0; row < PQntuples(res); row++) {
        int64_t i = db_i64(res, row, 0);
        if (db_bool(res, row, 1)) {
            renewed++;
        } else if (i >= 0 && (size_t)i < n) {
            lost[i] = false;
            held++;
        }
    }
    return held - renewed;
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
    "    'reason', $6::text, 'until', d.not_before, 'code', $10::text, 'message', $11::text))"
    "  FROM d JOIN file f ON f.file_id = $1::uuid WHERE d.stage <> 6)"
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
                            why ? why->code : NULL,
                            why ? reason_words(why->code, why->msg) : NULL};

    if (db_run(db, put_back_sql, 11, params, &res, err) < 0) {
        return -1;
    }
    *ret_fenced = db_i64(res, 0, 0) == 0;
    return 0;
}

static const char hand_back_sql[] =
    "UPDATE task SET state = 0, q = 0, updated_at = now()"
    " FROM (SELECT (x->>0)::uuid AS f, (x->>1)::smallint AS s, (x->>2)::int AS u,"
    "   (x->>3)::int AS g, (x->>4)::int AS seq FROM jsonb_array_elements($1::jsonb) AS x"
    "   WHERE jsonb_typeof(x) = 'array' ORDER BY 1, 2, 3, 4) v"
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
