/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much XML as S3 answers in: elements, attributes that are skipped, text with entities.
 * Invariant: one pass, no recursion, one bounded buffer; a document ends exactly where its root
 * ends, so an answer that was cut is never taken for a short one.
 * Refuses DOCTYPE and CDATA, which no S3 server sends.
 */
#include "libcommon/store_s3.h"

#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 16
#define NAME_SIZE 64

struct walk {
    const char *p;
    const char *end;
    s3_xml_fn fn;
    void *ctx;
    char names[DEPTH_MAX][NAME_SIZE];
    int depth;
    bool root_closed;
    struct buf text;
};

static int bad_xml(struct err *err)
{
    return err_set(err, ERR_TRANSIENT, "store_unavailable", "the store's answer is broken XML");
}

static int append_utf8(struct buf *buf, unsigned long c, struct err *err)
{
    char out[4];
    size_t n;

    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
        return bad_xml(err);
    }
    if (c < 0x80) {
        out[0] = (char)c;
        n = 1;
    } else if (c < 0x800) {
        out[0] = (char)(0xc0 | (c >> 6));
        n = 2;
    } else if (c < 0x10000) {
        out[0] = (char)(0xe0 | (c >> 12));
        n = 3;
    } else {
        out[0] = (char)(0xf0 | (c >> 18));
        n = 4;
    }
    for (size_t i = 1; i < n; i++) {
        out[i] = (char)(0x80 | ((c >> (6 * (n - 1 - i))) & 0x3f));
    }
    return buf_append(buf, out, n, err);
}

/* At '&'. */
static int take_entity(struct walk *w, struct err *err)
{
    static const struct {
        const char *name;
        char c;
    } entities[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    size_t room = min_size((size_t)(w->end - w->p), 12);
    const char *semicolon = memchr(w->p, ';', room);

    if (!semicolon) {
        return bad_xml(err);
    }
    const char *name = w->p + 1;
    size_t len = (size_t)(semicolon - name);
    w->p = semicolon + 1;
    if (len > 1 && name[0] == '#') {
        bool hex = name[1] == 'x';
        const char *digits = name + (hex ? 2 : 1);
        char *stop = NULL;
        unsigned long c = strtoul(digits, &stop, hex ? 16 : 10);
        return stop == semicolon && stop != digits ? append_utf8(&w->text, c, err) : bad_xml(err);
    }
    for (size_t i = 0; i < ARRAY_LEN(entities); i++) {
        if (strlen(entities[i].name) == len && memcmp(entities[i].name, name, len) == 0) {
            return buf_append(&w->text, &entities[i].c, 1, err);
        }
    }
    return bad_xml(err);
}

static int take_text(struct walk *w, struct err *err)
{
    const char *start = w->p;

    while (w->p < w->end && *w->p != '<' && *w->p != '&') {
        w->p++;
    }
    if (w->p > start && buf_append(&w->text, start, (size_t)(w->p - start), err) < 0) {
        return -1;
    }
    return w->p < w->end && *w->p == '&' ? take_entity(w, err) : 0;
}

/* Moves behind the '>' of the tag at p, skipping quoted values. NULL when it is cut. */
static const char *tag_end(const char *p, const char *end)
{
    char quote = '\0';

    for (; p < end; p++) {
        if (quote) {
            quote = *p == quote ? '\0' : quote;
        } else if (*p == '"' || *p == '\'') {
            quote = *p;
        } else if (*p == '>') {
            return p + 1;
        }
    }
    return NULL;
}

static int copy_name(const char *p, const char *end, char name[NAME_SIZE], struct err *err)
{
    const char *start = p;

    while (p < end && !strchr(" \t\r\n/>", *p)) {
        if (*p == ':') {
            start = p + 1;
        }
        p++;
    }
    size_t len = (size_t)(p - start);
    if (len == 0 || len >= NAME_SIZE) {
        return bad_xml(err);
    }
    memcpy(name, start, len);
    name[len] = '\0';
    return 0;
}

static int close_element(struct walk *w, struct err *err)
{
    const char *text = w->text.data ? w->text.data : "";

    w->depth--;
    if (w->fn(w->ctx, w->names[w->depth], text, err) < 0) {
        return -1;
    }
    buf_reset(&w->text);
    w->root_closed = w->depth == 0;
    return 0;
}

static int open_element(struct walk *w, const char *end, struct err *err)
{
    bool empty = end[-2] == '/';

    if (w->depth == DEPTH_MAX || w->root_closed ||
        copy_name(w->p + 1, end, w->names[w->depth], err) < 0) {
        return bad_xml(err);
    }
    w->depth++;
    buf_reset(&w->text);
    if (w->fn(w->ctx, w->names[w->depth - 1], NULL, err) < 0) {
        return -1;
    }
    return empty ? close_element(w, err) : 0;
}

/* At '<'. */
static int take_tag(struct walk *w, struct err *err)
{
    size_t left = (size_t)(w->end - w->p);
    const char *end;

    if (left >= 4 && memcmp(w->p, "<!--", 4) == 0) {
        const char *close = memmem(w->p + 4, left - 4, "-->", 3);
        if (!close) {
            return bad_xml(err);
        }
        w->p = close + 3;
        return 0;
    }
    end = tag_end(w->p, w->end);
    if (!end || end - w->p < 3 || w->p[1] == '!') {
        return bad_xml(err);
    }
    if (w->p[1] == '?') {
        w->p = end;
        return 0;
    }
    if (w->p[1] == '/') {
        char name[NAME_SIZE];
        if (w->depth == 0 || copy_name(w->p + 2, end, name, err) < 0 ||
            strcmp(name, w->names[w->depth - 1]) != 0) {
            return bad_xml(err);
        }
        w->p = end;
        return close_element(w, err);
    }
    if (open_element(w, end, err) < 0) {
        return -1;
    }
    w->p = end;
    return 0;
}

int s3_xml_walk(const char *data, size_t len, s3_xml_fn fn, void *ctx, struct err *err)
{
    struct walk w = {.p = data, .end = data + len, .fn = fn, .ctx = ctx};
    int rc = 0;

    buf_init(&w.text, S3_XML_MAX);
    while (rc == 0 && w.p < w.end) {
        rc = *w.p == '<' ? take_tag(&w, err) : take_text(&w, err);
    }
    buf_done(&w.text);
    if (rc == 0 && !w.root_closed) {
        return bad_xml(err);
    }
    return rc;
}

struct find {
    const char *name;
    char *text;
    size_t size;
    bool found;
};

static int on_find(void *ctx, const char *name, const char *text, struct err *err)
{
    struct find *find = ctx;

    (void)err;
    if (text && !find->found && strcmp(name, find->name) == 0) {
        snprintf(find->text, find->size, "%s", text);
        find->found = true;
    }
    return 0;
}

bool s3_xml_find(const char *data, size_t len, const char *name, char *ret_text, size_t size)
{
    struct find find = {.name = name, .text = ret_text, .size = size};

    if (!data || s3_xml_walk(data, len, on_find, &find, NULL) < 0) {
        return false;
    }
    return find.found;
}

int s3_xml_escape(struct buf *buf, const char *s, struct err *err)
{
    for (; *s; s++) {
        const char *entity = *s == '&'   ? "&amp;"
                             : *s == '<' ? "&lt;"
                             : *s == '>' ? "&gt;"
                             : *s == '"' ? "&quot;"
                                         : NULL;
        if (entity ? buf_puts(buf, entity, err) < 0 : buf_append(buf, s, 1, err) < 0) {
            return -1;
        }
    }
    return 0;
}
