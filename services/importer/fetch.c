/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects become files of the shadow, a page at a time: first their bytes, by several threads, then
 * one transaction with all rows of the page. A kill in between leaves objects that no row names,
 * for the cleaner, and the page is read again.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/fault.h"
#include "libcommon/intake.h"
#include "libcommon/jget.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/notify.h"
#include "libcommon/quota.h"
#include "libcommon/reason.h"
#include "libcommon/states.h"
#include "libcommon/task.h"
#include "services/importer/importer.h"

#define THREADS_MAX 16

struct object {
    char *key;
    char *name; /* the key's last part */
    char etag[80];
    uint64_t bytes;
    int64_t tries;
    struct intake in;
    bool stored;
    bool refused;   /* stored, and then too much for the quota */
    struct err why; /* when it is no file */
};

struct page {
    struct importer *imp;
    struct run *run;
    struct store *source;
    struct object objects[IMPORT_PAGE];
    size_t n;
    atomic_size_t next;
    struct quota quota; /* before its objects are read */
};

static void page_free(struct page *page)
{
    for (size_t i = 0; i < page->n; i++) {
        free(page->objects[i].key);
        intake_done(&page->objects[i].in);
    }
    free(page);
}
DEFINE_CLEANUP(struct page *, page_cleanup, page_free)

/* Bytes
 * ------------------------------------------------------------------------------------------*/

static int on_bytes(void *ctx, const char *data, size_t len, struct err *err)
{
    return intake_data(ctx, data, len, err);
}

/* What is refused before a byte is read. */
static int check_object(const struct page *page, const struct object *o, struct err *err)
{
    struct quota quota = page->quota;

    if (o->bytes == 0) {
        return err_set(err, ERR_PERMANENT, "empty_file", "the file has no bytes");
    }
    if (o->bytes > (uint64_t)importer_options.file_bytes_max) {
        return err_set(err, ERR_PERMANENT, "file_too_large", "a file may have at most %lld bytes",
                       (long long)importer_options.file_bytes_max);
    }
    return name_check(o->name, strlen(o->name), err) < 0 ? -1
                                                         : quota_take_file(&quota, o->bytes, err);
}

static int fetch_object(struct page *page, struct object *o, struct err *err)
{
    struct store_info info;
    uint64_t got = 0;

    if (check_object(page, o, err) < 0) {
        return -1;
    }
    intake_begin(&o->in, page->imp->service.store, page->run->user_id, o->name,
                 (uint64_t)importer_options.file_bytes_max);
    if (store_get_cb(page->source, o->key, STORE_WHOLE, (uint64_t)importer_options.file_bytes_max,
                     on_bytes, &o->in, &got, err) < 0) {
        return -1;
    }
    /* Asked afterwards: what was read is what the etag names, or it is read again. */
    if (store_head(page->source, o->key, &info, err) < 0) {
        return -1;
    }
    if (info.size != got || strcmp(info.etag, o->etag) != 0) {
        memcpy(o->etag, info.etag, sizeof(o->etag));
        o->bytes = info.size;
        return err_set(err, ERR_TRANSIENT, "object_changed",
                       "the object changed while it was read");
    }
    fault_point("import.before_put");
    return intake_end(&o->in, err);
}

static void *fetch_thread(void *arg)
{
    struct page *page = arg;

    for (;;) {
        size_t i = atomic_fetch_add(&page->next, 1);
        if (i >= page->n || atomic_load(&page->imp->service.stopping)) {
            return NULL;
        }
        struct object *o = &page->objects[i];
        o->why = ERR_INIT;
        o->stored = fetch_object(page, o, &o->why) == 0;
        if (!o->stored) {
            intake_done(&o->in);
        }
    }
}

static void fetch_all(struct page *page)
{
    pthread_t ids[THREADS_MAX];
    size_t want = min_size((size_t)service_slots(&page->imp->service) * 2, THREADS_MAX);
    size_t n = 0;

    while (n < min_size(want, page->n) && pthread_create(&ids[n], NULL, fetch_thread, page) == 0) {
        n++;
    }
    if (n == 0) {
        fetch_thread(page);
    }
    for (size_t i = 0; i < n; i++) {
        pthread_join(ids[i], NULL);
    }
}

/* Rows
 * -------------------------------------------------------------------------------------------*/

static const char next_sql[] =
    "SELECT object_key, etag, bytes, tries FROM import_item WHERE run_id = $1::uuid"
    "   AND state = 'waiting' AND (not_before IS NULL OR not_before <= now())"
    " ORDER BY object_key LIMIT 100";

static int read_quota(struct page *page, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;

    return db_acquire(page->imp->service.db, &conn, err) < 0
               ? -1
               : quota_read(conn, page->run->user_id, &page->quota, err);
}

