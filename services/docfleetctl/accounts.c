/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users, passwords and keys, straight in Postgres: what the first admin is made with, and what
 * helps when nobody can sign in any more. Invariant: every change leaves a row in the audit log, in
 * the same transaction. Refuses a password as an argument: those are seen in lists of processes and
 * kept in histories.
 */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libcommon/jget.h"
#include "libcommon/password.h"
#include "libcommon/sha256.h"
#include "libcommon/uuid.h"
#include "services/docfleetctl/ctl.h"

/* A connection with an open transaction. */
static int begin(struct ctl *ctl, struct db_conn **ret_conn, struct err *err)
{
    return ctl_open_db(ctl, err) < 0 || db_acquire(ctl->service.db, ret_conn, err) < 0 ||
                   db_begin(*ret_conn, err) < 0
               ? -1
               : 0;
}

int ctl_audit(struct db_conn *conn, const char *action, const char *target, json_t *detail,
              struct err *err)
{
    CLEANUP(json_cleanup) json_t *owned = detail;
    CLEANUP(free_cleanup) char *text = owned ? json_dumps(owned, JSON_COMPACT) : NULL;
    char actor[64];

    snprintf(actor, sizeof(actor), "docfleetctl, uid %u", (unsigned)getuid());
    const char *params[] = {actor, action, target, text ? text : "{}"};
    return db_query(conn,
                    "INSERT INTO audit (actor, action, target, detail, credential)"
                    " VALUES ($1, $2, $3, $4::jsonb, 'docfleetctl')",
                    4, params, NULL, err);
}

static int find_user(struct db_conn *conn, const char *name, char ret_id[UUID_TEXT],
                     struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {name};

    if (db_query(conn, "SELECT user_id FROM account WHERE name = $1 FOR UPDATE", 1, params, &res,
                 err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "there is no user %s", name);
    }
    snprintf(ret_id, UUID_TEXT, "%s", PQgetvalue(res, 0, 0));
    return 0;
}

static int end_sessions(struct db_conn *conn, const char *user_id, struct err *err)
{
    const char *params[] = {user_id};

    return db_query(conn,
                    "UPDATE session SET ended_at = now()"
                    " WHERE user_id = $1::uuid AND ended_at IS NULL",
                    1, params, NULL, err);
}

static bool role_ok(const char *role)
{
    return strcmp(role, "user") == 0 || strcmp(role, "operator") == 0 || strcmp(role, "admin") == 0;
}

/* What a key of an account gets when nothing is said. */
static const char *scopes_of_role(const char *role)
{
    return strcmp(role, "admin") == 0      ? "read,write,operate,admin"
           : strcmp(role, "operator") == 0 ? "read,write,operate"
                                           : "read,write";
}

/* Keys ------------------------------------------------------------------------------------------*/

struct key_wish {
    const char *scopes;
    const char *name;
    const char *days; /* "0": no end */
};

/* dfk_<id>_<secret>: 9 random bytes name it, 32 prove it; only the secret's hash is stored. */
static int make_key(struct db_conn *conn, const char *user_id, const struct key_wish *wish,
                    char *ret_key, size_t size, struct err *err)
{
    unsigned char id_bytes[9];
    unsigned char secret_bytes[32];
    char id[32];
    char secret[64];
    char hash[SHA256_HEX_SIZE];
    char array[160];

    if (sodium_init() < 0) {
        return err_set(err, ERR_FATAL, "internal", "no random numbers");
    }
    randombytes_buf(id_bytes, sizeof(id_bytes));
    randombytes_buf(secret_bytes, sizeof(secret_bytes));
    sodium_bin2hex(id, sizeof(id), id_bytes, sizeof(id_bytes));
    sodium_bin2base64(secret, sizeof(secret), secret_bytes, sizeof(secret_bytes),
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    /* The separator after the id must be the last underscore before the secret. */
    for (char *p = secret; *p; p++) {
        *p = *p == '_' ? '.' : *p;
    }
    if (sha256_hex(secret, strlen(secret), hash, err) < 0) {
        return -1;
    }
    snprintf(array, sizeof(array), "{%s}", wish->scopes);
    const char *params[] = {id, user_id, hash, array, wish->name, wish->days};
    if (db_query(conn,
                 "INSERT INTO api_key (key_id, user_id, secret_sha256, scopes, name, expires_at)"
                 " VALUES ($1, $2::uuid, decode($3, 'hex'), $4::text[], $5,"
                 "   CASE WHEN $6::int > 0 THEN now() + make_interval(days => $6::int) END)",
                 6, params, NULL, err) < 0 ||
        ctl_audit(conn, "key.create", id,
                  json_pack("{s:s, s:s}", "userId", user_id, "scopes", wish->scopes), err) < 0) {
        return -1;
    }
    snprintf(ret_key, size, "dfk_%s_%s", id, secret);
    return 0;
}

static bool scopes_ok(const char *scopes)
{
    char copy[100];
    char *save = NULL;

    if (strlen(scopes) >= sizeof(copy) || *scopes == '\0') {
        return false;
    }
    snprintf(copy, sizeof(copy), "%s", scopes);
    for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
        if (strcmp(s, "read") != 0 && strcmp(s, "write") != 0 && strcmp(s, "operate") != 0 &&
            strcmp(s, "admin") != 0) {
            return false;
        }
    }
    return true;
}

