/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workers of an upload: take a batch, note it, send it until there is an answer, note that.
 * Invariant: a batch is sent again only under its own Idempotency-Key, so that an answer that was
 * lost never doubles its files.
 */
#include "services/docfleetctl/upload.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define ANSWER_MAX (16U * 1024 * 1024)
#define BATCH_TIMEOUT_MS (12U * 3600 * 1000)
#define STALL_SECONDS 180U
#define SHOW_MS 200

/* Progress --------------------------------------------------------------------------------------*/

static void clear_line(const struct upload *u)
{
    if (u->terminal) {
        fputs("\r\033[K", stderr);
    }
}

static void show(struct upload *u)
{
    uint64_t ms = clock_mono_ms() - u->started_ms;
    double sent = (double)atomic_load(&u->sent), all = (double)u->walk.bytes;
    size_t done = u->accepted + u->rejected + u->failed + u->before;
    double rate = ms > 500 ? sent * 1000 / (double)ms : 0;

    if (!u->terminal) {
        return;
    }
    clear_line(u);
    fprintf(stderr, "%zu of %zu files, %.1f MB", done, u->walk.n, sent / 1e6);
    if (rate > 0) {
        fprintf(stderr, ", %.1f MB/s", rate / 1e6);
    }
    if (rate > 0 && u->before == 0 && all > sent) {
        fprintf(stderr, ", %.0f s left", (all - sent) / rate);
    }
}

/* Sending ---------------------------------------------------------------------------------------*/

static void refused(struct upload *u, const struct batch *batch, size_t i, const json_t *item,
                    json_t *list)
{
    const json_t *error = json_object_get(item, "error");
    const char *path = i < batch->n ? batch->files[i]->path : api_text(item, "name");

    if (u->json) {
        json_array_append_new(list, json_pack("{s:s?, s:s, s:s}", "path", path, "code",
                                              api_text(error, "code"), "detail",
                                              api_text(error, "detail")));
        return;
    }
    fprintf(stderr, "%s: refused, %s (%s)\n", api_clean(path), api_text(error, "detail"),
            api_text(error, "code"));
}

/* Under the lock. Parts are answered in the order of the body. */
static int take_answer(struct upload *u, const struct batch *batch,
                       const struct http_response *resp, struct err *err)
{
    CLEANUP(json_cleanup) json_t *doc = NULL;
    CLEANUP(json_cleanup) json_t *list = json_array();
    bool no[BATCH_FILES] = {false};
    size_t i, n_refused = 0;
    json_t *item;

    if (jget_load(resp->body.data ? resp->body.data : "", resp->body.len, ANSWER_MAX, &doc, err) <
        0) {
        return err_wrap(err, "the gateway's answer cannot be read");
    }
    const json_t *files = json_object_get(doc, "files");
    char id[UUID_TEXT];

    snprintf(id, sizeof(id), "%s", api_text(json_object_get(doc, "batch"), "id"));
    if (json_array_size(files) != batch->n) {
        return err_set(err, ERR_UNKNOWN, "malformed_answer",
                       "the gateway answered %zu files of %zu", json_array_size(files), batch->n);
    }
    clear_line(u);
    json_array_foreach(files, i, item)
    {
        if (json_object_get(item, "error")) {
            no[i] = true;
            n_refused++;
            refused(u, batch, i, item, list);
        }
    }
    u->batches++;
    u->rejected += n_refused;
    u->accepted += batch->n - n_refused;
    if (u->json) {
        CLEANUP(json_cleanup)
        json_t *line = json_pack("{s:s, s:I, s:I, s:O}", "batch", id, "accepted",
                                 (json_int_t)batch->n - (json_int_t)n_refused, "rejected",
                                 (json_int_t)n_refused, "refused", list);
        if (!line || api_print_json(line, err) < 0) {
            return line ? -1 : err_nomem(err);
        }
    } else if (!u->quiet) {
        printf("batch %s  %zu accepted, %zu refused\n", id, batch->n - n_refused, n_refused);
    }
    fflush(stdout);
    return journal_done(u->journal, batch->key, id, no, batch->n, err);
}

