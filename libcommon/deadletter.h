/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dead letters: the units of work that were given up, with what is needed to decide about them:
 * to look at, send back or close.
 * Invariant: a letter is closed only together with what closes it, the unit going back to work or
 * an operator's word; so replaying and discarding twice, or two at once, does no more than once.
 * Refuses to touch what has moved on: a file that was removed, or a unit of an older generation.
 */
#pragma once

#include "libcommon/db.h"
#include "libcommon/uuid.h"

#define DEADLETTER_PAGE_MAX 1000
#define DEADLETTER_CHANGE_DEFAULT 1000 /* letters a call */
#define DEADLETTER_CHANGE_MAX 10000

struct notifier;

/* Which letters are meant: every member may be absent (0 or NULL). Strings are borrowed; ids and
 * times (RFC 3339) have been checked by the caller. */
struct deadletter_filter {
    int stage;
    const char *reason;
    const char *class;
    const char *version; /* of the program that gave up */
    const char *user_id;
    const char *dataset_id;
    const char *file_id;
    const char *id;
    const char *since; /* given up at or after */
    const char *until; /* and before */
    const char *state; /* open (when absent), replayed, discarded, any */
};

/* One letter; strings belong to the list. */
struct deadletter {
    const char *id;
    const char *file_id;
    const char *user_id;
    int stage;
    int64_t unit;
    int64_t generation;
    const char *reason; /* the error's code */
    const char *class;
    int64_t attempts;
    int64_t failures;
    int64_t crashes;
    const char *last_error;
    const char *first_at; /* RFC 3339 */
    const char *last_at;
    const char *child; /* JSON, or NULL */
    bool replayable;   /* a replay would send it back */
    const char *state;
    const char *actor; /* who closed it, or NULL */
    const char *closed_at;
    const char *code_version; /* NULL for letters older than this column; so the rest */
    const char *dataset_id;
    int64_t version;
    const char *input_key;
    const char *input_etag;
    const char *input_bytes; /* decimal */
    const char *input_kind;
    int64_t outage_retries;
    const char *worker;
    const char *trace;
    const char *replay_of;
    const char *file_name; /* NULL when the file is gone */
};

/* The newest first, at most limit (1..DEADLETTER_PAGE_MAX), older than the letter before (NULL:
 * from the newest). Read *ret_list with deadletter_at(), PQntuples() of them. */
int deadletter_list(struct db *db, const struct deadletter_filter *filter, const char *before,
                    int64_t limit, PGresult **ret_list, struct err *err) WARN_UNUSED;
struct deadletter deadletter_at(const PGresult *list, int i);

/* How many of what: rows of stage, reason, class, letters, replayable; the most first, at most 100
 * of them. */
int deadletter_groups(struct db *db, const struct deadletter_filter *filter, PGresult **ret_groups,
                      struct err *err) WARN_UNUSED;

struct deadletter_count {
    int64_t matched;    /* letters that the filter means */
    int64_t replayable; /* of them: those a replay would send back */
    int64_t changed;    /* units sent back, or letters discarded; 0 after a dry run */
    bool more;          /* the call has done its share: call again */
};

/* Sends the units behind up to max letters back to work with fresh counters, in the bulk lane, in
 * transactions of some hundred units and not more than about a thousand a second; wakes the stages
 * (notifier may be NULL). Stops after about 20 s. Closed letters are never replayed. */
int deadletter_replay(struct db *db, struct notifier *notifier,
                      const struct deadletter_filter *filter, const char *actor, int64_t max,
                      bool dry_run, struct deadletter_count *ret_count,
                      struct err *err) WARN_UNUSED;

/* Closes up to max letters for good; their files stay as they are. Letters that another call is
 * changing at this moment are left to it. */
int deadletter_discard(struct db *db, const struct deadletter_filter *filter, const char *actor,
                       int64_t max, bool dry_run, struct deadletter_count *ret_count,
                       struct err *err) WARN_UNUSED;
