# SPDX-License-Identifier: Apache-2.0
"""Dead letters as operators and users have them: filters, evidence, replay in chunks, at once and of
what is gone; and the same with docfleetctl."""
import json
import threading
import time

import pytest

from lib import invariants, rig
from test_gateway import problem
from test_gateway_admin import admin, alice, gateway, kill_units, replay, states  # noqa: F401


def many(gateway, client, n, stage, reason, **columns):
    """n files whose unit 0 of a stage was given up."""
    dataset = client.dataset()
    files = []
    for start in range(0, n, 500):
        parts = {f"{reason}-{i}.txt": b"x" for i in range(start, min(n, start + 500))}
        files += [f["id"] for f in client.upload(dataset, parts)["files"]]
    gateway.sql("update task set state = 5, q = null where file_id = any(%s) and stage = %s", files, stage)
    gateway.sql("insert into dead_letter (id, file_id, user_id, stage, unit, generation, reason, class,"
                " attempts, failures, crashes, last_error, first_at, dataset_id) select gen_random_uuid(),"
                " file_id, user_id, %s, 0, generation, %s, 'unknown', 3, 3, 0, 'x', now(), dataset_id"
                " from file where file_id = any(%s)", stage, reason, files)
    pipe = "main" if stage <= 3 else "preview"
    gateway.sql(f"update file set {pipe}_state = 3 where file_id = any(%s)", files)
    for name, value in columns.items():
        gateway.sql(f"update dead_letter set {name} = %s where reason = %s", value, reason)
    return dataset, files


def letters(client, path="/admin/dead-letters", **params):
    return client.json(path, params=dict(params, limit=200))["items"]


def test_every_filter(gateway, admin, alice):
    one, _ = many(gateway, alice, 2, 1, "encrypted", code_version="1.0")
    two, _ = many(gateway, gateway.client("bob"), 3, 4, "child_timeout", code_version="2.0")
    gateway.sql("update dead_letter set class = 'permanent', last_at = now() - interval '2 days'"
                " where reason = 'encrypted'")
    day = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 86400))
    assert len(letters(admin, reason="encrypted")) == 2
    assert len(letters(admin, stage="preview", datasetId=two)) == 3
    assert not letters(admin, stage="preview", datasetId=one)
    assert {d["reason"] for d in letters(admin, **{"class": "permanent"})} == {"encrypted"}
    assert {d["reason"] for d in letters(admin, version="2.0")} == {"child_timeout"}
    assert not letters(admin, reason="encrypted", since=day)
    assert len(letters(admin, reason="encrypted", until=day)) == 2
    bob = letters(admin, reason="child_timeout")[0]["userId"]
    assert {d["reason"] for d in letters(admin, userId=bob)} == {"child_timeout"}
    page = admin.json("/admin/dead-letters", params={"datasetId": two, "limit": 2})
    rest = admin.json("/admin/dead-letters", params={"datasetId": two, "limit": 2,
                                                     "cursor": page["nextCursor"]})
    assert len(page["items"]) == 2 and len(rest["items"]) == 1 and rest["nextCursor"] is None
    groups = admin.json("/admin/dead-letters/groups", params={"datasetId": two})["items"]
    assert [(g["stage"], g["letters"], g["replayable"]) for g in groups] == [("preview", 3, 3)]
    for bad in ({"stage": "x"}, {"since": "yesterday"}, {"since": "2026-02-31T00:00:00Z"}, {"state": "x"},
                {"class": "x"}, {"userId": "x"}):
        problem(admin.request("GET", "/admin/dead-letters", params=bad), 422, "invalid_value")
    for path in ("/admin/dead-letters", "/admin/dead-letters/groups", "/admin/users", "/admin/stages"):
        problem(alice.request("GET", path), 403, "forbidden")


def test_words_for_people_and_what_a_user_sees(gateway, admin, alice):
    _, files = many(gateway, alice, 1, 1, "corrupt", input_key="uploads/secret", worker="pod-7")
    mine = letters(alice, "/failures", fileId=files[0])
    assert len(mine) == 1 and "damaged" in mine[0]["explanation"] and mine[0]["advice"]
    assert not {"evidence", "userId", "actor", "child"} & set(mine[0])
    assert "pod-7" not in json.dumps(mine) and "secret" not in json.dumps(mine)
    assert not letters(gateway.client("bob"), "/failures", fileId=files[0])
    seen = admin.json(f"/admin/dead-letters/{mine[0]['id']}")
    assert seen["evidence"]["input"]["key"] == "uploads/secret" and seen["evidence"]["worker"] == "pod-7"
    problem(admin.request("GET", f"/admin/dead-letters/{files[0]}"), 404, "not_found")
    # his own failures a user sends back himself, to the lane of what somebody waits for
    assert alice.post(f"/files/{files[0]}/retry", json={}).json()["retried"] == 1
    assert gateway.one("select lane from task where file_id = %s and stage = 1", files[0]) == 0
    assert letters(alice, "/failures", fileId=files[0], state="any")[0]["state"] == "replayed"


