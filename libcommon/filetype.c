/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells file kinds by signature. Binary kinds are told by magic bytes alone; kinds that are text
 * are told by how they begin, and only between these does the name's extension count.
 * It refuses to guess: bytes that are neither known nor text are FILE_BINARY.
 */
#include "libcommon/filetype.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define ALWAYS (FILE_TASK_TEXT | FILE_TASK_PREVIEW)
#define PICTURE (ALWAYS | FILE_TASK_THUMBNAIL)
#define OOXML "application/vnd.openxmlformats-officedocument."
#define ODF "application/vnd.oasis.opendocument."

/* clang-format off */
static const struct filetype kinds[FILE_KINDS] = {
    {FILE_BINARY, "binary", "application/octet-stream", false, false, ALWAYS},
    {FILE_PDF, "pdf", "application/pdf", false, false, ALWAYS},
    {FILE_JPEG, "jpeg", "image/jpeg", true, false, PICTURE},
    {FILE_PNG, "png", "image/png", true, false, PICTURE},
    {FILE_TIFF, "tiff", "image/tiff", true, false, PICTURE},
    {FILE_WEBP, "webp", "image/webp", true, false, PICTURE},
    {FILE_GIF, "gif", "image/gif", true, false, PICTURE},
    {FILE_BMP, "bmp", "image/bmp", true, false, PICTURE},
    {FILE_HEIC, "heic", "image/heic", false, false, PICTURE},
    {FILE_AVIF, "avif", "image/avif", false, false, PICTURE},
    {FILE_SVG, "svg", "image/svg+xml", false, true, ALWAYS},
    {FILE_DOCX, "docx", OOXML "wordprocessingml.document", false, false, ALWAYS},
    {FILE_XLSX, "xlsx", OOXML "spreadsheetml.sheet", false, false, ALWAYS},
    {FILE_PPTX, "pptx", OOXML "presentationml.presentation", false, false, ALWAYS},
    {FILE_ODT, "odt", ODF "text", false, false, ALWAYS},
    {FILE_ODS, "ods", ODF "spreadsheet", false, false, ALWAYS},
    {FILE_ODP, "odp", ODF "presentation", false, false, ALWAYS},
    {FILE_EPUB, "epub", "application/epub+zip", false, false, ALWAYS},
    {FILE_ZIP, "zip", "application/zip", false, false, ALWAYS},
    {FILE_OLE2, "ole2", "application/x-ole-storage", false, false, FILE_TASK_PREVIEW},
    {FILE_RTF, "rtf", "application/rtf", false, false, ALWAYS},
    {FILE_EML, "eml", "message/rfc822", false, true, ALWAYS},
    {FILE_HTML, "html", "text/html", false, true, ALWAYS},
    {FILE_XML, "xml", "application/xml", false, true, ALWAYS},
    {FILE_JSON, "json", "application/json", false, true, ALWAYS},
    {FILE_CSV, "csv", "text/csv", false, true, ALWAYS},
    {FILE_TSV, "tsv", "text/tab-separated-values", false, true, ALWAYS},
    {FILE_MD, "md", "text/markdown", false, true, ALWAYS},
    {FILE_TEXT, "text", "text/plain", false, true, ALWAYS},
};

