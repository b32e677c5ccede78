/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl verify: do the rows and the store agree? On a fleet at work, too: what looks wrong is
 * asked for once more before it is told.
 */
#include "services/docfleetctl/backup.h"

#include "libcommon/jget.h"
#include "services/docfleetctl/client.h"

#include <stdio.h>
#include <string.h>

#define YOUNG_MS (24LL * 3600 * 1000) /* an upload at work stores its object before its row */

struct verify {
    struct ctl *ctl;
    struct db_conn *ask; /* sees the rows as they are now */
    bool deep, json;
    int64_t now_ms;
    int64_t checked, bytes, missing, wrong_size, wrong_hash, unread, orphans, young;
};

static int tell(struct verify *v, const char *what, const char *key, int64_t *count,
                struct err *err)
{
    (*count)++;
    if (!v->json) {
        printf("%s %s\n", what, api_clean(key));
        return 0;
    }
    CLEANUP(json_cleanup) json_t *line = json_pack("{s:s, s:s}", "problem", what, "key", key);
    return api_print_json(line, err);
}

static const char named_sql[] =
    "SELECT EXISTS (SELECT 1 FROM docfleet.file_version v JOIN docfleet.file f USING (file_id)"
    "   WHERE v.object_key = $1 AND f.state < 6) OR EXISTS (SELECT 1 FROM docfleet.artifact a"
    "   JOIN docfleet.file f USING (file_id) WHERE a.object_key = $1 AND f.state < 6)";

/* Is it still so? Files come and go while we look. */
static int named_now(struct verify *v, const char *key, bool *ret_named, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;

    if (db_query_dynamic(v->ask, named_sql, 1, &key, &res, err) < 0) {
        return -1;
    }
    *ret_named = db_bool(res, 0, 0);
    return 0;
}

struct reading {
    struct hash hash;
};

static int on_bytes(void *ctx, const char *data, size_t len, struct err *err)
{
    struct reading *r = ctx;

    return hash_update(&r->hash, data, len, err);
}

static int check_bytes(struct verify *v, const struct object *o, struct err *err)
{
    struct reading r = {.hash = HASH_NONE};
    struct err why = ERR_INIT;
    char sum[SHA256_HEX_SIZE];
    uint64_t got = 0;
    bool named = true;

    if (hash_init(&r.hash, HASH_SHA256, err) < 0) {
        return -1;
    }
    int rc = store_get_cb(v->ctl->service.store, o->key, STORE_WHOLE, o->row_bytes + 1, on_bytes,
                          &r, &got, &why);
    if (rc == 0 && hash_final_hex(&r.hash, sum, sizeof(sum), err) < 0) {
        hash_done(&r.hash);
        return -1;
    }
    hash_done(&r.hash);
    v->bytes += (int64_t)got;
    if (rc == 0 && got == o->row_bytes && (!o->sha256 || strcmp(sum, o->sha256) == 0)) {
        return 0;
    }
    if (rc < 0 && why.class == ERR_TRANSIENT) {
        *err = why; /* an outage is no finding */
        return -1;
    }
    if (named_now(v, o->key, &named, err) < 0 || !named) {
        return named ? -1 : 0;
    }
    return rc < 0 ? tell(v, "unread", o->key, &v->unread, err)
                  : tell(v, "wrong_hash", o->key, &v->wrong_hash, err);
}

static int check_missing(struct verify *v, const struct object *o, struct err *err)
{
    struct store_info info;
    struct err why = ERR_INIT;
    bool named;

    if (store_head(v->ctl->service.store, o->key, &info, &why) == 0) {
        return 0;
    }
    if (strcmp(why.code, "input_gone") != 0) {
        *err = why;
        return -1;
    }
    if (named_now(v, o->key, &named, err) < 0) {
        return -1;
    }
    return named ? tell(v, "missing", o->key, &v->missing, err) : 0;
}

static int on_object(void *ctx, const struct object *o, struct err *err)
{
    struct verify *v = ctx;
    bool named;

    if (atomic_load(&ctl_stop)) {
        return err_set(err, ERR_TRANSIENT, "aborted", "interrupted");
    }
    if (!o->named) {
        if (v->now_ms - o->mtime_ms < YOUNG_MS) {
            v->young++;
            return 0;
        }
        if (named_now(v, o->key, &named, err) < 0) {
            return -1;
        }
        return named ? 0 : tell(v, "orphan", o->key, &v->orphans, err);
    }
    v->checked++;
    if (!o->stored) {
        return check_missing(v, o, err);
    }
    if (o->bytes != o->row_bytes) {
        return named_now(v, o->key, &named, err) < 0 ? -1
               : named ? tell(v, "wrong_size", o->key, &v->wrong_size, err)
                       : 0;
    }
    return v->deep ? check_bytes(v, o, err) : 0;
}

static int summary(struct verify *v, struct err *err)
{
    int64_t damage = v->missing + v->wrong_size + v->wrong_hash + v->unread;

    v->ctl->exit = damage > 0 ? CTL_FAILED : v->orphans > 0 ? CTL_PARTLY : CTL_OK;
    if (v->json) {
        CLEANUP(json_cleanup)
        json_t *doc = json_pack(
            "{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "ok", (int)(damage == 0), "deep",
            (int)v->deep, "checked", (json_int_t)v->checked, "bytesRead", (json_int_t)v->bytes,
            "missing", (json_int_t)v->missing, "wrongSize", (json_int_t)v->wrong_size, "wrongHash",
            (json_int_t)v->wrong_hash, "unread", (json_int_t)v->unread, "orphans",
            (json_int_t)v->orphans, "young", (json_int_t)v->young);
        return doc ? api_print_json(doc, err) : err_nomem(err);
    }
    printf("%lld objects checked%s: %lld missing, %lld of wrong size, %lld of wrong hash, %lld"
           " unreadable; %lld orphans, %lld younger than a day\n",
           (long long)v->checked, v->deep ? " byte for byte" : "", (long long)v->missing,
           (long long)v->wrong_size, (long long)v->wrong_hash, (long long)v->unread,
           (long long)v->orphans, (long long)v->young);
    return 0;
}

int ctl_verify(struct ctl *ctl, struct err *err)
{
    CLEANUP(db_conn_cleanup) struct db_conn *conn = NULL;
    CLEANUP(db_conn_cleanup) struct db_conn *ask = NULL;
    struct verify v = {.ctl = ctl,
                       .deep = ctl_flag(ctl, "--deep"),
                       .json = ctl_flag(ctl, "--json"),
                       .now_ms = clock_wall_ms()};

    ctl_catch_signals();
    if (backup_open(ctl, err) < 0 || db_acquire(ctl->service.db, &conn, err) < 0 ||
        db_acquire(ctl->service.db, &ask, err) < 0 ||
        db_script(conn, "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0",
                  5000, err) < 0 ||
        db_script(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", 5000, err) < 0) {
        return -1;
    }
    v.ask = ask;
    return objects_walk(conn, ctl->service.store, on_object, &v, err) < 0 ? -1 : summary(&v, err);
}
