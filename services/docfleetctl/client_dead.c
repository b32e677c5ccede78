/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl dead-letters: what was given up, sent again or closed for good.
 * Invariant: without any filter nothing is replayed or discarded unless --all says so.
 */
#include <stdio.h>
#include <string.h>

#include "services/docfleetctl/client.h"

#define LETTERS "/admin/dead-letters"

static const struct {
    const char *option, *member;
} filters[] = {{"--stage", "stage"},
               {"--reason", "reason"},
               {"--user", "userId"},
               {"--file", "fileId"},
               {"--id", "id"}};

static json_t *take_filter(struct ctl *ctl)
{
    json_t *filter = json_object();

    for (size_t i = 0; filter && i < ARRAY_LEN(filters); i++) {
        const char *value = ctl_option(ctl, filters[i].option);
        if (value) {
            json_object_set_new(filter, filters[i].member, json_string(value));
        }
    }
    return filter;
}

static int list_path(const json_t *filter, const char *cursor, struct buf *path, struct err *err)
{
    const char *name;
    const json_t *value;

    buf_reset(path);
    if (buf_puts(path, LETTERS "?limit=200", err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        name = filters[i].member;
        value = json_object_get(filter, name);
        if (value && (buf_printf(path, err, "&%s=", name) < 0 ||
                      http_encode(path, json_string_value(value), false, err) < 0)) {
            return -1;
        }
    }
    return cursor ? buf_printf(path, err, "&cursor=%s", cursor) : 0;
}

static void print_letter(const json_t *letter)
{
    printf("%s  %s  %s/%lld  %s (%s)  %lld attempts  file %s  %s\n", api_text(letter, "id"),
           api_text(letter, "lastAt"), api_text(letter, "stage"),
           (long long)api_int(letter, "unit"), api_text(letter, "reason"),
           api_text(letter, "class"), (long long)api_int(letter, "attempts"),
           api_text(letter, "fileId"), api_text(letter, "lastError"));
}

int ctl_dead_list(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *filter = take_filter(ctl);
    CLEANUP(json_cleanup) json_t *page = NULL;
    CLEANUP(buf_done) struct buf path;
    bool json = ctl_flag(ctl, "--json");
    const char *cursor = NULL;

    buf_init(&path, 16384);
    if (ctl_expect(ctl, 0, 0, "dead-letters list [--stage S] [--reason R] [--file ID] [--json]",
                   err) < 0 ||
        api_open(ctl, true, &api, err) < 0) {
        return -1;
    }
    do {
        size_t i;
        json_t *letter;
        if (list_path(filter, cursor, &path, err) < 0) {
            return -1;
        }
        json_decref(page);
        page = NULL;
        if (api_call(&api, "GET", path.data, NULL, &page, err) < 0) {
            return -1;
        }
        json_array_foreach(json_object_get(page, "items"), i, letter)
        {
            if (json) {
                json_dumpf(letter, stdout, JSON_COMPACT);
                putchar('\n');
            } else {
                print_letter(letter);
            }
        }
        cursor = json_string_value(json_object_get(page, "nextCursor"));
    } while (cursor);
    return 0;
}

static int change(struct ctl *ctl, const char *verb, const char *done, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *filter = take_filter(ctl);
    CLEANUP(json_cleanup) json_t *body = NULL;
    bool dry = ctl_flag(ctl, "--dry-run"), all = ctl_flag(ctl, "--all"), more = true;
    long long matched = -1, changed = 0;
    char path[64], usage[160];

    snprintf(usage, sizeof(usage),
             "dead-letters %s [--stage S] [--reason R] [--file ID] [--all] [--dry-run]", verb);
    if (ctl_expect(ctl, 0, 0, usage, err) < 0 || api_open(ctl, true, &api, err) < 0) {
        return -1;
    }
    if (json_object_size(filter) == 0 && !all && !dry) {
        return err_set(err, ERR_PERMANENT, "usage",
                       "say which letters (--stage, --reason, --file, --user, --id) or --all");
    }
    body = json_pack("{s:O, s:b}", "filter", filter, "dryRun", (int)dry);
    if (!body) {
        return err_nomem(err);
    }
    snprintf(path, sizeof(path), LETTERS "/%s", verb);
    while (more) { /* a call does a bounded share */
        CLEANUP(json_cleanup) json_t *answer = NULL;
        if (api_call(&api, "POST", path, body, &answer, err) < 0) {
            return -1;
        }
        matched = matched < 0 ? (long long)api_int(answer, "matched") : matched;
        changed += (long long)api_int(answer, done);
        more = json_is_true(json_object_get(answer, "more"));
    }
    if (dry) {
        printf("%lld dead letters match\n", matched);
    } else {
        printf("%lld dead letters matched, %lld %s\n", matched, changed, done);
    }
    return 0;
}

int ctl_dead_replay(struct ctl *ctl, struct err *err)
{
    return change(ctl, "replay", "replayed", err);
}

int ctl_dead_discard(struct ctl *ctl, struct err *err)
{
    return change(ctl, "discard", "discarded", err);
}
