/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which document a zip holds, told from its parts, and the listing of archives that hold none.
 * Invariant: the parts decide, never the file's name.
 */
#include "services/text-extractor/package.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The part the package names as its document, "" if none. */
static int main_part(struct package *pkg, char *ret_name, size_t size, struct err *err)
{
    CLEANUP(rels_done) struct rels rels = {0};
    const struct rel *rel;

    if (rels_load(pkg, "", &rels, err)) {
        return -1;
    }
    rel = rels_by_type(&rels, "officeDocument", NULL);
    (void)snprintf(ret_name, size, "%s", rel ? rel->target : "");
    return 0;
}

static enum file_kind ooxml_kind(struct package *pkg, const char *part, char *ret_name, size_t size)
{
    static const struct {
        const char *folder;
        const char *usual;
        enum file_kind kind;
    } kinds[] = {
        {"word/", "word/document.xml", FILE_DOCX},
        {"xl/", "xl/workbook.xml", FILE_XLSX},
        {"ppt/", "ppt/presentation.xml", FILE_PPTX},
    };

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        bool named = !strncasecmp(part, kinds[i].folder, strlen(kinds[i].folder));
        bool found = package_find(pkg, named ? part : kinds[i].usual) >= 0;

        if ((named || !*part) && found) {
            (void)snprintf(ret_name, size, "%s", named ? part : kinds[i].usual);
            return kinds[i].kind;
        }
    }
    return FILE_ZIP;
}

static enum file_kind odf_kind(struct package *pkg)
{
    struct filetype type;
    CLEANUP(buf_done) struct buf mime = {0};
    struct err ignored = ERR_INIT;
    char head[256] = "PK\x03\x04";
    size_t n;

    buf_init(&mime, 256);
    if (package_find(pkg, "mimetype") < 0 || package_load(pkg, "mimetype", 128, &mime, &ignored) ||
        mime.len == 0) {
        return package_find(pkg, "content.xml") >= 0 &&
                       package_find(pkg, "META-INF/manifest.xml") >= 0
                   ? FILE_ODT
                   : FILE_ZIP;
    }
    /* The head of a zip that begins with this member, for the one table of names. */
    head[26] = 8;
    memcpy(head + 30, "mimetype", 8);
    n = min_size(mime.len, sizeof(head) - 38);
    memcpy(head + 38, mime.data, n);
    filetype_detect(head, 38 + n, NULL, &type);
    return type.kind;
}

static int odf_encrypted(struct package *pkg, struct err *err)
{
    CLEANUP(buf_done) struct buf manifest = {0};

    buf_init(&manifest, 4U << 20);
    if (package_find(pkg, "META-INF/manifest.xml") < 0) {
        return 0;
    }
    if (package_load(pkg, "META-INF/manifest.xml", 4U << 20, &manifest, err)) {
        return -1;
    }
    if (manifest.data && strstr(manifest.data, "encryption-data")) {
        return err_set(err, ERR_PERMANENT, "encrypted", "the document needs a password");
    }
    return 0;
}

int format_archive(struct package *pkg, struct text_out *out, struct err *err)
{
    if (package_count(pkg) == 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the archive is empty or damaged");
    }
    for (size_t i = 0; i < package_count(pkg); i++) {
        const char *path = package_name(pkg, i);
        const char *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;

        if (!*name) {
            continue; /* a folder */
        }
        if (text_part(out, name, "application/octet-stream", package_size(pkg, i), path, err) ||
            text_puts(out, path, err) || text_puts(out, "\n", err)) {
            return -1;
        }
    }
    return 0;
}

int format_package(const struct text_input *in, struct text_out *out, struct err *err)
{
    CLEANUP(package_cleanup) struct package *pkg = NULL;
    char part[REL_TARGET_MAX];
    char name[REL_TARGET_MAX] = "";
    enum file_kind kind;

    if (package_open(in->data, in->len, &pkg, err) || main_part(pkg, part, sizeof(part), err)) {
        return -1;
    }
    kind = ooxml_kind(pkg, part, name, sizeof(name));
    if (kind == FILE_ZIP) {
        kind = odf_kind(pkg);
    }
    out->kind = file_kind_name(kind);
    switch (kind) {
    case FILE_DOCX:
        return format_docx(pkg, name, out, err);
    case FILE_XLSX:
        return format_xlsx(pkg, name, out, err);
    case FILE_PPTX:
        return format_pptx(pkg, name, out, err);
    case FILE_ODT:
    case FILE_ODS:
    case FILE_ODP:
        return odf_encrypted(pkg, err) ? -1 : format_odf(pkg, kind, out, err);
    case FILE_EPUB:
        return format_epub(pkg, out, err);
    default:
        return format_archive(pkg, out, err);
    }
}
