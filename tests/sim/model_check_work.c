/* SPDX-License-Identifier: Apache-2.0 */
/* The workers' operations of model_check: what a claim, its end, or its owner's end do. */
#include "tests/sim/model_check.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/filetype.h"
#include "libcommon/outcome.h"
#include "tests/sim/fiber.h"

#define CLAIMS_MAX 64

#define CLAIMS_MAX 64

static struct held {
    struct task_claim real, mine;
    bool used;
} claims[CLAIMS_MAX];

static const char *const owners[] = {"w1:0", "w1:1", "w2:0"};

void do_claim(void)
{
    const struct m_task *t = some_task(sim_chance(0.9) ? 1U << TASK_DISPATCHED
                                                       : 1U << TASK_PENDING | 1U << TASK_RUNNING);
    struct held *h = NULL;
    struct err err;

    for (int i = 0; i < CLAIMS_MAX; i++) {
        h = claims[i].used ? h : &claims[i];
    }
    if (!t || !h) {
        return;
    }
    struct task_key key = key_of(t);
    int seq = t->dispatch_seq - (sim_chance(0.1) ? 1 : 0);
    int64_t lease = sim_chance(0.3) ? -1000 : FAR_MS;
    step("claim of file %d %s unit %d gen %d seq %d", t->file, stage_names[t->stage], t->unit,
         t->generation, seq);
    int owner = (int)sim_range(0, 2);
    int r = task_claim(db, &key, seq, owners[owner], lease, &h->real, &err);
    must(r, &err);
    same("claimed", r, model_claim(&m, &key, seq, owner, lease, &h->mine));
    if (r > 0) {
        h->used = true;
        same("token", h->real.token, h->mine.token);
        same("attempts", h->real.attempts, h->mine.attempts);
        same("failures", h->real.failures, h->mine.failures);
        same("refunds", h->real.refunds, h->mine.refunds);
        same("cost", h->real.cost, h->mine.cost);
        same("job", h->real.ext_job_id != NULL, h->mine.ext_job_id != NULL);
    }
}

static struct held *some_claim(void)
{
    struct held *found = NULL;
    int64_t n = 0;

    for (int i = 0; i < CLAIMS_MAX; i++) {
        if (claims[i].used && sim_range(0, n++) == 0) {
            found = &claims[i];
        }
    }
    return found;
}

static void drop(struct held *h)
{
    free(h->mine.ext_job_id);
    task_claim_done(&h->real);
    h->used = false;
}

/* A scan lets the file through or not, and leaves nothing. */
static char *scan_outcome(struct outcome *out)
{
    struct err err;

    if (sim_chance(0.6)) {
        must(outcome_next(out, STAGE_TEXT, 0, 3, NULL, &err), &err);
        must(outcome_next(out, STAGE_PREVIEW, 0, 3, NULL, &err), &err);
    } else {
        must(outcome_pipeline(out, PIPE_FAILED, "infected", "so", &err), &err);
    }
    char *text = outcome_dump(out);
    outcome_free(out);
    return text;
}

/* Results that any stage might leave; the statement takes them as they come. */
static char *some_outcome(const struct task_claim *claim)
{
    struct outcome *out = NULL;
    const struct outcome_page page = {.page = 1, .engine = "native", .confidence = -1};
    struct err err;
    int stage = claim->key.stage, unit = claim->key.unit;

    must(outcome_new(1, &out, &err), &err);
    if (stage == STAGE_SCAN) {
        return scan_outcome(out);
    }
    if (sim_chance(0.7)) {
        outcome_set_cost(out, (int)sim_range(1, 40));
    }
    if (stage != STAGE_CLEAN && sim_chance(0.5)) {
        must(outcome_page(out, &page, &err), &err);
    }
    if (sim_chance(0.3)) {
        must(outcome_artifact(out, "text", 0, "key", 3, "text/plain", NULL, &err), &err);
    }
    if (unit == 0 && stage <= STAGE_PREVIEW && sim_chance(0.4)) {
        int n = (int)(sim_chance(0.6) ? 1 : sim_range(2, 4));
        for (int i = 1; i <= n; i++) {
            must(outcome_unit(out, i, (int)sim_range(0, 9), sim_chance(0.5) ? json_object() : NULL,
                              &err),
                 &err);
        }
    } else if (unit > 0 && unit < 9 && stage <= STAGE_PREVIEW && sim_chance(0.6)) {
        must(outcome_next(out, stage, 9, 1, NULL, &err), &err); /* past the last range */
    } else if (stage < STAGE_AI) {
        must(outcome_next(out, stage + 1, 0, 1, NULL, &err), &err);
    } else if (stage == STAGE_AI) {
        char id[UUID_TEXT];
        uuid_v7(id);
        must(outcome_record(out,
                            json_pack("{s:s, s:i, s:i, s:s, s:{}, s:{}, s:b, s:f, s:[]}",
                                      "recordId", id, "schemaVersion", 1, "docNo", 0, "backend",
                                      "rules", "values", "cells", "needsReview", 0, "completeness",
                                      1.0, "rows"),
                            &err),
             &err);
    }
    if (stage == STAGE_PREVIEW && sim_chance(0.5)) {
        must(outcome_spawn(out, sim_chance(0.5) ? STAGE_THUMBNAIL : STAGE_TEXT, 0, 1, NULL, &err),
             &err);
    } else if (stage == STAGE_PREVIEW) {
        outcome_no_thumbnail(out);
    }
    if (stage != STAGE_CLEAN && (stage >= STAGE_AI || sim_chance(0.1))) {
        int state = (int)sim_range(PIPE_DONE, PIPE_SKIPPED);
        must(outcome_pipeline(out, (enum pipeline_state)state,
                              state == PIPE_DONE ? NULL : "unsupported_type",
                              state == PIPE_DONE ? NULL : "so", &err),
             &err);
    }
    char *text = outcome_dump(out);
    outcome_free(out);
    return text;
}

