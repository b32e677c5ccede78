/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One child reads all pages of the unit; if it dies, every page gets a child of its own. Textract
 * is asked page by page, or in one job where jobs are switched on.
 */
#include "services/ocr-fallback/read_pages.h"

#include <string.h>
#include <sys/stat.h>

#include "libcommon/log.h"

#define RETRY_BELOW 75       /* percent: tesseract tries other ways */
#define SEND_DPI 300         /* of a page drawn for Textract */
#define PATIENCE 2           /* puts back, before a poor reading is taken for want of a better */
#define PAGE_CPU_S 90        /* of a child with one page */
#define JAIL_AS (512U << 20) /* and the mapped file, which is no memory of its own */

void unit_read_done(struct unit_read *unit)
{
    for (size_t i = 0; i < unit->n; i++) {
        free(unit->pages[i].text);
        free(unit->pages[i].words);
    }
    free(unit->pages);
    fd_cleanup(&unit->fd);
}

static bool uses_tesseract(void)
{
    return strcmp(ocr_options.engine, "textract") != 0;
}

static bool bad_page(struct err *err)
{
    err_set(err, ERR_UNKNOWN, "child_crashed", "the child sent a page that is none");
    return false;
}

/* --- the jail --------------------------------------------------------------------------------- */

int pages_jail(struct job *job, const struct unit_read *unit, const char *op, const int *pages,
               size_t n, struct frames **ret_frames, struct err *err)
{
    CLEANUP(json_cleanup)
    json_t *params =
        json_pack("{s:s,s:s,s:i,s:i,s:[]}", "kind", file_kind_name(unit->kind), "languages",
                  ocr_options.languages, "retryBelow", RETRY_BELOW, "dpi", SEND_DPI, "pages");
    struct jail_limits limits = {.as_bytes = JAIL_AS};
    struct stat st;

    if (!params) {
        return err_nomem(err);
    }
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(json_object_get(params, "pages"), json_integer(pages[i])) < 0) {
            return err_nomem(err);
        }
    }
    if (fstat(unit->fd, &st) == 0 && st.st_size > 0) {
        limits.as_bytes += min_u64((uint64_t)st.st_size, 1ULL << 30);
    }
    if (n <= 1) {
        limits.cpu_s = PAGE_CPU_S;
    }
    return job_jail(job, job->ctx->jail, op, params, unit->fd, &limits, ret_frames, err);
}

/* --- readings --------------------------------------------------------------------------------- */

static struct page_read *find_page(struct unit_read *unit, const json_t *meta)
{
    int64_t page = 0;

    if (jget_int(meta, "page", 1, INT32_MAX, &page, NULL) < 0) {
        return NULL;
    }
    for (size_t i = 0; i < unit->n; i++) {
        if (unit->pages[i].page == (int)page) {
            return &unit->pages[i];
        }
    }
    return NULL;
}

static void forget(struct page_read *page)
{
    page->engine = NULL;
    free_cleanup(&page->text);
    free_cleanup(&page->words);
    page->len = page->words_len = 0;
}

static char *copy_bytes(const char *data, size_t len)
{
    char *copy = malloc(len + 1);

    if (copy) {
        if (len > 0) {
            memcpy(copy, data, len);
        }
        copy[len] = '\0';
    }
    return copy;
}

static double real_of(const json_t *meta, const char *name, double fallback)
{
    const json_t *value = json_object_get(meta, name);

    return json_is_number(value) ? json_number_value(value) : fallback;
}

