/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is out: asks for its rows, frees credit, takes back what a lost worker held, and sends again
 * what nobody claimed. A clock that may stand still decides the latter: an order is not late while
 * the broker is away, while nobody can claim it, or while the stage is paused.
 */
#include <math.h>
#include <stdio.h>

#include "services/dispatcher/stage_core_intern.h"

#define CRASHES_MAX 3
#define DOUBT_MS 1000U /* unclaimed this long: is the broker there? */
#define CLAIM_DECAY 0.97
#define SPEED_DECAY 0.98
#define CHARGE_MAX 50 /* times what it was sent with */

/* What a unit takes is known when it is done. Until then one that runs for longer than its cost
 * would take others is charged for the time, or a user of long units got a slot at every turn until
 * the first one came back. */
static void charge_running(struct stage_lead *lead, struct out_entry *e)
{
    double run = (double)(lead->now - e->claimed_ms);
    double cost = lead->run_sum > 0 ? run * lead->cost_sum / lead->run_sum : 0;

    cost = fmin(cost, CHARGE_MAX * e->base);
    if (e->task.running && cost > e->charge) {
        sfq_charge(lead->sfq, e->user_id, e->task.lane, cost - e->charge);
        e->charge = cost;
    }
}

static void note_speed(struct stage_lead *lead, const struct out_entry *e, int measured)
{
    double run = (double)(lead->now - (e->claimed_ms ? e->claimed_ms : e->sent_ms));

    if (e->base > 0 && run > 0) {
        lead->cost_sum = lead->cost_sum * SPEED_DECAY + measured;
        lead->run_sum = lead->run_sum * SPEED_DECAY + run;
    }
}

static void entry_back(struct stage_lead *lead, size_t i)
{
    const struct out_entry *e = &lead->out.entries[i];
    int measured = e->task.state == TASK_DONE                        ? e->task.cost
                   : e->never_begun && e->task.state == TASK_PENDING ? 0
                                                                     : -1;

    if (measured > 0) {
        note_speed(lead, e, measured);
    } else if (measured < 0) { /* nobody knows: as it was sent */
        sfq_charge(lead->sfq, e->user_id, e->task.lane, e->base - e->charge);
    }
    sfq_back(lead->sfq, e->user_id, e->task.lane, measured < 0 ? e->base : e->charge, e->cost,
             measured);
    out_remove(&lead->out, i);
    lead->returned++;
}

static void note_claim(struct stage_lead *lead, struct out_entry *e)
{
    if (e->task.running && !e->claimed) {
        double delay =
            fmin((double)(lead->now - e->sent_ms), (double)e->waited_ms + (double)lead->c.sweep_ms);
        e->claimed = true;
        e->claimed_ms = lead->now;
        lead->claim_ms = fmax(delay, lead->claim_ms * CLAIM_DECAY);
    }
}

/* Asks for the rows of everything that is out; what came back frees credit. */
int lead_check_out(struct stage_lead *lead, struct err *err)
{
    struct task_out chunk[DISPATCH_BATCH_MAX];

    lead->checked_at = lead->now;
    for (size_t end = lead->out.n; end > 0;) {
        size_t k = min_size(end, DISPATCH_BATCH_MAX), at = end - k;
        for (size_t i = 0; i < k; i++) {
            chunk[i] = lead->out.entries[at + i].task;
        }
        if (lead->io.check_out(lead->io.ctx, chunk, k, err) < 0) {
            return -1;
        }
        for (size_t i = k; i-- > 0;) { /* backwards: removal moves the last entry */
            int lane = lead->out.entries[at + i].task.lane;
            lead->out.entries[at + i].task = chunk[i];
            lead->out.entries[at + i].task.lane = lane; /* the one that was charged */
            note_claim(lead, &lead->out.entries[at + i]);
            if (chunk[i].back) {
                entry_back(lead, at + i);
            } else {
                charge_running(lead, &lead->out.entries[at + i]);
            }
        }
        end = at;
    }
    return 0;
}

