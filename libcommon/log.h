/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line on stderr per event, JSON unless asked otherwise, with a constant message and data in
 * fields. Invariant: a line is written whole or not at all; no payloads, credentials or document
 * text.
 */
#pragma once

#include "libcommon/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct kv {
    const char *key;
    enum { KV_STR, KV_I64, KV_U64, KV_F64, KV_BOOL } type;
    union {
        const char *s;
        int64_t i;
        uint64_t u;
        double f;
        bool b;
    } v;
};

#define KV_END ((struct kv){.key = NULL})

static inline struct kv kv_str(const char *key, const char *value)
{
    return (struct kv){.key = key, .type = KV_STR, .v.s = value};
}
static inline struct kv kv_i64(const char *key, int64_t value)
{
    return (struct kv){.key = key, .type = KV_I64, .v.i = value};
}
static inline struct kv kv_u64(const char *key, uint64_t value)
{
    return (struct kv){.key = key, .type = KV_U64, .v.u = value};
}
static inline struct kv kv_f64(const char *key, double value)
{
    return (struct kv){.key = key, .type = KV_F64, .v.f = value};
}
static inline struct kv kv_bool(const char *key, bool value)
{
    return (struct kv){.key = key, .type = KV_BOOL, .v.b = value};
}

/* How lines look from now on: "json" (the default), "text" (for people: time, level, service,
 * message, key=value), or "auto": text where stderr is a terminal. */
void log_set_format(const char *format);

/* Names the service and sets the lowest level written. */
void log_setup(const char *service, enum log_level level);
/* -1 for an unknown name ("debug", "info", "warn", "error"). */
int log_level_parse(const char *name);

/* Fields that every line of this thread gets until cleared: the file, batch and stage at work. Up
 * to 8, values are copied (at most 80 bytes). */
void log_context_set(const char *key, const char *value);
void log_context_clear(void);

/* message, then any number of kv_*() values. */
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__, KV_END)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__, KV_END)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__, KV_END)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__, KV_END)
void log_write(enum log_level level, const char *message, ...);

/* The one line for an error: message plus class, code and reason. */
void log_err(enum log_level level, const char *message, const struct err *err);
