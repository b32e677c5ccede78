# SPDX-License-Identifier: Apache-2.0
"""How a worker keeps its leases and how it ends: SIGTERM, a rolling restart, a frozen worker, Postgres away.

Sleepworkers, so that the frame alone is looked at. What the tests count: attempts (each claim) less
refunds (claims that came to no work) is what began; over the units done that is the amplification.
"""
import signal
import subprocess
import time

import pytest

from lib import invariants, rig

SLOW = {"DOCFLEET_SLEEP_MIN": "2s", "DOCFLEET_SLEEP_MAX": "2s"}
QUICK = {"DOCFLEET_SLEEP_MIN": "20ms", "DOCFLEET_SLEEP_MAX": "60ms"}
OTHERS = ("ai", "preview")


class Sleepers:
    """A fleet whose workers wait instead of working; the text stage is what is tried."""

    def __init__(self, fleet, text=None, processes=1, slots=2):
        self.fleet = fleet
        fleet.start("ingest-gateway", "dispatcher", "cleaner")
        self.text = fleet.start_sleepers("text", processes, slots, env=text or SLOW)
        for stage in OTHERS:
            fleet.start_sleepers(stage, 1, 4, env=QUICK)
        self.client = fleet.client()
        self.dataset = self.client.dataset()

    def upload(self, n, prefix="f"):
        files = [(f"{prefix}-{i}.txt", b"some text %d\n" % i) for i in range(n)]
        return [f["id"] for f in self.client.upload(self.dataset, files)["files"]]

    def count(self, state, stage=1):
        return self.fleet.one("SELECT count(*) FROM task WHERE stage = %s AND state = %s",
                              stage, state)

    def wait_all_done(self, ids, timeout=90):
        def done():
            return self.fleet.one("SELECT count(*) FROM file WHERE file_id = ANY(%s) AND state = 2",
                                  ids) == len(ids)
        rig.wait_until(done, timeout, what="all files done")

    def amplification(self):
        row = self.fleet.one("SELECT sum(attempts - refunds) AS began, count(*) AS done FROM task"
                             " WHERE state = 4")
        return row["began"] / row["done"]


@pytest.fixture
def sleepers(new_fleet):
    return lambda **how: Sleepers(new_fleet(), **how)


def test_unclaimed_work_goes_back_at_once(sleepers, record_property):
    """All that no slot had claimed is pending again within a second of SIGTERM; the running units
    end; nothing ran twice and nothing cost an attempt."""
    world = sleepers(slots=2)
    ids = world.upload(40)
    rig.wait_until(lambda: world.count(2) == 2 and world.count(1) >= 2, 15,
                   what="two running, more sent")
    orders = [(r["file_id"], r["dispatch_seq"]) for r in world.fleet.sql(
        "SELECT file_id, dispatch_seq FROM task WHERE stage = 1 AND state = 1")]
    process = world.fleet.process(world.text[0])
    began = time.monotonic()
    process.send(signal.SIGTERM)
    # The dispatcher may send them again, as another order: a worker might be on its way.
    rig.wait_until(lambda: not world.fleet.sql(
        "SELECT 1 FROM task WHERE stage = 1 AND state = 1 AND (file_id, dispatch_seq) IN"
        " (SELECT * FROM unnest(%s::uuid[], %s::int[]))", [f for f, _ in orders],
        [s for _, s in orders]), 5, interval=0.005, what="all handed back")
    took = time.monotonic() - began
    gone = world.fleet.one("SELECT count(*) FROM worker WHERE stage = 1")
    record_property("handed_back_s", round(took, 3))
    print(f"{len(orders)} orders handed back after {took:.3f} s")
    assert took <= rig.bound(1.0)
    assert gone == 0
    process.popen.wait(10)
    assert time.monotonic() - began >= 0.5  # the running units were let finish
    assert process.popen.returncode == 0
    world.fleet.processes.pop(world.text[0])
    assert world.count(4) >= 2
    world.fleet.start(world.text[0], binary="sleepworker", args=["text"],
                      env={"DOCFLEET_SLOTS": "8", **QUICK})
    world.wait_all_done(ids)
    assert world.amplification() == 1.0
    assert world.fleet.one("SELECT max(attempts) FROM task") == 1


