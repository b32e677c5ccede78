/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intake, slots' gate, keeper and drain. The gate: any number of units run beside each other, but
 * one that has crashed its process twice runs when nobody else does.
 */
#include "libcommon/unit_core.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/fault.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"

#define HEARTBEAT_MS 2000U
#define COMMIT_MS 1000U
#define RENEW_AGAIN_MS 500U
#define TELL_EVERY_MS 60000U
#define PARTITIONS_MAX 256
#define HAND_BACK_MAX 64

int unit_core_init(struct unit_core *core, const struct unit_io *io, const struct stage *stage,
                   struct stage_ctx *ctx, int slots, int64_t lease_ms, struct err *err)
{
    *core = (struct unit_core){.io = io,
                               .stage = stage,
                               .ctx = ctx,
                               .slots = slots < UNIT_SLOTS_MAX ? slots : UNIT_SLOTS_MAX,
                               .lease_ms = lease_ms,
                               .prober = -1};
    snprintf(core->label, sizeof(core->label), "stage=\"%s\"", stage_name((int)stage->id));
    pthread_mutex_init(&core->lock, NULL);
    return stage_queue_new(&core->queue, err);
}

void unit_core_done(struct unit_core *core)
{
    stage_queue_free(core->queue);
    core->queue = NULL;
    pthread_mutex_destroy(&core->lock);
}

/* Intake ----------------------------------------------------------------------------------------*/

/* Nothing that comes in now would be claimed soon. */
static bool blocked(struct unit_core *core)
{
    pthread_mutex_lock(&core->lock);
    bool alone = core->alone_wants > 0;
    pthread_mutex_unlock(&core->lock);
    return alone || atomic_load(&core->stopping) ||
           guard_mode(core->ctx->guard, core->io->now_ms(core->io->ctx)) == GUARD_STOP;
}

enum unit_intake unit_core_intake(struct unit_core *core)
{
    size_t n = stage_queue_len(core->queue);

    if (blocked(core)) {
        return UNIT_INTAKE_SHUT;
    }
    /* Only so that memory has a bound: the credit says how much is out. A pause throws away what
     * the client has fetched, and with Debian's librdkafka the stage then stands still for a
     * second. */
    if (n >= STAGE_QUEUE_MAX / 2) {
        core->full = true;
    } else if (n <= STAGE_QUEUE_MAX / 4) {
        core->full = false;
    }
    return core->full ? UNIT_INTAKE_FULL : UNIT_INTAKE_OPEN;
}

static void skip_record(struct unit_core *core, int32_t partition, int64_t offset,
                        const struct err *err)
{
    uint64_t now = core->io->now_ms(core->io->ctx);

    stage_queue_skip(core->queue, partition, offset);
    metrics_inc("docfleet_records_skipped_total", core->label);
    if (core->told_at == 0 || now - core->told_at > TELL_EVERY_MS) {
        core->told_at = now;
        log_err(LOG_WARN, "record skipped", err);
    }
}

void unit_core_take(struct unit_core *core, const char *value, size_t len, const char *key,
                    size_t key_len, int32_t partition, int64_t offset, const char *traceparent)
{
    struct work_item item = {.partition = partition, .offset = offset};
    struct err err = ERR_INIT;

    if (event_decode_work(value, len, key, key_len, &item.order, &err) < 0) {
        skip_record(core, partition, offset, &err);
        return;
    }
    if (item.order.key.stage != (int)core->stage->id) {
        err_set(&err, ERR_PERMANENT, "bad_record", "an order of another stage");
        skip_record(core, partition, offset, &err);
        return;
    }
    snprintf(item.traceparent, sizeof(item.traceparent), "%s", traceparent ? traceparent : "");
    if (stage_queue_push(core->queue, &item, &err) < 0) {
        log_err(LOG_WARN, "work order dropped, the sweeper sends it again", &err);
        stage_queue_skip(core->queue, partition, offset);
    }
}

