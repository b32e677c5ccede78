/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neighbouring ranges share one page, the first of the later one. A row that begins before it and
 * goes on there is seen whole by the earlier range and as a rest by the later one: the whole row
 * stays, and the rest only fills what it left empty.
 */
#include "services/ai-extractor/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/jget.h"

/* --- the plan --------------------------------------------------------------------------------- */

struct part *parts_plan(const struct columns *columns, const int *pages, size_t n_pages, int schema,
                        const struct locale_hint *hint, size_t *ret_n)
{
    const size_t step = PART_PAGES - 1;
    const size_t ranges = n_pages > PART_PAGES ? (n_pages - 2) / step + 1 : 1;
    size_t n = 0;
    struct part *parts = calloc(ranges * columns->n + 1, sizeof(*parts));

    if (!parts) {
        return NULL;
    }
    for (size_t i = 0; i < columns->n && n == 0; i++) {
        n = columns->items[i].type != COLUMN_ROWS;
    }
    if (n) {
        parts[0] = (struct part){.kind = PART_SCALARS,
                                 .first = pages[0],
                                 .last = pages[n_pages - 1],
                                 .seen = pages[n_pages - 1]};
    }
    for (size_t i = 0; i < columns->n; i++) {
        for (size_t k = 0; columns->items[i].type == COLUMN_ROWS && k < ranges; k++) {
            const size_t end = k + 1 == ranges ? n_pages : (k + 1) * step;
            parts[n++] = (struct part){.kind = PART_ROWS,
                                       .column = (int)i,
                                       .first = pages[k * step],
                                       .last = pages[end - 1],
                                       .seen = pages[end == n_pages ? end - 1 : end]};
        }
    }
    for (size_t i = 0; i < n; i++) {
        parts[i].schema = schema;
        parts[i].units = (int)n;
        parts[i].hint = *hint;
    }
    *ret_n = n;
    return parts;
}

static const char *const kind_names[] = {"scalars", "rows", "join"};

json_t *part_to_input(const struct part *part)
{
    const char mark[2] = {part->hint.decimal, '\0'};

    return json_pack("{s:s, s:i, s:i, s:i, s:[i, i, i], s:i, s:s, s:s}", "part",
                     kind_names[part->kind], "schema", part->schema, "units", part->units, "column",
                     part->column, "pages", part->first, part->last, part->seen, "order",
                     (int)part->hint.order, "decimal", mark, "currency", part->hint.currency);
}

static int input_int(const json_t *input, const char *name, int64_t max, int *ret, struct err *err)
{
    int64_t value;

    if (jget_int(input, name, 0, max, &value, err) < 0) {
        return -1;
    }
    *ret = (int)value;
    return 0;
}

static int input_pages(const json_t *input, struct part *part)
{
    const json_t *pages = json_object_get(input, "pages");
    int *const places[] = {&part->first, &part->last, &part->seen};

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const json_int_t page = json_integer_value(json_array_get(pages, i));
        if (page < 1 || page > INT32_MAX || (i > 0 && page < *places[i - 1])) {
            return -1;
        }
        *places[i] = (int)page;
    }
    return 0;
}

int part_from_input(const json_t *input, const struct columns *columns, struct part *ret,
                    struct err *err)
{
    const char *kind = json_string_value(json_object_get(input, "part"));
    const char *mark = json_string_value(json_object_get(input, "decimal"));
    const char *currency = json_string_value(json_object_get(input, "currency"));
    struct part part = {.kind = PART_JOIN};
    struct err why = ERR_INIT;
    int order = 0;
    size_t known = 0;

    while (kind && known < ARRAY_LEN(kind_names) && strcmp(kind, kind_names[known]) != 0) {
        known++;
    }
    if (!kind || known == ARRAY_LEN(kind_names) || !mark || !currency || strlen(currency) > 3 ||
        input_int(input, "schema", INT32_MAX, &part.schema, &why) < 0 ||
        input_int(input, "units", INT32_MAX, &part.units, &why) < 0 ||
        input_int(input, "column", COLUMNS_MAX - 1, &part.column, &why) < 0 ||
        input_int(input, "order", DATE_ORDER_YMD, &order, &why) < 0 ||
        input_pages(input, &part) < 0 ||
        (columns && known == PART_ROWS &&
         ((size_t)part.column >= columns->n || columns->items[part.column].type != COLUMN_ROWS))) {
        return err_set(err, ERR_UNKNOWN, "invalid_input", "the unit's input is not understood");
    }
    part.kind = (enum part_kind)known;
    part.hint.order = (enum date_order)order;
    part.hint.decimal = mark[0];
    (void)snprintf(part.hint.currency, sizeof(part.hint.currency), "%s", currency);
    *ret = part;
    return 0;
}

