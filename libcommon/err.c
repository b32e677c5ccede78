/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling struct err. Nothing here allocates or logs: who handles the error logs it, once.
 */
#include "libcommon/err.h"

#include "libcommon/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void err_vset(struct err *err, enum err_class class, const char *code, const char *fmt,
                     va_list ap)
{
    err->class = class;
    snprintf(err->code, sizeof(err->code), "%s", code ? code : "internal");
    vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    utf8_clean(err->msg);
}

int err_set(struct err *err, enum err_class class, const char *code, const char *fmt, ...)
{
    va_list ap;

    if (!err) {
        return -1;
    }
    va_start(ap, fmt);
    err_vset(err, class, code, fmt, ap);
    va_end(ap);
    return -1;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char old[ERR_MSG_MAX];
    va_list ap;
    int n;

    if (!err) {
        return -1;
    }
    snprintf(old, sizeof(old), "%s", err->msg);
    va_start(ap, fmt);
    n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(err->msg)) {
        snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %.*s", ERR_MSG_MAX, old);
    }
    utf8_clean(err->msg);
    return -1;
}

int err_from_errno(struct err *err, int errnum, const char *fmt, ...)
{
    enum err_class class = ERR_UNKNOWN;
    char reason[80];
    va_list ap;

    if (!err) {
        return -1;
    }
    switch (errnum) {
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOSPC:
    case EDQUOT:
    case EAGAIN:
    case EINTR:
    case ETIMEDOUT:
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
        class = ERR_TRANSIENT;
        break;
    default:
        break;
    }
    va_start(ap, fmt);
    err_vset(err, class, "io", fmt, ap);
    va_end(ap);
    const char *text = strerror_r(errnum, reason, sizeof(reason));
    size_t n = strlen(err->msg);
    snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", text);
    return -1;
}

int err_nomem(struct err *err)
{
    return err_set(err, ERR_TRANSIENT, "no_memory", "out of memory");
}

static const char *const class_names[] = {
    [ERR_NONE] = "none",       [ERR_TRANSIENT] = "transient", [ERR_PERMANENT] = "permanent",
    [ERR_UNKNOWN] = "unknown", [ERR_FATAL] = "fatal",
};

const char *err_class_name(enum err_class class)
{
    return (size_t)class < ARRAY_LEN(class_names) ? class_names[class] : "unknown";
}

enum err_class err_class_parse(const char *name)
{
    for (size_t i = 0; name && i < ARRAY_LEN(class_names); i++) {
        if (strcmp(name, class_names[i]) == 0) {
            return (enum err_class)i;
        }
    }
    return ERR_UNKNOWN;
}
