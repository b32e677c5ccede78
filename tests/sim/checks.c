/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The invariants I1 to I8 (docs/adr/0012-simulation.md), where each can be seen first.
 */
#include <string.h>

#include "tests/sim/world.h"

static bool task_live(const struct m_task *t)
{
    return t->state < TASK_DONE;
}

/* Counts of the files by state against the sums of what was written. */
static void check_counts(void)
{
    int64_t have[9] = {0}, want[9] = {0};

    for (size_t i = 0; i < w.m.n_files; i++) {
        have[w.m.files[i].state]++;
    }
    for (int from = 0; from < 9; from++) {
        for (int to = 0; to < 8; to++) {
            want[to] += w.m.deltas[from][to];
            if (from > 0) {
                want[from - 1] -= w.m.deltas[from][to];
            }
        }
    }
    for (int s = 0; s < 8; s++) {
        if (have[s] != want[s]) {
            world_fail("counts: %d files in state %d, the deltas say %d", (int)have[s], s,
                       (int)want[s]);
        }
    }
}

static void check_record(int file)
{
    const struct m_file *f = &w.m.files[file];
    int n = 0;

    for (size_t i = 0; i < w.m.n_records; i++) {
        const struct m_record *r = &w.m.records[i];
        if (r->file == file) {
            n++;
            if (r->generation != f->record_generation) {
                world_fail("I6: file %d has a record of generation %d, not %d", file, r->generation,
                           f->record_generation);
            }
        }
    }
    if (f->state < FILE_DELETING && (n > 1 || (f->main == PIPE_DONE && n == 0))) {
        world_fail("I2: file %d, main %d, has %d record sets", file, f->main, n);
    }
    if (f->state >= FILE_DELETING && n > 0) {
        world_fail("I6: file %d is removed and has a record", file);
    }
}

/* After each statement that may have changed the file. */
void world_check_file(int file)
{
    const struct m_file *f = &w.m.files[file];
    bool live = false, dead_clean = false;

    for (int i = f->first_task; i >= 0; i = w.m.tasks[i].next_of_file) {
        const struct m_task *t = &w.m.tasks[i];
        live = live || (t->generation == f->generation && task_live(t));
        dead_clean = dead_clean || (t->stage == STAGE_CLEAN && t->state == TASK_DEAD);
        if (t->generation != f->generation && task_live(t)) {
            world_fail("I6: file %d has a live task of generation %d, it is at %d", file,
                       t->generation, f->generation);
        }
    }
    if ((f->state == FILE_PROCESSING || (f->state == FILE_DELETING && !dead_clean)) && !live) {
        world_fail("I5: file %d is in state %d without a live task (main %d preview %d thumb %d)",
                   file, f->state, f->main, f->preview, f->thumb);
    }
    if (f->state >= FILE_DONE && f->state <= FILE_QUARANTINED && live) {
        world_fail("I1: file %d has ended (%d) with a live task", file, f->state);
    }
    check_record(file);
    check_counts();
    if (w.m.broken[0]) {
        world_fail("%s", w.m.broken);
    }
}

/* A committed offset passes this record. */
void world_check_commit(int stage, const struct bus_rec *rec)
{
    const struct m_task *t = model_task(&w.m, &rec->order.key);

    if (t && t->state == TASK_DISPATCHED && t->dispatch_seq == rec->order.dispatch_seq &&
        t->settled_seq != t->dispatch_seq) {
        world_fail("I5: stage %d, an offset was committed past an order that nobody asked about",
                   stage);
    }
}

/* A lease ran out: only a worker that was lost, stopped or cut off may let that happen. */
void world_check_expire(const struct m_task *t)
{
    const struct wworker *worker = w.workers[t->owner / UNIT_SLOTS_MAX];
    bool excused = !worker->proc.alive || worker->cut_end * MS >= t->claimed_at * MS;

    if (w.kind != WORLD_MIXED) {
        world_fail("I8: a lease ran out in an outage (file %d stage %d unit %d%s)", t->file,
                   t->stage, t->unit, t->answer_lost ? ", the answer to its claim was lost" : "");
    } else if (!excused && !t->answer_lost) {
        world_fail("I8: the lease of a healthy worker ran out (file %d stage %d unit %d)", t->file,
                   t->stage, t->unit);
    }
}

void world_check_done(const struct m_task *t)
{
    if (t->attempts - t->refunds - t->failures - t->lost != 1) {
        world_fail("I8: file %d stage %d unit %d done with %d attempts, %d refunds, %d failures, "
                   "%d lost leases",
                   t->file, t->stage, t->unit, t->attempts, t->refunds, t->failures, t->lost);
    }
}