json_t *part_answer(const struct part *part, const struct extract_result *result)
{
    return json_pack(
        "{s:i, s:o, s:s, s:b, s:b, s:O, s:O, s:O, s:[I, I, I, I, I], s:b}", "v", 1, "input",
        part_to_input(part), "backend", result->backend, "review", result->needs_review ? 1 : 0,
        "partial", result->partial ? 1 : 0, "values", result->values, "cells", result->cells,
        "rows", result->rows, "usage", (json_int_t)result->usage.calls,
        (json_int_t)result->usage.remembered, (json_int_t)result->usage.prompt_tokens,
        (json_int_t)result->usage.completion_tokens, (json_int_t)result->usage.cached_tokens,
        "estimated", result->usage.estimated ? 1 : 0);
}

/* --- rows at the seams ------------------------------------------------------------------------ */

struct place {
    int64_t page, start, end;
};

/* Where a cell was found; false when nowhere. */
static bool place_of(const json_t *cell, struct place *ret)
{
    const json_t *span = json_object_get(cell, "span");

    *ret = (struct place){.page = json_integer_value(json_object_get(cell, "page")),
                          .start = json_integer_value(json_array_get(span, 0)),
                          .end = json_integer_value(json_array_get(span, 1))};
    return ret->page > 0 && ret->end > ret->start;
}

static void page_range(const json_t *row, int64_t *ret_first, int64_t *ret_last)
{
    const char *id;
    json_t *cell;
    struct place place;

    *ret_first = INT64_MAX;
    *ret_last = 0;
    json_object_foreach(json_object_get(row, "cells"), id, cell)
    {
        if (place_of(cell, &place)) {
            *ret_first = place.page < *ret_first ? place.page : *ret_first;
            *ret_last = place.page > *ret_last ? place.page : *ret_last;
        }
    }
}

static bool cites(const json_t *row, const struct place *place)
{
    const char *id;
    json_t *cell;
    struct place other;

    json_object_foreach(json_object_get(row, "cells"), id, cell)
    {
        if (place_of(cell, &other) && other.page == place->page && other.start < place->end &&
            place->start < other.end) {
            return true;
        }
    }
    return false;
}

/* At least half of what the row cites is cited by the other one: the same line, or its rest. One
 * shared word, such as a tax rate printed once, does not make two rows one. */
static bool same_line(const json_t *row, const json_t *other)
{
    const char *id;
    json_t *cell;
    struct place place;
    size_t n = 0, shared = 0;

    json_object_foreach(json_object_get(row, "cells"), id, cell)
    {
        if (place_of(cell, &place)) {
            n++;
            shared += cites(other, &place) ? 1 : 0;
        }
    }
    return n > 0 && 2 * shared >= n;
}

/* Cells that the whole row lacks and its rest has. */
static int fill_from(json_t *row, const json_t *rest)
{
    json_t *values = json_object_get(row, "values"), *cells = json_object_get(row, "cells");
    const char *id;
    json_t *cell;
    struct place place;
    int bad = 0;

    json_object_foreach(json_object_get(rest, "cells"), id, cell)
    {
        struct place mine;
        if (place_of(cell, &place) && !place_of(json_object_get(cells, id), &mine)) {
            bad |= json_object_set(cells, id, cell);
            bad |=
                json_object_set(values, id, json_object_get(json_object_get(rest, "values"), id));
        }
    }
    return bad;
}

/* Appends a part's own rows. kept: how many rows the list held before the previous part, so that
 * only that part's rows are looked at for a rest's whole. */
static int add_rows(json_t *list, size_t *kept, const struct part *part, const json_t *rows,
                    struct err *err)
{
    const size_t before = json_array_size(list);
    json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        int64_t first, last;
        json_t *whole = NULL;
        page_range(row, &first, &last);
        if (first > part->last && part->seen > part->last) {
            continue; /* the next range's */
        }
        for (size_t k = *kept; k < before && !whole; k++) {
            json_t *other = json_array_get(list, k);
            int64_t from, to;
            page_range(other, &from, &to);
            whole = to >= part->first && same_line(row, other) ? other : NULL;
        }
        if (whole ? fill_from(whole, row) < 0 : json_array_append(list, row) < 0) {
            return err_nomem(err);
        }
    }
    *kept = before;
    return 0;
}

/* --- the record ------------------------------------------------------------------------------- */

