/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives random operations through the production statements against a real, migrated database and
 * through the model, and compares every answer and, after each step, every row. So what the
 * simulator shows of the model holds for the SQL, and a change to one that the other does not share
 * is found here.
 *
 *   model_check --seed S --steps N      (DOCFLEET_DATABASE_URL: an empty, migrated database)
 *
 * Time is kept out: leases and delays are either over at once or far away.
 */
#include "tests/sim/model_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/fiber.h"

struct db *db;
struct model m;
char step_name[200];
static int differences;

void differs(const char *fmt, ...)
{
    va_list args;

    differences++;
    printf("after %s: ", step_name);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
}

void must(int r, const struct err *err)
{
    if (r < 0) {
        printf("%s: %s: %s\n", step_name, err->code, err->msg);
        exit(2);
    }
}

void same(const char *what, int64_t real, int64_t model)
{
    if (real != model) {
        differs("%s: %lld in the database, %lld in the model", what, (long long)real,
                (long long)model);
    }
}

static PGresult *rows_of(const char *sql)
{
    PGresult *res = NULL;
    struct err err;

    must(db_run(db, sql, 0, NULL, &res, &err), &err);
    return res;
}

/* Comparing rows --------------------------------------------------------------------------------*/

static void compare_tasks(void)
{
    static const char sql[] =
        "SELECT file_id, stage, unit, generation, state, coalesce(q, -1), lane, cost, dispatch_seq,"
        " attempts, failures, refunds, outage_retries, lease_token, seq,"
        " CASE WHEN lease_until IS NULL THEN 0 WHEN lease_until < now() THEN 1 ELSE 2 END,"
        " CASE WHEN not_before IS NULL THEN 0 WHEN not_before <= now() THEN 1 ELSE 2 END,"
        " (ext_job_id IS NOT NULL)::int, user_id FROM task";
    CLEANUP(db_result_cleanup) PGresult *res = rows_of(sql);

    same("number of tasks", PQntuples(res), (int64_t)m.n_tasks);
    for (int row = 0; row < PQntuples(res); row++) {
        struct task_key key = {.stage = (int)db_i64(res, row, 1),
                               .unit = (int)db_i64(res, row, 2),
                               .generation = (int)db_i64(res, row, 3)};
        snprintf(key.file_id, UUID_TEXT, "%s", PQgetvalue(res, row, 0));
        struct m_task *t = model_task(&m, &key);
        if (!t) {
            differs("task %s %d %d %d is not in the model", key.file_id, key.stage, key.unit,
                    key.generation);
            continue;
        }
        const int64_t mine[] = {t->state,
                                t->q,
                                t->lane,
                                t->cost,
                                t->dispatch_seq,
                                t->attempts,
                                t->failures,
                                t->refunds,
                                t->outage_retries,
                                t->token,
                                db_i64(res, row, 14), /* only its order counts */
                                t->lease_until == MODEL_NONE ? 0
                                : t->lease_until < m.now     ? 1
                                                             : 2,
                                t->not_before == MODEL_NONE ? 0
                                : t->not_before <= m.now    ? 1
                                                            : 2,
                                t->ext};
        static const char *const names[] = {"state",          "q",           "lane",     "cost",
                                            "dispatch_seq",   "attempts",    "failures", "refunds",
                                            "outage_retries", "lease_token", "seq",      "lease",
                                            "later",          "ext"};
        for (size_t i = 0; i < ARRAY_LEN(mine); i++) {
            if (db_i64(res, row, 4 + (int)i) != mine[i]) {
                differs("task %s stage %d unit %d gen %d: %s is %s, in the model %lld",
                        key.file_id + 30, key.stage, key.unit, key.generation, names[i],
                        PQgetvalue(res, row, 4 + (int)i), (long long)mine[i]);
            }
        }
        same("user", model_index(PQgetvalue(res, row, 18)), t->user);
        t->seq = db_i64(res, row, 14);
    }
}