static bool is_mouse(const struct m_task *t)
{
    return w.kind == WORLD_FAIR && t->user >= w.n_users - FAIR_MICE && t->unit == 0 &&
           (t->stage == STAGE_TEXT || t->stage == STAGE_PREVIEW);
}

/* I7: with everything healthy, a user with one file waits for a few sendings, however many others
 * have how much to do. */
void world_check_wait(const struct m_task *t)
{
    uint64_t passed = w.sent[t->stage] - t->sent_after;
    int bound = w.n_slots * w.n_stage_workers + w.n_stage_workers + 4;

    if (is_mouse(t) && passed > (uint64_t)bound) {
        world_fail("I7: a user with one file waited for %d others at stage %d, the bound is %d",
                   (int)passed, t->stage, bound);
    }
}

/* And then for what was out before it. */
void world_check_begin(const struct m_task *t)
{
    uint64_t passed = w.begun[t->stage] - t->begun_after;
    int bound = 3 * (w.n_slots * w.n_stage_workers + w.n_stage_workers + 4);

    if (is_mouse(t) && passed > (uint64_t)bound) {
        world_fail("I7: %d others began at stage %d before a user with one file, the bound is %d",
                   (int)passed, t->stage, bound);
    }
}

/* Only what was planned to fail may die. */
void world_check_letter(const struct m_task *t, const struct err *why)
{
    const struct trait *tr = &w.traits[t->file];
    bool bad = t->stage == tr->bad_stage && t->unit == tr->bad_unit;

    if (strcmp(why->code, "crash_loop") == 0) {
        if (t->lost + 1 < 3) {
            world_fail("I8: dead as crash loop after %d lost leases", t->lost + 1);
        }
    } else if (strcmp(why->code, "sim_permanent") == 0) {
        if (!bad || tr->bad != BAD_PERMANENT) {
            world_fail("I8: dead for a reason that was not there");
        }
    } else if (strcmp(why->code, "sim_unknown") == 0 || strcmp(why->code, "child_crashed") == 0) {
        int limit = tr->bad == BAD_CHILD ? 3 : 5;
        if (!bad || t->failures + 1 < limit) {
            world_fail("I8: dead after %d failures, the limit is %d", t->failures + 1, limit);
        }
    } else {
        world_fail("I8: a unit is dead for %s: %s", why->code, why->msg);
    }
}

/* Everything that was accepted has ended, and nothing is out. */
bool world_at_rest(void)
{
    for (size_t i = 0; i < w.m.n_files; i++) {
        int s = w.m.files[i].state;
        if (s == FILE_PROCESSING || s == FILE_UPLOADING) {
            return false;
        }
    }
    for (size_t i = 0; i < w.m.n_tasks; i++) {
        if (task_live(&w.m.tasks[i])) {
            return false;
        }
    }
    return w.people_busy == 0;
}

static void check_letters(void)
{
    for (size_t i = 0; i < w.m.n_tasks; i++) {
        const struct m_task *t = &w.m.tasks[i];
        int open = 0;
        for (size_t k = 0; k < w.m.n_letters; k++) {
            const struct m_letter *l = &w.m.letters[k];
            open += l->state == 0 && l->file == t->file && l->stage == t->stage &&
                    l->unit == t->unit && l->generation == t->generation;
        }
        if (open > 1 || (open == 1 && t->state != TASK_DEAD)) {
            world_fail("letters: %d open ones of a task in state %d", open, t->state);
        }
    }
}

static void check_joins(void)
{
    for (size_t i = 0; i < w.m.n_joins; i++) {
        const struct m_join *j = &w.m.joins[i];
        const struct m_file *f = &w.m.files[j->file];
        if (j->generation == f->generation && f->state < FILE_DELETING && j->left != 0) {
            world_fail("join: file %d stage %d has %d of %d units left at rest", j->file, j->stage,
                       j->left, j->total);
        }
    }
}

/* At rest. */
void world_check_end(void)
{
    for (size_t i = 0; i < w.m.n_files; i++) {
        world_check_file((int)i);
    }
    check_letters();
    check_joins();
    for (size_t i = 0; i < w.n_objects; i++) {
        const struct object *o = &w.objects[i];
        if (o->there && w.m.files[o->file].state == FILE_DELETED) {
            world_fail("I3: file %d is deleted and an object of it is there", o->file);
        }
    }
}
