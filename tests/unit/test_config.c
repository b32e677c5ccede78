/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings: every mistake is told at once, unknown names are refused, secrets are never printed.
 */
#include "libcommon/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct settings {
    char *listen, *secret, *mode;
    int64_t slots, lease, size;
    bool flag;
};

static struct settings settings;

#define AT(field) offsetof(struct settings, field)
static const struct option_def defs[] = {
    {"LISTEN", OPTION_STRING, AT(listen), "127.0.0.1:8080", 0, 0, NULL, "address"},
    {"API_KEY", OPTION_SECRET, AT(secret), NULL, 0, 0, NULL, "the key"},
    {"SLOTS", OPTION_INT, AT(slots), "4", 1, 64, NULL, "slots"},
    {"LEASE", OPTION_DURATION, AT(lease), "15s", 1000, 60000, NULL, "lease"},
    {"MAX_FILE_SIZE", OPTION_SIZE, AT(size), "5GiB", 0, 0, NULL, "largest file"},
    {"SCHEDULING", OPTION_ENUM, AT(mode), "fair", 0, 0, "fair|fifo", "how"},
    {"SHARED", OPTION_BOOL, AT(flag), "false", 0, 0, NULL, "flag"},
};
static const struct option_table table = {defs, ARRAY_LEN(defs), &settings};

static const char *const names[] = {
    "LISTEN",       "API_KEY", "API_KEY_FILE", "SLOTS", "LEASE",    "MAX_FILE_SIZE",
    "SCHEDULING",   "SHARED",  "CONFIG",       "SLOTZ", "AI_MODEL", "S3_SECRET_KEY_FILE",
    "TEST_ANYTHING"};
static char complaints[8192];
static struct err err;

static int clean(void **state)
{
    char name[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(name, sizeof(name), "DOCFLEET_%s", names[i]);
        unsetenv(name);
    }
    free(settings.listen);
    free(settings.secret);
    free(settings.mode);
    settings = (struct settings){0};
    return 0;
}

static int load_with(int argc, const char *const *words, enum config_action *action)
{
    FILE *out = tmpfile();
    char text[4][256], *argv[4] = {NULL};

    for (int i = 0; i < argc; i++) {
        snprintf(text[i], sizeof(text[i]), "%s", words[i]);
        argv[i] = text[i];
    }
    assert_non_null(out);
    err = ERR_INIT;
    int rc = config_load("prog", argc, argv, &table, 1, out, action, &err);
    rewind(out);
    complaints[fread(complaints, 1, sizeof(complaints) - 1, out)] = '\0';
    fclose(out);
    return rc;
}

static int load(void)
{
    const char *argv[] = {"prog", NULL};
    enum config_action action;
    int rc = load_with(1, argv, &action);

    assert_int_equal(action, rc == 0 ? CONFIG_RUN : CONFIG_EXIT);
    return rc;
}

static size_t lines(const char *text)
{
    size_t n = 0;

    for (; *text; text++) {
        n += *text == '\n';
    }
    return n;
}

