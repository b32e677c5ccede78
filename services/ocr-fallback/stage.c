/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit 0 finds out which pages there are to read and reads them if they are few, else plans units
 * of ten; every unit leaves text, words and rows of its pages, and the last one starts ai.
 */
#include "services/ocr-fallback/stage.h"

#include <string.h>

#include "libcommon/jget.h"
#include "libcommon/pages.h"
#include "services/ocr-fallback/read_pages.h"

#define PDF_MAX (1ULL << 30)

/* What the text stage wants read, and on a re-run what was read before. */
static const char need_sql[] =
    "SELECT page, width, height, CASE WHEN engine = 'native' THEN chars ELSE 0 END FROM ("
    "  SELECT DISTINCT ON (page) page, engine, needs_ocr, chars, width, height FROM file_page"
    "  WHERE file_id = $1::uuid AND version = $2::int AND generation <= $3::int"
    "  ORDER BY page, generation DESC) p"
    " WHERE needs_ocr OR engine <> 'native' ORDER BY page";

static int query(struct job *job, const char *sql, PGresult **ret_res, struct err *err)
{
    struct db_num version, generation;
    const char *params[] = {job->claim->key.file_id, db_num(&version, job->claim->version),
                            db_num(&generation, job->claim->key.generation)};

    return db_run(job->ctx->service->db, sql, 3, params, ret_res, err);
}

static int fetch_input(struct job *job, struct unit_read *unit, struct err *err)
{
    /* Old office files have their pages in the PDF that the preview's conversion left behind. */
    if (file_kind_parse(job->claim->kind) != FILE_OLE2) {
        return job_input(job, &unit->fd, err);
    }
    int r = job_artifact(job, "pdf", 0, PDF_MAX, &unit->fd, err);
    return r == 0 ? err_set(err, ERR_PERMANENT, "input_gone", "the converted file is gone")
                  : (r < 0 ? -1 : 0);
}

/* --- which pages ------------------------------------------------------------------------------ */

static int pages_alloc(struct unit_read *unit, size_t n, struct err *err)
{
    unit->pages = calloc(n ? n : 1, sizeof(*unit->pages));
    unit->n = unit->pages ? n : 0;
    for (size_t i = 0; i < unit->n; i++) {
        unit->pages[i].page = (int)i + 1;
        unit->pages[i].confidence = -1;
    }
    return unit->pages ? 0 : err_nomem(err);
}

static int pages_of_pdf(struct job *job, struct unit_read *unit, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (query(job, need_sql, &res, err) < 0 || pages_alloc(unit, (size_t)PQntuples(res), err) < 0) {
        return -1;
    }
    for (int i = 0; i < PQntuples(res); i++) {
        struct page_read *page = &unit->pages[i];
        page->page = (int)db_i64(res, i, 0);
        page->width = strtod(PQgetvalue(res, i, 1), NULL);
        page->height = strtod(PQgetvalue(res, i, 2), NULL);
        page->native_chars = db_i64(res, i, 3);
    }
    return 0;
}

static int pages_of_picture(struct job *job, struct unit_read *unit, struct err *err)
{
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    struct frame frame;
    int64_t count = 0;
    int r;

    if (fetch_input(job, unit, err) < 0 ||
        pages_jail(job, unit, "count", NULL, 0, &frames, err) < 0) {
        return -1;
    }
    while ((r = frames_next(frames, &frame, err)) > 0) {
        if (strcmp(frame.type, "end") == 0 &&
            jget_int(frame.meta, "pages", 1, DOCTEXT_PAGES_MAX, &count, err) < 0) {
            return -1;
        }
    }
    return r < 0 ? -1 : pages_alloc(unit, (size_t)count, err);
}

