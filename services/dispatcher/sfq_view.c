/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others are shown of the fair queue: how even it is, and how long a place in it lasts. Each
 * is one walk over the users that are known, made once a second.
 */
#include <math.h>

#include "services/dispatcher/sfq_intern.h"

#define WAITED_MS 10000U

size_t sfq_waiting(const struct sfq *sfq)
{
    return sfq->waiting;
}

size_t sfq_users(const struct sfq *sfq)
{
    return sfq->n_users;
}

size_t sfq_flows(const struct sfq *sfq)
{
    return sfq->classes[0].n + sfq->classes[1].n;
}

/* Served cost -----------------------------------------------------------------------------------*/

static double served_now(const struct sfq *sfq, const struct sfq_user *u)
{
    return u->served > 0 ? u->served * exp2(-(double)(sfq->now - u->served_ms) / SERVED_HALF_MS)
                         : 0;
}

void sfq_serve(const struct sfq *sfq, struct sfq_user *u, double cost)
{
    u->served = served_now(sfq, u) + cost;
    u->served_ms = sfq->now;
}

static bool has_waited(const struct sfq *sfq, const struct sfq_user *u)
{
    for (int lane = 0; lane <= LANE_MAX; lane++) {
        const struct sfq_flow *f = u->flows[lane];
        if (f && (f->n > 0 || f->more) && sfq->now - f->waits_since >= WAITED_MS) {
            return true;
        }
    }
    return false;
}

void sfq_shares(const struct sfq *sfq, double *ret_top, double *ret_jain)
{
    double all = 0, top = 0, sum = 0, squares = 0;
    size_t n = 0;

    for (size_t i = 0; i < sfq->n_buckets; i++) {
        for (const struct sfq_user *u = sfq->buckets[i]; u; u = u->next) {
            double served = served_now(sfq, u);
            all += served;
            top = served > top ? served : top;
            if (has_waited(sfq, u)) {
                sum += served / u->weight;
                squares += served / u->weight * (served / u->weight);
                n++;
            }
        }
    }
    *ret_top = all > 0 ? top / all : 0;
    *ret_jain = n > 1 && squares > 0 ? sum * sum / ((double)n * squares) : 1;
}

/* Backlog ---------------------------------------------------------------------------------------*/

void sfq_clear_backlog(struct sfq *sfq)
{
    for (size_t k = 0; k < ARRAY_LEN(sfq->classes); k++) {
        for (size_t i = 0; i < sfq->classes[k].n; i++) {
            sfq->classes[k].heap[i]->backlog = 0;
            sfq->classes[k].heap[i]->backlog_cost = 0;
        }
    }
}

void sfq_set_backlog(struct sfq *sfq, const char *user_id, int lane, int64_t n, int64_t cost)
{
    struct sfq_flow *f = sfq_flow_of(sfq, user_id, lane);

    if (f && n >= 0) {
        f->backlog = n > INT32_MAX ? INT32_MAX : (int32_t)n;
        f->backlog_cost = (double)cost;
    }
}

static double flow_tasks(const struct sfq_flow *f)
{
    return f->backlog > f->n ? f->backlog : f->n;
}

int64_t sfq_backlog(const struct sfq *sfq)
{
    double sum = 0;

    for (size_t k = 0; k < ARRAY_LEN(sfq->classes); k++) {
        for (size_t i = 0; i < sfq->classes[k].n; i++) {
            sum += flow_tasks(sfq->classes[k].heap[i]);
        }
    }
    return (int64_t)sum;
}

/* Places ----------------------------------------------------------------------------------------*/

/* Virtual time one of the flow's tasks takes. */
static double step_of(const struct sfq_flow *f)
{
    double cost = f->backlog > 0 ? f->backlog_cost / f->backlog : f->heads[0].cost;

    return (cost > 0.1 ? cost : 1) * f->ratio / sfq_flow_weight(f);
}

/* Where a flow of this class usually stands: a little behind the last pick. */
static double usual_start(const struct sfq_class *c)
{
    double sum = 0, n = 0;

    for (size_t i = 0; i < c->n; i++) {
        const struct sfq_flow *f = c->heap[i];
        if (f->start >= c->v) {
            sum += fmin(f->start - c->v, step_of(f));
            n++;
        }
    }
    return c->v + (n > 0 ? sum / n : 0);
}

static void class_curve(const struct sfq_class *c, const double *x, double *ret_tasks, size_t n)
{
    double from = usual_start(c);

    for (size_t k = 0; k < n; k++) {
        ret_tasks[k] = 0;
    }
    for (size_t i = 0; i < c->n; i++) {
        const struct sfq_flow *f = c->heap[i];
        double tasks = flow_tasks(f), step = step_of(f), gap = from - f->start;
        for (size_t k = 0; k < n; k++) {
            double until = x[k] + gap; /* virtual time the flow has until then */
            if (until > 0) {
                ret_tasks[k] += fmin(tasks, ceil(until / step));
            }
        }
    }
}

void sfq_curve(const struct sfq *sfq, bool bulk, const double *x, double *ret_tasks, size_t n)
{
    double first = 0;

    class_curve(&sfq->classes[bulk ? 1 : 0], x, ret_tasks, n);
    if (!bulk) { /* every tenth pick goes to the others while they wait */
        double others = 0;
        for (size_t i = 0; i < sfq->classes[1].n; i++) {
            others += flow_tasks(sfq->classes[1].heap[i]);
        }
        for (size_t k = 0; k < n; k++) {
            ret_tasks[k] += fmin(others, floor(ret_tasks[k] / (SFQ_BULK_TURN - 1)));
        }
        return;
    }
    for (size_t i = 0; i < sfq->classes[0].n; i++) {
        first += flow_tasks(sfq->classes[0].heap[i]);
    }
    for (size_t k = 0; k < n; k++) { /* nine of lane 0 before each of ours, as long as there are */
        ret_tasks[k] += fmin(first, (ret_tasks[k] + 1) * (SFQ_BULK_TURN - 1));
    }
}
