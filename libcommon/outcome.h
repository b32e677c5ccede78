/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a unit leaves behind, collected by a stage and written by task_complete in one statement.
 * Invariant: nothing in it refers to an object that is not yet stored.
 */
#pragma once

#include "libcommon/states.h"

#include "libcommon/err.h"

#include <jansson.h>

struct outcome; /* opaque */

int outcome_new(int version, struct outcome **ret_outcome, struct err *err) WARN_UNUSED;
void outcome_free(struct outcome *out);
DEFINE_CLEANUP(struct outcome *, outcome_cleanup, outcome_free)

/* An object of this unit. kind: text words parts pdf page thumb; page 0: none. Steals meta. */
int outcome_artifact(struct outcome *out, const char *kind, int page, const char *object_key,
                     uint64_t bytes, const char *mime, json_t *meta, struct err *err) WARN_UNUSED;

struct outcome_page {
    int page;
    const char *engine; /* native, tesseract, textract, none */
    int64_t chars;
    double confidence; /* < 0: none */
    double width, height;
    bool needs_ocr;
    const char *text_key; /* may be NULL: no text yet */
    uint64_t text_start, text_bytes;
    const char *words_key; /* may be NULL */
    uint64_t words_start, words_bytes;
    const char *text_sum, *words_sum; /* of the slices; NULL: not checked when read */
};
int outcome_page(struct outcome *out, const struct outcome_page *page, struct err *err) WARN_UNUSED;

/* Plan: units 1.. of this stage. Steals input. cost >= 1. */
int outcome_unit(struct outcome *out, int unit, int cost, json_t *input,
                 struct err *err) WARN_UNUSED;
/* The next stage's task, inserted when this stage is over (join at 0, none failed). */
int outcome_next(struct outcome *out, int stage, int unit, int cost, json_t *input,
                 struct err *err) WARN_UNUSED;
/* A task of another pipeline, inserted at once with this unit. */
int outcome_spawn(struct outcome *out, int stage, int unit, int cost, json_t *input,
                  struct err *err) WARN_UNUSED;
/* The pipeline's end, when this stage is over: PIPE_DONE, FAILED or SKIPPED with code and detail
 * (NULL for DONE). Of STAGE_SCAN only FAILED: the file is quarantined, all three pipelines end. */
int outcome_pipeline(struct outcome *out, enum pipeline_state state, const char *code,
                     const char *detail, struct err *err) WARN_UNUSED;
/* Skips the thumbnail pipeline (a preview without page 1), when no thumbnail task exists. */
void outcome_no_thumbnail(struct outcome *out);
/* The record set: an object {recordId, schemaVersion, docNo, backend, values, cells, needsReview,
 * completeness, rows:[{columnId, rowNo, values, cells}]}. Steals it. */
int outcome_record(struct outcome *out, json_t *record, struct err *err) WARN_UNUSED;
/* Adds a member to the event's detail. Steals value. */
int outcome_detail(struct outcome *out, const char *name, json_t *value,
                   struct err *err) WARN_UNUSED;
/* What the work turned out to cost, in pages; the dispatcher corrects the user's share by it. */
void outcome_set_cost(struct outcome *out, int cost);
/* True when the outcome ends the pipeline as skipped. out may be NULL. */
bool outcome_skipped(const struct outcome *out);
/* The JSON for task_complete; malloc'd. */
char *outcome_dump(const struct outcome *out);
/* What an outcome's text says that it holds beside next tasks; everything for a text that
 * outcome_dump did not make. */
#define OUTCOME_UNITS 1
#define OUTCOME_RESULTS 2 /* artifacts or pages */
#define OUTCOME_RECORD 4
#define OUTCOME_ENDS 8 /* the pipeline's end, or no thumbnail */
int outcome_has(const char *text);
