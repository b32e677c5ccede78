/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retention: the bytes of files that have ended. Rows first: once no row names an object, it goes
 * at once or, after a kill, with the cleaner's sweep.
 */
#include "libcommon/task.h"

/* $1 files. Under a hold, in work or removed: left alone. Dead letters stay as evidence. */
static const char remove_sql[] =
    "WITH old AS (SELECT file_id FROM file WHERE file_id = ANY ($1::uuid[])"
    "    AND state BETWEEN 2 AND 4 AND content_removed_at IS NULL AND NOT dataset_held(dataset_id)"
    "    ORDER BY file_id FOR UPDATE),"
    " a AS (DELETE FROM artifact USING old WHERE artifact.file_id = old.file_id"
    "    RETURNING artifact.object_key),"
    " p AS (DELETE FROM file_page USING old WHERE file_page.file_id = old.file_id),"
    " v AS (UPDATE file_version SET object_key = NULL FROM old, file_version was"
    "    WHERE file_version.file_id = old.file_id AND was.file_id = file_version.file_id"
    "      AND was.version = file_version.version AND was.object_key IS NOT NULL"
    "    RETURNING was.object_key),"
    " f AS (UPDATE file SET content_removed_at = now() FROM old WHERE file.file_id = old.file_id"
    "    RETURNING file.file_id, file.user_id, file.dataset_id, file.batch_id, file.state),"
    " e AS (INSERT INTO event (user_id, file_id, kind, body) SELECT user_id, file_id,"
    "    'file_updated', jsonb_build_object('datasetId', dataset_id, 'batchId', batch_id,"
    "    'state', (ARRAY['done','failed','cancelled'])[state - 1], 'action', 'content_removed')"
    "    FROM f)"
    " SELECT object_key FROM a UNION SELECT object_key FROM v";

int task_content_remove(struct db *db, const char *file_ids, PGresult **ret_keys, struct err *err)
{
    return db_run(db, remove_sql, 1, &file_ids, ret_keys, err);
}
