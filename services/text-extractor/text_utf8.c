/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UTF-8 by hand: reading broken input one code point at a time, writing, counting, cleaning.
 * Invariant: what text_clean leaves is valid UTF-8 without NULs or control characters other than
 * tab and line feed, as Postgres and JSON need it.
 */
#include "services/text-extractor/format.h"

#include <string.h>

uint32_t text_next(const char *s, size_t len, size_t *ret_len)
{
    static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)s;
    uint32_t c = p[0];
    size_t n = c < 0x80 ? 1 : (c & 0xe0) == 0xc0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : 4;

    *ret_len = 1;
    if (n == 1) {
        return c;
    }
    if (c < 0xc2 || c > 0xf4 || n > len) {
        return 0xfffd;
    }
    c &= 0x7fU >> n;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0xfffd;
        }
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < lowest[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
        return 0xfffd;
    }
    *ret_len = n;
    return c;
}

size_t text_encode(uint32_t code_point, char ret_bytes[4])
{
    uint32_t c = code_point;

    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
        c = 0xfffd;
    }
    if (c < 0x80) {
        ret_bytes[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        ret_bytes[0] = (char)(0xc0 | c >> 6);
        ret_bytes[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        ret_bytes[0] = (char)(0xe0 | c >> 12);
        ret_bytes[1] = (char)(0x80 | (c >> 6 & 0x3f));
        ret_bytes[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    ret_bytes[0] = (char)(0xf0 | c >> 18);
    ret_bytes[1] = (char)(0x80 | (c >> 12 & 0x3f));
    ret_bytes[2] = (char)(0x80 | (c >> 6 & 0x3f));
    ret_bytes[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

size_t text_count(const char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    }
    return n;
}

bool text_is_utf8(const char *data, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n;

        if ((unsigned char)data[i] < 0x80) {
            i++;
            continue;
        }
        if (text_next(data + i, len - i, &n) == 0xfffd && n == 1) {
            return false;
        }
        i += n;
    }
    return true;
}

/* Controls that are dropped; NEL and the line separators count as line ends elsewhere. */
static bool is_control(uint32_t c)
{
    return (c < 0x20 && c != '\t' && c != '\n') || c == 0x7f || (c >= 0x80 && c < 0xa0) ||
           c == 0xfeff;
}

static bool is_line_end(uint32_t c)
{
    return c == '\r' || c == '\f' || c == '\v' || c == 0x85 || c == 0x2028 || c == 0x2029;
}

void text_clean(struct buf *text)
{
    size_t n = 0;

    if (!text->data) {
        return;
    }
    for (size_t i = 0; i < text->len;) {
        size_t step;
        uint32_t c = text_next(text->data + i, text->len - i, &step);

        if (c == 0xfffd && step == 1) {
            /* U+FFFD takes three bytes, so there may be no room for it; parsers append UTF-8, and
             * this is the last line of defence. */
            text->data[n++] = '?';
        } else if (is_line_end(c)) {
            if (c != '\r' || i + 1 >= text->len || text->data[i + 1] != '\n') {
                text->data[n++] = '\n';
            }
        } else if (!is_control(c)) {
            memmove(text->data + n, text->data + i, step);
            n += step;
        }
        i += step;
    }
    text->data[n] = '\0';
    text->len = n;
}
