/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From numbers to frames: the unit's options, a white cairo page encoded as WebP, and the word
 * list in the one-line JSON that the artifacts of the text stage have too.
 * Invariant: no image is larger than the options allow, whatever size a document claims.
 */
#include "services/preview-worker/render.h"

#include "libcommon/jget.h"

#include <glib.h>
#include <math.h>
#include <string.h>
#include <webp/encode.h>

/* Lossy at this quality a page of text is 30 to 60 kB; effort 2 costs half of libwebp's default
 * and a tenth more bytes. */
#define WEBP_QUALITY 80.0F
#define WEBP_EFFORT 2

#define WORDS_BYTES_MAX (8U * 1024U * 1024U)

static int64_t clamp_int(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

int render_opts_read(const struct jail_unit *unit, struct render_opts *ret_opts, struct err *err)
{
    const int64_t first = unit_param_int(unit, "first", 0);
    const int64_t last = unit_param_int(unit, "last", 0);

    if (first < 0 || last < 0 || first > RENDER_PAGES_MAX || (last != 0 && last < first)) {
        return err_set(err, ERR_PERMANENT, "invalid_json", "pages %lld to %lld cannot be drawn",
                       (long long)first, (long long)last);
    }
    *ret_opts = (struct render_opts){
        .kind = file_kind_parse(unit_param_str(unit, "kind", "")),
        .first = (unsigned)first,
        .last = (unsigned)clamp_int(last, 0, RENDER_PAGES_MAX),
        .width = (unsigned)clamp_int(unit_param_int(unit, "width", RENDER_WIDTH_DEFAULT), 16,
                                     RENDER_WIDTH_MAX),
        .max_pixels = (uint64_t)clamp_int(unit_param_int(unit, "maxPixels", RENDER_PIXELS_MAX),
                                          10000, RENDER_PIXELS_MAX),
    };
    return 0;
}

int render_range(const struct render_opts *opts, unsigned total, unsigned *ret_first,
                 unsigned *ret_last, struct err *err)
{
    if (total == 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the document has no pages");
    }
    if (total > RENDER_PAGES_MAX) {
        return err_set(err, ERR_PERMANENT, "too_many_pages", "%u pages, at most %d are allowed",
                       total, RENDER_PAGES_MAX);
    }
    if (opts->first > total) {
        return err_set(err, ERR_PERMANENT, "corrupt", "page %u is not in a document of %u pages",
                       opts->first, total);
    }
    if (opts->first == 0) {
        *ret_first = *ret_last = 1;
        return 0;
    }
    *ret_first = opts->first;
    *ret_last = opts->last == 0 || opts->last > total ? total : opts->last;
    return 0;
}

int render_end(struct jail_unit *unit, unsigned total, bool truncated, struct err *err)
{
    json_t *meta = json_pack("{s:i}", "pages", (int)total);

    if (!meta || (truncated && json_object_set_new(meta, "truncated", json_true()) != 0)) {
        json_decref(meta);
        return err_nomem(err);
    }
    return frame_write(unit->out, "end", meta, NULL, 0, err);
}

/* Pixels per point, at most what width, side and pixel limits leave. */
static double page_scale(double width, double height, const struct render_opts *opts)
{
    double scale = (double)opts->width / width;
    const double pixels = (double)opts->max_pixels;

    if (scale > RENDER_SCALE_MAX) {
        scale = RENDER_SCALE_MAX; /* a label stays smaller than a page */
    }
    if (height * scale > RENDER_SIDE_MAX) {
        scale = RENDER_SIDE_MAX / height;
    }
    if (width * height * scale * scale > pixels) {
        scale = sqrt(pixels / (width * height));
    }
    return scale;
}

int canvas_init(struct canvas *canvas, double width, double height, const struct render_opts *opts,
                struct err *err)
{
    *canvas = (struct canvas){0};
    if (!isfinite(width) || !isfinite(height) || width < 1e-3 || height < 1e-3 || width > 1e9 ||
        height > 1e9) {
        width = RENDER_A4_WIDTH;
        height = RENDER_A4_HEIGHT;
    }
    canvas->scale = page_scale(width, height, opts);
    const int width_px = (int)clamp_int(lround(width * canvas->scale), 1, RENDER_SIDE_MAX);
    const int height_px = (int)clamp_int(lround(height * canvas->scale), 1, RENDER_SIDE_MAX);

    canvas->surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width_px, height_px);
    canvas->cr = cairo_create(canvas->surface);
    if (cairo_status(canvas->cr) != CAIRO_STATUS_SUCCESS) {
        canvas_done(canvas);
        return err_nomem(err);
    }
    cairo_set_source_rgb(canvas->cr, 1, 1, 1);
    cairo_paint(canvas->cr);
    cairo_scale(canvas->cr, canvas->scale, canvas->scale);
    return 0;
}

