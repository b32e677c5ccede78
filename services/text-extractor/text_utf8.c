/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UTF-8 that may be broken: reading it one code point at a time, writing, counting, cleaning.
 * Invariant: what text_clean leaves is valid UTF-8 without NULs or control characters other than
 * tab and line feed, as Postgres and JSON need it.
 */
#include "services/text-extractor/format.h"

#include "libcommon/utf8.h"

#include <string.h>

uint32_t text_next(const char *s, size_t len, size_t *ret_len)
{
    uint32_t c = 0xfffd;
    const size_t n = utf8_sequence(s, len, &c);

    *ret_len = n > 0 ? n : 1;
    return c;
}

size_t text_encode(uint32_t code_point, char ret_bytes[4])
{
    const bool none = code_point > 0x10ffff || (code_point >= 0xd800 && code_point < 0xe000);

    return utf8_put(none ? 0xfffd : code_point, ret_bytes);
}

size_t text_count(const char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    }
    return n;
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
