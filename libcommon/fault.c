/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dies, or falls asleep, at a named point, as a machine would: without unwinding anything.
 */
#include "libcommon/fault.h"

#ifdef DOCFLEET_FAULTS
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* NAME:N of a setting, met the Nth time it is passed. */
static void strike(const char *at, const char *name, atomic_int *passed, int sig)
{
    size_t n = strlen(name);

    if (!at || strncmp(at, name, n) != 0 || (at[n] != ':' && at[n] != '\0')) {
        return;
    }
    int nth = at[n] == ':' ? (int)strtol(at + n + 1, NULL, 10) : 1;
    if (atomic_fetch_add(passed, 1) + 1 == nth) {
        /* To this thread: one that is sent to the process may first stop another, and this one goes
         * on beyond the point, even to its unit's end. */
        raise(sig);
    }
}

void fault_point(const char *name)
{
    static atomic_int crashes, stops;

    strike(getenv("DOCFLEET_CRASH_AT"), name, &crashes, SIGKILL);
    strike(getenv("DOCFLEET_STOP_AT"), name, &stops, SIGSTOP);
}
#else
typedef int fault_not_compiled_in;
#endif
