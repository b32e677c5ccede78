/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Orders: picks what is next, marks the rows as dispatched, commits, and only then produces. What
 * the broker does not take goes back to its place.
 */
#include <math.h>
#include <string.h>

#include "libcommon/fault.h"
#include "services/dispatcher/stage_core_intern.h"

#define USER_CAP 0.9
#define BROKER_PAUSE_MS 1000U

struct batch {
    struct sfq_pick picks[DISPATCH_BATCH_MAX];
    struct task_key keys[DISPATCH_BATCH_MAX];
    int seqs[DISPATCH_BATCH_MAX];
    struct task_trace traces[DISPATCH_BATCH_MAX];
    size_t n;
    struct lead_order orders[DISPATCH_BATCH_MAX];
    size_t pick_of[DISPATCH_BATCH_MAX];
    bool ok[DISPATCH_BATCH_MAX];
    size_t n_orders;
    /* Partitions that have an order of this batch. One worker's orders share a partition, as each
     * partition is a request of its own to the broker, and an answer of its own to the worker. */
    bool used[OUT_PARTITIONS_MAX];
    uint64_t pick_ms;
};

/* Records the pick as out, and writes its order. */
static int take_order(struct stage_lead *lead, struct batch *b, size_t i, struct err *err)
{
    const struct sfq_pick *pick = &b->picks[i];
    struct lead_order *order = &b->orders[b->n_orders];

    *order = (struct lead_order){.key = pick->head.key,
                                 .dispatch_seq = b->seqs[i],
                                 .cost = pick->head.cost,
                                 .partition = out_choose_partition(
                                     &lead->out, lead->workers, lead->n_workers, lead->n_partitions,
                                     lead->c.by_key, pick->head.user_id, b->used)};
    memcpy(order->user_id, pick->head.user_id, UUID_TEXT);
    order->trace = b->traces[i];
    b->pick_of[b->n_orders++] = i;
    struct out_entry e = {.task = {.key = pick->head.key,
                                   .dispatch_seq = b->seqs[i],
                                   .state = TASK_DISPATCHED,
                                   .lane = pick->head.lane},
                          .cost = pick->head.cost,
                          .base = pick->charge,
                          .charge = pick->charge,
                          .partition = order->partition,
                          .sent_ms = lead->now};
    memcpy(e.user_id, pick->head.user_id, UUID_TEXT);
    sfq_sent(lead->sfq, pick->head.user_id);
    return out_add(&lead->out, &e, err);
}

/* An order that arrives all the same claims nothing, as its row is pending or has a new
 * dispatch_seq. Last one first, so that the queue is as it was. */
static void take_back_unsent(struct stage_lead *lead, struct batch *b)
{
    struct task_key keys[DISPATCH_BATCH_MAX];
    int seqs[DISPATCH_BATCH_MAX];
    size_t n = 0;
    struct err err = ERR_INIT;

    for (size_t m = 0; m < b->n_orders; m++) {
        if (!b->ok[m]) {
            keys[n] = b->orders[m].key;
            seqs[n++] = b->orders[m].dispatch_seq;
        }
    }
    if (lead->io.hand_back(lead->io.ctx, keys, seqs, n, &err) < 0) {
        lead_trouble(lead, "unsent orders stay until they are swept", &err);
        return;
    }
    for (size_t m = b->n_orders; m-- > 0;) {
        const struct sfq_pick *pick = &b->picks[b->pick_of[m]];
        size_t at = out_find(&lead->out, &b->orders[m].key, b->orders[m].dispatch_seq);
        if (b->ok[m] || at == lead->out.n) {
            continue;
        }
        out_remove(&lead->out, at);
        sfq_back(lead->sfq, pick->head.user_id, pick->head.lane, 0, 0, -1);
        if (sfq_put_back(lead->sfq, pick, &err) < 0) {
            lead->pass_at = lead->now;
        }
    }
}

