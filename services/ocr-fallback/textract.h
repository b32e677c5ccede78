/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Amazon Textract: signed calls, what its errors mean, blocks to text, jobs.
 * Invariant: a call that costs money is never repeated by itself, and its answer is kept in table
 * effect before it is used. User bytes are passed on as the jail gave them, never parsed here.
 */
#pragma once

#include "libcommon/http.h"
#include "libcommon/jget.h"
#include "services/ocr-fallback/ocr_page.h"
#include "services/ocr-fallback/stage.h"

#define TEXTRACT_BYTES_MAX (10U << 20)    /* of a document in a call */
#define TEXTRACT_RESPONSE_MAX (16U << 20) /* bytes */
#define TEXTRACT_BLOCKS_MAX 400000U       /* of one job */

/* --- the wire (textract_wire.c) --------------------------------------------------------------- */

/* What a status that is no success means, from Textract's JSON, from the XML of a gateway before
 * it, or from neither:
 *   throttling                         ERR_TRANSIENT provider_unavailable, *ret_throttled
 *   403, 401, bad key or signature     ERR_TRANSIENT provider_unavailable
 *   5xx, 408, 429                      ERR_TRANSIENT provider_unavailable
 *   a document it does not want        ERR_PERMANENT corrupt, unsupported_type, file_too_large
 *   an unknown job                     ERR_PERMANENT input_gone
 *   anything else                      ERR_UNKNOWN provider_refused
 * error_type: the x-amzn-errortype header or NULL. Returns -1. */
int textract_error(int status, const char *body, size_t len, const char *error_type,
                   bool *ret_throttled, struct err *err);

/* The document member of a request: {"Document":{"Bytes":"<base64>"}} as text. */
int textract_document(const void *data, size_t len, struct buf *ret_body,
                      struct err *err) WARN_UNUSED;

/* Host as it is sent and signed, from an http or https URL; the URL's path is ignored. */
int textract_host(const char *endpoint, char *host, size_t size, struct err *err) WARN_UNUSED;

/* --- blocks (textract_blocks.c) --------------------------------------------------------------- */

/* The lines of one page (Page of its blocks; absent counts as 1) as text with words. ret is
 * initialised by the caller. ERR_PERMANENT invalid_json for blocks that are none. */
int textract_read_blocks(const json_t *blocks, int page, struct ocr_page *ret,
                         struct err *err) WARN_UNUSED;

/* --- calls (engine_textract.c) ---------------------------------------------------------------- */

struct textract; /* thread-safe */

int textract_new(const struct ocr_options *options, const char *ca_file, struct textract **ret,
                 struct err *err) WARN_UNUSED;
void textract_free(struct textract *textract);
/* For http_peer_check, as long as textract lives. */
struct http_peer *textract_peer(struct textract *textract);

/* One call. paid: never sent twice. *ret_raw (may be NULL) gets the body's bytes. A wish for
 * patience is left in job->retry_after_ms. */
int textract_call(struct textract *textract, struct job *job, const char *action, const char *body,
                  size_t len, bool paid, json_t **ret_json, struct buf *ret_raw,
                  struct err *err) WARN_UNUSED;

/* What so many pages cost, before they are read: ERR_PERMANENT "quota_exceeded". Afterwards
 * textract_paid says whether they were read; if not, the cost is given back. */
int textract_pay(struct job *job, size_t pages, struct err *err) WARN_UNUSED;
void textract_paid(struct job *job, size_t pages, bool used);

/* Reads one page synchronously: from table effect, else by a paid call with `data` (JPEG, PNG or
 * a PDF of one page), whose answer is then in effect. With data NULL only effect is asked:
 * *ret_found false when it has nothing. */
int textract_detect(struct textract *textract, struct job *job, int page, const void *data,
                    size_t len, struct ocr_page *ret, bool *ret_found, struct err *err) WARN_UNUSED;

/* --- jobs (textract_job.c) -------------------------------------------------------------------- */

/* Starts a job on a PDF made of the pages: 0 with job->ext_job_id set and the waiting time. */
int textract_job_start(struct textract *textract, struct job *job, const int *pages, size_t n,
                       const void *pdf, size_t len, struct err *err) WARN_UNUSED;
/* The pages of claim->ext_job_id: at most max. 0 when it cannot be understood. */
size_t textract_job_pages(const char *ext_job_id, int *pages, size_t max);
/* STAGE_WAIT while it runs; 0 with *ret_blocks (caller's) when it has ended; ERR_PERMANENT when it
 * failed or is not known (any more). The job's own page k is pages[k - 1]. */
int textract_job_poll(struct textract *textract, struct job *job, json_t **ret_blocks,
                      struct err *err) WARN_UNUSED;
