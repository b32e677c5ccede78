/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/reply.h"

#include "libcommon/sha256.h"

#include <stdio.h>
#include <string.h>

void reply_done(struct reply *reply)
{
    for (size_t i = 0; i < reply->n_headers; i++) {
        free(reply->headers[i].value);
    }
    free(reply->body);
    if (reply->stream_free) {
        reply->stream_free(reply->stream_ctx);
    }
    *reply = (struct reply){0};
}

int reply_tag(const char *body, size_t len, char ret_tag[REPLY_TAG_SIZE], struct err *err)
{
    char hex[SHA256_HEX_SIZE];

    if (sha256_hex(body, len, hex, err) < 0) {
        return -1;
    }
    snprintf(ret_tag, REPLY_TAG_SIZE, "%.16s", hex);
    return 0;
}

int reply_header(struct reply *reply, const char *name, const char *value, struct err *err)
{
    if (reply->n_headers == REPLY_HEADERS_MAX) {
        return err_set(err, ERR_UNKNOWN, "internal", "too many reply headers");
    }
    char *copy = strdup(value);
    if (!copy) {
        return err_nomem(err);
    }
    reply->headers[reply->n_headers].name = name;
    reply->headers[reply->n_headers].value = copy;
    reply->n_headers++;
    return 0;
}

void reply_retry_after(struct reply *reply, int64_t seconds)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)seconds);
    for (size_t i = 0; i < reply->n_headers; i++) {
        char *copy = strcmp(reply->headers[i].name, "Retry-After") == 0 ? strdup(text) : NULL;
        if (copy) {
            free(reply->headers[i].value);
            reply->headers[i].value = copy;
        }
    }
}

int reply_take_json(struct reply *reply, unsigned status, json_t *json, struct err *err)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;

    json_decref(json);
    if (!text) {
        return err_nomem(err);
    }
    free(reply->body);
    reply->status = status;
    reply->content_type = "application/json";
    reply->own = true;
    reply->body = text;
    reply->len = strlen(text);
    return 0;
}

void reply_take_buf(struct reply *reply, unsigned status, const char *content_type, struct buf *buf)
{
    free(reply->body);
    reply->status = status;
    reply->content_type = content_type;
    reply->len = buf->len;
    reply->body = buf_steal(buf);
}
