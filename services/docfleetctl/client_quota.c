/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl usage and users quota: what an account has used and may use, over the API.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/config.h"
#include "services/docfleetctl/client.h"

static const struct {
    const char *option;
    const char *name;
    const char *period;
} kinds[] = {
    {"--files", "files", ""},
    {"--bytes", "bytes", ""},
    {"--pages", "pages", "this month"},
    {"--money", "money", "this month"},
};

static void amount(const json_t *value, const char *otherwise, char *out, size_t size)
{
    if (json_is_integer(value)) {
        snprintf(out, size, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        snprintf(out, size, "%.6g", json_real_value(value));
    } else if (json_is_string(value)) {
        snprintf(out, size, "%s", api_clean(json_string_value(value)));
    } else {
        snprintf(out, size, "%s", otherwise);
    }
}

static void print_usage(const json_t *usage)
{
    char used[32];
    char limit[32];

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const json_t *one = json_object_get(usage, kinds[i].name);
        amount(json_object_get(one, "used"), "-", used, sizeof(used));
        amount(json_object_get(one, "limit"), "any", limit, sizeof(limit));
        printf("%-6s %s of %s%s%s\n", kinds[i].name, used, limit, *kinds[i].period ? " " : "",
               kinds[i].period);
    }
}

int ctl_own_usage(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *usage = NULL;

    if (api_open(ctl, false, &api, err) < 0 ||
        api_call(&api, "GET", "/usage", NULL, &usage, err) < 0) {
        return -1;
    }
    if (ctl_flag(ctl, "--json")) {
        return api_print_json(usage, err);
    }
    print_usage(usage);
    return 0;
}

/* A number, "none", or "default" (null); NULL for anything else. */
static json_t *limit_of(size_t kind, const char *text)
{
    const bool money = strcmp(kinds[kind].name, "money") == 0;
    char *end = NULL;
    int64_t n = 0;

    if (strcmp(text, "default") == 0) {
        return json_null();
    }
    if (strcmp(text, "none") == 0) {
        return json_string("none");
    }
    if (money) {
        const double value = strtod(text, &end);
        return end != text && *end == '\0' && value >= 0 ? json_real(value) : NULL;
    }
    if (strcmp(kinds[kind].name, "bytes") == 0) {
        return config_parse_size(text, &n) == 0 ? json_integer(n) : NULL;
    }
    const size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits < 16 && text[digits] == '\0' ? json_integer(strtoll(text, NULL, 10))
                                                             : NULL;
}

/* *ret_body NULL when no limit is to be set. */
static int read_limits(const struct ctl *ctl, json_t **ret_body, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = json_object();

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const char *text = ctl_option(ctl, kinds[i].option);
        json_t *limit = text ? limit_of(i, text) : NULL;
        if (text && !limit) {
            return err_set(
                err, ERR_PERMANENT, "usage", "%s takes %s, none or default", kinds[i].option,
                strcmp(kinds[i].name, "bytes") == 0 ? "a size such as 10GiB" : "a number");
        }
        if (limit && json_object_set_new(body, kinds[i].name, limit) < 0) {
            return err_nomem(err);
        }
    }
    *ret_body = json_object_size(body) > 0 ? STEAL(body) : NULL;
    return 0;
}

static void print_limits(const json_t *limits, const char *otherwise)
{
    char limit[32];

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        amount(json_object_get(limits, kinds[i].name), otherwise, limit, sizeof(limit));
        printf("%-6s %s\n", kinds[i].name, limit);
    }
}

int ctl_users_quota(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(json_cleanup) json_t *doc = NULL;
    CLEANUP(buf_done) struct buf path;
    const bool one = ctl->argc > 0;

    buf_init(&path, 256);
    if (read_limits(ctl, &body, err) < 0 ||
        (one ? api_path(&path, "/admin/users/", ctl->argv[0], "/quota", err)
             : buf_puts(&path, "/admin/quota", err)) < 0 ||
        api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, body ? "PUT" : "GET", path.data, body, &doc, err) < 0) {
        return -1;
    }
    if (ctl_flag(ctl, "--json")) {
        return api_print_json(doc, err);
    }
    if (one) {
        print_usage(json_object_get(doc, "usage"));
    } else {
        print_limits(json_object_get(doc, "limits"), "any");
    }
    return 0;
}
