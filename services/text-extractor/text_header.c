/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mail header values: unfolding, encoded words (RFC 2047), raw 8-bit bytes. Done here because the
 * mail library converts with iconv, whose tables the cage does not let it load.
 * Invariant: bytes of neighbouring words in one charset are joined before they are converted, as
 * some mailers cut inside a character.
 */
#include "services/text-extractor/text_header.h"

#include <glib.h>
#include <string.h>
#include <strings.h>

#define CHARSET_MAX 41U

struct header {
    struct buf *text;
    struct buf bytes; /* of encoded words, not converted yet */
    char charset[CHARSET_MAX];
};

static int flush(struct header *header, struct err *err)
{
    int rc = 0;

    if (header->bytes.len > 0) {
        rc = text_decode(header->bytes.data, header->bytes.len, header->charset, header->text, NULL,
                         err);
        buf_reset(&header->bytes);
    }
    return rc;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int add_quoted(struct header *header, const char *s, size_t len, struct err *err)
{
    for (size_t i = 0; i < len; i++) {
        char c = s[i] == '_' ? ' ' : s[i];

        if (c == '=' && i + 2 < len + 0 && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0) {
            c = (char)(hex(s[i + 1]) * 16 + hex(s[i + 2]));
            i += 2;
        }
        if (buf_append(&header->bytes, &c, 1, err)) {
            return -1;
        }
    }
    return 0;
}

static int add_base64(struct header *header, const char *s, size_t len, struct err *err)
{
    char *copy = strndup(s, len);
    gsize n = 0;
    int rc;

    if (!copy) {
        return err_nomem(err);
    }
    if (*copy) {
        (void)g_base64_decode_inplace(copy, &n);
    }
    rc = buf_append(&header->bytes, copy, n, err);
    free(copy);
    return rc;
}

/* Reads "=?charset?Q?text?=" at s; *ret_len is its length, 0 if it is no encoded word. */
static int encoded_word(struct header *header, const char *s, size_t *ret_len, struct err *err)
{
    size_t name = strcspn(s + 2, "?*");
    const char *how = strchr(s + 2, '?');
    const char *end = how && how[1] && how[2] == '?' ? strstr(how + 3, "?=") : NULL;
    bool base64 = end && (how[1] | 32) == 'b';

    *ret_len = 0;
    if (!end || name == 0 || name >= CHARSET_MAX || (!base64 && (how[1] | 32) != 'q')) {
        return 0;
    }
    if (strncasecmp(header->charset, s + 2, name) != 0 || header->charset[name]) {
        if (flush(header, err)) {
            return -1;
        }
        memcpy(header->charset, s + 2, name);
        header->charset[name] = '\0';
    }
    *ret_len = (size_t)(end + 2 - s);
    return base64 ? add_base64(header, how + 3, (size_t)(end - how - 3), err)
                  : add_quoted(header, how + 3, (size_t)(end - how - 3), err);
}

static bool is_fold(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* A stretch without encoded words: blanks folded, bytes converted if they are not UTF-8. */
static int add_plain(struct header *header, const char *s, size_t len, struct err *err)
{
    CLEANUP(buf_done) struct buf flat = {0};

    buf_init(&flat, 64U << 10);
    for (size_t i = 0; i < len && flat.len < (32U << 10); i++) {
        bool blank = is_fold(s[i]);

        if (blank && i + 1 < len && is_fold(s[i + 1])) {
            continue;
        }
        if (buf_append(&flat, blank ? " " : s + i, 1, err)) {
            return -1;
        }
    }
    return flush(header, err) ||
                   text_decode(flat.data ? flat.data : "", flat.len, NULL, header->text, NULL, err)
               ? -1
               : 0;
}

int text_header_decode(const char *s, struct buf *text, struct err *err)
{
    CLEANUP(free_cleanup) struct header *header = calloc(1, sizeof(*header));
    bool after_word = false;
    int rc = 0;

    if (!header) {
        return err_nomem(err);
    }
    header->text = text;
    buf_init(&header->bytes, 1U << 20);
    s += strspn(s, " \t\r\n");
    while (!rc && *s) {
        const char *word = strstr(s, "=?");
        size_t before = word ? (size_t)(word - s) : strlen(s);
        size_t len = 0;

        /* White space between two encoded words belongs to neither. */
        if (before > 0 && !(after_word && word && strspn(s, " \t\r\n") >= before)) {
            rc = add_plain(header, s, before, err);
        }
        s += before;
        after_word = false;
        if (!rc && word) {
            rc = encoded_word(header, word, &len, err);
            after_word = len > 0;
            if (!rc && len == 0) {
                rc = add_plain(header, s, 2, err);
                len = 2;
            }
            s += len;
        }
    }
    rc = rc || flush(header, err) ? -1 : 0;
    buf_done(&header->bytes);
    text_clean(text);
    return rc;
}
