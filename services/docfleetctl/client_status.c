/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl status: how far the files of an upload, of a dataset or of all are, once or until
 * nothing is in work. A terminal is redrawn; anywhere else a line is written when something
 * changed.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libcommon/states.h"
#include "services/docfleetctl/client.h"

#define DATASETS_MAX 1000U
#define FAILED_SHOWN_MAX 1000U
#define WATCH_MS 1000

struct view {
    json_t *datasets; /* [{id, name, summary}] */
    int64_t live;     /* files uploading or processing */
    int64_t failed;
};

/* What is asked for; both NULL: all of the user's datasets. */
struct subject {
    const char *dataset, *batch;
};

static void view_done(struct view *view)
{
    json_decref(view->datasets);
    *view = (struct view){0};
}

static int add_summary(const struct api *api, struct view *view, const char *id, const char *name,
                       struct err *err)
{
    CLEANUP(buf_done) struct buf path;
    CLEANUP(json_cleanup) json_t *summary = NULL;

    buf_init(&path, 256);
    if (api_path(&path, "/datasets/", id, "/summary", err) < 0 ||
        api_call(api, "GET", path.data, NULL, &summary, err) < 0) {
        return -1;
    }
    const json_t *states = json_object_get(json_object_get(summary, "files"), "byState");
    view->live += api_int(states, "uploading") + api_int(states, "processing");
    view->failed += api_int(states, "failed");
    json_t *item = json_pack("{s:s, s:s, s:O}", "id", id, "name", name, "summary", summary);
    return json_array_append_new(view->datasets, item) < 0 ? err_nomem(err) : 0;
}

/* A batch, in the form of a dataset's summary. */
static int add_batch(const struct api *api, struct view *view, const char *id, struct err *err)
{
    CLEANUP(buf_done) struct buf path;
    CLEANUP(json_cleanup) json_t *batch = NULL;

    buf_init(&path, 256);
    if (api_path(&path, "/batches/", id, "/summary", err) < 0 ||
        api_call(api, "GET", path.data, NULL, &batch, err) < 0) {
        return -1;
    }
    json_t *states = json_object_get(batch, "byState");
    view->live += api_int(states, "uploading") + api_int(states, "processing");
    view->failed += api_int(states, "failed");
    json_t *item =
        json_pack("{s:s, s:s, s:s, s:{s:{s:I, s:O}, s:O}}", "id", api_text(batch, "datasetId"),
                  "batchId", id, "name", "batch", "summary", "files", "total",
                  (json_int_t)api_int(batch, "total"), "byState", states, "batch", batch);
    return json_array_append_new(view->datasets, item) < 0 ? err_nomem(err) : 0;
}

