# SPDX-License-Identifier: Apache-2.0
"""The dispatcher with several replicas, shards, lanes and what it shows of its queue.

The workers are sleepworkers: they wait instead of working, so that order and counts can be seen.
"""
import time

import pytest

from lib import rig

QUICK = {"DOCFLEET_SLEEP_MIN": "5ms", "DOCFLEET_SLEEP_MAX": "15ms"}
LED = ["ai", "clean", "due", "events", "ocr", "preview", "scan", "text", "thumbnail"]


class World:
    def __init__(self, fleet, dispatchers=("dispatcher",), slots=4, sleep=None,
                 stages=("text", "ai", "preview")):
        self.fleet, self.dispatchers = fleet, dispatchers
        fleet.start("ingest-gateway", *dispatchers)
        for stage in stages:
            fleet.start_sleepers(stage, 1, slots, env=sleep or QUICK)

    def upload(self, n, user="alice", prefix="f"):
        client = self.fleet.client(user)
        files = [(f"{prefix}-{i}.txt", b"some text %d\n" % i) for i in range(n)]
        return [f["id"] for f in client.upload(client.dataset(), files)["files"]]

    def done(self, ids):
        return self.fleet.one("SELECT count(*) FROM file WHERE file_id = ANY(%s) AND state = 2", ids)

    def wait_done(self, ids, timeout=60):
        rig.wait_until(lambda: self.done(ids) == len(ids), timeout, what="all files done")

    def leaders(self):
        """What each running dispatcher leads."""
        found = {}
        for name in self.dispatchers:
            if self.fleet.running(name):
                values = self.fleet.metrics(name)
                found[name] = sorted(label.split('"')[1] for label, value in values.items()
                                     if label.startswith("docfleet_leader{") and value == 1)
        return found

    def wait_led(self, shards=1):
        rig.wait_until(lambda: sum(map(len, self.leaders().values())) == 7 * shards + 2, 15,
                       what="a leader for everything")


@pytest.fixture
def world(new_fleet):
    return lambda env=None, **how: World(new_fleet(env=env), **how)


def test_replicas_killed_in_turn(world):
    """One leads, the other waits; each time the leader is killed under load the other takes over
    within seconds, and no unit is begun twice."""
    w = world(dispatchers=("dispatcher", "dispatcher#2"), slots=2,
              sleep={"DOCFLEET_SLEEP_MIN": "20ms", "DOCFLEET_SLEEP_MAX": "40ms"})
    w.wait_led()
    ids = []
    for victim in ("dispatcher", "dispatcher#2", "dispatcher"):
        ids += w.upload(60)
        rig.wait_until(lambda n=len(ids): w.done(ids) >= n - 50, 30, what="some are done")
        w.fleet.kill9(victim)
        before = w.done(ids)
        start = time.monotonic()
        rig.wait_until(lambda b=before: w.done(ids) > b + 6, 15, what="the other goes on")
        assert time.monotonic() - start < rig.bound(12)
        w.fleet.start_again(victim)
    w.wait_done(ids)
    assert w.fleet.one("SELECT max(attempts) FROM task") == 1
    assert w.fleet.one("SELECT count(*) FROM task WHERE state <> 4") == 0
    w.wait_led()
    led = w.leaders()
    assert sorted(sum(led.values(), [])) == LED, led


def test_shards(world):
    """Two shards, two replicas: every user's work is done, and each stage has two leaders."""
    w = world(env={"DOCFLEET_SHARDS": "2"}, dispatchers=("dispatcher", "dispatcher#2"))
    w.wait_led(shards=2)
    ids = [i for user in ("ann", "bob", "cid", "dan", "eve", "fay") for i in w.upload(5, user)]
    w.wait_done(ids)
    assert w.fleet.one("SELECT max(attempts) FROM task") == 1