static void write_file(char *path, const char *text)
{
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void test_defaults(void **state)
{
    (void)state;
    setenv("DOCFLEET_API_KEY", "k", 1);
    assert_int_equal(load(), 0);
    assert_string_equal(settings.listen, "127.0.0.1:8080");
    assert_string_equal(settings.secret, "k");
    assert_string_equal(settings.mode, "fair");
    assert_int_equal(settings.slots, 4);
    assert_int_equal(settings.lease, 15000);
    assert_true(settings.size == 5LL << 30);
    assert_false(settings.flag);
    assert_string_equal(complaints, "");
}

static void test_all_at_once(void **state)
{
    (void)state;
    setenv("DOCFLEET_SLOTS", "65", 1);
    setenv("DOCFLEET_LEASE", "15", 1);
    setenv("DOCFLEET_MAX_FILE_SIZE", "1 GiB", 1);
    setenv("DOCFLEET_SCHEDULING", "random", 1);
    setenv("DOCFLEET_SHARED", "yes", 1);
    setenv("DOCFLEET_SLOTZ", "1", 1);
    assert_int_equal(load(), -1); /* and API_KEY is missing */
    assert_int_equal(err.class, ERR_FATAL);
    assert_string_equal(err.code, "invalid_config");
    assert_int_equal(lines(complaints), 7);
    assert_non_null(strstr(complaints, "DOCFLEET_SLOTS: out of range"));
    assert_non_null(strstr(complaints, "DOCFLEET_LEASE: not a duration"));
    assert_non_null(strstr(complaints, "DOCFLEET_MAX_FILE_SIZE: not a size"));
    assert_non_null(strstr(complaints, "DOCFLEET_SCHEDULING: not one of the choices"));
    assert_non_null(strstr(complaints, "DOCFLEET_SHARED: neither true nor false"));
    assert_non_null(strstr(complaints, "DOCFLEET_SLOTZ: no program of docfleet"));
    assert_non_null(strstr(complaints, "DOCFLEET_API_KEY: required and not set"));
}

static void test_choices(void **state)
{
    static const char *const bad[] = {"", "fai", "fairr", "fair|fifo", "|", "FAIR"};

    (void)state;
    setenv("DOCFLEET_API_KEY", "k", 1);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        setenv("DOCFLEET_SCHEDULING", bad[i], 1);
        assert_int_equal(load(), -1);
    }
    setenv("DOCFLEET_SCHEDULING", "fifo", 1);
    assert_int_equal(load(), 0);
    assert_string_equal(settings.mode, "fifo");
}

static void test_names_of_others(void **state)
{
    (void)state;
    setenv("DOCFLEET_API_KEY", "k", 1);
    setenv("DOCFLEET_AI_MODEL", "m", 1);
    setenv("DOCFLEET_S3_SECRET_KEY_FILE", "/nowhere", 1);
    setenv("DOCFLEET_TEST_ANYTHING", "x", 1);
    assert_int_equal(load(), 0);
    assert_true(config_name_known("KAFKA_BROKERS"));
    assert_true(config_name_known("API_KEY"));
    assert_false(config_name_known("kafka_brokers"));
    assert_false(config_name_known("DOCFLEET_API_KEY"));
    assert_false(config_name_known(""));
}

static void test_secret_file(void **state)
{
    char path[] = "/tmp/test_config_XXXXXX";

    (void)state;
    write_file(path, "from file\r\n");
    setenv("DOCFLEET_API_KEY_FILE", path, 1);
    assert_int_equal(load(), 0);
    assert_string_equal(settings.secret, "from file");
    unlink(path);
    assert_int_equal(load(), -1); /* gone */
    assert_non_null(strstr(complaints, "DOCFLEET_API_KEY: "));
    setenv("DOCFLEET_API_KEY_FILE", "/tmp", 1); /* a folder is no empty secret */
    assert_int_equal(load(), -1);
}

static void test_file(void **state)
{
    char path[] = "/tmp/test_config_XXXXXX", bad[] = "/tmp/test_config_XXXXXX";
    const char *argv[] = {"prog", "--config", path, NULL};
    enum config_action action;

    (void)state;
    write_file(path, "# comment\n\n  SLOTS=7  \nDOCFLEET_LISTEN=[::1]:80\r\nAPI_KEY=a=b\n"
                     "SCHEDULING=fifo\n");
    setenv("DOCFLEET_SCHEDULING", "fair", 1);
    assert_int_equal(load_with(3, argv, &action), 0);
    assert_int_equal(settings.slots, 7);
    assert_string_equal(settings.listen, "[::1]:80");
    assert_string_equal(settings.secret, "a=b");
    assert_string_equal(settings.mode, "fair"); /* the environment wins */
    write_file(bad, "no equals sign\nSLOTZ=1\nSLOTS=many\n");
    setenv("DOCFLEET_CONFIG", bad, 1);
    setenv("DOCFLEET_API_KEY", "k", 1);
    assert_int_equal(load(), -1);
    assert_int_equal(lines(complaints), 3);
    setenv("DOCFLEET_CONFIG", "/nonexistent/file", 1);
    assert_int_equal(load(), -1);
    unlink(path);
    unlink(bad);
}

