# SPDX-License-Identifier: Apache-2.0
"""Fault matrix, processes: killed, stopped, too many, too few, replaced, with a wrong clock."""
import concurrent.futures
import json
import os
import signal
import subprocess
import threading
import time

import confluent_kafka
import pytest

from chaos import matrix
from lib import invariants, rig

POINTS = ["before_put", "after_put", "before_commit", "after_commit", "before_reply"]


@pytest.mark.parametrize("point", ["after_commit", *matrix.in_full(*[
    p for p in POINTS if p != "after_commit"])])
def test_f01_gateway_killed(new_fleet, point):
    with matrix.arena(new_fleet, "F01", point, faults=True) as a:
        a.start(sleep=(0.02, 0.1))
        a.load(files=100, elephant=0)
        nth = a.random.randint(1, 200) if point.endswith("put") else 1
        a.rerun("ingest-gateway", env={"DOCFLEET_CRASH_AT": f"gateway.{point}:{nth}"})
        names = [f"e{i}.txt" for i in range(200)]
        key = {"Idempotency-Key": f"elephant-{a.seed}"}
        with pytest.raises(OSError):
            a.upload("user0", names, headers=key)
        assert a.fleet.wait_end("ingest-gateway") == -signal.SIGKILL
        a.fleet.start_again("ingest-gateway", env=None)
        ids = a.upload("user0", names, headers=key)
        assert a.upload("user0", names, headers=key) == ids, "the same key gave other files"
        assert a.fleet.one("SELECT count(*) FROM file") == 300
        a.quiesce(60)
        a.check(amplification=1.0, crashes=0, objects=True)


@pytest.mark.parametrize("point", ["dispatch.after_commit",
                                   *matrix.in_full("dispatch.after_produce")])
def test_f02_dispatcher_killed(new_fleet, point):
    with matrix.arena(new_fleet, "F02", point, faults=True, defaults=True) as a:
        a.start(sleep=(0.1, 0.3))
        a.rerun("dispatcher", env={"DOCFLEET_CRASH_AT": f"{point}:{a.random.randint(8, 40)}"})
        a.load()
        assert a.fleet.wait_end("dispatcher", timeout=60) == -signal.SIGKILL
        died = time.monotonic()
        out = a.fleet.sql("SELECT file_id, stage, unit, generation, dispatch_seq FROM task"
                          " WHERE state = 1 AND stage <> 6")
        a.fleet.start_again("dispatcher", env=None)
        a.figure("ordersOut", len(out))

        def all_moved():
            left = a.fleet.one(
                "SELECT count(*) FROM task t JOIN json_to_recordset(%s) AS o(file_id uuid,"
                " stage int, unit int, generation int, dispatch_seq int) USING (file_id, stage, unit,"
                " generation) WHERE t.state = 1 AND t.dispatch_seq = o.dispatch_seq",
                json.dumps(out, default=str))
            return left == 0
        rig.wait_until(all_moved, 60, 0.05, what="all orders claimed or sent again")
        a.figure("movedOnS", time.monotonic() - died, 10 + 2 + 1)  # and the start of a process
        a.quiesce(120)
        a.check(amplification=1.0, crashes=0)


WORKERS = ("text", "ocr", "ai", "preview", "thumbnail")


def name_of(i):
    return "pages40-" if i % 10 == 0 else ""


@pytest.mark.parametrize("point", ["work.after_put", *matrix.in_full(
    "claim.before", "claim.after_commit", "random", "complete.before", "complete.after_commit",
    "commit.before")])
