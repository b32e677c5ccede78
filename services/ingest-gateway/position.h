/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where waiting work stands in the queue and when it will be begun, from what the dispatcher tells
 * of each stage (table queue_state) and the user's own waiting tasks.
 * Invariant: nothing here fails an answer: what is not known, or takes too long, is null. Of other
 * users nothing shows but a number of tasks.
 */
#pragma once

#include "services/ingest-gateway/sql.h"

/* What is known of a stage's queue. */
struct queue_view {
    bool known;
    double rate; /* tasks ended a second; 0: unknown */
    int64_t waiting;
    int64_t users;
    json_t *curve[2]; /* lane 0; the others. [[cost / weight, tasks before], ...] or NULL */
};

/* How many tasks are sent before one whose own user has `ahead` (cost / weight) and `own` tasks in
 * front of it in its lane; 1 is the next. -1: unknown. */
int64_t queue_position(const struct queue_view *view, int lane, double ahead, int64_t own);
/* Whole seconds until that many tasks are sent; -1: unknown. */
int64_t queue_eta(const struct queue_view *view, int64_t position);

/* Fills queuePosition, etaSeconds and retryAt of the waiting pipelines of files (of
 * file_json_load), with one bounded query for all of them. ids as there. */
void position_add(struct db_conn *conn, const char *user_id, const char *ids, json_t *files);

/* Of the files in work of a dataset or a batch (the other id NULL): age of what waits longest, and
 * when the last of them is done, both in seconds, -1: nothing waits, or unknown. */
struct position_last {
    int64_t oldest;
    int64_t eta;
};
void position_last(struct db *db, const char *user_id, const char *dataset_id, const char *batch_id,
                   struct position_last *ret_last);
