/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends finished spans (trace.h) to a collector: OTLP over HTTP, protobuf, in batches, from a
 * thread of its own. Invariant: nothing here holds up work. What does not fit the queue, or is not
 * taken after some tries, is dropped and counted in docfleet_trace_spans_total.
 */
#pragma once

#include "libcommon/err.h"

struct otlp; /* opaque */

struct otlp_config {
    const char *endpoint; /* "http://collector:4318"; /v1/traces is added */
    const char *headers;  /* "name=value,name=value", or "" */
    const char *ca_file;  /* NULL: the system's */
    const char *service;  /* "text-extractor" */
    const char *instance; /* of this process */
    const char *version;
    double sample;
};

/* Starts the thread and switches tracing on. Strings are borrowed until otlp_stop. ERR_FATAL
 * "invalid_config" for an endpoint or headers that cannot be. */
int otlp_start(const struct otlp_config *config, struct otlp **ret_otlp,
               struct err *err) WARN_UNUSED;
/* Switches tracing off and sends what is left, for some seconds at most. Takes NULL. No span may
 * end during or after it. */
void otlp_stop(struct otlp *otlp);
