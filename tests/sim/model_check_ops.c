/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of model_check: each is done to the database and to the model, and their answers
 * are compared.
 */
#include "tests/sim/model_check.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/filetype.h"
#include "libcommon/outcome.h"
#include "tests/sim/fiber.h"

#define CLAIMS_MAX 64

static struct held {
    struct task_claim real, mine;
    bool used;
} claims[CLAIMS_MAX];

static const char *const stage_names[] = {"",        "text",      "ocr",   "ai",
                                          "preview", "thumbnail", "clean", "scan"};

static const char *const owners[] = {"w1:0", "w1:1", "w2:0"};

#define step(...) snprintf(step_name, sizeof(step_name), __VA_ARGS__)

static struct task_key key_of(const struct m_task *t)
{
    struct task_key key = {.stage = t->stage, .unit = t->unit, .generation = t->generation};

    model_file_id(t->file, key.file_id);
    return key;
}

/* Some task in one of these states (bits), or NULL. */
static struct m_task *some_task(unsigned states)
{
    struct m_task *found = NULL;
    int64_t n = 0;

    for (size_t i = 0; i < m.n_tasks; i++) {
        if ((states >> m.tasks[i].state & 1) && sim_range(0, n++) == 0) {
            found = &m.tasks[i];
        }
    }
    return found;
}

static int some_file(void)
{
    return m.n_files > 0
               ? (int)sim_range(m.n_files > 6 ? (int64_t)m.n_files - 6 : 0, (int64_t)m.n_files - 1)
               : -1;
}

/* Users -----------------------------------------------------------------------------------------*/

static void do_accept(void)
{
    struct m_accept a = {.user = (int)sim_range(0, USERS - 1), .text = true};
    char batch[UUID_TEXT], user[UUID_TEXT], file[UUID_TEXT];
    struct db_conn *conn = NULL;
    struct err err;

    a.ole2 = sim_chance(0.2);
    a.raster = !a.ole2 && sim_chance(0.3);
    a.text = !a.ole2;
    a.thumbnail = a.raster;
    a.scan = sim_chance(0.25);
    a.cost = (int)sim_range(1, 120);
    step("accept");
    const struct task_file tf = {.file_id = file,
                                 .name = "a",
                                 .object_key = "k",
                                 .sha256 = "00",
                                 .mime = "x/y",
                                 .kind = a.ole2     ? "ole2"
                                         : a.raster ? "png"
                                                    : "pdf",
                                 .bytes = (int64_t)a.cost * 1048576 + 5,
                                 .stages = a.scan     ? 1U << STAGE_SCAN
                                           : a.ole2   ? FILE_TASK_PREVIEW
                                           : a.raster ? filetype_of(FILE_PNG)->tasks
                                                      : filetype_of(FILE_PDF)->tasks};
    const struct task_batch tb = {
        .batch_id = batch, .user_id = user, .dataset_id = DATASET, .files = &tf, .n_files = 1};
    uuid_v7(batch);
    model_user_id(a.user, user);
    model_file_id((int)m.n_files, file);
    must(db_acquire(db, &conn, &err), &err);
    must(task_accept_batch(conn, &tb, &err), &err);
    db_release(conn);
    a.cost = a.cost > 100 ? 100 : a.cost; /* the estimate by size is capped */
    model_accept(&m, &a);
}

static void do_release(int file, const char *id)
{
    const struct m_file *f = &m.files[file];
    char user[UUID_TEXT];
    unsigned stages = 0;
    bool released = false;
    struct err err;

    step("release of file %d", file);
    must(task_release(db, id, "me", &released, &stages, user, &err), &err);
    same("released", released, model_release(&m, file, !f->ole2, f->raster));
}

