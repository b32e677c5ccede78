/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which files of a dataset are meant: the filter of lists, of removal and of retry, once.
 * Invariant: values reach Postgres as parameters only; a filter always stands beside dataset and
 * account, and never shows deleted files.
 */
#pragma once

#include "services/ingest-gateway/sql.h"

#define QUERY_PARAMS_MAX 16

/* A statement made at run time. query_done frees. */
struct query {
    struct buf sql;
    const char *params[QUERY_PARAMS_MAX];
    char *owned[QUERY_PARAMS_MAX];
    int n;
};
void query_init(struct query *query);
void query_done(struct query *query);
/* Adds a parameter (copied; NULL stays NULL) and returns its number, or -1 when out of memory. */
int query_param(struct query *query, const char *value);

#define FILTER_TEXT_MAX 200U /* characters */
#define FILTER_STATES_MAX 6U

struct file_filter {
    char states[32];                 /* '{1,3}' or "" */
    int stage;                       /* 0: any */
    char q[4 * FILTER_TEXT_MAX + 1]; /* text in the name, "" none */
    char batch_id[UUID_TEXT];
};

/* From state=, stage=, q=, batchId= of the address; state may be a list with commas. */
int file_filter_read(struct request *req, struct file_filter *ret_filter,
                     struct err *err) WARN_UNUSED;
/* From {state, stage, q, batchId}; state may be a text or an array. Unknown members are refused:
 * a misspelt filter must not mean "everything". */
int file_filter_parse(struct request *req, const json_t *json, struct file_filter *ret_filter,
                      struct err *err) WARN_UNUSED;
/* Appends " AND ..." over the alias f. */
int file_filter_sql(const struct file_filter *filter, struct query *query,
                    struct err *err) WARN_UNUSED;
/* Does it search names, so that it runs under the search timeout? */
bool file_filter_searches(const struct file_filter *filter);
