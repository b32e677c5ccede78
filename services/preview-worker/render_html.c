/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTML as its words in order: headings, paragraphs, lists, tables, preformatted text.
 * Invariant: no script, style, frame, form or link is followed or shown; pictures appear as their
 * alternative text. Nesting beyond DEPTH_MAX is left out.
 */
#include "services/preview-worker/render_flow.h"

#include <libxml/HTMLparser.h>
#include <string.h>
#include <strings.h>

enum { DEPTH_MAX = 180, LINE_MAX_BYTES = 1 << 20, LISTS_MAX = 16 };

struct html {
    struct flow *flow;
    struct buf line; /* inline text since the last block began */
    enum flow_style style;
    double indent;
    const char *mark; /* for the next flush */
    char number[16];  /* storage of a numbered mark */
    bool pre;
};

static const char *const hidden[] = {"script", "style",    "head",     "noscript", "template",
                                     "iframe", "object",   "embed",    "svg",      "math",
                                     "select", "textarea", "input",    "button",   "canvas",
                                     "audio",  "video",    "noframes", "applet"};

static const char *const blocks[] = {
    "p",     "div",  "section", "article",    "header",   "footer",  "main",    "nav",   "aside",
    "ul",    "ol",   "li",      "dl",         "dt",       "dd",      "table",   "tr",    "td",
    "th",    "form", "figure",  "blockquote", "address",  "center",  "caption", "tbody", "thead",
    "tfoot", "body", "html",    "pre",        "fieldset", "details", "summary"};

