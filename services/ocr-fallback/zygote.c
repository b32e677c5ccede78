/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jailed half of ocr-fallback. Operations on one file:
 *   count   {kind}                                 end {pages}
 *   ocr     {kind, pages, languages, retryBelow}   page and words of each page
 *   render  {kind, pages, dpi}                     image {page, width, height, mime}: a JPEG each
 *   split   {pages}                                pdf {pages}: those pages of a PDF
 * Invariant: a page that cannot be drawn or read is a page of engine "none" with its reason; only a
 * file that cannot be opened ends the operation. Nothing but fonts and language data is opened.
 */
#include "services/ocr-fallback/ocr.h"

#include <glib.h>
#include <string.h>
#include <time.h>

#define FIRST_DPI 200
#define RETRY_DPI 300
#define UNIT_PAGES_MAX 100

static GLogWriterOutput drop_log(GLogLevelFlags level, const GLogField *fields, gsize n,
                                 gpointer data)
{
    (void)level;
    (void)fields;
    (void)n;
    (void)data;
    return G_LOG_WRITER_HANDLED;
}

static int warm(struct err *err)
{
    g_log_set_writer_func(drop_log, NULL, NULL);
    tzset();
    tesseract_warm();
    return render_pages_warm("ocr-fallback-zygote", err);
}

static int open_input(struct jail_unit *unit, struct pages **ret_pages, struct err *err)
{
    const char *data = NULL;
    size_t len = 0;

    return unit_map_input(unit, OCR_INPUT_MAX, &data, &len, err) < 0
               ? -1
               : pages_open(data, len, file_kind_parse(unit_param_str(unit, "kind", "")), ret_pages,
                            err);
}

static int page_list(const struct jail_unit *unit, int list[UNIT_PAGES_MAX], size_t *ret_n,
                     struct err *err)
{
    const json_t *pages = json_object_get(unit->params, "pages");
    size_t n = json_array_size(pages);

    if (n == 0 || n > UNIT_PAGES_MAX) {
        return err_set(err, ERR_UNKNOWN, "internal", "%zu pages were asked for", n);
    }
    for (size_t i = 0; i < n; i++) {
        json_int_t page = json_integer_value(json_array_get(pages, i));
        list[i] = page > 0 && page <= OCR_PAGES_MAX ? (int)page : 0;
    }
    *ret_n = n;
    return 0;
}

/* --- ocr -------------------------------------------------------------------------------------- */

struct reader {
    struct pages *pages;
    double skew;        /* of the page at hand */
    double retry_below; /* a reading with less confidence is tried again in other ways */
};

/* The page as the engine is to see it. */
static int draw_straight(struct reader *reader, int number, int dpi, struct bitmap *ret,
                         struct err *err)
{
    CLEANUP(bitmap_done) struct bitmap drawn = {0};

    if (pages_draw(reader->pages, number, dpi, &drawn, err) < 0 ||
        bitmap_straighten(&drawn, reader->skew, ret, err) < 0) {
        return -1;
    }
    return 0;
}

static void better_of(struct ocr_page *best, struct ocr_page *other)
{
    if (other->score > best->score) {
        struct ocr_page worse = *best;
        *best = *other;
        *other = worse;
    }
    ocr_page_done(other);
}

static bool good(const struct reader *reader, const struct ocr_page *page)
{
    return page->n_words > 0 && ocr_page_confidence(page) >= reader->retry_below;
}

/* Turned text is read upright; *ret_turn says how, for the tries that follow. */
static int try_turned(const struct bitmap *bitmap, struct ocr_page *best, int *ret_turn,
                      struct err *err)
{
    CLEANUP(bitmap_done) struct bitmap upright = {0};
    struct ocr_page page;
    int turn = tesseract_turn(bitmap);

    *ret_turn = 0;
    if (turn == 0) {
        return 0;
    }
    if (bitmap_turn(bitmap, turn, &upright, err) < 0 ||
        tesseract_read(&upright, READ_LAYOUT, turn, &page, err) < 0) {
        return -1;
    }
    *ret_turn = page.score > best->score ? turn : 0;
    better_of(best, &page);
    return 0;
}