/* Until there is an answer, or no hope. */
static int send_batch(struct upload *u, struct batch *batch, struct body *body, struct err *err)
{
    char key[64], type[128];

    snprintf(key, sizeof(key), "Idempotency-Key: %s", batch->key);
    snprintf(type, sizeof(type), "Content-Type: multipart/form-data; boundary=%s", body->boundary);
    const char *headers[] = {u->api.authorization, "Accept: application/json", key, type};
    for (int tries = 0;; tries++) {
        CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
        struct http_request request = {.method = "POST",
                                       .url = u->url.data,
                                       .headers = headers,
                                       .n_headers = ARRAY_LEN(headers),
                                       .source = body_read,
                                       .source_ctx = body,
                                       .source_len = (int64_t)body->length,
                                       .max_response = ANSWER_MAX,
                                       .timeout_ms = BATCH_TIMEOUT_MS,
                                       .low_speed_bytes = 1,
                                       .low_speed_seconds = STALL_SECONDS,
                                       .abort = &ctl_stop};
        body_rewind(body);
        int rc = http_call(u->api.http, &request, &resp, err);
        if (rc == 0 && resp.status / 100 == 2) {
            body->mine = 0; /* it stays counted */
            pthread_mutex_lock(&u->lock);
            rc = take_answer(u, batch, &resp, err);
            pthread_mutex_unlock(&u->lock);
            return rc;
        }
        rc = rc == 0 ? api_problem(&u->api, &resp, err) : err_wrap(err, "no answer");
        if (atomic_load(&ctl_stop)) {
            return err_set(err, ERR_TRANSIENT, "aborted", "interrupted");
        }
        if (!api_wait_retry(tries, API_TRIES_LONG, resp.status ? &resp : NULL, err)) {
            return rc;
        }
        pthread_mutex_lock(&u->lock);
        clear_line(u);
        fprintf(stderr, "sending a batch again: %s\n", err->msg);
        pthread_mutex_unlock(&u->lock);
    }
}

/* Batches ---------------------------------------------------------------------------------------*/

static void leave_out(struct batch *batch, size_t i)
{
    batch->n--;
    memmove(&batch->files[i], &batch->files[i + 1], (batch->n - i) * sizeof(batch->files[0]));
    memmove(batch->sha256[i], batch->sha256[i + 1], (batch->n - i) * SHA256_HEX_SIZE);
}

static void failed_file(struct upload *u, const char *why)
{
    pthread_mutex_lock(&u->lock);
    clear_line(u);
    fprintf(stderr, "%s\n", why);
    u->failed++;
    pthread_mutex_unlock(&u->lock);
}

/* Looks at what is to be sent: unreadable and known files go. */
static int look_at(struct upload *u, struct batch *batch)
{
    for (size_t i = 0; i < batch->n && !atomic_load(&ctl_stop);) {
        struct err why = ERR_INIT;
        if (upload_digest(batch->files[i], batch->sha256[i], &why) < 0) {
            failed_file(u, why.msg);
            leave_out(batch, i);
        } else if (u->skip_known && upload_is_known(u, batch->files[i]->name, batch->sha256[i])) {
            pthread_mutex_lock(&u->lock);
            u->before++;
            pthread_mutex_unlock(&u->lock);
            leave_out(batch, i);
        } else {
            i++;
        }
    }
    return atomic_load(&ctl_stop) ? -1 : 0;
}

static int note_plan(struct upload *u, struct batch *batch, struct err *err)
{
    struct journal_file files[BATCH_FILES];
    struct journal_plan plan = {.at_ms = clock_wall_ms(), .files = files, .n = batch->n};

    memcpy(plan.key, batch->key, UUID_TEXT);
    for (size_t i = 0; i < batch->n; i++) {
        files[i] = (struct journal_file){.path = batch->files[i]->key,
                                         .size = batch->files[i]->size,
                                         .mtime_ns = batch->files[i]->mtime_ns};
        memcpy(files[i].sha256, batch->sha256[i], SHA256_HEX_SIZE);
    }
    pthread_mutex_lock(&u->lock);
    int rc = journal_plan(u->journal, &plan, err);
    pthread_mutex_unlock(&u->lock);
    batch->planned = rc == 0;
    return rc;
}

/* From now on another request. */
static int new_key(struct upload *u, struct batch *batch, struct err *err)
{
    pthread_mutex_lock(&u->lock);
    int rc = journal_drop(u->journal, batch->key, err);
    pthread_mutex_unlock(&u->lock);
    uuid_v7(batch->key);
    batch->planned = batch->resumed = false;
    return rc;
}

/* An earlier request of that key was accepted with other files beside these: what the dataset has
 * came with it. */
