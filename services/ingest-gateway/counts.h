/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files counted by state, from the folded base and the deltas in one statement.
 * Invariant: one snapshot, so the states add up to the total.
 */
#pragma once

#include "libcommon/db.h"
#include "libcommon/states.h"

#include <jansson.h>

struct file_counts {
    int64_t by_state[FILE_DELETING]; /* 0..5 */
    int64_t total;                   /* of these */
    int64_t deleted;
};

int counts_of_dataset(struct db_conn *conn, const char *dataset_id, struct file_counts *ret_counts,
                      struct err *err) WARN_UNUSED;
int counts_of_batch(struct db_conn *conn, const char *batch_id, struct file_counts *ret_counts,
                    struct err *err) WARN_UNUSED;
/* {uploading: n, ...}; NULL when out of memory. */
json_t *counts_json(const struct file_counts *counts);
