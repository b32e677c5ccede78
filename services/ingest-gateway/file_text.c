/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file's text and words. Rows of file_page say where each page lies inside the units' objects;
 * nothing is put together but on its way out.
 */
#include "libcommon/doctext.h"
#include "libcommon/jget.h"
#include "services/ingest-gateway/cond.h"
#include "services/ingest-gateway/exchange.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/sql.h"

#include <stdio.h>
#include <string.h>

#define WORDS_BYTES_MAX ((size_t)32 << 20)
#define TEXT_TYPE "text/plain; charset=utf-8"

enum page_col {
    P_PAGE,
    P_ENGINE,
    P_CHARS,
    P_CONF,
    P_TEXT,
    P_TSTART,
    P_TBYTES,
    P_WORDS,
    P_WSTART,
    P_WBYTES,
    P_WIDTH,
    P_HEIGHT
};

static const char pages_sql[] =
    "SELECT DISTINCT ON (p.page) p.page, p.engine, p.chars, p.confidence, p.text_key,"
    "   p.text_start, p.text_bytes, p.words_key, p.words_start, p.words_bytes, p.width, p.height"
    " FROM file f JOIN file_page p ON p.file_id = f.file_id AND p.version = f.version"
    " WHERE f.file_id = $1::uuid AND f.user_id = $2::uuid AND f.state < 6"
    "   AND ($3::int IS NULL OR p.page = $3::int)"
    " ORDER BY p.page, (p.text_key IS NULL), p.generation DESC";

/* Rows of one page (0: all); "not_found" for a file that is not theirs. */
static int load_pages(struct request *req, int64_t page, PGresult **ret_res, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    struct db_num num;
    const char *params[] = {req->params[0], req->who.user_id, page ? db_num(&num, page) : NULL};

    if (db_acquire(req->gw->db, &conn, err) < 0 ||
        file_require(conn, req, req->params[0], err) < 0) {
        return -1;
    }
    return db_query(conn, pages_sql, 3, params, ret_res, err);
}

static int get_range(struct request *req, const PGresult *res, int row, enum page_col key,
                     size_t max, struct buf *ret_buf, struct err *err)
{
    struct store_range range = {.offset = (uint64_t)db_i64(res, row, (int)key + 1),
                                .length = (uint64_t)db_i64(res, row, (int)key + 2)};

    if (!db_str(res, row, (int)key) || range.length == 0) {
        return 0; /* an empty page */
    }
    return store_get_mem(req->gw->store, db_str(res, row, (int)key), range, max, ret_buf, err);
}

static int one_page(struct request *req, int64_t page, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(buf_done) struct buf text;

    buf_init(&text, DOCTEXT_PAGE_BYTES_MAX);
    if (load_pages(req, page, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "there is no text of that page (yet)");
    }
    if (get_range(req, res, 0, P_TEXT, DOCTEXT_PAGE_BYTES_MAX, &text, err) < 0) {
        return -1;
    }
    reply_take_buf(reply, 200, TEXT_TYPE, &text);
    return 0;
}

/* All pages, joined by form feeds. Pages of one object that lie one behind the other are read in
 * one request. */
struct text_stream {
    struct store *store;
    PGresult *res;
    struct exchange *ex;
    int row;     /* the page in work */
    int last;    /* of this object */
    uint64_t at; /* offset in the object of the next byte to come */
    bool begun;  /* something was written before */
};

static void text_stream_free(void *ctx)
{
    struct text_stream *t = ctx;

    PQclear(t->res);
    free(t);
}

