/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One reader for both forms of columns: a request may have mistakes, all of which are listed with
 * their JSON pointers; what is stored must be right.
 */
#include "libcommon/columns.h"

#include "libcommon/utf8.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const type_names[] = {
    [COLUMN_STRING] = "string",   [COLUMN_NUMBER] = "number", [COLUMN_INTEGER] = "integer",
    [COLUMN_BOOLEAN] = "boolean", [COLUMN_DATE] = "date",     [COLUMN_DATETIME] = "datetime",
    [COLUMN_MONEY] = "money",     [COLUMN_ENUM] = "enum",     [COLUMN_ROWS] = "rows",
};

static const char *const order_names[] = {
    [DATE_ORDER_AUTO] = "auto",
    [DATE_ORDER_DMY] = "dmy",
    [DATE_ORDER_MDY] = "mdy",
    [DATE_ORDER_YMD] = "ymd",
};

struct reader {
    json_t *errors;
    size_t n_errors;
    bool nomem;
    bool stored; /* ids are demanded */
    bool nested; /* inside a rows column */
};

const char *column_type_name(enum column_type type)
{
    return type_names[type];
}

static void complain(struct reader *in, const char *pointer, const char *fmt, ...) PRINTF(3, 4);
static void complain(struct reader *in, const char *pointer, const char *fmt, ...)
{
    char detail[200];
    va_list args;

    in->n_errors++;
    if (!in->errors || in->n_errors > COLUMN_ERRORS_MAX) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(detail, sizeof(detail), fmt, args);
    va_end(args);
    json_t *item = json_pack("{s:s, s:s}", "pointer", pointer, "detail", detail);
    if (!item || json_array_append_new(in->errors, item) < 0) {
        in->nomem = true;
    }
}

/* True for a text without control characters (C0, DEL, C1), line breaks only if allowed. */
static bool clean_text(const char *text, bool breaks)
{
    const size_t len = strlen(text);

    for (size_t at = 0; at < len;) {
        const uint32_t cp = utf8_next(text, len, &at);
        const bool allowed = breaks && (cp == '\n' || cp == '\t' || cp == '\r');
        if ((cp < 0x20 && !allowed) || (cp >= 0x7F && cp < 0xA0)) {
            return false;
        }
    }
    return true;
}

static size_t count_cp(const char *text)
{
    const size_t len = strlen(text);
    size_t n = 0;

    for (size_t at = 0; at < len; n++) {
        (void)utf8_next(text, len, &at);
    }
    return n;
}

/* A string member of at most max bytes, or NULL after a complaint (never for an absent optional
 * one: that is ""). */
static const char *read_text(struct reader *in, const json_t *obj, const char *at, const char *name,
                             bool required, size_t max)
{
    char pointer[96];
    const json_t *value = json_object_get(obj, name);

    (void)snprintf(pointer, sizeof(pointer), "%s/%s", at, name);
    if (!value || json_is_null(value)) {
        if (required) {
            complain(in, pointer, "is required");
            return NULL;
        }
        return "";
    }
    if (!json_is_string(value)) {
        complain(in, pointer, "must be a string");
        return NULL;
    }
    const char *text = json_string_value(value);
    if (json_string_length(value) != strlen(text) || !clean_text(text, !required)) {
        complain(in, pointer, "holds control characters");
        return NULL;
    }
    if (strlen(text) > max) {
        complain(in, pointer, "is longer than %zu bytes", max);
        return NULL;
    }
    return text;
}

static char *copy_text(struct reader *in, const char *text)
{
    char *copy = text ? strdup(text) : NULL;

    if (text && !copy) {
        in->nomem = true;
    }
    return copy;
}

static void read_name(struct reader *in, const json_t *obj, const char *at, struct column *column)
{
    char pointer[96];
    const char *name = read_text(in, obj, at, "name", true, COLUMN_NAME_MAX * 4);

    if (!name) {
        return;
    }
    (void)snprintf(pointer, sizeof(pointer), "%s/name", at);
    if (name[strspn(name, " ")] == '\0') {
        complain(in, pointer, "is empty");
    } else if (name[0] == ' ' || name[strlen(name) - 1] == ' ') {
        complain(in, pointer, "begins or ends with a space");
    } else if (count_cp(name) > COLUMN_NAME_MAX) {
        complain(in, pointer, "is longer than %u characters", COLUMN_NAME_MAX);
    }
    column->name = copy_text(in, name);
}

