/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users and operators through the gateway, and the plan of faults.
 */
#include <string.h>

#include "tests/sim/world.h"

/* Users
 * -------------------------------------------------------------------------------------------*/

static const int stage_list[] = {STAGE_TEXT, STAGE_OCR, STAGE_AI, STAGE_PREVIEW, STAGE_THUMBNAIL};

/* Hints of a gateway after a commit. */
static void notify_all(int user)
{
    char id[UUID_TEXT];

    model_user_id(user, id);
    for (int s = 1; s <= STAGE_MAX; s++) {
        if (w.m.sendable[s] > 0) {
            world_notify(s, id);
        }
    }
}

static void accept_file(int user, int cost)
{
    struct m_accept a = {.user = user, .text = true, .cost = cost};
    struct err err;

    if (w.m.n_files >= WORLD_FILES_MAX) {
        return;
    }
    if (w.kind != WORLD_FAIR) {
        a.ole2 = sim_chance(0.1);
        a.raster = !a.ole2 && sim_chance(0.2);
        a.text = !a.ole2;
        a.thumbnail = a.raster;
        a.scan = sim_chance(0.2);
    }
    if (world_db_enter(&err) < 0) {
        return;
    }
    int file = model_accept(&w.m, &a);
    for (int i = w.m.files[file].first_task; i >= 0; i = w.m.tasks[i].next_of_file) {
        w.m.tasks[i].sent_after = w.sent[w.m.tasks[i].stage];
        w.m.tasks[i].begun_after = w.begun[w.m.tasks[i].stage];
    }
    world_make_trait(file);
    const struct trait *tr = &w.traits[file];
    world_trace("user %d: file %d, ranges %d, ai units %d, bad %d at stage %d unit %d", user, file,
                tr->ranges, tr->ai_units, (int)tr->bad, tr->bad_stage, tr->bad_unit);
    world_check_file(file);
    (void)!world_db_leave(&err); /* the client that had no answer asks again with its key */
    notify_all(user);
}

static void act(int user)
{
    int file = w.m.n_files > 0 ? (int)sim_range(0, (int64_t)w.m.n_files - 1) : -1, n = 0;
    int stage = stage_list[sim_range(0, 4)];
    const char *what = "";
    struct err err;

    if (file < 0 || w.m.files[file].user != user || world_db_enter(&err) < 0) {
        return;
    }
    switch (sim_range(0, 7)) {
    case 7:
        what = "release";
        n = model_release(&w.m, file, !w.m.files[file].ole2, w.m.files[file].raster);
        break;
    case 0:
        what = "cancel";
        n = model_cancel(&w.m, user, file);
        break;
    case 1:
        what = "remove";
        n = model_remove(&w.m, user, file);
        break;
    case 2:
        what = "rerun";
        n = model_rerun(&w.m, user, file, stage, LANE_FIRST);
        break;
    case 3:
        what = "rerun in bulk";
        n = model_rerun(&w.m, user, file, stage, LANE_BULK);
        break;
    case 4:
    case 5:
        what = "retry";
        n = model_retry(&w.m, user, file, 0, MODEL_NONE, LANE_FIRST);
        break;
    default:
        what = "replay";
        n = model_retry(&w.m, MODEL_NONE, file, stage, MODEL_NONE, LANE_REPLAY);
        break;
    }
    world_trace("user %d: %s of file %d: %d", user, what, file, n);
    world_check_file(file);
    (void)!world_db_leave(&err);
    notify_all(user);
}

static void user_life(void *arg)
{
    int user = (int)(uintptr_t)arg;
    int files = (int)sim_range(1, sim_chance(0.1) ? 20 : 3);
    int acts = (int)sim_range(0, 3);

    w.people_busy++;
    fiber_sleep(sim_range(0, 10 * SECOND));
    for (int i = 0; i < files; i++) {
        accept_file(user, (int)sim_range(1, 5));
        fiber_sleep(sim_range(0, sim_chance(0.5) ? 10 * MS : 5 * SECOND));
    }
    for (int i = 0; i < acts; i++) {
        fiber_sleep(sim_range(0, 30 * SECOND));
        act(user);
    }
    w.people_busy--;
}

