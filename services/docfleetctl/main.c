/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl: finds the command, reads the settings, runs it.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libcommon/buf.h"
#include "libcommon/log.h"
#include "services/docfleetctl/ctl.h"

#define OPT(field) offsetof(struct ctl_options, field)

const struct option_def ctl_option_defs[] = {
    {"URL", OPTION_STRING, OPT(url), "http://127.0.0.1:8080", 0, 0, NULL, "address of the gateway"},
    {"URL_CA_FILE", OPTION_STRING, OPT(url_ca_file), "", 0, 0, NULL,
     "certificates (PEM) that the gateway's must come from; empty: the system's"},
    {"PROFILE", OPTION_STRING, OPT(profile), "", 0, 0, NULL,
     "section of ~/.config/docfleet/config to take settings from; empty: default"},
    {"API_KEY", OPTION_SECRET, OPT(api_key), "", 0, 0, NULL, "key for the user's commands"},
    {"ADMIN_KEY", OPTION_SECRET, OPT(admin_key), "", 0, 0, NULL,
     "key for the operator's commands over the API"},
    {"PASSWORD_MIN", OPTION_INT, OPT(password_min), "12", 8, 200, NULL,
     "least number of characters of a new password"},
    {"GATEWAY_DATABASE_URL", OPTION_SECRET, OPT(gateway_database_url), "", 0, 0, NULL,
     "the gateway's address of Postgres: migrate makes its login; empty: it makes none"},
    {"FLEET_DATABASE_URL", OPTION_SECRET, OPT(fleet_database_url), "", 0, 0, NULL,
     "the same of workers, dispatcher and cleaner"},
    {"IMPORTER_DATABASE_URL", OPTION_SECRET, OPT(importer_database_url), "", 0, 0, NULL,
     "the same of the importer"},
};
const size_t ctl_option_count = ARRAY_LEN(ctl_option_defs);

/* Signals ---------------------------------------------------------------------------------------*/

atomic_bool ctl_stop;

static void on_signal(int sig)
{
    (void)sig;
    if (atomic_exchange(&ctl_stop, true)) {
        _exit(CTL_INTERRUPTED);
    }
}

static void unblock(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_UNBLOCK, &set, NULL); /* NOLINT(concurrency-mt-unsafe): no thread yet */
}

void ctl_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool ctl_sleep(int64_t ms)
{
    for (; ms > 0 && !atomic_load(&ctl_stop); ms -= 100) {
        struct timespec ts = {.tv_nsec = (long)(ms < 100 ? ms : 100) * 1000000L};
        nanosleep(&ts, NULL);
    }
    return !atomic_load(&ctl_stop);
}

bool ctl_colours(const struct ctl *ctl, int fd)
{
    const char *no = getenv("NO_COLOR"); /* NOLINT(concurrency-mt-unsafe) */
    const char *term = getenv("TERM");   /* NOLINT(concurrency-mt-unsafe) */

    return isatty(fd) == 1 && !(no && *no) && !ctl_flag(ctl, "--no-color") &&
           !(term && strcmp(term, "dumb") == 0);
}

/* Settings --------------------------------------------------------------------------------------*/

/* No thread exists yet. NOLINTBEGIN(concurrency-mt-unsafe) */

/* Commands over the API need no server settings: give the required ones an empty value. */
static void relax_settings(void)
{
    setenv("DOCFLEET_DATABASE_URL", "", 0);
    setenv("DOCFLEET_S3_ACCESS_KEY", "", 0);
    setenv("DOCFLEET_S3_SECRET_KEY", "", 0);
}

/* Options of the command line win over everything. */
static int take_settings(const struct ctl *ctl, struct err *err)
{
    static const char *const names[][2] = {{"--url", "DOCFLEET_URL"},
                                           {"--ca-file", "DOCFLEET_URL_CA_FILE"},
                                           {"--config", "DOCFLEET_CONFIG"}};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = ctl_option(ctl, names[i][0]);
        if (value && setenv(names[i][1], value, 1) < 0) {
            return err_nomem(err);
        }
    }
    enum ctl_role role = ctl->command ? ctl->command->role : CTL_USER;
    if (role == CTL_SERVERS || role == CTL_LOCAL) {
        return 0;
    }
    const char *profile = ctl_option(ctl, "--profile");
    return profile_load(profile ? profile : getenv("DOCFLEET_PROFILE"), err);
}

/* NOLINTEND(concurrency-mt-unsafe) */

