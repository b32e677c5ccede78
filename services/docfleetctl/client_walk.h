/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files below the paths of an upload, in a stable order.
 * Invariant: only regular files; symbolic links are never followed, hidden entries never taken.
 */
#pragma once

#include "libcommon/err.h"

#define WALK_FILES_MAX 1000000U
#define WALK_DEPTH_MAX 64

struct walk_file {
    char *path;
    const char *name; /* inside path: what comes after the last slash */
    uint64_t size;
    bool sent;
};

struct walk {
    struct walk_file *files;
    size_t n, cap;
    size_t hidden, links, others; /* passed over */
    size_t unreadable;            /* told on stderr */
};

/* A path that was named by hand may be hidden, but not a link. */
int walk_add(struct walk *walk, const char *path, struct err *err) WARN_UNUSED;
void walk_done(struct walk *walk);
