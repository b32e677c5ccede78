/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings with a value each, looked up by hashing.
 * Invariant: keys are copied and never removed; nothing is found that was not put in.
 */
#pragma once

#include "libcommon/err.h"

struct strtab_slot {
    char *key;
    size_t value;
};

struct strtab {
    struct strtab_slot *slots; /* cap, a power of two; key NULL: free */
    size_t n, cap;
};
#define STRTAB_INIT ((struct strtab){.n = 0})

void strtab_done(struct strtab *tab);
/* The last value put wins. */
int strtab_put(struct strtab *tab, const char *key, size_t value, struct err *err) WARN_UNUSED;
bool strtab_get(const struct strtab *tab, const char *key, size_t *ret_value);
