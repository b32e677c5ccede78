/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of providers that cost money, kept by what was asked: table effect.
 * Invariant: a row is never changed, so whoever asks the same question twice reads one answer.
 * It refuses to decide what "the same" is: the key is its user's, who puts everything into it
 * that the answer depends on.
 */
#pragma once

#include <stdatomic.h>

#include "libcommon/buf.h"
#include "libcommon/db.h"

#define EFFECT_KEY_MAX 200U

/* Appends the kept answer to ret (initialised by the caller, its max is the limit). *ret_found is
 * false when there is none. kind: textract, ai. */
int effect_find(struct db *db, const char *kind, const char *key, struct buf *ret, bool *ret_found,
                struct err *err) WARN_UNUSED;

/* Keeps an answer; one that is there already stays. Tries again for about 2 s while Postgres is
 * away, unless cancel (may be NULL) becomes true: the answer is paid for. */
int effect_keep(struct db *db, const atomic_bool *cancel, const char *kind, const char *key,
                const void *data, size_t len, struct err *err) WARN_UNUSED;
