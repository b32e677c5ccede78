/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One option table per program drives environment, file, --help, --print-config and the generated
 * docs/configuration.md.
 * Invariant: all mistakes are told at once; a DOCFLEET_ name no program knows is refused; a secret
 * is never printed.
 */
#pragma once

#include "libcommon/err.h"

#include <stdio.h>

enum option_type {
    OPTION_STRING,   /* char * */
    OPTION_SECRET,   /* char *, also from NAME_FILE, masked */
    OPTION_INT,      /* int64_t */
    OPTION_BOOL,     /* bool */
    OPTION_DURATION, /* int64_t milliseconds: 500ms, 15s, 2m, 1h, 7d */
    OPTION_RATIO,    /* double, 0 to 1 */
    OPTION_SIZE,     /* int64_t bytes: 512MiB, 5GiB, 100kB, plain bytes */
    OPTION_ENUM,     /* char *, one of choices */
};

struct option_def {
    const char *name; /* without DOCFLEET_ */
    enum option_type type;
    size_t offset;        /* in the program's options struct */
    const char *fallback; /* as text; NULL: required; "" allowed for strings */
    int64_t min, max;     /* of numbers; both 0: no bounds */
    const char *choices;  /* of OPTION_ENUM: "a|b|c" */
    const char *help;     /* one sentence, no full stop */
};

struct option_table {
    const struct option_def *defs;
    size_t n;
    void *target; /* the struct the offsets are in */
};

enum config_action { CONFIG_RUN, CONFIG_EXIT };

/* Reads defaults, then the file (--config FILE or DOCFLEET_CONFIG: NAME=value lines, # comments,
 * names with or without the prefix), then the environment. Understands --help, --print-config and
 * --print-docs, which print to stdout and give CONFIG_EXIT. On -1, *err names the first mistake
 * and all of them have been written to `complaints` (may be NULL), one a line. Strings live until
 * the process ends. */
int config_load(const char *program, int argc, char **argv, const struct option_table *tables,
                size_t n_tables, FILE *complaints, enum config_action *ret_action,
                struct err *err) WARN_UNUSED;

/* True when some program of docfleet has an option of that name (without the prefix). */
bool config_name_known(const char *name);

/* Parsers, exposed for other uses and tests. */
int config_parse_duration(const char *text, int64_t *ret_ms);
int config_parse_size(const char *text, int64_t *ret_bytes);
