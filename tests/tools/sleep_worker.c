/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sleepworker STAGE: a worker of any stage that waits instead of working, so that a test loads the
 * dispatcher, the queue and the database without the processor being the queue. Everything but the
 * handler is the frame that real workers use.
 * Invariant: how long a unit takes depends on file, stage and unit alone, never on the attempt.
 * It reads no input. The start of a file's name steers it, parts may follow each other:
 *   x10-      takes and costs ten times as much
 *   pages40-  main goes through ocr, in 4 units of 10 pages that are joined
 *   poison-   the process aborts (text stage; poison-ai-, poison-preview- ...: that stage)
 *   fail-     ends with a permanent error (same rule for stages)
 *   ours-     ends with a permanent error that tells of a server (same rule for stages)
 *   flaky-    the first attempt ends with an unknown error (same rule for stages)
 */
#include "libcommon/fnv.h"
#include "libcommon/stage.h"
#include "libcommon/uuid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEP_MS 20U
#define OCR_UNITS 4
#define OCR_UNIT_PAGES 10

struct sleep_options {
    int64_t min_ms, max_ms;
    bool thumbnail, puts;
};

static struct sleep_options options;

static const struct option_def option_defs[] = {
    {"SLEEP_MIN", OPTION_DURATION, offsetof(struct sleep_options, min_ms), "200ms", 0, 86400000,
     NULL, "shortest time of a unit; 0ms with SLEEP_MAX=0ms returns at once"},
    {"SLEEP_MAX", OPTION_DURATION, offsetof(struct sleep_options, max_ms), "500ms", 0, 86400000,
     NULL, "longest time of a unit"},
    {"SLEEP_THUMBNAIL", OPTION_BOOL, offsetof(struct sleep_options, thumbnail), "false", 0, 0, NULL,
     "a preview is followed by a thumbnail"},
    {"SLEEP_PUTS", OPTION_BOOL, offsetof(struct sleep_options, puts), "false", 0, 0, NULL,
     "each unit stores a small object and names it as an artifact"},
};

/* What the file's name asks for --------------------------------------------------------------- */

struct wish {
    int factor;
    bool pages, poison, fail, ours, flaky;
};

static bool take(const char **name, const char *prefix)
{
    size_t n = strlen(prefix);

    if (strncmp(*name, prefix, n) != 0) {
        return false;
    }
    *name += n;
    return true;
}

/* A stage's name after the word limits it to that stage; without one it is the text stage's. */
static bool here(const char **name, int stage)
{
    for (int s = STAGE_TEXT; s <= STAGE_MAX; s++) {
        char prefix[16];
        snprintf(prefix, sizeof(prefix), "%s-", stage_name(s));
        if (take(name, prefix)) {
            return s == stage;
        }
    }
    return stage == STAGE_TEXT;
}

static struct wish read_wish(const char *name, int stage)
{
    struct wish wish = {.factor = 1};

    for (bool more = true; more;) {
        if (take(&name, "x10-")) {
            wish.factor = 10;
        } else if (take(&name, "pages40-")) {
            wish.pages = true;
        } else if (take(&name, "poison-")) {
            wish.poison = here(&name, stage);
        } else if (take(&name, "fail-")) {
            wish.fail = here(&name, stage);
        } else if (take(&name, "ours-")) {
            wish.ours = here(&name, stage);
        } else if (take(&name, "flaky-")) {
            wish.flaky = here(&name, stage);
        } else {
            more = false;
        }
    }
    return wish;
}

/* Time ---------------------------------------------------------------------------------------- */

/* FNV-1a over file, stage and unit. */
static uint64_t unit_hash(const struct task_key *key)
{
    char text[UUID_TEXT + 32];
    int n = snprintf(text, sizeof(text), "%s/%d/%d", key->file_id, key->stage, key->unit);
    uint64_t hash = fnv64(FNV64_START, text, (size_t)n);

    hash ^= hash >> 33;
    hash *= 0xff51afd7ed558ccdULL;
    return hash ^ (hash >> 33);
}

static int wait_out(struct job *job, int factor, struct err *err)
{
    uint64_t range = (uint64_t)(options.max_ms - options.min_ms) + 1;
    uint64_t ms =
        ((uint64_t)options.min_ms + unit_hash(&job->claim->key) % range) * (uint64_t)factor;
    uint64_t end = clock_mono_ms() + ms;

    for (uint64_t now = clock_mono_ms(); now < end; now = clock_mono_ms()) {
        if (atomic_load(&job->cancel)) {
            return err_set(err, ERR_TRANSIENT, "cancelled", "the unit was taken back");
        }
        uint64_t step = end - now < STEP_MS ? end - now : STEP_MS;
        struct timespec ts = {.tv_nsec = (long)step * 1000000L};
        nanosleep(&ts, NULL);
    }
    return 0;
}

