/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The task's state machine: every statement that changes a task, a join, an event or a count is
 * here, in task_accept.c, task_ops.c or task_end.c, and nowhere else. Numbers: states.h.
 * Invariants: a running task changes only under its lease token; what a unit leaves behind and
 * what comes next is written by the statement that ends it; lock order is task, stage_join, file,
 * batch with ids sorted.
 */
#pragma once

#include "libcommon/db.h"
#include "libcommon/states.h"
#include "libcommon/uuid.h"

#include <jansson.h>

#define TASK_BATCH_FILES_MAX 1000
#define TASK_REMOVE_MAX 500 /* files a transaction */

/* The name of a unit of work. */
struct task_key {
    char file_id[UUID_TEXT];
    int stage;
    int unit;
    int generation;
};

/* Gateway: acceptance ---------------------------------------------------------------------------*/

struct task_file {
    const char *file_id; /* all strings borrowed */
    const char *name;
    const char *object_key;
    const char *sha256; /* hex */
    const char *mime;
    const char *kind; /* file_kind_name() */
    const char *etag; /* may be NULL */
    int64_t bytes;
    unsigned stages; /* bits 1 << stage: its first tasks, of its kind (filetype.h), or the scan
                      * alone, whose end inserts those of its kind */
};

struct task_batch {
    const char *batch_id;
    const char *user_id;
    const char *dataset_id;
    const struct task_file *files;
    size_t n_files;          /* 0..TASK_BATCH_FILES_MAX */
    const json_t *rejects;   /* array of {name, code, detail}; may be NULL */
    const char *traceparent; /* may be NULL */
    int lane;                /* of states.h; 0: somebody waits for it */
};

/* Inserts batch, files, versions, first tasks, events and counts in one statement, in the caller's
 * transaction (or its own when there is none). Afterwards call notify_stage() for the stages that
 * got tasks: scan alone, or text, preview and, where any file has one, thumbnail. */
int task_accept_batch(struct db_conn *conn, const struct task_batch *batch,
                      struct err *err) WARN_UNUSED;

/* Gateway: what users do to files (each runs in a transaction of its own). user_id always limits
 * to the user's own files; a file that is not theirs is simply not counted. --------------------*/

/* Marks up to TASK_REMOVE_MAX files deleted: generation+1, live tasks cancelled, one clean task
 * each. *ret_removed counts those that were there. Files under a legal hold are left. */
int task_remove(struct db *db, const char *user_id, const char *const *file_ids, size_t n,
                int64_t *ret_removed, struct err *err) WARN_UNUSED;
/* Cancels what is live of up to TASK_REMOVE_MAX files: generation+1, tasks cancelled, live
 * pipelines and the file cancelled. *ret_n counts files; those that are not processing are left. */
int task_cancel_many(struct db *db, const char *user_id, const char *const *file_ids, size_t n,
                     int64_t *ret_n, struct err *err) WARN_UNUSED;
int task_cancel(struct db *db, const char *user_id, const char *file_id, int64_t *ret_n,
                struct err *err) WARN_UNUSED;

struct task_retried {
    int64_t units, files;
    unsigned stages; /* bit 1 << stage: notify it */
};
/* Puts the dead units of the file back (of one stage, or all with STAGE_NONE): counters 0,
 * dispatch_seq+1, letters replayed, joins and pipelines live again. *ret_n = units. actor: who did
 * it, for the letter. user_id NULL: any user (operators). Goes to the interactive lane. */
int task_retry(struct db *db, const char *user_id, const char *file_id, int stage,
               const char *actor, int64_t *ret_n, struct err *err) WARN_UNUSED;
/* The same for up to TASK_REMOVE_MAX files in one transaction, into a lane of states.h. */
int task_retry_many(struct db *db, const char *user_id, const char *const *file_ids, size_t n,
                    int stage, const char *actor, int lane, struct task_retried *ret_done,
                    struct err *err) WARN_UNUSED;
/* The same for up to TASK_REMOVE_MAX chosen units, for operators, into the lane of replayed dead
 * letters; also for the cleaning of a removed file. */
int task_retry_units(struct db *db, const struct task_key *keys, size_t n, const char *actor,
                     struct task_retried *ret_done, struct err *err) WARN_UNUSED;
/* A new generation from a stage on (STAGE_TEXT, OCR, AI, PREVIEW or THUMBNAIL): live tasks are
 * cancelled; pipelines that do not depend on the stage keep their end state. *ret_n is 0 when the
 * file is not there. */
int task_rerun(struct db *db, const char *user_id, const char *file_id, int from, int64_t *ret_n,
               struct err *err) WARN_UNUSED;

/* Takes a file out of quarantine, for operators: its pipelines live again and its first tasks
 * (kind's, libcommon/filetype.h) are inserted. *ret_released false: it is not there or not
 * quarantined. *ret_stages: bit 1 << stage of those to notify, for the file's user (ret_user).
 * actor: who did it, for the timeline. */
