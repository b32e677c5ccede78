/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who works, how much may be out, and what the leader shows of itself.
 *
 * Credit G = K + (completions a second * HOP_S), at least K + 2: K slots; enough that a slot never
 * waits for the dispatcher, and no more, as everything that is out is beyond fairness (ADR 0008).
 */
#include <math.h>
#include <stdio.h>

#include "services/dispatcher/stage_core_intern.h"

#define HOP_S 0.06
#define WORKERS_MS 1000U
#define PUBLISH_MS 1000U
#define CREDIT_MAX 4096
#define RATE_WINDOW_MS 30000.0
#define CURVE_POINTS 24

static void note_rate(struct stage_lead *lead)
{
    double elapsed = lead->looked_at ? (double)(lead->now - lead->looked_at) : 1000;
    double keep = exp(-elapsed / RATE_WINDOW_MS);

    lead->rate = 0.5 * lead->rate + 0.5 * (elapsed > 0 ? lead->returned * 1000 / elapsed : 0);
    lead->ended = lead->ended * keep + lead->returned;
    lead->ended_ms = lead->ended_ms * keep + elapsed;
    lead->returned = 0;
    lead->looked_at = lead->now;
}

int lead_look_at_workers(struct stage_lead *lead, struct err *err)
{
    if (lead->io.workers(lead->io.ctx, lead->c.stage, lead->workers, TASK_WORKERS_MAX,
                         &lead->n_workers, &lead->paused, err) < 0) {
        return -1;
    }
    lead->workers_at = lead->now + WORKERS_MS;
    note_rate(lead);
    lead->slots = 0;
    for (size_t i = 0; i < lead->n_workers; i++) {
        lead->slots += lead->workers[i].open ? 0 : lead->workers[i].slots;
    }
    if (lead->slots == 0) {
        lead->credit = (int)lead->c.credit_floor;
    } else {
        int extra = (int)ceil(lead->rate * HOP_S);
        lead->credit = lead->slots + (extra > 2 ? extra : 2);
    }
    if (lead->c.shards > 1) {
        lead->credit = (lead->credit + lead->c.shards - 1) / lead->c.shards;
    }
    lead->credit = lead->credit > CREDIT_MAX ? CREDIT_MAX : lead->credit;
    return 0;
}

static void take_count(void *arg, const char *user_id, int lane, int64_t n, int64_t cost)
{
    struct stage_lead *lead = arg;

    if (lead_owns(lead, user_id)) {
        sfq_set_backlog(lead->sfq, user_id, lane, n, cost);
    }
}

/* The first call of fn for a census clears the former one. */
struct census_ctx {
    struct stage_lead *lead;
    bool cleared;
};

static void count_flow(void *arg, const char *user_id, int lane, int64_t n, int64_t cost)
{
    struct census_ctx *census = arg;

    if (!census->cleared) {
        sfq_clear_backlog(census->lead->sfq);
        census->cleared = true;
    }
    take_count(census->lead, user_id, lane, n, cost);
}

static int take_census(struct stage_lead *lead, struct err *err)
{
    struct census_ctx census = {.lead = lead};
    double oldest = 0;
    int r = lead->io.census(lead->io.ctx, lead->c.stage, count_flow, &census, &oldest, err);

    if (r > 0) {
        if (!census.cleared) {
            sfq_clear_backlog(lead->sfq);
        }
        lead->oldest_s = oldest;
        lead->census_at = lead->now;
    }
    return r < 0 ? -1 : 0;
}

/* [[0,n],[1,n],[2,n],[4,n],...] until everything that waits is covered. */
static const char *curve_text(const struct stage_lead *lead, bool bulk, char *text, size_t size)
{
    double x[CURVE_POINTS] = {0}, tasks[CURVE_POINTS];
    size_t len = 0;

    if (lead->c.fifo) {
        return NULL; /* a place in the line, not in a user's own queue */
    }
    for (size_t i = 1; i < CURVE_POINTS; i++) {
        x[i] = ldexp(1, (int)i - 1);
    }
    sfq_curve(lead->sfq, bulk, x, tasks, CURVE_POINTS);
    for (size_t i = 0; i < CURVE_POINTS && len + 48 < size; i++) {
        /* other shards are as this one */
        len += (size_t)snprintf(text + len, size - len, "%s[%.0f,%.0f]", i ? "," : "[", x[i],
                                tasks[i] * lead->c.shards);
        if (i > 0 && tasks[i] == tasks[CURVE_POINTS - 1]) {
            break;
        }
    }
    snprintf(text + len, size - len, "]");
    return text;
}

int lead_publish(struct stage_lead *lead, struct err *err)
{
    struct lead_stats stats = {0};
    char curve[1200], bulk[1200];

    lead->publish_at = lead->now + PUBLISH_MS;
    if (take_census(lead, err) < 0) {
        return -1;
    }
    int64_t waiting = sfq_backlog(lead->sfq);
    double age = (double)(lead->now - lead->census_at) / 1000;
    stats.queue = (struct task_queue_state){
        .waiting = waiting,
        .out = (int64_t)lead->out.n,
        .users = (int64_t)sfq_flows(lead->sfq),
        .credit = lead->credit,
        .rate = lead->ended > 0 ? lead->ended * 1000 / lead->ended_ms : -1,
        .oldest_s = waiting > 0 ? (lead->oldest_s > 0 ? lead->oldest_s + age : 0) : 0,
        .curve = curve_text(lead, false, curve, sizeof(curve)),
        .curve_bulk = curve_text(lead, true, bulk, sizeof(bulk)),
        .paused = lead->paused};
    stats.workers = lead->n_workers;
    for (size_t i = 0; i < lead->n_workers; i++) {
        stats.slots += lead->workers[i].slots;
    }
    sfq_shares(lead->sfq, &stats.top_share, &stats.jain);
    return lead->io.publish(lead->io.ctx, lead->c.stage, &stats, err);
}
