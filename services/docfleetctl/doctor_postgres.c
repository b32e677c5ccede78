/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Postgres, by both of its addresses.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/task_dispatch.h"
#include "services/docfleetctl/doctor.h"
#include "services/docfleetctl/migrations.h"

#define CONNECT_MS 5000
#define NOTIFY_MS 3000
#define PG_MIN 150000
#define SKEW_WARN_MS 1000
#define SKEW_BAD_MS 10000

/* *ret_pg gets the connection, or an error is found. */
static void reach(struct doctor *d, const char *name, const char *url, PGconn **ret_pg)
{
    struct err err = ERR_INIT;
    uint64_t start = clock_mono_us();

    if (*url == '\0') {
        found(d, FOUND_PROBLEM,
              "set DOCFLEET_DATABASE_URL, such as postgresql://user@host/docfleet", "%s is not set",
              name);
        return;
    }
    if (db_connect_raw(url, "docfleetctl doctor", CONNECT_MS, ret_pg, &err) < 0) {
        found(d, FOUND_PROBLEM, NULL, "%s: %s", name, err.msg);
        *ret_pg = NULL;
        return;
    }
    found(d, FOUND_OK, NULL, "%s: %s:%s answers after %.1f ms", name, PQhost(*ret_pg),
          PQport(*ret_pg), (double)(clock_mono_us() - start) / 1000);
}

void check_pg_reach(struct doctor *d)
{
    const struct core_options *core = &d->ctl->service.core;
    bool two = *core->database_direct_url != '\0';
    struct err err = ERR_INIT;

    reach(d, "DATABASE_URL", core->database_url, &d->pooled);
    if (two) {
        reach(d, "DATABASE_DIRECT_URL", core->database_direct_url, &d->direct);
    } else if (d->pooled) {
        if (db_connect_raw(core->database_url, "docfleetctl doctor", CONNECT_MS, &d->direct, &err) <
            0) {
            d->direct = NULL;
        }
    }
    if (d->pooled && d->direct && ctl_open_db(d->ctl, &err) == 0) {
        d->db = STEAL(d->ctl->service.db);
        if (task_partitions(d->db, &d->partitions, &err) < 0) {
            d->partitions = 0;
        }
    }
}

/* One value of the direct connection; NULL when it cannot be had. From a ring of 4. */
static const char *ask(PGconn *pg, const char *sql)
{
    static char ring[4][160];
    static unsigned at;
    char *out = ring[at++ % 4];
    CLEANUP(db_result_cleanup) PGresult *res = PQexec(pg, sql);

    if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) != 1 || PQgetisnull(res, 0, 0)) {
        return NULL;
    }
    snprintf(out, sizeof(ring[0]), "%s", PQgetvalue(res, 0, 0));
    return out;
}

static bool is(PGconn *pg, const char *sql, const char *value)
{
    const char *got = ask(pg, sql);

    return got && strcmp(got, value) == 0;
}

void check_pg_version(struct doctor *d)
{
    if (needs_db(d)) {
        return;
    }
    int version = PQserverVersion(d->direct);
    const char *encoding = ask(d->direct, "SHOW server_encoding");
    bool good = version >= PG_MIN && encoding && strcmp(encoding, "UTF8") == 0;

    found(d, good ? FOUND_OK : FOUND_PROBLEM, NULL, "%d.%d, %s", version / 10000, version % 10000,
          encoding ? encoding : "unknown encoding");
}

void check_pg_writable(struct doctor *d)
{
    if (needs_db(d)) {
        return;
    }
    if (is(d->pooled, "SELECT pg_is_in_recovery()", "t")) {
        found(d, FOUND_PROBLEM, NULL, "it is a standby");
    } else if (is(d->pooled, "SHOW transaction_read_only", "on")) {
        found(d, FOUND_PROBLEM, NULL, "transactions are read-only");
    } else {
        found(d, FOUND_OK, NULL, "it takes writes");
    }
}

void check_pg_schema(struct doctor *d)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct err err = ERR_INIT;
    int missing = 0, newer = 0;
    const char *first = "";

    if (needs_db(d)) {
        return;
    }
    if (db_run(d->db, "SELECT version FROM docfleet.migration", 0, NULL, &res, &err) < 0) {
        found(d, FOUND_PROBLEM, NULL, "there is no schema docfleet, or it may not be read");
        return;
    }
    for (size_t i = 0; i < migration_count; i++) {
        bool there = false;
        for (int r = 0; r < PQntuples(res) && !there; r++) {
            there = db_i64(res, r, 0) == migrations[i].version;
        }
        first = !there && missing == 0 ? migrations[i].name : first;
        missing += !there;
    }
    for (int r = 0; r < PQntuples(res); r++) {
        newer += db_i64(res, r, 0) > migrations[migration_count - 1].version;
    }
    if (missing > 0) {
        found(d, FOUND_PROBLEM, NULL, "%d migrations are missing, the first is \"%s\"", missing,
              first);
    } else if (newer > 0) {
        found(d, FOUND_WARNING, "use the docfleetctl and the services of that version",
              "%d migrations are of a newer version than this program", newer);
    } else {
        found(d, FOUND_OK, NULL, "%zu migrations", migration_count);
    }
}

/* A server tells the number of the process that serves a connection at its start; behind a pooler
 * another one answers. */
