/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/identity.h"

#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/issuer.h"
#include "services/ingest-gateway/options.h"
#include "services/ingest-gateway/session.h"

#include <stdio.h>
#include <string.h>

#define PROVISION_TRIES 3

static const char find_sql[] =
    "UPDATE identity i SET seen_at = now() FROM account a WHERE i.issuer = $1 AND i.subject = $2"
    "   AND a.user_id = i.user_id"
    " RETURNING a.user_id, a.name, a.role, a.disabled_at IS NULL";

/* A name that is taken gets the account's id behind it: it must not lead to the other account. */
static const char make_sql[] =
    "WITH a AS (INSERT INTO account (user_id, name, role)"
    "   SELECT $3::uuid, CASE WHEN EXISTS (SELECT 1 FROM account WHERE name = $4)"
    "     THEN left($4, 90) || ' ' || right($3::uuid::text, 8) ELSE left($4, 100) END, $5"
    "   RETURNING user_id, name, role),"
    " i AS (INSERT INTO identity (issuer, subject, user_id, seen_at)"
    "   SELECT $1, $2, user_id, now() FROM a)"
    "SELECT user_id, name, role, true FROM a";

static bool in_list(const char *list, const char *value)
{
    size_t n = strlen(value);

    for (const char *s = list; n > 0 && *s != '\0'; s += strcspn(s, ","), s += *s == ',') {
        if (strcspn(s, ",") == n && strncmp(s, value, n) == 0) {
            return true;
        }
    }
    return false;
}

/* The role that a claim gives, a text or a list of texts; ROLE_NONE when claims decide nothing. */
static enum role mapped_role(const struct gateway_options *options, const json_t *claims)
{
    const json_t *claim = json_object_get(claims, options->oidc_role_claim);
    enum role role = ROLE_USER;
    size_t n = json_is_array(claim) ? json_array_size(claim) : 1;

    if (options->oidc_role_claim[0] == '\0') {
        return ROLE_NONE;
    }
    for (size_t i = 0; i < n && i < 500; i++) {
        const char *value =
            json_string_value(json_is_array(claim) ? json_array_get(claim, i) : claim);
        if (value && in_list(options->oidc_admins, value)) {
            return ROLE_ADMIN;
        }
        if (value && in_list(options->oidc_operators, value)) {
            role = ROLE_OPERATOR;
        }
    }
    return role;
}

/* What people know the subject by, for the account's name. */
static void choose_name(const json_t *claims, char *out, size_t size)
{
    static const char *const names[] = {"preferred_username", "email", "name", "sub"};
    const char *name = "user";
    char *o = out;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = json_string_value(json_object_get(claims, names[i]));
        if (value && value[0] != '\0' && strlen(value) < size) {
            name = value;
            break;
        }
    }
    for (const char *s = name; *s != '\0'; s++) {
        *o++ = (unsigned char)*s < 0x20 || *s == 0x7f ? ' ' : *s;
    }
    *o = '\0';
}

static int fill(const PGresult *res, struct principal *who, struct err *err)
{
    if (!db_bool(res, 0, 3)) {
        return err_set(err, ERR_PERMANENT, "disabled", "the account is disabled");
    }
    snprintf(who->user_id, sizeof(who->user_id), "%s", db_str(res, 0, 0));
    snprintf(who->name, sizeof(who->name), "%s", db_str(res, 0, 1));
    who->role = role_parse(db_str(res, 0, 2));
    who->scopes = role_scopes(who->role);
    return 0;
}

static int set_role(struct gateway *gw, struct principal *who, enum role role, struct err *err)
{
    const char *params[] = {who->user_id, role_name(role)};

    if (db_run(gw->db, "UPDATE account SET role = $2 WHERE user_id = $1::uuid", 2, params, NULL,
               err) < 0 ||
        session_end_all(gw, who->user_id, NULL, err) < 0) {
        return -1;
    }
    who->role = role;
    who->scopes = role_scopes(role);
    return 0;
}

static int provision(struct gateway *gw, const char *const *ids, const json_t *claims,
                     enum role role, struct principal *who, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    char user_id[UUID_TEXT];
    char name[100];

    choose_name(claims, name, sizeof(name));
    uuid_v7(user_id);
    const char *params[] = {ids[0], ids[1], user_id, name,
                            role_name(role == ROLE_NONE ? ROLE_USER : role)};
    if (db_run(gw->db, make_sql, 5, params, &res, err) < 0) {
        /* Another replica was faster with the same subject, or with the name. */
        return strcmp(err->code, "db_unique") == 0
                   ? err_set(err, ERR_TRANSIENT, "db_conflict", "the account is being made")
                   : -1;
    }
    return fill(res, who, err);
}

int identity_find(struct gateway *gw, const json_t *claims, struct principal *who, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const struct gateway_options *options = issuer_options(gw->issuer);
    const char *ids[] = {json_string_value(json_object_get(claims, "iss")),
                         json_string_value(json_object_get(claims, "sub"))};
    enum role role = mapped_role(options, claims);

    for (int i = 0; i < PROVISION_TRIES; i++) {
        PQclear(STEAL(res));
        if (db_run(gw->db, find_sql, 2, ids, &res, err) < 0) {
            return -1;
        }
        if (PQntuples(res) > 0) {
            break;
        }
        if (!options->oidc_provision) {
            return err_set(err, ERR_PERMANENT, "not_provisioned", "no account is linked to it");
        }
        /* The loser of a race for the subject finds the winner's account, for the name takes
         * another. */
        *err = ERR_INIT;
        int rc = provision(gw, ids, claims, role, who, err);
        if (rc == 0 || strcmp(err->code, "db_conflict") != 0 || i + 1 == PROVISION_TRIES) {
            return rc;
        }
    }
    if (fill(res, who, err) < 0) {
        return -1;
    }
    return role != ROLE_NONE && role != who->role ? set_role(gw, who, role, err) : 0;
}
