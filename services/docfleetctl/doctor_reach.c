/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is reached over HTTP: the gateway, the AI service, Textract. No call that costs money.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libcommon/dial.h"
#include "libcommon/sigv4.h"
#include "services/docfleetctl/doctor.h"

#define CALL_MS 10000

static int get(struct doctor *d, const char *url, const char *header, struct http_response *resp,
               struct err *err)
{
    struct http_request request = {.url = url,
                                   .headers = &header,
                                   .n_headers = header ? 1 : 0,
                                   .max_response = 8U << 20,
                                   .timeout_ms = CALL_MS};

    return http_call(d->http, &request, resp, err);
}

static void gateway_url(const struct doctor *d, const char *path, char *url, size_t size)
{
    const char *base = d->ctl->options.url;
    size_t len = strlen(base);

    while (len > 0 && base[len - 1] == '/') {
        len--;
    }
    snprintf(url, size, "%.*s/api/v1%s", (int)len, base, path);
}

void check_gateway_reach(struct doctor *d)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err = ERR_INIT;
    char url[1024];

    gateway_url(d, "/openapi.json", url, sizeof(url));
    if (get(d, url, NULL, &resp, &err) < 0) {
        found(d, FOUND_PROBLEM, NULL, "%s: %s", d->ctl->options.url, err.msg);
    } else if (resp.status != 200 || !resp.body.data || !strstr(resp.body.data, "/api/v1/")) {
        found(d, FOUND_PROBLEM, NULL, "%s answers with HTTP %d: is it a docfleet gateway?",
              d->ctl->options.url, resp.status);
    } else {
        found(d, FOUND_OK, NULL, "%s answers after %u ms", d->ctl->options.url, resp.elapsed_ms);
    }
}

static void check_key(struct doctor *d, const char *name, const char *key, bool admin)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err = ERR_INIT;
    char url[1024], line[4200];

    gateway_url(d, admin ? "/admin/stages" : "/auth/me", url, sizeof(url));
    snprintf(line, sizeof(line), "Authorization: Bearer %s", key);
    if (get(d, url, line, &resp, &err) < 0) {
        found(d, FOUND_SKIPPED, NULL, "%s: %s", name, err.msg);
    } else if (resp.status == 200) {
        found(d, FOUND_OK, NULL, "%s is known", name);
    } else {
        found(d, resp.status == 401 || resp.status == 403 ? FOUND_PROBLEM : FOUND_WARNING, NULL,
              resp.status == 401   ? "%s is not known, expired or revoked"
              : resp.status == 403 ? "%s is no operator's"
                                   : "%s: the gateway cannot tell now",
              name);
    }
}

void check_gateway_keys(struct doctor *d)
{
    const struct ctl_options *o = &d->ctl->options;

    if (*o->api_key) {
        check_key(d, "API_KEY", o->api_key, false);
    }
    if (*o->admin_key) {
        check_key(d, "ADMIN_KEY", o->admin_key, true);
    }
    if (!*o->api_key && !*o->admin_key) {
        found(d, FOUND_SKIPPED, NULL, "none is set");
    }
}

void check_ai(struct doctor *d)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    const struct doctor_options *o = &d->options;
    struct err err = ERR_INIT;
    char url[1024], line[4200];
    size_t len = strlen(o->ai_url);

    if (strcmp(o->ai_backend, "openai") != 0) {
        found(d, FOUND_SKIPPED, NULL, "AI_BACKEND is %s, no service is asked", o->ai_backend);
        return;
    }
    while (len > 0 && o->ai_url[len - 1] == '/') {
        len--;
    }
    snprintf(url, sizeof(url), "%.*s/models", (int)len, o->ai_url);
    bool own_header = strcmp(o->ai_key_header, "api-key") == 0;
    snprintf(line, sizeof(line), "%s%s", own_header ? "api-key: " : "Authorization: Bearer ",
             o->ai_key);
    if (get(d, url, *o->ai_key ? line : NULL, &resp, &err) < 0) {
        found(d, FOUND_PROBLEM, NULL, "%s: %s", o->ai_url, err.msg);
    } else if (resp.status == 401 || resp.status == 403) {
        found(d, FOUND_PROBLEM, NULL, "it refuses the key (HTTP %d)", resp.status);
    } else if (resp.status >= 500 || resp.status == 429) {
        found(d, FOUND_WARNING, NULL, "it answers with HTTP %d", resp.status);
    } else if (resp.status != 200) {
        found(d, FOUND_OK, NULL, "it answers, but tells no list of models (HTTP %d)", resp.status);
    } else if (!resp.body.data || !strstr(resp.body.data, o->ai_model)) {
        found(d, FOUND_WARNING, NULL, "it answers, but does not list %s", o->ai_model);
    } else {
        found(d, FOUND_OK, NULL, "it answers and has %s", o->ai_model);
    }
}

