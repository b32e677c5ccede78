/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an error code means to people, and what they can do: one table for the errors of pipelines
 * and for dead letters, so that both say the same.
 * Invariant: every code has a text, also one that is not in the table.
 * Refuses to say anything about a single file: that is the error's own message, which the file's
 * owner reads where it is about the file.
 */
#pragma once

#include "libcommon/base.h"

struct reason {
    const char *code;
    const char *text;   /* one sentence without a full stop, for any reader */
    const char *advice; /* what helps, likewise */
    bool retry_helps;   /* as it is, later; not after a change of the file */
    bool ours; /* an error's own message tells of servers and programs: operators read it */
};

/* Never NULL; an unknown code (or NULL) gives the entry of "internal". */
const struct reason *reason_find(const char *code);
/* The message of an error with that code, or NULL where it is for operators alone. */
const char *reason_words(const char *code, const char *message);
/* The same, or the code's text in its place: never NULL but for a message that is. */
const char *reason_said(const char *code, const char *message);
/* The table, for tests and documents. */
const struct reason *reason_table(size_t *ret_n);
