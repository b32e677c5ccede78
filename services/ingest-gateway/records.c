/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of a dataset as JSON pages, or whole as NDJSON and CSV. A whole export reads page after
 * page by keyset, so that it holds neither memory nor a snapshot.
 */
#include "libcommon/columns.h"
#include "services/ingest-gateway/cond.h"
#include "services/ingest-gateway/csv.h"
#include "services/ingest-gateway/exchange.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/record_json.h"

#include <stdio.h>
#include <string.h>

#define EXPORT_PAGE 200
#define EXPORT_ROWS 1000
#define LINE_MAX_BYTES ((size_t)16 << 20)

static const char list_sql[] =
    "SELECT " RECORD_COLUMNS ", f.name FROM record r JOIN file f ON f.file_id = r.file_id"
    "   AND f.record_generation = r.generation AND f.state < 6"
    " WHERE r.dataset_id = $1::uuid AND r.user_id = $2::uuid"
    "   AND ($3::uuid IS NULL OR r.record_id > $3::uuid)"
    " ORDER BY r.record_id LIMIT $4::int";

static const char file_sql[] =
    "SELECT " RECORD_COLUMNS " FROM file f JOIN record r ON r.file_id = f.file_id"
    "   AND r.generation = f.record_generation"
    " WHERE f.file_id = $1::uuid AND f.user_id = $2::uuid AND f.state < 6 ORDER BY r.doc_no"
    " LIMIT 200";

static const char rows_sql[] =
    "SELECT row_no, \"values\", cells FROM record_row WHERE record_id = $1::uuid AND column_id = $2"
    "   AND row_no > $3::int ORDER BY row_no LIMIT $4::int";

int file_record(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0], req->who.user_id};
    json_t *items = NULL;

    if (db_acquire(req->gw->db, &conn, err) < 0 ||
        file_require(conn, req, req->params[0], err) < 0) {
        return -1;
    }
    if (db_query(conn, file_sql, 2, params, &res, err) < 0 ||
        record_json_list(conn, res, PQntuples(res), &items, err) < 0) {
        return -1;
    }
    return list_reply(reply, items, NULL, err);
}

/* Export ----------------------------------------------------------------------------------------*/

enum format { FORMAT_JSON, FORMAT_NDJSON, FORMAT_CSV };

struct export
{
    struct gateway *gw;
    enum format format;
    char dataset_id[UUID_TEXT];
    char user_id[UUID_TEXT];
    json_t *columns;  /* of the current schema */
    json_t *rows_col; /* borrowed: the column whose rows become lines, or NULL */
};

static void export_free(void *ctx)
{
    struct export *x = ctx;

    json_decref(x->columns);
    free(x);
}

static const char *col_name(const json_t *column)
{
    const char *name = json_string_value(json_object_get(column, "name"));

    return name ? name : "";
}

static bool is_rows(const json_t *column)
{
    const char *type = json_string_value(json_object_get(column, "type"));

    return type && strcmp(type, "rows") == 0;
}

static bool is_money(const json_t *column)
{
    const char *type = json_string_value(json_object_get(column, "type"));

    return type && strcmp(type, "money") == 0;
}

/* A cell with its comma; money is two, the amount as a number and the currency. */
static int csv_cell(const json_t *column, const json_t *value, struct buf *line, struct err *err)
{
    if (buf_puts(line, ",", err) < 0) {
        return -1;
    }
    if (!is_money(column)) {
        return csv_json(line, value, err);
    }
    const json_t *amount = json_object_get(value, "amount");
    const char *text = json_string_value(amount);
    bool number = text && text[0] != '\0' && strspn(text, "-.0123456789") == strlen(text);
    int rc = number ? buf_puts(line, text, err) : csv_json(line, amount, err);
    return rc < 0 || buf_puts(line, ",", err) < 0
               ? -1
               : csv_json(line, json_object_get(value, "currency"), err);
}

static int csv_name(const json_t *column, struct buf *line, struct err *err)
{
    if (buf_puts(line, ",", err) < 0 || csv_text(line, col_name(column), err) < 0) {
        return -1;
    }
    if (is_money(column)) {
        char name[512];
        snprintf(name, sizeof(name), "%s currency", col_name(column));
        return buf_puts(line, ",", err) < 0 ? -1 : csv_text(line, name, err);
    }
    return 0;
}

