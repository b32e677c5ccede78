/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way from proposals to a record: ground, type, score, check, write. The same for every
 * backend, so that a better model changes what is proposed and never what may be published.
 */
#include "services/ai-extractor/extract.h"
#include "libcommon/utf8.h"

#include "services/ai-extractor/rules.h"
#include "services/ai-extractor/score.h"

#include <stdio.h>
#include <string.h>

#define RIVAL_EQUAL 0.95  /* a rival this near makes a conflict */
#define RIVAL_NEAR 0.75   /* and this near lowers the score */
#define PUBLISH_FROM 0.35 /* what scores less is shown as evidence only */

/* A column's grounded candidates, best first. */
struct cell {
    struct grounded found[CANDIDATES_MAX];
    struct factors factors[CANDIDATES_MAX];
    size_t n;
    const char *raw; /* of the first candidate that was not found, borrowed */
    bool conflict;
    const char *reason;
};

static void cell_done(struct cell *cell)
{
    for (size_t i = 0; i < cell->n; i++) {
        grounded_done(&cell->found[i]);
    }
    cell->n = 0;
}

static bool same_finding(const struct column *column, const struct grounded *a,
                         const struct grounded *b)
{
    if (column->type != COLUMN_STRING) {
        return value_equal(&a->value, &b->value);
    }
    char left[256];
    char right[256];
    (void)norm_key(a->text, strlen(a->text), left, sizeof(left));
    (void)norm_key(b->text, strlen(b->text), right, sizeof(right));
    return strcmp(left, right) == 0;
}

/* Puts a finding in its place by score; equal values are one finding. */
static void cell_add(const struct column *column, struct cell *cell, struct grounded *take_found,
                     const struct factors *factors)
{
    const double mine = score(factors);

    for (size_t i = 0; i < cell->n; i++) {
        if (same_finding(column, &cell->found[i], take_found)) {
            if (score(&cell->factors[i]) >= mine) {
                grounded_done(take_found);
                return;
            }
            grounded_done(&cell->found[i]);
            memmove(&cell->found[i], &cell->found[i + 1],
                    (cell->n - i - 1) * sizeof(cell->found[0]));
            memmove(&cell->factors[i], &cell->factors[i + 1],
                    (cell->n - i - 1) * sizeof(cell->factors[0]));
            cell->n--;
            break;
        }
    }
    size_t at = cell->n;
    while (at > 0 && score(&cell->factors[at - 1]) < mine) {
        cell->found[at] = cell->found[at - 1];
        cell->factors[at] = cell->factors[at - 1];
        at--;
    }
    cell->found[at] = *take_found;
    cell->factors[at] = *factors;
    cell->n++;
}

static int cell_ground(struct grounder *grounder, const struct column *column,
                       const struct candidate *candidates, size_t n, struct cell *cell,
                       struct err *err)
{
    for (size_t i = 0; i < n && cell->n < CANDIDATES_MAX; i++) {
        struct grounded found;
        const int r = ground_candidate(grounder, column, &candidates[i], &found, err);
        if (r < 0) {
            return -1;
        }
        if (r == 0) {
            cell->raw = cell->raw ? cell->raw : candidates[i].raw;
            continue;
        }
        const struct factors factors = {
            .match = found.grade,
            .quote = found.quote,
            .ocr = found.ocr,
            .evidence = candidates[i].prior,
            .uniqueness = found.hits > 1 ? 0.9 : 1,
            .checks = 1,
        };
        cell_add(column, cell, &found, &factors);
    }
    return 0;
}

/* Rivals and double readings turn a finding into a conflict or lower it. */
static void cell_judge(const struct column *column, struct cell *cell)
{
    if (cell->n == 0) {
        return;
    }
    if (cell->n > 1) {
        const double best = score(&cell->factors[0]);
        const double next = score(&cell->factors[1]);
        if (next >= best * RIVAL_EQUAL) {
            cell->conflict = true;
            cell->reason = "several_values";
        } else if (next >= best * RIVAL_NEAR) {
            cell->factors[0].uniqueness = 0.8;
        }
    }
    if (column->type != COLUMN_STRING && (cell->found[0].value.flags & VALUE_TWO_READINGS)) {
        cell->conflict = true;
        cell->reason = column->type == COLUMN_DATE || column->type == COLUMN_DATETIME
                           ? "ambiguous_date"
                           : "ambiguous_number";
    }
}

