/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one table from an error's code to its HTTP status and title, and the problem document
 * (RFC 9457) made of it.
 * Invariant: a code that is not in the table is a 500 (or 503 when transient) whose text says
 * nothing of the inside.
 */
#pragma once

#include "services/ingest-gateway/reply.h"

struct problem {
    const char *code;
    unsigned status;
    const char *title;
};

/* The row of an error; for codes that are not listed one by its class. Never NULL. */
const struct problem *problem_find(const struct err *err);

/* Makes the answer; errors (may be NULL) is the validation array. Never fails: without memory the
 * body is missing. */
void problem_reply(const struct err *err, const char *request_id, json_t *errors,
                   struct reply *ret_reply);
