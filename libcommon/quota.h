/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an account may use: files and bytes that are stored, pages and money of a month (UTC). The
 * database itself writes what is used (migration "quotas"); here it is read, and asked for before
 * more is used.
 * Invariant: between quota_lock and the end of its transaction nobody else uses more of the
 * account, as long as everybody who does asks here; so two at once never exceed a limit together.
 * Refuses nothing that is already used: a limit that is lowered stops what comes after it.
 */
#pragma once

#include "libcommon/db.h"
#include "libcommon/uuid.h"

/* The account whose limits hold for those that have none of their own. */
#define QUOTA_DEFAULT_USER "00000000-0000-0000-0000-000000000000"
#define QUOTA_NONE (-1) /* as a limit */

enum quota_kind { QUOTA_FILES, QUOTA_BYTES, QUOTA_PAGES, QUOTA_MICROS, QUOTA_KINDS };

struct quota {
    int64_t limit[QUOTA_KINDS]; /* QUOTA_NONE: any */
    int64_t used[QUOTA_KINDS];
    char month[12]; /* 2026-11-01 */
};

/* files bytes pages money */
const char *quota_kind_name(enum quota_kind kind);

/* Refusals are counted from 0 on. */
void quota_metrics(void);

/* As it is now. */
int quota_read(struct db_conn *conn, const char *user_id, struct quota *ret_quota,
               struct err *err) WARN_UNUSED;
/* The same, and the account is this transaction's until it ends. Without any limit it is not
 * locked. Last of all locks. */
int quota_lock(struct db_conn *conn, const char *user_id, struct quota *ret_quota,
               struct err *err) WARN_UNUSED;
/* n more of a kind, in *quota alone. ERR_PERMANENT "quota_exceeded" says which quota, its limit
 * and what is used; 0 more always fits. */
int quota_take(struct quota *quota, enum quota_kind kind, int64_t n, struct err *err) WARN_UNUSED;
/* A file of so many bytes: both or none. */
int quota_take_file(struct quota *quota, uint64_t bytes, struct err *err) WARN_UNUSED;

/* For stages: the pages of a file's generation, counted once however often it is asked.
 * ERR_PERMANENT "quota_exceeded". */
int quota_charge_pages(struct db *db, const char *user_id, const char *file_id, int generation,
                       int pages, struct err *err) WARN_UNUSED;
/* For stages: a call to a paid service that costs micros, before it is made; micros < 0 gives back
 * what a call did not use. ERR_PERMANENT "quota_exceeded". */
int quota_charge_call(struct db *db, const char *user_id, const char *file_id, int generation,
                      int stage, int unit, int64_t micros, struct err *err) WARN_UNUSED;
