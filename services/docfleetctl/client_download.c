/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl download: what the fleet has of files, into a folder.
 * Invariant: a name from the gateway never leads out of the folder, and a file there is whole.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/docfleetctl/client.h"

enum what { ORIGINAL = 1, TEXT = 2, RECORD = 4, PREVIEW = 8, THUMBNAIL = 16 };

static const struct {
    const char *name;
    enum what bit;
    const char *artifact; /* in the list's `artifacts`; NULL: always there */
    const char *rest, *suffix;
} kinds[] = {
    {"original", ORIGINAL, NULL, "/content", ""},
    {"text", TEXT, "text", "/text", ".txt"},
    {"record", RECORD, "record", "/record", ".json"},
    {"thumbnail", THUMBNAIL, "thumbnail", "/thumbnail?size=512", ".thumbnail.webp"},
};

struct download {
    const struct api *api;
    const char *folder;
    unsigned what;
    size_t files, fetched, there;
    bool terminal;
};

/* A name for this folder alone: no separators, no leading dot; the end of the id keeps files of one
 * name apart. */
static int local_name(const json_t *file, char *out, size_t size, struct err *err)
{
    const char *id = json_string_value(json_object_get(file, "id"));
    const char *name = json_string_value(json_object_get(file, "name"));
    size_t n = 0;

    if (!id || !uuid_valid(id) || !name) {
        return err_set(err, ERR_UNKNOWN, "malformed_answer", "a file without id or name");
    }
    const char *dot = strrchr(name, '.');
    size_t stem = dot && dot != name ? (size_t)(dot - name) : strlen(name);
    for (size_t i = 0; name[i] && i < 220 && n + 48 < size; i++) {
        unsigned char c = (unsigned char)name[i];
        if (i == stem) {
            n += (size_t)snprintf(out + n, size - n, ".%s", id + 24);
        }
        bool bad = c < 0x20 || c == 0x7f || c == '/' || c == '\\' || (i == 0 && c == '.');
        out[n++] = bad ? '_' : (char)c;
    }
    out[n] = '\0';
    if (stem >= strlen(name) || stem >= 220) {
        snprintf(out + n, size - n, ".%s", id + 24);
    }
    return 0;
}

static int fetch(struct download *d, const char *url, const char *name, const char *suffix,
                 struct err *err)
{
    CLEANUP(buf_done) struct buf path;
    CLEANUP(out_done) struct out_file out = OUT_FILE_INIT;

    buf_init(&path, 8192);
    if (buf_printf(&path, err, "%s/%s%s", d->folder, name, suffix) < 0) {
        return -1;
    }
    if (access(path.data, F_OK) == 0) {
        d->there++;
        return 0;
    }
    if (out_open(path.data, &out, err) < 0 || api_print_to(d->api, url, out.fd, err) < 0 ||
        out_commit(&out, err) < 0) {
        return -1;
    }
    d->fetched++;
    return 0;
}

