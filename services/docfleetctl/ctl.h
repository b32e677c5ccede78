/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of users and operators. Each command is one function; the tables of
 * commands_*.c are the only list of them: usage, --help, the manual page, shell completion and the
 * README's list are made from them.
 * Invariant: results go to stdout, everything else to stderr; the exit status is one of enum
 * ctl_exit; a secret is never taken from the command line nor printed, except a new key, once.
 */
#pragma once

#include "libcommon/service.h"
#include "services/docfleetctl/commands.h"

#include <jansson.h>

/* Stable: scripts rely on them. docfleetctl doctor has its own, see there. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_FAILED = 1,
    CTL_USAGE = 2,       /* the command line or a setting is wrong */
    CTL_NOT_FOUND = 3,   /* or not yours */
    CTL_NOT_ALLOWED = 4, /* no key, a wrong one, or one without the scope */
    CTL_UNAVAILABLE = 5, /* no answer, or only "later": the same command may work then */
    CTL_PARTLY = 6,      /* done, but some files were refused, left out or failed */
    CTL_INTERRUPTED = 130,
};

enum ctl_role {
    CTL_LOCAL,    /* nothing is connected */
    CTL_USER,     /* the API, DOCFLEET_API_KEY */
    CTL_OPERATOR, /* the API, DOCFLEET_ADMIN_KEY */
    CTL_SERVERS,  /* Postgres, Kafka, the store themselves: the settings of a service */
    CTL_DOCTOR,   /* reads the settings by itself, so that it can tell all that is wrong */
};

/* What a shell can offer in the place of an argument. */
enum ctl_hint { HINT_NONE, HINT_FILE, HINT_FOLDER, HINT_DATASET, HINT_STAGE };

struct ctl;

struct ctl_opt {
    const char *name;    /* "--dataset" */
    const char *value;   /* "ID"; NULL: a switch */
    const char *choices; /* "csv|ndjson": no other value is taken; or NULL */
    enum ctl_hint hint;
    bool required;
    const char *help; /* lower case, no full stop */
};

#define CTL_ARGS_MANY (1 << 20)

struct ctl_command {
    const char *words[2]; /* the second may be NULL */
    const char *args;     /* "NAME COLUMNS.json", "PATH..."; NULL: none */
    int min, max;         /* number of args */
    enum ctl_hint hint;   /* of args */
    enum ctl_role role;
    int (*run)(struct ctl *ctl, struct err *err);
    const char *help;           /* one line, lower case, no full stop */
    const struct ctl_opt *opts; /* ends with a NULL name; NULL: none */
    const char *more;           /* further sentences, or NULL */
};

struct ctl_options {
    char *url; /* of the gateway */
    char *url_ca_file;
    char *profile;
    char *api_key;
    char *admin_key;
    int64_t password_min;
    char *gateway_database_url; /* whose logins `migrate` makes; "": it makes none */
    char *fleet_database_url;
    char *importer_database_url;
};

#define CTL_GIVEN_MAX 32

struct ctl {
    struct service service; /* settings; connected only by commands that need the servers */
    struct ctl_options options;
    const struct ctl_command *command;
    int argc; /* arguments without options */
    char **argv;
    struct {
        const struct ctl_opt *opt;
        const char *value;
    } given[CTL_GIVEN_MAX];
    size_t n_given;
    int exit; /* of a command that returned 0; 0 unless it says otherwise */
};

/* The settings that only docfleetctl has. */
extern const struct option_def ctl_option_defs[];
extern const size_t ctl_option_count;

/* Tables ----------------------------------------------------------------------------------------*/

extern const struct ctl_command user_commands[], operator_commands[], server_commands[];
extern const size_t user_command_count, operator_command_count, server_command_count;
/* Options that every command takes. */
extern const struct ctl_opt ctl_global_opts[];

/* All commands in the order they are shown; NULL past the last. */
const struct ctl_command *ctl_command_at(size_t i);
/* The command argv[0..] begins with, and how many words name it; NULL if none does. */
const struct ctl_command *ctl_command_find(int argc, char **argv, int *ret_words);
/* Is it the first word of a command of two? */
bool ctl_is_group(const char *word);
const struct ctl_opt *ctl_opt_find(const struct ctl_opt *opts, const char *name, size_t len);

