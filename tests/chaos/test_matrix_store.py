# SPDX-License-Identifier: Apache-2.0
"""Fault matrix, object store and disks: errors, silence, lies, lost objects, no space."""
import os
import subprocess
import time

import pytest

from chaos import matrix
from lib import invariants, rig

REAL = ("text", "ai", "preview", "thumbnail")
FILES = {"files": 300} if matrix.FULL else {"files": 100, "elephant": 60, "users": 20}


def body(name):
    """A document whose number tells it from all others."""
    return f"Invoice number: {number(name)}\nInvoice date: 2024-05-02\n".encode()


def number(name):
    return "N-" + name.removesuffix(".txt").upper()


def right_values(a):
    """Every record says what its file says: no flipped or short bytes have got through."""
    wrong = [(r["name"], r["values"]) for r in a.fleet.sql(
        "SELECT f.name, r.values FROM record r JOIN file f USING (file_id)")
        if r["values"].get("c1") != number(r["name"])]
    assert not wrong, f"values that are not in the files: {wrong[:5]}"


def real_start(a, env=None):
    a.start(stages=(), real=REAL, env={"DOCFLEET_SLOTS": "2", **(env or {})})
    a.make_users(30)


@matrix.full
def test_f16_errors_of_the_store(new_fleet):
    with matrix.arena(new_fleet, "F16", "20 % of calls, then bursts", proxied=("s3",)) as a:
        real_start(a)
        a.s3.set(error_p=0.2, error_code=503, seed=a.seed)
        a.load(body=body, surely=True, batch=3, **FILES)
        for code in (500, 503):
            a.pause_random(0.5, 1.5)
            a.s3.set(error_p=1, error_code=code)
            time.sleep(2)
            a.s3.set(error_p=0.2)
        a.wait_done(len(a.accepted) // 2, timeout=120)
        a.s3.reset()
        a.figure("errors", a.s3.total("errors"))
        # the back-off of a unit grows with each call that fails: 2 s, 8, 32, 128, 512, half as much more
        longest = a.fleet.one("SELECT coalesce(extract(epoch FROM max(not_before) - now()), 0)::float"
                              " FROM task WHERE q = 1")
        a.figure("longestBackOffS", round(longest, 1))
        a.quiesce(longest + 60)
        right_values(a)
        a.check(crashes=0, failures=0, objects=True)


LIES = {"hang": {"hang_p": 0.05}, "truncate": {"truncate_p": 0.15}, "flip": {"flip_p": 0.15}}


@pytest.mark.parametrize("lie", ["flip", *matrix.in_full("hang", "truncate")])
@matrix.full
def test_f17_the_store_lies(new_fleet, lie):
    with matrix.arena(new_fleet, "F17", lie, proxied=("s3",)) as a:
        real_start(a)
        a.s3.set(method="GET", seed=a.seed, **LIES[lie])
        a.load(body=body, surely=True, **FILES)
        # half of the work under the fault; a hang is waited out by the client's own limit
        a.wait_done(len(a.accepted) // 2, timeout=150)
        a.s3.reset()
        if lie == "hang":
            a.s3.cut()
        stats = a.proxy.stats("s3")["s3"]
        a.figure("lies", stats["hangs"] + stats["truncated"] + stats["flipped"])
        a.quiesce(180)
        right_values(a)
        a.check(crashes=0, objects=True)


@matrix.full
def test_f18_stored_but_not_answered(new_fleet):
    with matrix.arena(new_fleet, "F18", "20 % of PUT", proxied=("s3",)) as a:
        real_start(a)
        a.s3.set(method="PUT", swallow_p=0.2, seed=a.seed)
        a.load(body=body, surely=True, batch=3, **FILES)
        a.wait_done(len(a.accepted) // 2, timeout=150)
        a.s3.reset()
        a.figure("swallowed", a.proxy.stats("s3")["s3"]["swallowed"])
        a.quiesce(120)
        right_values(a)
        a.check(crashes=0, failures=0, objects=True)


@pytest.mark.parametrize("how", ["missing", *matrix.in_full("replaced", "shorter")])
def test_f19_input_gone(new_fleet, how):
    with matrix.arena(new_fleet, "F19", how) as a:
        real_start(a)
        workers = [matrix.WORKER[s] for s in ("text", "preview")]
        a.fleet.stop(*workers)
        ids = a.load(files=30, elephant=20, users=6, body=body)
        gone = a.random.sample(ids, 10)
        for file_id in gone:
            (key,) = [k for k in a.fleet.objects("uploads/") if file_id in k]
            if how == "missing":
                a.fleet.s3().delete_object(Bucket=a.fleet.bucket, Key=key)
            else:
                old = a.fleet.object(key)
                a.fleet.s3().put_object(Bucket=a.fleet.bucket, Key=key,
                                        Body=b"X" * (len(old) - (how == "shorter")))
        for name in workers:
            a.fleet.start_again(name)
        a.quiesce(90)
        states = {str(r["file_id"]): (r["state"], r["errors"]) for r in a.fleet.sql(
            "SELECT file_id, state, errors FROM file")}
        for file_id in ids:
            state, errors = states[file_id]
            assert state == (3 if file_id in gone else 2), (how, errors)
            if file_id in gone:
                assert errors["main"]["code"] == "input_gone", errors
        most = a.fleet.one("SELECT max(attempts) FROM task WHERE state = 5")
        # bytes that differ may be a transfer's fault: they are read again, twice
        a.figure("attemptsUntilDead", most, 1 if how == "missing" else 3)
        a.check(crashes=0, dead=len(gone))


# --- full disks ----------------------------------------------------------------------------------

class SmallDisk:
    """A mount of a few megabytes; full() leaves nothing free until space() is called."""

    def __init__(self, path, size):
        os.makedirs(path, exist_ok=True)
        self.path, self.ballast = path, os.path.join(path, ".ballast")
        got = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", path],
                             capture_output=True, text=True)
        if got.returncode:
            pytest.skip(f"no mounts here: {got.stderr.strip()}")

    def full(self):
        with open(self.ballast, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"\0" * 65536)
            except OSError:
                pass

    def space(self):
        os.unlink(self.ballast)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=False)


@matrix.full
def test_f24_scratch_full(new_fleet):
    with matrix.arena(new_fleet, "F24", "scratch of a worker") as a:
        real_start(a)
        names = [matrix.WORKER[s] for s in REAL]
        a.fleet.stop(*names)
        with SmallDisk(os.path.join(a.fleet.dir, "small"), "4m") as disk:
            for name in names:
                a.fleet.start_again(name, env={"DOCFLEET_SCRATCH_DIR": disk.path,
                                               "DOCFLEET_SLOTS": "2"})
            disk.full()
            a.load(files=40, elephant=20, users=10, body=body)
            time.sleep(6)
            stuck = a.count("state = 4 AND stage = 1")
            disk.space()
            a.figure("doneWhileFull", stuck)
            a.quiesce(120)
            a.check(crashes=0, failures=0)
            a.fleet.stop(*names)


@matrix.full
@pytest.mark.parametrize("who", ["postgres", "kafka", "s3"])
def test_f24_server_disk_full(request, who):
    import conftest
    servers = rig.Servers(postgres_settings={"synchronous_commit": "on", "wal_keep_size": "0",
                                             "max_wal_size": "64MB", "min_wal_size": "32MB"})
    folder = {"postgres": "pg", "kafka": "kafka", "s3": "s3"}[who]
    conftest._state["current"] and conftest._stop_current()
    with SmallDisk(os.path.join(servers.dir, "disk"), "400m") as disk:
        if who != "postgres":  # initdb wants to make its own folder
            os.makedirs(f"{disk.path}/{folder}")
            os.symlink(f"{disk.path}/{folder}", f"{servers.dir}/{folder}")
        if who == "postgres":
            servers._init_postgres = lambda: init_on(servers, disk.path)
        made = []

        def make(env=None, build="release"):
            made.append(rig.Fleet(servers, env, build))
            return conftest._activate(made[-1])
        try:
            servers.start()
            with matrix.arena(make, "F24", f"disk of {who}") as a:
                a.start(sleep=(0.05, 0.2), puts=True)
                a.load(files=100, elephant=60)
                with a.trickle(every=0.3):
                    a.wait_done(20)
                    disk.full()
                    time.sleep(8)
                    disk.space()
                    if not servers.processes[who].alive():
                        servers.processes.pop(who).stop(9)
                        servers.start_server(who)
                        a.figure("serverHadToBeStarted", True)
                    time.sleep(2)
                a.quiesce(120)
                a.check(objects=True)
        finally:
            conftest._state["current"] and conftest._stop_current()
            servers.stop()


def init_on(servers, path):
    """The cluster's files on another disk, by a link that initdb does not mind."""
    real = servers.dir
    servers.dir = path
    try:
        rig.Servers._init_postgres(servers)
    finally:
        servers.dir = real
    os.rmdir(f"{path}/x") if os.path.isdir(f"{path}/x") else None
    os.symlink(f"{path}/pg", f"{real}/pg")