def test_replay_in_chunks_with_a_limit(gateway, admin, alice):
    _, files = many(gateway, alice, 1300, 1, "chunks")
    first = admin.post("/admin/dead-letters/replay", json={"filter": {"reason": "chunks"}, "limit": 600}).json()
    assert (first["matched"], first["replayed"], first["more"]) == (1300, 600, True)
    began = time.monotonic()
    second = admin.post("/admin/dead-letters/replay", json={"filter": {"reason": "chunks"}}).json()
    assert (second["matched"], second["replayed"], second["more"]) == (700, 700, False)
    assert time.monotonic() - began >= 0.4, "no faster than 1,000 a second"
    lanes = gateway.sql("select lane, dispatch_seq, count(*) from task where file_id = any(%s) and stage = 1"
                        " group by 1, 2", files)
    assert lanes == [{"lane": 2, "dispatch_seq": 1, "count": 1300}]
    invariants.check_ledger(gateway)


def test_two_replays_while_removed_and_retried(gateway, admin, alice):
    """Operators replay, the user retries and removes, all at once: each unit goes once or not at all."""
    dataset, files = many(gateway, alice, 400, 1, "storm")
    kinds = [
        lambda: replay(rig.Client(admin.api, admin.key), reason="storm"),
        lambda: replay(rig.Client(admin.api, admin.key), datasetId=dataset),
        lambda: rig.Client(alice.api, alice.key).post(f"/datasets/{dataset}/files/retry", json={}),
        lambda: rig.Client(alice.api, alice.key).post(f"/datasets/{dataset}/files/remove",
                                                      json={"ids": files[::2]}),
        lambda: rig.Client(admin.api, admin.key).post("/admin/dead-letters/discard",
                                                      json={"filter": {"reason": "storm"}}),
    ]
    failed = []

    def run(call):
        try:
            call()
        except Exception as e:  # the thread's complaint is the test's
            failed.append(e)
    threads = [threading.Thread(target=run, args=(k,)) for k in kinds]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not failed, failed
    rows = gateway.sql("select f.state, t.state as task, t.dispatch_seq, t.generation = f.generation as now"
                       " from file f join task t using (file_id) where f.file_id = any(%s) and t.stage = 1",
                       files)
    assert len(rows) == 400 and max(r["dispatch_seq"] for r in rows) == 1
    for r in rows:
        # removed: cancelled, or dead as it was; there: waiting, or dead and its letter discarded
        assert (r["state"] == 6 and not r["now"] and r["task"] in (5, 6)) or \
            (r["state"] == 1 and r["now"] and r["task"] in (0, 5)), r
    assert sum(r["state"] == 6 for r in rows) == 200
    assert gateway.one("select count(*) from dead_letter d join task t using (file_id, stage, unit, generation)"
                       " where d.reason = 'storm' and d.state = 'open' and t.state <> 5") == 0
    invariants.check_ledger(gateway)


def test_a_discard_waits_for_nobody(gateway, admin, alice):
    """A retry holds the letters it closes in an order of its own: a discard that waited for one of them
    while it holds others would end in a deadlock, as a 503 for one of the two."""
    _, files = many(gateway, alice, 40, 1, "held")
    with gateway.db() as other, other.transaction():
        other.execute("update dead_letter set state = 'replayed', actor = 'x', closed_at = now()"
                      " where reason = 'held' and file_id = any(%s)", [files[::4]])
        done = admin.post("/admin/dead-letters/discard", json={"filter": {"reason": "held"}}).json()
    assert (done["matched"], done["discarded"], done["more"]) == (40, 30, False)
    assert gateway.sql("select state, count(*) from dead_letter where reason = 'held' group by 1 order by 1") == \
        [{"state": "discarded", "count": 30}, {"state": "replayed", "count": 10}]


def test_replay_of_what_runs_or_is_gone(gateway, admin, alice):
    dataset, files = many(gateway, alice, 2, 1, "gone_or_running")
    gateway.sql("update task set state = 2 where file_id = %s and stage = 1", files[0])
    alice.delete(f"/files/{files[1]}")
    got = replay(admin, reason="gone_or_running")
    assert (got["matched"], got["replayable"], got["replayed"]) == (2, 0, 0)
    assert states(gateway, files[0], 1) == [2]
    listed = {d["fileId"]: d for d in letters(admin, reason="gone_or_running")}
    assert listed[files[1]]["fileName"] is None and listed[files[0]]["fileName"]


