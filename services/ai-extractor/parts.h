/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A long document is answered in parts: its scalar columns by one unit, each rows column by a unit
 * per range of pages. Here the parts become JSON and one record again. No I/O.
 * Invariant: rows keep the order of ranges; a row belongs to the range its first citation lies in,
 * and what two ranges cite alike is one row. Two equal lines at two places stay two rows.
 */
#pragma once

#include "services/ai-extractor/extract.h"
#include "services/ai-extractor/typing.h"

#define PART_PAGES 10U /* pages a rows unit looks at, the overlap among them */
#define PART_BYTES_MAX (64U * 1024U * 1024U)

enum part_kind { PART_SCALARS, PART_ROWS, PART_JOIN };

/* What a unit past unit 0 is asked for: its task's input. */
struct part {
    enum part_kind kind;
    int schema;      /* version of the columns, fixed by the plan */
    int units;       /* parts of the document; the join is the unit after them */
    int column;      /* index, of PART_ROWS */
    int first, last; /* pages whose rows are this part's */
    int seen;        /* the page after them, looked at for rows that go on there; or last */
    struct locale_hint hint;
};

/* The plan: units 1..n of a document with these pages (sorted), malloc'd. NULL without memory. */
struct part *parts_plan(const struct columns *columns, const int *pages, size_t n_pages, int schema,
                        const struct locale_hint *hint, size_t *ret_n);

json_t *part_to_input(const struct part *part); /* NULL without memory */
/* ERR_UNKNOWN "invalid_input" for an input of another program version. */
int part_from_input(const json_t *input, const struct columns *columns, struct part *ret,
                    struct err *err) WARN_UNUSED;

/* What is kept of a unit's answer; NULL without memory. */
json_t *part_answer(const struct part *part, const struct extract_result *result);

/* The record of a document from the answers of units 1..n, in that order. Fills *ret (caller:
 * extract_result_done). ERR_UNKNOWN "corrupt" when an answer is not what part_answer made. */
int parts_merge(const struct columns *columns, const json_t *answers, struct extract_result *ret,
                struct err *err) WARN_UNUSED;
