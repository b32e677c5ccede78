/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenDocument: text as one stretch with headers and footers, a page per sheet, a page per slide
 * with its notes.
 * Invariant: characters count only inside paragraphs; what an office program does not show
 * (tracked deletions, alternative texts, scripts) is skipped; repeated cells and rows are bounded.
 */
#include "services/text-extractor/package.h"

#include <stdio.h>
#include <string.h>

#define REPEAT_MAX 100 /* times a cell or row is written for its repeat count */
#define GAP_MAX 16     /* tabs for columns without text */

struct odf {
    struct package *pkg;
    struct text_out *out;
    struct flow flow;
    struct xml xml;
    enum file_kind kind;
    unsigned paragraphs; /* open ones */
    /* sheets */
    unsigned tables;     /* open ones: a table in a cell's text is no sheet */
    int64_t gap;         /* columns since the last text in the row */
    int64_t cells, rows; /* repeat counts */
    size_t cell_start, row_start;
    bool in_cell;
};

static const char *const skipped[] = {"tracked-changes",
                                      "scripts",
                                      "forms",
                                      "sequence-decls",
                                      "variable-decls",
                                      "desc",
                                      "title",
                                      "creator",
                                      "date",
                                      "note-citation",
                                      "event-listeners",
                                      "ruby-text",
                                      "table-of-content-source",
                                      NULL};

/* Before the first text of a cell: the tabs of the columns passed over. */
static int cell_begin(struct odf *odf, struct err *err)
{
    if (odf->in_cell && odf->cell_start == text_len(odf->out)) {
        for (int64_t i = 0; i < odf->gap && i < GAP_MAX; i++) {
            if (text_add(odf->out, "\t", 1, err)) {
                return -1;
            }
        }
        odf->gap = 0;
        odf->cell_start = text_len(odf->out);
    }
    return 0;
}

static int add(struct odf *odf, const char *s, size_t len, bool fold, struct err *err)
{
    if (odf->kind == FILE_ODS) {
        return cell_begin(odf, err) || text_flow(odf->out, s, len, err) ? -1 : 0;
    }
    return fold ? flow_text(&odf->flow, s, len, err) : flow_add(&odf->flow, s, len, err);
}

/* Writes the bytes from `start` to the end again, n times, each after sep. */
static int repeat(struct odf *odf, size_t start, const char *sep, int64_t n, struct err *err)
{
    size_t len = text_len(odf->out) - start;
    char *copy;
    int rc = 0;

    if (n < 1 || len == 0) {
        return 0;
    }
    copy = malloc(len);
    if (!copy) {
        return err_nomem(err);
    }
    memcpy(copy, odf->out->page.data + start, len);
    for (int64_t i = 0; !rc && i < n && i < REPEAT_MAX; i++) {
        rc = text_puts(odf->out, sep, err) || text_add(odf->out, copy, len, err) ? -1 : 0;
    }
    free(copy);
    return rc;
}

/* --- sheets -------------------------------------------------------------------------------------
 */

static int sheet_open(struct odf *odf, struct err *err)
{
    struct xml *xml = &odf->xml;
    char name[256];

    if (xml_is(xml, "table")) {
        if (odf->tables++ == 0) {
            (void)xml_attr(xml, "name", false, name, sizeof(name));
            return text_puts(odf->out, name, err);
        }
    } else if (xml_is(xml, "table-row")) {
        odf->gap = 0;
        odf->rows = xml_attr_int(xml, "number-rows-repeated", 1);
        if (text_break(odf->out, 1, err)) {
            return -1;
        }
        odf->row_start = text_len(odf->out);
    } else if (xml_is(xml, "table-cell") || xml_is(xml, "covered-table-cell")) {
        odf->in_cell = true;
        odf->cells = xml_attr_int(xml, "number-columns-repeated", 1);
        odf->cell_start = text_len(odf->out);
    } else if (xml_is(xml, "p") && odf->in_cell && text_len(odf->out) > odf->cell_start) {
        return text_break(odf->out, 0, err);
    }
    return 0;
}

static int sheet_close(struct odf *odf, struct err *err)
{
    struct xml *xml = &odf->xml;

    if (xml_is(xml, "table-cell") || xml_is(xml, "covered-table-cell")) {
        odf->in_cell = false;
        if (text_len(odf->out) == odf->cell_start) {
            odf->gap += odf->cells > 0 ? odf->cells : 1;
            return 0;
        }
        odf->gap = 1;
        return repeat(odf, odf->cell_start, "\t", odf->cells - 1, err);
    }
    if (xml_is(xml, "table-row")) {
        return repeat(odf, odf->row_start, "\n", odf->rows - 1, err);
    }
    if (xml_is(xml, "table") && odf->tables > 0 && --odf->tables == 0) {
        return text_page_end(odf->out, err);
    }
    return 0;
}

/* --- text and slides
 * ------------------------------------------------------------------------------ */

