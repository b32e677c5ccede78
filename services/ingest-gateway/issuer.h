/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one OpenID Connect issuer this fleet trusts: its description, its keys, its token endpoint.
 * Invariant: every call out has a timeout and a size limit; keys are asked for again when they are
 * old, and once when a token names one that is not known, never more often than KEYS_REFRESH; old
 * keys are believed for an hour at most while the issuer cannot be reached.
 * Refuses plain http, except on this very machine.
 */
#pragma once

#include "libcommon/jget.h"
#include "services/ingest-gateway/request.h"

struct issuer;
struct gateway_options;

/* NULL in *ret_issuer when none is configured. ERR_FATAL "config". Calls nobody. */
int issuer_new(const struct gateway_options *options, struct issuer **ret_issuer,
               struct err *err) WARN_UNUSED;
void issuer_free(struct issuer *issuer);

/* These take NULL, and then give NULL. */
const char *issuer_label(const struct issuer *issuer);    /* what the sign-in page calls it */
const char *issuer_audience(const struct issuer *issuer); /* of bearer tokens; NULL: none taken */
const char *issuer_url(const struct issuer *issuer);
const struct gateway_options *issuer_options(const struct issuer *issuer);

/* A token of this issuer; id_token: with the stricter rules of those. "bad_token", "unknown_key",
 * or ERR_TRANSIENT "issuer_unavailable". *ret_claims is the caller's. */
int issuer_verify(struct issuer *issuer, const char *token, const char *audience, bool id_token,
                  json_t **ret_claims, struct err *err) WARN_UNUSED;

/* Where a browser signs in; malloc'd. */
int issuer_start_url(struct issuer *issuer, const char *redirect_uri, const char *state,
                     const char *nonce, const char *challenge, char **ret_url,
                     struct err *err) WARN_UNUSED;
/* Trades a code for an ID token; malloc'd, not verified yet. */
int issuer_redeem(struct issuer *issuer, const char *code, const char *redirect_uri,
                  const char *verifier, char **ret_id_token, struct err *err) WARN_UNUSED;
/* Where a browser signs out at the issuer, too; malloc'd, NULL when it has no such address. */
char *issuer_logout_url(struct request *req);
