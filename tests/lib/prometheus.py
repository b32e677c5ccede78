# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus that scrapes a fleet, with the alerts of the chart.

    with Prometheus(fleet, directory, more={"docfleet-canary": port}) as prom:
        prom.query('docfleet_dependency_up == 0')      -> [({labels}, value)]
        prom.firing("DocfleetDependencyDown")          -> [{labels}]
"""
import json
import os

import requests

from lib import rig

ALERTS = f"{rig.ROOT}/helm/docfleet/files/alerts.yaml"


class Prometheus:
    def __init__(self, fleet, directory, more=None, interval="1s", rules=True):
        self.fleet, self.dir, self.port = fleet, directory, rig.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        ports = {f"docfleet-{name}": fleet.probe_ports[name] for name in fleet.processes}
        config = {"global": {"scrape_interval": interval, "scrape_timeout": interval,
                             "evaluation_interval": interval},
                  "rule_files": [ALERTS] if rules else [],
                  "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                                     for job, port in {**ports, **(more or {})}.items()]}
        path = os.path.join(directory, "prometheus.yaml")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)  # JSON is YAML
        self.process = rig.Process("prometheus", [
            rig.fetched("prometheus") + "/usr/bin/prometheus", f"--config.file={path}",
            f"--storage.tsdb.path={directory}/prometheus", f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn"], os.path.join(directory, "prometheus.log"))

    def __enter__(self):
        rig.wait_until(lambda: requests.get(self.url + "/-/ready", timeout=2).ok, 60, what="Prometheus")
        return self

    def __exit__(self, *_):
        self.process.stop(timeout=30)

    def query(self, expr):
        answer = requests.get(self.url + "/api/v1/query", params={"query": expr}, timeout=10).json()
        assert answer["status"] == "success", (expr, answer)
        data = answer["data"]
        assert data["resultType"] == "vector", (expr, data)
        return [(r["metric"], float(r["value"][1])) for r in data["result"]]

    def firing(self, alert):
        """Labels and texts of what fires."""
        answer = requests.get(self.url + "/api/v1/alerts", timeout=10).json()
        return [a for a in answer["data"]["alerts"]
                if a["labels"]["alertname"] == alert and a["state"] == "firing"]