static int add_page(const struct api *api, struct view *view, const json_t *page, struct err *err)
{
    size_t i;
    json_t *item;

    json_array_foreach(json_object_get(page, "items"), i, item)
    {
        const char *id = json_string_value(json_object_get(item, "id"));
        if (json_array_size(view->datasets) < DATASETS_MAX && id &&
            add_summary(api, view, id, api_text(item, "name"), err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int look(const struct api *api, const struct subject *subject, struct view *ret_view,
                struct err *err)
{
    const char *dataset = subject->dataset;
    bool all = !dataset && !subject->batch;
    CLEANUP(view_done) struct view view = {.datasets = json_array()};
    char path[1024] = "/datasets?limit=200";

    if (subject->batch && add_batch(api, &view, subject->batch, err) < 0) {
        return -1;
    }
    if (dataset) {
        CLEANUP(buf_done) struct buf one;
        CLEANUP(json_cleanup) json_t *doc = NULL;
        buf_init(&one, 256);
        if (api_path(&one, "/datasets/", dataset, "", err) < 0 ||
            api_call(api, "GET", one.data, NULL, &doc, err) < 0 ||
            add_summary(api, &view, dataset, api_text(doc, "name"), err) < 0) {
            return -1;
        }
    }
    while (all) {
        CLEANUP(json_cleanup) json_t *page = NULL;
        if (api_call(api, "GET", path, NULL, &page, err) < 0 ||
            add_page(api, &view, page, err) < 0) {
            return -1;
        }
        const char *next = json_string_value(json_object_get(page, "nextCursor"));
        if (!next) {
            break;
        }
        snprintf(path, sizeof(path), "/datasets?limit=200&cursor=%s", next);
    }
    *ret_view = view;
    view.datasets = NULL;
    return 0;
}

/* Drawing ---------------------------------------------------------------------------------------*/

static int put_counts(struct buf *out, const json_t *counts, const char *const *names, size_t n,
                      struct err *err)
{
    bool any = false;

    for (size_t i = 0; i < n; i++) {
        int64_t count = api_int(counts, names[i]);
        if (count != 0 &&
            buf_printf(out, err, "%s %lld %s", any ? "," : "", (long long)count, names[i]) < 0) {
            return -1;
        }
        any = any || count != 0;
    }
    return any ? 0 : buf_puts(out, " none", err);
}

static bool stage_busy(const json_t *stage)
{
    return api_int(stage, "pending") + api_int(stage, "running") + api_int(stage, "waiting") > 0;
}

static int put_dataset(struct buf *out, const json_t *item, struct err *err)
{
    static const char *const states[] = {"uploading", "processing", "done",
                                         "failed",    "cancelled",  "quarantined"};
    static const char *const units[] = {"pending", "running", "waiting", "done", "failed"};
    const json_t *summary = json_object_get(item, "summary");
    const json_t *files = json_object_get(summary, "files");

    const char *id = json_object_get(item, "batchId") ? "batchId" : "id";

    if (buf_printf(out, err, "%s  %s: %lld files,", api_text(item, id), api_text(item, "name"),
                   (long long)api_int(files, "total")) < 0 ||
        put_counts(out, json_object_get(files, "byState"), states, ARRAY_LEN(states), err) < 0 ||
        buf_puts(out, "\n", err) < 0) {
        return -1;
    }
    for (int s = STAGE_TEXT; s <= STAGE_THUMBNAIL; s++) {
        const json_t *stage = json_object_get(json_object_get(summary, "stages"), stage_name(s));
        if (stage_busy(stage) && (buf_printf(out, err, "    %-10s", stage_name(s)) < 0 ||
                                  put_counts(out, stage, units, ARRAY_LEN(units), err) < 0 ||
                                  buf_puts(out, "\n", err) < 0)) {
            return -1;
        }
    }
    const json_t *pipelines = json_object_get(summary, "pipelines");
    int64_t previews = api_int(pipelines, "previewFailed");
    int64_t thumbs = api_int(pipelines, "thumbnailFailed");
    if (previews + thumbs > 0 &&
        buf_printf(out, err, "    without preview %lld, without thumbnail %lld\n",
                   (long long)previews, (long long)thumbs) < 0) {
        return -1;
    }
    return 0;
}

static int draw(const struct view *view, struct buf *out, struct err *err)
{
    size_t i;
    json_t *item;

    buf_reset(out);
    json_array_foreach(view->datasets, i, item)
    {
        if (put_dataset(out, item, err) < 0) {
            return -1;
        }
    }
    return i == 0 ? buf_puts(out, "no datasets\n", err) : 0;
}

/* Of all datasets: a list. */
static int draw_json(const struct view *view, const struct subject *subject, struct buf *out,
                     struct err *err)
{
    const json_t *doc = view->datasets;

    if (subject->dataset || subject->batch) {
        doc = json_object_get(json_array_get(doc, 0), "summary");
    }
    if (subject->batch) {
        doc = json_object_get(doc, "batch");
    }
    CLEANUP(free_cleanup) char *text = json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS);
    buf_reset(out);
    if (!text) {
        return err_nomem(err);
    }
    return buf_puts(out, text, err) < 0 ? -1 : buf_puts(out, "\n", err);
}

static size_t count_lines(const char *text)
{
    size_t n = 0;

    for (; *text; text++) {
        n += *text == '\n';
    }
    return n;
}

/* Failed files ----------------------------------------------------------------------------------*/

static void print_failed(const json_t *file)
{
    static const char *const pipelines[] = {"main", "preview", "thumbnail"};

    for (size_t i = 0; i < ARRAY_LEN(pipelines); i++) {
        const json_t *pipe = json_object_get(json_object_get(file, "pipelines"), pipelines[i]);
        const json_t *error = json_object_get(pipe, "error");
        if (strcmp(api_text(pipe, "state"), "failed") == 0) {
            printf("failed  %s  %s  %s: %s (%s)\n", api_text(file, "id"), api_text(file, "name"),
                   pipelines[i], api_text(error, "detail"), api_text(error, "code"));
        }
    }
}

static int list_failed(const struct api *api, const json_t *of, size_t *shown, struct err *err)
{
    char path[2048], base[256];
    const char *batch = json_string_value(json_object_get(of, "batchId"));

    snprintf(base, sizeof(base), "/datasets/%s/files?state=failed&limit=200%s%s",
             api_text(of, "id"), batch ? "&batchId=" : "", batch ? batch : "");
    snprintf(path, sizeof(path), "%s", base);
    for (;;) {
        CLEANUP(json_cleanup) json_t *page = NULL;
        size_t i;
        json_t *item;
        if (api_call(api, "GET", path, NULL, &page, err) < 0) {
            return -1;
        }
        json_array_foreach(json_object_get(page, "items"), i, item)
        {
            print_failed(item);
            (*shown)++;
        }
        const char *next = json_string_value(json_object_get(page, "nextCursor"));
        if (!next || *shown >= FAILED_SHOWN_MAX) {
            return 0;
        }
        snprintf(path, sizeof(path), "%s&cursor=%s", base, next);
    }
}

static int list_all_failed(const struct api *api, const struct view *view, struct err *err)
{
    size_t i, shown = 0;
    json_t *item;

    json_array_foreach(view->datasets, i, item)
    {
        const json_t *files = json_object_get(json_object_get(item, "summary"), "files");
        int64_t failed = api_int(json_object_get(files, "byState"), "failed");
        size_t before = shown;
        if (failed > 0 && shown < FAILED_SHOWN_MAX && list_failed(api, item, &shown, err) < 0) {
            return -1;
        }
        if ((size_t)failed > shown - before) {
            printf("... and %zu more failed files in %s\n", (size_t)failed - (shown - before),
                   api_text(item, "name"));
        }
    }
    return 0;
}

/* The command -----------------------------------------------------------------------------------*/

static int redraw(const char *text, const char *last, bool terminal, struct err *err)
{
    if (last && terminal) {
        printf("\033[%zuF\033[J", count_lines(last));
    }
    fputs(text, stdout);
    return fflush(stdout) == 0 ? 0
                               : err_set(err, ERR_UNKNOWN, "io", "the output cannot be written");
}

static int watch(const struct api *api, const struct ctl *ctl, const struct subject *subject,
                 struct view *ret_view, struct err *err)
{
    CLEANUP(buf_done) struct buf out;
    CLEANUP(free_cleanup) char *last = NULL;
    bool json = ctl_flag(ctl, "--json");
    bool terminal = isatty(STDOUT_FILENO) == 1 && !json;

    buf_init(&out, 16U * 1024 * 1024);
    for (;;) {
        CLEANUP(view_done) struct view view = {0};
        if (look(api, subject, &view, err) < 0 ||
            (json ? draw_json(&view, subject, &out, err) : draw(&view, &out, err)) < 0) {
            return -1;
        }
        if (!last || strcmp(last, out.data) != 0) {
            if (redraw(out.data, last, terminal, err) < 0) {
                return -1;
            }
            free(last);
            last = strdup(out.data);
        }
        if (!ctl_flag(ctl, "--watch") || view.live == 0) {
            *ret_view = view;
            view.datasets = NULL;
            return 0;
        }
        if (!ctl_sleep(WATCH_MS)) {
            return err_set(err, ERR_TRANSIENT, "aborted", "interrupted; the work goes on");
        }
    }
}

int ctl_status(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(view_done) struct view view = {0};
    struct subject subject = {ctl_option(ctl, "--dataset"), ctl_option(ctl, "--batch")};

    if (subject.dataset && subject.batch) {
        return err_set(err, ERR_PERMANENT, "usage", "either --dataset or --batch");
    }
    if (api_open(ctl, false, &api, err) < 0) {
        return -1;
    }
    api.tries_max = ctl_flag(ctl, "--watch") ? API_TRIES_LONG : API_TRIES_SHORT;
    if (watch(&api, ctl, &subject, &view, err) < 0 ||
        (!ctl_flag(ctl, "--json") && list_all_failed(&api, &view, err) < 0)) {
        return -1;
    }
    ctl->exit = ctl_flag(ctl, "--watch") && view.failed > 0 ? CTL_PARTLY : CTL_OK;
    return 0;
}
