/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion for bash, zsh and fish, from the tables: commands, their options, choices, files.
 * Ids of datasets are not offered: asking the gateway at every tab is not worth it.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/buf.h"
#include "services/docfleetctl/ctl.h"

/* First words, each once. */
static bool first_of_group(size_t at)
{
    const struct ctl_command *c = ctl_command_at(at);

    for (size_t i = 0; i < at; i++) {
        if (strcmp(ctl_command_at(i)->words[0], c->words[0]) == 0) {
            return false;
        }
    }
    return true;
}

static int put_words(struct buf *buf, const char *group, struct err *err)
{
    const struct ctl_command *c;
    const char *gap = "";

    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        bool mine = group ? c->words[1] && strcmp(c->words[0], group) == 0 : first_of_group(i);
        if (mine) {
            if (buf_printf(buf, err, "%s%s", gap, group ? c->words[1] : c->words[0]) < 0) {
                return -1;
            }
            gap = " ";
        }
    }
    return 0;
}

/* "a|b" with blanks. */
static int put_choices(struct buf *buf, const char *choices, struct err *err)
{
    for (; *choices; choices++) {
        if (buf_append(buf, *choices == '|' ? " " : choices, 1, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int put_names(struct buf *buf, const struct ctl_opt *opts, struct err *err)
{
    for (; opts && opts->name; opts++) {
        if (buf_printf(buf, err, " %s", opts->name) < 0) {
            return -1;
        }
    }
    return 0;
}

static const char *const stage_words = "text ocr ai preview thumbnail clean scan";

/* Bash and zsh: a case by "command option"
 * -------------------------------------------------------*/

/* What follows an option: "f" files, "d" folders, "-" nothing to offer, else words. */
static int put_value_case(struct buf *buf, const char *key, const struct ctl_opt *opt,
                          struct err *err)
{
    if (!opt->value) {
        return 0;
    }
    if (buf_printf(buf, err, "        '%s %s') words='", key, opt->name) < 0 ||
        (opt->choices ? put_choices(buf, opt->choices, err)
                      : buf_puts(buf,
                                 opt->hint == HINT_FILE     ? "@file"
                                 : opt->hint == HINT_FOLDER ? "@folder"
                                 : opt->hint == HINT_STAGE  ? stage_words
                                                            : "@none",
                                 err)) < 0) {
        return -1;
    }
    return buf_puts(buf, "' ;;\n", err);
}

static int put_values(struct buf *buf, struct err *err)
{
    const struct ctl_command *c;

    for (const struct ctl_opt *opt = ctl_global_opts; opt->name; opt++) {
        if (opt->value && buf_printf(buf, err, "        *' %s') words='%s' ;;\n", opt->name,
                                     opt->hint == HINT_FILE ? "@file" : "@none") < 0) {
            return -1;
        }
    }
    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        char key[64];
        snprintf(key, sizeof(key), "%s%s%s", c->words[0], c->words[1] ? " " : "",
                 c->words[1] ? c->words[1] : "");
        for (const struct ctl_opt *opt = c->opts; opt && opt->name; opt++) {
            if (put_value_case(buf, key, opt, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* Options of a command, and what its arguments are. */
static int put_command_case(struct buf *buf, const struct ctl_command *c, struct err *err)
{
    const char *args = c->hint == HINT_FILE     ? "@file"
                       : c->hint == HINT_FOLDER ? "@folder"
                       : c->hint == HINT_STAGE  ? stage_words
                                                : "@none";
    bool choices = c->args && strchr(c->args, '|') != NULL;

    if (buf_printf(buf, err, "        '%s%s%s') options='", c->words[0], c->words[1] ? " " : "",
                   c->words[1] ? c->words[1] : "") < 0 ||
        put_names(buf, c->opts, err) < 0 || put_names(buf, ctl_global_opts, err) < 0 ||
        buf_puts(buf, "' words='", err) < 0 ||
        (choices ? put_choices(buf, c->args, err) : buf_puts(buf, args, err)) < 0) {
        return -1;
    }
    return buf_puts(buf, "' ;;\n", err);
}

static int put_groups(struct buf *buf, struct err *err)
{
    const struct ctl_command *c;

    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        if (c->words[1] && first_of_group(i) &&
            (buf_printf(buf, err, "        '%s') second='", c->words[0]) < 0 ||
             put_words(buf, c->words[0], err) < 0 || buf_puts(buf, "' ;;\n", err) < 0)) {
            return -1;
        }
    }
    return 0;
}

static int put_commands(struct buf *buf, struct err *err)
{
    const struct ctl_command *c;

    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        if (put_command_case(buf, c, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int bash(struct buf *buf, struct err *err)
{
    static const char top[] =
        "# bash completion of docfleetctl, made by `docfleetctl completion bash`\n"
        "_docfleetctl()\n{\n"
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
        "    local first=${COMP_WORDS[1]} second='' words='' options='' command\n"
        "    COMPREPLY=()\n"
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
        "        COMPREPLY=($(compgen -W '";
    static const char groups[] = "' -- \"$cur\"))\n        return\n    fi\n"
                                 "    case $first in\n";
    static const char values[] =
        "    esac\n    command=$first\n    if [ -n \"$second\" ]; then\n"
        "        if [ \"$COMP_CWORD\" -eq 2 ]; then\n"
        "            COMPREPLY=($(compgen -W \"$second\" -- \"$cur\"))\n            return\n"
        "        fi\n        command=\"$first ${COMP_WORDS[2]}\"\n    fi\n"
        "    case \"$command $prev\" in\n";
    static const char commands[] = "    esac\n    if [ -z \"$words\" ]; then\n"
                                   "        case $command in\n";
    static const char bottom[] =
        "        esac\n        case $cur in -*) words=$options ;; esac\n    fi\n"
        "    case $words in\n"
        "        @file) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
        "        @folder) compopt -o filenames; COMPREPLY=($(compgen -d -- \"$cur\")) ;;\n"
        "        @none) ;;\n"
        "        *) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
        "    esac\n}\n"
        "complete -F _docfleetctl docfleetctl\n";

    if (buf_puts(buf, top, err) < 0 || put_words(buf, NULL, err) < 0 ||
        buf_puts(buf, groups, err) < 0 || put_groups(buf, err) < 0 ||
        buf_puts(buf, values, err) < 0 || put_values(buf, err) < 0 ||
        buf_puts(buf, commands, err) < 0 || put_commands(buf, err) < 0) {
        return -1;
    }
    return buf_puts(buf, bottom, err);
}

/* Text of a zsh or fish description, inside single quotes. */
static int put_quoted(struct buf *buf, const char *text, const char *special, struct err *err)
{
    for (; *text; text++) {
        const char *before = *text == '\'' ? "'\\" : strchr(special, *text) ? "\\" : "";
        if (buf_puts(buf, before, err) < 0 || buf_append(buf, text, 1, err) < 0 ||
            (*text == '\'' && buf_puts(buf, "'", err) < 0)) {
            return -1;
        }
    }
    return 0;
}

static const char *zsh_action(enum ctl_hint hint)
{
    return hint == HINT_FILE     ? "_files"
           : hint == HINT_FOLDER ? "_files -/"
           : hint == HINT_STAGE  ? "(text ocr ai preview thumbnail clean scan)"
                                 : " ";
}

static int zsh_opts(struct buf *buf, const struct ctl_opt *opts, struct err *err)
{
    for (; opts && opts->name; opts++) {
        if (buf_printf(buf, err, " \\\n            '%s[", opts->name) < 0 ||
            put_quoted(buf, opts->help, "[]:\\", err) < 0 || buf_puts(buf, "]", err) < 0) {
            return -1;
        }
        if (opts->value && buf_printf(buf, err, ":%s:", opts->value) < 0) {
            return -1;
        }
        if (opts->choices &&
            (buf_puts(buf, "(", err) < 0 || put_choices(buf, opts->choices, err) < 0 ||
             buf_puts(buf, ")", err) < 0)) {
            return -1;
        }
        if ((opts->value && !opts->choices && buf_puts(buf, zsh_action(opts->hint), err) < 0) ||
            buf_puts(buf, "'", err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int zsh_command(struct buf *buf, const struct ctl_command *c, struct err *err)
{
    if (buf_printf(buf, err, "        '%s%s%s') _arguments", c->words[0], c->words[1] ? " " : "",
                   c->words[1] ? c->words[1] : "") < 0 ||
        zsh_opts(buf, c->opts, err) < 0 || zsh_opts(buf, ctl_global_opts, err) < 0) {
        return -1;
    }
    if (c->args && strchr(c->args, '|')) {
        return buf_puts(buf, " '*:: :(", err) < 0 || put_choices(buf, c->args, err) < 0
                   ? -1
                   : buf_puts(buf, ")' ;;\n", err);
    }
    return buf_printf(buf, err, "%s%s%s ;;\n", c->args ? " '*:: :" : "",
                      c->args ? zsh_action(c->hint) : "", c->args ? "'" : "");
}

static int zsh_list(struct buf *buf, const char *group, struct err *err)
{
    const struct ctl_command *c;

    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        bool mine = group ? c->words[1] && strcmp(c->words[0], group) == 0 : first_of_group(i);
        const char *help = !group && c->words[1] ? "..." : c->help;
        if (mine && (buf_printf(buf, err, " '%s:", group ? c->words[1] : c->words[0]) < 0 ||
                     put_quoted(buf, help, ":\\", err) < 0 || buf_puts(buf, "'", err) < 0)) {
            return -1;
        }
    }
    return 0;
}

static int zsh(struct buf *buf, struct err *err)
{
    const struct ctl_command *c;

    if (buf_puts(buf,
                 "#compdef docfleetctl\n# made by `docfleetctl completion zsh`\n"
                 "_docfleetctl() {\n    local -a names\n    local command=$words[2] skip=1\n"
                 "    if (( CURRENT == 2 )); then\n        names=(",
                 err) < 0 ||
        zsh_list(buf, NULL, err) < 0 ||
        buf_puts(buf,
                 ")\n        _describe command names\n        return\n    fi\n"
                 "    case $command in\n",
                 err) < 0) {
        return -1;
    }
    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        if (c->words[1] && first_of_group(i) &&
            (buf_printf(buf, err, "        %s) names=(", c->words[0]) < 0 ||
             zsh_list(buf, c->words[0], err) < 0 || buf_puts(buf, "); skip=2 ;;\n", err) < 0)) {
            return -1;
        }
    }
    if (buf_puts(buf,
                 "    esac\n    if (( skip == 2 )); then\n        if (( CURRENT == 3 )); then\n"
                 "            _describe command names\n            return\n        fi\n"
                 "        command=\"$command $words[3]\"\n    fi\n"
                 "    shift $skip words\n    (( CURRENT -= skip ))\n    case $command in\n",
                 err) < 0) {
        return -1;
    }
    for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
        if (zsh_command(buf, c, err) < 0) {
            return -1;
        }
    }
    return buf_puts(buf,
                    "    esac\n}\nif [ \"$funcstack[1]\" = _docfleetctl ]; then\n"
                    "    _docfleetctl \"$@\"\nelse\n    compdef _docfleetctl docfleetctl\nfi\n",
                    err);
}

static int fish_opt(struct buf *buf, const char *condition, const struct ctl_opt *opt,
                    struct err *err)
{
    const char *how = !opt->value                ? ""
                      : opt->hint == HINT_FILE   ? " -r -F"
                      : opt->hint == HINT_FOLDER ? " -x -a '(__fish_complete_directories)'"
                                                 : " -x";

    if (buf_printf(buf, err, "complete -c docfleetctl%s -l %s%s", condition, opt->name + 2, how) <
            0 ||
        (opt->choices &&
         (buf_puts(buf, " -a '", err) < 0 || put_choices(buf, opt->choices, err) < 0 ||
          buf_puts(buf, "'", err) < 0)) ||
        buf_puts(buf, " -d '", err) < 0 || put_quoted(buf, opt->help, "\\", err) < 0) {
        return -1;
    }
    return buf_puts(buf, "'\n", err);
}

static int fish_command(struct buf *buf, size_t i, struct err *err)
{
    const struct ctl_command *c = ctl_command_at(i);
    char condition[160];

    if (first_of_group(i) &&
        (buf_printf(buf, err, "complete -c docfleetctl -n __fish_use_subcommand -f -a %s -d '",
                    c->words[0]) < 0 ||
         put_quoted(buf, c->words[1] ? "..." : c->help, "\\", err) < 0 ||
         buf_puts(buf, "'\n", err) < 0)) {
        return -1;
    }
    snprintf(condition, sizeof(condition), " -n '__docfleetctl_is %s%s%s'", c->words[0],
             c->words[1] ? " " : "", c->words[1] ? c->words[1] : "");
    if (c->words[1] &&
        (buf_printf(buf, err, "complete -c docfleetctl -n '__docfleetctl_ends %s' -f -a %s -d '",
                    c->words[0], c->words[1]) < 0 ||
         put_quoted(buf, c->help, "\\", err) < 0 || buf_puts(buf, "'\n", err) < 0)) {
        return -1;
    }
    for (const struct ctl_opt *opt = c->opts; opt && opt->name; opt++) {
        if (fish_opt(buf, condition, opt, err) < 0) {
            return -1;
        }
    }
    bool choices = c->args && strchr(c->args, '|') != NULL;
    if (c->hint == HINT_FILE || c->hint == HINT_FOLDER) {
        return buf_printf(buf, err, "complete -c docfleetctl%s -F\n", condition);
    }
    if (buf_printf(buf, err, "complete -c docfleetctl%s -f", condition) < 0 ||
        ((choices || c->hint == HINT_STAGE) &&
         (buf_puts(buf, " -a '", err) < 0 ||
          put_choices(buf, choices ? c->args : stage_words, err) < 0 ||
          buf_puts(buf, "'", err) < 0))) {
        return -1;
    }
    return buf_puts(buf, "\n", err);
}

static int fish(struct buf *buf, struct err *err)
{
    if (buf_puts(buf,
                 "# made by `docfleetctl completion fish`\n"
                 "function __docfleetctl_is\n    set -l words (commandline -opc)\n"
                 "    set -l last (math 1 + (count $argv))\n"
                 "    test (count $words) -ge $last; and test \"$words[2..$last]\" = \"$argv\"\n"
                 "end\n"
                 "function __docfleetctl_ends\n    set -l words (commandline -opc)\n"
                 "    test (count $words) -eq 2 -a \"$words[2]\" = \"$argv[1]\"\nend\n",
                 err) < 0) {
        return -1;
    }
    for (const struct ctl_opt *opt = ctl_global_opts; opt->name; opt++) {
        if (fish_opt(buf, "", opt, err) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; ctl_command_at(i); i++) {
        if (fish_command(buf, i, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int ctl_completion(const char *shell, struct buf *buf, struct err *err)
{
    return strcmp(shell, "bash") == 0  ? bash(buf, err)
           : strcmp(shell, "zsh") == 0 ? zsh(buf, err)
           : strcmp(shell, "fish") == 0
               ? fish(buf, err)
               : err_set(err, ERR_PERMANENT, "usage", "the shells are bash, zsh and fish");
}
