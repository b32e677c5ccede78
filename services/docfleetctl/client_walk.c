/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the files to upload.
 */
#include "services/docfleetctl/client_walk.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "services/docfleetctl/client.h"

void walk_done(struct walk *walk)
{
    for (size_t i = 0; i < walk->n; i++) {
        free(walk->files[i].path);
        free(walk->files[i].key);
    }
    for (size_t i = 0; i < walk->n_roots; i++) {
        free(walk->roots[i]);
    }
    free(walk->files);
    free(walk->roots);
    *walk = (struct walk){0};
}

/* path begins with the `root_len` bytes that were named; the last root is what they really are. */
static int add_file(struct walk *walk, const char *path, size_t root_len, const struct stat *st,
                    struct err *err)
{
    if (walk->n >= WALK_FILES_MAX) {
        return err_set(err, ERR_PERMANENT, "too_many_files", "more than %u files in one upload",
                       WALK_FILES_MAX);
    }
    if (walk->n == walk->cap) {
        size_t cap = walk->cap ? walk->cap * 2 : 256;
        struct walk_file *files = realloc(walk->files, cap * sizeof(*files));
        if (!files) {
            return err_nomem(err);
        }
        walk->files = files;
        walk->cap = cap;
    }
    CLEANUP(free_cleanup) char *copy = strdup(path);
    CLEANUP(buf_done) struct buf key;
    buf_init(&key, 65536);
    if (!copy) {
        return err_nomem(err);
    }
    if (buf_printf(&key, err, "%s%s", walk->roots[walk->n_roots - 1], path + root_len) < 0) {
        return -1;
    }
    const char *slash = strrchr(copy, '/');
    walk->bytes += (uint64_t)st->st_size;
    walk->files[walk->n++] = (struct walk_file){
        .path = copy,
        .key = buf_steal(&key),
        .name = slash ? slash + 1 : copy,
        .size = (uint64_t)st->st_size,
        .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec};
    copy = NULL;
    return 0;
}

static int unreadable(struct walk *walk, const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", api_clean(path), why);
    walk->unreadable++;
    return 0;
}

static int visit(struct walk *walk, const char *path, size_t root_len, int depth, struct err *err);

static int visit_folder(struct walk *walk, const char *path, size_t root_len, int depth,
                        struct err *err)
{
    struct dirent **list = NULL;
    int rc = 0;

    if (depth >= WALK_DEPTH_MAX) {
        return unreadable(walk, path, "folders are nested too deeply");
    }
    int n = scandir(path, &list, NULL, alphasort);
    if (n < 0) {
        return unreadable(walk, path, strerror(errno)); /* NOLINT(concurrency-mt-unsafe) */
    }
    for (int i = 0; i < n; i++) {
        const char *name = list[i]->d_name;
        if (name[0] == '.') {
            walk->hidden += strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
        } else if (rc == 0) {
            CLEANUP(buf_done) struct buf child;
            const char *slash = path[strlen(path) - 1] == '/' ? "" : "/";
            buf_init(&child, 65536);
            rc = buf_printf(&child, err, "%s%s%s", path, slash, name);
            rc = rc == 0 ? visit(walk, child.data, root_len, depth + 1, err) : rc;
        }
        free(list[i]);
    }
    free(list);
    return rc;
}

static int visit(struct walk *walk, const char *path, size_t root_len, int depth, struct err *err)
{
    struct stat st;

    if (lstat(path, &st) < 0) {
        return unreadable(walk, path, strerror(errno)); /* NOLINT(concurrency-mt-unsafe) */
    }
    if (S_ISREG(st.st_mode)) {
        return add_file(walk, path, root_len, &st, err);
    }
    if (S_ISDIR(st.st_mode)) {
        return visit_folder(walk, path, root_len, depth, err);
    }
    if (depth == 0) {
        return unreadable(walk, path,
                          S_ISLNK(st.st_mode) ? "a symbolic link is not followed"
                                              : "neither a file nor a folder");
    }
    walk->links += S_ISLNK(st.st_mode) ? 1 : 0;
    walk->others += S_ISLNK(st.st_mode) ? 0 : 1;
    return 0;
}

/* realpath, but of a path that is no link itself. */
static char *real_path(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && !S_ISLNK(st.st_mode) ? realpath(path, NULL) : NULL;
}

int walk_add(struct walk *walk, const char *path, struct err *err)
{
    CLEANUP(free_cleanup) char *copy = strdup(path);
    size_t len = strlen(path);

    if (len == 0) {
        return unreadable(walk, path, "an empty path");
    }
    while (copy && len > 1 && copy[len - 1] == '/') {
        copy[--len] = '\0';
    }
    char **roots = realloc(walk->roots, (walk->n_roots + 1) * sizeof(*roots));
    if (!copy || !roots) {
        return err_nomem(err);
    }
    walk->roots = roots;
    char *real = real_path(copy);
    walk->roots[walk->n_roots] = real ? real : strdup(copy);
    if (!walk->roots[walk->n_roots]) {
        return err_nomem(err);
    }
    walk->n_roots++;
    return visit(walk, copy, len, 0, err);
}
