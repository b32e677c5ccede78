/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/options.h"

struct gateway_options gateway_options;

#define AT(member) offsetof(struct gateway_options, member)

static const struct option_def defs[] = {
    {"LISTEN", OPTION_STRING, AT(listen), "127.0.0.1:8080", 0, 0, NULL,
     "Numeric address and port of the HTTP API and the console"},
    {"TLS_CERT_FILE", OPTION_STRING, AT(tls_cert_file), "", 0, 0, NULL,
     "Certificate and its chain, PEM: the ports of API and streams then speak HTTPS only; empty for"
     " plain HTTP behind an ingress; taken anew when the file changes"},
    {"TLS_KEY_FILE", OPTION_STRING, AT(tls_key_file), "", 0, 0, NULL,
     "Key of the certificate, PEM"},
    {"STREAM_PORT", OPTION_INT, AT(stream_port), "0", 0, 65535, NULL,
     "Port of a second listener for event streams, 0 for none"},
    {"CONSOLE_DIR", OPTION_STRING, AT(console_dir), "", 0, 0, NULL,
     "Folder of the built web console, empty for none"},
    {"OPENAPI_FILE", OPTION_STRING, AT(openapi_file), "", 0, 0, NULL,
     "The API's description as JSON, empty for share/openapi.json beside the program's folder"},
    {"IDLE_TIMEOUT", OPTION_DURATION, AT(idle_timeout_ms), "30s", 1000, 600000, NULL,
     "Time after which a silent connection is closed"},
    {"CLAMD", OPTION_STRING, AT(clamd), "", 0, 0, NULL,
     "Set as for scan-worker where files are to be scanned before anything else reads them"},
    {"MAX_FILE_SIZE", OPTION_SIZE, AT(max_file_size), "5GiB", 1, (int64_t)5 << 30, NULL,
     "Largest file that is accepted"},
    {"PUBLIC_URL", OPTION_STRING, AT(public_url), "", 0, 0, NULL,
     "Address under which people reach this service, such as https://files.example.org; with https "
     "cookies are Secure"},
    {"TRUSTED_PROXIES", OPTION_STRING, AT(trusted_proxies), "", 0, 0, NULL,
     "Addresses and nets whose X-Forwarded-For and -Proto are believed, such as 10.0.0.0/8"},
    {"RATE_KEY", OPTION_INT, AT(rate_key), "200", 0, 1000000, NULL,
     "Requests a second that one key, sign-in or token may send on average, over all replicas; 0: "
     "any"},
    {"RATE_USER", OPTION_INT, AT(rate_user), "400", 0, 1000000, NULL,
     "The same for all of an account's keys and sign-ins"},
    {"RATE_ADDRESS", OPTION_INT, AT(rate_address), "400", 0, 1000000, NULL,
     "The same for an address (of IPv6 its /64); many people may share one"},
    {"RATE_WINDOW", OPTION_DURATION, AT(rate_window_ms), "60s", 1000, 3600000, NULL,
     "So much time's worth of requests may come at once"},
    {"RATE_FAILURES", OPTION_INT, AT(rate_failures), "300", 0, 1000000, NULL,
     "Keys, tokens and cookies that are none, from one address in five minutes, before others from "
     "there are no longer looked at; 0: any"},
    {"CORS_ORIGINS", OPTION_STRING, AT(cors_origins), "", 0, 0, NULL,
     "Origins whose pages may call the API from a browser, such as https://app.example.org, with "
     "commas; empty for none"},
    {"SESSION_IDLE", OPTION_DURATION, AT(session_idle_ms), "8h", 1000, 2592000000, NULL,
     "Time without a request after which a sign-in ends"},
    {"SESSION_MAX", OPTION_DURATION, AT(session_max_ms), "7d", 1000, 31536000000, NULL,
     "Time after which a sign-in ends in any case"},
    {"PASSWORD_MIN", OPTION_INT, AT(password_min), "12", 8, 200, NULL,
     "Least number of characters of a new password"},
    {"OIDC_ISSUER", OPTION_STRING, AT(oidc_issuer), "", 0, 0, NULL,
     "OpenID Connect issuer whose users may sign in and whose tokens are taken, empty for none"},
    {"OIDC_NAME", OPTION_STRING, AT(oidc_name), "", 0, 0, NULL,
     "What the sign-in page calls the issuer, empty for its address"},
    {"OIDC_CLIENT_ID", OPTION_STRING, AT(oidc_client_id), "", 0, 0, NULL,
     "This service's id at the issuer, empty for no sign-ins there"},
    {"OIDC_CLIENT_SECRET", OPTION_SECRET, AT(oidc_client_secret), "", 0, 0, NULL,
     "This service's secret at the issuer, empty for a public client"},
    {"OIDC_SCOPES", OPTION_STRING, AT(oidc_scopes), "openid profile email", 0, 0, NULL,
     "What is asked for at a sign-in"},
    {"OIDC_ALGORITHMS", OPTION_STRING, AT(oidc_algorithms), "RS256,PS256,ES256,EdDSA", 0, 0, NULL,
     "Signature algorithms that tokens may have"},
    {"OIDC_AUDIENCE", OPTION_STRING, AT(oidc_audience), "", 0, 0, NULL,
     "Audience of access tokens (JWT) taken as bearer tokens, empty to take none"},
    {"OIDC_JWKS_URL", OPTION_STRING, AT(oidc_jwks_url), "", 0, 0, NULL,
     "Address of the issuer's keys, empty to find it by discovery"},
    {"OIDC_CA_FILE", OPTION_STRING, AT(oidc_ca_file), "", 0, 0, NULL,
     "Certificates (PEM) by which the issuer is known, empty: CA_FILE"},
    {"OIDC_ROLE_CLAIM", OPTION_STRING, AT(oidc_role_claim), "", 0, 0, NULL,
     "Claim that decides the role at each sign-in, such as groups; empty: roles are set here"},
    {"OIDC_ADMINS", OPTION_STRING, AT(oidc_admins), "", 0, 0, NULL,
     "Values of the role claim that make an admin, with commas"},
    {"OIDC_OPERATORS", OPTION_STRING, AT(oidc_operators), "", 0, 0, NULL,
     "Values of the role claim that make an operator, with commas"},
    {"OIDC_PROVISION", OPTION_BOOL, AT(oidc_provision), "false", 0, 0, NULL,
     "Make an account for whoever signs in at the issuer the first time"},
    {"OIDC_KEYS_REFRESH", OPTION_DURATION, AT(oidc_keys_refresh_ms), "10s", 100, 3600000, NULL,
     "Least time between two requests for the issuer's keys"},
};

const struct option_table gateway_option_table = {defs, ARRAY_LEN(defs), &gateway_options};
