/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request target taken apart once: decoded path, query arguments by name, and typed reading of
 * them.
 * Invariant: what comes out is valid UTF-8 without NUL or control characters, and an encoded slash
 * never makes a path segment.
 * Refuses bad percent escapes and an argument given twice.
 */
#pragma once

#include "libcommon/err.h"

#define URI_ARGS_MAX 32U
#define URI_BYTES_MAX 8192U

struct uri {
    char *bytes; /* owns everything below */
    char *path;
    struct {
        const char *name;
        const char *value;
    } args[URI_ARGS_MAX];
    size_t n_args;
};

/* ERR_PERMANENT "bad_request" or "uri_too_long". On success uri_done frees. */
int uri_parse(const char *raw, struct uri *ret_uri, struct err *err) WARN_UNUSED;
void uri_done(struct uri *uri);

/* The argument's value, or NULL when absent or empty. */
const char *uri_arg(const struct uri *uri, const char *name);

/* Decimal in [min, max]; fallback when absent. ERR_PERMANENT "bad_request" names the argument. */
int uri_arg_int(const struct uri *uri, const char *name, int64_t min, int64_t max, int64_t fallback,
                int64_t *ret_value, struct err *err) WARN_UNUSED;

/* A text of at most max characters, NULL when absent or empty. ERR_PERMANENT "bad_request". */
int uri_arg_text(const struct uri *uri, const char *name, size_t max, const char **ret_value,
                 struct err *err) WARN_UNUSED;

bool uuid_text_valid(const char *text); /* 36 lower-case characters */
/* "2026-11-22T15:00:00Z", with a fraction or an offset if need be; what the calendar says about it
 * is left to Postgres. */
bool time_text_valid(const char *text);
/* Digits only, at most 18, in [min, max]. */
bool decimal_parse(const char *text, int64_t min, int64_t max, int64_t *ret_value);
