/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plain cursor over libxml2's reader, and the relationship parts of OOXML packages.
 * Invariant: entities of the document's own are neither expanded nor loaded; a part that declares
 * any is refused.
 */
#include "services/text-extractor/package.h"

#include <libxml/tree.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define RELS_MAX 20000U

static int node_type(xmlTextReaderPtr reader)
{
    switch (xmlTextReaderNodeType(reader)) {
    case XML_READER_TYPE_ELEMENT:
        return XML_OPEN;
    case XML_READER_TYPE_END_ELEMENT:
        return XML_CLOSE;
    case XML_READER_TYPE_TEXT:
    case XML_READER_TYPE_CDATA:
    case XML_READER_TYPE_WHITESPACE:
    case XML_READER_TYPE_SIGNIFICANT_WHITESPACE:
        return XML_CHARS;
    default:
        return XML_OTHER;
    }
}

static int check_doctype(struct xml *xml, struct err *err)
{
    xmlNodePtr node = xmlTextReaderCurrentNode(xml->reader);
    const struct _xmlDtd *dtd = (const struct _xmlDtd *)(const void *)node;

    if (node && node->type == XML_DTD_NODE && (dtd->entities || dtd->pentities)) {
        return err_set(err, ERR_PERMANENT, "corrupt", "a part declares XML entities");
    }
    return 0;
}

int xml_next(struct xml *xml, struct err *err)
{
    int rc;

    /* An empty element has no end of its own in the reader. */
    if (xml->type == XML_OPEN && xmlTextReaderIsEmptyElement(xml->reader)) {
        xml->type = XML_CLOSE;
        return 0;
    }
    rc = xmlTextReaderRead(xml->reader);
    if (xml->broken) {
        *err = xml->why;
        return -1;
    }
    if (rc < 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "a part of the document is not well-formed");
    }
    if (rc == 0) {
        xml->type = XML_END;
        xml->name = "";
        return 0;
    }
    if (xmlTextReaderNodeType(xml->reader) == XML_READER_TYPE_DOCUMENT_TYPE &&
        check_doctype(xml, err)) {
        return -1;
    }
    xml->type = node_type(xml->reader);
    xml->depth = xmlTextReaderDepth(xml->reader);
    xml->name = (const char *)xmlTextReaderConstLocalName(xml->reader);
    if (!xml->name) {
        xml->name = "";
    }
    return 0;
}

int xml_skip(struct xml *xml, struct err *err)
{
    int depth = xml->depth;

    while (xml->type != XML_END && !(xml->type == XML_CLOSE && xml->depth <= depth)) {
        if (xml_next(xml, err)) {
            return -1;
        }
    }
    return 0;
}

bool xml_is(const struct xml *xml, const char *name)
{
    return !strcmp(xml->name, name);
}

bool xml_is_any(const struct xml *xml, const char *const *names)
{
    for (; *names; names++) {
        if (!strcmp(xml->name, *names)) {
            return true;
        }
    }
    return false;
}

const char *xml_chars(const struct xml *xml)
{
    const xmlChar *s = xmlTextReaderConstValue(xml->reader);

    return s ? (const char *)s : "";
}

static bool is_relationship(const xmlChar *uri)
{
    return uri && strstr((const char *)uri, "/relationships") != NULL;
}

bool xml_attr(struct xml *xml, const char *name, bool rel, char *buf, size_t size)
{
    bool found = false;

    buf[0] = '\0';
    while (!found && xmlTextReaderMoveToNextAttribute(xml->reader) == 1) {
        const xmlChar *local = xmlTextReaderConstLocalName(xml->reader);

        if (local && !strcmp((const char *)local, name) &&
            is_relationship(xmlTextReaderConstNamespaceUri(xml->reader)) == rel) {
            (void)snprintf(buf, size, "%s", xml_chars(xml));
            found = true;
        }
    }
    (void)xmlTextReaderMoveToElement(xml->reader);
    return found;
}

