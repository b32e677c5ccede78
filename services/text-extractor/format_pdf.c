/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PDF through poppler: text of each page in reading order, with a box for every word, values of
 * form fields, and the decision which pages OCR has to read.
 * Invariant: one page is held at a time; a page that cannot be read is an empty page, never a lost
 * document. It refuses documents that need a password.
 */
#include "services/text-extractor/format_pdf.h"

#include <cairo.h>
#include <math.h>
#include <poppler.h>
#include <stdio.h>
#include <string.h>

DEFINE_CLEANUP(PopplerDocument *, document_cleanup, g_object_unref)
DEFINE_CLEANUP(PopplerPage *, page_cleanup, g_object_unref)
DEFINE_CLEANUP(GList *, fields_cleanup, poppler_page_free_form_field_mapping)
DEFINE_CLEANUP(GList *, annots_cleanup, poppler_page_free_annot_mapping)
DEFINE_CLEANUP(GList *, images_cleanup, poppler_page_free_image_mapping)
DEFINE_CLEANUP(char *, gstr_cleanup, g_free)
DEFINE_CLEANUP(PopplerRectangle *, rects_cleanup, g_free)
DEFINE_CLEANUP(GError *, gerror_cleanup, g_error_free)
DEFINE_CLEANUP(GBytes *, bytes_cleanup, g_bytes_unref)

/* From the bottom-left coordinates of mappings. */
static struct pdf_rect area_rect(const PopplerRectangle *area, double height)
{
    return (struct pdf_rect){area->x1, height - area->y2, area->x2, height - area->y1};
}

/* --- what stands on the page ----------------------------------------------------------------- */

static size_t count_glyphs(const char *s, size_t len)
{
    size_t count = 0;

    for (size_t i = 0; i < len;) {
        size_t n;

        count += !pdf_is_direction(text_next(s + i, len - i, &n));
        i += n;
    }
    return count;
}

static bool has_rtl(const char *s)
{
    size_t len = strlen(s);

    for (size_t i = 0; i < len;) {
        size_t n;

        if (pdf_is_rtl(text_next(s + i, len - i, &n))) {
            return true;
        }
        i += n;
    }
    return false;
}

/* The page's text, and the selection that gives it. A selection runs in reading order between the
 * lines nearest to its corners, so the page's own corners may miss its first or last line: corners
 * far outside do not. In a right-to-left page it has to run from the top right. */
static char *page_text(PopplerPage *page, const struct pdf_text *text, PopplerRectangle *ret_area)
{
    const double far = 1000.0;
    PopplerRectangle area = {-far, -far, text->width + far, text->height + far};
    PopplerRectangle mirrored = {area.x2, area.y1, area.x1, area.y2};
    CLEANUP(gstr_cleanup) char *s = poppler_page_get_text_for_area(page, &area);
    CLEANUP(gstr_cleanup) char *other = NULL;

    *ret_area = area;
    if (!s || !has_rtl(s)) {
        return STEAL(s);
    }
    other = poppler_page_get_text_for_area(page, &mirrored);
    if (!other || strlen(other) < strlen(s)) {
        return STEAL(s);
    }
    *ret_area = mirrored;
    return STEAL(other);
}

/* The box of the run of glyphs at s, up to the next mark or blank. False if there is none. */
static bool run_box(const char *s, size_t len, const PopplerRectangle *rects, size_t n_rects,
                    struct pdf_rect *ret_box)
{
    size_t at = 0;

    for (size_t i = 0; i < len && at < n_rects;) {
        size_t n;
        uint32_t c = text_next(s + i, len - i, &n);

        i += n;
        if (pdf_is_direction(c)) {
            if (at > 0) {
                break;
            }
            continue;
        }
        if (c <= ' ') {
            break;
        }
        if (at == 0) {
            *ret_box = (struct pdf_rect){rects[0].x1, rects[0].y1, rects[0].x2, rects[0].y2};
        }
        ret_box->x0 = fmin(ret_box->x0, rects[at].x1);
        ret_box->x1 = fmax(ret_box->x1, rects[at].x2);
        at++;
    }
    return at > 0;
}

/* Whether the runs before and after a mark stand apart. Inside a run of a right-to-left word the
 * boxes come from left to right, so only whole runs can be compared. */
static bool runs_apart(const struct pdf_rect *before, const struct pdf_rect *after)
{
    double gap = fmax(before->x0 - after->x1, after->x0 - before->x1);

    return gap > 0.08 * (before->y1 - before->y0) || after->y0 > before->y1;
}

