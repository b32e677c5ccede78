/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service side of the jail: runs one unit in a one-shot child of the zygote and turns whatever
 * happens to that child into a plain error.
 * Invariant: bytes from users are parsed only by such a child; a result counts only when the child
 * left with status 0 and a complete frame stream. It refuses to start once threads exist.
 */
#pragma once

#include "libcommon/frames.h"

#include <stdatomic.h>

struct jail; /* opaque, thread-safe after jail_start */

/* Zero members take the jail's defaults (512 MB, 30 s, three times the CPU limit, 64 MB unless
 * jail_start was given others). */
struct jail_limits {
    uint64_t as_bytes;  /* RLIMIT_AS */
    unsigned cpu_s;     /* RLIMIT_CPU; a quarter more is granted for ticks */
    unsigned wall_ms;   /* then SIGKILL; 0: three times the CPU limit */
    uint64_t out_bytes; /* RLIMIT_FSIZE and the reader's maximum */
};

struct jail_request {
    const char *op;
    const json_t *params;      /* borrowed; may be NULL */
    int input_fd;              /* borrowed; -1 for none; only its read-only duplicate is sent */
    int aux_fd;                /* borrowed; -1 for none */
    struct jail_limits limits; /* zero members take the jail's defaults */
    const atomic_bool *cancel; /* may be NULL; becoming true kills the child */
};

struct jail_usage {
    uint64_t cpu_us;
    uint64_t max_rss;   /* bytes */
    int signal;         /* that ended it, or 0 */
    const char *reason; /* static: ok, error, crash, sigsys, memory, cpu, wall, output, cancelled */
};

/* Execs the zygote program `path` (absolute, or beside the running program when it has no slash)
 * and waits at most 30 s for its hello. Call in main before any thread (else ERR_FATAL). The zygote
 * gets a short environment of its own; of ours only TMPDIR, TESSDATA_PREFIX, FONTCONFIG_FILE,
 * FONTCONFIG_PATH and the sanitizers' options. */
int jail_start(const char *path, const struct jail_limits *defaults, struct jail **ret_jail,
               struct err *err) WARN_UNUSED;
/* Ends the zygote and what runs in it, by force after a second. No run may be on. Takes NULL. */
void jail_free(struct jail *jail);

/* Runs one unit and waits for it. On 0 *ret_frames holds the stream (caller frees). On -1:
 *   error frame                      -> its class and code
 *   SIGSYS                           -> ERR_PERMANENT "child_crashed", the message has the call
 *   memory or output limit           -> ERR_PERMANENT "expands_too_much" (also for an operation
 *                                       that reports err_nomem: the lack is its own)
 *   other signal, exit != 0, broken or unfinished frames
 *                                    -> ERR_UNKNOWN "child_crashed"
 *   CPU or wall limit                -> ERR_UNKNOWN "child_timeout"
 *   zygote gone (it is restarted)    -> ERR_TRANSIENT "jail_restarted"
 *   cancelled                        -> ERR_TRANSIENT "cancelled"
 * ret_usage may be NULL; it is filled in every case. */
int jail_run(struct jail *jail, const struct jail_request *request, struct frames **ret_frames,
             struct jail_usage *ret_usage, struct err *err) WARN_UNUSED;

/* True when a wall of the cage is missing on this kernel (no Landlock, no user namespace for
 * office): exported as docfleet_jail_degraded. */
bool jail_degraded(const struct jail *jail);
/* The zygote's pid, for tests and metrics. */
int jail_pid(const struct jail *jail);

DEFINE_CLEANUP(struct jail *, jail_cleanup, jail_free)
