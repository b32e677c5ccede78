/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl.1 from the tables, in man(7)'s macros.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/buf.h"
#include "services/docfleetctl/ctl.h"

static const char *escape(char c)
{
    static const struct {
        char c;
        const char *text;
    } table[] = {{'\\', "\\e"},  {'-', "\\-"},   {'\'', "\\(aq"},
                 {'`', "\\(ga"}, {'~', "\\(ti"}, {'^', "\\(ha"}};

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].c == c) {
            return table[i].text;
        }
    }
    return NULL;
}

/* Text of a line: a dash is a minus sign to be typed, a leading dot or quote no request. */
static int put(struct buf *buf, const char *text, struct err *err)
{
    bool start = buf->len == 0 || buf->data[buf->len - 1] == '\n';

    for (; *text; text++) {
        const char *escaped = escape(*text);
        bool request = start && (*text == '.' || *text == '\'');
        if ((request && buf_puts(buf, "\\&", err) < 0) ||
            (escaped ? buf_puts(buf, escaped, err) : buf_append(buf, text, 1, err)) < 0) {
            return -1;
        }
        start = *text == '\n';
    }
    return 0;
}

static int put_opts(const struct ctl_opt *opts, struct buf *buf, struct err *err)
{
    for (; opts && opts->name; opts++) {
        if (buf_puts(buf, ".TP\n.B ", err) < 0 || put(buf, opts->name, err) < 0 ||
            (opts->value && (buf_puts(buf, " \\fI", err) < 0 || put(buf, opts->value, err) < 0 ||
                             buf_puts(buf, "\\fR", err) < 0)) ||
            buf_puts(buf, "\n", err) < 0 || put(buf, opts->help, err) < 0 ||
            (opts->choices && (buf_puts(buf, ": ", err) < 0 || put(buf, opts->choices, err) < 0)) ||
            buf_puts(buf, opts->required ? " (needed)\n" : "\n", err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int put_command(const struct ctl_command *c, struct buf *buf, struct err *err)
{
    CLEANUP(buf_done) struct buf line;

    buf_init(&line, 8192);
    if (ctl_synopsis(c, &line, err) < 0 || buf_puts(buf, ".SS ", err) < 0 ||
        put(buf, line.data, err) < 0 || buf_puts(buf, "\n", err) < 0 ||
        put(buf, c->help, err) < 0 || buf_puts(buf, ".\n", err) < 0 ||
        (c->more && (buf_puts(buf, ".PP\n", err) < 0 || put(buf, c->more, err) < 0 ||
                     buf_puts(buf, "\n", err) < 0))) {
        return -1;
    }
    return put_opts(c->opts, buf, err);
}

static const struct {
    const char *title;
    enum ctl_role roles[2];
} sections[] = {
    {"COMMANDS OF USERS", {CTL_USER, CTL_USER}},
    {"COMMANDS OF OPERATORS, OVER THE API", {CTL_OPERATOR, CTL_OPERATOR}},
    {"COMMANDS OF OPERATORS, STRAIGHT TO THE SERVERS", {CTL_SERVERS, CTL_DOCTOR}},
    {"OTHER COMMANDS", {CTL_LOCAL, CTL_LOCAL}},
};

static const char head[] =
    ".SH NAME\ndocfleetctl \\- uploads documents to docfleet, exports what was read, runs the "
    "fleet\n.SH SYNOPSIS\n.B docfleetctl\n.I command\n[\\fIoptions\\fR] ...\n"
    ".SH DESCRIPTION\nResults go to standard output, everything else to standard error. Commands "
    "of users need an address and a key, those that go straight to the servers need the settings "
    "of a service.\n.SH OPTIONS OF EVERY COMMAND\n";

static const char settings_text[] =
    ".SH SETTINGS\nAn option wins over the environment, the environment over a profile of "
    "\\(ti/.config/docfleet/config, a profile over the file of \\-\\-config.\n";

static const char files_text[] =
    ".SH FILES\n.TP\n.I \\(ti/.config/docfleet/config\nprofiles: lines\n.BR url ,\n.BR ca_file ,\n"
    ".BR api_key ,\n.BR api_key_file ,\n.BR admin_key \" and\"\n.B admin_key_file\n"
    "with = and a value, below a section [name]; before the first section: the profile default. "
    "DOCFLEET_PROFILE or \\-\\-profile chooses. Refused when others can read it.\n"
    ".TP\n.I \\(ti/.local/state/docfleet/uploads\njournals of uploads: what was accepted, so that "
    "the same command goes on.\n";

static int put_settings(struct buf *buf, struct err *err)
{
    if (buf_puts(buf, settings_text, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < ctl_option_count; i++) {
        const struct option_def *def = &ctl_option_defs[i];
        if (buf_printf(buf, err, ".TP\n.B DOCFLEET_%s%s\n", def->name,
                       def->type == OPTION_SECRET ? "\\fR, \\fB..._FILE" : "") < 0 ||
            put(buf, def->help, err) < 0 || buf_puts(buf, "\n", err) < 0) {
            return -1;
        }
    }
    return buf_puts(buf,
                    ".TP\n.B DOCFLEET_PROFILE\nthe profile, as \\-\\-profile\n.TP\n.B NO_COLOR\n"
                    "no colours on a terminal\n",
                    err);
}

int ctl_manual(struct buf *buf, struct err *err)
{
    const struct ctl_command *c;

    if (buf_printf(buf, err, ".TH DOCFLEETCTL 1 \"\" \"docfleet %s\" \"docfleet\"\n%s",
                   docfleet_version(), head) < 0 ||
        put_opts(ctl_global_opts, buf, err) < 0) {
        return -1;
    }
    for (size_t s = 0; s < ARRAY_LEN(sections); s++) {
        if (buf_printf(buf, err, ".SH %s\n", sections[s].title) < 0) {
            return -1;
        }
        for (size_t i = 0; (c = ctl_command_at(i)) != NULL; i++) {
            bool here = c->role == sections[s].roles[0] || c->role == sections[s].roles[1];
            if (here && put_command(c, buf, err) < 0) {
                return -1;
            }
        }
    }
    if (put_settings(buf, err) < 0 || buf_puts(buf, files_text, err) < 0 ||
        buf_puts(buf, ".SH EXIT STATUS\n", err) < 0) {
        return -1;
    }
    for (int code = 0; code <= CTL_INTERRUPTED; code++) {
        const char *text = ctl_exit_text((enum ctl_exit)code);
        if (*text && buf_printf(buf, err, ".TP\n.B %d\n%s\n", code, text) < 0) {
            return -1;
        }
    }
    return buf_puts(buf, ".PP\n.B doctor\nends with 0, 1 (warnings) or 2 (problems).\n", err);
}
