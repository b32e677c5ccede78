/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first step of a run: what the source holds now, and what of it is new. Listing twice, after
 * a kill, finds the same rows; the comparison is one transaction with the change of state.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/fault.h"
#include "libcommon/jget.h"
#include "libcommon/log.h"
#include "services/importer/importer.h"

static const char add_sql[] =
    "INSERT INTO import_item (run_id, object_key, etag, bytes)"
    " SELECT $1::uuid, x->>0, x->>1, (x->>2)::bigint FROM jsonb_array_elements($2::jsonb) AS x"
    " ON CONFLICT (run_id, object_key) DO UPDATE SET etag = excluded.etag, bytes = excluded.bytes";

/* Objects that were found by a listing that did not end, and are gone since. */
static const char forget_sql[] = "DELETE FROM import_item WHERE run_id = $1::uuid";

/* $1 the run. Each statement looks only at what the ones before have left waiting. */
static const char *const compare_sql[] = {
    /* As in the published version: its outcome holds, also when that was a refusal. A file that
     * was removed by hand stays away until its object changes. */
    "UPDATE import_item n SET change = 'unchanged', tries = 0, old_file_id = f.file_id,"
    "   file_id = f.file_id,"
    "   state = CASE WHEN o.state IN ('file', 'kept') AND f.file_id IS NULL THEN 'gone'"
    "     ELSE o.state END,"
    "   code = CASE WHEN o.state IN ('file', 'kept') AND f.file_id IS NULL THEN 'removed'"
    "     ELSE o.code END,"
    "   detail = CASE WHEN o.state IN ('file', 'kept') AND f.file_id IS NULL"
    "     THEN 'removed by hand' ELSE o.detail END"
    " FROM import_run r JOIN import_source i USING (import_id) JOIN import_item o"
    "   ON o.run_id = i.published_run LEFT JOIN file f ON f.file_id = o.file_id AND f.state < 6"
    " WHERE r.run_id = $1::uuid AND n.run_id = r.run_id AND o.object_key = n.object_key"
    "   AND o.etag = n.etag AND n.etag <> '' AND o.state <> 'unfetched'"
    "   AND NOT (o.change = 'vanished' AND o.state = 'gone')",
    /* Another content than in the published version. */
    "UPDATE import_item n SET change = 'changed', old_file_id = f.file_id"
    " FROM import_run r JOIN import_source i USING (import_id) JOIN import_item o"
    "   ON o.run_id = i.published_run LEFT JOIN file f ON f.file_id = o.file_id AND f.state < 6"
    " WHERE r.run_id = $1::uuid AND n.run_id = r.run_id AND o.object_key = n.object_key"
    "   AND n.state = 'waiting' AND n.change = 'new'"
    "   AND NOT (o.change = 'vanished' AND o.state = 'gone')",
    /* The very object was read by another run: one that failed, or one that was rolled back. */
    "UPDATE import_item n SET state = 'file', file_id = s.file_id FROM ("
    "   SELECT DISTINCT ON (o.object_key, o.etag) o.object_key, o.etag, o.file_id"
    "   FROM import_run r JOIN import_run q USING (import_id) JOIN import_item o"
    "     ON o.run_id = q.run_id JOIN file f USING (file_id)"
    "   WHERE r.run_id = $1::uuid AND q.run_id <> r.run_id AND o.state = 'file'"
    "     AND f.state IN (1, 2) ORDER BY o.object_key, o.etag, o.file_id DESC) s"
    " WHERE n.run_id = $1::uuid AND n.state = 'waiting' AND n.etag <> ''"
    "   AND n.object_key = s.object_key AND n.etag = s.etag",
    /* What is no longer there is noted; $2: and not taken over. */
    "INSERT INTO import_item (run_id, object_key, etag, bytes, change, state, file_id, old_file_id,"
    "   code, detail)"
    " SELECT r.run_id, o.object_key, o.etag, o.bytes, 'vanished',"
    "   CASE WHEN $2::boolean THEN 'gone' ELSE o.state END,"
    "   CASE WHEN $2::boolean THEN NULL ELSE o.file_id END, o.file_id, o.code, o.detail"
    " FROM import_run r JOIN import_source i USING (import_id) JOIN import_item o"
    "   ON o.run_id = i.published_run"
    " WHERE r.run_id = $1::uuid AND o.state NOT IN ('gone', 'unfetched', 'rejected')"
    "   AND NOT EXISTS (SELECT 1 FROM import_item n WHERE n.run_id = r.run_id"
    "     AND n.object_key = o.object_key)",
};

/* The shadow's columns are the dataset's as they are now, so that both make the same records. */
static const char columns_sql[] =
    "WITH s AS (INSERT INTO schema_version (dataset_id, version, columns)"
    "    SELECT $2::uuid, version, columns FROM schema_version WHERE dataset_id = $1::uuid"
    "    ON CONFLICT (dataset_id, version) DO NOTHING)"
    " UPDATE dataset t SET schema_version = d.schema_version, options = d.options,"
    "   updated_at = now() FROM dataset d WHERE d.dataset_id = $1::uuid"
    "   AND t.dataset_id = $2::uuid";

