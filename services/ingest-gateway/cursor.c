/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/cursor.h"

#include "libcommon/names.h"
#include "libcommon/utf8.h"
#include "services/ingest-gateway/uri.h"

#include <stdio.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#define RAW_MAX (CURSOR_VALUE_MAX + 80U)

char *cursor_encode(const char *sort, const char *id, const char *value)
{
    char raw[RAW_MAX];
    int n = strlen(value) <= CURSOR_VALUE_MAX
                ? snprintf(raw, sizeof(raw), "1|%s|%s|%s", sort, id, value)
                : -1;

    if (n < 0 || (size_t)n >= sizeof(raw)) {
        return NULL;
    }
    size_t len = (size_t)n;
    char *out = malloc((len + 2) / 3 * 4 + 1);
    size_t o = 0;
    if (!out) {
        return NULL;
    }
    for (size_t i = 0; i < len; i += 3) {
        unsigned v = (unsigned)(unsigned char)raw[i] << 16;
        v |= i + 1 < len ? (unsigned)(unsigned char)raw[i + 1] << 8 : 0;
        v |= i + 2 < len ? (unsigned)(unsigned char)raw[i + 2] : 0;
        out[o++] = alphabet[v >> 18];
        out[o++] = alphabet[(v >> 12) & 63];
        if (i + 1 < len) {
            out[o++] = alphabet[(v >> 6) & 63];
        }
        if (i + 2 < len) {
            out[o++] = alphabet[v & 63];
        }
    }
    out[o] = '\0';
    return out;
}

static bool decode64(const char *text, char *out, size_t size, size_t *ret_len)
{
    unsigned acc = 0;
    unsigned bits = 0;
    size_t o = 0;

    for (const char *s = text; *s != '\0'; s++) {
        const char *p = strchr(alphabet, *s);
        if (!p || o + 1 >= size) {
            return false;
        }
        acc = ((acc << 6) | (unsigned)(p - alphabet)) & 0xFFFFFFU;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[o++] = (char)((acc >> bits) & 0xFFU);
        }
    }
    out[o] = '\0';
    *ret_len = o;
    return true;
}

int cursor_decode(const char *text, const char *sort, struct cursor *ret_cursor, struct err *err)
{
    char raw[RAW_MAX];
    size_t len;
    size_t ns = strlen(sort);

    if (strlen(text) < RAW_MAX * 4 / 3 && decode64(text, raw, sizeof(raw), &len) &&
        strlen(raw) == len && utf8_valid(raw, len) && len >= 2 + ns + 1 + 36 + 1 &&
        memcmp(raw, "1|", 2) == 0 && memcmp(raw + 2, sort, ns) == 0 && raw[2 + ns] == '|' &&
        raw[2 + ns + 37] == '|' && len - (2 + ns + 38) <= CURSOR_VALUE_MAX) {
        struct cursor c;
        memcpy(c.id, raw + 2 + ns + 1, 36);
        c.id[36] = '\0';
        memcpy(c.value, raw + 2 + ns + 38, len - (2 + ns + 38) + 1);
        if (uuid_text_valid(c.id)) {
            *ret_cursor = c;
            return 0;
        }
    }
    return err_set(err, ERR_PERMANENT, "bad_request",
                   "the cursor does not belong to this list; ask for its first page again");
}
