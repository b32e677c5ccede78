/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables task, stage_join, file, record, dead_letter, worker and the counts in memory, changed
 * by exactly the transitions that the statements of task_ops.c, task_accept.c and task_dispatch.c
 * make. One call is one committed transaction at the time `now` of the database.
 * Invariant: model_check.c drives both with the same operations and finds no difference; so what
 * the simulator says of this model holds for the SQL. It refuses to know of delays and failures:
 * those are the world's (world.h).
 */
#pragma once

#include "libcommon/task_dispatch.h"

#define MODEL_USERS_MAX 512
#define MODEL_WORKERS_MAX 64
#define MODEL_CONNS_MAX 64
#define MODEL_NONE (-1)

struct m_task {
    int file;
    int user;
    int stage, unit, generation;
    int state;
    int q; /* MODEL_NONE: null */
    int lane;
    int cost, dispatch_seq;
    int attempts, failures, refunds, outage_retries;
    int64_t seq;
    int64_t token;
    int64_t lease_until, not_before; /* MODEL_NONE: null */
    int64_t created;
    int ext; /* a job of a provider is known: its number, 0 none */
    int range;
    /* What no column holds: the simulator's ledger, since the counters began at 0. */
    int done_times; /* transitions to done, ever */
    int lost;       /* leases that ran out */
    int owner;      /* lease_owner: a slot of a worker */
    int64_t claimed_at, pending_at;
    int settled_seq;                  /* newest sending that a worker asked about or gave back */
    bool answer_lost;                 /* the worker does not know that it holds it */
    uint64_t sent_after, begun_after; /* orders sent and claimed by the stage until it came */
    int next_of_file;
};

struct m_join {
    int file, stage, generation;
    int total, left, failed;
};

#define ERR_OF_MAIN 1U
#define ERR_OF_PREVIEW 2U
#define ERR_OF_THUMB 4U

struct m_file {
    int user;
    int version, generation;
    int cost;              /* the estimate by its size, of its first tasks */
    int record_generation; /* MODEL_NONE: null */
    int state;
    int main, preview, thumb;
    unsigned errors; /* pipelines that have an entry in file.errors */
    bool ole2, raster;
    bool has_pages; /* file_page has a row of the version */
    int first_task; /* MODEL_NONE: none */
    int clean_pass; /* the simulator's cleaner: passes made */
    int64_t accepted, ended;
};

struct m_record {
    int file, generation, schema_version, doc_no;
};

struct m_letter {
    int file, stage, unit, generation;
    char reason[ERR_CODE_MAX];
    enum err_class class;
    int attempts, failures, crashes;
    int state; /* 0 open, 1 replayed, 2 discarded */
};

struct m_worker {
    char id[96];
    int stage, slots, busy;
    bool open;
    int n_partitions;
    int32_t partitions[64];
    int64_t seen;
    bool used;
};

/* One change of state: append-only. */
struct m_change {
    int64_t at;
    bool of_file;
    int what; /* task or file */
    int generation;
    int from, to; /* from MODEL_NONE: came into being */
    const char *by;
};

struct model {
    int64_t now;     /* ms, the database's clock */
    int64_t started; /* of the database */
    struct m_task *tasks;
    size_t n_tasks, cap_tasks;
    struct m_join *joins;
    size_t n_joins, cap_joins;
    struct m_file *files;
    size_t n_files, cap_files;
    struct m_record *records;
    size_t n_records, cap_records;
    struct m_letter *letters;
    size_t n_letters, cap_letters;
    struct m_change *changes;
    size_t n_changes, cap_changes;
    struct m_worker workers[MODEL_WORKERS_MAX];
    bool paused[STAGE_MAX + 1];
    int64_t deltas[9][9]; /* [from + 1][to]: sums of count_delta */
    double weights[MODEL_USERS_MAX];
    /* The identity has CACHE 50: each connection takes blocks, so seq does not follow time. */
    int64_t seq_block;
    int64_t seq_next[MODEL_CONNS_MAX];
    int seq_left[MODEL_CONNS_MAX];
    int conn; /* whose call this is */
    int sendable[STAGE_MAX + 1], out[STAGE_MAX + 1];
    uint64_t writes;  /* counts changes: nothing new without one */
    char broken[256]; /* the first rule that a change broke; "" none */
};

