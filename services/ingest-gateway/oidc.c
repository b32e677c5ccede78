/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signing in at the issuer: authorization code flow with PKCE.
 * Invariant: state, nonce and verifier all come from one random cookie of this browser, so nothing
 * is kept here in between, any replica can go on, and a callback without that very cookie is worth
 * nothing. The browser always ends on our own page, with a session or with a code of what went
 * wrong; details go to the audit log.
 */
#include "libcommon/sha256.h"
#include "services/ingest-gateway/audit.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/handlers.h"
#include "services/ingest-gateway/identity.h"
#include "services/ingest-gateway/issuer.h"
#include "services/ingest-gateway/options.h"
#include "services/ingest-gateway/session.h"

#include <openssl/crypto.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define FLOW_SECONDS 600
#define CODE_MAX 2048U

struct flow {
    char cookie[SESSION_TOKEN_SIZE];
    char state[SHA256_HEX_SIZE];
    char nonce[SHA256_HEX_SIZE];
    char verifier[SHA256_HEX_SIZE];
};

static int derive(const char *what, const char *cookie, char out[SHA256_HEX_SIZE], struct err *err)
{
    char text[SESSION_TOKEN_SIZE + 16];

    snprintf(text, sizeof(text), "%s:%s", what, cookie);
    return sha256_hex(text, strlen(text), out, err);
}

static int flow_fill(struct flow *flow, struct err *err)
{
    return derive("state", flow->cookie, flow->state, err) < 0 ||
                   derive("nonce", flow->cookie, flow->nonce, err) < 0 ||
                   derive("verifier", flow->cookie, flow->verifier, err) < 0
               ? -1
               : 0;
}

static int redirect_uri(const struct gateway *gw, char *out, size_t size, struct err *err)
{
    int n = snprintf(out, size, "%s/api/v1/auth/oidc/callback", gw->public_url);

    return n > 0 && (size_t)n < size ? 0 : err_set(err, ERR_UNKNOWN, "internal", "long address");
}

static int see_other(struct reply *reply, const char *url, struct err *err)
{
    reply->status = 303;
    return reply_header(reply, "Location", url, err);
}

/* Back to the sign-in page; code is one of those the page has words for. */
static int back(struct request *req, struct reply *reply, const char *code, struct err *err)
{
    char url[600];

    snprintf(url, sizeof(url), "%s/#/signin/%s", req->gw->public_url, code);
    return see_other(reply, url, err);
}

int oidc_start(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(free_cleanup) char *url = NULL;
    unsigned char random[32];
    unsigned char digest[SHA256_LEN];
    char challenge[64];
    char callback[600];
    char name[40];
    struct flow flow;
    struct err why = ERR_INIT;

    if (!issuer_label(req->gw->issuer)) {
        return err_set(err, ERR_PERMANENT, "not_found", "no issuer is set up here");
    }
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return err_set(err, ERR_TRANSIENT, "io", "no random bytes");
    }
    hex_encode(random, sizeof(random), flow.cookie);
    if (flow_fill(&flow, err) < 0 || redirect_uri(req->gw, callback, sizeof(callback), err) < 0 ||
        sha256(flow.verifier, strlen(flow.verifier), digest, err) < 0) {
        return -1;
    }
    if (!sodium_bin2base64(challenge, sizeof(challenge), digest, sizeof(digest),
                           sodium_base64_VARIANT_URLSAFE_NO_PADDING)) {
        return err_nomem(err);
    }
    if (issuer_start_url(req->gw->issuer, callback, flow.state, flow.nonce, challenge, &url, &why) <
        0) {
        gateway_log_error(req->gw, req, &why);
        return back(req, reply, "oidc_unavailable", err);
    }
    session_cookie_name(req, "oidc", name, sizeof(name));
    if (session_set_cookie(req, reply, name, flow.cookie, FLOW_SECONDS, true, err) < 0) {
        return -1;
    }
    return see_other(reply, url, err);
}

static int refused(struct err *err, const char *why)
{
    return err_set(err, ERR_PERMANENT, "bad_token", "%s", why);
}

