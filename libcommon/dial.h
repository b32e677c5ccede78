/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of servers as settings name them, and a plain connection to one.
 * Invariant: every step of a connection is bounded, its reads and writes later, too.
 * It refuses TLS and everything that is said on the connection: that is its user's.
 */
#pragma once

#include "libcommon/err.h"

struct dial_place {
    char host[256]; /* a name or an address, without brackets */
    char port[6];
};

/* "host:port", "[::1]:port", and with a port of its own (may be NULL) "host" or "[::1]", too. False
 * for any other form. text: len bytes of a string. */
bool dial_parse(const char *text, size_t len, const char *port, struct dial_place *ret);

/* "unix:/path" that fits into an address. */
bool dial_is_unix(const char *text);

/* A connected stream socket that blocks, for the caller to close, or -1: its addresses are tried in
 * turn. step_ms: for each of connect, read and write; looking up the name has the resolver's own
 * limits. ERR_TRANSIENT "dns", or what errno says (err_from_errno). */
int dial_place(const struct dial_place *place, unsigned step_ms, struct err *err) WARN_UNUSED;

/* The same for "host:port", "[::1]:port" or "unix:/path"; ERR_PERMANENT "usage" for another form.
 */
int dial(const char *address, unsigned step_ms, struct err *err) WARN_UNUSED;