/* The lease of a running unit is over: its worker is lost. */
static void take_back(struct stage_lead *lead, struct out_entry *e)
{
    const struct lead_news news = {.note = LEAD_TAKEN_BACK, .n = 1, .out = &e->task};
    struct task_end end;
    struct err err = ERR_INIT;
    bool done = false;
    int r;

    if (e->task.crashes >= CRASHES_MAX) {
        r = lead->io.expire_dead(lead->io.ctx, &e->task, &end, &err);
        done = r == 0 && !end.fenced;
    } else {
        r = lead->io.expire(lead->io.ctx, &e->task, &done, &err);
    }
    if (r < 0) {
        lead_trouble(lead, "expired lease stays", &err);
    } else if (done) {
        lead->io.tell(lead->io.ctx, lead->c.stage, &news);
        lead->io.notify(lead->io.ctx, lead->c.stage, e->user_id);
    }
}

static void reemit(struct stage_lead *lead, struct out_entry *e)
{
    const struct lead_news news = {.note = LEAD_REEMITTED, .n = 1, .out = &e->task};
    struct err err = ERR_INIT;

    if (lead->io.hand_back(lead->io.ctx, &e->task.key, &e->task.dispatch_seq, 1, &err) < 0) {
        lead_trouble(lead, "unclaimed order stays", &err);
        return;
    }
    e->waited_ms = 0;
    e->never_begun = true;
    lead->io.tell(lead->io.ctx, lead->c.stage, &news);
    lead->io.notify(lead->io.ctx, lead->c.stage, e->user_id);
}

/* Is anything unclaimed for long enough to ask, and could it have been claimed? */
static bool clock_runs(struct stage_lead *lead)
{
    bool doubt = false;

    if (!lead->broker_ok) { /* with nothing left to send nobody else looks whether it is back */
        lead->broker_ok = lead->io.broker_alive(lead->io.ctx);
    }
    if (!lead->broker_ok || lead->slots == 0 || lead->paused) {
        return false;
    }
    for (size_t i = 0; i < lead->out.n && !doubt; i++) {
        const struct out_entry *e = &lead->out.entries[i];
        doubt = !e->task.running && lead->now - e->sent_ms >= DOUBT_MS;
    }
    return !doubt || lead->io.broker_alive(lead->io.ctx);
}

int lead_sweep(struct stage_lead *lead, struct err *err)
{
    uint64_t elapsed = lead->swept_at ? lead->now - lead->swept_at : 0;
    double limit = fmax((double)lead->c.dispatch_timeout_ms, 5 * lead->claim_ms);
    int64_t uptime = 0;

    lead->swept_at = lead->now;
    lead->sweep_at = lead->now + (uint64_t)lead->c.sweep_ms;
    if (lead->out.n == 0) {
        return 0;
    }
    if (lead_check_out(lead, err) < 0 || lead->io.db_uptime(lead->io.ctx, &uptime, err) < 0) {
        return -1;
    }
    lead_contact(lead);
    bool leases = uptime * 1000 > lead->c.lease_ms && lead->db_ok_at >= lead->leases_from;
    bool runs = clock_runs(lead);
    /* A turn that was late counts as one interval: what it waited for may have held others too. */
    elapsed = min_u64(elapsed, 2 * (uint64_t)lead->c.sweep_ms);
    for (size_t i = 0; i < lead->out.n; i++) {
        struct out_entry *e = &lead->out.entries[i];
        if (e->task.expired && leases) {
            take_back(lead, e);
        } else if (!e->task.running && runs) {
            e->waited_ms += elapsed;
            if ((double)e->waited_ms >= limit) {
                reemit(lead, e);
            }
        }
    }
    return 0;
}

static int take_stray(void *arg, const struct task_out *out, const char *user_id, int cost,
                      struct err *err)
{
    struct stage_lead *lead = arg;
    struct out_entry e = {
        .task = *out, .cost = cost, .partition = -1, .sent_ms = lead->now, .claimed = true};

    if (!lead_owns(lead, user_id) || out_has(&lead->out, &out->key)) {
        return 0;
    }
    snprintf(e.user_id, sizeof(e.user_id), "%s", user_id);
    if (out_add(&lead->out, &e, err) < 0) {
        return -1;
    }
    sfq_sent(lead->sfq, user_id);
    return 0;
}

int lead_find_strays(struct stage_lead *lead, bool fresh, struct err *err)
{
    return lead->io.strays(lead->io.ctx, lead->c.stage, fresh, take_stray, lead, err);
}
