# SPDX-License-Identifier: Apache-2.0
"""Each dependency goes away and comes back, seen at every service at once: /readyz, the metric, the
alert of a real Prometheus, and /livez, which never minds."""
import contextlib
import time

import pytest
import requests

from lib import rig
from lib.ai_server import AiServer
from lib.prometheus import Prometheus

WITHIN = 30  # seconds: what is promised
NEEDS = {  # services that cannot work without it; the others only say so
    "postgres": set(rig.SERVICES),
    "kafka": set(rig.SERVICES) - {"ingest-gateway"},
    "store": {"ingest-gateway", "text-extractor", "ocr-fallback", "ai-extractor", "preview-worker",
              "thumbnail-worker", "cleaner"},
    "ai": set(), "textract": set(),
}
KNOWS = {"ai": {"ai-extractor"}, "textract": {"ocr-fallback"}}


class Watch:
    """Asks all services for their probes; /livez has to be 200 at every look."""

    def __init__(self, fleet):
        self.fleet = fleet

    def look(self):
        seen = {}
        for name in rig.SERVICES:
            live = requests.get(self.fleet.probe(name) + "/livez", timeout=10)
            assert live.status_code == 200, f"{name}: {live.text}"
            ready = requests.get(self.fleet.probe(name) + "/readyz", timeout=10)
            body = ready.json()
            assert body["ready"] == (ready.status_code == 200)
            seen[name] = body
        return seen

    def wait(self, away, up, prom):
        """Until all services that know of a dependency say so, in the body and as a metric, and the
        alert fires, or is over; gives the seconds that took."""
        start = time.monotonic()
        late = {}

        def said():
            late.clear()
            bodies = self.look()
            firing = {(a["labels"]["job"], a["labels"]["dependency"])
                      for a in prom.firing("DocfleetDependencyDown")}
            for dependency in away:
                for name in KNOWS.get(dependency, rig.SERVICES):
                    key = f"{name} {dependency}"
                    told = bodies[name]["dependencies"][dependency]
                    metric = self.fleet.metrics(name)[f'docfleet_dependency_up{{dependency="{dependency}"}}']
                    if told["up"] != up or metric != (1 if up else 0):
                        late[key] = told
                    elif ((f"docfleet-{name}", dependency) in firing) == up:
                        late[key] = "no alert" if not up else "still an alert"
                    assert up or told["reason"] or told["up"], key
            return not late
        try:
            rig.wait_until(said, 120, interval=0.3, what="all say so")
        except rig.Timeout as e:
            raise rig.Timeout(f"{e}\n{late}") from None
        return time.monotonic() - start

    def check_ready(self, away):
        for name, body in self.look().items():
            needed = [d for d in away if name in NEEDS[d]]
            assert body["ready"] == (not needed), (name, body)


@pytest.fixture
def watched(new_fleet, tmp_path):
    provider, textract = AiServer(), AiServer()
    fleet = new_fleet(env={
        "DOCFLEET_AI_BACKEND": "openai", "DOCFLEET_AI_MODEL": "m", "DOCFLEET_AI_KEY": "k",
        "DOCFLEET_AI_URL": provider.url, "DOCFLEET_OCR_ENGINE": "auto",
        "DOCFLEET_TEXTRACT_ENDPOINT": textract.url.removesuffix("/v1"),
        "DOCFLEET_TEXTRACT_ACCESS_KEY": "k", "DOCFLEET_TEXTRACT_SECRET_KEY": "s"})
    fleet.start()
    with Prometheus(fleet, str(tmp_path)) as prom:
        yield fleet, prom, {"ai": provider, "textract": textract}
    for server in (provider, textract):
        with contextlib.suppress(OSError):
            server.stop()


def outage(fleet, prom, away, end, begin, took):
    """Two at once that no service confuses; `meanwhile` runs while they are away."""
    watch = Watch(fleet)
    watch.wait(away, True, prom)
    watch.check_ready([])
    end()
    try:
        took[f"{'+'.join(away)} away"] = watch.wait(away, False, prom)
        watch.check_ready(away)
        yield
        watch.look()
    finally:
        begin()
    took[f"{'+'.join(away)} back"] = watch.wait(away, True, prom)
    watch.check_ready([])


def test_every_dependency_away_and_back(watched, record_property):
    fleet, prom, providers = watched
    servers, took = fleet.servers, {}
    client = fleet.client()
    dataset = client.dataset()

    def stop_kafka_and_providers():
        servers.stop_server("kafka")
        for provider in providers.values():
            provider.stop()

    def start_kafka_and_providers():
        for provider in providers.values():
            provider.start_again()
        servers.start_server("kafka")

    for _ in outage(fleet, prom, ["kafka", "ai", "textract"], stop_kafka_and_providers,
                    start_kafka_and_providers, took):
        made = client.upload(dataset, {"while-away.txt": b"Invoice number: K-1\n"})["files"][0]["id"]
    client.wait_done(made, timeout=150)  # uploads go on without Kafka, and are worked on afterwards

    def stop_data():
        servers.stop_server("postgres")
        servers.stop_server("s3")

    def start_data():
        servers.start_postgres()
        servers.start_s3()
        servers.wait_ready()

    for _ in outage(fleet, prom, ["postgres", "store"], stop_data, start_data, took):
        answer = client.request("POST", f"/datasets/{dataset}/files", files=[("file", ("x.txt", b"x"))])
        assert answer.status_code == 503 and answer.headers["Retry-After"]
    made = client.upload(dataset, {"after.txt": b"Invoice number: K-2\n"})["files"][0]["id"]
    client.wait_done(made, timeout=150)
    for what, seconds in took.items():
        record_property(what, round(seconds, 1))
    assert all(seconds <= WITHIN for seconds in took.values()), took
    assert not [n for n in rig.SERVICES if not fleet.running(n)]