/* Results ------------------------------------------------------------------------------------- */

static int put_object(struct job *job, struct err *err)
{
    static const char bytes[] = "slept\n";
    const char *key;

    if (!options.puts) {
        return 0;
    }
    if (job_put(job, "slept", bytes, sizeof(bytes) - 1, "text/plain", &key, err) < 0) {
        return -1;
    }
    return outcome_artifact(job->out, "parts", job->claim->key.unit, key, sizeof(bytes) - 1,
                            "text/plain", NULL, err);
}

static int write_record(struct job *job, struct err *err)
{
    char record_id[UUID_TEXT];

    uuid_v7(record_id);
    json_t *record = json_pack("{s:s, s:i, s:i, s:s, s:{}, s:{}, s:b, s:f, s:[]}", "recordId",
                               record_id, "schemaVersion", 1, "docNo", 0, "backend", "rules",
                               "values", "cells", "needsReview", 0, "completeness", 1.0, "rows");
    if (!record) {
        return err_nomem(err);
    }
    return outcome_record(job->out, record, err) < 0
               ? -1
               : outcome_pipeline(job->out, PIPE_DONE, NULL, NULL, err);
}

static int plan_ocr(struct job *job, struct err *err)
{
    for (int i = 1; i <= OCR_UNITS; i++) {
        if (outcome_unit(job->out, i, OCR_UNIT_PAGES, NULL, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int finish(struct job *job, const struct wish *wish, struct err *err)
{
    switch (job->claim->key.stage) {
    case STAGE_TEXT:
        return wish->pages
                   ? outcome_next(job->out, STAGE_OCR, 0, OCR_UNITS * OCR_UNIT_PAGES, NULL, err)
                   : outcome_next(job->out, STAGE_AI, 0, wish->factor, NULL, err);
    case STAGE_OCR:
        return outcome_next(job->out, STAGE_AI, 0, wish->factor, NULL, err);
    case STAGE_AI:
        return write_record(job, err);
    case STAGE_PREVIEW:
        if (!options.thumbnail) {
            outcome_no_thumbnail(job->out);
        } else if (outcome_spawn(job->out, STAGE_THUMBNAIL, 0, 1, NULL, err) < 0) {
            return -1;
        }
        return outcome_pipeline(job->out, PIPE_DONE, NULL, NULL, err);
    default:
        return outcome_pipeline(job->out, PIPE_DONE, NULL, NULL, err);
    }
}

static int sleep_handle(struct job *job, struct err *err)
{
    const struct task_claim *claim = job->claim;
    struct wish wish = read_wish(claim->name ? claim->name : "", claim->key.stage);

    if (claim->key.stage == STAGE_OCR && claim->key.unit == 0 && wish.pages) {
        return plan_ocr(job, err); /* a plan takes no time */
    }
    if (wait_out(job, wish.factor, err) < 0) {
        return -1;
    }
    if (wish.poison) {
        abort();
    }
    if (wish.fail) {
        return err_set(err, ERR_PERMANENT, "corrupt", "the file asks to fail");
    }
    if (wish.ours) {
        return err_set(err, ERR_PERMANENT, "store_denied", "https://store-7.internal: 403");
    }
    if (wish.flaky && claim->attempts == 1) {
        return err_set(err, ERR_UNKNOWN, "child_crashed", "the file asks to fail once");
    }
    if (wish.factor > 1) {
        /* what the gateway could not see: the dispatcher corrects the user's share */
        outcome_set_cost(job->out, wish.factor);
    }
    return put_object(job, err) < 0 ? -1 : finish(job, &wish, err);
}

static int sleep_setup(struct stage_ctx *ctx, struct err *err)
{
    (void)ctx;
    if (options.max_ms < options.min_ms) {
        return err_set(err, ERR_FATAL, "invalid_config", "SLEEP_MAX is below SLEEP_MIN");
    }
    return 0;
}

int main(int argc, char **argv)
{
    static char service[32];
    enum stage_id id = argc > 1 ? stage_parse(argv[1]) : STAGE_NONE;

    if (id == STAGE_NONE || id == STAGE_CLEAN) {
        fprintf(stderr, "usage: sleepworker text|ocr|ai|preview|thumbnail\n");
        return 2;
    }
    snprintf(service, sizeof(service), "sleepworker-%s", stage_name((int)id));
    const struct stage stage = {
        .id = id,
        .service = service,
        .options = option_defs,
        .n_options = ARRAY_LEN(option_defs),
        .options_target = &options,
        .store_required = false,
        .setup = sleep_setup,
        .handle = sleep_handle,
    };
    argv[1] = argv[0];
    return stage_main(argc - 1, argv + 1, &stage);
}
