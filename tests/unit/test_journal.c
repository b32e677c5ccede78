/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An upload's journal: what was accepted is known again, a plan without an end comes back, a cut
 * line is no damage, and nobody else gets it meanwhile.
 */
/* SRCS: services/docfleetctl/upload_journal.c services/docfleetctl/strtab.c */
#include "services/docfleetctl/upload_journal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "services/docfleetctl/strtab.h"

#define DATASET "019a0000-0000-7000-8000-000000000001"
#define SHA "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static char path[64];
static struct err err;

static int fresh(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "/tmp/test_journal_XXXXXX");
    err = ERR_INIT;
    return mkdtemp(path) && snprintf(path + strlen(path), 16, "/j") > 0 ? 0 : -1;
}

static struct journal *reopen(bool again)
{
    struct journal *j = NULL;

    err = ERR_INIT;
    if (journal_open(path, DATASET, again, &j, &err) < 0) {
        return NULL;
    }
    return j;
}

static void plan_of(struct journal_plan *plan, struct journal_file *files, const char *const *names,
                    size_t n)
{
    *plan = (struct journal_plan){.at_ms = 12345, .files = files, .n = n};
    uuid_v7(plan->key);
    for (size_t i = 0; i < n; i++) {
        files[i] = (struct journal_file){.path = strdup(names[i]),
                                         .size = 100 + i,
                                         .mtime_ns = 1700000000123456789 + (int64_t)i};
        memcpy(files[i].sha256, SHA, sizeof(SHA));
    }
}

static void free_files(struct journal_file *files, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(files[i].path);
    }
}

static void test_goes_on(void **state)
{
    static const char *const first[] = {"/a/b.pdf", "/a/\xff odd\n\"%41\".txt", "/a/refused"};
    static const char *const second[] = {"/a/later"};
    static const bool refused[] = {false, false, true};
    struct journal_file files[3], more[1];
    struct journal_plan plan, open;
    const struct journal_plan *plans = NULL;

    (void)state;
    struct journal *j = reopen(false);
    assert_non_null(j);
    plan_of(&plan, files, first, 3);
    plan_of(&open, more, second, 1);
    assert_int_equal(journal_plan(j, &plan, &err), 0);
    assert_int_equal(journal_plan(j, &open, &err), 0);
    assert_int_equal(journal_done(j, plan.key, DATASET, refused, 3, &err), 0);
    assert_null(journal_accepted(j, first[0])); /* what this run does is its own affair */
    assert_null(reopen(false));                 /* somebody has it */
    assert_string_equal(err.code, "busy");
    journal_free(j);

    j = reopen(false);
    assert_non_null(j);
    const struct journal_file *f = journal_accepted(j, first[1]);
    assert_non_null(f); /* bytes that are no UTF-8 and percent signs come back as they were */
    assert_int_equal(f->size, 101);
    assert_int_equal(f->mtime_ns, 1700000000123456790);
    assert_string_equal(f->sha256, SHA);
    assert_non_null(journal_accepted(j, first[0]));
    assert_null(journal_accepted(j, first[2]));
    assert_null(journal_accepted(j, second[0]));
    assert_int_equal(journal_plans(j, &plans), 2);
    assert_true(plans[0].ended);
    assert_false(plans[1].ended);
    assert_string_equal(plans[1].key, open.key);
    assert_int_equal(plans[1].at_ms, 12345);
    /* the same key once more with fewer files: the older plan is over */
    assert_int_equal(journal_plan(j, &open, &err), 0);
    journal_free(j);
    j = reopen(false);
    assert_int_equal(journal_plans(j, &plans), 3);
    assert_true(plans[1].ended && !plans[2].ended);
    assert_int_equal(journal_drop(j, open.key, &err), 0);
    journal_free(j);
    j = reopen(false);
    assert_int_equal(journal_plans(j, &plans), 3);
    assert_true(plans[2].ended);
    assert_null(journal_accepted(j, second[0]));
    journal_free(j);

    j = reopen(true); /* --again */
    assert_non_null(j);
    assert_int_equal(journal_plans(j, &plans), 0);
    assert_null(journal_accepted(j, first[0]));
    journal_free(j);
    free_files(files, 3);
    free_files(more, 1);
}

