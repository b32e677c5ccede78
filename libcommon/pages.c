/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two growing buffers and a list of where each page lies in them.
 */
#include "libcommon/pages.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/buf.h"
#include "libcommon/jget.h"
#include "libcommon/sha256.h"
#include "libcommon/utf8.h"

struct sink_page {
    int page;
    char engine[16];
    double confidence, width, height;
    bool needs_ocr, has_words;
    int64_t chars;
    uint64_t text_start, text_bytes, words_start, words_bytes;
};

struct page_sink {
    struct sink_page *pages;
    size_t n, cap, need_ocr;
    int64_t chars;
    struct buf text, words;
};

int page_sink_new(struct page_sink **ret_sink, struct err *err)
{
    struct page_sink *sink = calloc(1, sizeof(*sink));

    if (!sink) {
        return err_nomem(err);
    }
    buf_init(&sink->text, PAGES_TEXT_MAX);
    buf_init(&sink->words, PAGES_WORDS_MAX);
    *ret_sink = sink;
    return 0;
}

void page_sink_free(struct page_sink *sink)
{
    if (sink) {
        buf_done(&sink->text);
        buf_done(&sink->words);
        free(sink->pages);
        free(sink);
    }
}

static int64_t count_cp(const char *text, size_t len)
{
    int64_t n = 0;

    for (size_t i = 0; i < len; i++) {
        n += ((unsigned char)text[i] & 0xc0U) != 0x80U ? 1 : 0;
    }
    return n;
}

/* Pages that are thinner than a hair, or longer than a PDF can be (14,400 units of 75,000 points),
 * have no size that anybody could use, and not all of theirs fit into the columns, which are
 * floats. */
static double size_of(double points)
{
    return points >= 0.01 && points <= 1.08e9 ? points : 0;
}

/* To a ten thousandth, for the same reason; below 0: not known. */
static double part_of(double confidence)
{
    return confidence < 0 ? -1 : round(fmin(confidence, 1) * 1e4) / 1e4;
}

int page_sink_page(struct page_sink *sink, int page, const char *engine, double confidence,
                   double width, double height, bool needs_ocr, const char *text, size_t len,
                   struct err *err)
{
    if (page < 1 || sink->n >= DOCTEXT_PAGES_MAX || !utf8_valid(text, len)) {
        return err_set(err, ERR_UNKNOWN, "child_crashed", "the parser sent a page that is none");
    }
    if (sink->n == sink->cap) {
        size_t cap = sink->cap ? sink->cap * 2 : 16;
        struct sink_page *pages = realloc(sink->pages, cap * sizeof(*pages));
        if (!pages) {
            return err_nomem(err);
        }
        sink->pages = pages;
        sink->cap = cap;
    }
    if (sink->n > 0 && buf_append(&sink->text, "\f", 1, err) < 0) {
        return -1;
    }
    struct sink_page *p = &sink->pages[sink->n];
    *p = (struct sink_page){.page = page,
                            .confidence = part_of(confidence),
                            .width = size_of(width),
                            .height = size_of(height),
                            .needs_ocr = needs_ocr,
                            .chars = count_cp(text, len),
                            .text_start = sink->text.len,
                            .text_bytes = len};
    snprintf(p->engine, sizeof(p->engine), "%s", engine);
    if (buf_append(&sink->text, text, len, err) < 0) {
        return -1;
    }
    sink->n++;
    sink->need_ocr += needs_ocr ? 1 : 0;
    sink->chars += p->chars;
    return 0;
}

int page_sink_words(struct page_sink *sink, int page, const char *line, size_t len, struct err *err)
{
    struct sink_page *p = sink->n > 0 ? &sink->pages[sink->n - 1] : NULL;

    if (!p || p->page != page || p->has_words || memchr(line, '\n', len)) {
        return err_set(err, ERR_UNKNOWN, "child_crashed", "the parser sent words of no page");
    }
    p->has_words = true;
    p->words_start = sink->words.len;
    p->words_bytes = len;
    return buf_append(&sink->words, line, len, err) < 0 ||
                   buf_append(&sink->words, "\n", 1, err) < 0
               ? -1
               : 0;
}

static double real_of(const json_t *meta, const char *name, double fallback)
{
    const json_t *value = json_object_get(meta, name);

    return json_is_number(value) ? json_number_value(value) : fallback;
}

int page_sink_frame(struct page_sink *sink, const struct frame *frame, bool *ret_taken,
                    struct err *err)
{
    int64_t page = 0;
    bool needs = false;
    const char *engine;

