/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A circuit breaker for one dependency of one process: counts calls and failures of the last 30 s,
 * opens when at least half of at least ten failed, lets one probe through after 5 s, then after 10,
 * 20, .. 60 s, and closes when a probe succeeds.
 * Invariant: pure; time is passed in and only its differences count. Not thread-safe: guard.h is.
 */
#pragma once

#include "libcommon/base.h"

#define BREAKER_WINDOW_MS 30000U
#define BREAKER_BUCKETS 10U
#define BREAKER_MIN_CALLS 10U
#define BREAKER_FIRST_WAIT_MS 5000U
#define BREAKER_LONGEST_WAIT_MS 60000U

/* Also the values of the metric docfleet_breaker_state. */
enum breaker_state {
    BREAKER_CLOSED = 0,
    BREAKER_HALF_OPEN = 1, /* a probe is out */
    BREAKER_OPEN = 2,
};

struct breaker {
    enum breaker_state state;
    uint64_t bucket; /* number of the newest bucket */
    unsigned calls[BREAKER_BUCKETS], failures[BREAKER_BUCKETS];
    uint64_t probe_at; /* OPEN: the next probe may go; HALF_OPEN: the probe is given up */
    uint64_t wait_ms;
    unsigned openings; /* how often it has opened */
};

enum breaker_answer {
    BREAKER_ANSWER_OK,
    BREAKER_ANSWER_FAILED,
    BREAKER_ANSWER_NONE, /* the call says nothing: cancelled, or it failed on this side */
};

/* A zeroed struct is a closed breaker. */

/* May a call be made now? An open breaker whose time has come says yes once, for the probe; a probe
 * that is not answered within BREAKER_LONGEST_WAIT_MS is given up and another may go. */
bool breaker_enter(struct breaker *breaker, uint64_t now_ms);
/* The answer of a call that was let in. */
void breaker_leave(struct breaker *breaker, uint64_t now_ms, enum breaker_answer answer);
/* OPEN and its time has come: the next breaker_enter() is a probe. */
bool breaker_due(const struct breaker *breaker, uint64_t now_ms);
/* Milliseconds until the next call may be made; 0 when closed or due. */
uint64_t breaker_wait_ms(const struct breaker *breaker, uint64_t now_ms);
