/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl stages and users: what an operator looks at first, over the API.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/states.h"
#include "libcommon/task_dispatch.h"
#include "services/docfleetctl/client.h"

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

    if (api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, "GET", "/admin/stages", NULL, &doc, err) < 0) {
        return -1;
    }
    if (json) {
        return api_print_json(json_object_get(doc, "items"), err);
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

/* Over the API, or straight to Postgres where there is no key but the servers' settings. */
static int set_paused(struct ctl *ctl, bool paused, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *stage = NULL;
    const char *name = ctl->argv[0];
    enum stage_id id = stage_parse(name);
    char path[96];

    if (id == STAGE_NONE) {
        return err_set(err, ERR_PERMANENT, "usage", "there is no stage %.40s", api_clean(name));
    }
    if (!*ctl->options.admin_key && *ctl->service.core.database_url) {
        return ctl_open_db(ctl, err) < 0 ? -1 : task_pause(ctl->service.db, (int)id, paused, err);
    }
    CLEANUP(json_cleanup) json_t *body = json_object();
    snprintf(path, sizeof(path), "/admin/stages/%s/%s", name, paused ? "pause" : "resume");
    if (api_open(ctl, true, &api, err) < 0 || api_call(&api, "POST", path, body, &stage, err) < 0) {
        return -1;
    }
    printf("%s is %s\n", name, paused ? "paused" : "sent again");
    return 0;
}

int ctl_stages_pause(struct ctl *ctl, struct err *err)
{
    return set_paused(ctl, true, err);
}

int ctl_stages_resume(struct ctl *ctl, struct err *err)
{
    return set_paused(ctl, false, err);
}

static int print_user(void *ctx, const json_t *u, struct err *err)
{
    const json_t *usage = json_object_get(u, "usage");
    const bool *json = ctx;

    if (*json) {
        return api_print_json(u, err);
    }
    printf("%s  %-8s  weight %s  %s files, %s in work, %s bytes, %s dead letters  %s%s\n",
           api_text(u, "id"), api_text(u, "role"), number(u, "weight"), number(usage, "files"),
           number(usage, "inWork"), number(usage, "bytes"), number(usage, "deadLetters"),
           api_text(u, "name"), json_is_true(json_object_get(u, "disabled")) ? " (disabled)" : "");
    return 0;
}

int ctl_users_list(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    bool json = ctl_flag(ctl, "--json");

    return api_open(ctl, true, &api, err) < 0
               ? -1
               : api_each(&api, "/admin/users?limit=200", print_user, &json, err);
}

int ctl_users_weight(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(json_cleanup) json_t *user = NULL;
    CLEANUP(buf_done) struct buf path;
    char *end = NULL;

    buf_init(&path, 256);
    if (api_path(&path, "/admin/users/", ctl->argv[0], "", err) < 0) {
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
