/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the parts of a long document (parts.h) meet tables and store: the plan is units of the
 * stage, a part's answer an artifact of kind "answer" of its unit.
 * Invariant: an answer is named by the statement that ends its unit, so that of two workers' only
 * the winner's counts; the join runs when all units are done, and it alone writes the record.
 */
#pragma once

#include "libcommon/stage.h"
#include "services/ai-extractor/parts.h"

/* Plans units when the document has rows columns and more than PART_PAGES pages; *ret_planned is
 * false when one unit does. */
int units_plan(struct job *job, const struct columns *columns, int schema_version,
               bool *ret_planned, struct err *err) WARN_UNUSED;

/* Keeps a part's answer, and names the unit that follows when all parts are there. */
int units_keep(struct job *job, const struct part *part, const struct extract_result *result,
               struct err *err) WARN_UNUSED;

/* The answers of units 1..n in order. ERR_UNKNOWN "input_gone" when one is missing. */
int units_answers(struct job *job, int n, json_t **ret_answers, struct err *err) WARN_UNUSED;
