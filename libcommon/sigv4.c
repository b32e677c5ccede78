/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signature Version 4: the canonical request, the string to sign, the derived key, and the two
 * places a signature can stand in. Everything is built in bounded buffers, nothing is kept.
 */
#include "libcommon/sigv4.h"

#include "libcommon/http.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
#define TEXT_MAX 65536 /* of each text built here */
#define SCOPE_SIZE 128

/* Headers or parameters in the order in which they are signed. */
struct pair_list {
    struct sigv4_pair pair[SIGV4_PAIRS_MAX + 8]; /* room for what signing adds */
    size_t n;
};

struct signing {
    const struct sigv4_request *request;
    const struct sigv4_creds *creds;
    char date[SIGV4_DATE_SIZE];
    char scope[SCOPE_SIZE]; /* day/region/service/aws4_request */
    struct pair_list headers;
    struct pair_list query;
    struct buf signed_headers;
    /* Text that the lists point into. */
    char credential[SCOPE_SIZE + 160];
    char expires[12];
};

static void signing_done(struct signing *s)
{
    buf_done(&s->signed_headers);
}

static int list_add(struct pair_list *list, const char *name, const char *value, struct err *err)
{
    if (list->n == ARRAY_LEN(list->pair)) {
        return err_set(err, ERR_PERMANENT, "too_large", "too many headers or parameters to sign");
    }
    list->pair[list->n++] = (struct sigv4_pair){.name = name, .value = value};
    return 0;
}

