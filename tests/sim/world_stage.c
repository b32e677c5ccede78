/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the units of the simulated stages do: a file has traits, drawn when it is accepted, and each
 * stage does to it what the real one would: plan ranges, end pipelines, write a record, fail, take
 * its process with it. Cleaning is the production handler (services/cleaner/stage.c) over the
 * objects here.
 */
#include <string.h>

#include "libcommon/db.h"
#include "services/cleaner/options.h"
#include "services/cleaner/stage.h"
#include "services/cleaner/sweep.h"
#include "tests/sim/world.h"

#define PUTS_MAX 8

void world_make_trait(int file)
{
    struct trait *tr = &w.traits[file];
    static const int stages[] = {STAGE_TEXT, STAGE_OCR, STAGE_AI, STAGE_PREVIEW, STAGE_THUMBNAIL};

    *tr = (struct trait){0};
    if (w.kind == WORLD_FAIR) {
        return;
    }
    tr->ranges = sim_chance(0.3) ? (int)sim_range(1, 4) : 0;
    tr->ai_units = sim_chance(0.2) ? (int)sim_range(1, 3) : 0;
    tr->no_thumb = sim_chance(0.1);
    if (!sim_chance(0.4)) {
        return;
    }
    tr->bad = (enum trait_bad)sim_range(BAD_UNKNOWN_SOME, BAD_KINDS - 1);
    if (w.kind == WORLD_OUTAGE && (tr->bad == BAD_POISON || tr->bad == BAD_POISON_SOME)) {
        tr->bad = BAD_NONE;
    }
    tr->bad_stage = stages[sim_range(0, 4)];
    if (w.m.tasks[w.m.files[file].first_task].stage == STAGE_SCAN && sim_chance(0.3)) {
        tr->bad_stage = STAGE_SCAN;
    }
    tr->bad_unit = tr->bad_stage == STAGE_OCR && tr->ranges > 0    ? (int)sim_range(0, tr->ranges)
                   : tr->bad_stage == STAGE_AI && tr->ai_units > 0 ? (int)sim_range(0, tr->ai_units)
                                                                   : 0;
    tr->bad_n = (int)sim_range(1, 2);
}

/* Objects ---------------------------------------------------------------------------------------*/

struct job_puts {
    size_t objects[PUTS_MAX];
    int n;
};

struct job_puts *job_puts_new(void)
{
    return calloc(1, sizeof(struct job_puts));
}

void world_end_puts(struct job_puts *puts, bool keep)
{
    for (int i = 0; puts && !keep && i < puts->n; i++) {
        if (w.objects[puts->objects[i]].named) {
            world_fail("I3: an object of a finished unit of file %d is deleted",
                       w.objects[puts->objects[i]].file);
        }
        w.objects[puts->objects[i]].there = false;
    }
    free(puts);
}

/* The unit has ended well: its row names what it stored. */
void world_name_objects(const struct task_claim *claim)
{
    for (size_t i = 0; i < w.n_objects; i++) {
        struct object *o = &w.objects[i];
        if (o->file == model_index(claim->key.file_id) && o->stage == claim->key.stage &&
            o->unit == claim->key.unit && o->generation == claim->key.generation &&
            o->token == claim->token) {
            o->named = true;
        }
    }
}

static void land(void *arg)
{
    struct object *o = arg;

    o->there = true;
}

/* A PUT that takes its time and lands whatever becomes of its worker. */
static void put_object(struct job *job, int file)
{
    if (w.n_objects == WORLD_OBJECTS_MAX || job->puts->n == PUTS_MAX) {
        return;
    }
    struct object *o = &w.objects[w.n_objects];
    *o = (struct object){.file = file,
                         .stage = job->claim->key.stage,
                         .unit = job->claim->key.unit,
                         .generation = job->claim->key.generation,
                         .token = job->claim->token,
                         .from = proc_self(),
                         .at = fiber_now() + sim_range(MS, w.kind != WORLD_FAIR && sim_chance(0.1)
                                                               ? 15 * SECOND
                                                               : 300 * MS)};
    job->puts->objects[job->puts->n++] = w.n_objects++;
    fiber_at(o->at - fiber_now(), land, o);
    fiber_sleep(o->at - fiber_now() + 1);
}

