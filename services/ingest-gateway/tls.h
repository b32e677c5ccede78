/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The certificate that the gateway shows where it speaks TLS itself: read at the start, read again
 * when its files change.
 * Invariant: what is shown is always a whole pair that fits; a pair that does not is told in the
 * log, and the one before stays.
 */
#pragma once

#include "libcommon/err.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

/* TLS 1.2 and 1.3, the server's order of ciphers. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"

/* Reads the pair, PEM; once a process. ERR_FATAL "invalid_config" when it cannot be used. */
int tls_open(const char *cert_file, const char *key_file, struct err *err) WARN_UNUSED;
/* Takes renewed files; to be called every few seconds by one thread. Does nothing without tls_open.
 */
void tls_refresh(void);
/* No handshake may be on. */
void tls_close(void);

/* GnuTLS asks for the certificate of a handshake. */
int tls_certificate(gnutls_session_t session, const gnutls_datum_t *ca_names, int n_ca_names,
                    const gnutls_pk_algorithm_t *algorithms, int n_algorithms,
                    gnutls_pcert_st **ret_certs, unsigned *ret_n, gnutls_privkey_t *ret_key);
