/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Set-up, the database's moods, and the run of one schedule.
 */
#include "tests/sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct world w;

void world_fail(const char *fmt, ...)
{
    va_list args;

    if (w.failure[0]) {
        return;
    }
    int n = snprintf(w.failure, sizeof(w.failure), "%.3f s: ", (double)fiber_now() / 1e6 - 3600);
    va_start(args, fmt);
    vsnprintf(w.failure + n, sizeof(w.failure) - (size_t)n, fmt, args);
    va_end(args);
    world_trace("FAILED %s", w.failure);
}

void world_trace(const char *fmt, ...)
{
    va_list args;

    if (!w.trace) {
        return;
    }
    const struct proc *p = proc_self();
    printf("%11.4f %3d ", (double)fiber_now() / 1e6 - 3600, p ? p->id : -1);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
}

/* Postgres --------------------------------------------------------------------------------------*/

bool world_db_reachable(const struct proc *proc)
{
    return fiber_now() >= w.db_down_until && fiber_now() >= proc->db_cut_until;
}

static int no_answer(struct err *err)
{
    return err_set(err, ERR_TRANSIENT, "db_unavailable", "the database did not answer");
}

static void db_pause(void)
{
    bool slow = fiber_now() < w.db_slow_until;

    fiber_sleep(slow ? sim_range(100 * MS, 500 * MS) : sim_range(MS / 10, 2 * MS));
}

int world_db_enter(struct err *err)
{
    struct proc *p = proc_self();

    db_pause();
    if (!world_db_reachable(p)) {
        fiber_sleep(sim_range(MS, sim_chance(0.2) ? 4 * SECOND : SECOND));
        return no_answer(err);
    }
    if (sim_chance(w.p_db_fail)) {
        return no_answer(err);
    }
    w.m.now = fiber_now() / 1000;
    w.m.conn = p->id % MODEL_CONNS_MAX;
    return 0;
}

int world_db_leave(struct err *err)
{
    const struct proc *p = proc_self();
    bool lost = sim_chance(w.p_db_lost);

    db_pause();
    return lost || !world_db_reachable(p) ? no_answer(err) : 0;
}

/* Time ------------------------------------------------------------------------------------------*/

static bool quiet(void)
{
    for (int s = 1; s <= STAGE_MAX; s++) {
        if (w.m.sendable[s] > 0 || w.m.out[s] > 0) {
            return false;
        }
    }
    return true;
}

int64_t world_idle_us(int64_t us)
{
    int64_t due = fiber_now() + 6 * SECOND;

    if (!quiet()) {
        return us;
    }
    for (size_t i = 0; i < w.m.n_tasks; i++) {
        if (w.m.tasks[i].q == 1 && w.m.tasks[i].not_before * 1000 < due) {
            due = w.m.tasks[i].not_before * 1000;
        }
    }
    due -= fiber_now();
    return due > us ? due : us;
}

/* A hint to the stage's leader
 * --------------------------------------------------------------------*/

struct hint {
    int stage, user;
};

static void deliver_hint(void *arg)
{
    int stage = (int)((uintptr_t)arg >> 16), user = (int)((uintptr_t)arg & 0xffff);

    for (int i = 0; i < w.n_leads; i++) {
        struct wlead *l = w.leads[i];
        if (l->proc.alive && world_db_reachable(&l->proc)) {
            l->stages[stage].n_named += l->stages[stage].named[user] ? 0 : 1;
            l->stages[stage].named[user] = true;
            l->stages[stage].poked = true;
            fiber_wake(&l->stages[stage].hint);
        }
    }
}

void world_notify(int stage, const char *user_id)
{
    int user = model_index(user_id);

    if (!sim_chance(w.p_notify_lost)) {
        fiber_at(sim_range(MS, 8 * MS), deliver_hint,
                 (void *)((uintptr_t)stage << 16 | (uintptr_t)user));
    }
}

/* The run
 * -----------------------------------------------------------------------------------------*/

