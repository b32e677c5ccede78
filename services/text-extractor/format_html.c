/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTML to text as a reader would see it: no scripts, styles or hidden parts, one line per block,
 * table cells set apart by tabs.
 * Invariant: events are handled as they come, no tree is built, so memory does not grow with the
 * markup. It refuses to load anything.
 */
#include "services/text-extractor/format.h"

#include <libxml/HTMLparser.h>
#include <libxml/parserInternals.h>
#include <string.h>
#include <strings.h>

struct html {
    struct flow flow;
    struct err *err;
    bool failed;
    unsigned depth;   /* open elements */
    unsigned skip_at; /* depth of the element whose contents are dropped; 0: none */
    unsigned pre;     /* open elements that keep their line breaks */
};

enum tag_class { TAG_INLINE, TAG_SKIP, TAG_BLOCK, TAG_PARAGRAPH, TAG_BREAK, TAG_CELL, TAG_PRE };

/* clang-format off */
static const struct {
    const char *name;
    enum tag_class class;
} tags[] = {
    {"script", TAG_SKIP}, {"style", TAG_SKIP}, {"template", TAG_SKIP}, {"noscript", TAG_SKIP},
    {"svg", TAG_SKIP}, {"math", TAG_INLINE}, {"datalist", TAG_SKIP}, {"iframe", TAG_SKIP},
    {"object", TAG_INLINE}, {"title", TAG_PARAGRAPH},
    {"p", TAG_PARAGRAPH}, {"h1", TAG_PARAGRAPH}, {"h2", TAG_PARAGRAPH}, {"h3", TAG_PARAGRAPH},
    {"h4", TAG_PARAGRAPH}, {"h5", TAG_PARAGRAPH}, {"h6", TAG_PARAGRAPH}, {"ul", TAG_PARAGRAPH},
    {"ol", TAG_PARAGRAPH}, {"dl", TAG_PARAGRAPH}, {"table", TAG_PARAGRAPH},
    {"blockquote", TAG_PARAGRAPH}, {"hr", TAG_PARAGRAPH}, {"figure", TAG_PARAGRAPH},
    {"pre", TAG_PRE}, {"textarea", TAG_PRE}, {"listing", TAG_PRE}, {"xmp", TAG_PRE},
    {"br", TAG_BREAK}, {"td", TAG_CELL}, {"th", TAG_CELL},
    {"div", TAG_BLOCK}, {"li", TAG_BLOCK}, {"dt", TAG_BLOCK}, {"dd", TAG_BLOCK},
    {"tr", TAG_BLOCK}, {"section", TAG_BLOCK}, {"article", TAG_BLOCK}, {"header", TAG_BLOCK},
    {"footer", TAG_BLOCK}, {"nav", TAG_BLOCK}, {"aside", TAG_BLOCK}, {"main", TAG_BLOCK},
    {"form", TAG_BLOCK}, {"fieldset", TAG_BLOCK}, {"legend", TAG_BLOCK}, {"address", TAG_BLOCK},
    {"caption", TAG_BLOCK}, {"center", TAG_BLOCK}, {"option", TAG_BLOCK}, {"thead", TAG_BLOCK},
    {"tbody", TAG_BLOCK}, {"tfoot", TAG_BLOCK}, {"body", TAG_BLOCK}, {"head", TAG_BLOCK},
    {"figcaption", TAG_BLOCK}, {"details", TAG_BLOCK}, {"summary", TAG_BLOCK}, {"dir", TAG_BLOCK},
    {"menu", TAG_BLOCK}, {"text", TAG_BLOCK},
};
/* clang-format on */

static enum tag_class classify(const char *name)
{
    const char *colon = strrchr(name, ':');

    name = colon ? colon + 1 : name;
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        if (!strcasecmp(name, tags[i].name)) {
            return tags[i].class;
        }
    }
    return TAG_INLINE;
}

static bool is_hidden(const xmlChar **atts)
{
    for (; atts && atts[0]; atts += 2) {
        const char *name = (const char *)atts[0];
        const char *p = atts[1] ? strcasestr((const char *)atts[1], "display") : NULL;

        if (!strcasecmp(name, "hidden")) {
            return true;
        }
        if (!strcasecmp(name, "style") && p) {
            p += 7;
            p += strspn(p, " :\t");
            if (!strncasecmp(p, "none", 4)) {
                return true;
            }
        }
    }
    return false;
}

static void check(struct html *html, int rc)
{
    html->failed = html->failed || rc != 0;
}