static int read_page(struct page *page, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {page->run->run_id};

    if (db_run(page->imp->service.db, next_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    for (int i = 0; i < PQntuples(res) && page->n < IMPORT_PAGE; i++) {
        struct object *o = &page->objects[page->n];
        o->key = strdup(PQgetvalue(res, i, 0));
        if (!o->key) {
            return err_nomem(err);
        }
        const char *slash = strrchr(o->key, '/');
        o->name = o->key + (slash ? slash - o->key + 1 : 0);
        snprintf(o->etag, sizeof(o->etag), "%s", PQgetvalue(res, i, 1));
        o->bytes = (uint64_t)db_i64(res, i, 2);
        o->tries = db_i64(res, i, 3);
        /* What a stop leaves untouched. */
        err_set(&o->why, ERR_TRANSIENT, "aborted", "the importer was asked to stop");
        page->n++;
    }
    return 0;
}

/* Is it over for this object in this run? */
static bool given_up(const struct object *o)
{
    return o->why.class == ERR_PERMANENT || o->tries + 1 >= importer_options.tries;
}

/* Refused at the door, as an upload would be; what could not be read is another matter. */
static bool is_refusal(const struct err *why)
{
    return strcmp(why->code, "empty_file") == 0 || strcmp(why->code, "file_too_large") == 0 ||
           strcmp(why->code, "too_large") == 0 || strcmp(why->code, "invalid_name") == 0 ||
           strcmp(why->code, "quota_exceeded") == 0;
}

static bool is_file(const struct object *o)
{
    return o->stored && !o->refused;
}

static json_t *outcome_json(const struct object *o)
{
    int64_t wait_ms = importer_options.retry_ms;

    if (is_file(o)) {
        return json_pack("{s:s, s:s, s:I, s:s, s:s, s:I}", "key", o->key, "etag", o->etag, "bytes",
                         (json_int_t)o->bytes, "state", "file", "file", o->in.id, "tries",
                         (json_int_t)o->tries + 1);
    }
    for (int64_t i = 0; i < o->tries; i++) {
        wait_ms *= 4;
    }
    bool aborted = strcmp(o->why.code, "aborted") == 0;
    const char *state = aborted               ? "waiting"
                        : is_refusal(&o->why) ? "rejected"
                        : given_up(o)         ? "unfetched"
                                              : "waiting";
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:I}", "key", o->key, "etag", o->etag,
                     "bytes", (json_int_t)o->bytes, "state", state, "code", o->why.code, "detail",
                     reason_said(o->why.code, o->why.msg), "tries", (json_int_t)o->tries + !aborted,
                     "wait", (json_int_t)(aborted ? 0 : wait_ms));
}

static const char save_sql[] =
    "WITH s AS (UPDATE import_run SET starts = 1 WHERE run_id = $1::uuid)"
    " UPDATE import_item n SET state = x.state, file_id = x.file, code = x.code,"
    "   detail = x.detail, tries = x.tries, etag = x.etag, bytes = x.bytes,"
    "   not_before = now() + x.wait * interval '1 millisecond'"
    " FROM jsonb_to_recordset($2::jsonb) AS x(key text, etag text, bytes bigint, state text,"
    "   file uuid, code text, detail text, tries smallint, wait bigint)"
    " WHERE n.run_id = $1::uuid AND n.object_key = x.key AND n.state = 'waiting'";

static size_t task_files(const struct page *page, struct task_file *files)
{
    size_t n = 0;

    for (size_t i = 0; i < page->n; i++) {
        const struct object *o = &page->objects[i];
        if (is_file(o)) {
            files[n++] = (struct task_file){
                .file_id = o->in.id,
                .name = o->name,
                .object_key = o->in.key,
                .sha256 = o->in.sha256,
                .mime = o->in.type->mime,
                .kind = o->in.type->name,
                .etag = o->in.etag,
                .bytes = (int64_t)o->in.size,
                .stages = *importer_options.clamd ? 1U << STAGE_SCAN : o->in.type->tasks,
            };
        }
    }
    return n;
}

/* In the page's transaction: what no longer fits is refused, in order; its objects go afterwards.
 */
