/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond U+10FFFF.
 * Refuses to know about letters: folding and classes belong to those who need them.
 */
#pragma once

#include "libcommon/base.h"

/* Length of the well-formed sequence at the start of the text, 1 to 4; 0 when there is none (also
 * for an empty text). *ret_cp, unless NULL, gets its code point. */
size_t utf8_sequence(const char *text, size_t len, uint32_t *ret_cp);
/* True when the bytes are well-formed UTF-8; nothing is. */
bool utf8_valid(const char *text, size_t len);
/* Replaces each byte that belongs to no well-formed sequence by '?', in place. */
void utf8_clean(char *text);

/* Length of the sequence that begins with this byte, in valid UTF-8. */
static inline size_t utf8_len(char lead)
{
    const unsigned char c = (unsigned char)lead;

    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}
/* Decodes the code point at *at (< len) of valid UTF-8 and moves *at behind it. */
uint32_t utf8_next(const char *text, size_t len, size_t *at);
/* Writes 1..4 bytes, returns how many. */
size_t utf8_put(uint32_t cp, char out[4]);