/* The callback is of the flow that this browser began, at this issuer. */
static int check_flow(struct request *req, struct flow *flow, struct err *err)
{
    char name[40];
    const char *state = uri_arg(&req->uri, "state");
    const char *iss = uri_arg(&req->uri, "iss");

    session_cookie_name(req, "oidc", name, sizeof(name));
    if (!session_cookie(req, name, flow->cookie, sizeof(flow->cookie)) ||
        strlen(flow->cookie) != SESSION_TOKEN_SIZE - 1) {
        return err_set(err, ERR_PERMANENT, "bad_state", "no cookie of a sign-in that began here");
    }
    if (flow_fill(flow, err) < 0) {
        return -1;
    }
    if (!state || strlen(state) != SHA256_HEX_SIZE - 1 ||
        CRYPTO_memcmp(state, flow->state, SHA256_HEX_SIZE - 1) != 0) {
        return err_set(err, ERR_PERMANENT, "bad_state", "the state is of another sign-in");
    }
    if (iss && strcmp(iss, issuer_url(req->gw->issuer)) != 0) {
        return refused(err, "the answer is another issuer's");
    }
    return 0;
}

static int verify_id_token(struct request *req, const struct flow *flow, const char *token,
                           json_t **ret_claims, struct err *err)
{
    CLEANUP(json_cleanup) json_t *claims = NULL;
    const struct gateway_options *options = issuer_options(req->gw->issuer);

    if (issuer_verify(req->gw->issuer, token, options->oidc_client_id, true, &claims, err) < 0) {
        return -1;
    }
    const char *nonce = json_string_value(json_object_get(claims, "nonce"));
    if (!nonce || strlen(nonce) != SHA256_HEX_SIZE - 1 ||
        CRYPTO_memcmp(nonce, flow->nonce, SHA256_HEX_SIZE - 1) != 0) {
        return refused(err, "the nonce is of another sign-in");
    }
    *ret_claims = STEAL(claims);
    return 0;
}

static int sign_in(struct request *req, struct reply *reply, struct err *err)
{
    CLEANUP(json_cleanup) json_t *claims = NULL;
    CLEANUP(free_cleanup) char *token = NULL;
    struct principal who = {.credential = CREDENTIAL_SESSION};
    char csrf[SESSION_TOKEN_SIZE];
    char callback[600];
    struct flow flow;
    const char *code = uri_arg(&req->uri, "code");

    if (check_flow(req, &flow, err) < 0) {
        return -1;
    }
    if (uri_arg(&req->uri, "error")) {
        return err_set(err, ERR_PERMANENT, "oidc_denied", "the issuer says %.60s",
                       uri_arg(&req->uri, "error"));
    }
    if (!code || strlen(code) > CODE_MAX) {
        return refused(err, "no code");
    }
    if (redirect_uri(req->gw, callback, sizeof(callback), err) < 0 ||
        issuer_redeem(req->gw->issuer, code, callback, flow.verifier, &token, err) < 0 ||
        verify_id_token(req, &flow, token, &claims, err) < 0) {
        return -1;
    }
    audit_detail(req, "subject", json_incref(json_object_get(claims, "sub")));
    if (identity_find(req->gw, claims, &who, err) < 0) {
        return -1;
    }
    req->who = who;
    return session_start(req, "oidc", reply, csrf, err);
}

int oidc_callback(struct request *req, struct reply *reply, struct err *err)
{
    static const char *const told[] = {"not_provisioned", "disabled", "oidc_denied", "bad_state"};
    struct err why = ERR_INIT;
    char name[40];
    char home[600];

    if (!issuer_label(req->gw->issuer)) {
        req->audit.skip = true;
        return err_set(err, ERR_PERMANENT, "not_found", "no issuer is set up here");
    }
    snprintf(req->audit.actor, sizeof(req->audit.actor), "%s", issuer_url(req->gw->issuer));
    session_cookie_name(req, "oidc", name, sizeof(name));
    int rc = sign_in(req, reply, &why);
    if (session_set_cookie(req, reply, name, "", 0, true, err) < 0) {
        return -1;
    }
    if (rc == 0) {
        audit_target(req, req->who.session_id);
        snprintf(home, sizeof(home), "%s/", req->gw->public_url);
        return see_other(reply, home, err);
    }
    audit_detail(req, "reason", json_string(why.msg));
    req->audit.denied = true;
    /* Anybody can call this address; only what went on from a cookie of ours is worth a row. */
    req->audit.skip = strcmp(why.code, "bad_state") == 0;
    if (why.class != ERR_PERMANENT) {
        gateway_log_error(req->gw, req, &why);
        return back(req, reply, "oidc_unavailable", err);
    }
    for (size_t i = 0; i < ARRAY_LEN(told); i++) {
        if (strcmp(told[i], why.code) == 0) {
            return back(req, reply, told[i], err);
        }
    }
    return back(req, reply, "oidc_failed", err);
}