def test_a_locked_row_keeps_no_other_lease_waiting(sleepers):
    """Somebody holds the row of one unit for longer than a lease: the worker's other unit keeps its own."""
    world = sleepers(slots=2, text={"DOCFLEET_SLEEP_MIN": "8s", "DOCFLEET_SLEEP_MAX": "8s",
                                    "DOCFLEET_LEASE": "2s"})
    ids = world.upload(2)
    rig.wait_until(lambda: world.count(2) == 2, 15, what="two running")
    with world.fleet.db() as conn, conn.transaction():
        conn.execute("SELECT 1 FROM task WHERE file_id = %s FOR UPDATE", (ids[0],))
        start = world.fleet.one("SELECT now()")
        rig.wait_until(lambda: world.fleet.one(
            "SELECT lease_until > %s + interval '5 s' FROM task WHERE file_id = %s AND stage = 1",
            start, ids[1]), 6, what="renewed again and again")
    world.wait_all_done(ids)
    assert world.fleet.one("SELECT attempts FROM task WHERE file_id = %s AND stage = 1", ids[1]) == 1


def test_the_grace_ends(sleepers):
    """A unit that does not end within the grace goes back with its attempt refunded."""
    world = sleepers(slots=2, text={"DOCFLEET_SLEEP_MIN": "60s", "DOCFLEET_SLEEP_MAX": "60s",
                                    "DOCFLEET_DRAIN_GRACE": "1s"})
    world.upload(3)
    rig.wait_until(lambda: world.count(2) == 2, 15, what="two running")
    began = time.monotonic()
    assert world.fleet.stop(world.text[0], timeout=10)[world.text[0]] == 0
    assert time.monotonic() - began < rig.bound(4)  # and not the 60 of the unit
    rows = world.fleet.sql("SELECT attempts, refunds, failures FROM task WHERE stage = 1"
                           " AND attempts > 0")
    assert [(r["attempts"], r["refunds"], r["failures"]) for r in rows] == [(1, 1, 0)] * 2
    assert world.count(2) == 0


def test_rolling_restart_runs_nothing_twice(sleepers, record_property):
    """Every worker is restarted in turn while files flow: each unit is begun exactly once."""
    world = sleepers(processes=2, slots=2, text={"DOCFLEET_SLEEP_MIN": "100ms",
                                                 "DOCFLEET_SLEEP_MAX": "300ms"})
    ids = world.upload(150)
    names = [*world.text, *(f"{stage}#1" for stage in OTHERS), "dispatcher"]
    for name in names:
        world.fleet.restart(name)
    world.wait_all_done(ids, 120)
    amplification = world.amplification()
    record_property("amplification", amplification)
    assert amplification == 1.0
    assert world.fleet.one("SELECT coalesce(sum(failures), 0) FROM task") == 0


def test_a_frozen_worker_writes_nothing(sleepers):
    """SIGSTOP until another has taken the unit over, then SIGCONT: the late end is refused and the
    objects that it stored are gone."""
    lease = {"DOCFLEET_LEASE": "3s"}
    world = sleepers(processes=1, slots=1, text={
        "DOCFLEET_SLEEP_MIN": "2s", "DOCFLEET_SLEEP_MAX": "2s", "DOCFLEET_SLEEP_PUTS": "1", **lease})
    (file_id,) = world.upload(1)
    rig.wait_until(lambda: world.count(2) == 1, 15, what="the unit runs")
    frozen = world.fleet.process(world.text[0])
    frozen.send(signal.SIGSTOP)
    world.fleet.start("text#2", binary="sleepworker", args=["text"],
                      env={"DOCFLEET_SLOTS": "1", "DOCFLEET_SLEEP_PUTS": "1", **QUICK, **lease})
    rig.wait_until(lambda: world.count(4) == 1, 40, what="another did it")
    world.wait_all_done([file_id])
    frozen.send(signal.SIGCONT)
    rig.wait_until(lambda: world.fleet.metrics(world.text[0]).get(
        'docfleet_leases_lost_total{stage="text"}', 0) == 1, 15, what="the lease is known as lost")
    token = world.fleet.one("SELECT lease_token FROM task WHERE stage = 1")
    keys = rig.wait_until(lambda: [k for k in world.fleet.objects(f"artifacts/{file_id}/")
                                   if "/text/" in k], 5, what="the winner's object")
    assert token == 2
    assert all(f"/text/0/{token}/" in key for key in keys)
    assert world.fleet.one("SELECT count(*) FROM artifact WHERE stage = 1") == 1


