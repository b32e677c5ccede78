/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workers do to the tables: the statements of task_ops.c. The end of a unit follows end_sql
 * clause by clause, so that the two can be read side by side.
 */
#include "tests/sim/model.h"

#include <stdio.h>
#include <string.h>

#include "libcommon/jget.h"

/* Claim, lease ----------------------------------------------------------------------------------*/

int model_claim(struct model *m, const struct task_key *key, int dispatch_seq, int owner,
                int64_t lease_ms, struct task_claim *ret_claim)
{
    struct m_task *t = model_task(m, key);
    struct m_file *f = t ? &m->files[t->file] : NULL;

    bool again = t && t->state == TASK_RUNNING && t->owner == owner;

    if (!t || (t->state != TASK_DISPATCHED && !again) || t->dispatch_seq != dispatch_seq ||
        f->generation != t->generation ||
        f->state != (t->stage == STAGE_CLEAN ? FILE_DELETING : FILE_PROCESSING)) {
        return 0;
    }
    t->token++;
    t->owner = owner;
    t->lease_until = m->now + lease_ms;
    if (!again) {
        t->attempts++;
        model_task_to(m, t, TASK_RUNNING, MODEL_NONE, "claim");
    }
    *ret_claim = (struct task_claim){.key = *key,
                                     .token = t->token,
                                     .attempts = t->attempts,
                                     .failures = t->failures,
                                     .refunds = t->refunds,
                                     .age_s = (m->now - t->created) / 1000,
                                     .cost = t->cost,
                                     .version = f->version,
                                     .bytes = 1};
    model_user_id(t->user, ret_claim->user_id);
    if (t->ext) {
        ret_claim->ext_job_id = strdup("second-pass"); /* the cleaner looks at the name */
    }
    return 1;
}

/* The row that a lease token still holds. */
static struct m_task *held(struct model *m, const struct task_key *key, int64_t token)
{
    struct m_task *t = model_task(m, key);

    return t && t->token == token && t->state == TASK_RUNNING ? t : NULL;
}

void model_renew(struct model *m, const struct task_key *keys, const int64_t *tokens, size_t n,
                 int64_t lease_ms, bool *lost)
{
    for (size_t i = 0; i < n; i++) {
        struct m_task *t = held(m, &keys[i], tokens[i]);
        lost[i] = !t;
        if (t) {
            t->lease_until = m->now + lease_ms;
        }
    }
}

/* The end ---------------------------------------------------------------------------------------*/

enum how { HOW_PLAN, HOW_PART, HOW_BROKEN, HOW_END };

struct end {
    struct model *m;
    struct m_task *t;
    int file;
    int stage, unit, generation;
    int lane;
    const json_t *o;
    bool dead;
    enum how how;
    int ends; /* MODEL_NONE: null */
    bool why, no_thumb, no_text, has_record;
};

static size_t list_len(const json_t *o, const char *name)
{
    return json_array_size(json_object_get(o, name));
}

static void plan_join(struct end *e)
{
    struct model *m = e->m;
    int n = (int)list_len(e->o, "units");
    struct m_join *join = model_join(m, e->file, e->stage, e->generation);

    if (!join) {
        m->joins = model_grow(m->joins, &m->cap_joins, m->n_joins, sizeof(*m->joins));
        join = &m->joins[m->n_joins++];
    }
    *join = (struct m_join){
        .file = e->file, .stage = e->stage, .generation = e->generation, .total = n, .left = n};
}

static enum how end_join(struct end *e)
{
    struct m_join *join = model_join(e->m, e->file, e->stage, e->generation);

    /* The unit past the last range is the join's own next task: it is not counted. */
    if (join && e->unit > join->total) {
        join = NULL;
    }
    if (e->unit > 0 && join) {
        join->left--;
        join->failed += e->dead ? 1 : 0;
        if (join->left < 0) {
            model_broken(e->m, "a join has %d units left", join->left);
        }
    }
    if (list_len(e->o, "units") > 0) {
        plan_join(e);
        return HOW_PLAN;
    }
    if (e->unit == 0 || !join) {
        return HOW_END;
    }
    return join->left > 0 ? HOW_PART : join->failed > 0 ? HOW_BROKEN : HOW_END;
}