static bool read_type(struct reader *in, const json_t *obj, const char *at, struct column *column)
{
    char pointer[96];
    const char *type = read_text(in, obj, at, "type", true, 32);

    if (!type) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(type_names); i++) {
        if (strcmp(type, type_names[i]) == 0) {
            column->type = (enum column_type)i;
            return true;
        }
    }
    (void)snprintf(pointer, sizeof(pointer), "%s/type", at);
    complain(in, pointer,
             "is none of string, number, integer, boolean, date, datetime, money, enum, rows");
    return false;
}

/* The sum of lower-cased ASCII and Latin-1, Greek and Cyrillic capitals: enough to see two names
 * that people would take for one. */
static uint32_t fold_cp(uint32_t cp)
{
    if ((cp >= 'A' && cp <= 'Z') || (cp >= 0xC0 && cp <= 0xDE && cp != 0xD7) ||
        (cp >= 0x391 && cp <= 0x3A9) || (cp >= 0x410 && cp <= 0x42F)) {
        return cp + 0x20;
    }
    if (cp >= 0x100 && cp <= 0x137) {
        return cp | 1U;
    }
    return cp;
}

static bool same_name(const char *a, const char *b)
{
    const size_t a_len = strlen(a);
    const size_t b_len = strlen(b);
    size_t i = 0;
    size_t j = 0;

    while (i < a_len && j < b_len) {
        if (fold_cp(utf8_next(a, a_len, &i)) != fold_cp(utf8_next(b, b_len, &j))) {
            return false;
        }
    }
    return i == a_len && j == b_len;
}

static bool enum_repeats(const struct column *column, const char *text)
{
    for (size_t i = 0; i < column->n_enums; i++) {
        if (column->enums[i] && same_name(column->enums[i], text)) {
            return true;
        }
    }
    return false;
}

static void read_enum(struct reader *in, const json_t *obj, const char *at, struct column *column)
{
    char pointer[96];
    const json_t *list = json_object_get(obj, "enum");
    const size_t n = json_array_size(list);

    (void)snprintf(pointer, sizeof(pointer), "%s/enum", at);
    if (column->type != COLUMN_ENUM) {
        if (list && !json_is_null(list)) {
            complain(in, pointer, "belongs to columns of type enum only");
        }
        return;
    }
    if (n == 0 || n > COLUMN_ENUM_MAX) {
        complain(in, pointer, "must list 1 to %u values", COLUMN_ENUM_MAX);
        return;
    }
    column->enums = calloc(n, sizeof(*column->enums));
    if (!column->enums) {
        in->nomem = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        (void)snprintf(pointer, sizeof(pointer), "%s/enum/%zu", at, i);
        if (!text || !text[0] || strlen(text) > COLUMN_ENUM_BYTES || !clean_text(text, false)) {
            complain(in, pointer, "must be a string of 1 to %u bytes", COLUMN_ENUM_BYTES);
        } else if (enum_repeats(column, text)) {
            complain(in, pointer, "is there twice");
        } else {
            column->enums[column->n_enums] = copy_text(in, text);
            column->n_enums++;
        }
    }
}

static void read_currency(struct reader *in, const json_t *obj, const char *at,
                          struct column *column)
{
    char pointer[96];
    const char *code = read_text(in, obj, at, "currency", false, 64);

    if (!code || !code[0]) {
        return;
    }
    (void)snprintf(pointer, sizeof(pointer), "%s/currency", at);
    if (column->type != COLUMN_MONEY) {
        complain(in, pointer, "belongs to columns of type money only");
        return;
    }
    bool fits = strlen(code) == 3;
    for (size_t i = 0; fits && i < 3; i++) {
        fits = code[i] >= 'A' && code[i] <= 'Z';
    }
    if (!fits) {
        complain(in, pointer, "must be an ISO 4217 code such as EUR");
        return;
    }
    memcpy(column->currency, code, 4);
}

