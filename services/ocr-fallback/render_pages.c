/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages as grey bitmaps: PDF through poppler and cairo, pictures through libcommon/picture.
 * A resolution stands for a number of pixels: an A4 page has 3.9 million of them at 200 dpi, and
 * that is how large a photographed page is made, too. Small pictures are enlarged, as tesseract
 * wants letters of some 20 pixels.
 */
#include "services/ocr-fallback/ocr.h"

#include "libcommon/picture/picture.h"

#include <cairo.h>
#include <fontconfig/fontconfig.h>
#include <math.h>
#include <poppler.h>
#include <string.h>

#define A4_SQUARE_INCHES (8.27 * 11.69)
#define DRAW_PIXELS_MAX 20e6 /* of a bitmap we make */
#define DRAW_SIDE_MAX 10000
#define ENLARGE_MAX 3.0
#define ENLARGE_BELOW 0.35 /* of the pixels an A4 page would have */
#define JPEG_QUALITY 85

DEFINE_CLEANUP(GBytes *, bytes_cleanup, g_bytes_unref)
DEFINE_CLEANUP(PopplerPage *, page_cleanup, g_object_unref)
DEFINE_CLEANUP(cairo_surface_t *, surface_cleanup, cairo_surface_destroy)
DEFINE_CLEANUP(cairo_t *, cairo_cleanup, cairo_destroy)
DEFINE_CLEANUP(GError *, gerror_cleanup, g_error_free)

struct pages {
    GBytes *bytes;
    PopplerDocument *pdf; /* NULL: a picture */
    struct picture picture;
    int n;
};

static PopplerDocument *kept; /* never closed: poppler's tables go with its last document */

/* --- bitmaps ---------------------------------------------------------------------------------- */

void bitmap_done(struct bitmap *bitmap)
{
    free(bitmap->pixels);
    bitmap->pixels = NULL;
}

static int bitmap_new(int width, int height, struct bitmap *ret, struct err *err)
{
    ret->pixels = malloc((size_t)width * (size_t)height);
    ret->width = width;
    ret->height = height;
    return ret->pixels ? 0 : err_nomem(err);
}

int bitmap_turn(const struct bitmap *from, int degrees, struct bitmap *ret, struct err *err)
{
    bool swap = degrees == 90 || degrees == 270;
    const int w = from->width, h = from->height;

    *ret = *from;
    if (bitmap_new(swap ? h : w, swap ? w : h, ret, err) < 0) {
        return -1;
    }
    for (int y = 0; y < ret->height; y++) {
        unsigned char *row = ret->pixels + (size_t)y * (size_t)ret->width;
        for (int x = 0; x < ret->width; x++) {
            int sx = degrees == 90 ? y : degrees == 180 ? w - 1 - x : w - 1 - y;
            int sy = degrees == 90 ? h - 1 - x : degrees == 180 ? h - 1 - y : x;
            row[x] = from->pixels[(size_t)sy * (size_t)w + (size_t)sx];
        }
    }
    return 0;
}

bool bitmap_blank(const struct bitmap *bitmap)
{
    size_t n = (size_t)bitmap->width * (size_t)bitmap->height;
    size_t counts[256] = {0};
    size_t below = 0, above = 0;
    int low = 0, high = 255;

    for (size_t i = 0; i < n; i++) {
        counts[bitmap->pixels[i]]++;
    }
    /* A few specks do not make a page. */
    while (low < 255 && (below += counts[low]) <= n / 20000) {
        low++;
    }
    while (high > 0 && (above += counts[high]) <= n / 20000) {
        high--;
    }
    return high - low < 24;
}

int bitmap_jpeg(const struct bitmap *bitmap, void **ret_data, size_t *ret_len, struct err *err)
{
    CLEANUP(vips_image_cleanup)
    VipsImage *image =
        vips_image_new_from_memory(bitmap->pixels, (size_t)bitmap->width * (size_t)bitmap->height,
                                   bitmap->width, bitmap->height, 1, VIPS_FORMAT_UCHAR);

    if (!image) {
        return err_from_vips(err, "the page");
    }
    image->Type = VIPS_INTERPRETATION_B_W;
    if (vips_jpegsave_buffer(image, ret_data, ret_len, "Q", JPEG_QUALITY, "strip", TRUE, NULL) !=
        0) {
        return err_from_vips(err, "the page as JPEG");
    }
    return 0;
}

/* --- PDF -------------------------------------------------------------------------------------- */

static int open_pdf(struct pages *pages, struct err *err)
{
    CLEANUP(gerror_cleanup) GError *error = NULL;

    pages->pdf = poppler_document_new_from_bytes(pages->bytes, NULL, &error);
    if (!pages->pdf) {
        if (error && g_error_matches(error, POPPLER_ERROR, POPPLER_ERROR_ENCRYPTED)) {
            return err_set(err, ERR_PERMANENT, "encrypted", "the PDF needs a password");
        }
        return err_set(err, ERR_PERMANENT, "corrupt", "the PDF is damaged and cannot be repaired");
    }
    pages->n = poppler_document_get_n_pages(pages->pdf);
    return pages->n > 0 ? 0 : err_set(err, ERR_PERMANENT, "corrupt", "the PDF has no pages");
}

