/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A preloaded library: the process sees a wall clock that is WRONG_CLOCK_OFFSET seconds off and
 * runs WRONG_CLOCK_RATE times as fast, as a machine without time service would. The monotonic clock
 * stays right. Waits until a wall time are shifted back, as the kernel of such a machine would wait
 * by the same clock; a wait by the monotonic clock is told by its small number of seconds.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define WALL_MIN 1000000000L /* seconds: no machine is up for thirty years */

static double offset_s, rate, began_s;
static int (*next_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

static double real_now(void)
{
    struct timespec ts;

    (void)syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

__attribute__((constructor)) static void begin(void)
{
    const char *offset = getenv("WRONG_CLOCK_OFFSET"), *speed = getenv("WRONG_CLOCK_RATE");

    offset_s = offset ? strtod(offset, NULL) : 0;
    rate = speed ? strtod(speed, NULL) : 1;
    began_s = real_now();
    next_timedwait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlvsym(
        RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
}

static void split(double s, struct timespec *ts)
{
    ts->tv_sec = (time_t)s;
    ts->tv_nsec = (long)((s - (double)ts->tv_sec) * 1e9);
}

static double wrong_now(void)
{
    return began_s + offset_s + (real_now() - began_s) * rate;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) {
        return (int)syscall(SYS_clock_gettime, clock, ts);
    }
    split(wrong_now(), ts);
    return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec ts;

    (void)zone;
    split(wrong_now(), &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *ret)
{
    time_t now = (time_t)wrong_now();

    if (ret) {
        *ret = now;
    }
    return now;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    struct timespec ts = *until;

    if (until->tv_sec >= WALL_MIN) {
        double wrong = (double)until->tv_sec + (double)until->tv_nsec / 1e9;
        split(began_s + (wrong - began_s - offset_s) / rate, &ts);
    }
    return next_timedwait(cond, mutex, &ts);
}
