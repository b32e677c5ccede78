/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tags and turns. A flow that waits sits in its class's binary heap by start tag: start = max(v,
 * finish) when it begins to wait, and after each pick finish = start + charge / weight is the next
 * start. v is the start tag of the last pick. A pick carries what is needed to undo it.
 */
#include <string.h>

#include "services/dispatcher/sfq_intern.h"

#define CAP_LOOK 7U /* at most one user is capped, and it has at most two flows in a heap */
#define RATIO_GAIN 0.3
#define RATIO_MIN 0.05
#define RATIO_MAX 100.0

void sfq_set_now(struct sfq *sfq, uint64_t now_ms)
{
    sfq->now = now_ms;
}

/* The heap --------------------------------------------------------------------------------------*/

static bool before(const struct sfq *sfq, const struct sfq_flow *a, const struct sfq_flow *b)
{
    if (sfq->mode == SFQ_FIFO || a->start == b->start) {
        return a->heads[0].seq < b->heads[0].seq;
    }
    return a->start < b->start;
}

static void place(struct sfq_class *c, size_t i, struct sfq_flow *f)
{
    c->heap[i] = f;
    f->at = (uint32_t)i + 1;
}

static void sift_up(const struct sfq *sfq, struct sfq_class *c, size_t i)
{
    struct sfq_flow *f = c->heap[i];

    while (i > 0 && before(sfq, f, c->heap[(i - 1) / 2])) {
        place(c, i, c->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(c, i, f);
}

static void sift_down(const struct sfq *sfq, struct sfq_class *c, size_t i)
{
    struct sfq_flow *f = c->heap[i];

    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= c->n) {
            break;
        }
        if (k + 1 < c->n && before(sfq, c->heap[k + 1], c->heap[k])) {
            k++;
        }
        if (!before(sfq, c->heap[k], f)) {
            break;
        }
        place(c, i, c->heap[k]);
        i = k;
    }
    place(c, i, f);
}

static void resift(struct sfq *sfq, struct sfq_flow *f)
{
    struct sfq_class *c = sfq_class_of(sfq, f);

    sift_up(sfq, c, f->at - 1);
    sift_down(sfq, c, f->at - 1);
}

static int heap_add(struct sfq *sfq, struct sfq_flow *f, struct err *err)
{
    struct sfq_class *c = sfq_class_of(sfq, f);

    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct sfq_flow **heap = realloc(c->heap, cap * sizeof(*heap));
        if (!heap) {
            return err_nomem(err);
        }
        c->heap = heap;
        c->cap = cap;
    }
    place(c, c->n++, f);
    sift_up(sfq, c, c->n - 1);
    return 0;
}

static void heap_remove(struct sfq *sfq, struct sfq_flow *f)
{
    struct sfq_class *c = sfq_class_of(sfq, f);
    size_t i = f->at - 1;
    struct sfq_flow *last = c->heap[--c->n];

    f->at = 0;
    if (last != f) {
        place(c, i, last);
        resift(sfq, last);
    }
}

/* Tags ------------------------------------------------------------------------------------------*/

/* A user that has nothing out and had nothing lately goes before the others, once per idle time, so
 * that cancelling and uploading again gains nothing. */
static bool is_newcomer(const struct sfq *sfq, const struct sfq_flow *f)
{
    const struct sfq_user *u = f->user;

    return f->lane == LANE_FIRST && !sfq->known && u->out == 0 &&
           (u->last_ms == 0 || sfq->now - u->last_ms >= SFQ_IDLE_MS) &&
           (u->bonus_ms == 0 || sfq->now - u->bonus_ms >= SFQ_IDLE_MS);
}

/* The flow begins to wait. */
static void set_start(struct sfq *sfq, struct sfq_flow *f)
{
    struct sfq_class *c = sfq_class_of(sfq, f);
    size_t k = (size_t)(c - sfq->classes);

    if (sfq->out == 0 && sfq->classes[0].n + sfq->classes[1].n == 0 && c->v < sfq->max_finish[k]) {
        c->v = sfq->max_finish[k]; /* a busy time is over: nobody owes anything */
    }
    f->waits_since = sfq->now;
    f->start = f->finish > c->v ? f->finish : c->v;
    if (is_newcomer(sfq, f)) {
        f->bonus = true;
        f->user->bonus_ms = sfq->now;
        f->start = c->v - SFQ_QUANTUM;
    }
}

