# SPDX-License-Identifier: Apache-2.0
"""Fault matrix, what users and operators do at the worst moment: removals and replays."""
import concurrent.futures
import time

import pytest

from chaos import matrix
from lib import invariants, rig

STAGES = ("text", "ocr", "ai", "preview", "thumbnail")


def wait_state(a, file_id, stage, states, timeout=30):
    rig.wait_until(lambda: a.count(
        "file_id = %s AND stage = %s AND unit > 0 AND state = ANY(%s)" if stage == "ocr" else
        "file_id = %s AND stage = %s AND state = ANY(%s)", file_id, matrix.STAGE[stage],
        list(states)), timeout, 0.01, what=f"{stage} in {states}")


def gone(a, file_id):
    return a.fleet.sql("SELECT state FROM file WHERE file_id = %s", file_id)[0]["state"] == 7


@pytest.mark.parametrize("stage", ["text", *matrix.in_full("ocr", "ai", "preview", "thumbnail")])
def test_f31_delete_at_every_state(new_fleet, stage):
    """A file is removed while its task of this stage waits, is sent, runs, is done or dead; the same
    bytes come again at once."""
    with matrix.arena(new_fleet, "F31", f"delete during {stage}",
                      env={"DOCFLEET_SLEEP_THUMBNAIL": "true"}) as a:
        a.start(stages=STAGES, sleep=(1, 1.2), puts=True, slots=6)
        a.load(files=60, elephant=30, users=20)
        prefix = "pages40-" if stage == "ocr" else ""
        name, client = matrix.WORKER[stage], a.client("user1")
        effects = []

        def remove(file_id, what):
            client.delete(f"/files/{file_id}")
            again = a.upload("user1", [f"{prefix}again-{what}.txt"])[0]
            at = a.fleet.one("SELECT clock_timestamp()")
            effects.append((file_id, at, again))
            a.accepted.pop(file_id)
        # waiting: the stage is paused
        a.fleet.ctl("stages", "pause", stage)
        time.sleep(1.2)
        (file_id,) = a.upload("user1", [f"{prefix}w.txt"])
        if stage not in ("ocr",):
            wait_state(a, file_id, stage, [0])
        remove(file_id, "waiting")
        a.fleet.ctl("stages", "resume", stage)
        # sent: the worker sleeps for a moment
        worker = a.fleet.process(name)
        worker.send(matrix.signal.SIGSTOP)
        (file_id,) = a.upload("user1", [f"{prefix}s.txt"])
        if stage == "ocr":
            time.sleep(1.5)
        else:
            wait_state(a, file_id, stage, [0, 1])
        remove(file_id, "sent")
        worker.send(matrix.signal.SIGCONT)
        for what, states in (("running", [2]), ("done", [4])):
            (file_id,) = a.upload("user1", [f"{prefix}{what}.txt"])
            wait_state(a, file_id, stage, states, 60)
            remove(file_id, what)
        (file_id,) = a.upload("user1", [f"fail-{stage}-{prefix}dead.txt"])
        wait_state(a, file_id, stage, [5], 60)
        remove(file_id, "dead")
        a.quiesce(90)
        for file_id, at, _ in effects:
            assert gone(a, file_id)
            late = a.fleet.sql(
                "SELECT extract(epoch FROM at - %s)::float AS s FROM chaos.task_step WHERE file_id ="
                " %s AND stage <> 6 AND now = 4 ORDER BY 1 DESC LIMIT 1", at, file_id)
            assert not late or late[0]["s"] <= rig.bound(0.2), f"an effect after the removal: {late}"
            assert not [k for k in a.fleet.objects() if file_id in k]
        a.check(objects=True)


@matrix.full
def test_f31_delete_an_elephant(new_fleet):
    files = 10_000 if matrix.FULL else 1_000
    with matrix.arena(new_fleet, "F31", f"delete of {files} files", defaults=True,
                      env={"DOCFLEET_SECOND_PASS": "2s"}) as a:
        a.start(sleep=(0.2, 0.6), puts=True)
        a.make_users(3)
        ids = []
        for i in range(0, files, 1000):
            ids += a.upload("user0", [f"e{i + n}.txt" for n in range(min(1000, files))])
        a.upload("user1", [f"m{i}.txt" for i in range(20)])
        a.wait_done(20)
        dataset = a.datasets["user0"]
        began = time.monotonic()
        a.client("user0").delete(f"/datasets/{dataset}", expect=(200, 202, 204))
        a.figure("answerS", time.monotonic() - began)
        at = a.fleet.one("SELECT clock_timestamp()")
        for file_id in ids:
            a.accepted.pop(file_id)
        a.quiesce(600 if matrix.FULL else 240)
        late = a.fleet.sql(
            "SELECT extract(epoch FROM max(s.at) - %s)::float AS s FROM chaos.task_step s JOIN file f"
            " USING (file_id) WHERE f.dataset_id = %s AND s.stage <> 6 AND s.now IN (2, 4)",
            at, dataset)[0]["s"]
        a.figure("lastEffectS", max(0.0, late or 0.0), 5)
        assert a.fleet.one("SELECT count(*) FROM file WHERE state = 7") == files
        assert not [k for k in a.fleet.objects("artifacts/") if k.split("/")[1] in set(ids)]
        a.check()


def dead_files(a, n):
    """Files that have died of their own, and their open letters."""
    ids = a.upload("user1", [f"fail-dead{i}.txt" for i in range(n)])
    rig.wait_until(lambda: a.count("state = 5") == n, 30, what="dead units")
    return ids


def replay_all(a):
    return a.fleet.ctl("dead-letters", "replay", "--stage", "text", check=False,
                       env={"DOCFLEET_API_KEY": a.fleet.user_key("root", True)}).returncode


def test_f33_replays_at_once(new_fleet):
    """Dead letters replayed by many at the same time, while they run, and of removed files."""
    with matrix.arena(new_fleet, "F33", "concurrent replays") as a:
        a.start(sleep=(0.2, 0.4), puts=True)
        a.load(files=60, elephant=40, users=10)
        a.fleet.user_key("root", True)
        ids = dead_files(a, 12)
        client = a.client("user1")

        def retry(file_id):
            return client.request("POST", f"/files/{file_id}/retry").status_code

        def by_filter(_):
            return replay_all(a)
        # they fail again: each replay leads to exactly one more attempt
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            got = list(pool.map(retry, [i for i in ids for _ in range(3)]))
            got += list(pool.map(by_filter, range(3)))
        assert not [g for g in got if g >= 500], got
        # while they run
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(retry, ids))
        a.quiesce(60)
        # of removed files
        for file_id in ids[:4]:
            client.delete(f"/files/{file_id}")
            a.accepted.pop(file_id)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            got = list(pool.map(retry, ids[:4]))
        assert set(got) <= {404, 409, 410}, got
        assert replay_all(a) == 0
        a.quiesce(60)
        for file_id in ids[:4]:
            assert gone(a, file_id)
        letters = a.fleet.sql("SELECT file_id, count(*) FILTER (WHERE state = 'open') AS open,"
                              " count(*) AS n FROM dead_letter GROUP BY 1")
        assert all(r["open"] <= 1 for r in letters), letters
        a.figure("lettersPerFile", max(r["n"] for r in letters))
        a.check(dead=8, crashes=0, objects=True)