static int settle_conflict(struct upload *u, struct batch *batch, struct err *err)
{
    bool missing[BATCH_FILES] = {false};

    pthread_mutex_lock(&u->lock);
    int rc = upload_load_known(u, err);
    for (size_t i = 0; rc == 0 && i < batch->n; i++) {
        missing[i] = !upload_is_known(u, batch->files[i]->name, batch->sha256[i]);
        u->before += !missing[i];
    }
    rc = rc == 0 ? journal_done(u->journal, batch->key, "", missing, batch->n, err) : rc;
    pthread_mutex_unlock(&u->lock);
    for (size_t i = batch->n; rc == 0 && i-- > 0;) {
        if (!missing[i]) {
            leave_out(batch, i);
        }
    }
    uuid_v7(batch->key);
    batch->planned = batch->resumed = false;
    return rc;
}

static bool is_code(const struct err *err, const char *code)
{
    return strcmp(err->code, code) == 0;
}

/* Would the next batch fare no better? */
static bool hopeless(const struct err *err)
{
    return is_code(err, "unauthorized") || is_code(err, "forbidden") || is_code(err, "not_found") ||
           is_code(err, "malformed_answer") || is_code(err, "journal") || is_code(err, "io") ||
           err->class == ERR_TRANSIENT || err->class == ERR_FATAL;
}

/* -1: the run is over. */
static int run_batch(struct upload *u, struct batch *batch, struct err *err)
{
    if (!batch->resumed && look_at(u, batch) < 0) {
        return err_set(err, ERR_TRANSIENT, "aborted", "interrupted");
    }
    while (batch->n > 0) {
        CLEANUP(body_done) struct body body = {.fd = -1};
        struct err why = ERR_INIT;
        if ((!batch->planned && note_plan(u, batch, err) < 0) ||
            body_init(&body, batch, &u->sent, err) < 0) {
            return -1;
        }
        if (send_batch(u, batch, &body, &why) == 0) {
            return 0;
        }
        if (is_code(&why, "idempotency_conflict") && batch->resumed) {
            if (settle_conflict(u, batch, err) < 0) {
                return -1;
            }
        } else if ((is_code(&why, "changed") || is_code(&why, "unreadable")) &&
                   body.at < batch->n) {
            size_t culprit = body.at;
            failed_file(u, why.msg);
            body_done(&body);
            leave_out(batch, culprit);
            if (new_key(u, batch, err) < 0) {
                return -1;
            }
        } else if (hopeless(&why)) {
            *err = why;
            return -1;
        } else {
            pthread_mutex_lock(&u->lock);
            clear_line(u);
            fprintf(stderr, "a batch of %zu files failed: %s\n", batch->n, why.msg);
            u->failed += batch->n;
            pthread_mutex_unlock(&u->lock);
            return new_key(u, batch, err);
        }
    }
    return 0;
}

/* Workers ---------------------------------------------------------------------------------------*/

static void *work(void *ctx)
{
    struct upload *u = ctx;
    struct batch *batch = calloc(1, sizeof(*batch));
    struct err err = ERR_INIT;
    int rc = batch ? 0 : err_nomem(&err);

    while (rc == 0) {
        pthread_mutex_lock(&u->lock);
        bool over = u->fatal.class != ERR_NONE || atomic_load(&ctl_stop);
        rc = over ? 0 : upload_next(u, batch, &err);
        pthread_mutex_unlock(&u->lock);
        if (over || rc < 0 || batch->n == 0) {
            break;
        }
        rc = run_batch(u, batch, &err);
    }
    free(batch);
    pthread_mutex_lock(&u->lock);
    if (rc < 0 && u->fatal.class == ERR_NONE) {
        u->fatal = err;
    }
    u->workers--;
    pthread_cond_signal(&u->ended);
    pthread_mutex_unlock(&u->lock);
    return NULL;
}

static void wait_for_all(struct upload *u)
{
    pthread_mutex_lock(&u->lock);
    while (u->workers > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += SHOW_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&u->ended, &u->lock, &until);
        show(u);
    }
    clear_line(u);
    pthread_mutex_unlock(&u->lock);
}

int upload_run(struct upload *u, int parallel, struct err *err)
{
    pthread_t threads[PARALLEL_MAX];
    int n = 0;

    u->started_ms = clock_mono_ms();
    u->workers = parallel;
    for (; n < parallel && pthread_create(&threads[n], NULL, work, u) == 0; n++) {
    }
    pthread_mutex_lock(&u->lock);
    u->workers -= parallel - n;
    pthread_mutex_unlock(&u->lock);
    wait_for_all(u);
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
    }
    if (n == 0) {
        return err_nomem(err);
    }
    if (u->fatal.class != ERR_NONE) {
        *err = u->fatal;
        return -1;
    }
    return atomic_load(&ctl_stop) ? err_set(err, ERR_TRANSIENT, "aborted", "interrupted") : 0;
}
