/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at the container only: the directory of a zip or OLE2 file, never at document contents.
 * Sizes that a zip declares are not believed: its members are inflated and counted, up to the
 * limit, which costs a few milliseconds and is what stops bombs.
 */
#include "services/preview-worker/office.h"

#include <string.h>
#include <zlib.h>

enum { ZIP_MEMBERS_MAX = 20000, ZIP_NAME_MAX = 1024, CFB_ENTRY = 128 };

/* Expansion beyond RATIO is refused once it is large in itself. */
#define EXPANDED_MAX (1024ULL * 1024 * 1024)
#define EXPANDED_FREE (32ULL * 1024 * 1024)
#define EXPANDED_RATIO 200U

struct bytes {
    const unsigned char *data;
    size_t len;
};

static uint32_t get16(struct bytes b, size_t at)
{
    return at + 2 <= b.len ? (uint32_t)(b.data[at] | b.data[at + 1] << 8) : 0U;
}

static uint32_t get32(struct bytes b, size_t at)
{
    return get16(b, at) | get16(b, at + 2) << 16;
}

static bool starts(struct bytes b, size_t at, const char *text)
{
    const size_t n = strlen(text);

    return at <= b.len && n <= b.len - at && memcmp(b.data + at, text, n) == 0;
}

/* --- zip ---------------------------------------------------------------------------------- */

static int too_large(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "expands_too_much",
                   "the file unpacks to far more than its size");
}

/* Adds what one member inflates to, stopping soon after *total passes limit. */
static int count_member(struct bytes zip, size_t local, size_t packed, uint32_t method,
                        uint64_t limit, uint64_t *total, struct err *err)
{
    unsigned char sink[16384];
    const size_t at = local + 30 + get16(zip, local + 26) + get16(zip, local + 28);
    z_stream z = {0};
    int rc = Z_OK;

    if (!starts(zip, local, "PK\x03\x04") || at > zip.len || packed > zip.len - at) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the package is cut off");
    }
    if (method != 8) {
        *total += packed;
        return 0;
    }
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) {
        return err_nomem(err);
    }
    union {
        const unsigned char *in;
        unsigned char *out;
    } input = {.in = zip.data + at};

    z.next_in = input.out;
    z.avail_in = packed > UINT32_MAX ? UINT32_MAX : (uInt)packed;
    while (rc == Z_OK && *total <= limit) {
        z.next_out = sink;
        z.avail_out = sizeof(sink);
        rc = inflate(&z, Z_NO_FLUSH);
        *total += sizeof(sink) - z.avail_out;
    }
    inflateEnd(&z);
    return 0; /* broken members are for the reader to judge */
}

struct zip_facts {
    bool word, sheet, slides; /* OOXML main parts */
};

static void note_name(struct bytes zip, size_t name, size_t len, struct zip_facts *facts)
{
    facts->word = facts->word || (len > 5 && starts(zip, name, "word/"));
    facts->sheet = facts->sheet || (len > 3 && starts(zip, name, "xl/"));
    facts->slides = facts->slides || (len > 4 && starts(zip, name, "ppt/"));
}

static int walk_zip(struct bytes zip, size_t directory, uint32_t members, struct zip_facts *facts,
                    struct err *err)
{
    uint64_t total = 0;
    const uint64_t by_ratio = (uint64_t)zip.len * EXPANDED_RATIO;
    const uint64_t limit = by_ratio < EXPANDED_FREE  ? EXPANDED_FREE
                           : by_ratio < EXPANDED_MAX ? by_ratio
                                                     : EXPANDED_MAX;

    for (uint32_t i = 0; i < members; i++) {
        const size_t name_len = get16(zip, directory + 28);

        if (!starts(zip, directory, "PK\x01\x02") || name_len > ZIP_NAME_MAX) {
            return err_set(err, ERR_PERMANENT, "corrupt", "the package has a broken directory");
        }
        note_name(zip, directory + 46, name_len, facts);
        if (count_member(zip, get32(zip, directory + 42), get32(zip, directory + 20),
                         get16(zip, directory + 10), limit, &total, err) != 0) {
            return -1;
        }
        if (total > limit) {
            return too_large(err);
        }
        directory += 46 + name_len + get16(zip, directory + 30) + get16(zip, directory + 32);
    }
    return 0;
}

