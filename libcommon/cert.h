/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When certificates end: read from the PEM files a process uses, and from what the servers show
 * that it works with; shown as docfleet_certificate_expiry_seconds{use}, so that nobody learns it
 * from a refused handshake.
 * Refuses to judge a certificate otherwise; that is TLS's work.
 */
#pragma once

#include "libcommon/err.h"

#include <openssl/types.h>

#define CERT_WATCH_MAX 8U

enum cert_kind {
    CERT_OWN, /* what we show to others, with its chain: the first to end counts */
    CERT_CA,  /* what others are checked against: trust ends with the last one */
};

/* Unix time at which the certificates of a PEM file end. ERR_PERMANENT "invalid_certificate" where
 * it holds none; "io" where it cannot be read. */
int cert_expiry(const char *path, enum cert_kind kind, int64_t *ret_unix,
                struct err *err) WARN_UNUSED;

/* Shows a file's end under use ("gateway", "postgres_ca", ...) from now on, for the life of the
 * process; read again once a minute, as files are renewed in place. An empty path is ignored. */
void cert_watch(const char *use, const char *path, enum cert_kind kind);

/* Unix time; -1 when it cannot be told. */
int64_t cert_end(const X509 *cert);

/* How a server is named. */
enum cert_server {
    CERT_POSTGRES, /* a connection URI: its first server */
    CERT_BROKERS,  /* host:port, with commas: all of them */
    CERT_HTTPS,    /* an address; one with http is none with TLS */
};

/* When the certificates end that a server shows, with those it sends along: the first to end, of
 * all servers that answer. Makes a connection of its own and sends nothing but the hello; takes up
 * to 2 s a step. Whether they are trusted is not looked at. "no_tls" where the server has none. */
int cert_shown(enum cert_server kind, const char *where, int64_t *ret_unix,
               struct err *err) WARN_UNUSED;

/* Looks at a server, every ten minutes at most, and shows the end under use. One thread at a
 * time; what it points to is borrowed. */
struct cert_look {
    const char *use; /* "postgres_server" */
    enum cert_server kind;
    const char *where;
    uint64_t next_ms; /* 0: at once */
};
void cert_look(struct cert_look *look);
