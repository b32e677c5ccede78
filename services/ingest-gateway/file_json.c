/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/file_json.h"

#include "libcommon/reason.h"
#include "libcommon/states.h"
#include "services/ingest-gateway/position.h"

#include <string.h>

enum col {
    C_ID,
    C_DATASET,
    C_BATCH,
    C_NAME,
    C_BYTES,
    C_MIME,
    C_SHA,
    C_VERSION,
    C_GENERATION,
    C_STATE,
    C_MAIN,
    C_PREVIEW,
    C_THUMB,
    C_ERRORS,
    C_CREATED,
    C_UPDATED,
    C_TASKS,
    C_PAGES,
    C_PREVIEWS,
    C_THUMB_META,
    C_RECORDS,
};

/* Newest page rows that have text win; a re-run that is still at it hides nothing. */
static const char files_sql[] =
    "SELECT f.file_id, f.dataset_id, f.batch_id, f.name, f.bytes, v.mime, v.sha256, f.version,"
    " f.generation, f.state, f.main_state, f.preview_state, f.thumb_state, f.errors,"
    " " SQL_TIME("f.accepted_at") ", " SQL_TIME(
        "f.updated_at") ","
                        " (SELECT jsonb_agg(jsonb_build_array(t.stage, t.state, t.n, t.attempts, "
                        "t.ranges) ORDER BY t.stage)"
                        "   FROM (SELECT stage, state, count(*) AS n, max(attempts) AS attempts, "
                        "count(*) FILTER (WHERE unit > 0) AS ranges FROM task"
                        "     WHERE task.file_id = f.file_id AND task.generation = f.generation"
                        "     GROUP BY stage, state) t),"
                        " (SELECT jsonb_build_object('n', count(*), 'text', count(text_key), "
                        "'done', count(text_key) FILTER (WHERE NOT needs_ocr), "
                        "'chars', sum(chars),"
                        "    'native', bool_or(engine = 'native'), 'ocr', bool_or(engine = "
                        "'tesseract'),"
                        "    'textract', bool_or(engine = 'textract'))"
                        "   FROM (SELECT DISTINCT ON (page) page, text_key, chars, engine, "
                        "needs_ocr FROM "
                        "file_page p"
                        "     WHERE p.file_id = f.file_id AND p.version = f.version"
                        "     ORDER BY page, (text_key IS NULL), needs_ocr, generation DESC) q),"
                        " (SELECT count(DISTINCT page) FROM artifact a WHERE a.file_id = f.file_id"
                        "    AND a.version = f.version AND a.kind = 'page'),"
                        " (SELECT a.meta FROM artifact a WHERE a.file_id = f.file_id AND a.version "
                        "= f.version"
                        "    AND a.kind = 'thumb' ORDER BY a.generation DESC, (a.page = 256) DESC "
                        "LIMIT 1),"
                        " (SELECT jsonb_agg(r.record_id ORDER BY r.doc_no) FROM record r WHERE "
                        "r.file_id = f.file_id"
                        "    AND r.generation = f.record_generation)"
                        " FROM unnest($2::uuid[]) WITH ORDINALITY AS ids(file_id, ord)"
                        " JOIN file f USING (file_id) JOIN file_version v ON v.file_id = f.file_id"
                        "   AND v.version = f.version"
                        " WHERE f.user_id = $1::uuid AND f.state < 6 ORDER BY ids.ord";

struct pipe_tasks {
    int stage;    /* the one to show */
    bool running; /* any unit runs or waits for a provider */
    bool live;    /* any unit is not over */
    int64_t attempts;
};

/* The stage furthest on among those that are live; without one, the last that had tasks. */
static struct pipe_tasks look_at_tasks(const json_t *tasks, const char *pipeline)
{
    struct pipe_tasks r = {0};
    size_t i;
    json_t *t;

    json_array_foreach(tasks, i, t)
    {
        int stage = (int)json_integer_value(json_array_get(t, 0));
        int64_t state = json_integer_value(json_array_get(t, 1));
        const char *pipe = stage_pipeline(stage);
        bool live = state < TASK_DONE;
        if (!pipe || strcmp(pipe, pipeline) != 0 || (r.live && !live) ||
            (stage == STAGE_SCAN && !live && r.stage != STAGE_NONE)) {
            continue; /* the scan comes before the others, whatever its number is */
        }
        if (stage != r.stage || (live && !r.live)) {
            r.attempts = 0;
        }
        int64_t attempts = json_integer_value(json_array_get(t, 3));
        r.stage = stage;
        r.live = r.live || live;
        r.running = r.running || state == TASK_RUNNING || state == TASK_WAITING_EXT;
        r.attempts = attempts > r.attempts ? attempts : r.attempts;
    }
    return r;
}

