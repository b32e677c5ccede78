/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread of one stage's leader: holds the lock, waits for hints, and runs rounds of the core.
 * Invariant: a round runs only while the lock is held, or was a second ago.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "services/dispatcher/dispatcher.h"

#define FOLLOW_MS 1000U
#define RETRY_MS 500U

struct loop {
    struct dispatcher *d;
    struct stage_lead *lead;
    struct leader leader;
    bool leads;
    char (*users)[UUID_TEXT];
};

/* A counter that begins with its first event hides it from rates: they begin with 0. */
static void begin_counters(int stage)
{
    char label[32];

    snprintf(label, sizeof(label), "stage=\"%s\"", stage_name(stage));
    metrics_add("docfleet_dispatched_total", label, 0);
    metrics_add("docfleet_lease_takeovers_total", label, 0);
    metrics_add("docfleet_sweeper_reemits_total", label, 0);
}

static int loop_init(struct loop *loop, struct stage_thread *thread, struct err *err)
{
    struct dispatcher *d = thread->dispatcher;
    struct lead_io io;
    const struct stage_lead_config config = {
        .stage = thread->stage,
        .shard = thread->shard,
        .shards = (int)d->options.shards,
        .fifo = strcmp(d->options.scheduling, "fifo") == 0,
        .by_key = strcmp(d->options.partitioning, "key") == 0,
        .credit_floor = d->options.credit_floor,
        .sweep_ms = d->options.sweep_ms,
        .dispatch_timeout_ms = d->options.dispatch_timeout_ms,
        .lease_ms = d->service.core.lease_ms,
    };

    begin_counters(thread->stage);
    *loop = (struct loop){.d = d,
                          .leader = {.key = thread->stage + LEADER_SHARD * thread->shard},
                          .users = calloc(WAKE_USERS_MAX, UUID_TEXT)};
    lead_io_of(thread, &io);
    return !loop->users ? err_nomem(err) : stage_lead_new(&config, &io, &loop->lead, err);
}

static void round_of(struct loop *loop, struct wake *wake, size_t n, bool overflow)
{
    struct err err = ERR_INIT;

    if (!loop->leads) {
        loop->leads = stage_lead_take_over(loop->lead, &err) == 0;
    }
    if (!loop->leads || stage_lead_turn(loop->lead, loop->users, n, overflow, &err) < 0) {
        log_err(LOG_WARN, "dispatching waits", &err);
        loop->leads = false; /* memory may be wrong: read everything again */
        wake_wait(wake, RETRY_MS, NULL, &overflow);
    }
}

void *stage_loop(void *arg)
{
    struct stage_thread *thread = arg;
    struct dispatcher *d = thread->dispatcher;
    struct wake *wake = &d->wakes[thread->shard][thread->stage];
    struct loop loop;
    struct err err = ERR_INIT;
    bool overflow = false;
    int pulse = health_pulse(d->service.health, stage_name(thread->stage), LOOP_LIMIT_MS);

    if (loop_init(&loop, thread, &err) < 0) {
        log_err(LOG_ERROR, "cannot lead a stage, another replica will", &err);
    }
    while (loop.lead && !atomic_load(&d->service.stopping)) {
        health_beat(d->service.health, pulse);
        unsigned ms = loop.leads ? stage_lead_wait_ms(loop.lead) : 0;
        size_t n = wake_wait(wake, ms, loop.users, &overflow);
        enum leads state = leader_hold(&loop.leader, d);
        if (state == LEADS_YES) {
            round_of(&loop, wake, n, overflow);
            continue;
        }
        if (loop.leads) {
            lead_io_show_nothing(thread); /* or two replicas would both show its queue */
        }
        loop.leads = false;
        if (state == LEADS_NO) {
            stage_lead_follow(loop.lead);
        }
        wake_wait(wake, FOLLOW_MS, NULL, &overflow);
    }
    health_rest(d->service.health, pulse);
    leader_release(&loop.leader);
    stage_lead_free(loop.lead);
    free(loop.users);
    return NULL;
}
