/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process's Prometheus metrics: one table of names (metrics.c), values by label string.
 * Invariant: only names of the table exist, and no label ever holds a user, file or dataset.
 */
#pragma once

#include "libcommon/buf.h"

#define METRICS_SERIES_MAX 2000 /* further ones are dropped and counted */
#define METRICS_COLLECTORS_MAX 16U

/* labels: "" or text such as `stage="text",outcome="done"`; part of the series' name. An unknown
 * metric, or labels that are not those of the table, are a programmer's error (assert). */
void metrics_add(const char *name, const char *labels, double value);
void metrics_set(const char *name, const char *labels, double value);
/* Histograms, in seconds. */
void metrics_observe(const char *name, const char *labels, double seconds);
/* A counter's or gauge's value, 0 when absent: for tests and ratios. */
double metrics_get(const char *name, const char *labels);

static inline void metrics_inc(const char *name, const char *labels)
{
    metrics_add(name, labels, 1);
}

/* A series that is no longer true is shown no more. */
void metrics_remove(const char *name, const char *labels);
/* Between these two all that is true now is set again; what was not set is removed. One thread per
 * metric. */
void metrics_begin(const char *name);
void metrics_end(const char *name);

/* Calls fn before each metrics_render, for values that are read when they are wanted; it sets
 * metrics, must not block, and must not call the next two. */
typedef void (*metrics_collect_fn)(void *arg);
void metrics_collect(metrics_collect_fn fn, void *arg);
/* When it returns, fn does not run and will not. */
void metrics_uncollect(metrics_collect_fn fn, const void *arg);

/* Text format 0.0.4. */
int metrics_render(struct buf *buf, struct err *err) WARN_UNUSED;
