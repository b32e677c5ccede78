/* SPDX-License-Identifier: Apache-2.0 */
/* Running the text parsers in tests: see the header. */
#include "tests/unit/formats_help.h"

#include "libcommon/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unicode/ucnv.h>
#include <zlib.h>

#include <cmocka.h>

static void append(char **to, const char *s, size_t len)
{
    size_t have = *to ? strlen(*to) : 0;

    *to = realloc(*to, have + len + 1);
    assert_non_null(*to);
    memcpy(*to + have, s, len);
    (*to)[have + len] = '\0';
}

static const char *member(const struct frame *frame, const char *name)
{
    const char *s = json_string_value(json_object_get(frame->meta, name));

    return s ? s : "";
}

static void take_frame(struct extracted *got, const struct frame *frame)
{
    unsigned page = (unsigned)json_integer_value(json_object_get(frame->meta, "page"));
    char line[512];

    if (!strcmp(frame->type, "page")) {
        assert_int_equal(page, got->n_pages + 1);
        assert_true(utf8_valid(frame->payload, frame->len));
        assert_null(memchr(frame->payload, '\0', frame->len));
        if (got->n_pages < EXTRACT_PAGES) {
            append(&got->pages[got->n_pages], frame->payload, frame->len);
            got->needs_ocr[got->n_pages] = json_is_true(json_object_get(frame->meta, "needsOcr"));
        }
        append(&got->text, got->n_pages ? "\f" : "", got->n_pages ? 1 : 0);
        append(&got->text, frame->payload, frame->len);
        got->n_pages++;
    } else if (!strcmp(frame->type, "words")) {
        assert_int_equal(page, got->n_pages);
        append(&got->words[page - 1], frame->payload, frame->len);
    } else if (!strcmp(frame->type, "part")) {
        (void)snprintf(line, sizeof(line), "%s|%s|%lld|%s\n", member(frame, "name"),
                       member(frame, "mime"),
                       (long long)json_integer_value(json_object_get(frame->meta, "size")),
                       member(frame, "path"));
        append(&got->parts, line, strlen(line));
    } else if (!strcmp(frame->type, "end")) {
        assert_int_equal(json_integer_value(json_object_get(frame->meta, "pages")), got->n_pages);
        (void)snprintf(got->method, sizeof(got->method), "%s", member(frame, "method"));
        (void)snprintf(got->kind, sizeof(got->kind), "%s", member(frame, "kind"));
    }
}

struct extracted *extract(const void *data, size_t len, const char *name, unsigned max_pages)
{
    struct extracted *got = calloc(1, sizeof(*got));
    char *copy = malloc(len > 0 ? len : 1);
    CLEANUP(fd_cleanup) int fd = memfd_create("frames", MFD_CLOEXEC);
    CLEANUP(frames_cleanup) struct frames *frames = NULL;
    struct frame_writer writer;
    struct text_out out;
    struct frame frame;

    assert_true(got && copy && fd >= 0);
    memcpy(copy, data, len);
    frame_writer_init(&writer, fd);
    text_out_init(&out, &writer, max_pages);
    const struct text_input in = {.data = copy, .len = len, .fd = -1, .name = name ? name : ""};
    append(&got->text, "", 0);
    append(&got->parts, "", 0);
    got->rc = text_extract(&in, &out, &got->err);
    text_out_done(&out);
    free(copy);
    if (got->rc) {
        return got;
    }
    assert_int_equal(frames_open(fd, 64U << 20, &frames, &got->err), 0);
    while (frames_next(frames, &frame, &got->err) == 1) {
        take_frame(got, &frame);
    }
    assert_int_equal(got->err.class, ERR_NONE);
    return got;
}

void extracted_free(struct extracted *got)
{
    if (!got) {
        return;
    }
    for (unsigned i = 0; i < EXTRACT_PAGES; i++) {
        free(got->pages[i]);
        free(got->words[i]);
    }
    free(got->text);
    free(got->parts);
    free(got);
}

void assert_text(const void *data, size_t len, const char *name, const char *text)
{
    CLEANUP(extracted_cleanup) struct extracted *got = extract(data, len, name, 0);

    if (got->rc) {
        print_error("%s: %s\n", got->err.code, got->err.msg);
    }
    assert_int_equal(got->rc, 0);
    assert_string_equal(got->text, text);
}

void assert_has(const struct extracted *got, const char *text)
{
    if (got->rc || !strstr(got->text, text)) {
        print_error("rc %d %s, wanted: %s\n%s\n", got->rc, got->err.msg, text, got->text);
    }
    assert_int_equal(got->rc, 0);
    assert_non_null(strstr(got->text, text));
}

void assert_lacks(const struct extracted *got, const char *text)
{
    if (strstr(got->text, text)) {
        print_error("unwanted: %s\n%s\n", text, got->text);
    }
    assert_null(strstr(got->text, text));
}

void assert_refused(const void *data, size_t len, const char *name, const char *code)
{
    CLEANUP(extracted_cleanup) struct extracted *got = extract(data, len, name, 0);

    assert_int_equal(got->rc, -1);
    assert_int_equal(got->err.class, ERR_PERMANENT);
    assert_string_equal(got->err.code, code);
    assert_true(strlen(got->err.msg) > 5);
}

size_t encode_as(const char *charset, const char *text, char *ret_bytes, size_t size)
{
    UErrorCode status = U_ZERO_ERROR;
    int32_t n = ucnv_convert(charset, "UTF-8", ret_bytes, (int32_t)size, text, -1, &status);

    return U_FAILURE(status) || n < 0 || (size_t)n >= size ? 0 : (size_t)n;
}

/* --- zip -----------------------------------------------------------------------------------------
 */

static void le(char *to, size_t bytes, size_t value)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] = (char)(value >> 8 * i & 0xff);
    }
}

/* The fields that the local and the central header share, from "version needed" on. */
static void zip_fields(char *to, const char *name, const char *data)
{
    size_t len = strlen(data);

    le(to, 2, 20);
    le(to + 2, 8, 0);
    le(to + 10, 4, crc32(0, (const Bytef *)data, (uInt)len));
    le(to + 14, 4, len);
    le(to + 18, 4, len);
    le(to + 22, 2, strlen(name));
    le(to + 24, 2, 0);
}

char *make_zip(const char *const *members, size_t *ret_len)
{
    char *zip = calloc(1, 1U << 20);
    char *central = calloc(1, 64U << 10);
    size_t len = 0;
    size_t n_central = 0;
    size_t n = 0;

    assert_true(zip && central);
    for (; *members; members += 2, n++) {
        size_t name = strlen(members[0]);
        size_t data = strlen(members[1]);
        char *entry = central + n_central;

        memcpy(entry, "PK\x01\x02", 4);
        le(entry + 4, 2, 20);
        zip_fields(entry + 6, members[0], members[1]);
        le(entry + 42, 4, len);
        memcpy(entry + 46, members[0], name);
        n_central += 46 + name;
        memcpy(zip + len, "PK\x03\x04", 4);
        zip_fields(zip + len + 4, members[0], members[1]);
        memcpy(zip + len + 30, members[0], name);
        memcpy(zip + len + 30 + name, members[1], data);
        len += 30 + name + data;
    }
    memcpy(zip + len, central, n_central);
    char *end = zip + len + n_central;
    memcpy(end, "PK\x05\x06", 4);
    le(end + 8, 2, n);
    le(end + 10, 2, n);
    le(end + 12, 4, n_central);
    le(end + 16, 4, len);
    free(central);
    *ret_len = len + n_central + 22;
    return zip;
}
