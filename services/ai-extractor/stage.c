/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file's text and its dataset's columns in, one record out: in one unit, or, where every page is
 * paid for and the pages are many, in units whose answers the last one puts together.
 */
#include "services/ai-extractor/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/http.h"
#include "libcommon/jget.h"
#include "libcommon/pages.h"
#include "services/ai-extractor/extract.h"
#include "services/ai-extractor/memory.h"
#include "services/ai-extractor/openai.h"
#include "services/ai-extractor/options.h"
#include "services/ai-extractor/spend.h"
#include "services/ai-extractor/units.h"

#define COLUMNS_JSON_MAX (2U * 1024U * 1024U)

struct ai_state {
    const struct backend *backend;
    struct backend *openai; /* owned; NULL with the rules */
    struct http_client *http;
    struct http_peer peer;
    struct guard *guard;
};

static const char columns_sql[] =
    "SELECT s.version, s.columns FROM dataset d JOIN schema_version s"
    "  ON s.dataset_id = d.dataset_id AND s.version = coalesce($2::int, d.schema_version)"
    " WHERE d.dataset_id = $1::uuid";

/* What a unit works with. */
struct work {
    struct columns *columns;
    char *columns_text; /* as stored */
    int schema_version;
    struct part part; /* of a unit past unit 0 */
};

static void work_done(struct work *work)
{
    columns_free(work->columns);
    free(work->columns_text);
}

/* version 0: the dataset's newest. */
static int load_columns(struct job *job, int version, struct work *work, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(json_cleanup) json_t *json = NULL;
    struct db_num num;
    const char *params[] = {job->claim->dataset_id, version ? db_num(&num, version) : NULL};

    if (db_run(job->ctx->service->db, columns_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "invalid_schema", "the dataset has no columns");
    }
    const char *text = PQgetvalue(res, 0, 1);
    if (jget_load(text, strlen(text), COLUMNS_JSON_MAX, &json, err) < 0) {
        return -1;
    }
    work->columns_text = strdup(text);
    if (!work->columns_text) {
        return err_nomem(err);
    }
    work->schema_version = (int)db_i64(res, 0, 0);
    return columns_parse_stored(json, &work->columns, err);
}

/* {c5: [{values, cells}]} to the flat list of record_row. */
static json_t *flat_rows(const json_t *rows)
{
    json_t *list = json_array();
    const char *column;
    json_t *array, *row;
    size_t i;

    json_object_foreach((json_t *)(uintptr_t)rows, column, array)
    {
        json_array_foreach(array, i, row)
        {
            json_array_append_new(list,
                                  json_pack("{s:s, s:i, s:O, s:O}", "columnId", column, "rowNo",
                                            (int)i + 1, "values", json_object_get(row, "values"),
                                            "cells", json_object_get(row, "cells")));
        }
    }
    return list;
}

/* What the calls of this unit were; nothing for a backend that makes none. */
static int tell_usage(struct job *job, const struct extract_usage *usage, struct err *err)
{
    if (usage->calls + usage->remembered == 0) {
        return 0;
    }
    if (usage->calls == 0 && outcome_detail(job->out, "cached", json_true(), err) < 0) {
        return -1;
    }
    return outcome_detail(job->out, "usage",
                          json_pack("{s:I, s:I, s:I, s:I, s:b}", "calls", (json_int_t)usage->calls,
                                    "cachedCalls", (json_int_t)usage->remembered, "promptTokens",
                                    (json_int_t)usage->prompt_tokens, "completionTokens",
                                    (json_int_t)usage->completion_tokens, "estimated",
                                    usage->estimated ? 1 : 0),
                          err);
}

static int write_record(struct job *job, int schema_version, const struct extract_result *result,
                        struct err *err)
{
    char record_id[UUID_TEXT];

