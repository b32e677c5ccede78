/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit log from the command line: reading it over the API, and, straight in Postgres, checking
 * that no row was changed or left out, and dropping what is older than must be kept.
 * Invariant: what is hashed is spelled out here, not asked of a function in the database, which
 * whoever changes rows could change as well.
 */
#include <stdio.h>
#include <string.h>

#include "libcommon/sha256.h"
#include "services/docfleetctl/client.h"

#define PAGE "1000"

static int add_arg(struct buf *path, const struct ctl *ctl, const char *option, const char *name,
                   struct err *err)
{
    const char *value = ctl_option(ctl, option);
    char when[64];

    if (!value) {
        return 0;
    }
    if (strcmp(name, "since") == 0 || strcmp(name, "until") == 0) {
        api_time_of(value, when, sizeof(when));
        value = when;
    }
    return buf_printf(path, err, "&%s=", name) < 0 ? -1 : http_encode(path, value, false, err);
}

static void print_row(const json_t *row, bool json)
{
    if (json) {
        json_dumpf(row, stdout, JSON_COMPACT);
        putchar('\n');
        return;
    }
    printf("%6lld  %s  %-6s  %-20s  %-24s  %-36s  %s\n", (long long)api_int(row, "number"),
           api_text(row, "at"), api_text(row, "outcome"), api_text(row, "action"),
           api_text(row, "actor"), api_text(row, "target"), api_text(row, "address"));
}

int ctl_audit_list(struct ctl *ctl, struct err *err)
{
    CLEANUP(api_close) struct api api = {0};
    CLEANUP(buf_done) struct buf filter;
    bool json = ctl_flag(ctl, "--json");
    int64_t left = 0;
    CLEANUP(free_cleanup) char *cursor = NULL;

    buf_init(&filter, 4096);
    if (ctl_number(ctl, "--limit", 1, 1000000, 100, &left, err) < 0 ||
        add_arg(&filter, ctl, "--user", "userId", err) < 0 ||
        add_arg(&filter, ctl, "--action", "action", err) < 0 ||
        add_arg(&filter, ctl, "--outcome", "outcome", err) < 0 ||
        add_arg(&filter, ctl, "--target", "target", err) < 0 ||
        add_arg(&filter, ctl, "--address", "address", err) < 0 ||
        add_arg(&filter, ctl, "--since", "since", err) < 0 ||
        add_arg(&filter, ctl, "--until", "until", err) < 0 || api_open(ctl, true, &api, err) < 0) {
        return -1;
    }
    while (left > 0) {
        CLEANUP(json_cleanup) json_t *page = NULL;
        CLEANUP(buf_done) struct buf path;
        size_t i;
        json_t *row;
        buf_init(&path, 8192);
        if (buf_printf(&path, err, "/admin/audit?limit=%d%s%s%s", left < 200 ? (int)left : 200,
                       filter.data ? filter.data : "", cursor ? "&cursor=" : "",
                       cursor ? cursor : "") < 0 ||
            api_call(&api, "GET", path.data, NULL, &page, err) < 0) {
            return -1;
        }
        json_array_foreach(json_object_get(page, "items"), i, row)
        {
            print_row(row, json);
            left--;
        }
        const char *next = json_string_value(json_object_get(page, "nextCursor"));
        if (!next) {
            return 0;
        }
        free(cursor);
        cursor = strdup(next);
        if (!cursor) {
            return err_nomem(err);
        }
    }
    return 0;
}

/* Verify ----------------------------------------------------------------------------------------*/

static const char chain_sql[] =
    "SELECT chain, hash, jsonb_build_array(chain, extract(epoch FROM at), user_id, actor, action,"
    "   target, detail, outcome, credential, key_id, session_id, address, request_id)::text"
    " FROM audit WHERE chain > $1::bigint ORDER BY chain LIMIT " PAGE;

struct walk {
    int64_t at; /* the last row that was right */
    char hash[SHA256_HEX_SIZE];
    int64_t n;
    int64_t first;
    int64_t tip_at; /* a row noted earlier; 0: none */
    const char *tip_hash;
    bool tip_seen;
};

static int broken(struct err *err, int64_t chain, const char *what)
{
    return err_set(err, ERR_PERMANENT, "audit_broken", "row %lld %s", (long long)chain, what);
}

