/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plain array: what is out is bounded by the credit, a few times the slots of the fleet.
 */
#include "services/dispatcher/out.h"

#include <string.h>

int out_add(struct out_list *list, const struct out_entry *entry, struct err *err)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        struct out_entry *entries = realloc(list->entries, cap * sizeof(*entries));
        if (!entries) {
            return err_nomem(err);
        }
        list->entries = entries;
        list->cap = cap;
    }
    list->entries[list->n++] = *entry;
    if (entry->partition >= 0 && entry->partition < OUT_PARTITIONS_MAX) {
        list->by_partition[entry->partition]++;
    }
    return 0;
}

void out_remove(struct out_list *list, size_t i)
{
    int p = list->entries[i].partition;

    if (p >= 0 && p < OUT_PARTITIONS_MAX) {
        list->by_partition[p]--;
    }
    list->entries[i] = list->entries[--list->n];
}

bool out_has(const struct out_list *list, const struct task_key *key)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct task_key *k = &list->entries[i].task.key;
        if (k->unit == key->unit && k->generation == key->generation &&
            strcmp(k->file_id, key->file_id) == 0) {
            return true;
        }
    }
    return false;
}

void out_clear(struct out_list *list)
{
    list->n = 0;
    memset(list->by_partition, 0, sizeof(list->by_partition));
}

void out_done(struct out_list *list)
{
    free(list->entries);
    *list = (struct out_list){0};
}

static unsigned hash_user(const char *user_id)
{
    unsigned h = 2166136261U;

    for (; *user_id; user_id++) {
        h = (h ^ (unsigned char)*user_id) * 16777619U;
    }
    return h;
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
                         size_t n_workers, int n_partitions, bool by_key, const char *user_id)
{
    unsigned h = hash_user(user_id);
    const struct task_worker *best = NULL;
    double best_load = 0;

    for (size_t k = 0; k < n_workers && !by_key; k++) {
        const struct task_worker *w = &workers[(k + h) % n_workers];
        double load = w->slots > 0 ? (double)load_of(list, w) / w->slots : 1e9;
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
        if (choice < 0 || list->by_partition[p] < list->by_partition[choice]) {
            choice = p;
        }
    }
    return choice >= 0 ? choice : (int)(h % (unsigned)n_partitions);
}
