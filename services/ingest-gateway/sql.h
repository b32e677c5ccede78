/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pieces of SQL and of result reading that several handlers share.
 * Invariant: no value ever becomes a part of a statement's text here, only column names do.
 */
#pragma once

#include "libcommon/db.h"
#include "libcommon/jget.h"
#include "services/ingest-gateway/cursor.h"
#include "services/ingest-gateway/request.h"

/* RFC 3339 in UTC with milliseconds. */
#define SQL_TIME(column)                                                                           \
    "to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"

/* A cell as JSON: null, text, or parsed when it is jsonb. */
json_t *sql_json_str(const PGresult *res, int row, int col);
json_t *sql_json_doc(const PGresult *res, int row, int col);

/* The dataset is there, of this account and not deleted; else "not_found". */
int dataset_require(struct db_conn *conn, const struct request *req, const char *dataset_id,
                    struct err *err) WARN_UNUSED;

/* The same for a file that is not removed. */
int file_require(struct db_conn *conn, const struct request *req, const char *file_id,
                 struct err *err) WARN_UNUSED;

/* limit= and cursor= of a list. *ret_has_cursor false: the first page. */
struct list_page {
    int64_t limit;
    bool has_cursor;
    struct cursor cursor;
};
int list_page_read(const struct request *req, const char *sort, struct list_page *ret_page,
                   struct err *err) WARN_UNUSED;
/* A row of a list as JSON. */
typedef json_t *(*list_item_fn)(const PGresult *res, int row);
/* The answer of rows that were asked for with page.limit + 1, whose first column is the id by which
 * they are ordered; sort is what the cursor belongs to. */
int list_reply_rows(struct reply *reply, const struct list_page *page, const char *sort,
                    const PGresult *res, list_item_fn item, struct err *err) WARN_UNUSED;
/* {"items", "nextCursor"} as the answer; takes items. next (malloc'd, taken) may be NULL. */
int list_reply(struct reply *reply, json_t *items, char *next, struct err *err) WARN_UNUSED;
