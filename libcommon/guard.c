/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One lock around a few breakers, and their metrics.
 */
#include "libcommon/guard.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/metrics.h"

const char *guard_name(enum guard_dep dep)
{
    static const char *const names[] = {"store", "textract", "ai", "scanner"};

    return names[dep];
}

void guard_init(struct guard *guard)
{
    *guard = (struct guard){0};
    pthread_mutex_init(&guard->lock, NULL);
}

void guard_done(struct guard *guard)
{
    pthread_mutex_destroy(&guard->lock);
}

/* The lock is held. */
static void show(const struct guard *guard, enum guard_dep dep)
{
    char labels[64];

    if (guard->deps[dep].need != GUARD_UNUSED) {
        snprintf(labels, sizeof(labels), "dependency=\"%s\"", guard_name(dep));
        metrics_set("docfleet_breaker_state", labels, (double)guard->deps[dep].breaker.state);
    }
}

void guard_use(struct guard *guard, enum guard_dep dep, enum guard_need need)
{
    char labels[64];

    pthread_mutex_lock(&guard->lock);
    guard->deps[dep].need = need;
    show(guard, dep);
    pthread_mutex_unlock(&guard->lock);
    snprintf(labels, sizeof(labels), "dependency=\"%s\"", guard_name(dep));
    metrics_add("docfleet_breaker_openings_total", labels, 0); /* rates need a beginning */
}

int guard_enter(struct guard *guard, enum guard_dep dep, uint64_t now_ms, int64_t *ret_wait_ms,
                struct err *err)
{
    if (!guard) {
        return 0;
    }
    pthread_mutex_lock(&guard->lock);
    bool was_open = guard->deps[dep].breaker.state != BREAKER_CLOSED;
    bool may = breaker_enter(&guard->deps[dep].breaker, now_ms);
    uint64_t wait = breaker_wait_ms(&guard->deps[dep].breaker, now_ms);
    if (was_open) {
        show(guard, dep);
    }
    pthread_mutex_unlock(&guard->lock);
    if (may) {
        return 0;
    }
    *ret_wait_ms = wait > 0 ? (int64_t)wait : 1;
    return err_set(err, ERR_TRANSIENT, "dependency_open",
                   "%s has failed too often lately, it is asked again in %llu ms", guard_name(dep),
                   (unsigned long long)wait);
}

void guard_leave(struct guard *guard, enum guard_dep dep, uint64_t now_ms,
                 enum breaker_answer answer)
{
    char labels[64];

    if (!guard) {
        return;
    }
    pthread_mutex_lock(&guard->lock);
    enum breaker_state before = guard->deps[dep].breaker.state;
    unsigned openings = guard->deps[dep].breaker.openings;
    breaker_leave(&guard->deps[dep].breaker, now_ms, answer);
    if (guard->deps[dep].breaker.state != before) {
        show(guard, dep);
    }
    bool opened = guard->deps[dep].breaker.openings != openings;
    pthread_mutex_unlock(&guard->lock);
    if (opened) {
        snprintf(labels, sizeof(labels), "dependency=\"%s\"", guard_name(dep));
        metrics_inc("docfleet_breaker_openings_total", labels);
    }
}

enum breaker_answer guard_answer(int r, const struct err *err)
{
    static const char *const ours[] = {"aborted",     "cancelled",      "no_memory",
                                       "io",          "db_busy",        "db_unavailable",
                                       "db_conflict", "dependency_open"};

    if (r >= 0 || err->class != ERR_TRANSIENT) {
        /* An unknown error is ours too: what was sent or read made no sense. */
        return r < 0 && err->class == ERR_UNKNOWN ? BREAKER_ANSWER_NONE : BREAKER_ANSWER_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        if (strcmp(err->code, ours[i]) == 0) {
            return BREAKER_ANSWER_NONE;
        }
    }
    return BREAKER_ANSWER_FAILED;
}

enum guard_mode guard_mode(struct guard *guard, uint64_t now_ms)
{
    enum guard_mode mode = GUARD_GO;

    if (!guard) {
        return GUARD_GO;
    }
    pthread_mutex_lock(&guard->lock);
    for (int i = 0; i < GUARD_DEPS; i++) {
        if (guard->deps[i].need < GUARD_BY_CALL || guard->deps[i].breaker.state == BREAKER_CLOSED) {
            continue;
        }
        bool try =
            guard->deps[i].need == GUARD_BY_UNIT && breaker_due(&guard->deps[i].breaker, now_ms);
        mode = try && mode != GUARD_STOP ? GUARD_TRY : GUARD_STOP;
    }
    pthread_mutex_unlock(&guard->lock);
    return mode;
}

bool guard_probe_due(struct guard *guard, enum guard_dep dep, uint64_t now_ms)
{
    if (!guard) {
        return false;
    }
    pthread_mutex_lock(&guard->lock);
    bool due =
        guard->deps[dep].need == GUARD_BY_CALL && breaker_due(&guard->deps[dep].breaker, now_ms);
    pthread_mutex_unlock(&guard->lock);
    return due;
}

enum breaker_state guard_state(struct guard *guard, enum guard_dep dep)
{
    pthread_mutex_lock(&guard->lock);
    enum breaker_state state = guard->deps[dep].breaker.state;
    pthread_mutex_unlock(&guard->lock);
    return state;
}

enum guard_need guard_need(struct guard *guard, enum guard_dep dep)
{
    pthread_mutex_lock(&guard->lock);
    enum guard_need need = guard->deps[dep].need;
    pthread_mutex_unlock(&guard->lock);
    return need;
}