/* Sorts the words after the command into ctl->given and ctl->argv (which then points into argv, in
 * a new order) by the table. ERR_PERMANENT "usage" for whatever is not in it. Global options are
 * taken, too. */
int ctl_parse(struct ctl *ctl, int argc, char **argv, struct err *err) WARN_UNUSED;
/* The value of an option, NULL when it was not given (the last one counts). */
const char *ctl_option(const struct ctl *ctl, const char *name);
/* Was a switch given? */
bool ctl_flag(const struct ctl *ctl, const char *name);
/* A number from min to max, or fallback without the option; ERR_PERMANENT "usage". */
int ctl_number(const struct ctl *ctl, const char *name, int64_t min, int64_t max, int64_t fallback,
               int64_t *ret_value, struct err *err) WARN_UNUSED;

/* The first line of the file, or (path NULL) of standard input, without its end. */
int ctl_read_password(const char *path, char *out, size_t size, struct err *err) WARN_UNUSED;

/* Text made from the tables (help.c, manual.c, completion.c) ------------------------------------*/

/* "upload --dataset ID [--again] PATH..." */
int ctl_synopsis(const struct ctl_command *command, struct buf *buf, struct err *err) WARN_UNUSED;
/* All commands, or those of a group. */
int ctl_usage(const char *group, struct buf *buf, struct err *err) WARN_UNUSED;
int ctl_help_of(const struct ctl_command *command, struct buf *buf, struct err *err) WARN_UNUSED;
/* The list for the README. */
int ctl_markdown(struct buf *buf, struct err *err) WARN_UNUSED;
int ctl_manual(struct buf *buf, struct err *err) WARN_UNUSED;
/* shell: bash, zsh or fish; ERR_PERMANENT "usage" for another. */
int ctl_completion(const char *shell, struct buf *buf, struct err *err) WARN_UNUSED;

/* What an error means to the caller. */
int ctl_exit_of(const struct err *err);
const char *ctl_exit_text(enum ctl_exit code);

/* Raised by the first SIGINT or SIGTERM after ctl_catch_signals: what runs ends soon and tidies up.
 * The second ends the process. */
extern atomic_bool ctl_stop;
void ctl_catch_signals(void);
/* False when ctl_stop was raised meanwhile. */
bool ctl_sleep(int64_t ms);
/* Colours and moving lines: a terminal, and neither NO_COLOR nor --no-color. */
bool ctl_colours(const struct ctl *ctl, int fd);

/* Puts the settings of ~/.config/docfleet/config into the environment where it has none. name NULL:
 * the profile `default`, which may be missing. ERR_PERMANENT "invalid_config". */
int profile_load(const char *name, struct err *err) WARN_UNUSED;
/* Of a text; exposed for tests. fn gets each setting of the profile. */
typedef int (*profile_fn)(void *ctx, const char *name, const char *value, struct err *err);
int profile_parse(char *text, const char *profile, profile_fn fn, void *ctx, bool *ret_found,
                  struct err *err) WARN_UNUSED;

/* Commands: commands.h is their list
 * -------------------------------------------------------------*/

#define CTL_DECLARE(name) int name(struct ctl *ctl, struct err *err);
CTL_COMMANDS(CTL_DECLARE)
CTL_DECLARE(ctl_completion_command)
CTL_DECLARE(ctl_manual_command)
CTL_DECLARE(ctl_help_command)

/* Connects ctl->service.db, for those that go straight to the servers. */
int ctl_open_db(struct ctl *ctl, struct err *err) WARN_UNUSED;
/* Gives the roles of the services the logins that the settings GATEWAY_DATABASE_URL and so on name:
 * made or changed, once the roles are there. ERR_PERMANENT "config". */
int migrate_logins(struct ctl *ctl, struct db_conn *conn, struct err *err) WARN_UNUSED;
/* A row of the audit log in the caller's transaction; takes detail, which may be NULL. */
int ctl_audit(struct db_conn *conn, const char *action, const char *target, json_t *detail,
              struct err *err) WARN_UNUSED;
