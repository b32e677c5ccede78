/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: jansson */
/* SRCS: services/ocr-fallback/ocr_page.c */
/*
 * Text and words of a page that was read: spans, boxes, breaks, and bytes that are no text.
 */
#include "services/ocr-fallback/ocr_page.h"

#include "libcommon/doctext.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const double box[4] = {0.1, 0.2, 0.3, 0.4};

static void add(struct ocr_page *page, const char *text)
{
    assert_int_equal(ocr_page_word(page, text, strlen(text), box, 0.9, NULL), 0);
}

static void test_spans(void **state)
{
    CLEANUP(ocr_page_done) struct ocr_page page;
    CLEANUP(buf_done) struct buf line = {0};
    CLEANUP(doctext_cleanup) struct doctext *doc = doctext_new();

    (void)state;
    ocr_page_init(&page);
    assert_int_equal(ocr_page_break(&page, true, NULL), 0);
    add(&page, "na\xc3\xafve");
    add(&page, "two words");
    assert_int_equal(ocr_page_break(&page, false, NULL), 0);
    assert_int_equal(ocr_page_break(&page, true, NULL), 0);
    add(&page, "\xf0\x9f\x93\x84");
    assert_string_equal(page.text.data, "na\xc3\xafve two words\n\n\xf0\x9f\x93\x84");
    assert_int_equal(page.n_words, 4);
    assert_int_equal(page.words[2].start, 10);
    assert_int_equal(page.words[3].start, 17);
    assert_int_equal(page.words[3].end, 18);
    /* readers of the line agree with its writer */
    assert_int_equal(ocr_page_words_line(&page, 1, 595, 842, &line, NULL), 0);
    assert_int_equal(doctext_add_page(doc, 1, page.text.data, page.text.len, line.data, line.len,
                                      "tesseract", NULL),
                     0);
    assert_int_equal(doctext_page(doc, 1)->n_words, 4);
    assert_int_equal(doctext_page(doc, 1)->n_cp, page.n_cp);
}

static void test_dirt(void **state)
{
    CLEANUP(ocr_page_done) struct ocr_page page;
    const double odd[4] = {-3, NAN, 7, -INFINITY};

    (void)state;
    ocr_page_init(&page);
    add(&page, "");
    add(&page, "  \xc2\xa0 ");
    add(&page, "\x01\x7f\xff\xfe\xc0\x80\xed\xa0\x80\xf5\x80\x80\x80\xe2\x80\xae");
    assert_int_equal(page.n_words, 0);
    assert_int_equal(page.text.len, 0);
    add(&page, "a\x02"
               "b\xe2\x82");
    assert_string_equal(page.text.data, "ab");
    assert_int_equal(ocr_page_word(&page, "c", 1, odd, NAN, NULL), 0);
    assert_true(page.words[1].x0 == 0 && page.words[1].y0 == 0 && page.words[1].x1 == 1 &&
                page.words[1].y1 == 0 && page.words[1].confidence == 0);
}

static void test_confidence(void **state)
{
    CLEANUP(ocr_page_done) struct ocr_page page;

    (void)state;
    ocr_page_init(&page);
    assert_true(ocr_page_confidence(&page) < 0);
    assert_int_equal(ocr_page_word(&page, "abc", 3, box, 1.0, NULL), 0);
    assert_int_equal(ocr_page_word(&page, "d", 1, box, 0.2, NULL), 0);
    assert_true(fabs(ocr_page_confidence(&page) - 0.8) < 1e-9);
    assert_true(page.score > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_dirt),
        cmocka_unit_test(test_confidence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