struct listing {
    struct run *run;
    json_t *page;
    int64_t n;
};

static int on_object(void *ctx, const struct store_entry *entry, struct err *err)
{
    struct listing *l = ctx;
    size_t len = strlen(entry->key);

    if (len > 0 && entry->key[len - 1] == '/') {
        return 0; /* a folder's mark */
    }
    if (++l->n > importer_options.objects_max) {
        return err_set(err, ERR_PERMANENT, "too_many_objects",
                       "the source has more than %lld"
                       " objects (IMPORT_MAX_OBJECTS)",
                       (long long)importer_options.objects_max);
    }
    json_t *row = json_pack("[s, s, I]", entry->key, entry->etag, (json_int_t)entry->size);
    if (!row) {
        return err_set(err, ERR_PERMANENT, "source_keys", "the source has a key that is no UTF-8");
    }
    return json_array_append_new(l->page, row) < 0 ? err_nomem(err) : 0;
}

static int save_page(struct importer *imp, const struct listing *l, bool *ret_ours, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(free_cleanup) char *text = json_dumps(l->page, JSON_COMPACT);
    const char *params[] = {l->run->run_id, text};

    if (!text) {
        return err_nomem(err);
    }
    if (db_acquire(imp->service.db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        run_hold(conn, l->run, ret_ours, err) < 0) {
        return -1;
    }
    if (!*ret_ours) {
        return 0;
    }
    return db_query(conn, add_sql, 2, params, NULL, err) < 0 ? -1 : db_commit(conn, err);
}

static int list_once(struct importer *imp, struct store *store, struct listing *l, bool *ret_ours,
                     struct err *err)
{
    CLEANUP(free_cleanup) char *token = NULL;

    l->n = 0;
    if (db_run(imp->service.db, forget_sql, 1, (const char *const[]){l->run->run_id}, NULL, err) <
        0) {
        return -1;
    }
    do {
        char *next = NULL;
        json_array_clear(l->page);
        int r = store_list(store, l->run->prefix, token, STORE_LIST_MAX, on_object, l, &next, err);
        free(token);
        token = next;
        if (r < 0 || save_page(imp, l, ret_ours, err) < 0) {
            return -1;
        }
        fault_point("import.after_list_page");
    } while (*ret_ours && token && !atomic_load(&imp->service.stopping));
    return 0;
}

static int compare(struct importer *imp, const struct run *run, bool *ret_ours, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    const char *params[] = {run->run_id, run->remove_vanished ? "t" : "f"};
    const char *sets[] = {run->dataset_id, run->shadow_id};

    if (db_acquire(imp->service.db, &conn, err) < 0 || db_begin(conn, err) < 0 ||
        run_hold(conn, run, ret_ours, err) < 0) {
        return -1;
    }
    if (!*ret_ours) {
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(compare_sql); i++) {
        int n = i + 1 == ARRAY_LEN(compare_sql) ? 2 : 1;
        if (db_query(conn, compare_sql[i], n, params, NULL, err) < 0) {
            return -1;
        }
    }
    if (db_query(conn, columns_sql, 2, sets, NULL, err) < 0 ||
        db_query(conn,
                 "UPDATE import_run SET state = 'fetching', starts = 1 WHERE run_id = $1::uuid", 1,
                 params, NULL, err) < 0) {
        return -1;
    }
    fault_point("import.before_fetching");
    return db_commit(conn, err);
}

int run_list(struct importer *imp, struct run *run, enum step *ret_step, struct err *err)
{
    CLEANUP(json_cleanup) json_t *page = json_array();
    struct listing l = {.run = run, .page = page};
    struct store *store = NULL;
    bool own = false, ours = true;
    int64_t wait_ms = importer_options.retry_ms;

    *ret_step = STEP_OVER;
    if (run->dataset_gone) {
        return err_set(err, ERR_PERMANENT, "dataset_gone", "the dataset was removed");
    }
    if (source_open(imp, run->source, &store, &own, err) < 0) {
        return -1;
    }
    int r = list_once(imp, store, &l, &ours, err);
    for (int64_t i = 1; i < importer_options.tries && r < 0 && err->class != ERR_PERMANENT; i++) {
        log_err(LOG_WARN, "the source cannot be listed, it is tried again", err);
        if (service_wait(&imp->service, (int)wait_ms)) {
            break;
        }
        wait_ms *= 4;
        r = list_once(imp, store, &l, &ours, err);
    }
    if (own) {
        store_free(store);
    }
    if (atomic_load(&imp->service.stopping)) {
        *ret_step = STEP_WAIT; /* the next start lists again */
        return 0;
    }
    if (r < 0 || (ours && compare(imp, run, &ours, err) < 0)) {
        return -1;
    }
    log_info("the source is listed", kv_str("run", run->run_id), kv_i64("objects", l.n));
    *ret_step = ours ? STEP_MORE : STEP_OVER;
    return 0;
}
