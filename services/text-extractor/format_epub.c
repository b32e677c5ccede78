/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EPUB books: the XHTML files of the spine, in its order, each read as HTML.
 * Invariant: only files the package itself lists are read, each once per place in the spine.
 */
#include "services/text-extractor/package.h"

#include <stdio.h>
#include <string.h>

#define CHAPTER_MAX (32U << 20)
#define ITEMS_MAX 5000U

struct item {
    char id[128];
    char href[REL_TARGET_MAX];
};

struct epub {
    struct package *pkg;
    struct text_out *out;
    char opf[REL_TARGET_MAX]; /* name of the package document */
    struct item *items;
    size_t n;
};

static void epub_done(struct epub *epub)
{
    free(epub->items);
}

static int find_opf(struct epub *epub, struct err *err)
{
    CLEANUP(xml_close) struct xml xml = {0};

    if (xml_open(epub->pkg, "META-INF/container.xml", &xml, err)) {
        return -1;
    }
    do {
        if (xml_next(&xml, err)) {
            return -1;
        }
        if (xml.type == XML_OPEN && xml_is(&xml, "rootfile")) {
            (void)xml_attr(&xml, "full-path", false, epub->opf, sizeof(epub->opf));
            return 0;
        }
    } while (xml.type != XML_END);
    return err_set(err, ERR_PERMANENT, "corrupt", "the book names no package document");
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *p = c ? strchr(digits, c | 32) : NULL;

    return p ? (int)(p - digits) : -1;
}

/* Percent escapes and the fragment go. In place. */
static void unescape(char *s)
{
    char *to = s;

    for (; *s && *s != '#'; s++) {
        if (*s == '%' && hex_digit(s[1]) >= 0 && hex_digit(s[2]) >= 0) {
            *to++ = (char)(hex_digit(s[1]) * 16 + hex_digit(s[2]));
            s += 2;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

static int chapter_read(struct epub *epub, const char *href, struct err *err)
{
    CLEANUP(buf_done) struct buf bytes = {0};
    struct text_input in = {.fd = -1, .name = "", .kind = FILE_HTML};
    const char *slash = strrchr(epub->opf, '/');
    char name[2 * REL_TARGET_MAX];

    (void)snprintf(name, sizeof(name), "%.*s%s", slash ? (int)(slash - epub->opf) + 1 : 0,
                   epub->opf, href);
    if (package_find(epub->pkg, name) < 0) {
        return 0;
    }
    buf_init(&bytes, CHAPTER_MAX + 1);
    if (package_load(epub->pkg, name, CHAPTER_MAX, &bytes, err) || text_break(epub->out, 2, err)) {
        return -1;
    }
    in.data = bytes.data ? bytes.data : "";
    in.len = bytes.len;
    return format_html(&in, epub->out, err);
}

static int spine_read(struct epub *epub, struct err *err)
{
    CLEANUP(xml_close) struct xml xml = {0};
    unsigned chapters = 0;

    if (xml_open(epub->pkg, epub->opf, &xml, err)) {
        return -1;
    }
    do {
        char id[128];

        if (xml_next(&xml, err)) {
            return -1;
        }
        if (xml.type == XML_OPEN && xml_is(&xml, "item") && epub->n < ITEMS_MAX) {
            struct item *item = &epub->items[epub->n++];

            (void)xml_attr(&xml, "id", false, item->id, sizeof(item->id));
            (void)xml_attr(&xml, "href", false, item->href, sizeof(item->href));
            unescape(item->href);
        } else if (xml.type == XML_OPEN && xml_is(&xml, "itemref") && chapters++ < ITEMS_MAX) {
            (void)xml_attr(&xml, "idref", false, id, sizeof(id));
            for (size_t i = 0; i < epub->n; i++) {
                if (!strcmp(epub->items[i].id, id)) {
                    if (chapter_read(epub, epub->items[i].href, err)) {
                        return -1;
                    }
                    break;
                }
            }
        }
    } while (xml.type != XML_END);
    return 0;
}

int format_epub(struct package *pkg, struct text_out *out, struct err *err)
{
    CLEANUP(epub_done) struct epub epub = {.pkg = pkg, .out = out};

    epub.items = calloc(ITEMS_MAX, sizeof(*epub.items));
    if (!epub.items) {
        return err_nomem(err);
    }
    return find_opf(&epub, err) || spine_read(&epub, err) ? -1 : 0;
}
