/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/cond.h"

#include <string.h>
#include <strings.h>

/* Reads digits at *s; false when there are none or they exceed 18. */
static bool read_number(const char **s, uint64_t *ret)
{
    uint64_t v = 0;
    int n = 0;

    for (; **s >= '0' && **s <= '9'; (*s)++) {
        v = v * 10 + (uint64_t)(**s - '0');
        if (++n > 18) {
            return false;
        }
    }
    *ret = v;
    return n > 0;
}

enum range_kind range_parse(const char *header, uint64_t size, uint64_t *ret_offset,
                            uint64_t *ret_length)
{
    uint64_t first = 0;
    uint64_t last = 0;

    if (!header || strncasecmp(header, "bytes=", 6) != 0) {
        return RANGE_WHOLE;
    }
    const char *s = header + 6;
    while (*s == ' ') {
        s++;
    }
    bool has_first = *s != '-';
    if (has_first && !read_number(&s, &first)) {
        return RANGE_WHOLE;
    }
    if (*s++ != '-') {
        return RANGE_WHOLE;
    }
    bool has_last = *s != '\0' && *s != ' ';
    if (has_last && !read_number(&s, &last)) {
        return RANGE_WHOLE;
    }
    while (*s == ' ') {
        s++;
    }
    if (*s != '\0' || (!has_first && !has_last) || (has_first && has_last && last < first)) {
        return RANGE_WHOLE;
    }
    if (!has_first) { /* the last n bytes */
        if (last == 0 || size == 0) {
            return RANGE_UNSATISFIABLE;
        }
        first = last >= size ? 0 : size - last;
        last = size - 1;
    } else if (first >= size) {
        return RANGE_UNSATISFIABLE;
    } else if (!has_last || last >= size) {
        last = size - 1;
    }
    *ret_offset = first;
    *ret_length = last - first + 1;
    return RANGE_PART;
}

/* The two quoted tags without what says how the representation is coded. */
static bool same_tag(const char *a, size_t a_len, const char *b, size_t b_len)
{
    static const char gz[] = "-gz\"";
    size_t n = sizeof(gz) - 1;

    a_len -= a_len > n && memcmp(a + a_len - n, gz, n) == 0 ? n : 1;
    b_len -= b_len > n && memcmp(b + b_len - n, gz, n) == 0 ? n : 1;
    return a_len == b_len && memcmp(a, b, a_len) == 0;
}

/* RFC 9110 13.1.1: "*", alone, or a list of tags. */
static bool tag_in(const char *header, const char *etag, bool weak_too)
{
    if (header && header[0] == '*') {
        return header[1 + strspn(header + 1, " \t")] == '\0';
    }
    for (const char *s = header; s && *s != '\0';) {
        s += strspn(s, " \t,");
        bool weak = strncmp(s, "W/", 2) == 0;
        s += weak ? 2 : 0;
        const char *end = *s == '"' ? strchr(s + 1, '"') : NULL;
        if (!end) {
            return false;
        }
        if ((weak_too || !weak) && same_tag(s, (size_t)(end + 1 - s), etag, strlen(etag))) {
            return true;
        }
        s = end + 1;
    }
    return false;
}

bool etag_listed(const char *header, const char *etag)
{
    return tag_in(header, etag, true);
}

bool etag_matches(const char *header, const char *etag)
{
    return tag_in(header, etag, false);
}

/* q of the type in thousandths: -1 when it is not named. */
static int accept_q(const char *accept, const char *type)
{
    size_t n = strlen(type);
    int q = -1;

    for (const char *s = accept; s && *s != '\0';) {
        s += strspn(s, " \t,");
        size_t item = strcspn(s, ",");
        size_t name = strcspn(s, ",; \t");
        if (name == n && strncasecmp(s, type, n) == 0) {
            const char *p = memmem(s, item, "q=", 2);
            q = 1000;
            if (p && p[2] == '0') {
                q = 0;
                if (p[3] == '.') {
                    int scale = 100;
                    for (p += 4; *p >= '0' && *p <= '9' && scale > 0; p++, scale /= 10) {
                        q += (*p - '0') * scale;
                    }
                }
            }
        }
        s += item;
    }
    return q;
}

bool accept_prefers_json(const char *accept)
{
    int json = accept_q(accept, "application/json");
    int text = accept_q(accept, "text/plain");

    return json > 0 && json > text;
}

bool accept_names(const char *accept, const char *type)
{
    return accept && accept_q(accept, type) > 0;
}

bool accept_gzip(const char *accept_encoding)
{
    int named = accept_q(accept_encoding, "gzip");

    return named >= 0 ? named > 0 : accept_q(accept_encoding, "*") > 0;
}
