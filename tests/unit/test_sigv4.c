/* SPDX-License-Identifier: Apache-2.0 */
/* PKGS: jansson libcurl libcrypto */
/*
 * Signature V4 against AWS's published vectors (in $DOCFLEET_SHARED/sigv4-vectors, skipped when
 * absent) and against answers computed once by an independent implementation.
 */
#include "libcommon/sigv4.h"

#include <ctype.h>
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#define FILE_MAX 65536

static char vectors_dir[1024];

/* A vector: the text it was read from, and the request that points into it. */
struct vector {
    char *text;
    json_t *context;
    struct sigv4_pair query[SIGV4_PAIRS_MAX];
    struct sigv4_pair headers[SIGV4_PAIRS_MAX];
    char body_hash[SHA256_HEX_SIZE];
    struct sigv4_request request;
    struct sigv4_creds creds;
    bool sign_body;
    unsigned expires;
};

static char *read_file(const char *dir, const char *name)
{
    char path[2048];

    snprintf(path, sizeof(path), "%s/%s/%s", vectors_dir, dir, name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        fail_msg("cannot open %s", path);
    }
    char *text = calloc(1, FILE_MAX + 1);
    assert_non_null(text);
    size_t len = fread(text, 1, FILE_MAX, file);
    assert_true(len < FILE_MAX);
    fclose(file);
    return text;
}

static void percent_decode(char *s)
{
    char *out = s;

    for (; *s; s++) {
        unsigned int c;
        if (*s == '%' && sscanf(s + 1, "%2x", &c) == 1) {
            *out++ = (char)c;
            s += 2;
        } else {
            *out++ = *s;
        }
    }
    *out = '\0';
}

static void parse_query(struct vector *v, char *query)
{
    while (query && *query) {
        char *next = strchr(query, '&');
        if (next) {
            *next++ = '\0';
        }
        char *value = strchr(query, '=');
        if (value) {
            *value++ = '\0';
            percent_decode(value);
        }
        percent_decode(query);
        v->query[v->request.n_query++] =
            (struct sigv4_pair){.name = query, .value = value ? value : ""};
        query = next;
    }
}

/* Headers up to the empty line; a line that begins with a blank continues the one before. */
static char *parse_headers(struct vector *v, char *line)
{
    while (line && *line && *line != '\n') {
        char *next = line;
        do {
            next = strchr(next, '\n');
            if (next) {
                next++;
            }
        } while (next && (*next == ' ' || *next == '\t'));
        if (next) {
            next[-1] = '\0';
        }
        char *colon = strchr(line, ':');
        assert_non_null(colon);
        *colon = '\0';
        v->headers[v->request.n_headers++] = (struct sigv4_pair){.name = line, .value = colon + 1};
        line = next;
    }
    return line && *line == '\n' ? line + 1 : NULL;
}

static void parse_request(struct vector *v)
{
    char *path = strchr(v->text, ' ');
    char *end = strstr(v->text, " HTTP/1.1\n");

    assert_non_null(path);
    assert_non_null(end);
    *path++ = '\0';
    *end = '\0';
    char *query = strchr(path, '?');
    if (query) {
        *query++ = '\0';
    }
    v->request.method = v->text;
    v->request.path = path;
    parse_query(v, query);
    const char *body = parse_headers(v, end + strlen(" HTTP/1.1\n"));
    assert_int_equal(sha256_hex(body ? body : "", body ? strlen(body) : 0, v->body_hash, NULL), 0);
}

static int64_t parse_time(const char *text)
{
    struct tm tm = {.tm_isdst = 0};

    assert_non_null(strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm));
    return timegm(&tm);
}

static struct vector *vector_load(const char *dir)
{
    struct vector *v = calloc(1, sizeof(*v));
    char path[2048];

    assert_non_null(v);
    v->text = read_file(dir, "request.txt");
    snprintf(path, sizeof(path), "%s/%s/context.json", vectors_dir, dir);
    v->context = json_load_file(path, 0, NULL);
    assert_non_null(v->context);
    const json_t *creds = json_object_get(v->context, "credentials");
    v->creds = (struct sigv4_creds){
        .access_key = json_string_value(json_object_get(creds, "access_key_id")),
        .secret_key = json_string_value(json_object_get(creds, "secret_access_key")),
        .session_token = json_string_value(json_object_get(creds, "token")),
        .region = json_string_value(json_object_get(v->context, "region")),
        .service = json_string_value(json_object_get(v->context, "service")),
    };
    v->request = (struct sigv4_request){
        .query = v->query,
        .headers = v->headers,
        .payload_hash = v->body_hash,
        .now = parse_time(json_string_value(json_object_get(v->context, "timestamp"))),
        .normalize_path = json_is_true(json_object_get(v->context, "normalize")),
        .token_unsigned = json_is_true(json_object_get(v->context, "omit_session_token")),
    };
    v->sign_body = json_is_true(json_object_get(v->context, "sign_body"));
    v->expires = (unsigned)json_integer_value(json_object_get(v->context, "expiration_in_seconds"));
    parse_request(v);
    return v;
}

