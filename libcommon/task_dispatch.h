/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dispatcher's statements over tasks and events. See task.h for the state machine.
 * Invariant: a task is sent only after `dispatched` is committed, and each sending has a
 * dispatch_seq of its own, so an order that comes twice or late claims nothing.
 */
#pragma once

#include "libcommon/task.h"
#include "libcommon/trace.h"

#define DISPATCH_BATCH_MAX 64U

struct task_head {
    struct task_key key;
    char user_id[UUID_TEXT];
    int64_t seq;
    int cost;
    int lane;      /* enum task_lane */
    double weight; /* of the user's account */
};

typedef int (*task_head_fn)(void *ctx, const struct task_head *head, struct err *err);

/* A flow: where a pass over all of them stands. Before the first one: TASK_PLACE_START. */
struct task_place {
    int lane;
    char user_id[UUID_TEXT];
};
#define TASK_PLACE_START ((struct task_place){-1, "00000000-0000-0000-0000-000000000000"})

/* The next `flows` flows after *place that have unsent tasks, in order of (lane, user), and of each
 * the first `per_flow` tasks in order of seq. *place moves to the last one; *ret_end: there are no
 * more. */
int task_heads_page(struct db *db, int stage, int flows, int per_flow, task_head_fn fn, void *ctx,
                    struct task_place *place, bool *ret_end, struct err *err) WARN_UNUSED;

/* The first `limit` unsent tasks with seq > after of each of n <= TASK_ASKS_MAX flows, in the order
 * of asks. */
#define TASK_ASKS_MAX 64U
struct task_ask {
    int64_t after;
    int lane;
    int limit;
    char user_id[UUID_TEXT];
};
int task_heads_asked(struct db *db, int stage, const struct task_ask *asks, size_t n,
                     task_head_fn fn, void *ctx, struct err *err) WARN_UNUSED;
/* One probe: is anything unsent for the stage? */
int task_heads_any(struct db *db, int stage, bool *ret_any, struct err *err) WARN_UNUSED;

/* Of a task that was sent, for its trace. */
struct task_trace {
    char parent[TRACE_PARENT_SIZE]; /* "" : in none */
    int64_t wait_ms;                /* since it was due; 0 without a trace */
};

/* pending -> dispatched for n <= DISPATCH_BATCH_MAX keys; seqs[i] is the new dispatch_seq, or 0
 * where the row was not pending any more. traces[i] is filled for each. */
int task_dispatch(struct db *db, const struct task_key *keys, size_t n, int *seqs,
                  struct task_trace *traces, struct err *err) WARN_UNUSED;

/* What became of a task that was sent. */
struct task_out {
    struct task_key key;
    int dispatch_seq;
    /* filled by task_check_out: */
    int64_t token;
    int state; /* enum task_state; -1: the row is gone */
    int cost;  /* as the row has it: measured once the unit is done */
    int lane;
    int crashes; /* attempts - failures - refunds */
    int attempts, failures, refunds;
    bool back; /* not dispatched or running any more, or dispatched anew */
    bool running;
    bool expired; /* running, and its lease is over */
};
int task_check_out(struct db *db, struct task_out *outs, size_t n, struct err *err) WARN_UNUSED;

/* All dispatched or running tasks of a stage: at take-over and each minute. */
typedef int (*task_stray_fn)(void *ctx, const struct task_out *out, const char *user_id, int cost,
                             struct err *err);
int task_strays(struct db *db, int stage, task_stray_fn fn, void *ctx, struct err *err) WARN_UNUSED;

/* running -> pending where the lease is over (token must hold): the crash shows in the counters.
 * *ret_done false: it was renewed or ended meanwhile. */
int task_expire(struct db *db, const struct task_out *out, bool *ret_done,
                struct err *err) WARN_UNUSED;
/* running -> dead (crash_loop). */
int task_expire_dead(struct db *db, const struct task_out *out, struct task_end *ret_end,
                     struct err *err) WARN_UNUSED;

/* Later tasks that are due become pending: fn per (stage, user). */
typedef void (*task_due_fn)(void *ctx, int stage, const char *user_id);
int task_promote(struct db *db, task_due_fn fn, void *ctx, struct err *err) WARN_UNUSED;

/* Live workers of a stage (seen within 10 s). */
#define TASK_WORKERS_MAX 256
struct task_worker {
    char id[96];
    int slots;
    bool open; /* a breaker keeps it from claiming */
    int n_partitions;
    int32_t partitions[64];
};
int task_workers(struct db *db, int stage, struct task_worker *workers, size_t max, size_t *ret_n,
                 bool *ret_paused, struct err *err) WARN_UNUSED;
/* Stops or starts sending orders of a stage, and wakes its leaders. What is sent goes on. */
int task_pause(struct db *db, int stage, bool paused, struct err *err) WARN_UNUSED;
/* Counts what is unsent: fn per flow with its tasks and their cost. Takes long where much waits
 * (some 300 ms a million). */
typedef void (*task_census_fn)(void *ctx, const char *user_id, int lane, int64_t n, int64_t cost);
int task_census(struct db *db, int stage, task_census_fn fn, void *ctx, double *ret_oldest_s,
                struct err *err) WARN_UNUSED;

/* Writes the stage's rows of backlog (unsent + out, which autoscalers read) and queue_state. */
struct task_queue_state {
    int64_t waiting, out, users, credit;
    double rate;            /* tasks ended a second; negative: unknown */
    double oldest_s;        /* age of the oldest waiting task */
    const char *curve;      /* JSON, or NULL */
    const char *curve_bulk; /* JSON, or NULL */
    bool paused;            /* as the leader last saw it */
};
int task_publish(struct db *db, int stage, const struct task_queue_state *state,
                 struct err *err) WARN_UNUSED;

/* Where a stage has several shards: has this one's leader seen the pause? */
int task_publish_shard(struct db *db, int stage, int shard, bool paused,
                       struct err *err) WARN_UNUSED;

/* Open dead letters by stage and reason; reasons that have had any come with 0. */
typedef void (*task_letters_fn)(void *ctx, int stage, const char *reason, int64_t n);
int task_letters(struct db *db, task_letters_fn fn, void *ctx, struct err *err) WARN_UNUSED;

/* Seconds since Postgres started: leases are left alone for one TTL after that. ERR_TRANSIENT where
 * it takes no writes (before a failover is over): to those who hold leases that is an outage. */
int task_db_uptime(struct db *db, int64_t *ret_s, struct err *err) WARN_UNUSED;

/* Events: gives positions to at most `limit` events, in the order of their commit as seen, and
 * returns them; or re-reads those with pos > after. */
struct task_event {
    int64_t pos;
    const char *at, *user_id, *file_id, *kind, *body;
    int stage;
};
typedef int (*task_event_fn)(void *ctx, const struct task_event *event, struct err *err);
int task_events_assign(struct db *db, int limit, task_event_fn fn, void *ctx, int *ret_n,
                       struct err *err) WARN_UNUSED;
int task_events_since(struct db *db, int64_t after, int limit, task_event_fn fn, void *ctx,
                      int *ret_n, struct err *err) WARN_UNUSED;
int task_events_state(struct db *db, const char *name, int64_t *ret_value,
                      struct err *err) WARN_UNUSED;
int task_events_published(struct db *db, int64_t pos, struct err *err) WARN_UNUSED;

/* How many partitions the topics of work were made with (0: nobody said). */
int task_partitions(struct db *db, int *ret_partitions, struct err *err) WARN_UNUSED;
int task_partitions_note(struct db *db, int partitions, struct err *err) WARN_UNUSED;
