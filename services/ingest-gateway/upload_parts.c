/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/upload.h"

#include "libcommon/fault.h"
#include "libcommon/jget.h"
#include "libcommon/log.h"
#include "libcommon/names.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MANIFEST_MAX ((size_t)1 << 20)
#define FILES_CAP (2U * UPLOAD_PARTS_MAX) /* parts, and those only the manifest names */

int upload_init(struct upload *u, struct request *req, bool dry, const struct quota *quota,
                struct err *err)
{
    *u = (struct upload){.req = req, .dry = dry, .quota = *quota, .hash = HASH_NONE};
    buf_init(&u->manifest, MANIFEST_MAX);
    u->files = calloc(FILES_CAP, sizeof(*u->files));
    return u->files ? 0 : err_nomem(err);
}

static void delete_objects(struct upload *u, bool keep)
{
    const char *keys[STORE_DELETE_MAX];
    struct err err = ERR_INIT;
    size_t n = 0;

    for (size_t i = 0; i < u->n_files && n < STORE_DELETE_MAX; i++) {
        const struct upload_file *f = &u->files[i];
        if (f->stored && (!keep || f->code[0] != '\0')) {
            keys[n++] = f->key;
        }
    }
    if (n > 0 && store_delete_many(u->req->gw->store, keys, n, &err) < 0) {
        log_err(LOG_WARN, "objects of a refused upload stay for the cleaner", &err);
    }
}

void upload_done(struct upload *u, bool keep)
{
    intake_done(&u->in);
    if (u->files) {
        delete_objects(u, keep);
    }
    for (size_t i = 0; u->files && i < u->n_files; i++) {
        free(u->files[i].name);
    }
    free(u->files);
    u->files = NULL;
    hash_done(&u->hash);
    buf_done(&u->manifest);
}

static void refuse(struct upload_file *f, const char *code, const char *detail)
{
    snprintf(f->code, sizeof(f->code), "%s", code);
    snprintf(f->detail, sizeof(f->detail), "%s", detail);
}