static void append_text(const char *text)
{
    FILE *f = fopen(path, "ae");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_cut_and_damage(void **state)
{
    static const char *const names[] = {"/x"};
    static const bool none[] = {false};
    const struct journal_plan *plans = NULL;
    struct journal_file files[1];
    struct journal_plan plan;
    struct stat before, after;

    (void)state;
    struct journal *j = reopen(false);
    plan_of(&plan, files, names, 1);
    assert_int_equal(journal_plan(j, &plan, &err), 0);
    journal_free(j);
    assert_int_equal(stat(path, &before), 0);
    append_text("{\"done\":\"");
    j = reopen(false); /* a crash cut the line: the plan is open, and the rest goes */
    assert_non_null(j);
    assert_int_equal(journal_plans(j, &plans), 1);
    assert_false(plans[0].ended);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_size, after.st_size);
    assert_int_equal(journal_done(j, plan.key, "", none, 1, &err), 0);
    journal_free(j);
    j = reopen(false);
    assert_non_null(journal_accepted(j, "/x"));
    journal_free(j);
    append_text("{\"done\":\"nobody\"}\n"); /* a whole line that makes no sense is told */
    assert_null(reopen(false));
    assert_string_equal(err.code, "journal");
    assert_non_null(strstr(err.msg, "line 4"));
    free_files(files, 1);
}

static void test_of_another(void **state)
{
    struct journal *j = reopen(false);

    (void)state;
    journal_free(j);
    j = NULL;
    assert_int_equal(journal_open(path, "019a0000-0000-7000-8000-000000000002", false, &j, &err),
                     -1);
    assert_string_equal(err.code, "usage");
}

static void test_place(void **state)
{
    char home[64], one[256], two[256], root[] = "/data/in", other[] = "/data/out";
    char *roots[] = {root, other};
    struct stat st;

    (void)state;
    snprintf(home, sizeof(home), "%.*s", (int)(strlen(path) - 2), path);
    unsetenv("XDG_STATE_HOME");
    setenv("HOME", home, 1);
    assert_int_equal(journal_default_path(DATASET, roots, 1, one, sizeof(one), &err), 0);
    assert_int_equal(journal_default_path(DATASET, roots, 2, two, sizeof(two), &err), 0);
    assert_string_not_equal(one, two);
    assert_int_equal(strncmp(one, home, strlen(home)), 0);
    *strrchr(one, '/') = '\0';
    assert_int_equal(stat(one, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    setenv("HOME", "", 1);
    assert_int_equal(journal_default_path(DATASET, roots, 1, one, sizeof(one), &err), -1);
}

static void test_strtab(void **state)
{
    struct strtab tab = STRTAB_INIT;
    char key[32];
    size_t value = 0;

    (void)state;
    assert_false(strtab_get(&tab, "x", &value));
    for (size_t i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "key %zu", i);
        assert_int_equal(strtab_put(&tab, key, i, &err), 0);
    }
    assert_int_equal(strtab_put(&tab, "key 7", 70, &err), 0);
    assert_int_equal(tab.n, 5000);
    for (size_t i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "key %zu", i);
        assert_true(strtab_get(&tab, key, &value));
        assert_int_equal(value, i == 7 ? 70 : i);
    }
    assert_false(strtab_get(&tab, "key 5000", &value));
    strtab_done(&tab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_goes_on, fresh),
        cmocka_unit_test_setup(test_cut_and_damage, fresh),
        cmocka_unit_test_setup(test_of_another, fresh),
        cmocka_unit_test_setup(test_place, fresh),
        cmocka_unit_test(test_strtab),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
