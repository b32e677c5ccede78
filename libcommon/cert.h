/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When certificates end: read from the PEM files a process uses, and shown as
 * docfleet_certificate_expiry_seconds{use}, so that nobody learns it from a refused handshake.
 * Refuses to judge a certificate otherwise; that is TLS's work.
 */
#pragma once

#include "libcommon/err.h"

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