static int check_row(struct walk *walk, const PGresult *res, int i, struct err *err)
{
    CLEANUP(hash_done) struct hash h = HASH_NONE;
    char hex[SHA256_HEX_SIZE];
    int64_t chain = db_i64(res, i, 0);
    const char *stored = db_str(res, i, 1);
    const char *text = db_str(res, i, 2);
    bool first = walk->n == 0;

    if (!first && chain != walk->at + 1) {
        return broken(err, walk->at + 1, "is missing");
    }
    if (!stored || !text || strlen(stored) != SHA256_HEX_SIZE - 1) {
        return broken(err, chain, "has no digest");
    }
    /* What came before the oldest row may have been pruned: then it is where the proof begins. */
    if (!first || chain == 1) {
        if (hash_init(&h, HASH_SHA256, err) < 0 ||
            hash_update(&h, walk->hash, strlen(walk->hash), err) < 0 ||
            hash_update(&h, text, strlen(text), err) < 0 ||
            hash_final_hex(&h, hex, sizeof(hex), err) < 0) {
            return -1;
        }
        if (strcmp(hex, stored) != 0) {
            return broken(err, chain, "was changed, or one before it");
        }
    }
    if (walk->tip_hash && chain == walk->tip_at) {
        if (strcmp(walk->tip_hash, stored) != 0) {
            return broken(err, chain, "is not the one that was noted");
        }
        walk->tip_seen = true;
    }
    walk->first = first ? chain : walk->first;
    walk->at = chain;
    walk->n++;
    memcpy(walk->hash, stored, sizeof(walk->hash));
    return 0;
}

static int parse_tip(const char *tip, struct walk *walk, struct err *err)
{
    char *end = NULL;

    if (tip) {
        walk->tip_at = strtoll(tip, &end, 10);
        if (end == tip || *end != ':' || strlen(end + 1) != SHA256_HEX_SIZE - 1) {
            return err_set(err, ERR_PERMANENT, "usage",
                           "--tip takes NUMBER:DIGEST, as verify says");
        }
        walk->tip_hash = end + 1;
    }
    return 0;
}

int ctl_audit_verify(struct ctl *ctl, struct err *err)
{
    struct walk walk = {.at = 0};
    const char *tip = ctl_option(ctl, "--tip");
    int n = 1;

    if (parse_tip(tip, &walk, err) < 0 || ctl_open_db(ctl, err) < 0) {
        return -1;
    }
    while (n > 0) {
        CLEANUP(db_result_cleanup) PGresult *res = NULL;
        struct db_num at;
        const char *params[] = {db_num(&at, walk.at)};
        if (db_run(ctl->service.db, chain_sql, 1, params, &res, err) < 0) {
            return -1;
        }
        n = PQntuples(res);
        for (int i = 0; i < n; i++) {
            if (check_row(&walk, res, i, err) < 0) {
                return -1;
            }
        }
    }
    if (tip && !walk.tip_seen) {
        return broken(err, walk.tip_at, "that was noted is not there");
    }
    fprintf(stderr, "%lld rows are as they were written\n", (long long)walk.n);
    if (walk.n > 0) {
        printf("%lld:%s\n", (long long)walk.at, walk.hash);
    }
    return 0;
}

/* Prune -----------------------------------------------------------------------------------------*/

int ctl_audit_prune(struct ctl *ctl, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *age = ctl_option(ctl, "--older-than");
    int64_t ms = 0;
    struct db_num secs;

    if (!age || config_parse_duration(age, &ms) < 0 || ms < 86400000) {
        return err_set(err, ERR_PERMANENT, "usage",
                       "--older-than takes an age such as 400d, from 1d");
    }
    const char *params[] = {db_num(&secs, ms / 1000)};
    if (ctl_open_db(ctl, err) < 0 || db_acquire(ctl->service.db, &conn, err) < 0 ||
        db_begin(conn, err) < 0 ||
        db_query(conn, "SELECT set_config('docfleet.audit_prune', 'on', true)", 0, NULL, NULL,
                 err) < 0 ||
        /* The newest row stays, whatever its age: the next one hangs on it. */
        db_query(conn,
                 "WITH gone AS (DELETE FROM audit WHERE at < now() - make_interval(secs => $1::int)"
                 "   AND (chain IS NULL OR chain < (SELECT max(chain) FROM audit)) RETURNING 1)"
                 " SELECT count(*) FROM gone",
                 1, params, &res, err) < 0) {
        return -1;
    }
    int64_t n = db_i64(res, 0, 0);
    if (ctl_audit(conn, "audit.prune", NULL,
                  json_pack("{s:s, s:I}", "olderThan", age, "rows", (json_int_t)n), err) < 0 ||
        db_commit(conn, err) < 0) {
        return -1;
    }
    printf("%lld rows dropped\n", (long long)n);
    return 0;
}