static void same_end(const struct task_end *real, const struct task_end *mine)
{
    same("fenced", real->fenced, mine->fenced);
    same("stage_over", real->stage_over, mine->stage_over);
    same("file_state", real->file_state, mine->file_state);
    for (int s = 1; s <= STAGE_MAX; s++) {
        same(stage_names[s], real->wake[s], mine->wake[s]);
    }
}

void do_end(void)
{
    struct held *h = some_claim();
    struct task_end real = {0}, mine = {0};
    struct err err = ERR_INIT, model_err = ERR_INIT, why;
    int r, model_r;

    if (!h) {
        return;
    }
    const char *what = sim_chance(0.8) ? "done" : "dead";
    step("%s: file %d %s unit %d gen %d", what, model_index(h->real.key.file_id),
         stage_names[h->real.key.stage], h->real.key.unit, h->real.key.generation);
    if (strcmp(what, "done") == 0) {
        char *outcome = some_outcome(&h->real);
        r = task_complete(db, &h->real, outcome, &real, &err);
        model_r = model_complete(&m, &h->mine, outcome, &mine, &model_err);
        if (r != model_r) {
            printf("%s\n", outcome);
        }
        free(outcome);
    } else {
        err_set(&why, ERR_PERMANENT, "corrupt", "planned");
        r = task_dead(db, &h->real, &why, NULL, &real, &err);
        model_r = model_dead(&m, &h->mine, &why, &mine, &model_err);
    }
    if (r != model_r) {
        differs("answer %d %s, in the model %d %s", r, err.msg, model_r, model_err.msg);
    } else if (r == 0) {
        same_end(&real, &mine);
    }
    bool ours = false;
    must(task_ended_by(db, &h->real, &ours, &err), &err);
    same("ended by us", ours, model_ended_by(&m, &h->mine));
    if (r == 0 && sim_chance(0.8)) { /* else a zombie that tries once more */
        drop(h);
    }
}

void do_back(void)
{
    struct held *h = some_claim();
    enum task_back how = (enum task_back)sim_range(TASK_BACK_TRANSIENT, TASK_BACK_WAIT_EXT);
    int64_t delay = sim_chance(0.5) ? -1000 : FAR_MS;
    const char *job = how == TASK_BACK_WAIT_EXT ? "job" : NULL;
    struct err err, why;
    bool fenced = false;

    if (!h) {
        return;
    }
    err_set(&why, ERR_UNKNOWN, "sim", "planned");
    step("put back %d: file %d %s unit %d", (int)how, model_index(h->real.key.file_id),
         stage_names[h->real.key.stage], h->real.key.unit);
    must(task_put_back(db, &h->real, how, delay, &why, job, &fenced, &err), &err);
    same("fenced", fenced, model_put_back(&m, &h->mine, how, delay, job));
    if (sim_chance(0.7)) {
        drop(h);
    }
}

void do_renew(void)
{
    struct task_key keys[CLAIMS_MAX];
    int64_t tokens[CLAIMS_MAX];
    bool real[CLAIMS_MAX], mine[CLAIMS_MAX];
    int64_t lease = sim_chance(0.3) ? -1000 : FAR_MS;
    size_t n = 0;
    struct err err;

    step("renewal");
    for (int i = 0; i < CLAIMS_MAX; i++) {
        if (claims[i].used) {
            keys[n] = claims[i].real.key;
            tokens[n++] = claims[i].real.token;
        }
    }
    if (n == 0) {
        return;
    }
    must(task_renew(db, keys, tokens, n, lease, real, &err), &err);
    model_renew(&m, keys, tokens, n, lease, mine);
    for (size_t i = 0; i < n; i++) {
        same("lost", real[i], mine[i]);
    }
}

void do_hand_back(void)
{
    const struct m_task *t = some_task(1U << TASK_DISPATCHED | 1U << TASK_RUNNING);
    struct err err;

    if (t) {
        struct task_key key = key_of(t);
        int seq = t->dispatch_seq - (sim_chance(0.2) ? 1 : 0);
        step("hand back of file %d %s unit %d", t->file, stage_names[t->stage], t->unit);
        must(task_hand_back(db, &key, &seq, 1, &err), &err);
        model_hand_back(&m, &key, &seq, 1);
    }
}

void do_workers(void)
{
    struct task_worker real[8], mine[8];
    size_t n_real = 0, n_mine = 0;
    bool paused = false, model_paused = false;
    const int32_t parts[] = {1, 4};
    struct err err;

    step("workers");
    must(task_heartbeat(db, "w1", STAGE_OCR, 3, 1, "{1,4}", m.n_tasks % 2 == 0, &err), &err);
    model_heartbeat(&m, "w1", STAGE_OCR, 3, 1, m.n_tasks % 2 == 0, parts, 2);
    must(task_workers(db, STAGE_OCR, real, 8, &n_real, &paused, &err), &err);
    n_mine = model_live_workers(&m, STAGE_OCR, mine, 8, &model_paused);
    same("workers", (int64_t)n_real, (int64_t)n_mine);
    same("slots", real[0].slots, mine[0].slots);
    same("open", real[0].open, mine[0].open);
    same("partitions", real[0].n_partitions, mine[0].n_partitions);
    must(task_goodbye(db, "w1", &err), &err);
    model_goodbye(&m, "w1");
    must(task_workers(db, STAGE_OCR, real, 8, &n_real, &paused, &err), &err);
    same("workers after goodbye", (int64_t)n_real, 0);
}
