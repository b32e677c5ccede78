/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The breakers of a process, one for each thing it calls, safe for any number of threads. Calls are
 * put between guard_enter and guard_leave; the worker's core asks whether to claim at all.
 * Invariant: a call that was refused was not made, and a refusal is ERR_TRANSIENT with the time
 * until the next probe, so that it never costs an attempt.
 */
#pragma once

#include "libcommon/breaker.h"
#include "libcommon/err.h"

#include <pthread.h>

enum guard_dep {
    GUARD_STORE,
    GUARD_TEXTRACT,
    GUARD_AI,
    GUARD_SCANNER,
    GUARD_DEPS,
};

/* How the process depends on it. */
enum guard_need {
    GUARD_UNUSED = 0,
    GUARD_HELPFUL, /* there is another way: calls are refused, work goes on */
    GUARD_BY_CALL, /* required; a health call of the keeper closes it */
    GUARD_BY_UNIT, /* required; the calls of one unit close it */
};

struct guard {
    pthread_mutex_t lock;
    struct {
        enum guard_need need;
        struct breaker breaker;
    } deps[GUARD_DEPS];
};

void guard_init(struct guard *guard);
void guard_done(struct guard *guard);
/* Before any call; shows the breaker as a metric from now on. */
void guard_use(struct guard *guard, enum guard_dep dep, enum guard_need need);

/* 0: make the call and say how it went; -1: ERR_TRANSIENT "dependency_open" and the wait until the
 * next probe. guard NULL: always 0. */
int guard_enter(struct guard *guard, enum guard_dep dep, uint64_t now_ms, int64_t *ret_wait_ms,
                struct err *err) WARN_UNUSED;
void guard_leave(struct guard *guard, enum guard_dep dep, uint64_t now_ms,
                 enum breaker_answer answer);
/* What a call's result says of the dependency: transient errors are its fault unless they arose on
 * this side (aborted, no_memory, io); all else is an answer. */
enum breaker_answer guard_answer(int r, const struct err *err);

enum guard_mode {
    GUARD_GO,   /* claim */
    GUARD_TRY,  /* one unit may be claimed, as a probe */
    GUARD_STOP, /* claim nothing */
};
enum guard_mode guard_mode(struct guard *guard, uint64_t now_ms);
/* True when a GUARD_BY_CALL dependency is due for its health call. */
bool guard_probe_due(struct guard *guard, enum guard_dep dep, uint64_t now_ms);
enum breaker_state guard_state(struct guard *guard, enum guard_dep dep);
enum guard_need guard_need(struct guard *guard, enum guard_dep dep);
/* "store", "textract", "ai", "scanner". */
const char *guard_name(enum guard_dep dep);
