/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few macros every file needs: who owns a local, and what the compiler checks for us.
 * Invariant: nothing here allocates, includes another project header or has state.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define WARN_UNUSED __attribute__((warn_unused_result))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))

/* Runs fn(&variable) when the variable leaves its scope; the variable is initialised where it is
 * declared. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Takes the value out of an owning pointer: the caller owns it now, the variable is NULL. */
#define STEAL(p)                                                                                   \
    (__extension__({                                                                               \
        __typeof__(p) *steal_from_ = &(p);                                                         \
        __typeof__(p) stolen_ = *steal_from_;                                                      \
        *steal_from_ = NULL;                                                                       \
        stolen_;                                                                                   \
    }))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Defines static inline name_cleanup(type *p) for CLEANUP(), calling fn(*p) on a non-NULL value. */
#define DEFINE_CLEANUP(type, name, fn)                                                             \
    UNUSED                                                                                         \
    static inline void name(type *p)                                                               \
    {                                                                                              \
        if (*p) {                                                                                  \
            fn(*p);                                                                                \
            *p = NULL;                                                                             \
        }                                                                                          \
    }

/* CLEANUP() for plain malloc'd memory: `CLEANUP(free_cleanup) char *s = NULL;` */
UNUSED
static inline void free_cleanup(void *p)
{
    void **pp = p;

    free(*pp);
    *pp = NULL;
}

/* CLEANUP() for file descriptors: closes fd >= 0. `CLEANUP(fd_cleanup) int fd = -1;` */
void fd_cleanup(int *fd);

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Monotonic milliseconds / microseconds and wall-clock milliseconds since the epoch. */
uint64_t clock_mono_ms(void);
uint64_t clock_mono_us(void);
int64_t clock_wall_ms(void);