void unit_core_revoke(struct unit_core *core, const int32_t *partitions, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        stage_queue_revoke(core->queue, partitions[i]);
    }
}

/* Handing back ----------------------------------------------------------------------------------*/

/* Gives orders that nobody claimed back to the dispatcher. What could not be given back is found by
 * the sweeper; in a drain it also stays unsettled, so that the partition's next owner reads it. */
static void give_back(struct unit_core *core, const struct work_item *items, size_t n)
{
    const struct unit_io *io = core->io;
    struct task_key keys[HAND_BACK_MAX] = {0};
    int seqs[HAND_BACK_MAX] = {0};
    struct err err = ERR_INIT;

    for (size_t j = 0; j < n; j++) {
        keys[j] = items[j].order.key;
        seqs[j] = items[j].order.dispatch_seq;
    }
    bool done = io->hand_back(io->ctx, keys, seqs, n, &err) == 0;
    if (!done) {
        log_err(LOG_WARN, "work not handed back, the sweeper will", &err);
    }
    for (size_t j = 0; j < n && (done || !atomic_load(&core->stopping)); j++) {
        stage_queue_settle(core->queue, items[j].partition, items[j].offset);
    }
    for (size_t j = 0; j < n && done; j++) {
        io->notify(io->ctx, items[j].order.key.stage, items[j].order.user_id);
    }
    metrics_add("docfleet_handed_back_total", core->label, done ? (double)n : 0);
}

void unit_core_hand_back(struct unit_core *core)
{
    struct work_item *items = calloc(HAND_BACK_MAX, sizeof(*items));
    size_t n, total = 0;

    if (!items) {
        return;
    }
    while ((n = stage_queue_take(core->queue, items, HAND_BACK_MAX)) > 0) {
        give_back(core, items, n);
        total += n;
    }
    if (total > 0) {
        log_info("unclaimed work handed back", kv_u64("n", total));
    }
    free(items);
}

void unit_give_back(struct unit_core *core, const struct work_item *item)
{
    give_back(core, item, 1);
}

/* Slots -----------------------------------------------------------------------------------------*/

/* While a dependency is tried out, one slot alone may claim. */
static bool may_claim(struct unit_core *core, int slot)
{
    if (blocked(core) || atomic_load(&core->fatal)) {
        return false;
    }
    if (guard_mode(core->ctx->guard, core->io->now_ms(core->io->ctx)) == GUARD_GO) {
        return true;
    }
    pthread_mutex_lock(&core->lock);
    bool mine = core->prober < 0 || core->prober == slot;
    if (mine) {
        core->prober = slot;
    }
    pthread_mutex_unlock(&core->lock);
    return mine;
}

static bool go_inside(struct unit_core *core)
{
    pthread_mutex_lock(&core->lock);
    bool in = core->alone_wants == 0;
    core->inside += in ? 1 : 0;
    pthread_mutex_unlock(&core->lock);
    return in;
}

bool unit_core_turn(struct unit_core *core, int slot, unsigned timeout_ms)
{
    struct work_item item;
    bool ran = false;

    if (!may_claim(core, slot)) {
        core->io->pause_ms(core->io->ctx, timeout_ms < 50 ? timeout_ms : 50);
        return false;
    }
    if (stage_queue_pop(core->queue, timeout_ms, &item)) {
        ran = may_claim(core, slot) && go_inside(core);
        if (ran) {
            unit_run(core, slot, &item);
        } else {
            unit_give_back(core, &item);
        }
        stage_queue_ended(core->queue, &item);
    }
    pthread_mutex_lock(&core->lock);
    core->inside -= ran ? 1 : 0;
    core->prober = core->prober == slot ? -1 : core->prober;
    pthread_mutex_unlock(&core->lock);
    return ran;
}

