/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fixed number of threads over a bounded queue.
 * Invariant: a job that was taken runs; one that cannot be queued is refused at once, so that load
 * shows as 503 and not as memory.
 */
#pragma once

#include "libcommon/err.h"

struct pool;
typedef void (*pool_fn)(void *ctx);

int pool_new(const char *name, unsigned threads, unsigned queue, struct pool **ret_pool,
             struct err *err) WARN_UNUSED;
/* False when the queue is full. The queue counts jobs that no thread has yet. */
bool pool_submit(struct pool *pool, pool_fn fn, void *ctx);
/* Jobs queued or running. */
unsigned pool_busy(struct pool *pool);
/* Runs what is queued, then ends the threads. Takes NULL. */
void pool_free(struct pool *pool);
