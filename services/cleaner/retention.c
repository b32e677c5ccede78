/* SPDX-License-Identifier: Apache-2.0 */
#include "services/cleaner/retention.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/notify.h"
#include "libcommon/states.h"
#include "libcommon/task.h"
#include "services/cleaner/sweep.h"

/* The place of a round; a restart begins a new one. One thread: the tick's. */
static char at_dataset[UUID_TEXT];
static char at_file[UUID_TEXT];

/* An import's earlier versions are kept as long as what its dataset shows. */
static const char dataset_sql[] =
    "SELECT d.dataset_id, o.options->>'retentionDays', coalesce(o.options->>'retentionRemoves',"
    "   'content'), d.user_id FROM dataset d LEFT JOIN import_source i ON i.shadow_id = "
    "d.dataset_id"
    " JOIN dataset o ON o.dataset_id = coalesce(i.dataset_id, d.dataset_id)"
    " WHERE jsonb_typeof(o.options->'retentionDays') = 'number' AND NOT dataset_held(d.dataset_id)"
    "   AND (d.deleted_at IS NULL OR i.import_id IS NOT NULL)"
    "   AND ($1::uuid IS NULL OR d.dataset_id > $1::uuid OR ($2::uuid IS NOT NULL"
    "     AND d.dataset_id = $1::uuid)) ORDER BY d.dataset_id LIMIT 1";

/* In the order of the key, so that each step begins where the last ended. */
static const char files_sql[] =
    "SELECT file_id, state BETWEEN 2 AND 4 AND updated_at <= now() - $3::float8 * interval '1 day'"
    "   AND (content_removed_at IS NULL OR $4 = 'file')"
    " FROM file WHERE dataset_id = $1::uuid AND ($2::uuid IS NULL OR file_id > $2::uuid)"
    " ORDER BY file_id LIMIT 500";

static int remove_content(struct service *service, const char *ids, int64_t *ret_n, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *keys[STORE_DELETE_MAX];
    uint64_t deleted = 0;

    if (task_content_remove(service->db, ids, &res, err) < 0) {
        return -1;
    }
    for (int row = 0; row < PQntuples(res);) {
        size_t n = 0;
        while (row < PQntuples(res) && n < STORE_DELETE_MAX) {
            keys[n++] = PQgetvalue(res, row++, 0);
        }
        if (sweep_keys(service, keys, n, &deleted, err) < 0) {
            return -1; /* no row names them: the sweep for orphans takes them */
        }
    }
    metrics_add("docfleet_objects_deleted_total", "reason=\"retention\"", (double)deleted);
    notify_events(service->notifier);
    *ret_n = (int64_t)deleted;
    return 0;
}

static int apply(struct service *service, const PGresult *files, const char *user_id, bool whole,
                 struct err *err)
{
    CLEANUP(buf_done) struct buf ids;
    const char *list[TASK_REMOVE_MAX];
    size_t n = 0;
    int64_t done = 0;

    buf_init(&ids, (size_t)TASK_REMOVE_MAX * (UUID_TEXT + 1) + 4);
    for (int i = 0; i < PQntuples(files) && n < TASK_REMOVE_MAX; i++) {
        if (!db_bool(files, i, 1)) {
            continue;
        }
        if (buf_printf(&ids, err, "%c%s", n ? ',' : '{', PQgetvalue(files, i, 0)) < 0) {
            return -1;
        }
        list[n++] = PQgetvalue(files, i, 0);
    }
    if (n == 0) {
        return 0;
    }
    if (buf_puts(&ids, "}", err) < 0) {
        return -1;
    }
    int r = whole ? task_remove(service->db, user_id, list, n, &done, err)
                  : remove_content(service, ids.data, &done, err);
    if (r == 0 && done > 0) {
        log_info("retention is over", kv_u64("files", n),
                 kv_str("removed", whole ? "file" : "content"));
    }
    if (r == 0 && whole) {
        notify_stage(service->notifier, STAGE_CLEAN, user_id);
    }
    return r;
}

int retention_step(struct service *service, bool *ret_more, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *dataset = NULL;
    CLEANUP(db_result_cleanup) PGresult *files = NULL;
    const char *after[] = {at_dataset[0] ? at_dataset : NULL, at_file[0] ? at_file : NULL};

    *ret_more = false;
    if (db_run(service->db, dataset_sql, 2, after, &dataset, err) < 0) {
        return -1;
    }
    if (PQntuples(dataset) == 0) {
        at_dataset[0] = at_file[0] = '\0';
        return 0;
    }
    if (strcmp(at_dataset, PQgetvalue(dataset, 0, 0)) != 0) {
        snprintf(at_dataset, sizeof(at_dataset), "%s", PQgetvalue(dataset, 0, 0));
        at_file[0] = '\0';
    }
    const char *whole = PQgetvalue(dataset, 0, 2);
    const char *params[] = {at_dataset, at_file[0] ? at_file : NULL, PQgetvalue(dataset, 0, 1),
                            whole};
    if (db_run(service->db, files_sql, 4, params, &files, err) < 0 ||
        apply(service, files, PQgetvalue(dataset, 0, 3), strcmp(whole, "file") == 0, err) < 0) {
        return -1;
    }
    int n = PQntuples(files);
    snprintf(at_file, sizeof(at_file), "%s",
             n == TASK_REMOVE_MAX ? PQgetvalue(files, n - 1, 0) : "");
    *ret_more = true;
    return 0;
}
