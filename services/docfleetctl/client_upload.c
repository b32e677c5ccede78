/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl upload: files and folders, in batches, streamed from disk.
 * Invariant: a batch is sent again only under its own Idempotency-Key, so that an answer that was
 * lost never doubles its files.
 * Refuses to put two files of one name into a batch, which the gateway would turn away.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/docfleetctl/client.h"
#include "services/docfleetctl/client_walk.h"

#define BATCH_FILES 200U
#define BATCH_BYTES (256ULL * 1024 * 1024)
#define SHOW_MS 200U
#define ANSWER_MAX (16U * 1024 * 1024)
#define BATCH_TIMEOUT_MS (12U * 3600 * 1000)
#define STALL_SECONDS 180U

struct totals {
    size_t batches, accepted, rejected, failed;
    uint64_t bytes;
};

/* One multipart body: the parts' heads are made before, so that its length is known. */
struct body {
    struct walk_file *files[BATCH_FILES];
    size_t n;
    char *heads[BATCH_FILES];
    size_t head_lens[BATCH_FILES];
    char boundary[64];
    char tail[80];
    uint64_t length;
    /* where the reader is */
    size_t at;        /* file; n: the tail */
    size_t head_done; /* bytes of the head (or tail) given out */
    uint64_t file_done;
    int fd;
    /* for the progress line */
    uint64_t sent;
    uint64_t shown_ms;
    const struct totals *totals;
    size_t all_files;
    bool terminal;
};

static void body_rewind(struct body *body)
{
    fd_cleanup(&body->fd);
    body->fd = -1;
    body->at = 0;
    body->head_done = 0;
    body->file_done = 0;
    body->sent = 0;
}

static void body_done(struct body *body)
{
    body_rewind(body);
    for (size_t i = 0; i < body->n; i++) {
        free(body->heads[i]);
        body->heads[i] = NULL;
    }
    body->n = 0;
}

