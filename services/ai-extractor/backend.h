/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What answers "which text belongs to this column". A backend only proposes: values as written,
 * and where it saw them. Typing, grounding, scoring and cross-checks are the same for all.
 * Invariant: nothing a backend says is published without having been found in the document.
 */
#pragma once

#include "services/ai-extractor/extract.h"
#include "services/ai-extractor/layout.h"
#include "services/ai-extractor/typing.h"

#define CANDIDATES_MAX 12U /* of one column */

/* One proposed value. page and line count from 1 (line: of the layout), 0 = not said; the span is
 * in code points of the page's text, end 0 = not said. */
struct candidate {
    char *raw;   /* as written; for booleans and enums the value */
    char *quote; /* text around it, or NULL */
    int page, line;
    uint32_t start, end;
    float prior;  /* 0..1: how sure the backend's own evidence is; 1 if it has none */
    bool pattern; /* found by its form alone, without a label */
    bool row;     /* of a row, which may go on at the top of the page after its quote */
};

struct candidate_list {
    struct candidate items[CANDIDATES_MAX];
    size_t n;
    const char *reason; /* static; why there is none, or NULL */
};

/* The rows of one rows column: cells[row * n_columns + column], raw NULL = empty. */
struct candidate_rows {
    struct candidate *cells;
    size_t n_rows, n_columns, cap;
};

struct proposals {
    const struct columns *columns;
    struct candidate_list *scalars; /* per column */
    struct candidate_rows *rows;    /* per column; used for rows columns */
    struct extract_usage usage;
    bool partial;
};

/* What a backend gets to see. */
struct backend_job {
    const struct columns *columns;
    const struct doctext *doc;
    const struct layout *layout;
    const struct extract_options *options;
    struct locale_hint hint;
};

struct backend {
    const char *name; /* "rules", "openai:<model>" */
    /* Fills ret, which has a list per column. */
    int (*propose)(const struct backend *backend, const struct backend_job *job,
                   struct proposals *ret, struct err *err);
};

/* Whether this call answers for the column. */
bool job_wants(const struct backend_job *job, size_t column);
/* Whether this call looks at the page. */
bool job_sees(const struct backend_job *job, int page);

int proposals_init(struct proposals *proposals, const struct columns *columns,
                   struct err *err) WARN_UNUSED;
void proposals_done(struct proposals *proposals);
/* Adds one (strings copied); a full list drops what has the lowest prior. */
int proposals_add(struct proposals *proposals, size_t column, const struct candidate *candidate,
                  struct err *err) WARN_UNUSED;
/* Appends an empty row and returns its cells, or NULL without memory or past EXTRACT_ROWS_MAX. */
struct candidate *proposals_add_row(struct proposals *proposals, size_t column);
void candidate_done(struct candidate *candidate);
