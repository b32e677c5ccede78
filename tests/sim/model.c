/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows, the rules that every change of state keeps, and what users do (task_accept.c).
 * Invariant: every change of a task's or a file's state passes model_task_to or model_file_to.
 */
#include "tests/sim/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SEQ_CACHE 50

void *model_grow(void *items, size_t *cap, size_t n, size_t size)
{
    if (n < *cap) {
        return items;
    }
    size_t to = *cap ? *cap * 2 : 64;
    void *grown = realloc(items, to * size);
    if (!grown) {
        fprintf(stderr, "sim: no memory\n");
        abort();
    }
    *cap = to;
    return grown;
}

void model_reset(struct model *m)
{
    struct model fresh = {.tasks = m->tasks,
                          .cap_tasks = m->cap_tasks,
                          .joins = m->joins,
                          .cap_joins = m->cap_joins,
                          .files = m->files,
                          .cap_files = m->cap_files,
                          .records = m->records,
                          .cap_records = m->cap_records,
                          .letters = m->letters,
                          .cap_letters = m->cap_letters,
                          .changes = m->changes,
                          .cap_changes = m->cap_changes};

    *m = fresh;
    for (int i = 0; i < MODEL_USERS_MAX; i++) {
        m->weights[i] = 1;
    }
}

void model_done(struct model *m)
{
    free(m->tasks);
    free(m->joins);
    free(m->files);
    free(m->records);
    free(m->letters);
    free(m->changes);
    *m = (struct model){0};
}

void model_broken(struct model *m, const char *fmt, ...)
{
    va_list args;

    if (m->broken[0]) {
        return;
    }
    va_start(args, fmt);
    vsnprintf(m->broken, sizeof(m->broken), fmt, args);
    va_end(args);
}

/* Ids -------------------------------------------------------------------------------------------*/