/* For what stands on the page pale or in a shadow. */
static int try_faint(const struct bitmap *bitmap, struct ocr_page *best, struct err *err)
{
    struct ocr_page page;

    if (tesseract_read(bitmap, READ_FAINT, 0, &page, err) < 0) {
        return -1;
    }
    better_of(best, &page);
    return 0;
}

static int try_harder(struct reader *reader, int number, int turn, struct ocr_page *best,
                      struct err *err)
{
    CLEANUP(bitmap_done) struct bitmap bitmap = {0};
    CLEANUP(bitmap_done) struct bitmap upright = {0};
    struct ocr_page page;

    if (draw_straight(reader, number, RETRY_DPI, &bitmap, err) < 0 ||
        (turn && bitmap_turn(&bitmap, turn, &upright, err) < 0)) {
        return -1;
    }
    if (tesseract_read(turn ? &upright : &bitmap, READ_BLOCK, turn, &page, err) < 0) {
        return -1;
    }
    better_of(best, &page);
    return 0;
}

static int straighten(struct reader *reader, struct bitmap *drawn, struct err *err)
{
    struct bitmap straight;

    reader->skew = bitmap_skew(drawn);
    if (reader->skew == 0) {
        return 0;
    }
    if (bitmap_straighten(drawn, reader->skew, &straight, err) < 0) {
        return -1;
    }
    bitmap_done(drawn);
    *drawn = straight;
    return 0;
}

/* *best stays usable on error; *drawn is the page as first seen. */
static int read_page(struct reader *reader, int number, struct bitmap *drawn, struct ocr_page *best,
                     bool *ret_blank, struct err *err)
{
    int turn = 0;

    if (pages_draw(reader->pages, number, FIRST_DPI, drawn, err) < 0) {
        return -1;
    }
    *ret_blank = bitmap_blank(drawn);
    if (*ret_blank) {
        return 0;
    }
    if (straighten(reader, drawn, err) < 0) {
        return -1;
    }
    if (tesseract_read(drawn, READ_LAYOUT, 0, best, err) < 0) {
        return -1;
    }
    if (!good(reader, best) && try_turned(drawn, best, &turn, err) < 0) {
        return -1;
    }
    if (best->score <= 0 && turn == 0 && try_faint(drawn, best, err) < 0) {
        return -1;
    }
    return good(reader, best) ? 0 : try_harder(reader, number, turn, best, err);
}

static int write_page(struct jail_unit *unit, int number, const struct bitmap *drawn,
                      const struct ocr_page *page, bool blank, struct err *err)
{
    CLEANUP(buf_done) struct buf line = {0};
    double confidence = ocr_page_confidence(page);
    json_t *meta =
        json_pack("{s:b,s:i,s:f,s:f,s:s}", "blank", blank, "page", number, "width",
                  drawn->page_width, "height", drawn->page_height, "engine", "tesseract");

    if (!meta ||
        (confidence >= 0 && json_object_set_new(meta, "confidence", json_real(confidence)) < 0)) {
        json_decref(meta);
        return err_nomem(err);
    }
    if (frame_write(unit->out, "page", meta, page->text.data, page->text.len, err) < 0) {
        return -1;
    }
    if (page->n_words == 0) {
        return 0;
    }
    if (ocr_page_words_line(page, number, drawn->page_width, drawn->page_height, &line, err) < 0) {
        return -1;
    }
    return frame_write(unit->out, "words", json_pack("{s:i}", "page", number), line.data, line.len,
                       err);
}

/* A page nobody could read, with the reason. */
static int write_lost(struct jail_unit *unit, int number, const struct err *why, struct err *err)
{
    json_t *meta = json_pack("{s:i,s:f,s:f,s:s,s:s,s:s,s:s}", "page", number, "width", 0.0,
                             "height", 0.0, "engine", "none", "code", why->code, "detail", why->msg,
                             "class", err_class_name(why->class));

    return meta ? frame_write(unit->out, "page", meta, "", 0, err) : err_nomem(err);
}

