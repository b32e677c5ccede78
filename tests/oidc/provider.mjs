// SPDX-License-Identifier: Apache-2.0
// Why: a real OpenID provider (oidc-provider, certified) for the tests of signing in. It signs in
// whoever is named, without a password, and reads its keys anew from KEYS at each start.
//
// Environment: PORT, KEYS (a file with a JWK set, private), CLIENT_ID, CLIENT_SECRET ("" for a
// public client), REDIRECT_URI, LOGOUT_URI, AUDIENCE (of JWT access tokens), TOKEN_SECONDS.
import { readFileSync } from "node:fs";
import Provider from "oidc-provider";

const env = (name, fallback) => process.env[name] ?? fallback;
const port = Number(env("PORT"));
const issuer = `http://127.0.0.1:${port}`;
const secret = env("CLIENT_SECRET", "");
const groups = { carol: ["fleet-admins", "staff"], olga: ["fleet-operators"] };

const provider = new Provider(issuer, {
    jwks: JSON.parse(readFileSync(env("KEYS"), "utf8")),
    cookies: { keys: ["only-for-tests"] },
    clients: [
        {
            client_id: env("CLIENT_ID"),
            ...(secret ? { client_secret: secret } : {}),
            token_endpoint_auth_method: secret ? "client_secret_basic" : "none",
            redirect_uris: [env("REDIRECT_URI")],
            post_logout_redirect_uris: [env("LOGOUT_URI")],
            response_types: ["code"],
            grant_types: ["authorization_code"],
            id_token_signed_response_alg: env("ALG", "RS256"),
        },
        {
            client_id: "machine",
            client_secret: "machine-secret",
            redirect_uris: [],
            response_types: [],
            grant_types: ["client_credentials"],
        },
    ],
    claims: { openid: ["sub"], profile: ["preferred_username", "groups"], email: ["email"] },
    conformIdTokenClaims: false,
    pkce: { required: () => true, methods: ["S256"] },
    ttl: { IdToken: Number(env("TOKEN_SECONDS", "600")), AccessToken: 600, ClientCredentials: 600 },
    features: {
        devInteractions: { enabled: true },
        clientCredentials: { enabled: true },
        rpInitiatedLogout: { enabled: true },
        resourceIndicators: {
            enabled: true,
            defaultResource: () => env("AUDIENCE"),
            useGrantedResource: () => true,
            getResourceServerInfo: () => ({
                scope: "docfleet:read docfleet:write",
                audience: env("AUDIENCE"),
                accessTokenTTL: 600,
                accessTokenFormat: "jwt",
                jwt: { sign: { alg: env("ALG", "RS256") } },
            }),
        },
    },
    findAccount: (_, id) => ({
        accountId: id,
        claims: () => ({ sub: id, preferred_username: id, email: `${id}@example.test`, groups: groups[id] ?? [] }),
    }),
});

provider.listen(port, "127.0.0.1", () => console.log("listening"));
