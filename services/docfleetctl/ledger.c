/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docfleetctl ledger: do the counts of batches and datasets add up? The question itself is the
 * function ledger_mismatch of the schema, as the cleaner's metric and the tests ask it.
 */
#include <stdio.h>

#include "libcommon/states.h"
#include "services/docfleetctl/client.h"

static const char all_sql[] =
    "SELECT what, id, state, ledger, truth FROM ledger_mismatch() ORDER BY what, id, state";

static int print_json(const PGresult *res, struct err *err)
{
    CLEANUP(json_cleanup) json_t *items = json_array();

    for (int i = 0; i < PQntuples(res); i++) {
        json_array_append_new(
            items,
            json_pack("{s:s, s:s, s:s?, s:I, s:I}", "what", db_str(res, i, 0), "id",
                      db_str(res, i, 1), "state",
                      db_str(res, i, 2) ? file_state_name((int)db_i64(res, i, 2)) : NULL, "ledger",
                      (json_int_t)db_i64(res, i, 3), "truth", (json_int_t)db_i64(res, i, 4)));
    }
    CLEANUP(free_cleanup) char *text = items ? json_dumps(items, JSON_COMPACT) : NULL;
    if (!text) {
        return err_nomem(err);
    }
    printf("%s\n", text);
    return 0;
}

int ctl_ledger(struct ctl *ctl, struct err *err)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    bool json = ctl_flag(ctl, "--json");

    if (ctl_open_db(ctl, err) < 0 || db_run(ctl->service.db, all_sql, 0, NULL, &res, err) < 0 ||
        (json && print_json(res, err) < 0)) {
        return -1;
    }
    int n = PQntuples(res);
    for (int i = 0; !json && i < n; i++) {
        const char *state =
            db_str(res, i, 2) ? file_state_name((int)db_i64(res, i, 2)) : "all states";
        printf("%s  %s  %s: counted %s, are %s\n", db_str(res, i, 0), db_str(res, i, 1), state,
               db_str(res, i, 3), db_str(res, i, 4));
    }
    if (n > 0) {
        return err_set(err, ERR_UNKNOWN, "ledger", "%d counts do not add up", n);
    }
    if (!json) {
        printf("all counts add up\n");
    }
    return 0;
}
