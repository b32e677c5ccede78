/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JWTs as bearer tokens, and the checks that ID tokens share with them.
 * Invariant: the algorithm is one of the configured list of asymmetric ones and fits the key's
 * type, before anything else of a token is believed; keys come from the issuer's key set alone,
 * never from the token.
 */
#pragma once

#include "libcommon/jget.h"
#include "services/ingest-gateway/request.h"

#define TOKEN_BYTES_MAX 8192U
#define TOKEN_LEEWAY_S 30

struct gateway;

/* Fills req->who from a JWT. As auth_request. */
int token_check(struct gateway *gw, struct request *req, const char *token, bool cached_only,
                struct err *err);

/* "RS256,ES256": a list of algorithms this program knows, at least one. */
bool token_algorithms_valid(const char *list);

struct token_policy {
    const char *issuer;     /* iss */
    const char *audience;   /* has to be in aud */
    const char *algorithms; /* "RS256,ES256" */
    int64_t now_s;
    bool single_audience; /* ID tokens: further audiences need azp = audience */
};

/* The header's alg and kid ("" when absent), if the algorithm is allowed. ERR_PERMANENT
 * "bad_token" says what is wrong, for logs and not for answers. */
int token_header(const char *token, const char *allowed, char ret_alg[8], char ret_kid[128],
                 struct err *err) WARN_UNUSED;
/* Checks signature and claims against a key set (JSON text); *ret_claims is the caller's.
 * ERR_PERMANENT "bad_token"; "unknown_key" when the set has no key of that id. */
int token_verify(const char *token, const char *jwks, const struct token_policy *policy,
                 json_t **ret_claims, struct err *err) WARN_UNUSED;
