/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed reading of JSON that came from outside: one error that names the member, no silent
 * defaults. Works on jansson values; loads with a depth and size limit.
 * Invariant: a getter writes its output only on success.
 */
#pragma once

#include "libcommon/err.h"

#include <jansson.h>

#define JGET_DEPTH_MAX 32

DEFINE_CLEANUP(json_t *, json_cleanup, json_decref)

/* Parses len bytes, at most max, UTF-8 checked, duplicate keys refused, nesting at most
 * JGET_DEPTH_MAX. Error: ERR_PERMANENT "malformed_json" with line and column. */
int jget_load(const char *text, size_t len, size_t max, json_t **ret_json,
              struct err *err) WARN_UNUSED;

/* A whole number, however it is written: 1000, 1e3 and 1000.0 are one. False for all else. */
bool jget_whole(const json_t *value, int64_t *ret_number);

/* Required members of an object; ERR_PERMANENT "invalid_json" naming the member otherwise.
 * Strings are borrowed from obj, at most max bytes. 7.0 is a whole number, too. */
int jget_str(const json_t *obj, const char *name, size_t max, const char **ret_value,
             struct err *err) WARN_UNUSED;
int jget_int(const json_t *obj, const char *name, int64_t min, int64_t max, int64_t *ret_value,
             struct err *err) WARN_UNUSED;
int jget_bool(const json_t *obj, const char *name, bool *ret_value, struct err *err) WARN_UNUSED;
int jget_real(const json_t *obj, const char *name, double *ret_value, struct err *err) WARN_UNUSED;
int jget_array(const json_t *obj, const char *name, size_t max, json_t **ret_array,
               struct err *err) WARN_UNUSED;

/* Optional members: the fallback when absent or null, still an error on a wrong type. */
int jget_opt_str(const json_t *obj, const char *name, size_t max, const char *fallback,
                 const char **ret_value, struct err *err) WARN_UNUSED;
int jget_opt_int(const json_t *obj, const char *name, int64_t min, int64_t max, int64_t fallback,
                 int64_t *ret_value, struct err *err) WARN_UNUSED;
int jget_opt_bool(const json_t *obj, const char *name, bool fallback, bool *ret_value,
                  struct err *err) WARN_UNUSED;
