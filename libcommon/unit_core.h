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

#define UNIT_SLOTS_MAX ((int)STAGE_QUEUE_RUNNING_MAX)

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

    bool probes_apart; /* set after init: another thread than the keeper calls unit_core_probe */
    uint64_t renew_at, beat_at, commit_at; /* of the keeper alone */
    bool was_shut;                         /* the same */
    uint64_t told_at;                      /* of the intake alone */
    bool full;                             /* the same */
};

/* Sets up *core in place, with a queue of its own. io, stage, ctx (with ctx->guard) are borrowed.
 */
int unit_core_init(struct unit_core *core, const struct unit_io *io, const struct stage *stage,
                   struct stage_ctx *ctx, int slots, int64_t lease_ms, struct err *err) WARN_UNUSED;
void unit_core_done(struct unit_core *core);

enum unit_intake {
    UNIT_INTAKE_OPEN,
    UNIT_INTAKE_FULL, /* there is enough for now: stop fetching */
    UNIT_INTAKE_SHUT, /* a breaker is open, a unit runs alone, or the drain has begun: what still
                         comes in is handed back */
};

/* Intake (the polling thread). take: one record's bytes, any bytes. revoke: partitions that went to
 * others. */
enum unit_intake unit_core_intake(struct unit_core *core);
void unit_core_take(struct unit_core *core, const char *value, size_t len, const char *key,
                    size_t key_len, int32_t partition, int64_t offset, const char *traceparent);
void unit_core_revoke(struct unit_core *core, const int32_t *partitions, size_t n);

/* A slot. turn: waits up to timeout_ms for an order and runs it to its end; false when there was
 * none or nothing may be claimed now. */
bool unit_core_turn(struct unit_core *core, int slot, unsigned timeout_ms);
/* Claims and runs one order (unit_run.c); only for unit_core_turn. */
void unit_run(struct unit_core *core, int slot, const struct work_item *item);
/* Waits until no other unit is at work and keeps others out; false when the drain began or the
 * lease was lost meanwhile. After true comes unit_alone_end. Only for unit_run. */
bool unit_alone_begin(struct unit_core *core, const struct job *job);
void unit_alone_end(struct unit_core *core);
/* Hands one order back that a slot holds and may not claim. */
void unit_give_back(struct unit_core *core, const struct work_item *item);

/* 2 s * 4^n, at most an hour, times 0.5..1.5. */
int64_t unit_backoff_ms(int n, double random01);

/* The objects a unit has stored so far (stage_io.c). */
struct job_puts *job_puts_new(void);
/* Deletes what was stored (keep false) or forgets it (keep true), and frees. Takes NULL. */
void job_puts_free(struct job_puts *puts, struct store *store, bool keep);

/* The keeper: to be called every 50 to 200 ms, also during the drain, until no unit runs. Renews
 * leases, beats, commits, hands back what may not be claimed, and probes what a breaker keeps shut
 * unless probes_apart. */
void unit_core_keep(struct unit_core *core);
/* The health calls that are due; they may take their time. */
void unit_core_probe(struct unit_core *core);
/* Commits at once. */
void unit_core_commit(struct unit_core *core);

/* Drain, in this order: begin (nothing is claimed from now on, the worker's row goes); the caller
 * ends polling; hand_back (all unclaimed orders, once more whenever a record slipped in); wait
 * until !busy or the grace is over; grace_over (running units are put back with their attempt). */
void unit_core_drain_begin(struct unit_core *core);
void unit_core_hand_back(struct unit_core *core);
bool unit_core_busy(struct unit_core *core);
void unit_core_grace_over(struct unit_core *core);
/* Puts back, in place of their slots, what does not heed the end of the grace. The process must end
 * at once. */
void unit_core_release(struct unit_core *core);