/* --- JSON ------------------------------------------------------------------------------------- */

static json_t *found_value(const struct column *column, const struct grounded *found,
                           const struct locale_hint *hint)
{
    if (column->type == COLUMN_STRING) {
        return json_string(found->text);
    }
    struct value value = found->value;
    if (value.type == COLUMN_MONEY && !value.currency[0]) {
        /* written elsewhere in the document, or fixed by the column */
        const char *code = column->currency[0] ? column->currency : hint->currency;
        (void)snprintf(value.currency, sizeof(value.currency), "%s", code);
    }
    return value_to_json(&value);
}

static json_t *evidence(const struct grounded *found)
{
    CLEANUP(free_cleanup)
    char *quote = ground_text(found->page->page, found->start, found->end);

    return json_pack("{s:i, s:[I,I], s:o*, s:s*}", "page", found->page->page->page, "span",
                     (json_int_t)found->start, (json_int_t)found->end, "boxes",
                     layout_boxes(found->page, found->start, found->end), "quote", quote);
}

static json_t *other_reading(const struct grounded *found)
{
    struct value value = found->value;

    memcpy(value.text, value.other, sizeof(value.other));
    value.flags = 0;
    json_t *item = evidence(found);
    if (item && json_object_set_new(item, "value", value_to_json(&value)) < 0) {
        json_decref(item);
        return NULL;
    }
    return item;
}

static int add_alternatives(json_t *json, const struct column *column, const struct cell *cell,
                            const struct locale_hint *hint)
{
    json_t *list = json_array();
    int bad = 0;

    for (size_t i = cell->conflict ? 0 : 1; i < min_size(cell->n, 4); i++) {
        json_t *item = evidence(&cell->found[i]);
        bad |= json_object_set_new(item, "value", found_value(column, &cell->found[i], hint));
        bad |= json_array_append_new(list, item);
    }
    if (cell->n && column->type != COLUMN_STRING &&
        (cell->found[0].value.flags & VALUE_TWO_READINGS)) {
        bad |= json_array_append_new(list, other_reading(&cell->found[0]));
    }
    if (json_array_size(list) == 0) {
        json_decref(list);
        return bad;
    }
    return bad | json_object_set_new(json, "alternatives", list);
}

static const char *cell_status(const struct cell *cell)
{
    if (cell->n == 0) {
        return cell->raw ? "ungrounded" : "empty";
    }
    return cell->conflict ? "conflict" : "ok";
}

