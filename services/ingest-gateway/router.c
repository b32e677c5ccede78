/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/router.h"

#include <stdio.h>
#include <string.h>

/* One segment against "{name}suffix"; fills param. */
static bool match_param(const char *pattern, size_t plen, const char *seg, size_t slen, char *param)
{
    const char *close = memchr(pattern, '}', plen);
    size_t name_len = close ? (size_t)(close - pattern - 1) : 0;
    size_t suffix_len = close ? plen - name_len - 2 : 0;
    int64_t number;

    if (!close || slen <= suffix_len || slen - suffix_len >= UUID_TEXT ||
        memcmp(seg + slen - suffix_len, close + 1, suffix_len) != 0) {
        return false;
    }
    size_t n = slen - suffix_len;
    memcpy(param, seg, n);
    param[n] = '\0';
    if (name_len == 4 && memcmp(pattern + 1, "page", 4) == 0) {
        return param[0] != '0' && decimal_parse(param, 1, 100000, &number);
    }
    if (name_len == 3 && memcmp(pattern + 1, "key", 3) == 0) {
        return strspn(param, "abcdefghijklmnopqrstuvwxyz0123456789") == n;
    }
    if (name_len == 5 && memcmp(pattern + 1, "token", 5) == 0) {
        return n == 32 && strspn(param, "0123456789abcdef") == n;
    }
    if (name_len == 5 && memcmp(pattern + 1, "stage", 5) == 0) {
        return strspn(param, "abcdefghijklmnopqrstuvwxyz") == n;
    }
    return n == UUID_TEXT - 1 && uuid_text_valid(param);
}

static bool match(const char *pattern, const char *path, char params[REQUEST_PARAMS_MAX][UUID_TEXT])
{
    size_t n_params = 0;

    while (*pattern == '/' && *path == '/') {
        size_t plen = strcspn(++pattern, "/");
        size_t slen = strcspn(++path, "/");
        if (*pattern == '{') {
            if (n_params == REQUEST_PARAMS_MAX ||
                !match_param(pattern, plen, path, slen, params[n_params])) {
                return false;
            }
            n_params++;
        } else if (plen != slen || memcmp(pattern, path, plen) != 0) {
            return false;
        }
        pattern += plen;
        path += slen;
    }
    return *pattern == '\0' && *path == '\0';
}

const struct route *route_find(const char *method, const char *path,
                               char params[REQUEST_PARAMS_MAX][UUID_TEXT], char *allow, size_t size)
{
    const char *want = strcmp(method, "HEAD") == 0 ? "GET" : method;
    size_t o = 0;

    allow[0] = '\0';
    for (size_t i = 0; i < n_routes; i++) {
        if (!match(routes[i].pattern, path, params)) {
            continue;
        }
        if (strcmp(routes[i].method, want) == 0) {
            return &routes[i];
        }
        const char *also = strcmp(routes[i].method, "GET") == 0 ? ", HEAD" : "";
        int n = snprintf(allow + o, size - o, "%s%s%s", o ? ", " : "", routes[i].method, also);
        o = n > 0 && (size_t)n < size - o ? o + (size_t)n : o;
    }
    return NULL;
}