static void do_user(void)
{
    int file = some_file();
    char id[UUID_TEXT], user[UUID_TEXT];
    const char *ids[] = {id};
    int64_t n = 0;
    struct task_retried done = {0};
    struct err err;

    if (file < 0) {
        return;
    }
    int owner = sim_chance(0.9) ? m.files[file].user : (int)sim_range(0, USERS - 1);
    int stage = (int)sim_range(1, 5), lane = (int)sim_range(0, LANE_MAX);
    model_file_id(file, id);
    model_user_id(owner, user);
    switch (sim_range(0, 6)) {
    case 6:
        do_release(file, id);
        break;
    case 0:
        step("cancel of file %d", file);
        must(task_cancel(db, user, id, &n, &err), &err);
        same("cancelled", n, model_cancel(&m, owner, file));
        break;
    case 1:
        step("removal of file %d", file);
        must(task_remove(db, user, ids, 1, &n, &err), &err);
        same("removed", n, model_remove(&m, owner, file));
        break;
    case 2:
        step("re-run of file %d from %s", file, stage_names[stage]);
        must(task_rerun(db, user, id, stage, &n, &err), &err);
        same("re-run", n, model_rerun(&m, owner, file, stage, LANE_FIRST));
        break;
    case 3:
        stage = sim_chance(0.7) ? 0 : stage;
        step("retry of file %d, stage %d, lane %d", file, stage, lane);
        must(task_retry_many(db, user, ids, 1, stage, "me", lane, &done, &err), &err);
        same("units", done.units, model_retry(&m, owner, file, stage, MODEL_NONE, lane));
        break;
    default: {
        const struct m_task *t = some_task(1U << TASK_DEAD);
        if (t) {
            struct task_key key = key_of(t);
            step("replay of file %d %s unit %d", t->file, stage_names[t->stage], t->unit);
            must(task_retry_units(db, &key, 1, "me", &done, &err), &err);
            same("units", done.units,
                 t->generation == m.files[t->file].generation
                     ? model_retry(&m, MODEL_NONE, t->file, t->stage, t->unit, LANE_REPLAY)
                     : 0);
        }
        break;
    }
    }
}

/* What no statement does: a generation that ran away from its tasks, as if a lock were missing. The
 * statements must see it. */
static void do_plant(void)
{
    int file = some_file();
    char id[UUID_TEXT];
    const char *params[] = {id};
    struct err err;

    if (file >= 0 && m.files[file].state == FILE_PROCESSING) {
        step("a planted generation of file %d", file);
        model_file_id(file, id);
        must(db_run(db, "UPDATE file SET generation = generation + 1 WHERE file_id = $1::uuid", 1,
                    params, NULL, &err),
             &err);
        m.files[file].generation++;
    }
}

/* Dispatcher ------------------------------------------------------------------------------------*/

static void do_dispatch(void)
{
    struct task_key keys[4];
    int real[4], mine[4];
    struct task_trace traces[4];
    size_t n = 0;
    struct err err;

    step("dispatch");
    for (size_t i = 0; i < 4; i++) {
        const struct m_task *t = some_task(sim_chance(0.9) ? 1U << TASK_PENDING : 0x7f);
        bool twice = false;
        for (size_t k = 0; t && k < n; k++) {
            struct task_key key = key_of(t);
            twice = twice || memcmp(&keys[k], &key, sizeof(key)) == 0;
        }
        if (t && !twice) {
            keys[n++] = key_of(t);
        }
    }
    if (n > 0) {
        must(task_dispatch(db, keys, n, real, traces, &err), &err);
        model_dispatch(&m, keys, n, mine);
        for (size_t i = 0; i < n; i++) {
            same("dispatch_seq", real[i], mine[i]);
        }
    }
}

static int count_head(void *ctx, const struct task_head *head, struct err *err)
{
    int64_t *sum = ctx;

    (void)err;
    /* An order-dependent sum of what the heads are. */
    *sum = *sum * 31 + model_index(head->key.file_id) * 7 + head->key.unit * 3 + head->lane +
           head->cost + head->key.generation + model_index(head->user_id);
    *sum %= 1000000007;
    return 0;
}