def test_postgres_away_during_units(sleepers):
    """Postgres stops for longer than the lease while units run: they end, once."""
    world = sleepers(slots=4, text={
        "DOCFLEET_SLEEP_MIN": "6s", "DOCFLEET_SLEEP_MAX": "8s", "DOCFLEET_LEASE": "3s"})
    world.fleet.restart("dispatcher", env={"DOCFLEET_LEASE": "3s"})
    ids = world.upload(4)
    rig.wait_until(lambda: world.count(2) == 4, 15, what="four running")
    world.fleet.servers.stop_server("postgres")
    time.sleep(8)
    world.fleet.servers.start_server("postgres")
    world.wait_all_done(ids, 60)
    assert world.fleet.one("SELECT max(attempts - refunds) FROM task WHERE stage = 1") == 1
    assert world.amplification() == 1.0


def test_everything_ends_while_kafka_is_gone(sleepers, servers):
    """SIGTERM after the broker died for good: the client's own threads do not end then, the
    processes do all the same."""
    world = sleepers(text=QUICK)
    world.wait_all_done(world.upload(5))
    servers.processes["kafka"].kill9()
    try:
        began = time.monotonic()
        codes = world.fleet.stop(timeout=30)
        assert time.monotonic() - began < rig.bound(25)
        assert not any(codes.values()), codes
    finally:
        servers.processes.pop("kafka", None)
        servers.start_kafka()
        servers.wait_ready()


@pytest.mark.parametrize("kept", [True, False], ids=["long enough", "too short"])
def test_a_pod_is_taken_away_in_the_middle(new_fleet, fixture_path, kept):
    """Scale-in as Kubernetes does it, with real workers and their jailed children: TERM in the middle of
    units, the grace, KILL for what is left. With a grace that is long enough the units end where they
    run; with one that is too short they go back before KILL comes. Either way nothing is lost, nothing
    is done twice, and no lease has to run out."""
    drain, grace = (120, 130) if kept else (1, 60)
    fleet = new_fleet(env={"DOCFLEET_DRAIN_GRACE": f"{drain}s", "DOCFLEET_SLOTS": "2"})
    pods = ["ocr-fallback", "ocr-fallback#2"]
    fleet.start("ingest-gateway", "dispatcher", "text-extractor", "ai-extractor", "preview-worker",
                "thumbnail-worker", "cleaner", *pods)
    client = fleet.client()
    ids = [f["id"] for f in client.upload(
        client.dataset(), [(f"{i}.pdf", open(fixture_path("scan-12.pdf"), "rb").read())
                           for i in range(2)])["files"]]

    def running(pod):
        return fleet.sql("SELECT file_id, unit, lease_token FROM task WHERE stage = 2 AND state = 2 AND unit > 0"
                         " AND lease_owner LIKE %s", f"%%:{fleet.process(pod).pid}:%%")

    def busy():
        return next((p for p in pods if running(p)), None)
    gone = rig.wait_until(busy, 120, interval=0.02, what="a worker in the middle of a unit")
    in_work = running(gone)
    process = fleet.process(gone)
    process.send(signal.SIGTERM)
    try:
        process.popen.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill9()
    assert process.popen.returncode == 0, "it had to be killed"
    assert not running(gone), "a unit is left with the pod that has gone"
    fleet.processes.pop(gone)
    rig.wait_until(lambda: fleet.one("SELECT count(*) FROM file WHERE file_id = ANY(%s) AND state = 2",
                                     ids) == len(ids), 240, what="all files done")
    rows = fleet.sql("SELECT file_id, unit, attempts, failures, refunds FROM task WHERE state = 4 AND stage = 2")
    assert len(rows) == 3 * len(ids)  # the plan and two ranges of each file
    assert all(r["attempts"] - r["refunds"] == 1 and r["failures"] == 0 for r in rows), rows
    given_back = {(r["file_id"], r["unit"]) for r in rows if r["refunds"]}
    assert kept or given_back, "the test came too late: nothing was given back"
    assert not kept or not given_back
    assert not [k for k, n in fleet.metrics("dispatcher").items() if n and k.startswith("docfleet_lease_takeovers")]
    for file_id in ids:
        pages = fleet.sql("SELECT page FROM file_page WHERE file_id = %s AND engine = 'tesseract' ORDER BY page", file_id)
        assert [r["page"] for r in pages] == list(range(1, 13))
    invariants.check_rows(fleet, ids)
    invariants.check_objects(fleet)
