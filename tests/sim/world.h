/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One schedule: a fleet of workers and dispatchers (production cores over the tables lead_io and
 * unit_io), the tables (model.h), Kafka (bus.h), users who upload, cancel, remove, retry and
 * re-run, and a seeded plan of faults. All faults end at a known time; then the fleet must come to
 * rest. Invariant: everything that happens is drawn from the seed.
 */
#pragma once

#include "libcommon/unit_core.h"
#include "services/dispatcher/stage_core.h"
#include "tests/sim/bus.h"
#include "tests/sim/fiber.h"
#include "tests/sim/model.h"

#define WORLD_WORKERS_MAX 512
#define WORLD_LEADS_MAX 32
#define WORLD_FILES_MAX 256
#define WORLD_OBJECTS_MAX 8192
#define FAIR_MICE 2
#define LEASE_MS 15000
#define SECOND_PASS_MS 75000

enum world_kind {
    WORLD_MIXED,  /* everything may happen */
    WORLD_OUTAGE, /* only the servers fail: nothing may cost an attempt */
    WORLD_FAIR,   /* nothing fails: fairness must hold */
    WORLD_KINDS,
};

enum trait_bad {
    BAD_NONE,
    BAD_UNKNOWN_SOME, /* fails n times with ERR_UNKNOWN, then works */
    BAD_UNKNOWN,      /* always */
    BAD_CHILD,        /* its child crashes, always */
    BAD_PERMANENT,
    BAD_TRANSIENT_SOME,
    BAD_POISON,      /* kills its worker, always */
    BAD_POISON_SOME, /* twice, then works */
    BAD_WAIT,        /* waits for a provider's job first */
    BAD_KINDS,
};

/* What a file is like. */
struct trait {
    int ranges; /* of OCR; 0: none needed */
    int ai_units;
    bool no_thumb;
    int bad_stage, bad_unit;
    enum trait_bad bad;
    int bad_n;
    int tries; /* of the bad unit, since the last retry */
};

struct wworker {
    struct proc proc;
    int number, stage;
    struct unit_core core;
    struct unit_io io;
    struct stage def;
    struct stage_ctx ctx;
    struct service *service;
    struct guard guard;
    struct member member;
    struct waitq idle;
    int inside, alone; /* handlers at work; of these such that must be alone */
    int64_t cut_end;   /* end of its newest pause or cut */
    bool poll_stop, poll_ended, keep_stop, draining;
    char id[32];
};

struct wlead {
    struct proc proc;
    int number;
    struct lead_io io;
    struct {
        struct wlead *wlead;
        int stage;
        struct stage_lead *lead;
        struct waitq hint;
        bool named[MODEL_USERS_MAX];
        int n_named;
        bool poked, leads;
        int64_t believes_until; /* leads without the lock */
        struct {
            struct task_out out;
            char user[UUID_TEXT];
            int cost;
        } strays[256];
        size_t n_strays;
    } stages[STAGE_MAX + 1];
};

struct world {
    uint64_t seed;
    enum world_kind kind;
    struct model m;
    bool trace;
    /* The plan. */
    int n_users, n_slots, n_stage_workers, n_dispatchers;
    int64_t faults_end, limit;
    bool calm; /* past faults_end */
    /* The world's state. */
    struct trait traits[WORLD_FILES_MAX];
    struct wworker *workers[WORLD_WORKERS_MAX];
    int n_workers;
    struct wlead *leads[WORLD_LEADS_MAX];
    int n_leads;
    struct proc people;             /* users, operators, the gateway */
    int lock_holder[STAGE_MAX + 2]; /* number of a lead, -1: free; [0]: due tasks */
    int most_credit[STAGE_MAX + 1]; /* that a leader has published */
    int64_t db_down_until;
    int64_t db_slow_until;
    double p_db_fail, p_db_lost, p_bus_fail, p_notify_lost, p_die;
    bool store_down;
    uint64_t sent[STAGE_MAX + 1], begun[STAGE_MAX + 1]; /* orders sent and claimed per stage */
    struct object {
        int file;
        int stage, unit, generation;
        int64_t token;
        int64_t at; /* when it lands, whatever becomes of its worker */
        struct proc *from;
        bool there, named; /* a finished unit names it */
    } *objects;
    size_t n_objects;
    int people_busy;
    /* What came out. */
    int n_faults, n_kills;
    char failure[300];
};

extern struct world w;

/* world.c */
void world_run(uint64_t seed, bool trace); /* result: w.failure */
void world_fail(const char *fmt, ...) PRINTF(1, 2);
void world_trace(const char *fmt, ...) PRINTF(1, 2);
/* Around each statement: 0, or -1 with a transient error. enter: before it takes effect. */
int world_db_enter(struct err *err);
int world_db_leave(struct err *err);
bool world_db_reachable(const struct proc *proc);
/* Nothing is going on: loops may sleep longer. */
int64_t world_idle_us(int64_t us);
void world_notify(int stage, const char *user_id);

/* world_worker.c */
struct wworker *world_start_worker(int stage);
void world_drain_worker(struct wworker *worker);
void world_kill(struct proc *proc, bool restart);
struct wworker *world_worker_of(const struct proc *proc);

/* world_stage.c */
int world_handle(struct job *job, struct err *err);
void world_make_trait(int file);
void world_end_puts(struct job_puts *puts, bool keep);
void world_name_objects(const struct task_claim *claim);

/* world_lead.c */
void world_start_lead(void);
struct wlead *world_lead_of(const struct proc *proc);

/* world_people.c */
void world_start_people(void);
void world_start_faults(void);

/* checks.c */
void world_check_file(int file);
void world_check_commit(int stage, const struct bus_rec *rec);
void world_check_expire(const struct m_task *task);
void world_check_done(const struct m_task *task);
void world_check_wait(const struct m_task *task);
void world_check_begin(const struct m_task *task);
void world_check_letter(const struct m_task *task, const struct err *why);
void world_check_end(void);
bool world_at_rest(void);