static const struct {
    enum file_kind kind;
    unsigned char len;
    const char *bytes;
} signatures[] = {
    {FILE_JPEG, 3, "\xff\xd8\xff"},
    {FILE_PNG, 8, "\x89PNG\r\n\x1a\n"},
    {FILE_TIFF, 4, "II*\0"},
    {FILE_TIFF, 4, "MM\0*"},
    {FILE_TIFF, 4, "II+\0"},
    {FILE_TIFF, 4, "MM\0+"},
    {FILE_GIF, 6, "GIF87a"},
    {FILE_GIF, 6, "GIF89a"},
    {FILE_ZIP, 4, "PK\x03\x04"},
    {FILE_ZIP, 4, "PK\x05\x06"},
    {FILE_OLE2, 8, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"},
    {FILE_OLE2, 4, "\x09\x04\x06\0"}, /* Excel 4 and 3, before the container: same way */
    {FILE_OLE2, 4, "\x09\x02\x06\0"},
    {FILE_RTF, 5, "{\\rtf"},
};

static const struct {
    const char *ext;
    enum file_kind kind;
} extensions[] = {
    {"csv", FILE_CSV},   {"tsv", FILE_TSV},   {"tab", FILE_TSV},      {"md", FILE_MD},
    {"json", FILE_JSON}, {"jsonl", FILE_JSON}, {"ndjson", FILE_JSON}, {"geojson", FILE_JSON},
    {"xml", FILE_XML},   {"html", FILE_HTML}, {"htm", FILE_HTML},     {"xhtml", FILE_HTML},
    {"eml", FILE_EML},   {"mbox", FILE_EML},  {"mht", FILE_EML},      {"mhtml", FILE_EML},
    {"svg", FILE_SVG},   {"markdown", FILE_MD},
};

/* Header names that begin a mail; one of them decides only with the name's help. */
static const char *const mail_headers[] = {
    "from", "to", "subject", "date", "received", "return-path", "message-id", "mime-version",
    "content-type", "delivered-to", "reply-to", "cc", "sender", "dkim-signature", "x-mailer",
    "content-transfer-encoding", "envelope-to", "in-reply-to", "x-priority",
};
/* clang-format on */

const struct filetype *filetype_of(enum file_kind kind)
{
    unsigned n = (unsigned)kind;

    return &kinds[n < FILE_KINDS ? n : FILE_BINARY];
}

const char *file_kind_name(enum file_kind kind)
{
    return filetype_of(kind)->name;
}

enum file_kind file_kind_parse(const char *name)
{
    for (size_t i = 0; name && i < FILE_KINDS; i++) {
        if (!strcmp(kinds[i].name, name)) {
            return kinds[i].kind;
        }
    }
    return FILE_BINARY;
}

static uint32_t le16(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t le32(const unsigned char *p)
{
    return le16(p) | le16(p + 2) << 16;
}

/* --- binary kinds -------------------------------------------------------------------------- */

static enum file_kind container_kind(const unsigned char *p, size_t len)
{
    if (len >= 12 && !memcmp(p, "RIFF", 4) && !memcmp(p + 8, "WEBP", 4)) {
        return FILE_WEBP;
    }
    if (len >= 12 && !memcmp(p + 4, "ftyp", 4)) {
        static const char *const heic[] = {"heic", "heix", "hevc", "heim", "heis", "mif1", "msf1"};

        if (!memcmp(p + 8, "avif", 4) || !memcmp(p + 8, "avis", 4)) {
            return FILE_AVIF;
        }
        /* The generic brand is used by both; the compatible ones follow. */
        if (!memcmp(p + 8, "mif1", 4) && memmem(p, min_size(len, 64), "avif", 4)) {
            return FILE_AVIF;
        }
        for (size_t i = 0; i < ARRAY_LEN(heic); i++) {
            if (!memcmp(p + 8, heic[i], 4)) {
                return FILE_HEIC;
            }
        }
    }
    /* "BM", two reserved words that are zero in practice, and a known header size. */
    if (len >= 18 && p[0] == 'B' && p[1] == 'M') {
        uint32_t header = le32(p + 14);

        if (header == 12 || header == 16 || header == 40 || header == 52 || header == 56 ||
            header == 64 || header == 108 || header == 124) {
            return FILE_BMP;
        }
    }
    return FILE_BINARY;
}

static enum file_kind odf_kind(const char *mime, size_t len)
{
    static const struct {
        const char *name;
        enum file_kind kind;
    } map[] = {
        {"application/vnd.oasis.opendocument.text", FILE_ODT},
        {"application/vnd.oasis.opendocument.spreadsheet", FILE_ODS},
        {"application/vnd.oasis.opendocument.presentation", FILE_ODP},
        {"application/vnd.sun.xml.writer", FILE_ODT},
        {"application/vnd.sun.xml.calc", FILE_ODS},
        {"application/vnd.sun.xml.impress", FILE_ODP},
        {"application/epub+zip", FILE_EPUB},
    };

    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        size_t n = strlen(map[i].name);

        if (len >= n && !memcmp(mime, map[i].name, n)) {
            return map[i].kind;
        }
    }
    return FILE_ZIP;
}

static enum file_kind part_kind(const char *name, size_t len)
{
    if (len > 5 && !memcmp(name, "word/", 5)) {
        return FILE_DOCX;
    }
    if (len > 3 && !memcmp(name, "xl/", 3)) {
        return FILE_XLSX;
    }
    if (len > 4 && !memcmp(name, "ppt/", 4)) {
        return FILE_PPTX;
    }
    return FILE_ZIP;
}

/* Walks the local headers as far as the bytes go. An archive with a folder word/ is taken for a
 * package only when it begins like one. */
static enum file_kind zip_kind(const unsigned char *p, size_t len)
{
    enum file_kind found = FILE_ZIP;
    bool package = false;

    for (size_t at = 0; len - at >= 30 && !memcmp(p + at, "PK\x03\x04", 4);) {
        size_t name_len = le16(p + at + 26);
        size_t data = at + 30 + name_len + le16(p + at + 28);
        const char *name = (const char *)p + at + 30;

        if (at + 30 + name_len > len) {
            break;
        }
        if (at == 0 && name_len == 8 && !memcmp(name, "mimetype", 8) && data < len) {
            return odf_kind((const char *)p + data, len - data);
        }
        if ((name_len == 19 && !memcmp(name, "[Content_Types].xml", 19)) ||
            (name_len >= 5 && !memcmp(name, "_rels", 5)) ||
            (name_len >= 8 && !memcmp(name, "docProps", 8))) {
            package = true;
        }
        if (found == FILE_ZIP) {
            found = part_kind(name, name_len);
        }
        /* Bit 3: the size comes after the data, so the next header cannot be found from here. */
        if ((le16(p + at + 6) & 8) && le32(p + at + 18) == 0) {
            break;
        }
        size_t packed = le32(p + at + 18);
        if (data >= len || packed >= len - data) {
            break;
        }
        at = data + packed;
    }
    return package ? found : FILE_ZIP;
}

static enum file_kind binary_kind(const unsigned char *p, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(signatures); i++) {
        if (len >= signatures[i].len && !memcmp(p, signatures[i].bytes, signatures[i].len)) {
            return signatures[i].kind == FILE_ZIP ? zip_kind(p, len) : signatures[i].kind;
        }
    }
    /* A PDF may have up to 1 kB of rubbish before its header. */
    if (memmem(p, min_size(len, 1029), "%PDF-", 5)) {
        return FILE_PDF;
    }
    return container_kind(p, len);
}

