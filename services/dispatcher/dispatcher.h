/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the dispatcher's threads share: one loop per stage, one for events, one for what is due, and
 * a listener that wakes them.
 * Invariant: a stage's loop works only while it holds the stage's leader lock; a second leader is
 * harmless all the same, as every statement checks the row it changes.
 */
#pragma once

#include "libcommon/bus.h"
#include "libcommon/service.h"
#include "services/dispatcher/stage_core.h"

#include <pthread.h>

/* Advisory locks (776000, stage + 1000 * shard); stage 0: events, 100: due tasks. */
#define LEADER_CLASS 776000
#define LEADER_SHARD 1000
#define LEADER_EVENTS 0
#define LEADER_DUE 100
#define SHARDS_MAX 8

struct dispatcher_options {
    char *scheduling;
    char *partitioning;
    int64_t credit_floor;
    int64_t sweep_ms;
    int64_t dispatch_timeout_ms;
    int64_t shards;
};

/* A thread's mailbox: users of the stage that got tasks, or just "look". */
#define WAKE_USERS_MAX 1024U
struct wake {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    char (*users)[UUID_TEXT];
    size_t n_users;
    bool overflow; /* more users than fit: reconcile */
    bool poked;
};

struct survey; /* survey.c */

struct dispatcher {
    struct service service;
    struct dispatcher_options options;
    struct bus_producer *producer;
    struct survey *survey;
    struct wake wakes[SHARDS_MAX][STAGE_MAX + 1]; /* [0][0]: events */
    pthread_mutex_t broker_lock;
    uint64_t broker_at; /* when the broker was last asked whether it is there */
    uint64_t topics_at; /* they were made again last */
    bool broker_alive;
    int events_pulse; /* of the events' loop */
};

struct stage_thread {
    struct dispatcher *dispatcher;
    int stage;
    int shard;
};

/* A loop that has not come round for so long is stuck: one statement may take 20 s, one sending 11,
 * and a round is given up at the first failure. */
#define LOOP_LIMIT_MS 300000U

void wake_init(struct wake *wake);
void wake_user(struct wake *wake, const char *user_id);
void wake_poke(struct wake *wake);
/* As after too many users: everything is read again, the stage's control and workers at once. */
void wake_look(struct wake *wake);
/* Waits up to timeout_ms for a poke; copies users out (at most WAKE_USERS_MAX). */
size_t wake_wait(struct wake *wake, unsigned timeout_ms, char (*users)[UUID_TEXT],
                 bool *ret_overflow);

/* A leader lock on a connection of its own. */
enum leads {
    LEADS_NO, /* another process does */
    LEADS_YES,
    LEADS_AWAY, /* Postgres does not answer */
};
struct leader {
    PGconn *pg;
    int key;
    uint64_t checked_ms;
    enum leads last;
};
/* Tries to become or stay leader. */
enum leads leader_hold(struct leader *leader, struct dispatcher *dispatcher);
void leader_release(struct leader *leader);

/* Long reads, made by a thread of their own so that no pick waits for them: a census of what waits,
 * at most a twentieth of the time, and each minute all that is out. */
int survey_new(struct dispatcher *dispatcher, struct survey **ret_survey,
               struct err *err) WARN_UNUSED;
void survey_free(struct survey *survey);
/* As lead_io.census and lead_io.strays (not fresh); asking keeps them coming. */
int survey_census(struct survey *survey, const struct stage_thread *thread, task_census_fn fn,
                  void *arg, double *ret_oldest_s);
int survey_strays(struct survey *survey, const struct stage_thread *thread, task_stray_fn fn,
                  void *arg, struct err *err) WARN_UNUSED;

void *stage_loop(void *arg);  /* struct stage_thread */
void *events_loop(void *arg); /* struct dispatcher */
void *due_loop(void *arg);    /* struct dispatcher */
void *listen_loop(void *arg); /* struct dispatcher */
void *survey_loop(void *arg); /* struct survey */
