/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/issuer.h"

#include "libcommon/http.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/options.h"
#include "services/ingest-gateway/token.h"

#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define CALL_TIMEOUT_MS 5000U
#define ANSWER_MAX ((uint64_t)256 << 10)
#define FRESH_MS 600000U /* keys and description are asked for again after that */
#define BELIEVED_MS 3600000U
#define URL_MAX 2000U
#define WAIT_MS 2000U
#define WAITERS_MAX 4U /* of the threads that serve everybody */

struct issuer {
    const struct gateway_options *options;
    struct http_client *http;
    pthread_mutex_t fetching; /* one call for keys or description at a time */
    pthread_mutex_t lock;     /* what follows */
    json_t *described;        /* the discovery document */
    uint64_t described_ms;
    char *keys; /* the key set, as JSON text */
    uint64_t keys_ms;
    uint64_t tried_ms; /* for keys, last */
    unsigned waiting;  /* requests that wait for another's call */
};

/* https, or http to this machine. */
static bool url_ok(const char *url)
{
    static const char *const local[] = {"http://127.0.0.1:", "http://127.0.0.1/",
                                        "http://localhost:", "http://localhost/", "http://[::1]:"};

    if (!url || strlen(url) > URL_MAX) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(local); i++) {
        if (strncmp(url, local[i], strlen(local[i])) == 0) {
            return true;
        }
    }
    return strncmp(url, "https://", 8) == 0;
}

int issuer_new(const struct gateway_options *options, struct issuer **ret_issuer, struct err *err)
{
    struct http_client_config http = {
        .ca_file = options->oidc_ca_file[0] != '\0' ? options->oidc_ca_file : NULL};

    *ret_issuer = NULL;
    if (options->oidc_issuer[0] == '\0') {
        return 0;
    }
    if (!url_ok(options->oidc_issuer) ||
        (options->oidc_jwks_url[0] != '\0' && !url_ok(options->oidc_jwks_url))) {
        return err_set(err, ERR_FATAL, "config", "OIDC_ISSUER and OIDC_JWKS_URL are https");
    }
    if (options->oidc_client_id[0] != '\0' && options->public_url[0] == '\0') {
        return err_set(err, ERR_FATAL, "config", "a sign-in with OIDC_CLIENT_ID needs PUBLIC_URL");
    }
    if (options->oidc_client_id[0] == '\0' && options->oidc_audience[0] == '\0') {
        return err_set(
            err, ERR_FATAL, "config",
            "OIDC_ISSUER needs OIDC_CLIENT_ID for sign-ins, or OIDC_AUDIENCE for tokens");
    }
    if (!token_algorithms_valid(options->oidc_algorithms)) {
        return err_set(err, ERR_FATAL, "config",
                       "OIDC_ALGORITHMS holds RS256, PS256, ES256 and their like, or EdDSA");
    }
    struct issuer *issuer = calloc(1, sizeof(*issuer));
    if (!issuer) {
        return err_nomem(err);
    }
    issuer->options = options;
    pthread_mutex_init(&issuer->fetching, NULL);
    pthread_mutex_init(&issuer->lock, NULL);
    if (http_client_new(&http, &issuer->http, err) < 0) {
        issuer_free(issuer);
        return -1;
    }
    *ret_issuer = issuer;
    return 0;
}

void issuer_free(struct issuer *issuer)
{
    if (issuer) {
        http_client_free(issuer->http);
        json_decref(issuer->described);
        free(issuer->keys);
        pthread_mutex_destroy(&issuer->fetching);
        pthread_mutex_destroy(&issuer->lock);
        free(issuer);
    }
}

const char *issuer_label(const struct issuer *issuer)
{
    if (!issuer || issuer->options->oidc_client_id[0] == '\0') {
        return NULL;
    }
    return issuer->options->oidc_name[0] != '\0' ? issuer->options->oidc_name
                                                 : strstr(issuer->options->oidc_issuer, "//") + 2;
}

const char *issuer_audience(const struct issuer *issuer)
{
    return issuer && issuer->options->oidc_audience[0] != '\0' ? issuer->options->oidc_audience
                                                               : NULL;
}

const char *issuer_url(const struct issuer *issuer)
{
    return issuer ? issuer->options->oidc_issuer : NULL;
}

const struct gateway_options *issuer_options(const struct issuer *issuer)
{
    return issuer ? issuer->options : NULL;
}

/* Calls -----------------------------------------------------------------------------------------*/

static int unavailable(struct err *err, const char *what)
{
    return err_set(err, ERR_TRANSIENT, "issuer_unavailable", "the issuer's %s", what);
}

