/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/token.h"

#include "libcommon/sha256.h"
#include "services/ingest-gateway/auth.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/identity.h"
#include "services/ingest-gateway/issuer.h"

#include <pthread.h>
#include <rhonabwy.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define KEYS_MAX 64U
#define PART_MAX 6144U
#define AUDIENCES_MAX 32U
#define RSA_BITS_MIN 2048U

/* What may be configured at all. There is no symmetric one: with those, whoever can check a token
 * can make one, and a public key could pass for the secret. */
static const struct {
    const char *alg;
    const char *kty;
    const char *crv; /* NULL: not a curve's */
} algorithms[] = {
    {"RS256", "RSA", NULL},      {"RS384", "RSA", NULL},   {"RS512", "RSA", NULL},
    {"PS256", "RSA", NULL},      {"PS384", "RSA", NULL},   {"PS512", "RSA", NULL},
    {"ES256", "EC", "P-256"},    {"ES384", "EC", "P-384"}, {"ES512", "EC", "P-521"},
    {"EdDSA", "OKP", "Ed25519"},
};

static int bad(struct err *err, const char *why)
{
    return err_set(err, ERR_PERMANENT, "bad_token", "%s", why);
}

static bool listed(const char *list, const char *name)
{
    size_t n = strlen(name);

    for (const char *s = list; *s != '\0'; s += strcspn(s, ","), s += *s == ',' ? 1 : 0) {
        if (strcspn(s, ",") == n && strncmp(s, name, n) == 0) {
            return true;
        }
    }
    return false;
}

static size_t algorithm_index(const char *alg)
{
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        if (strcmp(algorithms[i].alg, alg) == 0) {
            return i;
        }
    }
    return ARRAY_LEN(algorithms);
}

bool token_algorithms_valid(const char *list)
{
    char name[16];
    bool any = false;

    for (const char *s = list; *s != '\0'; s += strcspn(s, ","), s += *s == ',' ? 1 : 0) {
        snprintf(name, sizeof(name), "%.*s", (int)min_size(strcspn(s, ","), 15), s);
        if (algorithm_index(name) == ARRAY_LEN(algorithms)) {
            return false;
        }
        any = true;
    }
    return any;
}

