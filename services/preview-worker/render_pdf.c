/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of a PDF as pictures with a text layer, through poppler and cairo.
 * Invariant: the document comes from the mapped input only; poppler gets no file name and no
 * password. The kept document below holds poppler's global tables alive between units.
 * It refuses documents that need a password; pages that cannot be read become white pages marked
 * `broken`, so that one bad page does not cost the others.
 */
#include "services/preview-worker/render.h"

#include <fontconfig/fontconfig.h>
#include <poppler.h>
#include <string.h>

/* The largest PDF the child maps; its address space is limited anyway. */
#define PDF_BYTES_MAX (512ULL * 1024 * 1024)

/* A document of our own, drawn once in the zygote. Text in two fonts that are not embedded, so
 * that the substitutes are looked up and mapped before the first unit. */
static const char warm_pdf[] =
    "%PDF-1.4\n"
    "1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Contents 4 0 R/Resources<</Font<<"
    "/F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
    "/F2<</Type/Font/Subtype/Type1/BaseFont/Times-Roman>>>>>>>>endobj\n"
    "4 0 obj<</Length 83>>stream\n"
    "BT /F1 12 Tf 10 60 Td (docfleet) Tj /F2 12 Tf 0 -20 Td (preview) Tj ET\n"
    "endstream endobj\n"
    "trailer<</Root 1 0 R/Size 5>>\n%%EOF\n";

static PopplerDocument *kept; /* never closed: see the file head */

DEFINE_CLEANUP(GBytes *, bytes_cleanup, g_bytes_unref)
DEFINE_CLEANUP(PopplerDocument *, document_cleanup, g_object_unref)
DEFINE_CLEANUP(PopplerPage *, page_cleanup, g_object_unref)
DEFINE_CLEANUP(char *, glib_cleanup, g_free)

static int err_from_poppler(struct err *err, GError *error)
{
    int rc;

    if (error && g_error_matches(error, POPPLER_ERROR, POPPLER_ERROR_ENCRYPTED)) {
        rc = err_set(err, ERR_PERMANENT, "encrypted", "the PDF needs a password");
    } else {
        rc = err_set(err, ERR_PERMANENT, "corrupt", "the PDF cannot be read: %s",
                     error ? error->message : "no reason given");
    }
    g_clear_error(&error);
    return rc;
}

/* Characters of a page with their boxes; rects and the code points of text run side by side. */
struct page_text {
    const char *text;
    const PopplerRectangle *rects;
    unsigned n_rects;
};

static void box_grow(double box[4], const PopplerRectangle *rect, bool fresh)
{
    if (fresh) {
        box[0] = rect->x1;
        box[1] = rect->y1;
        box[2] = rect->x2;
        box[3] = rect->y2;
        return;
    }
    box[0] = MIN(box[0], rect->x1);
    box[1] = MIN(box[1], rect->y1);
    box[2] = MAX(box[2], rect->x2);
    box[3] = MAX(box[3], rect->y2);
}

/* Poppler joins cells of rotated tables without a space: a jump of more than a character is one. */
static bool far_apart(const PopplerRectangle *a, const PopplerRectangle *b)
{
    const double limit = MAX(a->x2 - a->x1, a->y2 - a->y1);

    return b->x1 - a->x2 > limit || a->x1 - b->x2 > limit || b->y1 - a->y2 > limit ||
           a->y1 - b->y2 > limit;
}

/* A word is what stands between white space or wide gaps. */
static int add_words(struct word_list *words, const struct page_text *page, struct err *err)
{
    double box[4] = {0};
    const char *start = NULL;
    unsigned start_at = 0;
    unsigned at = 0;
    const char *p = page->text;

    for (; *p != '\0' && at < page->n_rects; p = g_utf8_next_char(p), at++) {
        const bool space = g_unichar_isspace(g_utf8_get_char(p));

        if (start && (space || far_apart(&page->rects[at - 1], &page->rects[at]))) {
            if (word_list_add(words, box, start_at, at, start, (size_t)(p - start), err) != 0) {
                return -1;
            }
            start = NULL;
        }
        if (!space) {
            box_grow(box, &page->rects[at], start == NULL);
            if (!start) {
                start = p;
                start_at = at;
            }
        }
    }
    return start ? word_list_add(words, box, start_at, at, start, (size_t)(p - start), err) : 0;
}

static int write_words(PopplerPage *page, unsigned number, double width, double height,
                       struct jail_unit *unit, struct err *err)
{
    CLEANUP(word_list_done) struct word_list words;
    CLEANUP(glib_cleanup) char *text = NULL;
    PopplerRectangle *rects = NULL;
    guint n_rects = 0;
    int rc = 0;

