/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See bus.h. A rebalance is decided some time after the change that called for it; each member
 * learns of it at its next poll, so that for a while the old and the new owner both believe.
 */
#include "tests/sim/bus.h"

#include <string.h>

#include "tests/sim/world.h"

#define SESSION_US (45 * SECOND)

struct topic bus_topics[STAGE_MAX + 1];
static int64_t down_until;

void sim_bus_reset(void)
{
    for (int s = 0; s <= STAGE_MAX; s++) {
        for (int p = 0; p < BUS_PARTITIONS; p++) {
            struct bus_part *part = &bus_topics[s].parts[p];
            for (int64_t i = 0; i < part->n; i++) {
                free(part->records[i].value);
            }
            part->n = 0;
            part->committed = 0;
        }
        bus_topics[s].n_members = 0;
        bus_topics[s].rebalancing = false;
    }
    down_until = 0;
}

bool sim_bus_reachable(const struct proc *proc)
{
    return fiber_now() >= down_until && fiber_now() >= proc->bus_cut_until;
}

void sim_bus_down(int64_t us)
{
    down_until = fiber_now() + us;
}

void sim_bus_append(int stage, int partition, const struct work_order *order, const char *value,
                    size_t len, int64_t late_us)
{
    struct topic *topic = &bus_topics[stage];
    struct bus_part *part = &topic->parts[partition];

    if (part->n == part->cap) {
        part->cap = part->cap ? part->cap * 2 : 32;
        part->records = realloc(part->records, (size_t)part->cap * sizeof(*part->records));
        if (!part->records) {
            abort();
        }
    }
    struct bus_rec *rec = &part->records[part->n++];
    *rec = (struct bus_rec){.order = *order, .len = len, .visible_at = fiber_now() + late_us};
    memcpy(rec->key, order->user_id, UUID_TEXT);
    rec->value = malloc(len + 1);
    if (!rec->value) {
        abort();
    }
    memcpy(rec->value, value, len);
    for (int i = 0; i < topic->n_members; i++) {
        fiber_wake(&topic->members[i]->records);
    }
}

/* The group -------------------------------------------------------------------------------------*/

static void rebalance(void *arg)
{
    struct topic *topic = arg;
    int n = 0;

    topic->rebalancing = false;
    for (int i = 0; i < topic->n_members;) {
        struct member *m = topic->members[i];
        if (!m->joined || !m->proc->alive || fiber_now() - m->seen > SESSION_US) {
            m->joined = false; /* it learns of it when it polls */
            m->want = 0;
            m->told = false;
            topic->members[i] = topic->members[--topic->n_members];
        } else {
            i++;
        }
    }
    n = topic->n_members;
    for (int i = 0; i < n; i++) {
        struct member *m = topic->members[i];
        m->want = 0;
        for (int p = 0; p < BUS_PARTITIONS; p++) {
            m->want |= p * n / BUS_PARTITIONS == i ? 1U << p : 0;
        }
        m->told = false;
        fiber_wake(&m->records);
    }
}

static void call_rebalance(struct topic *topic)
{
    if (!topic->rebalancing) {
        topic->rebalancing = true;
        fiber_at(sim_range(20 * MS, 3 * SECOND), rebalance, topic);
    }
}

void sim_bus_join(struct member *member)
{
    struct topic *topic = &bus_topics[member->stage];

    member->joined = true;
    member->seen = fiber_now();
    if (topic->n_members < BUS_MEMBERS) {
        topic->members[topic->n_members++] = member;
    }
    call_rebalance(topic);
}

void sim_bus_leave(struct member *member)
{
    member->joined = false;
    call_rebalance(&bus_topics[member->stage]);
}

void sim_bus_shake(int stage)
{
    struct topic *topic = &bus_topics[stage];

    if (topic->n_members > 1) { /* the order of members decides who gets what */
        int64_t i = sim_range(1, topic->n_members - 1);
        struct member *m = topic->members[0];
        topic->members[0] = topic->members[i];
        topic->members[i] = m;
    }
    call_rebalance(topic);
}

/* Members that were silent for too long are thrown out by whoever polls. */
static void throw_out(struct topic *topic)
{
    for (int i = 0; i < topic->n_members; i++) {
        struct member *m = topic->members[i];
        if (!m->joined || !m->proc->alive || fiber_now() - m->seen > SESSION_US) {
            call_rebalance(topic);
            return;
        }
    }
}

