/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two decisions of the PDF parser that need no PDF: which code points make words with boxes,
 * and whether a page has to be read by OCR. Split out so that tests can put them to the question.
 * Invariant: the span of a word covers exactly its code points in the page's text.
 */
#pragma once

#include "services/text-extractor/format.h"

#define PDF_WORDS_MAX 200000U /* of one page */

struct pdf_rect {
    double x0, y0, x1, y1; /* points, origin top left */
};

/* A page's text while it is built: clean UTF-8, its length in code points, words found so far. */
struct pdf_text {
    struct buf text;
    uint32_t n_cp;
    struct text_word *words;
    size_t n_words, cap_words;
    bool in_word;
    bool parted;   /* a blank is due before the next code point of this word */
    bool has_last; /* last: where the code point before stood */
    struct pdf_rect last;
    double width, height; /* points, > 0 */
};

void pdf_text_init(struct pdf_text *text, double width, double height);
void pdf_text_done(struct pdf_text *text);
/* Appends one code point; rect may be NULL (then it joins no box). Controls are dropped, white
 * space ends a word; a blank is put in where the distance to the code point before asks for it. */
int pdf_text_add(struct pdf_text *text, uint32_t c, const struct pdf_rect *rect,
                 struct err *err) WARN_UNUSED;
/* Marks of writing direction: they have no place on the page and are left out of the text. */
bool pdf_is_direction(uint32_t c);
/* Letters of Hebrew, Arabic and their neighbours. */
bool pdf_is_rtl(uint32_t c);
/* At a direction mark: the glyphs on its two sides are apart on the page, or they touch. */
void pdf_text_part(struct pdf_text *text, bool apart);
/* Appends a whole UTF-8 string as a line of its own, all its words in one box. */
int pdf_text_add_line(struct pdf_text *text, const char *s, const struct pdf_rect *rect,
                      struct err *err) WARN_UNUSED;

/* What is known of a page beside its text. */
struct pdf_facts {
    uint32_t chars;   /* code points that are not white space */
    uint32_t garbage; /* of these: replacement, private use, unassigned */
    double images;    /* share of the page that pictures cover, 0..1 */
    bool ink;         /* something is drawn; asked only when there is no text */
};

void pdf_count(const char *text, size_t len, struct pdf_facts *facts);
/* Whether counting alone settles it that OCR is not needed (then images and ink stay unasked). */
bool pdf_text_is_enough(const struct pdf_facts *facts);
bool pdf_needs_ocr(const struct pdf_facts *facts);
