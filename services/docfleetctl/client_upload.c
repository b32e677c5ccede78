/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl upload: files and folders, in batches, streamed from disk by several workers, with a
 * journal beside, so that the same command goes on after any end.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "services/docfleetctl/upload.h"

static void tell_skipped(const struct walk *walk)
{
    if (walk->hidden + walk->links + walk->others > 0) {
        fprintf(stderr, "passed over: %zu hidden, %zu symbolic links, %zu of other kinds\n",
                walk->hidden, walk->links, walk->others);
    }
}

/* What nobody came to is neither refused nor failed. */
static int tell_totals(const struct upload *u, struct err *err)
{
    size_t failed = u->failed + u->walk.unreadable;
    size_t told = u->accepted + u->rejected + u->failed + u->before;
    size_t left = u->walk.n - min_size(u->walk.n, told);

    if (u->json) {
        CLEANUP(json_cleanup)
        json_t *doc = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "files",
                                (json_int_t)u->walk.n + (json_int_t)u->walk.unreadable, "accepted",
                                (json_int_t)u->accepted, "before", (json_int_t)u->before,
                                "rejected", (json_int_t)u->rejected, "failed", (json_int_t)failed,
                                "left", (json_int_t)left, "batches", (json_int_t)u->batches);
        return doc ? api_print_json(doc, err) : err_nomem(err);
    }
    printf("%zu files: %zu accepted, ", u->walk.n + u->walk.unreadable, u->accepted);
    if (u->before > 0) {
        printf("%zu uploaded before, ", u->before);
    }
    if (left > 0) {
        printf("%zu left, ", left);
    }
    printf("%zu refused, %zu failed, in %zu batches\n", u->rejected, failed, u->batches);
    return 0;
}

static int open_journal(struct upload *u, struct err *err)
{
    const char *named = ctl_option(u->ctl, "--journal");
    char path[4096];

    if (!named && journal_default_path(u->dataset, u->walk.roots, u->walk.n_roots, path,
                                       sizeof(path), err) < 0) {
        return -1;
    }
    return journal_open(named ? named : path, u->dataset, ctl_flag(u->ctl, "--again"), &u->journal,
                        err);
}

static int upload(struct upload *u, int parallel, struct err *err)
{
    struct err why = ERR_INIT, ignored = ERR_INIT;

    if (api_open(u->ctl, false, &u->api, err) < 0 || buf_puts(&u->url, u->api.base, err) < 0 ||
        api_path(&u->url, "/datasets/", u->dataset, "/files", err) < 0 ||
        open_journal(u, err) < 0 || upload_skip_accepted(u, err) < 0 ||
        (u->skip_known && upload_load_known(u, err) < 0)) {
        return -1;
    }
    u->api.tries_max = API_TRIES_LONG;
    int rc = upload_run(u, parallel, &why);
    tell_skipped(&u->walk);
    if (tell_totals(u, rc < 0 ? &ignored : err) < 0 && rc == 0) {
        return -1;
    }
    if (rc < 0) {
        *err = why;
        if (why.class == ERR_TRANSIENT) {
            size_t n = strlen(err->msg);
            snprintf(err->msg + n, sizeof(err->msg) - n,
                     "; the same command goes on where it stopped");
        }
        return -1;
    }
    return u->rejected + u->failed + u->walk.unreadable > 0
               ? err_set(err, ERR_PERMANENT, "partly", "not every file was taken")
               : 0;
}

int ctl_upload(struct ctl *ctl, struct err *err)
{
    struct upload u = {.ctl = ctl,
                       .dataset = ctl_option(ctl, "--dataset"),
                       .skip_known = ctl_flag(ctl, "--skip-known"),
                       .json = ctl_flag(ctl, "--json"),
                       .quiet = ctl_flag(ctl, "--quiet"),
                       .lock = PTHREAD_MUTEX_INITIALIZER,
                       .ended = PTHREAD_COND_INITIALIZER};
    int64_t parallel = 0;
    int rc = 0;

    if (!uuid_valid(u.dataset)) {
        return err_set(err, ERR_PERMANENT, "usage",
                       "not the id of a dataset: %s; docfleetctl dataset list shows them",
                       api_clean(u.dataset));
    }
    if (ctl_number(ctl, "--parallel", 1, PARALLEL_MAX, PARALLEL, &parallel, err) < 0) {
        return -1;
    }
    u.terminal = ctl_colours(ctl, STDERR_FILENO) && !u.quiet;
    buf_init(&u.url, 16384);
    for (int i = 0; i < ctl->argc && rc == 0; i++) {
        rc = walk_add(&u.walk, ctl->argv[i], err);
    }
    rc = rc == 0 ? upload(&u, (int)parallel, err) : rc;
    journal_free(u.journal);
    walk_done(&u.walk);
    strtab_done(&u.by_path);
    strtab_done(&u.known);
    buf_done(&u.url);
    api_close(&u.api);
    return rc;
}