def test_f03_every_worker_killed(new_fleet, point):
    with matrix.arena(new_fleet, "F03", point, faults=True,
                      env={"DOCFLEET_SLEEP_THUMBNAIL": "true"}) as a:
        a.start(stages=WORKERS, sleep=(0.03, 0.1), puts=True)
        # offsets are committed once a second only, and this load is over in a few
        nth = {s: a.random.randint(1, 2) if point == "commit.before" else a.random.randint(3, 12)
               for s in WORKERS}
        if point != "random":
            for stage in WORKERS:
                a.rerun(matrix.WORKER[stage], env={
                    **a.fleet._how[matrix.WORKER[stage]]["env"],
                    "DOCFLEET_CRASH_AT": f"{point}:{1 if stage == 'ocr' else nth[stage]}"})
        a.make_users(30)
        a.upload("user0", [f"{name_of(i)}e{i}.txt" for i in range(200)])
        for i in range(100):
            a.upload(a.users[1 + i % 29], [f"{name_of(i)}m{i}.txt"])
        died = {}
        for _ in WORKERS:
            if point == "random":
                a.pause_random(0.2, 1)
                stage = WORKERS[len(died)]
                a.fleet.kill9(matrix.WORKER[stage])
            stage = rig.wait_until(lambda: next((
                s for s in WORKERS if s not in died and not a.fleet.running(matrix.WORKER[s])),
                None), 60, 0.01, what="a worker's death")
            at = a.fleet.one("SELECT clock_timestamp()")
            running = a.count("state = 2 AND stage = %s", matrix.STAGE[stage])
            died[stage] = (at, running)
            env = {k: v for k, v in a.fleet._how[matrix.WORKER[stage]]["env"].items()
                   if k != "DOCFLEET_CRASH_AT"}
            a.rerun(matrix.WORKER[stage], env=env, wait=False)
        a.quiesce(90)
        lost = a.fleet.sql("SELECT stage, at FROM event WHERE body->>'reason' = 'worker_lost'")
        late = [(r["at"] - died[s][0]).total_seconds() for r in lost
                for s in died if matrix.STAGE[s] == r["stage"]]
        a.figure("unitsLost", len(lost))
        if late:
            a.figure("takenBackS", max(late), matrix.LEASE + 3)
        a.check(crashes=sum(n for _, n in died.values()), objects=True)


@pytest.mark.parametrize("point", matrix.in_full("clean.after_uploads", "clean.after_objects",
                                                 "clean.after_rows"))
def test_f04_cleaner_killed(new_fleet, point):
    with matrix.arena(new_fleet, "F04", point, faults=True) as a:
        a.start(sleep=(0.01, 0.05), puts=True)
        a.load()
        a.quiesce(60)
        a.rerun("cleaner", env={"DOCFLEET_CRASH_AT": f"{point}:{a.random.randint(1, 50)}"})
        by_user = {}
        for file_id, (user, _) in a.accepted.items():
            by_user.setdefault(user, []).append(file_id)
        gone = by_user["user0"][:150] + by_user["user1"]
        for user, ids in (("user0", gone[:150]), ("user1", gone[150:])):
            for file_id in ids:
                a.client(user).delete(f"/files/{file_id}")
        assert a.fleet.wait_end("cleaner", timeout=30) == -signal.SIGKILL
        a.fleet.start_again("cleaner", env=None)
        a.quiesce(60)
        a.check(objects=True)
        assert a.fleet.one("SELECT count(*) FROM file WHERE state = 7") == len(gone)
        left = [k for k in a.fleet.objects() if any(f in k for f in gone)]
        assert not left, f"objects of removed files: {left}"


@pytest.mark.parametrize("point,stopped", [
    ("work.after_put", 8), *matrix.in_full(("complete.before", 60), ("work.after_put", 60))])