static void on_start(void *ctx, const xmlChar *name, const xmlChar **atts)
{
    struct html *html = ctx;
    enum tag_class class = classify((const char *)name);

    html->depth++;
    if (html->failed || html->skip_at) {
        return;
    }
    if (class == TAG_SKIP || is_hidden(atts)) {
        html->skip_at = html->depth;
        return;
    }
    switch (class) {
    case TAG_PRE:
        html->pre++;
        flow_owe(&html->flow, 2);
        break;
    case TAG_PARAGRAPH:
        flow_owe(&html->flow, 2);
        break;
    case TAG_BLOCK:
        flow_owe(&html->flow, 1);
        break;
    case TAG_BREAK:
        flow_owe(&html->flow, html->flow.lines > 0 ? 2 : 1);
        break;
    case TAG_CELL:
        flow_cell_open(&html->flow);
        break;
    case TAG_INLINE:
    case TAG_SKIP:
        break;
    }
}

static void on_end(void *ctx, const xmlChar *name)
{
    struct html *html = ctx;
    enum tag_class class = classify((const char *)name);

    if (html->skip_at == html->depth) {
        html->skip_at = 0;
        html->depth -= html->depth > 0;
        return;
    }
    html->depth -= html->depth > 0;
    if (html->failed || html->skip_at) {
        return;
    }
    if (class == TAG_CELL) {
        flow_cell_close(&html->flow);
    } else if (class == TAG_PARAGRAPH || class == TAG_PRE) {
        html->pre -= class == TAG_PRE && html->pre > 0;
        flow_owe(&html->flow, 2);
    } else if (class == TAG_BLOCK) {
        flow_owe(&html->flow, 1);
    }
}

static bool all_blank(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!strchr(" \t\r\n\f", s[i]) || s[i] == '\0') {
            return false;
        }
    }
    return true;
}

static void on_text(void *ctx, const xmlChar *s, int len)
{
    struct html *html = ctx;

    if (html->failed || html->skip_at || len <= 0) {
        return;
    }
    if (!html->pre && all_blank((const char *)s, (size_t)len)) {
        check(html, flow_blank(&html->flow, html->err));
    } else if (html->pre) {
        check(html, flow_add(&html->flow, (const char *)s, (size_t)len, html->err));
    } else {
        check(html, flow_text(&html->flow, (const char *)s, (size_t)len, html->err));
    }
}

static int parse_utf8(const char *data, size_t len, struct text_out *out, struct err *err)
{
    struct html html = {.flow = {.out = out}, .err = err};
    htmlParserCtxtPtr parser;

    if (len == 0) {
        return 0;
    }
    parser = htmlCreateMemoryParserCtxt(data, (int)len);
    if (!parser) {
        return err_nomem(err);
    }
    memset(parser->sax, 0, sizeof(*parser->sax));
    parser->sax->startElement = on_start;
    parser->sax->endElement = on_end;
    parser->sax->characters = on_text;
    parser->sax->ignorableWhitespace = on_text;
    parser->userData = &html;
    (void)htmlCtxtUseOptions(parser, HTML_PARSE_RECOVER | HTML_PARSE_NOERROR |
                                         HTML_PARSE_NOWARNING | HTML_PARSE_NONET |
                                         HTML_PARSE_IGNORE_ENC);
    (void)xmlSwitchEncoding(parser, XML_CHAR_ENCODING_UTF8);
    (void)htmlParseDocument(parser);
    htmlFreeParserCtxt(parser);
    return html.failed ? -1 : 0;
}

/* The charset of a meta element near the top. */
static const char *meta_charset(const char *data, size_t len, char *buf, size_t size)
{
    const char *end = data + min_size(len, 4096);

    for (const char *p = data; (p = memmem(p, (size_t)(end - p), "charset", 7)); p++) {
        const char *q = p + 7;

        while (q < end && strchr(" =\"'3D\t", *q) && *q) {
            q++;
        }
        size_t n = 0;
        while (q + n < end && n + 1 < size &&
               (q[n] == '-' || q[n] == '_' || q[n] == ':' || (q[n] >= '0' && q[n] <= '9') ||
                ((q[n] | 32) >= 'a' && (q[n] | 32) <= 'z'))) {
            buf[n] = q[n];
            n++;
        }
        buf[n] = '\0';
        if (n > 2 && text_charset_known(buf)) {
            return buf;
        }
    }
    return NULL;
}

int format_html_bytes(const char *data, size_t len, const char *charset, struct text_out *out,
                      struct err *err)
{
    CLEANUP(buf_done) struct buf text = {0};
    char name[41];

    buf_init(&text, TEXT_INPUT_MAX);
    if (!charset) {
        charset = meta_charset(data, len, name, sizeof(name));
    }
    if (text_decode(data, len, charset, &text, NULL, err)) {
        return -1;
    }
    text_clean(&text);
    return parse_utf8(text.data ? text.data : "", text.len, out, err);
}

int format_html(const struct text_input *in, struct text_out *out, struct err *err)
{
    return format_html_bytes(in->data, in->len, NULL, out, err);
}