static void produce(struct stage_lead *lead, struct batch *b)
{
    struct err err = ERR_INIT;
    struct lead_news news = {.note = LEAD_SENT, .n = b->n_orders, .pick_ms = b->pick_ms};

    fault_point("dispatch.after_commit");
    if (lead->io.send(lead->io.ctx, lead->c.stage, b->orders, b->n_orders, b->ok, &err) < 0) {
        lead_trouble(lead, "work orders not sent", &err);
        lead->broker_ok = false;
        lead->broker_at = lead->io.now_ms(lead->io.ctx) + BROKER_PAUSE_MS;
        take_back_unsent(lead, b);
    } else {
        lead->broker_ok = true;
        lead->io.tell(lead->io.ctx, lead->c.stage, &news);
    }
    fault_point("dispatch.after_produce");
}

/* Some rows were not pending any more; the rest is out. */
static int take_dispatched(struct stage_lead *lead, struct batch *b, struct err *err)
{
    for (size_t i = b->n; i-- > 0;) {
        if (b->seqs[i] == 0) {
            sfq_unpick(lead->sfq, &b->picks[i]);
        }
    }
    for (size_t i = 0; i < b->n; i++) {
        if (b->seqs[i] != 0 && take_order(lead, b, i, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int send_picks(struct stage_lead *lead, struct batch *b, uint64_t began, struct err *err)
{
    if (lead->io.dispatch(lead->io.ctx, b->keys, b->n, b->seqs, b->traces, err) < 0) {
        return -1; /* outcome unknown: the rows are read anew */
    }
    b->pick_ms = lead->io.now_ms(lead->io.ctx) - began;
    int r = take_dispatched(lead, b, err);
    if (b->n_orders > 0) {
        produce(lead, b);
    }
    return r;
}

static int user_cap(const struct stage_lead *lead)
{
    return (int)ceil(USER_CAP * lead->credit);
}

/* How many may be out at most: newcomers need not wait until some of the others' orders have ended.
 * A worker's read-ahead puts first who has least at work, so theirs take the next free slot. */
static size_t most_out(const struct stage_lead *lead)
{
    int extra = lead->credit / 4 > 2 ? lead->credit / 4 : 2;

    return (size_t)(lead->slots > 0 ? lead->credit + extra : lead->credit);
}

bool lead_has_room(const struct stage_lead *lead)
{
    return (int)lead->out.n < lead->credit ||
           (lead->out.n < most_out(lead) && sfq_newcomer_next(lead->sfq, user_cap(lead)));
}

int lead_send_batch(struct stage_lead *lead, bool *ret_more, struct err *err)
{
    size_t room = lead->credit > (int)lead->out.n ? (size_t)lead->credit - lead->out.n : 0;
    size_t most = most_out(lead) > lead->out.n ? most_out(lead) - lead->out.n : 0;
    size_t max = min_size(most, DISPATCH_BATCH_MAX);
    int cap = user_cap(lead);
    uint64_t began = lead->io.now_ms(lead->io.ctx);
    struct batch *b = calloc(1, sizeof(*b));
    int r = 0;

    *ret_more = false;
    if (!b) {
        return err_nomem(err);
    }
    while (b->n < max && (b->n < room || sfq_newcomer_next(lead->sfq, cap)) &&
           sfq_pick(lead->sfq, cap, &b->picks[b->n])) {
        b->keys[b->n] = b->picks[b->n].head.key;
        b->keys[b->n].stage = lead->c.stage;
        b->picks[b->n].head.key.stage = lead->c.stage;
        b->n++;
    }
    if (b->n > 0) {
        r = send_picks(lead, b, began, err);
        *ret_more = r == 0 && lead->broker_ok && lead_has_room(lead) && sfq_waiting(lead->sfq) > 0;
    }
    free(b);
    return r;
}

bool lead_may_send(struct stage_lead *lead)
{
    struct err err = ERR_INIT;

    if (lead->paused || sfq_flows(lead->sfq) == 0 || !lead_has_room(lead)) {
        return false;
    }
    if (lead->n_partitions == 0 || !lead->broker_ok) {
        if (lead->now < lead->broker_at) {
            return false;
        }
        if (lead->io.partitions(lead->io.ctx, lead->c.stage, &lead->n_partitions, &err) < 0) {
            lead_trouble(lead, "waiting for kafka", &err);
            lead->broker_ok = false;
            lead->broker_at = lead->io.now_ms(lead->io.ctx) + BROKER_PAUSE_MS;
            return false;
        }
        lead->broker_ok = true;
    }
    return true;
}
