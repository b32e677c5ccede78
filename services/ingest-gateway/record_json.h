/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records as the API shows them: stored by column id, shown by column name.
 * Invariant: a record is shown under the schema version it was made with.
 */
#pragma once

#include "services/ingest-gateway/sql.h"

#define RECORD_ROWS_SHOWN 200

/* Columns of the statements whose results record_json_list() reads. */
#define RECORD_COLUMNS                                                                             \
    "r.record_id, r.file_id, r.version, r.generation, r.schema_version, r.backend, r.\"values\","  \
    " r.cells, r.needs_review, r.completeness, r.dataset_id, r.doc_no"

/* The first n rows of res as an array of records, with their row columns. */
int record_json_list(struct db_conn *conn, const PGresult *res, int n, json_t **ret_items,
                     struct err *err) WARN_UNUSED;

/* The columns of one schema version (a new reference); "not_found" when there is none. */
int record_columns_load(struct db_conn *conn, const char *dataset_id, int64_t version,
                        json_t **ret_columns, struct err *err) WARN_UNUSED;

/* {id: value} with the names of columns instead of ids. */
json_t *record_named(const json_t *columns, const json_t *by_id);