int task_release(struct db *db, const char *file_id, const char *actor, bool *ret_released,
                 unsigned *ret_stages, char ret_user[UUID_TEXT], struct err *err) WARN_UNUSED;

/* Workers ---------------------------------------------------------------------------------------*/

/* A claimed unit, with all that a stage needs to know of its file. Free with task_claim_done. */
struct task_claim {
    struct task_key key;
    char user_id[UUID_TEXT];
    char dataset_id[UUID_TEXT];
    char batch_id[UUID_TEXT]; /* "" : none */
    int64_t token;
    int attempts, failures, refunds, outage_retries;
    int64_t age_s; /* since the task was made */
    int cost;
    int version;
    int64_t bytes;
    char *name;       /* the file's name as uploaded */
    char *object_key; /* may be NULL */
    char *sha256;
    char *mime;
    char *kind;
    char *ext_job_id;  /* may be NULL */
    char *traceparent; /* may be NULL */
    json_t *input;     /* may be NULL */
};

void task_claim_done(struct task_claim *claim);

/* dispatched -> running, leased for lease_ms. 1: claimed; 0: stale, duplicate, cancelled or
 * deleted: skip. owner: one slot of one process; when it asks again for the same sending, as it has
 * had no answer, it gets what it holds, and no attempt is counted twice. */
int task_claim(struct db *db, const struct task_key *key, int dispatch_seq, const char *owner,
               int64_t lease_ms, struct task_claim *ret_claim, struct err *err) WARN_UNUSED;

/* Renews n leases by token; lost[i] is set true where the token no longer holds. n <= 64. Returns
 * how many are held and were not renewed, as somebody else has locked their row: ask again soon. */
int task_renew(struct db *db, const struct task_key *keys, const int64_t *tokens, size_t n,
               int64_t lease_ms, bool *lost, struct err *err) WARN_UNUSED;

/* What happened after the end of a unit. */
struct task_end {
    bool fenced;              /* the lease was lost: nothing was written */
    bool stage_over;          /* the unit ended its stage (no join, or the last of it) */
    int file_state;           /* the file's state now, or -1 when unchanged */
    bool wake[STAGE_MAX + 1]; /* stages that got tasks: notify them */
};

/* running -> done with the outcome (libcommon/outcome.h) as JSON. */
int task_complete(struct db *db, const struct task_claim *claim, const char *outcome,
                  struct task_end *ret_end, struct err *err) WARN_UNUSED;

/* running -> dead: dead letter, join and pipeline, event. why gives code, class and reason; child
 * (may be NULL) is JSON {signal, maxRss}. */
int task_dead(struct db *db, const struct task_claim *claim, const struct err *why,
              const char *child, struct task_end *ret_end, struct err *err) WARN_UNUSED;

/* After an unknown answer from task_complete or task_dead that then came back fenced: true when it
 * was our own statement that ended the unit. */
int task_ended_by(struct db *db, const struct task_claim *claim, bool *ret_ours,
                  struct err *err) WARN_UNUSED;

enum task_back {
    TASK_BACK_TRANSIENT, /* refunds+1, outage_retries+1 */
    TASK_BACK_UNKNOWN,   /* failures+1 */
    TASK_BACK_DRAIN,     /* at once, refunds+1 */
    TASK_BACK_WAIT_EXT,  /* waiting for a provider's job: state waiting_ext, refunds+1 */
};

/* running -> pending after delay_ms (DRAIN: at once). ext_job_id only with WAIT_EXT, else NULL.
 * *ret_fenced true: the lease was lost, nothing was written. */
int task_put_back(struct db *db, const struct task_claim *claim, enum task_back how,
                  int64_t delay_ms, const struct err *why, const char *ext_job_id, bool *ret_fenced,
                  struct err *err) WARN_UNUSED;

/* dispatched -> pending: work orders that were never claimed, at SIGTERM. */
int task_hand_back(struct db *db, const struct task_key *keys, const int *dispatch_seqs, size_t n,
                   struct err *err) WARN_UNUSED;

/* Every 2 s from each worker process. partitions: int[] as text; open: a breaker keeps the worker
 * from claiming, its slots do not count. */
int task_heartbeat(struct db *db, const char *worker_id, int stage, int slots, int busy,
                   const char *partitions, bool open, struct err *err) WARN_UNUSED;
int task_goodbye(struct db *db, const char *worker_id, struct err *err) WARN_UNUSED;

/* Cleaner: the bytes of files that have ended (ids: '{id,id}', at most TASK_REMOVE_MAX); row and
 * record stay. Files under a hold, in work or without content are left. *ret_keys: one column, the
 * objects that no row names any more. */
int task_content_remove(struct db *db, const char *file_ids, PGresult **ret_keys,
                        struct err *err) WARN_UNUSED;

/* docfleetctl restore, in the caller's transaction: work that was out when the backup was made is
 * to be sent again. *ret_tasks counts it. */
int task_restored(struct db_conn *conn, int64_t *ret_tasks, struct err *err) WARN_UNUSED;