/* One rows column while its parts come in. */
struct gathered {
    json_t *list; /* borrowed from the result */
    size_t kept;
    const char *reason; /* borrowed from an answer */
};

static void add_usage(struct extract_usage *sum, const json_t *answer)
{
    const json_t *usage = json_object_get(answer, "usage");
    uint64_t *const places[] = {&sum->calls, &sum->remembered, &sum->prompt_tokens,
                                &sum->completion_tokens, &sum->cached_tokens};

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const json_int_t n = json_integer_value(json_array_get(usage, i));
        *places[i] += n > 0 ? (uint64_t)n : 0;
    }
    sum->estimated |= json_is_true(json_object_get(answer, "estimated"));
}

static int take_answer(const struct columns *columns, const json_t *answer,
                       struct gathered *gathered, struct extract_result *made, struct err *err)
{
    const char *backend = json_string_value(json_object_get(answer, "backend"));
    struct part part;

    if (json_integer_value(json_object_get(answer, "v")) != 1 || !backend ||
        part_from_input(json_object_get(answer, "input"), columns, &part, err) < 0 ||
        part.kind == PART_JOIN) {
        return err_set(err, ERR_UNKNOWN, "corrupt", "a unit's answer is not understood");
    }
    (void)snprintf(made->backend, sizeof(made->backend), "%s", backend);
    made->partial |= json_is_true(json_object_get(answer, "partial"));
    add_usage(&made->usage, answer);
    if (part.kind == PART_SCALARS) {
        made->needs_review |= json_is_true(json_object_get(answer, "review"));
        return json_object_update(made->values, json_object_get(answer, "values")) < 0 ||
                       json_object_update(made->cells, json_object_get(answer, "cells")) < 0
                   ? err_nomem(err)
                   : 0;
    }
    const char *id = columns->items[part.column].id;
    struct gathered *column = &gathered[part.column];
    const char *reason = json_string_value(
        json_object_get(json_object_get(json_object_get(answer, "cells"), id), "reason"));
    /* a range without text says less than one without rows */
    if (reason && (!column->reason || strcmp(column->reason, "no_text") == 0)) {
        column->reason = reason;
    }
    return add_rows(column->list, &column->kept, &part,
                    json_object_get(json_object_get(answer, "rows"), id), err);
}

/* Cuts what is too much, counts, and looks whether a row wants review. */
static int end_rows(const struct column *column, struct gathered *gathered,
                    struct extract_result *made, struct err *err)
{
    json_t *row;
    size_t i;

    while (json_array_size(gathered->list) > EXTRACT_ROWS_MAX) {
        json_array_remove(gathered->list, json_array_size(gathered->list) - 1);
        made->partial = true;
    }
    json_array_foreach(gathered->list, i, row)
    {
        made->needs_review |= json_is_true(json_object_get(row, "review"));
    }
    const size_t n = json_array_size(gathered->list);
    made->needs_review |= n == 0 && column->required;
    return extract_count_rows(column, n, gathered->reason, made->values, made->cells, err);
}

static int merge(const struct columns *columns, const json_t *answers, struct gathered *gathered,
                 struct extract_result *made, struct err *err)
{
    size_t i;
    json_t *answer;

    for (size_t c = 0; c < columns->n; c++) {
        if (columns->items[c].type == COLUMN_ROWS) {
            gathered[c].list = json_array();
            if (!gathered[c].list ||
                json_object_set_new(made->rows, columns->items[c].id, gathered[c].list) < 0) {
                return err_nomem(err);
            }
        }
    }
    json_array_foreach(answers, i, answer)
    {
        if (take_answer(columns, answer, gathered, made, err) < 0) {
            return -1;
        }
    }
    for (size_t c = 0; c < columns->n; c++) {
        if (gathered[c].list && end_rows(&columns->items[c], &gathered[c], made, err) < 0) {
            return -1;
        }
    }
    made->needs_review |= made->partial;
    made->completeness = extract_completeness(columns, made->values);
    return 0;
}

int parts_merge(const struct columns *columns, const json_t *answers, struct extract_result *ret,
                struct err *err)
{
    struct gathered gathered[COLUMNS_MAX] = {{.kept = 0}};
    struct extract_result made = {
        .values = json_object(), .cells = json_object(), .rows = json_object()};

    if (!made.values || !made.cells || !made.rows) {
        extract_result_done(&made);
        return err_nomem(err);
    }
    if (merge(columns, answers, gathered, &made, err) < 0) {
        extract_result_done(&made);
        return -1;
    }
    *ret = made;
    return 0;
}
