/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that a stage's leader (stage_core.h) asks of the world: a clock, the task statements, Kafka
 * and the other services' ears. lead_io.c fills the table for a running dispatcher; a simulator
 * fills it with a model of its own.
 * Invariant: the leader blocks only inside these functions, holds no lock across one, and never
 * sees a clock, a database or a broker any other way.
 */
#pragma once

#include "libcommon/task_dispatch.h"

/* One work order. */
struct lead_order {
    struct task_key key;
    char user_id[UUID_TEXT];
    int dispatch_seq;
    int cost;
    int partition;
    struct task_trace trace;
};

/* What is worth a log line or a counter. */
enum lead_note {
    LEAD_SENT,       /* n orders went out */
    LEAD_TAKEN_BACK, /* a lease was over: out */
    LEAD_REEMITTED,  /* an order was not claimed in time: out */
    LEAD_TROUBLE,    /* something failed and is tried again: what, err */
};
struct lead_news {
    enum lead_note note;
    size_t n;
    uint64_t pick_ms;           /* of LEAD_SENT: choosing the batch and marking it as sent */
    const struct task_out *out; /* or NULL */
    const char *what;           /* constant text, or NULL */
    const struct err *err;      /* or NULL */
};

/* Of the leader's own state, each second: of its shard alone, but for the curves. */
struct lead_stats {
    struct task_queue_state queue;
    size_t workers;   /* of the stage, live */
    int slots;        /* of all of them */
    double top_share; /* share of the served cost of the user that got most */
    double jain;      /* over users that have waited for a while, by cost / weight */
};

/* Functions that return int answer 0 or -1 with *err unless said otherwise; after -1 a writing one
 * may or may not have happened. */
struct lead_io {
    void *ctx; /* handed to each function */

    uint64_t (*now_ms)(void *ctx); /* monotonic; never 0 */

    /* As in task_dispatch.h and task.h. */
    int (*heads_page)(void *ctx, int stage, int flows, int per_flow, task_head_fn fn, void *arg,
                      struct task_place *place, bool *ret_end, struct err *err);
    int (*heads_asked)(void *ctx, int stage, const struct task_ask *asks, size_t n, task_head_fn fn,
                       void *arg, struct err *err);
    int (*heads_any)(void *ctx, int stage, bool *ret_any, struct err *err);
    int (*dispatch)(void *ctx, const struct task_key *keys, size_t n, int *seqs,
                    struct task_trace *traces, struct err *err);
    int (*check_out)(void *ctx, struct task_out *outs, size_t n, struct err *err);
    int (*expire)(void *ctx, const struct task_out *out, bool *ret_done, struct err *err);
    int (*expire_dead)(void *ctx, const struct task_out *out, struct task_end *ret_end,
                       struct err *err);
    int (*hand_back)(void *ctx, const struct task_key *keys, const int *dispatch_seqs, size_t n,
                     struct err *err);
    int (*workers)(void *ctx, int stage, struct task_worker *workers, size_t max, size_t *ret_n,
                   bool *ret_paused, struct err *err);
    int (*db_uptime)(void *ctx, int64_t *ret_s, struct err *err);
    int (*promote)(void *ctx, task_due_fn fn, void *arg, struct err *err);

    /* All that is dispatched or running. fresh: as of now; else of some seconds ago, and nothing
     * where there is no new list since the last call (must not block; asked each second). */
    int (*strays)(void *ctx, int stage, bool fresh, task_stray_fn fn, void *arg, struct err *err);
    /* The newest census: 1, or 0 where there is none since the last call (must not block). */
    int (*census)(void *ctx, int stage, task_census_fn fn, void *arg, double *ret_oldest_s,
                  struct err *err);
    /* Shows the leader's state: rows for others to read, metrics. */
    int (*publish)(void *ctx, int stage, const struct lead_stats *stats, struct err *err);

    /* Partitions of the stage's topic. */
    int (*partitions)(void *ctx, int stage, int *ret_n, struct err *err);
    /* Did the broker answer within the last seconds? May ask it. */
    bool (*broker_alive)(void *ctx);
    /* Sends n <= DISPATCH_BATCH_MAX orders and waits until the broker has them or not: ok[i]. -1
     * when it has not got all; one that is not ok may arrive all the same. */
    int (*send)(void *ctx, int stage, const struct lead_order *orders, size_t n, bool *ok,
                struct err *err);

    /* A hint to the stage's leader, wherever it runs; may be lost. */
    void (*notify)(void *ctx, int stage, const char *user_id);
    void (*tell)(void *ctx, int stage, const struct lead_news *news);
};

/* The table of a running dispatcher's thread (dispatcher.h), which has to outlive it. */
struct stage_thread;
void lead_io_of(struct stage_thread *thread, struct lead_io *ret_io);
/* The metrics of what is led by somebody else now are shown no more. */
void lead_io_show_nothing(const struct stage_thread *thread);
