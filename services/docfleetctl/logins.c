/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logins of the services' database roles. The addresses that the services connect with say who logs
 * in and with what password; `migrate` makes it so, and the same Secret serves both.
 */
#include <string.h>

#include "services/docfleetctl/ctl.h"

/* What one address says. */
struct login {
    const char *user, *password; /* of info; password may be NULL: another way to prove who it is */
    PQconninfoOption *info;
};

static void login_done(struct login *login)
{
    PQconninfoFree(login->info);
}

static int login_parse(const char *setting, const char *url, struct login *login, struct err *err)
{
    char *why = NULL;

    login->info = PQconninfoParse(url, &why);
    if (!login->info) {
        PQfreemem(why); /* it may quote the password */
        return err_set(err, ERR_PERMANENT, "config", "%s is no address of Postgres", setting);
    }
    for (const PQconninfoOption *o = login->info; o->keyword; o++) {
        if (o->val && *o->val && strcmp(o->keyword, "user") == 0) {
            login->user = o->val;
        } else if (o->val && *o->val && strcmp(o->keyword, "password") == 0) {
            login->password = o->val;
        }
    }
    return login->user ? 0 : err_set(err, ERR_PERMANENT, "config", "%s names no user", setting);
}

/* Runs the statement that sql makes of its parameters, quoted by Postgres. */
static int run_made(struct db_conn *conn, const char *sql, const char *a, const char *b,
                    struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *made = NULL;
    const char *params[] = {a, b};

    if (db_query_dynamic(conn, sql, b ? 2 : 1, params, &made, err) < 0) {
        return -1;
    }
    return PQntuples(made) == 0 ? 0 : db_script(conn, PQgetvalue(made, 0, 0), 10000, err);
}

static int set_login(struct db_conn *conn, const char *setting, const char *role,
                     const struct login *login, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *owner = NULL;
    const char *params[] = {login->user};

    if (db_query(
            conn,
            "SELECT rolname = $1 OR $1 = session_user FROM pg_roles"
            " WHERE oid = (SELECT relowner FROM pg_class WHERE oid = 'docfleet.file'::regclass)",
            1, params, &owner, err) < 0) {
        return -1;
    }
    if (db_bool(owner, 0, 0)) {
        return err_set(err, ERR_PERMANENT, "config",
                       "%s names the owner of the tables, whom no row security holds", setting);
    }
    if (run_made(conn,
                 "SELECT format('CREATE ROLE %I', $1::text)"
                 " WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)",
                 login->user, NULL, err) < 0) {
        return -1;
    }
    if (login->password) {
        /* The server and its log see the verifier alone. */
        char *verifier = PQencryptPasswordConn(db_raw(conn), login->password, login->user, NULL);
        int rc =
            verifier
                ? run_made(conn,
                           "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)",
                           login->user, verifier, err)
                : err_from_pg(err, db_raw(conn), NULL);
        PQfreemem(verifier);
        if (rc < 0) {
            return -1;
        }
    } else if (run_made(conn, "SELECT format('ALTER ROLE %I LOGIN', $1::text)", login->user, NULL,
                        err) < 0) {
        return -1;
    }
    return strcmp(login->user, role) == 0
               ? 0
               : run_made(conn, "SELECT format('GRANT %I TO %I', $1::text, $2::text)", role,
                          login->user, err);
}

int migrate_logins(struct ctl *ctl, struct db_conn *conn, struct err *err)
{
    const struct {
        const char *setting, *role, *url;
    } all[] = {
        {"GATEWAY_DATABASE_URL", "docfleet_gateway", ctl->options.gateway_database_url},
        {"FLEET_DATABASE_URL", "docfleet_fleet", ctl->options.fleet_database_url},
        {"IMPORTER_DATABASE_URL", "docfleet_importer", ctl->options.importer_database_url},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (!*all[i].url) {
            continue;
        }
        struct login login = {0};
        int rc = login_parse(all[i].setting, all[i].url, &login, err);
        if (rc == 0) {
            rc = set_login(conn, all[i].setting, all[i].role, &login, err);
        }
        if (rc == 0) {
            fprintf(stderr, "%s may log in as %s\n", login.user, all[i].role);
        }
        if (rc < 0) {
            err_wrap(err, "login of %s", all[i].role);
        }
        login_done(&login);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}
