/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PDF page's text as code points with boxes, cut into words, and the question whether OCR has to
 * read the page. No PDF library here.
 * Invariant: word spans index the very text that is published; both are built in the same step.
 */
#include "services/text-extractor/format_pdf.h"

#include <math.h>
#include <string.h>

#define ENOUGH_CHARS 100U /* so much text is a text page, whatever pictures it has */
#define FEW_CHARS 20U     /* a page number, a stamp */
#define GARBAGE_SHARE 0.3 /* of the characters: no usable mapping to Unicode */
#define PICTURE_SHARE 0.6 /* of the page: a scan with a line of text over it */
#define SOME_PICTURE 0.2

void pdf_text_init(struct pdf_text *text, double width, double height)
{
    *text = (struct pdf_text){.width = width, .height = height};
    buf_init(&text->text, TEXT_TOTAL_MAX);
}

void pdf_text_done(struct pdf_text *text)
{
    buf_done(&text->text);
    free(text->words);
    text->words = NULL;
}

static bool is_space(uint32_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == 0xa0 || c == 0x3000 || c == 0x202f ||
           (c >= 0x2000 && c <= 0x200a);
}

bool pdf_is_direction(uint32_t c)
{
    return (c >= 0x202a && c <= 0x202e) || c == 0x200e || c == 0x200f ||
           (c >= 0x2066 && c <= 0x2069);
}

bool pdf_is_rtl(uint32_t c)
{
    return (c >= 0x590 && c < 0x900) || (c >= 0xfb1d && c < 0xfe00) || (c >= 0xfe70 && c < 0xfeff);
}

static bool is_dropped(uint32_t c)
{
    return (c < 0x20 && c != '\t' && c != '\n') || c == 0x7f || (c >= 0x80 && c < 0xa0) ||
           c == 0xfeff;
}

static double fraction(double value, double of)
{
    double f = value / of;

    /* Also catches NaN. */
    return f > 0.0 ? fmin(f, 1.0) : 0.0;
}

static int word_start(struct pdf_text *text, struct err *err)
{
    if (text->n_words == PDF_WORDS_MAX) {
        return 0;
    }
    if (text->n_words == text->cap_words) {
        size_t cap = text->cap_words ? text->cap_words * 2 : 256;
        struct text_word *words = reallocarray(text->words, cap, sizeof(*words));

        if (!words) {
            return err_nomem(err);
        }
        text->words = words;
        text->cap_words = cap;
    }
    text->words[text->n_words++] =
        (struct text_word){.x0 = 1.0, .y0 = 1.0, .start = text->n_cp, .end = text->n_cp};
    text->in_word = true;
    return 0;
}

static void word_grow(struct pdf_text *text, const struct pdf_rect *rect)
{
    struct text_word *word = &text->words[text->n_words - 1];

    word->end = text->n_cp + 1;
    if (rect) {
        word->x0 = fmin(word->x0, fraction(fmin(rect->x0, rect->x1), text->width));
        word->x1 = fmax(word->x1, fraction(fmax(rect->x0, rect->x1), text->width));
        word->y0 = fmin(word->y0, fraction(fmin(rect->y0, rect->y1), text->height));
        word->y1 = fmax(word->y1, fraction(fmax(rect->y0, rect->y1), text->height));
    }
}

/* A word none of whose characters had a place keeps its turned-round start box: drop it. */
static void word_end(struct pdf_text *text)
{
    if (text->in_word) {
        const struct text_word *word = &text->words[text->n_words - 1];

        if (word->x1 < word->x0 || word->y1 < word->y0) {
            text->n_words--;
        }
    }
    text->in_word = false;
}

/* Table cells that stand apart come without a blank between them: the distance tells. Returns the
 * separator that is missing before rect, or 0. */
static uint32_t missing_blank(const struct pdf_rect *last, const struct pdf_rect *rect)
{
    double size = fmax(last->y1 - last->y0, rect->y1 - rect->y0);
    double gap_x = fmax(rect->x0 - last->x1, last->x0 - rect->x1);
    double gap_y = fmax(rect->y0 - last->y1, last->y0 - rect->y1);

    if (gap_y > 0.3 * size && gap_x < size) {
        return '\n';
    }
    return gap_x > 0.2 * size || gap_y > 0.3 * size ? ' ' : 0;
}

int pdf_text_add(struct pdf_text *text, uint32_t c, const struct pdf_rect *rect, struct err *err)
{
    char bytes[4];
    uint32_t blank;

    c = c == '\r' || c == '\f' || c == '\v' || c == 0x2028 || c == 0x2029 ? '\n' : c;
    if (is_dropped(c) || pdf_is_direction(c)) {
        return 0;
    }
    if (is_space(c)) {
        word_end(text);
    } else {
        blank = text->in_word && rect && text->has_last ? missing_blank(&text->last, rect) : 0;
        if (!blank && text->in_word && text->parted) {
            blank = ' ';
        }
        text->has_last = text->parted = false;
        if (blank && pdf_text_add(text, blank, NULL, err)) {
            return -1;
        }
        text->has_last = rect != NULL;
        text->last = rect ? *rect : text->last;
        if (!text->in_word && word_start(text, err)) {
            return -1;
        }
        if (text->in_word) {
            word_grow(text, rect);
        }
    }
    if (buf_append(&text->text, bytes, text_encode(c, bytes), err)) {
        return -1;
    }
    text->n_cp++;
    return 0;
}

void pdf_text_part(struct pdf_text *text, bool apart)
{
    text->has_last = false;
    text->parted = apart;
}

int pdf_text_add_line(struct pdf_text *text, const char *s, const struct pdf_rect *rect,
                      struct err *err)
{
    size_t len = strlen(s);

    if (text->n_cp > 0 && text->text.data[text->text.len - 1] != '\n' &&
        pdf_text_add(text, '\n', NULL, err)) {
        return -1;
    }
    for (size_t i = 0; i < len;) {
        size_t n;
        uint32_t c = text_next(s + i, len - i, &n);

        if (pdf_text_add(text, c, rect, err)) {
            return -1;
        }
        i += n;
    }
    word_end(text);
    return 0;
}

void pdf_count(const char *text, size_t len, struct pdf_facts *facts)
{
    for (size_t i = 0; i < len;) {
        size_t n;
        uint32_t c = text_next(text + i, len - i, &n);

        i += n;
        if (is_space(c)) {
            continue;
        }
        facts->chars++;
        facts->garbage +=
            c == 0xfffd || (c >= 0xe000 && c <= 0xf8ff) || c >= 0xf0000 || (c & 0xfffe) == 0xfffe;
    }
}

static bool is_garbage(const struct pdf_facts *facts)
{
    return facts->garbage > 0 && facts->garbage >= GARBAGE_SHARE * facts->chars;
}

bool pdf_text_is_enough(const struct pdf_facts *facts)
{
    return facts->chars >= ENOUGH_CHARS && !is_garbage(facts);
}

bool pdf_needs_ocr(const struct pdf_facts *facts)
{
    if (is_garbage(facts)) {
        return true;
    }
    if (facts->chars == 0) {
        return facts->ink || facts->images > 0.01;
    }
    return (facts->chars < FEW_CHARS && facts->images >= SOME_PICTURE) ||
           (facts->chars < ENOUGH_CHARS && facts->images >= PICTURE_SHARE);
}