static int check_quota(struct page *page, struct db_conn *conn, struct err *err)
{
    struct quota quota;

    if (quota_lock(conn, page->run->user_id, &quota, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < page->n; i++) {
        struct object *o = &page->objects[i];
        if (o->stored && quota_take_file(&quota, o->in.size, &o->why) < 0) {
            o->refused = true;
        }
    }
    return 0;
}

static int write_page(struct page *page, struct db_conn *conn, struct err *err)
{
    CLEANUP(json_cleanup) json_t *list = json_array();
    struct task_file files[IMPORT_PAGE];
    char batch_id[UUID_TEXT];

    if (check_quota(page, conn, err) < 0) {
        return -1;
    }
    const size_t n = task_files(page, files);
    for (size_t i = 0; i < page->n; i++) {
        if (json_array_append_new(list, outcome_json(&page->objects[i])) < 0) {
            return err_nomem(err);
        }
    }
    CLEANUP(free_cleanup) char *text = json_dumps(list, JSON_COMPACT);
    if (!text) {
        return err_nomem(err);
    }
    uuid_v7(batch_id);
    const struct task_batch batch = {.batch_id = batch_id,
                                     .user_id = page->run->user_id,
                                     .dataset_id = page->run->shadow_id,
                                     .files = files,
                                     .n_files = n,
                                     .lane = LANE_BULK};
    const char *params[] = {page->run->run_id, text};
    return (n > 0 && task_accept_batch(conn, &batch, err) < 0)
               ? -1
               : db_query(conn, save_sql, 2, params, NULL, err);
}

/* *ret_kept: whether rows name the objects now, or may do. */
static int save_page(struct page *page, bool *ret_ours, bool *ret_kept, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;

    if (db_acquire(page->imp->service.db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        run_hold(conn, page->run, ret_ours, err) < 0) {
        return -1;
    }
    if (!*ret_ours) {
        return 0;
    }
    if (write_page(page, conn, err) < 0) {
        return -1;
    }
    fault_point("import.before_commit");
    *ret_kept = true; /* an answer that is lost says nothing about the commit */
    if (db_commit(conn, err) < 0) {
        return -1;
    }
    fault_point("import.after_commit");
    return 0;
}

/* kept: only what was refused after it was stored. */
static void delete_stored(const struct page *page, bool kept)
{
    const char *keys[IMPORT_PAGE];
    struct err err = ERR_INIT;
    size_t n = 0;

    for (size_t i = 0; i < page->n; i++) {
        if (page->objects[i].stored && (!kept || page->objects[i].refused)) {
            keys[n++] = page->objects[i].in.key;
        }
    }
    if (n > 0 && store_delete_many(page->imp->service.store, keys, n, &err) < 0) {
        log_err(LOG_WARN, "objects of a page that was not saved stay for the cleaner", &err);
    }
}

static void count_page(const struct page *page)
{
    for (size_t i = 0; i < page->n; i++) {
        const struct object *o = &page->objects[i];
        metrics_inc("docfleet_import_objects_total", is_file(o)            ? "outcome=\"fetched\""
                                                     : is_refusal(&o->why) ? "outcome=\"rejected\""
                                                                           : "outcome=\"failed\"");
        metrics_add("docfleet_upload_bytes_total", "protocol=\"import\"",
                    is_file(o) ? (double)o->in.size : 0);
    }
    for (int s = STAGE_TEXT; s <= STAGE_THUMBNAIL; s++) {
        notify_stage(page->imp->service.notifier, s, page->run->user_id);
    }
    notify_stage(page->imp->service.notifier, STAGE_SCAN, page->run->user_id);
}

/* Nothing is ready to be read: is anything left to be read later? */
static int no_more(struct importer *imp, const struct run *run, enum step *ret_step,
                   struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num token;
    const char *params[] = {run->run_id, db_num(&token, run->token)};

    if (db_run(imp->service.db,
               "UPDATE import_run SET state = 'processing', starts = 1 WHERE run_id = $1::uuid"
               " AND token = $2::bigint AND state = 'fetching' AND NOT EXISTS"
               " (SELECT 1 FROM import_item WHERE run_id = $1::uuid AND state = 'waiting')"
               " RETURNING 1",
               2, params, &res, err) < 0) {
        return -1;
    }
    *ret_step = PQntuples(res) > 0 ? STEP_MORE : STEP_WAIT;
    return 0;
}

int run_fetch(struct importer *imp, struct run *run, enum step *ret_step, struct err *err)
{
    CLEANUP(page_cleanup) struct page *page = calloc(1, sizeof(*page));
    bool own = false, ours = true, kept = false;

    *ret_step = STEP_OVER;
    if (!page) {
        return err_nomem(err);
    }
    page->imp = imp;
    page->run = run;
    if (read_page(page, err) < 0 || read_quota(page, err) < 0) {
        return -1;
    }
    if (page->n == 0) {
        return no_more(imp, run, ret_step, err);
    }
    if (source_open(imp, run->source, &page->source, &own, err) < 0) {
        return -1;
    }
    fetch_all(page);
    if (own) {
        store_free(page->source);
    }
    int r = save_page(page, &ours, &kept, err);
    delete_stored(page, kept);
    if (r == 0 && ours) {
        count_page(page);
        *ret_step = STEP_MORE;
    }
    return r;
}