static void read_order(struct reader *in, const json_t *obj, const char *at, struct column *column)
{
    char pointer[96];
    const char *order = read_text(in, obj, at, "dateOrder", false, 16);

    if (!order || !order[0]) {
        return;
    }
    (void)snprintf(pointer, sizeof(pointer), "%s/dateOrder", at);
    if (column->type != COLUMN_DATE && column->type != COLUMN_DATETIME) {
        complain(in, pointer, "belongs to columns of type date and datetime only");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(order_names); i++) {
        if (strcmp(order, order_names[i]) == 0) {
            column->date_order = (enum date_order)i;
            return;
        }
    }
    complain(in, pointer, "is none of auto, dmy, mdy, ymd");
}

static void read_required(struct reader *in, const json_t *obj, const char *at,
                          struct column *column)
{
    char pointer[96];
    const json_t *value = json_object_get(obj, "required");

    if (value && !json_is_null(value) && !json_is_boolean(value)) {
        (void)snprintf(pointer, sizeof(pointer), "%s/required", at);
        complain(in, pointer, "must be true or false");
    }
    column->required = json_is_true(value);
}

static void read_members(struct reader *in, const json_t *obj, const char *at)
{
    static const char *const known[] = {"id",   "name",     "type",      "description", "required",
                                        "enum", "currency", "dateOrder", "itemColumns"};
    const char *name;
    json_t *value;
    json_t *object = json_incref((json_t *)(uintptr_t)obj);

    json_object_foreach(object, name, value)
    {
        bool found = false;
        for (size_t i = 0; i < ARRAY_LEN(known) && !found; i++) {
            found = strcmp(name, known[i]) == 0;
        }
        if (!found) {
            complain(in, at, "has an unknown member");
        }
    }
    json_decref(object);
}

static struct columns *read_columns(struct reader *in, const json_t *json, const char *at);

static void read_items(struct reader *in, const json_t *obj, const char *at, struct column *column)
{
    char pointer[96];
    const json_t *items = json_object_get(obj, "itemColumns");

    (void)snprintf(pointer, sizeof(pointer), "%s/itemColumns", at);
    if (column->type != COLUMN_ROWS) {
        if (items && !json_is_null(items)) {
            complain(in, pointer, "belongs to columns of type rows only");
        }
        return;
    }
    if (in->nested) {
        char type_at[96];
        (void)snprintf(type_at, sizeof(type_at), "%s/type", at);
        complain(in, type_at, "rows cannot hold rows");
        return;
    }
    in->nested = true;
    column->item_columns = read_columns(in, items, pointer);
    in->nested = false;
}

static void read_column(struct reader *in, const json_t *obj, const char *at, size_t index,
                        struct column *column)
{
    (void)snprintf(column->id, sizeof(column->id), "%c%zu", in->nested ? 'i' : 'c', index + 1);
    if (!json_is_object(obj)) {
        complain(in, at, "must be an object");
        return;
    }
    if (in->stored) {
        const char *id = json_string_value(json_object_get(obj, "id"));
        if (!id || strcmp(id, column->id) != 0) {
            complain(in, at, "has not the id %s", column->id);
        }
    } else {
        read_members(in, obj, at);
    }
    read_name(in, obj, at, column);
    column->description =
        copy_text(in, read_text(in, obj, at, "description", false, COLUMN_DESCRIPTION_MAX));
    read_required(in, obj, at, column);
    if (read_type(in, obj, at, column)) {
        read_enum(in, obj, at, column);
        read_currency(in, obj, at, column);
        read_order(in, obj, at, column);
        read_items(in, obj, at, column);
    }
}

static void check_unique(struct reader *in, const struct columns *columns, const char *at)
{
    char pointer[96];

    for (size_t i = 1; i < columns->n; i++) {
        for (size_t j = 0; j < i && columns->items[i].name; j++) {
            if (columns->items[j].name &&
                same_name(columns->items[i].name, columns->items[j].name)) {
                (void)snprintf(pointer, sizeof(pointer), "%s/%zu/name", at, i);
                complain(in, pointer, "is the name of another column too");
                break;
            }
        }
    }
}