static int fail(const struct err *err)
{
    fprintf(stderr, "docfleetctl: %s\n", err->msg);
    return ctl_exit_of(err);
}

static int begin(struct ctl *ctl, char *program, char *print, struct err *err)
{
    struct option_table own = {ctl_option_defs, ctl_option_count, &ctl->options};
    char *argv[] = {program, print, NULL};
    enum config_action action = CONFIG_RUN;

    if (!ctl->command || ctl->command->role != CTL_SERVERS) {
        relax_settings();
    }
    if (service_begin(&ctl->service, "docfleetctl", print ? 2 : 1, argv, &own, &action, err) < 0) {
        return -1;
    }
    unblock();
    return 0;
}

static int run(struct ctl *ctl, char *program, struct err *err)
{
    const struct ctl_command *c = ctl->command;

    if (c->role == CTL_LOCAL) {
        return c->run(ctl, err);
    }
    if (take_settings(ctl, err) < 0 ||
        (c->role != CTL_DOCTOR && begin(ctl, program, NULL, err) < 0)) {
        return -1;
    }
    if (c->role == CTL_USER || c->role == CTL_OPERATOR) {
        ctl_catch_signals();
    }
    return c->run(ctl, err);
}

static int show_usage(const char *group, bool asked)
{
    CLEANUP(buf_done) struct buf buf;
    struct err err = ERR_INIT;

    buf_init(&buf, 1 << 20);
    if (ctl_usage(group, &buf, &err) < 0) {
        return fail(&err);
    }
    fputs(buf.data, asked ? stdout : stderr);
    return asked ? CTL_OK : CTL_USAGE;
}

static bool has_word(int argc, char **argv, const char *word)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], word) == 0) {
            return true;
        }
    }
    return false;
}

/* Global options may come before the command: they are moved behind it. */
static int rotate_globals(int argc, char **argv)
{
    int n = 0;

    while (n < argc && strncmp(argv[n], "--", 2) == 0) {
        size_t len = strcspn(argv[n], "=");
        const struct ctl_opt *opt = ctl_opt_find(ctl_global_opts, argv[n], len);
        if (!opt) {
            break;
        }
        n += opt->value && argv[n][len] == '\0' ? 2 : 1;
    }
    return n < argc ? n : 0;
}

/* No command was found. */
static int without_command(struct ctl *ctl, int argc, char **argv, struct err *err)
{
    const char *word = argc > 1 ? argv[1] : "";

    if (strcmp(word, "--version") == 0) {
        printf("docfleetctl %s\n", docfleet_version());
        return CTL_OK;
    }
    if (strcmp(word, "--print-docs") == 0 || strcmp(word, "--print-config") == 0) {
        return begin(ctl, argv[0], argv[1], err) < 0 ? fail(err) : CTL_OK;
    }
    bool asked = has_word(argc - 1, argv + 1, "--help") || has_word(argc - 1, argv + 1, "-h");
    if (*word && *word != '-' && !ctl_is_group(word)) {
        fprintf(stderr, "docfleetctl: there is no command %.40s\n", word);
        return CTL_USAGE;
    }
    return show_usage(ctl_is_group(word) ? word : NULL, asked);
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.argc = 0};
    struct err err = ERR_INIT;
    int words = 0, rc;
    int skip = rotate_globals(argc - 1, argv + 1);

    log_setup("docfleetctl", LOG_WARN);
    ctl.command = ctl_command_find(argc - 1 - skip, argv + 1 + skip, &words);
    if (!ctl.command) {
        return without_command(&ctl, argc, argv, &err);
    }
    /* globals first, then what follows the command's words */
    memmove(argv + 1 + words, argv + 1, (size_t)skip * sizeof(char *));
    char **rest = argv + 1 + words;
    int n = argc - 1 - words;
    if (has_word(n, rest, "--help") || has_word(n, rest, "-h")) {
        CLEANUP(buf_done) struct buf buf;
        buf_init(&buf, 1 << 20);
        if (ctl_help_of(ctl.command, &buf, &err) < 0) {
            return fail(&err);
        }
        fputs(buf.data, stdout);
        return CTL_OK;
    }
    rc = ctl_parse(&ctl, n, rest, &err);
    if (rc < 0 || run(&ctl, argv[0], &err) < 0) {
        return fail(&err);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "docfleetctl: the output could not be written\n");
        return CTL_FAILED;
    }
    return ctl.exit;
}
