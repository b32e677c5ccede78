/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame of every worker: poll, claim, lease, run, end, drain. A stage only says what to do with
 * one unit; its error's class decides the unit's fate.
 * Invariant: a unit's results are written in the statement that ends it, under its lease token, or
 * not at all; an offset is committed only after its order was claimed or skipped.
 */
#pragma once

#include "libcommon/guard.h"
#include "libcommon/jail.h"
#include "libcommon/outcome.h"
#include "libcommon/service.h"
#include "libcommon/task.h"
#include "libcommon/trace.h"

struct stage_ctx {
    struct service *service;
    const void *options;        /* the stage's own struct */
    struct jail *jail;          /* NULL when the stage has none */
    struct jail *jail2;         /* preview-worker's office zygote */
    struct guard *guard;        /* breakers; NULL: none */
    struct health_dep provider; /* setup may name one more dependency; zeroed: none */
    void *state;                /* of the stage: made in setup, freed in teardown */
};

/* One claimed unit at work. */
struct job {
    struct stage_ctx *ctx;
    const struct task_claim *claim;
    atomic_bool cancel;      /* lease lost or grace over: give up soon */
    struct outcome *out;     /* what is written when handle returns 0 */
    int64_t retry_after_ms;  /* handle may set it with ERR_TRANSIENT: a provider's wish */
    char *ext_job_id;        /* handle may set it (malloc'd) and return STAGE_WAIT */
    struct jail_usage usage; /* of the last child, for the dead letter */
    struct trace_span *span; /* of the unit; its context is the thread's */
    struct job_puts *puts;   /* objects stored so far: deleted if the unit does not win */
};

/* handle's third answer beside 0 and -1: the unit waits for ext_job_id, retry_after_ms long. */
#define STAGE_WAIT 1

struct stage {
    enum stage_id id;
    const char *service;              /* "text-extractor" */
    const struct option_def *options; /* NULL: none */
    size_t n_options;
    void *options_target;
    const char *zygote; /* program name, or NULL */
    struct jail_limits limits;
    const char *zygote2;
    struct jail_limits limits2;
    bool store_required; /* for /readyz; false for a stage that can park without it */
    int (*setup)(struct stage_ctx *ctx, struct err *err);
    /* Does one unit; runs in a slot thread. 0: done, job->out is written; STAGE_WAIT; -1. */
    int (*handle)(struct job *job, struct err *err);
    /* Optional work of the process beside its units, called every tick_ms from a thread. */
    int (*tick)(struct stage_ctx *ctx, struct err *err);
    unsigned tick_ms;
    void (*teardown)(struct stage_ctx *ctx);
};

/* The whole main() of a worker. */
int stage_main(int argc, char **argv, const struct stage *stage);

/* Help for handlers -----------------------------------------------------------------------------*/

/* The file's bytes in an unlinked scratch file, position 0, length and SHA-256 checked against the
 * row. ERR_PERMANENT "input_gone" when the object is not there or not the same. */
int job_input(struct job *job, int *ret_fd, struct err *err) WARN_UNUSED;
/* Calls of a dependency go between these two: enter refuses while its breaker is open, and says
 * when to come back (job->retry_after_ms); leave is told the result. job_fetch, _input, _put and
 * _artifact do it themselves. */
int job_enter(struct job *job, enum guard_dep dep, struct err *err) WARN_UNUSED;
void job_leave(struct job *job, enum guard_dep dep, int r, const struct err *err);
/* The file's newest artifact of a kind (page 0: any) up to this generation, as job_fetch gives it.
 * 1: *ret_fd holds it; 0: there is none; -1. */
int job_artifact(struct job *job, const char *kind, int page, uint64_t max, int *ret_fd,
                 struct err *err) WARN_UNUSED;
/* Another object of the file (an artifact) in an unlinked scratch file; at most max bytes. */
int job_fetch(struct job *job, const char *key, uint64_t max, int *ret_fd,
              struct err *err) WARN_UNUSED;
/* Stores an object of this unit under artifacts/{file}/{generation}/{stage}/{unit}/{token}/{name};
 * *ret_key is owned by the job. */
int job_put(struct job *job, const char *name, const void *data, size_t len, const char *mime,
            const char **ret_key, struct err *err) WARN_UNUSED;
/* Runs a jailed operation with this job's cancel flag; counts kills. params is borrowed. */
int job_jail(struct job *job, struct jail *jail, const char *op, const json_t *params, int input_fd,
             const struct jail_limits *limits, struct frames **ret_frames,
             struct err *err) WARN_UNUSED;
