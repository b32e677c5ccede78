/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /datasets/{id}/files: reads the body to its end, then accepts everything in one
 * transaction, together with the answer for the Idempotency-Key. A body that ends early, breaks a
 * limit of the request or meets a store that is away accepts nothing.
 */
#include "libcommon/fault.h"
#include "libcommon/metrics.h"
#include "libcommon/notify.h"
#include "libcommon/states.h"
#include "libcommon/task.h"
#include "services/ingest-gateway/exchange.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/idem.h"
#include "services/ingest-gateway/options.h"
#include "services/ingest-gateway/sql.h"
#include "services/ingest-gateway/upload.h"

#include <stdio.h>
#include <string.h>

#define READ_SIZE ((size_t)64 << 10)

static const char pending_sql[] =
    "SELECT count(*) FROM (SELECT 1 FROM dataset d JOIN file f USING (dataset_id)"
    " WHERE d.user_id = $1::uuid AND f.state = 1 LIMIT 100000) q";

/* No file fits any more, however small: nothing of the body is worth reading. */
static int check_quota(struct request *req, const struct quota *quota, struct err *err)
{
    static const enum quota_kind kinds[] = {QUOTA_FILES, QUOTA_BYTES};

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct quota one = *quota;
        char pointer[16];
        if (quota_take(&one, kinds[i], 1, err) < 0) {
            snprintf(pointer, sizeof(pointer), "/%s", quota_kind_name(kinds[i]));
            req->errors = json_pack("[{s:s, s:s}]", "pointer", pointer, "detail", err->msg);
            return -1;
        }
    }
    return 0;
}

/* Before the first byte is taken: is there a dataset, and room in the account's queue and quota? */
static int check_door(struct request *req, bool known, struct quota *ret_quota, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->who.user_id};

    if (db_acquire(req->gw->db, &conn, err) < 0 ||
        dataset_require(conn, req, req->params[0], err) < 0 ||
        db_query(conn, pending_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    if (db_i64(res, 0, 0) >= PENDING_FILES_MAX) {
        return err_set(err, ERR_TRANSIENT, "too_many_files",
                       "%d files are in work already; please wait for some to end",
                       PENDING_FILES_MAX);
    }
    if (quota_read(conn, req->who.user_id, ret_quota, err) < 0) {
        return -1;
    }
    return known ? 0 : check_quota(req, ret_quota, err); /* an answer is given again in any case */
}

static int read_body(struct request *req, struct multipart *parser, struct err *err)
{
    CLEANUP(free_cleanup) char *data = malloc(READ_SIZE);
    double total = 0;
    int rc = data ? 0 : err_nomem(err);

    while (rc == 0) {
        size_t n = 0;
        rc = exchange_read(req->ex, data, READ_SIZE, &n, err);
        if (rc < 0 || n == 0) {
            break;
        }
        total += (double)n;
        rc = multipart_feed(parser, data, n, err);
    }
    metrics_add("docfleet_upload_bytes_total", "protocol=\"multipart\"", total);
    return rc < 0 ? -1 : multipart_finish(parser, err);
}

static bool good(const struct upload_file *f)
{
    return f->code[0] == '\0';
}

/* The answer, and what the batch keeps of refused parts. */
static int make_answer(const struct upload *u, const char *batch_id, json_t *rejects,
                       struct reply *reply, struct err *err)
{
    json_t *files = json_array();
    json_int_t accepted = 0;

    for (size_t i = 0; i < u->n_files; i++) {
        const struct upload_file *f = &u->files[i];
        accepted += good(f);
        if (good(f)) {
            json_array_append_new(files, json_pack("{s:s, s:s, s:I, s:s, s:s}", "id", f->id, "name",
                                                   f->name, "size", (json_int_t)f->size, "sha256",
                                                   f->sha256, "state", "processing"));
        } else {
            json_array_append_new(files, json_pack("{s:s, s:{s:s, s:s}}", "name", f->shown, "error",
                                                   "code", f->code, "detail", f->detail));
            json_array_append_new(rejects, json_pack("{s:s, s:s, s:s}", "name", f->shown, "code",
                                                     f->code, "detail", f->detail));
        }
    }
    json_int_t total = (json_int_t)u->n_files;
    json_t *doc =
        json_pack("{s:{s:s, s:I, s:I, s:I}, s:o}", "batch", "id", batch_id, "total", total,
                  "accepted", accepted, "rejected", total - accepted, "files", files);
    return reply_take_json(reply, 202, doc, err);
}

/* Of its kind; where files are scanned, the scan alone. */
static unsigned first_stages(const struct upload_file *file)
{
    return *gateway_options.clamd ? 1U << STAGE_SCAN : file->type->tasks;
}

static size_t task_files(const struct upload *u, struct task_file *files)
{
    size_t n = 0;

    for (size_t i = 0; i < u->n_files; i++) {
        const struct upload_file *f = &u->files[i];
        if (good(f)) {
            files[n++] = (struct task_file){
                .file_id = f->id,
                .name = f->name,
                .object_key = f->key,
                .sha256 = f->sha256,
                .mime = f->type->mime,
                .kind = f->type->name,
                .etag = f->etag,
                .bytes = (int64_t)f->size,
                .stages = first_stages(f),
            };
        }
    }
    return n;
}

static const char same_batch_sql[] = "INSERT INTO batch (batch_id, user_id, dataset_id)"
                                     " VALUES ($1::uuid, $2::uuid, $3::uuid)";

/* After a commit whose answer was lost: 1 it happened, 0 it did not and never will, -1 nobody
 * knows. The other end may still be at it; a row of the same id, which is never committed, waits
 * for its transaction to end. Reading would not. */
static int commit_happened(struct request *req, const char *batch_id)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    struct err err = ERR_INIT;
    const char *params[] = {batch_id, req->who.user_id, req->params[0]};

    if (db_acquire(req->gw->db, &conn, &err) < 0 || db_begin(conn, &err) < 0) {
        return -1;
    }
    if (db_query(conn, same_batch_sql, 3, params, NULL, &err) < 0) {
        return strcmp(err.code, "db_unique") == 0 ? 1 : -1;
    }
    return 0; /* its release rolls back */
}

