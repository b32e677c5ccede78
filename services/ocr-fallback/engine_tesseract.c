/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tesseract's C interface: one handle per set of languages, made in the zygote for the default one
 * and copied by fork; other languages are loaded by the child.
 */
#include "services/ocr-fallback/ocr.h"

#include <string.h>
#include <tesseract/capi.h>

#define DEFAULT_LANGUAGES "eng"
#define TURN_SURE 1.5F    /* tesseract's own scale for the orientation of a page */
#define NOISE_BELOW 30.0F /* of 100: a word without a letter or digit is noise of a picture */

static TessBaseAPI *warm_api; /* DEFAULT_LANGUAGES, or NULL: its data is not installed */
static TessBaseAPI *turn_api; /* orientation, or NULL */
static TessBaseAPI *api;      /* chosen by tesseract_prepare */

static TessBaseAPI *start(const char *languages, TessOcrEngineMode mode)
{
    TessBaseAPI *made = TessBaseAPICreate();

    if (!made) {
        return NULL;
    }
    if (TessBaseAPIInit2(made, NULL, languages, mode) != 0) {
        TessBaseAPIDelete(made);
        return NULL;
    }
    TessBaseAPISetVariable(made, "debug_file", "/dev/null");
    return made;
}

void tesseract_warm(void)
{
    warm_api = start(DEFAULT_LANGUAGES, OEM_LSTM_ONLY);
    turn_api = start("osd", OEM_TESSERACT_ONLY);
}

int tesseract_prepare(const char *languages, struct err *err)
{
    if (strcmp(languages, DEFAULT_LANGUAGES) == 0) {
        api = warm_api;
    } else {
        api = start(languages, OEM_LSTM_ONLY);
    }
    if (!api) {
        return err_set(err, ERR_TRANSIENT, "provider_unavailable",
                       "tesseract has no data for the languages %.60s", languages);
    }
    return 0;
}

/* From pixels of the turned bitmap to fractions of the page as it was. */
static void place(const struct bitmap *bitmap, int turned, const int px[4], double box[4])
{
    double x0 = (double)px[0] / bitmap->width, y0 = (double)px[1] / bitmap->height;
    double x1 = (double)px[2] / bitmap->width, y1 = (double)px[3] / bitmap->height;
    const double straight[] = {x0, y0, x1, y1};
    const double by90[] = {y0, 1 - x1, y1, 1 - x0};
    const double by180[] = {1 - x1, 1 - y1, 1 - x0, 1 - y0};
    const double by270[] = {1 - y1, x0, 1 - y0, x1};

    memcpy(box,
           turned == 90    ? by90
           : turned == 180 ? by180
           : turned == 270 ? by270
                           : straight,
           sizeof(straight));
    bool swap = turned == 90 || turned == 270;
    bitmap_tilt_back(bitmap, swap ? bitmap->height : bitmap->width,
                     swap ? bitmap->width : bitmap->height, box);
}

static bool has_letter(const char *text)
{
    for (; *text; text++) {
        if ((*text >= '0' && *text <= '9') || (*text >= 'A' && *text <= 'Z') ||
            (*text >= 'a' && *text <= 'z') || (*text & 0x80)) {
            return true;
        }
    }
    return false;
}

static int add_word(TessResultIterator *it, const struct bitmap *bitmap, int turned,
                    struct ocr_page *page, struct err *err)
{
    const TessPageIterator *at = TessResultIteratorGetPageIteratorConst(it);
    float confidence = TessResultIteratorConfidence(it, RIL_WORD);
    int px[4];
    double box[4];

    if (page->n_words > 0) {
        bool paragraph = TessPageIteratorIsAtBeginningOf(at, RIL_PARA) ||
                         TessPageIteratorIsAtBeginningOf(at, RIL_BLOCK);
        if ((paragraph || TessPageIteratorIsAtBeginningOf(at, RIL_TEXTLINE)) &&
            ocr_page_break(page, paragraph, err) < 0) {
            return -1;
        }
    }
    if (!TessPageIteratorBoundingBox(at, RIL_WORD, &px[0], &px[1], &px[2], &px[3])) {
        return 0;
    }
    char *text = TessResultIteratorGetUTF8Text(it, RIL_WORD);
    if (!text) {
        return 0;
    }
    place(bitmap, turned, px, box);
    int r = confidence < NOISE_BELOW && !has_letter(text)
                ? 0
                : ocr_page_word(page, text, strlen(text), box, (double)confidence / 100, err);
    TessDeleteText(text);
    return r;
}

int tesseract_read(const struct bitmap *bitmap, enum reading_mode mode, int turned,
                   struct ocr_page *ret_page, struct err *err)
{
    struct ocr_page page;
    int r = 0;

    TessBaseAPISetPageSegMode(api, mode == READ_BLOCK ? PSM_SINGLE_BLOCK : PSM_AUTO);
    TessBaseAPISetVariable(api, "thresholding_method", mode == READ_LAYOUT ? "0" : "1");
    TessBaseAPISetImage(api, bitmap->pixels, bitmap->width, bitmap->height, 1, bitmap->width);
    TessBaseAPISetSourceResolution(api, bitmap->dpi);
    if (TessBaseAPIRecognize(api, NULL) != 0) {
        TessBaseAPIClear(api);
        return err_set(err, ERR_UNKNOWN, "child_crashed", "tesseract gave up on the page");
    }
    TessResultIterator *it = TessBaseAPIGetIterator(api);
    ocr_page_init(&page);
    if (it) {
        do {
            r = add_word(it, bitmap, turned, &page, err);
        } while (r == 0 && TessResultIteratorNext(it, RIL_WORD));
        TessResultIteratorDelete(it);
    }
    TessBaseAPIClear(api);
    if (r < 0) {
        ocr_page_done(&page);
        return -1;
    }
    *ret_page = page;
    return 0;
}

int tesseract_turn(const struct bitmap *bitmap)
{
    int degrees = 0;
    float sure = 0, script_sure = 0;
    const char *script = NULL;

    if (!turn_api) {
        return 0;
    }
    TessBaseAPISetPageSegMode(turn_api, PSM_OSD_ONLY);
    TessBaseAPISetImage(turn_api, bitmap->pixels, bitmap->width, bitmap->height, 1, bitmap->width);
    TessBaseAPISetSourceResolution(turn_api, bitmap->dpi);
    BOOL found =
        TessBaseAPIDetectOrientationScript(turn_api, &degrees, &sure, &script, &script_sure);
    TessBaseAPIClear(turn_api);
    if (!found || sure < TURN_SURE || (degrees != 90 && degrees != 180 && degrees != 270)) {
        return 0;
    }
    return 360 - degrees;
}
