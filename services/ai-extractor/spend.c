/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Booking and putting right, one statement each. What cannot be put right (Postgres away) stays
 * booked at the most the call could use.
 */
#include "services/ai-extractor/spend.h"

#include <inttypes.h>

#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/quota.h"
#include "services/ai-extractor/options.h"

#define PARKED_MS 3600000

/* $1 file $2 generation $3 unit $4 tokens $5 micros; ceilings, 0 for none: $6 unit's and $7 file's
 * tokens, $8 unit's and $9 file's money. */
static const char book_sql[] =
    "WITH s AS (SELECT coalesce(sum(tokens), 0)::bigint AS ft,"
    "    coalesce(sum(micros), 0)::bigint AS fm,"
    "    coalesce(sum(tokens) FILTER (WHERE unit = $3::int), 0)::bigint AS ut,"
    "    coalesce(sum(micros) FILTER (WHERE unit = $3::int), 0)::bigint AS um FROM spend"
    "  WHERE file_id = $1::uuid AND generation = $2::int AND stage = 3),"
    " i AS (INSERT INTO spend (file_id, generation, stage, unit, calls, tokens, micros)"
    "  SELECT $1::uuid, $2::int, 3, $3::int, 1, $4::bigint, $5::bigint FROM s"
    "  WHERE ($6::bigint = 0 OR ut + $4::bigint <= $6::bigint)"
    "    AND ($7::bigint = 0 OR ft + $4::bigint <= $7::bigint)"
    "    AND ($8::bigint = 0 OR um + $5::bigint <= $8::bigint)"
    "    AND ($9::bigint = 0 OR fm + $5::bigint <= $9::bigint)"
    "  ON CONFLICT (file_id, generation, stage, unit) DO UPDATE SET calls = spend.calls + 1,"
    "    tokens = spend.tokens + excluded.tokens, micros = spend.micros + excluded.micros"
    "  RETURNING 1)"
    " SELECT (SELECT count(*) FROM i), s.ut, s.ft, s.um, s.fm FROM s";

static const char settle_sql[] =
    "UPDATE spend SET calls = calls - $4::int, tokens = tokens + $5::bigint,"
    "  micros = micros + $6::bigint"
    " WHERE file_id = $1::uuid AND generation = $2::int AND stage = 3 AND unit = $3::int";

/* Prices are thousandths of a currency unit for a million tokens. */
static int64_t micros_of(uint64_t prompt_tokens, uint64_t completion_tokens)
{
    const double micros = (double)prompt_tokens * (double)ai_options.prompt_price / 1000 +
                          (double)completion_tokens * (double)ai_options.completion_price / 1000;

    return micros < 9e15 ? (int64_t)(micros + 0.5) : INT64_MAX / 1024;
}

/* Booked only with room in the account's quota, in one transaction that others of it wait for. */
static int book(struct job *job, int64_t micros, const char *const *params, PGresult **ret_res,
                struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    struct quota quota;

    return db_acquire(job->ctx->service->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
                   quota_lock(conn, job->claim->user_id, &quota, err) < 0 ||
                   quota_take(&quota, QUOTA_MICROS, micros, err) < 0 ||
                   db_query(conn, book_sql, 9, params, ret_res, err) < 0
               ? -1
               : db_commit(conn, err);
}

static int reserve(void *ctx, uint64_t prompt_tokens, uint64_t completion_tokens, struct err *err)
{
    struct spend *spend = ctx;
    const struct task_key *key = &spend->job->claim->key;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num n[8];
    const int64_t tokens = (int64_t)(prompt_tokens + completion_tokens);
    const int64_t micros = micros_of(prompt_tokens, completion_tokens);
    const char *params[] = {key->file_id,
                            db_num(&n[0], key->generation),
                            db_num(&n[1], key->unit),
                            db_num(&n[2], tokens),
                            db_num(&n[3], micros),
                            db_num(&n[4], ai_options.unit_tokens),
                            db_num(&n[5], ai_options.file_tokens),
                            db_num(&n[6], ai_options.unit_cost * 1000),
                            db_num(&n[7], ai_options.file_cost * 1000)};

    if (book(spend->job, micros, params, &res, err) < 0) {
        return -1;
    }
    if (db_i64(res, 0, 0) == 0) {
        spend->job->retry_after_ms = PARKED_MS;
        return err_set(err, ERR_TRANSIENT, "budget",
                       "the next call would pass a ceiling: tokens %" PRId64
                       " of the unit, %" PRId64 " of the file, %" PRId64 " more",
                       db_i64(res, 0, 1), db_i64(res, 0, 2), tokens);
    }
    spend->tokens = tokens;
    spend->micros = micros;
    return 0;
}

static void settle(void *ctx, const struct extract_usage *usage)
{
    struct spend *spend = ctx;
    const struct task_key *key = &spend->job->claim->key;
    struct err err = ERR_INIT;
    struct db_num n[5];
    const int64_t tokens = usage ? (int64_t)(usage->prompt_tokens + usage->completion_tokens) : 0;
    const int64_t micros = usage ? micros_of(usage->prompt_tokens, usage->completion_tokens) : 0;
    const char *params[] = {key->file_id,
                            db_num(&n[0], key->generation),
                            db_num(&n[1], key->unit),
                            db_num(&n[2], usage ? 0 : 1),
                            db_num(&n[3], tokens - spend->tokens),
                            db_num(&n[4], micros - spend->micros)};

    if (micros > 0) {
        metrics_add("docfleet_provider_cost_total", "provider=\"openai\"", (double)micros / 1e6);
    }
    if (db_run(spend->job->ctx->service->db, settle_sql, 6, params, NULL, &err) < 0) {
        log_err(LOG_DEBUG, "a call's cost was not put right", &err);
    }
}

void spend_open(struct job *job, struct spend *ret, struct extract_purse *ret_purse)
{
    *ret = (struct spend){.job = job};
    *ret_purse = (struct extract_purse){.ctx = ret, .reserve = reserve, .settle = settle};
}