void canvas_done(struct canvas *canvas)
{
    if (canvas->cr) {
        cairo_destroy(canvas->cr);
    }
    if (canvas->surface) {
        cairo_surface_destroy(canvas->surface);
    }
    *canvas = (struct canvas){0};
}

static int encode(WebPPicture *picture, cairo_surface_t *surface, struct err *err)
{
    WebPConfig config;

    if (!WebPConfigPreset(&config, WEBP_PRESET_TEXT, WEBP_QUALITY)) {
        return err_set(err, ERR_FATAL, "internal", "libwebp does not match its header");
    }
    config.method = WEBP_EFFORT;
    picture->width = cairo_image_surface_get_width(surface);
    picture->height = cairo_image_surface_get_height(surface);
    if (!WebPPictureImportBGRX(picture, cairo_image_surface_get_data(surface),
                               cairo_image_surface_get_stride(surface))) {
        return err_nomem(err);
    }
    if (!WebPEncode(&config, picture)) {
        if (picture->error_code == VP8_ENC_ERROR_OUT_OF_MEMORY ||
            picture->error_code == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY) {
            return err_nomem(err);
        }
        return err_set(err, ERR_UNKNOWN, "internal", "webp encoding failed with %d",
                       (int)picture->error_code);
    }
    return 0;
}

int canvas_write(struct canvas *canvas, unsigned page, struct jail_unit *unit, struct err *err)
{
    CLEANUP(WebPPictureFree) WebPPicture picture = {0};
    CLEANUP(WebPMemoryWriterClear) WebPMemoryWriter writer = {0};

    WebPMemoryWriterInit(&writer);
    if (!WebPPictureInit(&picture)) {
        return err_set(err, ERR_FATAL, "internal", "libwebp does not match its header");
    }
    picture.writer = WebPMemoryWrite;
    picture.custom_ptr = &writer;
    cairo_surface_flush(canvas->surface);
    if (encode(&picture, canvas->surface, err) != 0) {
        return -1;
    }
    json_t *meta = json_pack("{s:i, s:i, s:i}", "page", (int)page, "width", picture.width, "height",
                             picture.height);
    if (!meta || (canvas->broken && json_object_set_new(meta, "broken", json_true()) != 0)) {
        json_decref(meta);
        return err_nomem(err);
    }
    return frame_write(unit->out, "image", meta, writer.mem, writer.size, err);
}

void word_list_init(struct word_list *words, double width, double height)
{
    *words = (struct word_list){.width = width, .height = height};
    buf_init(&words->boxes, WORDS_BYTES_MAX);
    buf_init(&words->texts, WORDS_BYTES_MAX);
}

void word_list_done(struct word_list *words)
{
    buf_done(&words->boxes);
    buf_done(&words->texts);
}

static double fraction(double value, double whole)
{
    const double part = whole > 0 ? value / whole : 0;

    return part > 0 ? part < 1 ? part : 1 : 0; /* a NaN becomes 0 */
}

int word_list_add(struct word_list *words, const double box[4], unsigned start, unsigned end,
                  const char *text, size_t len, struct err *err)
{
    if (words->n >= RENDER_WORDS_MAX || len > PTRDIFF_MAX) {
        return 0;
    }
    g_autofree char *valid = g_utf8_make_valid(text, (gssize)len);
    CLEANUP(json_cleanup) json_t *string = json_string(valid);
    CLEANUP(free_cleanup) char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;

    if (!quoted) {
        return err_nomem(err);
    }
    const char *comma = words->n > 0 ? "," : "";

    if (buf_printf(&words->boxes, err, "%s[%.4f,%.4f,%.4f,%.4f,%u,%u,1]", comma,
                   fraction(box[0], words->width), fraction(box[1], words->height),
                   fraction(box[2], words->width), fraction(box[3], words->height), start,
                   end) != 0 ||
        buf_printf(&words->texts, err, "%s%s", comma, quoted) != 0) {
        return -1;
    }
    words->n++;
    return 0;
}

int word_list_write(struct word_list *words, unsigned page, struct jail_unit *unit, struct err *err)
{
    CLEANUP(buf_done) struct buf line;

    buf_init(&line, 2 * WORDS_BYTES_MAX + 1024);
    if (buf_printf(&line, err, "{\"page\":%u,\"width\":%.2f,\"height\":%.2f,\"words\":[", page,
                   words->width, words->height) != 0 ||
        buf_append(&line, words->boxes.data, words->boxes.len, err) != 0 ||
        buf_puts(&line, "],\"texts\":[", err) != 0 ||
        buf_append(&line, words->texts.data, words->texts.len, err) != 0 ||
        buf_puts(&line, "]}", err) != 0) {
        return -1;
    }
    json_t *meta = json_pack("{s:i}", "page", (int)page);

    if (!meta) {
        return err_nomem(err);
    }
    return frame_write(unit->out, "words", meta, line.data, line.len, err);
}
