/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any encoding to UTF-8 with ICU, whose tables are part of its library: nothing is opened.
 * Order: byte order mark, the hint, valid UTF-8, UTF-16 by its zero bytes, then ICU's guess.
 */
#include "services/preview-worker/render_flow.h"

#include <string.h>
#include <unicode/ucnv.h>
#include <unicode/ucsdet.h>

#define GUESS_BYTES 65536

static const char *by_zero_bytes(const char *data, size_t len)
{
    size_t even = 0;
    size_t odd = 0;

    len = min_size(len, 4096);
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\0') {
            (*(i % 2 == 0 ? &even : &odd))++;
        }
    }
    return even > len / 5 ? "UTF-16BE" : odd > len / 5 ? "UTF-16LE" : NULL;
}

/* Static storage or NULL; the name ICU gives lives as long as the detector, so it is copied. */
static const char *guess(const char *data, size_t len)
{
    static char name[64];
    UErrorCode status = U_ZERO_ERROR;
    UCharsetDetector *detector = ucsdet_open(&status);
    const char *found = NULL;

    ucsdet_setText(detector, data, (int32_t)min_size(len, GUESS_BYTES), &status);
    const UCharsetMatch *match = ucsdet_detect(detector, &status);

    if (U_SUCCESS(status) && match && ucsdet_getConfidence(match, &status) >= 10) {
        found = ucsdet_getName(match, &status);
    }
    g_strlcpy(name, found ? found : "windows-1252", sizeof(name));
    ucsdet_close(detector);
    return name;
}

static const char *choose(const char *data, size_t len, const char *hint)
{
    UErrorCode status = U_ZERO_ERROR;
    int32_t mark_len = 0;
    const char *name =
        ucnv_detectUnicodeSignature(data, (int32_t)min_size(len, 16), &mark_len, &status);
    const char *end = NULL;

    if (name) {
        return name;
    }
    if (hint && *hint) {
        UConverter *converter = ucnv_open(hint, &status);

        if (converter && U_SUCCESS(status)) {
            ucnv_close(converter);
            return hint;
        }
    }
    const char *zeros = by_zero_bytes(data, len);

    if (zeros) {
        return zeros;
    }
    /* the cut may stand inside a character */
    return g_utf8_validate(data, (gssize)len, &end) || len - (size_t)(end - data) < 4
               ? "UTF-8"
               : guess(data, len);
}

/* NULs and other controls but tab and line feed become spaces; CR LF and CR become LF. */
static void tidy(struct buf *text)
{
    size_t to = 0;

    for (size_t i = 0; i < text->len; i++) {
        const char c = text->data[i];

        if (c == '\r') {
            if (i + 1 < text->len && text->data[i + 1] == '\n') {
                continue;
            }
            text->data[to++] = '\n';
        } else if (c == '\f') {
            text->data[to++] = '\n';
        } else {
            text->data[to++] = (unsigned char)c < 32 && c != '\t' && c != '\n' ? ' ' : c;
        }
    }
    text->len = to;
    if (text->data) {
        text->data[to] = '\0';
    }
}

int charset_to_utf8(const char *data, size_t len, size_t max, const char *hint,
                    struct buf *ret_text, bool *ret_cut, struct err *err)
{
    UErrorCode status = U_ZERO_ERROR;
    char chunk[8192];
    const char *end = data + min_size(len, max);
    const char *from = data;

    *ret_cut = len > max;
    UConverter *in = ucnv_open(choose(data, (size_t)(end - data), hint), &status);
    UConverter *out = ucnv_open("UTF-8", &status);
    UChar pivot[4096];
    UChar *pivot_from = pivot;
    UChar *pivot_to = pivot;
    int rc = U_SUCCESS(status) ? 0 : err_set(err, ERR_UNKNOWN, "internal", "no converter");
    bool first = true;

    while (rc == 0 && from <= end) {
        char *to = chunk;

        status = U_ZERO_ERROR;
        ucnv_convertEx(out, in, &to, chunk + sizeof(chunk), &from, end, pivot, &pivot_from,
                       &pivot_to, pivot + ARRAY_LEN(pivot), first, TRUE, &status);
        first = false;
        rc = buf_append(ret_text, chunk, (size_t)(to - chunk), err);
        if (status != U_BUFFER_OVERFLOW_ERROR) {
            break; /* done: bad bytes were replaced, not reported */
        }
    }
    ucnv_close(in);
    ucnv_close(out);
    if (rc == 0) {
        tidy(ret_text);
        if (ret_text->len >= 3 && memcmp(ret_text->data, "\xef\xbb\xbf", 3) == 0) {
            memset(ret_text->data, ' ', 3);
            memmove(ret_text->data, ret_text->data + 3, ret_text->len - 3 + 1);
            ret_text->len -= 3;
        }
    }
    return rc;
}
