/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The logic of a worker without its threads: take a record, run one unit in a slot, one turn of the
 * keeper, the drain. stage.c gives it threads and Kafka.
 * Invariants: a claimed unit changes only under its lease token; an order is claimed, skipped or
 * handed back before its offset is settled; nothing is claimed while a breaker of something the
 * stage cannot work without is open, or after the drain has begun.
 */
#pragma once

#include "libcommon/guard.h"
#include "libcommon/stage.h"
#include "libcommon/stage_queue.h"
#include "libcommon/unit_io.h"

#include <pthread.h>

#define UNIT_SLOTS_MAX 64

/* A slot's running unit, seen by the keeper that renews leases. */
struct running {
    bool active;
    bool lost; /* the lease is gone: drop everything */
    struct task_key key;
    int64_t token;
    struct job *job;
};

struct unit_core {
    const struct unit_io *io;
    const struct stage *stage;
    struct stage_ctx *ctx;
    struct stage_queue *queue;
    int slots;
    int64_t lease_ms;
    char label[32]; /* stage="text" */

    pthread_mutex_t lock; /* guards running and the gate */
    struct running running[UNIT_SLOTS_MAX];
    int inside;      /* slots between claim and end, alone ones not counted */
    int alone_wants; /* units that must run alone: waiting or at work */
    bool alone_in;   /* one of them is at work */
    int prober;      /* slot that tries a half-open dependency, or -1 */

    atomic_bool stopping;   /* drain has begun: nothing is claimed any more */
    atomic_bool grace_over; /* running units are put back */
    atomic_bool fatal;      /* a handler met ERR_FATAL: the process exits */

    /* Of the keeper alone. */
    uint64_t renew_at, beat_at, commit_at, told_at;
};

/* Sets up *core in place, with a queue of its own. io, stage, ctx (with ctx->guard) are borrowed.
 */
int unit_core_init(struct unit_core *core, const struct unit_io *io, const struct stage *stage,
                   struct stage_ctx *ctx, int slots, int64_t lease_ms, struct err *err) WARN_UNUSED;
void unit_core_done(struct unit_core *core);

/* Intake (the polling thread). wants: false while there is enough, a breaker is open or a unit runs
 * alone: stop fetching. take: one record's bytes. revoke: partitions that went to others. */
bool unit_core_wants(struct unit_core *core);
void unit_core_take(struct unit_core *core, const char *value, size_t len, const char *key,
                    size_t key_len, int32_t partition, int64_t offset, const char *traceparent);
void unit_core_revoke(struct unit_core *core, const int32_t *partitions, size_t n);

/* A slot. turn: waits up to timeout_ms for an order and runs it to its end; false when there was
 * none or nothing may be claimed now. */
bool unit_core_turn(struct unit_core *core, int slot, unsigned timeout_ms);
/* Claims and runs one order (unit_run.c). */
void unit_run(struct unit_core *core, int slot, const struct work_item *item);

/* The keeper: to be called every 50 to 200 ms, also during the drain, until no unit runs. Renews
 * leases, beats, commits, probes what a breaker keeps shut, hands back what may not be claimed. */
void unit_core_keep(struct unit_core *core);
/* Commits at once. */
void unit_core_commit(struct unit_core *core);

/* Drain, in this order: begin (nothing is claimed from now on, the worker's row goes); the caller
 * ends polling; hand_back (all unclaimed orders, once more whenever a record slipped in); wait
 * until !busy or the grace is over; grace_over (running units are put back with their attempt). */
void unit_core_drain_begin(struct unit_core *core);
void unit_core_hand_back(struct unit_core *core);
bool unit_core_busy(struct unit_core *core);
void unit_core_grace_over(struct unit_core *core);
