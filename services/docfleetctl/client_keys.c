/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl whoami, keys, users create: accounts and their keys, over the API.
 * Invariant: a new key is the only line on stdout, so that it can be kept by a redirection.
 */
#include <stdio.h>
#include <string.h>

#include "services/docfleetctl/client.h"

#define KEY_ID_MAX 64U

/* "read, write" of a list of words. */
static void join(const json_t *list, char *out, size_t size)
{
    size_t i, n = 0;
    json_t *word;

    out[0] = '\0';
    json_array_foreach(list, i, word)
    {
        int m = snprintf(out + n, size - n, "%s%s", i ? "," : "",
                         json_is_string(word) ? api_clean(json_string_value(word)) : "?");
        n += min_size((size_t)(m > 0 ? m : 0), size - n - 1);
    }
}

int ctl_whoami(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *me = NULL;
    char scopes[80];

    if (api_open(ctl, false, &api, err) < 0 ||
        api_call(&api, "GET", "/auth/me", NULL, &me, err) < 0) {
        return -1;
    }
    if (ctl_flag(ctl, "--json")) {
        return api_print_json(me, err);
    }
    join(json_object_get(me, "scopes"), scopes, sizeof(scopes));
    printf("%s  %s  %s  may %s\n", api_text(me, "id"), api_text(me, "name"), api_text(me, "role"),
           scopes);
    return 0;
}

static int print_key(void *ctx, const json_t *key, struct err *err)
{
    const bool *json = ctx;
    char scopes[80];

    if (*json) {
        return api_print_json(key, err);
    }
    join(json_object_get(key, "scopes"), scopes, sizeof(scopes));
    printf("%s  %s  %s  %s%s  %s\n", api_text(key, "id"), api_text(key, "createdAt"), scopes,
           *api_text(key, "expiresAt") ? "until " : "for ever", api_text(key, "expiresAt"),
           api_text(key, "name"));
    return 0;
}

int ctl_keys_list(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    bool json = ctl_flag(ctl, "--json");

    return api_open(ctl, false, &api, err) < 0
               ? -1
               : api_each(&api, "/api-keys?limit=200", print_key, &json, err);
}

/* "a,b" as an array. */
static json_t *split(const char *text)
{
    json_t *list = json_array();

    for (const char *p = text; list && *p;) {
        size_t n = strcspn(p, ",");
        json_array_append_new(list, json_stringn(p, n));
        p += n + (p[n] == ',');
    }
    return list;
}

/* user_id NULL: the caller's own. */
static int create_key(const struct api *api, const struct ctl *ctl, const char *user_id,
                      const char *name, struct err *err)
{
    CLEANUP(json_cleanup) json_t *made = NULL;
    const char *scopes = ctl_option(ctl, "--scopes");
    CLEANUP(json_cleanup) json_t *body = json_object();
    int64_t days = 0;

    if (ctl_number(ctl, "--days", 1, 3650, 0, &days, err) < 0) {
        return -1;
    }
    if ((name && json_object_set_new(body, "name", json_string(name)) < 0) ||
        (scopes && json_object_set_new(body, "scopes", split(scopes)) < 0) ||
        (user_id && json_object_set_new(body, "userId", json_string(user_id)) < 0) ||
        (days > 0 && json_object_set_new(body, "expiresInDays", json_integer(days)) < 0)) {
        return err_set(err, ERR_PERMANENT, "usage", "the name is not valid UTF-8");
    }
    if (api_call(api, "POST", "/api-keys", body, &made, err) < 0) {
        return -1;
    }
    fprintf(stderr, "key %s; it is shown only this once\n", api_text(made, "id"));
    printf("%s\n", api_text(made, "key"));
    return 0;
}

int ctl_keys_create(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    const char *user = ctl_option(ctl, "--user");

    if (user && !uuid_valid(user)) {
        return err_set(err, ERR_PERMANENT, "usage", "not an id: %s", api_clean(user));
    }
    return api_open(ctl, user != NULL, &api, err) < 0
               ? -1
               : create_key(&api, ctl, user, ctl->argc > 0 ? ctl->argv[0] : NULL, err);
}

int ctl_keys_revoke(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *answer = NULL;
    const char *id = ctl->argv[0];
    char path[96];

    /* A whole key is taken, too: its id is what stands between the underscores. */
    id = strncmp(id, "dfk_", 4) == 0 ? id + 4 : id;
    size_t n = strcspn(id, "_");
    if (n == 0 || n > KEY_ID_MAX || strspn(id, "0123456789abcdef") != n) {
        return err_set(err, ERR_PERMANENT, "usage", "not the id of a key");
    }
    snprintf(path, sizeof(path), "/api-keys/%.*s", (int)n, id);
    if (api_open(ctl, false, &api, err) < 0 ||
        api_call(&api, "DELETE", path, NULL, &answer, err) < 0) {
        return -1;
    }
    printf("%.*s is revoked\n", (int)n, id);
    return 0;
}

int ctl_users_create(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *user = NULL;
    const char *role = ctl_option(ctl, "--role");
    CLEANUP(json_cleanup)
    json_t *body = json_pack("{s:s, s:s}", "name", ctl->argv[0], "role", role ? role : "user");

    if (!body) {
        return err_set(err, ERR_PERMANENT, "usage", "the name is not valid UTF-8");
    }
    if (api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, "POST", "/admin/users", body, &user, err) < 0) {
        return -1;
    }
    fprintf(stderr, "user %s %s\n", api_text(user, "name"), api_text(user, "id"));
    if (ctl_flag(ctl, "--no-key")) {
        printf("%s\n", api_text(user, "id"));
        return 0;
    }
    return create_key(&api, ctl, api_text(user, "id"), NULL, err);
}
