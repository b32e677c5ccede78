/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dead letters: the units of work that were given up, for operators to look at, send back or close.
 * Invariant: a letter is closed only together with what closes it, the unit going back to work or
 * an operator's word; so replaying and discarding twice does no more than doing it once.
 * Refuses to touch what has moved on: a file that was removed, or a unit of an older generation.
 */
#pragma once

#include "libcommon/db.h"
#include "libcommon/uuid.h"

#define DEADLETTER_PAGE_MAX 1000

struct notifier;

/* Which open letters are meant: every member may be absent (0 or NULL). Strings are borrowed; ids
 * have been checked by the caller. */
struct deadletter_filter {
    int stage;
    const char *reason;
    const char *user_id;
    const char *file_id;
    const char *id;
};

/* One open letter; strings belong to the list. */
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
};

/* The newest first, at most limit (1..DEADLETTER_PAGE_MAX), older than the letter before (NULL:
 * from the newest). Read *ret_list with deadletter_at(), PQntuples() of them. */
int deadletter_list(struct db *db, const struct deadletter_filter *filter, const char *before,
                    int64_t limit, PGresult **ret_list, struct err *err) WARN_UNUSED;
struct deadletter deadletter_at(const PGresult *list, int i);

struct deadletter_count {
    int64_t matched;    /* open letters that the filter means */
    int64_t replayable; /* of them: those a replay would send back */
    int64_t changed;    /* units sent back, or letters discarded; 0 after a dry run */
    bool more;          /* the call has done its share: call again */
};

/* Sends the units behind the letters back to work with fresh counters (task_retry_units), a file
 * and stage at a time, and wakes the stages (notifier may be NULL). Stops after about 20 s. */
int deadletter_replay(struct db *db, struct notifier *notifier,
                      const struct deadletter_filter *filter, const char *actor, bool dry_run,
                      struct deadletter_count *ret_count, struct err *err) WARN_UNUSED;

/* Closes up to 10,000 letters for good; their files stay as they are. */
int deadletter_discard(struct db *db, const struct deadletter_filter *filter, const char *actor,
                       bool dry_run, struct deadletter_count *ret_count,
                       struct err *err) WARN_UNUSED;
