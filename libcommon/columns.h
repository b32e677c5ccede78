/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The typed columns of a dataset: read from a request, kept as JSON, used by gateway and extractor.
 * Invariant: a struct columns has passed every limit; its ids are c1..cn in order (i1..in inside a
 * rows column), so a column's name never becomes a key of stored values.
 * It refuses a dataset without columns, and rows inside rows.
 */
#pragma once

#include "libcommon/err.h"

#include <jansson.h>

#define COLUMNS_MAX 100U
#define COLUMN_NAME_MAX 100U         /* code points */
#define COLUMN_DESCRIPTION_MAX 1024U /* bytes */
#define COLUMN_ENUM_MAX 50U
#define COLUMN_ENUM_BYTES 200U /* of one value */
#define COLUMN_ERRORS_MAX 50U

enum column_type {
    COLUMN_STRING,
    COLUMN_NUMBER,
    COLUMN_INTEGER,
    COLUMN_BOOLEAN,
    COLUMN_DATE,
    COLUMN_DATETIME,
    COLUMN_MONEY,
    COLUMN_ENUM,
    COLUMN_ROWS,
};

enum date_order { DATE_ORDER_AUTO, DATE_ORDER_DMY, DATE_ORDER_MDY, DATE_ORDER_YMD };

struct columns;

struct column {
    char id[8]; /* "c1", or "i1" inside a rows column */
    char *name;
    enum column_type type;
    char *description; /* "" when absent */
    bool required;
    char **enums;
    size_t n_enums;
    char currency[4]; /* ISO 4217, "" when open */
    enum date_order date_order;
    struct columns *item_columns; /* only of COLUMN_ROWS */
};

struct columns {
    struct column *items;
    size_t n;
};

/* Reads the `columns` array of POST /datasets (json is that array). On failure appends
 * {pointer, detail} objects to errors (an array, may be NULL; pointers begin with "/columns") and
 * sets ERR_PERMANENT "invalid_schema". All mistakes are reported at once, up to COLUMN_ERRORS_MAX.
 */
int columns_parse_request(const json_t *json, struct columns **ret_columns, json_t *errors,
                          struct err *err) WARN_UNUSED;

/* Reads what columns_to_json wrote (ids must be there and in order). */
int columns_parse_stored(const json_t *json, struct columns **ret_columns,
                         struct err *err) WARN_UNUSED;

/* The stored form, which is also the API's: an array of {id, name, type, description, required,
 * enum?, currency?, dateOrder?, itemColumns?}. NULL when out of memory. */
json_t *columns_to_json(const struct columns *columns);

void columns_free(struct columns *columns);

/* Index of the column with this id, or -1. */
int columns_find(const struct columns *columns, const char *id);

const char *column_type_name(enum column_type type);

DEFINE_CLEANUP(struct columns *, columns_cleanup, columns_free)