static int add_glyphs(PopplerPage *page, struct pdf_text *text, struct err *err)
{
    PopplerRectangle area;
    CLEANUP(gstr_cleanup) char *s = page_text(page, text, &area);
    CLEANUP(rects_cleanup) PopplerRectangle *rects = NULL;
    size_t len = s ? strlen(s) : 0;
    guint n_rects = 0;
    bool boxes = len > 0 && poppler_page_get_text_layout_for_area(page, &area, &rects, &n_rects) &&
                 n_rects == count_glyphs(s, len);
    size_t at = 0;
    struct pdf_rect run = {0}; /* of glyphs since the last mark */
    bool fresh = true;

    for (size_t i = 0; i < len;) {
        size_t n;
        uint32_t c = text_next(s + i, len - i, &n);
        struct pdf_rect rect = {0};
        bool mark = pdf_is_direction(c);
        bool boxed = boxes && !mark;

        if (mark) {
            struct pdf_rect next;
            bool known = boxes && run.x1 > run.x0 &&
                         run_box(s + i, len - i, rects + at, n_rects - at, &next);

            pdf_text_part(text, known && runs_apart(&run, &next));
            fresh = true;
        }

        if (boxed) {
            rect = (struct pdf_rect){rects[at].x1, rects[at].y1, rects[at].x2, rects[at].y2};
        }
        if (pdf_text_add(text, c, boxed ? &rect : NULL, err)) {
            return -1;
        }
        if (boxed && c > ' ') {
            run = (struct pdf_rect){fresh ? rect.x0 : fmin(run.x0, rect.x0), rect.y0,
                                    fresh ? rect.x1 : fmax(run.x1, rect.x1), rect.y1};
            fresh = false;
        }
        at += boxed;
        i += n;
    }
    return 0;
}

static char *field_value(PopplerFormField *field)
{
    switch (poppler_form_field_get_field_type(field)) {
    case POPPLER_FORM_FIELD_TEXT:
        return poppler_form_field_text_is_password(field) ? NULL
                                                          : poppler_form_field_text_get_text(field);
    case POPPLER_FORM_FIELD_CHOICE: {
        gint n = poppler_form_field_choice_get_n_items(field);
        char *text = poppler_form_field_choice_get_text(field);

        for (gint i = 0; !text && i < n; i++) {
            if (poppler_form_field_choice_is_item_selected(field, i)) {
                text = poppler_form_field_choice_get_item(field, i);
            }
        }
        return text;
    }
    case POPPLER_FORM_FIELD_BUTTON:
        if (poppler_form_field_button_get_button_type(field) != POPPLER_FORM_BUTTON_PUSH &&
            poppler_form_field_button_get_state(field)) {
            return g_strdup("[x]");
        }
        return NULL;
    case POPPLER_FORM_FIELD_SIGNATURE:
    case POPPLER_FORM_FIELD_UNKNOWN:
        return NULL;
    }
    return NULL;
}

/* Form values and typed comments are drawn over the page but are not in its content. */
static int add_overlays(PopplerPage *page, struct pdf_text *text, struct err *err)
{
    CLEANUP(fields_cleanup) GList *fields = poppler_page_get_form_field_mapping(page);
    CLEANUP(annots_cleanup) GList *annots = poppler_page_get_annot_mapping(page);

    for (GList *l = fields; l; l = l->next) {
        PopplerFormFieldMapping *mapping = l->data;
        CLEANUP(gstr_cleanup) char *value = field_value(mapping->field);
        struct pdf_rect rect = area_rect(&mapping->area, text->height);

        if (value && *value && pdf_text_add_line(text, value, &rect, err)) {
            return -1;
        }
    }
    for (GList *l = annots; l; l = l->next) {
        PopplerAnnotMapping *mapping = l->data;
        struct pdf_rect rect = area_rect(&mapping->area, text->height);

        if (poppler_annot_get_annot_type(mapping->annot) == POPPLER_ANNOT_FREE_TEXT) {
            CLEANUP(gstr_cleanup) char *value = poppler_annot_get_contents(mapping->annot);

            if (value && *value && pdf_text_add_line(text, value, &rect, err)) {
                return -1;
            }
        }
    }
    return 0;
}

/* --- does OCR have to read it ------------------------------------------------------------------
 */

static double image_share(PopplerPage *page, double width, double height)
{
    CLEANUP(images_cleanup) GList *images = poppler_page_get_image_mapping(page);
    double sum = 0.0;

    for (GList *l = images; l; l = l->next) {
        const PopplerImageMapping *mapping = l->data;
        double w = fmin(mapping->area.x2, width) - fmax(mapping->area.x1, 0.0);
        double h = fmin(mapping->area.y2, height) - fmax(mapping->area.y1, 0.0);

        if (w > 0.0 && h > 0.0) {
            sum += w * h;
        }
    }
    return fmin(sum / (width * height), 1.0);
}