def test_each_shard_shows_its_own_part(world):
    """Gauges of two shards, led by whoever leads them, add up to what is true; who is no leader shows
    no queue; and a pause holds only when the leaders of both shards have seen it."""
    w = world(env={"DOCFLEET_SHARDS": "2"}, dispatchers=("dispatcher", "dispatcher#2"),
              stages=("ai", "preview"))
    w.wait_led(shards=2)
    admin = w.fleet.client("root", admin=True)

    def stage():
        return next(s for s in admin.json("/admin/stages")["items"] if s["stage"] == "text")

    def gauges(name, labels=""):
        return {label: value for d in w.dispatchers if w.fleet.running(d)
                for label, value in w.fleet.metrics(d).items()
                if label.startswith(name + '{stage="text"') and labels in label}
    admin.post("/admin/stages/text/pause", json={})
    rig.wait_until(lambda: stage()["pauseHolds"], 15, what="both shards hold")
    users = [f"user{n}" for n in range(12)]
    for n, user in enumerate(users):
        w.upload(n + 1, user)
    waiting = w.fleet.one("SELECT count(*) FROM task WHERE stage = 1 AND q = 0")

    def told():
        depth = gauges("docfleet_queue_depth", 'state="pending"')
        return len(depth) == 2 and sum(depth.values()) == waiting and depth
    depth = rig.wait_until(told, 20, what=f"{waiting} waiting, over two shards")
    assert min(depth.values()) > 0 and len({label.split('shard="')[1] for label in depth}) == 2, depth
    assert sum(gauges("docfleet_queue_users").values()) == len(users)
    assert list(gauges("docfleet_stage_paused").values()) == [1, 1]
    rows = w.fleet.sql("SELECT shard, paused FROM stage_shard WHERE stage = 1 ORDER BY shard")
    assert rows == [{"shard": 0, "paused": True}, {"shard": 1, "paused": True}]
    # one leader is gone: the other takes over, and each shard is shown once
    w.fleet.stop("dispatcher")
    rig.wait_until(told, 30, what="one process shows both shards")
    # a leader of the second shard that has not looked yet: what the first one says is not enough
    w.fleet.stop("dispatcher#2")
    w.fleet.sql("UPDATE queue_state SET updated_at = now() + interval '1 hour'")
    w.fleet.sql("UPDATE stage_shard SET updated_at = now() + interval '1 hour'")
    assert stage()["pauseHolds"]
    w.fleet.sql("UPDATE stage_shard SET paused = false WHERE stage = 1 AND shard = 1")
    assert stage()["paused"] and not stage()["pauseHolds"]


def test_bulk_lane_waits_but_is_not_starved(world):
    """A bulk re-run of one user beside another's uploads: the uploads go first, and the bulk gets
    every tenth turn."""
    w = world(slots=1, stages=("ai", "preview"))
    bulk, first = w.upload(60, "bulk"), w.upload(60, "first")
    w.fleet.sql("UPDATE task SET lane = 1 WHERE file_id = ANY(%s)", bulk)
    rig.wait_until(lambda: w.fleet.one("SELECT count(*) FROM task WHERE stage = 1 AND state = 1") >= 1,
                   10, what="the floor credit is out")
    w.fleet.start_sleepers("text", 1, 1, env=QUICK)
    w.wait_done(bulk + first)
    order = w.fleet.sql("SELECT t.lane FROM task t WHERE stage = 1 ORDER BY updated_at")
    lanes = [row["lane"] for row in order]
    while_both = lanes[:60]
    assert 4 <= sum(while_both) <= 14, while_both  # every tenth, and what was out before
    assert w.fleet.one("SELECT count(*) FROM task WHERE stage = 3 AND lane = 1") == 60  # handed on


def test_no_worker_no_resending(world):
    """Orders that nobody can claim are not sent again and again; when a worker comes they run."""
    w = world(env={"DOCFLEET_DISPATCH_TIMEOUT": "300ms"}, stages=("ai", "preview"))
    ids = w.upload(10)
    out = "SELECT count(*) FROM task WHERE stage = 1 AND state = 1"
    rig.wait_until(lambda: w.fleet.one(out) == 4, 10, what="the floor credit is out")
    rig.always(lambda: w.fleet.one("SELECT max(dispatch_seq) FROM task WHERE stage = 1") == 1, 3,
               "orders are sent once")
    w.fleet.start_sleepers("text", 1, 4, env=QUICK)
    w.wait_done(ids)


def test_queue_state(world):
    """The row each leader writes: fresh, its numbers add up, and its curve grows."""
    w = world(stages=("ai", "preview"))
    w.upload(30, "ann")
    w.upload(10, "bob")

    def state():
        rows = w.fleet.sql("SELECT *, extract(epoch FROM now() - updated_at)::float8 AS age"
                           " FROM queue_state WHERE stage = 1")
        return rows[0] if rows and rows[0]["waiting"] == 36 and rows[0]["out"] == 4 else None
    row = rig.wait_until(state, 10, what="36 waiting, 4 out")
    assert row["users"] == 2 and row["rate"] is None and row["age"] < 3
    curve = row["curve"]
    assert curve[0][0] == 0 and curve[-1][1] == 36, curve
    assert all(a[0] < b[0] and a[1] <= b[1] for a, b in zip(curve, curve[1:]))
    w.fleet.start_sleepers("text", 1, 4, env=QUICK)

    def idle():
        rows = w.fleet.sql("SELECT * FROM queue_state WHERE stage = 1")
        return rows[0]["waiting"] == 0 and rows[0]["out"] == 0 and rows[0]["rate"] > 0
    rig.wait_until(idle, 20, what="all gone, and a rate")
    backlog = w.fleet.sql("SELECT n, oldest_at FROM backlog WHERE stage = 1")[0]
    assert backlog["n"] == 0 and backlog["oldest_at"] is None


def test_leader_connection_lost(world):
    """The session that holds a leader lock is cut: the stage is led again, nothing runs twice."""
    w = world(dispatchers=("dispatcher", "dispatcher#2"))
    ids = w.upload(20)
    w.fleet.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                " AND classid = 776000 AND granted")
    ids += w.upload(20)
    w.wait_done(ids)
    w.wait_led()
    assert w.fleet.one("SELECT max(attempts) FROM task") == 1
