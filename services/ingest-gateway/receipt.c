/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch's receipt: what came of each file of one upload, refused ones too, with totals and a
 * digest over the lines, so that a copy can be checked later without this service.
 * Invariant: all lines and totals are of one snapshot, and the totals are those of the lines.
 */
#include "libcommon/receipt.h"
#include "libcommon/names.h"
#include "libcommon/reason.h"
#include "libcommon/sha256.h"
#include "libcommon/states.h"
#include "services/ingest-gateway/csv.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/sql.h"

#include <stdio.h>
#include <string.h>

#define FORMAT_NAME "docfleet-receipt-1"
#define RECEIPT_MAX ((size_t)256 << 20)
#define PAGE_LINES 500

static const char batch_sql[] =
    "SELECT b.dataset_id, d.name, b.accepted, b.rejected, b.rejects, " SQL_TIME(
        "b.created_at") ", " SQL_TIME("now()") ", to_char(b.created_at AT TIME ZONE 'UTC',"
                                               "   'YYYY-MM-DD') FROM batch b JOIN dataset d USING "
                                               "(dataset_id)"
                                               " WHERE b.batch_id = $1::uuid AND b.user_id = "
                                               "$2::uuid AND d.deleted_at IS NULL";

/* Attempts are those of the newest run; the time of the end is known once it is over. */
static const char lines_sql[] =
    "SELECT f.file_id, f.name, f.bytes, v.sha256, v.mime, f.version, f.generation, f.state,"
    "   f.main_state, f.preview_state, f.thumb_state, f.errors, " SQL_TIME(
        "f.accepted_at") ", "
                         "   CASE WHEN f.state > 1 THEN " SQL_TIME(
                             "f.updated_at") " END,"
                                             "   (SELECT jsonb_agg(r.record_id ORDER BY r.doc_no) "
                                             "FROM record r WHERE r.file_id = f.file_id"
                                             "      AND r.generation = f.record_generation),"
                                             "   t.main, t.preview, t.thumb"
                                             " FROM file f LEFT JOIN file_version v ON v.file_id = "
                                             "f.file_id AND v.version = f.version"
                                             " LEFT JOIN LATERAL (SELECT sum(attempts) FILTER "
                                             "(WHERE stage <= 3) AS main,"
                                             "      sum(attempts) FILTER (WHERE stage = 4) AS "
                                             "preview,"
                                             "      sum(attempts) FILTER (WHERE stage = 5) AS "
                                             "thumb FROM task"
                                             "    WHERE task.file_id = f.file_id AND "
                                             "task.generation = f.generation AND stage < 6) t ON "
                                             "true"
                                             " WHERE f.batch_id = $1::uuid AND ($2::uuid IS NULL "
                                             "OR f.file_id > $2::uuid)"
                                             " ORDER BY f.file_id LIMIT $3::int";

struct receipt {
    json_t *lines;
    int64_t by_state[FILE_DELETED + 1];
    int64_t listed, refused, bytes;
    bool open; /* some file is still in work */
};

static void receipt_done(struct receipt *r)
{
    json_decref(r->lines);
}

static json_t *outcome_json(const json_t *errors, const char *pipeline, int64_t state, bool over,
                            int64_t attempts)
{
    const json_t *error = json_object_get(errors, pipeline);
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *name =
        state == PIPE_LIVE ? (over ? "cancelled" : "open") : pipeline_state_name((int)state);

    return json_pack("{s:s?, s:s?, s:s?, s:s?, s:I}", "outcome", name, "code", code, "reason",
                     code ? reason_find(code)->text : NULL, "detail",
                     json_string_value(json_object_get(error, "detail")), "attempts",
                     (json_int_t)attempts);
}

static json_t *line_json(const PGresult *res, int i, int64_t number)
{
    CLEANUP(json_cleanup) json_t *errors = sql_json_doc(res, i, 11);
    json_t *records = sql_json_doc(res, i, 14);
    int64_t state = db_i64(res, i, 7);
    bool over = state > FILE_PROCESSING;

    if (!json_is_array(records)) {
        json_decref(records);
        records = json_array();
    }
    return json_pack(
        "{s:I, s:s, s:o, s:o, s:I, s:o, s:o, s:I, s:I, s:s, s:o, s:o, s:o, s:{s:o, s:o, s:o}}",
        "line", (json_int_t)number, "kind", "file", "id", sql_json_str(res, i, 0), "name",
        sql_json_str(res, i, 1), "size", (json_int_t)db_i64(res, i, 2), "sha256",
        sql_json_str(res, i, 3), "mime", sql_json_str(res, i, 4), "version",
        (json_int_t)db_i64(res, i, 5), "generation", (json_int_t)db_i64(res, i, 6), "state",
        state >= FILE_DELETING ? "deleted" : file_state_name((int)state), "acceptedAt",
        sql_json_str(res, i, 12), "finishedAt", sql_json_str(res, i, 13), "records", records,
        "pipelines", "main",
        outcome_json(errors, "main", db_i64(res, i, 8), over, db_i64(res, i, 15)), "preview",
        outcome_json(errors, "preview", db_i64(res, i, 9), over, db_i64(res, i, 16)), "thumbnail",
        outcome_json(errors, "thumbnail", db_i64(res, i, 10), over, db_i64(res, i, 17)));
}