@pytest.mark.parametrize("stage", ["ai", *matrix.in_full("ocr")])
def test_f05_zombie(new_fleet, stage, point, stopped):
    defaults = stopped >= 60
    with matrix.arena(new_fleet, "F05", f"{stage} {point} {stopped} s", faults=True,
                      defaults=defaults) as a:
        a.start(stages=("text", "ocr", "ai", "preview"), sleep=(0.05, 0.2), puts=True)
        name = matrix.WORKER[stage]
        a.worker(stage, replica=2, env={"DOCFLEET_STOP_AT": f"{point}:{a.random.randint(4, 12)}"})
        a.make_users(30)
        zombie = a.fleet.process(name + "#2")

        def asleep():
            """When it fell asleep, and with how many units; its lease is short, so it is watched."""
            rig.wait_until(lambda: open(f"/proc/{zombie.pid}/stat", encoding="utf-8").read().rsplit(
                ")", 1)[1].split()[0] == "T", 90, 0.01, what="the zombie asleep")
            return time.monotonic(), a.count("state = 2 AND stage = %s AND lease_owner LIKE %s",
                                             matrix.STAGE[stage], f"%:{zombie.pid}:%")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            watched = pool.submit(asleep)
            a.load(prefix="pages40-" if stage == "ocr" else "", files=60 if stage == "ocr" else 300,
                   elephant=20 if stage == "ocr" else 200)
            slept, held = watched.result()
        a.figure("unitsHeld", held)
        assert held > 0
        rig.wait_until(lambda: a.count("state = 2 AND lease_owner LIKE %s",
                                       f"%:{zombie.pid}:%") == 0, 40, what="the units taken back")
        a.figure("takenBackS", time.monotonic() - slept, (15 if defaults else matrix.LEASE) + 3)
        rig.wait_until(lambda: time.monotonic() - slept >= stopped, stopped + 1)
        zombie.send(signal.SIGCONT)
        a.quiesce(120)
        rig.wait_until(lambda: sum(v for k, v in a.fleet.metrics(name + "#2").items() if
                                   k.startswith("docfleet_leases_lost_total")) >= 1, 20,
                       what="the fenced write refused")
        named = invariants.referenced(a.fleet)
        rig.wait_until(lambda: set(a.fleet.objects()) == named, 20,
                       what="the loser's objects gone, without a sweep")
        a.check(crashes=held)


def locks(fleet):
    """Database sessions that hold a stage leader's lock."""
    return fleet.sql("SELECT DISTINCT a.pid, a.application_name FROM pg_locks l JOIN"
                     " pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted"
                     " AND a.datname = current_database() AND a.application_name LIKE '%%dispatcher%%'")


def test_f06_two_leaders_at_once(new_fleet):
    with matrix.arena(new_fleet, "F06", "lock lost", faults=True) as a:
        a.start(sleep=(0.05, 0.15))
        a.fleet.start("dispatcher#2")
        stop, deposed = threading.Event(), []

        def depose():
            while not stop.wait(0.3):
                for row in locks(a.fleet):
                    a.fleet.sql("SELECT pg_terminate_backend(%s)", row["pid"])
                    deposed.append(row["pid"])
        thread = threading.Thread(target=depose)
        thread.start()
        try:
            a.load()
            a.wait_done(150, timeout=90)
        finally:
            stop.set()
            thread.join()
        # One is stopped between commit and send, the other leads meanwhile, the first goes on.
        a.rerun("dispatcher", env={"DOCFLEET_STOP_AT": "dispatch.after_commit:1"}, wait=False)
        first = a.fleet.process("dispatcher")
        a.upload("user1", [f"more{i}.txt" for i in range(20)])

        def asleep():
            with open(f"/proc/{first.pid}/stat", encoding="utf-8") as f:
                return f.read().rsplit(")", 1)[1].split()[0] == "T"
        end = time.monotonic() + 5
        while not asleep() and time.monotonic() < end:  # it leads as soon as the other loses its locks
            for row in locks(a.fleet):
                a.fleet.sql("SELECT pg_terminate_backend(%s)", row["pid"])
            time.sleep(0.5)
        a.figure("stoppedAsLeader", asleep())
        for row in locks(a.fleet):
            a.fleet.sql("SELECT pg_terminate_backend(%s)", row["pid"])
        time.sleep(3)
        first.send(signal.SIGCONT)
        a.figure("deposed", len(deposed))
        a.quiesce(90)
        a.check(amplification=1.0, crashes=0)


