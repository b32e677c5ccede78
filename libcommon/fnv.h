/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv), for places in tables of ours. Whoever chooses
 * the keys can make them collide: never for what an outsider must not guess or forge.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FNV64_START 14695981039346656037ULL

static inline uint32_t fnv32(const char *text)
{
    uint32_t h = 2166136261U;

    for (; *text != '\0'; text++) {
        h = (h ^ (unsigned char)*text) * 16777619U;
    }
    return h;
}

/* h: FNV64_START, or what came of earlier bytes. */
static inline uint64_t fnv64(uint64_t h, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < n; i++) {
        h = (h ^ p[i]) * 1099511628211ULL;
    }
    return h;
}