static int csv_header(const struct export *x, struct buf *line, struct err *err)
{
    const json_t *lists[] = {x->columns,
                             x->rows_col ? json_object_get(x->rows_col, "itemColumns") : NULL};

    if (buf_puts(line, "\xEF\xBB\xBFid,fileId,file", err) < 0) {
        return -1;
    }
    for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
        size_t i;
        json_t *column;
        json_array_foreach(lists[k], i, column)
        {
            if (k == 0 && is_rows(column)) {
                continue;
            }
            if (csv_name(column, line, err) < 0) {
                return -1;
            }
        }
    }
    return buf_puts(line, "\r\n", err);
}

/* One line: the record's own columns, then those of one of its rows (may be NULL). */
static int csv_line(const struct export *x, const json_t *record, const char *file,
                    const json_t *row, struct buf *line, struct err *err)
{
    const json_t *values = json_object_get(record, "values");
    size_t i;
    json_t *column;

    if (csv_json(line, json_object_get(record, "id"), err) < 0 || buf_puts(line, ",", err) < 0 ||
        csv_json(line, json_object_get(record, "fileId"), err) < 0 ||
        buf_puts(line, ",", err) < 0 || csv_text(line, file, err) < 0) {
        return -1;
    }
    json_array_foreach(x->columns, i, column)
    {
        if (!is_rows(column) &&
            csv_cell(column, json_object_get(values, col_name(column)), line, err) < 0) {
            return -1;
        }
    }
    if (x->rows_col) {
        json_array_foreach(json_object_get(x->rows_col, "itemColumns"), i, column)
        {
            if (csv_cell(column, json_object_get(row, col_name(column)), line, err) < 0) {
                return -1;
            }
        }
    }
    return buf_puts(line, "\r\n", err);
}

/* More rows than a record shows: they are read on their own. */
static int csv_long_record(const struct export *x, const json_t *record, const char *file,
                           struct buf *line, struct err *err)
{
    struct db_num nums[2];
    int64_t after = -1;

    for (;;) {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        const char *params[] = {json_string_value(json_object_get(record, "id")),
                                json_string_value(json_object_get(x->rows_col, "id")),
                                db_num(&nums[0], after), db_num(&nums[1], EXPORT_ROWS)};
        if (db_run(x->gw->db, rows_sql, 4, params, &res, err) < 0) {
            return -1;
        }
        int n = PQntuples(res);
        for (int i = 0; i < n; i++) {
            CLEANUP(json_cleanup) json_t *stored = sql_json_doc(res, i, 1);
            CLEANUP(json_cleanup)
            json_t *row = record_named(json_object_get(x->rows_col, "itemColumns"), stored);
            if (csv_line(x, record, file, row, line, err) < 0) {
                return -1;
            }
            after = db_i64(res, i, 0);
        }
        if (n < EXPORT_ROWS) {
            return 0;
        }
    }
}

static int csv_record(const struct export *x, const json_t *record, const char *file,
                      struct buf *line, struct err *err)
{
    size_t i;
    json_t *row;

