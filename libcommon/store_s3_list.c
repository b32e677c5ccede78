/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listing objects and deleting many of them: the two calls whose bodies are lists.
 */
#include "libcommon/store_s3.h"

#include <stdio.h>
#include <string.h>

#define TOKEN_SIZE 4096
#define DELETE_XML_MAX ((size_t)8 << 20)

struct list_page {
    store_list_fn fn;
    void *ctx;
    bool in_contents;
    char key[STORE_KEY_MAX + 1];
    struct store_entry entry;
    bool truncated;
    char token[TOKEN_SIZE];
};

static int on_list(void *ctx, const char *name, const char *text, struct err *err)
{
    struct list_page *page = ctx;

    if (strcmp(name, "Contents") == 0) {
        page->in_contents = !text;
        if (text) {
            return page->fn(page->ctx, &page->entry, err);
        }
        page->key[0] = '\0';
        page->entry = (struct store_entry){.key = page->key, .mtime_ms = -1};
        return 0;
    }
    if (!text) {
        return 0;
    }
    if (page->in_contents && strcmp(name, "Key") == 0) {
        if (strlen(text) > STORE_KEY_MAX) {
            return err_set(err, ERR_UNKNOWN, "store_refused", "a listed key is too long");
        }
        snprintf(page->key, sizeof(page->key), "%s", text);
    } else if (page->in_contents && strcmp(name, "Size") == 0) {
        page->entry.size = strtoull(text, NULL, 10);
    } else if (page->in_contents && strcmp(name, "LastModified") == 0) {
        page->entry.mtime_ms = store_parse_time(text);
    } else if (page->in_contents && strcmp(name, "ETag") == 0) {
        store_copy_etag(page->entry.etag, text);
    } else if (strcmp(name, "IsTruncated") == 0) {
        page->truncated = strcmp(text, "true") == 0;
    } else if (strcmp(name, "NextContinuationToken") == 0) {
        snprintf(page->token, sizeof(page->token), "%s", text);
    }
    return 0;
}

int s3_list(struct store *store, const char *prefix, const char *token, unsigned max,
            store_list_fn fn, void *ctx, char **ret_token, struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    CLEANUP(free_cleanup) struct list_page *page = calloc(1, sizeof(*page));
    struct s3_call call = {.method = "GET"};
    char max_keys[12];

    if (!page) {
        return err_nomem(err);
    }
    page->fn = fn;
    page->ctx = ctx;
    snprintf(max_keys, sizeof(max_keys), "%u", max);
    s3_add_query(&call, "list-type", "2");
    s3_add_query(&call, "prefix", prefix);
    s3_add_query(&call, "max-keys", max_keys);
    if (token) {
        s3_add_query(&call, "continuation-token", token);
    }
    if (s3_call(store, &call, &resp, NULL, err) < 0 ||
        s3_xml_walk(resp.body.data, resp.body.len, on_list, page, err) < 0) {
        return -1;
    }
    char *next = NULL;
    if (page->truncated && page->token[0]) {
        next = strdup(page->token);
        if (!next) {
            return err_nomem(err);
        }
    }
    *ret_token = next;
    return 0;
}

struct delete_result {
    bool in_error;
    char code[S3_CODE_SIZE];
    char first_code[S3_CODE_SIZE];
    unsigned errors;
};

static int on_delete(void *ctx, const char *name, const char *text, struct err *err)
{
    struct delete_result *result = ctx;

    (void)err;
    if (strcmp(name, "Error") == 0) {
        result->in_error = !text;
        if (text && strcmp(result->code, "NoSuchKey") != 0) {
            if (result->errors++ == 0) {
                memcpy(result->first_code, result->code, sizeof(result->code));
            }
        }
    } else if (text && result->in_error && strcmp(name, "Code") == 0) {
        snprintf(result->code, sizeof(result->code), "%s", text);
    }
    return 0;
}

int s3_remove_many(struct store *store, const char *const *keys, size_t n, struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    CLEANUP(buf_done) struct buf body = {.max = DELETE_XML_MAX};
    struct delete_result result = {.errors = 0};

    if (buf_puts(&body,
                 "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>",
                 err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (buf_puts(&body, "<Object><Key>", err) < 0 || s3_xml_escape(&body, keys[i], err) < 0 ||
            buf_puts(&body, "</Key></Object>", err) < 0) {
            return -1;
        }
    }
    if (buf_puts(&body, "</Delete>", err) < 0) {
        return -1;
    }
    struct store_source source = {.fd = -1, .data = body.data, .len = body.len};
    struct s3_call call = {
        .method = "POST",
        .content_type = "application/xml",
        .source = &source,
        .content_md5 = true,
    };
    s3_add_query(&call, "delete", "");
    if (s3_call(store, &call, &resp, NULL, err) < 0) {
        return -1;
    }
    if (resp.body.len > 0 &&
        s3_xml_walk(resp.body.data, resp.body.len, on_delete, &result, err) < 0) {
        return -1;
    }
    if (result.errors > 0) {
        s3_error(err, 500, result.first_code, "");
        return err_wrap(err, "%u of %zu objects were not deleted", result.errors, n);
    }
    return 0;
}
