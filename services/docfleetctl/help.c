/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Usage, --help and the README's list, from the tables.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/buf.h"
#include "services/docfleetctl/ctl.h"

int ctl_synopsis(const struct ctl_command *command, struct buf *buf, struct err *err)
{
    if (buf_printf(buf, err, "%s%s%s", command->words[0], command->words[1] ? " " : "",
                   command->words[1] ? command->words[1] : "") < 0) {
        return -1;
    }
    for (const struct ctl_opt *opt = command->opts; opt && opt->name; opt++) {
        if (buf_printf(buf, err, " %s%s%s%s%s", opt->required ? "" : "[", opt->name,
                       opt->value ? " " : "", opt->value ? opt->value : "",
                       opt->required ? "" : "]") < 0) {
            return -1;
        }
    }
    return command->args ? buf_printf(buf, err, " %s", command->args) : buf_puts(buf, "", err);
}

/* Short: all options as one. */
static int short_line(const struct ctl_command *c, struct buf *buf, struct err *err)
{
    bool more = false;

    if (buf_printf(buf, err, "%s%s%s", c->words[0], c->words[1] ? " " : "",
                   c->words[1] ? c->words[1] : "") < 0) {
        return -1;
    }
    for (const struct ctl_opt *opt = c->opts; opt && opt->name; opt++) {
        if (opt->required && buf_printf(buf, err, " %s %s", opt->name, opt->value) < 0) {
            return -1;
        }
        more = more || !opt->required;
    }
    return buf_printf(buf, err, "%s%s%s", more ? " [options]" : "", c->args ? " " : "",
                      c->args ? c->args : "");
}

static const char *role_title(enum ctl_role role)
{
    switch (role) {
    case CTL_USER:
        return "for users, over the API";
    case CTL_OPERATOR:
        return "for operators, over the API";
    case CTL_SERVERS:
    case CTL_DOCTOR:
        return "for operators, straight to the servers";
    case CTL_LOCAL:
        return "on their own";
    }
    return "";
}

static const char *role_needs(enum ctl_role role)
{
    switch (role) {
    case CTL_USER:
        return "DOCFLEET_URL and DOCFLEET_API_KEY";
    case CTL_OPERATOR:
        return "DOCFLEET_URL and an operator's key, DOCFLEET_ADMIN_KEY";
    case CTL_SERVERS:
    case CTL_DOCTOR:
        return "the settings of a service: DOCFLEET_DATABASE_URL and others";
    case CTL_LOCAL:
        return "nothing";
    }
    return "";
}

static bool same_title(enum ctl_role a, enum ctl_role b)
{
    return strcmp(role_title(a), role_title(b)) == 0;
}

static const enum ctl_role titles[] = {CTL_USER, CTL_OPERATOR, CTL_SERVERS, CTL_LOCAL};

static int usage_of_role(enum ctl_role role, const char *group, struct buf *buf, struct err *err)
{
    const struct ctl_command *c;
    bool any = false;

    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        CLEANUP(buf_done) struct buf line;
        if (!same_title(c->role, role) || (group && strcmp(c->words[0], group) != 0)) {
            continue;
        }
        buf_init(&line, 4096);
        if ((!any && buf_printf(buf, err, "\n%s:\n", role_title(role)) < 0) ||
            short_line(c, &line, err) < 0 ||
            buf_printf(buf, err, strlen(line.data) < 38 ? "  %-38s%s\n" : "  %s\n%40s%s\n",
                       line.data, strlen(line.data) < 38 ? c->help : "", c->help) < 0) {
            return -1;
        }
        any = true;
    }
    return 0;
}

