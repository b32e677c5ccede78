/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content-Disposition as clients really send it: tokens, quoted strings with \" and \\, and the
 * filename* form of RFC 5987, which wins over filename.
 */
#include "services/ingest-gateway/multipart_header.h"

#include <string.h>
#include <strings.h>

static bool is_token(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static char *skip_blank(char *s)
{
    while (*s == ' ' || *s == '\t') {
        s++;
    }
    return s;
}

static int malformed(struct err *err, const char *what)
{
    return err_set(err, ERR_PERMANENT, "malformed_multipart", "a part's header %s", what);
}

/* Unquotes in place; NULL when the closing quote is missing. */
static char *unquote(char *s, size_t *ret_len)
{
    char *out = s;
    char *in = s + 1;

    while (*in != '"') {
        if (*in == '\0') {
            return NULL;
        }
        if (*in == '\\' && (in[1] == '"' || in[1] == '\\')) {
            in++;
        }
        *out++ = *in++;
    }
    *ret_len = (size_t)(out - s);
    return in + 1;
}

int header_param(char **at, char **ret_name, char **ret_value, size_t *ret_len)
{
    char *s = skip_blank(*at);

    while (*s == ';') {
        s = skip_blank(s + 1);
    }
    if (*s == '\0') {
        return 0;
    }
    char *name = s;
    while (is_token(*s)) {
        s++;
    }
    char *name_end = s;
    s = skip_blank(s);
    if (name_end == name || *s != '=') {
        return -1;
    }
    s = skip_blank(s + 1);
    char *value = s;
    if (*s == '"') {
        s = unquote(s, ret_len);
        if (!s) {
            return -1;
        }
    } else {
        while (*s != '\0' && *s != ';' && *s != ' ' && *s != '\t') {
            s++;
        }
        *ret_len = (size_t)(s - value);
    }
    s = skip_blank(s);
    if (*s != '\0' && *s != ';') {
        return -1;
    }
    if (*s == ';') {
        *s++ = '\0';
    }
    *name_end = '\0';
    value[*ret_len] = '\0';
    *ret_name = name;
    *ret_value = value;
    *at = s;
    return 1;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* UTF-8''percent-encoded, decoded in place. */
static int decode_ext_value(char *value, size_t len, size_t *ret_len)
{
    char *out = value;

    if (len < 7 || strncasecmp(value, "UTF-8'", 6) != 0) {
        return -1;
    }
    char *s = memchr(value + 6, '\'', len - 6);
    if (!s) {
        return -1;
    }
    for (s++; s < value + len; s++) {
        if (*s != '%') {
            *out++ = *s;
            continue;
        }
        int hi = hex_digit(s[1]);
        int lo = hi < 0 ? -1 : hex_digit(s[2]);
        if (lo < 0) {
            return -1;
        }
        *out++ = (char)(hi * 16 + lo);
        s += 2;
    }
    *out = '\0';
    *ret_len = (size_t)(out - value);
    return 0;
}

static int take_param(struct multipart_part *part, bool *has_ext, const char *name, char *value,
                      size_t len, struct err *err)
{
    if (strcasecmp(name, "name") == 0) {
        if (part->name) {
            return malformed(err, "names its field twice");
        }
        part->name = value;
        part->name_len = len;
    } else if (strcasecmp(name, "filename*") == 0) {
        if (*has_ext || decode_ext_value(value, len, &len) < 0) {
            return malformed(err, "has a filename* that cannot be read");
        }
        *has_ext = true;
        part->filename = value;
        part->filename_len = len;
    } else if (strcasecmp(name, "filename") == 0) {
        if (*has_ext) {
            return 0;
        }
        if (part->filename) {
            return malformed(err, "has two file names");
        }
        part->filename = value;
        part->filename_len = len;
    }
    return 0;
}

static int parse_disposition(char *value, struct multipart_part *part, struct err *err)
{
    char *at = value + strcspn(value, "; \t");
    bool has_ext = false;

    if ((size_t)(at - value) != 9 || strncasecmp(value, "form-data", 9) != 0) {
        return malformed(err, "is not form-data");
    }
    if (part->name) {
        return malformed(err, "has two content-dispositions");
    }
    for (;;) {
        char *name;
        char *val;
        size_t len;
        int rc = header_param(&at, &name, &val, &len);
        if (rc == 0) {
            break;
        }
        if (rc < 0) {
            return malformed(err, "has a content-disposition that cannot be read");
        }
        if (take_param(part, &has_ext, name, val, len, err) < 0) {
            return -1;
        }
    }
    return part->name ? 0 : malformed(err, "names no field");
}

static int parse_line(char *line, struct multipart_part *part, struct err *err)
{
    char *colon = strchr(line, ':');

    if (!colon || colon == line) {
        return malformed(err, "has a line without a name");
    }
    for (const char *s = line; s < colon; s++) {
        if (!is_token(*s)) {
            return malformed(err, "has a name that is no token");
        }
    }
    *colon = '\0';
    char *value = skip_blank(colon + 1);
    size_t n = strlen(value);
    while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t')) {
        value[--n] = '\0';
    }
    if (strcasecmp(line, "content-disposition") == 0) {
        return parse_disposition(value, part, err);
    }
    if (strcasecmp(line, "content-type") == 0) {
        part->content_type = value;
    } else if (strcasecmp(line, "content-transfer-encoding") == 0 &&
               strcasecmp(value, "binary") != 0 && strcasecmp(value, "8bit") != 0 &&
               strcasecmp(value, "7bit") != 0) {
        return malformed(err, "asks for a transfer encoding");
    }
    return 0;
}

int multipart_header_parse(char *text, size_t len, struct multipart_part *ret_part, struct err *err)
{
    struct multipart_part part = {0};
    char *line = text;

    if (memchr(text, '\0', len)) {
        return malformed(err, "holds a NUL");
    }
    for (;;) {
        char *end = strpbrk(line, "\r\n");
        if (!end || end[0] != '\r' || end[1] != '\n') {
            return malformed(err, "has a bare line end");
        }
        if (end == line) {
            break;
        }
        if (*line == ' ' || *line == '\t') {
            return malformed(err, "is folded");
        }
        *end = '\0';
        if (parse_line(line, &part, err) < 0) {
            return -1;
        }
        line = end + 2;
    }
    if (!part.name) {
        return malformed(err, "names no field");
    }
    *ret_part = part;
    return 0;
}

/* RFC 2046 bchars; no blank at the end. */
static bool boundary_ok(const char *s, size_t n)
{
    if (n == 0 || n > MULTIPART_BOUNDARY_MAX || s[n - 1] == ' ') {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        bool ok = (s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'z') ||
                  (s[i] >= 'A' && s[i] <= 'Z') ||
                  (s[i] != '\0' && strchr("'()+_,-./:=? ", s[i]) != NULL);
        if (!ok) {
            return false;
        }
    }
    return true;
}

int multipart_boundary(const char *content_type, char ret_boundary[MULTIPART_BOUNDARY_MAX + 1],
                       struct err *err)
{
    char copy[512];
    size_t n = content_type ? strlen(content_type) : 0;
    const char *found = NULL;
    size_t found_len = 0;

    if (n == 0 || n >= sizeof(copy)) {
        return err_set(err, ERR_PERMANENT, "unsupported_media_type",
                       "this call takes multipart/form-data");
    }
    memcpy(copy, content_type, n + 1);
    char *at = copy + strcspn(copy, "; \t");
    if ((size_t)(at - copy) != 19 || strncasecmp(copy, "multipart/form-data", 19) != 0) {
        return err_set(err, ERR_PERMANENT, "unsupported_media_type",
                       "this call takes multipart/form-data");
    }
    for (;;) {
        char *name;
        char *value;
        size_t len;
        int rc = header_param(&at, &name, &value, &len);
        if (rc == 0) {
            break;
        }
        if (rc < 0 || (strcasecmp(name, "boundary") == 0 && found)) {
            return malformed(err, "content-type cannot be read");
        }
        if (strcasecmp(name, "boundary") == 0) {
            found = value;
            found_len = len;
        }
    }
    if (!found || !boundary_ok(found, found_len)) {
        return err_set(err, ERR_PERMANENT, "malformed_multipart",
                       "the content-type has no usable boundary");
    }
    memcpy(ret_boundary, found, found_len + 1);
    return 0;
}
