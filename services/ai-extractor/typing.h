/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds and reads typed values in text as people write them: numbers, money, dates, words for
 * yes and no. One reader for documents and for what a model claims to have read there.
 * Invariant: a value comes from one token of the text; two possible readings are said, not guessed.
 */
#pragma once

#include "libcommon/columns.h"

enum value_flag {
    VALUE_TWO_READINGS = 1, /* `other` holds the second one */
    VALUE_COMPACT = 2,      /* a date written as eight digits: only a label makes it one */
    VALUE_PERCENT = 4,
    VALUE_FRACTION = 8, /* the number is written with decimals */
};

struct value {
    enum column_type type;
    unsigned flags;
    char text[208];   /* decimal "-1234.50", "2024-03-14", datetime, or the enum's word */
    char other[40];   /* the second reading of a number or date */
    char currency[4]; /* ISO 4217 or "" */
    bool truth;       /* boolean */
};

struct token {
    size_t start, end; /* bytes */
    struct value value;
};

/* What the document as a whole says about the way it writes. */
struct locale_hint {
    enum date_order order;
    char decimal;     /* '.', ',' or 0: unknown */
    char currency[4]; /* the only currency named in the document, or "" */
};

struct locale_votes {
    unsigned dmy, mdy, point, comma;
    char currency[4];
    bool many_currencies;
};

/* Collects evidence from one page; then makes a hint of it. */
void locale_learn(struct locale_votes *votes, const char *text, size_t len);
struct locale_hint locale_decide(const struct locale_votes *votes);

/* The next token of a number, integer, money, date or datetime at or after *at; *at moves behind
 * it. Other types have no tokens. */
bool typing_next(enum column_type type, const char *text, size_t len, size_t *at,
                 const struct locale_hint *hint, struct token *ret);

/* Reads text as one value of the column's type; anything beside it but blanks and a currency makes
 * it fail. Strings, rows: always false. */
bool typing_parse(const struct column *column, const char *text, size_t len,
                  const struct locale_hint *hint, struct value *ret);

/* The only listed word in text as a whole-word match, or false (none, or several). */
bool typing_enum_in(const struct column *column, const char *text, size_t len, struct value *ret);
/* Text that is nothing but a word for yes or no. */
bool typing_boolean(const char *text, size_t len, struct value *ret);

/* The document's order and decimal mark, overruled by what the column says. */
struct locale_hint typing_hint(const struct column *column, const struct locale_hint *doc);

bool value_equal(const struct value *a, const struct value *b);
/* Forms as in extract.h; NULL when out of memory. */
json_t *value_to_json(const struct value *value);

/* Exact decimals as "-12.50": a + b, and a × b; false when over 18 digits. Equality within one
 * unit of `slack` hundredths. */
bool decimal_cents(const char *decimal, int64_t *ret_cents);

/* --- for the parts of typing and its tests -----------------------------------------------------
 */

/* A currency sign or code at text[at]: its ISO code ("" for a sign of several currencies such as
 * kr) and length in bytes, 0 if there is none. */
size_t currency_at(const char *text, size_t len, size_t at, char ret_code[4]);
/* A currency that ends just before text[at]; returns where it begins, or at. */
size_t currency_before(const char *text, size_t at, char ret_code[4]);

/* A number, money or date token that starts exactly at text[at]; returns its end or 0. */
size_t number_at(const char *text, size_t len, size_t at, bool money,
                 const struct locale_hint *hint, struct value *ret);
size_t date_at(const char *text, size_t len, size_t at, bool with_time,
               const struct locale_hint *hint, struct value *ret);
/* 1..12 for a month's name or abbreviation at text[at] (ret_len bytes), or 0. */
int month_at(const char *text, size_t len, size_t at, size_t *ret_len);