/* --- kinds that are text --------------------------------------------------------------------- */

/* Whether the bytes may be characters of some encoding; ret_wide: UTF-16 or UTF-32. */
static bool looks_like_text(const unsigned char *p, size_t len, bool *ret_wide)
{
    size_t nul = 0;
    size_t control = 0;
    size_t even = 0;

    *ret_wide = len >= 2 && ((p[0] == 0xff && p[1] == 0xfe) || (p[0] == 0xfe && p[1] == 0xff));
    if (*ret_wide) {
        return true;
    }
    for (size_t i = 0; i < len; i++) {
        nul += p[i] == 0;
        even += p[i] == 0 && i % 2 == 0;
        control += p[i] != 0 && p[i] < 0x20 && !memchr("\t\n\v\f\r\x1a\x1b", p[i], 7);
    }
    /* NULs in nearly every second place: ASCII letters as UTF-16 without a mark. */
    if (nul > 0 && nul * 10 >= len * 3 && (even * 10 <= nul || even * 10 >= nul * 9)) {
        *ret_wide = true;
        return control * 20 <= len;
    }
    if (nul > 0 && len >= 4 && !memcmp(p, "\0\0\xfe\xff", 4)) {
        *ret_wide = true;
        return true;
    }
    /* A few NULs and controls are damage, many are a program. */
    return (nul + control) * 20 <= len;
}

/* The text with NULs left out, so that UTF-16 reads like ASCII. Returns its length. */
static size_t narrow(const unsigned char *p, size_t len, bool wide, char *ret_text)
{
    size_t n = 0;
    size_t from = len >= 3 && !memcmp(p, "\xef\xbb\xbf", 3) ? 3 : 0;

    for (size_t i = from; i < len; i++) {
        if (p[i] != 0 && !(wide && p[i] >= 0x80)) {
            ret_text[n++] = (char)p[i];
        }
    }
    ret_text[n] = '\0';
    return n;
}

