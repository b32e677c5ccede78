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
#include "services/dispatcher/sfq.h"

#include <pthread.h>

#define LEADER_CLASS 776000 /* advisory locks (776000, stage); stage 0: events, 100: due tasks */
#define LEADER_EVENTS 0
#define LEADER_DUE 100

struct dispatcher_options {
    char *scheduling;
    char *partitioning;
    int64_t credit_floor;
    int64_t sweep_ms;
    int64_t dispatch_timeout_ms;
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

struct dispatcher {
    struct service service;
    struct dispatcher_options options;
    struct bus_producer *producer;
    struct wake wakes[STAGE_MAX + 1]; /* [0]: events */
};

struct stage_thread {
    struct dispatcher *dispatcher;
    int stage;
};

void wake_init(struct wake *wake);
void wake_user(struct wake *wake, const char *user_id);
void wake_poke(struct wake *wake);
/* Waits up to timeout_ms for a poke; copies users out (at most WAKE_USERS_MAX). */
size_t wake_wait(struct wake *wake, unsigned timeout_ms, char (*users)[UUID_TEXT],
                 bool *ret_overflow);

/* A leader lock on a connection of its own. */
struct leader {
    PGconn *pg;
    int key;
    uint64_t checked_ms;
};
/* Tries to become or stay leader; false while another process is, or Postgres is away. */
bool leader_hold(struct leader *leader, struct dispatcher *dispatcher);
void leader_release(struct leader *leader);

void *stage_loop(void *arg);  /* struct stage_thread */
void *events_loop(void *arg); /* struct dispatcher */
void *due_loop(void *arg);    /* struct dispatcher */
void *listen_loop(void *arg); /* struct dispatcher */
