# SPDX-License-Identifier: Apache-2.0
"""What operators do through the gateway: dead letters, and keys that are made once."""
import threading

import pytest

from lib import rig
from test_gateway import problem


@pytest.fixture(scope="module")
def gateway(servers):
    """Only the gateway runs: nothing takes the tasks away."""
    made = rig.Fleet(servers)
    made.start("ingest-gateway")
    yield made
    made.stop()


@pytest.fixture
def admin(gateway):
    return gateway.client("root", admin=True)


@pytest.fixture
def alice(gateway):
    return gateway.client("alice")


def kill_units(gateway, file, stage, units, reason):
    """A file whose units of a stage were given up, as a worker leaves it."""
    pipe = {1: "main", 2: "main", 3: "main", 4: "preview", 5: "thumb"}.get(stage)
    for unit in units:
        gateway.sql("insert into task (user_id, file_id, stage, unit, generation, state, q, failures)"
                    " select user_id, file_id, %s, %s, generation, 5, null, 3 from file where file_id = %s"
                    " on conflict (file_id, stage, unit, generation) do update set state = 5, q = null,"
                    " failures = 3", stage, unit, file)
        gateway.sql("insert into dead_letter (id, file_id, user_id, stage, unit, generation, reason, class,"
                    " attempts, failures, crashes, last_error, first_at) select gen_random_uuid(), file_id,"
                    " user_id, %s, %s, generation, %s, 'unknown', 3, 3, 0, 'x', now() from file"
                    " where file_id = %s", stage, unit, reason, file)
    if units[0] > 0:
        gateway.sql("insert into stage_join select file_id, %s, generation, %s, 0, %s from file"
                    " where file_id = %s", stage, len(units), len(units), file)
    if pipe:
        gateway.sql(f"update file set state = 3, {pipe}_state = 3 where file_id = %s", file)


def replay(admin, dry=False, **filter):
    return admin.post("/admin/dead-letters/replay", 202, json={"filter": filter, "dryRun": dry}).json()


def states(gateway, file, stage):
    return [r["state"] for r in gateway.sql("select state from task where file_id = %s and stage = %s"
                                            " order by unit", file, stage)]


def test_replay_sends_back_just_what_is_meant(gateway, admin, alice):
    file = alice.upload(alice.dataset(), {"a.pdf": b"%PDF-1.4"})["files"][0]["id"]
    kill_units(gateway, file, 2, [1, 2, 3], "crashed")
    kill_units(gateway, file, 4, [0], "timeout")
    letters = admin.json("/admin/dead-letters", params={"fileId": file})["items"]
    assert len(letters) == 4 and all(d["replayable"] and d["state"] == "open" for d in letters)
    dry = replay(admin, True, fileId=file)
    groups, examples = dry.pop("groups"), dry.pop("examples")
    assert dry == {"matched": 4, "replayable": 4, "replayed": 0, "more": False, "dryRun": True}
    assert [(g["stage"], g["reason"], g["letters"]) for g in groups] == [("ocr", "crashed", 3),
                                                                         ("preview", "timeout", 1)]
    assert {e["id"] for e in examples} == {d["id"] for d in letters}
    assert states(gateway, file, 2) == [5, 5, 5]
    one = next(d for d in letters if d["unit"] == 2)
    assert replay(admin, id=one["id"])["replayed"] == 1
    assert states(gateway, file, 2) == [5, 0, 5] and states(gateway, file, 4) == [5]
    task = gateway.one("select failures, dispatch_seq, q, lane from task where file_id = %s and stage = 2"
                       " and unit = 2", file)
    assert task == {"failures": 0, "dispatch_seq": 1, "q": 0, "lane": 2}
    join = gateway.one("select left_, failed from stage_join where file_id = %s and stage = 2", file)
    assert join == {"left_": 1, "failed": 2}
    assert replay(admin, id=one["id"]) | {"matched": 0, "replayed": 0} == replay(admin, id=one["id"])
    assert replay(admin, reason="crashed", fileId=file)["replayed"] == 2
    assert states(gateway, file, 4) == [5] and alice.file(file)["state"] == "processing"
    closed = gateway.sql("select state, actor, count(*) from dead_letter where file_id = %s group by 1, 2"
                         " order by 1", file)
    assert [(c["state"], c["actor"], c["count"]) for c in closed] == [("open", None, 1),
                                                                      ("replayed", "root", 3)]


