/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What no kept version names: lists of objects of old runs, files in the shadow, old history. Files
 * go the way of every removed file, so a legal hold keeps them here, too.
 * Kept are the newest published versions, the one that is published, every open run, and the newest
 * run that has ended, whose files the next one may use.
 */
#include <string.h>

#include "libcommon/log.h"
#include "libcommon/notify.h"
#include "libcommon/states.h"
#include "libcommon/task.h"
#include "services/importer/importer.h"

#define ROUNDS 40 /* of TASK_REMOVE_MAX files */

#define KEPT                                                                                       \
    "k AS (SELECT run_id FROM (SELECT r.run_id, r.state, i.published_run = r.run_id AS current,"   \
    "     i.keep_versions, r.no = max(r.no) FILTER (WHERE r.state IN ('published', 'failed'))"     \
    "       OVER () AS newest, row_number() OVER (PARTITION BY r.state ORDER BY r.no DESC) AS n"   \
    "   FROM import_run r JOIN import_source i USING (import_id)"                                  \
    "   WHERE i.import_id = $1::uuid AND i.deleted_at IS NULL AND r.pruned_at IS NULL) x"          \
    "   WHERE current OR newest OR state IN ('queued', 'listing', 'fetching', 'processing')"       \
    "     OR (state = 'published' AND n <= keep_versions))"

static const char items_sql[] =
    "WITH " KEPT ", o AS (UPDATE import_run SET pruned_at = now() WHERE import_id = $1::uuid"
    "    AND pruned_at IS NULL AND run_id NOT IN (SELECT run_id FROM k) RETURNING run_id)"
    " DELETE FROM import_item USING o WHERE import_item.run_id = o.run_id";

static const char history_sql[] =
    "DELETE FROM import_run WHERE import_id = $1::uuid AND pruned_at IS NOT NULL AND no <="
    " (SELECT run_no - $2::bigint FROM import_source WHERE import_id = $1::uuid)";

static const char unused_sql[] =
    "SELECT f.file_id, f.user_id FROM import_source i JOIN file f ON f.dataset_id = i.shadow_id"
    " WHERE i.import_id = $1::uuid AND f.state < 6"
    "   AND NOT EXISTS (SELECT 1 FROM import_item n WHERE n.file_id = f.file_id)"
    " ORDER BY f.file_id LIMIT 500";

static int remove_unused(struct importer *imp, const char *import_id, int64_t *ret_removed,
                         struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *ids[TASK_REMOVE_MAX];
    const char *params[] = {import_id};

    *ret_removed = 0;
    if (db_run(imp->service.db, unused_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    int n = PQntuples(res);
    for (int i = 0; i < n; i++) {
        ids[i] = PQgetvalue(res, i, 0);
    }
    if (n == 0) {
        return 0;
    }
    if (task_remove(imp->service.db, PQgetvalue(res, 0, 1), ids, (size_t)n, ret_removed, err) < 0) {
        return -1;
    }
    notify_stage(imp->service.notifier, STAGE_CLEAN, PQgetvalue(res, 0, 1));
    return 0;
}

int import_prune(struct importer *imp, const char *import_id, struct err *err)
{
    struct db_num kept;
    const char *params[] = {import_id, db_num(&kept, importer_options.runs_kept)};
    int64_t removed = TASK_REMOVE_MAX, all = 0;

    if (db_run(imp->service.db, items_sql, 1, params, NULL, err) < 0 ||
        db_run(imp->service.db, history_sql, 2, params, NULL, err) < 0) {
        return -1;
    }
    for (int i = 0; i < ROUNDS && removed == TASK_REMOVE_MAX; i++) {
        if (remove_unused(imp, import_id, &removed, err) < 0) {
            return -1;
        }
        all += removed;
    }
    if (all > 0) {
        log_info("files of old versions removed", kv_str("import", import_id),
                 kv_i64("files", all));
    }
    return 0;
}

static const char all_sql[] =
    "WITH g AS (UPDATE import_source i SET deleted_at = now(), enabled = false FROM dataset d"
    "    WHERE d.dataset_id = i.dataset_id AND d.deleted_at IS NOT NULL AND i.deleted_at IS NULL)"
    " SELECT import_id FROM import_source WHERE deleted_at IS NULL"
    "   OR deleted_at > now() - interval '7 days' ORDER BY import_id LIMIT 10000";

int import_prune_all(struct importer *imp, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_run(imp->service.db, all_sql, 0, NULL, &res, err) < 0) {
        return -1;
    }
    for (int i = 0; i < PQntuples(res) && !atomic_load(&imp->service.stopping); i++) {
        if (import_prune(imp, PQgetvalue(res, i, 0), err) < 0) {
            return -1;
        }
    }
    return 0;
}
