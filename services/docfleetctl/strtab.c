/* SPDX-License-Identifier: Apache-2.0 */
#include "services/docfleetctl/strtab.h"

#include <string.h>

void strtab_done(struct strtab *tab)
{
    for (size_t i = 0; i < tab->cap; i++) {
        free(tab->slots[i].key);
    }
    free(tab->slots);
    *tab = STRTAB_INIT;
}

static size_t hash(const char *key)
{
    uint64_t h = 0xcbf29ce484222325U; /* FNV-1a */

    for (; *key; key++) {
        h = (h ^ (unsigned char)*key) * 0x100000001b3U;
    }
    return (size_t)(h ^ (h >> 32));
}

static struct strtab_slot *find(const struct strtab *tab, const char *key)
{
    size_t i = hash(key) & (tab->cap - 1);

    while (tab->slots[i].key && strcmp(tab->slots[i].key, key) != 0) {
        i = (i + 1) & (tab->cap - 1);
    }
    return &tab->slots[i];
}

static int grow(struct strtab *tab, struct err *err)
{
    struct strtab bigger = {.n = tab->n, .cap = tab->cap ? tab->cap * 2 : 64};

    bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
    if (!bigger.slots) {
        return err_nomem(err);
    }
    for (size_t i = 0; i < tab->cap; i++) {
        if (tab->slots[i].key) {
            *find(&bigger, tab->slots[i].key) = tab->slots[i];
        }
    }
    free(tab->slots);
    *tab = bigger;
    return 0;
}

int strtab_put(struct strtab *tab, const char *key, size_t value, struct err *err)
{
    if (tab->n * 2 >= tab->cap && grow(tab, err) < 0) {
        return -1;
    }
    struct strtab_slot *slot = find(tab, key);
    if (!slot->key) {
        slot->key = strdup(key);
        if (!slot->key) {
            return err_nomem(err);
        }
        tab->n++;
    }
    slot->value = value;
    return 0;
}

bool strtab_get(const struct strtab *tab, const char *key, size_t *ret_value)
{
    if (tab->cap == 0) {
        return false;
    }
    const struct strtab_slot *slot = find(tab, key);
    if (!slot->key) {
        return false;
    }
    *ret_value = slot->value;
    return true;
}
