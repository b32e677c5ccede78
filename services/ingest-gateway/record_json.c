/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/record_json.h"

#include <stdio.h>
#include <string.h>

static const char columns_sql[] =
    "SELECT columns FROM schema_version WHERE dataset_id = $1::uuid AND version = $2::int";

int record_columns_load(struct db_conn *conn, const char *dataset_id, int64_t version,
                        json_t **ret_columns, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct db_num num;
    const char *params[] = {dataset_id, db_num(&num, version)};

    if (db_query(conn, columns_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such schema version");
    }
    *ret_columns = sql_json_doc(res, 0, 0);
    return 0;
}

/* Rows of all records at once: [record][column] -> {n, items}. */
static const char rows_sql[] =
    "SELECT record_id, column_id, row_no, \"values\", n FROM (SELECT record_id, column_id, row_no,"
    "   \"values\", row_number() OVER w AS k, count(*) OVER (PARTITION BY record_id, column_id) AS "
    "n"
    "   FROM record_row WHERE record_id = ANY ($1::uuid[])"
    "   WINDOW w AS (PARTITION BY record_id, column_id ORDER BY row_no)) q"
    " WHERE k <= 200 ORDER BY record_id, column_id, row_no";

static json_t *member_object(json_t *parent, const char *key)
{
    json_t *child = json_object_get(parent, key);

    if (!child) {
        child = json_object();
        json_object_set_new(parent, key, child);
    }
    return child;
}

static int load_rows(struct db_conn *conn, const PGresult *records, int n, json_t *ret_rows,
                     struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(buf_done) struct buf ids;

    buf_init(&ids, 64 * 1024);
    for (int i = 0; i < n; i++) {
        if (buf_printf(&ids, err, "%c%s", i ? ',' : '{', db_str(records, i, 0)) < 0) {
            return -1;
        }
    }
    if (buf_puts(&ids, n ? "}" : "{}", err) < 0) {
        return -1;
    }
    const char *params[] = {ids.data};
    if (db_query(conn, rows_sql, 1, params, &res, err) < 0) {
        return -1;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        json_t *column =
            member_object(member_object(ret_rows, db_str(res, i, 0)), db_str(res, i, 1));
        json_t *items = json_object_get(column, "items");
        if (!items) {
            items = json_array();
            json_object_set_new(column, "items", items);
            json_object_set_new(column, "n", json_integer(db_i64(res, i, 4)));
        }
        json_array_append_new(items, sql_json_doc(res, i, 3));
    }
    return 0;
}

json_t *record_named(const json_t *columns, const json_t *by_id)
{
    json_t *out = json_object();
    size_t i;
    json_t *column;

    json_array_foreach(columns, i, column)
    {
        const char *name = json_string_value(json_object_get(column, "name"));
        json_t *value = json_object_get(by_id, json_string_value(json_object_get(column, "id")));
        if (name) {
            json_object_set(out, name, value ? value : json_null());
        }
    }
    return out;
}

static json_t *rows_value(const json_t *column, const json_t *rows, const char *record_id)
{
    const json_t *items = json_object_get(rows, "items");
    json_int_t n = json_integer_value(json_object_get(rows, "n"));
    json_t *out;
    size_t i;
    json_t *row;

    if (n > RECORD_ROWS_SHOWN) {
        return json_pack("{s:I, s:s+++}", "count", n, "href", "/api/v1/records/", record_id,
                         "/rows?column=", json_string_value(json_object_get(column, "id")));
    }
    out = json_array();
    json_array_foreach(items, i, row)
    {
        json_array_append_new(out, record_named(json_object_get(column, "itemColumns"), row));
    }
    return out;
}

static json_t *record_json(const PGresult *res, int row, const json_t *columns, const json_t *rows)
{
    CLEANUP(json_cleanup) json_t *stored = sql_json_doc(res, row, 6);
    CLEANUP(json_cleanup) json_t *cells = sql_json_doc(res, row, 7);
    const char *id = db_str(res, row, 0);
    json_t *values = record_named(columns, stored);
    size_t i;
    json_t *column;

    json_array_foreach(columns, i, column)
    {
        const char *type = json_string_value(json_object_get(column, "type"));
        const char *name = json_string_value(json_object_get(column, "name"));
        const char *cid = json_string_value(json_object_get(column, "id"));
        if (type && name && cid && strcmp(type, "rows") == 0) {
            const json_t *mine = json_object_get(json_object_get(rows, id), cid);
            json_object_set_new(values, name, rows_value(column, mine, id));
        }
    }
    return json_pack("{s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:b, s:f}", "id",
                     sql_json_str(res, row, 0), "fileId", sql_json_str(res, row, 1), "version",
                     (json_int_t)db_i64(res, row, 2), "generation", (json_int_t)db_i64(res, row, 3),
                     "schemaVersion", (json_int_t)db_i64(res, row, 4), "backend",
                     sql_json_str(res, row, 5), "values", values, "cells",
                     record_named(columns, cells), "needsReview", (int)db_bool(res, row, 8),
                     "completeness", strtod(db_str(res, row, 9), NULL));
}

int record_json_list(struct db_conn *conn, const PGresult *res, int n, json_t **ret_items,
                     struct err *err)
{
    CLEANUP(json_cleanup) json_t *schemas = json_object();
    CLEANUP(json_cleanup) json_t *rows = json_object();
    CLEANUP(json_cleanup) json_t *items = json_array();

    if (!schemas || !rows || !items) {
        return err_nomem(err);
    }
    if (load_rows(conn, res, n, rows, err) < 0) {
        return -1;
    }
    for (int i = 0; i < n; i++) {
        char key[80];
        snprintf(key, sizeof(key), "%s/%s", db_str(res, i, 10), db_str(res, i, 4));
        json_t *columns = json_object_get(schemas, key);
        if (!columns) {
            if (record_columns_load(conn, db_str(res, i, 10), db_i64(res, i, 4), &columns, err) <
                0) {
                return -1;
            }
            json_object_set_new(schemas, key, columns);
        }
        json_t *item = record_json(res, i, columns, rows);
        if (!item || json_array_append_new(items, item) < 0) {
            return err_nomem(err);
        }
    }
    *ret_items = STEAL(items);
    return 0;
}