/* Part `at` (0 header, 1 payload) of exactly three, as a JSON object. */
static int part(const char *token, int at, json_t **ret_json, struct err *err)
{
    CLEANUP(json_cleanup) json_t *json = NULL;
    char text[PART_MAX + 1];
    const char *from = token;
    const char *dots[2] = {strchr(token, '.'), NULL};
    struct err ignored = ERR_INIT;
    size_t len = 0;

    dots[1] = dots[0] ? strchr(dots[0] + 1, '.') : NULL;
    if (!dots[1] || strchr(dots[1] + 1, '.') || strlen(token) > TOKEN_BYTES_MAX) {
        return bad(err, "not three parts");
    }
    const char *end = dots[0];
    if (at == 1) {
        from = dots[0] + 1;
        end = dots[1];
    }
    if (sodium_base642bin((unsigned char *)text, PART_MAX, from, (size_t)(end - from), NULL, &len,
                          NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0) {
        return bad(err, "a part is no base64url");
    }
    text[len] = '\0';
    if (jget_load(text, len, PART_MAX, &json, &ignored) < 0 || !json_is_object(json)) {
        return bad(err, "a part is no JSON object");
    }
    *ret_json = STEAL(json);
    return 0;
}

int token_header(const char *token, const char *allowed, char ret_alg[8], char ret_kid[128],
                 struct err *err)
{
    CLEANUP(json_cleanup) json_t *header = NULL;

    if (part(token, 0, &header, err) < 0) {
        return -1;
    }
    const char *alg = json_string_value(json_object_get(header, "alg"));
    const json_t *kid = json_object_get(header, "kid");
    if (!alg || algorithm_index(alg) == ARRAY_LEN(algorithms) || !listed(allowed, alg)) {
        return bad(err, "this algorithm is not allowed");
    }
    if (json_object_get(header, "crit") || json_object_get(header, "b64")) {
        return bad(err, "the header asks for extensions");
    }
    if (kid && (!json_is_string(kid) || json_string_length(kid) >= 128)) {
        return bad(err, "the key's id is no short text");
    }
    snprintf(ret_alg, 8, "%s", alg);
    snprintf(ret_kid, 128, "%s", kid ? json_string_value(kid) : "");
    return 0;
}

static bool fits(const json_t *key, size_t alg, const char *kid)
{
    const char *kty = json_string_value(json_object_get(key, "kty"));
    const char *crv = json_string_value(json_object_get(key, "crv"));
    const char *use = json_string_value(json_object_get(key, "use"));
    const char *of = json_string_value(json_object_get(key, "alg"));
    const char *id = json_string_value(json_object_get(key, "kid"));

    return kty && strcmp(kty, algorithms[alg].kty) == 0 &&
           (!algorithms[alg].crv || (crv && strcmp(crv, algorithms[alg].crv) == 0)) &&
           (!use || strcmp(use, "sig") == 0) && (!of || strcmp(of, algorithms[alg].alg) == 0) &&
           (kid[0] == '\0' || (id && strcmp(id, kid) == 0));
}

/* The one key of the set that fits; borrowed. Without a kid there must be no choice. */
static const json_t *choose_key(const json_t *set, size_t alg, const char *kid)
{
    const json_t *found = NULL;
    const json_t *keys = json_object_get(set, "keys");
    size_t i;
    json_t *key;

    if (json_array_size(keys) > KEYS_MAX) {
        return NULL;
    }
    json_array_foreach(keys, i, key)
    {
        if (fits(key, alg, kid)) {
            if (found) {
                return NULL;
            }
            found = key;
        }
    }
    return found;
}

static pthread_once_t rhonabwy_once = PTHREAD_ONCE_INIT;

static void start_rhonabwy(void)
{
    (void)r_global_init();
}

/* Only the numbers of the key: no address or certificate of it is followed. */
static int import_key(const json_t *key, jwk_t **ret_jwk, struct err *err)
{
    static const char *const members[] = {"kty", "n", "e", "crv", "x", "y"};
    CLEANUP(json_cleanup) json_t *numbers = json_object();
    jwk_t *jwk = NULL;
    unsigned bits = 0;

    pthread_once(&rhonabwy_once, start_rhonabwy);
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        json_t *value = json_object_get(key, members[i]);
        if (value) {
            json_object_set(numbers, members[i], value);
        }
    }
    if (r_jwk_init(&jwk) != RHN_OK) {
        return err_nomem(err);
    }
    int type = r_jwk_import_from_json_t(jwk, numbers) == RHN_OK
                   ? r_jwk_key_type(jwk, &bits, R_FLAG_IGNORE_REMOTE)
                   : R_KEY_TYPE_NONE;
    if (!(type & R_KEY_TYPE_PUBLIC) || ((type & R_KEY_TYPE_RSA) && bits < RSA_BITS_MIN)) {
        r_jwk_free(jwk);
        return bad(err, "the issuer's key cannot be used");
    }
    *ret_jwk = jwk;
    return 0;
}

static int verify_signature(const char *token, const char *alg, const json_t *key, struct err *err)
{
    jwk_t *jwk = NULL;
    jws_t *jws = NULL;

    if (import_key(key, &jwk, err) < 0) {
        return -1;
    }
    bool right = r_jws_init(&jws) == RHN_OK &&
                 r_jws_advanced_parse(jws, token, R_PARSE_NONE, R_FLAG_IGNORE_REMOTE) == RHN_OK &&
                 r_jws_get_alg(jws) == r_str_to_jwa_alg(alg) &&
                 r_jws_verify_signature(jws, jwk, R_FLAG_IGNORE_REMOTE) == RHN_OK;
    r_jws_free(jws);
    r_jwk_free(jwk);
    return right ? 0 : bad(err, "the signature is wrong");
}

/* Seconds of a claim, also from a number with a fraction; -1 when it is absent or none. */
static int64_t seconds(const json_t *claims, const char *name)
{
    const json_t *value = json_object_get(claims, name);
    double n = json_is_number(value) ? json_number_value(value) : -1;

    return n >= 0 && n < 1e12 ? (int64_t)n : -1;
}

static bool has_audience(const json_t *aud, const char *want)
{
    size_t i;
    json_t *one;

    if (json_is_string(aud)) {
        return strcmp(json_string_value(aud), want) == 0;
    }
    if (json_array_size(aud) > AUDIENCES_MAX) {
        return false;
    }
    json_array_foreach(aud, i, one)
    {
        if (json_is_string(one) && strcmp(json_string_value(one), want) == 0) {
            return true;
        }
    }
    return false;
}