static void insert_list(struct end *e, const char *name, struct task_end *ret_end)
{
    const json_t *list = json_object_get(e->o, name);
    size_t i;
    json_t *x;

    json_array_foreach(list, i, x)
    {
        int stage = (int)json_integer_value(json_object_get(x, "stage"));
        struct m_task t = {
            .file = e->file,
            .stage = stage ? stage : e->stage,
            .unit = (int)json_integer_value(json_object_get(x, "unit")),
            .generation = e->generation,
            .cost = (int)json_integer_value(json_object_get(x, "cost")),
            .range = (int)json_integer_value(json_object_get(json_object_get(x, "input"), "n")),
            .lane = e->lane,
        };
        if (model_insert_task(e->m, &t) == 0) {
            ret_end->wake[t.stage] = true;
        }
    }
}

static bool has_task(struct end *e, int stage)
{
    struct task_key key = {.stage = stage, .generation = e->generation};

    model_file_id(e->file, key.file_id);
    return model_task(e->m, &key) != NULL;
}

/* Everything that is decided before anything is written, as a statement sees one snapshot. */
static void decide(struct end *e)
{
    const json_t *pipeline = json_object_get(e->o, "pipeline");
    const struct m_file *f = &e->m->files[e->file];

    e->ends = MODEL_NONE;
    if (e->how == HOW_BROKEN || (e->how == HOW_END && e->dead)) {
        e->ends = PIPE_FAILED;
    } else if (e->how == HOW_END && pipeline) {
        e->ends = (int)json_integer_value(json_object_get(pipeline, "state"));
    }
    e->why = e->how == HOW_BROKEN || e->dead || json_is_string(json_object_get(pipeline, "code"));
    e->no_thumb = (json_object_get(e->o, "noThumbnail") ||
                   (e->stage == STAGE_PREVIEW && e->how == HOW_END && e->dead)) &&
                  !has_task(e, STAGE_THUMBNAIL);
    e->has_record = json_object_get(e->o, "record") && e->how == HOW_END;
    e->no_text =
        e->stage == STAGE_PREVIEW && e->ends == PIPE_FAILED && f->ole2 && !has_task(e, STAGE_TEXT);
}

static unsigned pipe_bit(int stage)
{
    return model_of_main(stage)       ? ERR_OF_MAIN
           : stage == STAGE_PREVIEW   ? ERR_OF_PREVIEW
           : stage == STAGE_THUMBNAIL ? ERR_OF_THUMB
                                      : 0;
}

/* A scan that does not let the file through ends all pipelines. */
static void end_scan(struct end *e, struct task_end *ret_end)
{
    struct m_file *f = &e->m->files[e->file];
    int state = e->dead ? FILE_FAILED : FILE_QUARANTINED;

    if (f->state != FILE_PROCESSING) {
        return;
    }
    f->main = PIPE_FAILED;
    f->preview = f->thumb = PIPE_SKIPPED;
    f->errors = ERR_OF_MAIN | ERR_OF_PREVIEW | ERR_OF_THUMB;
    model_file_to(e->m, e->file, state, "scan");
    e->m->deltas[2][state]++;
    ret_end->file_state = state;
}

static void end_file(struct end *e, struct task_end *ret_end)
{
    struct model *m = e->m;
    struct m_file *f = &m->files[e->file];
    unsigned bit = pipe_bit(e->stage);
    int state = f->state;

    if (f->generation != e->generation ||
        (e->ends == MODEL_NONE && !e->no_thumb && !e->has_record)) {
        return;
    }
    if (e->stage == STAGE_SCAN && e->ends != MODEL_NONE) {
        end_scan(e, ret_end);
        return;
    }
    if (e->ends != MODEL_NONE) {
        int *pipe = bit == ERR_OF_MAIN      ? &f->main
                    : bit == ERR_OF_PREVIEW ? &f->preview
                    : bit == ERR_OF_THUMB   ? &f->thumb
                                            : NULL;
        if (pipe) {
            *pipe = e->ends;
        }
        f->errors = e->why ? f->errors | bit : f->errors & ~bit;
    }
    if (e->no_text && !(e->ends != MODEL_NONE && bit == ERR_OF_MAIN)) {
        f->main = PIPE_FAILED;
    }
    if (e->no_thumb && f->thumb == PIPE_LIVE) {
        f->thumb = PIPE_SKIPPED;
    }
    f->errors |= (e->no_thumb ? ERR_OF_THUMB : 0) | (e->no_text ? ERR_OF_MAIN : 0);
    if (e->has_record) {
        f->record_generation = e->generation;
    }
    if (state == FILE_PROCESSING && f->main && f->preview && f->thumb) {
        state = f->main == PIPE_FAILED      ? FILE_FAILED
                : f->main == PIPE_CANCELLED ? FILE_CANCELLED
                                            : FILE_DONE;
    }
    model_file_to(m, e->file, state, "end");
    if (state >= FILE_DONE && state <= FILE_QUARANTINED) {
        m->deltas[2][state]++;
    }
    ret_end->file_state = state;
}

