/* SPDX-License-Identifier: Apache-2.0 */
#include "libcommon/names.h"

#include "libcommon/utf8.h"

#include <string.h>

/* Controls, line separators and direction overrides: they forge what a reader sees. */
static bool cp_hidden(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7F && cp <= 0x9F) || (cp >= 0x2028 && cp <= 0x202E) ||
           (cp >= 0x2066 && cp <= 0x2069) || cp == 0x200E || cp == 0x200F || cp == 0xFEFF ||
           cp == 0xFFFE || cp == 0xFFFF;
}

static int refuse(struct err *err, const char *why)
{
    return err_set(err, ERR_PERMANENT, "invalid_name", "the file name %s", why);
}

size_t name_chars(const char *text)
{
    size_t n = 0;

    for (const char *s = text; *s != '\0'; s++) {
        n += ((unsigned char)*s & 0xC0) != 0x80 ? 1 : 0;
    }
    return n;
}

int name_check(const char *name, size_t len, struct err *err)
{
    bool solid = false;

    if (len == 0) {
        return refuse(err, "is empty");
    }
    if (len > NAME_BYTES_MAX) {
        return refuse(err, "is longer than 255 bytes");
    }
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        size_t n = utf8_sequence(name + i, len - i, &cp);
        if (n == 0) {
            return refuse(err, "is not valid UTF-8");
        }
        if (cp_hidden(cp)) {
            return refuse(err, "holds control characters");
        }
        if (cp == '/' || cp == '\\') {
            return refuse(err, "holds a path separator");
        }
        solid = solid || (cp != ' ' && cp != '.');
        i += n;
    }
    return solid ? 0 : refuse(err, "is made of dots and blanks only");
}

void name_for_display(const char *name, size_t len, char *out, size_t size)
{
    size_t o = 0;

    for (size_t i = 0; i < len;) {
        uint32_t cp = 0;
        size_t n = utf8_sequence(name + i, len - i, &cp);
        bool plain = n > 0 && !cp_hidden(cp);
        size_t take = plain ? n : 1;
        if (o + take >= size) {
            break;
        }
        if (plain) {
            memcpy(out + o, name + i, n);
        } else {
            out[o] = '?';
        }
        o += take;
        i += n > 0 ? n : 1;
    }
    out[o] = '\0';
}

static bool is_plain(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
}

void name_for_key(const char *name, char *out, size_t size)
{
    size_t o = 0;
    size_t max = min_size(size - 1, 80);

    for (const char *s = name; *s != '\0' && o < max; s++) {
        if (is_plain(*s) && !(*s == '.' && (o == 0 || out[o - 1] == '.'))) {
            out[o++] = *s;
        } else if (o > 0 && out[o - 1] != '_') {
            out[o++] = '_';
        }
    }
    if (o == 0) {
        out[o++] = 'f';
    }
    out[o] = '\0';
}

int name_disposition(const char *type, const char *name, struct buf *buf, struct err *err)
{
    char ascii[NAME_BYTES_MAX + 1];
    size_t n = 0;

    for (const char *s = name; *s != '\0' && n < sizeof(ascii) - 1; s++) {
        unsigned char c = (unsigned char)*s;
        if (c >= 0x80 && c < 0xC0) {
            continue; /* one '?' a character, not a byte */
        }
        ascii[n++] = c < 0x20 || c >= 0x7F || c == '"' || c == '\\' || c == '%' ? '_' : (char)c;
    }
    ascii[n] = '\0';
    if (buf_printf(buf, err, "%s; filename=\"%s\"; filename*=UTF-8''", type, ascii) < 0) {
        return -1;
    }
    for (const char *s = name; *s != '\0'; s++) {
        int rc = is_plain(*s) ? buf_append(buf, s, 1, err)
                              : buf_printf(buf, err, "%%%02X", (unsigned)(unsigned char)*s);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}