@pytest.mark.parametrize("seconds", [14, *matrix.in_full(60)])
@matrix.full
def test_f21_rebalance_storm(new_fleet, seconds):
    """A member of each group comes or goes every two seconds."""
    with matrix.arena(new_fleet, "F21", f"{seconds} s", env={}) as a:
        a.start(sleep=(0.2, 0.6))
        a.load(files=300 if seconds < 30 else 900, elephant=200 if seconds < 30 else 700)

        def rate(span):
            before = a.count("state = 4 AND stage <> 6")
            time.sleep(span)
            return (a.count("state = 4 AND stage <> 6") - before) / span
        time.sleep(1)
        calm = rate(4)
        began, extra = time.monotonic(), []
        before = a.count("state = 4 AND stage <> 6")
        while time.monotonic() - began < seconds:
            tick = time.monotonic()
            if extra:
                a.fleet.stop(*extra)
                extra = []
            else:
                extra = [a.worker(s, replica=9, slots=1, wait=False) for s in ("text", "ai", "preview")]
            time.sleep(max(0.0, 2 - (time.monotonic() - tick)))
        busy = a.count("state < 4") > 0
        storm = (a.count("state = 4 AND stage <> 6") - before) / (time.monotonic() - began)
        a.figure("unitsPerSecondCalm", calm)
        a.figure("unitsPerSecondStorm", storm)
        a.figure("share", storm / calm)
        assert not busy or storm >= 0.7 * calm, f"throughput in the storm: {storm} of {calm}"
        a.quiesce(120)
        a.check(amplification=1.0, crashes=0)


@matrix.full
def test_f22_scale_up_down_to_none(new_fleet):
    with matrix.arena(new_fleet, "F22", "1, 6, 0, 3") as a:
        a.start(sleep=(0.1, 0.3), slots=2)
        a.load()
        a.wait_done(20)
        for stage in ("text", "ai"):
            for n in range(2, 7):
                a.worker(stage, replica=n, wait=False)
        a.pause_random(2, 3)
        names = [n for n in a.fleet.processes
                 if n.split("#")[0] in (matrix.WORKER["text"], matrix.WORKER["ai"])]
        assert set(a.fleet.stop(*names).values()) == {0}
        time.sleep(2)
        for stage in ("text", "ai"):
            for n in (None, 2, 3):
                a.worker(stage, replica=n, wait=False)
        a.quiesce(90)
        a.check(amplification=1.0, crashes=0)


@matrix.full
def test_f23_rolling_restart_of_every_service(new_fleet):
    """From one build to another and back, each service in turn, while files come in."""
    with matrix.arena(new_fleet, "F23", "every service, there and back") as a:
        a.start(sleep=(0.1, 0.4))
        for name in ("dispatcher#2", "cleaner#2", "ingest-gateway#2"):
            a.fleet.start(name)
        for stage in ("text", "ai", "preview"):
            a.worker(stage, replica=2)
        names = [n for n in a.fleet.processes if not n.startswith("ingest-gateway")]
        slow = 0.0
        with a.trickle(every=0.2):
            a.load()
            for build in ("release-faults", "release"):
                for name in names:
                    began = time.monotonic()
                    assert a.fleet.stop(name) == {name: 0}
                    slow = max(slow, time.monotonic() - began)
                    a.fleet.start_again(name, build=build)
            # the gateway: clients repeat what the closed port refused
            for build in ("release-faults", "release"):
                assert a.fleet.stop("ingest-gateway") == {"ingest-gateway": 0}
                a.fleet.start_again("ingest-gateway", build=build)
        a.figure("slowestStopS", slow)
        a.quiesce(90)
        a.check(amplification=1.0, crashes=0)


def test_f23_fields_of_a_newer_version_are_ignored(new_fleet, servers):
    with matrix.arena(new_fleet, "F23", "unknown fields and headers") as a:
        a.start(sleep=(0.01, 0.02))
        a.make_users(1)
        a.fleet.stop("dispatcher")
        (file_id,) = a.upload("user0", ["new.txt"])
        with a.fleet.db() as conn:
            row = conn.execute("UPDATE task SET state = 1, q = NULL, dispatch_seq = dispatch_seq + 1"
                               " WHERE file_id = %s AND stage = 1 RETURNING *", (file_id,)).fetchone()
        order = {"specversion": "1.0", "id": "x-1", "source": "docfleet/other", "later": [1, {}],
                 "type": "docfleet.work.v1", "datacontenttype": "application/json",
                 "data": {"userId": str(row["user_id"]), "fileId": file_id, "stage": "text",
                          "unit": 0, "generation": 1, "dispatchSeq": row["dispatch_seq"],
                          "cost": 1, "shard": 7, "hints": {"a": [None]}}}
        producer = confluent_kafka.Producer({"bootstrap.servers": servers.kafka_brokers})
        producer.produce("docfleet.text.v1", json.dumps(order), str(row["user_id"]), partition=0,
                         headers=[("later", b"\xff"), ("content-type", b"text/odd")])
        producer.flush(10)
        rig.wait_until(lambda: a.count("file_id = %s AND stage = 1 AND state = 4", file_id), 15,
                       what="the order taken")
        a.fleet.start_again("dispatcher")
        a.quiesce(30)
        a.check(amplification=1.0, crashes=0)