/* Draws into a recording that keeps operations, no pixels. Asked only of pages without text and
 * without pictures: letters turned into curves, or nothing. */
static bool has_ink(PopplerPage *page)
{
    cairo_surface_t *surface = cairo_recording_surface_create(CAIRO_CONTENT_COLOR_ALPHA, NULL);
    cairo_t *cr = cairo_create(surface);
    double x;
    double y;
    double w = 0.0;
    double h = 0.0;

    poppler_page_render(page, cr);
    cairo_destroy(cr);
    cairo_recording_surface_ink_extents(surface, &x, &y, &w, &h);
    cairo_surface_destroy(surface);
    return w > 4.0 && h > 4.0;
}

static bool page_needs_ocr(PopplerPage *page, const struct pdf_text *text)
{
    struct pdf_facts facts = {0};

    pdf_count(text->text.data ? text->text.data : "", text->text.len, &facts);
    if (pdf_text_is_enough(&facts)) {
        return false;
    }
    facts.images = image_share(page, text->width, text->height);
    facts.ink = facts.chars == 0 && facts.images <= 0.01 && has_ink(page);
    return pdf_needs_ocr(&facts);
}

static int page_read(PopplerDocument *doc, int number, struct text_out *out, struct err *err)
{
    CLEANUP(page_cleanup) PopplerPage *page = poppler_document_get_page(doc, number);
    CLEANUP(pdf_text_done) struct pdf_text text = {0};
    struct text_page done = {.text = ""};
    double width = 0.0;
    double height = 0.0;

    if (page) {
        poppler_page_get_size(page, &width, &height);
    }
    if (!(width > 0.0 && height > 0.0 && width < 1e7 && height < 1e7)) {
        width = height = 0.0;
    }
    pdf_text_init(&text, width > 0.0 ? width : 1.0, height > 0.0 ? height : 1.0);
    if (page && width > 0.0) {
        if (add_glyphs(page, &text, err) || add_overlays(page, &text, err)) {
            return -1;
        }
        done.needs_ocr = page_needs_ocr(page, &text);
        done.text = text.text.data ? text.text.data : "";
        done.len = text.text.len;
        done.words = text.words;
        done.n_words = text.n_words;
    }
    done.width = width;
    done.height = height;
    return text_page_write(out, &done, err);
}

/* --- documents ---------------------------------------------------------------------------------
 */

static PopplerDocument *document_open(const char *data, size_t len, GError **ret_error)
{
    CLEANUP(bytes_cleanup) GBytes *bytes = g_bytes_new_static(data, len);

    return poppler_document_new_from_bytes(bytes, NULL, ret_error);
}

static int open_error(const GError *error, struct err *err)
{
    if (error && error->domain == POPPLER_ERROR && error->code == POPPLER_ERROR_ENCRYPTED) {
        return err_set(err, ERR_PERMANENT, "encrypted", "the PDF needs a password");
    }
    return err_set(err, ERR_PERMANENT, "corrupt", "the PDF is damaged and cannot be repaired");
}

int format_pdf(const struct text_input *in, struct text_out *out, struct err *err)
{
    CLEANUP(gerror_cleanup) GError *error = NULL;
    CLEANUP(document_cleanup) PopplerDocument *doc = document_open(in->data, in->len, &error);
    int pages;

    if (!doc) {
        return open_error(error, err);
    }
    pages = poppler_document_get_n_pages(doc);
    if (pages <= 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the PDF has no pages");
    }
    if ((unsigned)pages > TEXT_PAGES_MAX ||
        (out->page_limit && (unsigned)pages > out->page_limit)) {
        return err_set(err, ERR_PERMANENT, "too_many_pages", "the PDF has %d pages", pages);
    }
    for (int i = 0; i < pages; i++) {
        if (page_read(doc, i, out, err)) {
            return err_wrap(err, "page %d", i + 1);
        }
    }
    return 0;
}

int format_pdf_warm(struct err *err)
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
    static PopplerDocument *kept;
    CLEANUP(page_cleanup) PopplerPage *page = NULL;
    CLEANUP(gstr_cleanup) char *text = NULL;

    kept = document_open(pdf, sizeof(pdf) - 1, NULL);
    page = kept ? poppler_document_get_page(kept, 0) : NULL;
    text = page ? poppler_page_get_text(page) : NULL;
    if (!text || strncmp(text, "docfleet", 8) != 0 || !has_ink(page)) {
        return err_set(err, ERR_FATAL, "no_pdf", "poppler cannot read the built-in page");
    }
    return 0;
}
