/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What needs no connection: names of errors to classes, base64, the host of an address.
 */
#include "services/ocr-fallback/textract.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *code;
    enum err_class class;
    bool throttled;
} known[] = {
    {"ThrottlingException", "provider_unavailable", ERR_TRANSIENT, true},
    {"Throttling", "provider_unavailable", ERR_TRANSIENT, true},
    {"ProvisionedThroughputExceededException", "provider_unavailable", ERR_TRANSIENT, true},
    {"LimitExceededException", "provider_unavailable", ERR_TRANSIENT, true},
    {"TooManyRequestsException", "provider_unavailable", ERR_TRANSIENT, true},
    {"RequestLimitExceeded", "provider_unavailable", ERR_TRANSIENT, true},
    {"SlowDown", "provider_unavailable", ERR_TRANSIENT, true},
    {"InternalServerError", "provider_unavailable", ERR_TRANSIENT, false},
    {"InternalFailure", "provider_unavailable", ERR_TRANSIENT, false},
    {"ServiceUnavailable", "provider_unavailable", ERR_TRANSIENT, false},
    {"RequestTimeTooSkewed", "provider_unavailable", ERR_TRANSIENT, false},
    {"RequestExpired", "provider_unavailable", ERR_TRANSIENT, false},
    {"AccessDeniedException", "provider_unavailable", ERR_TRANSIENT, false},
    {"AccessDenied", "provider_unavailable", ERR_TRANSIENT, false},
    {"SubscriptionRequiredException", "provider_unavailable", ERR_TRANSIENT, false},
    {"OptInRequired", "provider_unavailable", ERR_TRANSIENT, false},
    {"UnrecognizedClientException", "provider_unavailable", ERR_TRANSIENT, false},
    {"InvalidSignatureException", "provider_unavailable", ERR_TRANSIENT, false},
    {"SignatureDoesNotMatch", "provider_unavailable", ERR_TRANSIENT, false},
    {"IncompleteSignature", "provider_unavailable", ERR_TRANSIENT, false},
    {"IncompleteSignatureException", "provider_unavailable", ERR_TRANSIENT, false},
    {"InvalidClientTokenId", "provider_unavailable", ERR_TRANSIENT, false},
    {"InvalidAccessKeyId", "provider_unavailable", ERR_TRANSIENT, false},
    {"MissingAuthenticationToken", "provider_unavailable", ERR_TRANSIENT, false},
    {"MissingAuthenticationTokenException", "provider_unavailable", ERR_TRANSIENT, false},
    {"ExpiredTokenException", "provider_unavailable", ERR_TRANSIENT, false},
    {"ExpiredToken", "provider_unavailable", ERR_TRANSIENT, false},
    {"InvalidKMSKeyException", "provider_unavailable", ERR_TRANSIENT, false},
    {"UnsupportedDocumentException", "unsupported_type", ERR_PERMANENT, false},
    {"BadDocumentException", "corrupt", ERR_PERMANENT, false},
    {"DocumentTooLargeException", "file_too_large", ERR_PERMANENT, false},
    {"InvalidJobIdException", "input_gone", ERR_PERMANENT, false},
    {"InvalidS3ObjectException", "provider_refused", ERR_UNKNOWN, false},
};

/* The bare name out of "com.amazonaws.textract#Name:http://...". */
static void bare_name(const char *text, size_t len, char *name, size_t size)
{
    const char *hash = memchr(text, '#', len);

    if (hash) {
        len -= (size_t)(hash + 1 - text);
        text = hash + 1;
    }
    size_t n = 0;
    while (n < len && n + 1 < size &&
           ((text[n] >= 'A' && text[n] <= 'Z') || (text[n] >= 'a' && text[n] <= 'z') ||
            (text[n] >= '0' && text[n] <= '9'))) {
        name[n] = text[n];
        n++;
    }
    name[n] = '\0';
}

static void name_from_json(const char *body, size_t len, char *name, size_t size)
{
    CLEANUP(json_cleanup) json_t *json = NULL;

    if (jget_load(body, len, HTTP_ERROR_BODY_MAX, &json, NULL) < 0) {
        return;
    }
    const char *type = json_string_value(json_object_get(json, "__type"));
    type = type ? type : json_string_value(json_object_get(json, "code"));
    if (type) {
        bare_name(type, strlen(type), name, size);
    }
}

static void name_from_xml(const char *body, size_t len, char *name, size_t size)
{
    const char *open = memmem(body, len, "<Code>", 6);

    if (open) {
        open += 6;
        const char *close = memchr(open, '<', len - (size_t)(open - body));
        if (close) {
            bare_name(open, (size_t)(close - open), name, size);
        }
    }
}

int textract_error(int status, const char *body, size_t len, const char *error_type,
                   bool *ret_throttled, struct err *err)
{
    char name[64] = "";

    *ret_throttled = status == 429;
    if (error_type) {
        bare_name(error_type, strlen(error_type), name, sizeof(name));
    }
    if (!name[0] && len > 0 && body[0] != '<') {
        name_from_json(body, len, name, sizeof(name));
    }
    if (!name[0] && len > 0) {
        name_from_xml(body, len, name, sizeof(name));
    }
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(name, known[i].name) == 0) {
            *ret_throttled = known[i].throttled;
            return err_set(err, known[i].class, known[i].code, "textract answers %s (HTTP %d)",
                           name, status);
        }
    }
    bool away = status >= 500 || status == 401 || status == 403 || status == 408 || status == 429;
    return err_set(err, away ? ERR_TRANSIENT : ERR_UNKNOWN,
                   away ? "provider_unavailable" : "provider_refused",
                   "textract answers %s (HTTP %d)", name[0] ? name : "an error", status);
}

int textract_document(const void *data, size_t len, struct buf *ret_body, struct err *err)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = data;
    char out[4096];
    size_t n = 0;

    if (buf_puts(ret_body, "{\"Document\":{\"Bytes\":\"", err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t v = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                     (left > 2 ? in[i + 2] : 0);
        out[n++] = digits[v >> 18];
        out[n++] = digits[v >> 12 & 63];
        out[n++] = left > 1 ? digits[v >> 6 & 63] : '=';
        out[n++] = left > 2 ? digits[v & 63] : '=';
        if (n == sizeof(out)) {
            if (buf_append(ret_body, out, n, err) < 0) {
                return -1;
            }
            n = 0;
        }
    }
    return buf_append(ret_body, out, n, err) < 0 ? -1 : buf_puts(ret_body, "\"}}", err);
}

int textract_host(const char *endpoint, char *host, size_t size, struct err *err)
{
    const char *start = strstr(endpoint, "://");
    bool tls = strncmp(endpoint, "https:", 6) == 0;

    start = start ? start + 3 : endpoint;
    size_t len = strcspn(start, "/?#");
    const char *port = tls ? ":443" : ":80";
    size_t port_len = strlen(port);
    if (len > port_len && memcmp(start + len - port_len, port, port_len) == 0) {
        len -= port_len;
    }
    if (len == 0 || len >= size || memchr(start, '@', len)) {
        return err_set(err, ERR_FATAL, "invalid_config", "the Textract address has no plain host");
    }
    memcpy(host, start, len);
    host[len] = '\0';
    return 0;
}