bool unit_alone_begin(struct unit_core *core, const struct job *job)
{
    bool in = false, off = false;

    pthread_mutex_lock(&core->lock);
    core->inside--;
    core->alone_wants++;
    pthread_mutex_unlock(&core->lock);
    while (!in && !off) {
        off = atomic_load(&core->stopping) || atomic_load(&job->cancel);
        pthread_mutex_lock(&core->lock);
        in = !off && core->inside == 0 && !core->alone_in;
        core->alone_in = core->alone_in || in;
        if (off) {
            core->alone_wants--;
            core->inside++;
        }
        pthread_mutex_unlock(&core->lock);
        if (!in && !off) {
            core->io->pause_ms(core->io->ctx, 20);
        }
    }
    return in;
}

void unit_alone_end(struct unit_core *core)
{
    pthread_mutex_lock(&core->lock);
    core->alone_in = false;
    core->alone_wants--;
    core->inside++; /* the turn takes it off */
    pthread_mutex_unlock(&core->lock);
}

/* Keeper ----------------------------------------------------------------------------------------*/

static int snapshot(struct unit_core *core, struct task_key *keys, int64_t *tokens, int *slots)
{
    int n = 0;

    pthread_mutex_lock(&core->lock);
    for (int i = 0; i < core->slots; i++) {
        if (core->running[i].active && !core->running[i].lost) {
            keys[n] = core->running[i].key;
            tokens[n] = core->running[i].token;
            slots[n++] = i;
        }
    }
    pthread_mutex_unlock(&core->lock);
    return n;
}

/* True when it was done for all (nothing to do counts). A lease that could not be renewed in time
 * is not lost yet: renewal goes by token, and only the database's answer says that it is gone. */
static bool renew(struct unit_core *core)
{
    struct task_key keys[UNIT_SLOTS_MAX];
    int64_t tokens[UNIT_SLOTS_MAX];
    int slots[UNIT_SLOTS_MAX];
    bool lost[UNIT_SLOTS_MAX];
    struct err err = ERR_INIT;
    int n = snapshot(core, keys, tokens, slots);

    if (n == 0) {
        return true;
    }
    const int late = core->io->renew(core->io->ctx, keys, tokens, (size_t)n, lost, &err);
    if (late < 0) {
        log_err(LOG_WARN, "leases not renewed, trying again", &err);
        return false;
    }
    pthread_mutex_lock(&core->lock);
    for (int i = 0; i < n; i++) {
        struct running *running = &core->running[slots[i]];
        if (lost[i] && running->active && running->token == tokens[i] &&
            strcmp(running->key.file_id, keys[i].file_id) == 0 &&
            running->key.unit == keys[i].unit) {
            running->lost = true;
            atomic_store(&running->job->cancel, true);
        }
    }
    pthread_mutex_unlock(&core->lock);
    return late == 0;
}

static void beat(struct unit_core *core, bool shut)
{
    struct task_key keys[UNIT_SLOTS_MAX];
    int64_t tokens[UNIT_SLOTS_MAX];
    int slots[UNIT_SLOTS_MAX];
    int32_t partitions[PARTITIONS_MAX];
    struct err err = ERR_INIT;
    const struct unit_beat beat = {
        .slots = core->slots,
        .busy = snapshot(core, keys, tokens, slots),
        .open = shut,
        .partitions = partitions,
        .n_partitions = core->io->partitions(core->io->ctx, partitions, PARTITIONS_MAX)};

    if (core->io->heartbeat(core->io->ctx, &beat, &err) < 0) {
        log_err(LOG_DEBUG, "no heartbeat", &err);
    }
}

void unit_core_commit(struct unit_core *core)
{
    int32_t partitions[PARTITIONS_MAX];
    struct unit_offset offsets[PARTITIONS_MAX];
    size_t n = core->io->partitions(core->io->ctx, partitions, PARTITIONS_MAX), k = 0;

    for (size_t i = 0; i < n; i++) {
        int64_t at = stage_queue_commit(core->queue, partitions[i]);
        if (at >= 0) {
            offsets[k++] = (struct unit_offset){partitions[i], at};
        }
    }
    if (k > 0) {
        fault_point("commit.before");
    }
    /* Without news too: a commit whose answer said no, or never came, is not told to anyone. */
    core->io->commit(core->io->ctx, offsets, k);
}

