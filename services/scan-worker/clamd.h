/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of ClamAV's daemon: one connection a file, command INSTREAM (clamd(8), "COMMANDS").
 * The bytes are not looked at here.
 */
#pragma once

#include "libcommon/err.h"

#include <stdatomic.h>

#define CLAMD_NAME_MAX 128

struct clamd {
    const char *address; /* host:port, [v6]:port or unix:/path */
    unsigned timeout_ms; /* for the whole exchange */
    unsigned connect_ms; /* of which to connect; also the longest silence while sending */
};

enum clamd_verdict {
    CLAMD_CLEAN,
    CLAMD_FOUND,
    CLAMD_TOO_LARGE, /* longer than the daemon's StreamMaxLength: looked at in part only */
};

/* Checks the form of an address. ERR_FATAL "invalid_config". */
int clamd_check_address(const char *address, struct err *err) WARN_UNUSED;

/* Shows all bytes of fd, from its beginning, to the daemon. *ret_name: what was found, as the
 * daemon calls it, printable ASCII, else empty. cancel may be NULL; it is looked at twice a second.
 * ERR_TRANSIENT "scanner_unavailable" (no connection, no answer in time), "aborted" (cancelled);
 * ERR_UNKNOWN "scan_failed" (the daemon could not scan it, or answered nonsense). */
int clamd_scan(const struct clamd *clamd, int fd, const atomic_bool *cancel,
               enum clamd_verdict *ret_verdict, char ret_name[CLAMD_NAME_MAX],
               struct err *err) WARN_UNUSED;
