/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files below the paths of an upload, in a stable order.
 * Invariant: only regular files; symbolic links are never followed, hidden entries never taken.
 */
#pragma once

#include "libcommon/err.h"

#define WALK_FILES_MAX 1000000U
#define WALK_DEPTH_MAX 64

enum walk_state {
    WALK_TODO,
    WALK_TAKEN, /* in a batch, or done with */
};

struct walk_file {
    char *path;
    char *key;        /* absolute, for the journal */
    const char *name; /* inside path: what comes after the last slash */
    uint64_t size;
    int64_t mtime_ns;
    enum walk_state state;
};

struct walk {
    struct walk_file *files;
    size_t n, cap;
    char **roots; /* absolute, one for each path */
    size_t n_roots;
    size_t hidden, links, others; /* passed over */
    size_t unreadable;            /* told on stderr */
    uint64_t bytes;
};

/* A path that was named by hand may be hidden, but not a link. A file that two paths lead to is
 * there once. */
int walk_add(struct walk *walk, const char *path, struct err *err) WARN_UNUSED;
void walk_done(struct walk *walk);
