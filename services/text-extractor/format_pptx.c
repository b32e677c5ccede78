/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PowerPoint: one page per slide in the order of the show: its shapes and tables, then diagrams,
 * charts, notes and comments.
 * Invariant: placeholders of masters and layouts are not text: only what the slide itself holds is
 * shown, besides footers, which a slide may leave to its master.
 */
#include "services/text-extractor/package.h"

#include <stdio.h>
#include <string.h>

struct pptx {
    struct package *pkg;
    struct text_out *out;
    struct flow flow;
    struct xml xml;
    bool in_text;
    bool labels; /* inside a chart's cached labels */
};

static const char *const skipped[] = {"Fallback", "pPr",  "rPr",    "endParaRPr",
                                      "bodyPr",   "spPr", "extLst", NULL};

/* Elements that begin and end on a line of their own. */
static const char *const lines[] = {"p", "br", "tr", "tbl", "sp", "pt", "cm", NULL};

static int on_open(struct pptx *pptx, struct err *err)
{
    struct xml *xml = &pptx->xml;

    if (xml_is_any(xml, skipped)) {
        return xml_skip(xml, err);
    }
    if (xml_is(xml, "t") || (pptx->labels && xml_is(xml, "v")) || xml_is(xml, "text")) {
        pptx->in_text = true;
    } else if (xml_is(xml, "strCache")) {
        pptx->labels = true;
    } else if (xml_is(xml, "tc")) {
        flow_cell_open(&pptx->flow);
    } else if (xml_is_any(xml, lines)) {
        flow_owe(&pptx->flow, 1);
    }
    return 0;
}

static void on_close(struct pptx *pptx)
{
    struct xml *xml = &pptx->xml;

    if (xml_is(xml, "t") || xml_is(xml, "v") || xml_is(xml, "text")) {
        pptx->in_text = false;
    } else if (xml_is(xml, "strCache")) {
        pptx->labels = false;
    } else if (xml_is(xml, "tc")) {
        flow_cell_close(&pptx->flow);
    } else if (xml_is_any(xml, lines)) {
        flow_owe(&pptx->flow, 1);
    }
}

static int part_read(struct pptx *pptx, const char *name, struct err *err)
{
    int rc = 0;

    if (package_find(pptx->pkg, name) < 0) {
        return 0;
    }
    pptx->in_text = pptx->labels = false;
    if (xml_open(pptx->pkg, name, &pptx->xml, err)) {
        return -1;
    }
    do {
        rc = xml_next(&pptx->xml, err);
        if (!rc && pptx->xml.type == XML_OPEN) {
            rc = on_open(pptx, err);
        } else if (!rc && pptx->xml.type == XML_CLOSE) {
            on_close(pptx);
        } else if (!rc && pptx->xml.type == XML_CHARS && pptx->in_text) {
            const char *s = xml_chars(&pptx->xml);

            rc = flow_add(&pptx->flow, s, strlen(s), err);
        }
    } while (!rc && pptx->xml.type != XML_END);
    xml_close(&pptx->xml);
    pptx->flow.cells = 0;
    return rc ? err_wrap(err, "%.60s", name) : 0;
}

static int slide_page(struct pptx *pptx, const char *part, struct err *err)
{
    static const char *const kinds[] = {"diagramData", "chart", "notesSlide", "comments"};
    CLEANUP(rels_done) struct rels rels = {0};

    pptx->flow = (struct flow){.out = pptx->out};
    if (rels_load(pptx->pkg, part, &rels, err) || part_read(pptx, part, err)) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        for (const struct rel *rel = rels_by_type(&rels, kinds[i], NULL); rel;
             rel = rels_by_type(&rels, kinds[i], rel)) {
            flow_owe(&pptx->flow, 2);
            if (part_read(pptx, rel->target, err)) {
                return -1;
            }
        }
    }
    return text_page_end(pptx->out, err);
}

int format_pptx(struct package *pkg, const char *main_part, struct text_out *out, struct err *err)
{
    CLEANUP(rels_done) struct rels rels = {0};
    CLEANUP(xml_close) struct xml show = {0};
    struct pptx pptx = {.pkg = pkg, .out = out};

    if (rels_load(pkg, main_part, &rels, err) || xml_open(pkg, main_part, &show, err)) {
        return -1;
    }
    do {
        const struct rel *rel;
        char id[REL_ID_MAX];

        if (xml_next(&show, err)) {
            return -1;
        }
        if (show.type != XML_OPEN || !xml_is(&show, "sldId")) {
            continue;
        }
        (void)xml_attr(&show, "id", true, id, sizeof(id));
        rel = rels_by_id(&rels, id);
        if (rel && package_find(pkg, rel->target) >= 0 && slide_page(&pptx, rel->target, err)) {
            return -1;
        }
    } while (show.type != XML_END);
    return 0;
}
