/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ten buckets of three seconds, thrown away as time goes on.
 */
#include "libcommon/breaker.h"

#include <string.h>

#define BUCKET_MS (BREAKER_WINDOW_MS / BREAKER_BUCKETS)

static void forget(struct breaker *breaker)
{
    memset(breaker->calls, 0, sizeof(breaker->calls));
    memset(breaker->failures, 0, sizeof(breaker->failures));
}

/* Makes the bucket of now the newest and empties those that have become too old. */
static size_t roll(struct breaker *breaker, uint64_t now_ms)
{
    uint64_t bucket = now_ms / BUCKET_MS;

    if (bucket > breaker->bucket) {
        if (bucket - breaker->bucket >= BREAKER_BUCKETS) {
            forget(breaker);
        } else {
            for (uint64_t b = breaker->bucket + 1; b <= bucket; b++) {
                breaker->calls[b % BREAKER_BUCKETS] = 0;
                breaker->failures[b % BREAKER_BUCKETS] = 0;
            }
        }
        breaker->bucket = bucket;
    }
    return breaker->bucket % BREAKER_BUCKETS;
}

static void open_until_probe(struct breaker *breaker, uint64_t now_ms)
{
    breaker->state = BREAKER_OPEN;
    breaker->wait_ms = breaker->wait_ms ? min_u64(breaker->wait_ms * 2, BREAKER_LONGEST_WAIT_MS)
                                        : BREAKER_FIRST_WAIT_MS;
    breaker->probe_at = now_ms + breaker->wait_ms;
}

bool breaker_due(const struct breaker *breaker, uint64_t now_ms)
{
    return breaker->state != BREAKER_CLOSED && now_ms >= breaker->probe_at;
}

uint64_t breaker_wait_ms(const struct breaker *breaker, uint64_t now_ms)
{
    return breaker->state == BREAKER_CLOSED || now_ms >= breaker->probe_at
               ? 0
               : breaker->probe_at - now_ms;
}

bool breaker_enter(struct breaker *breaker, uint64_t now_ms)
{
    if (breaker->state == BREAKER_CLOSED) {
        return true;
    }
    if (!breaker_due(breaker, now_ms)) {
        return false;
    }
    breaker->state = BREAKER_HALF_OPEN;
    breaker->probe_at = now_ms + BREAKER_LONGEST_WAIT_MS;
    return true;
}

static void count(struct breaker *breaker, uint64_t now_ms, bool failed)
{
    size_t at = roll(breaker, now_ms);
    unsigned calls = 0, failures = 0;

    breaker->calls[at]++;
    breaker->failures[at] += failed ? 1 : 0;
    for (size_t i = 0; i < BREAKER_BUCKETS; i++) {
        calls += breaker->calls[i];
        failures += breaker->failures[i];
    }
    if (failed && calls >= BREAKER_MIN_CALLS && failures * 2 >= calls) {
        breaker->openings++;
        breaker->wait_ms = 0;
        open_until_probe(breaker, now_ms);
    }
}

void breaker_leave(struct breaker *breaker, uint64_t now_ms, enum breaker_answer answer)
{
    switch (breaker->state) {
    case BREAKER_CLOSED:
        if (answer != BREAKER_ANSWER_NONE) {
            count(breaker, now_ms, answer == BREAKER_ANSWER_FAILED);
        }
        break;
    case BREAKER_HALF_OPEN:
        if (answer == BREAKER_ANSWER_OK) {
            *breaker = (struct breaker){.bucket = breaker->bucket, .openings = breaker->openings};
        } else if (answer == BREAKER_ANSWER_FAILED) {
            open_until_probe(breaker, now_ms);
        } else {
            /* The probe told nothing: the next one may go at once. */
            breaker->state = BREAKER_OPEN;
            breaker->probe_at = now_ms;
        }
        break;
    case BREAKER_OPEN:
        /* A call that was under way when the breaker opened: too late to count. */
        break;
    }
}
