/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl dead-letters: what was given up and why, sent again or closed for good.
 * Invariant: without any filter nothing is replayed or discarded unless --all says so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/docfleetctl/client.h"

#define LETTERS "/admin/dead-letters"

static const struct {
    const char *option, *member;
    bool time;
} filters[] = {{"--stage", "stage", false}, {"--reason", "reason", false},
               {"--class", "class", false}, {"--version", "version", false},
               {"--user", "userId", false}, {"--dataset", "datasetId", false},
               {"--file", "fileId", false}, {"--id", "id", false},
               {"--since", "since", true},  {"--until", "until", true}};

static json_t *take_filter(const struct ctl *ctl)
{
    json_t *filter = json_object();

    for (size_t i = 0; filter && i < ARRAY_LEN(filters); i++) {
        const char *value = ctl_option(ctl, filters[i].option);
        char when[64];
        if (value && filters[i].time) {
            api_time_of(value, when, sizeof(when));
            value = when;
        }
        if (value) {
            json_object_set_new(filter, filters[i].member, json_string(value));
        }
    }
    return filter;
}

static int list_path(const char *base, const json_t *filter, const char *state, struct buf *path,
                     struct err *err)
{
    if (buf_printf(path, err, "%s?limit=200", base) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        const json_t *value = json_object_get(filter, filters[i].member);
        if (value && (buf_printf(path, err, "&%s=", filters[i].member) < 0 ||
                      http_encode(path, json_string_value(value), false, err) < 0)) {
            return -1;
        }
    }
    return state ? buf_printf(path, err, "&state=%s", state) : 0;
}

static void print_letter(const json_t *letter)
{
    printf("%s  %s  %s/%lld  %s (%s)  %lld attempts  file %s  %s\n", api_text(letter, "id"),
           api_text(letter, "lastAt"), api_text(letter, "stage"),
           (long long)api_int(letter, "unit"), api_text(letter, "reason"),
           api_text(letter, "class"), (long long)api_int(letter, "attempts"),
           api_text(letter, "fileId"), api_text(letter, "lastError"));
}

static int print_one(void *ctx, const json_t *letter, struct err *err)
{
    const bool *json = ctx;

    if (*json) {
        return api_print_json(letter, err);
    }
    print_letter(letter);
    return 0;
}

int ctl_dead_list(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *filter = take_filter(ctl);
    CLEANUP(buf_done) struct buf path;
    bool json = ctl_flag(ctl, "--json");

    buf_init(&path, 16384);
    return list_path(LETTERS, filter, ctl_option(ctl, "--state"), &path, err) < 0 ||
                   api_open(ctl, true, &api, err) < 0
               ? -1
               : api_each(&api, path.data, print_one, &json, err);
}

static void print_groups(const json_t *groups)
{
    size_t i;
    json_t *item;

    json_array_foreach(groups, i, item)
    {
        printf("%8lld  %-9s  %s (%s): %s\n", (long long)api_int(item, "letters"),
               api_text(item, "stage"), api_text(item, "reason"), api_text(item, "class"),
               api_text(item, "explanation"));
    }
}

int ctl_dead_groups(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *filter = take_filter(ctl);
    CLEANUP(json_cleanup) json_t *doc = NULL;
    CLEANUP(buf_done) struct buf path;

    buf_init(&path, 16384);
    if (list_path(LETTERS "/groups", filter, ctl_option(ctl, "--state"), &path, err) < 0 ||
        api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, "GET", path.data, NULL, &doc, err) < 0) {
        return -1;
    }
    if (ctl_flag(ctl, "--json")) {
        return api_print_json(doc, err);
    }
    print_groups(json_object_get(doc, "items"));
    return 0;
}

static void show_line(const char *name, const char *value)
{
    if (value[0] != '\0') {
        printf("  %-10s %s\n", name, value);
    }
}