static bool name_used(const struct upload *u, const char *name)
{
    for (size_t i = 0; i + 1 < u->n_files; i++) {
        if (u->files[i].name && strcmp(u->files[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int begin_file(struct upload *u, const struct multipart_part *part, struct err *err)
{
    struct upload_file *f = &u->files[u->n_files++];
    struct err why = ERR_INIT;

    u->cur = f;
    u->before = u->quota;
    if (!part->filename) {
        refuse(f, "invalid_name", "the part has no file name");
        return 0;
    }
    name_for_display(part->filename, part->filename_len, f->shown, sizeof(f->shown));
    if (name_check(part->filename, part->filename_len, &why) < 0) {
        refuse(f, "invalid_name", why.msg);
        return 0;
    }
    if (name_used(u, part->filename)) {
        refuse(f, "invalid_name", "two parts of the same name");
        return 0;
    }
    f->name = strdup(part->filename);
    if (!f->name) {
        return err_nomem(err);
    }
    if (u->dry) {
        u->in.size = 0;
        hash_done(&u->hash);
        return hash_init(&u->hash, HASH_SHA256, err);
    }
    if (quota_take(&u->quota, QUOTA_FILES, 1, &why) < 0) {
        refuse(f, why.code, why.msg);
        return 0;
    }
    intake_begin(&u->in, u->req->gw->store, u->req->who.user_id, f->name,
                 u->req->gw->file_bytes_max);
    return 0;
}

static int on_begin(void *ctx, const struct multipart_part *part, struct err *err)
{
    struct upload *u = ctx;

    u->n_parts++;
    if (strcmp(part->name, "manifest") == 0) {
        if (u->n_parts > 1) {
            return err_set(err, ERR_PERMANENT, "bad_request",
                           "the part manifest comes first and once");
        }
        u->in_manifest = true;
        return 0;
    }
    if (strcmp(part->name, "file") != 0) {
        return err_set(err, ERR_PERMANENT, "bad_request",
                       "parts are named file, and the first may be named manifest");
    }
    if (u->n_files == UPLOAD_PARTS_MAX) {
        return err_set(err, ERR_PERMANENT, "too_many_parts", "more than %u files in one request",
                       UPLOAD_PARTS_MAX);
    }
    return begin_file(u, part, err);
}

/* What the file is refused for; the others of the request go on. -1 for anything else. */
static int refuse_for(struct upload_file *f, const struct err *why)
{
    if (why->class != ERR_PERMANENT ||
        (strcmp(why->code, "file_too_large") != 0 && strcmp(why->code, "quota_exceeded") != 0)) {
        return -1;
    }
    refuse(f, why->code, why->msg);
    return 0;
}

static int dry_data(struct upload *u, const char *data, size_t len, struct err *err)
{
    u->in.size += len;
    if (u->in.size > u->req->gw->file_bytes_max) {
        return err_set(err, ERR_PERMANENT, "file_too_large", "a file may have at most %llu bytes",
                       (unsigned long long)u->req->gw->file_bytes_max);
    }
    return hash_update(&u->hash, data, len, err);
}

/* A file that is too much for the account ends here; what follows of it is dropped. */
static int take_data(struct upload *u, const char *data, size_t len, struct err *err)
{
    struct quota quota = u->before;

    return quota_take_file(&quota, u->in.size + len, err) < 0 ||
                   intake_data(&u->in, data, len, err) < 0
               ? -1
               : 0;
}

static int file_data(struct upload *u, const char *data, size_t len, struct err *err)
{
    struct upload_file *f = u->cur;

    if (f->code[0] != '\0') {
        return 0;
    }
    int rc = u->dry ? dry_data(u, data, len, err) : take_data(u, data, len, err);
    f->size = u->in.size;
    return rc < 0 ? refuse_for(f, err) : 0;
}

static int on_data(void *ctx, const char *data, size_t len, struct err *err)
{
    struct upload *u = ctx;

    if (u->in_manifest) {
        if (len > MANIFEST_MAX - u->manifest.len) {
            return err_set(err, ERR_PERMANENT, "body_too_large", "the manifest exceeds 1 MiB");
        }
        return buf_append(&u->manifest, data, len, err);
    }
    return file_data(u, data, len, err);
}

static int on_end(void *ctx, struct err *err)
{
    struct upload *u = ctx;
    struct upload_file *f = u->cur;

    if (u->in_manifest) {
        u->in_manifest = false;
        return 0;
    }
    u->cur = NULL;
    if (f->code[0] == '\0' && f->size == 0) {
        refuse(f, "empty_file", "the file has no bytes");
    }
    if (f->code[0] != '\0') {
        u->quota = u->before; /* it takes nothing */
        return 0;
    }
    if (!u->dry && quota_take(&u->quota, QUOTA_BYTES, (int64_t)f->size, err) < 0) {
        return refuse_for(f, err);
    }
    if (u->dry) {
        return hash_final_hex(&u->hash, f->sha256, sizeof(f->sha256), err);
    }
    fault_point("gateway.before_put");
    if (intake_end(&u->in, err) < 0) {
        return -1;
    }
    f->stored = true;
    f->type = u->in.type;
    memcpy(f->id, u->in.id, sizeof(f->id));
    memcpy(f->key, u->in.key, sizeof(f->key));
    memcpy(f->sha256, u->in.sha256, sizeof(f->sha256));
    memcpy(f->etag, u->in.etag, sizeof(f->etag));
    fault_point("gateway.after_put");
    return 0;
}

const struct multipart_events upload_events = {on_begin, on_data, on_end};

int upload_check_quota(struct upload *u, struct db_conn *conn, struct err *err)
{
    struct quota quota;

    if (quota_lock(conn, u->req->who.user_id, &quota, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < u->n_files; i++) {
        struct upload_file *f = &u->files[i];
        if (f->code[0] == '\0' && quota_take_file(&quota, f->size, err) < 0 &&
            refuse_for(f, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Manifest --------------------------------------------------------------------------------------*/

static struct upload_file *find_file(struct upload *u, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (u->files[i].name && strcmp(u->files[i].name, name) == 0) {
            return &u->files[i];
        }
    }
    return NULL;
}

static int check_entry(struct upload *u, size_t n, const json_t *entry, struct err *err)
{
    const char *name = NULL;
    const char *sha = NULL;
    int64_t size = -1;

    if (!json_is_object(entry)) {
        return err_set(err, ERR_PERMANENT, "invalid_json", "an entry of the manifest is no object");
    }
    if (jget_str(entry, "name", 1024, &name, err) < 0 ||
        jget_opt_int(entry, "size", 0, INT64_MAX, -1, &size, err) < 0 ||
        jget_opt_str(entry, "sha256", 64, NULL, &sha, err) < 0) {
        return err_wrap(err, "manifest");
    }
    struct upload_file *f = find_file(u, n, name);
    if (!f) {
        f = &u->files[u->n_files++];
        name_for_display(name, strlen(name), f->shown, sizeof(f->shown));
        refuse(f, "upload_failed", "the manifest names it, but no part brought it");
    } else if (f->code[0] == '\0' && ((size >= 0 && (uint64_t)size != f->size) ||
                                      (sha && strcasecmp(sha, f->sha256) != 0))) {
        refuse(f, "hash_mismatch", "the bytes that came are not those of the manifest");
    }
    return 0;
}

int upload_check_manifest(struct upload *u, struct err *err)
{
    CLEANUP(json_cleanup) json_t *doc = NULL;
    size_t n = u->n_files;
    size_t i;
    json_t *entry;

    if (u->manifest.len == 0) {
        return 0;
    }
    if (jget_load(u->manifest.data, u->manifest.len, MANIFEST_MAX, &doc, err) < 0) {
        return err_wrap(err, "manifest");
    }
    if (!json_is_array(doc) || json_array_size(doc) > UPLOAD_PARTS_MAX) {
        return err_set(err, ERR_PERMANENT, "invalid_json",
                       "the manifest is an array of at most %u entries", UPLOAD_PARTS_MAX);
    }
    json_array_foreach(doc, i, entry)
    {
        if (check_entry(u, n, entry, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int upload_body_hash(const struct upload *u, char ret_hex[SHA256_HEX_SIZE], struct err *err)
{
    CLEANUP(hash_done) struct hash h = HASH_NONE;
    const char *path = u->req->uri.path;

    if (hash_init(&h, HASH_SHA256, err) < 0 || hash_update(&h, path, strlen(path) + 1, err) < 0 ||
        hash_update(&h, u->manifest.data ? u->manifest.data : "", u->manifest.len, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < u->n_files; i++) {
        const struct upload_file *f = &u->files[i];
        char line[512];
        int n = snprintf(line, sizeof(line), "\n%s|%llu|%s|%s", f->shown,
                         (unsigned long long)f->size, f->sha256, f->code);
        if (n < 0 || hash_update(&h, line, min_size((size_t)n, sizeof(line) - 1), err) < 0) {
            return -1;
        }
    }
    return hash_final_hex(&h, ret_hex, SHA256_HEX_SIZE, err);
}