/* How far a stage is with its ranges of pages, as pages out of n; n when it has no ranges. */
static int64_t pages_of_ranges(const json_t *tasks, int stage, int64_t n)
{
    int64_t all = 0, done = 0;
    size_t i;
    json_t *t;

    json_array_foreach(tasks, i, t)
    {
        if (json_integer_value(json_array_get(t, 0)) == stage) {
            int64_t ranges = json_integer_value(json_array_get(t, 4));
            all += ranges;
            done += json_integer_value(json_array_get(t, 1)) == TASK_DONE ? ranges : 0;
        }
    }
    return all > 0 ? n * done / all : n;
}

/* Could the same file end otherwise another time? An error that is no fault of the file's could,
 * and a permanent one where somebody else can mend what was in its way. */
static bool can_retry(const char *class, const char *code, const struct reason *why)
{
    return (class && strcmp(class, "permanent") != 0) ||
           (code && strcmp(code, why->code) == 0 && why->retry_helps);
}

static json_t *error_json(const json_t *errors, const char *pipeline)
{
    const json_t *e = json_object_get(errors, pipeline);
    const json_t *stage = json_object_get(e, "stage");
    const char *class = json_string_value(json_object_get(e, "class"));
    const char *name = json_is_integer(stage) ? stage_name((int)json_integer_value(stage))
                                              : json_string_value(stage);

    if (!json_is_object(e)) {
        return json_null();
    }
    const char *code = json_string_value(json_object_get(e, "code"));
    const struct reason *why = reason_find(code);
    return json_pack("{s:O?, s:O?, s:s, s:s, s:s?, s:b, s:s?, s:O?}", "code",
                     json_object_get(e, "code"), "detail", json_object_get(e, "detail"),
                     "explanation", why->text, "advice", why->advice, "class", class, "retryable",
                     can_retry(class, code, why), "stage", name, "attempts",
                     json_object_get(e, "attempts"));
}

struct file_parts {
    json_t *tasks;
    json_t *errors;
    json_t *pages;
    int64_t n_previews;
};

static json_t *pipeline_json(const struct file_parts *parts, const char *pipeline, int64_t state,
                             bool with_pages, int64_t done, int64_t total)
{
    static const struct {
        const char *pipeline;
        int stage;
    } first[] = {{"main", STAGE_TEXT}, {"preview", STAGE_PREVIEW}, {"thumbnail", STAGE_THUMBNAIL}};
    struct pipe_tasks t = look_at_tasks(parts->tasks, pipeline);
    const char *name = pipeline_state_name((int)state);

    if (state == PIPE_LIVE) {
        name = t.running ? "running" : "waiting";
    }
    for (size_t i = 0; t.stage == 0 && i < ARRAY_LEN(first); i++) {
        if (strcmp(first[i].pipeline, pipeline) == 0) {
            t.stage = first[i].stage;
        }
    }
    json_t *doc =
        json_pack("{s:s?, s:s?, s:I, s:n, s:n, s:n, s:o}", "state", name, "stage",
                  stage_name(t.stage), "attempts", (json_int_t)t.attempts, "queuePosition",
                  "etaSeconds", "retryAt", "error", error_json(parts->errors, pipeline));
    if (doc && with_pages) {
        /* all text is there: what counts is how much of it has been looked at */
        if (state == PIPE_LIVE && t.stage == STAGE_AI) {
            done = pages_of_ranges(parts->tasks, STAGE_AI, done);
        }
        json_object_set_new(doc, "pagesDone", total > 0 ? json_integer(done) : json_null());
        json_object_set_new(doc, "pagesTotal", total > 0 ? json_integer(total) : json_null());
    }
    return doc;
}

static const char *text_method(const json_t *pages)
{
    bool native = json_is_true(json_object_get(pages, "native"));
    bool ocr = json_is_true(json_object_get(pages, "ocr"));
    bool textract = json_is_true(json_object_get(pages, "textract"));

    return native + ocr + textract > 1 ? "mixed" : ocr ? "ocr" : textract ? "textract" : "native";
}