static bool is_pooled(PGconn *pg)
{
    const char *pid = ask(pg, "SELECT pg_backend_pid()");

    return pid && strtol(pid, NULL, 10) != PQbackendPID(pg);
}

void check_pg_pooler(struct doctor *d)
{
    if (needs_db(d)) {
        return;
    }
    if (is_pooled(d->direct)) {
        found(d, FOUND_PROBLEM, NULL, "DATABASE%s_URL goes through a pooler",
              *d->ctl->service.core.database_direct_url ? "_DIRECT" : "");
    } else {
        found(d, FOUND_OK, NULL,
              is_pooled(d->pooled) ? "a pooler, and a direct address beside it" : "none");
    }
}

void check_pg_prepared(struct doctor *d)
{
    if (needs_db(d)) {
        return;
    }
    CLEANUP(db_result_cleanup)
    PGresult *made = PQprepare(d->pooled, "doctor", "SELECT $1::int + 1", 1, NULL);
    const char *params[] = {"41"};
    bool good = PQresultStatus(made) == PGRES_COMMAND_OK;

    /* Behind a pooler another connection may stand in between. */
    for (int i = 0; i < 5 && good; i++) {
        CLEANUP(db_result_cleanup)
        PGresult *res = PQexecPrepared(d->pooled, "doctor", 1, params, NULL, NULL, 0);
        good = PQresultStatus(res) == PGRES_TUPLES_OK && strcmp(PQgetvalue(res, 0, 0), "42") == 0;
    }
    if (good) {
        found(d, FOUND_OK, NULL, "they do");
    } else {
        const char *why = PQerrorMessage(d->pooled);
        found(d, FOUND_PROBLEM, NULL, "%.*s", (int)strcspn(why, "\n"), why);
    }
}

void check_pg_listen(struct doctor *d)
{
    bool come = false;

    if (needs_db(d)) {
        return;
    }
    PQclear(PQexec(d->direct, "LISTEN docfleet_doctor"));
    PQclear(PQexec(d->pooled, "NOTIFY docfleet_doctor"));
    for (uint64_t until = clock_mono_ms() + NOTIFY_MS; !come && clock_mono_ms() < until;) {
        struct pollfd p = {.fd = PQsocket(d->direct), .events = POLLIN};
        PGnotify *note;
        poll(&p, 1, 100);
        if (!PQconsumeInput(d->direct)) {
            break;
        }
        while ((note = PQnotifies(d->direct)) != NULL) {
            come = true;
            PQfreemem(note);
        }
    }
    PQclear(PQexec(d->direct, "UNLISTEN docfleet_doctor"));
    found(d, come ? FOUND_OK : FOUND_PROBLEM, NULL, come ? "it does" : "none came within 3 s");
}

void check_pg_extensions(struct doctor *d)
{
    if (needs_db(d)) {
        return;
    }
    const char *version =
        ask(d->direct, "SELECT extversion FROM pg_extension WHERE extname = 'pg_trgm'");
    found(d, version ? FOUND_OK : FOUND_PROBLEM, NULL,
          version ? "pg_trgm %s" : "pg_trgm is missing", version);
}

void check_pg_role(struct doctor *d)
{
    if (needs_db(d)) {
        return;
    }
    const char *name = ask(d->pooled, "SELECT current_user");
    const char *super =
        ask(d->pooled, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user");
    bool bad = super && *super == 't';

    found(d, bad ? FOUND_WARNING : FOUND_OK, NULL, bad ? "%s is a superuser" : "%s", name);
}

void check_pg_clock(struct doctor *d)
{
    if (needs_db(d)) {
        return;
    }
    int64_t before = clock_wall_ms();
    const char *text =
        ask(d->direct, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint");
    int64_t after = clock_wall_ms();
    int64_t skew = text ? strtoll(text, NULL, 10) - (before + after) / 2 : 0;
    int64_t size = skew < 0 ? -skew : skew;

    found(d,
          size > SKEW_BAD_MS    ? FOUND_PROBLEM
          : size > SKEW_WARN_MS ? FOUND_WARNING
                                : FOUND_OK,
          NULL, "%lld ms apart", (long long)size);
}

void check_pg_connections(struct doctor *d)
{
    if (needs_db(d)) {
        return;
    }
    const char *used = ask(d->direct, "SELECT count(*) FROM pg_stat_activity"
                                      " WHERE backend_type = 'client backend'");
    const char *max = ask(d->direct, "SELECT current_setting('max_connections')::int"
                                     " - current_setting('superuser_reserved_connections')::int");
    long n = used ? strtol(used, NULL, 10) : 0, of = max ? strtol(max, NULL, 10) : 1;

    found(d, n * 10 >= of * 8 ? FOUND_WARNING : FOUND_OK, NULL, "%ld of %ld are in use", n, of);
}

void check_pg_durability(struct doctor *d)
{
    static const char *const names[] = {"fsync", "full_page_writes", "synchronous_commit",
                                        "autovacuum"};
    bool good = true;

    if (needs_db(d)) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char sql[64];
        snprintf(sql, sizeof(sql), "SHOW %s", names[i]);
        if (is(d->direct, sql, "off")) {
            found(d, FOUND_WARNING, NULL, "%s is off", names[i]);
            good = false;
        }
    }
    if (good) {
        found(d, FOUND_OK, NULL, "they do");
    }
}
