/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages to the webhook. The text was written by the transaction that changed the import's
 * health, so a kill loses none; one that cannot be delivered for a day is dropped, and says so.
 * The address is a secret: it is never logged.
 */
#include <jansson.h>
#include <string.h>

#include "libcommon/http.h"
#include "libcommon/jget.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "services/importer/importer.h"

#define TRIES 3 /* in one go; then with the next */
#define TIMEOUT_MS 10000U

static const char next_sql[] =
    "SELECT import_id, alert, alert_at < now() - interval '1 day', alert_at FROM import_source"
    " WHERE alert IS NOT NULL ORDER BY alert_at LIMIT 50";

/* Not what a later change of health has put there meanwhile. */
static const char sent_sql[] = "UPDATE import_source SET alert = NULL WHERE import_id = $1::uuid"
                               " AND alert_at = $2::timestamptz";

static int send_once(struct importer *imp, const char *body, struct err *err)
{
    static const char *const headers[] = {"Content-Type: application/json"};
    CLEANUP(http_response_done) struct http_response resp = HTTP_RESPONSE_INIT;
    struct http_request request = {.method = "POST",
                                   .url = importer_options.alert_url,
                                   .headers = headers,
                                   .n_headers = 1,
                                   .body = body,
                                   .body_len = strlen(body),
                                   .max_response = 65536,
                                   .timeout_ms = TIMEOUT_MS,
                                   .abort = &imp->service.store_abort};

    if (http_call(imp->http, &request, &resp, err) < 0) {
        return -1;
    }
    return resp.status / 100 == 2 ? 0 : http_error_from_status(err, resp.status, "the webhook");
}

static int send_text(struct importer *imp, const char *text, struct err *err)
{
    CLEANUP(json_cleanup) json_t *doc = json_pack("{s:s}", "text", text);
    CLEANUP(free_cleanup) char *body = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    int64_t wait_ms = importer_options.retry_ms;

    if (!body) {
        return err_nomem(err);
    }
    for (int i = 1;; i++) {
        if (send_once(imp, body, err) == 0) {
            return 0;
        }
        if (i == TRIES || err->class == ERR_PERMANENT ||
            service_wait(&imp->service, (int)wait_ms)) {
            return -1;
        }
        wait_ms *= 4;
    }
}

static void send_one(struct importer *imp, const PGresult *res, int row)
{
    struct err err = ERR_INIT;
    const char *params[] = {PQgetvalue(res, row, 0), PQgetvalue(res, row, 3)};

    if (importer_options.alert_url[0] && send_text(imp, PQgetvalue(res, row, 1), &err) < 0) {
        metrics_inc("docfleet_import_alerts_total", "outcome=\"failed\"");
        log_err(LOG_WARN, "an alert was not delivered", &err);
        if (!db_bool(res, row, 2)) {
            return;
        }
        log_error("an alert is dropped, it could not be delivered for a day",
                  kv_str("import", params[0]));
    } else if (importer_options.alert_url[0]) {
        metrics_inc("docfleet_import_alerts_total", "outcome=\"sent\"");
    }
    if (db_run(imp->service.db, sent_sql, 2, params, NULL, &err) < 0) {
        log_err(LOG_WARN, "an alert may be sent twice", &err);
    }
}

void alert_send_all(struct importer *imp)
{
    CLEANUP(db_result_cleanup) PGresult *res = NULL;
    struct err err = ERR_INIT;

    if (db_run(imp->service.db, next_sql, 0, NULL, &res, &err) < 0) {
        log_err(LOG_WARN, "alerts wait", &err);
        return;
    }
    for (int i = 0; i < PQntuples(res) && !atomic_load(&imp->service.stopping); i++) {
        send_one(imp, res, i);
    }
}
