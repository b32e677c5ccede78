/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of the audit log that Postgres did not take when their request ended: kept here, with their
 * time, until it does. A crash of the process loses them; the log has their line.
 * Invariant: rows leave in the order they came. What Postgres refuses for good is counted, logged
 * and dropped, so that it holds up no other.
 */
#pragma once

#include "libcommon/db.h"

#define AUDIT_LATE_MAX 10000U /* rows; each at most a few kilobytes */
#define AUDIT_VALUES 12U      /* parameters of audit_insert_sql */

struct audit_late;

/* Of the columns user_id, actor, action, target, detail, outcome, credential, key_id, session_id,
 * address, request_id, and for a late row when it happened (RFC 3339, detail's `happenedAt`: the
 * row's own time is when it joined the chain); NULL otherwise. */
extern const char audit_insert_sql[];

int audit_late_new(struct audit_late **ret_late, struct err *err) WARN_UNUSED;
void audit_late_free(struct audit_late *late);

/* Copies the values (each may be NULL; the time is set here). -1: there are too many, or no memory.
 */
int audit_late_keep(struct audit_late *late, const char *const values[AUDIT_VALUES - 1]);
/* Writes what waits, until it is all written or Postgres is away. One thread at a time. */
void audit_late_flush(struct audit_late *late, struct db *db);
