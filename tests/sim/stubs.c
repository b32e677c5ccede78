/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logs and metrics of the code under test: nobody reads them in a simulation, and they would take
 * most of its time.
 */
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/task.h"

void log_setup(const char *service, enum log_level level)
{
    (void)service;
    (void)level;
}

void log_context_set(const char *key, const char *value)
{
    (void)key;
    (void)value;
}

void log_context_clear(void)
{
}

void log_write(enum log_level level, const char *message, ...)
{
    (void)level;
    (void)message;
}

void log_err(enum log_level level, const char *message, const struct err *err)
{
    (void)level;
    (void)message;
    (void)err;
}

void metrics_add(const char *name, const char *labels, double value)
{
    (void)name;
    (void)labels;
    (void)value;
}

void metrics_set(const char *name, const char *labels, double value)
{
    (void)name;
    (void)labels;
    (void)value;
}

void metrics_observe(const char *name, const char *labels, double seconds)
{
    (void)name;
    (void)labels;
    (void)seconds;
}

double metrics_get(const char *name, const char *labels)
{
    (void)name;
    (void)labels;
    return 0;
}

/* The model makes the claims here, and gives them a job's name at most. */
void task_claim_done(struct task_claim *claim)
{
    free(claim->ext_job_id);
    *claim = (struct task_claim){0};
}
