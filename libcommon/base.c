/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clocks and the descriptor cleanup. Decisions use the monotonic clock; wall time is for people.
 */
#include "libcommon/base.h"

#include <time.h>
#include <unistd.h>

void fd_cleanup(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

uint64_t clock_mono_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000U + (uint64_t)ts.tv_nsec / 1000U;
}

uint64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000U;
}

int64_t clock_wall_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}