def test_dead_units_leave_evidence(fleet, client):
    """What a worker writes when it gives up, with a letter that says which letter it follows."""
    root = fleet.client("root", admin=True)
    dataset = client.dataset()
    file = client.upload(dataset, {"bad.pdf": b"%PDF-1.4 broken"})["files"][0]["id"]
    failed = client.wait_done(file)
    error = failed["pipelines"]["main"]["error"]
    assert failed["state"] == "failed" and error["code"] == "corrupt" and "damaged" in error["explanation"]
    letter = letters(root, fileId=file, stage="text")[0]
    source = letter["evidence"]["input"]
    assert source["key"].startswith("uploads/") and source["etag"] and source["bytes"] == 15
    assert source["kind"] == "pdf" and source["version"] == 1
    assert letter["evidence"]["worker"] and letter["evidence"]["codeVersion"] == "0.1.0"
    assert (letter["attempts"], letter["failures"], letter["crashes"]) == (1, 1, 0)
    assert letter["datasetId"] == dataset and letter["class"] == "permanent" and letter["replayOf"] is None
    assert replay(root, id=letter["id"])["replayed"] == 1
    client.wait_done(file)
    again = rig.wait_until(lambda: letters(root, fileId=file, stage="text"), 20)[0]
    assert again["replayOf"] == letter["id"] and again["id"] != letter["id"]
    closed = root.json(f"/admin/dead-letters/{letter['id']}")
    assert closed["state"] == "replayed" and closed["actor"] == "root" and closed["closedAt"]


def test_what_lies_with_the_service_tells_users_nothing_of_it(new_fleet):
    """Servers and programs are named in dead letters, for operators; files, failures, timelines, events and
    receipts have words for people."""
    fleet = new_fleet()
    fleet.start("ingest-gateway", "dispatcher", "cleaner")
    for stage in ("text", "ai", "preview"):
        fleet.start_sleepers(stage, 1, 4, env={"DOCFLEET_SLEEP_MIN": "10ms", "DOCFLEET_SLEEP_MAX": "20ms"})
    alice, root = fleet.client(), fleet.client("root", admin=True)
    dataset = alice.dataset()
    answer = alice.upload(dataset, {"ours-a.txt": b"x", "flaky-b.txt": b"y"})
    files = {f["name"]: f for f in alice.wait_all(dataset, 60)}
    assert [files[n]["state"] for n in ("ours-a.txt", "flaky-b.txt")] == ["failed", "done"]
    error = files["ours-a.txt"]["pipelines"]["main"]["error"]
    assert error["code"] == "store_denied" and error["detail"] == error["explanation"]
    seen = [files, letters(alice, "/failures"), fleet.sql("SELECT body::text AS body FROM event"),
            alice.request("GET", f"/batches/{answer['batch']['id']}/receipt").text]
    seen += [alice.json(f"/files/{f['id']}/timeline") for f in files.values()]
    for inner in ("store-7", "asks to fail once"):
        assert inner not in json.dumps(seen)
    # why a unit was tried again is said by its code
    assert "child_crashed" in json.dumps(alice.json(f"/files/{files['flaky-b.txt']['id']}/timeline"))
    letter, = letters(root, reason="store_denied")
    assert letter["lastError"] == "https://store-7.internal: 403"


def test_stages_and_users(gateway, admin, alice):
    stage = admin.post("/admin/stages/ocr/pause", json={}).json()
    assert stage["stage"] == "ocr" and stage["paused"] is True
    assert [s["paused"] for s in admin.json("/admin/stages")["items"]].count(True) == 1
    assert admin.post("/admin/stages/ocr/resume", json={}).json()["paused"] is False
    problem(admin.request("POST", "/admin/stages/nothing/pause", json={}), 404, "not_found")
    problem(alice.request("POST", "/admin/stages/ocr/pause", json={}), 403, "forbidden")
    gateway.sql("insert into worker (worker_id, stage, slots, busy, open) values ('w1', 2, 4, 1, false),"
                " ('w2', 2, 4, 0, true)")
    gateway.sql("insert into queue_state (stage, rate, users, waiting, out) values (2, 2.5, 3, 70, 4)")
    ocr = next(s for s in admin.json("/admin/stages")["items"] if s["stage"] == "ocr")
    assert ocr["workers"] == {"live": 2, "slots": 8, "busy": 1, "breakersOpen": 1}
    assert (ocr["waiting"], ocr["out"], ocr["users"], ocr["ratePerSecond"]) == (70, 4, 3, 2.5)
    gateway.sql("delete from worker")
    gateway.sql("delete from queue_state")

    alice.upload(alice.dataset(), {"a.txt": b"12345"})
    users = {u["name"]: u for u in admin.json("/admin/users")["items"]}
    me = users["alice"]
    assert me["usage"]["files"] >= 1 and me["usage"]["bytes"] >= 5 and me["usage"]["inWorkMax"] == 100000
    assert admin.request("PATCH", f"/admin/users/{me['id']}", 200, json={"weight": 2.5}).json()["weight"] == 2.5
    assert gateway.one("select weight from account where user_id = %s", me["id"]) == 2.5
    for bad in ({}, {"weight": 0}, {"weight": "1"}, {"weight": 1e9}):
        problem(admin.request("PATCH", f"/admin/users/{me['id']}", json=bad), 422, "invalid_value")
    nobody = "01000000-0000-7000-8000-000000000000"
    problem(admin.request("PATCH", f"/admin/users/{nobody}", json={"weight": 1}), 404, "not_found")
    admin.request("PATCH", f"/admin/users/{me['id']}", 200, json={"weight": 1})
    actions = {r["action"] for r in gateway.sql("select action from audit")}
    assert {"stage.pause", "stage.resume", "user.change"} <= actions
