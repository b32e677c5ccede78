/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One multipart upload in work: parts become objects while they come, rows only at the end.
 * Invariant: every object that was stored is either named by a committed row or deleted when the
 * upload is thrown away; a refused part never stops the others.
 */
#pragma once

#include "libcommon/intake.h"
#include "libcommon/quota.h"
#include "libcommon/sha256.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/multipart.h"

struct upload_file {
    char *name; /* as sent; NULL for a refused one */
    char shown[256];
    char id[UUID_TEXT];
    char key[256];
    const struct filetype *type;
    uint64_t size;
    char sha256[SHA256_HEX_SIZE];
    char etag[80];
    bool stored;
    char code[ERR_CODE_MAX]; /* why it is refused; "" it is not */
    char detail[256];
};

struct upload {
    struct request *req;
    bool dry;           /* only hash: the answer is known already */
    struct quota quota; /* at the door, and what the parts so far take of it */
    struct upload_file *files;
    size_t n_files;
    size_t n_parts;
    const char *traceparent; /* borrowed while the rows are written; NULL: no trace */
    bool in_manifest;
    struct buf manifest;
    /* the part in work */
    struct upload_file *cur;
    struct quota before;
    struct intake in;
    struct hash hash; /* when dry */
};

/* quota: of the account, as it is before the body. */
int upload_init(struct upload *upload, struct request *req, bool dry, const struct quota *quota,
                struct err *err) WARN_UNUSED;
/* Frees. keep false: deletes what was stored; otherwise only what was refused after that. */
void upload_done(struct upload *upload, bool keep);

extern const struct multipart_events upload_events; /* ctx: struct upload */

/* In the transaction that accepts the rest: refuses, in order, the files that no longer fit into
 * the account's quota, and holds the account until the transaction's end. */
int upload_check_quota(struct upload *upload, struct db_conn *conn, struct err *err) WARN_UNUSED;

/* After the body's end: compares with the manifest, if there was one. */
int upload_check_manifest(struct upload *upload, struct err *err) WARN_UNUSED;
/* What the request means, whatever its boundary: names, sizes and digests in order. */
int upload_body_hash(const struct upload *upload, char ret_hex[SHA256_HEX_SIZE],
                     struct err *err) WARN_UNUSED;
