/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the zygote: the walls around a child. Everything slow is prepared once, in the
 * zygote; entering costs a few system calls.
 * Invariant: after cage_enter returned 0 there is no way back; after -1 the child must leave with
 * JAIL_EXIT_CAGE without having touched its input.
 */
#pragma once

#include "libcommon/zygote.h"

#include <linux/filter.h>
#include <sys/types.h>

/* The cages of all operations differ only by these flags. */
#define CAGE_KINDS 8U

/* Descriptors of the zygote itself start here, above all that belong to libraries. */
#define CAGE_FD_BASE 512

#define CAGE_FD_INPUT 3
#define CAGE_FD_OUTPUT 4
#define CAGE_FD_AUX 5

struct cage {
    unsigned flags;
    pid_t zygote;
    const char *const *read_paths;
    struct sock_fprog filter; /* instructions are malloc'd once and kept */
    int ruleset_fd;           /* Landlock; -1 when missing or made in the child (office) */
    int landlock_abi;         /* 0: this kernel has none */
    bool no_namespace;        /* office: no user namespace, units share TMPDIR */
};

struct cage_limits {
    uint64_t as_bytes;
    uint64_t out_bytes;
    uint32_t cpu_s;
};

/* In the zygote: compiles the filter and the ruleset for these flags. */
int cage_prepare(unsigned flags, const char *const *read_paths, struct cage *ret_cage,
                 struct err *err) WARN_UNUSED;

/* In the child, its descriptors in place at CAGE_FD_*: closes all others, sets the limits, drops
 * capabilities and locks the walls. */
int cage_enter(const struct cage *cage, const struct cage_limits *limits,
               struct err *err) WARN_UNUSED;

/* Whether this program can cage at all (a sanitizer's runtime cannot live in one). */
bool cage_has_filter(void);

/* zygote_filter.c: the syscall filter of a kind. Its program contains CAGE_PID_MARK where the
 * child's own pid belongs. */
#define CAGE_PID_MARK 0x5eed1d00U
int cage_filter_compile(unsigned flags, struct sock_fprog *ret_filter, struct err *err) WARN_UNUSED;
/* The handler for forbidden syscalls: notes the name behind the stream and dies of SIGSYS. */
void cage_filter_watch(void);

/* zygote_office.c: units that write files. Tries whether children can have namespaces here. */
bool office_namespace_works(const char *tmpdir);
/* In the child: namespaces of its own and an empty tmpfs over tmpdir, with the folders that the
 * library made there. */
int office_enter_namespace(const char *tmpdir, struct err *err) WARN_UNUSED;
/* In the zygote, without namespaces: removes what the last unit left. */
void office_wipe(const char *tmpdir);
