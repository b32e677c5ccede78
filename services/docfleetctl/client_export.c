/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl export: a dataset's rows as the gateway makes them, and its list of files.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "services/docfleetctl/client.h"

int ctl_export_records(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(buf_done) struct buf path;
    CLEANUP(out_done) struct out_file out = OUT_FILE_INIT;
    const char *format = ctl_option(ctl, "--format"), *rows = ctl_option(ctl, "--rows");

    buf_init(&path, 16384);
    if (api_path(&path, "/datasets/", ctl_option(ctl, "--dataset"), "/records?format=", err) < 0 ||
        buf_puts(&path, format ? format : "csv", err) < 0 ||
        (rows &&
         (buf_puts(&path, "&rows=", err) < 0 || http_encode(&path, rows, false, err) < 0)) ||
        api_open(ctl, false, &api, err) < 0 || out_open(ctl_option(ctl, "--out"), &out, err) < 0 ||
        api_print_to(&api, path.data, out.fd, err) < 0) {
        return -1;
    }
    return out_commit(&out, err);
}

/* Files -----------------------------------------------------------------------------------------*/

struct listing {
    FILE *out;
    bool csv;
};

/* A cell that a spreadsheet would run as a formula gets an apostrophe. */
static void put_cell(FILE *out, const char *text, bool last)
{
    bool guard = *text && strchr("=+-@\t\r", *text) != NULL;

    if (guard || strpbrk(text, ",\"\r\n")) {
        fputs(guard ? "\"'" : "\"", out);
        for (; *text; text++) {
            fputs(*text == '"' ? "\"\"" : (char[]){*text, '\0'}, out);
        }
        putc('"', out);
    } else {
        fputs(text, out);
    }
    fputs(last ? "\r\n" : ",", out);
}

static const json_t *failed_pipeline(const json_t *file)
{
    static const char *const names[] = {"main", "preview", "thumbnail"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const json_t *pipe = json_object_get(json_object_get(file, "pipelines"), names[i]);
        if (strcmp(api_text(pipe, "state"), "failed") == 0) {
            return pipe;
        }
    }
    return NULL;
}

static int put_file(void *ctx, const json_t *file, struct err *err)
{
    static const char *const columns[] = {"id",     "name",    "state",     "mime",
                                          "sha256", "batchId", "createdAt", "updatedAt"};
    const struct listing *list = ctx;
    const json_t *pipe = failed_pipeline(file);
    const json_t *error = json_object_get(pipe, "error");
    char size[32];

    if (!list->csv) {
        json_dumpf(file, list->out, JSON_COMPACT);
        putc('\n', list->out);
    } else {
        for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
            const char *text = json_string_value(json_object_get(file, columns[i]));
            put_cell(list->out, text ? text : "", false);
        }
        snprintf(size, sizeof(size), "%lld", (long long)api_int(file, "size"));
        put_cell(list->out, size, false);
        put_cell(list->out, api_text(pipe, "stage"), false);
        put_cell(list->out, api_text(error, "code"), false);
        put_cell(list->out, api_text(error, "detail"), true);
    }
    return ferror(list->out) ? err_set(err, ERR_UNKNOWN, "io", "the list cannot be written") : 0;
}

int ctl_export_files(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(buf_done) struct buf path;
    CLEANUP(out_done) struct out_file out = OUT_FILE_INIT;
    const char *format = ctl_option(ctl, "--format"), *state = ctl_option(ctl, "--state");
    const char *batch = ctl_option(ctl, "--batch");
    struct listing list = {.csv = !format || strcmp(format, "csv") == 0};

    buf_init(&path, 4096);
    if (api_path(&path, "/datasets/", ctl_option(ctl, "--dataset"), "/files?limit=200", err) < 0 ||
        buf_puts(&path, "&sort=createdAt", err) < 0 ||
        (state && buf_printf(&path, err, "&state=%s", state) < 0) ||
        (batch && api_path(&path, "&batchId=", batch, "", err) < 0) ||
        api_open(ctl, false, &api, err) < 0 || out_open(ctl_option(ctl, "--out"), &out, err) < 0) {
        return -1;
    }
    list.out = fdopen(dup(out.fd), "w");
    if (!list.out) {
        return err_nomem(err);
    }
    if (list.csv) {
        fputs("id,name,state,mime,sha256,batchId,createdAt,updatedAt,size,failedStage,error,detail"
              "\r\n",
              list.out);
    }
    int rc = api_each(&api, path.data, put_file, &list, err);
    if (fclose(list.out) != 0 && rc == 0) {
        rc = err_set(err, ERR_UNKNOWN, "io", "the list cannot be written");
    }
    return rc < 0 ? -1 : out_commit(&out, err);
}
