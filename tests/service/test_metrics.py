# SPDX-License-Identifier: Apache-2.0
"""What each service shows on /metrics: valid for promtool, named in the table, and about nobody."""
import re
import subprocess
import sys

import pytest
import requests

from lib import rig

sys.path.insert(0, f"{rig.ROOT}/tools")
import metrics_table  # noqa: E402  pylint: disable=wrong-import-position

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
EVERYWHERE = {"docfleet_build_info", "docfleet_dependency_up", "docfleet_db_connections",
              "docfleet_db_connections_max", "docfleet_db_waits_total", "docfleet_db_busy_total",
              "docfleet_scratch_free_bytes", "docfleet_scratch_size_bytes",
              "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds",
              "process_max_fds", "process_start_time_seconds"}


def series(text):
    """(name, labels) of each line."""
    found = []
    for line in text.splitlines():
        if line and line[0] != "#":
            name, labels = re.match(r"([a-z_]+)(?:\{(.*)\})? ", line).groups()
            found.append((name, dict(re.findall(r'(\w+)="((?:\\.|[^"\\])*)"', labels or ""))))
    return found


_kept = {}


@pytest.fixture
def scraped(fleet):
    """The text of each service, after a file went through; asked for once a fleet."""
    if fleet.name in _kept:
        return _kept[fleet.name]
    client = fleet.client()
    made = client.upload(client.dataset(), {"m.txt": b"Invoice number: M-1\nTotal amount: EUR 3.50\n"})
    client.wait_done(made["files"][0]["id"])
    _kept[fleet.name] = {name: requests.get(fleet.probe(name) + "/metrics", timeout=5).text
                         for name in rig.SERVICES}
    return _kept[fleet.name]


@pytest.mark.parametrize("service", rig.SERVICES)
def test_promtool_takes_it(scraped, service):
    promtool = rig.fetched("prometheus") + "/usr/bin/promtool"
    run = subprocess.run([promtool, "check", "metrics"], input=scraped[service], text=True,
                         capture_output=True)
    assert run.returncode == 0 and not run.stdout + run.stderr, run.stdout + run.stderr


@pytest.mark.parametrize("service", rig.SERVICES)
def test_names_and_labels_are_those_of_the_table(scraped, service):
    table = metrics_table.read()
    shown = series(scraped[service])
    for name, labels in shown:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        metric = table[base if base in table and table[base].type == "histogram" else name]
        assert [n for n in labels if n != "le"] == metric.labels, (name, labels)
    assert not EVERYWHERE - {name for name, _ in shown}


def test_nobody_is_named(fleet, scraped):
    """No user, file or dataset, by id or by name."""
    words = {r["name"] for r in fleet.sql("SELECT name FROM account")}
    for service, text in scraped.items():
        values = {v for _, labels in series(text) for v in labels.values()}
        assert not UUID.search(text), (service, UUID.search(text))
        assert not words & values, (service, words & values)


def test_build_info_tells_the_version(scraped):
    for service, text in scraped.items():
        info = [labels for name, labels in series(text) if name == "docfleet_build_info"]
        assert len(info) == 1 and info[0]["version"] and info[0]["commit"], (service, info)


def test_pools_are_told_apart(scraped):
    pools = {service: {labels["pool"] for name, labels in series(text)
                       if name == "docfleet_db_connections_max"} for service, text in scraped.items()}
    assert pools["ingest-gateway"] == {"main", "search"}
    assert pools["dispatcher"] == {"main"}
    assert pools["text-extractor"] == {"main", "keeper"}