def test_replays_at_once_send_back_once(gateway, admin, alice):
    dataset = alice.dataset()
    files = [f["id"] for f in alice.upload(dataset, {f"{i}.txt": b"x" for i in range(12)})["files"]]
    for file in files:
        kill_units(gateway, file, 1, [0], "at_once")
    got = []
    threads = [threading.Thread(target=lambda: got.append(replay(
        rig.Client(admin.api, admin.key), reason="at_once")["replayed"])) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert sum(got) == 12 and len(got) == 4
    seqs = gateway.sql("select dispatch_seq from task where file_id = any(%s) and stage = 1", files)
    assert {s["dispatch_seq"] for s in seqs} == {1}
    counts = alice.json(f"/datasets/{dataset}/summary")["files"]
    assert counts["total"] == 12 and counts["byState"]["processing"] >= 12


def test_what_has_moved_on_is_left(gateway, admin, alice):
    made = alice.upload(alice.dataset(), {"gone.txt": b"x", "again.txt": b"y"})["files"]
    gone, again = (f["id"] for f in made)
    for file in (gone, again):
        kill_units(gateway, file, 1, [0], "moved")
    alice.delete(f"/files/{gone}")
    alice.post(f"/files/{again}/retry", json={"from": "text"})
    gateway.sql("update dead_letter set state = 'open' where file_id = %s", again)
    got = replay(admin, reason="moved")
    assert (got["matched"], got["replayable"], got["replayed"]) == (2, 0, 0)
    assert gateway.one("select state from file where file_id = %s", gone) == 6
    assert not any(d["replayable"] for d in
                   admin.json("/admin/dead-letters", params={"reason": "moved"})["items"])
    # the cleaning of a removed file is the exception: without it the file would stay for ever
    kill_units(gateway, gone, 6, [0], "clean_failed")
    assert replay(admin, stage="clean", fileId=gone)["replayed"] == 1
    assert gateway.one("select state from file where file_id = %s", gone) == 6
    assert states(gateway, gone, 6) == [0]


def test_discard(gateway, admin, alice):
    file = alice.upload(alice.dataset(), {"a.txt": b"x"})["files"][0]["id"]
    kill_units(gateway, file, 1, [0], "to_discard")
    body = {"filter": {"reason": "to_discard"}}
    dry = admin.post("/admin/dead-letters/discard", 202, json=dict(body, dryRun=True)).json()
    assert (dry["matched"], dry["discarded"]) == (1, 0)
    assert admin.post("/admin/dead-letters/discard", 202, json=body).json()["discarded"] == 1
    assert admin.post("/admin/dead-letters/discard", 202, json=body).json()["discarded"] == 0
    assert replay(admin, reason="to_discard")["matched"] == 0 and states(gateway, file, 1) == [5]
    assert gateway.one("select count(*) from audit where action = 'dead_letter.discard'") == 2
    problem(alice.request("POST", "/admin/dead-letters/replay", json=body), 403, "forbidden")
    problem(admin.request("POST", "/admin/dead-letters/replay", json={"filter": {"what": "x"}}), 422,
            "invalid_value")


def test_a_key_is_made_once(gateway, admin, alice):
    headers = {"Idempotency-Key": "make-1"}
    made = alice.post("/api-keys", 201, json={"name": "k"}, headers=headers).json()
    again = problem(alice.request("POST", "/api-keys", json={"name": "k"}, headers=headers), 409,
                    "secret_not_kept")
    assert "not kept" in again["detail"] and made["key"] not in str(again)
    problem(alice.request("POST", "/api-keys", json={"name": "other"}, headers=headers), 409,
            "idempotency_conflict")
    assert [k["name"] for k in alice.json("/api-keys")["items"]].count("k") == 1
    secret = made["key"].rsplit("_", 1)[1]
    assert gateway.one("select count(*) from idempotency where response like %s", f"%{secret}%") == 0
    got = []

    def make():
        answer = rig.Client(alice.api, alice.key).request("POST", "/api-keys", json={"name": "race"},
                                                          headers={"Idempotency-Key": "make-2"})
        got.append(answer.status_code)
    threads = [threading.Thread(target=make) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert sorted(got) == [201, 409, 409, 409]
    assert [k["name"] for k in alice.json("/api-keys")["items"]].count("race") == 1
