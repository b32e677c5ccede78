/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start-time fair queuing over users (Goyal, Vin, Cheng 1996), with cost in pages, weights and a
 * bonus for newly active users (as FQ-CoDel, RFC 8290, serves new flows first).
 * Pure: no clock, no I/O, so that the same code runs in the service and in a simulation.
 * Invariant: memory depends on the users that wait, never on the backlog behind their heads.
 */
#pragma once

#include "libcommon/task_dispatch.h"

#define SFQ_HEADS_MAX 32
#define SFQ_QUANTUM 1.0 /* cost units a newcomer is put before the others */
#define SFQ_IDLE_MS 10000U

enum sfq_mode { SFQ_FAIR, SFQ_FIFO };

struct sfq; /* opaque */

int sfq_new(enum sfq_mode mode, struct sfq **ret_sfq, struct err *err) WARN_UNUSED;
void sfq_free(struct sfq *sfq);

/* Takes a head in, in order of seq per user; one that is held already is ignored. Past
 * SFQ_HEADS_MAX of a user it is dropped and the user marked as having more. */
int sfq_add(struct sfq *sfq, const struct task_head *head, struct err *err) WARN_UNUSED;
/* The user has unsent tasks beyond the heads held. */
void sfq_set_more(struct sfq *sfq, const char *user_id, bool more);
void sfq_set_weight(struct sfq *sfq, const char *user_id, double weight);

/* Takes out the head to send next: lowest start tag of the users that have one. A user with
 * `user_cap` or more units out is passed over while others wait. false: nobody waits. */
bool sfq_pick(struct sfq *sfq, uint64_t now_ms, int user_cap, struct task_head *ret_head);
/* The picked one was sent. */
void sfq_sent(struct sfq *sfq, const char *user_id, uint64_t now_ms);
/* The picked one was gone (cancelled, or sent by another leader): its share is given back. */
void sfq_unpick(struct sfq *sfq, const struct task_head *head);
/* The picked one could not be sent and waits on. */
int sfq_put_back(struct sfq *sfq, const struct task_head *head, struct err *err) WARN_UNUSED;
/* One of the user's units came back. */
void sfq_back(struct sfq *sfq, const char *user_id, uint64_t now_ms);

/* Users that have fewer than `low` heads and more to load: up to max of them, the next to be served
 * first. cursors[i] is the seq to read after. */
size_t sfq_refill(const struct sfq *sfq, int low, char (*users)[UUID_TEXT], int64_t *cursors,
                  size_t max);
/* Before a reconciliation: cursors start again, and heads are read anew. */
void sfq_reset(struct sfq *sfq);
/* Forgets users that neither wait nor have anything out and were last seen before `before_ms`. */
void sfq_prune(struct sfq *sfq, uint64_t before_ms);

size_t sfq_waiting(const struct sfq *sfq); /* heads held */
size_t sfq_users(const struct sfq *sfq);   /* users known */
/* Share of the user with most units out, and Jain's index over the users that have any. */
void sfq_shares(const struct sfq *sfq, double *ret_top, double *ret_jain);
