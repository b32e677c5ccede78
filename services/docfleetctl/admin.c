/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators do with the servers themselves: schema, topics, bucket.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/task_dispatch.h"
#include "libcommon/topics.h"
#include "services/docfleetctl/ctl.h"
#include "services/docfleetctl/migrations.h"

#define WAIT_S 600 /* of `migrate --wait`; whoever started it starts it again */
#define WAIT_STEP_MS 1000

int ctl_open_db(struct ctl *ctl, struct err *err)
{
    return db_open(&(struct db_config){.url = service_direct_url(&ctl->service),
                                       .application_name = "docfleetctl",
                                       .max_conns = 2,
                                       .statement_timeout_ms = 60000},
                   &ctl->service.db, err);
}

/* Migrations ------------------------------------------------------------------------------------*/

/* A set, not a highest number: branches may bring their migrations in any order. */
static bool is_applied(const PGresult *applied, int version)
{
    for (int i = 0; i < PQntuples(applied); i++) {
        if (db_i64(applied, i, 0) == version) {
            return true;
        }
    }
    return false;
}

static int apply_one(struct db_conn *conn, const struct migration *m, struct err *err)
{
    struct db_num version;
    const char *params[] = {db_num(&version, m->version), m->name};

    if (db_begin(conn, err) < 0 || db_script(conn, m->sql, 600000, err) < 0 ||
        db_query(conn, "INSERT INTO docfleet.migration (version, name) VALUES ($1::int, $2)", 2,
                 params, NULL, err) < 0 ||
        db_commit(conn, err) < 0) {
        return err_wrap(err, "migration %04d", m->version);
    }
    fprintf(stderr, "applied %04d %s\n", m->version, m->name);
    return 0;
}

static int migrate_schema(struct ctl *ctl, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *applied = NULL;
    int r = 0;

    if (ctl_open_db(ctl, err) < 0 || db_acquire(ctl->service.db, &conn, err) < 0 ||
        /* Two that migrate at once: the second waits. */
        db_script(conn,
                  "SET client_min_messages = warning; SET lock_timeout = 0;"
                  " SET statement_timeout = 0; SELECT pg_advisory_lock(776002, 0);"
                  "CREATE SCHEMA IF NOT EXISTS docfleet;"
                  "CREATE TABLE IF NOT EXISTS docfleet.migration (version int PRIMARY KEY,"
                  " name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());"
                  "SET search_path = docfleet, public",
                  120000, err) < 0 ||
        db_query(conn, "SELECT version FROM docfleet.migration", 0, NULL, &applied, err) < 0) {
        return -1;
    }
    for (size_t i = 0; r == 0 && i < migration_count; i++) {
        if (!is_applied(applied, migrations[i].version)) {
            r = apply_one(conn, &migrations[i], err);
        }
    }
    if (r == 0) {
        r = migrate_logins(ctl, conn, err);
    }
    struct err unlock = ERR_INIT;
    if (db_script(conn, "SELECT pg_advisory_unlock(776002, 0)", 5000, &unlock) < 0) {
        return r; /* the session's end releases it */
    }
    return r;
}

/* How many of the migrations that this program knows nobody has applied yet. */
static int missing_migrations(struct ctl *ctl, int *ret_missing, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *applied = NULL;

    if (db_acquire(ctl->service.db, &conn, err) < 0 ||
        db_query(conn, "SELECT version FROM docfleet.migration", 0, NULL, &applied, err) < 0) {
        return -1;
    }
    *ret_missing = 0;
    for (size_t i = 0; i < migration_count; i++) {
        *ret_missing += is_applied(applied, migrations[i].version) ? 0 : 1;
    }
    return 0;
}

/* For a program that must not start on an older schema: changes nothing itself, reads one table
 * only. A server that is away and a schema that is not there yet are the same to it. */
static int wait_for_schema(struct ctl *ctl, uint64_t seconds, struct err *err)
{
    uint64_t until = clock_mono_ms() + seconds * 1000;
    char said[ERR_MSG_MAX] = "";

    if (ctl_open_db(ctl, err) < 0) {
        return -1;
    }
    for (;;) {
        struct err why = ERR_INIT;
        int missing = 0;

        if (missing_migrations(ctl, &missing, &why) == 0 && missing == 0) {
            return 0;
        }
        if (missing > 0) {
            err_set(&why, ERR_TRANSIENT, "schema", "the schema lacks %d migrations", missing);
        }
        if (strcmp(said, why.msg) != 0) {
            snprintf(said, sizeof(said), "%s", why.msg);
            fprintf(stderr, "waiting: %s\n", said);
        }
        if (clock_mono_ms() >= until || service_wait(&ctl->service, WAIT_STEP_MS)) {
            return err_set(err, ERR_TRANSIENT, "schema", "%s", said);
        }
    }
}

/* The number is kept: the dispatcher makes topics again that a broker has lost. */
static int migrate_topics(struct ctl *ctl, int partitions, struct err *err)
{
    const struct bus_access *bus = &ctl->service.bus;

    if (topics_create(bus, partitions, err) < 0 ||
        task_partitions_note(ctl->service.db, partitions, err) < 0) {
        return -1;
    }
    return topics_seed(bus, partitions, err);
}

int ctl_migrate(struct ctl *ctl, struct err *err)
{
    bool topics = ctl_flag(ctl, "--topics");
    int64_t n = 0, seconds = 0;

    if (ctl_number(ctl, "--for", 1, 86400, WAIT_S, &seconds, err) < 0 ||
        ctl_number(ctl, "--partitions", 1, TOPICS_PARTITIONS_MAX, 6, &n, err) < 0) {
        return -1;
    }
    if (ctl_flag(ctl, "--wait")) {
        return topics || ctl_option(ctl, "--partitions")
                   ? err_set(err, ERR_PERMANENT, "usage", "--wait changes nothing: no other option")
                   : wait_for_schema(ctl, (uint64_t)seconds, err);
    }
    if (ctl_option(ctl, "--for")) {
        return err_set(err, ERR_PERMANENT, "usage", "--for takes 1 to 86400, with --wait");
    }
    return migrate_schema(ctl, err) < 0 ? -1 : topics ? migrate_topics(ctl, (int)n, err) : 0;
}

int ctl_bucket_create(struct ctl *ctl, struct err *err)
{
    if (service_connect(&ctl->service, 1, 5000, err) < 0) {
        return -1;
    }
    return store_bucket_create(ctl->service.store, err);
}
