/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands of operators: over the API, and straight to the servers. A new command is a row
 * here, a function in ctl.h, and the line of the README that `docfleetctl help --markdown` prints.
 */
#include "services/docfleetctl/ctl.h"

#define OPTS (const struct ctl_opt[])
#define END {.name = NULL}
#define JSON {.name = "--json", .help = "the answer as JSON"}
#define STAGES "text|ocr|ai|preview|thumbnail|clean"

#define FILTER                                                                                     \
    {.name = "--stage",                                                                            \
     .value = "STAGE",                                                                             \
     .choices = STAGES,                                                                            \
     .hint = HINT_STAGE,                                                                           \
     .help = "of this stage"},                                                                     \
        {.name = "--reason", .value = "CODE", .help = "the error's code, such as corrupt"},        \
        {.name = "--class",                                                                        \
         .value = "CLASS",                                                                         \
         .choices = "transient|permanent|unknown|fatal",                                           \
         .help = "the error's class"},                                                             \
        {.name = "--version", .value = "V", .help = "of the program that gave up"},                \
        {.name = "--user", .value = "ID", .help = "of this account"},                              \
        {.name = "--dataset", .value = "ID", .hint = HINT_DATASET, .help = "of this dataset"},     \
        {.name = "--file", .value = "ID", .help = "of this file"},                                 \
        {.name = "--id", .value = "ID", .help = "this letter alone"},                              \
        {.name = "--since",                                                                        \
         .value = "TIME",                                                                          \
         .help = "from 2026-11-22T15:00:00Z on, or an age: 90m, 24h, 7d"},                         \
        {.name = "--until", .value = "TIME", .help = "before that time"}
#define CHANGE                                                                                     \
    FILTER, {.name = "--all", .help = "every open letter; needed where no filter is given"},       \
        {.name = "--limit", .value = "N", .help = "at most so many letters"},                      \
        {.name = "--dry-run", .help = "only count, by stage and reason, with some examples"}, JSON
#define LETTER_STATE                                                                               \
    {.name = "--state",                                                                            \
     .value = "STATE",                                                                             \
     .choices = "open|replayed|discarded|any",                                                     \
     .help = "open unless said otherwise"}