/* A quoted string of a header: line ends as browsers write them. */
static int put_name(struct buf *buf, const char *name, struct err *err)
{
    for (const char *s = name; *s; s++) {
        int rc = *s == '\n'                ? buf_puts(buf, "%0A", err)
                 : *s == '\r'              ? buf_puts(buf, "%0D", err)
                 : *s == '"' || *s == '\\' ? buf_printf(buf, err, "\\%c", *s)
                                           : buf_append(buf, s, 1, err);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static int body_add(struct body *body, struct walk_file *file, struct err *err)
{
    CLEANUP(buf_done) struct buf head;

    buf_init(&head, 16384);
    if (buf_printf(&head, err,
                   "%s--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"",
                   body->n ? "\r\n" : "", body->boundary) < 0 ||
        put_name(&head, file->name, err) < 0 ||
        buf_puts(&head, "\"\r\nContent-Type: application/octet-stream\r\n\r\n", err) < 0) {
        return -1;
    }
    body->head_lens[body->n] = head.len;
    body->heads[body->n] = buf_steal(&head);
    body->files[body->n++] = file;
    return 0;
}

static bool name_in_batch(const struct body *body, const char *name)
{
    for (size_t i = 0; i < body->n; i++) {
        if (strcmp(body->files[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The next files that fit, in order; of equal names one now, the others later. */
static int body_fill(struct body *body, struct walk *walk, size_t *first, struct err *err)
{
    uint64_t bytes = 0;
    char id[UUID_TEXT];

    body_done(body);
    uuid_v7(id);
    snprintf(body->boundary, sizeof(body->boundary), "docfleet-%s", id);
    snprintf(body->tail, sizeof(body->tail), "\r\n--%s--\r\n", body->boundary);
    body->length = strlen(body->tail);
    while (*first < walk->n && walk->files[*first].sent) {
        (*first)++;
    }
    for (size_t i = *first; i < walk->n && body->n < BATCH_FILES; i++) {
        struct walk_file *file = &walk->files[i];
        if (file->sent || name_in_batch(body, file->name)) {
            continue;
        }
        if (body->n > 0 && bytes + file->size > BATCH_BYTES) {
            break;
        }
        if (body_add(body, file, err) < 0) {
            return -1;
        }
        file->sent = true;
        bytes += file->size;
        body->length += file->size + body->head_lens[body->n - 1];
    }
    return 0;
}

static void show(struct body *body, bool force)
{
    const struct totals *t = body->totals;
    uint64_t now = clock_mono_ms();

    if (!body->terminal || (!force && now - body->shown_ms < SHOW_MS)) {
        return;
    }
    body->shown_ms = now;
    fprintf(stderr, "\r\033[K%zu of %zu files, %.1f MB", t->accepted + t->rejected + t->failed,
            body->all_files, (double)(t->bytes + body->sent) / 1e6);
}

static int open_current(struct body *body, struct err *err)
{
    const struct walk_file *file = body->files[body->at];
    struct stat st;

    body->fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (body->fd < 0 || fstat(body->fd, &st) < 0) {
        return err_set(err, ERR_PERMANENT, "unreadable", "cannot read %s", api_clean(file->path));
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != file->size) {
        return err_set(err, ERR_PERMANENT, "changed", "%s has changed since it was looked at",
                       api_clean(file->path));
    }
    return 0;
}

static ssize_t read_file_part(struct body *body, char *data, size_t size, struct err *err)
{
    const struct walk_file *file = body->files[body->at];

    if (body->fd < 0 && open_current(body, err) < 0) {
        return -1;
    }
    ssize_t n = read(body->fd, data, min_size(size, (size_t)(file->size - body->file_done)));
    if (n <= 0) {
        return err_set(err, ERR_PERMANENT, "changed", "%s got shorter while it was read",
                       api_clean(file->path));
    }
    body->file_done += (uint64_t)n;
    return n;
}

static ssize_t read_some(struct body *body, char *data, size_t size, struct err *err)
{
    for (;;) {
        bool tail = body->at == body->n;
        const char *text = tail ? body->tail : body->heads[body->at];
        size_t len = tail ? strlen(body->tail) : body->head_lens[body->at];
        if (body->head_done < len) {
            size_t n = min_size(size, len - body->head_done);
            memcpy(data, text + body->head_done, n);
            body->head_done += n;
            return (ssize_t)n;
        }
        if (tail) {
            return 0;
        }
        if (body->file_done < body->files[body->at]->size) {
            return read_file_part(body, data, size, err);
        }
        fd_cleanup(&body->fd);
        body->fd = -1;
        body->at++;
        body->head_done = 0;
        body->file_done = 0;
    }
}

static ssize_t body_read(void *ctx, char *data, size_t size, struct err *err)
{
    struct body *body = ctx;
    ssize_t n = read_some(body, data, size, err);

    if (n > 0) {
        body->sent += (uint64_t)n;
        show(body, false);
    }
    return n;
}

/* One batch -------------------------------------------------------------------------------------*/

static const char *line_start(const struct body *body)
{
    return body->terminal ? "\r\033[K" : "";
}

static int take_answer(struct body *body, const struct http_response *resp, struct totals *totals,
                       struct err *err)
{
    CLEANUP(json_cleanup) json_t *doc = NULL;
    size_t i;
    json_t *item;

    if (jget_load(resp->body.data ? resp->body.data : "", resp->body.len, ANSWER_MAX, &doc, err) <
        0) {
        return err_wrap(err, "the gateway's answer cannot be read");
    }
    const json_t *batch = json_object_get(doc, "batch");
    int64_t accepted = api_int(batch, "accepted"), rejected = api_int(batch, "rejected");
    json_array_foreach(json_object_get(doc, "files"), i, item)
    {
        const json_t *error = json_object_get(item, "error");
        if (error) {
            /* Parts are answered in the order of the body. */
            const char *path = i < body->n ? body->files[i]->path : "";
            fprintf(stderr, "%s%s: refused, %s (%s)\n", line_start(body),
                    *path ? api_clean(path) : api_text(item, "name"), api_text(error, "detail"),
                    api_text(error, "code"));
        }
    }
    fputs(line_start(body), stderr);
    fflush(stderr);
    printf("batch %s  %lld accepted, %lld refused\n", api_text(batch, "id"), (long long)accepted,
           (long long)rejected);
    fflush(stdout);
    totals->batches++;
    totals->accepted += (size_t)accepted;
    totals->rejected += (size_t)rejected;
    return 0;
}

static int send_batch(const struct api *api, const char *url, struct body *body,
                      struct totals *totals, struct err *err)
{
    char id[UUID_TEXT], key[64], type[128];

    uuid_v7(id);
    snprintf(key, sizeof(key), "Idempotency-Key: %s", id);
    snprintf(type, sizeof(type), "Content-Type: multipart/form-data; boundary=%s", body->boundary);
    const char *headers[] = {api->authorization, "Accept: application/json", key, type};
    for (int tries = 0;; tries++) {
        CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
        struct http_request request = {.method = "POST",
                                       .url = url,
                                       .headers = headers,
                                       .n_headers = ARRAY_LEN(headers),
                                       .source = body_read,
                                       .source_ctx = body,
                                       .source_len = (int64_t)body->length,
                                       .max_response = ANSWER_MAX,
                                       .timeout_ms = BATCH_TIMEOUT_MS,
                                       .low_speed_bytes = 1,
                                       .low_speed_seconds = STALL_SECONDS};
        body_rewind(body);
        int rc = http_call(api->http, &request, &resp, err);
        if (rc == 0 && resp.status / 100 == 2) {
            totals->bytes += body->sent;
            body->sent = 0;
            return take_answer(body, &resp, totals, err);
        }
        rc = rc == 0 ? api_problem(api, &resp, err) : err_wrap(err, "no answer");
        if (!api_wait_retry(tries, API_TRIES_LONG, resp.status ? &resp : NULL, err)) {
            return rc;
        }
        fprintf(stderr, "%ssending a batch again: %s\n", line_start(body), err->msg);
    }
}

/* A batch that failed over one file is sent again without it. */
static bool drop_culprit(struct body *body, const struct err *err)
{
    return (strcmp(err->code, "changed") == 0 || strcmp(err->code, "unreadable") == 0) &&
           body->at < body->n;
}

static int send_all(const struct api *api, const char *url, struct walk *walk, struct body *body,
                    struct totals *totals, struct err *err)
{
    size_t first = 0;

    for (;;) {
        struct err why = ERR_INIT;
        if (body_fill(body, walk, &first, err) < 0) {
            return -1;
        }
        if (body->n == 0) {
            return 0;
        }
        if (send_batch(api, url, body, totals, &why) == 0) {
            continue;
        }
        if (drop_culprit(body, &why)) {
            fprintf(stderr, "%s%s\n", line_start(body), why.msg);
            totals->failed++;
            for (size_t i = 0; i < body->n; i++) {
                body->files[i]->sent = i == body->at;
            }
            first = 0;
            continue;
        }
        if (strcmp(why.code, "unauthorized") == 0 || strcmp(why.code, "forbidden") == 0 ||
            strcmp(why.code, "not_found") == 0 || why.class == ERR_TRANSIENT) {
            *err = why; /* the next batch would fare no better */
            return -1;
        }
        fprintf(stderr, "%sa batch of %zu files failed: %s\n", line_start(body), body->n, why.msg);
        totals->failed += body->n;
    }
}

/* The command -----------------------------------------------------------------------------------*/

static void tell_skipped(const struct walk *walk)
{
    if (walk->hidden + walk->links + walk->others > 0) {
        fprintf(stderr, "passed over: %zu hidden, %zu symbolic links, %zu of other kinds\n",
                walk->hidden, walk->links, walk->others);
    }
}

static int upload(const struct ctl *ctl, const char *dataset, struct walk *walk, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(buf_done) struct buf url;
    struct totals totals = {.failed = walk->unreadable};
    struct body body = {
        .fd = -1, .totals = &totals, .all_files = walk->n, .terminal = isatty(STDERR_FILENO) == 1};

    buf_init(&url, 16384);
    if (api_open(ctl, false, &api, err) < 0 || buf_puts(&url, api.base, err) < 0 ||
        api_path(&url, "/datasets/", dataset, "/files", err) < 0) {
        return -1;
    }
    int rc = send_all(&api, url.data, walk, &body, &totals, err);
    body_done(&body);
    tell_skipped(walk);
    size_t told = totals.accepted + totals.rejected + totals.failed - walk->unreadable;
    printf("%zu files: %zu accepted, %zu refused, %zu failed, in %zu batches\n",
           walk->n + walk->unreadable, totals.accepted, totals.rejected,
           totals.failed + (walk->n - min_size(walk->n, told)), totals.batches);
    if (rc == 0 && totals.rejected + totals.failed > 0) {
        return err_set(err, ERR_PERMANENT, "incomplete", "not every file was taken");
    }
    return rc;
}

int ctl_upload(struct ctl *ctl, struct err *err)
{
    const char *dataset = ctl_option(ctl, "--dataset");
    struct walk walk = {0};
    int rc = 0;

    if (ctl_expect(ctl, 1, 1 << 20, "upload --dataset ID PATH...", err) < 0) {
        return -1;
    }
    if (!dataset || !uuid_valid(dataset)) {
        return err_set(err, ERR_PERMANENT, "usage",
                       "upload needs --dataset ID; docfleetctl dataset list shows the ids");
    }
    for (int i = 0; i < ctl->argc && rc == 0; i++) {
        rc = walk_add(&walk, ctl->argv[i], err);
    }
    rc = rc == 0 ? upload(ctl, dataset, &walk, err) : rc;
    walk_done(&walk);
    return rc;
}
