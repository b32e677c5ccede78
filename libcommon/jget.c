/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed getters over jansson. The depth is counted before parsing, because the parser's own limit
 * is far above ours. Refuses to guess: a wrong type is an error even where a member is optional.
 */
#include "libcommon/jget.h"

#include <math.h>
#include <string.h>

#define JGET_EXACT_MAX 9007199254740992.0 /* up to here a double holds every whole number */

/* Nesting of brackets outside strings; the parser judges everything else. */
static bool too_deep(const char *text, size_t len)
{
    unsigned depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
            continue;
        }
        if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JGET_DEPTH_MAX) {
                return true;
            }
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

/* The parser's words, but for what is JSON and still not taken: there it speaks of its own flags.
 */
static const char *why_not(const json_error_t *where)
{
    const enum json_error_code code = json_error_code(where);

    return code == json_error_null_character || code == json_error_null_byte_in_key
               ? "a text holds a NUL character"
           : code == json_error_numeric_overflow ? "a number is too big"
                                                 : where->text;
}

int jget_load(const char *text, size_t len, size_t max, json_t **ret_json, struct err *err)
{
    json_error_t where;

    if (len > max) {
        return err_set(err, ERR_PERMANENT, "malformed_json", "more than %zu bytes", max);
    }
    if (len == 0) {
        return err_set(err, ERR_PERMANENT, "malformed_json", "empty document");
    }
    if (too_deep(text, len)) {
        return err_set(err, ERR_PERMANENT, "malformed_json", "nested deeper than %d levels",
                       JGET_DEPTH_MAX);
    }
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    if (!json) {
        if (json_error_code(&where) == json_error_out_of_memory) {
            return err_nomem(err);
        }
        return err_set(err, ERR_PERMANENT, "malformed_json", "line %d, column %d: %s", where.line,
                       where.column, why_not(&where));
    }
    *ret_json = json;
    return 0;
}

static int wrong(struct err *err, const char *name, const char *what)
{
    return err_set(err, ERR_PERMANENT, "invalid_json", "member \"%s\" %s", name, what);
}

/* The member, or NULL with *err saying that it is missing. */
static json_t *member(const json_t *obj, const char *name, struct err *err)
{
    if (!json_is_object(obj)) {
        err_set(err, ERR_PERMANENT, "invalid_json", "not an object, so it has no \"%s\"", name);
        return NULL;
    }
    json_t *value = json_object_get(obj, name);
    if (!value) {
        wrong(err, name, "is missing");
    }
    return value;
}

/* Whether an optional member has to be read at all. */
static bool absent(const json_t *obj, const char *name)
{
    const json_t *value = json_object_get(obj, name);

    return (!obj || json_is_object(obj)) && (!value || json_is_null(value));
}

int jget_str(const json_t *obj, const char *name, size_t max, const char **ret_value,
             struct err *err)
{
    const json_t *value = member(obj, name, err);

    if (!value) {
        return -1;
    }
    if (!json_is_string(value)) {
        return wrong(err, name, "must be a string");
    }
    if (json_string_length(value) > max) {
        return err_set(err, ERR_PERMANENT, "invalid_json", "member \"%s\" has more than %zu bytes",
                       name, max);
    }
    *ret_value = json_string_value(value);
    return 0;
}

bool jget_whole(const json_t *value, int64_t *ret_number)
{
    const double real = json_is_real(value) ? json_real_value(value) : 0.5;

    if (!json_is_integer(value) && (real != trunc(real) || fabs(real) > JGET_EXACT_MAX)) {
        return false;
    }
    *ret_number = json_is_integer(value) ? json_integer_value(value) : (int64_t)real;
    return true;
}

int jget_int(const json_t *obj, const char *name, int64_t min, int64_t max, int64_t *ret_value,
             struct err *err)
{
    const json_t *value = member(obj, name, err);

    if (!value) {
        return -1;
    }
    int64_t number = 0;
    if (!jget_whole(value, &number)) {
        return wrong(err, name, "must be a whole number");
    }
    if (number < min || number > max) {
        return err_set(err, ERR_PERMANENT, "invalid_json",
                       "member \"%s\" must be between %lld and %lld", name, (long long)min,
                       (long long)max);
    }
    *ret_value = number;
    return 0;
}

int jget_bool(const json_t *obj, const char *name, bool *ret_value, struct err *err)
{
    const json_t *value = member(obj, name, err);

    if (!value) {
        return -1;
    }
    if (!json_is_boolean(value)) {
        return wrong(err, name, "must be true or false");
    }
    *ret_value = json_is_true(value);
    return 0;
}

int jget_real(const json_t *obj, const char *name, double *ret_value, struct err *err)
{
    const json_t *value = member(obj, name, err);

    if (!value) {
        return -1;
    }
    if (!json_is_number(value) || !isfinite(json_number_value(value))) {
        return wrong(err, name, "must be a number");
    }
    *ret_value = json_number_value(value);
    return 0;
}

int jget_array(const json_t *obj, const char *name, size_t max, json_t **ret_array, struct err *err)
{
    json_t *value = member(obj, name, err);

    if (!value) {
        return -1;
    }
    if (!json_is_array(value)) {
        return wrong(err, name, "must be a list");
    }
    if (json_array_size(value) > max) {
        return err_set(err, ERR_PERMANENT, "invalid_json",
                       "member \"%s\" has more than %zu entries", name, max);
    }
    *ret_array = value;
    return 0;
}

int jget_opt_str(const json_t *obj, const char *name, size_t max, const char *fallback,
                 const char **ret_value, struct err *err)
{
    if (absent(obj, name)) {
        *ret_value = fallback;
        return 0;
    }
    return jget_str(obj, name, max, ret_value, err);
}

int jget_opt_int(const json_t *obj, const char *name, int64_t min, int64_t max, int64_t fallback,
                 int64_t *ret_value, struct err *err)
{
    if (absent(obj, name)) {
        *ret_value = fallback;
        return 0;
    }
    return jget_int(obj, name, min, max, ret_value, err);
}

int jget_opt_bool(const json_t *obj, const char *name, bool fallback, bool *ret_value,
                  struct err *err)
{
    if (absent(obj, name)) {
        *ret_value = fallback;
        return 0;
    }
    return jget_bool(obj, name, ret_value, err);
}