static struct columns *read_columns(struct reader *in, const json_t *json, const char *at)
{
    const size_t n = json_array_size(json);

    if (!json_is_array(json) || n == 0) {
        complain(in, at, "must list at least one column");
        return NULL;
    }
    if (n > COLUMNS_MAX) {
        complain(in, at, "must list at most %u columns", COLUMNS_MAX);
        return NULL;
    }
    struct columns *columns = calloc(1, sizeof(*columns));
    struct column *items = calloc(n, sizeof(*items));
    if (!columns || !items) {
        free(columns);
        free(items);
        in->nomem = true;
        return NULL;
    }
    columns->items = items;
    columns->n = n;
    for (size_t i = 0; i < n; i++) {
        char pointer[64];
        (void)snprintf(pointer, sizeof(pointer), "%.40s/%zu", at, i);
        read_column(in, json_array_get(json, i), pointer, i, &items[i]);
    }
    check_unique(in, columns, at);
    return columns;
}

static int finish(const struct reader *in, struct columns *take_columns, const char *message,
                  struct columns **ret_columns, struct err *err)
{
    if (in->nomem || in->n_errors || !take_columns) {
        columns_free(take_columns);
        return in->nomem ? err_nomem(err)
                         : err_set(err, ERR_PERMANENT, "invalid_schema", "%s", message);
    }
    *ret_columns = take_columns;
    return 0;
}

int columns_parse_request(const json_t *json, struct columns **ret_columns, json_t *errors,
                          struct err *err)
{
    struct reader in = {.errors = errors};

    return finish(&in, read_columns(&in, json, "/columns"), "the columns are not valid",
                  ret_columns, err);
}

int columns_parse_stored(const json_t *json, struct columns **ret_columns, struct err *err)
{
    struct reader in = {.stored = true};

    return finish(&in, read_columns(&in, json, "/columns"), "the stored columns are not valid",
                  ret_columns, err);
}

/* --- writing ---------------------------------------------------------------------------------- */

static int set_extras(json_t *obj, const struct column *column)
{
    int bad = 0;

    if (column->type == COLUMN_ENUM) {
        json_t *list = json_array();
        for (size_t i = 0; i < column->n_enums; i++) {
            bad |= json_array_append_new(list, json_string(column->enums[i]));
        }
        bad |= json_object_set_new(obj, "enum", list);
    }
    if (column->currency[0]) {
        bad |= json_object_set_new(obj, "currency", json_string(column->currency));
    }
    if (column->date_order != DATE_ORDER_AUTO) {
        bad |= json_object_set_new(obj, "dateOrder", json_string(order_names[column->date_order]));
    }
    if (column->item_columns) {
        bad |= json_object_set_new(obj, "itemColumns", columns_to_json(column->item_columns));
    }
    return bad;
}

json_t *columns_to_json(const struct columns *columns)
{
    json_t *list = json_array();
    int bad = list ? 0 : -1;

    for (size_t i = 0; !bad && i < columns->n; i++) {
        const struct column *column = &columns->items[i];
        json_t *obj = json_pack("{s:s, s:s, s:s, s:s, s:b}", "id", column->id, "name", column->name,
                                "type", type_names[column->type], "description",
                                column->description, "required", (int)column->required);
        bad |= obj ? set_extras(obj, column) : -1;
        bad |= json_array_append_new(list, obj);
    }
    if (bad) {
        json_decref(list);
        return NULL;
    }
    return list;
}

void columns_free(struct columns *columns)
{
    if (!columns) {
        return;
    }
    for (size_t i = 0; i < columns->n; i++) {
        struct column *column = &columns->items[i];
        for (size_t k = 0; k < column->n_enums; k++) {
            free(column->enums[k]);
        }
        free(column->enums);
        free(column->name);
        free(column->description);
        columns_free(column->item_columns);
    }
    free(columns->items);
    free(columns);
}

int columns_find(const struct columns *columns, const char *id)
{
    for (size_t i = 0; i < columns->n; i++) {
        if (strcmp(columns->items[i].id, id) == 0) {
            return (int)i;
        }
    }
    return -1;
}
