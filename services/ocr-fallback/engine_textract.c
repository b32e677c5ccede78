/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signed calls to Textract, and the table of answers that were paid for.
 */
#include "services/ocr-fallback/textract.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "libcommon/effect.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/quota.h"
#include "libcommon/sigv4.h"

#define CALL_TIMEOUT_MS 60000
#define BODY_MAX (TEXTRACT_BYTES_MAX / 3 * 4 + 1024)

struct textract {
    struct http_client *http;
    const struct ocr_options *options;
    char url[512];
    char host[256];
    struct http_peer peer;
};

int textract_new(const struct ocr_options *options, const char *ca_file, struct textract **ret,
                 struct err *err)
{
    const struct http_client_config http = {.ca_file = ca_file};
    struct textract *textract = calloc(1, sizeof(*textract));

    if (!textract) {
        return err_nomem(err);
    }
    textract->options = options;
    if (textract_host(options->endpoint, textract->host, sizeof(textract->host), err) < 0 ||
        http_client_new(&http, &textract->http, err) < 0) {
        free(textract);
        return -1;
    }
    snprintf(textract->url, sizeof(textract->url), "http%s://%s/",
             strncmp(options->endpoint, "https:", 6) == 0 ? "s" : "", textract->host);
    textract->peer.client = textract->http;
    snprintf(textract->peer.url, sizeof(textract->peer.url), "%s", textract->url);
    *ret = textract;
    return 0;
}

void textract_free(struct textract *textract)
{
    if (textract) {
        http_client_free(textract->http);
        free(textract);
    }
}

struct http_peer *textract_peer(struct textract *textract)
{
    return &textract->peer;
}

static int sign(struct textract *textract, const char *target, const char *body, size_t len,
                struct sigv4_signature *ret, struct err *err)
{
    char hash[SHA256_HEX_SIZE];
    const struct sigv4_creds creds = {.access_key = textract->options->access_key,
                                      .secret_key = textract->options->secret_key,
                                      .region = textract->options->region,
                                      .service = "textract"};
    const struct sigv4_pair headers[] = {{"Content-Type", "application/x-amz-json-1.1"},
                                         {"Host", textract->host},
                                         {"X-Amz-Target", target}};
    const struct sigv4_request request = {.method = "POST",
                                          .path = "/",
                                          .headers = headers,
                                          .n_headers = ARRAY_LEN(headers),
                                          .payload_hash = hash,
                                          .now = (int64_t)time(NULL)};

    return sha256_hex(body, len, hash, err) < 0 ? -1 : sigv4_sign(&request, &creds, ret, err);
}

static void count_call(const char *outcome)
{
    char labels[64];

    snprintf(labels, sizeof(labels), "provider=\"textract\",outcome=\"%s\"", outcome);
    metrics_inc("docfleet_provider_calls_total", labels);
}

static int judge_response(struct job *job, const struct http_response *resp, struct err *err)
{
    bool throttled = false;
    int64_t wait = http_retry_after_ms(resp, clock_wall_ms());

    if (resp->status >= 200 && resp->status < 300) {
        count_call("done");
        return 0;
    }
    textract_error(resp->status, resp->body.data ? resp->body.data : "", resp->body.len,
                   http_header_get(resp, "x-amzn-errortype"), &throttled, err);
    if (throttled) {
        metrics_inc("docfleet_provider_throttles_total", "provider=\"textract\"");
    }
    count_call(throttled ? "throttled" : err->class == ERR_TRANSIENT ? "unavailable" : "refused");
    if (err->class == ERR_TRANSIENT && wait > 0) {
        job->retry_after_ms = wait;
    }
    return -1;
}