static void vector_free(struct vector *v)
{
    json_decref(v->context);
    free(v->text);
    free(v);
}

static void assert_file(const char *dir, const char *name, const char *got)
{
    CLEANUP(free_cleanup) char *want = read_file(dir, name);
    size_t len = strlen(want);

    while (len > 0 && want[len - 1] == '\n') {
        want[--len] = '\0';
    }
    if (strcmp(want, got) != 0) {
        print_error("vector %s, %s\n", dir, name);
    }
    assert_string_equal(got, want);
}

static void check_texts(const char *dir, const struct vector *v, unsigned expires)
{
    CLEANUP(buf_done) struct buf canonical = {.max = FILE_MAX};
    CLEANUP(buf_done) struct buf to_sign = {.max = FILE_MAX};

    assert_int_equal(sigv4_explain(&v->request, &v->creds, expires, &canonical, &to_sign, NULL), 0);
    assert_file(dir, expires ? "query-canonical-request.txt" : "header-canonical-request.txt",
                canonical.data);
    assert_file(dir, expires ? "query-string-to-sign.txt" : "header-string-to-sign.txt",
                to_sign.data);
}

static void check_headers(const char *dir)
{
    struct vector *v = vector_load(dir);
    CLEANUP(sigv4_signature_done) struct sigv4_signature sig = SIGV4_SIGNATURE_INIT;

    if (v->sign_body) {
        v->headers[v->request.n_headers++] =
            (struct sigv4_pair){.name = "x-amz-content-sha256", .value = v->body_hash};
    }
    check_texts(dir, v, 0);
    assert_int_equal(sigv4_sign(&v->request, &v->creds, &sig, NULL), 0);
    assert_file(dir, "header-signature.txt", sig.signature);
    CLEANUP(free_cleanup) char *want = read_file(dir, "header-signed-request.txt");
    assert_non_null(strstr(want, sig.authorization));
    vector_free(v);
}

static void check_query(const char *dir)
{
    struct vector *v = vector_load(dir);
    CLEANUP(buf_done) struct buf query = {.max = FILE_MAX};
    char signature[100];

    check_texts(dir, v, v->expires);
    assert_int_equal(sigv4_presign(&v->request, &v->creds, v->expires, &query, NULL), 0);
    CLEANUP(free_cleanup) char *hex = read_file(dir, "query-signature.txt");
    snprintf(signature, sizeof(signature), "&X-Amz-Signature=%.64s", hex);
    assert_non_null(strstr(query.data, signature));
    vector_free(v);
}

static void test_vectors(void **state)
{
    const char *shared = getenv("DOCFLEET_SHARED");
    int n = 0;

    (void)state;
    snprintf(vectors_dir, sizeof(vectors_dir), "%s/sigv4-vectors", shared ? shared : "../shared");
    DIR *dir = opendir(vectors_dir);
    if (!dir) {
        skip();
    }
    for (const struct dirent *entry; (entry = readdir(dir));) {
        if (strncmp(entry->d_name, "get-", 4) == 0 || strncmp(entry->d_name, "post-", 5) == 0) {
            check_headers(entry->d_name);
            check_query(entry->d_name);
            n++;
        }
    }
    closedir(dir);
    assert_true(n >= 30);
}

/* Known answers; `now` is 2026-03-01T10:20:30Z. */
#define NOW 1772360430

static const struct sigv4_creds s3_creds = {
    .access_key = "AKIDTEST",
    .secret_key = "secret/with+signs=",
    .region = "eu-central-1",
    .service = "s3",
};

static const struct sigv4_pair s3_headers[] = {
    {.name = "Host", .value = "127.0.0.1:7070"},
    {.name = "x-amz-content-sha256", .value = SIGV4_UNSIGNED_PAYLOAD},
};

static const struct sigv4_request s3_put = {
    .method = "PUT",
    .path = "/docfleet/uploads/a b/\xc3\xbc+(1)&../x.txt",
    .headers = s3_headers,
    .n_headers = ARRAY_LEN(s3_headers),
    .payload_hash = SIGV4_UNSIGNED_PAYLOAD,
    .now = NOW,
};

static void test_s3_headers(void **state)
{
    CLEANUP(sigv4_signature_done) struct sigv4_signature sig = SIGV4_SIGNATURE_INIT;

    (void)state;
    assert_int_equal(sigv4_sign(&s3_put, &s3_creds, &sig, NULL), 0);
    assert_string_equal(sig.date, "20260301T102030Z");
    assert_string_equal(sig.signature,
                        "45184a29b4af9eff91b9f3bb9ce4a4ee3946b721bbc4662ef4e579d8d62a8d13");
    assert_string_equal(
        sig.authorization,
        "AWS4-HMAC-SHA256 "
        "Credential=AKIDTEST/20260301/eu-central-1/s3/aws4_request, "
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date, "
        "Signature=45184a29b4af9eff91b9f3bb9ce4a4ee3946b721bbc4662ef4e579d8d62a8d13");
}

