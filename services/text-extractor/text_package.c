/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zip members by name over libarchive, which only goes forward: finished streams are kept, and the
 * one that stands nearest before a wanted member goes on; slides, their notes and their relations
 * are three such walks.
 * Invariant: pkg->unpacked grows with every unpacked byte and is checked at once.
 */
#include "services/text-extractor/package.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>
#include <strings.h>

struct member {
    char *name;
    int64_t size;
};

#define PARKED_MAX 6U

/* A stream between two members. */
struct parked {
    struct archive *stream;
    int64_t next; /* index of the member it comes to */
};

struct package {
    const char *data;
    size_t len;
    struct member *members;
    size_t n, cap;
    uint64_t unpacked;
    struct parked parked[PARKED_MAX]; /* streams to go on with */
};

DEFINE_CLEANUP(struct archive *, archive_cleanup, archive_read_free)

static struct archive *stream_open(const struct package *pkg)
{
    struct archive *stream = archive_read_new();

    if (stream && (archive_read_support_format_zip(stream) != ARCHIVE_OK ||
                   archive_read_open_memory(stream, pkg->data, pkg->len) != ARCHIVE_OK)) {
        archive_read_free(stream);
        return NULL;
    }
    return stream;
}

static int too_much(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "expands_too_much",
                   "the archive unpacks to more than is allowed");
}

static bool over_budget(const struct package *pkg, uint64_t unpacked)
{
    return unpacked > TEXT_EXPAND_MAX ||
           (unpacked > TEXT_EXPAND_FREE && unpacked / TEXT_EXPAND_RATIO > pkg->len);
}

static int member_add(struct package *pkg, struct archive_entry *entry, struct err *err)
{
    const char *name = archive_entry_pathname_utf8(entry);
    char *copy;

    if (!name) {
        name = archive_entry_pathname(entry);
    }
    if (pkg->n >= TEXT_PACKAGE_MAX) {
        return err_set(err, ERR_PERMANENT, "expands_too_much",
                       "the archive has more than %u members", TEXT_PACKAGE_MAX);
    }
    if (pkg->n == pkg->cap) {
        size_t cap = pkg->cap ? pkg->cap * 2 : 64;
        struct member *members = reallocarray(pkg->members, cap, sizeof(*members));

        if (!members) {
            return err_nomem(err);
        }
        pkg->members = members;
        pkg->cap = cap;
    }
    copy = strndup(name ? name : "", 4096);
    if (!copy) {
        return err_nomem(err);
    }
    for (char *p = copy; *p; p++) {
        *p = *p == '\\' ? '/' : *p;
    }
    if (*copy == '/') {
        memmove(copy, copy + 1, strlen(copy));
    }
    pkg->members[pkg->n++] = (struct member){
        .name = copy, .size = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : -1};
    return 0;
}

static int members_read(struct package *pkg, struct err *err)
{
    CLEANUP(archive_cleanup) struct archive *stream = stream_open(pkg);
    struct archive_entry *entry;
    uint64_t declared = 0;
    int rc;

    if (!stream) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the archive cannot be opened");
    }
    while ((rc = archive_read_next_header(stream, &entry)) == ARCHIVE_OK || rc == ARCHIVE_WARN) {
        if (archive_entry_is_encrypted(entry)) {
            return err_set(err, ERR_PERMANENT, "encrypted", "the archive needs a password");
        }
        if (member_add(pkg, entry, err)) {
            return -1;
        }
        if (pkg->n > 0 && pkg->members[pkg->n - 1].size > 0) {
            declared += (uint64_t)pkg->members[pkg->n - 1].size;
        }
        if (over_budget(pkg, declared)) {
            return too_much(err);
        }
    }
    if (rc != ARCHIVE_EOF && pkg->n == 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the archive is damaged");
    }
    return 0;
}

int package_open(const char *data, size_t len, struct package **ret_pkg, struct err *err)
{
    CLEANUP(package_cleanup) struct package *pkg = calloc(1, sizeof(*pkg));

    if (!pkg) {
        return err_nomem(err);
    }
    pkg->data = data;
    pkg->len = len;
    if (members_read(pkg, err)) {
        return -1;
    }
    *ret_pkg = STEAL(pkg);
    return 0;
}

void package_free(struct package *pkg)
{
    if (!pkg) {
        return;
    }
    for (size_t i = 0; i < pkg->n; i++) {
        free(pkg->members[i].name);
    }
    for (size_t i = 0; i < PARKED_MAX; i++) {
        if (pkg->parked[i].stream) {
            archive_read_free(pkg->parked[i].stream);
        }
    }
    free(pkg->members);
    free(pkg);
}

size_t package_count(const struct package *pkg)
{
    return pkg->n;
}

const char *package_name(const struct package *pkg, size_t i)
{
    return pkg->members[i].name;
}

int64_t package_size(const struct package *pkg, size_t i)
{
    return pkg->members[i].size;
}

