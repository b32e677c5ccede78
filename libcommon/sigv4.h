/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AWS Signature Version 4, in a request's headers or in its query (presigned URLs).
 * Invariant: pure functions of their arguments. The clock is an argument, so that a signature can
 * be checked against published vectors.
 * Refuses to send anything or to invent headers: the caller sends exactly what it had signed.
 */
#pragma once

#include "libcommon/buf.h"
#include "libcommon/sha256.h"

#define SIGV4_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"
#define SIGV4_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SIGV4_DATE_SIZE 17 /* 20150830T123600Z and the NUL */
#define SIGV4_PAIRS_MAX 64 /* headers, and query parameters, of one request */
#define SIGV4_EXPIRES_MAX 604800

struct sigv4_creds {
    const char *access_key;
    const char *secret_key;
    const char *session_token; /* NULL: none */
    const char *region;
    const char *service; /* "s3", "textract" */
};

/* A header, or a query parameter, neither encoded. */
struct sigv4_pair {
    const char *name;
    const char *value;
};

struct sigv4_request {
    const char *method;
    const char *path; /* not encoded: "/bucket/a b.txt"; what is sent is sigv4_path() of it */
    const struct sigv4_pair *query;
    size_t n_query;
    const struct sigv4_pair *headers; /* all are signed; Host must be among them */
    size_t n_headers;
    const char *payload_hash; /* hex SHA-256 or SIGV4_UNSIGNED_PAYLOAD; NULL: of no bytes */
    int64_t now;              /* seconds since the epoch */
    bool normalize_path;      /* remove ".", ".." and empty segments; S3 wants false */
    bool token_unsigned;      /* the session token is added after signing */
};

struct sigv4_signature {
    char date[SIGV4_DATE_SIZE]; /* send as X-Amz-Date */
    char signature[SHA256_HEX_SIZE];
    char *authorization; /* header value */
};
#define SIGV4_SIGNATURE_INIT ((struct sigv4_signature){.authorization = NULL})
/* Frees; takes an initialised signature in any state. Works as CLEANUP. */
void sigv4_signature_done(struct sigv4_signature *sig);

/* Signs the headers given and X-Amz-Date (and X-Amz-Security-Token with a token), which the caller
 * then sends together with Authorization. */
int sigv4_sign(const struct sigv4_request *request, const struct sigv4_creds *creds,
               struct sigv4_signature *ret_signature, struct err *err) WARN_UNUSED;

/* Appends to buf the encoded query of the presigned request, "X-Amz-Algorithm=...&...&
 * X-Amz-Signature=...", the request's own parameters included. expires is in seconds,
 * 1..SIGV4_EXPIRES_MAX. */
int sigv4_presign(const struct sigv4_request *request, const struct sigv4_creds *creds,
                  unsigned expires, struct buf *buf, struct err *err) WARN_UNUSED;

/* Appends the path, and the query, in the encoding that is signed; send them like that. */
int sigv4_path(struct buf *buf, const char *path, bool normalize, struct err *err) WARN_UNUSED;
int sigv4_query(struct buf *buf, const struct sigv4_pair *query, size_t n_query,
                struct err *err) WARN_UNUSED;

/* The intermediate texts, for tests and for a debug log of a refused signature: presigned when
 * expires > 0. Appends to the buffers that are not NULL. */
int sigv4_explain(const struct sigv4_request *request, const struct sigv4_creds *creds,
                  unsigned expires, struct buf *canonical_request, struct buf *string_to_sign,
                  struct err *err) WARN_UNUSED;