int ctl_key_create(struct ctl *ctl, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    const char *scopes = ctl_option(ctl, "--scopes");
    const char *name = ctl_option(ctl, "--name");
    const char *days = ctl_option(ctl, "--days");
    char user_id[UUID_TEXT];
    char key[128];

    if (scopes && !scopes_ok(scopes)) {
        return err_set(err, ERR_PERMANENT, "usage",
                       "scopes are read, write, operate and admin, with commas");
    }
    if (days && (strspn(days, "0123456789") != strlen(days) || strlen(days) > 4 || !*days)) {
        return err_set(err, ERR_PERMANENT, "usage", "--days takes a number of days");
    }
    const struct key_wish wish = {scopes ? scopes : "read,write", name ? name : "",
                                  days ? days : "0"};
    if (begin(ctl, &conn, err) < 0 || find_user(conn, ctl->argv[0], user_id, err) < 0 ||
        make_key(conn, user_id, &wish, key, sizeof(key), err) < 0 || db_commit(conn, err) < 0) {
        return -1;
    }
    printf("%s\n", key);
    return 0;
}

int ctl_key_list(struct ctl *ctl, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    static const char sql[] =
        "SELECT k.key_id, a.name, array_to_string(k.scopes, ','),"
        "   to_char(k.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'),"
        "   coalesce(to_char(k.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'never'),"
        "   coalesce(to_char(k.last_used_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), 'never'),"
        "   k.name FROM api_key k JOIN account a USING (user_id)"
        " WHERE k.revoked_at IS NULL AND ($1::text IS NULL OR a.name = $1)"
        " ORDER BY a.name, k.created_at LIMIT 10000";
    const char *params[] = {ctl->argc > 0 ? ctl->argv[0] : NULL};

    if (ctl_open_db(ctl, err) < 0 || db_run(ctl->service.db, sql, 1, params, &res, err) < 0) {
        return -1;
    }
    printf("%-20s %-20s %-26s %-10s  %-10s  %-16s  %s\n", "id", "user", "scopes", "made", "ends",
           "last used", "name");
    for (int i = 0; i < PQntuples(res); i++) {
        printf("%-20s %-20s %-26s %-10s  %-10s  %-16s  %s\n", PQgetvalue(res, i, 0),
               PQgetvalue(res, i, 1), PQgetvalue(res, i, 2), PQgetvalue(res, i, 3),
               PQgetvalue(res, i, 4), PQgetvalue(res, i, 5), PQgetvalue(res, i, 6));
    }
    return 0;
}

