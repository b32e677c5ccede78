/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One unit is one file: its text and its dataset's columns in, one record out.
 */
#include "services/ai-extractor/stage.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/jget.h"
#include "libcommon/pages.h"
#include "services/ai-extractor/extract.h"
#include "services/ai-extractor/options.h"

#define COLUMNS_JSON_MAX (2U * 1024U * 1024U)

static const char columns_sql[] =
    "SELECT d.schema_version, s.columns FROM dataset d JOIN schema_version s"
    "  ON s.dataset_id = d.dataset_id AND s.version = d.schema_version"
    " WHERE d.dataset_id = $1::uuid";

static int load_columns(struct job *job, int *ret_version, struct columns **ret_columns,
                        struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(json_cleanup) json_t *json = NULL;
    const char *params[] = {job->claim->dataset_id};

    if (db_run(job->ctx->service->db, columns_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "invalid_schema", "the dataset has no columns");
    }
    const char *text = PQgetvalue(res, 0, 1);
    if (jget_load(text, strlen(text), COLUMNS_JSON_MAX, &json, err) < 0) {
        return -1;
    }
    *ret_version = (int)db_i64(res, 0, 0);
    return columns_parse_stored(json, ret_columns, err);
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
        outcome_detail(job->out, "needsReview", json_boolean(result->needs_review), err) < 0) {
        return -1;
    }
    return outcome_pipeline(job->out, PIPE_DONE, NULL, NULL, err);
}

static int ai_handle(struct job *job, struct err *err)
{
    const struct task_claim *claim = job->claim;
    CLEANUP(columns_cleanup) struct columns *columns = NULL;
    CLEANUP(doctext_cleanup) struct doctext *doc = NULL;
    struct extract_options options = {.part = EXTRACT_ALL, .attempt = claim->attempts};
    struct extract_result result = {0};
    int schema_version = 0;

    if (load_columns(job, &schema_version, &columns, err) < 0 ||
        pages_load(job->ctx->service->db, job->ctx->service->store, claim->key.file_id,
                   claim->version, claim->key.generation, &doc, err) < 0) {
        return -1;
    }
    if (extract_record(job->ctx->state, columns, doc, &options, &result, err) < 0) {
        return -1;
    }
    int r = write_record(job, schema_version, &result, err);
    extract_result_done(&result);
    return r;
}

static int ai_setup(struct stage_ctx *ctx, struct err *err)
{
    if (strcmp(ai_options.backend, "rules") == 0) {
        ctx->state = (void *)(uintptr_t)backend_rules();
        return 0;
    }
    return err_set(err, ERR_FATAL, "invalid_config", "unknown AI backend %s", ai_options.backend);
}

const struct stage ai_extractor = {
    .id = STAGE_AI,
    .service = "ai-extractor",
    .options = ai_option_defs,
    .n_options = 7,
    .options_target = &ai_options,
    .store_required = true,
    .setup = ai_setup,
    .handle = ai_handle,
};