static void show_letter(const json_t *d)
{
    const json_t *evidence = json_object_get(d, "evidence");
    const json_t *input = json_object_get(evidence, "input");
    CLEANUP(free_cleanup)
    char *child = json_is_object(json_object_get(d, "child"))
                      ? json_dumps(json_object_get(d, "child"), JSON_COMPACT)
                      : NULL;

    printf("%s: %s\n", api_text(d, "reason"), api_text(d, "explanation"));
    printf("what helps: %s\n\n", api_text(d, "advice"));
    show_line("letter", api_text(d, "id"));
    show_line("state", api_text(d, "state"));
    show_line("file", api_text(d, "fileId"));
    show_line("name", api_text(d, "fileName"));
    show_line("dataset", api_text(d, "datasetId"));
    show_line("user", api_text(d, "userId"));
    printf("  %-10s %s, unit %lld, generation %lld\n", "work", api_text(d, "stage"),
           (long long)api_int(d, "unit"), (long long)api_int(d, "generation"));
    printf("  %-10s %s; %lld attempts, %lld failures, %lld workers lost, %lld outages\n", "class",
           api_text(d, "class"), (long long)api_int(d, "attempts"),
           (long long)api_int(d, "failures"), (long long)api_int(d, "crashes"),
           (long long)api_int(d, "outageRetries"));
    show_line("error", api_text(d, "lastError"));
    show_line("child", child ? api_clean(child) : "");
    show_line("input", api_text(input, "key"));
    show_line("etag", api_text(input, "etag"));
    show_line("kind", api_text(input, "kind"));
    if (json_is_integer(json_object_get(input, "bytes"))) {
        printf("  %-10s %lld\n", "bytes", (long long)api_int(input, "bytes"));
    }
    show_line("worker", api_text(evidence, "worker"));
    show_line("program", api_text(evidence, "codeVersion"));
    show_line("trace", api_text(evidence, "trace"));
    show_line("first", api_text(d, "firstAt"));
    show_line("last", api_text(d, "lastAt"));
    show_line("replay of", api_text(d, "replayOf"));
    show_line("closed", api_text(d, "closedAt"));
    show_line("by", api_text(d, "actor"));
    printf("  %-10s %s\n", "replay",
           json_is_true(json_object_get(d, "replayable"))
               ? "would send it back to work"
               : "would do nothing: closed, removed, or run again since");
}

int ctl_dead_show(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *letter = NULL;
    CLEANUP(buf_done) struct buf path;
    bool json = ctl_flag(ctl, "--json");

    buf_init(&path, 256);
    if (api_path(&path, LETTERS "/", ctl->argv[0], "", err) < 0 ||
        api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, "GET", path.data, NULL, &letter, err) < 0) {
        return -1;
    }
    if (json) {
        return api_print_json(letter, err);
    }
    show_letter(letter);
    return 0;
}

/* What would happen: how many of what, and some of them. */
static void print_dry(const json_t *answer)
{
    size_t i;
    json_t *item;

    printf("%lld dead letters match, %lld could be replayed\n",
           (long long)api_int(answer, "matched"), (long long)api_int(answer, "replayable"));
    print_groups(json_object_get(answer, "groups"));
    if (json_array_size(json_object_get(answer, "examples")) > 0) {
        printf("for example\n");
    }
    json_array_foreach(json_object_get(answer, "examples"), i, item)
    {
        print_letter(item);
    }
}

/* Calls until the gateway has no more to do, or left letters are done. */
static int change_all(const struct api *api, const char *path, const char *done, json_t *body,
                      long long left, json_t **ret_sum, struct err *err)
{
    long long matched = -1, replayable = 0, changed = 0;
    bool more = true;

    while (more && left > 0) { /* a call does a bounded share */
        CLEANUP(json_cleanup) json_t *answer = NULL;
        json_object_set_new(body, "limit", json_integer(left < 10000 ? left : 10000));
        if (api_call(api, "POST", path, body, &answer, err) < 0) {
            return -1;
        }
        if (matched < 0) {
            matched = (long long)api_int(answer, "matched");
            replayable = (long long)api_int(answer, "replayable");
        }
        changed += (long long)api_int(answer, done);
        left -= (long long)api_int(answer, done);
        more = json_is_true(json_object_get(answer, "more"));
    }
    *ret_sum = json_pack("{s:I, s:I, s:I, s:b, s:b}", "matched", (json_int_t)matched, "replayable",
                         (json_int_t)replayable, done, (json_int_t)changed, "more", (int)more,
                         "dryRun", 0);
    return *ret_sum ? 0 : err_nomem(err);
}

static int change(struct ctl *ctl, const char *verb, const char *done, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *filter = take_filter(ctl);
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(json_cleanup) json_t *answer = NULL;
    bool dry = ctl_flag(ctl, "--dry-run"), all = ctl_flag(ctl, "--all"),
         json = ctl_flag(ctl, "--json");
    int64_t limit = 0;
    char path[64];

    if (ctl_number(ctl, "--limit", 1, INT64_MAX, INT64_MAX, &limit, err) < 0 ||
        api_open(ctl, true, &api, err) < 0) {
        return -1;
    }
    if (json_object_size(filter) == 0 && !all && !dry) {
        return err_set(err, ERR_PERMANENT, "usage",
                       "say which letters (--stage, --reason, --file, --user, --id, ...) or --all");
    }
    body = json_pack("{s:O, s:b}", "filter", filter, "dryRun", (int)dry);
    if (!body) {
        return err_nomem(err);
    }
    snprintf(path, sizeof(path), LETTERS "/%s", verb);
    if (dry ? api_call(&api, "POST", path, body, &answer, err) < 0
            : change_all(&api, path, done, body, limit, &answer, err) < 0) {
        return -1;
    }
    if (json) {
        return api_print_json(answer, err);
    }
    if (dry) {
        print_dry(answer);
    } else {
        printf("%lld dead letters matched, %lld %s\n", (long long)api_int(answer, "matched"),
               (long long)api_int(answer, done), done);
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