static int add_line(struct receipt *r, json_t *line, struct err *err)
{
    return json_array_append_new(r->lines, line) < 0 ? err_nomem(err) : 0;
}

/* Page by page; all pages see the transaction's one snapshot. */
static int add_files(struct request *req, struct db_conn *conn, struct receipt *r, struct err *err)
{
    char after[UUID_TEXT] = "";
    struct db_num limit;

    for (;;) {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        const char *params[] = {req->params[0], after[0] ? after : NULL,
                                db_num(&limit, PAGE_LINES)};
        if (db_query(conn, lines_sql, 3, params, &res, err) < 0) {
            return -1;
        }
        int n = PQntuples(res);
        for (int i = 0; i < n; i++) {
            int64_t state = db_i64(res, i, 7);
            if (add_line(r, line_json(res, i, ++r->listed), err) < 0) {
                return -1;
            }
            r->bytes += db_i64(res, i, 2);
            r->open = r->open || state <= FILE_PROCESSING;
            if (state >= 0 && state <= FILE_DELETED) {
                r->by_state[state]++;
            }
            snprintf(after, sizeof(after), "%s", PQgetvalue(res, i, 0));
        }
        if (n < PAGE_LINES) {
            return 0;
        }
    }
}

static int add_refused(struct receipt *r, const json_t *rejects, struct err *err)
{
    size_t i;
    json_t *reject;

    json_array_foreach(rejects, i, reject)
    {
        const char *code = json_string_value(json_object_get(reject, "code"));
        json_t *line =
            json_pack("{s:I, s:s, s:O?, s:s, s:s?, s:s, s:O?}", "line",
                      (json_int_t)r->listed + (json_int_t)++r->refused, "kind", "refused", "name",
                      json_object_get(reject, "name"), "state", "refused", "code", code, "reason",
                      reason_find(code)->text, "detail", json_object_get(reject, "detail"));
        if (add_line(r, line, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static json_t *totals_json(const struct receipt *r, const PGresult *batch)
{
    json_int_t accepted = (json_int_t)db_i64(batch, 0, 2);
    json_int_t rejected = (json_int_t)db_i64(batch, 0, 3);
    json_t *states = json_object();

    for (int s = 0; s < FILE_DELETING; s++) {
        json_object_set_new(states, file_state_name(s), json_integer(r->by_state[s]));
    }
    json_object_set_new(states, "deleted",
                        json_integer(r->by_state[FILE_DELETING] + r->by_state[FILE_DELETED]));
    /* Rows of deleted files are forgotten after some days. */
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "total", accepted + rejected, "accepted",
                     accepted, "rejected", rejected, "forgotten", accepted - (json_int_t)r->listed,
                     "bytes", (json_int_t)r->bytes, "byState", states);
}

static int reply_json(struct request *req, const struct receipt *r, const PGresult *batch,
                      struct reply *reply, struct err *err)
{
    char hex[SHA256_HEX_SIZE];

    if (receipt_digest(r->lines, hex, err) < 0) {
        return -1;
    }
    json_t *doc = json_pack(
        "{s:s, s:{s:s, s:o, s:o, s:o}, s:o, s:b, s:o, s:O, s:{s:s, s:s, s:s}}", "format",
        FORMAT_NAME, "batch", "id", req->params[0], "datasetId", sql_json_str(batch, 0, 0),
        "dataset", sql_json_str(batch, 0, 1), "createdAt", sql_json_str(batch, 0, 5), "issuedAt",
        sql_json_str(batch, 0, 6), "final", (int)!r->open, "totals", totals_json(r, batch), "lines",
        r->lines, "digest", "algorithm", "sha-256", "over",
        "each line as compact JSON with sorted keys and a line feed", "value", hex);
    return reply_take_json(reply, 200, doc, err);
}

static const char csv_head[] =
    "\xEF\xBB\xBFline,kind,id,name,size,sha256,mime,version,state,code,reason,records,"
    "main,main attempts,preview,preview attempts,thumbnail,thumbnail attempts,accepted,finished"
    "\r\n";

static int csv_cell(const json_t *value, struct buf *buf, struct err *err)
{
    return buf_puts(buf, ",", err) < 0 ? -1 : csv_json(buf, value, err);
}

static int csv_records(const json_t *records, struct buf *buf, struct err *err)
{
    size_t i;
    json_t *id;

    if (buf_puts(buf, ",", err) < 0) {
        return -1;
    }
    json_array_foreach(records, i, id)
    {
        if (buf_printf(buf, err, "%s%s", i ? " " : "", json_string_value(id)) < 0) {
            return -1;
        }
    }
    return 0;
}

static int csv_line(const json_t *line, struct buf *buf, struct err *err)
{
    static const char *const first[] = {"kind",   "id",   "name",    "size",
                                        "sha256", "mime", "version", "state"};
    static const char *const pipes[] = {"main", "preview", "thumbnail"};
    const json_t *all = json_object_get(line, "pipelines");
    const json_t *main = json_object_get(all, "main");
    const json_t *why = main ? main : line; /* of a refused part, its own */

    if (csv_json(buf, json_object_get(line, "line"), err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(first); i++) {
        if (csv_cell(json_object_get(line, first[i]), buf, err) < 0) {
            return -1;
        }
    }
    if (csv_cell(json_object_get(why, "code"), buf, err) < 0 ||
        csv_cell(json_object_get(why, "reason"), buf, err) < 0 ||
        csv_records(json_object_get(line, "records"), buf, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(pipes); i++) {
        const json_t *pipe = json_object_get(all, pipes[i]);
        if (csv_cell(json_object_get(pipe, "outcome"), buf, err) < 0 ||
            csv_cell(json_object_get(pipe, "attempts"), buf, err) < 0) {
            return -1;
        }
    }
    return csv_cell(json_object_get(line, "acceptedAt"), buf, err) < 0 ||
                   csv_cell(json_object_get(line, "finishedAt"), buf, err) < 0
               ? -1
               : buf_puts(buf, "\r\n", err);
}

/* The last line is the digest of all bytes before it. */
static int reply_csv(const struct receipt *r, const PGresult *batch, struct reply *reply,
                     struct err *err)
{
    CLEANUP(buf_done) struct buf buf;
    char hex[SHA256_HEX_SIZE];
    long long accepted = (long long)db_i64(batch, 0, 2);
    long long rejected = (long long)db_i64(batch, 0, 3);
    size_t i;
    json_t *line;

    buf_init(&buf, RECEIPT_MAX);
    if (buf_puts(&buf, csv_head, err) < 0) {
        return -1;
    }
    json_array_foreach(r->lines, i, line)
    {
        if (csv_line(line, &buf, err) < 0) {
            return -1;
        }
    }
    if (buf_printf(&buf, err,
                   ",total,,%lld files: %lld accepted and %lld refused,%lld,,,,%s,,,,,,,,,,,\r\n",
                   accepted + rejected, accepted, rejected, (long long)r->bytes,
                   r->open ? "open" : "final") < 0 ||
        sha256_hex(buf.data, buf.len, hex, err) < 0 ||
        buf_printf(&buf, err, ",sha256 of the lines above,,,,%s,,,,,,,,,,,,,,\r\n", hex) < 0) {
        return -1;
    }
    reply_take_buf(reply, 200, "text/csv; charset=utf-8", &buf);
    return 0;
}

static int want_csv(const struct request *req, bool *ret_csv, struct err *err)
{
    const char *format = uri_arg(&req->uri, "format");
    const char *accept = req->headers[H_ACCEPT];

    if (format && strcmp(format, "csv") != 0 && strcmp(format, "json") != 0) {
        return err_set(err, ERR_PERMANENT, "bad_request", "format is json or csv");
    }
    *ret_csv = format ? format[0] == 'c' : accept && strstr(accept, "text/csv");
    return 0;
}

/* "receipt invoices 2026-11-22 8f3c….csv" */
static int add_name(struct request *req, const PGresult *batch, bool csv, struct reply *reply,
                    struct err *err)
{
    CLEANUP(buf_done) struct buf disposition;
    char name[400];
    char shown[210];
    const char *dataset = db_str(batch, 0, 1);

    name_for_display(dataset, strlen(dataset), shown, sizeof(shown));
    for (char *s = shown; *s != '\0'; s++) {
        *s = strchr("/\\:*?\"<>|", *s) ? '-' : *s;
    }
    snprintf(name, sizeof(name), "receipt %s %s %.8s.%s", shown, db_str(batch, 0, 7),
             req->params[0] + UUID_TEXT - 9, csv ? "csv" : "json");
    buf_init(&disposition, 4096);
    return name_disposition("attachment", name, &disposition, err) < 0
               ? -1
               : reply_header(reply, "Content-Disposition", disposition.data, err);
}

int batch_receipt(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(receipt_done) struct receipt r = {.lines = json_array()};
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *batch = NULL;
    CLEANUP(json_cleanup) json_t *rejects = NULL;
    const char *params[] = {req->params[0], req->who.user_id};
    bool csv = false;

    if (want_csv(req, &csv, err) < 0 || db_acquire(req->gw->db, &conn, err) < 0 ||
        db_begin_snapshot(conn, err) < 0 || db_query(conn, batch_sql, 2, params, &batch, err) < 0) {
        return -1;
    }
    if (PQntuples(batch) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such batch");
    }
    rejects = sql_json_doc(batch, 0, 4);
    if (add_files(req, conn, &r, err) < 0 || add_refused(&r, rejects, err) < 0) {
        return -1;
    }
    db_release(STEAL(conn));
    if ((csv ? reply_csv(&r, batch, reply, err) : reply_json(req, &r, batch, reply, err)) < 0) {
        return -1;
    }
    return add_name(req, batch, csv, reply, err);
}
