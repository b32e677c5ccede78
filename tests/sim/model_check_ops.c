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

const char *const stage_names[] = {"",        "text",      "ocr",   "ai",
                                   "preview", "thumbnail", "clean", "scan"};

struct task_key key_of(const struct m_task *t)
{
    struct task_key key = {.stage = t->stage, .unit = t->unit, .generation = t->generation};

    model_file_id(t->file, key.file_id);
    return key;
}

struct m_task *some_task(unsigned states)
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
