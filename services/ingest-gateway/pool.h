/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fixed number of threads over a bounded queue.
 * Invariant: a job that was taken runs; one that cannot be queued is refused at once, so that load
 * shows as 503 and not as memory. No owner's jobs hold more than the owner's share of the threads
 * and of the queue, so that clients that are slow on purpose hold up none but their own account.
 */
#pragma once

#include "libcommon/err.h"
#include "libcommon/uuid.h"

struct pool;
typedef void (*pool_fn)(void *ctx);

/* share: of threads and queue, at most in percent for one owner; 100: no matter. */
int pool_new(const char *name, unsigned threads, unsigned queue, unsigned share,
             struct pool **ret_pool, struct err *err) WARN_UNUSED;
/* False when the queue, or the owner's share of it, is full. The queue counts jobs that no thread
 * has yet. owner: an account's id; "" for nobody's, which have one share together. */
bool pool_submit(struct pool *pool, const char *owner, pool_fn fn, void *ctx);
/* Jobs queued or running. */
unsigned pool_busy(struct pool *pool);
/* Runs what is queued, then ends the threads. Takes NULL. */
void pool_free(struct pool *pool);
