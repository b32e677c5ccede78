/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl stages list, users list, users weight: what an operator looks at first, over the API.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/docfleetctl/client.h"

static int print_json(const json_t *doc)
{
    json_dumpf(doc, stdout, JSON_COMPACT);
    putchar('\n');
    return 0;
}

/* A member as a number, "-" when it is not known; from a ring of 8 buffers. */
static const char *number(const json_t *obj, const char *name)
{
    static _Thread_local char ring[8][24];
    static _Thread_local unsigned at;
    char *out = ring[at++ % 8];
    const json_t *value = json_object_get(obj, name);

    if (json_is_integer(value)) {
        snprintf(out, sizeof(ring[0]), "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        snprintf(out, sizeof(ring[0]), "%.1f", json_real_value(value));
    } else {
        snprintf(out, sizeof(ring[0]), "-");
    }
    return out;
}

int ctl_stages_list(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *doc = NULL;
    bool json = ctl_flag(ctl, "--json");
    size_t i;
    json_t *s;

    if (ctl_expect(ctl, 0, 0, "stages list [--json]", err) < 0 ||
        api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, "GET", "/admin/stages", NULL, &doc, err) < 0) {
        return -1;
    }
    if (json) {
        return print_json(json_object_get(doc, "items"));
    }
    printf("%-10s %8s %8s %6s %7s %8s %8s %8s %6s %5s\n", "stage", "depth", "waiting", "out",
           "users", "oldest s", "per s", "workers", "slots", "dead");
    json_array_foreach(json_object_get(doc, "items"), i, s)
    {
        const json_t *w = json_object_get(s, "workers");
        printf("%-10s %8s %8s %6s %7s %8s %8s %8s %6s %5s%s%s\n", api_text(s, "stage"),
               number(s, "depth"), number(s, "waiting"), number(s, "out"), number(s, "users"),
               number(s, "oldestSeconds"), number(s, "ratePerSecond"), number(w, "live"),
               number(w, "slots"), number(s, "deadLetters"),
               json_is_true(json_object_get(s, "pauseHolds")) ? "  paused"
               : json_is_true(json_object_get(s, "paused"))   ? "  pausing"
                                                              : "",
               api_int(w, "breakersOpen") > 0 ? "  breaker open" : "");
    }
    return 0;
}

int ctl_users_list(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    bool json = ctl_flag(ctl, "--json");
    char path[1024] = "/admin/users?limit=200";

    if (ctl_expect(ctl, 0, 0, "users list [--json]", err) < 0 ||
        api_open(ctl, true, &api, err) < 0) {
        return -1;
    }
    for (;;) {
        CLEANUP(json_cleanup) json_t *page = NULL;
        size_t i;
        json_t *u;
        if (api_call(&api, "GET", path, NULL, &page, err) < 0) {
            return -1;
        }
        json_array_foreach(json_object_get(page, "items"), i, u)
        {
            const json_t *usage = json_object_get(u, "usage");
            if (json) {
                print_json(u);
            } else {
                printf(
                    "%s  %-8s  weight %s  %s files, %s in work, %s bytes, %s dead letters  %s%s\n",
                    api_text(u, "id"), api_text(u, "role"), number(u, "weight"),
                    number(usage, "files"), number(usage, "inWork"), number(usage, "bytes"),
                    number(usage, "deadLetters"), api_text(u, "name"),
                    json_is_true(json_object_get(u, "disabled")) ? " (disabled)" : "");
            }
        }
        const char *next = json_string_value(json_object_get(page, "nextCursor"));
        if (!next) {
            return 0;
        }
        snprintf(path, sizeof(path), "/admin/users?limit=200&cursor=%s", next);
    }
}

int ctl_users_weight(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(json_cleanup) json_t *user = NULL;
    CLEANUP(buf_done) struct buf path;
    char *end = NULL;

    buf_init(&path, 256);
    if (ctl_expect(ctl, 2, 2, "users weight USER_ID WEIGHT", err) < 0 ||
        api_path(&path, "/admin/users/", ctl->argv[0], "", err) < 0) {
        return -1;
    }
    double weight = strtod(ctl->argv[1], &end);
    if (end == ctl->argv[1] || *end != '\0') {
        return err_set(err, ERR_PERMANENT, "usage", "not a number: %s", api_clean(ctl->argv[1]));
    }
    body = json_pack("{s:f}", "weight", weight);
    if (!body || api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, "PATCH", path.data, body, &user, err) < 0) {
        return body ? -1 : err_set(err, ERR_PERMANENT, "usage", "not a weight");
    }
    printf("%s has weight %s\n", api_text(user, "name"), number(user, "weight"));
    return 0;
}
