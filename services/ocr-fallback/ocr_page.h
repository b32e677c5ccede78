/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One page as an engine read it: text in reading order and words with boxes. Built the same way by
 * tesseract in the jail and from Textract's blocks in the service.
 * Invariant: the span of a word covers exactly its code points in the text; boxes lie in 0..1;
 * the text is UTF-8 without control characters but line feeds.
 */
#pragma once

#include "libcommon/buf.h"

#define OCR_PAGE_TEXT_MAX (4U << 20)
#define OCR_PAGE_WORDS_MAX 100000U

struct ocr_word {
    double x0, y0, x1, y1; /* fractions of the page, origin top left */
    uint32_t start, end;   /* code points of the text */
    double confidence;     /* 0..1 */
};

struct ocr_page {
    struct buf text;
    uint32_t n_cp;
    struct ocr_word *words;
    size_t n_words, cap_words;
    double weight;   /* code points in words */
    double sum_conf; /* confidence times code points */
    double score;    /* of the whole reading: well-read characters less badly read ones */
};

void ocr_page_init(struct ocr_page *page);
void ocr_page_done(struct ocr_page *page);

/* Ends the line (and with `paragraph` leaves an empty line); nothing on an empty page. */
int ocr_page_break(struct ocr_page *page, bool paragraph, struct err *err) WARN_UNUSED;
/* Adds a word with a blank before it if it does not begin the line; blanks inside become word
 * borders of the text but not of the box. box is clamped; a word without visible characters is left
 * out. */
int ocr_page_word(struct ocr_page *page, const char *text, size_t len, const double box[4],
                  double confidence, struct err *err) WARN_UNUSED;
/* Mean confidence by characters, 0..1; -1 without words. */
double ocr_page_confidence(const struct ocr_page *page);
/* The words line of libcommon/frames.h. */
int ocr_page_words_line(const struct ocr_page *page, int number, double width, double height,
                        struct buf *line, struct err *err) WARN_UNUSED;
