/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start-time fair queuing (Goyal, Vin, Cheng 1996) over flows, a flow being a user's lane, with
 * cost in pages, weights and a bonus for newly active users (as FQ-CoDel, RFC 8290, serves new
 * flows first). Lane 0 goes before lanes 1 and 2, which get every tenth pick while both wait.
 * Pure: no clock, no I/O, so that the same code runs in the service and in a simulation.
 * Invariant: memory depends on the flows that wait, never on the backlog behind their heads; and a
 * head leaves only by a pick, or because the table says that it waits no more.
 */
#pragma once

#include "libcommon/task_dispatch.h"

#define SFQ_HEADS_MAX 32  /* heads of a flow in memory */
#define SFQ_HEADS_FIRST 4 /* what a flow starts with; doubled each time it is used up */
#define SFQ_QUANTUM 1.0   /* cost units a newcomer is put before the others */
#define SFQ_IDLE_MS 10000U
#define SFQ_BULK_TURN 10 /* every tenth pick is for lanes 1 and 2 */
#define SFQ_REPLAY_WEIGHT 0.2

enum sfq_mode { SFQ_FAIR, SFQ_FIFO };

struct sfq; /* opaque */

int sfq_new(enum sfq_mode mode, struct sfq **ret_sfq, struct err *err) WARN_UNUSED;
void sfq_free(struct sfq *sfq);
/* The time for all that follows. */
void sfq_set_now(struct sfq *sfq, uint64_t now_ms);

/* Heads -----------------------------------------------------------------------------------------*/

/* What the table has for one flow, in order of seq: n tasks, the lowest that wait (n 0: none do);
 * more: others wait behind them. Whatever was held for the flow is replaced; its tags stay. */
int sfq_load(struct sfq *sfq, const char *user_id, int lane, const struct task_head *heads,
             size_t n, bool more, struct err *err) WARN_UNUSED;
/* The same for tasks behind those that are held. */
int sfq_append(struct sfq *sfq, const char *user_id, int lane, const struct task_head *heads,
               size_t n, bool more, struct err *err) WARN_UNUSED;
/* Takes one head in, by seq; one that is held already is ignored. */
int sfq_add(struct sfq *sfq, const struct task_head *head, struct err *err) WARN_UNUSED;
/* How many heads to ask for when the flow is read from its start. */
int sfq_want(const struct sfq *sfq, const char *user_id, int lane);
/* Flows that picks have nearly emptied while more waits behind: up to max of them, each once, as
 * questions for sfq_append. Those left over come with the next call. */
size_t sfq_hungry(struct sfq *sfq, struct task_ask *asks, size_t max);
/* A pass over all flows of the table: what is not loaded between begin and end waits no more. Users
 * that neither wait nor have anything out and were last seen before `before_ms` are forgotten. */
void sfq_begin_pass(struct sfq *sfq);
/* While set, flows that are added are taken for known ones and get no bonus: a new leader finds all
 * that wait, and if each of thousands went first, a real newcomer would wait for all of them. */
void sfq_known(struct sfq *sfq, bool known);
void sfq_end_pass(struct sfq *sfq, uint64_t before_ms);

/* Turns -----------------------------------------------------------------------------------------*/

struct sfq_pick {
    struct task_head head;
    double charge; /* what the flow was charged: its cost times what the flow's costs were lately
                      measured to be of their estimates */
    /* for undoing it: */
    double start, finish, v;
    uint64_t serial, flow_serial;
    int turn;
    bool bonus;
};

/* Takes out the head to send next: lowest start tag of the flows that have one. A user with
 * `user_cap` or more units out is passed over while others wait. false: nobody waits, or (first in,
 * first out) sfq_hungry has to be asked first. */
bool sfq_pick(struct sfq *sfq, int user_cap, struct sfq_pick *ret_pick);
/* The next pick would be a newly active user's, before the others for its bonus. */
bool sfq_newcomer_next(const struct sfq *sfq, int user_cap);
/* The picked one was sent. */
void sfq_sent(struct sfq *sfq, const char *user_id);
/* The picked one was gone (cancelled, or sent by another leader): its share is given back. Several
 * are undone last one first. */
void sfq_unpick(struct sfq *sfq, const struct sfq_pick *pick);
/* The picked one could not be sent and waits on, at its old place. */
int sfq_put_back(struct sfq *sfq, const struct sfq_pick *pick, struct err *err) WARN_UNUSED;
/* One that is out takes more than it was charged, it seems: `extra` is charged meanwhile. The
 * caller adds it to the charge that sfq_back corrects. */
void sfq_charge(struct sfq *sfq, const char *user_id, int lane, double extra);
/* One of the user's units came back: what it was charged is corrected to what it took. measured
 * negative: not known, 0: it was never begun. estimated: the head's cost. */
void sfq_back(struct sfq *sfq, const char *user_id, int lane, double charge, int estimated,
              int measured);

/* Views -----------------------------------------------------------------------------------------*/

size_t sfq_waiting(const struct sfq *sfq); /* heads held */
size_t sfq_users(const struct sfq *sfq);   /* users known */
size_t sfq_flows(const struct sfq *sfq);   /* flows that wait */
/* From a census: what waits of a flow, held or not. First sfq_clear_backlog. */
void sfq_clear_backlog(struct sfq *sfq);
void sfq_set_backlog(struct sfq *sfq, const char *user_id, int lane, int64_t n, int64_t cost);
/* Tasks that wait, by the last census and the picks since. */
int64_t sfq_backlog(const struct sfq *sfq);
/* Share of lately served cost (half-life 20 s) of the user that got most; Jain's index of cost /
 * weight over the users that have waited for 10 s or more (1 when fewer than two). */
void sfq_shares(const struct sfq *sfq, double *ret_top, double *ret_jain);
/* For offsets x[i] of cost (ascending): how many tasks are sent before one whose own flow has x[i]
 * of cost / weight before it. bulk: of lanes 1 and 2, else of lane 0. */
void sfq_curve(const struct sfq *sfq, bool bulk, const double *x, double *ret_tasks, size_t n);
