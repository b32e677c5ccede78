/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines are built on the stack and written with one write(2); a line that does not fit is cut at a
 * field, never in the middle of one.
 */
#include "libcommon/log.h"

#include "libcommon/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096U
#define CONTEXT_MAX 8U

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
};

static const char *service_name = "docfleet";
static enum log_level lowest = LOG_INFO;
static bool as_text; /* set before threads */
static const char *const level_names[] = {"debug", "info", "warn", "error"};

static _Thread_local struct {
    char key[24];
    char value[80];
} context[CONTEXT_MAX];

void log_setup(const char *service, enum log_level level)
{
    service_name = service;
    lowest = level;
}

void log_set_format(const char *format)
{
    as_text =
        strcmp(format, "text") == 0 || (strcmp(format, "auto") == 0 && isatty(STDERR_FILENO) == 1);
}

int log_level_parse(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            return (int)i;
        }
    }
    return -1;
}

void log_context_set(const char *key, const char *value)
{
    for (size_t i = 0; i < CONTEXT_MAX; i++) {
        if (context[i].key[0] == '\0' || strcmp(context[i].key, key) == 0) {
            snprintf(context[i].key, sizeof(context[i].key), "%s", key);
            snprintf(context[i].value, sizeof(context[i].value), "%s", value);
            return;
        }
    }
}

void log_context_clear(void)
{
    memset(context, 0, sizeof(context));
}

static bool put(struct line *line, const char *text, size_t n)
{
    /* Four bytes stay free for the closing brace and the line feed. */
    if (line->len + n > sizeof(line->text) - 4) {
        return false;
    }
    memcpy(line->text + line->len, text, n);
    line->len += n;
    return true;
}

static bool put_json(struct line *line, const char *s)
{
    char esc[8];

    if (!put(line, "\"", 1)) {
        return false;
    }
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        int n = 1;
        esc[0] = *s;
        if (c == '"' || c == '\\') {
            n = snprintf(esc, sizeof(esc), "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            n = snprintf(esc, sizeof(esc), "\\u%04x", c);
        } else if (c >= 0x80) {
            /* names and reasons may come from hostile files, or be cut in the middle of a letter */
            n = (int)utf8_sequence(s, strnlen(s, 4), NULL);
            memcpy(esc, n > 0 ? s : "?", (size_t)(n > 0 ? n : 1));
            s += n > 0 ? n - 1 : 0;
            n = n > 0 ? n : 1;
        }
        if (!put(line, esc, (size_t)n)) {
            return false;
        }
    }
    return put(line, "\"", 1);
}

/* A word stands as it is in text, anything else in JSON's quotes. */
static bool put_string(struct line *line, const char *s)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-._:/+@#%,";

    if (as_text && *s && s[strspn(s, plain)] == '\0') {
        return put(line, s, strlen(s));
    }
    return put_json(line, s);
}

static void put_field(struct line *line, const struct kv *kv)
{
    size_t start = line->len;
    char num[40];
    bool ok = as_text
                  ? put(line, " ", 1) && put(line, kv->key, strlen(kv->key)) && put(line, "=", 1)
                  : put(line, ",", 1) && put_json(line, kv->key) && put(line, ":", 1);

    switch (kv->type) {
    case KV_STR:
        ok = ok && put_string(line, kv->v.s ? kv->v.s : "");
        break;
    case KV_I64:
        snprintf(num, sizeof(num), "%" PRId64, kv->v.i);
        ok = ok && put(line, num, strlen(num));
        break;
    case KV_U64:
        snprintf(num, sizeof(num), "%" PRIu64, kv->v.u);
        ok = ok && put(line, num, strlen(num));
        break;
    case KV_F64:
        if (isfinite(kv->v.f)) {
            snprintf(num, sizeof(num), "%.6g", kv->v.f);
        } else {
            snprintf(num, sizeof(num), "null");
        }
        ok = ok && put(line, num, strlen(num));
        break;
    case KV_BOOL:
        ok = ok && put(line, kv->v.b ? "true" : "false", kv->v.b ? 4 : 5);
        break;
    }
    if (!ok) {
        line->len = start;
    }
}

static void put_head(struct line *line, enum log_level level, const char *message)
{
    struct timespec ts;
    struct tm tm;
    char head[160];

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    int n =
        snprintf(head, sizeof(head),
                 as_text ? "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %-5s %s: "
                         : "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ\",\"level\":\"%s\","
                           "\"service\":\"%s\",\"msg\":",
                 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                 ts.tv_nsec / 1000000, level_names[level], service_name);
    put(line, head, (size_t)n);
    if (as_text) {
        put(line, message, strlen(message));
    } else {
        put_json(line, message);
    }
    for (size_t i = 0; i < CONTEXT_MAX && context[i].key[0]; i++) {
        struct kv kv = kv_str(context[i].key, context[i].value);
        put_field(line, &kv);
    }
}

static void put_line(struct line *line)
{
    if (!as_text) {
        line->text[line->len++] = '}';
    }
    line->text[line->len++] = '\n';
    ssize_t n = write(STDERR_FILENO, line->text, line->len);
    (void)n; /* nowhere to tell */
}

void log_write(enum log_level level, const char *message, ...)
{
    struct line line;
    va_list ap;

    if (level < lowest) {
        return;
    }
    line.len = 0;
    put_head(&line, level, message);
    va_start(ap, message);
    for (struct kv kv = va_arg(ap, struct kv); kv.key; kv = va_arg(ap, struct kv)) {
        put_field(&line, &kv);
    }
    va_end(ap);
    put_line(&line);
}

void log_err(enum log_level level, const char *message, const struct err *err)
{
    log_write(level, message, kv_str("class", err_class_name(err->class)),
              kv_str("code", err->code), kv_str("reason", err->msg), KV_END);
}
