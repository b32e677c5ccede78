/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The numbers of stages and states, once for C; the SQL uses the same numbers.
 * Invariant: a number never changes its meaning; new ones are added at the end.
 */
#pragma once

#include "libcommon/base.h"

enum stage_id {
    STAGE_NONE = 0,
    STAGE_TEXT = 1,
    STAGE_OCR = 2,
    STAGE_AI = 3,
    STAGE_PREVIEW = 4,
    STAGE_THUMBNAIL = 5,
    STAGE_CLEAN = 6,
    STAGE_SCAN = 7, /* before all others, where a virus scanner is set up */
};
#define STAGE_MAX 7

/* Lanes of a stage's queue. A flow of the fair queue is a (user, lane). */
enum task_lane {
    LANE_FIRST = 0,  /* somebody waits for it */
    LANE_BULK = 1,   /* re-run or retry of many files: when lane 0 is empty, and every tenth turn */
    LANE_REPLAY = 2, /* dead letters replayed by a filter: beside BULK, a fifth of the weight */
};
#define LANE_MAX 2

enum task_state {
    TASK_PENDING = 0,
    TASK_DISPATCHED = 1,
    TASK_RUNNING = 2,
    TASK_WAITING_EXT = 3,
    TASK_DONE = 4,
    TASK_DEAD = 5,
    TASK_CANCELLED = 6,
};

enum pipeline_state {
    PIPE_LIVE = 0,
    PIPE_DONE = 2,
    PIPE_FAILED = 3,
    PIPE_SKIPPED = 4,
    PIPE_CANCELLED = 5,
};

enum file_state {
    FILE_UPLOADING = 0,
    FILE_PROCESSING = 1,
    FILE_DONE = 2,
    FILE_FAILED = 3,
    FILE_CANCELLED = 4,
    FILE_QUARANTINED = 5,
    FILE_DELETING = 6,
    FILE_DELETED = 7,
};

/* "text" .. "scan"; NULL for another number. */
const char *stage_name(int stage);
/* STAGE_NONE for an unknown name. */
enum stage_id stage_parse(const char *name);
/* "docfleet.text.v1" ..; NULL for another number. */
const char *stage_topic(int stage);
/* "main", "preview", "thumbnail"; NULL for clean. */
const char *stage_pipeline(int stage);
/* API names; NULL for another number. */
const char *task_state_name(int state);
const char *pipeline_state_name(int state); /* live is "waiting" here */
const char *file_state_name(int state);
/* -1 for an unknown name. */
int file_state_parse(const char *name);
