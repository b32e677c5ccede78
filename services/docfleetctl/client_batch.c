/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl batch and receipt: stop or repeat an upload's work, keep its receipt, and check a
 * receipt that was kept, which needs no service.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/receipt.h"
#include "libcommon/sha256.h"
#include "services/docfleetctl/client.h"

#define RECEIPT_MAX ((size_t)256 << 20)

static int change(struct ctl *ctl, const char *verb, const char *done, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(buf_done) struct buf path;
    long long n = 0;
    bool more = true;

    buf_init(&path, 256);
    if (api_path(&path, "/batches/", ctl->argv[0], verb, err) < 0 ||
        api_open(ctl, false, &api, err) < 0) {
        return -1;
    }
    while (more) {
        CLEANUP(json_cleanup) json_t *answer = NULL;
        if (api_call(&api, "POST", path.data, NULL, &answer, err) < 0) {
            return -1;
        }
        n += (long long)api_int(answer, done);
        more = json_is_true(json_object_get(answer, "more"));
    }
    printf("%lld files %s\n", n, done);
    return 0;
}

int ctl_batch_cancel(struct ctl *ctl, struct err *err)
{
    return change(ctl, "/cancel", "cancelled", err);
}

int ctl_batch_retry(struct ctl *ctl, struct err *err)
{
    return change(ctl, "/retry", "retried", err);
}

int ctl_receipt(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(buf_done) struct buf path;
    CLEANUP(out_done) struct out_file out = OUT_FILE_INIT;
    bool csv = ctl_flag(ctl, "--csv");

    buf_init(&path, 256);
    if (api_path(&path, "/batches/", ctl->argv[0],
                 csv ? "/receipt?format=csv" : "/receipt?format=json", err) < 0 ||
        api_open(ctl, false, &api, err) < 0 || out_open(ctl_option(ctl, "--out"), &out, err) < 0 ||
        api_print_to(&api, path.data, out.fd, err) < 0) {
        return -1;
    }
    return out_commit(&out, err);
}

static int read_file(const char *path, struct buf *buf, struct err *err)
{
    char chunk[65536];
    size_t n;
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    int rc = 0;

    if (!f) {
        return err_set(err, ERR_PERMANENT, "usage", "cannot open %s", api_clean(path));
    }
    while (rc == 0 && (n = fread(chunk, 1, sizeof(chunk), f)) > 0) {
        rc = buf_append(buf, chunk, n, err);
    }
    if (f != stdin) {
        fclose(f);
    }
    return rc < 0 ? -1 : buf_append(buf, "", 0, err);
}

static int check_json(const struct buf *text, struct err *err)
{
    CLEANUP(json_cleanup) json_t *doc = NULL;
    char hex[SHA256_HEX_SIZE];
    int64_t files = 0, refused = 0, bytes = 0;
    size_t i;
    json_t *line;

    if (jget_load(text->data, text->len, RECEIPT_MAX, &doc, err) < 0) {
        return -1;
    }
    const json_t *totals = json_object_get(doc, "totals");
    const json_t *lines = json_object_get(doc, "lines");
    if (strcmp(api_text(doc, "format"), "docfleet-receipt-1") != 0 || !json_is_array(lines)) {
        return err_set(err, ERR_PERMANENT, "receipt", "this is no receipt");
    }
    json_array_foreach(lines, i, line)
    {
        bool file = strcmp(api_text(line, "kind"), "file") == 0;
        files += file;
        refused += !file;
        bytes += file ? api_int(line, "size") : 0;
    }
    if (files + api_int(totals, "forgotten") != api_int(totals, "accepted") ||
        refused != api_int(totals, "rejected") || bytes != api_int(totals, "bytes") ||
        api_int(totals, "accepted") + api_int(totals, "rejected") != api_int(totals, "total")) {
        return err_set(err, ERR_PERMANENT, "receipt", "the totals are not those of the lines");
    }
    if (receipt_digest(lines, hex, err) < 0) {
        return -1;
    }
    if (strcmp(hex, api_text(json_object_get(doc, "digest"), "value")) != 0) {
        return err_set(err, ERR_PERMANENT, "receipt", "the lines are not those that were written");
    }
    printf("%zu lines, totals and digest are right%s\n", json_array_size(lines),
           json_is_true(json_object_get(doc, "final")) ? "" : "; some files were still in work");
    return 0;
}

/* The last line holds the digest of what is before it. */
static int check_csv(const struct buf *text, struct err *err)
{
    char hex[SHA256_HEX_SIZE];
    size_t end = text->len;

    while (end > 0 && (text->data[end - 1] == '\n' || text->data[end - 1] == '\r')) {
        end--;
    }
    while (end > 0 && text->data[end - 1] != '\n') {
        end--;
    }
    if (end == 0 || !strstr(text->data + end, "sha256 of the lines above")) {
        return err_set(err, ERR_PERMANENT, "receipt", "this is no receipt");
    }
    if (sha256_hex(text->data, end, hex, err) < 0) {
        return -1;
    }
    if (!strstr(text->data + end, hex)) {
        return err_set(err, ERR_PERMANENT, "receipt", "the lines are not those that were written");
    }
    printf("the digest is right\n");
    return 0;
}

int ctl_receipt_check(struct ctl *ctl, struct err *err)
{
    CLEANUP(buf_done) struct buf text;

    buf_init(&text, RECEIPT_MAX);
    if (read_file(ctl->argv[0], &text, err) < 0) {
        return -1;
    }
    const char *s = text.data;
    if (!s) {
        return err_set(err, ERR_PERMANENT, "receipt", "the file is empty");
    }
    return s[strspn(s, " \t\r\n")] == '{' ? check_json(&text, err) : check_csv(&text, err);
}