/* Grey as the eye weighs colours; the surface is opaque. */
static int grey_from_surface(cairo_surface_t *surface, struct bitmap *ret, struct err *err)
{
    cairo_surface_flush(surface);
    const unsigned char *data = cairo_image_surface_get_data(surface);
    size_t stride = (size_t)cairo_image_surface_get_stride(surface);

    if (bitmap_new(cairo_image_surface_get_width(surface), cairo_image_surface_get_height(surface),
                   ret, err) < 0) {
        return -1;
    }
    for (int y = 0; y < ret->height; y++) {
        const unsigned char *in = data + (size_t)y * stride;
        unsigned char *out = ret->pixels + (size_t)y * (size_t)ret->width;
        for (int x = 0; x < ret->width; x++, in += 4) {
            out[x] = (unsigned char)((29U * in[0] + 150U * in[1] + 77U * in[2] + 128U) >> 8);
        }
    }
    return 0;
}

static int draw_pdf(struct pages *pages, int number, int dpi, struct bitmap *ret, struct err *err)
{
    CLEANUP(page_cleanup) PopplerPage *page = poppler_document_get_page(pages->pdf, number - 1);
    double width = 0, height = 0;

    if (page) {
        poppler_page_get_size(page, &width, &height);
    }
    if (!(width > 0 && height > 0 && width < 1e6 && height < 1e6)) {
        return err_set(err, ERR_PERMANENT, "corrupt", "page %d cannot be read", number);
    }
    double scale = dpi / 72.0;
    double share = width * height * scale * scale / (A4_SQUARE_INCHES * dpi * dpi);
    if (share < ENLARGE_BELOW) {
        scale *= fmin(sqrt(ENLARGE_BELOW / share), ENLARGE_MAX);
    }
    scale = fmin(scale, sqrt(DRAW_PIXELS_MAX / (width * height)));
    scale = fmin(scale, DRAW_SIDE_MAX / fmax(width, height));
    int w = (int)fmax(width * scale, 1), h = (int)fmax(height * scale, 1);
    CLEANUP(surface_cleanup)
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, w, h);
    CLEANUP(cairo_cleanup) cairo_t *cr = cairo_create(surface);

    if (cairo_surface_status(surface) != CAIRO_STATUS_SUCCESS) {
        return err_nomem(err);
    }
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_paint(cr);
    cairo_scale(cr, w / width, h / height);
    poppler_page_render(page, cr);
    *ret =
        (struct bitmap){.dpi = (int)(scale * 72 + 0.5), .page_width = width, .page_height = height};
    return grey_from_surface(surface, ret, err);
}

/* --- pictures --------------------------------------------------------------------------------- */

/* Enlarges or takes as it is; 3 bands of 8 bits become one. */
static int grey_from_image(VipsImage *image, double enlarge, struct bitmap *ret, struct err *err)
{
    CLEANUP(vips_image_cleanup) VipsImage *grey = NULL;
    CLEANUP(vips_image_cleanup) VipsImage *large = NULL;
    CLEANUP(vips_image_cleanup) VipsImage *bytes = NULL;
    size_t size = 0;

    if (vips_colourspace(image, &grey, VIPS_INTERPRETATION_B_W, NULL) != 0 ||
        (enlarge > 1.01 ? vips_resize(grey, &large, enlarge, "kernel", VIPS_KERNEL_CUBIC, NULL)
                        : vips_copy(grey, &large, NULL)) != 0 ||
        vips_cast_uchar(large, &bytes, NULL) != 0) {
        return err_from_vips(err, "the picture cannot be decoded");
    }
    const int w = bytes->Xsize, h = bytes->Ysize;
    unsigned char *pixels = bytes->Bands == 1 ? vips_image_write_to_memory(bytes, &size) : NULL;
    if (!pixels) {
        return err_from_vips(err, "the picture cannot be decoded");
    }
    int r = bitmap_new(w, h, ret, err);
    if (r == 0) {
        memcpy(ret->pixels, pixels, (size_t)w * (size_t)h);
    }
    g_free(pixels);
    return r;
}

static int draw_picture(struct pages *pages, int number, int dpi, struct bitmap *ret,
                        struct err *err)
{
    CLEANUP(vips_image_cleanup) VipsImage *image = NULL;
    const struct picture *picture = &pages->picture;
    double stored = (double)picture->width * picture->height;
    double wanted = A4_SQUARE_INCHES * dpi * dpi;
    double longest = fmax(picture->width, picture->height);
    double shrink = fmin(1.0, sqrt(wanted / stored));
    int box = (int)fmin(ceil(longest * shrink), DRAW_SIDE_MAX);