/* Rows of what fits into the quota, and the answer. */
static int write_all(struct upload *u, const struct idem *idem, const char *batch_id,
                     struct db_conn *conn, struct reply *reply, struct err *err)
{
    CLEANUP(free_cleanup) struct task_file *files = calloc(u->n_files + 1, sizeof(*files));
    CLEANUP(json_cleanup) json_t *rejects = json_array();

    if (!files || !rejects) {
        return err_nomem(err);
    }
    if (upload_check_quota(u, conn, err) < 0 || make_answer(u, batch_id, rejects, reply, err) < 0) {
        return -1;
    }
    const struct task_batch batch = {.batch_id = batch_id,
                                     .user_id = u->req->who.user_id,
                                     .dataset_id = u->req->params[0],
                                     .files = files,
                                     .n_files = task_files(u, files),
                                     .traceparent = u->traceparent,
                                     .rejects = rejects};
    return task_accept_batch(conn, &batch, err) < 0 ? -1
                                                    : idem_store(conn, u->req, idem, reply, err);
}

/* *ret_keep: whether the objects now belong to rows, or may do. */
static int accept_all(struct upload *u, const struct idem *idem, const char *batch_id,
                      struct reply *reply, bool *ret_keep, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    struct request *req = u->req;

    *ret_keep = false;
    if (db_acquire(req->gw->db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        dataset_require(conn, req, req->params[0], err) < 0 ||
        write_all(u, idem, batch_id, conn, reply, err) < 0) {
        return -1;
    }
    fault_point("gateway.before_commit");
    if (db_commit(conn, err) == 0) {
        *ret_keep = true;
        fault_point("gateway.after_commit");
        return 0;
    }
    db_release(STEAL(conn));
    int happened = commit_happened(req, batch_id);
    *ret_keep = happened != 0;
    return happened > 0 ? 0 : -1;
}

static void wake(const struct upload *u)
{
    unsigned stages = 0;

    for (size_t i = 0; i < u->n_files; i++) {
        stages |= good(&u->files[i]) ? first_stages(&u->files[i]) : 0;
    }
    for (int s = 1; s <= STAGE_MAX; s++) {
        if (stages >> s & 1U) {
            notify_stage(u->req->gw->notifier, s, u->req->who.user_id);
        }
    }
    notify_events(u->req->gw->notifier);
}

static int64_t count_good(const struct upload *u)
{
    int64_t n = 0;

    for (size_t i = 0; i < u->n_files; i++) {
        n += good(&u->files[i]) ? 1 : 0;
    }
    return n;
}

/* The whole body is there and stored: rows, answer, notification. */
static int finish_upload(struct upload *u, struct idem *idem, struct reply *reply, bool *ret_keep,
                         struct err *err)
{
    char batch_id[UUID_TEXT];
    char location[80];
    char trace[TRACE_PARENT_SIZE];
    struct trace_span span;

    uuid_v7(batch_id);
    u->traceparent = trace_current_text(trace); /* the request's: work is not a part of "accept" */
    trace_begin(&span, "accept", TRACE_CLIENT);
    int rc = accept_all(u, idem, batch_id, reply, ret_keep, err);
    u->traceparent = NULL;
    trace_attr_i64(&span, "docfleet.files", count_good(u));
    trace_end_call(&span, rc, err);
    if (rc < 0) {
        return -1;
    }
    wake(u);
    fault_point("gateway.before_reply");
    snprintf(location, sizeof(location), "/api/v1/batches/%s", batch_id);
    return reply_header(reply, "Location", location, err);
}

/* Another request with the same key was faster: its answer, if its body was the same. */
static int replay_other(struct request *req, const char *hash, struct reply *reply, struct err *err)
{
    CLEANUP(idem_done) struct idem idem = {0};

    reply_done(reply);
    if (idem_find(req, &idem, err) < 0) {
        return -1;
    }
    snprintf(idem.hash, sizeof(idem.hash), "%s", hash);
    int rc = idem_replay(&idem, reply, err);
    return rc == 0 ? err_set(err, ERR_TRANSIENT, "db_conflict", "the key's other request failed")
                   : (rc > 0 ? 0 : -1);
}

static int run_upload(struct upload *u, struct multipart *parser, struct idem *idem,
                      struct reply *reply, bool *ret_keep, struct err *err)
{
    if (read_body(u->req, parser, err) < 0 || upload_check_manifest(u, err) < 0) {
        return -1;
    }
    if (u->n_files == 0) {
        return err_set(err, ERR_PERMANENT, "no_files", "the body has no part named file");
    }
    if (upload_body_hash(u, idem->hash, err) < 0) {
        return -1;
    }
    int rc = idem_replay(idem, reply, err);
    if (rc != 0) {
        return rc > 0 ? 0 : -1;
    }
    rc = finish_upload(u, idem, reply, ret_keep, err);
    if (rc < 0 && strcmp(err->code, "db_unique") == 0 && idem->key) {
        return replay_other(u->req, idem->hash, reply, err);
    }
    return rc;
}

int file_upload(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(multipart_cleanup) struct multipart *parser = NULL;
    CLEANUP(idem_done) struct idem idem = {0};
    char boundary[MULTIPART_BOUNDARY_MAX + 1];
    struct upload *u = calloc(1, sizeof(*u));
    struct quota quota;
    bool keep = false;

    if (!u) {
        return err_nomem(err);
    }
    int rc = multipart_boundary(req->headers[H_CONTENT_TYPE], boundary, err);
    if (rc == 0) {
        rc = idem_find(req, &idem, err);
    }
    if (rc == 0) {
        rc = check_door(req, idem.found, &quota, err);
    }
    if (rc == 0) {
        rc = multipart_new(boundary, UPLOAD_PARTS_MAX + 1, &upload_events, u, &parser, err);
    }
    if (rc == 0 && (rc = upload_init(u, req, idem.found, &quota, err)) == 0) {
        rc = run_upload(u, parser, &idem, reply, &keep, err);
        upload_done(u, keep);
    }
    free(u);
    return rc;
}