/* The health calls of what no unit tries out. */
void unit_core_probe(struct unit_core *core)
{
    const struct unit_io *io = core->io;
    struct guard *guard = core->ctx->guard;
    struct err err = ERR_INIT;
    int64_t wait;

    for (int dep = 0; dep < GUARD_DEPS; dep++) {
        if (guard_probe_due(guard, dep, io->now_ms(io->ctx)) &&
            guard_enter(guard, dep, io->now_ms(io->ctx), &wait, &err) == 0) {
            int r = io->probe(io->ctx, dep, &err);
            guard_leave(guard, dep, io->now_ms(io->ctx), guard_answer(r, &err));
            log_info(r == 0 ? "dependency is back" : "dependency is still away",
                     kv_str("dependency", guard_name(dep)));
        }
    }
}

void unit_core_keep(struct unit_core *core)
{
    uint64_t now = core->io->now_ms(core->io->ctx);
    bool stopping = atomic_load(&core->stopping);

    if (now >= core->renew_at) {
        core->renew_at = now + (renew(core) ? (uint64_t)core->lease_ms / 3 : RENEW_AGAIN_MS);
    }
    if (stopping) {
        return;
    }
    bool shut = blocked(core);
    if (now >= core->beat_at || shut != core->was_shut) {
        if (shut != core->was_shut) {
            log_info(shut ? "nothing is claimed for now" : "claiming again");
        }
        core->was_shut = shut;
        beat(core, shut);
        core->beat_at = now + HEARTBEAT_MS;
    }
    if (shut) {
        unit_core_hand_back(core);
    }
    if (now >= core->commit_at) {
        unit_core_commit(core);
        core->commit_at = now + COMMIT_MS;
    }
    if (!core->probes_apart) {
        unit_core_probe(core);
    }
}

/* Drain -----------------------------------------------------------------------------------------*/

void unit_core_drain_begin(struct unit_core *core)
{
    struct err err = ERR_INIT;

    atomic_store(&core->stopping, true);
    stage_queue_close(core->queue);
    /* Without its row the dispatcher counts on this worker no longer. */
    if (core->io->goodbye(core->io->ctx, &err) < 0) {
        log_err(LOG_WARN, "worker row stays until it is stale", &err);
    }
}

bool unit_core_busy(struct unit_core *core)
{
    pthread_mutex_lock(&core->lock);
    bool busy = core->inside > 0 || core->alone_wants > 0;
    pthread_mutex_unlock(&core->lock);
    return busy;
}

void unit_core_release(struct unit_core *core)
{
    struct task_key keys[UNIT_SLOTS_MAX];
    int64_t tokens[UNIT_SLOTS_MAX];
    int slots[UNIT_SLOTS_MAX];
    struct err err = ERR_INIT;
    bool fenced;
    int n = snapshot(core, keys, tokens, slots);

    err_set(&err, ERR_TRANSIENT, "drain", "the worker ended before the unit did");
    for (int i = 0; i < n; i++) {
        const struct task_claim claim = {.key = keys[i], .token = tokens[i]};
        struct err why = ERR_INIT;
        if (core->io->put_back(core->io->ctx, &claim, TASK_BACK_DRAIN, 0, &err, NULL, &fenced,
                               &why) < 0) {
            log_err(LOG_WARN, "a running unit was not put back, its lease will run out", &why);
        }
    }
}

void unit_core_grace_over(struct unit_core *core)
{
    atomic_store(&core->grace_over, true);
    pthread_mutex_lock(&core->lock);
    for (int i = 0; i < core->slots; i++) {
        if (core->running[i].active) {
            atomic_store(&core->running[i].job->cancel, true);
        }
    }
    pthread_mutex_unlock(&core->lock);
}
