# SPDX-License-Identifier: Apache-2.0
"""Alerts, runbooks and dashboards fit each other and the metrics there are."""
import glob
import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from lib import rig

sys.path.insert(0, f"{rig.ROOT}/tools")
import dashboards  # noqa: E402  pylint: disable=wrong-import-position
import metrics_table  # noqa: E402  pylint: disable=wrong-import-position
import observability_docs  # noqa: E402  pylint: disable=wrong-import-position

ALERTS = f"{rig.ROOT}/helm/docfleet/files/alerts.yaml"
TESTS = sorted(glob.glob(f"{rig.ROOT}/deploy/prometheus/tests/*.yaml"))
# what scraping adds, and what a histogram has
FOREIGN = {"job", "instance", "namespace", "le"}


def promtool(*args):
    run = subprocess.run([rig.fetched("prometheus") + "/usr/bin/promtool", *args], text=True,
                         capture_output=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def rules():
    with open(ALERTS, encoding="utf-8") as f:
        return [rule for group in yaml.safe_load(f)["groups"] for rule in group["rules"]]


def used(expr):
    """({metric: labels of its selectors}, labels of by, without and on) of an expression."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', '""', expr)
    metrics = {}
    for name, selector in re.findall(r"\b((?:docfleet|process)_[a-z_]+)(?:\{([^}]*)\})?", bare):
        metrics.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
    grouped = {label.strip() for found in re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", bare)
               for label in found.split(",") if label.strip()}
    return metrics, grouped


def wrong_names(expr):
    table, wrong, known = metrics_table.read(), [], set(FOREIGN)
    metrics, grouped = used(expr)
    for name, labels in metrics.items():
        metric = table.get(name) or table.get(re.sub(r"_(bucket|sum|count)$", "", name))
        if not metric or (name != metric.name and metric.type != "histogram") or \
                (name == metric.name and metric.type == "histogram"):
            wrong.append(f"{name} is not exported")
            continue
        known |= set(metric.labels)
        wrong += [f"{name} has no label {label}" for label in labels - set(metric.labels) - FOREIGN]
    return wrong + [f"nothing in it has the label {label}" for label in grouped - known]


def test_wrong_names_are_found():
    assert not wrong_names('sum by (stage) (rate(docfleet_files_total{outcome="a=b"}[5m]))')
    assert wrong_names("docfleet_file_total") == ["docfleet_file_total is not exported"]
    assert wrong_names("docfleet_stage_duration_seconds") and wrong_names("docfleet_files_total_sum")
    assert wrong_names('docfleet_files_total{user="x"}') == ["docfleet_files_total has no label user"]
    assert wrong_names("sum by (shard) (docfleet_files_total)") == ["nothing in it has the label shard"]


def test_alerts_are_valid_and_tested():
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", *TESTS)


def test_each_alert_is_whole():
    """Names, severity, words, a section of the runbooks, and a unit test that sees it fire and not."""
    with open(f"{rig.ROOT}/docs/runbooks.md", encoding="utf-8") as f:
        sections = dict(re.findall(r"(?ms)^## (\w+)\n(.*?)(?=^## |\Z)", f.read()))
    tested = {}
    for path in TESTS:
        with open(path, encoding="utf-8") as f:
            for test in yaml.safe_load(f)["tests"]:
                for check in test["promql_expr_test"]:
                    name = re.search(r'alertname="(\w+)"', check["expr"]).group(1)
                    tested.setdefault(name, set()).add(bool(check["exp_samples"]))
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) and set(names) == set(sections) == set(tested)
    for rule in rules():
        name, notes = rule["alert"], rule["annotations"]
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert notes["summary"] and notes["description"], name
        assert notes["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
        assert all(f"**{part}**" in sections[name] for part in ("Means", "See", "Do")), name
        assert tested[name] == {True, False}, f"{name}: one test that fires, one that does not"
        assert not wrong_names(rule["expr"]), (name, wrong_names(rule["expr"]))


@pytest.mark.parametrize("name", dashboards.BOARDS)
def test_dashboard(name, tmp_path):
    """The file is what the table says, names exist, panels do not overlap, and promtool reads it all."""
    with open(f"{dashboards.FOLDER}/{name}.json", encoding="utf-8") as f:
        text = f.read()
    assert text == dashboards.render(name), "old: make dashboards"
    board = json.loads(text)
    assert {v["name"] for v in board["templating"]["list"]} >= {"datasource", "namespace"}
    places = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"])
                 for y in range(grid["y"], grid["y"] + grid["h"])}
        assert not cells & places and grid["x"] + grid["w"] <= 24, panel["title"]
        places |= cells
    made = list(dashboards.expressions(name))
    for title, expr in made:
        assert "$" not in expr and not wrong_names(expr), (title, wrong_names(expr))
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": name, "rules": [
        {"record": f"panel:number{n}", "expr": expr} for n, (_, expr) in enumerate(made)]}]}))
    promtool("check", "rules", str(path))


def test_every_metric_is_looked_at():
    """What no panel and no alert shows would not be missed: it is named here, or it goes."""
    texts = [expr for name in dashboards.BOARDS for _, expr in dashboards.expressions(name)]
    texts += [rule["expr"] for rule in rules()]
    seen = {n for text in texts for n in re.findall(r"\b(?:docfleet|process)_[a-z_]+", text)}
    seen |= {re.sub(r"_(bucket|sum|count)$", "", n) for n in seen}
    by_hand = {"process_virtual_memory_bytes", "process_max_fds", "process_threads",
               "process_start_time_seconds", "docfleet_db_connections_max", "docfleet_series_dropped_total"}
    unseen = set(metrics_table.read()) - seen - by_hand
    assert not [n for n in unseen if n.split("_")[1] not in ("trace", "otlp", "spans")], unseen


def test_the_page_is_current():
    with open(observability_docs.PAGE, encoding="utf-8") as f:
        text = f.read()
    assert text == observability_docs.render(text), "docs/observability.md is old: make docs"


def test_prometheus_of_one_machine():
    path = f"{rig.ROOT}/deploy/prometheus/prometheus.yaml"
    promtool("check", "config", path)
    with open(path, encoding="utf-8") as f:
        jobs = [c["job_name"] for c in yaml.safe_load(f)["scrape_configs"]]
    assert jobs == [*(f"docfleet-{s}" for s in rig.SERVICES), "docfleet-importer", "docfleet-canary"]
    assert os.path.exists(f"{rig.ROOT}/helm/docfleet/templates/monitoring.yaml")
