/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker process: the production core (unit_core.c, unit_run.c) over a unit_io of the model, with
 * coroutines where stage.c has threads.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/fault.h"
#include "services/cleaner/stage.h"
#include "tests/sim/world.h"

/* Crash points of the production code: the n-th one that a doomed process passes is its end. */
void fault_point(const char *name)
{
    struct proc *p = proc_self();

    if (p && p->die_in > 0 && --p->die_in == 0) {
        world_trace("dies at %s", name);
        world_kill(p, true);
    }
}

struct wworker *world_worker_of(const struct proc *proc)
{
    return proc->owner;
}

/* The table
 * ---------------------------------------------------------------------------------------*/

static uint64_t io_now(void *ctx)
{
    (void)ctx;
    return (uint64_t)(fiber_now() / 1000);
}

static int64_t io_wall(void *ctx)
{
    const struct wworker *me = ctx;

    return fiber_now() / 1000 + me->proc.wall_skew_ms;
}

static void io_pause(void *ctx, unsigned ms)
{
    (void)ctx;
    fiber_sleep(ms * MS + 1);
}

static double io_random(void *ctx)
{
    (void)ctx;
    return (double)(sim_rand() >> 11) * 0x1.0p-53;
}

static int io_claim(void *ctx, int slot, const struct task_key *key, int dispatch_seq,
                    struct task_claim *ret_claim, struct err *err)
{
    struct wworker *me = ctx;

    if (world_db_enter(err) < 0) {
        return -1;
    }
    struct task_claim claim;
    int r =
        model_claim(&w.m, key, dispatch_seq, me->number * UNIT_SLOTS_MAX + slot, LEASE_MS, &claim);
    struct m_task *t = model_task(&w.m, key);
    if (t && r > 0) {
        t->claimed_at = fiber_now();
        world_check_begin(t);
        w.begun[t->stage]++;
        t->answer_lost = true;
    }
    world_trace("claim %s stage %d unit %d gen %d seq %d: %d", key->file_id + 30, key->stage,
                key->unit, key->generation, dispatch_seq, r);
    if (world_db_leave(err) < 0) {
        world_trace("  the answer is lost");
        if (r > 0) {
            task_claim_done(&claim);
        }
        return -1;
    }
    t = model_task(&w.m, key);
    if (t && t->dispatch_seq == dispatch_seq) {
        t->settled_seq = dispatch_seq;
    }
    if (r > 0) {
        if (t && t->token == claim.token) {
            t->answer_lost = false;
        }
        *ret_claim = claim;
    }
    return r;
}

static int io_renew(void *ctx, const struct task_key *keys, const int64_t *tokens, size_t n,
                    bool *lost, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    model_renew(&w.m, keys, tokens, n, LEASE_MS, lost);
    return world_db_leave(err);
}

/* Before an end: what it will be checked against. */
static struct m_task *before_end(const struct wworker *me, const struct task_claim *claim)
{
    struct m_task *t = model_task(&w.m, &claim->key);

    return t && t->state == TASK_RUNNING && t->owner / UNIT_SLOTS_MAX == me->number ? t : NULL;
}

static void after_end(const struct wworker *me, const struct task_claim *claim, bool fenced,
                      bool was_mine)
{
    struct m_task *t = model_task(&w.m, &claim->key);

    world_trace("end of %s stage %d unit %d gen %d: %s, state %d", claim->key.file_id + 30,
                claim->key.stage, claim->key.unit, claim->key.generation,
                fenced ? "fenced" : "written", t ? t->state : -1);
    if (!fenced && (!was_mine || (t && t->token != claim->token))) {
        world_fail("I4: worker %d ended a unit whose lease it did not hold", me->number);
    }
    if (!fenced && t && t->generation != w.m.files[t->file].generation) {
        world_fail("I6: a unit of generation %d ended, the file is at %d", t->generation,
                   w.m.files[t->file].generation);
    }
    if (t) {
        if (!fenced && t->state == TASK_DONE) {
            world_check_done(t);
        }
        world_check_file(t->file);
    }
}

static int io_complete(void *ctx, const struct task_claim *claim, const char *outcome,
                       struct task_end *ret_end, struct err *err)
{
    if (world_db_enter(err) < 0) {
        return -1;
    }
    bool mine = before_end(ctx, claim) != NULL;
    if (model_complete(&w.m, claim, outcome, ret_end, err) < 0) {
        return -1;
    }
    if (!ret_end->fenced) {
        world_name_objects(claim);
    }
    after_end(ctx, claim, ret_end->fenced, mine);
    return world_db_leave(err);
}

static int io_dead(void *ctx, const struct task_claim *claim, const struct err *why,
                   const char *child, struct task_end *ret_end, struct err *err)
{
    (void)child;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    const struct m_task *t = before_end(ctx, claim);
    if (t && t->token == claim->token) {
        world_check_letter(t, why);
    }
    if (model_dead(&w.m, claim, why, ret_end, err) < 0) {
        return -1;
    }
    after_end(ctx, claim, ret_end->fenced, t != NULL);
    return world_db_leave(err);
}