static int flow_open(struct odf *odf)
{
    struct xml *xml = &odf->xml;

    if (xml_is(xml, "p") || xml_is(xml, "h") || xml_is(xml, "table-row") ||
        xml_is(xml, "text-box") || xml_is(xml, "annotation") || xml_is(xml, "frame")) {
        flow_owe(&odf->flow, 1);
    } else if (xml_is(xml, "table") || xml_is(xml, "notes")) {
        flow_owe(&odf->flow, 2);
    } else if (xml_is(xml, "table-cell")) {
        flow_cell_open(&odf->flow);
    } else if (xml_is(xml, "page")) {
        odf->flow = (struct flow){.out = odf->out};
    }
    return 0;
}

static int flow_close(struct odf *odf, struct err *err)
{
    struct xml *xml = &odf->xml;

    if (xml_is(xml, "p") || xml_is(xml, "h") || xml_is(xml, "table-row") ||
        xml_is(xml, "text-box") || xml_is(xml, "annotation")) {
        flow_owe(&odf->flow, 1);
    } else if (xml_is(xml, "table")) {
        flow_owe(&odf->flow, 2);
    } else if (xml_is(xml, "table-cell")) {
        flow_cell_close(&odf->flow);
    } else if (xml_is(xml, "page") && odf->kind == FILE_ODP) {
        return text_page_end(odf->out, err);
    }
    return 0;
}

static int add_blanks(struct odf *odf, struct err *err)
{
    int64_t n = xml_attr_int(&odf->xml, "c", 1);

    for (int64_t i = 0; i < n && i < REPEAT_MAX; i++) {
        if (add(odf, " ", 1, false, err)) {
            return -1;
        }
    }
    return 0;
}

static int on_open(struct odf *odf, struct err *err)
{
    struct xml *xml = &odf->xml;

    if (xml_is_any(xml, skipped)) {
        return xml_skip(xml, err);
    }
    if ((odf->kind == FILE_ODS ? sheet_open(odf, err) : flow_open(odf))) {
        return -1;
    }
    if (xml_is(xml, "p") || xml_is(xml, "h")) {
        odf->paragraphs++;
    } else if (odf->paragraphs > 0 && xml_is(xml, "s")) {
        return add_blanks(odf, err);
    } else if (odf->paragraphs > 0 && xml_is(xml, "tab")) {
        return add(odf, "\t", 1, false, err);
    } else if (odf->paragraphs > 0 && xml_is(xml, "line-break")) {
        flow_owe(&odf->flow, 1);
        return odf->kind == FILE_ODS ? text_break(odf->out, 0, err) : 0;
    }
    return 0;
}

static int on_close(struct odf *odf, struct err *err)
{
    if ((xml_is(&odf->xml, "p") || xml_is(&odf->xml, "h")) && odf->paragraphs > 0) {
        odf->paragraphs--;
    }
    return odf->kind == FILE_ODS ? sheet_close(odf, err) : flow_close(odf, err);
}

static int on_node(struct odf *odf, struct err *err)
{
    const char *s;

    switch (odf->xml.type) {
    case XML_OPEN:
        return on_open(odf, err);
    case XML_CLOSE:
        return on_close(odf, err);
    case XML_CHARS:
        s = xml_chars(&odf->xml);
        return odf->paragraphs > 0 ? add(odf, s, strlen(s), true, err) : 0;
    default:
        return 0;
    }
}

/* Reads what stands inside elements of these names. */
static int part_read(struct odf *odf, const char *part, const char *const *names, struct err *err)
{
    unsigned open = 0;
    size_t from = text_len(odf->out);
    size_t seen = from;
    int rc = 0;

    if (package_find(odf->pkg, part) < 0) {
        return 0;
    }
    odf->paragraphs = 0;
    if (xml_open(odf->pkg, part, &odf->xml, err)) {
        return -1;
    }
    do {
        rc = xml_next(&odf->xml, err);
        if (!rc && open > 0) {
            rc = on_node(odf, err);
        }
        if (!rc && xml_is_any(&odf->xml, names)) {
            if (odf->xml.type == XML_OPEN && open++ == 0) {
                flow_owe(&odf->flow, 2);
                from = text_len(odf->out);
            } else if (odf->xml.type == XML_CLOSE && open > 0 && --open == 0 && names[1]) {
                (void)text_drop_repeat(odf->out, seen, from);
            }
        }
    } while (!rc && odf->xml.type != XML_END);
    xml_close(&odf->xml);
    odf->flow.cells = 0;
    return rc ? err_wrap(err, "%s", part) : 0;
}

int format_odf(struct package *pkg, enum file_kind kind, struct text_out *out, struct err *err)
{
    static const char *const headers[] = {"header", "header-left", "header-first", NULL};
    static const char *const footers[] = {"footer", "footer-left", "footer-first", NULL};
    static const char *const body[] = {"body", NULL};
    struct odf odf = {.pkg = pkg, .out = out, .flow = {.out = out}, .kind = kind};

    if (package_find(pkg, "content.xml") < 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the document has no content");
    }
    if (kind != FILE_ODT) {
        return part_read(&odf, "content.xml", body, err);
    }
    return part_read(&odf, "styles.xml", headers, err) ||
                   part_read(&odf, "content.xml", body, err) ||
                   part_read(&odf, "styles.xml", footers, err)
               ? -1
               : 0;
}