/* Fairness: all but the last two upload much at once; those come with one file at a time when each
 * of the others has had its turn as a newcomer. */
static void elephant(void *arg)
{
    w.people_busy++;
    for (int i = 0; i < 5; i++) {
        accept_file((int)(uintptr_t)arg, 1);
    }
    w.people_busy--;
}

static void mouse(void *arg)
{
    w.people_busy++;
    fiber_sleep(sim_range(7 * SECOND, 10 * SECOND) / w.n_slots);
    accept_file((int)(uintptr_t)arg, 1);
    w.people_busy--;
}

void world_start_people(void)
{
    for (int u = 0; u < w.n_users; u++) {
        void (*life)(void *) = w.kind != WORLD_FAIR        ? user_life
                               : u < w.n_users - FAIR_MICE ? elephant
                                                           : mouse;
        fiber_start(&w.people, life, (void *)(uintptr_t)u);
    }
}

/* Faults
 * ------------------------------------------------------------------------------------------*/

static struct proc *some_proc(void)
{
    int64_t i = sim_range(0, w.n_workers + w.n_leads * 2 - 1);
    struct proc *p = i < w.n_workers ? &w.workers[i]->proc : &w.leads[(i - w.n_workers) / 2]->proc;

    return p->alive ? p : NULL;
}

static void note_cut(struct proc *p, int64_t until)
{
    for (int i = 0; i < w.n_workers; i++) {
        if (&w.workers[i]->proc == p) {
            w.workers[i]->cut_end = until;
        }
    }
}

static void end_mood(void *arg)
{
    (void)arg;
    w.p_db_fail = w.p_db_lost = w.p_bus_fail = w.p_notify_lost = 0;
    w.store_down = false;
}

static void hurt_process(void)
{
    struct proc *p = some_proc();
    int64_t us = sim_range(100 * MS, 45 * SECOND);

    if (!p) {
        return;
    }
    switch (sim_range(0, 6)) {
    case 0:
        world_kill(p, true);
        break;
    case 1:
        p->die_in = (int)sim_range(1, 12);
        break;
    case 2:
        world_trace("process %d stops for %lld ms", p->id, (long long)us / 1000);
        proc_stop(p, us);
        note_cut(p, fiber_now() + us);
        break;
    case 3:
        world_trace("process %d is cut from the database for %lld ms", p->id, (long long)us / 1000);
        p->db_cut_until = fiber_now() + us;
        note_cut(p, p->db_cut_until + 2 * SECOND);
        break;
    case 4:
        world_trace("process %d is cut from kafka for %lld ms", p->id, (long long)us / 1000);
        p->bus_cut_until = fiber_now() + us;
        break;
    case 5:
        p->wall_skew_ms = sim_range(-3600 * 1000, 3600 * 1000);
        break;
    default:
        for (int i = 0; i < w.n_workers; i++) {
            if (&w.workers[i]->proc == p) {
                world_drain_worker(w.workers[i]);
            }
        }
        break;
    }
}

/* A file is removed while an object of it is on its way, and its worker dies: nobody is left to
 * take the object away but the cleaner, when it comes again. */
static void strand_object(void)
{
    for (size_t i = w.n_objects; i-- > 0;) {
        const struct object *o = &w.objects[i];
        if (!o->there && o->at > fiber_now() + SECOND && o->from->alive) {
            char user[UUID_TEXT];
            w.m.now = fiber_now() / 1000;
            w.m.conn = 0;
            world_trace("file %d is removed under its worker", o->file);
            model_remove(&w.m, MODEL_NONE, o->file);
            world_check_file(o->file);
            model_user_id(w.m.files[o->file].user, user);
            world_notify(STAGE_CLEAN, user);
            world_kill(o->from, true);
            return;
        }
    }
}

