/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the dispatcher reads from the tables and does to them: the statements of task_dispatch.c.
 */
#include "tests/sim/model.h"

#include <stdio.h>
#include <string.h>

#define LIVE_MS 10000
#define PROMOTE_MAX 500

/* Heads -----------------------------------------------------------------------------------------*/

static int by_flow_seq(const void *a, const void *b)
{
    const struct m_task *x = *(const struct m_task *const *)a;
    const struct m_task *y = *(const struct m_task *const *)b;

    if (x->lane != y->lane) {
        return x->lane < y->lane ? -1 : 1;
    }
    if (x->user != y->user) {
        return x->user < y->user ? -1 : 1;
    }
    return x->seq < y->seq ? -1 : 1;
}

static struct task_head head_of(const struct model *m, const struct m_task *t)
{
    struct task_head head = {.seq = t->seq, .cost = t->cost, .weight = m->weights[t->user]};

    head.key.stage = t->stage;
    head.key.unit = t->unit;
    head.key.generation = t->generation;
    head.lane = t->lane;
    model_file_id(t->file, head.key.file_id);
    model_user_id(t->user, head.user_id);
    return head;
}

/* Rows that fn sees are copies, as a result set is: fn may not see later changes. */
struct found {
    const struct m_task **rows;
    size_t n;
};

static struct found find_sendable(struct model *m, int stage)
{
    struct found found = {
        .rows = calloc(m->sendable[stage] > 0 ? (size_t)m->sendable[stage] : 1, sizeof(void *))};

    if (!found.rows) {
        abort();
    }
    for (size_t i = 0; i < m->n_tasks && m->sendable[stage] > 0; i++) {
        if (m->tasks[i].stage == stage && m->tasks[i].q == 0) {
            found.rows[found.n++] = &m->tasks[i];
        }
    }
    return found;
}

static bool same_flow(const struct m_task *a, const struct m_task *b)
{
    return a->lane == b->lane && a->user == b->user;
}

int model_heads_page(struct model *m, int stage, int flows, int per_flow, task_head_fn fn,
                     void *ctx, struct task_place *place, bool *ret_end, struct err *err)
{
    struct found found = find_sendable(m, stage);
    int r = 0, run = 0, n = 0, user = model_index(place->user_id);
    const struct m_task *last = NULL;

    qsort(found.rows, found.n, sizeof(*found.rows), by_flow_seq);
    *ret_end = true;
    for (size_t i = 0; i < found.n && r == 0; i++) {
        const struct m_task *t = found.rows[i];
        if (t->lane < place->lane || (t->lane == place->lane && t->user <= user)) {
            continue;
        }
        if (!last || !same_flow(last, t)) {
            if (n++ == flows) {
                *ret_end = false;
                break;
            }
            run = 0;
        }
        last = t;
        if (run++ < per_flow) {
            struct task_head head = head_of(m, t);
            r = fn(ctx, &head, err);
        }
    }
    if (last) {
        place->lane = last->lane;
        model_user_id(last->user, place->user_id);
    }
    free(found.rows);
    return r;
}

int model_heads_asked(struct model *m, int stage, const struct task_ask *asks, size_t n_asks,
                      task_head_fn fn, void *ctx, struct err *err)
{
    struct found found = find_sendable(m, stage);
    int r = 0;

    qsort(found.rows, found.n, sizeof(*found.rows), by_flow_seq);
    for (size_t k = 0; k < n_asks; k++) {
        int user = model_index(asks[k].user_id), n = 0;
        for (size_t i = 0; i < found.n && n < asks[k].limit && r == 0; i++) {
            const struct m_task *t = found.rows[i];
            if (t->user == user && t->lane == asks[k].lane && t->seq > asks[k].after) {
                struct task_head head = head_of(m, t);
                r = fn(ctx, &head, err);
                n++;
            }
        }
    }
    free(found.rows);
    return r;
}

void model_census(struct model *m, int stage, task_census_fn fn, void *ctx, double *ret_oldest_s)
{
    struct found found = find_sendable(m, stage);
    int64_t oldest = m->now;

    qsort(found.rows, found.n, sizeof(*found.rows), by_flow_seq);
    for (size_t i = 0; i < found.n;) {
        char user[UUID_TEXT];
        size_t from = i;
        int64_t cost = 0;
        for (; i < found.n && same_flow(found.rows[from], found.rows[i]); i++) {
            cost += found.rows[i]->cost;
            oldest = found.rows[i]->created < oldest ? found.rows[i]->created : oldest;
        }
        model_user_id(found.rows[from]->user, user);
        fn(ctx, user, found.rows[from]->lane, (int64_t)(i - from), cost);
    }
    *ret_oldest_s = (double)(m->now - oldest) / 1000;
    free(found.rows);
}

