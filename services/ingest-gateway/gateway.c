/* SPDX-License-Identifier: Apache-2.0 */
#include "services/ingest-gateway/gateway.h"

#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "services/ingest-gateway/auth.h"
#include "services/ingest-gateway/limits.h"
#include "services/ingest-gateway/router.h"

#include <stdio.h>
#include <string.h>

void gateway_log_context(const struct request *req)
{
    char trace[33];

    log_context_clear();
    log_context_set("requestId", req->id);
    trace_id_text(&req->trace, trace);
    if (trace[0]) {
        log_context_set("trace", trace);
    }
}

void gateway_observe(struct gateway *gw UNUSED, const struct request *req, unsigned status,
                     uint64_t elapsed_us)
{
    const char *method = req->route ? req->route->method : "-";
    const char *route = !req->route                    ? "none"
                        : req->route == &console_route ? "console"
                                                       : req->route->pattern;
    char labels[160];

    snprintf(labels, sizeof(labels), "route=\"%s %s\",status=\"%u\"", method, route, status);
    metrics_inc("docfleet_http_requests_total", labels);
    snprintf(labels, sizeof(labels), "route=\"%s %s\"", method, route);
    metrics_observe("docfleet_http_request_duration_seconds", labels, (double)elapsed_us / 1e6);
    gateway_log_context(req);
    log_debug("request", kv_str("method", req->method), kv_str("route", route),
              kv_u64("status", status), kv_u64("us", elapsed_us));
    log_context_clear();
}

void gateway_log_error(struct gateway *gw UNUSED, const struct request *req, const struct err *err)
{
    gateway_log_context(req);
    log_write(LOG_WARN, "request failed", kv_str("method", req->method),
              kv_str("route", req->route ? req->route->pattern : ""), kv_str("code", err->code),
              kv_str("class", err_class_name(err->class)), kv_str("reason", err->msg), KV_END);
}

/* Credentials that are not known here cost a query, and so count when they are none. */
static int authenticate(struct gateway *gw, struct request *req, bool cached_only, struct err *err)
{
    int rc = auth_request(gw, req, true, err);

    if (rc <= 0 || cached_only) {
        return rc;
    }
    if (limits_before_login(req, err) < 0) {
        return -1;
    }
    rc = auth_request(gw, req, false, err);
    if (rc == 0 || strcmp(err->code, "unauthorized") == 0) {
        limits_after_login(req, rc == 0);
    }
    return rc;
}

void gateway_take_view(const struct request *req)
{
    enum scope need = req->route->scope;

    if (need == SCOPE_NONE) {
        db_view_take(DB_VIEW_LOGIN, NULL);
    } else {
        bool all = need == SCOPE_ADMIN || need == SCOPE_OPERATE;
        db_view_take(all ? DB_VIEW_ALL : DB_VIEW_USER, req->who.user_id);
    }
}

int gateway_authorize(struct gateway *gw, struct request *req, bool cached_only, struct err *err)
{
    enum scope need = req->route->scope;

    db_view_take(DB_VIEW_LOGIN, NULL);
    int rc = need == SCOPE_NONE ? 0 : authenticate(gw, req, cached_only, err);
    if (rc != 0 || (rc = limits_take(req, cached_only, err)) != 0 || need == SCOPE_NONE) {
        return rc;
    }
    if (!(req->who.scopes & (unsigned)need)) {
        return err_set(err, ERR_PERMANENT, "forbidden", "this needs the scope %s",
                       scope_name((unsigned)need));
    }
    gateway_take_view(req);
    return auth_limit(gw, req, cached_only, err);
}