/* Another process gets the lock, and the old leader goes on for a while. */
static void split_leadership(void)
{
    int stage = (int)sim_range(1, STAGE_MAX), h = w.lock_holder[stage];

    if (h >= 0) {
        w.leads[h]->stages[stage].believes_until = fiber_now() + sim_range(0, 20 * SECOND);
        w.lock_holder[stage] = -1;
    }
}

static void database_away(void *arg)
{
    w.db_down_until = fiber_now() + (int64_t)(uintptr_t)arg;
}

static void hurt_servers(void)
{
    int64_t us = sim_range(100 * MS, sim_chance(0.2) ? 70 * SECOND : 8 * SECOND);

    switch (sim_range(0, 11)) {
    case 0:
        w.db_down_until = fiber_now() + us;
        w.m.started = w.db_down_until / 1000;
        for (int i = 0; i < STAGE_MAX + 2; i++) {
            w.lock_holder[i] = -1;
        }
        world_trace("postgres restarts, away for %lld ms", (long long)us / 1000);
        break;
    case 1:
        w.db_down_until = fiber_now() + us;
        world_trace("postgres cannot be reached for %lld ms", (long long)us / 1000);
        break;
    case 2:
        w.db_slow_until = fiber_now() + us;
        world_trace("postgres is slow for %lld ms", (long long)us / 1000);
        break;
    case 3:
        w.p_db_fail = 0.2;
        w.p_db_lost = 0.2;
        fiber_at(us, end_mood, NULL);
        world_trace("commits without an answer for %lld ms", (long long)us / 1000);
        break;
    case 4:
        sim_bus_down(us);
        world_trace("kafka is away for %lld ms", (long long)us / 1000);
        break;
    case 5:
        sim_bus_wipe(sim_chance(0.5));
        world_trace("kafka's log is wiped");
        break;
    case 6:
        w.p_bus_fail = 0.3;
        w.p_notify_lost = 0.5;
        fiber_at(us, end_mood, NULL);
        world_trace("kafka doubles, delays and fails for %lld ms", (long long)us / 1000);
        break;
    case 7:
        sim_bus_reset_offsets((int)sim_range(1, STAGE_MAX), sim_chance(0.5));
        break;
    case 8:
        w.store_down = true;
        fiber_at(us, end_mood, NULL);
        world_trace("the store is away for %lld ms", (long long)us / 1000);
        break;
    case 9:
    case 10:
        sim_bus_down(us + 5 * SECOND);
        fiber_at(sim_range(0, 5 * SECOND), database_away, (void *)(uintptr_t)us);
        world_trace("kafka and then postgres are away for %lld ms", (long long)us / 1000);
        break;
    default:
        sim_bus_shake((int)sim_range(1, STAGE_MAX));
        break;
    }
}

static void unpause(void *arg)
{
    w.m.paused[(uintptr_t)arg] = false;
}

static void next_fault(void *arg)
{
    (void)arg;
    if (fiber_now() >= w.faults_end) {
        return;
    }
    w.n_faults++;
    int r = (int)sim_range(0, 99);
    if (w.kind == WORLD_OUTAGE || r < 45) {
        hurt_servers();
    } else if (r < 82) {
        hurt_process();
    } else if (r < 90) {
        strand_object();
    } else if (r < 96) {
        split_leadership();
    } else {
        int64_t stage = sim_range(1, STAGE_MAX);
        w.m.paused[stage] = true;
        fiber_at(sim_range(0, 20 * SECOND), unpause, (void *)(uintptr_t)stage);
    }
    fiber_at(sim_range(0, 12 * SECOND), next_fault, NULL);
}

/* From here on nothing is done to the fleet. */
static void calm(void *arg)
{
    end_mood(arg);
    w.calm = true;
    for (int i = 0; i < w.n_workers; i++) {
        w.workers[i]->proc.die_in = 0;
    }
    for (int i = 0; i < w.n_leads; i++) {
        w.leads[i]->proc.die_in = 0;
    }
}

void world_start_faults(void)
{
    fiber_at(sim_range(0, 5 * SECOND), next_fault, NULL);
    fiber_at(w.faults_end - fiber_now(), calm, NULL);
}
