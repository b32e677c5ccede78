/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is still to be sent: the journal's plans without an end first, under their own keys, then
 * what nobody has taken yet.
 */
#include "services/docfleetctl/upload.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The gateway forgets an Idempotency-Key after 24 hours: then a plan is not sent again under it. */
#define KEY_AGE_MS (23LL * 3600 * 1000)

int upload_digest(const struct walk_file *file, char ret_hex[SHA256_HEX_SIZE], struct err *err)
{
    CLEANUP(fd_cleanup) int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_set(err, ERR_PERMANENT, "unreadable", "cannot read %s", api_clean(file->path));
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != file->size ||
        sha256_fd_hex(fd, 0, file->size, ret_hex, err) < 0) {
        return err_set(err, ERR_PERMANENT, "changed", "%s has changed since it was looked at",
                       api_clean(file->path));
    }
    return 0;
}

/* By size and time, or where only the time differs by contents. */
static bool unchanged(const struct walk_file *file, const struct journal_file *was)
{
    char hex[SHA256_HEX_SIZE];
    struct err ignored = ERR_INIT;

    if (file->size != was->size) {
        return false;
    }
    return file->mtime_ns == was->mtime_ns ||
           (upload_digest(file, hex, &ignored) == 0 && strcmp(hex, was->sha256) == 0);
}

int upload_skip_accepted(struct upload *u, struct err *err)
{
    for (size_t i = 0; i < u->walk.n; i++) {
        struct walk_file *file = &u->walk.files[i];
        size_t other = 0;
        if (strtab_get(&u->by_path, file->key, &other)) { /* two paths lead to it */
            file->state = WALK_TAKEN;
            u->before++;
            continue;
        }
        if (strtab_put(&u->by_path, file->key, i, err) < 0) {
            return -1;
        }
        const struct journal_file *was = journal_accepted(u->journal, file->key);
        if (was && unchanged(file, was)) {
            file->state = WALK_TAKEN;
            u->before++;
        }
    }
    return 0;
}

/* What the dataset has
 * -----------------------------------------------------------------------------*/

static int known_key(const char *name, const char *sha256, struct buf *buf, struct err *err)
{
    buf_init(buf, 4096);
    return buf_printf(buf, err, "%s/%s", sha256, name);
}

static int add_known(void *ctx, const json_t *file, struct err *err)
{
    struct upload *u = ctx;
    CLEANUP(buf_done) struct buf key;
    const char *name = json_string_value(json_object_get(file, "name"));
    const char *sha = json_string_value(json_object_get(file, "sha256"));

    if (!name || !sha) {
        return 0;
    }
    return known_key(name, sha, &key, err) < 0 ? -1 : strtab_put(&u->known, key.data, 1, err);
}

int upload_load_known(struct upload *u, struct err *err)
{
    CLEANUP(buf_done) struct buf path;

    if (u->known_loaded) {
        return 0;
    }
    buf_init(&path, 256);
    if (api_path(&path, "/datasets/", u->dataset, "/files?limit=200&sort=createdAt", err) < 0 ||
        api_each(&u->api, path.data, add_known, u, err) < 0) {
        return -1;
    }
    u->known_loaded = true;
    return 0;
}

bool upload_is_known(const struct upload *u, const char *name, const char *sha256)
{
    CLEANUP(buf_done) struct buf key;
    struct err ignored = ERR_INIT;
    size_t value = 0;

    return known_key(name, sha256, &key, &ignored) == 0 && strtab_get(&u->known, key.data, &value);
}

/* Plans -----------------------------------------------------------------------------------------*/

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* Too old for its key: what the dataset has of it has come, the rest is sent anew. */
static int settle_old(struct upload *u, const struct journal_plan *plan, struct err *err)
{
    bool missing[JOURNAL_BATCH_MAX] = {false};

    if (upload_load_known(u, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < plan->n; i++) {
        const struct journal_file *was = &plan->files[i];
        size_t at = 0;
        missing[i] = !upload_is_known(u, base_name(was->path), was->sha256);
        if (!missing[i] && strtab_get(&u->by_path, was->path, &at) &&
            u->walk.files[at].state == WALK_TODO && unchanged(&u->walk.files[at], was)) {
            u->walk.files[at].state = WALK_TAKEN;
            u->before++;
        }
    }
    return journal_done(u->journal, plan->key, "", missing, plan->n, err);
}

/* The plan's files that are as they were, under the plan's key. When some are not, an earlier
 * request that was accepted makes the gateway say "idempotency_conflict", and it is known that all
 * of them are there. */
static int resume(struct upload *u, const struct journal_plan *plan, struct batch *batch,
                  struct err *err)
{
    if (clock_wall_ms() - plan->at_ms > KEY_AGE_MS || plan->n > BATCH_FILES) {
        return settle_old(u, plan, err);
    }
    for (size_t i = 0; i < plan->n; i++) {
        size_t at = 0;
        if (!strtab_get(&u->by_path, plan->files[i].path, &at)) {
            continue;
        }
        struct walk_file *file = &u->walk.files[at];
        if (file->state == WALK_TODO && unchanged(file, &plan->files[i])) {
            file->state = WALK_TAKEN;
            memcpy(batch->sha256[batch->n], plan->files[i].sha256, SHA256_HEX_SIZE);
            batch->files[batch->n++] = file;
        }
    }
    if (batch->n == 0) {
        return journal_drop(u->journal, plan->key, err);
    }
    memcpy(batch->key, plan->key, UUID_TEXT);
    batch->resumed = true;
    batch->planned = batch->n == plan->n;
    return 0;
}

static bool name_in_batch(const struct batch *batch, const char *name)
{
    for (size_t i = 0; i < batch->n; i++) {
        if (strcmp(batch->files[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

int upload_next(struct upload *u, struct batch *batch, struct err *err)
{
    const struct journal_plan *plans = NULL;
    size_t n = journal_plans(u->journal, &plans);
    uint64_t bytes = 0;

    batch->n = 0;
    batch->resumed = batch->planned = false;
    while (u->next_plan < n) {
        const struct journal_plan *plan = &plans[u->next_plan++];
        if (!plan->ended && resume(u, plan, batch, err) < 0) {
            return -1;
        }
        if (batch->n > 0) {
            return 0;
        }
    }
    uuid_v7(batch->key);
    while (u->next < u->walk.n && u->walk.files[u->next].state == WALK_TAKEN) {
        u->next++;
    }
    /* In order; of equal names one now, the others later. */
    for (size_t i = u->next; i < u->walk.n && batch->n < BATCH_FILES; i++) {
        struct walk_file *file = &u->walk.files[i];
        if (file->state == WALK_TAKEN || name_in_batch(batch, file->name)) {
            continue;
        }
        if (batch->n > 0 && bytes + file->size > BATCH_BYTES) {
            break;
        }
        file->state = WALK_TAKEN;
        bytes += file->size;
        batch->files[batch->n++] = file;
    }
    return 0;
}