/* The end record is in the last 64 KiB. */
static bool find_directory(struct bytes zip, size_t *ret_at, uint32_t *ret_members)
{
    const size_t lowest = zip.len > 65557 ? zip.len - 65557 : 0;

    for (size_t at = zip.len < 22 ? 0 : zip.len - 22 + 1; at > lowest; at--) {
        if (starts(zip, at - 1, "PK\x05\x06")) {
            *ret_members = get16(zip, at - 1 + 10);
            *ret_at = get32(zip, at - 1 + 16);
            return true;
        }
    }
    return false;
}

static int check_zip(struct bytes zip, enum office_family *ret_family, struct err *err)
{
    static const struct {
        const char *mimetype;
        enum office_family family;
    } odf[] = {
        {"application/vnd.oasis.opendocument.text", OFFICE_TEXT},
        {"application/vnd.oasis.opendocument.spreadsheet", OFFICE_SHEET},
        {"application/vnd.oasis.opendocument.presentation", OFFICE_SLIDES},
    };
    struct zip_facts facts = {0};
    size_t directory = 0;
    uint32_t members = 0;

    if (!find_directory(zip, &directory, &members) || members == 0 || members > ZIP_MEMBERS_MAX) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the package has no directory");
    }
    if (walk_zip(zip, directory, members, &facts, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(odf); i++) {
        if (starts(zip, 30, "mimetype") && starts(zip, 38, odf[i].mimetype)) {
            *ret_family = odf[i].family;
            return 0;
        }
    }
    if (!facts.word && !facts.sheet && !facts.slides) {
        return err_set(err, ERR_PERMANENT, "unsupported_type",
                       "the archive is not an office document");
    }
    *ret_family = facts.word ? OFFICE_TEXT : facts.sheet ? OFFICE_SHEET : OFFICE_SLIDES;
    return 0;
}

/* --- OLE2 --------------------------------------------------------------------------------- */

/* Whether the directory has an entry of this name: entries are aligned, names UTF-16. */
static bool has_stream(struct bytes ole, const char *name)
{
    const size_t n = strlen(name);

    for (size_t at = 512; at + CFB_ENTRY <= ole.len; at += CFB_ENTRY) {
        if (get16(ole, at + 64) != (n + 1) * 2 || ole.data[at] != (unsigned char)name[0]) {
            continue;
        }
        size_t i = 0;

        while (i < n && get16(ole, at + 2 * i) == (unsigned char)name[i]) {
            i++;
        }
        if (i == n) {
            return true;
        }
    }
    return false;
}

static int check_ole2(struct bytes ole, enum office_family *ret_family, struct err *err)
{
    if (has_stream(ole, "EncryptedPackage")) {
        return err_set(err, ERR_PERMANENT, "encrypted", "the document needs a password");
    }
    if (has_stream(ole, "__properties_version1.0")) {
        return err_set(err, ERR_PERMANENT, "unsupported_type", "Outlook messages are not drawn");
    }
    if (has_stream(ole, "WordDocument")) {
        *ret_family = OFFICE_TEXT;
    } else if (has_stream(ole, "Workbook") || has_stream(ole, "Book")) {
        *ret_family = OFFICE_SHEET;
    } else if (has_stream(ole, "PowerPoint Document")) {
        *ret_family = OFFICE_SLIDES;
    } else {
        return err_set(err, ERR_PERMANENT, "unsupported_type",
                       "the container holds no office document");
    }
    return 0;
}

int office_check(const unsigned char *data, size_t len, enum office_family *ret_family,
                 struct err *err)
{
    const struct bytes file = {data, len};

    if (len == 0) {
        return err_set(err, ERR_PERMANENT, "empty_file", "the file is empty");
    }
    if (starts(file, 0, "PK\x03\x04")) {
        return check_zip(file, ret_family, err);
    }
    if (starts(file, 0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")) {
        return check_ole2(file, ret_family, err);
    }
    if (starts(file, 0, "{\\rtf")) {
        *ret_family = OFFICE_TEXT;
        return 0;
    }
    if (starts(file, 0, "\x09\x04\x06") || starts(file, 0, "\x09\x02\x06")) {
        *ret_family = OFFICE_SHEET; /* Excel 3 and 4, without a container */
        return 0;
    }
    return err_set(err, ERR_PERMANENT, "unsupported_type", "not an office document");
}

bool office_looks_encrypted(const unsigned char *data, size_t len)
{
    const struct bytes file = {data, len};

    return has_stream(file, "EncryptedSummary") || has_stream(file, "EncryptedSummaryInformation");
}
