/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl import: make one, start it, look at its runs, go back to an earlier version.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/docfleetctl/client.h"

static void print_import(const json_t *i)
{
    const json_t *schedule = json_object_get(i, "schedule");
    const json_t *published = json_object_get(i, "published");

    printf("%s  %-7s  %s  from %s%s%s  into %s", api_text(i, "id"), api_text(i, "health"),
           api_text(i, "name"), api_text(i, "source"), *api_text(i, "source") ? ":" : "",
           api_text(i, "prefix"), api_text(i, "datasetId"));
    if (json_is_object(schedule)) {
        printf("  at %s %s%s", api_text(schedule, "cron"), api_text(schedule, "timeZone"),
               json_is_true(json_object_get(i, "enabled")) ? "" : " (paused)");
    }
    if (json_is_object(published)) {
        printf("  shows run %lld", (long long)api_int(published, "no"));
    }
    putchar('\n');
}

static void print_run(const json_t *r)
{
    const json_t *counts = json_object_get(r, "counts");

    printf("%s  %4lld  %-8s  %-10s%s  %lld objects: %lld new, %lld changed, %lld vanished;"
           " %lld failed, %lld refused, %lld not read",
           api_text(r, "id"), (long long)api_int(r, "no"), api_text(r, "trigger"),
           api_text(r, "state"), json_is_true(json_object_get(r, "current")) ? " *" : "  ",
           (long long)api_int(counts, "objects"), (long long)api_int(counts, "new"),
           (long long)api_int(counts, "changed"), (long long)api_int(counts, "vanished"),
           (long long)api_int(counts, "failed"), (long long)api_int(counts, "rejected"),
           (long long)api_int(counts, "unfetched"));
    printf("%s%s\n", *api_text(r, "note") ? "  " : "", api_text(r, "note"));
}

/* Options that are numbers in the body. */
static int set_number(json_t *body, const char *name, const char *text, struct err *err)
{
    char *end = NULL;
    double value = text ? strtod(text, &end) : 0;

    if (!text) {
        return 0;
    }
    if (end == text || *end != '\0') {
        return err_set(err, ERR_PERMANENT, "usage", "not a number: %s", api_clean(text));
    }
    return json_object_set_new(body, name,
                               strcmp(name, "maxFailedPercent") == 0
                                   ? json_real(value)
                                   : json_integer((json_int_t)value)) < 0
               ? err_nomem(err)
               : 0;
}

int ctl_import_create(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *made = NULL;
    const char *dataset = ctl_option(ctl, "--dataset"), *prefix = ctl_option(ctl, "--prefix");
    const char *source = ctl_option(ctl, "--source"), *cron = ctl_option(ctl, "--cron");
    const char *zone = ctl_option(ctl, "--time-zone");
    const char *vanished = ctl_option(ctl, "--on-vanished");
    const char *percent = ctl_option(ctl, "--max-failed-percent");
    const char *unfetched = ctl_option(ctl, "--max-unfetched");
    const char *keep = ctl_option(ctl, "--keep-versions");

    CLEANUP(json_cleanup)
    json_t *body = json_pack("{s:s, s:s, s:s, s:s*, s:s*}", "name", ctl->argv[0], "datasetId",
                             dataset, "prefix", prefix, "source", source, "onVanished", vanished);
    if (!body) {
        return err_set(err, ERR_PERMANENT, "usage", "the arguments are no UTF-8");
    }
    if (cron) {
        json_object_set_new(body, "schedule",
                            json_pack("{s:s, s:s}", "cron", cron, "timeZone", zone ? zone : "UTC"));
    }
    if (set_number(body, "maxFailedPercent", percent, err) < 0 ||
        set_number(body, "maxUnfetched", unfetched, err) < 0 ||
        set_number(body, "keepVersions", keep, err) < 0 || api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, "POST", "/imports", body, &made, err) < 0) {
        return -1;
    }
    printf("%s\n", api_text(made, "id"));
    return 0;
}

int ctl_import_list(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    bool json = ctl_flag(ctl, "--json");
    char path[1100] = "/imports?limit=200";

    if (api_open(ctl, true, &api, err) < 0) {
        return -1;
    }
    for (;;) {
        CLEANUP(json_cleanup) json_t *page = NULL;
        size_t i;
        json_t *item;
        if (api_call(&api, "GET", path, NULL, &page, err) < 0) {
            return -1;
        }
        json_array_foreach(json_object_get(page, "items"), i, item)
        {
            if (json && api_print_json(item, err) < 0) {
                return -1;
            }
            if (!json) {
                print_import(item);
            }
        }
        const char *next = json_string_value(json_object_get(page, "nextCursor"));
        if (!next) {
            return 0;
        }
        snprintf(path, sizeof(path), "/imports?limit=200&cursor=%s", next);
    }
}

int ctl_import_run(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *run = NULL;
    CLEANUP(buf_done) struct buf path;
    bool json = ctl_flag(ctl, "--json");

    buf_init(&path, 256);
    if (api_path(&path, "/imports/", ctl->argv[0], "/run", err) < 0 ||
        api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, "POST", path.data, NULL, &run, err) < 0) {
        return -1;
    }
    if (json) {
        return api_print_json(run, err);
    }
    printf("%s\n", api_text(run, "id"));
    return 0;
}

int ctl_import_runs(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *page = NULL;
    CLEANUP(buf_done) struct buf path;
    bool json = ctl_flag(ctl, "--json");
    size_t i;
    json_t *run;

    buf_init(&path, 256);
    if (api_path(&path, "/imports/", ctl->argv[0], "/runs?limit=200", err) < 0 ||
        api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, "GET", path.data, NULL, &page, err) < 0) {
        return -1;
    }
    json_array_foreach(json_object_get(page, "items"), i, run)
    {
        if (json && api_print_json(run, err) < 0) {
            return -1;
        }
        if (!json) {
            print_run(run);
        }
    }
    return 0;
}

int ctl_import_rollback(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *import = NULL;
    CLEANUP(buf_done) struct buf path, rest;
    CLEANUP(json_cleanup)
    json_t *body = json_pack("{s:b}", "keepSchedule", (int)ctl_flag(ctl, "--keep-schedule"));

    buf_init(&path, 256);
    buf_init(&rest, 256);
    if (api_path(&rest, "/runs/", ctl->argv[1], "/rollback", err) < 0 ||
        api_path(&path, "/imports/", ctl->argv[0], rest.data, err) < 0 ||
        api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, "POST", path.data, body, &import, err) < 0) {
        return -1;
    }
    print_import(import);
    return 0;
}

static int set_enabled(struct ctl *ctl, bool enabled, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *import = NULL;
    CLEANUP(json_cleanup) json_t *body = json_pack("{s:b}", "enabled", (int)enabled);
    CLEANUP(buf_done) struct buf path;

    buf_init(&path, 256);
    if (api_path(&path, "/imports/", ctl->argv[0], "", err) < 0 ||
        api_open(ctl, true, &api, err) < 0 ||
        api_call(&api, "PATCH", path.data, body, &import, err) < 0) {
        return -1;
    }
    print_import(import);
    return 0;
}

int ctl_import_pause(struct ctl *ctl, struct err *err)
{
    return set_enabled(ctl, false, err);
}

int ctl_import_resume(struct ctl *ctl, struct err *err)
{
    return set_enabled(ctl, true, err);
}
