/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding a command and reading its words by the tables.
 */
#include <stdio.h>
#include <string.h>

#include "services/docfleetctl/ctl.h"

const struct ctl_opt ctl_global_opts[] = {
    {.name = "--profile",
     .value = "NAME",
     .help = "settings of this section of ~/.config/docfleet/config"},
    {.name = "--url", .value = "URL", .help = "address of the gateway, instead of DOCFLEET_URL"},
    {.name = "--ca-file",
     .value = "FILE",
     .hint = HINT_FILE,
     .help = "certificates (PEM) that the gateway's must come from"},
    {.name = "--config",
     .value = "FILE",
     .hint = HINT_FILE,
     .help = "settings as NAME=value lines; the environment wins"},
    {.name = "--no-color", .help = "no colours on a terminal, as NO_COLOR"},
    {.name = "--help", .help = "what a command does and takes"},
    {.name = "--version", .help = "the version of this program"},
    {.name = NULL},
};

const struct ctl_command *ctl_command_at(size_t i)
{
    if (i < user_command_count) {
        return &user_commands[i];
    }
    i -= user_command_count;
    if (i < operator_command_count) {
        return &operator_commands[i];
    }
    i -= operator_command_count;
    return i < server_command_count ? &server_commands[i] : NULL;
}

const struct ctl_command *ctl_command_find(int argc, char **argv, int *ret_words)
{
    const struct ctl_command *c;

    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        int words = c->words[1] ? 2 : 1;
        if (argc >= words && strcmp(argv[0], c->words[0]) == 0 &&
            (words == 1 || strcmp(argv[1], c->words[1]) == 0)) {
            *ret_words = words;
            return c;
        }
    }
    return NULL;
}

bool ctl_is_group(const char *word)
{
    const struct ctl_command *c;

    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        if (c->words[1] && strcmp(c->words[0], word) == 0) {
            return true;
        }
    }
    return false;
}

const struct ctl_opt *ctl_opt_find(const struct ctl_opt *opts, const char *name, size_t len)
{
    for (; opts && opts->name; opts++) {
        if (strlen(opts->name) == len && memcmp(opts->name, name, len) == 0) {
            return opts;
        }
    }
    return NULL;
}

static int usage_error(const struct ctl *ctl, struct err *err)
{
    CLEANUP(buf_done) struct buf line;
    struct err ignored = ERR_INIT;
    size_t n = strlen(err->msg);

    buf_init(&line, 4096);
    if (ctl->command && ctl_synopsis(ctl->command, &line, &ignored) == 0) {
        snprintf(err->msg + n, sizeof(err->msg) - n, "; usage: docfleetctl %s", line.data);
    }
    return -1;
}

static bool is_choice(const char *choices, const char *value)
{
    size_t len = strcspn(value, "|");

    if (value[len] != '\0') {
        return false; /* two choices are none */
    }
    for (const char *p = choices; p; p = strchr(p, '|'), p = p ? p + 1 : NULL) {
        if (strncmp(p, value, len) == 0 && (p[len] == '|' || p[len] == '\0') && len > 0) {
            return true;
        }
    }
    return false;
}

/* Takes the option at argv[i]; gives how many words it was, or -1. */
static int take_option(struct ctl *ctl, int argc, char **argv, int i, struct err *err)
{
    const char *word = argv[i];
    size_t len = strcspn(word, "=");
    const struct ctl_opt *opt = ctl_opt_find(ctl->command ? ctl->command->opts : NULL, word, len);
    const char *value = word[len] == '=' ? word + len + 1 : NULL;
    int words = 1;

    opt = opt ? opt : ctl_opt_find(ctl_global_opts, word, len);
    if (!opt) {
        err_set(err, ERR_PERMANENT, "usage", "unknown option %.60s", word);
        return usage_error(ctl, err);
    }
    if (opt->value && !value) {
        value = i + 1 < argc ? argv[i + 1] : NULL;
        words = 2;
    }
    if ((opt->value && !value) || (!opt->value && value)) {
        return err_set(err, ERR_PERMANENT, "usage", "%s takes %s", opt->name,
                       opt->value ? opt->value : "no value");
    }
    if (opt->choices && value && !is_choice(opt->choices, value)) {
        return err_set(err, ERR_PERMANENT, "usage", "%s is one of %s", opt->name, opt->choices);
    }
    if (ctl->n_given == ARRAY_LEN(ctl->given)) {
        return err_set(err, ERR_PERMANENT, "usage", "too many options");
    }
    ctl->given[ctl->n_given].opt = opt;
    ctl->given[ctl->n_given++].value = value ? value : "";
    return words;
}

static int check_required(const struct ctl *ctl, struct err *err)
{
    const struct ctl_command *c = ctl->command;

    for (const struct ctl_opt *opt = c->opts; opt && opt->name; opt++) {
        if (opt->required && !ctl_option(ctl, opt->name)) {
            return err_set(err, ERR_PERMANENT, "usage", "%s %s is needed%s", opt->name, opt->value,
                           opt->hint == HINT_DATASET ? "; docfleetctl dataset list shows the ids"
                                                     : "");
        }
    }
    if (ctl->argc < c->min || ctl->argc > c->max) {
        err_set(err, ERR_PERMANENT, "usage", "%s",
                ctl->argc < c->min ? "something is missing" : "that is too much");
        return usage_error(ctl, err);
    }
    return 0;
}

int ctl_parse(struct ctl *ctl, int argc, char **argv, struct err *err)
{
    bool only_args = false;

    ctl->argv = argv;
    ctl->argc = 0;
    for (int i = 0; i < argc;) {
        if (only_args || strncmp(argv[i], "--", 2) != 0) {
            argv[ctl->argc++] = argv[i++];
        } else if (argv[i][2] == '\0') {
            only_args = true;
            i++;
        } else {
            int words = take_option(ctl, argc, argv, i, err);
            if (words < 0) {
                return -1;
            }
            i += words;
        }
    }
    return ctl->command ? check_required(ctl, err) : 0;
}

const char *ctl_option(const struct ctl *ctl, const char *name)
{
    const char *value = NULL;

    for (size_t i = 0; i < ctl->n_given; i++) {
        if (strcmp(ctl->given[i].opt->name, name) == 0) {
            value = ctl->given[i].value;
        }
    }
    return value;
}

bool ctl_flag(const struct ctl *ctl, const char *name)
{
    return ctl_option(ctl, name) != NULL;
}

int ctl_number(const struct ctl *ctl, const char *name, int64_t min, int64_t max, int64_t fallback,
               int64_t *ret_value, struct err *err)
{
    const char *text = ctl_option(ctl, name);
    char *end = NULL;
    long long n = text ? strtoll(text, &end, 10) : (long long)fallback;

    if (text && (end == text || *end != '\0' || n < min || n > max)) {
        return max == INT64_MAX
                   ? err_set(err, ERR_PERMANENT, "usage", "%s takes a number from %lld", name,
                             (long long)min)
                   : err_set(err, ERR_PERMANENT, "usage", "%s takes a number from %lld to %lld",
                             name, (long long)min, (long long)max);
    }
    *ret_value = n;
    return 0;
}