static int fetch_json(struct issuer *issuer, const char *url, const char *what, json_t **ret_json,
                      struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    static const char *const headers[] = {"Accept: application/json"};
    const struct http_request request = {.url = url,
                                         .headers = headers,
                                         .n_headers = 1,
                                         .max_response = ANSWER_MAX,
                                         .connect_timeout_ms = CALL_TIMEOUT_MS,
                                         .timeout_ms = CALL_TIMEOUT_MS};
    struct err why = ERR_INIT;

    if (http_call(issuer->http, &request, &resp, &why) < 0) {
        unavailable(err, what);
        return err_wrap(err, "%s", why.msg);
    }
    if (resp.status != 200 || !resp.body.data ||
        jget_load(resp.body.data, resp.body.len, (size_t)ANSWER_MAX, ret_json, &why) < 0) {
        unavailable(err, what);
        return err_wrap(err, "HTTP %d", resp.status);
    }
    return 0;
}

/* The description is taken only if it says that it is this issuer's. */
static int fetch_description(struct issuer *issuer, struct err *err)
{
    CLEANUP(json_cleanup) json_t *doc = NULL;
    char url[URL_MAX + 64];
    const char *base = issuer->options->oidc_issuer;
    size_t n = strlen(base);

    snprintf(url, sizeof(url), "%.*s/.well-known/openid-configuration",
             (int)(n > 0 && base[n - 1] == '/' ? n - 1 : n), base);
    if (fetch_json(issuer, url, "description cannot be read", &doc, err) < 0) {
        return -1;
    }
    const char *iss = json_string_value(json_object_get(doc, "issuer"));
    if (!iss || strcmp(iss, base) != 0) {
        return unavailable(err, "description is of another issuer");
    }
    static const char *const urls[] = {"authorization_endpoint", "token_endpoint", "jwks_uri"};
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        if (!url_ok(json_string_value(json_object_get(doc, urls[i])))) {
            return unavailable(err, "description has an address that is not https");
        }
    }
    pthread_mutex_lock(&issuer->lock);
    json_decref(issuer->described);
    issuer->described = STEAL(doc);
    issuer->described_ms = clock_mono_ms();
    pthread_mutex_unlock(&issuer->lock);
    return 0;
}

/* A copy of a member of the description; NULL when it has none, or none is known. */
static char *described(struct issuer *issuer, const char *name, bool *ret_fresh)
{
    char *copy = NULL;

    pthread_mutex_lock(&issuer->lock);
    const char *text = json_string_value(json_object_get(issuer->described, name));
    copy = text ? strdup(text) : NULL;
    *ret_fresh = issuer->described && clock_mono_ms() - issuer->described_ms < FRESH_MS;
    pthread_mutex_unlock(&issuer->lock);
    return copy;
}

/* Another request is asking the issuer: what it learns will do for this one, too, if it comes soon.
 */
static void wait_for_call(struct issuer *issuer)
{
    const uint64_t until = clock_mono_ms() + WAIT_MS;
    const struct timespec ts = {.tv_sec = (time_t)(until / 1000),
                                .tv_nsec = (long)(until % 1000) * 1000000L};

    pthread_mutex_lock(&issuer->lock);
    bool room = issuer->waiting < WAITERS_MAX;
    issuer->waiting += room ? 1 : 0;
    pthread_mutex_unlock(&issuer->lock);
    if (!room) {
        return;
    }
    if (pthread_mutex_clocklock(&issuer->fetching, CLOCK_MONOTONIC, &ts) == 0) {
        pthread_mutex_unlock(&issuer->fetching);
    }
    pthread_mutex_lock(&issuer->lock);
    issuer->waiting--;
    pthread_mutex_unlock(&issuer->lock);
}

/* Asks for the description when it is old; an old one will do while the issuer is away. */
static int address_of(struct issuer *issuer, const char *name, char **ret_url, struct err *err)
{
    bool fresh = false;
    CLEANUP(free_cleanup) char *url = described(issuer, name, &fresh);

    if (!fresh && pthread_mutex_trylock(&issuer->fetching) == 0) {
        int rc = fetch_description(issuer, err);
        pthread_mutex_unlock(&issuer->fetching);
        if (rc < 0 && !url) {
            return -1;
        }
        if (rc == 0) {
            free(url);
            url = described(issuer, name, &fresh);
        }
    } else if (!url) {
        wait_for_call(issuer);
        url = described(issuer, name, &fresh);
    }
    if (!url) {
        return unavailable(err, "description is not known yet");
    }
    *ret_url = STEAL(url);
    return 0;
}

/* Keys ------------------------------------------------------------------------------------------*/

