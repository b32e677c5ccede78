/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl retry: what failed, of files, of an upload or of a dataset; or all anew from a stage.
 */
#include <stdio.h>
#include <string.h>

#include "services/docfleetctl/client.h"

struct retry {
    const struct api *api;
    json_t *body; /* {from}, or empty */
    long long files;
};

static int retry_file(void *ctx, const json_t *file, struct err *err)
{
    CLEANUP(json_cleanup) json_t *answer = NULL;
    CLEANUP(buf_done) struct buf path;
    struct retry *retry = ctx;
    const char *id = json_is_string(file) ? json_string_value(file) : api_text(file, "id");

    buf_init(&path, 256);
    if (api_path(&path, "/files/", id, "/retry", err) < 0 ||
        api_call(retry->api, "POST", path.data, retry->body, &answer, err) < 0) {
        return -1;
    }
    retry->files += api_int(answer, "retried") > 0;
    return 0;
}

/* The gateway does a bounded share at a call. */
static int retry_failed(struct retry *retry, const char *path, struct err *err)
{
    bool more = true;

    while (more) {
        CLEANUP(json_cleanup) json_t *answer = NULL;
        if (api_call(retry->api, "POST", path, retry->body, &answer, err) < 0) {
            return -1;
        }
        retry->files += (long long)api_int(answer, "retried");
        more = json_is_true(json_object_get(answer, "more"));
    }
    return 0;
}

/* All files of a batch or dataset, one by one: only a single file can be done anew. */
static int retry_each(struct retry *retry, const char *batch, const char *dataset, struct err *err)
{
    CLEANUP(json_cleanup) json_t *doc = NULL;
    CLEANUP(buf_done) struct buf path;

    buf_init(&path, 512);
    if (batch) {
        if (api_path(&path, "/batches/", batch, "/summary", err) < 0 ||
            api_call(retry->api, "GET", path.data, NULL, &doc, err) < 0) {
            return -1;
        }
        dataset = api_text(doc, "datasetId");
        buf_reset(&path);
    }
    if (api_path(&path, "/datasets/", dataset, "/files?limit=200&sort=createdAt", err) < 0 ||
        (batch && buf_printf(&path, err, "&batchId=%s", batch) < 0)) {
        return -1;
    }
    return api_each(retry->api, path.data, retry_file, retry, err);
}

static int retry_all(struct retry *retry, const struct ctl *ctl, struct err *err)
{
    const char *batch = ctl_option(ctl, "--batch"), *dataset = ctl_option(ctl, "--dataset");
    CLEANUP(buf_done) struct buf path;

    for (int i = 0; i < ctl->argc; i++) {
        CLEANUP(json_cleanup) json_t *id = json_string(ctl->argv[i]);
        if (!id || retry_file(retry, id, err) < 0) {
            return id ? -1 : err_set(err, ERR_PERMANENT, "usage", "not an id");
        }
    }
    if (ctl->argc > 0) {
        return 0;
    }
    if (ctl_option(ctl, "--from")) {
        return retry_each(retry, batch, dataset, err);
    }
    buf_init(&path, 256);
    return (batch ? api_path(&path, "/batches/", batch, "/retry", err)
                  : api_path(&path, "/datasets/", dataset, "/files/retry", err)) < 0
               ? -1
               : retry_failed(retry, path.data, err);
}

int ctl_retry(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *body = json_object();
    const char *from = ctl_option(ctl, "--from");
    struct retry retry = {.api = &api, .body = body};
    int ways = (ctl->argc > 0) + ctl_flag(ctl, "--batch") + ctl_flag(ctl, "--dataset");

    if (ways != 1) {
        return err_set(err, ERR_PERMANENT, "usage",
                       "say what: file ids, --batch ID or --dataset ID, one of them");
    }
    if (from && json_object_set_new(body, "from", json_string(from)) < 0) {
        return err_nomem(err);
    }
    if (api_open(ctl, false, &api, err) < 0 || retry_all(&retry, ctl, err) < 0) {
        return -1;
    }
    if (ctl_flag(ctl, "--json")) {
        printf("{\"retried\":%lld}\n", retry.files);
    } else {
        printf("%lld files go again\n", retry.files);
    }
    return 0;
}