static int fetch_pages(struct download *d, const json_t *file, const char *name, struct err *err)
{
    const json_t *preview = json_object_get(json_object_get(file, "artifacts"), "preview");
    int64_t pages = api_int(preview, "pages");

    for (int64_t page = 1; page <= pages; page++) {
        char url[160], suffix[48];
        snprintf(url, sizeof(url), "/files/%s/preview/%lld.webp", api_text(file, "id"),
                 (long long)page);
        snprintf(suffix, sizeof(suffix), ".page-%04lld.webp", (long long)page);
        if (fetch(d, url, name, suffix, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int fetch_file(void *ctx, const json_t *file, struct err *err)
{
    struct download *d = ctx;
    char name[512], url[160];

    if (local_name(file, name, sizeof(name), err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const json_t *has = json_object_get(json_object_get(file, "artifacts"), kinds[i].artifact);
        if (!(d->what & kinds[i].bit) || (kinds[i].artifact && (!has || json_is_null(has)))) {
            continue;
        }
        snprintf(url, sizeof(url), "/files/%s%s", api_text(file, "id"), kinds[i].rest);
        if (fetch(d, url, name, kinds[i].suffix, err) < 0) {
            return err_wrap(err, "%s", api_text(file, "name"));
        }
    }
    if ((d->what & PREVIEW) && fetch_pages(d, file, name, err) < 0) {
        return err_wrap(err, "%s", api_text(file, "name"));
    }
    d->files++;
    if (d->terminal) {
        fprintf(stderr, "\r\033[K%zu files", d->files);
    }
    return 0;
}

static int read_what(const struct ctl *ctl, unsigned *ret_what, struct err *err)
{
    const char *text = ctl_option(ctl, "--what");
    unsigned what = 0;

    for (const char *p = text ? text : "original"; *p;) {
        size_t n = strcspn(p, ","), i = 0;
        while (i < ARRAY_LEN(kinds) &&
               (strlen(kinds[i].name) != n || strncmp(kinds[i].name, p, n) != 0)) {
            i++;
        }
        bool preview = n == 7 && strncmp(p, "preview", 7) == 0;
        if (i == ARRAY_LEN(kinds) && !preview) {
            return err_set(err, ERR_PERMANENT, "usage",
                           "--what takes original, text, record, preview, thumbnail");
        }
        what |= preview ? (unsigned)PREVIEW : (unsigned)kinds[i].bit;
        p += n + (p[n] == ',');
    }
    *ret_what = what;
    return 0;
}

/* The list's address for a dataset or a batch. */
static int list_url(const struct ctl *ctl, const struct api *api, struct buf *url, struct err *err)
{
    CLEANUP(json_cleanup) json_t *doc = NULL;
    CLEANUP(buf_done) struct buf path;
    const char *batch = ctl_option(ctl, "--batch"), *dataset = ctl_option(ctl, "--dataset");

    buf_init(&path, 256);
    if (batch) {
        if (api_path(&path, "/batches/", batch, "/summary", err) < 0 ||
            api_call(api, "GET", path.data, NULL, &doc, err) < 0) {
            return -1;
        }
        dataset = api_text(doc, "datasetId");
    }
    return api_path(url, "/datasets/", dataset, "/files?limit=200&sort=createdAt", err) < 0
               ? -1
               : buf_printf(url, err, "%s%s", batch ? "&batchId=" : "", batch ? batch : "");
}

static int download_all(const struct ctl *ctl, struct download *d, struct err *err)
{
    CLEANUP(buf_done) struct buf url;

    for (int i = 0; i < ctl->argc; i++) {
        CLEANUP(json_cleanup) json_t *file = NULL;
        CLEANUP(buf_done) struct buf path;
        buf_init(&path, 256);
        if (api_path(&path, "/files/", ctl->argv[i], "", err) < 0 ||
            api_call(d->api, "GET", path.data, NULL, &file, err) < 0 ||
            fetch_file(d, file, err) < 0) {
            return -1;
        }
    }
    if (ctl->argc > 0) {
        return 0;
    }
    buf_init(&url, 512);
    return list_url(ctl, d->api, &url, err) < 0 ? -1
                                                : api_each(d->api, url.data, fetch_file, d, err);
}

int ctl_download(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    struct download d = {
        .api = &api, .folder = ctl_option(ctl, "--out"), .terminal = isatty(STDERR_FILENO) == 1};
    int ways = (ctl->argc > 0) + ctl_flag(ctl, "--batch") + ctl_flag(ctl, "--dataset");

    if (ways != 1) {
        return err_set(err, ERR_PERMANENT, "usage",
                       "say what: file ids, --batch ID or --dataset ID, one of them");
    }
    if (read_what(ctl, &d.what, err) < 0 || api_open(ctl, false, &api, err) < 0) {
        return -1;
    }
    if (mkdir(d.folder, 0777) < 0 && errno != EEXIST) {
        return err_from_errno(err, errno, "%s", api_clean(d.folder));
    }
    int rc = download_all(ctl, &d, err);
    if (d.terminal) {
        fputs("\r\033[K", stderr);
    }
    if (rc == 0) {
        printf("%zu files: %zu fetched, %zu were there\n", d.files, d.fetched, d.there);
    }
    return rc;
}