int64_t xml_attr_int(struct xml *xml, const char *name, int64_t fallback)
{
    char buf[32];
    char *end;
    int64_t value;

    if (!xml_attr(xml, name, false, buf, sizeof(buf))) {
        return fallback;
    }
    value = strtoll(buf, &end, 10);
    return end == buf ? fallback : value;
}

/* --- relationships ---------------------------------------------------------------------------- */

/* "xl/workbook.xml" + "../media/a" and so on, without "." and ".."; never above the root. */
static void resolve(const char *part, const char *target, char *ret, size_t size)
{
    const char *slash = strrchr(part, '/');
    size_t n = 0;

    if (*target == '/') {
        target++;
    } else if (slash && (size_t)(slash - part) + 1 < size) {
        n = (size_t)(slash - part) + 1;
        memcpy(ret, part, n);
    }
    while (*target) {
        size_t step = strcspn(target, "/");

        if (step == 2 && !strncmp(target, "..", 2)) {
            n -= n > 0; /* the slash */
            while (n > 0 && ret[n - 1] != '/') {
                n--;
            }
        } else if (!(step == 1 && *target == '.') && n + step + 2 < size) {
            memcpy(ret + n, target, step);
            n += step;
            if (target[step] == '/') {
                ret[n++] = '/';
            }
        }
        target += step + (target[step] == '/');
    }
    ret[n] = '\0';
}

static int rel_add(struct rels *rels, struct xml *xml, const char *part, struct err *err)
{
    char type[256];
    char target[REL_TARGET_MAX];
    char mode[16];
    struct rel rel = {0};
    const char *word;

    (void)xml_attr(xml, "TargetMode", false, mode, sizeof(mode));
    if (!strcasecmp(mode, "External") || rels->n >= RELS_MAX) {
        return 0;
    }
    (void)xml_attr(xml, "Id", false, rel.id, sizeof(rel.id));
    (void)xml_attr(xml, "Type", false, type, sizeof(type));
    (void)xml_attr(xml, "Target", false, target, sizeof(target));
    word = strrchr(type, '/');
    (void)snprintf(rel.type, sizeof(rel.type), "%.63s", word ? word + 1 : type);
    resolve(part, target, rel.target, sizeof(rel.target));
    if (rels->n == rels->cap) {
        size_t cap = rels->cap ? rels->cap * 2 : 16;
        struct rel *list = reallocarray(rels->list, cap, sizeof(*list));

        if (!list) {
            return err_nomem(err);
        }
        rels->list = list;
        rels->cap = cap;
    }
    rels->list[rels->n++] = rel;
    return 0;
}

int rels_load(struct package *pkg, const char *part, struct rels *ret_rels, struct err *err)
{
    CLEANUP(xml_close) struct xml xml = {0};
    const char *slash = strrchr(part, '/');
    int dir = slash ? (int)(slash - part) + 1 : 0;
    char name[REL_TARGET_MAX + 16];

    *ret_rels = (struct rels){0};
    (void)snprintf(name, sizeof(name), "%.*s_rels/%s.rels", dir, part, part + dir);
    if (package_find(pkg, name) < 0) {
        return 0;
    }
    if (xml_open(pkg, name, &xml, err)) {
        return -1;
    }
    do {
        if (xml_next(&xml, err) || (xml.type == XML_OPEN && xml_is(&xml, "Relationship") &&
                                    rel_add(ret_rels, &xml, part, err))) {
            rels_done(ret_rels);
            return -1;
        }
    } while (xml.type != XML_END);
    return 0;
}

void rels_done(struct rels *rels)
{
    free(rels->list);
    *rels = (struct rels){0};
}

const struct rel *rels_by_id(const struct rels *rels, const char *id)
{
    for (size_t i = 0; i < rels->n; i++) {
        if (!strcmp(rels->list[i].id, id)) {
            return &rels->list[i];
        }
    }
    return NULL;
}

const struct rel *rels_by_type(const struct rels *rels, const char *type, const struct rel *after)
{
    for (size_t i = after ? (size_t)(after - rels->list) + 1 : 0; i < rels->n; i++) {
        if (!strcmp(rels->list[i].type, type)) {
            return &rels->list[i];
        }
    }
    return NULL;
}