static void make_id(char kind, int index, char ret_id[UUID_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    unsigned n = (unsigned)index + 1;

    memcpy(ret_id, "00000000-0000-7000-8000-000000000000", UUID_TEXT);
    ret_id[0] = kind;
    for (int i = 35; i > 23 && n; i--, n >>= 4) {
        ret_id[i] = hex[n & 15];
    }
}

void model_file_id(int file, char ret_id[UUID_TEXT])
{
    make_id('f', file, ret_id);
}

void model_user_id(int user, char ret_id[UUID_TEXT])
{
    make_id('a', user, ret_id);
}

int model_index(const char *id)
{
    unsigned n = 0;

    for (int i = 24; i < 36; i++) {
        char c = id[i];
        n = n << 4 | (unsigned)(c >= 'a' ? c - 'a' + 10 : c - '0');
    }
    return (int)n - 1;
}

struct m_task *model_task(struct model *m, const struct task_key *key)
{
    int file = model_index(key->file_id);

    if (file < 0 || (size_t)file >= m->n_files) {
        return NULL;
    }
    for (int i = m->files[file].first_task; i >= 0; i = m->tasks[i].next_of_file) {
        struct m_task *t = &m->tasks[i];
        if (t->stage == key->stage && t->unit == key->unit && t->generation == key->generation) {
            return t;
        }
    }
    return NULL;
}

struct m_join *model_join(struct model *m, int file, int stage, int generation)
{
    for (size_t i = 0; i < m->n_joins; i++) {
        struct m_join *j = &m->joins[i];
        if (j->file == file && j->stage == stage && j->generation == generation) {
            return j;
        }
    }
    return NULL;
}

/* Changes ---------------------------------------------------------------------------------------*/

static void changed(struct model *m, bool of_file, int what, int generation, int from, int to,
                    const char *by)
{
    m->changes = model_grow(m->changes, &m->cap_changes, m->n_changes, sizeof(*m->changes));
    m->changes[m->n_changes++] = (struct m_change){.at = m->now,
                                                   .of_file = of_file,
                                                   .what = what,
                                                   .generation = generation,
                                                   .from = from,
                                                   .to = to,
                                                   .by = by};
    m->writes++;
}

/* The only ways a task may go. */
static bool task_may(int from, int to)
{
    static const unsigned char may[7] = {
        [TASK_PENDING] = 1U << TASK_DISPATCHED | 1U << TASK_CANCELLED,
        [TASK_DISPATCHED] = 1U << TASK_PENDING | 1U << TASK_RUNNING | 1U << TASK_CANCELLED,
        [TASK_RUNNING] = 1U << TASK_PENDING | 1U << TASK_WAITING_EXT | 1U << TASK_DONE |
                         1U << TASK_DEAD | 1U << TASK_CANCELLED,
        [TASK_WAITING_EXT] = 1U << TASK_PENDING | 1U << TASK_CANCELLED,
        [TASK_DEAD] = 1U << TASK_PENDING,
    };

    return from >= 0 && from <= 6 && (may[from] >> to & 1) != 0;
}

static void count_task(struct model *m, const struct m_task *t, int n)
{
    m->sendable[t->stage] += t->q == 0 ? n : 0;
    m->out[t->stage] += t->state == TASK_DISPATCHED || t->state == TASK_RUNNING ? n : 0;
}

void model_task_to(struct model *m, struct m_task *task, int state, int q, const char *by)
{
    int from = task->state;

    if (!task_may(from, state)) {
        model_broken(m, "%s took a task from state %d to %d", by, from, state);
    }
    count_task(m, task, -1);
    task->state = state;
    task->q = q;
    count_task(m, task, 1);
    if (q == 0) {
        task->pending_at = m->now;
    }
    if (state == TASK_DONE && ++task->done_times > 1) {
        model_broken(m, "I4: a unit was completed twice");
    }
    changed(m, false, (int)(task - m->tasks), task->generation, from, state, by);
}

static bool file_may(int from, int to)
{
    return (from == 1 && to >= 2 && to <= 5) || (from >= 2 && from <= 5 && to == 1) ||
           (from < 6 && to == 6) || (from == 6 && to == 7);
}

void model_file_to(struct model *m, int file, int state, const char *by)
{
    struct m_file *f = &m->files[file];

    if (f->state == state) {
        return;
    }
    if (!file_may(f->state, state)) {
        model_broken(m, "%s took a file from state %d to %d", by, f->state, state);
    }
    changed(m, true, file, f->generation, f->state, state, by);
    f->state = state;
    f->ended = m->now;
}

static int64_t next_seq(struct model *m)
{
    int c = m->conn;

    if (m->seq_left[c] == 0) {
        m->seq_next[c] = m->seq_block + 1;
        m->seq_block += SEQ_CACHE;
        m->seq_left[c] = SEQ_CACHE;
    }
    m->seq_left[c]--;
    return m->seq_next[c]++;
}

int model_insert_task(struct model *m, const struct m_task *task)
{
    struct task_key key = {
        .stage = task->stage, .unit = task->unit, .generation = task->generation};
    struct m_file *f = &m->files[task->file];

    model_file_id(task->file, key.file_id);
    if (model_task(m, &key)) {
        return -1;
    }
    m->tasks = model_grow(m->tasks, &m->cap_tasks, m->n_tasks, sizeof(*m->tasks));
    struct m_task *t = &m->tasks[m->n_tasks];
    *t = *task;
    t->user = f->user;
    t->seq = next_seq(m);
    t->cost = task->cost > 0 ? task->cost : 1;
    t->lease_until = t->not_before = MODEL_NONE;
    t->created = t->pending_at = m->now;
    t->next_of_file = f->first_task;
    f->first_task = (int)m->n_tasks++;
    count_task(m, t, 1);
    changed(m, false, f->first_task, t->generation, MODEL_NONE, t->state, "insert");
    return 0;
}

/* What users do ---------------------------------------------------------------------------------*/

bool model_of_main(int stage)
{
    return stage <= STAGE_AI || stage == STAGE_SCAN;
}

static void insert_first(struct model *m, struct m_task *t, bool text, bool thumbnail)
{
    if (text) {
        t->stage = STAGE_TEXT;
        (void)model_insert_task(m, t);
    }
    t->stage = STAGE_PREVIEW;
    (void)model_insert_task(m, t);
    if (thumbnail) {
        t->stage = STAGE_THUMBNAIL;
        (void)model_insert_task(m, t);
    }
}

int model_accept(struct model *m, const struct m_accept *a)
{
    int file = (int)m->n_files;
    struct m_task t = {.file = file, .generation = 1, .cost = a->cost, .lane = a->lane};

    m->files = model_grow(m->files, &m->cap_files, m->n_files, sizeof(*m->files));
    m->files[m->n_files++] = (struct m_file){.user = a->user,
                                             .cost = a->cost,
                                             .version = 1,
                                             .generation = 1,
                                             .record_generation = MODEL_NONE,
                                             .state = FILE_PROCESSING,
                                             .ole2 = a->ole2,
                                             .raster = a->raster,
                                             .accepted = m->now,
                                             .first_task = MODEL_NONE};
    m->deltas[0][1]++;
    changed(m, true, file, 1, MODEL_NONE, FILE_PROCESSING, "accept");
    if (a->scan) {
        t.stage = STAGE_SCAN;
        (void)model_insert_task(m, &t);
    } else {
        insert_first(m, &t, a->text, a->thumbnail);
    }
    return file;
}

static struct m_file *own_file(struct model *m, int user, int file)
{
    if (file < 0 || (size_t)file >= m->n_files || (user >= 0 && m->files[file].user != user)) {
        return NULL;
    }
    return &m->files[file];
}

static void cancel_tasks(struct model *m, int file, const char *by)
{
    for (int i = m->files[file].first_task; i >= 0; i = m->tasks[i].next_of_file) {
        if (m->tasks[i].state < TASK_DONE) {
            model_task_to(m, &m->tasks[i], TASK_CANCELLED, MODEL_NONE, by);
        }
    }
}

int model_remove(struct model *m, int user, int file)
{
    struct m_file *f = own_file(m, user, file);

    if (!f || f->state >= FILE_DELETING) {
        return 0;
    }
    cancel_tasks(m, file, "remove");
    m->deltas[f->state + 1][FILE_DELETING]++;
    f->generation++;
    model_file_to(m, file, FILE_DELETING, "remove");
    struct m_task clean = {.file = file, .stage = STAGE_CLEAN, .generation = f->generation};
    (void)model_insert_task(m, &clean);
    for (size_t i = 0; i < m->n_records;) {
        if (m->records[i].file == file) {
            m->records[i] = m->records[--m->n_records];
        } else {
            i++;
        }
    }
    return 1;
}

int model_cancel(struct model *m, int user, int file)
{
    struct m_file *f = own_file(m, user, file);

    if (!f || f->state != FILE_PROCESSING) {
        return 0;
    }
    int state = f->main == PIPE_DONE || f->main == PIPE_SKIPPED ? FILE_DONE
                : f->main == PIPE_FAILED                        ? FILE_FAILED
                                                                : FILE_CANCELLED;
    cancel_tasks(m, file, "cancel");
    f->generation++;
    f->main = f->main ? f->main : PIPE_CANCELLED;
    f->preview = f->preview ? f->preview : PIPE_CANCELLED;
    f->thumb = f->thumb ? f->thumb : PIPE_CANCELLED;
    model_file_to(m, file, state, "cancel");
    m->deltas[2][state]++;
    return 1;
}

static void reopen(struct model *m, struct m_task *t, int lane)
{
    struct m_join *join = t->unit > 0 ? model_join(m, t->file, t->stage, t->generation) : NULL;

    t->attempts = t->failures = t->refunds = t->outage_retries = 0;
    t->lost = 0;
    t->dispatch_seq++;
    t->lease_until = t->not_before = MODEL_NONE;
    t->created = m->now;
    t->lane = lane;
    model_task_to(m, t, TASK_PENDING, 0, "retry");
    if (join && t->unit <= join->total) {
        join->left++;
        join->failed--;
    }
    for (size_t i = 0; i < m->n_letters; i++) {
        struct m_letter *l = &m->letters[i];
        if (l->state == 0 && l->file == t->file && l->stage == t->stage && l->unit == t->unit &&
            l->generation == t->generation) {
            l->state = 1;
        }
    }
}

int model_retry(struct model *m, int user, int file, int stage, int unit, int lane)
{
    struct m_file *f = own_file(m, user, file);
    bool main = false, preview = false, thumb = false;
    int n = 0;

    if (!f || f->state > FILE_DELETING || (f->state == FILE_DELETING && user >= 0)) {
        return 0;
    }
    for (int i = f->first_task; i >= 0; i = m->tasks[i].next_of_file) {
        struct m_task *t = &m->tasks[i];
        if (t->state == TASK_DEAD && t->generation == f->generation &&
            (f->state < FILE_DELETING) != (t->stage == STAGE_CLEAN) &&
            (stage == 0 || t->stage == stage) && (unit == MODEL_NONE || t->unit == unit)) {
            reopen(m, t, lane);
            main = main || model_of_main(t->stage);
            preview = preview || t->stage == STAGE_PREVIEW || t->stage == STAGE_SCAN;
            thumb = thumb || t->stage == STAGE_THUMBNAIL || t->stage == STAGE_SCAN;
            n++;
        }
    }
    if (n == 0 || f->state >= FILE_DELETING) {
        return n;
    }
    if (f->state != FILE_PROCESSING) {
        m->deltas[f->state + 1][FILE_PROCESSING]++;
    }
    f->main = main ? PIPE_LIVE : f->main;
    f->preview = preview ? PIPE_LIVE : f->preview;
    f->thumb = thumb || (preview && f->thumb == PIPE_SKIPPED) ? PIPE_LIVE : f->thumb;
    f->errors &= ~((main ? ERR_OF_MAIN : 0) | (preview ? ERR_OF_PREVIEW : 0) |
                   (thumb || preview ? ERR_OF_THUMB : 0));
    model_file_to(m, file, FILE_PROCESSING, "retry");
    return n;
}

static void rerun_letters(struct model *m, int file, const struct m_file *f)
{
    for (size_t i = 0; i < m->n_letters; i++) {
        struct m_letter *l = &m->letters[i];
        int state = l->stage <= STAGE_AI        ? f->main
                    : l->stage == STAGE_PREVIEW ? f->preview
                                                : f->thumb;
        if (l->state == 0 && l->file == file && state == PIPE_LIVE) {
            l->state = 1;
        }
    }
}

/* The file has a scan, and none of them ended well. */
static bool unscanned(const struct model *m, const struct m_file *f)
{
    bool any = false;

    for (int i = f->first_task; i >= 0; i = m->tasks[i].next_of_file) {
        if (m->tasks[i].stage == STAGE_SCAN && m->tasks[i].state == TASK_DONE) {
            return false;
        }
        any = any || m->tasks[i].stage == STAGE_SCAN;
    }
    return any;
}

int model_release(struct model *m, int file, bool text, bool thumbnail)
{
    struct m_file *f = own_file(m, MODEL_NONE, file);

    if (!f || f->state != FILE_QUARANTINED) {
        return 0;
    }
    struct m_task t = {.file = file, .generation = f->generation, .cost = f->cost};
    m->deltas[FILE_QUARANTINED + 1][FILE_PROCESSING]++;
    f->main = f->preview = f->thumb = PIPE_LIVE;
    f->errors = 0;
    model_file_to(m, file, FILE_PROCESSING, "release");
    insert_first(m, &t, text, thumbnail);
    return 1;
}

int model_rerun(struct model *m, int user, int file, int from, int lane)
{
    struct m_file *f = own_file(m, user, file);

    if (!f || f->state < FILE_PROCESSING || f->state > FILE_CANCELLED) {
        return 0;
    }
    int from_stage = f->ole2 && from == STAGE_TEXT ? STAGE_PREVIEW : from;
    bool scan = unscanned(m, f);
    bool main =
        scan || from <= STAGE_AI || (f->ole2 && from == STAGE_PREVIEW) || f->main == PIPE_LIVE;
    bool preview = scan || from_stage == STAGE_PREVIEW || f->preview == PIPE_LIVE;
    bool thumb = scan || from_stage == STAGE_THUMBNAIL ||
                 (from_stage == STAGE_PREVIEW && !f->raster) || f->thumb == PIPE_LIVE;

    cancel_tasks(m, file, "rerun");
    if (f->state != FILE_PROCESSING) {
        m->deltas[f->state + 1][FILE_PROCESSING]++;
    }
    f->generation++;
    f->main = main ? PIPE_LIVE : f->main;
    f->preview = preview ? PIPE_LIVE : f->preview;
    f->thumb = thumb ? PIPE_LIVE : f->thumb;
    f->errors &=
        ~((main ? ERR_OF_MAIN : 0) | (preview ? ERR_OF_PREVIEW : 0) | (thumb ? ERR_OF_THUMB : 0));
    model_file_to(m, file, FILE_PROCESSING, "rerun");
    rerun_letters(m, file, f);

    struct m_task t = {.file = file, .generation = f->generation, .lane = lane};
    if (scan) {
        t.stage = STAGE_SCAN;
        (void)model_insert_task(m, &t);
        return 1;
    }
    if (f->main == PIPE_LIVE && !(f->ole2 && f->preview == PIPE_LIVE)) {
        bool unread = (from == STAGE_OCR || from == STAGE_AI) &&
                      !(f->raster && from == STAGE_OCR) && !f->has_pages;
        t.stage = unread || from > STAGE_AI ? STAGE_TEXT : from;
        (void)model_insert_task(m, &t);
    }
    if (f->preview == PIPE_LIVE) {
        t.stage = STAGE_PREVIEW;
        (void)model_insert_task(m, &t);
    }
    if (f->thumb == PIPE_LIVE && (f->raster || f->preview != PIPE_LIVE)) {
        t.stage = STAGE_THUMBNAIL;
        (void)model_insert_task(m, &t);
    }
    return 1;
}
