/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text and words grow side by side; code points are counted as they are appended.
 */
#include "services/ocr-fallback/ocr_page.h"

#include <string.h>

/* Characters read surer than this speak for a reading, others against it. */
#define SCORE_EVEN 0.45
#define WORDS_LINE_MAX (32U << 20)

void ocr_page_init(struct ocr_page *page)
{
    *page = (struct ocr_page){0};
    buf_init(&page->text, OCR_PAGE_TEXT_MAX);
}

void ocr_page_done(struct ocr_page *page)
{
    buf_done(&page->text);
    free(page->words);
    page->words = NULL;
    page->n_words = page->cap_words = 0;
}

/* Bytes of the UTF-8 sequence at s: 0 when it is broken, a control or a noncharacter. */
static size_t good_sequence(const unsigned char *s, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc2 ? 2 : 0;

    if (n == 0 || n > len || s[0] > 0xf4) {
        return 0;
    }
    uint32_t c = n == 1 ? s[0] : s[0] & (0x7fU >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0U) != 0x80) {
            return 0;
        }
        c = c << 6 | (s[i] & 0x3fU);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) || c < 0x20 ||
        (c >= 0x7f && c <= 0x9f) || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
        c == 0xfeff) {
        return 0;
    }
    return n;
}

static bool is_blank(const char *s, size_t n)
{
    return (n == 1 && *s == ' ') || (n == 2 && memcmp(s, "\xc2\xa0", 2) == 0) ||
           (n == 3 && memcmp(s, "\xe3\x80\x80", 3) == 0);
}

int ocr_page_break(struct ocr_page *page, bool paragraph, struct err *err)
{
    const struct buf *text = &page->text;

    if (text->len == 0) {
        return 0;
    }
    bool one = text->data[text->len - 1] == '\n';
    bool two = one && text->len >= 2 && text->data[text->len - 2] == '\n';
    const char *add = paragraph ? (two ? "" : one ? "\n" : "\n\n") : (one ? "" : "\n");

    page->n_cp += (uint32_t)strlen(add);
    return buf_puts(&page->text, add, err);
}

static int keep_word(struct ocr_page *page, const struct ocr_word *word, struct err *err)
{
    if (page->n_words >= OCR_PAGE_WORDS_MAX) {
        return err_set(err, ERR_PERMANENT, "expands_too_much", "more than %u words on a page",
                       OCR_PAGE_WORDS_MAX);
    }
    if (page->n_words == page->cap_words) {
        size_t cap = page->cap_words ? page->cap_words * 2 : 128;
        struct ocr_word *words = realloc(page->words, cap * sizeof(*words));
        if (!words) {
            return err_nomem(err);
        }
        page->words = words;
        page->cap_words = cap;
    }
    page->words[page->n_words++] = *word;
    double weight = (double)(word->end - word->start);
    page->weight += weight;
    page->sum_conf += weight * word->confidence;
    page->score += weight * (word->confidence - SCORE_EVEN);
    return 0;
}

static double clamp(double v)
{
    return v > 0 ? (v < 1 ? v : 1) : 0; /* not a number: 0 */
}

/* Appends what is visible of a run; *ret_n counts code points. */
static int add_visible(struct ocr_page *page, const char *text, size_t len, uint32_t *ret_n,
                       struct err *err)
{
    uint32_t count = 0;

    for (size_t i = 0; i < len;) {
        size_t n = good_sequence((const unsigned char *)text + i, len - i);
        if (n == 0) {
            i++;
            continue;
        }
        if (count == 0 && page->text.len > 0 && page->text.data[page->text.len - 1] != '\n') {
            page->n_cp++;
            if (buf_append(&page->text, " ", 1, err) < 0) {
                return -1;
            }
        }
        if (buf_append(&page->text, text + i, n, err) < 0) {
            return -1;
        }
        count++;
        page->n_cp++;
        i += n;
    }
    *ret_n = count;
    return 0;
}

int ocr_page_word(struct ocr_page *page, const char *text, size_t len, const double box[4],
                  double confidence, struct err *err)
{
    struct ocr_word word = {.x0 = clamp(box[0]),
                            .y0 = clamp(box[1]),
                            .x1 = clamp(box[2]),
                            .y1 = clamp(box[3]),
                            .confidence = clamp(confidence)};

    word.x1 = word.x1 < word.x0 ? word.x0 : word.x1;
    word.y1 = word.y1 < word.y0 ? word.y0 : word.y1;
    for (size_t i = 0; i < len;) {
        size_t n = good_sequence((const unsigned char *)text + i, len - i);
        if (n == 0 || is_blank(text + i, n)) {
            i += n ? n : 1;
            continue;
        }
        size_t from = i;
        while (i < len) {
            n = good_sequence((const unsigned char *)text + i, len - i);
            if (n > 0 && is_blank(text + i, n)) {
                break;
            }
            i += n ? n : 1;
        }
        uint32_t count = 0;
        if (add_visible(page, text + from, i - from, &count, err) < 0) {
            return -1;
        }
        word.start = page->n_cp - count;
        word.end = page->n_cp;
        if (count > 0 && keep_word(page, &word, err) < 0) {
            return -1;
        }
    }
    return 0;
}

double ocr_page_confidence(const struct ocr_page *page)
{
    return page->weight > 0 ? page->sum_conf / page->weight : -1;
}

int ocr_page_words_line(const struct ocr_page *page, int number, double width, double height,
                        struct buf *line, struct err *err)
{
    buf_init(line, WORDS_LINE_MAX);
    if (buf_printf(line, err, "{\"page\":%d,\"width\":%.2f,\"height\":%.2f,\"words\":[", number,
                   width, height) < 0) {
        return -1;
    }
    for (size_t i = 0; i < page->n_words; i++) {
        const struct ocr_word *w = &page->words[i];
        if (buf_printf(line, err, "%s[%.4f,%.4f,%.4f,%.4f,%u,%u,%.3f]", i ? "," : "", w->x0, w->y0,
                       w->x1, w->y1, w->start, w->end, w->confidence) < 0) {
            return -1;
        }
    }
    return buf_puts(line, "]}", err);
}
