/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of candidates: bounded per column, the weakest gives way. And what a call is asked for.
 */
#include "services/ai-extractor/backend.h"

#include <string.h>

int proposals_init(struct proposals *proposals, const struct columns *columns, struct err *err)
{
    *proposals = (struct proposals){.columns = columns};
    proposals->scalars = calloc(columns->n + 1, sizeof(*proposals->scalars));
    proposals->rows = calloc(columns->n + 1, sizeof(*proposals->rows));
    return proposals->scalars && proposals->rows ? 0 : err_nomem(err);
}

void candidate_done(struct candidate *candidate)
{
    free(candidate->raw);
    free(candidate->quote);
    *candidate = (struct candidate){.page = 0};
}

void proposals_done(struct proposals *proposals)
{
    for (size_t i = 0; proposals->columns && i < proposals->columns->n; i++) {
        for (size_t k = 0; proposals->scalars && k < proposals->scalars[i].n; k++) {
            candidate_done(&proposals->scalars[i].items[k]);
        }
        struct candidate_rows *rows = proposals->rows ? &proposals->rows[i] : NULL;
        for (size_t k = 0; rows && k < rows->n_rows * rows->n_columns; k++) {
            candidate_done(&rows->cells[k]);
        }
        if (rows) {
            free(rows->cells);
        }
    }
    free(proposals->scalars);
    free(proposals->rows);
    *proposals = (struct proposals){.columns = NULL};
}

int proposals_add(struct proposals *proposals, size_t column, const struct candidate *candidate,
                  struct err *err)
{
    struct candidate_list *list = &proposals->scalars[column];
    struct candidate made = *candidate;
    size_t at = list->n;

    if (list->n == CANDIDATES_MAX) {
        at = 0;
        for (size_t i = 1; i < list->n; i++) {
            at = list->items[i].prior < list->items[at].prior ? i : at;
        }
        if (list->items[at].prior >= candidate->prior) {
            return 0;
        }
    }
    made.raw = strdup(candidate->raw);
    made.quote = candidate->quote ? strdup(candidate->quote) : NULL;
    if (!made.raw || (candidate->quote && !made.quote)) {
        candidate_done(&made);
        return err_nomem(err);
    }
    if (at < list->n) {
        candidate_done(&list->items[at]);
    } else {
        list->n++;
    }
    list->items[at] = made;
    return 0;
}

struct candidate *proposals_add_row(struct proposals *proposals, size_t column)
{
    struct candidate_rows *rows = &proposals->rows[column];
    const struct columns *items = proposals->columns->items[column].item_columns;

    if (rows->n_rows >= EXTRACT_ROWS_MAX) {
        return NULL;
    }
    if (rows->n_rows == rows->cap) {
        const size_t cap = rows->cap ? rows->cap * 2 : 8;
        struct candidate *cells = realloc(rows->cells, cap * items->n * sizeof(*cells));
        if (!cells) {
            return NULL;
        }
        rows->cells = cells;
        rows->cap = cap;
    }
    rows->n_columns = items->n;
    struct candidate *row = &rows->cells[rows->n_rows * items->n];
    memset(row, 0, items->n * sizeof(*row));
    rows->n_rows++;
    return row;
}

bool job_wants(const struct backend_job *job, size_t column)
{
    const bool rows = job->columns->items[column].type == COLUMN_ROWS;

    switch (job->options->part) {
    case EXTRACT_ALL:
        return true;
    case EXTRACT_SCALARS:
        return !rows;
    case EXTRACT_ROWS:
        return rows && column == job->options->rows_column;
    }
    return false;
}

bool job_sees(const struct backend_job *job, int page)
{
    const struct extract_options *options = job->options;

    return (options->first_page == 0 || page >= options->first_page) &&
           (options->last_page == 0 || page <= options->last_page);
}