/* Work ------------------------------------------------------------------------------------------*/

/* False when the unit was cancelled meanwhile. */
static bool work(struct job *job)
{
    int64_t left = w.kind == WORLD_FAIR ? sim_range(200 * MS, 500 * MS)
                   : sim_chance(0.05)   ? sim_range(10 * SECOND, 40 * SECOND)
                                        : sim_range(5 * MS, 1500 * MS);

    for (; left > 0; left -= 250 * MS) {
        if (atomic_load(&job->cancel)) {
            return false;
        }
        fiber_sleep(left < 250 * MS ? left : 250 * MS);
    }
    return !atomic_load(&job->cancel);
}

/* The planned misfortune of this unit: 0 none left, else what handle returns. */
static int misfortune(struct job *job, struct trait *tr, struct err *err)
{
    const struct task_key *key = &job->claim->key;

    if (key->stage != tr->bad_stage || key->unit != tr->bad_unit) {
        return 0;
    }
    int tries = tr->tries++;
    switch (tr->bad) {
    case BAD_UNKNOWN_SOME:
        return tries < tr->bad_n ? err_set(err, ERR_UNKNOWN, "sim_unknown", "planned") : 0;
    case BAD_UNKNOWN:
        return err_set(err, ERR_UNKNOWN, "sim_unknown", "planned");
    case BAD_CHILD:
        return err_set(err, ERR_UNKNOWN, "child_crashed", "planned");
    case BAD_PERMANENT:
        return err_set(err, ERR_PERMANENT, "sim_permanent", "planned");
    case BAD_TRANSIENT_SOME:
        return tries < tr->bad_n ? err_set(err, ERR_TRANSIENT, "sim_outage", "planned") : 0;
    case BAD_POISON:
    case BAD_POISON_SOME:
        if (tr->bad == BAD_POISON || tries < 2) {
            world_trace("poison: file %s", key->file_id + 30);
            world_kill(proc_self(), true);
        }
        return 0;
    case BAD_WAIT:
        if (!job->claim->ext_job_id) {
            job->ext_job_id = strdup("job");
            job->retry_after_ms = sim_range(500, 20000);
            return STAGE_WAIT;
        }
        return 0;
    case BAD_NONE:
    case BAD_KINDS:
        break;
    }
    return 0;
}

static int plan(struct outcome *out, int n, struct err *err)
{
    int r = 0;

    for (int i = 1; i <= n && r == 0; i++) {
        r = outcome_unit(out, i, (int)sim_range(1, 10), NULL, err);
    }
    return r;
}

static int write_record(struct outcome *out, struct err *err)
{
    if (outcome_record(out, json_pack("{s:i, s:i}", "schemaVersion", 1, "docNo", 0), err) < 0) {
        return -1;
    }
    return outcome_pipeline(out, PIPE_DONE, NULL, NULL, err);
}

static int ai_outcome(struct outcome *out, const struct trait *tr, int unit, struct err *err)
{
    if (tr->ai_units == 0 || unit > tr->ai_units) {
        return write_record(out, err);
    }
    return unit == 0 ? plan(out, tr->ai_units, err)
                     : outcome_next(out, STAGE_AI, tr->ai_units + 1, 1, NULL, err);
}

static int ocr_outcome(struct outcome *out, const struct trait *tr, int unit, struct err *err)
{
    return unit == 0 && tr->ranges > 0 ? plan(out, tr->ranges, err)
                                       : outcome_next(out, STAGE_AI, 0, 1, NULL, err);
}

