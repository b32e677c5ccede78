/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zip packages of office documents, and the XML parts in them.
 * Invariant: every unpacked byte is counted against one budget for the whole file, whichever part
 * it belongs to. It refuses encrypted members, entity declarations and anything outside the file.
 */
#pragma once

#include "services/text-extractor/format.h"

#include <libxml/xmlreader.h>

struct package; /* opaque */

/* Reads the list of members. ERR_PERMANENT "corrupt", "encrypted" or "expands_too_much". */
int package_open(const char *data, size_t len, struct package **ret_pkg,
                 struct err *err) WARN_UNUSED;
void package_free(struct package *pkg);
DEFINE_CLEANUP(struct package *, package_cleanup, package_free)

size_t package_count(const struct package *pkg);
/* Borrowed; names use '/', and have no leading one. Directories end in '/'. */
const char *package_name(const struct package *pkg, size_t i);
int64_t package_size(const struct package *pkg, size_t i); /* as declared, -1 unknown */
/* The member's index by name (letters' case is ignored if need be) or -1. */
int64_t package_find(const struct package *pkg, const char *name);
/* Unpacks one member, at most max bytes, behind what text holds. */
int package_load(struct package *pkg, const char *name, size_t max, struct buf *text,
                 struct err *err) WARN_UNUSED;

/* --- XML ------------------------------------------------------------------------------------- */

/* A cursor over one XML part. Names are without prefix: transitional and strict OOXML, which
 * differ in their namespaces only, read the same. */
struct xml {
    xmlTextReaderPtr reader;
    struct archive *stream; /* when it reads from a package */
    struct package *pkg;
    int64_t member;
    bool broken; /* unpacking failed: why */
    struct err why;
    const char *name; /* local name of the node */
    int depth;
    int type; /* enum xml_type of this node */
};

enum xml_type { XML_END = 0, XML_OPEN, XML_CLOSE, XML_CHARS, XML_OTHER };

/* Opens a member; ERR_PERMANENT "corrupt" if it is not there. */
int xml_open(struct package *pkg, const char *name, struct xml *ret_xml,
             struct err *err) WARN_UNUSED;
void xml_close(struct xml *xml);
/* Steps to the next node: an empty element gives XML_OPEN and XML_CLOSE. *ret_type XML_END at the
 * end of the part. */
int xml_next(struct xml *xml, struct err *err) WARN_UNUSED;
/* Skips to the end of the element just opened: the next node is the one after it. */
int xml_skip(struct xml *xml, struct err *err) WARN_UNUSED;
bool xml_is(const struct xml *xml, const char *name);
bool xml_is_any(const struct xml *xml, const char *const *names); /* NULL-terminated */
/* The characters of an XML_CHARS node; borrowed until the next step. */
const char *xml_chars(const struct xml *xml);
/* An attribute by local name, cut to size; "" and false if absent. With rel the attribute must be
 * in a relationships namespace (r:id beside id), without rel it must not. */
bool xml_attr(struct xml *xml, const char *name, bool rel, char *buf, size_t size);
int64_t xml_attr_int(struct xml *xml, const char *name, int64_t fallback);

/* --- relationships ---------------------------------------------------------------------------- */

#define REL_ID_MAX 64
#define REL_TARGET_MAX 256

struct rel {
    char id[REL_ID_MAX];
    char type[REL_ID_MAX];       /* the last word of the type's address: "worksheet", "footer" */
    char target[REL_TARGET_MAX]; /* member name */
};

struct rels {
    struct rel *list;
    size_t n, cap;
};

/* Of a part ("" for the package); none at all is no error. External targets are left out. */
int rels_load(struct package *pkg, const char *part, struct rels *ret_rels,
              struct err *err) WARN_UNUSED;
void rels_done(struct rels *rels);
const struct rel *rels_by_id(const struct rels *rels, const char *id);
/* The next of this type after `after` (NULL: the first). */
const struct rel *rels_by_type(const struct rels *rels, const char *type, const struct rel *after);

/* --- formats in packages ---------------------------------------------------------------------- */

int format_docx(struct package *pkg, const char *main_part, struct text_out *out,
                struct err *err) WARN_UNUSED;
int format_xlsx(struct package *pkg, const char *main_part, struct text_out *out,
                struct err *err) WARN_UNUSED;
int format_pptx(struct package *pkg, const char *main_part, struct text_out *out,
                struct err *err) WARN_UNUSED;
int format_odf(struct package *pkg, enum file_kind kind, struct text_out *out,
               struct err *err) WARN_UNUSED;
int format_epub(struct package *pkg, struct text_out *out, struct err *err) WARN_UNUSED;
/* Lists the members of an archive that is no document. */
int format_archive(struct package *pkg, struct text_out *out, struct err *err) WARN_UNUSED;