static json_t *artifacts_json(const PGresult *res, int row, const struct file_parts *parts)
{
    const char *id = db_str(res, row, C_ID);
    int64_t n_text = json_integer_value(json_object_get(parts->pages, "text"));
    CLEANUP(json_cleanup) json_t *thumb = sql_json_doc(res, row, C_THUMB_META);
    CLEANUP(json_cleanup) json_t *records = sql_json_doc(res, row, C_RECORDS);
    json_t *doc = json_pack("{s:n, s:n, s:n, s:n}", "text", "record", "preview", "thumbnail");

    if (!doc) {
        return NULL;
    }
    if (n_text > 0) {
        json_object_set_new(doc, "text",
                            json_pack("{s:s++, s:s, s:I, s:O?}", "href", "/api/v1/files/", id,
                                      "/text", "method", text_method(parts->pages), "pages",
                                      (json_int_t)n_text, "chars",
                                      json_object_get(parts->pages, "chars")));
    }
    if (json_array_size(records) > 0) {
        json_object_set_new(
            doc, "record",
            json_pack("{s:s++, s:O}", "href", "/api/v1/files/", id, "/record", "ids", records));
    }
    if (parts->n_previews > 0) {
        json_object_set_new(doc, "preview",
                            json_pack("{s:s++, s:I}", "href", "/api/v1/files/", id, "/preview",
                                      "pages", (json_int_t)parts->n_previews));
    }
    if (json_is_object(thumb)) {
        json_object_set_new(doc, "thumbnail",
                            json_pack("{s:s++, s:O?, s:O?}", "href", "/api/v1/files/", id,
                                      "/thumbnail", "width", json_object_get(thumb, "width"),
                                      "height", json_object_get(thumb, "height")));
    }
    return doc;
}

static json_t *file_json(const PGresult *res, int row)
{
    CLEANUP(json_cleanup) json_t *tasks = sql_json_doc(res, row, C_TASKS);
    CLEANUP(json_cleanup) json_t *errors = sql_json_doc(res, row, C_ERRORS);
    CLEANUP(json_cleanup) json_t *pages = sql_json_doc(res, row, C_PAGES);
    struct file_parts parts = {tasks, errors, pages, db_i64(res, row, C_PREVIEWS)};
    int64_t n_pages = json_integer_value(json_object_get(pages, "n"));
    /* a scan's own text is none until it is read; some of it may stay as poor as it is */
    const char *which = db_i64(res, row, C_MAIN) == PIPE_DONE ? "text" : "done";
    int64_t n_text = json_integer_value(json_object_get(pages, which));
    int64_t previews = parts.n_previews;
    bool preview_live = db_i64(res, row, C_PREVIEW) == PIPE_LIVE;
    int64_t preview_total = preview_live && n_pages > previews ? n_pages : previews;
    json_t *pipelines = json_pack(
        "{s:o, s:o, s:o}", "main",
        pipeline_json(&parts, "main", db_i64(res, row, C_MAIN), true, n_text, n_pages), "preview",
        pipeline_json(&parts, "preview", db_i64(res, row, C_PREVIEW), true, previews,
                      preview_total),
        "thumbnail", pipeline_json(&parts, "thumbnail", db_i64(res, row, C_THUMB), false, 0, 0));
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:I, s:I, s:s?, s:o, s:o, s:o, s:o}", "id",
        sql_json_str(res, row, C_ID), "datasetId", sql_json_str(res, row, C_DATASET), "batchId",
        sql_json_str(res, row, C_BATCH), "name", sql_json_str(res, row, C_NAME), "size",
        (json_int_t)db_i64(res, row, C_BYTES), "mime", sql_json_str(res, row, C_MIME), "sha256",
        sql_json_str(res, row, C_SHA), "version", (json_int_t)db_i64(res, row, C_VERSION),
        "generation", (json_int_t)db_i64(res, row, C_GENERATION), "state",
        file_state_name((int)db_i64(res, row, C_STATE)), "createdAt",
        sql_json_str(res, row, C_CREATED), "updatedAt", sql_json_str(res, row, C_UPDATED),
        "pipelines", pipelines, "artifacts", artifacts_json(res, row, &parts));
}

int file_json_load(struct db_conn *conn, const char *user_id, const char *ids, json_t **ret_files,
                   struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    CLEANUP(json_cleanup) json_t *files = json_array();
    const char *params[] = {user_id, ids};

    if (db_query(conn, files_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        json_t *file = file_json(res, i);
        if (!files || !file || json_array_append_new(files, file) < 0) {
            return err_nomem(err);
        }
    }
    position_add(conn, user_id, ids, files);
    *ret_files = STEAL(files);
    return 0;
}
