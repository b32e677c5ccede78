/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two statements on table effect, and the patience of the second.
 */
#include "libcommon/effect.h"

#include <string.h>
#include <time.h>

#include "libcommon/sha256.h"

#define KEEP_TRIES 5
#define KEEP_PAUSE_NS 400000000L

static const char find_sql[] = "SELECT response FROM effect WHERE idem_key = $1 AND kind = $2";
static const char keep_sql[] = "INSERT INTO effect (idem_key, kind, response)"
                               " VALUES ($1, $2, $3::bytea) ON CONFLICT DO NOTHING";

int effect_find(struct db *db, const char *kind, const char *key, struct buf *ret, bool *ret_found,
                struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    const char *params[] = {key, kind};
    size_t len = 0;

    if (db_run(db, find_sql, 2, params, &res, err) < 0) {
        return -1;
    }
    if (PQntuples(res) == 0) {
        *ret_found = false;
        return 0;
    }
    unsigned char *data = PQunescapeBytea((const unsigned char *)PQgetvalue(res, 0, 0), &len);
    if (!data) {
        return err_nomem(err);
    }
    const int r = buf_append(ret, data, len, err);
    PQfreemem(data);
    if (r == 0) {
        *ret_found = true;
    }
    return r;
}

int effect_keep(struct db *db, const atomic_bool *cancel, const char *kind, const char *key,
                const void *data, size_t len, struct err *err)
{
    CLEANUP(free_cleanup) char *text = malloc(2 * len + 3);
    const char *params[] = {key, kind, text};

    if (!text) {
        return err_nomem(err);
    }
    memcpy(text, "\\x", 2);
    hex_encode(data, len, text + 2);
    for (int i = 0; i < KEEP_TRIES; i++) {
        if (i) {
            nanosleep(&(struct timespec){.tv_nsec = KEEP_PAUSE_NS}, NULL);
        }
        if (db_run(db, keep_sql, 3, params, NULL, err) == 0) {
            return 0;
        }
        if (err->class != ERR_TRANSIENT || (cancel && atomic_load(cancel))) {
            break;
        }
    }
    return -1;
}