static bool one_of(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcasecmp(name, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static const char *name_of(const xmlNode *node)
{
    const union {
        const xmlChar *bytes;
        const char *text;
    } name = {node->name};

    return node->name ? name.text : "";
}

static bool is_hidden(const xmlNode *node)
{
    static const xmlChar style_name[] = "style";
    static const xmlChar hidden_name[] = "hidden";

    if (one_of(name_of(node), hidden, ARRAY_LEN(hidden))) {
        return true;
    }
    if (xmlHasProp(node, hidden_name)) {
        return true;
    }
    union {
        xmlChar *bytes;
        char *text;
    } style = {xmlGetProp(node, style_name)};
    const bool none = style.text && (strcasestr(style.text, "display:none") ||
                                     strcasestr(style.text, "display: none"));

    xmlFree(style.bytes);
    return none;
}

static int flush(struct html *html, struct err *err)
{
    struct buf *line = &html->line;
    size_t len = line->len;
    int rc = 0;

    while (len > 0 && (line->data[len - 1] == ' ' || line->data[len - 1] == '\n')) {
        len--;
    }
    if (len > 0) {
        rc = flow_text(html->flow, html->pre ? FLOW_MONO : html->style, html->indent, html->mark,
                       line->data, len, err);
        html->mark = NULL;
    }
    buf_reset(line);
    return rc;
}

/* Adds text, white space folded to one space unless preformatted; what is too long is left out. */
static int add_text(struct buf *line, bool pre, const char *text, struct err *err)
{
    for (; *text != '\0' && line->len < LINE_MAX_BYTES; text++) {
        const bool space = *text == ' ' || *text == '\n' || *text == '\t' || *text == '\r';

        if (space && !pre) {
            if (line->len > 0 && line->data[line->len - 1] != ' ' &&
                line->data[line->len - 1] != '\n' && buf_append(line, " ", 1, err) != 0) {
                return -1;
            }
        } else if (buf_append(line, text, 1, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int add_picture(struct html *html, const xmlNode *node, struct err *err)
{
    static const xmlChar alt_name[] = "alt";
    union {
        xmlChar *bytes;
        char *text;
    } alt = {xmlGetProp(node, alt_name)};
    int rc = 0;

    if (alt.text && *alt.text != '\0') {
        rc = add_text(&html->line, false, "[", err) != 0 ||
                     add_text(&html->line, false, alt.text, err) != 0 ||
                     add_text(&html->line, false, "]", err) != 0
                 ? -1
                 : 0;
    }
    xmlFree(alt.bytes);
    return rc;
}

static int walk(struct html *html, const xmlNode *node, int depth, struct err *err);

/* --- tables ------------------------------------------------------------------------------- */

/* The visible text of a cell. */
static int cell_text(const xmlNode *node, int depth, struct buf *text, struct err *err)
{
    for (; node && depth < DEPTH_MAX; node = node->next) {
        const union {
            const xmlChar *bytes;
            const char *text;
        } content = {node->content};

        if (node->type == XML_TEXT_NODE && content.text) {
            if (add_text(text, false, content.text, err) != 0) {
                return -1;
            }
        } else if (node->type == XML_ELEMENT_NODE && !is_hidden(node)) {
            const bool line_break = strcasecmp(name_of(node), "br") == 0 ||
                                    one_of(name_of(node), blocks, ARRAY_LEN(blocks));

            if (line_break && text->len > 0 && buf_puts(text, "\n", err) != 0) {
                return -1;
            }
            if (cell_text(node->children, depth + 1, text, err) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

static int add_row(struct table *table, const xmlNode *row, int depth, struct err *err)
{
    CLEANUP(buf_done) struct buf all;
    size_t starts[FLOW_COLUMNS_MAX + 1] = {0};
    const char *cells[FLOW_COLUMNS_MAX] = {0};
    size_t lens[FLOW_COLUMNS_MAX] = {0};
    unsigned n = 0;
    unsigned heads = 0;

    buf_init(&all, 4U * LINE_MAX_BYTES);
    for (const xmlNode *cell = row->children; cell && n < FLOW_COLUMNS_MAX; cell = cell->next) {
        CLEANUP(buf_done) struct buf text;
        const bool head = strcasecmp(name_of(cell), "th") == 0;

        if (cell->type != XML_ELEMENT_NODE || (!head && strcasecmp(name_of(cell), "td") != 0)) {
            continue;
        }
        buf_init(&text, 2U * LINE_MAX_BYTES);
        if (cell_text(cell->children, depth + 1, &text, err) != 0 ||
            buf_append(&all, text.data ? text.data : "", min_size(text.len, 2 * FLOW_CELL_MAX),
                       err) != 0) {
            return -1;
        }
        heads += head;
        starts[++n] = all.len;
    }
    for (unsigned i = 0; i < n; i++) {
        cells[i] = all.data ? all.data + starts[i] : "";
        lens[i] = starts[i + 1] - starts[i];
    }
    if (n == 0) {
        return 0;
    }
    if (table->n_rows == 0) {
        table->header = heads == n;
    }
    return table_add(table, cells, lens, n, err);
}

static int add_rows(struct table *table, const xmlNode *node, int depth, struct err *err)
{
    for (; node && depth < DEPTH_MAX; node = node->next) {
        if (node->type != XML_ELEMENT_NODE) {
            continue;
        }
        const int rc = strcasecmp(name_of(node), "tr") == 0
                           ? add_row(table, node, depth + 1, err)
                           : add_rows(table, node->children, depth + 1, err);

        if (rc != 0) {
            return -1;
        }
    }
    return 0;
}

static bool has_table(const xmlNode *node, int depth)
{
    for (; node && depth < DEPTH_MAX; node = node->next) {
        if (node->type == XML_ELEMENT_NODE &&
            (strcasecmp(name_of(node), "table") == 0 || has_table(node->children, depth + 1))) {
            return true;
        }
    }
    return false;
}

/* Tables that only arrange a page hold tables or one column: these are read as text. */
static int walk_table(struct html *html, const xmlNode *node, int depth, struct err *err)
{
    CLEANUP(table_done) struct table table = {0};

    if (has_table(node->children, depth)) {
        return walk(html, node->children, depth + 1, err);
    }
    if (add_rows(&table, node->children, depth, err) != 0) {
        return -1;
    }
    if (table.n_columns < 2 || table.n_rows < 2) {
        return walk(html, node->children, depth + 1, err);
    }
    return table_draw(html->flow, &table, err);
}

/* --- elements ----------------------------------------------------------------------------- */

static int walk_list(struct html *html, const xmlNode *list, int depth, struct err *err)
{
    const bool numbered = strcasecmp(name_of(list), "ol") == 0;
    unsigned number = 0;

    html->indent += 18;
    for (const xmlNode *item = list->children; item; item = item->next) {
        if (item->type != XML_ELEMENT_NODE || is_hidden(item)) {
            continue;
        }
        number++;
        snprintf(html->number, sizeof(html->number), "%u.", number);
        html->mark = numbered ? html->number : "\xe2\x80\xa2";
        if (walk(html, item->children, depth + 1, err) != 0 || flush(html, err) != 0) {
            return -1;
        }
    }
    html->mark = NULL;
    html->indent -= 18;
    return 0;
}

/* An element that stands on lines of its own. */
static int walk_block(struct html *html, const xmlNode *node, int depth, struct err *err)
{
    const struct html before = *html;
    const char *name = name_of(node);
    int rc;

    if (flush(html, err) != 0) {
        return -1;
    }
    if ((name[0] == 'h' || name[0] == 'H') && name[1] >= '1' && name[1] <= '6') {
        html->style = name[1] == '1' ? FLOW_TITLE : name[1] == '2' ? FLOW_HEADING : FLOW_SUBHEADING;
    }
    html->pre = html->pre || strcasecmp(name, "pre") == 0;
    if (strcasecmp(name, "blockquote") == 0 || strcasecmp(name, "dd") == 0) {
        html->indent += 18;
    }
    if (strcasecmp(name, "ul") == 0 || strcasecmp(name, "ol") == 0) {
        rc = walk_list(html, node, depth, err);
    } else if (strcasecmp(name, "table") == 0) {
        rc = walk_table(html, node, depth, err);
    } else {
        rc = walk(html, node->children, depth + 1, err);
    }
    if (rc != 0 || flush(html, err) != 0) {
        return -1;
    }
    if (strcasecmp(name, "p") == 0) {
        flow_space(html->flow, 4);
    }
    html->style = before.style;
    html->pre = before.pre;
    html->indent = before.indent;
    return 0;
}

static bool is_block(const char *name)
{
    return one_of(name, blocks, ARRAY_LEN(blocks)) ||
           ((name[0] == 'h' || name[0] == 'H') && name[1] >= '1' && name[1] <= '6' &&
            name[2] == '\0');
}

static int walk_element(struct html *html, const xmlNode *node, int depth, struct err *err)
{
    const char *name = name_of(node);

    if (is_hidden(node)) {
        return 0;
    }
    if (strcasecmp(name, "br") == 0) {
        return html->line.len < LINE_MAX_BYTES ? buf_puts(&html->line, "\n", err) : 0;
    }
    if (strcasecmp(name, "hr") == 0) {
        return flush(html, err) != 0 ? -1 : flow_rule(html->flow, err);
    }
    if (strcasecmp(name, "img") == 0) {
        return add_picture(html, node, err);
    }
    return is_block(name) ? walk_block(html, node, depth, err)
                          : walk(html, node->children, depth + 1, err);
}

static int walk(struct html *html, const xmlNode *node, int depth, struct err *err)
{
    for (; node && depth < DEPTH_MAX && !html->flow->full; node = node->next) {
        const union {
            const xmlChar *bytes;
            const char *text;
        } content = {node->content};
        int rc = 0;

        if ((node->type == XML_TEXT_NODE || node->type == XML_CDATA_SECTION_NODE) && content.text) {
            rc = add_text(&html->line, html->pre, content.text, err);
        } else if (node->type == XML_ELEMENT_NODE) {
            rc = walk_element(html, node, depth, err);
        }
        if (rc != 0) {
            return -1;
        }
    }
    return 0;
}

int flow_html(struct flow *flow, const char *html, size_t len, struct err *err)
{
    struct html state = {.flow = flow, .style = FLOW_BODY};

    if (len > INT32_MAX) {
        return err_set(err, ERR_PERMANENT, "file_too_large", "the HTML is too large");
    }
    htmlDocPtr document =
        htmlReadMemory(html, (int)len, NULL, "UTF-8",
                       HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING |
                           HTML_PARSE_NONET | HTML_PARSE_COMPACT);

    if (!document) {
        return flow_text(flow, FLOW_MONO, 0, NULL, html, len, err);
    }
    buf_init(&state.line, 2U * LINE_MAX_BYTES);
    const int rc =
        walk(&state, xmlDocGetRootElement(document), 0, err) != 0 ? -1 : flush(&state, err);

    buf_done(&state.line);
    xmlFreeDoc(document);
    return rc;
}