static int text_outcome(struct outcome *out, const struct trait *tr, struct err *err)
{
    const struct outcome_page page = {.page = 1, .engine = "native", .confidence = -1};

    if (outcome_page(out, &page, err) < 0) {
        return -1;
    }
    return outcome_next(out, tr->ranges > 0 ? STAGE_OCR : STAGE_AI, 0, 1, NULL, err);
}

static int preview_outcome(struct outcome *out, const struct trait *tr, const struct m_file *f,
                           struct err *err)
{
    if (f->ole2 && outcome_spawn(out, STAGE_TEXT, 0, 1, NULL, err) < 0) {
        return -1;
    }
    if (tr->no_thumb && !f->raster) {
        outcome_no_thumbnail(out);
    } else if (!f->raster && outcome_spawn(out, STAGE_THUMBNAIL, 0, 1, NULL, err) < 0) {
        return -1;
    }
    return outcome_pipeline(out, PIPE_DONE, NULL, NULL, err);
}

static int scan_outcome(struct outcome *out, const struct m_file *f, struct err *err)
{
    if (sim_chance(0.2)) {
        return outcome_pipeline(out, PIPE_FAILED, "infected", "so", err);
    }
    if ((!f->ole2 && outcome_next(out, STAGE_TEXT, 0, 1, NULL, err) < 0) ||
        (f->raster && outcome_next(out, STAGE_THUMBNAIL, 0, 1, NULL, err) < 0)) {
        return -1;
    }
    return outcome_next(out, STAGE_PREVIEW, 0, 1, NULL, err);
}

static int write_outcome(struct job *job, const struct trait *tr, int file, struct err *err)
{
    const struct task_key *key = &job->claim->key;

    /* All alike where fairness is checked: then the order among equals shows. */
    outcome_set_cost(job->out, w.kind == WORLD_FAIR ? 1 : (int)sim_range(1, 12));
    switch (key->stage) {
    case STAGE_TEXT:
        return text_outcome(job->out, tr, err);
    case STAGE_OCR:
        return ocr_outcome(job->out, tr, key->unit, err);
    case STAGE_AI:
        return ai_outcome(job->out, tr, key->unit, err);
    case STAGE_SCAN:
        return scan_outcome(job->out, &w.m.files[file], err);
    case STAGE_PREVIEW:
        return preview_outcome(job->out, tr, &w.m.files[file], err);
    default:
        return outcome_pipeline(job->out, PIPE_DONE, NULL, NULL, err);
    }
}

/* A call of the store, behind its breaker. */
static int use_store(struct job *job, struct err *err)
{
    int r = 0;

    if (job_enter(job, GUARD_STORE, err) < 0) {
        return -1;
    }
    fiber_sleep(sim_range(MS / 10, 5 * MS));
    if (w.store_down) {
        r = err_set(err, ERR_TRANSIENT, "store_unavailable", "the store is away");
    }
    job_leave(job, GUARD_STORE, r, err);
    return r;
}

/* A unit that has taken its process with it twice has it for itself. */
static void check_alone(struct wworker *me, bool alone)
{
    if (me->inside > 1 && (alone || me->alone > 0)) {
        world_fail("poison: a unit that must run alone runs beside %d others", me->inside - 1);
    }
}

static int do_unit(struct job *job, struct err *err)
{
    int file = model_index(job->claim->key.file_id);
    struct trait *tr = &w.traits[file];

    if (!work(job)) {
        return err_set(err, ERR_TRANSIENT, "cancelled", "taken back");
    }
    int r = misfortune(job, tr, err);
    if (r != 0) {
        return r;
    }
    if (use_store(job, err) < 0) {
        return -1;
    }
    if (sim_chance(0.5)) {
        put_object(job, file);
    }
    return write_outcome(job, tr, file, err);
}

