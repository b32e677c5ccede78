/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's read-ahead: unclaimed work orders, taken out fairly over users, and the offsets that
 * may be committed because everything before them is claimed or skipped.
 * Invariant: the committable offset of a partition never passes an order that nobody has settled.
 */
#pragma once

#include "libcommon/event.h"

#define STAGE_QUEUE_MAX 1024U
#define STAGE_QUEUE_RUNNING_MAX 64U /* items taken out by pop and not ended, at most */

struct stage_queue; /* opaque, thread-safe */

struct work_item {
    struct work_order order;
    int32_t partition;
    int64_t offset;
    char traceparent[64];
};

int stage_queue_new(struct stage_queue **ret_queue, struct err *err) WARN_UNUSED;
void stage_queue_free(struct stage_queue *queue);
/* Takes an item in; ERR_TRANSIENT "queue_full" past STAGE_QUEUE_MAX (never reached while the caller
 * pauses in time). */
int stage_queue_push(struct stage_queue *queue, const struct work_item *item,
                     struct err *err) WARN_UNUSED;
/* A record that was no work order: only its offset counts. */
void stage_queue_skip(struct stage_queue *queue, int32_t partition, int64_t offset);
/* The next item by fair share of cost over users: first whose running items cost least, then who
 * has had least. False after timeout_ms or once closed. What it gives runs until ended is told. */
bool stage_queue_pop(struct stage_queue *queue, unsigned timeout_ms, struct work_item *ret_item);
/* An item from pop runs no more, or never did. */
void stage_queue_ended(struct stage_queue *queue, const struct work_item *item);
/* The item was claimed or skipped: its offset is settled. */
void stage_queue_settle(struct stage_queue *queue, int32_t partition, int64_t offset);
/* Next offset to commit of a partition, -1 when nothing new is settled since the last call. */
int64_t stage_queue_commit(struct stage_queue *queue, int32_t partition);
/* Drops unclaimed items and offsets of a partition that was taken away. */
void stage_queue_revoke(struct stage_queue *queue, int32_t partition);
/* Takes out up to max items as they come, for handing back; settling them is the caller's. */
size_t stage_queue_take(struct stage_queue *queue, struct work_item *items, size_t max);
/* Wakes who waits; further pops give nothing. Items can still be pushed, and taken. */
void stage_queue_close(struct stage_queue *queue);
size_t stage_queue_len(struct stage_queue *queue);