static void end_record(struct end *e)
{
    struct model *m = e->m;
    const json_t *record = json_object_get(e->o, "record");

    for (size_t i = 0; i < m->n_records;) {
        if (m->records[i].file == e->file && m->records[i].generation < e->generation) {
            m->records[i] = m->records[--m->n_records];
        } else {
            i++;
        }
    }
    m->records = model_grow(m->records, &m->cap_records, m->n_records, sizeof(*m->records));
    m->records[m->n_records++] = (struct m_record){
        .file = e->file,
        .generation = e->generation,
        .schema_version = (int)json_integer_value(json_object_get(record, "schemaVersion")),
        .doc_no = (int)json_integer_value(json_object_get(record, "docNo"))};
}

static bool record_is_there(const struct end *e)
{
    const json_t *record = json_object_get(e->o, "record");

    for (size_t i = 0; i < e->m->n_records; i++) {
        const struct m_record *r = &e->m->records[i];
        if (r->file == e->file && r->generation == e->generation &&
            r->schema_version == json_integer_value(json_object_get(record, "schemaVersion")) &&
            r->doc_no == json_integer_value(json_object_get(record, "docNo"))) {
            return true;
        }
    }
    return false;
}

static void write_letter(struct model *m, const struct m_task *t, const struct err *why)
{
    /* The attempt that ends is a failure, unless its worker was lost. */
    int last = strcmp(why->code, "crash_loop") == 0 ? 0 : 1;
    int crashes = t->attempts - t->failures - t->refunds - last;

    m->letters = model_grow(m->letters, &m->cap_letters, m->n_letters, sizeof(*m->letters));
    struct m_letter *l = &m->letters[m->n_letters++];
    *l = (struct m_letter){.file = t->file,
                           .stage = t->stage,
                           .unit = t->unit,
                           .generation = t->generation,
                           .class = why->class,
                           .attempts = t->attempts,
                           .failures = t->failures + last,
                           .crashes = crashes > 0 ? crashes : 0};
    snprintf(l->reason, sizeof(l->reason), "%s", why->code);
}

static void end_outcome(struct end *e, struct task_end *ret_end)
{
    struct model *m = e->m;
    struct m_file *f = &m->files[e->file];

    decide(e);
    if (e->how == HOW_PLAN) {
        insert_list(e, "units", ret_end);
    }
    if (e->how == HOW_END) {
        insert_list(e, "next", ret_end);
    }
    insert_list(e, "spawn", ret_end);
    f->has_pages = f->has_pages || list_len(e->o, "pages") > 0;
    end_file(e, ret_end);
    if (e->stage == STAGE_CLEAN && e->how == HOW_END && !e->dead && f->state == FILE_DELETING) {
        model_file_to(m, e->file, FILE_DELETED, "clean");
        m->deltas[FILE_DELETING + 1][FILE_DELETED]++;
    }
    if (e->has_record) {
        end_record(e);
    }
    ret_end->stage_over = e->how == HOW_END || e->how == HOW_BROKEN;
}

static int end_unit(struct model *m, const struct task_claim *claim, const json_t *outcome,
                    const struct err *dead, struct task_end *ret_end, struct err *err)
{
    struct m_task *t = held(m, &claim->key, claim->token);
    struct task_end end = {.file_state = -1};

    if (!t) {
        end.fenced = true;
        *ret_end = end;
        return 0;
    }
    struct end e = {.m = m,
                    .t = t,
                    .file = t->file,
                    .stage = t->stage,
                    .unit = t->unit,
                    .generation = t->generation,
                    .lane = t->lane,
                    .o = outcome,
                    .dead = dead != NULL};
    if (json_object_get(outcome, "record") && record_is_there(&e)) {
        return err_set(err, ERR_PERMANENT, "db_unique", "record_key");
    }
    t->lease_until = MODEL_NONE;
    model_task_to(m, t, dead ? TASK_DEAD : TASK_DONE, MODEL_NONE, dead ? "dead" : "complete");
    if (json_is_integer(json_object_get(outcome, "cost")) && !dead) {
        t->cost = (int)json_integer_value(json_object_get(outcome, "cost"));
    }
    if (dead) {
        write_letter(m, t, dead);
    }
    e.how = end_join(&e);
    end_outcome(&e, &end); /* t is stale from here on: rows may have moved */
    *ret_end = end;
    return 0;
}

