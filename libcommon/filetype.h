/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table of file kinds: how a kind is told from its first bytes, what it is called, and which
 * stages it starts with. The gateway routes by it, the jailed parsers choose by it.
 * Invariant: content decides; the name is only a hint between kinds that are all plain text.
 * It never fails and never looks past the bytes it is given.
 */
#pragma once

#include "libcommon/states.h"

/* How many first bytes a caller should offer. */
#define FILETYPE_HEAD 4096U

enum file_kind {
    FILE_BINARY = 0, /* nothing we know */
    FILE_PDF,
    FILE_JPEG,
    FILE_PNG,
    FILE_TIFF,
    FILE_WEBP,
    FILE_GIF,
    FILE_BMP,
    FILE_HEIC,
    FILE_AVIF,
    FILE_SVG,
    FILE_DOCX,
    FILE_XLSX,
    FILE_PPTX,
    FILE_ODT,
    FILE_ODS,
    FILE_ODP,
    FILE_EPUB,
    FILE_ZIP, /* an archive, or a package whose first bytes do not tell more */
    FILE_OLE2,
    FILE_RTF,
    FILE_EML,
    FILE_HTML,
    FILE_XML,
    FILE_JSON,
    FILE_CSV,
    FILE_TSV,
    FILE_MD,
    FILE_TEXT,
    FILE_KINDS, /* their number */
};

/* A file's first tasks, as bits of their stages; later ones come from the stages themselves. */
enum file_task {
    FILE_TASK_TEXT = 1 << STAGE_TEXT,
    FILE_TASK_PREVIEW = 1 << STAGE_PREVIEW,
    FILE_TASK_THUMBNAIL = 1 << STAGE_THUMBNAIL,
};

struct filetype {
    enum file_kind kind;
    const char *name; /* "pdf", "docx": stable, also file_kind_name(kind) */
    const char *mime;
    bool raster;    /* a picture the ocr stage reads: it has no text layer of its own */
    bool text;      /* bytes are characters: charset questions apply */
    unsigned tasks; /* enum file_task */
};

/* Tells the kind from the first len bytes (FILETYPE_HEAD is enough) and the file's name, which may
 * be NULL. A zip stays FILE_ZIP when these bytes do not name the package's kind; the text stage
 * looks inside. Zero bytes are FILE_TEXT. *ret is always written. */
void filetype_detect(const void *head, size_t len, const char *name, struct filetype *ret);

/* The row of a kind; FILE_BINARY's row for a number out of range. Never NULL. */
const struct filetype *filetype_of(enum file_kind kind);

/* Stable names and back; unknown names give FILE_BINARY. */
const char *file_kind_name(enum file_kind kind);
enum file_kind file_kind_parse(const char *name);
