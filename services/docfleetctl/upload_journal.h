/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an upload has sent, in a file of JSON lines, so that the same command can go on after any
 * end:
 *   {"journal":"docfleet-upload-1","dataset":ID}
 *   {"plan":KEY,"at":ms,"files":[[path,size,mtime_ns,sha256],..]}  before a batch is sent
 *   {"done":KEY,"batch":ID,"refused":[i,..]}                       after its answer
 *   {"drop":KEY}                                                   it will never be sent again
 * KEY is the Idempotency-Key, so a plan without an end can be sent again and is never doubled.
 * Paths are absolute and percent-encoded.
 * Invariant: a plan is on disk before its first byte is sent; a line that a crash cut is ignored.
 * One process has it at a time.
 */
#pragma once

#include "libcommon/err.h"
#include "libcommon/sha256.h"
#include "libcommon/uuid.h"

#define JOURNAL_BYTES_MAX ((size_t)1 << 30)
#define JOURNAL_BATCH_MAX 1000U

struct journal; /* not thread-safe: the upload's lock guards it */

struct journal_file {
    char *path; /* not encoded */
    uint64_t size;
    int64_t mtime_ns;
    char sha256[SHA256_HEX_SIZE];
};

struct journal_plan {
    char key[UUID_TEXT];
    int64_t at_ms;
    struct journal_file *files;
    size_t n;
    bool ended;
};

/* Opens or makes it and reads it. again: what it holds is forgotten. ERR_PERMANENT "usage" when it
 * belongs to another dataset, "busy" when another process has it, "journal" when it is damaged. */
int journal_open(const char *path, const char *dataset, bool again, struct journal **ret_journal,
                 struct err *err) WARN_UNUSED;
void journal_free(struct journal *journal);
DEFINE_CLEANUP(struct journal *, journal_cleanup, journal_free)
const char *journal_path(const struct journal *journal);

/* What was accepted under this path, the last time; NULL: nothing. Borrowed. */
const struct journal_file *journal_accepted(const struct journal *journal, const char *path);
/* Plans without an end when the journal was opened. Borrowed. */
size_t journal_plans(const struct journal *journal, const struct journal_plan **ret_plans);

int journal_plan(struct journal *journal, const struct journal_plan *plan,
                 struct err *err) WARN_UNUSED;
/* refused[i] for the plan's files; batch may be "". */
int journal_done(struct journal *journal, const char *key, const char *batch, const bool *refused,
                 size_t n, struct err *err) WARN_UNUSED;
int journal_drop(struct journal *journal, const char *key, struct err *err) WARN_UNUSED;

/* The usual place for an upload of these paths: in ~/.local/state/docfleet/uploads, which is made.
 * roots: absolute. */
int journal_default_path(const char *dataset, char *const *roots, size_t n, char *path, size_t size,
                         struct err *err) WARN_UNUSED;
