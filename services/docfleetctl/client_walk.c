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
    }
    free(walk->files);
    *walk = (struct walk){0};
}

static int add_file(struct walk *walk, const char *path, uint64_t size, struct err *err)
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
    char *copy = strdup(path);
    if (!copy) {
        return err_nomem(err);
    }
    const char *slash = strrchr(copy, '/');
    walk->files[walk->n++] =
        (struct walk_file){.path = copy, .name = slash ? slash + 1 : copy, .size = size};
    return 0;
}

static int unreadable(struct walk *walk, const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", api_clean(path), why);
    walk->unreadable++;
    return 0;
}

static int visit(struct walk *walk, const char *path, int depth, struct err *err);

static int visit_folder(struct walk *walk, const char *path, int depth, struct err *err)
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
            rc = rc == 0 ? visit(walk, child.data, depth + 1, err) : rc;
        }
        free(list[i]);
    }
    free(list);
    return rc;
}

static int visit(struct walk *walk, const char *path, int depth, struct err *err)
{
    struct stat st;

    if (lstat(path, &st) < 0) {
        return unreadable(walk, path, strerror(errno)); /* NOLINT(concurrency-mt-unsafe) */
    }
    if (S_ISREG(st.st_mode)) {
        return add_file(walk, path, (uint64_t)st.st_size, err);
    }
    if (S_ISDIR(st.st_mode)) {
        return visit_folder(walk, path, depth, err);
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

int walk_add(struct walk *walk, const char *path, struct err *err)
{
    return *path ? visit(walk, path, 0, err) : unreadable(walk, path, "an empty path");
}