static int list_add_all(struct pair_list *list, const struct sigv4_pair *pairs, size_t n,
                        struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (list_add(list, pairs[i].name, pairs[i].value, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Stable, by name in any case: values of one name keep their order. The lists are short. */
static void sort_headers(struct pair_list *list)
{
    for (size_t i = 1; i < list->n; i++) {
        struct sigv4_pair pair = list->pair[i];
        size_t j = i;
        for (; j > 0 && strcasecmp(list->pair[j - 1].name, pair.name) > 0; j--) {
            list->pair[j] = list->pair[j - 1];
        }
        list->pair[j] = pair;
    }
}

static int append_lower(struct buf *buf, const char *s, struct err *err)
{
    for (; *s; s++) {
        char c = (char)tolower((unsigned char)*s);
        if (buf_append(buf, &c, 1, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Without outer space, inner runs of it as one blank. */
static int append_trimmed(struct buf *buf, const char *s, struct err *err)
{
    bool gap = false, any = false;

    for (; *s; s++) {
        if (isspace((unsigned char)*s)) {
            gap = true;
            continue;
        }
        if (gap && any && buf_append(buf, " ", 1, err) < 0) {
            return -1;
        }
        gap = false;
        any = true;
        if (buf_append(buf, s, 1, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static bool same_name(const struct pair_list *list, size_t i)
{
    return i > 0 && strcasecmp(list->pair[i - 1].name, list->pair[i].name) == 0;
}

static int append_signed_headers(struct buf *buf, const struct pair_list *list, struct err *err)
{
    for (size_t i = 0; i < list->n; i++) {
        if (same_name(list, i)) {
            continue;
        }
        if ((i > 0 && buf_puts(buf, ";", err) < 0) ||
            append_lower(buf, list->pair[i].name, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int append_headers(struct buf *buf, const struct pair_list *list, struct err *err)
{
    for (size_t i = 0; i < list->n; i++) {
        if (same_name(list, i)) {
            if (buf_puts(buf, ",", err) < 0) {
                return -1;
            }
        } else if ((i > 0 && buf_puts(buf, "\n", err) < 0) ||
                   append_lower(buf, list->pair[i].name, err) < 0 || buf_puts(buf, ":", err) < 0) {
            return -1;
        }
        if (append_trimmed(buf, list->pair[i].value, err) < 0) {
            return -1;
        }
    }
    return buf_puts(buf, "\n", err);
}

/* Drops "." and empty segments and lets ".." take its predecessor with it. */
static int append_normalized(struct buf *buf, const char *path, struct err *err)
{
    size_t root = buf->len;
    bool slash_at_end = true;

    for (const char *p = path; *p;) {
        p += strspn(p, "/");
        size_t len = strcspn(p, "/");
        bool dots = (len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.');
        if (len == 2 && dots) {
            while (buf->len > root && buf->data[--buf->len] != '/') {
            }
        } else if (len > 0 && !dots &&
                   (buf_puts(buf, "/", err) < 0 || buf_append(buf, p, len, err) < 0)) {
            return -1;
        }
        slash_at_end = len == 0 || dots || p[len] == '/';
        p += len;
    }
    return slash_at_end ? buf_puts(buf, "/", err) : 0;
}

int sigv4_path(struct buf *buf, const char *path, bool normalize, struct err *err)
{
    CLEANUP(buf_done) struct buf plain = {.max = TEXT_MAX};

    if (!normalize) {
        return http_encode(buf, path[0] ? path : "/", true, err);
    }
    if (append_normalized(&plain, path, err) < 0 || buf_append(&plain, "", 0, err) < 0) {
        return -1;
    }
    return http_encode(buf, plain.data, true, err);
}

/* Byte order of two names or values once they are encoded. */
static int compare_encoded(const char *a, const char *b, struct buf *tmp, struct err *err,
                           int *ret_order)
{
    buf_reset(tmp);
    if (http_encode(tmp, a, false, err) < 0 || buf_append(tmp, "", 1, err) < 0) {
        return -1;
    }
    size_t second = tmp->len;
    if (http_encode(tmp, b, false, err) < 0 || buf_append(tmp, "", 1, err) < 0) {
        return -1;
    }
    *ret_order = strcmp(tmp->data, tmp->data + second);
    return 0;
}

static int sort_query(struct pair_list *list, struct err *err)
{
    CLEANUP(buf_done) struct buf tmp = {.max = TEXT_MAX};

    for (size_t i = 1; i < list->n; i++) {
        struct sigv4_pair pair = list->pair[i];
        size_t j = i;
        for (; j > 0; j--) {
            int order = 0;
            if (compare_encoded(list->pair[j - 1].name, pair.name, &tmp, err, &order) < 0 ||
                (order == 0 &&
                 compare_encoded(list->pair[j - 1].value, pair.value, &tmp, err, &order) < 0)) {
                return -1;
            }
            if (order <= 0) {
                break;
            }
            list->pair[j] = list->pair[j - 1];
        }
        list->pair[j] = pair;
    }
    return 0;
}

static int append_query(struct buf *buf, const struct pair_list *list, struct err *err)
{
    for (size_t i = 0; i < list->n; i++) {
        if ((i > 0 && buf_puts(buf, "&", err) < 0) ||
            http_encode(buf, list->pair[i].name, false, err) < 0 || buf_puts(buf, "=", err) < 0 ||
            http_encode(buf, list->pair[i].value, false, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int sigv4_query(struct buf *buf, const struct sigv4_pair *query, size_t n_query, struct err *err)
{
    struct pair_list list = {.n = 0};

    if (list_add_all(&list, query, n_query, err) < 0 || sort_query(&list, err) < 0) {
        return -1;
    }
    return append_query(buf, &list, err);
}

static int set_times(struct signing *s, struct err *err)
{
    time_t t = (time_t)s->request->now;
    struct tm tm;

    if (!gmtime_r(&t, &tm) || strftime(s->date, sizeof(s->date), "%Y%m%dT%H%M%SZ", &tm) == 0) {
        return err_set(err, ERR_FATAL, "internal", "the time of a signature is out of range");
    }
    int n = snprintf(s->scope, sizeof(s->scope), "%.8s/%s/%s/aws4_request", s->date,
                     s->creds->region, s->creds->service);
    int m = snprintf(s->credential, sizeof(s->credential), "%s/%s", s->creds->access_key, s->scope);
    if (n < 0 || (size_t)n >= sizeof(s->scope) || m < 0 || (size_t)m >= sizeof(s->credential)) {
        return err_set(err, ERR_FATAL, "config", "access key, region or service is too long");
    }
    return 0;
}

/* What the query of a presigned request has beside the caller's parameters. */
static int add_presign_query(struct signing *s, unsigned expires, struct err *err)
{
    struct pair_list *query = &s->query;

    if (expires > SIGV4_EXPIRES_MAX) {
        return err_set(err, ERR_PERMANENT, "invalid", "a presigned URL lives at most 7 days");
    }
    snprintf(s->expires, sizeof(s->expires), "%u", expires);
    if (list_add(query, "X-Amz-Algorithm", ALGORITHM, err) < 0 ||
        list_add(query, "X-Amz-Credential", s->credential, err) < 0 ||
        list_add(query, "X-Amz-Date", s->date, err) < 0 ||
        list_add(query, "X-Amz-Expires", s->expires, err) < 0 ||
        list_add(query, "X-Amz-SignedHeaders", s->signed_headers.data, err) < 0) {
        return -1;
    }
    return 0;
}

/* Collects what is signed. presign when expires > 0. */
static int signing_init(struct signing *s, const struct sigv4_request *request,
                        const struct sigv4_creds *creds, unsigned expires, struct err *err)
{
    *s = (struct signing){.request = request, .creds = creds};
    buf_init(&s->signed_headers, TEXT_MAX);
    if (request->n_headers > SIGV4_PAIRS_MAX || request->n_query > SIGV4_PAIRS_MAX) {
        return err_set(err, ERR_PERMANENT, "too_large", "too many headers or parameters to sign");
    }
    if (set_times(s, err) < 0 ||
        list_add_all(&s->headers, request->headers, request->n_headers, err) < 0 ||
        list_add_all(&s->query, request->query, request->n_query, err) < 0) {
        return -1;
    }
    const char *token = request->token_unsigned ? NULL : creds->session_token;
    struct pair_list *list = expires ? &s->query : &s->headers;
    if ((!expires && list_add(list, "x-amz-date", s->date, err) < 0) ||
        (token && list_add(list, "X-Amz-Security-Token", token, err) < 0)) {
        return -1;
    }
    sort_headers(&s->headers);
    if (append_signed_headers(&s->signed_headers, &s->headers, err) < 0 ||
        buf_append(&s->signed_headers, "", 0, err) < 0 ||
        (expires && add_presign_query(s, expires, err) < 0)) {
        return -1;
    }
    return sort_query(&s->query, err);
}

static int append_canonical(struct buf *buf, const struct signing *s, struct err *err)
{
    const struct sigv4_request *request = s->request;

    if (buf_printf(buf, err, "%s\n", request->method) < 0 ||
        sigv4_path(buf, request->path, request->normalize_path, err) < 0 ||
        buf_puts(buf, "\n", err) < 0 || append_query(buf, &s->query, err) < 0 ||
        buf_puts(buf, "\n", err) < 0 || append_headers(buf, &s->headers, err) < 0 ||
        buf_printf(buf, err, "\n%s\n%s", s->signed_headers.data,
                   request->payload_hash ? request->payload_hash : SIGV4_EMPTY_SHA256) < 0) {
        return -1;
    }
    return 0;
}

static int append_to_sign(struct buf *buf, const struct signing *s, const struct buf *canonical,
                          struct err *err)
{
    char hex[SHA256_HEX_SIZE];

    if (sha256_hex(canonical->data, canonical->len, hex, err) < 0) {
        return -1;
    }
    return buf_printf(buf, err, ALGORITHM "\n%s\n%s\n%s", s->date, s->scope, hex);
}

static int derive_key(const struct signing *s, unsigned char key[SHA256_LEN], struct err *err)
{
    CLEANUP(buf_done) struct buf secret = {.max = 1024};

    if (buf_printf(&secret, err, "AWS4%s", s->creds->secret_key) < 0 ||
        hmac_sha256(secret.data, secret.len, s->date, 8, key, err) < 0 ||
        hmac_sha256(key, SHA256_LEN, s->creds->region, strlen(s->creds->region), key, err) < 0 ||
        hmac_sha256(key, SHA256_LEN, s->creds->service, strlen(s->creds->service), key, err) < 0) {
        return -1;
    }
    return hmac_sha256(key, SHA256_LEN, "aws4_request", 12, key, err);
}

static int signature_hex(const struct signing *s, char hex[SHA256_HEX_SIZE], struct err *err)
{
    CLEANUP(buf_done) struct buf canonical = {.max = TEXT_MAX};
    CLEANUP(buf_done) struct buf to_sign = {.max = TEXT_MAX};
    unsigned char key[SHA256_LEN], mac[SHA256_LEN];

    if (append_canonical(&canonical, s, err) < 0 ||
        append_to_sign(&to_sign, s, &canonical, err) < 0 || derive_key(s, key, err) < 0 ||
        hmac_sha256(key, sizeof(key), to_sign.data, to_sign.len, mac, err) < 0) {
        return -1;
    }
    hex_encode(mac, sizeof(mac), hex);
    return 0;
}

void sigv4_signature_done(struct sigv4_signature *sig)
{
    if (sig) {
        free(sig->authorization);
        sig->authorization = NULL;
    }
}

int sigv4_sign(const struct sigv4_request *request, const struct sigv4_creds *creds,
               struct sigv4_signature *ret_signature, struct err *err)
{
    CLEANUP(signing_done) struct signing s = {.request = request};
    CLEANUP(buf_done) struct buf text = {.max = TEXT_MAX};
    struct sigv4_signature sig = SIGV4_SIGNATURE_INIT;

    if (signing_init(&s, request, creds, 0, err) < 0 || signature_hex(&s, sig.signature, err) < 0 ||
        buf_printf(&text, err, ALGORITHM " Credential=%s, SignedHeaders=%s, Signature=%s",
                   s.credential, s.signed_headers.data, sig.signature) < 0) {
        return -1;
    }
    memcpy(sig.date, s.date, sizeof(sig.date));
    sig.authorization = buf_steal(&text);
    *ret_signature = sig;
    return 0;
}

int sigv4_presign(const struct sigv4_request *request, const struct sigv4_creds *creds,
                  unsigned expires, struct buf *buf, struct err *err)
{
    CLEANUP(signing_done) struct signing s = {.request = request};
    char hex[SHA256_HEX_SIZE];

    if (signing_init(&s, request, creds, expires ? expires : 1, err) < 0 ||
        signature_hex(&s, hex, err) < 0 || append_query(buf, &s.query, err) < 0) {
        return -1;
    }
    if (request->token_unsigned && creds->session_token &&
        (buf_puts(buf, "&X-Amz-Security-Token=", err) < 0 ||
         http_encode(buf, creds->session_token, false, err) < 0)) {
        return -1;
    }
    return buf_printf(buf, err, "&X-Amz-Signature=%s", hex);
}

int sigv4_explain(const struct sigv4_request *request, const struct sigv4_creds *creds,
                  unsigned expires, struct buf *canonical_request, struct buf *string_to_sign,
                  struct err *err)
{
    CLEANUP(signing_done) struct signing s = {.request = request};
    CLEANUP(buf_done) struct buf canonical = {.max = TEXT_MAX};

    if (signing_init(&s, request, creds, expires, err) < 0 ||
        append_canonical(&canonical, &s, err) < 0 ||
        (string_to_sign && append_to_sign(string_to_sign, &s, &canonical, err) < 0) ||
        (canonical_request &&
         buf_append(canonical_request, canonical.data, canonical.len, err) < 0)) {
        return -1;
    }
    return 0;
}