    if (!x->rows_col) {
        return csv_line(x, record, file, NULL, line, err);
    }
    if (json_is_object(json_object_get(json_object_get(record, "values"), col_name(x->rows_col)))) {
        return csv_long_record(x, record, file, line, err);
    }
    json_array_foreach(json_object_get(json_object_get(record, "values"), col_name(x->rows_col)), i,
                       row)
    {
        if (csv_line(x, record, file, row, line, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int write_page(const struct export *x, const json_t *items, const PGresult *res,
                      struct exchange *ex, struct err *err)
{
    size_t i;
    json_t *record;

    json_array_foreach(items, i, record)
    {
        CLEANUP(buf_done) struct buf line;
        CLEANUP(free_cleanup) char *json = NULL;
        buf_init(&line, LINE_MAX_BYTES);
        if (x->format == FORMAT_CSV) {
            if (csv_record(x, record, db_str(res, (int)i, 12), &line, err) < 0) {
                return -1;
            }
        } else {
            json = json_dumps(record, JSON_COMPACT | JSON_REAL_PRECISION(15));
            if (!json || buf_printf(&line, err, "%s\n", json) < 0) {
                return json ? -1 : err_nomem(err);
            }
        }
        if (line.len > 0 && exchange_write(ex, line.data, line.len, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int stream_export(void *ctx, struct exchange *ex, struct err *err)
{
    struct export *x = ctx;
    CLEANUP(buf_done) struct buf head;
    char last[UUID_TEXT] = "";
    struct db_num limit;

    buf_init(&head, 1 << 20);
    if (x->format == FORMAT_CSV &&
        (csv_header(x, &head, err) < 0 || exchange_write(ex, head.data, head.len, err) < 0)) {
        return -1;
    }
    for (;;) {
        CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        CLEANUP(json_cleanup) json_t *items = NULL;
        const char *params[] = {x->dataset_id, x->user_id, last[0] ? last : NULL,
                                db_num(&limit, EXPORT_PAGE)};
        if (db_acquire(x->gw->db, &conn, err) < 0 ||
            db_query(conn, list_sql, 4, params, &res, err) < 0) {
            return -1;
        }
        int n = PQntuples(res);
        if (record_json_list(conn, res, n, &items, err) < 0) {
            return -1;
        }
        db_release(STEAL(conn)); /* a slow client holds no connection */
        if (write_page(x, items, res, ex, err) < 0) {
            return -1;
        }
        if (n < EXPORT_PAGE) {
            return 0;
        }
        snprintf(last, sizeof(last), "%s", db_str(res, n - 1, 0));
    }
}

static const char version_sql[] = "SELECT schema_version, name FROM dataset"
                                  " WHERE dataset_id = $1::uuid AND user_id = $2::uuid"
                                  "   AND deleted_at IS NULL";

static int start_export(struct request *req, struct db_conn *conn, enum format format,
                        const char *rows, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0], req->who.user_id};
    struct export *x = calloc(1, sizeof(*x));
    size_t i;
    json_t *column;

    if (!x) {
        return err_nomem(err);
    }
    reply->stream_ctx = x;
    reply->stream_free = export_free;
    x->gw = req->gw;
    x->format = format;
    memcpy(x->dataset_id, req->params[0], UUID_TEXT);
    memcpy(x->user_id, req->who.user_id, UUID_TEXT);
    if (db_query(conn, version_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such dataset");
    }
    if (record_columns_load(conn, req->params[0], db_i64(res, 0, 0), &x->columns, err) < 0) {
        return -1;
    }
    json_array_foreach(x->columns, i, column)
    {
        if (rows && is_rows(column) && strcmp(col_name(column), rows) == 0) {
            x->rows_col = column;
        }
    }
    if (rows && !x->rows_col) {
        return err_set(err, ERR_PERMANENT, "bad_request", "rows names no column of rows");
    }
    reply->status = 200;
    reply->content_type = format == FORMAT_CSV ? "text/csv; charset=utf-8" : "application/x-ndjson";
    reply->stream = stream_export;
    reply->stream_len = -1;
    return reply_header(reply, "Content-Disposition",
                        format == FORMAT_CSV ? "attachment; filename=\"records.csv\""
                                             : "attachment; filename=\"records.ndjson\"",
                        err);
}

static int read_format(struct request *req, enum format *ret_format, struct err *err)
{
    const char *text = uri_arg(&req->uri, "format");
    const char *accept = req->headers[H_ACCEPT];

    if (!text) {
        *ret_format = accept_names(accept, "text/csv")               ? FORMAT_CSV
                      : accept_names(accept, "application/x-ndjson") ? FORMAT_NDJSON
                                                                     : FORMAT_JSON;
        return 0;
    }
    if (strcmp(text, "json") == 0) {
        *ret_format = FORMAT_JSON;
    } else if (strcmp(text, "csv") == 0) {
        *ret_format = FORMAT_CSV;
    } else if (strcmp(text, "ndjson") == 0) {
        *ret_format = FORMAT_NDJSON;
    } else {
        return err_set(err, ERR_PERMANENT, "bad_request", "format is json, ndjson or csv");
    }
    return 0;
}

int record_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    enum format format = FORMAT_JSON;
    struct list_page page;
    struct db_num limit;
    json_t *items = NULL;
    const char *rows = NULL;
    char *next = NULL;

    if (read_format(req, &format, err) < 0 ||
        uri_arg_text(&req->uri, "rows", COLUMN_NAME_MAX, &rows, err) < 0 ||
        list_page_read(req, "records", &page, err) < 0 || db_acquire(req->gw->db, &conn, err) < 0 ||
        dataset_require(conn, req, req->params[0], err) < 0) {
        return -1;
    }
    if (format != FORMAT_JSON) {
        req->audit.action = "record.export";
        return start_export(req, conn, format, rows, reply, err);
    }
    const char *params[] = {req->params[0], req->who.user_id,
                            page.has_cursor ? page.cursor.id : NULL,
                            db_num(&limit, page.limit + 1)};
    if (db_query(conn, list_sql, 4, params, &res, err) < 0) {
        return -1;
    }
    int n = PQntuples(res);
    int shown = n > page.limit ? (int)page.limit : n;
    if (record_json_list(conn, res, shown, &items, err) < 0) {
        return -1;
    }
    if (n > page.limit) {
        next = cursor_encode("records", db_str(res, shown - 1, 0), "");
    }
    return list_reply(reply, items, next, err);
}

/* Rows of one column, for those beyond what a record shows inline. */
static const char record_sql[] =
    "SELECT r.dataset_id, r.schema_version FROM record r JOIN file f ON f.file_id = r.file_id"
    " WHERE r.record_id = $1::uuid AND r.user_id = $2::uuid AND f.state < 6";

static const json_t *find_column(const json_t *columns, const char *id)
{
    size_t i;
    json_t *column;

    json_array_foreach(columns, i, column)
    {
        const char *cid = json_string_value(json_object_get(column, "id"));
        if (cid && strcmp(cid, id) == 0) {
            return column;
        }
    }
    return NULL;
}

int record_rows(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *own = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(json_cleanup) json_t *columns = NULL;
    const char *column = uri_arg(&req->uri, "column");
    int64_t limit = 0;
    int64_t after = 0;
    struct db_num nums[2];

    if (!column) {
        return err_set(err, ERR_PERMANENT, "bad_request", "column is needed");
    }
    if (uri_arg_int(&req->uri, "limit", 1, LIST_LIMIT_MAX, LIST_LIMIT, &limit, err) < 0 ||
        uri_arg_int(&req->uri, "after", 0, INT32_MAX, -1, &after, err) < 0 ||
        db_acquire(req->gw->db, &conn, err) < 0) {
        return -1;
    }
    const char *who[] = {req->params[0], req->who.user_id};
    const char *params[] = {req->params[0], column, db_num(&nums[0], after),
                            db_num(&nums[1], limit)};
    if (db_query(conn, record_sql, 2, who, &own, err) < 0) {
        return -1;
    }
    if (PQntuples(own) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such record");
    }
    if (record_columns_load(conn, db_str(own, 0, 0), db_i64(own, 0, 1), &columns, err) < 0 ||
        db_query(conn, rows_sql, 4, params, &res, err) < 0) {
        return -1;
    }
    const json_t *inner = json_object_get(find_column(columns, column), "itemColumns");
    json_t *items = json_array();
    int n = PQntuples(res);
    for (int i = 0; i < n; i++) {
        CLEANUP(json_cleanup) json_t *values = sql_json_doc(res, i, 1);
        CLEANUP(json_cleanup) json_t *cells = sql_json_doc(res, i, 2);
        json_array_append_new(
            items, json_pack("{s:I, s:o, s:o}", "row", (json_int_t)db_i64(res, i, 0), "values",
                             record_named(inner, values), "cells", record_named(inner, cells)));
    }
    json_t *doc = json_pack("{s:o, s:o}", "items", items, "nextAfter",
                            n == limit ? json_integer(db_i64(res, n - 1, 0)) : json_null());
    return reply_take_json(reply, 200, doc, err);
}