static int ocr_one(struct jail_unit *unit, struct reader *reader, int number, struct err *err)
{
    CLEANUP(bitmap_done) struct bitmap drawn = {0};
    CLEANUP(ocr_page_done) struct ocr_page page;
    struct err why = ERR_INIT;
    bool blank = false;

    ocr_page_init(&page);
    if (read_page(reader, number, &drawn, &page, &blank, &why) < 0 && page.n_words == 0) {
        return write_lost(unit, number, &why, err);
    }
    return write_page(unit, number, &drawn, &page, blank, err);
}

static int op_ocr(struct jail_unit *unit, struct err *err)
{
    CLEANUP(pages_cleanup) struct pages *pages = NULL;
    struct reader reader = {.retry_below = (double)unit_param_int(unit, "retryBelow", 75) / 100};
    int list[UNIT_PAGES_MAX];
    size_t n = 0;

    if (page_list(unit, list, &n, err) < 0 ||
        tesseract_prepare(unit_param_str(unit, "languages", "eng"), err) < 0 ||
        open_input(unit, &pages, err) < 0) {
        return -1;
    }
    reader.pages = pages;
    for (size_t i = 0; i < n; i++) {
        if (ocr_one(unit, &reader, list[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* --- the others ------------------------------------------------------------------------------- */

static int op_count(struct jail_unit *unit, struct err *err)
{
    CLEANUP(pages_cleanup) struct pages *pages = NULL;

    if (open_input(unit, &pages, err) < 0) {
        return -1;
    }
    return frame_write(unit->out, "end", json_pack("{s:i}", "pages", pages_count(pages)), NULL, 0,
                       err);
}

static int op_render(struct jail_unit *unit, struct err *err)
{
    CLEANUP(pages_cleanup) struct pages *pages = NULL;
    int dpi = (int)unit_param_int(unit, "dpi", FIRST_DPI);
    int list[UNIT_PAGES_MAX];
    size_t n = 0;

    if (page_list(unit, list, &n, err) < 0 || open_input(unit, &pages, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        CLEANUP(bitmap_done) struct bitmap bitmap = {0};
        void *data = NULL;
        size_t len = 0;
        if (pages_draw(pages, list[i], dpi < 50 || dpi > 400 ? FIRST_DPI : dpi, &bitmap, err) < 0 ||
            bitmap_jpeg(&bitmap, &data, &len, err) < 0) {
            return -1;
        }
        int r =
            frame_write(unit->out, "image",
                        json_pack("{s:i,s:f,s:f,s:s}", "page", list[i], "width", bitmap.page_width,
                                  "height", bitmap.page_height, "mime", "image/jpeg"),
                        data, len, err);
        g_free(data);
        if (r < 0) {
            return -1;
        }
    }
    return 0;
}

static int op_split(struct jail_unit *unit, struct err *err)
{
    CLEANUP(free_cleanup) char *pdf = NULL;
    const char *data = NULL;
    int list[UNIT_PAGES_MAX];
    size_t n = 0, len = 0, pdf_len = 0;

    if (page_list(unit, list, &n, err) < 0 ||
        unit_map_input(unit, OCR_INPUT_MAX, &data, &len, err) < 0 ||
        split_pdf(data, len, list, n, &pdf, &pdf_len, err) < 0) {
        return -1;
    }
    return frame_write(unit->out, "pdf", json_pack("{s:i}", "pages", (int)n), pdf, pdf_len, err);
}

static const struct zygote_op ops[] = {
    {.name = "count", .cage = CAGE_READ_FILES | CAGE_THREADS, .run = op_count},
    {.name = "ocr", .cage = CAGE_READ_FILES | CAGE_THREADS, .run = op_ocr},
    {.name = "render", .cage = CAGE_READ_FILES | CAGE_THREADS, .run = op_render},
    {.name = "split", .cage = CAGE_PURE, .run = op_split},
};

static const char *const read_paths[] = {
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/usr/share/poppler",
    "/usr/share/tesseract-ocr",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
    NULL,
};

static const struct zygote zygote = {
    .name = "ocr-fallback-zygote",
    .warm = warm,
    .ops = ops,
    .n_ops = ARRAY_LEN(ops),
    .read_paths = read_paths,
};

int main(int argc, char **argv)
{
    return zygote_main(argc, argv, &zygote);
}