static void do_heads(void)
{
    int stage = (int)sim_range(1, STAGE_MAX), flows = (int)sim_range(1, 3);
    struct task_place real = TASK_PLACE_START, mine = TASK_PLACE_START;
    int64_t sums[2] = {0};
    bool any = false, ends[2] = {false, false};
    struct err err;

    step("heads of %s", stage_names[stage]);
    must(task_heads_any(db, stage, &any, &err), &err);
    same("any head", any, model_heads_any(&m, stage));
    for (int i = 0; i < 20 && !ends[1]; i++) {
        must(task_heads_page(db, stage, flows, 2, count_head, &sums[0], &real, &ends[0], &err),
             &err);
        must(model_heads_page(&m, stage, flows, 2, count_head, &sums[1], &mine, &ends[1], &err),
             &err);
        same("heads of a page", sums[0], sums[1]);
        if (ends[0] != ends[1] && ends[1]) { /* the database may need one more look to know */
            must(task_heads_page(db, stage, flows, 2, count_head, &sums[0], &real, &ends[0], &err),
                 &err);
            same("the last page", sums[0], sums[1]);
            same("its end", ends[0], 1);
        }
    }
    struct task_ask asks[3];
    sums[0] = sums[1] = 0;
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        const struct m_task *t = some_task(1U << TASK_PENDING);
        asks[i] = (struct task_ask){.lane = (int)i % (LANE_MAX + 1),
                                    .limit = (int)sim_range(1, 5),
                                    .after = t && sim_chance(0.5) ? t->seq : 0};
        model_user_id((int)sim_range(0, USERS - 1), asks[i].user_id);
    }
    must(task_heads_asked(db, stage, asks, ARRAY_LEN(asks), count_head, &sums[0], &err), &err);
    must(model_heads_asked(&m, stage, asks, ARRAY_LEN(asks), count_head, &sums[1], &err), &err);
    same("heads asked for", sums[0], sums[1]);
}

static void same_out(const struct task_out *real, const struct task_out *mine)
{
    same("state", real->state, mine->state);
    same("back", real->back, mine->back);
    same("running", real->running, mine->running);
    same("expired", real->expired, mine->expired);
    same("crashes", real->crashes, mine->crashes);
    if (mine->state >= 0) {
        same("token", real->token, mine->token);
        same("cost", real->cost, mine->cost);
    }
}

static void do_sweep(void)
{
    const struct m_task *t = some_task(sim_chance(0.8) ? 1U << TASK_RUNNING : 0x7f);
    struct err err;

    if (!t) {
        return;
    }
    struct task_out real = {.key = key_of(t), .dispatch_seq = t->dispatch_seq}, mine = real;
    step("look at file %d %s unit %d", t->file, stage_names[t->stage], t->unit);
    must(task_check_out(db, &real, 1, &err), &err);
    model_check_out(&m, &mine, 1);
    same_out(&real, &mine);
    if (sim_chance(0.4)) {
        bool done = false;
        step("expiry of file %d %s unit %d", t->file, stage_names[t->stage], t->unit);
        must(task_expire(db, &real, &done, &err), &err);
        same("expired", done, model_expire(&m, &mine));
    } else if (real.expired && sim_chance(0.5)) {
        struct task_end end, model_end;
        step("death of file %d %s unit %d by expiry", t->file, stage_names[t->stage], t->unit);
        must(task_expire_dead(db, &real, &end, &err), &err);
        must(model_expire_dead(&m, &mine, &model_end, &err), &err);
        same("fenced", end.fenced, model_end.fenced);
    }
}

static void due(void *ctx, int stage, const char *user_id)
{
    bool(*set)[USERS] = ctx;

    set[stage][model_index(user_id)] = true;
}

static void do_promote(void)
{
    bool real[STAGE_MAX + 1][USERS] = {0}, mine[STAGE_MAX + 1][USERS] = {0};
    struct err err;

    step("promotion");
    m.now = clock_wall_ms();
    must(task_promote(db, due, real, &err), &err);
    model_promote(&m, due, mine);
    same("who is due", memcmp(real, mine, sizeof(real)), 0);
}

/* Workers ---------------------------------------------------------------------------------------*/

static void do_claim(void)
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

static void do_end(void)
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

static void do_back(void)
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

static void do_renew(void)
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

static void do_hand_back(void)
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

static void do_workers(void)
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

void one_step(long n)
{
    int r = (int)sim_range(0, 99);

    if (n < 4 || r < 4) {
        do_accept();
    } else if (r < 22) {
        do_dispatch();
    } else if (r < 45) {
        do_claim();
    } else if (r < 68) {
        do_end();
    } else if (r < 75) {
        do_back();
    } else if (r < 79) {
        do_renew();
    } else if (r < 82) {
        do_hand_back();
    } else if (r < 86) {
        do_promote();
    } else if (r < 91) {
        do_sweep();
    } else if (r < 93) {
        do_heads();
    } else if (r < 94) {
        if (sim_chance(0.5)) {
            do_workers();
        } else {
            do_plant();
        }
    } else {
        do_user();
    }
}
