# SPDX-License-Identifier: Apache-2.0
"""Breakers at work: the object store and the AI service away, real workers, and what it may cost."""
import time

import pytest
import requests

from lib import rig
from lib.ai_server import failure

N = 24
SERVICES = ("ingest-gateway", "dispatcher", "text-extractor", "ai-extractor")


def breaker(fleet, name, dependency):
    return fleet.metrics(name).get(f'docfleet_breaker_state{{dependency="{dependency}"}}')


def upload(fleet, n=N):
    client = fleet.client()
    dataset = client.dataset()
    files = [(f"b{i}.txt", f"Invoice number: B-{i}\nTotal amount: EUR {i}.50\n".encode())
             for i in range(n)]
    return [f["id"] for f in client.upload(dataset, files)["files"]]


def wait_main(fleet, ids, timeout):
    rig.wait_until(lambda: fleet.one("SELECT count(*) FROM file WHERE file_id = ANY(%s)"
                                     " AND main_state = 2", ids) == len(ids),
                   timeout, what="all read")


def costs(fleet, stage):
    """What each unit began, and how often units were put back in all."""
    rows = fleet.sql("SELECT attempts, refunds, failures, outage_retries FROM task"
                     " WHERE stage = %s", stage)
    assert all(r["attempts"] - r["refunds"] == 1 and r["failures"] == 0 for r in rows), rows
    return sum(r["outage_retries"] for r in rows)


def test_the_store_is_away(new_fleet, record_property):
    """Work stops instead of failing; when the store is back, it goes on by itself."""
    fleet = new_fleet()
    fleet.start(*SERVICES, env={"DOCFLEET_SLOTS": "4"})
    fleet.stop("text-extractor")
    ids = upload(fleet)
    fleet.servers.stop_server("s3")
    try:
        fleet.start("text-extractor", env={"DOCFLEET_SLOTS": "4"}, wait=False)
        rig.wait_until(lambda: breaker(fleet, "text-extractor", "store") == 2, 40,
                       what="the breaker opens")
        answer = requests.get(fleet.probe("text-extractor") + "/readyz", timeout=5)
        assert answer.status_code == 503
        rig.wait_until(lambda: fleet.one("SELECT open FROM worker WHERE stage = 1"), 5,
                       what="the worker's row says so")
        rig.wait_until(lambda: fleet.one("SELECT count(*) FROM task WHERE stage = 1 AND state = 2")
                       == 0, 10, what="nothing runs")
        before = fleet.one("SELECT sum(attempts) FROM task WHERE stage = 1")
        time.sleep(4)
        assert fleet.one("SELECT sum(attempts) FROM task WHERE stage = 1") == before
    finally:
        fleet.servers.start_server("s3")
    rig.wait_until(lambda: breaker(fleet, "text-extractor", "store") == 0, 70,
                   what="the breaker closes")
    wait_main(fleet, ids, 90)
    retries = costs(fleet, 1)
    record_property("outage_retries", retries)
    assert 10 <= retries <= 3 * N


def test_the_ai_service_is_overloaded(new_fleet, provider, record_property):
    """It answers 503: after a few calls nothing is asked any more but one unit's probe at a time."""
    provider.fill = {"Invoice number": ("B", "Invoice number: B")}
    fleet = new_fleet(env={"DOCFLEET_AI_BACKEND": "openai", "DOCFLEET_AI_MODEL": "m",
                           "DOCFLEET_AI_KEY": "k", "DOCFLEET_AI_URL": provider.url})
    provider.when = lambda call: failure(503)
    fleet.start(*SERVICES, env={"DOCFLEET_SLOTS": "4"})
    ids = upload(fleet)
    rig.wait_until(lambda: breaker(fleet, "ai-extractor", "ai") == 2, 40, what="the breaker opens")
    assert '"breaker_ai":{"up":false,"required":true' in rig.wait_until(
        lambda: (t := requests.get(fleet.probe("ai-extractor") + "/readyz", timeout=5).text)
        and '"breaker_ai":{"up":false' in t and t, 5)
    calls = len(provider.calls)
    time.sleep(8)  # one probe after 5 s
    assert len(provider.calls) - calls <= 3
    provider.when = None
    rig.wait_until(lambda: breaker(fleet, "ai-extractor", "ai") == 0, 90, what="the breaker closes")
    wait_main(fleet, ids, 120)
    record_property("outage_retries", costs(fleet, 3))
