/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of the numbers in states.h.
 */
#include "libcommon/states.h"

#include <string.h>

static const struct {
    const char *name, *topic, *pipeline;
} stages[] = {
    [STAGE_TEXT] = {"text", "docfleet.text.v1", "main"},
    [STAGE_OCR] = {"ocr", "docfleet.ocr.v1", "main"},
    [STAGE_AI] = {"ai", "docfleet.ai.v1", "main"},
    [STAGE_PREVIEW] = {"preview", "docfleet.preview.v1", "preview"},
    [STAGE_THUMBNAIL] = {"thumbnail", "docfleet.thumbnail.v1", "thumbnail"},
    [STAGE_CLEAN] = {"clean", "docfleet.clean.v1", NULL},
    [STAGE_SCAN] = {"scan", "docfleet.scan.v1", "main"},
};

static const char *const task_states[] = {"pending", "dispatched", "running",  "waiting_ext",
                                          "done",    "dead",       "cancelled"};
static const char *const pipeline_states[] = {"waiting", "running", "done",
                                              "failed",  "skipped", "cancelled"};
static const char *const file_states[] = {"uploading", "processing",  "done",     "failed",
                                          "cancelled", "quarantined", "deleting", "deleted"};

const char *stage_name(int stage)
{
    return stage >= 1 && stage <= STAGE_MAX ? stages[stage].name : NULL;
}

enum stage_id stage_parse(const char *name)
{
    for (int i = 1; name && i <= STAGE_MAX; i++) {
        if (strcmp(name, stages[i].name) == 0) {
            return (enum stage_id)i;
        }
    }
    return STAGE_NONE;
}

const char *stage_topic(int stage)
{
    return stage >= 1 && stage <= STAGE_MAX ? stages[stage].topic : NULL;
}

const char *stage_pipeline(int stage)
{
    return stage >= 1 && stage <= STAGE_MAX ? stages[stage].pipeline : NULL;
}

const char *task_state_name(int state)
{
    return state >= 0 && (size_t)state < ARRAY_LEN(task_states) ? task_states[state] : NULL;
}

const char *pipeline_state_name(int state)
{
    return state >= 0 && (size_t)state < ARRAY_LEN(pipeline_states) ? pipeline_states[state] : NULL;
}

const char *file_state_name(int state)
{
    return state >= 0 && (size_t)state < ARRAY_LEN(file_states) ? file_states[state] : NULL;
}

int file_state_parse(const char *name)
{
    for (size_t i = 0; name && i < ARRAY_LEN(file_states); i++) {
        if (strcmp(name, file_states[i]) == 0) {
            return (int)i;
        }
    }
    return -1;
}