/* Asks for a job that cannot be: costs nothing, and a wrong key is told before a wrong job. */
static int ask_textract(struct doctor *d, struct http_response *ret_resp, struct err *err)
{
    static const char body[] = "{\"JobId\":\"docfleetctl-doctor\"}";
    static const char target[] = "Textract.GetDocumentTextDetection";
    const struct doctor_options *o = &d->options;
    CLEANUP(sigv4_signature_done) struct sigv4_signature sig = SIGV4_SIGNATURE_INIT;
    CLEANUP(buf_done) struct buf auth;
    const char *host = strstr(o->textract_endpoint, "://");
    char name[256], date[64], hash[SHA256_HEX_SIZE];

    host = host ? host + 3 : o->textract_endpoint;
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(host, "/"), host);
    buf_init(&auth, 4096);
    struct sigv4_pair headers[] = {
        {"Host", name}, {"Content-Type", "application/x-amz-json-1.1"}, {"X-Amz-Target", target}};
    struct sigv4_request signed_request = {.method = "POST",
                                           .path = "/",
                                           .headers = headers,
                                           .n_headers = ARRAY_LEN(headers),
                                           .payload_hash = hash,
                                           .now = clock_wall_ms() / 1000,
                                           .normalize_path = true};
    struct sigv4_creds creds = {.access_key = o->textract_access_key,
                                .secret_key = o->textract_secret_key,
                                .region = o->textract_region,
                                .service = "textract"};
    if (sha256_hex(body, strlen(body), hash, err) < 0 ||
        sigv4_sign(&signed_request, &creds, &sig, err) < 0 ||
        buf_printf(&auth, err, "Authorization: %s", sig.authorization) < 0) {
        return -1;
    }
    snprintf(date, sizeof(date), "X-Amz-Date: %s", sig.date);
    const char *lines[] = {auth.data, date, "Content-Type: application/x-amz-json-1.1",
                           "X-Amz-Target: Textract.GetDocumentTextDetection"};
    struct http_request request = {.method = "POST",
                                   .url = o->textract_endpoint,
                                   .headers = lines,
                                   .n_headers = ARRAY_LEN(lines),
                                   .body = body,
                                   .body_len = strlen(body),
                                   .timeout_ms = CALL_MS};
    return http_call(d->http, &request, ret_resp, err);
}

void check_textract(struct doctor *d)
{
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct err err = ERR_INIT;

    if (*d->options.textract_endpoint == '\0') {
        found(d, FOUND_SKIPPED, NULL, "TEXTRACT_ENDPOINT is not set: scans are read here alone");
        return;
    }
    if (ask_textract(d, &resp, &err) < 0) {
        found(d, FOUND_PROBLEM, NULL, "%s: %s", d->options.textract_endpoint, err.msg);
        return;
    }
    const char *body = resp.body.data ? resp.body.data : "";
    if (resp.status == 200 || strstr(body, "InvalidJobId")) {
        found(d, FOUND_OK, NULL, "it answers and takes the keys");
    } else {
        found(d, resp.status >= 500 || resp.status == 429 ? FOUND_WARNING : FOUND_PROBLEM, NULL,
              "HTTP %d: %.120s", resp.status, body);
    }
}

void check_clamd(struct doctor *d)
{
    CLEANUP(fd_cleanup) int fd = -1;
    struct err err = ERR_INIT;
    char reply[16] = "";

    if (*d->options.clamd == '\0') {
        found(d, FOUND_SKIPPED, NULL, "CLAMD is not set: files are not scanned");
        return;
    }
    fd = dial(d->options.clamd, CALL_MS, &err);
    if (fd < 0) {
        found_err(d, FOUND_PROBLEM, &err);
        return;
    }
    bool pong = write(fd, "zPING", 6) == 6 && read(fd, reply, sizeof(reply) - 1) >= 4 &&
                strncmp(reply, "PONG", 4) == 0;
    found(d, pong ? FOUND_OK : FOUND_PROBLEM, NULL, pong ? "%s answers" : "%s is no clamd",
          d->options.clamd);
}

/* OpenID Connect Discovery: the document names the issuer exactly as it is configured. */
void check_oidc(struct doctor *d)
{
    CLEANUP(http_client_cleanup) struct http_client *http = NULL;
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    CLEANUP(json_cleanup) json_t *doc = NULL;
    const struct doctor_options *o = &d->options;
    struct err err = ERR_INIT;
    size_t len = strlen(o->oidc_issuer);
    char url[1024];

    if (len == 0) {
        found(d, FOUND_SKIPPED, NULL, "OIDC_ISSUER is not set");
        return;
    }
    snprintf(url, sizeof(url), "%.*s/.well-known/openid-configuration",
             (int)(o->oidc_issuer[len - 1] == '/' ? len - 1 : len), o->oidc_issuer);
    struct http_client_config config = {.user_agent = "docfleetctl",
                                        .ca_file = *o->oidc_ca_file ? o->oidc_ca_file : NULL};
    struct http_request request = {.url = url, .timeout_ms = CALL_MS};
    if (http_client_new(&config, &http, &err) < 0 || http_call(http, &request, &resp, &err) < 0) {
        found(d, FOUND_PROBLEM, NULL, "%s: %s", o->oidc_issuer, err.msg);
    } else if (resp.status != 200 || !resp.body.data ||
               jget_load(resp.body.data, resp.body.len, 1U << 20, &doc, &err) < 0) {
        found(d, FOUND_PROBLEM, NULL, "%s answers with HTTP %d", url, resp.status);
    } else if (strcmp(api_text(doc, "issuer"), o->oidc_issuer) != 0) {
        found(d, FOUND_PROBLEM, NULL, "it calls itself %s", api_text(doc, "issuer"));
    } else {
        found(d, FOUND_OK, NULL, "%s answers", o->oidc_issuer);
    }
}
