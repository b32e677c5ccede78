/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the worker frame share: stage.c (threads), stage_run.c (one unit), stage_io.c
 * (help for handlers). Nobody else includes it.
 */
#pragma once

#include "libcommon/bus.h"
#include "libcommon/stage.h"
#include "libcommon/stage_queue.h"

#define STAGE_SLOTS_MAX 64

/* A slot's running unit, seen by the keeper thread that renews leases. */
struct running {
    bool active;
    bool lost; /* the lease is gone: drop everything */
    struct task_key key;
    int64_t token;
    struct job *job;
};

struct worker {
    const struct stage *stage;
    struct service service;
    struct stage_ctx ctx;
    struct stage_queue *queue;
    struct bus_consumer *consumer;
    pthread_mutex_t lock; /* guards running */
    struct running running[STAGE_SLOTS_MAX];
    int slots;
    atomic_bool grace_over; /* running units are put back */
    atomic_bool fatal;      /* a handler met ERR_FATAL: the process exits */
    char label[32];         /* stage="text" */
};

/* Claims and runs one work order in a slot. */
void worker_run(struct worker *worker, int slot, const struct work_item *item);

/* job_puts, in stage_io.c. */
struct job_puts *job_puts_new(void);
/* Deletes what was stored (keep false) or forgets it (keep true), and frees. */
void job_puts_free(struct job_puts *puts, struct store *store, bool keep);