static enum file_kind extension_kind(const char *name)
{
    const char *dot = name ? strrchr(name, '.') : NULL;

    for (size_t i = 0; dot && i < ARRAY_LEN(extensions); i++) {
        if (!strcasecmp(dot + 1, extensions[i].ext)) {
            return extensions[i].kind;
        }
    }
    return FILE_TEXT;
}

static bool known_header(const char *line, size_t name_len)
{
    for (size_t i = 0; i < ARRAY_LEN(mail_headers); i++) {
        if (strlen(mail_headers[i]) == name_len && !strncasecmp(line, mail_headers[i], name_len)) {
            return true;
        }
    }
    return false;
}

/* Counts the known header lines of the block that the text begins with. */
static unsigned count_headers(const char *s)
{
    unsigned n = 0;

    if (!strncmp(s, "From ", 5) && strchr(s, '\n')) {
        s = strchr(s, '\n') + 1;
    }
    while (*s && *s != '\n' && *s != '\r') {
        size_t len = strcspn(s, "\r\n");
        size_t name_len = strcspn(s, ": \t\r\n");

        if (*s != ' ' && *s != '\t') {
            if (name_len == 0 || s[name_len] != ':') {
                return n;
            }
            n += known_header(s, name_len);
        }
        s += len;
        s += *s == '\r';
        s += *s == '\n';
    }
    return n;
}

static bool has_tag(const char *s, const char *tag)
{
    size_t n = strlen(tag);

    for (const char *p = strcasestr(s, tag); p; p = strcasestr(p + n, tag)) {
        if (!isalnum((unsigned char)p[n])) {
            return true;
        }
    }
    return false;
}

static enum file_kind markup_kind(const char *s, enum file_kind hint)
{
    bool html = has_tag(s, "<html") || !strncasecmp(s, "<!doctype html", 14);

    if (!strncmp(s, "<?xml", 5)) {
        if (has_tag(s, "<svg")) {
            return FILE_SVG;
        }
        return html ? FILE_HTML : FILE_XML;
    }
    if (!strncasecmp(s, "<svg", 4)) {
        return FILE_SVG;
    }
    if (html || has_tag(s, "<head") || has_tag(s, "<body") || has_tag(s, "<table")) {
        return FILE_HTML;
    }
    if (hint == FILE_HTML || hint == FILE_XML) {
        return hint;
    }
    if (has_tag(s, "<div") || has_tag(s, "<p") || has_tag(s, "<title")) {
        return hint == FILE_MD || hint == FILE_EML ? hint : FILE_HTML;
    }
    return hint;
}

static enum file_kind text_kind(const char *s, const char *name)
{
    enum file_kind hint = extension_kind(name);

    s += strspn(s, " \t\r\n");
    if (!strncmp(s, "{\\rtf", 5)) {
        return FILE_RTF;
    }
    unsigned headers = count_headers(s);
    if (headers >= 3 || (headers >= 1 && (hint == FILE_EML || !strncmp(s, "From ", 5)))) {
        return FILE_EML;
    }
    if (*s == '<') {
        enum file_kind kind = markup_kind(s, hint);

        return kind == FILE_EML ? FILE_TEXT : kind;
    }
    if (hint == FILE_TEXT && (*s == '{' || *s == '[')) {
        const char *rest = s + 1 + strspn(s + 1, " \t\r\n{[");

        return *rest == '"' && strchr(rest, ':') ? FILE_JSON : FILE_TEXT;
    }
    if ((hint == FILE_HTML && strchr(s, '<')) || (hint == FILE_EML && *s != '\0')) {
        return hint;
    }
    return hint == FILE_HTML || hint == FILE_SVG ? FILE_TEXT : hint;
}

void filetype_detect(const void *head, size_t len, const char *name, struct filetype *ret)
{
    const unsigned char *p = head;
    char text[FILETYPE_HEAD + 1];
    bool wide = false;
    enum file_kind kind;

    len = min_size(len, FILETYPE_HEAD);
    kind = len > 0 ? binary_kind(p, len) : FILE_TEXT;
    if (len > 0 && kind == FILE_BINARY && looks_like_text(p, len, &wide)) {
        (void)narrow(p, len, wide, text);
        kind = text_kind(text, name);
    }
    *ret = kinds[kind];
}