/* A page frame of operation ocr. */
static int take_page(struct page_read *page, const struct frame *frame, struct err *err)
{
    const char *engine = NULL, *code = NULL, *detail = NULL, *class = NULL;

    if (jget_str(frame->meta, "engine", 15, &engine, err) < 0) {
        return -1;
    }
    forget(page);
    if (strcmp(engine, "tesseract") != 0) {
        if (jget_opt_str(frame->meta, "code", ERR_CODE_MAX, "corrupt", &code, err) < 0 ||
            jget_opt_str(frame->meta, "detail", ERR_MSG_MAX, "", &detail, err) < 0 ||
            jget_opt_str(frame->meta, "class", 15, "permanent", &class, err) < 0) {
            return -1;
        }
        err_set(&page->why, err_class_parse(class), code, "%s", detail);
        return 0;
    }
    page->text = copy_bytes(frame->payload, frame->len);
    if (!page->text) {
        return err_nomem(err);
    }
    page->len = frame->len;
    page->engine = "tesseract";
    page->confidence = real_of(frame->meta, "confidence", -1);
    page->blank = json_is_true(json_object_get(frame->meta, "blank"));
    page->width = real_of(frame->meta, "width", 0);
    page->height = real_of(frame->meta, "height", 0);
    return 0;
}

static int take_frames(struct unit_read *unit, struct frames *frames, struct err *err)
{
    struct frame frame;
    int r;

    while ((r = frames_next(frames, &frame, err)) > 0) {
        bool is_page = strcmp(frame.type, "page") == 0;
        if (!is_page && strcmp(frame.type, "words") != 0) {
            continue;
        }
        struct page_read *page = find_page(unit, frame.meta);
        if (!page) {
            bad_page(err);
            return -1;
        }
        if (is_page) {
            if (take_page(page, &frame, err) < 0) {
                return -1;
            }
            continue;
        }
        free(page->words);
        page->words = copy_bytes(frame.payload, frame.len);
        page->words_len = frame.len;
        if (!page->words) {
            return err_nomem(err);
        }
    }
    return r;
}

/* --- tesseract -------------------------------------------------------------------------------- */

static int ocr_run(struct job *job, struct unit_read *unit, const int *pages, size_t n,
                   struct err *err)
{
    CLEANUP(frames_cleanup) struct frames *frames = NULL;

    return pages_jail(job, unit, "ocr", pages, n, &frames, err) < 0
               ? -1
               : take_frames(unit, frames, err);
}