int textract_call(struct textract *textract, struct job *job, const char *action, const char *body,
                  size_t len, bool paid, json_t **ret_json, struct buf *ret_raw, struct err *err)
{
    CLEANUP(sigv4_signature_done) struct sigv4_signature sig = SIGV4_SIGNATURE_INIT;
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    char target[96], target_line[128], date_line[64], auth_line[1024];
    const char *headers[] = {"Content-Type: application/x-amz-json-1.1", target_line, date_line,
                             auth_line};

    snprintf(target, sizeof(target), "Textract.%s", action);
    snprintf(target_line, sizeof(target_line), "X-Amz-Target: %s", target);
    if (sign(textract, target, body, len, &sig, err) < 0) {
        return -1;
    }
    snprintf(date_line, sizeof(date_line), "X-Amz-Date: %s", sig.date);
    snprintf(auth_line, sizeof(auth_line), "Authorization: %s", sig.authorization);
    const struct http_request request = {.method = "POST",
                                         .url = textract->url,
                                         .headers = headers,
                                         .n_headers = ARRAY_LEN(headers),
                                         .body = body,
                                         .body_len = len,
                                         .max_response = TEXTRACT_RESPONSE_MAX,
                                         .timeout_ms = CALL_TIMEOUT_MS,
                                         .abort = &job->cancel,
                                         .no_repeat = paid};
    if (job_enter(job, GUARD_TEXTRACT, err) < 0) {
        snprintf(err->code, sizeof(err->code), "provider_unavailable");
        return -1;
    }
    struct trace_span span;
    trace_begin(&span, "Textract", TRACE_CLIENT);
    int r = http_call(textract->http, &request, &resp, err);
    bool answered = r == 0;
    r = answered ? judge_response(job, &resp, err) : r;
    trace_attr_text(&span, "rpc.method", action);
    if (answered) {
        trace_attr_i64(&span, "http.response.status_code", resp.status);
    }
    trace_end_call(&span, r, err);
    job_leave(job, GUARD_TEXTRACT, r, err);
    if (!answered) {
        count_call("unavailable");
        if (err->class == ERR_TRANSIENT) {
            snprintf(err->code, sizeof(err->code), "provider_unavailable");
        }
        return err_wrap(err, "textract");
    }
    if (r < 0) {
        return -1;
    }
    if (jget_load(resp.body.data ? resp.body.data : "", resp.body.len, TEXTRACT_RESPONSE_MAX,
                  ret_json, err) < 0) {
        return err_set(err, ERR_UNKNOWN, "provider_refused", "textract's answer is not JSON");
    }
    if (ret_raw && buf_append(ret_raw, resp.body.data, resp.body.len, err) < 0) {
        json_cleanup(ret_json);
        return -1;
    }
    return 0;
}

/* --- answers that were paid for --------------------------------------------------------------- */

static void effect_key(const struct job *job, int page, char key[128])
{
    snprintf(key, 128, "textract/%s/%d/%d", job->claim->key.file_id, job->claim->key.generation,
             page);
}

static int find_effect(struct job *job, const char *key, json_t **ret, struct err *err)
{
    CLEANUP(buf_done) struct buf kept = {0};
    bool found = false;

    buf_init(&kept, TEXTRACT_RESPONSE_MAX);
    if (effect_find(job->ctx->service->db, "textract", key, &kept, &found, err) < 0) {
        return -1;
    }
    if (!found) {
        *ret = NULL;
        return 0;
    }
    return jget_load(kept.data ? kept.data : "", kept.len, TEXTRACT_RESPONSE_MAX, ret, err);
}

/* What could not be kept is still used. */
static void keep_effect(struct job *job, const char *key, const struct buf *answer)
{
    struct err err = ERR_INIT;

    if (effect_keep(job->ctx->service->db, &job->cancel, "textract", key, answer->data, answer->len,
                    &err) < 0) {
        log_err(LOG_DEBUG, "a paid answer was not kept", &err);
    }
}

static int charge(struct job *job, int64_t micros, struct err *err)
{
    const struct task_key *key = &job->claim->key;

    return micros == 0 ? 0
                       : quota_charge_call(job->ctx->service->db, job->claim->user_id, key->file_id,
                                           key->generation, key->stage, key->unit, micros, err);
}

int textract_pay(struct job *job, size_t pages, struct err *err)
{
    return charge(job, (int64_t)pages * ocr_options.price, err);
}

void textract_paid(struct job *job, size_t pages, bool used)
{
    const int64_t micros = (int64_t)pages * ocr_options.price;
    struct err err = ERR_INIT;

    if (used) {
        metrics_add("docfleet_provider_cost_total", "provider=\"textract\"", (double)micros / 1e6);
    } else if (charge(job, -micros, &err) < 0) {
        log_err(LOG_DEBUG, "a call's cost was not given back", &err);
    }
}

int textract_detect(struct textract *textract, struct job *job, int page, const void *data,
                    size_t len, struct ocr_page *ret, bool *ret_found, struct err *err)
{
    CLEANUP(json_cleanup) json_t *answer = NULL;
    CLEANUP(buf_done) struct buf body = {0};
    CLEANUP(buf_done) struct buf raw = {0};
    char key[128];

    *ret_found = false;
    effect_key(job, page, key);
    if (find_effect(job, key, &answer, err) < 0) {
        return -1;
    }
    if (!answer) {
        if (!data) {
            return 0;
        }
        if (len > TEXTRACT_BYTES_MAX) {
            return err_set(err, ERR_PERMANENT, "file_too_large", "the page weighs %zu bytes", len);
        }
        buf_init(&body, BODY_MAX);
        buf_init(&raw, TEXTRACT_RESPONSE_MAX);
        if (textract_document(data, len, &body, err) < 0 || textract_pay(job, 1, err) < 0) {
            return -1;
        }
        const int r = textract_call(textract, job, "DetectDocumentText", body.data, body.len, true,
                                    &answer, &raw, err);
        textract_paid(job, 1, r == 0);
        if (r < 0) {
            return -1;
        }
        keep_effect(job, key, &raw);
    }
    if (textract_read_blocks(json_object_get(answer, "Blocks"), 1, ret, err) < 0) {
        return -1;
    }
    *ret_found = true;
    return 0;
}
