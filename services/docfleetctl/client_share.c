/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl share: links by which others download a file without an account.
 * Invariant: a new link is the only line on stdout; a password never comes from the command line,
 * where other processes could read it.
 */
#include "libcommon/password.h"
#include "services/docfleetctl/client.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

static int make_body(const struct ctl *ctl, json_t **ret_body, struct err *err)
{
    CLEANUP(json_cleanup) json_t *body = json_object();
    const char *file = ctl_option(ctl, "--password-file");
    char password[PASSWORD_BYTES_MAX + 3];
    int64_t days = 0;
    int64_t downloads = 0;

    if (ctl_number(ctl, "--days", 1, 3650, 0, &days, err) < 0 ||
        ctl_number(ctl, "--downloads", 1, 1000000, 0, &downloads, err) < 0) {
        return -1;
    }
    if ((days > 0 && json_object_set_new(body, "expiresInDays", json_integer(days)) < 0) ||
        (downloads > 0 && json_object_set_new(body, "maxDownloads", json_integer(downloads)) < 0)) {
        return err_nomem(err);
    }
    if (file || ctl_flag(ctl, "--password")) {
        if (ctl_read_password(file, password, sizeof(password), err) < 0) {
            return -1;
        }
        int rc = json_object_set_new(body, "password", json_string(password));
        sodium_memzero(password, sizeof(password));
        if (rc < 0) {
            return err_set(err, ERR_PERMANENT, "usage", "the password is not valid UTF-8");
        }
    }
    *ret_body = STEAL(body);
    return 0;
}

int ctl_share_create(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *body = NULL;
    CLEANUP(json_cleanup) json_t *made = NULL;
    CLEANUP(buf_done) struct buf path;

    buf_init(&path, 256);
    if (api_path(&path, "/files/", ctl->argv[0], "/share", err) < 0 ||
        make_body(ctl, &body, err) < 0 || api_open(ctl, false, &api, err) < 0 ||
        api_call(&api, "POST", path.data, body, &made, err) < 0) {
        return -1;
    }
    if (ctl_flag(ctl, "--json")) {
        return api_print_json(made, err);
    }
    fprintf(stderr, "link %s until %s; it is shown only this once\n", api_text(made, "id"),
            api_text(made, "expiresAt"));
    printf("%s\n", api_text(made, "shareUrl"));
    return 0;
}

static int print_link(void *ctx, const json_t *link, struct err *err)
{
    const bool *json = ctx;
    const bool revoked = *api_text(link, "revokedAt") != '\0';
    bool used_up = false;
    char most[32] = "";

    if (*json) {
        return api_print_json(link, err);
    }
    if (json_is_integer(json_object_get(link, "maxDownloads"))) {
        snprintf(most, sizeof(most), " of %lld", (long long)api_int(link, "maxDownloads"));
        used_up = api_int(link, "downloads") >= api_int(link, "maxDownloads");
    }
    printf(
        "%s  %s  %s %s  %lld%s downloads%s  %s\n", api_text(link, "id"), api_text(link, "fileId"),
        json_is_true(json_object_get(link, "open")) ? "open until"
        : revoked                                   ? "revoked"
        : used_up                                   ? "used up, was until"
                                                    : "ended",
        api_text(link, revoked ? "revokedAt" : "expiresAt"), (long long)api_int(link, "downloads"),
        most, json_is_true(json_object_get(link, "passwordProtected")) ? ", password" : "",
        api_text(link, "fileName"));
    return 0;
}

int ctl_share_list(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(buf_done) struct buf path;
    bool json = ctl_flag(ctl, "--json");

    buf_init(&path, 256);
    if ((ctl->argc > 0 ? api_path(&path, "/files/", ctl->argv[0], "/shares?limit=200", err)
                       : buf_puts(&path, "/shares?limit=200", err)) < 0 ||
        api_open(ctl, false, &api, err) < 0) {
        return -1;
    }
    return api_each(&api, path.data, print_link, &json, err);
}

int ctl_share_revoke(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(json_cleanup) json_t *answer = NULL;
    CLEANUP(buf_done) struct buf path;

    buf_init(&path, 256);
    if (api_path(&path, "/files/", ctl->argv[0], "", err) < 0 ||
        api_path(&path, "/shares/", ctl->argv[1], "", err) < 0 ||
        api_open(ctl, false, &api, err) < 0 ||
        api_call(&api, "DELETE", path.data, NULL, &answer, err) < 0) {
        return -1;
    }
    printf("%s is revoked\n", ctl->argv[1]);
    return 0;
}
