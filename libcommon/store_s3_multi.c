/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multipart uploads: begin, parts, complete, and taking back what was not completed.
 * Invariant: a struct store_multipart that is freed without a successful complete has asked the
 * store to drop its parts, during a drain too.
 */
#include "libcommon/store_s3.h"

#include <stdio.h>
#include <string.h>

#define UPLOAD_ID_SIZE 1024
#define PARTS_MAX 10000
#define PARTS_XML_MAX ((size_t)2 << 20)
#define CLEANUP_TIMEOUT_MS 10000
#define COMPLETE_TIMEOUT_MS 300000
#define PAGES_MAX 1000

struct store_multipart {
    struct store *store;
    char *key;
    char upload_id[UPLOAD_ID_SIZE];
    unsigned n_parts;
    struct buf xml; /* the body of complete, as far as the parts go */
    bool completed;
};

int s3_multipart_begin(struct store *store, const char *key, const char *content_type,
                       struct store_multipart **ret_multipart, struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct store_source empty = {.fd = -1, .data = ""};
    struct s3_call call = {
        .method = "POST", .key = key, .content_type = content_type, .source = &empty};

    s3_add_query(&call, "uploads", "");
    struct store_multipart *multipart = calloc(1, sizeof(*multipart));
    if (!multipart) {
        return err_nomem(err);
    }
    multipart->store = store;
    multipart->completed = true; /* nothing to take back yet */
    buf_init(&multipart->xml, PARTS_XML_MAX);
    multipart->key = strdup(key);
    if (!multipart->key) {
        err_nomem(err);
    } else if (s3_call(store, &call, &resp, NULL, err) == 0) {
        if (s3_xml_find(resp.body.data, resp.body.len, "UploadId", multipart->upload_id,
                        sizeof(multipart->upload_id))) {
            multipart->completed = false;
            *ret_multipart = multipart;
            return 0;
        }
        err_set(err, ERR_TRANSIENT, "store_unavailable", "the store gave no upload id");
    }
    s3_multipart_free(multipart);
    return -1;
}

int s3_multipart_part(struct store_multipart *multipart, const struct store_source *source,
                      struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    char number[12], etag[80];
    struct s3_call call = {.method = "PUT", .key = multipart->key, .source = source};

    if (multipart->n_parts == PARTS_MAX) {
        return err_set(err, ERR_PERMANENT, "too_large", "an object has at most %d parts",
                       PARTS_MAX);
    }
    snprintf(number, sizeof(number), "%u", multipart->n_parts + 1);
    s3_add_query(&call, "partNumber", number);
    s3_add_query(&call, "uploadId", multipart->upload_id);
    if (s3_call(multipart->store, &call, &resp, NULL, err) < 0) {
        return err_wrap(err, "part %s", number);
    }
    store_copy_etag(etag, http_header_get(&resp, "ETag"));
    if (!etag[0]) {
        return err_set(err, ERR_TRANSIENT, "store_unavailable", "the store named no part");
    }
    if (buf_printf(&multipart->xml, err, "<Part><PartNumber>%s</PartNumber><ETag>&quot;", number) <
            0 ||
        s3_xml_escape(&multipart->xml, etag, err) < 0 ||
        buf_puts(&multipart->xml, "&quot;</ETag></Part>", err) < 0) {
        return -1;
    }
    multipart->n_parts++;
    return 0;
}

int s3_multipart_complete(struct store_multipart *multipart, char ret_etag[80], struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    CLEANUP(buf_done) struct buf body = {.max = PARTS_XML_MAX + 256};
    char etag[80], code[S3_CODE_SIZE];

    if (buf_printf(&body, err,
                   "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">%s"
                   "</CompleteMultipartUpload>",
                   multipart->xml.data ? multipart->xml.data : "") < 0) {
        return -1;
    }
    struct store_source source = {.fd = -1, .data = body.data, .len = body.len};
    struct s3_call call = {
        .method = "POST",
        .key = multipart->key,
        .content_type = "application/xml",
        .source = &source,
        .timeout_ms = COMPLETE_TIMEOUT_MS,
        .slow_answer = true,
    };
    s3_add_query(&call, "uploadId", multipart->upload_id);
    if (s3_call(multipart->store, &call, &resp, NULL, err) < 0) {
        return err_wrap(err, "completing an upload");
    }
    /* The status comes before the work is done: a failure is then told in the body. */
    if (s3_xml_find(resp.body.data, resp.body.len, "Code", code, sizeof(code))) {
        return s3_error(err, 500, code, "while completing an upload");
    }
    if (!s3_xml_find(resp.body.data, resp.body.len, "ETag", etag, sizeof(etag))) {
        return err_set(err, ERR_TRANSIENT, "store_unavailable",
                       "the store did not confirm the upload");
    }
    store_copy_etag(ret_etag, etag);
    multipart->completed = true;
    return 0;
}

