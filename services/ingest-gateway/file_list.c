/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of files by keyset: the page's ids first, by one index, then what is shown of them.
 */
#include "libcommon/states.h"
#include "services/ingest-gateway/file_filter.h"
#include "services/ingest-gateway/file_json.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"

#include <stdio.h>
#include <string.h>

#define TIMELINE_MAX "1000"

/* Both columns of a key run in one direction, or the index is of no use. */
struct sort {
    const char *name;
    const char *value; /* text of the key's first column, for the cursor */
    const char *order;
    const char *after; /* %1$d value, %2$d id */
};

static const struct sort sorts[] = {
    {"-createdAt", "''", "f.file_id DESC", " AND f.file_id < $%2$d::uuid"},
    {"createdAt", "''", "f.file_id", " AND f.file_id > $%2$d::uuid"},
    {"name", "f.name", "f.name USING ~<~, f.file_id",
     " AND f.name ~>=~ $%1$d AND (f.name ~>~ $%1$d OR f.file_id > $%2$d::uuid)"},
    {"-name", "f.name", "f.name USING ~>~, f.file_id DESC",
     " AND f.name ~<=~ $%1$d AND (f.name ~<~ $%1$d OR f.file_id < $%2$d::uuid)"},
    {"size", "f.bytes::text", "f.bytes, f.file_id",
     " AND (f.bytes, f.file_id) > ($%1$d::bigint, $%2$d::uuid)"},
    {"-size", "f.bytes::text", "f.bytes DESC, f.file_id DESC",
     " AND (f.bytes, f.file_id) < ($%1$d::bigint, $%2$d::uuid)"},
};

/* "name", "-name", "name:asc", "name:desc". */
static const struct sort *find_sort(const char *text)
{
    char name[24];
    size_t n = strcspn(text, ":");

    if (text[n] == ':') {
        bool desc = strcmp(text + n, ":desc") == 0;
        if (n >= sizeof(name) - 1 || (!desc && strcmp(text + n, ":asc") != 0)) {
            return NULL;
        }
        snprintf(name, sizeof(name), "%s%.*s", desc ? "-" : "", (int)n, text);
        text = name;
    }
    for (size_t i = 0; i < ARRAY_LEN(sorts); i++) {
        if (strcmp(sorts[i].name, text) == 0) {
            return &sorts[i];
        }
    }
    return NULL;
}

/* Each sort's condition, written out, since a format must be a literal. */
static int add_after(struct query *query, const struct sort *sort, const struct cursor *cursor,
                     struct err *err)
{
    int id = query_param(query, cursor->id);
    int value = sort->value[0] == '\'' ? 0 : query_param(query, cursor->value);
    char text[256];
    size_t o = 0;

    if (id < 0 || value < 0) {
        return err_nomem(err);
    }
    for (const char *s = sort->after; *s != '\0' && o + 8 < sizeof(text);) {
        if (strncmp(s, "%1$d", 4) == 0 || strncmp(s, "%2$d", 4) == 0) {
            int n = snprintf(text + o, sizeof(text) - o, "%d", s[1] == '1' ? value : id);
            o += (size_t)n;
            s += 4;
        } else {
            text[o++] = *s++;
        }
    }
    text[o] = '\0';
    return buf_puts(&query->sql, text, err);
}

static int build_list(struct request *req, const struct sort *sort, const struct list_page *page,
                      const struct file_filter *filter, struct query *query, struct err *err)
{
    struct db_num limit;

    if (query_param(query, req->params[0]) < 0 || query_param(query, req->who.user_id) < 0 ||
        query_param(query, db_num(&limit, page->limit + 1)) < 0) {
        return err_nomem(err);
    }
    if (buf_printf(&query->sql, err,
                   "SELECT f.file_id, %s FROM file_visible f WHERE f.dataset_id = $1::uuid"
                   " AND f.user_id = $2::uuid AND f.state < 6",
                   sort->value) < 0 ||
        file_filter_sql(filter, query, err) < 0 ||
        (page->has_cursor && add_after(query, sort, &page->cursor, err) < 0)) {
        return -1;
    }
    return buf_printf(&query->sql, err, " ORDER BY %s LIMIT $3::int", sort->order);
}

