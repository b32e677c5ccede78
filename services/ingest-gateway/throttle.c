/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/throttle.h"

#include "libcommon/db.h"
#include "libcommon/sha256.h"
#include "services/ingest-gateway/gateway.h"
#include "services/ingest-gateway/origin.h"

#include <stdio.h>
#include <string.h>

/* Tries at once, and seconds for one more. The pair stops a guesser; the account's own bucket is
 * wide, so that others can hardly keep its owner out. */
#define PAIR_TRIES "5"
#define PAIR_SECONDS "60"
#define ACCOUNT_TRIES "100"
#define ACCOUNT_SECONDS "10"
#define ADDRESS_TRIES "50"
#define ADDRESS_SECONDS "10"

/* Rows in one order, so that two replicas never wait for each other in a circle. */
static const char try_sql[] =
    "WITH b (key, tries, secs) AS (SELECT * FROM (VALUES"
    "   ($1::text, " PAIR_TRIES "::real, " PAIR_SECONDS "::real),"
    "   ($2::text, " ACCOUNT_TRIES ", " ACCOUNT_SECONDS "),"
    "   ($3::text, " ADDRESS_TRIES ", " ADDRESS_SECONDS ")) v ORDER BY 1),"
    " t AS (INSERT INTO login_throttle AS t (key, level) SELECT key, 1 FROM b ORDER BY key"
    "   ON CONFLICT (key) DO UPDATE SET at = now(),"
    "     level = greatest(0, t.level - extract(epoch FROM now() - t.at)::real"
    "         / (SELECT secs FROM b WHERE b.key = t.key))"
    "       + CASE WHEN greatest(0, t.level - extract(epoch FROM now() - t.at)::real"
    "         / (SELECT secs FROM b WHERE b.key = t.key)) + 1"
    "         <= (SELECT tries FROM b WHERE b.key = t.key) THEN 1 ELSE 0 END,"
    "     refused = greatest(0, t.level - extract(epoch FROM now() - t.at)::real"
    "         / (SELECT secs FROM b WHERE b.key = t.key)) + 1"
    "         > (SELECT tries FROM b WHERE b.key = t.key)"
    "   RETURNING key, level, refused)"
    " SELECT ceil(max((t.level + 1 - b.tries) * b.secs))::bigint FROM t JOIN b USING (key)"
    " WHERE t.refused";

static const char passed_sql[] =
    "WITH gone AS (DELETE FROM login_throttle WHERE key = $1)"
    "UPDATE login_throttle SET level = greatest(0, level - 1) WHERE key IN ($2, $3)";

struct keys {
    char pair[SHA256_HEX_SIZE + 2];
    char account[SHA256_HEX_SIZE + 2];
    char address[SHA256_HEX_SIZE + 2];
};

static int make_key(char kind, const char *text, char out[SHA256_HEX_SIZE + 2], struct err *err)
{
    out[0] = kind;
    out[1] = ':';
    return sha256_hex(text, strlen(text), out + 2, err);
}

static int make_keys(const struct request *req, const char *account, struct keys *keys,
                     struct err *err)
{
    char net[ORIGIN_ADDRESS_SIZE];
    char both[600];

    origin_network(req->address, net);
    snprintf(both, sizeof(both), "%s %s", net, account);
    return make_key('p', both, keys->pair, err) < 0 ||
                   make_key('u', account, keys->account, err) < 0 ||
                   make_key('a', net, keys->address, err) < 0
               ? -1
               : 0;
}

int throttle_try(struct request *req, const char *account, int64_t *ret_wait_s, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct keys keys;

    if (make_keys(req, account, &keys, err) < 0) {
        return -1;
    }
    const char *params[] = {keys.pair, keys.account, keys.address};
    if (db_run(req->gw->db, try_sql, 3, params, &res, err) < 0) {
        return -1;
    }
    if (!db_str(res, 0, 0)) {
        return 0;
    }
    *ret_wait_s = db_i64(res, 0, 0) > 1 ? db_i64(res, 0, 0) : 1;
    return err_set(err, ERR_PERMANENT, "too_many_tries",
                   "too many sign-ins failed; the next is possible in %lld s",
                   (long long)*ret_wait_s);
}

int throttle_passed(struct request *req, const char *account, struct err *err)
{
    struct keys keys;

    if (make_keys(req, account, &keys, err) < 0) {
        return -1;
    }
    const char *params[] = {keys.pair, keys.account, keys.address};
    return db_run(req->gw->db, passed_sql, 3, params, NULL, err);
}