    *ret_taken = false;
    if (strcmp(frame->type, "page") == 0) {
        *ret_taken = true;
        if (jget_int(frame->meta, "page", 1, INT32_MAX, &page, err) < 0 ||
            jget_opt_bool(frame->meta, "needsOcr", false, &needs, err) < 0 ||
            jget_opt_str(frame->meta, "engine", 15, "native", &engine, err) < 0) {
            return -1;
        }
        return page_sink_page(sink, (int)page, engine, real_of(frame->meta, "confidence", -1),
                              real_of(frame->meta, "width", 0), real_of(frame->meta, "height", 0),
                              needs, frame->payload, frame->len, err);
    }
    if (strcmp(frame->type, "words") == 0) {
        *ret_taken = true;
        if (jget_int(frame->meta, "page", 1, INT32_MAX, &page, err) < 0) {
            return -1;
        }
        return page_sink_words(sink, (int)page, frame->payload, frame->len, err);
    }
    return 0;
}

/* What a slice is checked by when it is read back. */
#define SUM_SIZE 17
static int sum_of(const char *data, size_t len, char sum[SUM_SIZE], struct err *err)
{
    char hex[SHA256_HEX_SIZE];

    if (sha256_hex(data ? data : "", len, hex, err) < 0) {
        return -1;
    }
    snprintf(sum, SUM_SIZE, "%.16s", hex);
    return 0;
}

static int add_row(const struct page_sink *sink, const struct sink_page *p, struct job *job,
                   const char *text_key, const char *words_key, struct err *err)
{
    char text_sum[SUM_SIZE], words_sum[SUM_SIZE] = "";

    if (sum_of(sink->text.data ? sink->text.data + p->text_start : NULL, p->text_bytes, text_sum,
               err) < 0 ||
        (p->has_words &&
         sum_of(sink->words.data + p->words_start, p->words_bytes, words_sum, err) < 0)) {
        return -1;
    }
    return outcome_page(job->out,
                        &(struct outcome_page){.page = p->page,
                                               .engine = p->engine,
                                               .chars = p->chars,
                                               .confidence = p->confidence,
                                               .width = p->width,
                                               .height = p->height,
                                               .needs_ocr = p->needs_ocr,
                                               .text_key = text_key,
                                               .text_start = p->text_start,
                                               .text_bytes = p->text_bytes,
                                               .text_sum = text_sum,
                                               .words_sum = p->has_words ? words_sum : NULL,
                                               .words_key = p->has_words ? words_key : NULL,
                                               .words_start = p->words_start,
                                               .words_bytes = p->words_bytes},
                        err);
}

int page_sink_store(struct page_sink *sink, struct job *job, struct err *err)
{
    const char *text_key = NULL, *words_key = NULL;

    if (sink->n == 0) {
        return 0;
    }
    if (job_put(job, "text", sink->text.data ? sink->text.data : "", sink->text.len,
                "text/plain; charset=utf-8", &text_key, err) < 0 ||
        outcome_artifact(job->out, "text", 0, text_key, sink->text.len, "text/plain; charset=utf-8",
                         NULL, err) < 0) {
        return -1;
    }
    if (sink->words.len > 0 && (job_put(job, "words", sink->words.data, sink->words.len,
                                        "application/x-ndjson", &words_key, err) < 0 ||
                                outcome_artifact(job->out, "words", 0, words_key, sink->words.len,
                                                 "application/x-ndjson", NULL, err) < 0)) {
        return -1;
    }
    for (size_t i = 0; i < sink->n; i++) {
        if (add_row(sink, &sink->pages[i], job, text_key, words_key, err) < 0) {
            return -1;
        }
    }
    return 0;
}

size_t page_sink_count(const struct page_sink *sink)
{
    return sink->n;
}

size_t page_sink_need_ocr(const struct page_sink *sink)
{
    return sink->need_ocr;
}

int64_t page_sink_chars(const struct page_sink *sink)
{
    return sink->chars;
}

/* Reading ---------------------------------------------------------------------------------------*/

static const char load_sql[] =
    "SELECT DISTINCT ON (page) page, engine, text_key, text_start, text_bytes, text_sum, words_key,"
    "  words_start, words_bytes, words_sum FROM file_page"
    "  WHERE file_id = $1::uuid AND version = $2::int"
    "  AND generation <= $3::int AND page BETWEEN $4::int AND $5::int"
    " ORDER BY page, generation DESC";

/* Objects of a document: its pages lie in few of them. Of each only the bytes [from, to) that the
 * pages asked for lie in are read. */
#define OBJECTS_MAX 1024
struct object_cache {
    struct object {
        const char *key; /* borrowed from the rows */
        uint64_t from, to;
        struct buf data;
        bool read;
    } items[OBJECTS_MAX];
    size_t n;
    size_t total;
};

static void cache_done(struct object_cache *cache)
{
    for (size_t i = 0; i < cache->n; i++) {
        buf_done(&cache->items[i].data);
    }
}

static struct object *cache_find(struct object_cache *cache, const char *key)
{
    for (size_t i = cache->n; i > 0; i--) {
        if (strcmp(cache->items[i - 1].key, key) == 0) {
            return &cache->items[i - 1];
        }
    }
    return NULL;
}

