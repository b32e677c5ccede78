/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl: finds the command, reads the settings, runs it.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/log.h"
#include "services/docfleetctl/ctl.h"

#define OPT(field) offsetof(struct ctl_options, field)

static const struct option_def options[] = {
    {"URL", OPTION_STRING, OPT(url), "http://127.0.0.1:8080", 0, 0, NULL, "address of the gateway"},
    {"API_KEY", OPTION_SECRET, OPT(api_key), "", 0, 0, NULL, "key for the user's commands"},
    {"ADMIN_KEY", OPTION_SECRET, OPT(admin_key), "", 0, 0, NULL,
     "key for the operator's commands over the API"},
};

#define FILTER_HELP                                                                                \
    "  --stage S       text, ocr, ai, preview, thumbnail or clean\n"                               \
    "  --reason R      the error's code, such as corrupt or crash_loop\n"                          \
    "  --class C       transient, permanent, unknown or fatal\n"                                   \
    "  --version V     of the program that gave up\n"                                              \
    "  --user ID  --dataset ID  --file ID  --id ID\n"                                              \
    "  --since T  --until T   a time (2026-11-22T15:00:00Z), or an age: 90m, 24h, 7d\n"
#define CHANGE_HELP                                                                                \
    FILTER_HELP "  --all           every open letter; needed where no filter is given\n"           \
                "  --limit N       at most so many letters\n"                                      \
                "  --dry-run       only count, by stage and reason, with some examples\n"          \
                "  --json          the answer as JSON\n"

static const struct {
    const char *words[2];
    int (*run)(struct ctl *ctl, struct err *err);
    bool servers; /* needs DATABASE_URL and the S3 keys */
    const char *args;
    const char *help;
    const char *more; /* for --help of the command, or NULL */
} commands[] = {
    {{"migrate", NULL},
     ctl_migrate,
     true,
     "[--topics [--partitions N]] | --wait [--for SECONDS]",
     "bring the schema (and the topics) up to date",
     "  --topics        also make Kafka's topics and give every group its first offsets\n"
     "  --partitions N  of the work topics; 6 unless said otherwise\n"
     "  --wait          change nothing, end when another has done it; after 10 minutes with 1\n"
     "  --for SECONDS   how long to wait\n"},
    {{"bucket", "create"}, ctl_bucket_create, true, "", "make the bucket", NULL},
    {{"user", "create"},
     ctl_user_create,
     true,
     "NAME [--admin]",
     "make a user, print its key",
     "  --admin         an operator: his key may use the admin calls\n"},
    {{"key", "create"},
     ctl_key_create,
     true,
     "USER [--scopes read,write]",
     "print a new key",
     NULL},
    {{"stages", "list"},
     ctl_stages_list,
     false,
     "[--json]",
     "queues, workers and dead letters",
     NULL},
    {{"stages", "pause"}, ctl_stages_pause, true, "STAGE", "send no more work of a stage", NULL},
    {{"stages", "resume"}, ctl_stages_resume, true, "STAGE", "send it again", NULL},
    {{"users", "list"},
     ctl_users_list,
     false,
     "[--json]",
     "accounts, what they use, their weight",
     NULL},
    {{"users", "weight"},
     ctl_users_weight,
     false,
     "USER_ID WEIGHT",
     "a user's share when others wait, too",
     NULL},
    {{"ledger", NULL},
     ctl_ledger,
     true,
     "[--json]",
     "do the counts of batches and datasets add up?",
     "Ends with 1 and names what does not.\n"},
    {{"dataset", "create"},
     ctl_dataset_create,
     false,
     "NAME COLUMNS.json",
     "print the new id",
     "The file holds the list of columns, or an object with `columns`; - is standard input.\n"},
    {{"dataset", "list"}, ctl_dataset_list, false, "", "your datasets", NULL},
    {{"upload", NULL}, ctl_upload, false, "--dataset ID PATH...", "files and whole folders", NULL},
    {{"status", NULL},
     ctl_status,
     false,
     "[--dataset ID] [--watch] [--json]",
     "what is done, in work and failed",
     "  --watch         go on until nothing is in work\n"},
    {{"batch", "cancel"}, ctl_batch_cancel, false, "BATCH_ID", "stop the work of an upload", NULL},
    {{"batch", "retry"},
     ctl_batch_retry,
     false,
     "BATCH_ID",
     "try again what failed of an upload",
     NULL},
    {{"receipt", NULL},
     ctl_receipt,
     false,
     "BATCH_ID [--csv] [--out FILE]",
     "what came of each file of an upload",
     NULL},
    {{"receipt-check", NULL},
     ctl_receipt_check,
     false,
     "FILE",
     "are totals and digest of a kept receipt right?",
     NULL},
    {{"record", NULL}, ctl_record, false, "FILE_ID", "print a file's record as JSON", NULL},
    {{"text", NULL}, ctl_text, false, "FILE_ID", "print a file's text", NULL},
    {{"dead-letters", "list"},
     ctl_dead_list,
     false,
     "[filter] [--state S] [--json]",
     "what was given up, and why",
     FILTER_HELP "  --state S       open (the default), replayed, discarded or any\n"},
    {{"dead-letters", "show"},
     ctl_dead_show,
     false,
     "ID [--json]",
     "one letter with its evidence",
     NULL},
    {{"dead-letters", "replay"},
     ctl_dead_replay,
     false,
     "[filter | --all] [--limit N] [--dry-run] [--json]",
     "try again what was given up",
     CHANGE_HELP},
    {{"dead-letters", "discard"},
     ctl_dead_discard,
     false,
     "[filter | --all] [--limit N] [--dry-run] [--json]",
     "close letters for good",
     CHANGE_HELP},
};

