# SPDX-License-Identifier: Apache-2.0
"""Fault matrix, what users send and what it does to processes: poison, bombs, no memory."""
import os
import random
import signal
import time

import pytest

from chaos import matrix
from chaos.test_matrix_store import body, right_values
from lib import rig

BAD = {  # first bytes -> what the child does; the reason that the letter must give
    "!segv": {"child_crashed"}, "!abort": {"child_crashed"}, "!loop": {"child_timeout"},
    "!alloc": {"expands_too_much", "file_too_large", "child_crashed", "out_of_memory"},
    "!fork": {"child_crashed", "corrupt"},
}
HOSTILE = {"zip-bomb.docx": {"expands_too_much"}, "pixel-bomb.png": {"too_many_pixels"},
           "truncated.pdf": {"corrupt"}, "encrypted.pdf": {"encrypted"}}


def ends(a, ids):
    """{name: (state, code of the main error, seconds from acceptance to its last event)}"""
    return {r["name"]: (r["main_state"], (r["errors"].get("main") or {}).get("code"), r["s"])
            for r in a.fleet.sql(
                "SELECT f.name, f.main_state, f.errors, extract(epoch FROM max(e.at) -"
                " f.accepted_at)::float AS s FROM file f JOIN event e USING (file_id)"
                " WHERE f.file_id = ANY(%s::uuid[]) AND e.stage = 1 GROUP BY 1, 2, 3, f.accepted_at",
                ids)}


@pytest.fixture
def poison_dir(tmp_path):
    (tmp_path / "text-extractor-zygote").symlink_to(
        os.path.join(rig.ROOT, "build", "release", "bin", "poison-zygote"))
    return str(tmp_path)


def real_load(a, poison, fixture_path=None):
    """Mice of many users beside the poison of one; gives the ids of the poison."""
    a.make_users(30)
    ids = []
    if poison:
        ids = a.upload("user29", [f"{k[1:]}.txt" for k in BAD],
                       lambda n: b"!" + n.removesuffix(".txt").encode() + b" poison\n")
        if fixture_path:
            for name in HOSTILE:
                with open(fixture_path(name), "rb") as f:
                    ids += a.upload("user29", [name], lambda _, data=f.read(): data)
    for i in range(80 if not matrix.FULL else 300):
        a.upload(a.users[i % 28], [f"m{i}.txt"], body)
    return ids


@matrix.full
def test_f26_poison_in_the_parser(new_fleet, fixture_path, poison_dir):
    with matrix.arena(new_fleet, "F26", "parser", defaults=True) as a:
        a.start(stages=(), real=("text", "ai", "preview", "thumbnail", "ocr"))
        a.rerun("text-extractor", env={"DOCFLEET_ZYGOTE_DIR": poison_dir})
        real_load(a, False)
        a.quiesce(180)
        alone = sorted(a.latencies())
        before = set(a.accepted)
        ids = real_load(a, True, fixture_path)
        a.quiesce(400)
        got = ends(a, ids)
        for name, wanted in [(k[1:] + ".txt", v) for k, v in BAD.items()] + list(HOSTILE.items()):
            state, code, seconds = got[name]
            assert state == 3 and code in wanted, f"{name}: {state} {code}"
            if name != "loop.txt":  # its limit is processor time, three times 30 s
                assert seconds <= 60, f"{name} was dead only after {seconds} s"
        a.figure("deadAfterS", {n: round(s, 1) for n, (_, _, s) in got.items()})
        most = a.fleet.one("SELECT max(attempts) FROM task WHERE state = 5")
        a.figure("attemptsUntilDead", most, 3)
        beside = sorted(s for f, s in zip(*ends_of(a, set(a.accepted) - before - set(ids))))
        a.figure("p99AloneS", alone[int(len(alone) * 0.99) - 1])
        a.figure("p99BesideS", beside[int(len(beside) * 0.99) - 1])
        right_values_of(a, ids)
        a.check(dead=len(ids), crashes=0)


def ends_of(a, ids):
    rows = a.fleet.sql("SELECT f.file_id, extract(epoch FROM max(e.at) - f.accepted_at)::float AS s"
                       " FROM file f JOIN event e USING (file_id) WHERE f.file_id = ANY(%s::uuid[])"
                       " AND e.body->>'final' = 'true' GROUP BY 1, f.accepted_at", list(ids))
    return [r["file_id"] for r in rows], [r["s"] for r in rows]