int model_complete(struct model *m, const struct task_claim *claim, const char *outcome,
                   struct task_end *ret_end, struct err *err)
{
    CLEANUP(json_cleanup) json_t *o = json_loads(outcome, 0, NULL);

    if (!o) {
        return err_set(err, ERR_PERMANENT, "db_constraint", "the outcome is no JSON");
    }
    return end_unit(m, claim, o, NULL, ret_end, err);
}

int model_dead(struct model *m, const struct task_claim *claim, const struct err *why,
               struct task_end *ret_end, struct err *err)
{
    CLEANUP(json_cleanup) json_t *o = json_object();

    return end_unit(m, claim, o, why, ret_end, err);
}

bool model_ended_by(struct model *m, const struct task_claim *claim)
{
    struct m_task *t = model_task(m, &claim->key);

    return t && t->token == claim->token && (t->state == TASK_DONE || t->state == TASK_DEAD);
}

/* Back ------------------------------------------------------------------------------------------*/

bool model_put_back(struct model *m, const struct task_claim *claim, enum task_back how,
                    int64_t delay_ms, const char *ext_job_id)
{
    struct m_task *t = held(m, &claim->key, claim->token);

    if (!t) {
        return true;
    }
    t->not_before = how == TASK_BACK_DRAIN ? MODEL_NONE : m->now + delay_ms;
    t->failures += how == TASK_BACK_UNKNOWN ? 1 : 0;
    t->refunds += how == TASK_BACK_UNKNOWN ? 0 : 1;
    t->outage_retries += how == TASK_BACK_TRANSIENT ? 1 : 0;
    t->ext = ext_job_id ? 1 : t->ext;
    t->lease_until = MODEL_NONE;
    model_task_to(m, t, how == TASK_BACK_WAIT_EXT ? TASK_WAITING_EXT : TASK_PENDING,
                  how == TASK_BACK_DRAIN ? 0 : 1, "put_back");
    return false;
}

int model_hand_back(struct model *m, const struct task_key *keys, const int *seqs, size_t n)
{
    int count = 0;

    for (size_t i = 0; i < n; i++) {
        struct m_task *t = model_task(m, &keys[i]);
        if (t && t->state == TASK_DISPATCHED && t->dispatch_seq == seqs[i]) {
            model_task_to(m, t, TASK_PENDING, 0, "hand_back");
            count++;
        }
    }
    return count;
}

/* Workers ---------------------------------------------------------------------------------------*/

void model_heartbeat(struct model *m, const char *worker_id, int stage, int slots, int busy,
                     bool open, const int32_t *partitions, int n)
{
    struct m_worker *w = NULL;

    for (int i = 0; i < MODEL_WORKERS_MAX; i++) {
        if (m->workers[i].used && strcmp(m->workers[i].id, worker_id) == 0) {
            w = &m->workers[i];
            break;
        }
        w = !w && !m->workers[i].used ? &m->workers[i] : w;
    }
    if (!w) {
        return;
    }
    snprintf(w->id, sizeof(w->id), "%s", worker_id);
    w->used = true;
    w->stage = stage;
    w->slots = slots;
    w->busy = busy;
    w->open = open;
    w->seen = m->now;
    w->n_partitions = n < (int)ARRAY_LEN(w->partitions) ? n : (int)ARRAY_LEN(w->partitions);
    memcpy(w->partitions, partitions, (size_t)w->n_partitions * sizeof(*partitions));
}

void model_goodbye(struct model *m, const char *worker_id)
{
    for (int i = 0; i < MODEL_WORKERS_MAX; i++) {
        if (m->workers[i].used && strcmp(m->workers[i].id, worker_id) == 0) {
            m->workers[i].used = false;
        }
    }
}
