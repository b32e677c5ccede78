/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plan, keep, fetch.
 */
#include "services/ai-extractor/units.h"

#include <stdlib.h>
#include <string.h>

#include "libcommon/jget.h"
#include "libcommon/pages.h"

static const char pages_sql[] =
    "SELECT DISTINCT page FROM file_page WHERE file_id = $1::uuid AND version = $2::int"
    "  AND generation <= $3::int ORDER BY page";

static const char answers_sql[] =
    "SELECT unit, object_key FROM artifact WHERE file_id = $1::uuid AND generation = $2::int"
    "  AND stage = 3 AND kind = 'answer' AND unit <= $3::int ORDER BY unit";

/* *ret_pages is malloc'd. */
static int page_numbers(struct job *job, int **ret_pages, size_t *ret_n, struct err *err)
{
    const struct task_claim *claim = job->claim;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num version, generation;
    const char *params[] = {claim->key.file_id, db_num(&version, claim->version),
                            db_num(&generation, claim->key.generation)};

    if (db_run(job->ctx->service->db, pages_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    const int n = PQntuples(res);
    int *pages = calloc((size_t)n + 1, sizeof(*pages));
    if (!pages) {
        return err_nomem(err);
    }
    for (int i = 0; i < n; i++) {
        pages[i] = (int)db_i64(res, i, 0);
    }
    *ret_pages = pages;
    *ret_n = (size_t)n;
    return 0;
}

static int learn(struct job *job, int last, struct locale_hint *ret, struct err *err)
{
    const struct task_claim *claim = job->claim;
    CLEANUP(doctext_cleanup) struct doctext *doc = NULL;

    if (pages_load(job->ctx->service->db, job->ctx->service->store, claim->key.file_id,
                   claim->version, claim->key.generation, 0, last, &doc, err) < 0) {
        return -1;
    }
    *ret = extract_learn(doc);
    return 0;
}

static bool has_rows(const struct columns *columns)
{
    for (size_t i = 0; i < columns->n; i++) {
        if (columns->items[i].type == COLUMN_ROWS) {
            return true;
        }
    }
    return false;
}

static int add_units(struct job *job, const struct part *parts, size_t n, size_t n_pages,
                     struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        json_t *input = part_to_input(&parts[i]);
        const size_t cost = parts[i].kind == PART_SCALARS ? n_pages : PART_PAGES;
        if (!input) {
            return err_nomem(err);
        }
        if (outcome_unit(job->out, (int)i + 1, (int)cost, input, err) < 0) {
            return -1;
        }
    }
    return outcome_detail(job->out, "pages", json_integer((json_int_t)n_pages), err);
}

int units_plan(struct job *job, const struct columns *columns, int schema_version,
               bool *ret_planned, struct err *err)
{
    CLEANUP(free_cleanup) int *pages = NULL;
    CLEANUP(free_cleanup) struct part *parts = NULL;
    struct locale_hint hint;
    size_t n_pages = 0, n = 0;

    *ret_planned = false;
    if (!has_rows(columns)) {
        return 0;
    }
    if (page_numbers(job, &pages, &n_pages, err) < 0) {
        return -1;
    }
    if (n_pages <= PART_PAGES) {
        return 0;
    }
    if (learn(job, pages[min_size(n_pages, 50) - 1], &hint, err) < 0) {
        return -1;
    }
    parts = parts_plan(columns, pages, n_pages, schema_version, &hint, &n);
    if (!parts) {
        return err_nomem(err);
    }
    if (add_units(job, parts, n, n_pages, err) < 0) {
        return -1;
    }
    *ret_planned = true;
    return 0;
}

int units_keep(struct job *job, const struct part *part, const struct extract_result *result,
               struct err *err)
{
    struct part join = *part;
    const char *key = NULL;
    CLEANUP(json_cleanup) json_t *answer = part_answer(part, result);
    CLEANUP(free_cleanup) char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;

    if (!text) {
        return err_nomem(err);
    }
    const size_t len = strlen(text);
    if (len > PART_BYTES_MAX) {
        return err_set(err, ERR_PERMANENT, "too_large", "the answer of a unit is too large");
    }
    join.kind = PART_JOIN;
    if (job_put(job, "answer", text, len, "application/json", &key, err) < 0 ||
        outcome_artifact(job->out, "answer", 0, key, len, "application/json", NULL, err) < 0) {
        return -1;
    }
    json_t *input = part_to_input(&join);
    return input ? outcome_next(job->out, STAGE_AI, part->units + 1, 1, input, err)
                 : err_nomem(err);
}

static int add_answer(struct store *store, const char *key, json_t *answers, struct err *err)
{
    CLEANUP(buf_done) struct buf text = {0};
    json_t *answer = NULL;

    buf_init(&text, PART_BYTES_MAX);
    if (store_get_mem(store, key, STORE_WHOLE, PART_BYTES_MAX, &text, err) < 0) {
        return err_wrap(err, "reading a unit's answer");
    }
    if (jget_load(text.data, text.len, PART_BYTES_MAX, &answer, err) < 0) {
        return -1;
    }
    return json_array_append_new(answers, answer) < 0 ? err_nomem(err) : 0;
}

int units_answers(struct job *job, int n, json_t **ret_answers, struct err *err)
{
    const struct task_key *name = &job->claim->key;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(json_cleanup) json_t *answers = json_array();
    struct db_num generation, units;
    const char *params[] = {name->file_id, db_num(&generation, name->generation),
                            db_num(&units, n)};

    if (!answers) {
        return err_nomem(err);
    }
    if (db_run(job->ctx->service->db, answers_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) != n) {
        return err_set(err, ERR_UNKNOWN, "input_gone", "%d of %d answers of the units are there",
                       PQntuples(res), n);
    }
    for (int i = 0; i < n; i++) {
        if (add_answer(job->ctx->service->store, PQgetvalue(res, i, 1), answers, err) < 0) {
            return -1;
        }
    }
    *ret_answers = STEAL(answers);
    return 0;
}
