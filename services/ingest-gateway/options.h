/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gateway's own settings; names and defaults are in options.c, the only place.
 */
#pragma once

#include "libcommon/config.h"

struct gateway_options {
    char *listen;
    char *tls_cert_file; /* "": plain HTTP */
    char *tls_key_file;
    int64_t stream_port; /* 0: streams answer on the same port */
    char *console_dir;
    char *openapi_file;
    char *clamd; /* not empty: the first task of a file is its scan */
    int64_t idle_timeout_ms;
    int64_t header_timeout_ms;
    int64_t slow_timeout_ms;
    int64_t max_connections;
    int64_t max_connections_address;
    int64_t max_file_size;
    char *public_url;
    char *trusted_proxies;
    int64_t rate_key;
    int64_t rate_user;
    int64_t rate_address;
    int64_t rate_failures;
    int64_t rate_window_ms;
    char *cors_origins;
    int64_t session_idle_ms;
    int64_t session_max_ms;
    int64_t password_min;
    int64_t share_days_max;
    char *oidc_issuer; /* "" : none */
    char *oidc_name;
    char *oidc_client_id;
    char *oidc_client_secret;
    char *oidc_scopes;
    char *oidc_algorithms;
    char *oidc_audience;
    char *oidc_jwks_url;
    char *oidc_ca_file;
    char *oidc_role_claim;
    char *oidc_admins;
    char *oidc_operators;
    bool oidc_provision;
    int64_t oidc_keys_refresh_ms;
};

extern struct gateway_options gateway_options;
extern const struct option_table gateway_option_table;