const struct ctl_command operator_commands[] = {
    {.words = {"stages", "list"},
     .role = CTL_OPERATOR,
     .run = ctl_stages_list,
     .help = "queues, workers, breakers, dead letters",
     .opts = OPTS{JSON, END}},
    {.words = {"stages", "pause"},
     .args = "STAGE",
     .min = 1,
     .max = 1,
     .hint = HINT_STAGE,
     .role = CTL_OPERATOR,
     .run = ctl_stages_pause,
     .help = "send no more work of a stage; what runs ends",
     .more = "Without DOCFLEET_ADMIN_KEY, but with DOCFLEET_DATABASE_URL, straight to Postgres."},
    {.words = {"stages", "resume"},
     .args = "STAGE",
     .min = 1,
     .max = 1,
     .hint = HINT_STAGE,
     .role = CTL_OPERATOR,
     .run = ctl_stages_resume,
     .help = "send it again",
     .more = "Without DOCFLEET_ADMIN_KEY, but with DOCFLEET_DATABASE_URL, straight to Postgres."},
    {.words = {"users", "list"},
     .role = CTL_OPERATOR,
     .run = ctl_users_list,
     .help = "accounts, what they use, their weight",
     .opts = OPTS{JSON, END}},
    {.words = {"users", "create"},
     .args = "NAME",
     .min = 1,
     .max = 1,
     .role = CTL_OPERATOR,
     .run = ctl_users_create,
     .help = "make an account and its first key, which is printed once",
     .opts = OPTS{{.name = "--role",
                   .value = "ROLE",
                   .choices = "user|operator|admin",
                   .help = "user unless said otherwise"},
                  {.name = "--no-key", .help = "only the account"},
                  END}},
    {.words = {"users", "weight"},
     .args = "USER_ID WEIGHT",
     .min = 2,
     .max = 2,
     .role = CTL_OPERATOR,
     .run = ctl_users_weight,
     .help = "a user's share when others wait, too"},
    {.words = {"import", "create"},
     .args = "NAME",
     .min = 1,
     .max = 1,
     .role = CTL_OPERATOR,
     .run = ctl_import_create,
     .help = "read the objects under a prefix into a dataset; print the new id",
     .opts = OPTS{{.name = "--dataset",
                   .value = "ID",
                   .hint = HINT_DATASET,
                   .required = true,
                   .help = "where the files go"},
                  {.name = "--prefix", .value = "P", .required = true, .help = "of the keys"},
                  {.name = "--source", .value = "NAME", .help = "a store of IMPORT_SOURCES"},
                  {.name = "--cron", .value = "FIELDS", .help = "when, such as '0 3 * * *'"},
                  {.name = "--time-zone", .value = "ZONE", .help = "of --cron; UTC unless said"},
                  {.name = "--on-vanished",
                   .value = "WHAT",
                   .choices = "keep|remove",
                   .help = "what becomes of files whose objects are gone"},
                  {.name = "--max-failed-percent", .value = "P", .help = "5 unless said"},
                  {.name = "--max-unfetched", .value = "N", .help = "0 unless said"},
                  {.name = "--keep-versions", .value = "N", .help = "5 unless said"},
                  END}},
    {.words = {"import", "list"},
     .role = CTL_OPERATOR,
     .run = ctl_import_list,
     .help = "imports and how they are",
     .opts = OPTS{JSON, END}},
    {.words = {"import", "run"},
     .args = "IMPORT_ID",
     .min = 1,
     .max = 1,
     .role = CTL_OPERATOR,
     .run = ctl_import_run,
     .help = "ask for a run; the importer does it at its next start",
     .opts = OPTS{JSON, END}},
    {.words = {"import", "runs"},
     .args = "IMPORT_ID",
     .min = 1,
     .max = 1,
     .role = CTL_OPERATOR,
     .run = ctl_import_runs,
     .help = "the latest runs; * is the version the dataset shows",
     .opts = OPTS{JSON, END}},
    {.words = {"import", "rollback"},
     .args = "IMPORT_ID RUN_ID",
     .min = 2,
     .max = 2,
     .role = CTL_OPERATOR,
     .run = ctl_import_rollback,
     .help = "show an earlier version, at once, and pause the schedule",
     .opts = OPTS{{.name = "--keep-schedule", .help = "do not pause it"}, END}},
    {.words = {"import", "pause"},
     .args = "IMPORT_ID",
     .min = 1,
     .max = 1,
     .role = CTL_OPERATOR,
     .run = ctl_import_pause,
     .help = "no more runs by schedule"},
    {.words = {"import", "resume"},
     .args = "IMPORT_ID",
     .min = 1,
     .max = 1,
     .role = CTL_OPERATOR,
     .run = ctl_import_resume,
     .help = "runs by schedule again"},
    {.words = {"dead-letters", "list"},
     .role = CTL_OPERATOR,
     .run = ctl_dead_list,
     .help = "what was given up, and why",
     .opts = OPTS{FILTER, LETTER_STATE, JSON, END}},
    {.words = {"dead-letters", "groups"},
     .role = CTL_OPERATOR,
     .run = ctl_dead_groups,
     .help = "how many, by stage and reason, and what helps",
     .opts = OPTS{FILTER, LETTER_STATE, JSON, END}},
    {.words = {"dead-letters", "show"},
     .args = "ID",
     .min = 1,
     .max = 1,
     .role = CTL_OPERATOR,
     .run = ctl_dead_show,
     .help = "one letter with its evidence",
     .opts = OPTS{JSON, END}},
    {.words = {"dead-letters", "replay"},
     .role = CTL_OPERATOR,
     .run = ctl_dead_replay,
     .help = "try again what was given up",
     .opts = OPTS{CHANGE, END}},
    {.words = {"dead-letters", "discard"},
     .role = CTL_OPERATOR,
     .run = ctl_dead_discard,
     .help = "close letters for good",
     .opts = OPTS{CHANGE, END}},
};
const size_t operator_command_count = ARRAY_LEN(operator_commands);

const struct ctl_command server_commands[] = {
    {.words = {"migrate", NULL},
     .role = CTL_SERVERS,
     .run = ctl_migrate,
     .help = "bring the schema (and the topics) up to date",
     .opts = OPTS{{.name = "--topics",
                   .help = "also make Kafka's topics and give every group its first offsets"},
                  {.name = "--partitions",
                   .value = "N",
                   .help = "of the work topics, 1 to 200; 6 unless said otherwise"},
                  {.name = "--wait",
                   .help = "change nothing, end when another has done it; with 5 when the time is "
                           "over"},
                  {.name = "--for",
                   .value = "SECONDS",
                   .help = "how long to wait; 600 unless said otherwise"},
                  END}},
    {.words = {"bucket", "create"},
     .role = CTL_SERVERS,
     .run = ctl_bucket_create,
     .help = "make the bucket"},
    {.words = {"user", "create"},
     .args = "NAME",
     .min = 1,
     .max = 1,
     .role = CTL_SERVERS,
     .run = ctl_user_create,
     .help = "the first accounts: make one, print its key once",
     .opts =
         OPTS{{.name = "--admin", .help = "an operator: the key may use the admin calls"}, END}},
    {.words = {"key", "create"},
     .args = "USER",
     .min = 1,
     .max = 1,
     .role = CTL_SERVERS,
     .run = ctl_key_create,
     .help = "a further key of an account, printed once",
     .opts = OPTS{{.name = "--scopes",
                   .value = "LIST",
                   .help = "of read, write, admin; read,write unless said otherwise"},
                  END}},
    {.words = {"ledger", NULL},
     .role = CTL_SERVERS,
     .run = ctl_ledger,
     .help = "do the counts of batches and datasets add up?",
     .opts = OPTS{JSON, END},
     .more = "Ends with 1 and names what does not."},
};
const size_t server_command_count = ARRAY_LEN(server_commands);
