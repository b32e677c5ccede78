/* SPDX-License-Identifier: Apache-2.0 */
/* PDF: spans and boxes of words, form values, which pages need OCR, refusals. */
#include "services/text-extractor/format_pdf.h"
#include "tests/unit/formats_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[9 0 R]>>>>endobj\n"
#define PAGE                                                                                       \
    "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Contents 4 0 R/Annots[9 0 R]"          \
    "/Resources<</Font<</F1 5 0 R>>/XObject<</I 6 0 R>>>>>>endobj\n"
#define FONT                                                                                       \
    "5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>endobj\n"
#define IMAGE                                                                                      \
    "6 0 obj<</Type/XObject/Subtype/Image/Width 1/Height 1/BitsPerComponent 8"                     \
    "/ColorSpace/DeviceGray/Length 1>>stream\nx\nendstream endobj\n"
#define TAIL "trailer<</Root 1 0 R>>\n%%EOF\n"

static struct extracted *one_page(const char *content, const char *more)
{
    char pdf[4096];
    int n = snprintf(pdf, sizeof(pdf),
                     "%s2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n%s"
                     "4 0 obj<</Length %zu>>stream\n%s\nendstream endobj\n%s%s%s%s",
                     HEAD, PAGE, strlen(content), content, FONT, IMAGE, more, TAIL);

    assert_true(n > 0 && (size_t)n < sizeof(pdf));
    return extract(pdf, (size_t)n, "x.pdf", 0);
}

/* The code points [start, end) of a text. */
static void slice(const char *text, size_t start, size_t end, char *ret, size_t size)
{
    size_t at = 0;
    size_t len = 0;

    for (size_t i = 0; text[i];) {
        size_t n;

        (void)text_next(text + i, strlen(text) - i, &n);
        if (at >= start && at < end && len + n < size) {
            memcpy(ret + len, text + i, n);
            len += n;
        }
        at++;
        i += n;
    }
    ret[len] = '\0';
}

static void test_words(void **state)
{
    static const char *const wanted[] = {"Gr\u00fc\u00dfe", "aus",  "K\u00f6ln", "\u20ac",
                                         "12,50",           "Next", "line."};
    CLEANUP(extracted_cleanup)
    struct extracted *got =
        one_page("BT /F1 12 Tf 20 70 Td (Gr\\374\\337e aus K\\366ln \\200 12,50) Tj 0 -20 Td "
                 "(Next line.) Tj ET",
                 "");
    json_t *line = NULL;
    json_t *words;

    (void)state;
    assert_has(got, "Gr\u00fc\u00dfe aus K\u00f6ln \u20ac 12,50\nNext line.");
    assert_string_equal(got->method, "pdf");
    assert_false(got->needs_ocr[0]);
    assert_non_null(got->words[0]);
    assert_null(strchr(got->words[0], '\n'));
    line = json_loads(got->words[0], 0, NULL);
    words = json_object_get(line, "words");
    assert_int_equal(json_array_size(words), ARRAY_LEN(wanted));
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        json_t *word = json_array_get(words, i);
        char text[64];
        double box[4];

        assert_int_equal(json_array_size(word), 7);
        slice(got->pages[0], (size_t)json_integer_value(json_array_get(word, 4)),
              (size_t)json_integer_value(json_array_get(word, 5)), text, sizeof(text));
        assert_string_equal(text, wanted[i]);
        for (size_t k = 0; k < 4; k++) {
            box[k] = json_number_value(json_array_get(word, k));
            assert_true(box[k] >= 0.0 && box[k] <= 1.0);
        }
        assert_true(box[0] < box[2] && box[1] < box[3]);
        /* The first line begins at x 20 of 200 and lies above the middle of the page. */
        assert_true(i > 0 || (box[0] > 0.09 && box[0] < 0.12));
        assert_true(i >= 5 ? box[1] > 0.35 : box[3] < 0.4);
    }
    json_decref(line);
}

static void test_cells_stay_apart(void **state)
{
    CLEANUP(extracted_cleanup)
    struct extracted *got =
        one_page("BT /F1 10 Tf 20 70 Td (Qty) Tj 40 0 Td (Price) Tj -40 -12 Td (2) Tj 40 0 Td "
                 "(9.90) Tj ET",
                 "");

    (void)state;
    assert_lacks(got, "QtyPrice");
    assert_lacks(got, "29.90");
}

static void test_form_values(void **state)
{
    CLEANUP(extracted_cleanup)
    struct extracted *got = one_page(
        "BT /F1 12 Tf 20 70 Td (Name:) Tj ET",
        "9 0 obj<</Type/Annot/Subtype/Widget/FT/Tx/T(n)/V(Ada Lovelace)/Rect[60 60 160 80]>>"
        "endobj\n");

    (void)state;
    assert_has(got, "Name:");
    assert_has(got, "Ada Lovelace");
}

static void test_needs_ocr(void **state)
{
    CLEANUP(extracted_cleanup) struct extracted *scan = one_page("200 0 0 100 0 0 cm /I Do", "");
    CLEANUP(extracted_cleanup) struct extracted *blank = one_page(" ", "");
    CLEANUP(extracted_cleanup)
    struct extracted *drawn = one_page("20 20 m 90 80 l 150 30 l h f", "");
    CLEANUP(extracted_cleanup)
    struct extracted *stamped =
        one_page("q 200 0 0 100 0 0 cm /I Do Q BT /F1 8 Tf 5 5 Td (page 1) Tj ET", "");

    (void)state;
    assert_true(scan->needs_ocr[0]);
    assert_false(blank->needs_ocr[0]);
    assert_true(drawn->needs_ocr[0]);
    assert_true(stamped->needs_ocr[0]);
    assert_has(stamped, "page 1");
}

static void test_decision(void **state)
{
    static const struct {
        struct pdf_facts facts;
        bool wanted;
    } cases[] = {
        {{.chars = 1000}, false},
        {{.chars = 1000, .images = 1.0}, false},
        {{.chars = 1000, .garbage = 400}, true},
        {{.chars = 1000, .garbage = 100}, false},
        {{.chars = 50, .images = 0.9}, true},
        {{.chars = 50, .images = 0.3}, false},
        {{.chars = 10, .images = 0.3}, true},
        {{.chars = 10}, false},
        {{.images = 0.05}, true},
        {{.ink = true}, true},
        {{0}, false},
    };
    struct pdf_facts facts = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(pdf_needs_ocr(&cases[i].facts), cases[i].wanted);
    }
    pdf_count(BYTES("a b\n\ufffd\ue000\U000f0001"), &facts);
    assert_int_equal(facts.chars, 5);
    assert_int_equal(facts.garbage, 3);
}

static void test_refusals(void **state)
{
    static const char two[] = HEAD "2 0 obj<</Type/Pages/Kids[3 0 R 3 0 R]/Count 2>>endobj\n" PAGE
                                   "4 0 obj<</Length 1>>stream\n \nendstream endobj\n" FONT TAIL;
    CLEANUP(extracted_cleanup) struct extracted *got = extract(BYTES(two), "x.pdf", 1);

    (void)state;
    assert_int_equal(got->rc, -1);
    assert_string_equal(got->err.code, "too_many_pages");
    assert_refused(BYTES("%PDF-1.4\nnothing here"), "x.pdf", "corrupt");
    assert_refused(BYTES(""), "x.pdf", "empty_file");
}

int formats_pdf_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),       cmocka_unit_test(test_cells_stay_apart),
        cmocka_unit_test(test_form_values), cmocka_unit_test(test_needs_ocr),
        cmocka_unit_test(test_decision),    cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests_name("pdf", tests, NULL, NULL);
}
