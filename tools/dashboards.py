#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboards of docfleet: one table of panels, and the JSON made of it.

usage: dashboards.py [FOLDER]      writes helm/docfleet/files/dashboards (or FOLDER); `make dashboards`

A panel is P(title, unit, (legend, expression)...). N stands for the selector of the installation, S for
the same and the chosen stages; every expression may use $__rate_interval and $__range.
"""
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "helm", "docfleet", "files", "dashboards")
N = 'namespace=~"$namespace"'
S = N + ',stage=~"$stage"'


def P(title, unit, *series, kind="timeseries", width=8, note="", stack=False, top=None):
    return {"title": title, "unit": unit, "series": series, "kind": kind, "width": width, "note": note,
            "stack": stack, "max": top}


def quantiles(metric, by="stage", sel=S):
    return tuple((f"{{{{{by}}}}} p{q}", f"histogram_quantile(0.{q}, sum by ({by}, le) (rate("
                  f"{metric}_bucket{{{sel}}}[$__rate_interval])))") for q in (50, 95))


BOARDS = {
    "fleet": ("docfleet: fleet", [
        ("Now", [
            P("Dependencies away", "none", ("away", f'count(docfleet_dependency_up{{{N}}} == 0) or vector(0)'),
              kind="stat", width=4, note="Services that cannot reach one of their servers or providers."),
            P("Processes", "none", ("up", f"count(docfleet_build_info{{{N}}})"), kind="stat", width=4),
            P("Files a minute", "none",
              ("files", f'sum(rate(docfleet_files_total{{{N},stage="ai"}}[$__rate_interval])) * 60'),
              kind="stat", width=4, note="Files that ended their main pipeline."),
            P("Open dead letters", "none", ("letters", f"sum(docfleet_dead_letters{{{N}}}) or vector(0)"),
              kind="stat", width=4),
            P("Oldest waiting task", "s", ("age", f"max(docfleet_queue_oldest_seconds{{{N}}})"),
              kind="stat", width=4),
            P("Canary", "s", ("time", f"max(docfleet_canary_seconds{{{N}}})"), kind="stat", width=4,
              note="How long a small picture took through all stages; see docfleetctl canary."),
        ]),
        ("Work", [
            P("Waiting tasks", "short",
              ("{{stage}}", f'sum by (stage) (docfleet_queue_depth{{{S},state="pending"}})')),
            P("Age of the oldest task", "s", ("{{stage}}", f"max by (stage) (docfleet_queue_oldest_seconds{{{S}}})")),
            P("Files that ended a stage", "cps",
              ("{{stage}} {{outcome}}",
               f"sum by (stage, outcome) (rate(docfleet_files_total{{{S}}}[$__rate_interval]))")),
            P("Slots in use", "percentunit",
              ("{{stage}}", f"sum by (stage) (docfleet_inflight{{{S}}}) / sum by (stage) (docfleet_slots{{{S}}})"),
              top=1),
            P("Live workers", "short", ("{{stage}}", f"max by (stage) (docfleet_workers_live{{{S}}})")),
            P("Dead letters by reason", "short",
              ("{{stage}} {{reason}}", f"sum by (stage, reason) (docfleet_dead_letters{{{S}}}) > 0")),
        ]),
        ("Canary", [
            P("Canary by step", "s", ("{{step}}", f"max by (step) (docfleet_canary_step_seconds{{{N}}})"), stack=True),
            P("Canary against its objective", "s", ("time", f"max(docfleet_canary_seconds{{{N}}})"),
              ("objective", f"max(docfleet_canary_objective_seconds{{{N}}})")),
            P("Canary runs", "short",
              ("{{outcome}}", f"sum by (outcome) (increase(docfleet_canary_runs_total{{{N}}}[$__range]))"),
              kind="stat"),
        ]),
        ("Processes", [
            P("Dependencies", "none",
              ("{{job}} {{dependency}}", f"min by (job, dependency) (docfleet_dependency_up{{{N}}})"),
              width=12, top=1, note="1 up, 0 away."),
            P("Breakers", "none",
              ("{{job}} {{dependency}}", f"max by (job, dependency) (docfleet_breaker_state{{{N}}})"),
              width=12, top=2, note="0 closed, 1 half-open, 2 open."),
            P("Processor", "short",
              ("{{job}}", f"sum by (job) (rate(process_cpu_seconds_total{{{N}}}[$__rate_interval]))"),
              note="Cores of the services themselves; children of the jail come on top."),
            P("Memory", "bytes", ("{{job}}", f"sum by (job) (process_resident_memory_bytes{{{N}}})")),
            P("Open descriptors", "short", ("{{job}}", f"max by (job) (process_open_fds{{{N}}})")),
            P("Database connections", "short",
              ("{{job}} {{pool}}",
               f'sum by (job, pool) (docfleet_db_connections{{{N},state="used"}})')),
            P("Waits for a connection", "cps",
              ("{{job}} {{pool}}",
               f"sum by (job, pool) (rate(docfleet_db_waits_total{{{N}}}[$__rate_interval]))")),
            P("Free scratch space", "bytes", ("{{job}}", f"min by (job) (docfleet_scratch_free_bytes{{{N}}})")),
            P("Certificates end in", "s",
              ("{{job}} {{use}}",
               f"min by (job, use) (docfleet_certificate_expiry_seconds{{{N}}}) - time()")),
            P("Versions", "none",
              ("{{job}} {{version}} {{commit}}",
               f"count by (job, version, commit) (docfleet_build_info{{{N}}})"), kind="table", width=16),
        ]),
    ]),
    "stage": ("docfleet: stages", [
        ("Speed", [
            P("Units ended", "cps",
              ("{{stage}}", f"sum by (stage) (rate(docfleet_stage_duration_seconds_count{{{S}}}[$__rate_interval]))")),
            P("Time of a unit", "s", *quantiles("docfleet_stage_duration_seconds")),
            P("From dispatch to claim", "s", *quantiles("docfleet_stage_hop_seconds")),
            P("Choosing a batch", "s", *quantiles("docfleet_dispatch_pick_seconds"),
              note="Dispatcher: choosing work orders and marking them as sent."),
            P("Work orders sent", "cps",
              ("{{stage}}", f"sum by (stage) (rate(docfleet_dispatched_total{{{S}}}[$__rate_interval]))")),
            P("Kafka lag", "short", ("{{stage}}", f"sum by (stage) (docfleet_kafka_lag{{{S}}})"),
              note="Orders sent and not claimed yet: the credit keeps it small, whatever waits in Postgres."),
        ]),
        ("Queue", [
            P("Waiting and out", "short",
              ("{{stage}} {{state}}", f"sum by (stage, state) (docfleet_queue_depth{{{S}}})")),
            P("Credit", "short", ("{{stage}} {{kind}}", f"sum by (stage, kind) (docfleet_credit{{{S}}})")),
            P("Workers and slots", "short",
              ("{{stage}} workers", f"max by (stage) (docfleet_workers_live{{{S}}})"),
              ("{{stage}} slots", f"max by (stage) (docfleet_worker_slots{{{S}}})")),
            P("Paused", "none", ("{{stage}}", f"max by (stage) (docfleet_stage_paused{{{S}}})"), top=1),
            P("Leaders", "none", ("{{stage}} {{shard}}", f"sum by (stage, shard) (docfleet_leader{{{N}}})"),
              top=2, note="1 each: more is harmless, none is not."),
            P("Units running", "short", ("{{stage}}", f"sum by (stage) (docfleet_inflight{{{S}}})")),
        ]),
        ("Trouble", [
            P("Put back by class", "cps",
              ("{{stage}} {{class}}",
               f"sum by (stage, class) (rate(docfleet_retries_total{{{S}}}[$__rate_interval]))")),
            P("Failed files", "percentunit",
              ("{{stage}}",
               f'sum by (stage) (rate(docfleet_files_total{{{S},outcome="failed"}}[$__rate_interval]))'
               f" / sum by (stage) (rate(docfleet_files_total{{{S}}}[$__rate_interval])) > 0")),
            P("Children that did not end well", "cps",
              ("{{stage}} {{reason}}",
               f"sum by (stage, reason) (rate(docfleet_jail_kills_total{{{S}}}[$__rate_interval]))")),
            P("Units lost with their worker", "short",
              ("{{stage}}", f"sum by (stage) (increase(docfleet_lease_takeovers_total{{{S}}}[$__range]))"),
              ("{{stage}} dropped by the late worker",
               f"sum by (stage) (increase(docfleet_leases_lost_total{{{S}}}[$__range]))")),
            P("Orders sent again, skipped, handed back", "cps",
              ("{{stage}} sent again",
               f"sum by (stage) (rate(docfleet_sweeper_reemits_total{{{S}}}[$__rate_interval]))"),
              ("{{stage}} skipped at the claim",
               f"sum by (stage) (rate(docfleet_claims_stale_total{{{S}}}[$__rate_interval]))"),
              ("{{stage}} handed back",
               f"sum by (stage) (rate(docfleet_handed_back_total{{{S}}}[$__rate_interval]))"),
              ("{{stage}} unreadable",
               f"sum by (stage) (rate(docfleet_records_skipped_total{{{S}}}[$__rate_interval]))")),
            P("Jail degraded", "none", ("{{stage}}", f"max by (stage) (docfleet_jail_degraded{{{S}}})"), top=1),
        ]),
    ]),
    "uploads": ("docfleet: uploads and API", [
        ("Requests", [
            P("Requests by status", "reqps",
              ("{{status}}", f"sum by (status) (rate(docfleet_http_requests_total{{{N}}}[$__rate_interval]))"),
              stack=True),
            P("Share of 5xx", "percentunit",
              ("5xx", f'(sum(rate(docfleet_http_requests_total{{{N},status=~"5.."}}[$__rate_interval])) or vector(0))'
               f" / sum(rate(docfleet_http_requests_total{{{N}}}[$__rate_interval]))"), top=1),
            P("Busiest routes", "reqps",
              ("{{route}}",
               f"topk(10, sum by (route) (rate(docfleet_http_requests_total{{{N}}}[$__rate_interval])))")),
            P("Time of a request", "s", *quantiles("docfleet_http_request_duration_seconds", "route", N), width=16),
            P("Row security", "none", ("least of all gateways", f"min(docfleet_row_security{{{N}}})"), kind="stat"),
            P("Open event streams", "short", ("streams", f"sum(docfleet_event_streams{{{N}}})")),
            P("Refused for a quota", "cps",
              ("{{job}} {{quota}}",
               f"sum by (job, quota) (rate(docfleet_quota_exceeded_total{{{N}}}[$__rate_interval]))"),
              note="Files and bytes at the gateway and the importer, pages and money in the stages."),
            P("Connections", "short",
              ("{{listener}}", f"sum by (listener) (docfleet_http_connections{{{N}}})"),
              ("{{listener}} at most", f"sum by (listener) (docfleet_http_connections_max{{{N}}})")),
            P("Connections cut off", "cps",
              ("{{reason}}",
               f"sum by (reason) (rate(docfleet_http_connections_cut_total{{{N}}}[$__rate_interval]))"),
              note="address: too many of one; headers: too slow, or idle; slow: a body or a download."),
            P("Refused for a limit", "reqps",
              ("{{bucket}}", f"sum by (bucket) (rate(docfleet_http_limited_total{{{N}}}[$__rate_interval]))"),
              note="Too many requests of one key, account or address, or too many refused credentials of one address."),
        ]),
        ("Uploads", [
            P("Bytes received", "Bps",
              ("{{protocol}}",
               f"sum by (protocol) (rate(docfleet_upload_bytes_total{{{N}}}[$__rate_interval]))")),
            P("Upload requests", "reqps",
              ("{{status}}", f'sum by (status) (rate(docfleet_http_requests_total{{{N},'
               'route="POST /api/v1/datasets/{id}/files"}[$__rate_interval]))')),
            P("Events published", "cps",
              ("events", f"sum(rate(docfleet_events_published_total{{{N}}}[$__rate_interval]))")),
            P("Objects deleted", "cps",
              ("{{reason}}",
               f"sum by (reason) (rate(docfleet_objects_deleted_total{{{N}}}[$__rate_interval]))")),
            P("Counts that do not add up", "none", ("mismatches", f"max(docfleet_ledger_mismatch{{{N}}})"),
              kind="stat"),
            P("Last sweep", "s", ("ago", f"time() - max(docfleet_cleaner_last_success_seconds{{{N}}})"),
              kind="stat"),
            P("Last backup", "s", ("ago", f"time() - max(docfleet_backup_last_success_seconds{{{N}}})"),
              kind="stat"),
        ]),
        ("Scheduled imports", [
            P("Imports by state", "none", ("{{state}}", f"sum by (state) (docfleet_imports{{{N}}})")),
            P("Oldest success", "s", ("age", f"max(docfleet_import_success_age_seconds{{{N}}})")),
            P("Runs, objects and messages", "short",
              ("runs {{outcome}}", f"sum by (outcome) (increase(docfleet_import_runs_total{{{N}}}[$__range]))"),
              ("objects {{outcome}}",
               f"sum by (outcome) (increase(docfleet_import_objects_total{{{N}}}[$__range]))"),
              ("messages {{outcome}}",
               f"sum by (outcome) (increase(docfleet_import_alerts_total{{{N}}}[$__range]))"),
              note="Of importers that run as a service; one that a CronJob starts is gone before it is scraped."),
        ]),
    ]),
    "providers": ("docfleet: providers and cost", [
        ("Cost", [
            P("Money spent", "short",
              ("{{provider}}", f"sum by (provider) (increase(docfleet_provider_cost_total{{{N}}}[$__range]))"),
              kind="stat", note="By the prices in DOCFLEET_AI_PROMPT_PRICE and DOCFLEET_AI_COMPLETION_PRICE."),
            P("Money an hour", "short",
              ("{{provider}}",
               f"sum by (provider) (rate(docfleet_provider_cost_total{{{N}}}[$__rate_interval])) * 3600")),
            P("Cost of a file", "short",
              ("{{provider}}",
               f"sum by (provider) (rate(docfleet_provider_cost_total{{{N}}}[$__rate_interval])) / on () group_left ()"
               f' (sum(rate(docfleet_files_total{{{N},stage="ai",outcome="done"}}[$__rate_interval])) > 0)')),
            P("Tokens", "short",
              ("{{provider}} {{kind}}",
               f"sum by (provider, kind) (rate(docfleet_provider_tokens_total{{{N}}}[$__rate_interval]))"),
              width=12),
            P("Calls", "cps",
              ("{{provider}} {{outcome}}",
               f"sum by (provider, outcome) (rate(docfleet_provider_calls_total{{{N}}}[$__rate_interval]))"),
              width=12),
        ]),
        ("Trouble", [
            P("Throttled calls", "percentunit",
              ("{{provider}}",
               f"sum by (provider) (rate(docfleet_provider_throttles_total{{{N}}}[$__rate_interval]))"
               f" / sum by (provider) (rate(docfleet_provider_calls_total{{{N}}}[$__rate_interval]))"), top=1),
            P("Providers reached", "none",
              ("{{dependency}}",
               f'min by (dependency) (docfleet_dependency_up{{{N},dependency=~"ai|textract"}})'), top=1),
            P("Breaker openings", "short",
              ("{{dependency}}",
               f"sum by (dependency) (increase(docfleet_breaker_openings_total{{{N}}}[$__range]))")),
            P("Kafka producers made anew", "short",
              ("{{job}}", f"sum by (job) (increase(docfleet_producer_renewals_total{{{N}}}[$__range]))")),
        ]),
    ]),
    "fairness": ("docfleet: fairness", [
        ("Who gets what", [
            P("Share of the user that gets most", "percentunit",
              ("{{stage}}", f"max by (stage) (docfleet_fairness_top_share{{{S}}})"), top=1, width=12,
              note="Alone in the queue a user may have everything: read it together with the users who wait."),
            P("Jain index", "percentunit", ("{{stage}}", f"min by (stage) (docfleet_fairness_jain{{{S}}})"),
              top=1, width=12, note="1: users with backlog got the same, by cost and weight."),
            P("Users who wait", "short", ("{{stage}}", f"sum by (stage) (docfleet_queue_users{{{S}}})")),
            P("Waiting tasks", "short",
              ("{{stage}}", f'sum by (stage) (docfleet_queue_depth{{{S},state="pending"}})')),
            P("Waiting tasks a user", "short",
              ("{{stage}}", f'sum by (stage) (docfleet_queue_depth{{{S},state="pending"}})'
               f" / (sum by (stage) (docfleet_queue_users{{{S}}}) > 0)")),
            P("What a single file takes", "s", ("canary", f"max(docfleet_canary_seconds{{{N}}})"),
              ("its objective", f"max(docfleet_canary_objective_seconds{{{N}}})"), width=12,
              note="The canary is a user with one file: what it waits, others wait."),
            P("Credit in use", "percentunit",
              ("{{stage}}", f'sum by (stage) (docfleet_credit{{{S},kind="used"}})'
               f' / sum by (stage) (docfleet_credit{{{S},kind="granted"}})'), width=12),
        ]),
    ]),
}


def variable(name, label, query=None):
    if query is None:
        return {"name": name, "label": label, "type": "datasource", "query": "prometheus", "refresh": 1}
    return {"name": name, "label": label, "type": "query", "query": query, "definition": query,
            "datasource": {"type": "prometheus", "uid": "${datasource}"}, "refresh": 2, "includeAll": True,
            "allValue": ".*", "multi": True, "sort": 1, "current": {"text": "All", "value": "$__all"}}


def panel(number, spec, x, y):
    source = {"type": "prometheus", "uid": "${datasource}"}
    instant = spec["kind"] in ("stat", "table")
    targets = [{"refId": chr(65 + n), "expr": expr, "legendFormat": legend, "datasource": source,
                "instant": instant, "range": not instant, **({"format": "table"} if spec["kind"] == "table" else {})}
               for n, (legend, expr) in enumerate(spec["series"])]
    defaults = {"unit": spec["unit"], "min": 0, **({"max": spec["max"]} if spec["max"] else {})}
    if spec["kind"] == "timeseries":
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "lineWidth": 1,
                              "stacking": {"mode": "normal" if spec["stack"] else "none"}}
    options = {"timeseries": {"legend": {"displayMode": "list", "placement": "bottom"},
                              "tooltip": {"mode": "multi", "sort": "desc"}},
               "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none"},
               "table": {}}[spec["kind"]]
    return {"id": number, "title": spec["title"], "description": spec["note"], "type": spec["kind"],
            "datasource": source, "targets": targets, "options": options,
            "gridPos": {"h": 4 if spec["kind"] == "stat" else 8, "w": spec["width"], "x": x, "y": y},
            "fieldConfig": {"defaults": defaults, "overrides": []}}


def board(name):
    title, rows = BOARDS[name]
    panels, number, y = [], 1, 0
    for row_title, specs in rows:
        panels.append({"id": number, "title": row_title, "type": "row", "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
        number, y, x, height = number + 1, y + 1, 0, 0
        for spec in specs:
            if x + spec["width"] > 24:
                x, y, height = 0, y + height, 0
            panels.append(panel(number, spec, x, y))
            number, x = number + 1, x + spec["width"]
            height = max(height, panels[-1]["gridPos"]["h"])
        y += height
    uses_stage = "$stage" in json.dumps(panels)
    variables = [variable("datasource", "Data source"),
                 variable("namespace", "Namespace", "label_values(docfleet_build_info, namespace)")]
    if uses_stage:
        variables.append(variable("stage", "Stage", 'label_values(docfleet_leader{namespace=~"$namespace"}, stage)'))
    return {"uid": f"docfleet-{name}", "title": title, "tags": ["docfleet"], "schemaVersion": 38, "version": 1,
            "editable": True, "timezone": "browser", "refresh": "30s", "graphTooltip": 1,
            "time": {"from": "now-1h", "to": "now"}, "templating": {"list": variables},
            "links": [{"type": "dashboards", "tags": ["docfleet"], "asDropdown": True, "title": "docfleet",
                       "includeVars": True, "keepTime": True}],
            "annotations": {"list": []}, "panels": panels}


def render(name):
    return json.dumps(board(name), indent=1) + "\n"


def expressions(name):
    """(panel title, expression as Prometheus takes it) of a dashboard, for checks."""
    fill = {"$namespace": ".*", "$stage": ".*", "$__rate_interval": "1m", "$__range": "5m"}
    for one in board(name)["panels"]:
        for target in one.get("targets", ()):
            expr = target["expr"]
            for variable_name, value in fill.items():
                expr = expr.replace(variable_name, value)
            yield one["title"], expr


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else FOLDER
    os.makedirs(folder, exist_ok=True)
    for name in BOARDS:
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as f:
            f.write(render(name))


if __name__ == "__main__":
    main()