static int text_sink(void *ctx, const char *data, size_t len, struct err *err)
{
    struct text_stream *t = ctx;

    while (len > 0 && t->row <= t->last) {
        uint64_t start = (uint64_t)db_i64(t->res, t->row, P_TSTART);
        uint64_t end = start + (uint64_t)db_i64(t->res, t->row, P_TBYTES);
        if (t->at < start) {
            size_t skip = (size_t)min_u64(len, start - t->at);
            data += skip;
            len -= skip;
            t->at += skip;
            continue;
        }
        size_t take = (size_t)min_u64(len, end - t->at);
        if (exchange_write(t->ex, data, take, err) < 0) {
            return -1;
        }
        data += take;
        len -= take;
        t->at += take;
        if (t->at == end) {
            t->row++;
            if (t->row <= t->last && exchange_write(t->ex, "\f", 1, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

static bool follows(const PGresult *res, int row)
{
    const char *a = db_str(res, row - 1, P_TEXT);
    const char *b = db_str(res, row, P_TEXT);

    return a && b && strcmp(a, b) == 0 && db_i64(res, row, P_TBYTES) > 0 &&
           db_i64(res, row, P_TSTART) >=
               db_i64(res, row - 1, P_TSTART) + db_i64(res, row - 1, P_TBYTES);
}

static int stream_text(void *ctx, struct exchange *ex, struct err *err)
{
    struct text_stream *t = ctx;
    int n = PQntuples(t->res);
    uint64_t ignored;

    t->ex = ex;
    for (int first = 0; first < n; first = t->last + 1) {
        t->last = first;
        while (t->last + 1 < n && follows(t->res, t->last + 1)) {
            t->last++;
        }
        if (first > 0 && exchange_write(ex, "\f", 1, err) < 0) {
            return -1;
        }
        const char *key = db_str(t->res, first, P_TEXT);
        if (!key || db_i64(t->res, first, P_TBYTES) == 0) {
            t->last = first;
            continue;
        }
        t->row = first;
        t->at = (uint64_t)db_i64(t->res, first, P_TSTART);
        uint64_t end =
            (uint64_t)(db_i64(t->res, t->last, P_TSTART) + db_i64(t->res, t->last, P_TBYTES));
        struct store_range range = {.offset = t->at, .length = end - t->at};
        if (store_get_cb(t->store, key, range, DOCTEXT_BYTES_MAX, text_sink, t, &ignored, err) <
            0) {
            return -1;
        }
    }
    return 0;
}

static json_t *page_list(const PGresult *res)
{
    json_t *pages = json_array();

    for (int i = 0; i < PQntuples(res); i++) {
        const char *conf = db_str(res, i, P_CONF);
        json_array_append_new(pages, json_pack("{s:I, s:I, s:o, s:o}", "page",
                                               (json_int_t)db_i64(res, i, P_PAGE), "chars",
                                               (json_int_t)db_i64(res, i, P_CHARS), "engine",
                                               sql_json_str(res, i, P_ENGINE), "confidence",
                                               conf ? json_real(strtod(conf, NULL)) : json_null()));
    }
    return json_pack("{s:o}", "pages", pages);
}

int file_text(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    int64_t page = 0;

    if (uri_arg_int(&req->uri, "page", 1, 100000, 0, &page, err) < 0) {
        return -1;
    }
    if (page > 0) {
        return one_page(req, page, reply, err);
    }
    if (load_pages(req, 0, &res, err) < 0) {
        return -1;
    }
    if (accept_prefers_json(req->headers[H_ACCEPT])) {
        return reply_take_json(reply, 200, page_list(res), err);
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "there is no text (yet)");
    }
    struct text_stream *t = calloc(1, sizeof(*t));
    if (!t) {
        return err_nomem(err);
    }
    t->store = req->gw->store;
    t->res = STEAL(res);
    reply->status = 200;
    reply->content_type = TEXT_TYPE;
    reply->stream = stream_text;
    reply->stream_ctx = t;
    reply->stream_free = text_stream_free;
    reply->stream_len = -1;
    return 0;
}

/* Four places of a page are finer than any screen. */
static double rounded(float value)
{
    return (double)(int)(value * 10000.0F + (value < 0 ? -0.5F : 0.5F)) / 10000.0;
}

static json_t *word_json(const struct doc_page *page, const struct doc_word *w)
{
    size_t a = doctext_byte_of(page, w->start);
    size_t b = doctext_byte_of(page, w->end);

    return json_pack("{s:s%, s:[f,f,f,f], s:f, s:[i,i]}", "text", page->text + a, b - a, "box",
                     rounded(w->x0), rounded(w->y0), rounded(w->x1), rounded(w->y1), "confidence",
                     rounded(w->conf), "span", (int)w->start, (int)w->end);
}

static int reply_words(struct request *req, int64_t page, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(doctext_cleanup) struct doctext *doc = doctext_new();
    CLEANUP(buf_done) struct buf text;
    CLEANUP(buf_done) struct buf words;

    buf_init(&text, DOCTEXT_PAGE_BYTES_MAX);
    buf_init(&words, WORDS_BYTES_MAX);
    if (!doc) {
        return err_nomem(err);
    }
    if (load_pages(req, page, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "there are no words of that page (yet)");
    }
    if (get_range(req, res, 0, P_TEXT, DOCTEXT_PAGE_BYTES_MAX, &text, err) < 0 ||
        get_range(req, res, 0, P_WORDS, WORDS_BYTES_MAX, &words, err) < 0 ||
        doctext_add_page(doc, (int)page, text.data ? text.data : "", text.len, words.data,
                         words.len, NULL, err) < 0) {
        return -1;
    }
    const struct doc_page *p = doctext_page(doc, (int)page);
    json_t *list = json_array();
    for (size_t i = 0; p && i < p->n_words; i++) {
        json_array_append_new(list, word_json(p, &p->words[i]));
    }
    double width = strtod(db_str(res, 0, P_WIDTH), NULL);
    double height = strtod(db_str(res, 0, P_HEIGHT), NULL);
    return reply_take_json(reply, 200,
                           json_pack("{s:I, s:f, s:f, s:o}", "page", (json_int_t)page, "width",
                                     width, "height", height, "words", list),
                           err);
}

int file_words(struct request *req, struct reply *reply, struct err *err)
{
    int64_t page = 0;

    if (uri_arg_int(&req->uri, "page", 1, 100000, 1, &page, err) < 0) {
        return -1;
    }
    return reply_words(req, page, reply, err);
}

/* Words that were drawn with the picture, for pages of which the text has none: text-like files,
 * and office files, whose pages exist in the preview only. */
static const char drawn_sql[] =
    "SELECT a.object_key FROM file f JOIN artifact a ON a.file_id = f.file_id"
    "   AND a.version = f.version AND a.stage = 4 AND a.kind = 'words'"
    " WHERE f.file_id = $1::uuid AND f.user_id = $2::uuid AND f.state < 6 AND a.page = $3::int"
    "   AND NOT EXISTS (SELECT 1 FROM file_page p WHERE p.file_id = f.file_id"
    "     AND p.version = f.version AND p.page = a.page AND p.words_key IS NOT NULL)"
    " ORDER BY a.generation DESC LIMIT 1";

/* Spans are those of the preview's own text, which is not stored: they are left out. */
static json_t *drawn_word(const json_t *row, const json_t *text)
{
    json_t *box = json_array();

    for (size_t i = 0; i < 4; i++) {
        json_array_append(box, json_array_get(row, i));
    }
    return json_pack("{s:O, s:o, s:O?}", "text", text, "box", box, "confidence",
                     json_array_get(row, 6));
}

static int reply_drawn(struct request *req, int64_t page, const char *key, struct reply *reply,
                       struct err *err)
{
    CLEANUP(buf_done) struct buf data;
    CLEANUP(json_cleanup) json_t *doc = NULL;
    size_t i;
    json_t *row;

    buf_init(&data, WORDS_BYTES_MAX);
    if (store_get_mem(req->gw->store, key, STORE_WHOLE, WORDS_BYTES_MAX, &data, err) < 0 ||
        jget_load(data.data, data.len, WORDS_BYTES_MAX, &doc, err) < 0) {
        return -1;
    }
    const json_t *texts = json_object_get(doc, "texts");
    json_t *list = json_array();
    json_array_foreach(json_object_get(doc, "words"), i, row)
    {
        const json_t *text = json_array_get(texts, i);
        if (json_is_string(text) && json_array_size(row) >= 6) {
            json_array_append_new(list, drawn_word(row, text));
        }
    }
    return reply_take_json(reply, 200,
                           json_pack("{s:I, s:O?, s:O?, s:o}", "page", (json_int_t)page, "width",
                                     json_object_get(doc, "width"), "height",
                                     json_object_get(doc, "height"), "words", list),
                           err);
}

int preview_words(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0], req->who.user_id, req->params[1]};
    int64_t page = 0;

    if (!decimal_parse(req->params[1], 1, 100000, &page)) {
        return err_set(err, ERR_PERMANENT, "not_found", "no such page");
    }
    if (db_run(req->gw->db, drawn_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    return PQntuples(res) > 0 ? reply_drawn(req, page, db_str(res, 0, 0), reply, err)
                              : reply_words(req, page, reply, err);
}

static const char preview_sql[] =
    "SELECT DISTINCT ON (a.page) a.page, a.meta,"
    "   EXISTS (SELECT 1 FROM file_page p WHERE p.file_id = f.file_id AND p.version = f.version"
    "     AND p.page = a.page AND p.words_key IS NOT NULL)"
    "   OR EXISTS (SELECT 1 FROM artifact w WHERE w.file_id = f.file_id AND w.version = f.version"
    "     AND w.page = a.page AND w.stage = 4 AND w.kind = 'words')"
    " FROM file f JOIN artifact a ON a.file_id = f.file_id AND a.version = f.version"
    " WHERE f.file_id = $1::uuid AND f.user_id = $2::uuid AND f.state < 6 AND a.kind = 'page'"
    " ORDER BY a.page, a.generation DESC";

int preview_get(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {req->params[0], req->who.user_id};

    if (db_acquire(req->gw->db, &conn, err) < 0 ||
        file_require(conn, req, req->params[0], err) < 0) {
        return -1;
    }
    if (db_query(conn, preview_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    json_t *pages = json_array();
    for (int i = 0; i < PQntuples(res); i++) {
        CLEANUP(json_cleanup) json_t *meta = sql_json_doc(res, i, 1);
        char href[128];
        char words[128];
        snprintf(href, sizeof(href), "/api/v1/files/%s/preview/%s.webp", req->params[0],
                 db_str(res, i, 0));
        snprintf(words, sizeof(words), "/api/v1/files/%s/preview/%s/words", req->params[0],
                 db_str(res, i, 0));
        json_array_append_new(pages, json_pack("{s:I, s:O?, s:O?, s:s, s:s?}", "page",
                                               (json_int_t)db_i64(res, i, 0), "width",
                                               json_object_get(meta, "width"), "height",
                                               json_object_get(meta, "height"), "href", href,
                                               "textHref", db_bool(res, i, 2) ? words : NULL));
    }
    return reply_take_json(reply, 200,
                           json_pack("{s:o, s:i}", "pages", pages, "total", PQntuples(res)), err);
}
