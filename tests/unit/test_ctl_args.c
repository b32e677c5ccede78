/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of docfleetctl hold together, words are read by them, profiles win where they should.
 */
/* SRCS: services/docfleetctl/args.c services/docfleetctl/help.c services/docfleetctl/manual.c */
/* SRCS: services/docfleetctl/completion.c services/docfleetctl/profile.c tests/unit/ctl_stubs.c */
/* SRCS: services/docfleetctl/commands_user.c services/docfleetctl/commands_ops.c */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "libcommon/buf.h"
#include "services/docfleetctl/ctl.h"

static struct err err;
static struct ctl ctl;
static char *words[32];

/* Sorts the words after the command by its table. */
static int parse(const char *command, const char *rest)
{
    static char text[2048];
    int n = 0, used = 0;
    char *save = NULL;

    ctl = (struct ctl){.argc = 0};
    err = ERR_INIT;
    snprintf(text, sizeof(text), "%s %s", command, rest);
    for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        words[n++] = w;
    }
    ctl.command = ctl_command_find(n, words, &used);
    return ctl_parse(&ctl, n - used, words + used, &err);
}

static bool lower(const char *text)
{
    return *text && !isupper((unsigned char)text[0]) && text[strlen(text) - 1] != '.';
}

static void check_opt(const struct ctl_opt *opt)
{
    assert_true(strncmp(opt->name, "--", 2) == 0);
    assert_true(lower(opt->help) || strncmp(opt->help, "CSV", 3) == 0);
    assert_true(opt->value || (!opt->choices && !opt->required));
    for (const char *v = opt->value; v && *v; v++) {
        assert_true(isupper((unsigned char)*v) || strchr("_:", *v));
    }
}

static void test_table(void **state)
{
    const struct ctl_command *c, *other;

    (void)state;
    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        char *argv[] = {(char *)(uintptr_t)c->words[0], (char *)(uintptr_t)c->words[1]};
        int used = 0;
        assert_non_null(c->run);
        assert_true(lower(c->help));
        assert_true(c->min <= c->max);
        assert_true((c->args != NULL) == (c->max > 0));
        /* each is found, so no other hides it */
        assert_ptr_equal(ctl_command_find(c->words[1] ? 2 : 1, argv, &used), c);
        for (size_t k = 0; k < i; k++) {
            other = ctl_command_at(k);
            /* a word is a command or a group, never both */
            assert_false(!other->words[1] != !c->words[1] &&
                         strcmp(other->words[0], c->words[0]) == 0);
        }
        for (const struct ctl_opt *opt = c->opts; opt && opt->name; opt++) {
            check_opt(opt);
            assert_ptr_equal(ctl_opt_find(c->opts, opt->name, strlen(opt->name)), opt);
        }
    }
    for (const struct ctl_opt *opt = ctl_global_opts; opt->name; opt++) {
        check_opt(opt);
    }
}

static void test_words(void **state)
{
    int64_t n = 0;

    (void)state;
    assert_int_equal(parse("upload", "--dataset D a --parallel=7 b -- --c"), 0);
    assert_string_equal(ctl_option(&ctl, "--dataset"), "D");
    assert_int_equal(ctl.argc, 3);
    assert_string_equal(ctl.argv[2], "--c");
    assert_false(ctl_flag(&ctl, "--again"));
    assert_int_equal(ctl_number(&ctl, "--parallel", 1, 16, 3, &n, &err), 0);
    assert_int_equal(n, 7);
    assert_int_equal(ctl_number(&ctl, "--parallel", 1, 4, 3, &n, &err), -1);
    assert_string_equal(err.code, "usage");
    assert_int_equal(parse("dataset create", "- -"), 0); /* a dash is a file */
    assert_int_equal(parse("status", "--json --dataset A --dataset B --url=http://x/"), 0);
    assert_string_equal(ctl_option(&ctl, "--dataset"), "B");
    assert_string_equal(ctl_option(&ctl, "--url"), "http://x/");
}

