/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/cors.h"

#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/limits.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What a listed page's script may read beyond the few headers that are always readable. */
#define EXPOSED                                                                                    \
    "Content-Disposition, Content-Range, ETag, Idempotent-Replayed, Location, RateLimit, "         \
    "RateLimit-Policy, Retry-After, X-Request-Id"
#define ASKED                                                                                      \
    "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, "    \
    "Last-Event-ID, Range, traceparent, X-Request-Id"

static const struct {
    const char *name;
    const char *value;
} always[] = {
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"},
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox"},
};

/* scheme://host[:port] in lower case and nothing behind it: so browsers write it. */
static bool is_origin(const char *text)
{
    const char *host = strncmp(text, "https://", 8) == 0  ? text + 8
                       : strncmp(text, "http://", 7) == 0 ? text + 7
                                                          : NULL;

    return host && *host != '\0' &&
           strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789.-:[]") == strlen(host);
}

int cors_rules_parse(const char *list, struct cors_rules *ret_rules, struct err *err)
{
    struct cors_rules rules = {.n = 0};

    while (*list != '\0') {
        const size_t n = strcspn(list, ",");
        char *one = strndup(list, n);
        if (!one) {
            cors_rules_done(&rules);
            return err_nomem(err);
        }
        if (rules.n == CORS_ORIGINS_MAX || !is_origin(one)) {
            err_set(err, ERR_FATAL, "config",
                    "CORS_ORIGINS: at most %u origins such as https://app.example.org, not %s",
                    CORS_ORIGINS_MAX, one);
            free(one);
            cors_rules_done(&rules);
            return -1;
        }
        rules.origins[rules.n++] = one;
        list += n;
        list += *list == ',' ? 1 : 0;
    }
    *ret_rules = rules;
    return 0;
}

void cors_rules_done(struct cors_rules *rules)
{
    while (rules->n > 0) {
        free(rules->origins[--rules->n]);
    }
}

bool cors_listed(const struct cors_rules *rules, const char *origin)
{
    for (size_t i = 0; origin && i < rules->n; i++) {
        if (strcmp(rules->origins[i], origin) == 0) {
            return true;
        }
    }
    return false;
}

bool cors_preflight(const struct request *req, const char *methods, struct reply *reply)
{
    struct err ignored = ERR_INIT;

    if (strcmp(req->method, "OPTIONS") != 0 ||
        !cors_listed(&req->gw->cors, req->headers[H_ORIGIN])) {
        return false;
    }
    if (reply_header(reply, "Access-Control-Allow-Methods", methods, &ignored) < 0 ||
        reply_header(reply, "Access-Control-Allow-Headers", ASKED, &ignored) < 0 ||
        reply_header(reply, "Access-Control-Max-Age", "600", &ignored) < 0) {
        reply_done(reply);
        return false;
    }
    reply->status = 204;
    return true;
}

static bool has_header(const struct reply *r, const char *name)
{
    for (size_t i = 0; i < r->n_headers; i++) {
        if (strcasecmp(r->headers[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

void answer_headers(const struct request *req, const struct reply *reply, reply_header_fn add,
                    void *cls)
{
    const struct cors_rules *cors = &req->gw->cors;
    const char *origin = req->headers[H_ORIGIN];

    for (size_t i = 0; i < ARRAY_LEN(always); i++) {
        if (!has_header(reply, always[i].name)) {
            add(cls, always[i].name, always[i].value);
        }
    }
    if (req->https) {
        add(cls, "Strict-Transport-Security", "max-age=31536000");
    }
    limits_headers(req, add, cls);
    if (cors->n == 0) {
        return;
    }
    add(cls, "Vary", "Origin");
    if (cors_listed(cors, origin) && !has_header(reply, "Access-Control-Allow-Origin")) {
        add(cls, "Access-Control-Allow-Origin", origin);
        add(cls, "Access-Control-Expose-Headers", EXPOSED);
    }
}