static int fetch_keys(struct issuer *issuer, struct err *err)
{
    CLEANUP(json_cleanup) json_t *doc = NULL;
    CLEANUP(free_cleanup) char *url = NULL;
    bool fresh = false;

    if (issuer->options->oidc_jwks_url[0] != '\0') {
        url = strdup(issuer->options->oidc_jwks_url);
    } else {
        url = described(issuer, "jwks_uri", &fresh);
        if (!fresh && fetch_description(issuer, err) < 0 && !url) {
            return -1;
        }
        free(url);
        url = described(issuer, "jwks_uri", &fresh);
    }
    if (!url || fetch_json(issuer, url, "keys cannot be read", &doc, err) < 0) {
        return url ? -1 : err_nomem(err);
    }
    if (!json_is_array(json_object_get(doc, "keys"))) {
        return unavailable(err, "keys are no key set");
    }
    char *text = json_dumps(doc, JSON_COMPACT);
    if (!text) {
        return err_nomem(err);
    }
    pthread_mutex_lock(&issuer->lock);
    free(issuer->keys);
    issuer->keys = text;
    issuer->keys_ms = clock_mono_ms();
    pthread_mutex_unlock(&issuer->lock);
    return 0;
}

/* A copy of the keys; refresh: they did not do. NULL with *err when there are none to believe. */
static char *keys_now(struct issuer *issuer, bool refresh, struct err *err)
{
    pthread_mutex_lock(&issuer->lock);
    uint64_t now = clock_mono_ms();
    uint64_t pause = (uint64_t)issuer->options->oidc_keys_refresh_ms;
    bool lacking = !issuer->keys || refresh;
    bool due = (lacking || now - issuer->keys_ms > FRESH_MS) &&
               (issuer->tried_ms == 0 || now - issuer->tried_ms >= pause);
    pthread_mutex_unlock(&issuer->lock);
    if (due && pthread_mutex_trylock(&issuer->fetching) == 0) {
        struct err why = ERR_INIT;
        pthread_mutex_lock(&issuer->lock);
        issuer->tried_ms = now;
        pthread_mutex_unlock(&issuer->lock);
        if (fetch_keys(issuer, &why) < 0) {
            *err = why;
        }
        pthread_mutex_unlock(&issuer->fetching);
    } else if (lacking) {
        wait_for_call(issuer);
    }
    pthread_mutex_lock(&issuer->lock);
    bool good = issuer->keys && clock_mono_ms() - issuer->keys_ms < BELIEVED_MS;
    char *copy = good ? strdup(issuer->keys) : NULL;
    pthread_mutex_unlock(&issuer->lock);
    if (!copy && err->class == ERR_NONE) {
        unavailable(err, "keys are not known yet");
    }
    return copy;
}

int issuer_verify(struct issuer *issuer, const char *token, const char *audience, bool id_token,
                  json_t **ret_claims, struct err *err)
{
    const struct token_policy policy = {.issuer = issuer->options->oidc_issuer,
                                        .audience = audience,
                                        .algorithms = issuer->options->oidc_algorithms,
                                        .now_s = clock_wall_ms() / 1000,
                                        .single_audience = id_token};
    char alg[8];
    char kid[128];
    struct err why = ERR_INIT;

    /* What is no token of an allowed kind makes no call. */
    if (token_header(token, policy.algorithms, alg, kid, err) < 0) {
        return -1;
    }
    CLEANUP(free_cleanup) char *keys = keys_now(issuer, false, &why);
    if (!keys) {
        *err = why;
        return -1;
    }
    if (token_verify(token, keys, &policy, ret_claims, err) == 0) {
        return 0;
    }
    if (strcmp(err->code, "unknown_key") != 0) {
        return -1;
    }
    free(keys);
    keys = keys_now(issuer, true, &why);
    if (!keys) {
        *err = why;
        return -1;
    }
    return token_verify(token, keys, &policy, ret_claims, err);
}

/* Sign-in and sign-out --------------------------------------------------------------------------*/

static int add_arg(struct buf *buf, const char *name, const char *value, struct err *err)
{
    const char *sep = buf->len == 0 || buf->data[buf->len - 1] == '?' ? "" : "&";

    return buf_printf(buf, err, "%s%s=", sep, name) < 0 ? -1 : http_encode(buf, value, false, err);
}

static int begin_url(struct buf *buf, const char *url, struct err *err)
{
    return buf_printf(buf, err, "%s%s", url, strchr(url, '?') ? "" : "?");
}

int issuer_start_url(struct issuer *issuer, const char *redirect_uri, const char *state,
                     const char *nonce, const char *challenge, char **ret_url, struct err *err)
{
    CLEANUP(buf_done) struct buf buf;
    CLEANUP(free_cleanup) char *url = NULL;

    buf_init(&buf, 8192);
    if (address_of(issuer, "authorization_endpoint", &url, err) < 0 ||
        begin_url(&buf, url, err) < 0 || add_arg(&buf, "response_type", "code", err) < 0 ||
        add_arg(&buf, "client_id", issuer->options->oidc_client_id, err) < 0 ||
        add_arg(&buf, "redirect_uri", redirect_uri, err) < 0 ||
        add_arg(&buf, "scope", issuer->options->oidc_scopes, err) < 0 ||
        add_arg(&buf, "state", state, err) < 0 || add_arg(&buf, "nonce", nonce, err) < 0 ||
        add_arg(&buf, "code_challenge", challenge, err) < 0 ||
        add_arg(&buf, "code_challenge_method", "S256", err) < 0) {
        return -1;
    }
    *ret_url = buf_steal(&buf);
    return 0;
}