int ctl_usage(const char *group, struct buf *buf, struct err *err)
{
    if (buf_puts(buf, "usage: docfleetctl COMMAND [options] ...\n", err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(titles); i++) {
        if (usage_of_role(titles[i], group, buf, err) < 0) {
            return -1;
        }
    }
    return buf_puts(buf,
                    "\ndocfleetctl COMMAND --help says more, docfleetctl help the exit status and "
                    "the settings.\n",
                    err);
}

static int put_opts(const struct ctl_opt *opts, struct buf *buf, struct err *err)
{
    for (; opts && opts->name; opts++) {
        char left[64];
        snprintf(left, sizeof(left), "%s%s%s", opts->name, opts->value ? " " : "",
                 opts->value ? opts->value : "");
        if (buf_printf(buf, err, "  %-22s%s%s%s%s\n", left, opts->help, opts->choices ? ": " : "",
                       opts->choices ? opts->choices : "", opts->required ? " (needed)" : "") < 0) {
            return -1;
        }
    }
    return 0;
}

int ctl_help_of(const struct ctl_command *c, struct buf *buf, struct err *err)
{
    if (buf_puts(buf, "usage: docfleetctl ", err) < 0 || ctl_synopsis(c, buf, err) < 0 ||
        buf_printf(buf, err, "\n\n%s\n", c->help) < 0 ||
        (c->opts && (buf_puts(buf, "\n", err) < 0 || put_opts(c->opts, buf, err) < 0)) ||
        (c->more && buf_printf(buf, err, "\n%s\n", c->more) < 0)) {
        return -1;
    }
    return buf_printf(buf, err, "\nNeeds %s.\n", role_needs(c->role));
}

/* A cell ends at a bar. */
static int put_cell(const char *text, struct buf *buf, struct err *err)
{
    for (; *text; text++) {
        if ((*text == '|' && buf_puts(buf, "\\", err) < 0) || buf_append(buf, text, 1, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int ctl_markdown(struct buf *buf, struct err *err)
{
    const struct ctl_command *c;

    for (size_t t = 0; t < ARRAY_LEN(titles); t++) {
        if (buf_printf(buf, err, "%s| %s | |\n|---|---|\n", t ? "\n" : "", role_title(titles[t])) <
            0) {
            return -1;
        }
        for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
            CLEANUP(buf_done) struct buf line;
            buf_init(&line, 4096);
            if (same_title(c->role, titles[t]) &&
                (short_line(c, &line, err) < 0 || buf_puts(buf, "| `", err) < 0 ||
                 put_cell(line.data, buf, err) < 0 || buf_puts(buf, "` | ", err) < 0 ||
                 put_cell(c->help, buf, err) < 0 || buf_puts(buf, " |\n", err) < 0)) {
                return -1;
            }
        }
    }
    return 0;
}

/* Exit status -----------------------------------------------------------------------------------*/

const char *ctl_exit_text(enum ctl_exit code)
{
    switch (code) {
    case CTL_OK:
        return "all is done";
    case CTL_FAILED:
        return "something failed";
    case CTL_USAGE:
        return "the command line or a setting is wrong";
    case CTL_NOT_FOUND:
        return "there is no such thing, or it is not yours";
    case CTL_NOT_ALLOWED:
        return "no key, a wrong one, or one without the right to do this";
    case CTL_UNAVAILABLE:
        return "no answer, or only \"later\": the same command may work then";
    case CTL_PARTLY:
        return "done in part: files were refused, left out or have failed";
    case CTL_INTERRUPTED:
        return "interrupted (Ctrl-C)";
    }
    return "";
}

int ctl_exit_of(const struct err *err)
{
    static const struct {
        const char *code;
        enum ctl_exit exit;
    } codes[] = {
        {"usage", CTL_USAGE},           {"invalid_config", CTL_USAGE},
        {"not_found", CTL_NOT_FOUND},   {"input_gone", CTL_NOT_FOUND},
        {"no_key", CTL_NOT_ALLOWED},    {"unauthorized", CTL_NOT_ALLOWED},
        {"forbidden", CTL_NOT_ALLOWED}, {"partly", CTL_PARTLY},
        {"aborted", CTL_INTERRUPTED},
    };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (strcmp(err->code, codes[i].code) == 0) {
            return codes[i].exit;
        }
    }
    return err->class == ERR_TRANSIENT ? CTL_UNAVAILABLE : CTL_FAILED;
}

/* Commands --------------------------------------------------------------------------------------*/

static int print(struct buf *buf, struct err *err)
{
    return fwrite(buf->data, 1, buf->len, stdout) == buf->len && fflush(stdout) == 0
               ? 0
               : err_set(err, ERR_UNKNOWN, "io", "the output cannot be written");
}

int ctl_help_command(struct ctl *ctl, struct err *err)
{
    static const enum ctl_exit codes[] = {CTL_OK,        CTL_FAILED,      CTL_USAGE,
                                          CTL_NOT_FOUND, CTL_NOT_ALLOWED, CTL_UNAVAILABLE,
                                          CTL_PARTLY,    CTL_INTERRUPTED};
    CLEANUP(buf_done) struct buf buf;
    int words = 0;

    buf_init(&buf, 1 << 20);
    if (ctl_flag(ctl, "--markdown")) {
        return ctl_markdown(&buf, err) < 0 ? -1 : print(&buf, err);
    }
    if (ctl->argc > 0) {
        const struct ctl_command *c = ctl_command_find(ctl->argc, ctl->argv, &words);
        bool group = !c && ctl_is_group(ctl->argv[0]);
        if (!c && !group) {
            return err_set(err, ERR_PERMANENT, "usage", "there is no command %.40s", ctl->argv[0]);
        }
        return (c ? ctl_help_of(c, &buf, err) : ctl_usage(ctl->argv[0], &buf, err)) < 0
                   ? -1
                   : print(&buf, err);
    }
    if (ctl_usage(NULL, &buf, err) < 0 || buf_puts(&buf, "\nfor every command:\n", err) < 0 ||
        put_opts(ctl_global_opts, &buf, err) < 0 ||
        buf_puts(&buf,
                 "\nSettings: an option, else the environment, else a profile of "
                 "~/.config/docfleet/config, else --config FILE.\n"
                 "docfleetctl --print-docs lists them.\n\nexit status:\n",
                 err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (buf_printf(&buf, err, "  %-5d%s\n", (int)codes[i], ctl_exit_text(codes[i])) < 0) {
            return -1;
        }
    }
    return print(&buf, err);
}

int ctl_manual_command(struct ctl *ctl, struct err *err)
{
    CLEANUP(buf_done) struct buf buf;

    (void)ctl;
    buf_init(&buf, 1 << 20);
    return ctl_manual(&buf, err) < 0 ? -1 : print(&buf, err);
}

int ctl_completion_command(struct ctl *ctl, struct err *err)
{
    CLEANUP(buf_done) struct buf buf;

    buf_init(&buf, 1 << 20);
    return ctl_completion(ctl->argv[0], &buf, err) < 0 ? -1 : print(&buf, err);
}
