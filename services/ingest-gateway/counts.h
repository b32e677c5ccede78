/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files counted by state, from the folded base and the deltas in one statement.
 * Invariant: one snapshot, so the states add up to the total.
 */
#pragma once

#include "libcommon/db.h"
#include "libcommon/states.h"

#include <jansson.h>

/* Rows (state, n); where names dataset_id or batch_id. */
#define COUNTS_SQL(where)                                                                          \
    "SELECT state, sum(n) AS n FROM ("                                                             \
    "  SELECT state, n FROM count_base WHERE " where                                               \
    "  UNION ALL SELECT from_state, -n FROM count_delta WHERE " where                              \
    " AND from_state IS NOT NULL"                                                                  \
    "  UNION ALL SELECT to_state, n FROM count_delta WHERE " where " AND to_state IS NOT NULL"     \
    ") c GROUP BY state"

struct file_counts {
    int64_t by_state[FILE_DELETING]; /* 0..5 */
    int64_t total;                   /* of these */
    int64_t deleted;
};

int counts_of_dataset(struct db_conn *conn, const char *dataset_id, struct file_counts *ret_counts,
                      struct err *err) WARN_UNUSED;
/* From [[state, n], ...], as a statement that holds COUNTS_SQL aggregates it. */
void counts_of_json(const json_t *pairs, struct file_counts *ret_counts);
/* {uploading: n, ...}; NULL when out of memory. */
json_t *counts_json(const struct file_counts *counts);