int world_handle(struct job *job, struct err *err)
{
    struct wworker *me = world_worker_of(proc_self());
    const struct task_claim *c = job->claim;
    bool alone = c->attempts - 1 - c->failures - c->refunds >= 2;

    me->inside++;
    me->alone += alone ? 1 : 0;
    check_alone(me, alone);
    int r = c->key.stage == STAGE_CLEAN ? cleaner.handle(job, err) : do_unit(job, err);
    me->inside--;
    me->alone -= alone ? 1 : 0;
    return r;
}

/* As in stage_io.c, by the clock of the simulation. */
int job_enter(struct job *job, enum guard_dep dep, struct err *err)
{
    int64_t wait = 0;

    if (guard_enter(job->ctx->guard, dep, (uint64_t)(fiber_now() / 1000), &wait, err) < 0) {
        job->retry_after_ms = wait;
        return -1;
    }
    return 0;
}

void job_leave(struct job *job, enum guard_dep dep, int r, const struct err *err)
{
    guard_leave(job->ctx->guard, dep, (uint64_t)(fiber_now() / 1000), guard_answer(r, err));
}

/* What the cleaner's handler calls --------------------------------------------------------------*/

/* No backup runs in a simulation. */
int sweep_guard(struct service *service, struct db_conn **ret_guard, struct err *err)
{
    (void)service;
    (void)err;
    *ret_guard = NULL;
    return 0;
}

/* Nor of a legal hold; but it asks the database. */
int sweep_held(struct service *service, const char *dataset_id, bool *ret_held, struct err *err)
{
    (void)service;
    (void)dataset_id;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    *ret_held = false;
    return world_db_leave(err);
}

int sweep_prefix(struct store *store, const char *prefix, uint64_t *n, struct err *err)
{
    int file = model_index(prefix + strlen(prefix) - UUID_TEXT);

    (void)store;
    fiber_sleep(sim_range(MS, 100 * MS));
    if (w.store_down) {
        return err_set(err, ERR_TRANSIENT, "store_unavailable", "the store is away");
    }
    for (size_t i = 0; i < w.n_objects && prefix[0] == 'a'; i++) {
        if (w.objects[i].file == file && w.objects[i].there) {
            w.objects[i].there = false;
            (*n)++;
        }
    }
    return 0;
}

int sweep_tick(struct service *service, struct err *err)
{
    (void)service;
    (void)err;
    return 0;
}

struct db_conn {
    int file;
};

int db_acquire(struct db *db, struct db_conn **ret_conn, struct err *err)
{
    (void)db;
    if (world_db_enter(err) < 0) {
        return -1;
    }
    *ret_conn = calloc(1, sizeof(**ret_conn));
    return *ret_conn ? 0 : err_nomem(err);
}

void db_release(struct db_conn *conn)
{
    free(conn);
}

int db_begin(struct db_conn *conn, struct err *err)
{
    (void)conn;
    (void)err;
    return 0;
}

int db_query(struct db_conn *conn, const char *sql, int n, const char *const *params,
             PGresult **ret_res, struct err *err)
{
    (void)sql;
    (void)n;
    (void)ret_res;
    (void)err;
    conn->file = model_index(params[0]);
    return 0;
}

/* All of forget_sql at once. */
int db_commit(struct db_conn *conn, struct err *err)
{
    struct m_file *f = &w.m.files[conn->file];

    for (size_t i = 0; i < w.m.n_records;) {
        if (w.m.records[i].file == conn->file) {
            w.m.records[i] = w.m.records[--w.m.n_records];
        } else {
            i++;
        }
    }
    for (size_t i = 0; i < w.m.n_joins; i++) {
        if (w.m.joins[i].file == conn->file) {
            w.m.joins[i].left = w.m.joins[i].failed = 0;
        }
    }
    for (size_t i = 0; i < w.m.n_letters; i++) {
        if (w.m.letters[i].file == conn->file && w.m.letters[i].state == 0) {
            w.m.letters[i].state = 2;
        }
    }
    f->has_pages = false;
    return world_db_leave(err);
}
