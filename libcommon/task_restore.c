/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a restore: whoever was at work then is not at work now. Nothing is counted as a crash, and
 * an old worker that still has a lease, or an old order in Kafka, is shut out by token and number.
 */
#include "libcommon/task.h"

static const char requeue_sql[] =
    "UPDATE docfleet.task SET state = 0, q = 0, lease_until = NULL, lease_owner = NULL,"
    "   lease_token = lease_token + 1, dispatch_seq = dispatch_seq + 1,"
    "   refunds = refunds + CASE state WHEN 2 THEN 1 ELSE 0 END, updated_at = now()"
    " WHERE state IN (1, 2)";

static const char *const restore_sql[] = {
    requeue_sql,
    "DELETE FROM docfleet.worker",
    "DELETE FROM docfleet.backlog",
    "DELETE FROM docfleet.queue_state",
    /* Clients may have seen later events than the backup holds; positions go on past those. */
    "UPDATE docfleet.dispatcher_state SET value = value + 1000000000 WHERE name = 'last_pos'",
};

int task_restored(struct db_conn *conn, int64_t *ret_tasks, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(restore_sql); i++) {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        if (db_query(conn, restore_sql[i], 0, NULL, &res, err) < 0) {
            return -1;
        }
        if (i == 0) {
            *ret_tasks = strtoll(PQcmdTuples(res), NULL, 10);
        }
    }
    return 0;
}
