/* SPDX-License-Identifier: Apache-2.0 */
#include "libcommon/utf8.h"

#include <string.h>

size_t utf8_sequence(const char *text, size_t len, uint32_t *ret_cp)
{
    static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *s = (const unsigned char *)text;

    if (len == 0) {
        return 0;
    }
    const size_t n = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : utf8_len(text[0]);
    if (n == 0 || n > len || s[0] > 0xF4) {
        return 0;
    }
    uint32_t cp = n == 1 ? s[0] : s[0] & (0xFFU >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0;
        }
        cp = (cp << 6) | (s[i] & 0x3FU);
    }
    if (cp < lowest[n] || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF)) {
        return 0;
    }
    if (ret_cp) {
        *ret_cp = cp;
    }
    return n;
}

bool utf8_valid(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        const size_t n = utf8_sequence(text + i, len - i, NULL);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

void utf8_clean(char *text)
{
    const size_t len = strlen(text);

    for (size_t i = 0; i < len;) {
        const size_t n = utf8_sequence(text + i, len - i, NULL);
        if (n == 0) {
            text[i] = '?';
        }
        i += n ? n : 1;
    }
}

uint32_t utf8_next(const char *text, size_t len, size_t *at)
{
    const unsigned char lead = (unsigned char)text[*at];
    const size_t n = min_size(utf8_len(text[*at]), len - *at);
    uint32_t cp = n == 1 ? lead : n == 2 ? lead & 0x1FU : n == 3 ? lead & 0x0FU : lead & 0x07U;

    for (size_t i = 1; i < n; i++) {
        cp = cp << 6 | ((unsigned char)text[*at + i] & 0x3FU);
    }
    *at += n;
    return cp;
}

size_t utf8_put(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0U | cp >> 6);
        out[1] = (char)(0x80U | (cp & 0x3FU));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0U | cp >> 12);
        out[1] = (char)(0x80U | (cp >> 6 & 0x3FU));
        out[2] = (char)(0x80U | (cp & 0x3FU));
        return 3;
    }
    out[0] = (char)(0xF0U | cp >> 18);
    out[1] = (char)(0x80U | (cp >> 12 & 0x3FU));
    out[2] = (char)(0x80U | (cp >> 6 & 0x3FU));
    out[3] = (char)(0x80U | (cp & 0x3FU));
    return 4;
}