void model_reset(struct model *m);
void model_done(struct model *m);

/* Ids hold their index. -1: not of this model. */
void model_file_id(int file, char ret_id[UUID_TEXT]);
void model_user_id(int user, char ret_id[UUID_TEXT]);
int model_index(const char *id);
struct m_task *model_task(struct model *m, const struct task_key *key);
struct m_join *model_join(struct model *m, int file, int stage, int generation);
/* Records that a rule is broken; only the first is kept. */
void model_broken(struct model *m, const char *fmt, ...) PRINTF(2, 3);

/* Users (task_accept.c) -------------------------------------------------------------------------*/

struct m_accept {
    int user;
    bool text, thumbnail, ole2, raster, scan;
    int cost;
    int lane;
};
/* Returns the new file's index. */
int model_accept(struct model *m, const struct m_accept *file);
/* user MODEL_NONE: an operator. Each returns what the statement counts. */
int model_remove(struct model *m, int user, int file);
int model_cancel(struct model *m, int user, int file);
/* The dead units of the file; of one stage, or all with 0; of one unit, or all with MODEL_NONE. */
int model_retry(struct model *m, int user, int file, int stage, int unit, int lane);
int model_rerun(struct model *m, int user, int file, int from, int lane);
int model_release(struct model *m, int file, bool text, bool thumbnail);
/* The task belongs to the main pipeline. */
bool model_of_main(int stage);

/* Workers (task_ops.c): the same arguments and answers as there, without a database to fail.
 * -----*/

int model_claim(struct model *m, const struct task_key *key, int dispatch_seq, int owner,
                int64_t lease_ms, struct task_claim *ret_claim);
void model_renew(struct model *m, const struct task_key *keys, const int64_t *tokens, size_t n,
                 int64_t lease_ms, bool *lost);
/* -1 when the statement would be refused (a constraint). */
int model_complete(struct model *m, const struct task_claim *claim, const char *outcome,
                   struct task_end *ret_end, struct err *err);
int model_dead(struct model *m, const struct task_claim *claim, const struct err *why,
               struct task_end *ret_end, struct err *err);
bool model_ended_by(struct model *m, const struct task_claim *claim);
/* True when it was fenced. */
bool model_put_back(struct model *m, const struct task_claim *claim, enum task_back how,
                    int64_t delay_ms, const char *ext_job_id);
int model_hand_back(struct model *m, const struct task_key *keys, const int *seqs, size_t n);
void model_heartbeat(struct model *m, const char *worker_id, int stage, int slots, int busy,
                     bool open, const int32_t *partitions, int n);
void model_goodbye(struct model *m, const char *worker_id);

/* Dispatcher (task_dispatch.c) ------------------------------------------------------------------*/

int model_heads_page(struct model *m, int stage, int flows, int per_flow, task_head_fn fn,
                     void *ctx, struct task_place *place, bool *ret_end, struct err *err);
int model_heads_asked(struct model *m, int stage, const struct task_ask *asks, size_t n,
                      task_head_fn fn, void *ctx, struct err *err);
void model_census(struct model *m, int stage, task_census_fn fn, void *ctx, double *ret_oldest_s);
bool model_heads_any(struct model *m, int stage);
void model_dispatch(struct model *m, const struct task_key *keys, size_t n, int *seqs);
void model_check_out(struct model *m, struct task_out *outs, size_t n);
int model_strays(struct model *m, int stage, task_stray_fn fn, void *ctx, struct err *err);
bool model_expire(struct model *m, const struct task_out *out);
int model_expire_dead(struct model *m, const struct task_out *out, struct task_end *ret_end,
                      struct err *err);
int model_promote(struct model *m, task_due_fn fn, void *ctx);
size_t model_live_workers(struct model *m, int stage, struct task_worker *workers, size_t max,
                          bool *ret_paused);

/* Shared by the model's files. */
int model_insert_task(struct model *m, const struct m_task *task); /* -1: it is there */
void model_task_to(struct model *m, struct m_task *task, int state, int q, const char *by);
void model_file_to(struct model *m, int file, int state, const char *by);
void *model_grow(void *items, size_t *cap, size_t n, size_t size);