    if (picture_fit(picture, number - 1, box, box, &image, err) != 0) {
        return -1;
    }
    double now = (double)image->Xsize * image->Ysize;
    double enlarge =
        now < wanted * ENLARGE_BELOW ? fmin(sqrt(wanted * ENLARGE_BELOW / now), ENLARGE_MAX) : 1;
    enlarge = fmin(enlarge, DRAW_SIDE_MAX / fmax(image->Xsize, image->Ysize));
    bool turned = (image->Xsize > image->Ysize) != (picture->width > picture->height);
    *ret = (struct bitmap){
        .dpi = dpi,
        .page_width = turned ? picture->height : picture->width,
        .page_height = turned ? picture->width : picture->height,
    };
    if (number > 1 || image->Xsize == image->Ysize) { /* the stored size is that of the first */
        ret->page_width = image->Xsize;
        ret->page_height = image->Ysize;
    }
    return grey_from_image(image, enlarge, ret, err);
}

/* --- both ------------------------------------------------------------------------------------- */

int pages_open(const char *data, size_t len, enum file_kind kind, struct pages **ret_pages,
               struct err *err)
{
    struct pages *pages = calloc(1, sizeof(*pages));
    int r;

    if (!pages) {
        return err_nomem(err);
    }
    if (len == 0) {
        r = err_set(err, ERR_PERMANENT, "empty_file", "the file is empty");
    } else if (kind == FILE_PDF) {
        pages->bytes = g_bytes_new_static(data, len);
        r = open_pdf(pages, err);
    } else {
        r = picture_open(data, len, &pages->picture, err);
        pages->n = pages->picture.pages;
        pages->picture.whole = true; /* half of a text would pass for all of it */
    }
    if (r == 0 && pages->n > OCR_PAGES_MAX) {
        r = err_set(err, ERR_PERMANENT, "too_many_pages", "%d pages, at most %d are allowed",
                    pages->n, OCR_PAGES_MAX);
    }
    if (r < 0) {
        pages_close(pages);
        return -1;
    }
    *ret_pages = pages;
    return 0;
}

void pages_close(struct pages *pages)
{
    if (pages) {
        if (pages->pdf) {
            g_object_unref(pages->pdf);
        }
        if (pages->bytes) {
            g_bytes_unref(pages->bytes);
        }
        picture_close(&pages->picture);
        free(pages);
    }
}

int pages_count(const struct pages *pages)
{
    return pages->n;
}

int pages_draw(struct pages *pages, int page, int dpi, struct bitmap *ret, struct err *err)
{
    if (page < 1 || page > pages->n) {
        return err_set(err, ERR_PERMANENT, "corrupt", "there is no page %d", page);
    }
    struct bitmap bitmap = {0};
    if ((pages->pdf ? draw_pdf(pages, page, dpi, &bitmap, err)
                    : draw_picture(pages, page, dpi, &bitmap, err)) < 0) {
        bitmap_done(&bitmap);
        return -1;
    }
    *ret = bitmap;
    return 0;
}

/* --- warming ---------------------------------------------------------------------------------- */

/* One full sort lets fontconfig read its caches now. */
static int warm_fonts(struct err *err)
{
    FcResult result = FcResultNoMatch;
    FcPattern *pattern = FcInit() ? FcNameParse((const FcChar8 *)"sans") : NULL;

    if (!pattern) {
        return err_set(err, ERR_FATAL, "internal", "fontconfig does not start");
    }
    FcConfigSubstitute(NULL, pattern, FcMatchPattern);
    FcDefaultSubstitute(pattern);
    FcFontSet *fonts = FcFontSort(NULL, pattern, FcTrue, NULL, &result);
    if (fonts) {
        FcFontSetSortDestroy(fonts);
    }
    FcPatternDestroy(pattern);
    return 0;
}

int render_pages_warm(const char *argv0, struct err *err)
{
    static const char pdf[] =
        "%PDF-1.4\n"
        "1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Contents 4 0 R"
        "/Resources<</Font<</F1 5 0 R>>>>>>endobj\n"
        "4 0 obj<</Length 39>>stream\nBT /F1 12 Tf 20 50 Td (docfleet) Tj ET \nendstream endobj\n"
        "5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\n"
        "trailer<</Root 1 0 R/Size 6>>\n%%EOF\n";
    CLEANUP(bytes_cleanup) GBytes *bytes = g_bytes_new_static(pdf, sizeof(pdf) - 1);
    struct pages trusted = {.n = 1};
    struct bitmap bitmap = {0};

    if (picture_setup(argv0, err) != 0 || warm_fonts(err) < 0) {
        return -1;
    }
    kept = poppler_document_new_from_bytes(bytes, NULL, NULL);
    trusted.pdf = kept;
    if (!kept || draw_pdf(&trusted, 1, 72, &bitmap, err) < 0) {
        return err_set(err, ERR_FATAL, "no_pdf", "poppler cannot draw the built-in page");
    }
    bitmap_done(&bitmap);
    return 0;
}
