/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors are values with a class, and the class decides the fate of the message that met them.
 * Invariant: struct err is never allocated, so reporting works when memory is gone; msg is valid
 * UTF-8 whatever the arguments held or a precision cut, since it goes into JSON and the database.
 */
#pragma once

#include "libcommon/base.h"

/* What happens to the work: see docs/ARCHITECTURE.md "Error class decides". */
enum err_class {
    ERR_NONE = 0,
    ERR_TRANSIENT, /* the world is at fault: back off, attempts refunded */
    ERR_PERMANENT, /* the input is at fault: never again without a change */
    ERR_UNKNOWN,   /* nobody knows: limited attempts */
    ERR_FATAL,     /* this process is at fault: it exits */
};

#define ERR_CODE_MAX 40
#define ERR_MSG_MAX 256

struct err {
    enum err_class class;
    char code[ERR_CODE_MAX]; /* stable, from the code table: file_too_large, encrypted, ... */
    char msg[ERR_MSG_MAX];   /* plain language, lower case, no full stop */
};

#define ERR_INIT ((struct err){.class = ERR_NONE})

/* Sets *err (which may be NULL: then nothing is kept) and returns -1, so that a function can
 * `return err_set(err, ERR_PERMANENT, "corrupt", "page %d has no contents", n);` */
int err_set(struct err *err, enum err_class class, const char *code, const char *fmt, ...)
    PRINTF(4, 5);

/* Puts "context: " before the message, keeps class and code; returns -1. */
int err_wrap(struct err *err, const char *fmt, ...) PRINTF(2, 3);

/* errno -> class: ENOMEM, EMFILE, ENOSPC, EAGAIN, ETIMEDOUT, ECONN* are transient, the rest
 * unknown; the message is "context: strerror". Code "io". Returns -1. */
int err_from_errno(struct err *err, int errnum, const char *fmt, ...) PRINTF(3, 4);

/* Out of memory: transient, code "no_memory". Returns -1. */
int err_nomem(struct err *err);

/* API names: "transient", "permanent", "unknown", "fatal", "none"; and back (unknown names give
 * ERR_UNKNOWN). */
const char *err_class_name(enum err_class class);
enum err_class err_class_parse(const char *name);
