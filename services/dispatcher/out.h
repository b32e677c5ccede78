/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stage has out between the dispatcher and done: the credit's ledger, the sweeper's memory,
 * and the load of partitions.
 * Invariant: an entry leaves only when its row says that it is not dispatched or running any more.
 */
#pragma once

#include "libcommon/task_dispatch.h"

#define OUT_PARTITIONS_MAX 256

struct out_entry {
    struct task_out task;
    char user_id[UUID_TEXT];
    int cost;            /* as sent: an estimate */
    double base;         /* what the fair queue charged when it was sent; 0: found at take-over */
    double charge;       /* the same and what it has run up since */
    int partition;       /* -1: unknown (found at take-over) */
    uint64_t sent_ms;    /* monotonic */
    uint64_t waited_ms;  /* unclaimed, while the broker answered and a worker could take it */
    uint64_t claimed_ms; /* first seen running */
    bool claimed;
    bool never_begun; /* taken back unclaimed: it cost nothing */
    uint32_t next;    /* in its bucket, + 1 */
};

struct out_list {
    struct out_entry *entries;
    size_t n, cap;
    uint32_t *buckets; /* 2 * cap of them: entry + 1 */
    int by_partition[OUT_PARTITIONS_MAX];
};

int out_add(struct out_list *list, const struct out_entry *entry, struct err *err) WARN_UNUSED;
/* Takes entry i out (the last one moves to its place). */
void out_remove(struct out_list *list, size_t i);
/* Its place, or list->n. */
size_t out_find(const struct out_list *list, const struct task_key *key, int dispatch_seq);
bool out_has(const struct out_list *list, const struct task_key *key);
void out_clear(struct out_list *list);
void out_done(struct out_list *list);

/* The partition for a user's next order: of the live worker without an open breaker with the least
 * load per slot, one that `used` names (a flag for each of OUT_PARTITIONS_MAX, or NULL), else the
 * one of its partitions with the least out, ties by the user's hash; `used` then names it too. With
 * no worker known, or `by_key`: by hash. */
int out_choose_partition(const struct out_list *list, const struct task_worker *workers,
                         size_t n_workers, int n_partitions, bool by_key, const char *user_id,
                         bool *used);