/* Where a row's slice lies; false when it has none. */
static bool slice_of(const PGresult *res, int row, int col, const char **ret_key,
                     uint64_t *ret_start, uint64_t *ret_len)
{
    *ret_key = db_str(res, row, col);
    *ret_start = (uint64_t)db_i64(res, row, col + 1);
    *ret_len = (uint64_t)db_i64(res, row, col + 2);
    return *ret_key && *ret_len > 0;
}

/* Widens what is to be read of the object by a row's slice. */
static int cache_want(struct object_cache *cache, const PGresult *res, int row, int col,
                      struct err *err)
{
    const char *key;
    uint64_t start, len;

    if (!slice_of(res, row, col, &key, &start, &len)) {
        return 0;
    }
    if (start > INT64_MAX || len > PAGES_WORDS_MAX) {
        return err_set(err, ERR_UNKNOWN, "corrupt", "a page lies outside its object");
    }
    struct object *object = cache_find(cache, key);
    if (!object) {
        if (cache->n == OBJECTS_MAX) {
            return err_set(err, ERR_PERMANENT, "too_large", "the document's text is too large");
        }
        object = &cache->items[cache->n++];
        *object = (struct object){.key = key, .from = start, .to = start + len};
        buf_init(&object->data, PAGES_WORDS_MAX);
        return 0;
    }
    object->from = start < object->from ? start : object->from;
    object->to = start + len > object->to ? start + len : object->to;
    return 0;
}

static int cache_read(struct object_cache *cache, struct store *store, struct object *object,
                      struct err *err)
{
    const struct store_range range = {.offset = object->from, .length = object->to - object->from};

    if (cache->total > DOCTEXT_BYTES_MAX) {
        return err_set(err, ERR_PERMANENT, "too_large", "the document's text is too large");
    }
    if (store_get_mem(store, object->key, range, PAGES_WORDS_MAX, &object->data, err) < 0) {
        return err_wrap(err, "reading the text of a page");
    }
    object->read = true;
    cache->total += object->data.len;
    return 0;
}

/* The slice a row names; empty where there is none. */
static int slice(struct object_cache *cache, struct store *store, const PGresult *res, int row,
                 int col, const char **ret_data, size_t *ret_len, struct err *err)
{
    const char *key;
    uint64_t start, len;

    *ret_data = NULL;
    *ret_len = 0;
    if (!slice_of(res, row, col, &key, &start, &len)) {
        return 0;
    }
    struct object *object = cache_find(cache, key);
    if (!object || (!object->read && cache_read(cache, store, object, err) < 0)) {
        return object ? -1 : err_set(err, ERR_UNKNOWN, "corrupt", "a page without its object");
    }
    start -= object->from;
    if (start > object->data.len || len > object->data.len - start) {
        return err_set(err, ERR_UNKNOWN, "corrupt", "a page lies outside its object");
    }
    const char *sum = db_str(res, row, col + 3);
    char have[SUM_SIZE];
    if (sum && (sum_of(object->data.data + start, len, have, err) < 0 || strcmp(have, sum) != 0)) {
        return err_set(err, ERR_UNKNOWN, "hash_mismatch", "a page is not what was stored");
    }
    *ret_data = object->data.data + start;
    *ret_len = len;
    return 0;
}

static int load_rows(struct object_cache *cache, struct store *store, const PGresult *res,
                     struct doctext *doc, struct err *err)
{
    for (int row = 0; row < PQntuples(res); row++) {
        if (cache_want(cache, res, row, 2, err) < 0 || cache_want(cache, res, row, 6, err) < 0) {
            return -1;
        }
    }
    for (int row = 0; row < PQntuples(res); row++) {
        const char *text, *words;
        size_t text_len, words_len;
        if (slice(cache, store, res, row, 2, &text, &text_len, err) < 0 ||
            slice(cache, store, res, row, 6, &words, &words_len, err) < 0 ||
            doctext_add_page(doc, (int)db_i64(res, row, 0), text ? text : "", text_len, words,
                             words_len, PQgetvalue(res, row, 1), err) < 0) {
            return -1;
        }
    }
    return 0;
}

int pages_load(struct db *db, struct store *store, const char *file_id, int version, int generation,
               int first, int last, struct doctext **ret_doc, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(doctext_cleanup) struct doctext *doc = doctext_new();
    struct db_num n_version, n_generation, n_first, n_last;
    const char *params[] = {file_id, db_num(&n_version, version), db_num(&n_generation, generation),
                            db_num(&n_first, first), db_num(&n_last, last ? last : INT32_MAX)};
    struct object_cache *cache = calloc(1, sizeof(*cache));

    if (!doc || !cache) {
        free(cache);
        return err_nomem(err);
    }
    int r = db_run(db, load_sql, 5, params, &res, err);
    if (r == 0) {
        r = load_rows(cache, store, res, doc, err);
    }
    cache_done(cache);
    free(cache);
    if (r < 0) {
        return -1;
    }
    *ret_doc = STEAL(doc);
    return 0;
}