static void command_line(FILE *out, size_t i)
{
    fprintf(out, "%s%s%s%s%s", commands[i].words[0], commands[i].words[1] ? " " : "",
            commands[i].words[1] ? commands[i].words[1] : "", commands[i].args[0] ? " " : "",
            commands[i].args);
}

/* All commands, or those that begin with a word. */
static void usage(FILE *out, const char *word)
{
    fprintf(out, "usage: docfleetctl COMMAND ...\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (!word || strcmp(commands[i].words[0], word) == 0) {
            fprintf(out, "  ");
            command_line(out, i);
            fprintf(out, "\n        %s\n", commands[i].help);
        }
    }
    fprintf(out, "\ndocfleetctl COMMAND --help says more. Settings come from the environment:\n"
                 "docfleetctl --print-docs lists them.\n");
}

static void command_help(size_t i)
{
    printf("usage: docfleetctl ");
    command_line(stdout, i);
    printf("\n\n%s\n", commands[i].help);
    if (commands[i].more) {
        printf("\n%s", commands[i].more);
    }
    printf("\nNeeds %s.\n", commands[i].servers
                                ? "the servers: DOCFLEET_DATABASE_URL and the others of a service"
                                : "DOCFLEET_URL and a key: DOCFLEET_API_KEY, or DOCFLEET_ADMIN_KEY"
                                  " for what is an operator's");
}

static bool is_group(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (commands[i].words[1] && strcmp(commands[i].words[0], word) == 0) {
            return true;
        }
    }
    return false;
}

static bool wants_help(int argc, char **argv, int from)
{
    for (int i = from; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

const char *ctl_option(struct ctl *ctl, const char *name)
{
    for (int i = 0; i + 1 < ctl->argc; i++) {
        if (strcmp(ctl->argv[i], name) == 0) {
            const char *value = ctl->argv[i + 1];
            memmove(&ctl->argv[i], &ctl->argv[i + 2], (size_t)(ctl->argc - i - 2) * sizeof(char *));
            ctl->argc -= 2;
            return value;
        }
    }
    return NULL;
}

bool ctl_flag(struct ctl *ctl, const char *name)
{
    for (int i = 0; i < ctl->argc; i++) {
        if (strcmp(ctl->argv[i], name) == 0) {
            memmove(&ctl->argv[i], &ctl->argv[i + 1], (size_t)(ctl->argc - i - 1) * sizeof(char *));
            ctl->argc--;
            return true;
        }
    }
    return false;
}

int ctl_expect(const struct ctl *ctl, int min, int max, const char *usage_line, struct err *err)
{
    for (int i = 0; i < ctl->argc; i++) {
        if (strncmp(ctl->argv[i], "--", 2) == 0) {
            return err_set(err, ERR_PERMANENT, "usage", "unknown option %s; usage: docfleetctl %s",
                           ctl->argv[i], usage_line);
        }
    }
    if (ctl->argc < min || ctl->argc > max) {
        return err_set(err, ERR_PERMANENT, "usage", "usage: docfleetctl %s", usage_line);
    }
    return 0;
}

static int find_command(int argc, char **argv, int *ret_words)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        int words = commands[i].words[1] ? 2 : 1;
        if (argc > words && strcmp(argv[1], commands[i].words[0]) == 0 &&
            (words == 1 || strcmp(argv[2], commands[i].words[1]) == 0)) {
            *ret_words = words;
            return (int)i;
        }
    }
    return -1;
}

/* Commands over the API need no server settings: give the required ones an empty value. */
static void relax_settings(void)
{
    /* No thread exists yet. NOLINTBEGIN(concurrency-mt-unsafe) */
    setenv("DOCFLEET_DATABASE_URL", "", 0);
    setenv("DOCFLEET_S3_ACCESS_KEY", "", 0);
    setenv("DOCFLEET_S3_SECRET_KEY", "", 0);
    /* NOLINTEND(concurrency-mt-unsafe) */
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.argc = 0};
    struct option_table own = {options, ARRAY_LEN(options), &ctl.options};
    enum config_action action;
    struct err err = ERR_INIT;
    int words = 0, command = find_command(argc, argv, &words);
    char *program[] = {argv[0], argc > 1 ? argv[1] : NULL, NULL};
    bool print = argc > 1 && strncmp(argv[1], "--", 2) == 0;

    if (command >= 0 && wants_help(argc, argv, 1 + words)) {
        command_help((size_t)command);
        return 0;
    }
    if (command < 0 && (!print || strcmp(argv[1], "--help") == 0)) {
        bool help = wants_help(argc, argv, 1) || (argc > 1 && strcmp(argv[1], "help") == 0);
        usage(help ? stdout : stderr, argc > 1 && is_group(argv[1]) ? argv[1] : NULL);
        return help ? 0 : 2;
    }
    if (command < 0 || !commands[command].servers) {
        relax_settings();
    }
    if (service_begin(&ctl.service, "docfleetctl", print ? 2 : 1, program, &own, &action, &err) <
        0) {
        fprintf(stderr, "docfleetctl: %s\n", err.msg);
        return strcmp(err.code, "usage") == 0 ? 2 : 1;
    }
    if (action == CONFIG_EXIT || command < 0) {
        return 0;
    }
    ctl.argc = argc - 1 - words;
    ctl.argv = argv + 1 + words;
    if (commands[command].run(&ctl, &err) < 0) {
        fprintf(stderr, "docfleetctl: %s\n", err.msg);
        return strcmp(err.code, "usage") == 0 ? 2 : 1;
    }
    return 0;
}