static void test_s3_presign(void **state)
{
    CLEANUP(buf_done) struct buf query = {.max = FILE_MAX};
    static const struct sigv4_pair pairs[] = {
        {.name = "response-content-disposition", .value = "attachment; filename=\"a b.pdf\""},
        {.name = "partNumber", .value = "2"},
    };
    struct sigv4_request request = s3_put;

    (void)state;
    request.method = "GET";
    request.n_headers = 1;
    request.query = pairs;
    request.n_query = ARRAY_LEN(pairs);
    assert_int_equal(sigv4_presign(&request, &s3_creds, 900, &query, NULL), 0);
    assert_string_equal(
        query.data,
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIDTEST%2F20260301%2Feu-central-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20260301T102030Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&partNumber=2"
        "&response-content-disposition=attachment%3B%20filename%3D%22a%20b.pdf%22"
        "&X-Amz-Signature=96d24424fbc718e67dccec3b8610d9538c25f08451900a3647076d442fa571bc");
}

static void test_session_token(void **state)
{
    CLEANUP(buf_done) struct buf query = {.max = FILE_MAX};
    struct sigv4_creds creds = s3_creds;
    struct sigv4_request request = s3_put;

    (void)state;
    creds.session_token = "to/ken=";
    assert_int_equal(sigv4_presign(&request, &creds, 60, &query, NULL), 0);
    assert_non_null(strstr(query.data, "&X-Amz-Security-Token=to%2Fken%3D&X-Amz-SignedHeaders="));
    buf_reset(&query);
    request.token_unsigned = true;
    assert_int_equal(sigv4_presign(&request, &creds, 60, &query, NULL), 0);
    const char *token = strstr(query.data, "&X-Amz-Security-Token=");
    assert_non_null(token);
    assert_true(token > strstr(query.data, "&X-Amz-SignedHeaders="));
}

static void assert_path(const char *path, bool normalize, const char *want)
{
    CLEANUP(buf_done) struct buf buf = {.max = FILE_MAX};

    assert_int_equal(sigv4_path(&buf, path, normalize, NULL), 0);
    assert_string_equal(buf.data, want);
}

static void test_paths(void **state)
{
    (void)state;
    assert_path("", false, "/");
    assert_path("", true, "/");
    assert_path("/a/../b", false, "/a/../b");
    assert_path("/a/../b", true, "/b");
    assert_path("/../../b/", true, "/b/");
    assert_path("/a//b/.", true, "/a/b/");
    assert_path("/100%/~x*", false, "/100%25/~x%2A");
}

static void test_limits(void **state)
{
    struct sigv4_request request = s3_put;
    struct sigv4_pair many[SIGV4_PAIRS_MAX + 1];
    CLEANUP(buf_done) struct buf query = {.max = FILE_MAX};
    CLEANUP(sigv4_signature_done) struct sigv4_signature sig = SIGV4_SIGNATURE_INIT;
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        many[i] = s3_headers[0];
    }
    request.headers = many;
    request.n_headers = ARRAY_LEN(many);
    assert_int_equal(sigv4_sign(&request, &s3_creds, &sig, &err), -1);
    assert_string_equal(err.code, "too_large");
    assert_null(sig.authorization);
    assert_int_equal(sigv4_presign(&s3_put, &s3_creds, SIGV4_EXPIRES_MAX + 1, &query, &err), -1);
    assert_int_equal(err.class, ERR_PERMANENT);
}

static void test_digests(void **state)
{
    char hex[SHA256_HEX_SIZE];
    unsigned char mac[SHA256_LEN];
    CLEANUP(hash_done) struct hash hash = HASH_NONE;

    (void)state;
    assert_int_equal(sha256_hex("", 0, hex, NULL), 0);
    assert_string_equal(hex, SIGV4_EMPTY_SHA256);
    assert_int_equal(md5_hex("abc", 3, hex, NULL), 0);
    assert_string_equal(hex, "900150983cd24fb0d6963f7d28e17f72");
    assert_int_equal(
        hmac_sha256("key", 3, "The quick brown fox jumps over the lazy dog", 43, mac, NULL), 0);
    hex_encode(mac, sizeof(mac), hex);
    assert_string_equal(hex, "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
    assert_int_equal(hash_init(&hash, HASH_SHA256, NULL), 0);
    assert_int_equal(hash_update(&hash, "ab", 2, NULL), 0);
    assert_int_equal(hash_update(&hash, "c", 1, NULL), 0);
    assert_int_equal(hash_final_hex(&hash, hex, sizeof(hex), NULL), 0);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(hash_update(&hash, "c", 1, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),    cmocka_unit_test(test_s3_headers),
        cmocka_unit_test(test_s3_presign), cmocka_unit_test(test_session_token),
        cmocka_unit_test(test_paths),      cmocka_unit_test(test_limits),
        cmocka_unit_test(test_digests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
