/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fake time: processes made of coroutines, and a queue of events by time. Only one coroutine runs
 * at a time and only fiber_sleep and fiber_wait let time pass, so a schedule is a function of its
 * seed. Invariant: a killed process never runs another instruction; a stopped one runs none until
 * it is continued, then sees that time has passed. It refuses real clocks and real threads.
 */
#pragma once

#include "libcommon/base.h"

struct fiber; /* opaque */

/* What lives and dies together. Owned by the caller; must stay until fiber_reset. */
struct proc {
    int id;
    bool alive;
    int64_t stopped_until; /* SIGSTOP: its events wait until then */
    int64_t wall_skew_ms;
    int64_t db_cut_until, bus_cut_until; /* it cannot reach them before */
    int die_in;                          /* the n-th fault point from now kills it; 0: none */
    void *owner;
};

/* Coroutines that wait for something. */
struct waitq {
    struct fiber *first;
};

#define MS ((int64_t)1000)
#define SECOND ((int64_t)1000000)

void fiber_reset(uint64_t seed);
int64_t fiber_now(void); /* microseconds; starts at an hour */
uint64_t sim_rand(void);
/* low..high, both included. */
int64_t sim_range(int64_t low, int64_t high);
/* True with probability p. */
bool sim_chance(double p);

void proc_start(struct proc *proc, void *owner);
/* Drops all its coroutines; does not return when it is the caller's own. */
void proc_kill(struct proc *proc);
/* Stops it for so long. */
void proc_stop(struct proc *proc, int64_t us);
/* Whose coroutine runs now; NULL outside. */
struct proc *proc_self(void);

void fiber_start(struct proc *proc, void (*fn)(void *arg), void *arg);
void fiber_sleep(int64_t us);
/* True when woken, false after the time. */
bool fiber_wait(struct waitq *queue, int64_t us);
void fiber_wake(struct waitq *queue);
/* Calls fn from outside of any coroutine; fn must not sleep. */
void fiber_at(int64_t us_from_now, void (*fn)(void *arg), void *arg);
/* Handles events until none is left before `until`; true when time is `until` then. `step` is
 * called after each event; false from it ends the run. */
bool fiber_run(int64_t until, bool (*step)(void));
uint64_t fiber_events(void);
