/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of a stage's leader, shared by stage_core.c (the round), stage_heads.c (what waits),
 * stage_sweep.c (what is out), stage_send.c (orders) and stage_view.c (workers, credit, what is
 * shown).
 * Invariant: none of them asks anything of the world but through io.
 */
#pragma once

#include "services/dispatcher/out.h"
#include "services/dispatcher/sfq.h"
#include "services/dispatcher/stage_core.h"

struct stage_lead {
    struct stage_lead_config c;
    struct lead_io io;
    struct sfq *sfq;
    struct out_list out;
    struct task_worker workers[TASK_WORKERS_MAX];
    size_t n_workers;
    int slots; /* of workers without an open breaker */
    int n_partitions;
    bool paused, broker_ok;
    int credit;
    double rate;              /* completions a second, over the last two or so */
    double ended, ended_ms;   /* the same over half a minute: decaying sums */
    int returned;             /* since the last look at workers */
    double cost_sum, run_sum; /* of what ended lately: measured cost, ms; decaying */
    double claim_ms;          /* slowest claim lately, decaying */
    double oldest_s;          /* by the last census */
    uint64_t now;
    /* when they are next due */
    uint64_t workers_at, pass_at, strays_at, sweep_at, publish_at, broker_at;
    uint64_t probe_at;    /* one probe for anything that waits */
    bool check_late;      /* credit is used up, and it is too early to ask again */
    uint64_t checked_at;  /* what is out was last asked for */
    uint64_t swept_at;    /* last sweep; 0: none yet */
    uint64_t looked_at;   /* last look at workers; 0: none yet */
    uint64_t census_at;   /* last census */
    uint64_t db_ok_at;    /* Postgres last answered; 0: not yet */
    uint64_t leases_from; /* leases are left alone before */
    bool passing;         /* a pass over all flows is under way */
    bool first_pass;      /* it is the first one since the take-over */
    struct task_place place;
};

/* Postgres has answered: after a long silence the holders of leases may renew first. */
void lead_contact(struct stage_lead *lead);
void lead_trouble(struct stage_lead *lead, const char *what, const struct err *err);
bool lead_owns(const struct stage_lead *lead, const char *user_id);

/* stage_heads.c */
void lead_begin_pass(struct stage_lead *lead);
int lead_pass_page(struct stage_lead *lead, struct err *err);
int lead_load_users(struct stage_lead *lead, char (*users)[UUID_TEXT], size_t n, struct err *err);
/* Flows that picks have emptied. *ret_any: there were some. */
int lead_refill(struct stage_lead *lead, bool *ret_any, struct err *err);

/* stage_sweep.c */
int lead_check_out(struct stage_lead *lead, struct err *err);
int lead_sweep(struct stage_lead *lead, struct err *err);
int lead_find_strays(struct stage_lead *lead, bool fresh, struct err *err);

/* stage_send.c */
bool lead_may_send(struct stage_lead *lead);
/* The credit is not used up, or a newcomer waits who may go beyond it. */
bool lead_has_room(const struct stage_lead *lead);
int lead_send_batch(struct stage_lead *lead, bool *ret_more, struct err *err);

/* stage_view.c */
int lead_look_at_workers(struct stage_lead *lead, struct err *err);
int lead_publish(struct stage_lead *lead, struct err *err);
