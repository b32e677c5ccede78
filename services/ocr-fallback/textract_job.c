/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Textract jobs on an object of the bucket: a PDF of just the pages of a unit. The job's id and the
 * page numbers wait in task.ext_job_id as "id|3,7,9".
 * Invariant: the same unit asks with the same token, so that a crash between the call and the row
 * starts nothing twice. The object is removed when the job has ended; the cleaner removes it with
 * the file otherwise.
 */
#include "services/ocr-fallback/textract.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/log.h"
#include "libcommon/sha256.h"

#define JOB_ID_MAX 64
#define RESULT_PAGES_MAX 2000 /* of NextToken */
#define TOKEN_MAX 1024
#define WAIT_MAX_MS 60000
#define JOB_AGE_MAX_S (24 * 3600)

static int list_text(const int *pages, size_t n, struct buf *ret, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (buf_printf(ret, err, "%s%d", i ? "," : "", pages[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

size_t textract_job_pages(const char *ext_job_id, int *pages, size_t max)
{
    const char *s = ext_job_id ? strchr(ext_job_id, '|') : NULL;
    size_t n = 0;

    while (s && *s && n < max) {
        char *end = NULL;
        long page = strtol(s + 1, &end, 10);
        if (end == s + 1 || page < 1 || page > INT32_MAX || (*end && *end != ',')) {
            return 0;
        }
        pages[n++] = (int)page;
        s = *end ? end : NULL;
    }
    return n;
}

/* Object and token of a unit with these pages. */
static int names(const struct job *job, const char *pages, char key[256],
                 char token[SHA256_HEX_SIZE], struct err *err)
{
    const struct task_key *unit = &job->claim->key;
    CLEANUP(buf_done) struct buf text = {0};

    buf_init(&text, 4096);
    if (buf_printf(&text, err, "%s/%d/%d/%s", unit->file_id, unit->generation, unit->unit, pages) <
            0 ||
        sha256_hex(text.data, text.len, token, err) < 0) {
        return -1;
    }
    snprintf(key, 256, "artifacts/%s/%d/ocr/%d/textract/%.16s.pdf", unit->file_id, unit->generation,
             unit->unit, token);
    return 0;
}

/* Longer with every try, as a job of many pages takes its time. */
static int64_t waiting_ms(const struct job *job)
{
    int64_t wait = ocr_options.poll_ms * (1 + job->claim->refunds / 4);

    return wait < WAIT_MAX_MS || wait == ocr_options.poll_ms ? wait : WAIT_MAX_MS;
}

static int post(struct textract *textract, struct job *job, const char *action, json_t *request,
                json_t **ret, struct err *err)
{
    CLEANUP(free_cleanup) char *body = request ? json_dumps(request, JSON_COMPACT) : NULL;

    json_decref(request);
    if (!body) {
        return err_nomem(err);
    }
    return textract_call(textract, job, action, body, strlen(body), false, ret, NULL, err);
}

int textract_job_start(struct textract *textract, struct job *job, const int *pages, size_t n,
                       const void *pdf, size_t len, struct err *err)
{
    CLEANUP(buf_done) struct buf list = {0};
    CLEANUP(json_cleanup) json_t *answer = NULL;
    const struct service *service = job->ctx->service;
    char key[256], token[SHA256_HEX_SIZE];
    const char *id = NULL;

    buf_init(&list, 2048);
    if (list_text(pages, n, &list, err) < 0 || names(job, list.data, key, token, err) < 0 ||
        store_put_mem(service->store, key, pdf, len, "application/pdf", err) < 0 ||
        textract_pay(job, n, err) < 0) {
        return -1;
    }
    const int r = post(textract, job, "StartDocumentTextDetection",
                       json_pack("{s:{s:{s:s,s:s}},s:s}", "DocumentLocation", "S3Object", "Bucket",
                                 service->core.s3_bucket, "Name", key, "ClientRequestToken", token),
                       &answer, err);
    textract_paid(job, n, r == 0);
    if (r < 0) {
        return -1;
    }
    if (jget_str(answer, "JobId", JOB_ID_MAX, &id, err) < 0 || strchr(id, '|')) {
        return err_set(err, ERR_UNKNOWN, "provider_refused", "textract named no job");
    }
    CLEANUP(buf_done) struct buf ext = {0};
    buf_init(&ext, 4096);
    if (buf_printf(&ext, err, "%s|%s", id, list.data) < 0) {
        return -1;
    }
    job->ext_job_id = buf_steal(&ext);
    job->retry_after_ms = waiting_ms(job);
    return 0;
}

/* The object has done its work; failing to remove it is no harm. */
static void drop_object(struct job *job, const char *pages)
{
    char key[256], token[SHA256_HEX_SIZE];
    struct err err = ERR_INIT;

    if (names(job, pages, key, token, &err) < 0 ||
        store_delete(job->ctx->service->store, key, &err) < 0) {
        log_err(LOG_DEBUG, "the pages of a textract job were not removed", &err);
    }
}

/* One answer: its blocks are appended. *ret_token is "" at the end. */
static int get_page(struct textract *textract, struct job *job, const char *id,
                    char token[TOKEN_MAX], char status[32], json_t *blocks, struct err *err)
{
    CLEANUP(json_cleanup) json_t *answer = NULL;
    json_t *request = json_pack("{s:s,s:i}", "JobId", id, "MaxResults", 1000);
    const char *text = NULL, *next = NULL;

    if (token[0] && request) {
        json_object_set_new(request, "NextToken", json_string(token));
    }
    if (post(textract, job, "GetDocumentTextDetection", request, &answer, err) < 0 ||
        jget_str(answer, "JobStatus", 31, &text, err) < 0 ||
        jget_opt_str(answer, "NextToken", TOKEN_MAX - 1, "", &next, err) < 0) {
        return -1;
    }
    json_t *part = json_object_get(answer, "Blocks");
    if (json_array_size(part) + json_array_size(blocks) > TEXTRACT_BLOCKS_MAX) {
        return err_set(err, ERR_PERMANENT, "expands_too_much", "textract found too many blocks");
    }
    if (json_is_array(part) && json_array_extend(blocks, part) < 0) {
        return err_nomem(err);
    }
    snprintf(status, 32, "%s", text);
    snprintf(token, TOKEN_MAX, "%s", next);
    return 0;
}

static int still_running(struct job *job, struct err *err)
{
    if (job->claim->age_s > JOB_AGE_MAX_S) {
        return err_set(err, ERR_PERMANENT, "provider_unavailable",
                       "the textract job did not end within a day");
    }
    job->retry_after_ms = waiting_ms(job);
    return STAGE_WAIT;
}

int textract_job_poll(struct textract *textract, struct job *job, json_t **ret_blocks,
                      struct err *err)
{
    CLEANUP(json_cleanup) json_t *blocks = json_array();
    const char *ext = job->claim->ext_job_id;
    const char *bar = strchr(ext, '|');
    char id[JOB_ID_MAX + 1], token[TOKEN_MAX] = "", status[32] = "";

    if (!blocks) {
        return err_nomem(err);
    }
    snprintf(id, sizeof(id), "%.*s", bar ? (int)(bar - ext) : 0, ext);
    for (int i = 0; i < RESULT_PAGES_MAX; i++) {
        if (get_page(textract, job, id, token, status, blocks, err) < 0) {
            return -1;
        }
        if (strcmp(status, "IN_PROGRESS") == 0) {
            return still_running(job, err);
        }
        if (strcmp(status, "SUCCEEDED") != 0 && strcmp(status, "PARTIAL_SUCCESS") != 0) {
            drop_object(job, bar ? bar + 1 : "");
            return err_set(err, ERR_PERMANENT, "corrupt", "the textract job ended as %s", status);
        }
        if (!token[0]) {
            drop_object(job, bar ? bar + 1 : "");
            *ret_blocks = STEAL(blocks);
            return 0;
        }
    }
    return err_set(err, ERR_PERMANENT, "expands_too_much", "textract's answer does not end");
}
