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

static const struct {
    const char *words[2];
    int (*run)(struct ctl *ctl, struct err *err);
    bool servers; /* needs DATABASE_URL and the S3 keys */
    const char *help;
} commands[] = {
    {{"migrate", NULL}, ctl_migrate, true, "[--topics]  bring schema (and topics) up to date"},
    {{"bucket", "create"}, ctl_bucket_create, true, "make the bucket"},
    {{"user", "create"}, ctl_user_create, true, "NAME [--admin]  make a user, print its key"},
    {{"key", "create"}, ctl_key_create, true, "USER [--scopes read,write]  print a new key"},
    {{"stages", "pause"}, ctl_stages_pause, true, "STAGE  send no more work of a stage"},
    {{"stages", "resume"}, ctl_stages_resume, true, "STAGE"},
    {{"ledger", NULL}, ctl_ledger, true, "[--json]  do the counts of batches and datasets add up?"},
    {{"dataset", "create"}, ctl_dataset_create, false, "NAME COLUMNS.json  print the new id"},
    {{"dataset", "list"}, ctl_dataset_list, false, "your datasets"},
    {{"upload", NULL}, ctl_upload, false, "--dataset ID PATH...  files and whole folders"},
    {{"status", NULL},
     ctl_status,
     false,
     "[--dataset ID] [--watch] [--json]  what is done, in work and failed"},
    {{"record", NULL}, ctl_record, false, "FILE_ID  print a file's record as JSON"},
    {{"text", NULL}, ctl_text, false, "FILE_ID  print a file's text"},
    {{"dead-letters", "list"},
     ctl_dead_list,
     false,
     "[--stage S] [--reason R] [--user ID] [--file ID] [--id ID] [--json]"},
    {{"dead-letters", "replay"},
     ctl_dead_replay,
     false,
     "[filter as above | --all] [--dry-run]  try again what was given up"},
    {{"dead-letters", "discard"},
     ctl_dead_discard,
     false,
     "[filter as above | --all] [--dry-run]  close letters for good"},
};

static void usage(FILE *out)
{
    fprintf(out, "usage: docfleetctl COMMAND ...\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        fprintf(out, "  %s %s %s\n", commands[i].words[0],
                commands[i].words[1] ? commands[i].words[1] : "", commands[i].help);
    }
    fprintf(out, "\nSettings come from the environment: docfleetctl --print-docs lists them.\n");
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

    if (command < 0 && (!print || strcmp(argv[1], "--help") == 0)) {
        usage(print ? stdout : stderr);
        return print ? 0 : 2;
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