    uuid_v7(record_id);
    json_t *record = json_pack("{s:s, s:i, s:i, s:s, s:O, s:O, s:b, s:f, s:o}", "recordId",
                               record_id, "schemaVersion", schema_version, "docNo", 0, "backend",
                               result->backend, "values", result->values, "cells", result->cells,
                               "needsReview", result->needs_review ? 1 : 0, "completeness",
                               result->completeness, "rows", flat_rows(result->rows));
    if (!record) {
        return err_nomem(err);
    }
    if (outcome_record(job->out, record, err) < 0 ||
        outcome_detail(job->out, "backend", json_string(result->backend), err) < 0 ||
        outcome_detail(job->out, "completeness", json_real(result->completeness), err) < 0 ||
        outcome_detail(job->out, "needsReview", json_boolean(result->needs_review), err) < 0 ||
        tell_usage(job, &result->usage, err) < 0) {
        return -1;
    }
    return outcome_pipeline(job->out, PIPE_DONE, NULL, NULL, err);
}

/* Runs the backend over pages first..last (0, 0: all of them). */
static int extract(struct job *job, const struct work *work, struct extract_options *options,
                   struct extract_result *ret, struct err *err)
{
    const struct task_claim *claim = job->claim;
    const struct ai_state *state = job->ctx->state;
    CLEANUP(doctext_cleanup) struct doctext *doc = NULL;
    struct memory memory;
    struct extract_memory kept;
    struct spend spend;
    struct extract_purse purse;

    if (job_enter(job, GUARD_STORE, err) < 0) {
        return -1;
    }
    int r = pages_load(job->ctx->service->db, job->ctx->service->store, claim->key.file_id,
                       claim->version, claim->key.generation, options->first_page,
                       options->last_page, &doc, err);
    job_leave(job, GUARD_STORE, r, err);
    if (r < 0) {
        return -1;
    }
    options->attempt = claim->attempts;
    options->retry_after_ms = &job->retry_after_ms;
    options->cancel = &job->cancel;
    if (state->openai) {
        if (memory_open(job, work->columns_text, doc, state->backend->name, &memory, &kept, err) <
            0) {
            return -1;
        }
        options->memory = &kept;
        spend_open(job, &spend, &purse);
        options->purse = &purse;
    }
    return extract_record(state->backend, work->columns, doc, options, ret, err);
}

/* Unit 0: plans a long document, or reads a short one. */
static int do_whole(struct job *job, struct work *work, struct err *err)
{
    const struct ai_state *state = job->ctx->state;
    struct extract_options options = {.part = EXTRACT_ALL};
    struct extract_result result = {0};
    bool planned = false;

    if (load_columns(job, 0, work, err) < 0 ||
        (state->openai &&
         units_plan(job, work->columns, work->schema_version, &planned, err) < 0)) {
        return -1;
    }
    if (planned) {
        return 0;
    }
    if (extract(job, work, &options, &result, err) < 0) {
        return -1;
    }
    int r = write_record(job, work->schema_version, &result, err);
    extract_result_done(&result);
    return r;
}

static int do_part(struct job *job, struct work *work, struct err *err)
{
    const struct part *part = &work->part;
    const bool rows = part->kind == PART_ROWS;
    struct extract_options options = {.part = rows ? EXTRACT_ROWS : EXTRACT_SCALARS,
                                      .rows_column = (size_t)part->column,
                                      .first_page = part->first,
                                      .last_page = part->seen,
                                      .hint = &part->hint};
    struct extract_result result = {0};

    if (extract(job, work, &options, &result, err) < 0) {
        return -1;
    }
    int r =
        units_keep(job, part, &result, err) < 0 || tell_usage(job, &result.usage, err) < 0 ? -1 : 0;
    extract_result_done(&result);
    return r;
}

/* The unit after the parts: their answers are the record. */
static int do_join(struct job *job, const struct work *work, struct err *err)
{
    CLEANUP(json_cleanup) json_t *answers = NULL;
    struct extract_result result = {0};

    if (units_answers(job, work->part.units, &answers, err) < 0 ||
        parts_merge(work->columns, answers, &result, err) < 0) {
        return -1;
    }
    int r = write_record(job, work->schema_version, &result, err);
    extract_result_done(&result);
    return r;
}

static int ai_handle(struct job *job, struct err *err)
{
    CLEANUP(work_done) struct work work = {.columns = NULL};

    if (job->claim->key.unit == 0) {
        return do_whole(job, &work, err);
    }
    if (part_from_input(job->claim->input, NULL, &work.part, err) < 0 ||
        load_columns(job, work.part.schema, &work, err) < 0 ||
        part_from_input(job->claim->input, work.columns, &work.part, err) < 0) {
        return -1;
    }
    return work.part.kind == PART_JOIN ? do_join(job, &work, err) : do_part(job, &work, err);
}

