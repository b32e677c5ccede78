/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core's table in a running worker. Renewal and heartbeat go through a pool of their own with a
 * short limit: a statement that hangs on a dead connection must not outlast the lease.
 */
#include "libcommon/unit_io.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "libcommon/stage_intern.h"

static uint64_t io_now_ms(void *ctx)
{
    (void)ctx;
    return clock_mono_ms();
}

static int64_t io_wall_ms(void *ctx)
{
    (void)ctx;
    return clock_wall_ms();
}

static void io_pause_ms(void *ctx, unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000L};

    (void)ctx;
    nanosleep(&ts, NULL);
}

static double io_random01(void *ctx)
{
    uint32_t r = 0;

    (void)ctx;
    if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r)) {
        r = UINT32_MAX / 2;
    }
    return (double)r / (double)UINT32_MAX;
}

static int io_claim(void *ctx, int slot, const struct task_key *key, int dispatch_seq,
                    struct task_claim *ret_claim, struct err *err)
{
    struct worker *worker = ctx;
    char owner[sizeof(worker->service.id) + 8];

    snprintf(owner, sizeof(owner), "%s:%d", worker->service.id, slot);
    return task_claim(worker->service.db, key, dispatch_seq, owner, worker->service.core.lease_ms,
                      ret_claim, err);
}

static int io_renew(void *ctx, const struct task_key *keys, const int64_t *tokens, size_t n,
                    bool *lost, struct err *err)
{
    struct worker *worker = ctx;

    return task_renew(worker->keeper_db, keys, tokens, n, worker->service.core.lease_ms, lost, err);
}

static int io_complete(void *ctx, const struct task_claim *claim, const char *outcome,
                       struct task_end *ret_end, struct err *err)
{
    struct worker *worker = ctx;

    return task_complete(worker->service.db, claim, outcome, ret_end, err);
}

static int io_dead(void *ctx, const struct task_claim *claim, const struct err *why,
                   const char *child, struct task_end *ret_end, struct err *err)
{
    struct worker *worker = ctx;

    return task_dead(worker->service.db, claim, why, child, ret_end, err);
}

static int io_ended_by(void *ctx, const struct task_claim *claim, bool *ret_ours, struct err *err)
{
    struct worker *worker = ctx;

    return task_ended_by(worker->service.db, claim, ret_ours, err);
}

static int io_put_back(void *ctx, const struct task_claim *claim, enum task_back how,
                       int64_t delay_ms, const struct err *why, const char *ext_job_id,
                       bool *ret_fenced, struct err *err)
{
    struct worker *worker = ctx;

    return task_put_back(worker->service.db, claim, how, delay_ms, why, ext_job_id, ret_fenced,
                         err);
}

static int io_hand_back(void *ctx, const struct task_key *keys, const int *seqs, size_t n,
                        struct err *err)
{
    struct worker *worker = ctx;

    return task_hand_back(worker->service.db, keys, seqs, n, err);
}

static int io_heartbeat(void *ctx, const struct unit_beat *beat, struct err *err)
{
    struct worker *worker = ctx;
    char partitions[2048] = "{";
    size_t len = 1;

    for (size_t i = 0; i < beat->n_partitions && len < sizeof(partitions) - 16; i++) {
        len += (size_t)snprintf(partitions + len, sizeof(partitions) - len, "%s%d", i ? "," : "",
                                (int)beat->partitions[i]);
    }
    snprintf(partitions + len, sizeof(partitions) - len, "}");
    return task_heartbeat(worker->keeper_db, worker->service.id, (int)worker->stage->id,
                          beat->slots, beat->busy, partitions, beat->open, err);
}

static int io_goodbye(void *ctx, struct err *err)
{
    struct worker *worker = ctx;

    return task_goodbye(worker->keeper_db, worker->service.id, err);
}

static void io_notify(void *ctx, int stage, const char *user_id)
{
    struct worker *worker = ctx;

    notify_stage(worker->service.notifier, stage, user_id);
}

static void io_notify_events(void *ctx)
{
    struct worker *worker = ctx;

    notify_events(worker->service.notifier);
}

static size_t io_partitions(void *ctx, int32_t *ret_partitions, size_t max)
{
    struct worker *worker = ctx;

    return bus_assigned(worker->consumer, ret_partitions, max);
}

static void io_commit(void *ctx, const struct unit_offset *offsets, size_t n)
{
    struct worker *worker = ctx;

    for (size_t i = 0; i < n; i++) {
        bus_store_offset(worker->consumer, offsets[i].partition, offsets[i].next);
    }
    bus_commit(worker->consumer);
}

static void io_end_puts(void *ctx, struct job_puts *puts, bool keep)
{
    struct worker *worker = ctx;

    job_puts_free(puts, worker->service.store, keep);
}

static int io_probe(void *ctx, int dep, struct err *err)
{
    struct worker *worker = ctx;

    return dep == GUARD_STORE
               ? store_ping(worker->service.store, err)
               : err_set(err, ERR_UNKNOWN, "internal", "%s has no health call", guard_name(dep));
}

void unit_io_of(struct worker *worker, struct unit_io *ret_io)
{
    *ret_io = (struct unit_io){.ctx = worker,
                               .now_ms = io_now_ms,
                               .wall_ms = io_wall_ms,
                               .pause_ms = io_pause_ms,
                               .random01 = io_random01,
                               .claim = io_claim,
                               .renew = io_renew,
                               .complete = io_complete,
                               .dead = io_dead,
                               .ended_by = io_ended_by,
                               .put_back = io_put_back,
                               .hand_back = io_hand_back,
                               .heartbeat = io_heartbeat,
                               .goodbye = io_goodbye,
                               .notify = io_notify,
                               .notify_events = io_notify_events,
                               .partitions = io_partitions,
                               .commit = io_commit,
                               .end_puts = io_end_puts,
                               .probe = io_probe};
}
