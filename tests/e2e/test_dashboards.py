# SPDX-License-Identifier: Apache-2.0
"""Every panel of every dashboard returns data on a fleet with load. `make dashboards-check`."""
import datetime
import json
import os
import re
import sys
import time

import pytest
import requests

from lib import bench, importing, rig
from lib.ai_server import AiServer, failure
from lib.prometheus import Prometheus
from lib.tls import Authority

sys.path.insert(0, f"{rig.ROOT}/tools")
import dashboards  # noqa: E402  pylint: disable=wrong-import-position

BASE = {k: v for k, v in os.environ.items() if not k.startswith("DOCFLEET_")}


class Load:
    """Text, pictures for OCR, broken files, an AI service that throttles now and then, a lost worker."""

    def __init__(self, fleet, provider):
        self.fleet, self.provider, self.n = fleet, provider, 0
        self.client, self.others = fleet.client(), [fleet.client(f"user{n}") for n in range(3)]
        self.datasets = [c.dataset() for c in (self.client, *self.others)]

    def send(self, fixture_path):
        self.n += 1
        for client, dataset in zip((self.client, *self.others), self.datasets):
            files = [(f"t{self.n}-{i}.txt", f"Invoice number: L-{self.n}-{i}\nTotal amount: EUR 1.50\n".encode())
                     for i in range(4)]
            files.append((f"broken-{self.n}.pdf", b"%PDF-1.4 broken"))
            client.upload(dataset, files)
        self.client.upload(self.datasets[0], [fixture_path("invoice.pdf")])
        self.provider.script += [failure(429, {"Retry-After": "1"})]

    def lose_a_worker(self):
        """In the middle of a unit: the AI service holds its answer."""
        self.provider.when = lambda call: time.sleep(3)
        self.send_one("lost.txt")
        rig.wait_until(lambda: self.fleet.one("SELECT count(*) FROM task WHERE stage = 3 AND state = 2"), 60)
        self.fleet.kill9("ai-extractor")
        self.provider.when = None
        self.fleet.start_again("ai-extractor")

    def import_some(self):
        """One run that is published and one with a broken object, which is told to somebody."""
        source = importing.Source(self.fleet, "incoming/", maxFailedPercent=0)
        source.put("a.txt", "Invoice number: I-1\nTotal amount: EUR 3\n")
        for state in ("published", "failed"):
            run = source.ask()
            rig.wait_until(lambda: source.get(run)["state"] == state, 120, what=f"a run that is {state}")
            source.put("b.pdf", b"%PDF-1.4 broken")

    def remove_one(self):
        done = self.send_one("gone.txt")
        self.client.wait_done(done, timeout=180)
        self.client.delete(f"/files/{done}")

    def send_one(self, name):
        """A text of its own: what was asked before is not asked again."""
        made = self.client.upload(self.datasets[0], {name: f"Invoice number: {name}\nTotal amount: EUR 2\n".encode()})
        return made["files"][0]["id"]


@pytest.mark.full
@pytest.mark.timeout(1500)
def test_dashboards(new_fleet, tmp_path, fixture_path):
    provider = AiServer()
    provider.fill = {"Invoice number": ("CANARY-4711", "CANARY-4711")}
    fleet = new_fleet(env={
        "DOCFLEET_AI_BACKEND": "openai", "DOCFLEET_AI_MODEL": "m", "DOCFLEET_AI_KEY": "k",
        "DOCFLEET_AI_URL": provider.url, "DOCFLEET_AI_PROMPT_PRICE": "2000",
        "DOCFLEET_AI_COMPLETION_PRICE": "8000", "DOCFLEET_CLEAN_INTERVAL": "2s", "DOCFLEET_LEASE": "3s",
        "DOCFLEET_DISPATCH_TIMEOUT": "5s", "DOCFLEET_SLOTS": "2",
        "DOCFLEET_CA_FILE": Authority(str(tmp_path)).ca_file})
    fleet.start()
    hook = importing.Webhook()
    ports = {f"docfleet-{name}": rig.free_port() for name in ("canary", "importer")}
    canary = rig.Process("canary", [
        fleet.bin("docfleetctl"), "canary", "--listen", f"127.0.0.1:{ports['docfleet-canary']}", "--every", "5s",
        "--objective", "120s"], fleet.log_path("canary"),
        env=dict(BASE, DOCFLEET_URL=fleet.url, DOCFLEET_API_KEY=fleet.user_key("canary")))
    importer = importing.start(fleet, {
        "DOCFLEET_IMPORT_WATCH": "1s", "DOCFLEET_PROBE_PORT": str(ports["docfleet-importer"]),
        "DOCFLEET_IMPORT_ALERT_URL": hook.url, "DOCFLEET_IMPORT_ALERT_PRIVATE": "true"})
    load = Load(fleet, provider)
    try:
        with Prometheus(fleet, str(tmp_path), ports) as prom, load.client.events(timeout=300):
            load.send(fixture_path)
            fleet.ctl("backup", str(tmp_path), "--objects")
            load.import_some()
            load.remove_one()
            load.lose_a_worker()
            empty = ask_until_full(prom, load, fixture_path)
            rig.wait_until(lambda: metric(ports["docfleet-canary"], "docfleet_canary_success") == 1, 180,
                           what="the canary came through")
    finally:
        for process in (canary, importer, hook, provider):
            process.stop()
    assert not empty, json.dumps(empty, indent=1)
    write_result()


def metric(port, name):
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    found = re.search(rf"^{name} (\S+)$", text, re.M)
    return found and float(found[1])


def ask_until_full(prom, load, fixture_path):
    """Load goes on until every expression has returned something once, for five minutes at most."""
    open_ones = [(board, title, expr) for board in dashboards.BOARDS
                 for title, expr in dashboards.expressions(board)]
    until = time.monotonic() + 300
    while True:
        open_ones = [one for one in open_ones if not prom.query(one[2])]
        if not open_ones or time.monotonic() > until:
            return open_ones
        if load.n < 12:
            load.send(fixture_path)
        time.sleep(5)  # Prometheus scrapes each second; a rate needs some of them


def write_result():
    panels = [(board, p["title"]) for board in dashboards.BOARDS for p in dashboards.board(board)["panels"]
              if p["type"] != "row"]
    result = {"date": datetime.date.today().isoformat(), "commit": bench.commit(), "panels": len(panels),
              "expressions": sum(len(list(dashboards.expressions(b))) for b in dashboards.BOARDS)}
    with open(f"{rig.ROOT}/build/dashboards.json", "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