/* client_secret_basic: both halves are form-encoded first (RFC 6749 2.3.1). */
static int basic_header(const struct issuer *issuer, struct buf *header, struct err *err)
{
    CLEANUP(buf_done) struct buf pair;
    char text[4096];

    buf_init(&pair, 2048);
    if (http_encode(&pair, issuer->options->oidc_client_id, false, err) < 0 ||
        buf_puts(&pair, ":", err) < 0 ||
        http_encode(&pair, issuer->options->oidc_client_secret, false, err) < 0) {
        return -1;
    }
    if (!sodium_bin2base64(text, sizeof(text), (const unsigned char *)pair.data, pair.len,
                           sodium_base64_VARIANT_ORIGINAL)) {
        return err_nomem(err);
    }
    return buf_printf(header, err, "Authorization: Basic %s", text);
}

int issuer_redeem(struct issuer *issuer, const char *code, const char *redirect_uri,
                  const char *verifier, char **ret_id_token, struct err *err)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    CLEANUP(json_cleanup) json_t *doc = NULL;
    CLEANUP(free_cleanup) char *url = NULL;
    CLEANUP(buf_done) struct buf body;
    CLEANUP(buf_done) struct buf basic;
    bool secret = issuer->options->oidc_client_secret[0] != '\0';
    struct err why = ERR_INIT;

    buf_init(&body, 8192);
    buf_init(&basic, 8192);
    if (address_of(issuer, "token_endpoint", &url, err) < 0 ||
        add_arg(&body, "grant_type", "authorization_code", err) < 0 ||
        add_arg(&body, "code", code, err) < 0 ||
        add_arg(&body, "redirect_uri", redirect_uri, err) < 0 ||
        add_arg(&body, "code_verifier", verifier, err) < 0 ||
        (secret ? basic_header(issuer, &basic, err)
                : add_arg(&body, "client_id", issuer->options->oidc_client_id, err)) < 0) {
        return -1;
    }
    const char *headers[] = {"Content-Type: application/x-www-form-urlencoded",
                             "Accept: application/json", basic.data};
    const struct http_request request = {.method = "POST",
                                         .url = url,
                                         .headers = headers,
                                         .n_headers = secret ? 3 : 2,
                                         .body = body.data,
                                         .body_len = body.len,
                                         .max_response = ANSWER_MAX,
                                         .connect_timeout_ms = CALL_TIMEOUT_MS,
                                         .timeout_ms = CALL_TIMEOUT_MS,
                                         .no_repeat = true};
    if (http_call(issuer->http, &request, &resp, &why) < 0) {
        unavailable(err, "token endpoint does not answer");
        return err_wrap(err, "%s", why.msg);
    }
    if (resp.status >= 500) {
        return unavailable(err, "token endpoint fails");
    }
    if (resp.status != 200 || !resp.body.data ||
        jget_load(resp.body.data, resp.body.len, (size_t)ANSWER_MAX, &doc, &why) < 0) {
        return err_set(err, ERR_PERMANENT, "bad_token", "the code was refused: HTTP %d",
                       resp.status);
    }
    const char *token = json_string_value(json_object_get(doc, "id_token"));
    if (!token) {
        return err_set(err, ERR_PERMANENT, "bad_token", "the answer has no ID token");
    }
    *ret_id_token = strdup(token);
    return *ret_id_token ? 0 : err_nomem(err);
}

char *issuer_logout_url(struct request *req)
{
    struct issuer *issuer = req->gw->issuer;
    CLEANUP(free_cleanup) char *url = NULL;
    CLEANUP(buf_done) struct buf buf;
    struct err ignored = ERR_INIT;

    buf_init(&buf, 4096);
    if (!issuer || address_of(issuer, "end_session_endpoint", &url, &ignored) < 0 || !url_ok(url) ||
        begin_url(&buf, url, &ignored) < 0 ||
        add_arg(&buf, "client_id", issuer->options->oidc_client_id, &ignored) < 0 ||
        buf_printf(&buf, &ignored, "&post_logout_redirect_uri=") < 0 ||
        http_encode(&buf, req->gw->public_url, false, &ignored) < 0 ||
        buf_puts(&buf, "%2F", &ignored) < 0) {
        return NULL;
    }
    return buf_steal(&buf);
}
