/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the s3 driver share: one signed request, and reading S3's XML.
 * Not for other modules.
 */
#pragma once

#include "libcommon/http.h"
#include "libcommon/sigv4.h"
#include "libcommon/store_intern.h"

#define S3_XML_MAX ((size_t)8 << 20) /* of an answer: 1,000 long keys fit */
#define S3_CODE_SIZE 64

struct s3 {
    struct http_client *http;
};

/* One request. Zeroed fields mean none. */
struct s3_call {
    const char *method;
    const char *key; /* NULL: the bucket itself */
    struct sigv4_pair query[8];
    size_t n_query;
    const struct store_source *source; /* the body */
    const char *content_type;
    bool content_md5;  /* of a body in memory */
    const char *range; /* value of the header; the answer must then be 206 */
    store_sink_fn sink;
    void *sink_ctx;
    uint64_t max_response; /* 0: S3_XML_MAX */
    unsigned timeout_ms;   /* 0: by the size of the body */
    bool slow_answer;      /* the store may think for long: no limit on stalls */
    bool even_if_aborted;  /* cleaning up goes on during a drain */
};

/* Signs, sends and waits. 0 for a 2xx with the answer in *ret_response (the caller's); -1
 * otherwise, the error by the table at the head of store.h. ret_code (S3_CODE_SIZE, may be NULL)
 * gets S3's own code, "NoSuchUpload", or the status, "404", of an answer without one. */
int s3_call(struct store *store, const struct s3_call *call, struct http_response *ret_response,
            char *ret_code, struct err *err) WARN_UNUSED;

/* The same without wanting the answer. */
int s3_call_simple(struct store *store, const struct s3_call *call, char *ret_code,
                   struct err *err) WARN_UNUSED;

void s3_add_query(struct s3_call *call, const char *name, const char *value);

/* Sets the error for an answer that is no success (or a 200 that carries an error document). */
int s3_error(struct err *err, int status, const char *code, const char *message);

/* store_s3_multi.c, store_s3_list.c: slots of the driver's table. */
int s3_multipart_begin(struct store *store, const char *key, const char *content_type,
                       struct store_multipart **ret_multipart, struct err *err);
int s3_multipart_part(struct store_multipart *multipart, const struct store_source *source,
                      struct err *err);
int s3_multipart_complete(struct store_multipart *multipart, char ret_etag[80], struct err *err);
void s3_multipart_free(struct store_multipart *multipart);
int s3_list_uploads(struct store *store, const char *prefix, store_pending_fn fn, void *ctx,
                    struct err *err);
int s3_abort_upload(struct store *store, const char *key, const char *upload_id, struct err *err);
int s3_list(struct store *store, const char *prefix, const char *token, unsigned max,
            store_list_fn fn, void *ctx, char **ret_token, struct err *err);
int s3_remove_many(struct store *store, const char *const *keys, size_t n, struct err *err);

/* XML: calls fn when an element opens (text is NULL) and when it closes, with the decoded text
 * since its own opening tag. Prefixes of names are dropped. A document that is cut, deeper than 16
 * or has a DOCTYPE is ERR_TRANSIENT "store_unavailable". */
typedef int (*s3_xml_fn)(void *ctx, const char *name, const char *text, struct err *err);
int s3_xml_walk(const char *data, size_t len, s3_xml_fn fn, void *ctx, struct err *err) WARN_UNUSED;
/* The text of the first element of that name, cut to size; false when there is none. */
bool s3_xml_find(const char *data, size_t len, const char *name, char *ret_text, size_t size);
/* Appends s with markup escaped. */
int s3_xml_escape(struct buf *buf, const char *s, struct err *err) WARN_UNUSED;