/* What says something of the file, not of a page: asking page by page would repeat it. */
static bool whole_file(const struct err *err)
{
    static const char *const codes[] = {
        "encrypted",       "corrupt",          "empty_file",     "too_many_pages",
        "too_many_pixels", "unsupported_type", "file_too_large", "provider_unavailable"};

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (strcmp(err->code, codes[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool passes_by(const struct err *err)
{
    return err->class == ERR_FATAL ||
           (err->class == ERR_TRANSIENT && strcmp(err->code, "provider_unavailable") != 0);
}

static int ocr_one_by_one(struct job *job, struct unit_read *unit, const int *pages, size_t n,
                          struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct err why = ERR_INIT;
        json_t *meta = json_pack("{s:i}", "page", pages[i]);
        struct page_read *page = meta ? find_page(unit, meta) : NULL;
        json_decref(meta);
        if (!page) {
            return err_nomem(err);
        }
        if (ocr_run(job, unit, &pages[i], 1, &why) < 0) {
            if (passes_by(&why)) {
                *err = why;
                return -1;
            }
            forget(page);
            page->why = why;
        }
    }
    return 0;
}

/* Reads what has no engine yet; pages that fail keep their reason. */
static int run_tesseract(struct job *job, struct unit_read *unit, struct err *err)
{
    int pages[UNIT_PAGES];
    size_t n = 0;
    struct err why = ERR_INIT;

    for (size_t i = 0; i < unit->n; i++) {
        if (!unit->pages[i].engine) {
            pages[n++] = unit->pages[i].page;
        }
    }
    if (n == 0 || ocr_run(job, unit, pages, n, &why) == 0) {
        return 0;
    }
    if (passes_by(&why)) {
        *err = why;
        return -1;
    }
    if (n > 1 && !whole_file(&why)) {
        log_debug("a page of the unit broke its child", kv_str("code", why.code));
        return ocr_one_by_one(job, unit, pages, n, err);
    }
    for (size_t i = 0; i < unit->n; i++) {
        if (!unit->pages[i].engine || (n == 1 && unit->pages[i].page == pages[0])) {
            forget(&unit->pages[i]);
            unit->pages[i].why = why;
        }
    }
    return 0;
}

/* --- textract --------------------------------------------------------------------------------- */

/* A document's page with marks on it that are no words to tesseract may be handwriting; a picture
 * like that is most likely just a picture, and not worth a call. */
static bool wants_textract(const struct unit_read *unit, const struct page_read *page)
{
    if (!page->engine) {
        return true;
    }
    if (strcmp(page->engine, "tesseract") != 0 || page->blank) {
        return false;
    }
    return page->confidence < 0 ? unit->kind == FILE_PDF
                                : page->confidence * 100 < (double)ocr_options.min_confidence;
}

/* Puts Textract's reading in place of another unless that one is surer. A page on which Textract
 * finds nothing has nothing on it that tesseract could have read badly. */
static int take_reading(struct page_read *page, const struct ocr_page *read, struct err *err)
{
    double confidence = ocr_page_confidence(read);
    struct buf line = {0};

    if (page->engine && read->n_words > 0 && page->confidence > confidence) {
        return 0;
    }
    char *text = copy_bytes(read->text.data, read->text.len);
    if (!text || (read->n_words > 0 && ocr_page_words_line(read, page->page, page->width,
                                                           page->height, &line, err) < 0)) {
        free(text);
        buf_done(&line);
        return text ? -1 : err_nomem(err);
    }
    forget(page);
    page->engine = "textract";
    page->confidence = confidence;
    page->text = text;
    page->len = read->text.len;
    page->words_len = line.len;
    page->words = read->n_words > 0 ? buf_steal(&line) : NULL;
    return 0;
}

/* The first frame of that type. */
static int first_frame(struct frames *frames, const char *type, struct frame *ret, struct err *err)
{
    int r;

    while ((r = frames_next(frames, ret, err)) > 0) {
        if (strcmp(ret->type, type) == 0) {
            return 0;
        }
    }
    return r < 0 ? -1 : err_set(err, ERR_UNKNOWN, "child_crashed", "the child sent no %s", type);
}

static int send_page(struct job *job, struct textract *textract, struct unit_read *unit,
                     struct page_read *page, const char *op, struct ocr_page *read, struct err *err)
{
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    struct frame frame;
    bool found, split = strcmp(op, "split") == 0;

    if (pages_jail(job, unit, op, &page->page, 1, &frames, err) < 0 ||
        first_frame(frames, split ? "pdf" : "image", &frame, err) < 0) {
        return -1;
    }
    if (!split && page->width <= 0) {
        page->width = real_of(frame.meta, "width", 0);
        page->height = real_of(frame.meta, "height", 0);
    }
    return textract_detect(textract, job, page->page, frame.payload, frame.len, read, &found, err);
}

/* A PDF page goes as a PDF, in its full quality; what Textract or qpdf does not want goes as a
 * picture. */
static int detect_page(struct job *job, struct textract *textract, struct unit_read *unit,
                       struct page_read *page, struct err *err)
{
    CLEANUP(ocr_page_done) struct ocr_page read;
    bool found = false;
    int r = -1;

    ocr_page_init(&read);
    if (textract_detect(textract, job, page->page, NULL, 0, &read, &found, err) < 0) {
        return -1;
    }
    if (!found) {
        if (unit->kind == FILE_PDF) {
            r = send_page(job, textract, unit, page, "split", &read, err);
        }
        if (r < 0 && (unit->kind != FILE_PDF || err->class != ERR_TRANSIENT)) {
            r = send_page(job, textract, unit, page, "render", &read, err);
        }
        if (r < 0) {
            return -1;
        }
    }
    return take_reading(page, &read, err);
}

/* True when every page has some reading, so that waiting for Textract is a luxury. */
static bool all_read(const struct unit_read *unit)
{
    for (size_t i = 0; i < unit->n; i++) {
        if (!unit->pages[i].engine) {
            return false;
        }
    }
    return true;
}

/* Textract is away: worth waiting for, but not for ever when there is a reading already. */
static bool give_up_waiting(const struct job *job, const struct unit_read *unit,
                            const struct err *err)
{
    return strcmp(err->code, "provider_unavailable") == 0 && all_read(unit) &&
           job->claim->refunds >= PATIENCE;
}

static int run_detect(struct job *job, struct textract *textract, struct unit_read *unit,
                      struct err *err)
{
    for (size_t i = 0; i < unit->n; i++) {
        struct page_read *page = &unit->pages[i];
        struct err why = ERR_INIT;
        if (!wants_textract(unit, page) || detect_page(job, textract, unit, page, &why) == 0) {
            continue;
        }
        if (give_up_waiting(job, unit, &why)) {
            log_debug("textract is away, a poor reading is kept", kv_i64("page", page->page));
            job->retry_after_ms = 0;
            return 0;
        }
        if (why.class == ERR_TRANSIENT || why.class == ERR_FATAL) {
            *err = why;
            return -1;
        }
        if (!page->engine) {
            page->why = why;
        }
    }
    return 0;
}

/* The pages that need it go into one PDF and one job. */
static int start_job(struct job *job, struct textract *textract, struct unit_read *unit,
                     struct err *err)
{
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    struct frame frame;
    int pages[UNIT_PAGES];
    size_t n = 0;

    for (size_t i = 0; i < unit->n; i++) {
        if (wants_textract(unit, &unit->pages[i])) {
            pages[n++] = unit->pages[i].page;
        }
    }
    if (n == 0) {
        return 0;
    }
    if (pages_jail(job, unit, "split", pages, n, &frames, err) < 0 ||
        first_frame(frames, "pdf", &frame, err) < 0) {
        if (err->class == ERR_TRANSIENT) {
            return -1;
        }
        return run_detect(job, textract, unit, err); /* no PDF to be made of them: pictures */
    }
    if (textract_job_start(textract, job, pages, n, frame.payload, frame.len, err) < 0) {
        if (give_up_waiting(job, unit, err)) {
            job->retry_after_ms = 0;
            return 0;
        }
        return -1;
    }
    return STAGE_WAIT;
}

/* The readings of a job that has ended. *ret_again: the job is of no use, do without it. */
static int take_job(struct job *job, struct textract *textract, struct unit_read *unit,
                    bool *ret_failed, struct err *err)
{
    CLEANUP(json_cleanup) json_t *blocks = NULL;
    struct err why = ERR_INIT;
    int pages[UNIT_PAGES];
    size_t n = textract_job_pages(job->claim->ext_job_id, pages, UNIT_PAGES);
    int r = textract_job_poll(textract, job, &blocks, &why);

    *ret_failed = r < 0 && why.class == ERR_PERMANENT;
    if (r == STAGE_WAIT || (r < 0 && !*ret_failed)) {
        *err = why;
        return r;
    }
    for (size_t i = 0; i < n; i++) {
        json_t *meta = json_pack("{s:i}", "page", pages[i]);
        struct page_read *page = meta ? find_page(unit, meta) : NULL;
        CLEANUP(ocr_page_done) struct ocr_page read;
        json_decref(meta);
        ocr_page_init(&read);
        if (!page) {
            continue;
        }
        if (*ret_failed) {
            page->why = why;
        } else if (textract_read_blocks(blocks, (int)i + 1, &read, err) < 0 ||
                   take_reading(page, &read, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* --- the unit --------------------------------------------------------------------------------- */

int read_pages(struct job *job, struct textract *textract, struct unit_read *unit, struct err *err)
{
    bool had_job = textract && job->claim->ext_job_id, job_failed = false;

    if (had_job) {
        int r = take_job(job, textract, unit, &job_failed, err);
        if (r != 0) {
            return r;
        }
    }
    if (uses_tesseract() && run_tesseract(job, unit, err) < 0) {
        return -1;
    }
    if (!textract) {
        return 0;
    }
    if (ocr_options.async && unit->kind == FILE_PDF && !had_job) {
        return start_job(job, textract, unit, err);
    }
    return run_detect(job, textract, unit, err);
}