    word_list_init(&words, width, height);
    if (page) {
        text = poppler_page_get_text(page);
    }
    if (text && *text != '\0' && poppler_page_get_text_layout(page, &rects, &n_rects)) {
        rc = add_words(&words, &(struct page_text){text, rects, n_rects}, err);
        g_free(rects);
    }
    return rc != 0 ? -1 : word_list_write(&words, number, unit, err);
}

static int draw_page(PopplerDocument *document, unsigned number, const struct render_opts *opts,
                     struct jail_unit *unit, struct err *err)
{
    CLEANUP(page_cleanup) PopplerPage *page = poppler_document_get_page(document, (int)number - 1);
    CLEANUP(canvas_done) struct canvas canvas = {0};
    double width = RENDER_A4_WIDTH;
    double height = RENDER_A4_HEIGHT;

    if (page) {
        poppler_page_get_size(page, &width, &height);
    } else if (poppler_document_get_n_pages(document) == 1) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the only page cannot be read");
    }
    if (canvas_init(&canvas, width, height, opts, err) != 0) {
        return -1;
    }
    canvas.broken = page == NULL;
    if (page) {
        poppler_page_render(page, canvas.cr);
    }
    if (canvas_write(&canvas, number, unit, err) != 0) {
        return -1;
    }
    return write_words(page, number, width, height, unit, err);
}

int render_pdf(struct jail_unit *unit, const struct render_opts *opts, struct err *err)
{
    const char *data = NULL;
    size_t len = 0;
    unsigned first = 0;
    unsigned last = 0;
    GError *error = NULL;

    if (unit_map_input(unit, PDF_BYTES_MAX, &data, &len, err) != 0) {
        return -1;
    }
    CLEANUP(bytes_cleanup) GBytes *bytes = g_bytes_new_static(data, len);
    CLEANUP(document_cleanup)
    PopplerDocument *document = poppler_document_new_from_bytes(bytes, NULL, &error);

    if (!document) {
        return err_from_poppler(err, error);
    }
    const int n_pages = poppler_document_get_n_pages(document);
    const unsigned total = n_pages > 0 ? (unsigned)n_pages : 0;

    if (render_range(opts, total, &first, &last, err) != 0) {
        return -1;
    }
    for (unsigned number = first; number <= last; number++) {
        if (draw_page(document, number, opts, unit, err) != 0) {
            return err_wrap(err, "page %u", number);
        }
    }
    return render_end(unit, total, false, err);
}

/* One full sort lets fontconfig read its caches now; a child would do it on its first page. */
static int warm_fonts(struct err *err)
{
    FcResult result = FcResultNoMatch;

    if (!FcInit()) {
        return err_set(err, ERR_FATAL, "internal", "fontconfig does not start");
    }
    FcPattern *pattern = FcNameParse((const FcChar8 *)"sans");

    if (!pattern) {
        return err_nomem(err);
    }
    FcConfigSubstitute(NULL, pattern, FcMatchPattern);
    FcDefaultSubstitute(pattern);
    FcFontSet *fonts = FcFontSort(NULL, pattern, FcTrue, NULL, &result);

    if (fonts) {
        FcFontSetSortDestroy(fonts);
    }
    FcPatternDestroy(pattern);
    return fonts ? 0 : err_set(err, ERR_FATAL, "internal", "no fonts are installed");
}

int render_pdf_warm(struct err *err)
{
    GError *error = NULL;

    if (warm_fonts(err) != 0) {
        return -1;
    }
    CLEANUP(bytes_cleanup) GBytes *bytes = g_bytes_new_static(warm_pdf, strlen(warm_pdf));

    kept = poppler_document_new_from_bytes(bytes, NULL, &error);
    if (!kept) {
        err_from_poppler(err, error);
        err->class = ERR_FATAL;
        return -1;
    }
    CLEANUP(page_cleanup) PopplerPage *page = poppler_document_get_page(kept, 0);
    CLEANUP(canvas_done) struct canvas canvas = {0};
    const struct render_opts opts = {.width = 200, .max_pixels = 100000};

    if (!page || canvas_init(&canvas, 200, 100, &opts, err) != 0) {
        return err_set(err, ERR_FATAL, "internal", "the built-in PDF has no page");
    }
    poppler_page_render(page, canvas.cr);
    CLEANUP(glib_cleanup) char *text = poppler_page_get_text(page);

    return text ? 0 : err_set(err, ERR_FATAL, "internal", "the built-in PDF has no text");
}