static int io_ended_by(void *ctx, const struct task_claim *claim, bool *ret_ours, struct err *err)
{
    (void)ctx;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    bool ours = model_ended_by(&w.m, claim);
    if (world_db_leave(err) < 0) {
        return -1;
    }
    *ret_ours = ours;
    return 0;
}

static int io_put_back(void *ctx, const struct task_claim *claim, enum task_back how,
                       int64_t delay_ms, const struct err *why, const char *ext_job_id,
                       bool *ret_fenced, struct err *err)
{
    if (world_db_enter(err) < 0) {
        return -1;
    }
    bool mine = before_end(ctx, claim) != NULL;
    world_trace("put back %s how %d in %lld ms: %s", claim->key.file_id + 30, (int)how,
                (long long)delay_ms, why ? why->code : "");
    if (how == TASK_BACK_UNKNOWN && why && why->class != ERR_UNKNOWN) {
        world_fail("I8: an outage (%s) counts as a failure", why->code);
    }
    *ret_fenced = model_put_back(&w.m, claim, how, delay_ms, ext_job_id);
    after_end(ctx, claim, *ret_fenced, mine);
    return world_db_leave(err);
}

static int io_hand_back(void *ctx, const struct task_key *keys, const int *seqs, size_t n,
                        struct err *err)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++) {
        struct m_task *t = model_task(&w.m, &keys[i]);
        if (t && t->dispatch_seq == seqs[i]) {
            t->settled_seq = seqs[i]; /* what it cannot give back the sweeper finds */
        }
    }
    if (world_db_enter(err) < 0) {
        return -1;
    }
    int count = model_hand_back(&w.m, keys, seqs, n);
    world_trace("hand back %d of %zu", count, n);
    return world_db_leave(err);
}

static int io_heartbeat(void *ctx, const struct unit_beat *beat, struct err *err)
{
    struct wworker *me = ctx;

    if (world_db_enter(err) < 0) {
        return -1;
    }
    model_heartbeat(&w.m, me->id, me->stage, beat->slots, beat->busy, beat->open, beat->partitions,
                    (int)beat->n_partitions);
    return world_db_leave(err);
}

static int io_goodbye(void *ctx, struct err *err)
{
    struct wworker *me = ctx;

    if (world_db_enter(err) < 0) {
        return -1;
    }
    model_goodbye(&w.m, me->id);
    return world_db_leave(err);
}

static void io_notify(void *ctx, int stage, const char *user_id)
{
    (void)ctx;
    world_notify(stage, user_id);
}

static void io_notify_events(void *ctx)
{
    (void)ctx;
}

static size_t io_partitions(void *ctx, int32_t *ret_partitions, size_t max)
{
    struct wworker *me = ctx;
    size_t n = 0;

    for (int p = 0; p < BUS_PARTITIONS && n < max; p++) {
        if (me->member.have >> p & 1) {
            ret_partitions[n++] = p;
        }
    }
    return n;
}

static void io_commit(void *ctx, const struct unit_offset *offsets, size_t n)
{
    struct wworker *me = ctx;

    for (size_t i = 0; i < n; i++) {
        sim_bus_commit(&me->member, offsets[i].partition, offsets[i].next);
    }
}

static void io_end_puts(void *ctx, struct job_puts *puts, bool keep)
{
    (void)ctx;
    world_end_puts(puts, keep);
}

static int io_probe(void *ctx, int dep, struct err *err)
{
    (void)ctx;
    (void)dep;
    fiber_sleep(sim_range(MS, 50 * MS));
    return w.store_down ? err_set(err, ERR_TRANSIENT, "store_unavailable", "still away") : 0;
}

/* Coroutines
 * --------------------------------------------------------------------------------------*/

static void slot_loop(void *arg)
{
    struct wworker *me = world_worker_of(proc_self());
    int slot = (int)(uintptr_t)arg;

    while (!atomic_load(&me->core.stopping) && !atomic_load(&me->core.fatal)) {
        if (!unit_core_turn(&me->core, slot, 0)) {
            fiber_wait(&me->idle, world_idle_us(2 * SECOND));
        }
    }
}

/* As in stage.c: false when nothing came. */
static bool poll_once(struct wworker *me, int64_t wait)
{
    unsigned revoked;
    int partition = 0;
    int64_t offset = 0;
    const struct bus_rec *rec = sim_bus_poll(&me->member, wait, &revoked, &partition, &offset);

    for (int32_t p = 0; p < BUS_PARTITIONS; p++) {
        if (revoked >> p & 1) {
            unit_core_revoke(&me->core, &p, 1);
        }
    }
    if (rec) {
        unit_core_take(&me->core, rec->value, rec->len, rec->key, UUID_TEXT - 1, partition, offset,
                       "");
        fiber_wake(&me->idle);
    }
    return rec != NULL;
}

