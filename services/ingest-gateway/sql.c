/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/sql.h"

#include "services/ingest-gateway/gateway.h"

#include <string.h>

json_t *sql_json_str(const PGresult *res, int row, int col)
{
    const char *s = db_str(res, row, col);

    return s ? json_string(s) : json_null();
}

json_t *sql_json_doc(const PGresult *res, int row, int col)
{
    const char *s = db_str(res, row, col);
    json_t *doc = s ? json_loads(s, JSON_DECODE_ANY, NULL) : NULL;

    if (s && !doc) { /* Postgres writes 1e300 as an integer of 301 digits */
        doc = json_loads(s, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    }
    return doc ? doc : json_null();
}

static const char require_sql[] = "SELECT 1 FROM dataset WHERE dataset_id = $1::uuid"
                                  " AND user_id = $2::uuid AND deleted_at IS NULL";

int dataset_require(struct db_conn *conn, const struct request *req, const char *dataset_id,
                    struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {dataset_id, req->who.user_id};

    if (db_query(conn, require_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such dataset");
    }
    return 0;
}

int file_require(struct db_conn *conn, const struct request *req, const char *file_id,
                 struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {file_id, req->who.user_id};

    if (db_query(conn,
                 "SELECT 1 FROM file WHERE file_id = $1::uuid AND user_id = $2::uuid AND state < 6",
                 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such file");
    }
    return 0;
}

int list_page_read(const struct request *req, const char *sort, struct list_page *ret_page,
                   struct err *err)
{
    struct list_page page = {0};
    const char *cursor = uri_arg(&req->uri, "cursor");

    if (uri_arg_int(&req->uri, "limit", 1, LIST_LIMIT_MAX, LIST_LIMIT, &page.limit, err) < 0) {
        return -1;
    }
    page.has_cursor = cursor != NULL;
    if (cursor && cursor_decode(cursor, sort, &page.cursor, err) < 0) {
        return -1;
    }
    *ret_page = page;
    return 0;
}

int list_reply(struct reply *reply, json_t *items, char *next, struct err *err)
{
    json_t *doc = json_pack("{s:o, s:s?}", "items", items, "nextCursor", next);

    free(next);
    return reply_take_json(reply, 200, doc, err);
}

int list_reply_rows(struct reply *reply, const struct list_page *page, const char *sort,
                    const PGresult *res, list_item_fn item, struct err *err)
{
    int n = PQntuples(res) < page->limit ? PQntuples(res) : (int)page->limit;
    json_t *items = json_array();
    char *next = NULL;

    for (int i = 0; i < n; i++) {
        json_array_append_new(items, item(res, i));
    }
    if (PQntuples(res) > n) {
        next = cursor_encode(sort, PQgetvalue(res, n - 1, 0), "");
    }
    return list_reply(reply, items, next, err);
}
