/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leader of one stage (or of one shard of its users): who waits (sfq), what is out (out), who
 * works, and how much may be sent. Pure but for struct lead_io, so that the same code runs in the
 * service and in a simulation.
 * Invariant: its memory is a cache of the task table. It may be dropped at any moment, and two
 * leaders at once do no harm, as every statement checks the row it changes.
 */
#pragma once

#include "services/dispatcher/lead_io.h"

struct stage_lead_config {
    int stage;
    int shard, shards;    /* of `shards` (>= 1), which users are ours: user_shard() */
    bool fifo;            /* first in, first out over all users: for comparison */
    bool by_key;          /* partition by the user's hash */
    int64_t credit_floor; /* orders out while no worker lives */
    int64_t sweep_ms;
    int64_t dispatch_timeout_ms;
    int64_t lease_ms; /* leases are left alone this long after an outage of Postgres */
};

struct stage_lead; /* opaque */

/* Copies config and io (not what io->ctx points to). */
int stage_lead_new(const struct stage_lead_config *config, const struct lead_io *io,
                   struct stage_lead **ret_lead, struct err *err) WARN_UNUSED;
void stage_lead_free(struct stage_lead *lead);

/* Forgets everything and reads it anew: on becoming leader, and after turn has failed. */
int stage_lead_take_over(struct stage_lead *lead, struct err *err) WARN_UNUSED;
/* One round: what the clock asks for, then new heads of the n users named (or of all: overflow),
 * then send what the credit allows. After -1 call take_over before the next turn. */
int stage_lead_turn(struct stage_lead *lead, char (*users)[UUID_TEXT], size_t n, bool overflow,
                    struct err *err) WARN_UNUSED;
/* How long to wait for a hint before the next turn. */
unsigned stage_lead_wait_ms(const struct stage_lead *lead);
/* Postgres answered outside of a turn (another process leads): no outage. */
void stage_lead_follow(struct stage_lead *lead);

/* Tasks whose time has come are put to send, and their leaders told. Four times a second. */
int stage_promote(const struct lead_io *io, struct err *err) WARN_UNUSED;

/* The shard of a user, 0..shards-1. */
int user_shard(const char *user_id, int shards);