/* Keeps the pages that the unit's input lists; all of them count when there is none. */
static int keep_listed(struct unit_read *unit, const json_t *input, struct err *err)
{
    json_t *list = NULL;
    size_t kept = 0;

    if (jget_array(input, "pages", UNIT_PAGES, &list, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < unit->n; i++) {
        for (size_t k = 0; k < json_array_size(list); k++) {
            if (json_integer_value(json_array_get(list, k)) == unit->pages[i].page) {
                unit->pages[kept++] = unit->pages[i];
                break;
            }
        }
    }
    unit->n = kept;
    return 0;
}

/* A range of a picture's pages needs no counting. */
static int pages_listed(struct unit_read *unit, const json_t *input, struct err *err)
{
    json_t *list = NULL;

    if (jget_array(input, "pages", UNIT_PAGES, &list, err) < 0 ||
        pages_alloc(unit, json_array_size(list), err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < unit->n; i++) {
        unit->pages[i].page = (int)json_integer_value(json_array_get(list, i));
    }
    return 0;
}

static int find_pages(struct job *job, struct unit_read *unit, struct err *err)
{
    const json_t *input = job->claim->key.unit > 0 ? job->claim->input : NULL;

    if (unit->kind != FILE_PDF) {
        return input ? pages_listed(unit, input, err) : pages_of_picture(job, unit, err);
    }
    if (pages_of_pdf(job, unit, err) < 0) {
        return -1;
    }
    return input ? keep_listed(unit, input, err) : 0;
}

/* --- plan ------------------------------------------------------------------------------------- */

static int plan_units(struct job *job, const struct unit_read *unit, struct err *err)
{
    int number = 1;

    for (size_t i = 0; i < unit->n; i += UNIT_PAGES, number++) {
        size_t n = min_size(unit->n - i, UNIT_PAGES);
        json_t *pages = json_array();
        for (size_t k = 0; k < n; k++) {
            json_array_append_new(pages, json_integer(unit->pages[i + k].page));
        }
        if (json_array_size(pages) != n) {
            json_decref(pages);
            return err_nomem(err);
        }
        json_t *input = json_pack("{s:o}", "pages", pages);
        if (!input) {
            return err_nomem(err);
        }
        if (outcome_unit(job->out, number, (int)n, input, err) < 0) {
            return -1;
        }
    }
    return outcome_detail(job->out, "pages", json_integer((json_int_t)unit->n), err);
}

/* --- results ---------------------------------------------------------------------------------- */

/* The worst that can be said when not one page could be read: all for good reason, or for reasons
 * that another try might not meet. */
static int nothing_read(const struct unit_read *unit, struct err *err)
{
    const struct err *why = NULL;

    for (size_t i = 0; i < unit->n; i++) {
        const struct page_read *page = &unit->pages[i];
        if (page->engine || page->native_chars > 0) {
            return 0;
        }
        if (!why || page->why.class != ERR_PERMANENT) {
            why = &page->why;
        }
    }
    if (!why) {
        return 0;
    }
    if (why->class == ERR_NONE) {
        return err_set(err, ERR_UNKNOWN, "child_crashed", "the child left a page out");
    }
    *err = *why;
    return -1;
}

static int add_page(struct page_sink *sink, const struct page_read *page, struct err *err)
{
    const char *engine = page->engine ? page->engine : "none";

    if (page->len == 0 && page->native_chars > 0) {
        return 0; /* the PDF's own text, poor as it is, stays */
    }
    if (page_sink_page(sink, page->page, engine, page->confidence, page->width, page->height, false,
                       page->text ? page->text : "", page->len, err) < 0) {
        return -1;
    }
    return page->words ? page_sink_words(sink, page->page, page->words, page->words_len, err) : 0;
}

static int store_pages(struct job *job, const struct unit_read *unit, struct err *err)
{
    CLEANUP(page_sink_cleanup) struct page_sink *sink = NULL;
    int by_tesseract = 0, by_textract = 0, unread = 0;

    if (page_sink_new(&sink, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < unit->n; i++) {
        const char *engine = unit->pages[i].engine;
        if (add_page(sink, &unit->pages[i], err) < 0) {
            return -1;
        }
        int *count = !engine                           ? &unread
                     : strcmp(engine, "textract") == 0 ? &by_textract
                                                       : &by_tesseract;
        ++*count;
    }
    if (page_sink_store(sink, job, err) < 0 ||
        outcome_detail(job->out, "pages", json_integer((json_int_t)unit->n), err) < 0 ||
        outcome_detail(job->out, "chars", json_integer((json_int_t)page_sink_chars(sink)), err) <
            0) {
        return -1;
    }
    return outcome_detail(job->out, "engines",
                          json_pack("{s:i,s:i,s:i}", "tesseract", by_tesseract, "textract",
                                    by_textract, "none", unread),
                          err);
}

static int ocr_handle(struct job *job, struct err *err)
{
    struct textract *textract = job->ctx->state;
    enum file_kind kind = file_kind_parse(job->claim->kind);
    CLEANUP(unit_read_done)
    struct unit_read unit = {.fd = -1, .kind = filetype_of(kind)->raster ? kind : FILE_PDF};

    if (find_pages(job, &unit, err) < 0) {
        return -1;
    }
    if (job->claim->key.unit == 0 && unit.n > UNIT_PAGES) {
        outcome_set_cost(job->out, 1); /* a plan reads nothing */
        return plan_units(job, &unit, err);
    }
    outcome_set_cost(job->out, (int)unit.n);
    if (unit.n > 0) {
        if (unit.fd < 0 && fetch_input(job, &unit, err) < 0) {
            return -1;
        }
        int r = read_pages(job, textract, &unit, err);
        if (r != 0) {
            return r;
        }
        if (nothing_read(&unit, err) < 0 || store_pages(job, &unit, err) < 0) {
            return -1;
        }
    }
    return outcome_next(job->out, STAGE_AI, 0, (int)(unit.n ? unit.n : 1), NULL, err);
}

static int ocr_setup(struct stage_ctx *ctx, struct err *err)
{
    struct textract *textract = NULL;

    if (ocr_options_check(&ocr_options, err) < 0) {
        return -1;
    }
    if (*ocr_options.endpoint && strcmp(ocr_options.engine, "tesseract") != 0 &&
        textract_new(&ocr_options, service_ca_file(ctx->service, ocr_options.ca_file), &textract,
                     err) < 0) {
        return -1;
    }
    if (textract) {
        guard_use(ctx->guard, GUARD_TEXTRACT,
                  strcmp(ocr_options.engine, "textract") == 0 ? GUARD_BY_UNIT : GUARD_HELPFUL);
        ctx->provider = (struct health_dep){"textract", http_peer_check, textract_peer(textract),
                                            HTTP_PEER_EVERY_MS, false};
    }
    ctx->state = textract;
    return 0;
}

static void ocr_teardown(struct stage_ctx *ctx)
{
    textract_free(ctx->state);
    ctx->state = NULL;
}

const struct stage ocr_fallback = {
    .id = STAGE_OCR,
    .service = "ocr-fallback",
    .options = ocr_option_defs,
    .n_options = OCR_OPTIONS,
    .options_target = &ocr_options,
    .zygote = "ocr-fallback-zygote",
    .limits = {.as_bytes = 512ULL << 20, .cpu_s = 300, .wall_ms = 900000, .out_bytes = 64ULL << 20},
    .store_required = true,
    .setup = ocr_setup,
    .handle = ocr_handle,
    .teardown = ocr_teardown,
};