static int reply_page(struct request *req, struct db_conn *conn, const PGresult *res,
                      const struct sort *sort, int64_t limit, struct reply *reply, struct err *err)
{
    CLEANUP(buf_done) struct buf ids;
    json_t *items = NULL;
    char *next = NULL;
    int n = PQntuples(res);

    buf_init(&ids, 16384);
    if (buf_puts(&ids, "{", err) < 0) {
        return -1;
    }
    for (int i = 0; i < n && i < limit; i++) {
        if (buf_printf(&ids, err, "%s%s", i ? "," : "", db_str(res, i, 0)) < 0) {
            return -1;
        }
    }
    if (buf_puts(&ids, "}", err) < 0 ||
        file_json_load(conn, req->who.user_id, ids.data, &items, err) < 0) {
        return -1;
    }
    if (n > limit) {
        int last = (int)limit - 1;
        next = cursor_encode(sort->name, db_str(res, last, 0), db_str(res, last, 1));
    }
    return list_reply(reply, items, next, err);
}

/* A name that is in half of a million files: better told than waited for. */
static int slow_search(struct err *err)
{
    if (strcmp(err->code, "db_conflict") == 0) {
        return err_set(err, ERR_TRANSIENT, "search_timeout",
                       "the search took longer than a second; please search for more letters");
    }
    return -1;
}

int file_list(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(query_done) struct query query;
    const char *name = uri_arg(&req->uri, "sort");
    const struct sort *sort = find_sort(name ? name : "-createdAt");
    struct file_filter filter;
    struct list_page page;

    query_init(&query);
    if (!sort) {
        return err_set(err, ERR_PERMANENT, "bad_request",
                       "sort is one of createdAt, name, size, each also with a minus in front");
    }
    if (file_filter_read(req, &filter, err) < 0 ||
        list_page_read(req, sort->name, &page, err) < 0 ||
        build_list(req, sort, &page, &filter, &query, err) < 0) {
        return -1;
    }
    if (page.has_cursor && sort->value[0] == 'f' && strstr(sort->name, "size")) {
        int64_t ignored;
        if (!decimal_parse(page.cursor.value, 0, INT64_MAX, &ignored)) {
            return err_set(err, ERR_PERMANENT, "bad_request", "the cursor cannot be read");
        }
    }
    bool search = file_filter_searches(&filter);
    if (db_acquire(search ? req->gw->search_db : req->gw->db, &conn, err) < 0 ||
        dataset_require(conn, req, req->params[0], err) < 0) {
        return -1;
    }
    if (db_query_dynamic(conn, query.sql.data, query.n, query.params, &res, err) < 0) {
        return search ? slow_search(err) : -1;
    }
    return reply_page(req, conn, res, sort, page.limit, reply, err);
}

int file_get(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(json_cleanup) json_t *files = NULL;
    char ids[UUID_TEXT + 2];

    snprintf(ids, sizeof(ids), "{%s}", req->params[0]);
    if (db_acquire(req->gw->db, &conn, err) < 0 ||
        file_json_load(conn, req->who.user_id, ids, &files, err) < 0) {
        return -1;
    }
    if (json_array_size(files) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such file");
    }
    return reply_take_json(reply, 200, json_incref(json_array_get(files, 0)), err);
}

static const char timeline_sql[] = "SELECT " SQL_TIME(
    "e.at") ", e.kind, e.stage, e.body FROM file f JOIN event e USING (file_id)"
            " WHERE f.file_id = $1::uuid AND f.user_id = $2::uuid AND f.state < 6"
            " ORDER BY e.at, e.event_id LIMIT " TIMELINE_MAX;

int file_timeline(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0], req->who.user_id};

    if (db_acquire(req->gw->db, &conn, err) < 0 ||
        file_require(conn, req, req->params[0], err) < 0) {
        return -1;
    }
    if (db_query(conn, timeline_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    json_t *items = json_array();
    for (int i = 0; i < PQntuples(res); i++) {
        json_array_append_new(
            items, json_pack("{s:o, s:o, s:s?, s:o}", "at", sql_json_str(res, i, 0), "kind",
                             sql_json_str(res, i, 1), "stage", stage_name((int)db_i64(res, i, 2)),
                             "detail", sql_json_doc(res, i, 3)));
    }
    return list_reply(reply, items, NULL, err);
}
