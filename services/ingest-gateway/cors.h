/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of other origins: which may call the API from a browser (CORS_ORIGINS), and the headers
 * that every answer carries whoever asks. Invariant: an origin that is not listed, exactly as
 * browsers write it, gets no CORS header at all; with a list every answer says that it varies by
 * Origin. Refuses to let other origins use cookies: their pages sign in with a key or a token.
 */
#pragma once

#include "services/ingest-gateway/request.h"

#define CORS_ORIGINS_MAX 32U

struct cors_rules {
    char *origins[CORS_ORIGINS_MAX];
    size_t n;
};

/* "https://app.example.org,http://localhost:5173"; "" for none. ERR_FATAL "config" for what is no
 * origin, "*" and "null" among it. Strings live until cors_rules_done. */
int cors_rules_parse(const char *list, struct cors_rules *ret_rules, struct err *err) WARN_UNUSED;
void cors_rules_done(struct cors_rules *rules);
/* origin may be NULL. */
bool cors_listed(const struct cors_rules *rules, const char *origin);

/* A browser's question before a call, of an address that has these methods ("GET, HEAD"): fills
 * *reply (a zeroed one) when it may call. */
bool cors_preflight(const struct request *req, const char *methods, struct reply *reply);

/* The headers of every answer: what browsers must not do with it, CORS, how much may still be
 * asked. Those that the reply has itself are left to it. */
void answer_headers(const struct request *req, const struct reply *reply, reply_header_fn add,
                    void *cls);