static void compare_joins(void)
{
    CLEANUP(db_result_cleanup)
    PGresult *res =
        rows_of("SELECT file_id, stage, generation, total, left_, failed FROM stage_join");

    same("number of joins", PQntuples(res), (int64_t)m.n_joins);
    for (int row = 0; row < PQntuples(res); row++) {
        const struct m_join *j = model_join(&m, model_index(PQgetvalue(res, row, 0)),
                                            (int)db_i64(res, row, 1), (int)db_i64(res, row, 2));
        if (!j) {
            differs("a join is not in the model");
            continue;
        }
        same("join total", db_i64(res, row, 3), j->total);
        same("join left", db_i64(res, row, 4), j->left);
        same("join failed", db_i64(res, row, 5), j->failed);
    }
}

static void compare_files(void)
{
    CLEANUP(db_result_cleanup)
    PGresult *res = rows_of("SELECT file_id, generation, coalesce(record_generation, -1), state,"
                            " main_state, preview_state, thumb_state, (errors ? 'main')::int +"
                            " 2 * (errors ? 'preview')::int + 4 * (errors ? 'thumbnail')::int,"
                            " (deleted_at IS NOT NULL)::int FROM file");
    static const char *const names[] = {
        "generation", "record_generation", "state", "main", "preview", "thumb", "errors"};

    same("number of files", PQntuples(res), (int64_t)m.n_files);
    for (int row = 0; row < PQntuples(res); row++) {
        int file = model_index(PQgetvalue(res, row, 0));
        if (file < 0 || (size_t)file >= m.n_files) {
            differs("a file is not in the model");
            continue;
        }
        const struct m_file *f = &m.files[file];
        const int64_t mine[] = {f->generation, f->record_generation, f->state,
                                f->main,       f->preview,           f->thumb,
                                f->errors};
        for (size_t i = 0; i < ARRAY_LEN(mine); i++) {
            if (db_i64(res, row, 1 + (int)i) != mine[i]) {
                differs("file %d: %s is %s, in the model %lld", file, names[i],
                        PQgetvalue(res, row, 1 + (int)i), (long long)mine[i]);
            }
        }
        same("deleted_at", db_i64(res, row, 8), f->state >= FILE_DELETING);
    }
}

static void compare_records(void)
{
    CLEANUP(db_result_cleanup)
    PGresult *res = rows_of("SELECT file_id, generation, schema_version, doc_no FROM record");

    same("number of records", PQntuples(res), (int64_t)m.n_records);
    for (int row = 0; row < PQntuples(res); row++) {
        bool found = false;
        for (size_t i = 0; i < m.n_records; i++) {
            const struct m_record *r = &m.records[i];
            found = found ||
                    (r->file == model_index(PQgetvalue(res, row, 0)) &&
                     r->generation == db_i64(res, row, 1) &&
                     r->schema_version == db_i64(res, row, 2) && r->doc_no == db_i64(res, row, 3));
        }
        if (!found) {
            differs("a record of %s generation %s is not in the model", PQgetvalue(res, row, 0),
                    PQgetvalue(res, row, 1));
        }
    }
}

