/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/uri.h"

#include "libcommon/names.h"
#include "libcommon/utf8.h"

#include <string.h>

static int bad(struct err *err, const char *what)
{
    return err_set(err, ERR_PERMANENT, "bad_request", "%s", what);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes in place. In a path an encoded slash or a raw plus stays apart from a real one. */
static int decode(char *text, bool is_path, struct err *err)
{
    char *out = text;

    for (const char *s = text; *s != '\0'; s++) {
        char c = *s;
        if (c == '%') {
            int hi = hex_digit(s[1]);
            int lo = hi < 0 ? -1 : hex_digit(s[2]);
            if (lo < 0) {
                return bad(err, "the address has a percent sign that encodes nothing");
            }
            c = (char)(hi * 16 + lo);
            s += 2;
            if (is_path && c == '/') {
                return bad(err, "the address holds an encoded slash");
            }
        } else if (c == '+' && !is_path) {
            c = ' ';
        }
        if ((unsigned char)c < 0x20 || c == 0x7F) {
            return bad(err, "the address holds a control character");
        }
        *out++ = c;
    }
    *out = '\0';
    return utf8_valid(text, (size_t)(out - text)) ? 0 : bad(err, "the address is not valid UTF-8");
}

static int parse_args(struct uri *uri, char *query, struct err *err)
{
    while (query && *query != '\0') {
        char *next = strchr(query, '&');
        if (next) {
            *next++ = '\0';
        }
        if (*query == '\0') {
            query = next;
            continue;
        }
        char *eq = strchr(query, '=');
        char *value = eq ? eq + 1 : query + strlen(query);
        if (eq) {
            *eq = '\0';
        }
        if (decode(query, false, err) < 0 || (eq && decode(value, false, err) < 0)) {
            return -1;
        }
        if (!eq) {
            value = query + strlen(query);
        }
        for (size_t i = 0; i < uri->n_args; i++) {
            if (strcmp(uri->args[i].name, query) == 0) {
                return err_set(err, ERR_PERMANENT, "bad_request", "argument %.40s is given twice",
                               query);
            }
        }
        if (uri->n_args == URI_ARGS_MAX) {
            return bad(err, "the address has too many arguments");
        }
        uri->args[uri->n_args].name = query;
        uri->args[uri->n_args].value = value;
        uri->n_args++;
        query = next;
    }
    return 0;
}

int uri_parse(const char *raw, struct uri *ret_uri, struct err *err)
{
    struct uri uri = {0};

    if (strlen(raw) > URI_BYTES_MAX) {
        return err_set(err, ERR_PERMANENT, "uri_too_long", "the address exceeds %u bytes",
                       URI_BYTES_MAX);
    }
    uri.bytes = strdup(raw);
    if (!uri.bytes) {
        return err_nomem(err);
    }
    uri.path = uri.bytes;
    char *query = strchr(uri.bytes, '?');
    if (query) {
        *query++ = '\0';
    }
    if (uri.path[0] != '/') {
        free(uri.bytes);
        return bad(err, "the address does not begin with a slash");
    }
    if (decode(uri.path, true, err) < 0 || parse_args(&uri, query, err) < 0) {
        free(uri.bytes);
        return -1;
    }
    *ret_uri = uri;
    return 0;
}

void uri_done(struct uri *uri)
{
    free(uri->bytes);
    *uri = (struct uri){0};
}

const char *uri_arg(const struct uri *uri, const char *name)
{
    for (size_t i = 0; i < uri->n_args; i++) {
        if (strcmp(uri->args[i].name, name) == 0) {
            return uri->args[i].value[0] != '\0' ? uri->args[i].value : NULL;
        }
    }
    return NULL;
}

int uri_arg_text(const struct uri *uri, const char *name, size_t max, const char **ret_value,
                 struct err *err)
{
    const char *text = uri_arg(uri, name);

    if (text && name_chars(text) > max) {
        return err_set(err, ERR_PERMANENT, "bad_request",
                       "argument %s is longer than %zu characters", name, max);
    }
    *ret_value = text;
    return 0;
}

bool decimal_parse(const char *text, int64_t min, int64_t max, int64_t *ret_value)
{
    int64_t v = 0;
    size_t n = strlen(text);

    if (n == 0 || n > 18) {
        return false;
    }
    for (const char *s = text; *s != '\0'; s++) {
        if (*s < '0' || *s > '9') {
            return false;
        }
        v = v * 10 + (*s - '0');
    }
    if (v < min || v > max) {
        return false;
    }
    *ret_value = v;
    return true;
}

int uri_arg_int(const struct uri *uri, const char *name, int64_t min, int64_t max, int64_t fallback,
                int64_t *ret_value, struct err *err)
{
    const char *text = uri_arg(uri, name);

    if (!text) {
        *ret_value = fallback;
        return 0;
    }
    if (decimal_parse(text, min, max, ret_value)) {
        return 0;
    }
    return err_set(err, ERR_PERMANENT, "bad_request",
                   "argument %s is not a number from %lld to %lld", name, (long long)min,
                   (long long)max);
}

bool uuid_text_valid(const char *text)
{
    for (int i = 0; i < 36; i++) {
        char c = text[i];
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
    }
    return text[36] == '\0';
}

bool time_text_valid(const char *t)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd";
    size_t i = 0;

    for (; form[i] != '\0'; i++) {
        bool digit = t[i] >= '0' && t[i] <= '9';
        if (form[i] == 'd' ? !digit : t[i] != form[i]) {
            return false;
        }
    }
    if (t[i] == '.') {
        size_t n = strspn(t + i + 1, "0123456789");
        if (n == 0 || n > 9) {
            return false;
        }
        i += 1 + n;
    }
    if (t[i] == 'Z') {
        return t[i + 1] == '\0';
    }
    return (t[i] == '+' || t[i] == '-') && strlen(t + i) == 6 && t[i + 3] == ':' &&
           strspn(t + i + 1, "0123456789") == 2 && strspn(t + i + 4, "0123456789") == 2;
}