static int check_claims(const json_t *claims, const struct token_policy *policy, struct err *err)
{
    const char *iss = json_string_value(json_object_get(claims, "iss"));
    const char *sub = json_string_value(json_object_get(claims, "sub"));
    const char *azp = json_string_value(json_object_get(claims, "azp"));
    const json_t *aud = json_object_get(claims, "aud");
    int64_t exp = seconds(claims, "exp");
    int64_t iat = seconds(claims, "iat");
    int64_t nbf = seconds(claims, "nbf");

    if (!iss || strcmp(iss, policy->issuer) != 0) {
        return bad(err, "another issuer");
    }
    if (!sub || sub[0] == '\0' || strlen(sub) > 255) {
        return bad(err, "no subject");
    }
    if (!has_audience(aud, policy->audience)) {
        return bad(err, "another audience");
    }
    if (policy->single_audience && ((json_is_array(aud) && json_array_size(aud) > 1 && !azp) ||
                                    (azp && strcmp(azp, policy->audience) != 0))) {
        return bad(err, "made for another party");
    }
    if (exp < 0 || exp + TOKEN_LEEWAY_S <= policy->now_s) {
        return bad(err, "expired");
    }
    if (json_object_get(claims, "nbf") && (nbf < 0 || nbf - TOKEN_LEEWAY_S > policy->now_s)) {
        return bad(err, "not valid yet");
    }
    if ((policy->single_audience && iat < 0) ||
        (json_object_get(claims, "iat") && (iat < 0 || iat - TOKEN_LEEWAY_S > policy->now_s))) {
        return bad(err, "made in the future, or at no time");
    }
    return 0;
}

int token_verify(const char *token, const char *jwks, const struct token_policy *policy,
                 json_t **ret_claims, struct err *err)
{
    CLEANUP(json_cleanup) json_t *set = json_loads(jwks, JSON_REJECT_DUPLICATES, NULL);
    CLEANUP(json_cleanup) json_t *claims = NULL;
    char alg[8];
    char kid[128];

    if (token_header(token, policy->algorithms, alg, kid, err) < 0) {
        return -1;
    }
    const json_t *key = choose_key(set, algorithm_index(alg), kid);
    if (!key) {
        return err_set(err, ERR_PERMANENT, "unknown_key", "the issuer has no such key");
    }
    if (verify_signature(token, alg, key, err) < 0 || part(token, 1, &claims, err) < 0 ||
        check_claims(claims, policy, err) < 0) {
        return -1;
    }
    *ret_claims = STEAL(claims);
    return 0;
}

/* As a bearer token
 * ------------------------------------------------------------------------------*/

/* A scope claim that names any docfleet:… gives only those. */
static unsigned cut_scopes(const json_t *claims, const struct principal *who)
{
    const char *list = json_string_value(json_object_get(claims, "scope"));
    char cut[80] = "";
    size_t n = 0;

    for (const char *s = list; s && *s != '\0'; s += strcspn(s, " "), s += *s == ' ' ? 1 : 0) {
        size_t len = strcspn(s, " ");
        if (len > 9 && strncmp(s, "docfleet:", 9) == 0 && n + len < sizeof(cut)) {
            n += (size_t)snprintf(cut + n, sizeof(cut) - n, "%s%.*s", n ? "," : "", (int)len - 9,
                                  s + 9);
        }
    }
    return n > 0 ? scopes_of(cut, who->role) : who->scopes;
}

static int refuse(struct err *err)
{
    return err_set(err, ERR_PERMANENT, "unauthorized", "a sign-in or a valid API key is needed");
}

int token_check(struct gateway *gw, struct request *req, const char *token, bool cached_only,
                struct err *err)
{
    CLEANUP(json_cleanup) json_t *claims = NULL;
    char sha[SHA256_HEX_SIZE];
    char id[AUTH_ID_SIZE];
    const char *audience = issuer_audience(gw->issuer);

    if (!audience || strlen(token) > TOKEN_BYTES_MAX) {
        return refuse(err);
    }
    if (sha256_hex(token, strlen(token), sha, err) < 0) {
        return -1;
    }
    snprintf(id, sizeof(id), "t-%.32s", sha);
    if (auth_cache_get(gw->auth, id, sha, &req->who)) {
        return 0;
    }
    if (cached_only) {
        return 1;
    }
    if (issuer_verify(gw->issuer, token, audience, false, &claims, err) < 0) {
        return err->class == ERR_TRANSIENT ? -1 : refuse(err);
    }
    struct principal who = {.credential = CREDENTIAL_TOKEN};
    if (identity_find(gw, claims, &who, err) < 0) {
        return err->class == ERR_PERMANENT ? refuse(err) : -1;
    }
    who.scopes = cut_scopes(claims, &who);
    int64_t left_ms = (seconds(claims, "exp") + TOKEN_LEEWAY_S) * 1000 - clock_wall_ms();
    if (left_ms > 0) {
        auth_cache_put(gw->auth, id, sha, &who, min_u64((uint64_t)left_ms, AUTH_CACHE_MS));
    }
    req->who = who;
    return 0;
}
