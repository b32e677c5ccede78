/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An array with an index by key: what is out is bounded by the credit, a few times the slots of the
 * fleet.
 */
#include "services/dispatcher/out.h"

#include "libcommon/fnv.h"

#include <string.h>

/* File ids are random at their end. */
static size_t bucket_of(const struct out_list *list, const struct task_key *key)
{
    uint64_t h = FNV64_START ^ (uint64_t)(unsigned)key->unit;

    h = fnv64(h, key->file_id, strlen(key->file_id));
    return (size_t)(h ^ h >> 32) & (list->cap * 2 - 1);
}

static void link_entry(struct out_list *list, size_t i)
{
    uint32_t *head = &list->buckets[bucket_of(list, &list->entries[i].task.key)];

    list->entries[i].next = *head;
    *head = (uint32_t)i + 1;
}

static void unlink_entry(struct out_list *list, size_t i)
{
    uint32_t *p = &list->buckets[bucket_of(list, &list->entries[i].task.key)];

    while (*p != i + 1) {
        p = &list->entries[*p - 1].next;
    }
    *p = list->entries[i].next;
}

static int grow(struct out_list *list, struct err *err)
{
    size_t cap = list->cap ? list->cap * 2 : 64;
    struct out_entry *entries = realloc(list->entries, cap * sizeof(*entries));

    if (!entries) {
        return err_nomem(err);
    }
    list->entries = entries;
    uint32_t *buckets = calloc(cap * 2, sizeof(*buckets));
    if (!buckets) {
        return err_nomem(err);
    }
    free(list->buckets);
    list->buckets = buckets;
    list->cap = cap;
    for (size_t i = 0; i < list->n; i++) {
        link_entry(list, i);
    }
    return 0;
}

int out_add(struct out_list *list, const struct out_entry *entry, struct err *err)
{
    if (list->n == list->cap && grow(list, err) < 0) {
        return -1;
    }
    list->entries[list->n++] = *entry;
    link_entry(list, list->n - 1);
    if (entry->partition >= 0 && entry->partition < OUT_PARTITIONS_MAX) {
        list->by_partition[entry->partition]++;
    }
    return 0;
}

void out_remove(struct out_list *list, size_t i)
{
    int p = list->entries[i].partition;
    size_t last = list->n - 1;

    if (p >= 0 && p < OUT_PARTITIONS_MAX) {
        list->by_partition[p]--;
    }
    unlink_entry(list, i);
    if (i != last) {
        unlink_entry(list, last);
        list->entries[i] = list->entries[last];
        link_entry(list, i);
    }
    list->n--;
}

static uint32_t next_of_key(const struct out_list *list, const struct task_key *key, uint32_t at)
{
    for (; at; at = list->entries[at - 1].next) {
        const struct task_key *k = &list->entries[at - 1].task.key;
        if (k->unit == key->unit && k->generation == key->generation &&
            strcmp(k->file_id, key->file_id) == 0) {
            break;
        }
    }
    return at;
}

bool out_has(const struct out_list *list, const struct task_key *key)
{
    return list->cap > 0 && next_of_key(list, key, list->buckets[bucket_of(list, key)]) != 0;
}

size_t out_find(const struct out_list *list, const struct task_key *key, int dispatch_seq)
{
    uint32_t at = list->cap ? next_of_key(list, key, list->buckets[bucket_of(list, key)]) : 0;

    while (at && list->entries[at - 1].task.dispatch_seq != dispatch_seq) {
        at = next_of_key(list, key, list->entries[at - 1].next);
    }
    return at ? at - 1 : list->n;
}

void out_clear(struct out_list *list)
{
    list->n = 0;
    if (list->buckets) {
        memset(list->buckets, 0, list->cap * 2 * sizeof(*list->buckets));
    }
    memset(list->by_partition, 0, sizeof(list->by_partition));
}

void out_done(struct out_list *list)
{
    free(list->entries);
    free(list->buckets);
    *list = (struct out_list){0};
}

static int load_of(const struct out_list *list, const struct task_worker *worker)
{
    int sum = 0;

    for (int i = 0; i < worker->n_partitions; i++) {
        int p = worker->partitions[i];
        sum += p >= 0 && p < OUT_PARTITIONS_MAX ? list->by_partition[p] : 0;
    }
    return sum;
}

int out_choose_partition(const struct out_list *list, const struct task_worker *workers,
                         size_t n_workers, int n_partitions, bool by_key, const char *user_id,
                         bool *used)
{
    unsigned h = fnv32(user_id);
    const struct task_worker *best = NULL;
    double best_load = 0;

    for (size_t k = 0; k < n_workers && !by_key; k++) {
        const struct task_worker *w = &workers[(k + h) % n_workers];
        double load = w->slots > 0 && !w->open ? (double)load_of(list, w) / w->slots : 1e9;
        if (w->n_partitions > 0 && (!best || load < best_load)) {
            best = w;
            best_load = load;
        }
    }
    if (!best) {
        return (int)(h % (unsigned)n_partitions);
    }
    int choice = -1;
    for (int k = 0; k < best->n_partitions; k++) {
        int p = best->partitions[((unsigned)k + h) % (unsigned)best->n_partitions];
        if (p < 0 || p >= n_partitions || p >= OUT_PARTITIONS_MAX) {
            continue;
        }
        if (used && used[p]) {
            return p;
        }
        if (choice < 0 || list->by_partition[p] < list->by_partition[choice]) {
            choice = p;
        }
    }
    if (choice >= 0 && used) {
        used[choice] = true;
    }
    return choice >= 0 ? choice : (int)(h % (unsigned)n_partitions);
}
