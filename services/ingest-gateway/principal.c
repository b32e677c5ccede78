/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/principal.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned scopes;
} roles[] = {
    [ROLE_NONE] = {"", 0},
    [ROLE_USER] = {"user", SCOPE_READ | SCOPE_WRITE},
    [ROLE_OPERATOR] = {"operator", SCOPE_READ | SCOPE_WRITE | SCOPE_OPERATE},
    [ROLE_ADMIN] = {"admin", SCOPE_READ | SCOPE_WRITE | SCOPE_OPERATE | SCOPE_ADMIN},
};

static const struct {
    const char *name;
    unsigned scope;
    unsigned with; /* what it includes */
} scopes[] = {
    {"read", SCOPE_READ, SCOPE_READ},
    {"write", SCOPE_WRITE, SCOPE_WRITE},
    {"operate", SCOPE_OPERATE, SCOPE_READ | SCOPE_WRITE | SCOPE_OPERATE},
    {"admin", SCOPE_ADMIN, SCOPE_READ | SCOPE_WRITE | SCOPE_OPERATE | SCOPE_ADMIN},
};

enum role role_parse(const char *name)
{
    for (size_t i = ROLE_USER; name && i < ARRAY_LEN(roles); i++) {
        if (strcmp(roles[i].name, name) == 0) {
            return (enum role)i;
        }
    }
    return ROLE_NONE;
}

const char *role_name(enum role role)
{
    return roles[role].name;
}

unsigned role_scopes(enum role role)
{
    return roles[role].scopes;
}

unsigned scope_parse(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        if (strcmp(scopes[i].name, name) == 0) {
            return scopes[i].scope;
        }
    }
    return SCOPE_NONE;
}

const char *scope_name(unsigned scope)
{
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        if (scopes[i].scope == scope) {
            return scopes[i].name;
        }
    }
    return "";
}

unsigned scopes_of(const char *list, enum role role)
{
    unsigned all = 0;
    char copy[80];
    char *save = NULL;

    snprintf(copy, sizeof(copy), "%s", list ? list : "");
    for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
        for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
            all |= strcmp(scopes[i].name, s) == 0 ? scopes[i].with : 0U;
        }
    }
    return all & role_scopes(role);
}

void scopes_text(unsigned all, char *out, size_t size)
{
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        if ((all & scopes[i].scope) && n < size) {
            int w = snprintf(out + n, size - n, "%s%s", n ? "," : "", scopes[i].name);
            n += w > 0 ? (size_t)w : 0;
        }
    }
}