int ctl_key_revoke(struct ctl *ctl, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (begin(ctl, &conn, err) < 0) {
        return -1;
    }
    const char *params[] = {ctl->argv[0]};
    if (db_query(conn,
                 "UPDATE api_key SET revoked_at = now() WHERE key_id = $1 AND revoked_at IS NULL"
                 " RETURNING 1",
                 1, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        return err_set(err, ERR_PERMANENT, "not_found", "there is no such key, or it is revoked");
    }
    return ctl_audit(conn, "key.revoke", ctl->argv[0], NULL, err) < 0 ? -1 : db_commit(conn, err);
}

/* Users -----------------------------------------------------------------------------------------*/

int ctl_user_create(struct ctl *ctl, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    bool admin = ctl_flag(ctl, "--admin");
    bool no_key = ctl_flag(ctl, "--no-key");
    const char *role = ctl_option(ctl, "--role");
    char user_id[UUID_TEXT];
    char key[128] = "";

    role = role ? role : admin ? "admin" : "user";
    uuid_v7(user_id);
    const char *params[] = {user_id, ctl->argv[0], role};
    if (begin(ctl, &conn, err) < 0) {
        return -1;
    }
    if (db_query(conn, "INSERT INTO account (user_id, name, role) VALUES ($1::uuid, $2, $3)", 3,
                 params, NULL, err) < 0) {
        return strcmp(err->code, "db_unique") == 0
                   ? err_set(err, ERR_PERMANENT, "conflict", "there is a user %s already",
                             ctl->argv[0])
                   : -1;
    }
    const struct key_wish wish = {scopes_of_role(role), "", "0"};
    if (ctl_audit(conn, "user.create", user_id, json_pack("{s:s}", "role", role), err) < 0 ||
        (!no_key && make_key(conn, user_id, &wish, key, sizeof(key), err) < 0) ||
        db_commit(conn, err) < 0) {
        return -1;
    }
    fprintf(stderr, "user %s %s\n", ctl->argv[0], user_id);
    if (!no_key) {
        printf("%s\n", key);
    }
    return 0;
}

/* The first line of a file or of standard input. */
int ctl_read_password(const char *path, char *out, size_t size, struct err *err)
{
    FILE *f = path ? fopen(path, "re") : stdin;

    if (!f) {
        return err_from_errno(err, errno, "%s", path);
    }
    if (!path && isatty(STDIN_FILENO)) {
        fprintf(stderr, "new password (it shows; better: docfleetctl ... <file): ");
    }
    char *line = fgets(out, (int)size, f);
    if (path) {
        fclose(f);
    }
    if (!line) {
        return err_set(err, ERR_PERMANENT, "usage", "no password came on standard input");
    }
    out[strcspn(out, "\r\n")] = '\0';
    return 0;
}

int ctl_user_password(struct ctl *ctl, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    bool none = ctl_flag(ctl, "--none");
    const char *file = ctl_option(ctl, "--file");
    char password[PASSWORD_BYTES_MAX + 3];
    char hash[PASSWORD_HASH_SIZE];
    char user_id[UUID_TEXT];

    if (!none &&
        (ctl_read_password(file, password, sizeof(password), err) < 0 ||
         password_check(password, (size_t)ctl->options.password_min, ctl->argv[0], err) < 0 ||
         password_hash(password, hash, err) < 0)) {
        return -1;
    }
    sodium_memzero(password, sizeof(password));
    if (begin(ctl, &conn, err) < 0 || find_user(conn, ctl->argv[0], user_id, err) < 0) {
        return -1;
    }
    const char *params[] = {user_id, none ? NULL : hash};
    return db_query(conn,
                    "UPDATE account SET password_hash = $2, password_at = now()"
                    " WHERE user_id = $1::uuid",
                    2, params, NULL, err) < 0 ||
                   end_sessions(conn, user_id, err) < 0 ||
                   ctl_audit(conn, "user.password", user_id,
                             json_pack("{s:s}", "password", none ? "none" : "set"), err) < 0 ||
                   db_commit(conn, err) < 0
               ? -1
               : 0;
}

static int change_user(struct ctl *ctl, const char *role, const char *disabled, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    char user_id[UUID_TEXT];

    if (begin(ctl, &conn, err) < 0 || find_user(conn, ctl->argv[0], user_id, err) < 0) {
        return -1;
    }
    const char *params[] = {user_id, role, disabled};
    json_t *detail = role ? json_pack("{s:s}", "role", role)
                          : json_pack("{s:b}", "disabled", strcmp(disabled, "true") == 0);
    return db_query(conn,
                    "UPDATE account SET role = coalesce($2, role), disabled_at = CASE"
                    "   WHEN $3::bool THEN coalesce(disabled_at, now())"
                    "   WHEN NOT $3::bool THEN NULL ELSE disabled_at END"
                    " WHERE user_id = $1::uuid",
                    3, params, NULL, err) < 0 ||
                   end_sessions(conn, user_id, err) < 0 ||
                   ctl_audit(conn, "user.change", user_id, detail, err) < 0 ||
                   db_commit(conn, err) < 0
               ? -1
               : 0;
}

int ctl_user_role(struct ctl *ctl, struct err *err)
{
    return role_ok(ctl->argv[1])
               ? change_user(ctl, ctl->argv[1], NULL, err)
               : err_set(err, ERR_PERMANENT, "usage", "a role is user, operator or admin");
}

int ctl_user_disable(struct ctl *ctl, struct err *err)
{
    return change_user(ctl, NULL, "true", err);
}

int ctl_user_enable(struct ctl *ctl, struct err *err)
{
    return change_user(ctl, NULL, "false", err);
}

int ctl_user_link(struct ctl *ctl, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    char user_id[UUID_TEXT];

    if (begin(ctl, &conn, err) < 0 || find_user(conn, ctl->argv[0], user_id, err) < 0) {
        return -1;
    }
    const char *params[] = {ctl->argv[1], ctl->argv[2], user_id};
    return db_query(conn,
                    "INSERT INTO identity (issuer, subject, user_id) VALUES ($1, $2, $3::uuid)"
                    " ON CONFLICT (issuer, subject) DO UPDATE SET user_id = excluded.user_id",
                    3, params, NULL, err) < 0 ||
                   ctl_audit(
                       conn, "user.link", user_id,
                       json_pack("{s:s, s:s}", "issuer", ctl->argv[1], "subject", ctl->argv[2]),
                       err) < 0 ||
                   db_commit(conn, err) < 0
               ? -1
               : 0;
}

int ctl_user_unlink(struct ctl *ctl, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    char user_id[UUID_TEXT];

    if (begin(ctl, &conn, err) < 0 || find_user(conn, ctl->argv[0], user_id, err) < 0) {
        return -1;
    }
    const char *params[] = {user_id};
    return db_query(conn, "DELETE FROM identity WHERE user_id = $1::uuid", 1, params, NULL, err) <
                       0 ||
                   end_sessions(conn, user_id, err) < 0 ||
                   ctl_audit(conn, "user.unlink", user_id, NULL, err) < 0 ||
                   db_commit(conn, err) < 0
               ? -1
               : 0;
}