/* It waits no more. A bonus that was not used is not used up. */
static void end_wait(struct sfq *sfq, struct sfq_flow *f)
{
    heap_remove(sfq, f);
    if (f->bonus) {
        f->bonus = false;
        f->user->bonus_ms = 0;
    }
    if (f->cap > SFQ_HEADS_FIRST) {
        free(f->heads);
        f->heads = NULL;
        f->cap = 0;
    }
}

int sfq_flow_changed(struct sfq *sfq, struct sfq_flow *f, int n_before, struct err *err)
{
    int r = 0;

    if (n_before == 0 && f->n > 0) {
        set_start(sfq, f);
        r = heap_add(sfq, f, err);
        if (r < 0) {
            sfq->waiting -= f->n;
            f->n = 0;
        }
    } else if (n_before > 0 && f->n == 0) {
        end_wait(sfq, f);
    } else if (f->n > 0) {
        resift(sfq, f);
    }
    sfq_flow_note(sfq, f);
    return r;
}

/* Turns -----------------------------------------------------------------------------------------*/

/* The first flow whose user is below the cap; NULL: none of those that matter. */
static struct sfq_flow *best_of(const struct sfq *sfq, const struct sfq_class *c, int user_cap)
{
    struct sfq_flow *best = NULL;

    if (c->n > 0 && c->heap[0]->user->out < user_cap) {
        return c->heap[0];
    }
    for (size_t i = 1; i < c->n && i < CAP_LOOK; i++) {
        struct sfq_flow *f = c->heap[i];
        if (f->user->out < user_cap && (!best || before(sfq, f, best))) {
            best = f;
        }
    }
    return best;
}

static struct sfq_flow *choose(const struct sfq *sfq, int user_cap)
{
    const struct sfq_class *first = &sfq->classes[0], *bulk = &sfq->classes[1];

    if (sfq->mode == SFQ_FIFO) {
        return sfq->dry == 0 && first->n > 0 ? first->heap[0] : NULL;
    }
    struct sfq_flow *f = best_of(sfq, first, user_cap), *b = best_of(sfq, bulk, user_cap);
    if (!f && !b) { /* whoever waits is at its cap, but no other user waits */
        f = first->n > 0 ? first->heap[0] : NULL;
        b = bulk->n > 0 ? bulk->heap[0] : NULL;
    }
    return !f || (b && sfq->turn >= SFQ_BULK_TURN - 1) ? b : f;
}

bool sfq_newcomer_next(const struct sfq *sfq, int user_cap)
{
    const struct sfq_flow *f = sfq->mode == SFQ_FAIR ? choose(sfq, user_cap) : NULL;

    return f && f->bonus;
}

static void fill_pick(const struct sfq *sfq, const struct sfq_class *c, const struct sfq_flow *f,
                      struct sfq_pick *pick)
{
    const struct sfq_head *small = &f->heads[0];
    double cost = small->cost > 0 ? small->cost : 1;

    *pick = (struct sfq_pick){
        .head = {.key = {.unit = small->unit, .generation = small->generation},
                 .seq = small->seq,
                 .cost = small->cost,
                 .lane = f->lane,
                 .weight = f->user->weight},
        .charge = cost * f->ratio,
        .start = f->start,
        .finish = f->finish,
        .v = c->v,
        .serial = sfq->serial + 1,
        .flow_serial = f->serial,
        .turn = sfq->turn,
        .bonus = f->bonus,
    };
    sfq_id_text(pick->head.key.file_id, small->file);
    sfq_id_text(pick->head.user_id, f->user->id);
}

