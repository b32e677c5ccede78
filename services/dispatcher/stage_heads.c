/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits: brings the fair queue's heads up to date with the task table, by user, by flow that
 * runs dry, or all of them a page at a time, so that no pick waits for a long read.
 */
#include <stdio.h>
#include <string.h>

#include "services/dispatcher/stage_core_intern.h"

#define PAGE_FLOWS 128
#define FORGET_MS 60000U
#define LANES (LANE_MAX + 1)

/* Gathers the heads of one flow after the other. */
struct gather {
    struct stage_lead *lead;
    const struct task_ask *asks; /* NULL: a page */
    size_t n_asks, next;         /* of the asks, the first without an answer */
    bool append;
    struct task_head heads[SFQ_HEADS_MAX];
    size_t n;
};

static int limit_of(const struct gather *g)
{
    return g->asks ? g->asks[g->next].limit : SFQ_HEADS_FIRST;
}

static int give(struct gather *g, const char *user_id, int lane, bool more, struct err *err)
{
    struct sfq *sfq = g->lead->sfq;

    return g->append ? sfq_append(sfq, user_id, lane, g->heads, g->n, more, err)
                     : sfq_load(sfq, user_id, lane, g->heads, g->n, more, err);
}

static int end_flow(struct gather *g, struct err *err)
{
    int r = 0;

    if (g->n > 0 && lead_owns(g->lead, g->heads[0].user_id)) {
        r = give(g, g->heads[0].user_id, g->heads[0].lane, (int)g->n >= limit_of(g), err);
    }
    g->next += g->n > 0 ? 1 : 0;
    g->n = 0;
    return r;
}

/* Asks that got no answer up to the one for this flow: nothing waits there (any more). */
static int skip_to(struct gather *g, const struct task_head *head, struct err *err)
{
    while (g->asks && g->next < g->n_asks &&
           (!head || g->asks[g->next].lane != head->lane ||
            strcmp(g->asks[g->next].user_id, head->user_id) != 0)) {
        const struct task_ask *ask = &g->asks[g->next++];
        if (give(g, ask->user_id, ask->lane, false, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int take_head(void *arg, const struct task_head *head, struct err *err)
{
    struct gather *g = arg;

    if (g->n > 0 &&
        (g->heads[0].lane != head->lane || strcmp(g->heads[0].user_id, head->user_id) != 0) &&
        end_flow(g, err) < 0) {
        return -1;
    }
    if (g->n == 0 && skip_to(g, head, err) < 0) {
        return -1;
    }
    if (g->asks && g->next >= g->n_asks) {
        return err_set(err, ERR_FATAL, "internal", "a head nobody asked for");
    }
    if (g->n < ARRAY_LEN(g->heads)) {
        g->heads[g->n++] = *head;
    }
    return 0;
}

static int ask(struct stage_lead *lead, const struct task_ask *asks, size_t n, bool append,
               struct err *err)
{
    struct gather g = {.lead = lead, .asks = asks, .n_asks = n, .append = append};

    if (lead->io.heads_asked(lead->io.ctx, lead->c.stage, asks, n, take_head, &g, err) < 0 ||
        end_flow(&g, err) < 0) {
        return -1;
    }
    return skip_to(&g, NULL, err);
}

void lead_begin_pass(struct stage_lead *lead)
{
    lead->passing = true;
    lead->place = TASK_PLACE_START;
    sfq_begin_pass(lead->sfq);
}

int lead_pass_page(struct stage_lead *lead, struct err *err)
{
    struct gather g = {.lead = lead};
    bool end = false;

    sfq_known(lead->sfq, lead->first_pass);
    int r = lead->io.heads_page(lead->io.ctx, lead->c.stage, PAGE_FLOWS, SFQ_HEADS_FIRST, take_head,
                                &g, &lead->place, &end, err) < 0 ||
                    end_flow(&g, err) < 0
                ? -1
                : 0;
    sfq_known(lead->sfq, false);
    if (r < 0) {
        return -1;
    }
    if (end) {
        lead->passing = false;
        lead->first_pass = false;
        sfq_end_pass(lead->sfq, lead->now > FORGET_MS ? lead->now - FORGET_MS : 0);
    }
    return 0;
}

int lead_load_users(struct stage_lead *lead, char (*users)[UUID_TEXT], size_t n, struct err *err)
{
    struct task_ask asks[TASK_ASKS_MAX];
    size_t k = 0;

    for (size_t i = 0; i < n; i++) {
        for (int lane = 0; lane < LANES && lead_owns(lead, users[i]); lane++) {
            asks[k] = (struct task_ask){.lane = lane, .limit = sfq_want(lead->sfq, users[i], lane)};
            snprintf(asks[k++].user_id, UUID_TEXT, "%s", users[i]);
        }
        if (k > 0 && (k + LANES > TASK_ASKS_MAX || i + 1 == n)) {
            if (ask(lead, asks, k, false, err) < 0) {
                return -1;
            }
            k = 0;
        }
    }
    return 0;
}

int lead_refill(struct stage_lead *lead, bool *ret_any, struct err *err)
{
    struct task_ask asks[TASK_ASKS_MAX];
    size_t n = sfq_hungry(lead->sfq, asks, TASK_ASKS_MAX);

    *ret_any = n > 0;
    return n > 0 ? ask(lead, asks, n, true, err) : 0;
}