static json_t *cell_to_json(const struct column *column, const struct cell *cell,
                            const struct locale_hint *hint)
{
    const bool ok = cell->n && !cell->conflict;
    json_t *json = cell->n ? evidence(&cell->found[0]) : json_object();
    int bad = json ? 0 : -1;

    if (bad) {
        return NULL;
    }
    bad |= json_object_set_new(json, "status", json_string(cell_status(cell)));
    bad |= json_object_set_new(json, "confidence",
                               json_real(cell->n ? score(&cell->factors[0]) * (ok ? 1 : 0.5) : 0));
    if (cell->reason) {
        bad |= json_object_set_new(json, "reason", json_string(cell->reason));
    }
    if (cell->n == 0 && cell->raw) {
        char cut[204];
        (void)snprintf(cut, sizeof(cut), "%s", cell->raw);
        while (!utf8_valid(cut, strlen(cut))) {
            cut[strlen(cut) - 1] = '\0';
        }
        bad |= json_object_set_new(json, "raw", json_string(cut));
    }
    if (cell->n) {
        bad |= json_object_set_new(json, "factors", factors_to_json(&cell->factors[0]));
        bad |= add_alternatives(json, column, cell, hint);
    }
    if (bad) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* Writes value and cell of one column under its id. */
static int put_cell(json_t *values, json_t *cells, const struct column *column,
                    const struct cell *cell, const struct locale_hint *hint, struct err *err)
{
    const bool ok = cell->n && !cell->conflict;
    json_t *value = ok ? found_value(column, &cell->found[0], hint) : json_null();

    if (json_object_set_new(values, column->id, value) < 0 ||
        json_object_set_new(cells, column->id, cell_to_json(column, cell, hint)) < 0) {
        return err_nomem(err);
    }
    return 0;
}

/* --- scalars ---------------------------------------------------------------------------------- */

struct run {
    const struct backend_job *job;
    const struct proposals *proposals;
    struct grounder grounder;
    struct extract_result *out;
    double threshold;
};

/* The cell of the only column with this meaning, if it has candidates. */
static struct cell *meant(const struct run *run, struct cell *cells, enum concept meaning)
{
    const struct columns *columns = run->job->columns;
    struct cell *found = NULL;

    for (size_t i = 0; i < columns->n; i++) {
        if (columns->items[i].type == COLUMN_MONEY && cells[i].n &&
            concept_of(columns->items[i].name) == meaning) {
            if (found) {
                return NULL;
            }
            found = &cells[i];
        }
    }
    return found;
}

static bool cents_of(const struct cell *cell, size_t k, int64_t *ret)
{
    return decimal_cents(cell->found[k].value.text, ret);
}

static void prefer(struct cell *cell, size_t k)
{
    const struct grounded found = cell->found[k];
    const struct factors factors = cell->factors[k];

    for (size_t i = k; i > 0; i--) {
        cell->found[i] = cell->found[i - 1];
        cell->factors[i] = cell->factors[i - 1];
    }
    cell->found[0] = found;
    cell->factors[0] = factors;
    if (cell->conflict && cell->reason && strcmp(cell->reason, "several_values") == 0) {
        cell->conflict = false;
        cell->reason = NULL;
    }
    cell->factors[0].uniqueness = cell->n > 1 ? 0.9 : cell->factors[0].uniqueness;
}

/* Of several candidates for net, tax and total those are right that add up. */
static void settle_sums(const struct run *run, struct cell *cells)
{
    struct cell *net = meant(run, cells, CONCEPT_NET_TOTAL);
    struct cell *tax = meant(run, cells, CONCEPT_TAX_TOTAL);
    struct cell *total = meant(run, cells, CONCEPT_TOTAL);
    double best = 0;
    size_t pick[3] = {0, 0, 0};

    if (!net || !tax || !total || net->n * tax->n * total->n < 2) {
        return;
    }
    for (size_t i = 0; i < net->n * tax->n * total->n; i++) {
        const size_t a = i % net->n;
        const size_t b = i / net->n % tax->n;
        const size_t c = i / net->n / tax->n;
        int64_t v[3];
        const double weight =
            score(&net->factors[a]) * score(&tax->factors[b]) * score(&total->factors[c]);
        if (weight > best && cents_of(net, a, &v[0]) && cents_of(tax, b, &v[1]) &&
            cents_of(total, c, &v[2]) && v[0] + v[1] == v[2]) {
            best = weight;
            pick[0] = a;
            pick[1] = b;
            pick[2] = c;
        }
    }
    if (best > 0) {
        prefer(net, pick[0]);
        prefer(tax, pick[1]);
        prefer(total, pick[2]);
    }
}

static void check_cells(struct run *run, struct cell *cells)
{
    const struct columns *columns = run->job->columns;
    struct checked checked[COLUMNS_MAX];

    settle_sums(run, cells);
    for (size_t i = 0; i < columns->n; i++) {
        const bool ok = cells[i].n && !cells[i].conflict;
        const bool string = columns->items[i].type == COLUMN_STRING;
        checked[i] = (struct checked){
            .column = &columns->items[i],
            .value = ok && !string ? &cells[i].found[0].value : NULL,
            .text = ok && string ? cells[i].found[0].text : NULL,
        };
    }
    cross_check(checked, columns->n);
    for (size_t i = 0; i < columns->n; i++) {
        if (cells[i].n && checked[i].checks < 1) {
            cells[i].factors[0].checks = checked[i].checks;
            cells[i].reason = cells[i].reason ? cells[i].reason : checked[i].reason;
        }
        if (cells[i].n && !cells[i].conflict && score(&cells[i].factors[0]) < PUBLISH_FROM) {
            cells[i].conflict = true; /* kept as evidence, not as a value */
            cells[i].reason = cells[i].reason ? cells[i].reason : "low_confidence";
        }
    }
}

static bool wants_review(const struct run *run, const struct column *column,
                         const struct cell *cell)
{
    if (cell->n == 0) {
        return column->required || cell->raw;
    }
    return cell->conflict || score(&cell->factors[0]) < run->threshold;
}

static int write_scalars(struct run *run, struct cell *cells, struct err *err)
{
    const struct columns *columns = run->job->columns;

    for (size_t i = 0; i < columns->n; i++) {
        const struct column *column = &columns->items[i];
        if (column->type == COLUMN_ROWS || !job_wants(run->job, i)) {
            continue;
        }
        if (put_cell(run->out->values, run->out->cells, column, &cells[i], &run->job->hint, err) <
            0) {
            return -1;
        }
        run->out->needs_review |= wants_review(run, column, &cells[i]);
    }
    return 0;
}

static int do_scalars(struct run *run, struct err *err)
{
    const struct columns *columns = run->job->columns;
    struct cell *cells = calloc(columns->n + 1, sizeof(*cells));
    int result = 0;

    if (!cells) {
        return err_nomem(err);
    }
    for (size_t i = 0; result == 0 && i < columns->n; i++) {
        const struct candidate_list *list = &run->proposals->scalars[i];
        result =
            cell_ground(&run->grounder, &columns->items[i], list->items, list->n, &cells[i], err);
        cell_judge(&columns->items[i], &cells[i]);
        if (cells[i].n == 0) {
            cells[i].reason = cells[i].raw ? "not_in_text" : list->reason;
        }
    }
    if (result == 0) {
        check_cells(run, cells);
        result = write_scalars(run, cells, err);
    }
    for (size_t i = 0; i < columns->n; i++) {
        cell_done(&cells[i]);
    }
    free(cells);
    return result;
}

/* --- rows ------------------------------------------------------------------------------------- */

static int do_row(struct run *run, const struct columns *items, const struct candidate *row,
                  json_t *list, struct err *err)
{
    json_t *values = json_object();
    json_t *cells = json_object();
    size_t filled = 0;
    bool review = false;
    int result = 0;

    for (size_t i = 0; result == 0 && i < items->n; i++) {
        struct cell cell = {.n = 0};
        result =
            row[i].raw ? cell_ground(&run->grounder, &items->items[i], &row[i], 1, &cell, err) : 0;
        cell_judge(&items->items[i], &cell);
        if (result == 0) {
            result = put_cell(values, cells, &items->items[i], &cell, &run->job->hint, err);
        }
        review |= wants_review(run, &items->items[i], &cell);
        filled += cell.n > 0;
        cell_done(&cell);
    }
    run->out->needs_review |= review;
    if (result == 0 && filled) {
        json_t *item = json_pack("{s:o, s:o, s:b}", "values", values, "cells", cells, "review",
                                 review ? 1 : 0);
        return item && json_array_append_new(list, item) == 0 ? 0 : err_nomem(err);
    }
    json_decref(values);
    json_decref(cells);
    return result;
}

static int do_rows(struct run *run, size_t index, struct err *err)
{
    const struct column *column = &run->job->columns->items[index];
    const struct candidate_rows *rows = &run->proposals->rows[index];
    json_t *list = json_array();

    if (!list || json_object_set_new(run->out->rows, column->id, list) < 0) {
        return err_nomem(err);
    }
    for (size_t i = 0; i < rows->n_rows; i++) {
        if (do_row(run, column->item_columns, &rows->cells[i * rows->n_columns], list, err) < 0) {
            return -1;
        }
    }
    const size_t n = json_array_size(list);
    run->out->needs_review |= n == 0 && column->required;
    return extract_count_rows(column, n, run->proposals->scalars[index].reason, run->out->values,
                              run->out->cells, err);
}

int extract_count_rows(const struct column *column, size_t n, const char *reason, json_t *values,
                       json_t *cells, struct err *err)
{
    json_t *cell = json_pack("{s:s, s:f, s:s*}", "status", n ? "ok" : "empty", "confidence",
                             n ? 1.0 : 0.0, "reason", n ? NULL : reason);
    json_t *value = n ? json_pack("{s:I}", "count", (json_int_t)n) : json_null();

    return json_object_set_new(values, column->id, value) < 0 ||
                   json_object_set_new(cells, column->id, cell) < 0
               ? err_nomem(err)
               : 0;
}

/* --- the record ------------------------------------------------------------------------------- */

double extract_completeness(const struct columns *columns, const json_t *values)
{
    size_t wanted[2] = {0, 0};
    size_t filled[2] = {0, 0};

    for (size_t i = 0; i < columns->n; i++) {
        const json_t *value = json_object_get(values, columns->items[i].id);
        if (!value) {
            continue;
        }
        const bool has = !json_is_null(value);
        wanted[0]++;
        filled[0] += has;
        wanted[1] += columns->items[i].required;
        filled[1] += columns->items[i].required && has;
    }
    const size_t k = wanted[1] ? 1 : 0;
    return wanted[k] ? (double)filled[k] / (double)wanted[k] : 0;
}

struct locale_hint extract_learn(const struct doctext *doc)
{
    struct locale_votes votes = {.dmy = 0};

    for (size_t i = 0; i < doc->n_pages && i < 50; i++) {
        locale_learn(&votes, doc->pages[i].text, doc->pages[i].len);
    }
    return locale_decide(&votes);
}

static int fill(struct run *run, struct err *err)
{
    const struct columns *columns = run->job->columns;

    if (run->job->options->part != EXTRACT_ROWS && do_scalars(run, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < columns->n; i++) {
        if (columns->items[i].type == COLUMN_ROWS && job_wants(run->job, i) &&
            do_rows(run, i, err) < 0) {
            return -1;
        }
    }
    run->out->completeness = extract_completeness(columns, run->out->values);
    return 0;
}

int extract_record(const struct backend *backend, const struct columns *columns,
                   const struct doctext *doc, const struct extract_options *options,
                   struct extract_result *ret, struct err *err)
{
    CLEANUP(layout_cleanup) struct layout *layout = NULL;
    struct backend_job job = {columns, doc, NULL, options, {.order = DATE_ORDER_AUTO}};
    struct proposals proposals = {.columns = NULL};
    struct extract_result made = {
        .values = json_object(), .cells = json_object(), .rows = json_object()};
    struct run run = {.job = &job, .proposals = &proposals, .out = &made};
    int result = -1;

    if (!made.values || !made.cells || !made.rows) {
        (void)err_nomem(err);
        goto out;
    }
    run.threshold = options->review_below > 0 ? options->review_below : EXTRACT_REVIEW_BELOW;
    if (layout_new(doc, &layout, err) < 0) {
        goto out;
    }
    job.layout = layout;
    job.hint = options->hint ? *options->hint : extract_learn(doc);
    if (proposals_init(&proposals, columns, err) < 0 ||
        backend->propose(backend, &job, &proposals, err) < 0 ||
        grounder_init(&run.grounder, doc, layout, job.hint, err) < 0 || fill(&run, err) < 0) {
        goto out;
    }
    made.usage = proposals.usage;
    made.partial = proposals.partial;
    made.needs_review |= proposals.partial;
    (void)snprintf(made.backend, sizeof(made.backend), "%s", backend->name);
    *ret = made;
    made = (struct extract_result){.values = NULL};
    result = 0;
out:
    if (run.grounder.pages) {
        grounder_done(&run.grounder);
    }
    proposals_done(&proposals);
    extract_result_done(&made);
    return result;
}

void extract_result_done(struct extract_result *result)
{
    json_decref(result->values);
    json_decref(result->cells);
    json_decref(result->rows);
    *result = (struct extract_result){.values = NULL};
}