bool sfq_pick(struct sfq *sfq, int user_cap, struct sfq_pick *ret_pick)
{
    struct sfq_flow *f = choose(sfq, user_cap);
    struct err err = ERR_INIT;

    if (!f) {
        return false;
    }
    struct sfq_class *c = sfq_class_of(sfq, f);
    size_t k = (size_t)(c - sfq->classes);
    fill_pick(sfq, c, f, ret_pick);
    f->serial = ++sfq->serial;
    f->bonus = false;
    c->v = f->start > c->v ? f->start : c->v;
    f->finish = f->start + ret_pick->charge / sfq_flow_weight(f);
    f->start = f->finish;
    sfq->max_finish[k] = f->finish > sfq->max_finish[k] ? f->finish : sfq->max_finish[k];
    if (f->lane != LANE_FIRST) {
        sfq->turn = 0;
    } else if (sfq->classes[1].n > 0 && sfq->turn < SFQ_BULK_TURN) {
        sfq->turn++;
    }
    f->n--;
    sfq->waiting--;
    memmove(&f->heads[0], &f->heads[1], f->n * sizeof(f->heads[0]));
    if (f->backlog > 0) {
        f->backlog_cost -= f->backlog_cost / f->backlog;
        f->backlog--;
    }
    (void)sfq_flow_changed(sfq, f, f->n + 1, &err); /* removal cannot fail */
    return true;
}

void sfq_sent(struct sfq *sfq, const char *user_id)
{
    struct sfq_user *u = sfq_find_or_make(sfq, user_id);

    if (u) {
        u->out++;
        u->last_ms = sfq->now;
        sfq->out++;
    }
}

static void undo(struct sfq *sfq, struct sfq_flow *f, const struct sfq_pick *pick)
{
    struct sfq_class *c = sfq_class_of(sfq, f);

    if (f->serial == pick->serial) {
        f->start = pick->start;
        f->finish = pick->finish;
        f->serial = pick->flow_serial;
    } else {
        double d = pick->charge / sfq_flow_weight(f);
        f->start -= d;
        f->finish -= d;
    }
    if (sfq->serial == pick->serial) {
        c->v = pick->v;
        sfq->turn = pick->turn;
        sfq->serial--;
    }
    if (pick->bonus) {
        f->bonus = f->n > 0;
        f->user->bonus_ms = f->n > 0 ? f->user->bonus_ms : 0;
    }
    if (f->n > 0) {
        resift(sfq, f);
    }
}

void sfq_unpick(struct sfq *sfq, const struct sfq_pick *pick)
{
    struct sfq_flow *f = sfq_flow_of(sfq, pick->head.user_id, pick->head.lane);

    if (f) {
        undo(sfq, f, pick);
    }
}

int sfq_put_back(struct sfq *sfq, const struct sfq_pick *pick, struct err *err)
{
    sfq_unpick(sfq, pick);
    return sfq_add(sfq, &pick->head, err);
}

static void add_debt(struct sfq *sfq, struct sfq_flow *f, double cost)
{
    size_t k = (size_t)(sfq_class_of(sfq, f) - sfq->classes);
    double d = cost / sfq_flow_weight(f);

    f->finish += d;
    if (f->n > 0 && !f->bonus) {
        f->start += d;
        resift(sfq, f);
    }
    sfq->max_finish[k] = f->finish > sfq->max_finish[k] ? f->finish : sfq->max_finish[k];
}

void sfq_charge(struct sfq *sfq, const char *user_id, int lane, double extra)
{
    struct sfq_flow *f = sfq_flow_of(sfq, user_id, lane);

    if (f) {
        add_debt(sfq, f, extra);
    }
}

/* What the flow was charged becomes what the unit took. */
static void correct(struct sfq *sfq, struct sfq_flow *f, double charge, int estimated, int measured)
{
    if (measured > 0 && estimated > 0) {
        double ratio = f->ratio + RATIO_GAIN * ((double)measured / estimated - f->ratio);
        f->ratio = ratio < RATIO_MIN ? RATIO_MIN : ratio > RATIO_MAX ? RATIO_MAX : ratio;
    }
    add_debt(sfq, f, measured - charge);
}

void sfq_back(struct sfq *sfq, const char *user_id, int lane, double charge, int estimated,
              int measured)
{
    struct sfq_user *u = sfq_find(sfq, user_id);
    struct sfq_flow *f = sfq_flow_of(sfq, user_id, lane);

    if (!u || u->out == 0) {
        return;
    }
    u->out--;
    sfq->out--;
    u->last_ms = sfq->now;
    sfq_serve(sfq, u, measured >= 0 ? measured : charge);
    if (f && measured >= 0 && charge > 0) {
        correct(sfq, f, charge, estimated, measured);
    }
}
