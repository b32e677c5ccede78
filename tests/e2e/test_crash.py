# SPDX-License-Identifier: Apache-2.0
"""kill -9 of every service at its named points: nothing is lost, doubled or left behind.

The lease and the dispatch time-out are scaled down; the recovery times of the shipped defaults are
measured by `make chaos`, not here."""
import os
import signal

import pytest

from lib import invariants, rig

FAST = {"DOCFLEET_LEASE": "2s", "DOCFLEET_DISPATCH_TIMEOUT": "2s", "DOCFLEET_SWEEP_INTERVAL": "200ms",
        "DOCFLEET_SECOND_PASS": "500ms", "DOCFLEET_KAFKA_SESSION_TIMEOUT": "6s"}
DOCUMENTS = ["tiny.txt", "mixed.pdf", "small.png", "letter.odt"]

POINTS = [
    ("dispatcher", "dispatch.after_commit"),
    ("dispatcher", "dispatch.after_produce"),
    ("dispatcher", "events.after_commit"),
    ("text-extractor", "claim.before"),
    ("text-extractor", "claim.after_commit"),
    ("text-extractor", "work.after_put"),
    ("text-extractor", "complete.after_commit"),
    ("text-extractor", "commit.before"),
    ("ocr-fallback", "work.begin"),
    ("ocr-fallback", "complete.after_commit"),
    ("ai-extractor", "work.end"),
    ("ai-extractor", "complete.after_commit"),
    ("preview-worker", "work.after_put"),
    ("preview-worker", "complete.before"),
    ("thumbnail-worker", "work.after_put"),
]


@pytest.fixture(scope="module")
def faulty(servers):
    """One fleet with crash points for the whole module; each test leaves all services running."""
    import conftest
    fleet = rig.Fleet(servers, FAST, build="release-faults")
    conftest._activate(fleet)
    fleet.start()
    yield fleet
    conftest._stop_current()


@pytest.fixture(autouse=True)
def all_running(faulty):
    """A failed test may have left a service dead; the next one starts whole."""
    for name in [n for n in list(faulty.processes) if not faulty.running(n)]:
        faulty.processes.pop(name)
    dead = [s for s in rig.SERVICES if faulty.has(s) and not faulty.running(s)]
    if dead:
        faulty.start(*dead)


def arm(fleet, service, point):
    """Restarts a service with a crash point. It may be reached before the service says it is ready,
    by work that an earlier crash left to be read again."""
    fleet.stop(service)
    fleet.start(service, env={"DOCFLEET_CRASH_AT": f"{point}:1"}, wait=False)


def upload(fleet, fixture_path, names):
    client = fleet.client()
    dataset = client.dataset()
    answer = client.upload(dataset, [fixture_path(n) for n in names])
    return client, dataset, [f["id"] for f in answer["files"] if "id" in f]


@pytest.mark.parametrize("service,point", POINTS, ids=lambda v: v)
def test_a_killed_service_loses_and_doubles_nothing(faulty, fixture_path, service, point):
    arm(faulty, service, point)
    client, dataset, ids = upload(faulty, fixture_path, DOCUMENTS)
    assert faulty.wait_end(service, timeout=30) == -signal.SIGKILL
    faulty.start(service)
    invariants.wait_quiet(faulty)
    invariants.check_rows(faulty, ids)
    for file_id in ids:
        file = client.file(file_id)
        assert file["state"] == "done", file
    attempts = faulty.sql("SELECT stage, max(attempts - refunds) AS n FROM task "
                          "WHERE file_id = ANY(%s::uuid[]) GROUP BY 1", ids)
    assert all(r["n"] <= 2 for r in attempts), f"more attempts than one crash explains: {attempts}"


@pytest.mark.parametrize("point", ["clean.after_uploads", "clean.after_objects", "clean.after_rows"])
def test_a_killed_cleaner_still_removes_everything(faulty, fixture_path, point):
    client, dataset, ids = upload(faulty, fixture_path, DOCUMENTS[:2])
    invariants.wait_quiet(faulty)
    arm(faulty, "cleaner", point)
    for file_id in ids:
        client.delete(f"/files/{file_id}")
    assert faulty.wait_end("cleaner", timeout=30) == -signal.SIGKILL
    faulty.start("cleaner")
    invariants.wait_quiet(faulty)
    invariants.check_rows(faulty)
    for file_id in ids:
        assert not faulty.objects(f"artifacts/{file_id}/")
        assert not [k for k in faulty.objects("uploads/") if file_id in k]


def test_a_killed_gateway_keeps_what_it_accepted_and_nothing_else(faulty, fixture_path):
    client, dataset, ids = upload(faulty, fixture_path, DOCUMENTS[:1])
    faulty.kill9("ingest-gateway")
    faulty.processes.pop("ingest-gateway").stop(signal.SIGKILL)
    faulty.start("ingest-gateway")
    invariants.wait_quiet(faulty)
    invariants.check_rows(faulty, ids)
    assert client.file(ids[0])["state"] == "done"


def test_the_store_holds_exactly_what_rows_name(faulty):
    invariants.wait_quiet(faulty)
    invariants.check_objects(faulty)