@pytest.fixture(scope="module")
def wrong_clock():
    """The library that tells a process the wrong time."""
    made = os.path.join(rig.ROOT, "build", "chaos", "wrong_clock.so")
    os.makedirs(os.path.dirname(made), exist_ok=True)
    source = os.path.join(rig.ROOT, "tests", "chaos", "wrong_clock.c")
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o",
                    f"{made}.{os.getpid()}", source], check=True)
    os.replace(f"{made}.{os.getpid()}", made)
    return made


@pytest.mark.parametrize("who", ["dispatcher", *matrix.in_full("text-extractor")])
@pytest.mark.parametrize("offset,rate", [("7200", "1"), *matrix.in_full(("-7200", "1"),
                                                                       ("0", "1.5"))])
def test_f25_wrong_clock(new_fleet, wrong_clock, who, offset, rate):
    with matrix.arena(new_fleet, "F25", f"{who} {offset} s, x{rate}") as a:
        a.start(sleep=(0.05, 0.15))
        a.rerun(who, env={**(a.fleet._how[who]["env"] or {}), "LD_PRELOAD": wrong_clock,
                          "WRONG_CLOCK_OFFSET": offset, "WRONG_CLOCK_RATE": rate})
        if who != "dispatcher":
            a.worker("text", replica=2)
        a.load()
        a.quiesce(60)
        a.check(amplification=1.0, crashes=0)


def test_f34_lease_ends_at_the_instant_of_completion(new_fleet):
    """The rows are held until the lease is over: whoever asked first wins, and nobody else."""
    with matrix.arena(new_fleet, "F34", "row locks as a barrier") as a:
        a.start(sleep=(0.3, 0.6), puts=True, slots=8)
        a.load(files=100, elephant=60, users=10)
        won = {"worker": 0, "sweeper": 0}
        for _ in range(4 if not matrix.FULL else 12):
            # A unit that loses its lease for the third time is given up, as if it killed its workers. So
            # whoever lost one comes to its end first.
            rig.wait_until(lambda: a.count("stage = 1 AND state < 4 AND attempts >= 2") == 0, 30)
            rig.wait_until(lambda: a.count("state = 2 AND stage = 1") >= 2 or
                           a.count("stage = 1 AND state < 2") == 0, 30)
            with a.fleet.db() as conn, conn.transaction():
                rows = conn.execute("SELECT file_id, lease_token, attempts FROM task WHERE state = 2"
                                    " AND stage = 1 FOR UPDATE").fetchall()
                time.sleep(matrix.LEASE + a.random.uniform(0.2, 0.8))
            def settled():
                return a.fleet.one("SELECT count(*) FROM task WHERE file_id = ANY(%s) AND stage = 1"
                                   " AND state = 2 AND lease_until < now()",
                                   [r["file_id"] for r in rows]) == 0
            rig.wait_until(settled, 20, what="a winner for every unit")
            for r in rows:
                now = a.fleet.sql("SELECT state, lease_token FROM task WHERE file_id = %s AND"
                                  " stage = 1", r["file_id"])[0]
                same = now["lease_token"] == r["lease_token"] and now["state"] == 4
                won["worker" if same else "sweeper"] += 1
            if a.count("stage = 1 AND state < 2") == 0:
                break
        a.figure("won", won)
        a.quiesce(90)
        a.check(objects=True)