int64_t package_find(const struct package *pkg, const char *name)
{
    for (size_t i = 0; i < pkg->n; i++) {
        if (!strcmp(pkg->members[i].name, name)) {
            return (int64_t)i;
        }
    }
    for (size_t i = 0; i < pkg->n; i++) {
        if (!strcasecmp(pkg->members[i].name, name)) {
            return (int64_t)i;
        }
    }
    return -1;
}

/* Takes the kept stream nearest before a member, or opens one; *ret_next is where it stands. */
static struct archive *stream_before(struct package *pkg, int64_t index, int64_t *ret_next)
{
    struct parked *best = NULL;

    for (size_t i = 0; i < PARKED_MAX; i++) {
        struct parked *parked = &pkg->parked[i];

        if (parked->stream && parked->next <= index && (!best || parked->next > best->next)) {
            best = parked;
        }
    }
    *ret_next = best ? best->next : 0;
    return best ? STEAL(best->stream) : stream_open(pkg);
}

/* Keeps a stream in a free place, or in that of the one that lies furthest back. */
static void stream_park(struct package *pkg, struct archive *stream, int64_t next)
{
    struct parked *place = &pkg->parked[0];

    for (size_t i = 0; i < PARKED_MAX && place->stream; i++) {
        if (!pkg->parked[i].stream || pkg->parked[i].next < place->next) {
            place = &pkg->parked[i];
        }
    }
    if (place->stream) {
        archive_read_free(place->stream);
    }
    *place = (struct parked){stream, next};
}

/* A stream that stands at the data of a member. */
static int stream_at(struct package *pkg, const char *name, struct archive **ret_stream,
                     int64_t *ret_index, struct err *err)
{
    CLEANUP(archive_cleanup) struct archive *stream = NULL;
    int64_t index = package_find(pkg, name);
    int64_t next = 0;
    struct archive_entry *entry;

    stream = index >= 0 ? stream_before(pkg, index, &next) : NULL;
    for (int64_t i = next; stream && i <= index; i++) {
        int rc = archive_read_next_header(stream, &entry);

        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) {
            index = -1;
        }
    }
    if (index < 0 || !stream) {
        return err_set(err, ERR_PERMANENT, "corrupt", "part %.80s is missing", name);
    }
    *ret_index = index;
    *ret_stream = STEAL(stream);
    return 0;
}

static ssize_t stream_read(struct package *pkg, struct archive *stream, void *to, size_t len,
                           struct err *err)
{
    la_ssize_t n = archive_read_data(stream, to, len);

    if (n < 0) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the archive is damaged");
    }
    pkg->unpacked += (uint64_t)n;
    if (over_budget(pkg, pkg->unpacked)) {
        return too_much(err);
    }
    return n;
}

int package_load(struct package *pkg, const char *name, size_t max, struct buf *text,
                 struct err *err)
{
    CLEANUP(archive_cleanup) struct archive *stream = NULL;
    char bytes[16384];
    size_t total = 0;
    int64_t index;
    ssize_t n;

    if (stream_at(pkg, name, &stream, &index, err)) {
        return -1;
    }
    while ((n = stream_read(pkg, stream, bytes, sizeof(bytes), err)) > 0) {
        total += (size_t)n;
        if (total > max) {
            return too_much(err);
        }
        if (buf_append(text, bytes, (size_t)n, err)) {
            return -1;
        }
    }
    if (n < 0) {
        return -1;
    }
    stream_park(pkg, STEAL(stream), index + 1);
    return 0;
}

/* --- XML over a stream ------------------------------------------------------------------------ */

static int xml_pull(void *ctx, char *to, int len)
{
    struct xml *xml = ctx;
    ssize_t n = stream_read(xml->pkg, xml->stream, to, (size_t)len, &xml->why);

    if (n < 0) {
        xml->broken = true;
    }
    return (int)n;
}

int xml_open(struct package *pkg, const char *name, struct xml *ret_xml, struct err *err)
{
    *ret_xml = (struct xml){.pkg = pkg, .name = ""};
    if (stream_at(pkg, name, &ret_xml->stream, &ret_xml->member, err)) {
        return -1;
    }
    ret_xml->reader = xmlReaderForIO(xml_pull, NULL, ret_xml, NULL, NULL,
                                     XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                         XML_PARSE_RECOVER | XML_PARSE_COMPACT);
    if (!ret_xml->reader) {
        archive_read_free(STEAL(ret_xml->stream));
        return err_nomem(err);
    }
    return 0;
}

void xml_close(struct xml *xml)
{
    if (xml->reader) {
        xmlFreeTextReader(STEAL(xml->reader));
    }
    if (xml->stream && xml->broken) {
        archive_read_free(STEAL(xml->stream));
    } else if (xml->stream) {
        stream_park(xml->pkg, STEAL(xml->stream), xml->member + 1);
    }
}
