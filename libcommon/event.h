/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CloudEvents that travel through Kafka: work orders and status events. Schemas:
 * proto-schemas/events. Whatever arrives is opaque bytes until it parses here.
 * Invariant: a decoded work order's ids are UUIDs and its numbers are in range.
 */
#pragma once

#include "libcommon/buf.h"
#include "libcommon/task.h"

#define EVENT_WORK_MAX 1024U
#define EVENT_MAX 4096U

struct work_order {
    struct task_key key;
    char user_id[UUID_TEXT];
    int dispatch_seq;
    int cost;
    int64_t sent_ms; /* wall clock of the dispatcher: for metrics only */
};

/* Structured CloudEvent of type docfleet.work.v1. */
int event_encode_work(const struct work_order *order, struct buf *buf, struct err *err) WARN_UNUSED;
/* ERR_PERMANENT "bad_record" for anything else than a well-formed order of a known version whose
 * user is the record's key. Unknown members are ignored. */
int event_decode_work(const char *value, size_t len, const char *key, size_t key_len,
                      struct work_order *ret_order, struct err *err) WARN_UNUSED;

/* Structured CloudEvent of type docfleet.<kind>.v1; body is a JSON object text whose members are
 * merged into data {pos, userId, fileId, stage}. A body over EVENT_MAX is replaced by {}. */
struct event_row {
    int64_t pos;
    const char *at; /* RFC 3339 */
    const char *user_id;
    const char *file_id; /* may be NULL */
    const char *kind;
    int stage; /* 0: none */
    const char *body;
};
int event_encode(const struct event_row *row, struct buf *buf, struct err *err) WARN_UNUSED;