static const struct bus_rec *next_record(struct member *m, int *ret_partition, int64_t *ret_offset)
{
    struct topic *topic = &bus_topics[m->stage];
    int first = (int)sim_range(0, BUS_PARTITIONS - 1);

    for (int k = 0; k < BUS_PARTITIONS; k++) {
        int p = (first + k) % BUS_PARTITIONS;
        struct bus_part *part = &topic->parts[p];
        if (!(m->have >> p & 1)) {
            continue;
        }
        if (m->position[p] > part->n) {
            m->position[p] = 0; /* out of range: from the earliest */
        }
        if (m->position[p] < part->n && part->records[m->position[p]].visible_at <= fiber_now()) {
            *ret_partition = p;
            *ret_offset = m->position[p]++;
            part->records[*ret_offset].delivered = m;
            return &part->records[*ret_offset];
        }
    }
    return NULL;
}

/* When the next record that is there becomes visible. */
static int64_t next_visible(const struct member *m, int64_t at)
{
    for (int p = 0; p < BUS_PARTITIONS; p++) {
        const struct bus_part *part = &bus_topics[m->stage].parts[p];
        if ((m->have >> p & 1) && m->position[p] < part->n &&
            part->records[m->position[p]].visible_at < at) {
            at = part->records[m->position[p]].visible_at;
        }
    }
    return at;
}

const struct bus_rec *sim_bus_poll(struct member *m, int64_t wait_us, unsigned *ret_revoked,
                                   int *ret_partition, int64_t *ret_offset)
{
    int64_t until = fiber_now() + wait_us;

    *ret_revoked = 0;
    if (!sim_bus_reachable(m->proc)) {
        fiber_sleep(wait_us);
        return NULL;
    }
    if (fiber_now() - m->seen > SESSION_US) {
        m->joined = false;
        m->told = false;
        m->want = 0;
    }
    m->seen = fiber_now();
    throw_out(&bus_topics[m->stage]);
    if (!m->told) {
        /* Eager: everything goes, then the new share comes, from what is committed. */
        *ret_revoked = m->have;
        m->have = 0;
        m->told = true;
        if (!m->joined) {
            sim_bus_join(m);
            return NULL;
        }
        m->have = m->want;
        for (int p = 0; p < BUS_PARTITIONS; p++) {
            m->position[p] = bus_topics[m->stage].parts[p].committed;
        }
        return NULL;
    }
    for (;;) {
        const struct bus_rec *rec = next_record(m, ret_partition, ret_offset);
        int64_t left = until - fiber_now();
        if (rec || left <= 0 || !m->told) {
            return rec;
        }
        int64_t visible = next_visible(m, until);
        fiber_wait(&m->records, visible > fiber_now() ? visible - fiber_now() : 1);
    }
}

void sim_bus_commit(struct member *m, int partition, int64_t next)
{
    struct bus_part *part = &bus_topics[m->stage].parts[partition];

    if (!m->joined || !m->told || !(m->have >> partition & 1) || !sim_bus_reachable(m->proc)) {
        return;
    }
    for (int64_t i = part->committed; i < next && i < part->n; i++) {
        if (part->records[i].delivered == m) { /* else the log or the offsets were tampered with */
            world_check_commit(m->stage, &part->records[i]);
        }
    }
    part->committed = next;
}

/* Faults ----------------------------------------------------------------------------------------*/

void sim_bus_wipe(bool offsets_too)
{
    for (int s = 1; s <= STAGE_MAX; s++) {
        for (int p = 0; p < BUS_PARTITIONS; p++) {
            struct bus_part *part = &bus_topics[s].parts[p];
            for (int64_t i = 0; i < part->n; i++) {
                free(part->records[i].value);
            }
            part->n = 0;
            part->committed = offsets_too ? 0 : part->committed;
        }
    }
}

void sim_bus_reset_offsets(int stage, bool earliest)
{
    for (int p = 0; p < BUS_PARTITIONS; p++) {
        struct bus_part *part = &bus_topics[stage].parts[p];
        part->committed = earliest ? 0 : part->n;
    }
    sim_bus_shake(stage);
}
