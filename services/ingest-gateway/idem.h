/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Idempotency-Key: the same key and body give the stored answer, another body is a conflict.
 * Invariant: the answer of a call that makes something is stored by the transaction that makes it.
 */
#pragma once

#include "libcommon/db.h"
#include "services/ingest-gateway/request.h"

struct idem {
    const char *key; /* borrowed from the request; NULL: none was given */
    char hash[65];   /* of the body, as its handler sees it */
    bool found;      /* there is a stored answer: */
    char stored_hash[65];
    int status;
    char *response;
};

/* Looks the key up. idem_done frees. ERR_PERMANENT "bad_request" for a key that is none. */
int idem_find(struct request *req, struct idem *ret_idem, struct err *err) WARN_UNUSED;
void idem_done(struct idem *idem);
/* Sets hash from method, path and JSON body. */
int idem_hash_request(struct request *req, struct idem *idem, struct err *err) WARN_UNUSED;
/* When an answer is stored: 1 and *reply is that answer, or -1 "idempotency_conflict". Else 0. */
int idem_replay(const struct idem *idem, struct reply *reply, struct err *err);
/* Stores reply's JSON inside the caller's transaction; nothing without a key. "db_unique" when
 * another request with this key has just been faster. */
int idem_store(struct db_conn *conn, const struct request *req, const struct idem *idem,
               const struct reply *reply, struct err *err) WARN_UNUSED;

/* For calls whose answer holds a secret, which is not kept: a repeated one makes nothing and gets
 * none. 0 when no answer is stored; -1 "secret_not_kept", "idempotency_conflict". */
int idem_refuse_repeated(const struct idem *idem, struct err *err) WARN_UNUSED;
/* Runs the statement that makes the thing and stores its id as the answer, in one transaction.
 * sql: a string constant that gives a row for what it made; ret_row (PQclear'd by the caller) has
 * none when it made nothing. "secret_not_kept" when another request with the key was faster. */
int idem_make_secret(struct request *req, const struct idem *idem, const char *id, const char *sql,
                     int n, const char *const *params, PGresult **ret_row,
                     struct err *err) WARN_UNUSED;
