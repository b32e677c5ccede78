/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a document's text and a dataset's columns to one typed record with evidence per cell.
 * Invariant: no value is published that was not found in the text; what is not found is null.
 * It does no I/O of its own: the backend may, the record is returned to the caller.
 */
#pragma once

#include "libcommon/columns.h"
#include "libcommon/doctext.h"

#include <jansson.h>
#include <stdatomic.h>

struct backend;
struct locale_hint;
struct extract_usage;

/* Which columns one call answers: states-and-names.md 4 makes units of them. */
enum extract_part {
    EXTRACT_ALL,     /* a small document: everything at once */
    EXTRACT_SCALARS, /* all columns but rows */
    EXTRACT_ROWS,    /* one rows column: options.rows_column, options.first_page.. */
};

/* Answers that were paid for, by a name of what was asked: a backend that spends money asks here
 * first. find gives NULL for what is not known; an error of it fails the extraction. */
struct extract_memory {
    void *ctx;
    int (*find)(void *ctx, const char *name, char **ret_answer, size_t *ret_len, struct err *err);
    void (*keep)(void *ctx, const char *name, const char *answer, size_t len);
};

/* What calls may cost. reserve comes before a call, with the most it can use, and refuses it by an
 * error; settle follows each reserve with what was used, or NULL when nothing is charged. */
struct extract_purse {
    void *ctx;
    int (*reserve)(void *ctx, uint64_t prompt_tokens, uint64_t completion_tokens, struct err *err);
    void (*settle)(void *ctx, const struct extract_usage *usage);
};

struct extract_options {
    enum extract_part part;
    size_t rows_column; /* index, for EXTRACT_ROWS */
    int first_page;     /* pages looked at, inclusive; 0: from the first / to the last */
    int last_page;
    double review_below;     /* cells below need review; 0 means EXTRACT_REVIEW_BELOW */
    int attempt;             /* counts from 1; moves a backend's seed */
    int64_t *retry_after_ms; /* may be NULL; set when a transient error said when to come back */
    const struct extract_memory *memory; /* may be NULL */
    const struct extract_purse *purse;   /* may be NULL: no ceilings */
    const struct locale_hint *hint;      /* NULL: learned from the pages at hand */
    const atomic_bool *cancel;           /* may be NULL; true ends a running call */
};

#define EXTRACT_REVIEW_BELOW 0.6
#define EXTRACT_ROWS_MAX 5000U /* rows of one rows column */

struct extract_usage {
    uint64_t calls, prompt_tokens, completion_tokens, cached_tokens;
    uint64_t remembered; /* answers from extract_options.memory, beside the calls */
    bool estimated;      /* some answer carried no usage */
};

/* values: {c1: typed value or null}. Forms: string and enum: JSON string; boolean; integer: JSON
 * integer (int64); number: JSON integer or real of at most 15 significant digits, else a string
 * with all digits; date "YYYY-MM-DD"; datetime "YYYY-MM-DDThh:mm:ss" with Z or offset if written;
 * money {"amount": "123.45", "currency": "EUR" or null}; rows: {"count": n}.
 * cells: {c1: {status, confidence, page, span: [start, end], boxes: [[x0, y0, x1, y1]...], quote,
 *   reason?, raw?, alternatives?: [{value, page, span}], factors: {...}}}; an empty cell has only
 *   status, confidence 0 and reason. status: ok, empty, ungrounded, conflict.
 * rows: {c5: [{"values": {i1: ...}, "cells": {i1: ...}, "review": bool}]}. Spans count code points
 * of the stored text of that page; boxes are fractions of the page, one per printed line. */
struct extract_result {
    json_t *values, *cells, *rows;
    bool needs_review;
    bool partial;        /* the backend answered only for some columns */
    double completeness; /* share of required columns (of all, if none is) with a value */
    char backend[96];    /* "rules" or "openai:<model>" */
    struct extract_usage usage;
};

/* Fills *ret (caller: extract_result_done). backend is used by one thread at a time per call and
 * must outlive it. Errors are the backend's; the rules backend fails only without memory. */
int extract_record(const struct backend *backend, const struct columns *columns,
                   const struct doctext *doc, const struct extract_options *options,
                   struct extract_result *ret, struct err *err) WARN_UNUSED;
void extract_result_done(struct extract_result *result);

/* How a document writes dates and numbers, by its first pages. */
struct locale_hint extract_learn(const struct doctext *doc);
/* Share of required columns (of all, if none is) that have a value. */
double extract_completeness(const struct columns *columns, const json_t *values);
/* Writes value and cell of a rows column: how many rows there are, or why there are none. */
int extract_count_rows(const struct column *column, size_t n, const char *reason, json_t *values,
                       json_t *cells, struct err *err) WARN_UNUSED;

/* The offline backend: "label and pattern rules, no AI". A static object. */
const struct backend *backend_rules(void);
