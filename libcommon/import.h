/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gateway and the importer both do to imports: times of schedules, new runs, and the one
 * step that makes a run the version its dataset shows (ADR 0025).
 * Invariant: after import_switch the dataset has exactly those of the import's files that the run
 * names; all others of it lie in the shadow. It moves rows and deletes nothing.
 */
#pragma once

#include "libcommon/db.h"
#include "libcommon/uuid.h"

#define IMPORT_TIME 40

/* When a schedule is due next after a moment (`after`, as Postgres reads it; NULL: now), as text
 * for a timestamptz. ERR_PERMANENT "invalid_value" for a bad schedule, one that never comes, or an
 * unknown time zone. */
int import_next_at(struct db_conn *conn, const char *cron, const char *time_zone, const char *after,
                   char ret_at[IMPORT_TIME], struct err *err) WARN_UNUSED;

/* A run with the next number, in the caller's transaction: queued, or skipped with a note when one
 * is open already. *ret_queued says which. ERR_PERMANENT "not_found" without the import. */
int import_run_add(struct db_conn *conn, const char *import_id, const char *trigger,
                   char ret_run_id[UUID_TEXT], bool *ret_queued, struct err *err) WARN_UNUSED;

/* Makes the run the published version, in the caller's transaction: files, records, counts and
 * events. *ret_in and *ret_out count the files that came into the dataset and left it. */
int import_switch(struct db_conn *conn, const char *import_id, const char *run_id, int64_t *ret_in,
                  int64_t *ret_out, struct err *err) WARN_UNUSED;