static void compare_letters(void)
{
    CLEANUP(db_result_cleanup)
    PGresult *res = rows_of("SELECT file_id, stage, unit, generation, attempts, failures, crashes,"
                            " array_position(ARRAY['open','replayed','discarded'], state) - 1,"
                            " class, reason FROM dead_letter");

    same("number of letters", PQntuples(res), (int64_t)m.n_letters);
    for (int row = 0; row < PQntuples(res); row++) {
        int n = 0;
        for (size_t i = 0; i < m.n_letters; i++) {
            const struct m_letter *l = &m.letters[i];
            n += l->file == model_index(PQgetvalue(res, row, 0)) &&
                 l->stage == db_i64(res, row, 1) && l->unit == db_i64(res, row, 2) &&
                 l->generation == db_i64(res, row, 3) && l->attempts == db_i64(res, row, 4) &&
                 l->failures == db_i64(res, row, 5) && l->crashes == db_i64(res, row, 6) &&
                 l->state == db_i64(res, row, 7) &&
                 strcmp(err_class_name(l->class), PQgetvalue(res, row, 8)) == 0 &&
                 strcmp(l->reason, PQgetvalue(res, row, 9)) == 0;
        }
        if (n == 0) {
            differs("letter of %s stage %s unit %s gen %s, state %s, %s attempts, is not in the "
                    "model",
                    PQgetvalue(res, row, 0) + 30, PQgetvalue(res, row, 1), PQgetvalue(res, row, 2),
                    PQgetvalue(res, row, 3), PQgetvalue(res, row, 7), PQgetvalue(res, row, 4));
        }
    }
}

static void compare_counts(void)
{
    CLEANUP(db_result_cleanup)
    PGresult *res = rows_of("SELECT coalesce(from_state, -1), to_state, sum(n) FROM count_delta"
                            " GROUP BY 1, 2");
    int64_t left[9][9];

    memcpy(left, m.deltas, sizeof(left));
    for (int row = 0; row < PQntuples(res); row++) {
        left[db_i64(res, row, 0) + 1][db_i64(res, row, 1)] -= db_i64(res, row, 2);
    }
    for (int from = 0; from < 9; from++) {
        for (int to = 0; to < 9; to++) {
            if (left[from][to] != 0) {
                differs("count_delta %d to %d: the model has %lld more", from - 1, to,
                        (long long)left[from][to]);
            }
        }
    }
}

static void compare_all(void)
{
    compare_tasks();
    compare_joins();
    compare_files();
    compare_records();
    compare_letters();
    compare_counts();
    if (m.broken[0]) {
        differs("the model breaks a rule: %s", m.broken);
        m.broken[0] = '\0';
    }
}

static void set_up(const char *url)
{
    const struct db_config config = {
        .url = url, .application_name = "model_check", .max_conns = 2, .generic_plans = true};
    struct err err;

    must(db_open(&config, &db, &err), &err);
    for (int u = 0; u < USERS; u++) {
        char id[UUID_TEXT], name[16];
        model_user_id(u, id);
        snprintf(name, sizeof(name), "user %d", u);
        const char *params[] = {id, name};
        must(db_run(db, "INSERT INTO account (user_id, name) VALUES ($1::uuid, $2)", 2, params,
                    NULL, &err),
             &err);
    }
    char user[UUID_TEXT];
    model_user_id(0, user);
    const char *params[] = {DATASET, user};
    must(db_run(db,
                "INSERT INTO dataset (dataset_id, user_id, name) VALUES ($1::uuid, $2::uuid,"
                " 'checked')",
                2, params, NULL, &err),
         &err);
}

int main(int argc, char **argv)
{
    const char *url = getenv("DOCFLEET_DATABASE_URL");
    uint64_t seed = 1;
    long steps = 500;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--steps") == 0) {
            steps = strtol(argv[i + 1], NULL, 10);
        }
    }
    if (!url) {
        fprintf(stderr, "model_check: DOCFLEET_DATABASE_URL names a migrated, empty database\n");
        return 2;
    }
    fiber_reset(seed);
    model_reset(&m);
    set_up(url);
    for (long i = 0; i < steps && differences == 0; i++) {
        m.now = clock_wall_ms();
        one_step(i);
        m.now = clock_wall_ms() + 1;
        compare_all();
    }
    printf(
        "model_check: seed %llu, %ld steps, %zu files, %zu tasks, %zu letters, %zu changes: %s\n",
        (unsigned long long)seed, steps, m.n_files, m.n_tasks, m.n_letters, m.n_changes,
        differences ? "DIFFERS" : "no difference");
    db_free(db);
    return differences ? 1 : 0;
}
