/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kafka as the code under test meets it: a topic per stage, partitions, one group each with
 * rebalances, committed offsets, records that come twice, late or out of order, a log that is wiped
 * and offsets that are reset. Invariant: a member gets only records of partitions that it has been
 * assigned, from the committed offset on; a commit of another generation is dropped.
 */
#pragma once

#include "libcommon/event.h"
#include "tests/sim/fiber.h"

#define BUS_PARTITIONS 6
#define BUS_MEMBERS 16

struct bus_rec {
    char *value;
    size_t len;
    char key[UUID_TEXT];
    int64_t visible_at;
    struct work_order order;
    const struct member *delivered; /* to whom last */
};

struct bus_part {
    struct bus_rec *records;
    int64_t n, cap;
    int64_t committed;
};

/* A group consumer in a worker. */
struct member {
    struct proc *proc;
    int stage;
    bool joined;
    int64_t seen;        /* last poll */
    unsigned want, have; /* bits of partitions: assigned by the group, taken over by the member */
    bool told;           /* the newest assignment has been taken over */
    int64_t position[BUS_PARTITIONS];
    struct waitq records;
};

struct topic {
    struct bus_part parts[BUS_PARTITIONS];
    struct member *members[BUS_MEMBERS];
    int n_members;
    bool rebalancing;
};

extern struct topic bus_topics[STAGE_MAX + 1];

void sim_bus_reset(void);
bool sim_bus_reachable(const struct proc *proc);
/* The broker is away until then. */
void sim_bus_down(int64_t us);

void sim_bus_append(int stage, int partition, const struct work_order *order, const char *value,
                    size_t len, int64_t late_us);
void sim_bus_join(struct member *member);
void sim_bus_leave(struct member *member);
/* One poll, at most wait_us: the next record, or NULL. *ret_revoked and *ret_assigned: partitions
 * that went and came. */
const struct bus_rec *sim_bus_poll(struct member *member, int64_t wait_us, unsigned *ret_revoked,
                                   int *ret_partition, int64_t *ret_offset);
void sim_bus_commit(struct member *member, int partition, int64_t next);

/* Faults. */
void sim_bus_wipe(bool offsets_too);
void sim_bus_reset_offsets(int stage, bool earliest);
void sim_bus_shake(int stage); /* a rebalance without reason */
