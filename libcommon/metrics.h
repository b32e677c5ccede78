/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process's Prometheus metrics: one table of names (metrics.c), values by label string.
 * Invariant: only names of the table exist, and no label ever holds a user, file or dataset.
 */
#pragma once

#include "libcommon/buf.h"

#define METRICS_SERIES_MAX 2000 /* further ones are dropped and counted */

/* labels: "" or text such as `stage="text",outcome="done"`; part of the series' name. An unknown
 * metric is a programmer's error (assert). */
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

/* Text format 0.0.4. */
int metrics_render(struct buf *buf, struct err *err) WARN_UNUSED;