def right_values_of(a, poison):
    bad = a.fleet.sql("SELECT name FROM file WHERE state <> 2 AND NOT file_id = ANY(%s::uuid[])",
                      poison)
    assert not bad, f"bystanders that were harmed: {bad}"
    right_values(a)


@matrix.full
def test_f26_poison_that_kills_the_worker(new_fleet):
    """Three files that end the process: dead after three crashes; nobody beside them is."""
    with matrix.arena(new_fleet, "F26", "worker", defaults=True) as a:
        a.start(sleep=(0.1, 0.3))
        a.worker("text", replica=2)
        a.load(files=60, elephant=30)
        a.quiesce(60)
        alone = sorted(a.latencies())
        old = set(a.accepted)
        a.make_users(31)
        poison = a.upload("user30", [f"poison-{i}.txt" for i in range(3)])
        died = 0
        a.load(files=300, elephant=200, prefix="b-")
        end = time.monotonic() + 150
        while time.monotonic() < end and a.count("state < 4"):
            for name in ("text-extractor", "text-extractor#2"):
                if not a.fleet.running(name):
                    died += 1
                    a.rerun(name, wait=False)
            time.sleep(0.1)
        a.quiesce(30)
        a.figure("workerDeaths", died, 9)
        letters = a.fleet.sql("SELECT reason, crashes, attempts, extract(epoch FROM last_at -"
                              " first_at)::float AS s FROM dead_letter")
        assert {r["reason"] for r in letters} == {"crash_loop"} and len(letters) == 3, letters
        assert all(r["crashes"] <= 3 for r in letters)
        a.figure("deadAfterS", max(r["s"] for r in letters), 60)
        mice = [s for f, s in zip(*ends_of(a, set(a.accepted) - old - set(poison)))
                if a.accepted[str(f)][0] != "user0"]
        a.figure("p99AloneS", alone[-1])
        a.figure("p99BesideS", sorted(mice)[int(len(mice) * 0.99) - 1])
        a.check(dead=3)


def children(process):
    """Descendants that are no zygote: the caged children."""
    found = []
    for pid in process.children():
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                parent = int(f.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent != process.pid:
            found.append(pid)
    return found


@matrix.full
def test_f27_children_killed_for_want_of_memory(new_fleet, fixture_path):
    """As the kernel would: SIGKILL to children at random, and once to the parent."""
    with matrix.arena(new_fleet, "F27", "children, then the parent") as a:
        a.start(stages=(), real=("text", "ai", "preview", "thumbnail", "ocr"))
        a.make_users(20)
        with open(fixture_path("mixed.pdf"), "rb") as f:
            data = f.read()
        for i in range(30):
            a.upload(a.users[i % 20], [f"c{i}.pdf"], lambda n: data + f"\n%{n}\n".encode())
        chance, killed = random.Random(a.seed), {}
        end = time.monotonic() + 10
        while time.monotonic() < end and a.count("stage IN (1, 4) AND state < 4"):
            for name in ("text-extractor", "preview-worker"):
                pids = children(a.fleet.process(name))
                if pids and chance.random() < 0.3:
                    try:
                        os.kill(chance.choice(pids), signal.SIGKILL)
                        killed[name] = killed.get(name, 0) + 1
                    except ProcessLookupError:
                        pass
            time.sleep(0.02)
        a.figure("childrenKilled", sum(killed.values()))
        running = a.count("state = 2 AND stage IN (1, 4)")
        for name in ("text-extractor", "preview-worker"):
            a.fleet.kill9(name)
            a.rerun(name)
        a.quiesce(200)
        # three kills of one unit's child are its own fault as far as anyone can tell
        letters = a.fleet.sql("SELECT reason, failures FROM dead_letter")
        assert all(r["reason"] == "child_crashed" and r["failures"] >= 2 for r in letters), letters
        a.figure("deadByThreeKills", len(letters))
        a.check(crashes=running, done=False)
        for name in ("text-extractor", "preview-worker"):
            assert not children(a.fleet.process(name)), "a child is left"