/* An exchange with the AI service, through its breaker. */
static int guarded_send(void *ctx, const struct openai_call *call, struct openai_answer *ret,
                        struct err *err)
{
    struct ai_state *state = ctx;
    int64_t wait = 0;

    if (guard_enter(state->guard, GUARD_AI, clock_mono_ms(), &wait, err) < 0) {
        ret->retry_after_ms = wait;
        return -1;
    }
    struct trace_span span;
    trace_begin(&span, "AI chat", TRACE_CLIENT);
    int r = openai_http_send(state->http, call, ret, err);
    trace_attr_text(&span, "gen_ai.operation.name", "chat");
    trace_attr_text(&span, "gen_ai.request.model", ai_options.model);
    if (r == 0) {
        trace_attr_i64(&span, "http.response.status_code", ret->status);
    }
    trace_end_call(&span, r, err);
    bool good = r == 0 && ret->status >= 200 && ret->status <= 299;
    bool failed = r == 0 && (ret->status == 408 || ret->status == 429 || ret->status >= 500 ||
                             (good && !openai_is_completion(ret)));
    guard_leave(state->guard, GUARD_AI, clock_mono_ms(),
                failed ? BREAKER_ANSWER_FAILED : guard_answer(r, err));
    return r;
}

static int setup_openai(struct ai_state *state, const struct service *service, struct err *err)
{
    struct openai_config config = {
        .url = ai_options.url,
        .model = ai_options.model,
        .key = ai_options.key,
        .api_key_header = strcmp(ai_options.key_header, "api-key") == 0,
        .old_max_tokens = strcmp(ai_options.max_tokens_field, "max_tokens") == 0,
        .max_tokens = (unsigned)ai_options.max_tokens,
        .context_tokens = (unsigned)ai_options.context_tokens,
        .timeout_ms = (unsigned)ai_options.timeout_ms,
    };

    const struct http_client_config http = {.ca_file =
                                                service_ca_file(service, ai_options.ca_file)};

    if (!openai_mode_parse(ai_options.schema_mode, &config.mode)) {
        return err_set(err, ERR_FATAL, "invalid_config", "unknown AI schema mode");
    }
    if (http_client_new(&http, &state->http, err) < 0) {
        return -1;
    }
    config.send = guarded_send;
    config.send_ctx = state;
    guard_use(state->guard, GUARD_AI, GUARD_BY_UNIT);
    if (backend_openai_new(&config, &state->openai, err) < 0) {
        return -1;
    }
    state->backend = state->openai;
    state->peer.client = state->http;
    snprintf(state->peer.url, sizeof(state->peer.url), "%s%smodels", ai_options.url,
             ai_options.url[strlen(ai_options.url) - 1] == '/' ? "" : "/");
    return 0;
}

static void ai_teardown(struct stage_ctx *ctx)
{
    struct ai_state *state = ctx->state;

    if (state) {
        backend_openai_free(state->openai);
        http_client_free(state->http);
        free(state);
        ctx->state = NULL;
    }
}

static int ai_setup(struct stage_ctx *ctx, struct err *err)
{
    if (ai_options_check(&ai_options, err) < 0) {
        return -1;
    }
    struct ai_state *state = calloc(1, sizeof(*state));
    if (!state) {
        return err_nomem(err);
    }
    ctx->state = state;
    state->backend = backend_rules();
    state->guard = ctx->guard;
    if (strcmp(ai_options.backend, "openai") == 0 && setup_openai(state, ctx->service, err) < 0) {
        ai_teardown(ctx);
        return -1;
    }
    if (state->openai) {
        ctx->provider =
            (struct health_dep){"ai", http_peer_check, &state->peer, HTTP_PEER_EVERY_MS, false};
    }
    return 0;
}

const struct stage ai_extractor = {
    .id = STAGE_AI,
    .service = "ai-extractor",
    .options = ai_option_defs,
    .n_options = AI_OPTIONS,
    .options_target = &ai_options,
    .store_required = true,
    .setup = ai_setup,
    .handle = ai_handle,
    .teardown = ai_teardown,
};