static void clear(void)
{
    struct model m = w.m;
    struct object *objects = w.objects;

    for (int i = 0; i < w.n_workers; i++) {
        unit_core_done(&w.workers[i]->core);
        guard_done(&w.workers[i]->guard);
        free(w.workers[i]);
    }
    for (int i = 0; i < w.n_leads; i++) {
        for (int s = 1; s <= STAGE_MAX; s++) {
            stage_lead_free(w.leads[i]->stages[s].lead);
        }
        free(w.leads[i]);
    }
    model_reset(&m);
    w = (struct world){.m = m, .objects = objects};
    if (!w.objects) {
        w.objects = calloc(WORLD_OBJECTS_MAX, sizeof(*w.objects));
    }
    for (int i = 0; i < STAGE_MAX + 2; i++) {
        w.lock_holder[i] = -1;
    }
    sim_bus_reset();
}

static void draw_plan(void)
{
    int r = (int)sim_range(0, 99);

    w.kind = r < 68 ? WORLD_MIXED : r < 92 ? WORLD_OUTAGE : WORLD_FAIR;
    w.n_users = (int)sim_range(1, 4);
    w.n_slots = (int)sim_range(1, 3);
    w.n_stage_workers = (int)sim_range(1, 2);
    w.n_dispatchers = (int)sim_range(1, 2);
    if (w.kind == WORLD_FAIR) {
        w.n_users = (int)sim_range(12, 15);
        w.n_dispatchers = 1;
        w.n_slots = (int)sim_range(1, 2);
        w.n_stage_workers = 1;
    }
}

/* What is not at rest, for the trace. */
static void tell_rest(void)
{
    for (size_t i = 0; i < w.m.n_files; i++) {
        const struct m_file *f = &w.m.files[i];
        if (f->state <= FILE_PROCESSING) {
            world_trace("file %zu: state %d gen %d main %d preview %d thumb %d", i, f->state,
                        f->generation, f->main, f->preview, f->thumb);
        }
    }
    for (size_t i = 0; i < w.m.n_tasks; i++) {
        const struct m_task *t = &w.m.tasks[i];
        if (t->state < TASK_DONE) {
            world_trace("task of file %d: stage %d unit %d gen %d state %d q %d lane %d seq %d "
                        "attempts %d failures %d refunds %d lease %lld",
                        t->file, t->stage, t->unit, t->generation, t->state, t->q, t->lane,
                        t->dispatch_seq, t->attempts, t->failures, t->refunds,
                        (long long)(t->lease_until - w.m.now));
        }
    }
    for (int l = 0; l < STAGE_MAX + 1; l++) {
        world_trace("lock %d: %d", l, w.lock_holder[l]);
    }
}

static bool step(void)
{
    return w.failure[0] == '\0';
}

void world_run(uint64_t seed, bool trace)
{
    fiber_reset(seed);
    clear();
    w.seed = seed;
    w.trace = trace;
    draw_plan();
    proc_start(&w.people, NULL);
    w.m.now = fiber_now() / 1000;
    w.m.started = w.m.now - 3600 * 1000;
    for (int i = 0; i < w.n_dispatchers; i++) {
        world_start_lead();
    }
    for (int s = 1; s <= STAGE_MAX; s++) {
        for (int i = 0; i < w.n_stage_workers; i++) {
            world_start_worker(s);
        }
    }
    w.faults_end = fiber_now() + (w.kind == WORLD_FAIR ? 12 * SECOND : sim_range(20, 90) * SECOND);
    w.limit = w.faults_end + 4 * 3600 * SECOND;
    world_start_people();
    if (w.kind != WORLD_FAIR) {
        world_start_faults();
    }
    world_trace("seed %llu kind %d users %d slots %d workers %d dispatchers %d",
                (unsigned long long)seed, (int)w.kind, w.n_users, w.n_slots, w.n_stage_workers,
                w.n_dispatchers);
    for (int64_t at = fiber_now(); step(); at += SECOND) {
        if (at > w.faults_end && world_at_rest()) {
            world_check_end();
            return;
        }
        if (at > w.limit) {
            tell_rest();
            world_fail("not at rest four hours after the last fault");
            return;
        }
        fiber_run(at, step);
    }
}