static void test_refused(void **state)
{
    static const char *const wrong[][2] = {
        {"upload", "a"},                              /* --dataset is needed */
        {"upload", "--dataset D"},                    /* a path, too */
        {"upload", "--dataset"},                      /* its value */
        {"upload", "--dataset D --agian a"},          /* a typing mistake */
        {"upload", "--dataset D --again=yes a"},      /* a switch has no value */
        {"record", "a b"},                            /* too much */
        {"status", "x"},                              /* takes none */
        {"export records", "--dataset D --format x"}, /* not a choice */
        {"export records", "--dataset D --format csv|ndjson"},
        {"dead-letters list", "--state ope"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(parse(wrong[i][0], wrong[i][1]), -1);
        assert_string_equal(err.code, "usage");
        assert_int_equal(ctl_exit_of(&err), CTL_USAGE);
    }
}

static void test_exit(void **state)
{
    static const struct {
        enum err_class class;
        const char *code;
        int exit;
    } cases[] = {
        {ERR_PERMANENT, "not_found", CTL_NOT_FOUND},
        {ERR_PERMANENT, "forbidden", CTL_NOT_ALLOWED},
        {ERR_PERMANENT, "no_key", CTL_NOT_ALLOWED},
        {ERR_TRANSIENT, "http_connect", CTL_UNAVAILABLE},
        {ERR_TRANSIENT, "overloaded", CTL_UNAVAILABLE},
        {ERR_PERMANENT, "partly", CTL_PARTLY},
        {ERR_TRANSIENT, "aborted", CTL_INTERRUPTED},
        {ERR_FATAL, "invalid_config", CTL_USAGE},
        {ERR_UNKNOWN, "anything", CTL_FAILED},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = ERR_INIT;
        err_set(&e, cases[i].class, cases[i].code, "why");
        assert_int_equal(ctl_exit_of(&e), cases[i].exit);
        assert_true(*ctl_exit_text((enum ctl_exit)cases[i].exit));
    }
}

/* Every command and option is in the manual and in each completion. */
static void test_texts(void **state)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    struct buf text[4];
    const struct ctl_command *c;

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(text); k++) {
        buf_init(&text[k], 1 << 20);
        assert_int_equal(
            k < 3 ? ctl_completion(shells[k], &text[k], &err) : ctl_manual(&text[k], &err), 0);
        for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
            const char *last = c->words[c->words[1] ? 1 : 0];
            assert_non_null(strstr(text[k].data, strchr(last, '-') ? "-" : last));
            for (const struct ctl_opt *opt = c->opts; opt && opt->name; opt++) {
                /* the manual writes a minus as \-, fish without the two in front */
                const char *word = opt->name + 2;
                assert_non_null(strstr(text[k].data, strchr(word, '-') ? "-" : word));
            }
        }
        buf_done(&text[k]);
    }
    buf_init(&text[0], 1 << 20);
    assert_int_equal(ctl_completion("tcsh", &text[0], &err), -1);
    buf_done(&text[0]);
}

/* Profiles --------------------------------------------------------------------------------------*/

static char seen[512];

static int note(void *ctx, const char *name, const char *value, struct err *e)
{
    size_t n = strlen(seen);

    (void)ctx, (void)e;
    snprintf(seen + n, sizeof(seen) - n, "%s=%s;", name, value);
    return 0;
}

static int profile(const char *text, const char *name, bool *found)
{
    char copy[512];

    seen[0] = '\0';
    err = ERR_INIT;
    snprintf(copy, sizeof(copy), "%s", text);
    return profile_parse(copy, name, note, NULL, found, &err);
}

static void test_profile_text(void **state)
{
    static const char text[] = "# mine\n url = http://a \napi_key=k=1\n\n[two]\nurl=http://b\r\n"
                               "[ three ]\nadmin_key_file = ~/k\n";
    bool found = false;

    (void)state;
    assert_int_equal(profile(text, "default", &found), 0);
    assert_true(found);
    assert_string_equal(seen, "url=http://a;api_key=k=1;");
    assert_int_equal(profile(text, "two", &found), 0);
    assert_string_equal(seen, "url=http://b;");
    assert_int_equal(profile(text, "three", &found), 0);
    assert_string_equal(seen, "admin_key_file=~/k;");
    assert_int_equal(profile(text, "four", &found), 0);
    assert_false(found);
    assert_int_equal(profile("[two]\npassword=x\n", "default", &found), -1); /* a typing mistake */
    assert_int_equal(profile("url\n", "default", &found), -1);
    assert_int_equal(profile("[two\n", "default", &found), -1);
    assert_string_equal(err.code, "invalid_config");
}

static void write_config(const char *folder, const char *text, mode_t mode)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/docfleet", folder);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/docfleet/config", folder);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static void test_profile_file(void **state)
{
    char folder[] = "/tmp/test_ctl_XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(folder));
    setenv("XDG_CONFIG_HOME", folder, 1);
    setenv("HOME", "/home/somebody", 1);
    unsetenv("DOCFLEET_URL");
    unsetenv("DOCFLEET_API_KEY");
    unsetenv("DOCFLEET_API_KEY_FILE");
    err = ERR_INIT;
    assert_int_equal(profile_load(NULL, &err), 0); /* none is fine */
    assert_int_equal(profile_load("two", &err), -1);
    write_config(folder, "url=http://a\napi_key_file=~/key\n", 0644);
    assert_int_equal(profile_load(NULL, &err), -1); /* open to others */
    assert_non_null(strstr(err.msg, "chmod 600"));
    write_config(folder, "url=http://a\napi_key_file=~/key\n", 0600);
    assert_int_equal(profile_load("default", &err), 0);
    assert_string_equal(getenv("DOCFLEET_URL"), "http://a");
    assert_string_equal(getenv("DOCFLEET_API_KEY_FILE"), "/home/somebody/key");
    /* the environment wins, a key in either form */
    setenv("DOCFLEET_URL", "http://mine", 1);
    unsetenv("DOCFLEET_API_KEY_FILE");
    setenv("DOCFLEET_API_KEY", "k", 1);
    assert_int_equal(profile_load("default", &err), 0);
    assert_string_equal(getenv("DOCFLEET_URL"), "http://mine");
    assert_null(getenv("DOCFLEET_API_KEY_FILE"));
    write_config(folder, "", 0600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),        cmocka_unit_test(test_words),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_exit),
        cmocka_unit_test(test_texts),        cmocka_unit_test(test_profile_text),
        cmocka_unit_test(test_profile_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
