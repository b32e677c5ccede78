/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Word documents: headers, body, text boxes, foot- and endnotes, comments, footers, in this order.
 * Invariant: what Word would not show is not text: deleted runs, field codes, the second copy of a
 * text box that is kept for old programs.
 */
#include "services/text-extractor/package.h"

#include <stdio.h>
#include <string.h>

struct docx {
    struct package *pkg;
    struct text_out *out;
    struct flow flow;
    struct xml xml;
    bool in_text;
};

static const char *const skipped[] = {
    "pPr",       "rPr",      "sectPr",  "tblPr",        "trPr",      "tcPr",  "Fallback", "delText",
    "instrText", "moveFrom", "tblGrid", "delInstrText", "docPartPr", "sdtPr", "del",      NULL};

/* Elements that begin and end on a line of their own; with an empty line around them. */
static const char *const lines[] = {"p", "br", "cr", "tr", "txbxContent", NULL};
static const char *const blocks[] = {"tbl", "comment", "footnote", "endnote", NULL};

/* Symbol fonts keep their glyphs in the private area; the few that are everyday signs. */
static uint32_t symbol(int64_t code)
{
    static const struct {
        uint16_t code;
        uint16_t sign;
    } map[] = {{0xf0b7, 0x2022}, {0xf0a7, 0x25aa}, {0xf0fc, 0x2713}, {0xf0fe, 0x2612},
               {0xf0a8, 0x2610}, {0xf06f, 0x2610}, {0xf0e0, 0x2192}, {0xf0d8, 0x27a2},
               {0xf04a, 0x263a}, {0xf06e, 0x25a0}, {0xf071, 0x2751}, {0xf0fd, 0x2612}};

    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        if (map[i].code == code) {
            return map[i].sign;
        }
    }
    return code >= 0x20 && code < 0xe000 ? (uint32_t)code : 0;
}

static int add_symbol(struct docx *docx, struct err *err)
{
    char hex[16];
    char bytes[4];
    uint32_t sign;

    (void)xml_attr(&docx->xml, "char", false, hex, sizeof(hex));
    sign = symbol(strtol(hex, NULL, 16));
    return sign ? flow_add(&docx->flow, bytes, text_encode(sign, bytes), err) : 0;
}

static int on_open(struct docx *docx, struct err *err)
{
    struct xml *xml = &docx->xml;

    if (xml_is_any(xml, skipped)) {
        return xml_skip(xml, err);
    }
    if (xml_is(xml, "t")) {
        docx->in_text = true;
    } else if (xml_is_any(xml, lines)) {
        flow_owe(&docx->flow, 1);
    } else if (xml_is_any(xml, blocks)) {
        flow_owe(&docx->flow, 2);
    } else if (xml_is(xml, "tab") || xml_is(xml, "ptab")) {
        return flow_add(&docx->flow, "\t", 1, err);
    } else if (xml_is(xml, "noBreakHyphen")) {
        return flow_add(&docx->flow, "-", 1, err);
    } else if (xml_is(xml, "sym")) {
        return add_symbol(docx, err);
    } else if (xml_is(xml, "tc")) {
        flow_cell_open(&docx->flow);
    }
    return 0;
}

static void on_close(struct docx *docx)
{
    struct xml *xml = &docx->xml;

    if (xml_is(xml, "t")) {
        docx->in_text = false;
    } else if (xml_is_any(xml, lines)) {
        flow_owe(&docx->flow, 1);
    } else if (xml_is_any(xml, blocks)) {
        flow_owe(&docx->flow, 2);
    } else if (xml_is(xml, "tc")) {
        flow_cell_close(&docx->flow);
    }
}

static int part_read(struct docx *docx, const char *name, struct err *err)
{
    if (package_find(docx->pkg, name) < 0) {
        return 0;
    }
    docx->in_text = false;
    flow_owe(&docx->flow, 2);
    if (xml_open(docx->pkg, name, &docx->xml, err)) {
        return -1;
    }
    int rc = 0;
    do {
        rc = xml_next(&docx->xml, err);
        if (!rc && docx->xml.type == XML_OPEN) {
            rc = on_open(docx, err);
        } else if (!rc && docx->xml.type == XML_CLOSE) {
            on_close(docx);
        } else if (!rc && docx->xml.type == XML_CHARS && docx->in_text) {
            const char *s = xml_chars(&docx->xml);

            rc = flow_add(&docx->flow, s, strlen(s), err);
        }
    } while (!rc && docx->xml.type != XML_END);
    xml_close(&docx->xml);
    docx->flow.cells = 0;
    return rc ? err_wrap(err, "%.60s", name) : 0;
}

/* All parts of a type; a header that repeats what another one said is dropped. */
static int parts_read(struct docx *docx, const struct rels *rels, const char *type, size_t seen,
                      struct err *err)
{
    for (const struct rel *rel = rels_by_type(rels, type, NULL); rel;
         rel = rels_by_type(rels, type, rel)) {
        size_t from = text_len(docx->out);

        if (part_read(docx, rel->target, err)) {
            return -1;
        }
        (void)text_drop_repeat(docx->out, seen, from);
    }
    return 0;
}

int format_docx(struct package *pkg, const char *main_part, struct text_out *out, struct err *err)
{
    CLEANUP(rels_done) struct rels rels = {0};
    struct docx docx = {.pkg = pkg, .out = out, .flow = {.out = out}};
    size_t footers;

    if (package_find(pkg, main_part) < 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the document has no main part");
    }
    if (rels_load(pkg, main_part, &rels, err) || parts_read(&docx, &rels, "header", 0, err) ||
        part_read(&docx, main_part, err) || parts_read(&docx, &rels, "footnotes", SIZE_MAX, err) ||
        parts_read(&docx, &rels, "endnotes", SIZE_MAX, err) ||
        parts_read(&docx, &rels, "comments", SIZE_MAX, err)) {
        return -1;
    }
    footers = text_len(out);
    return parts_read(&docx, &rels, "footer", footers, err);
}
