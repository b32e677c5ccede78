/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where parsers put their text: one growing page, turned into frames when it ends.
 * Invariant: every limit on pages, members and total text is checked here, before a frame is
 * written, so that no parser can forget one.
 */
#include "services/text-extractor/format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void text_out_init(struct text_out *out, struct frame_writer *frames, uint32_t page_limit)
{
    *out = (struct text_out){.frames = frames, .page_limit = page_limit};
    buf_init(&out->page, TEXT_TOTAL_MAX + 1);
}

void text_out_done(struct text_out *out)
{
    buf_done(&out->page);
}

static int too_much(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "expands_too_much", "the text is longer than %u MiB",
                   TEXT_TOTAL_MAX >> 20);
}

int text_add(struct text_out *out, const char *s, size_t len, struct err *err)
{
    if (out->total + out->page.len + len > TEXT_TOTAL_MAX) {
        return too_much(err);
    }
    return buf_append(&out->page, s, len, err);
}

int text_puts(struct text_out *out, const char *s, struct err *err)
{
    return text_add(out, s, strlen(s), err);
}

int text_char(struct text_out *out, uint32_t code_point, struct err *err)
{
    char bytes[4];

    return text_add(out, bytes, text_encode(code_point, bytes), err);
}

/* 1, 2 for a no-break space, or 0. */
static size_t blank_len(const char *s, size_t len)
{
    if (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r' || *s == '\f' || *s == '\v') {
        return 1;
    }
    return len >= 2 && s[0] == '\xc2' && s[1] == '\xa0' ? 2 : 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static char last_byte(const struct text_out *out)
{
    return out->page.len > 0 ? out->page.data[out->page.len - 1] : '\n';
}

int text_flow(struct text_out *out, const char *s, size_t len, struct err *err)
{
    for (size_t i = 0; i < len;) {
        size_t from = i;

        while (i < len && !blank_len(s + i, len - i)) {
            i++;
        }
        if (i > from && text_add(out, s + from, i - from, err)) {
            return -1;
        }
        from = i;
        while (i < len && blank_len(s + i, len - i)) {
            i += blank_len(s + i, len - i);
        }
        if (i > from && !is_blank(last_byte(out)) && text_add(out, " ", 1, err)) {
            return -1;
        }
    }
    return 0;
}

static void drop_blanks(struct buf *page)
{
    while (page->len > 0 && page->data[page->len - 1] == ' ') {
        page->data[--page->len] = '\0';
    }
}

void text_trim(struct text_out *out)
{
    drop_blanks(&out->page);
}

int text_break(struct text_out *out, unsigned lines, struct err *err)
{
    unsigned have = 0;

    drop_blanks(&out->page);
    if (out->page.len == 0) {
        return 0;
    }
    if (lines == 0) {
        return is_blank(last_byte(out)) ? 0 : text_add(out, " ", 1, err);
    }
    while (have < out->page.len && out->page.data[out->page.len - 1 - have] == '\n') {
        have++;
    }
    for (; have < lines; have++) {
        if (text_add(out, "\n", 1, err)) {
            return -1;
        }
    }
    return 0;
}

size_t text_len(const struct text_out *out)
{
    return out->page.len;
}

bool text_drop_repeat(struct text_out *out, size_t seen, size_t from)
{
    size_t start = from;
    size_t n;

    while (start < out->page.len && out->page.data[start] == '\n') {
        start++;
    }
    n = out->page.len - start;
    if (n == 0 || seen >= from ||
        !memmem(out->page.data + seen, from - seen, out->page.data + start, n)) {
        return false;
    }
    out->page.len = from;
    out->page.data[from] = '\0';
    return true;
}

/* --- frames -------------------------------------------------------------------------------- */

static int words_write(struct text_out *out, const struct text_page *page, uint32_t number,
                       struct err *err)
{
    CLEANUP(buf_done) struct buf line = {0};

    buf_init(&line, TEXT_TOTAL_MAX);
    if (buf_printf(&line, err, "{\"page\":%u,\"width\":%.2f,\"height\":%.2f,\"words\":[", number,
                   page->width, page->height)) {
        return -1;
    }
    for (size_t i = 0; i < page->n_words; i++) {
        const struct text_word *w = &page->words[i];

        if (buf_printf(&line, err, "%s[%.4f,%.4f,%.4f,%.4f,%u,%u,1]", i ? "," : "", w->x0, w->y0,
                       w->x1, w->y1, w->start, w->end)) {
            return -1;
        }
    }
    if (buf_puts(&line, "]}", err)) {
        return -1;
    }
    return frame_write(out->frames, "words", json_pack("{s:I}", "page", (json_int_t)number),
                       line.data, line.len, err);
}

int text_page_write(struct text_out *out, const struct text_page *page, struct err *err)
{
    json_t *meta;

    if (out->pages >= TEXT_PAGES_MAX || (out->page_limit && out->pages >= out->page_limit)) {
        return err_set(err, ERR_PERMANENT, "too_many_pages", "more than %u pages",
                       out->page_limit ? out->page_limit : TEXT_PAGES_MAX);
    }
    if (out->total + page->len > TEXT_TOTAL_MAX) {
        return too_much(err);
    }
    meta = json_pack("{s:I,s:f,s:f,s:s}", "page", (json_int_t)out->pages + 1, "width", page->width,
                     "height", page->height, "engine", "native");
    if (!meta || (page->needs_ocr && json_object_set_new(meta, "needsOcr", json_true()))) {
        json_decref(meta);
        return err_nomem(err);
    }
    if (frame_write(out->frames, "page", meta, page->text, page->len, err)) {
        return -1;
    }
    out->pages++;
    out->total += page->len;
    if (page->n_words > 0 && out->frames->written < TEXT_WORDS_STOP) {
        return words_write(out, page, out->pages, err);
    }
    return 0;
}

/* Ends of lines lose their blanks, and no more than one empty line stays between paragraphs. */
static void tidy(struct buf *page)
{
    size_t n = 0;

    for (size_t i = 0; i < page->len; i++) {
        char c = page->data[i];

        if (c == '\n') {
            while (n > 0 && (page->data[n - 1] == ' ' || page->data[n - 1] == '\t')) {
                n--;
            }
            if (n >= 2 && page->data[n - 1] == '\n' && page->data[n - 2] == '\n') {
                continue;
            }
            if (n == 0) {
                continue;
            }
        }
        page->data[n++] = c;
    }
    while (n > 0 && is_blank(page->data[n - 1])) {
        n--;
    }
    if (page->data) {
        page->len = n;
        page->data[n] = '\0';
    }
}

/* Where a page may end: after the last empty line, else line feed, within the first
 * max_chars code points; len if all of it fits. */
static size_t cut_at(const char *s, size_t len, size_t max_chars)
{
    size_t chars = 0;
    size_t line = 0;
    size_t paragraph = 0;

    for (size_t i = 0; i < len; i++) {
        chars += ((unsigned char)s[i] & 0xc0) != 0x80;
        if (chars > max_chars) {
            if (paragraph > i / 2) {
                return paragraph;
            }
            return line > i / 2 ? line : i;
        }
        if (s[i] == '\n') {
            paragraph = i > 0 && s[i - 1] == '\n' ? i + 1 : paragraph;
            line = i + 1;
        }
    }
    return len;
}

/* Writes the page as one frame, or several if it is longer than max_chars. */
static int flush(struct text_out *out, size_t max_chars, struct err *err)
{
    size_t at = 0;

    do {
        const char *s = out->page.data ? out->page.data + at : "";
        struct text_page page = {.text = s, .len = cut_at(s, out->page.len - at, max_chars)};

        if (text_page_write(out, &page, err)) {
            return -1;
        }
        at += page.len;
    } while (at < out->page.len);
    buf_reset(&out->page);
    return 0;
}

static void polish(struct text_out *out)
{
    text_clean(&out->page);
    if (!out->raw) {
        tidy(&out->page);
    }
}

int text_page_end(struct text_out *out, struct err *err)
{
    polish(out);
    return flush(out, TEXT_SHEET_CHARS, err);
}

int text_finish(struct text_out *out, struct err *err)
{
    polish(out);
    if (out->page.len == 0 && out->pages > 0) {
        return 0;
    }
    return flush(out, TEXT_PAGE_CHARS, err);
}

/* A string for the frame's header: valid UTF-8, bounded, without control characters. */
static json_t *clean_string(const char *s, size_t max)
{
    CLEANUP(buf_done) struct buf text = {0};
    struct err err = ERR_INIT;

    buf_init(&text, max + 8);
    if (buf_append(&text, s, min_size(strlen(s), max), &err)) {
        return NULL;
    }
    text_clean(&text);
    for (size_t i = 0; i < text.len; i++) {
        text.data[i] = text.data[i] == '\n' || text.data[i] == '\t' ? ' ' : text.data[i];
    }
    return json_string(text.data ? text.data : "");
}

int text_part(struct text_out *out, const char *name, const char *mime, int64_t size,
              const char *path, struct err *err)
{
    json_t *meta;

    if (out->members >= TEXT_MEMBERS_MAX) {
        return err_set(err, ERR_PERMANENT, "expands_too_much", "more than %u members",
                       TEXT_MEMBERS_MAX);
    }
    meta =
        json_pack("{s:o,s:o}", "name", clean_string(name, 1000), "mime", clean_string(mime, 200));
    if (!meta || (size >= 0 && json_object_set_new(meta, "size", json_integer(size))) ||
        (path && json_object_set_new(meta, "path", clean_string(path, 2000)))) {
        json_decref(meta);
        return err_nomem(err);
    }
    out->members++;
    return frame_write(out->frames, "part", meta, NULL, 0, err);
}
