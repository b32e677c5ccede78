/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program side of the jail: a single-threaded zygote that has loaded its libraries once and
 * forks one caged child per unit. Linked into <service>-zygote programs only.
 * Invariant: the zygote never parses user bytes and never has a second thread; the child never
 * returns from its operation into anything but _exit.
 */
#pragma once

#include "libcommon/frames.h"

/* A child has /dev/null as 0, 1, 2 and only its input, output and second input besides, all but the
 * output read-only. A call that no cage foresees ends it (SIGSYS).
 *
 * CAGE_OFFICE: the zygote sets TMPDIR (and HOME, for reading, named in read_paths) to absolute
 * paths of its own before the loop; each child finds an empty TMPDIR with only the folders lu*.tmp
 * and lu*.tmp/lu*.tmp that were there, and keeps the library's own descriptors.
 *
 * What the cage of an operation lets through besides memory, its own descriptors and time. */
enum cage_flags {
    CAGE_PURE = 0,            /* opens nothing, one thread */
    CAGE_READ_FILES = 1 << 0, /* openat read-only below the zygote's read_paths (Landlock) */
    CAGE_THREADS = 1 << 1,    /* may start threads (libvips), never processes */
    CAGE_OFFICE = 1 << 2,     /* LibreOfficeKit's list: also writes below $TMPDIR */
};

/* One unit, in the child. */
struct jail_unit {
    const char *op;
    const json_t *params; /* object sent by the service, at most 32 KiB */
    int input_fd;         /* read-only, seekable; -1 when the unit has no input */
    uint64_t input_size;  /* bytes */
    int aux_fd;           /* second input or -1 */
    struct frame_writer *out;
};

/* Does the work and writes its frames, without the final "end" (the runtime writes an empty one
 * if the operation did not). On -1 the runtime writes the error frame from *err. */
typedef int (*zygote_op_fn)(struct jail_unit *unit, struct err *err);

struct zygote_op {
    const char *name;
    unsigned cage; /* enum cage_flags */
    zygote_op_fn run;
};

struct zygote {
    const char *name;
    /* Loads libraries and tables; must leave exactly one thread. */
    int (*warm)(struct err *err);
    const struct zygote_op *ops;
    size_t n_ops;
    const char *const *read_paths; /* NULL-terminated, for CAGE_READ_FILES */
    /* Optional: runs loop(arg) from inside a library's own main loop (LibreOfficeKit). */
    int (*enter)(int (*loop)(void *arg), void *arg, struct err *err);
};

/* The whole main() of a zygote program. argv as jail_start passes it. */
int zygote_main(int argc, char **argv, const struct zygote *zygote);

/* Helpers for operations. Maps the whole input read-only (kept until exit); at most max bytes,
 * else ERR_PERMANENT "file_too_large". An empty input maps to "" with length 0. */
int unit_map_input(struct jail_unit *unit, uint64_t max, const char **ret_data, size_t *ret_len,
                   struct err *err) WARN_UNUSED;
/* Parameters with defaults. */
int64_t unit_param_int(const struct jail_unit *unit, const char *name, int64_t fallback);
const char *unit_param_str(const struct jail_unit *unit, const char *name, const char *fallback);
