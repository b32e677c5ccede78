/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that the core of a worker (unit_core.h) asks of the world: clocks, chance, the task
 * statements, Kafka's offsets and the objects of a unit. unit_io.c fills the table for a running
 * worker; a simulator fills it with a model of its own.
 * Invariant: the core blocks only inside these functions, and never holds a lock across one.
 */
#pragma once

#include "libcommon/task.h"

struct job_puts;

/* The next offset to read of a partition: everything before it is claimed or skipped. */
struct unit_offset {
    int32_t partition;
    int64_t next;
};

/* What a worker says of itself every 2 s. */
struct unit_beat {
    int slots;
    int busy;
    bool open; /* a breaker keeps this worker from claiming */
    const int32_t *partitions;
    size_t n_partitions;
};

/* Functions that return int answer 0 or -1 with *err unless said otherwise; ERR_TRANSIENT means
 * that the answer is unknown: it may or may not have happened. */
struct unit_io {
    void *ctx; /* handed to each function */

    uint64_t (*now_ms)(void *ctx); /* monotonic */
    int64_t (*wall_ms)(void *ctx); /* for metrics only */
    void (*pause_ms)(void *ctx, unsigned ms);
    double (*random01)(void *ctx);

    /* As task_claim, .. in task.h, for this worker and its lease time. claim: 1, 0 (skip) or -1. */
    int (*claim)(void *ctx, int slot, const struct task_key *key, int dispatch_seq,
                 struct task_claim *ret_claim, struct err *err);
    /* 0, -1, or how many are to be renewed again soon. */
    int (*renew)(void *ctx, const struct task_key *keys, const int64_t *tokens, size_t n,
                 bool *lost, struct err *err);
    int (*complete)(void *ctx, const struct task_claim *claim, const char *outcome,
                    struct task_end *ret_end, struct err *err);
    int (*dead)(void *ctx, const struct task_claim *claim, const struct err *why, const char *child,
                struct task_end *ret_end, struct err *err);
    int (*ended_by)(void *ctx, const struct task_claim *claim, bool *ret_ours, struct err *err);
    int (*put_back)(void *ctx, const struct task_claim *claim, enum task_back how, int64_t delay_ms,
                    const struct err *why, const char *ext_job_id, bool *ret_fenced,
                    struct err *err);
    int (*hand_back)(void *ctx, const struct task_key *keys, const int *dispatch_seqs, size_t n,
                     struct err *err);
    int (*heartbeat)(void *ctx, const struct unit_beat *beat, struct err *err);
    int (*goodbye)(void *ctx, struct err *err);

    /* Hints to the dispatcher; may be lost. */
    void (*notify)(void *ctx, int stage, const char *user_id);
    void (*notify_events)(void *ctx);

    /* Partitions of this worker now; how many, at most max. */
    size_t (*partitions)(void *ctx, int32_t *ret_partitions, size_t max);
    /* Commits these offsets, and earlier ones whose commit did not come through, without waiting.
     */
    void (*commit)(void *ctx, const struct unit_offset *offsets, size_t n);

    /* Ends the list of the unit's objects: forgotten (keep) or deleted. puts may be NULL. */
    void (*end_puts)(void *ctx, struct job_puts *puts, bool keep);
    /* Asks a dependency (enum guard_dep) whether it is there; one call, for a breaker. */
    int (*probe)(void *ctx, int dep, struct err *err);
};

/* The table of a running worker: its service, consumer and stage. */
struct worker;
void unit_io_of(struct worker *worker, struct unit_io *ret_io);