static void poll_loop(void *arg)
{
    struct wworker *me = arg;
    int64_t shut_since = 0;

    sim_bus_join(&me->member);
    while (!me->poll_stop) {
        enum unit_intake intake = unit_core_intake(&me->core);
        bool pause = intake == UNIT_INTAKE_FULL;
        if (intake == UNIT_INTAKE_SHUT) {
            shut_since = shut_since ? shut_since : fiber_now();
            pause = fiber_now() - shut_since >= SECOND;
        } else {
            shut_since = 0;
        }
        if (pause) {
            fiber_sleep(20 * MS);
            me->member.seen = fiber_now();
        } else {
            poll_once(me, world_idle_us(600 * MS)); /* a record or a rebalance wakes it */
        }
    }
    for (int64_t until = fiber_now() + 200 * MS; fiber_now() < until;) {
        if (!poll_once(me, 20 * MS)) {
            break;
        }
    }
    unit_core_hand_back(&me->core);
    unit_core_commit(&me->core);
    sim_bus_leave(&me->member);
    me->poll_ended = true;
}

static void keep_loop(void *arg)
{
    struct wworker *me = arg;

    while (!me->keep_stop) {
        unit_core_keep(&me->core);
        fiber_sleep(me->inside > 0 ? 200 * MS : world_idle_us(400 * MS));
    }
}

static void drain(void *arg)
{
    struct wworker *me = arg;
    int64_t grace = sim_chance(0.5) ? 120 * SECOND : sim_range(0, 2 * SECOND);

    world_trace("worker %d drains, grace %lld ms", me->number, (long long)grace / 1000);
    unit_core_drain_begin(&me->core);
    me->poll_stop = true;
    fiber_wake(&me->member.records);
    unit_core_hand_back(&me->core);
    int64_t until = fiber_now() + grace;
    while (unit_core_busy(&me->core) && fiber_now() < until) {
        fiber_sleep(20 * MS);
    }
    unit_core_grace_over(&me->core);
    while (unit_core_busy(&me->core) || !me->poll_ended) {
        fiber_sleep(20 * MS);
    }
    me->keep_stop = true;
    world_trace("worker %d is gone", me->number);
    world_kill(&me->proc, false);
}

void world_drain_worker(struct wworker *me)
{
    if (!me->draining) {
        me->draining = true;
        fiber_start(&me->proc, drain, me);
    }
}

struct wworker *world_start_worker(int stage)
{
    static struct service service; /* nothing of it is used but its address */
    struct wworker *me = calloc(1, sizeof(*me));
    struct err err;

    if (!me || w.n_workers >= WORLD_WORKERS_MAX) {
        abort();
    }
    me->number = w.n_workers;
    w.workers[w.n_workers++] = me;
    me->stage = stage;
    snprintf(me->id, sizeof(me->id), "w%d", me->number);
    proc_start(&me->proc, me);
    me->io = (struct unit_io){.ctx = me,
                              .now_ms = io_now,
                              .wall_ms = io_wall,
                              .pause_ms = io_pause,
                              .random01 = io_random,
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
    me->def = (struct stage){.id = (enum stage_id)stage, .handle = world_handle};
    guard_init(&me->guard);
    guard_use(&me->guard, GUARD_STORE, GUARD_BY_CALL);
    me->ctx = (struct stage_ctx){.service = &service, .guard = &me->guard};
    if (unit_core_init(&me->core, &me->io, &me->def, &me->ctx, w.n_slots, LEASE_MS, &err) < 0) {
        abort();
    }
    me->member = (struct member){.proc = &me->proc, .stage = stage, .told = true};
    fiber_start(&me->proc, poll_loop, me);
    fiber_start(&me->proc, keep_loop, me);
    for (int i = 0; i < w.n_slots; i++) {
        fiber_start(&me->proc, slot_loop, (void *)(uintptr_t)i);
    }
    return me;
}

static void start_again(void *arg)
{
    world_start_worker((int)(uintptr_t)arg);
}

static void lead_again(void *arg)
{
    (void)arg;
    world_start_lead();
}

void world_kill(struct proc *proc, bool restart)
{
    if (!proc->alive) {
        return;
    }
    struct wworker *worker = NULL;
    for (int i = 0; i < w.n_workers; i++) {
        worker = &w.workers[i]->proc == proc ? w.workers[i] : worker;
    }
    int64_t wait = sim_range(100 * MS, sim_chance(0.2) ? 30 * SECOND : 3 * SECOND);
    if (worker) {
        fiber_at(wait, start_again, (void *)(uintptr_t)worker->stage);
        worker->member.joined = worker->member.joined && restart; /* a killed one says nothing */
    } else {
        fiber_at(wait, lead_again, NULL);
        for (int i = 0; i < STAGE_MAX + 2; i++) {
            if (w.lock_holder[i] >= 0 && &w.leads[w.lock_holder[i]]->proc == proc) {
                w.lock_holder[i] = -1;
            }
        }
    }
    if (restart) {
        w.n_kills++;
        world_trace("process %d is killed", proc->id);
    }
    proc_kill(proc);
}