bool model_heads_any(struct model *m, int stage)
{
    return m->sendable[stage] > 0;
}

void model_dispatch(struct model *m, const struct task_key *keys, size_t n, int *seqs)
{
    for (size_t i = 0; i < n; i++) {
        struct m_task *t = model_task(m, &keys[i]);
        seqs[i] = 0;
        if (t && t->state == TASK_PENDING && t->q == 0) {
            t->dispatch_seq++;
            model_task_to(m, t, TASK_DISPATCHED, MODEL_NONE, "dispatch");
            seqs[i] = t->dispatch_seq;
        }
    }
}

/* What is out -----------------------------------------------------------------------------------*/

static void out_of(const struct model *m, const struct m_task *t, struct task_out *out)
{
    int state = t ? t->state : -1;

    out->back =
        (state != TASK_DISPATCHED && state != TASK_RUNNING) || t->dispatch_seq != out->dispatch_seq;
    out->running = !out->back && state == TASK_RUNNING;
    out->attempts = t ? t->attempts : 0;
    out->failures = t ? t->failures : 0;
    out->refunds = t ? t->refunds : 0;
    out->crashes = out->attempts - out->failures - out->refunds;
    out->token = t ? t->token : 0;
    out->state = state;
    out->cost = t ? t->cost : 0;
    out->lane = t ? t->lane : 0;
    out->expired = out->running && t->lease_until != MODEL_NONE && t->lease_until < m->now;
}

void model_check_out(struct model *m, struct task_out *outs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out_of(m, model_task(m, &outs[i].key), &outs[i]);
    }
}

int model_strays(struct model *m, int stage, task_stray_fn fn, void *ctx, struct err *err)
{
    for (size_t i = 0; i < m->n_tasks && m->out[stage] > 0; i++) {
        const struct m_task *t = &m->tasks[i];
        if (t->stage != stage || (t->state != TASK_DISPATCHED && t->state != TASK_RUNNING)) {
            continue;
        }
        struct task_out out = {.dispatch_seq = t->dispatch_seq};
        char user[UUID_TEXT];
        model_file_id(t->file, out.key.file_id);
        model_user_id(t->user, user);
        out.key.stage = stage;
        out.key.unit = t->unit;
        out.key.generation = t->generation;
        out_of(m, t, &out);
        if (fn(ctx, &out, user, t->cost, err) < 0) {
            return -1;
        }
    }
    return 0;
}

bool model_expire(struct model *m, const struct task_out *out)
{
    struct m_task *t = model_task(m, &out->key);

    if (!t || t->token != out->token || t->state != TASK_RUNNING || t->lease_until == MODEL_NONE ||
        t->lease_until >= m->now) {
        return false;
    }
    t->lease_until = MODEL_NONE;
    t->lost++;
    model_task_to(m, t, TASK_PENDING, 0, "expire");
    return true;
}

int model_expire_dead(struct model *m, const struct task_out *out, struct task_end *ret_end,
                      struct err *err)
{
    struct task_claim claim = {.key = out->key, .token = out->token, .version = 1};
    struct err why;

    err_set(&why, ERR_UNKNOWN, "crash_loop", "the worker was lost %d times", out->crashes);
    return model_dead(m, &claim, &why, ret_end, err);
}

/* Later and workers -----------------------------------------------------------------------------*/

int model_promote(struct model *m, task_due_fn fn, void *ctx)
{
    int n = 0;

    for (size_t i = 0; i < m->n_tasks && n < PROMOTE_MAX; i++) {
        struct m_task *t = &m->tasks[i];
        if (t->q == 1 && t->not_before <= m->now) {
            char user[UUID_TEXT];
            t->not_before = MODEL_NONE;
            if (t->state == TASK_PENDING) { /* only q changes */
                t->q = 0;
                t->pending_at = m->now;
                m->sendable[t->stage]++;
                m->writes++;
            } else {
                model_task_to(m, t, TASK_PENDING, 0, "promote");
            }
            model_user_id(t->user, user);
            fn(ctx, t->stage, user);
            n++;
        }
    }
    return n;
}

size_t model_live_workers(struct model *m, int stage, struct task_worker *workers, size_t max,
                          bool *ret_paused)
{
    size_t n = 0;

    *ret_paused = m->paused[stage];
    for (int i = 0; i < MODEL_WORKERS_MAX && n < max; i++) {
        const struct m_worker *w = &m->workers[i];
        if (!w->used || w->stage != stage || w->seen <= m->now - LIVE_MS) {
            continue;
        }
        struct task_worker *out = &workers[n++];
        *out = (struct task_worker){
            .slots = w->slots, .n_partitions = w->n_partitions, .open = w->open};
        snprintf(out->id, sizeof(out->id), "%s", w->id);
        memcpy(out->partitions, w->partitions, sizeof(out->partitions));
    }
    return n;
}
