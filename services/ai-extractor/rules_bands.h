/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The columns of a printed table: where its headings stand, and which words stand under them.
 * Invariant: bands are sorted by x; a word belongs to one item at most.
 */
#pragma once

#include "services/ai-extractor/rules.h"

#define BANDS_MAX 40U

/* Where a column stands; item -1: a heading nobody asked for. */
struct band {
    float x0, x1;
    int item;
    bool second; /* named in another line of the headings, over or under a first one */
};

struct table {
    const struct backend_job *job;
    const struct columns *items;
    const struct rules_page *rules;
    size_t column;
    enum concept meanings[COLUMNS_MAX];
    struct band bands[BANDS_MAX];
    size_t n_bands;
    struct proposals *out;
    struct candidate *row; /* being filled; NULL before the first */
    float row_bottom;
    size_t row_lines; /* of text added below its first */
};

struct span {
    uint32_t first, last; /* words */
    bool used;
};

/* In a table "total" and "amount" mean the line's. */
enum concept item_concept(const char *name);
/* Item columns named by a line (and one close below), as a count of different ones. */
size_t bands_named(const struct table *table, uint32_t line);
size_t bands_own(const struct table *table, uint32_t line); /* by the line alone */
/* Reads the headings around this line. */
void bands_read(struct table *table, uint32_t line);
/* Gives a line's words to the items they stand under; below: a line of text under a row, for which
 * second lines of headings count. False for a sentence across the table. */
bool bands_assign(const struct table *table, uint32_t line, bool below, struct span *spans);