static void test_units(void **state)
{
    static const char *const bad[] = {"",     "s",
                                      "-1s",  "1 s",
                                      "1.5s", "1S",
                                      "15",   "9999999999999999d",
                                      "1s2m", "99999999999999999999s"};
    int64_t n = -7;

    (void)state;
    assert_int_equal(config_parse_duration("500ms", &n), 0);
    assert_true(n == 500);
    assert_int_equal(config_parse_duration("2m", &n), 0);
    assert_true(n == 120000);
    assert_int_equal(config_parse_duration("7d", &n), 0);
    assert_true(n == 604800000);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(config_parse_duration(bad[i], &n), -1);
        assert_true(n == 604800000);
    }
    assert_int_equal(config_parse_size("100kB", &n), 0);
    assert_true(n == 100000);
    assert_int_equal(config_parse_size("512MiB", &n), 0);
    assert_true(n == 512LL << 20);
    assert_int_equal(config_parse_size("17", &n), 0);
    assert_true(n == 17);
    assert_int_equal(config_parse_size("1TiB", &n), -1);
    assert_int_equal(config_parse_size("9999999999GiB", &n), -1);
}

/* What a call prints to stdout. */
static char *printed(const char *flag, int *ret_rc)
{
    static char text[16384];
    const char *argv[] = {"prog", flag, NULL};
    enum config_action action;
    FILE *out = tmpfile();

    assert_non_null(out);
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    dup2(fileno(out), STDOUT_FILENO);
    *ret_rc = load_with(2, argv, &action);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    assert_int_equal(action, CONFIG_EXIT);
    rewind(out);
    text[fread(text, 1, sizeof(text) - 1, out)] = '\0';
    fclose(out);
    return text;
}

static void test_print(void **state)
{
    int rc;

    (void)state;
    setenv("DOCFLEET_API_KEY", "hush-hush", 1);
    const char *text = printed("--print-config", &rc);
    assert_int_equal(rc, 0);
    assert_null(strstr(text, "hush"));
    assert_non_null(strstr(text, "DOCFLEET_API_KEY=***\n"));
    assert_non_null(strstr(text, "DOCFLEET_LEASE=15000ms\n"));
    assert_non_null(strstr(text, "DOCFLEET_SHARED=false\n"));
    assert_int_equal(lines(text), ARRAY_LEN(defs));
    unsetenv("DOCFLEET_API_KEY");
    text = printed("--help", &rc); /* help needs no settings */
    assert_int_equal(rc, 0);
    assert_non_null(strstr(text, "DOCFLEET_API_KEY"));
    text = printed("--print-docs", &rc);
    assert_int_equal(rc, 0);
    assert_non_null(strstr(text, "| `DOCFLEET_SCHEDULING` | `fair` | how (fair|fifo) |"));
    free(settings.secret);
    settings.secret = NULL;
    printed("--print-config", &rc);
    assert_int_equal(rc, -1);
    printed("--nonsense", &rc);
    assert_int_equal(rc, -1);
    assert_string_equal(err.code, "usage");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, clean, clean),
        cmocka_unit_test_setup_teardown(test_all_at_once, clean, clean),
        cmocka_unit_test_setup_teardown(test_choices, clean, clean),
        cmocka_unit_test_setup_teardown(test_names_of_others, clean, clean),
        cmocka_unit_test_setup_teardown(test_secret_file, clean, clean),
        cmocka_unit_test_setup_teardown(test_file, clean, clean),
        cmocka_unit_test_setup_teardown(test_units, clean, clean),
        cmocka_unit_test_setup_teardown(test_print, clean, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