static int abort_call(struct store *store, const char *key, const char *upload_id,
                      bool even_if_aborted, struct err *err)
{
    char code[S3_CODE_SIZE];
    struct s3_call call = {
        .method = "DELETE",
        .key = key,
        .timeout_ms = CLEANUP_TIMEOUT_MS,
        .even_if_aborted = even_if_aborted,
    };

    s3_add_query(&call, "uploadId", upload_id);
    if (s3_call_simple(store, &call, code, err) < 0 && strcmp(code, "NoSuchUpload") != 0) {
        return -1;
    }
    return 0;
}

void s3_multipart_free(struct store_multipart *multipart)
{
    if (!multipart) {
        return;
    }
    /* When this fails the parts stay until the cleaner lists unfinished uploads. */
    if (!multipart->completed &&
        abort_call(multipart->store, multipart->key, multipart->upload_id, true, NULL) < 0) {
        multipart->completed = false;
    }
    buf_done(&multipart->xml);
    free(multipart->key);
    free(multipart);
}

int s3_abort_upload(struct store *store, const char *key, const char *upload_id, struct err *err)
{
    return abort_call(store, key, upload_id, false, err);
}

/* One page of unfinished uploads while it is read. */
struct uploads_page {
    store_pending_fn fn;
    void *ctx;
    int in_upload; /* depth of Upload, whose children are the entry's */
    char key[STORE_KEY_MAX + 1];
    char upload_id[UPLOAD_ID_SIZE];
    int64_t initiated_ms;
    bool truncated;
    char next_key[STORE_KEY_MAX + 1];
    char next_upload[UPLOAD_ID_SIZE];
};

static int on_upload(void *ctx, const char *name, const char *text, struct err *err)
{
    struct uploads_page *page = ctx;

    if (strcmp(name, "Upload") == 0) {
        page->in_upload = text ? 0 : 1;
        if (text) {
            struct store_pending pending = {
                .key = page->key,
                .upload_id = page->upload_id,
                .initiated_ms = page->initiated_ms,
            };
            return page->fn(page->ctx, &pending, err);
        }
        page->initiated_ms = -1;
        return 0;
    }
    if (!text) {
        return 0;
    }
    if (page->in_upload && strcmp(name, "Key") == 0) {
        snprintf(page->key, sizeof(page->key), "%s", text);
    } else if (page->in_upload && strcmp(name, "UploadId") == 0) {
        snprintf(page->upload_id, sizeof(page->upload_id), "%s", text);
    } else if (page->in_upload && strcmp(name, "Initiated") == 0) {
        page->initiated_ms = store_parse_time(text);
    } else if (strcmp(name, "IsTruncated") == 0) {
        page->truncated = strcmp(text, "true") == 0;
    } else if (strcmp(name, "NextKeyMarker") == 0) {
        snprintf(page->next_key, sizeof(page->next_key), "%s", text);
    } else if (strcmp(name, "NextUploadIdMarker") == 0) {
        snprintf(page->next_upload, sizeof(page->next_upload), "%s", text);
    }
    return 0;
}

int s3_list_uploads(struct store *store, const char *prefix, store_pending_fn fn, void *ctx,
                    struct err *err)
{
    CLEANUP(free_cleanup) struct uploads_page *page = calloc(1, sizeof(*page));

    if (!page) {
        return err_nomem(err);
    }
    page->fn = fn;
    page->ctx = ctx;
    for (int i = 0; i < PAGES_MAX; i++) {
        CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
        struct s3_call call = {.method = "GET"};
        s3_add_query(&call, "uploads", "");
        s3_add_query(&call, "prefix", prefix);
        s3_add_query(&call, "max-uploads", "1000");
        if (i > 0) {
            s3_add_query(&call, "key-marker", page->next_key);
            s3_add_query(&call, "upload-id-marker", page->next_upload);
        }
        if (s3_call(store, &call, &resp, NULL, err) < 0) {
            return -1;
        }
        page->truncated = false;
        if (s3_xml_walk(resp.body.data, resp.body.len, on_upload, page, err) < 0) {
            return -1;
        }
        if (!page->truncated || !page->next_key[0]) {
            return 0;
        }
    }
    return err_set(err, ERR_TRANSIENT, "store_unavailable", "the list of uploads does not end");
}
