# SPDX-License-Identifier: Apache-2.0
"""What users do to files while the fleet works: cancel, retry, re-run, remove; and what the event
stream tells them of it."""
import json
import signal
import threading
import time

import pytest

from lib import invariants, rig

ENV = {"DOCFLEET_SECOND_PASS": "500ms", "DOCFLEET_CLEAN_INTERVAL": "500ms"}
OTHERS = ("text-extractor", "preview-worker", "ocr-fallback", "ai-extractor", "thumbnail-worker")


@pytest.fixture(scope="module")
def shop(servers):
    """One fleet that empties folders again soon, for the whole module."""
    import conftest
    fleet = rig.Fleet(servers, ENV)
    conftest._activate(fleet)
    fleet.start()
    yield fleet
    conftest._stop_current()


@pytest.fixture
def lively(shop):
    """All services run, also after a test that failed while some were stopped."""
    stopped = [s for s in rig.SERVICES if not shop.running(s)]
    if stopped:
        shop.start(*stopped)
    return shop


@pytest.fixture
def alice(lively):
    return lively.client()


@pytest.fixture
def dataset(alice):
    return alice.dataset()


def upload(client, dataset, files):
    return {f["name"]: f["id"] for f in client.upload(dataset, files)["files"]}


def counts(client, dataset):
    """Those of the states that have any."""
    by_state = client.json(f"/datasets/{dataset}/summary")["files"]["byState"]
    return {s: n for s, n in by_state.items() if n}


def running(client, file_id, stage, state="running"):
    items = client.json(f"/files/{file_id}/timeline")["items"]
    return [i for i in items if i["stage"] == stage and i["detail"].get("state") == state]


def note(n):
    return f"Invoice number: AC-{n}\nInvoice date: 2024-05-02\nTotal amount: EUR {n}.50\n".encode()


# --- cancel ---------------------------------------------------------------------------------------

def test_cancel_while_waiting(lively, alice, dataset):
    lively.stop(*OTHERS)
    made = alice.upload(dataset, {f"{i}.txt": note(i) for i in range(4)})
    ids = [f["id"] for f in made["files"]]
    assert {p["state"] for i in ids for n, p in alice.file(i)["pipelines"].items()
            if n != "thumbnail"} == {"waiting"}
    assert alice.post(f"/files/{ids[0]}/cancel").json()["cancelled"] == 1
    got = alice.file(ids[0])
    assert got["state"] == "cancelled" and got["generation"] == 2
    assert {p["state"] for p in got["pipelines"].values()} == {"cancelled"}
    assert alice.post(f"/files/{ids[0]}/cancel").json()["cancelled"] == 0
    assert counts(alice, dataset) == {"cancelled": 1, "processing": 3}

    lively.start(*OTHERS)
    states = {f["name"]: f["state"] for f in alice.wait_all(dataset)}
    assert states == {"0.txt": "cancelled", "1.txt": "done", "2.txt": "done", "3.txt": "done"}
    assert not running(alice, ids[0], "text") and not running(alice, ids[0], "preview")
    assert alice.request("GET", f"/files/{ids[0]}/text").status_code == 404
    assert alice.json(f"/files/{ids[0]}/record")["items"] == []
    assert counts(alice, dataset) == {"cancelled": 1, "done": 3}

    assert alice.post(f"/files/{ids[0]}/retry", json={"from": "text"}).json()["retried"] >= 1
    got = alice.wait_done(ids[0], states=("done", "failed"))
    assert got["state"] == "done" and got["generation"] == 3
    assert alice.json(f"/files/{ids[0]}/record")["items"][0]["values"]["Invoice number"] == "AC-0"
    assert counts(alice, dataset) == {"done": 4}
    invariants.wait_quiet(lively)
    invariants.check_rows(lively, ids)


def test_a_paused_stage_sends_nothing(lively, alice, dataset, fixture_path):
    """From when the pause is told to hold; the other stages go on."""
    root = lively.client("root", admin=True)

    def text():
        return next(s for s in root.json("/admin/stages")["items"] if s["stage"] == "text")

    try:
        assert root.post("/admin/stages/text/pause", json={}).json()["paused"]
        rig.wait_until(lambda: text()["pauseHolds"], 10, what="the dispatcher holds back")
        (file_id,) = upload(alice, dataset, [fixture_path("invoice.pdf")]).values()
        rig.wait_until(lambda: alice.file(file_id)["pipelines"]["thumbnail"]["state"] == "done", 60,
                       what="the picture")
        assert alice.file(file_id)["pipelines"]["main"]["state"] == "waiting"
        assert lively.one("SELECT attempts FROM task WHERE file_id = %s AND stage = 1",
                          file_id) == 0
    finally:
        root.post("/admin/stages/text/resume", json={})
    alice.wait_done(file_id)
    assert not text()["pauseHolds"]


def test_cancel_while_it_runs(lively, alice, dataset, fixture_path):
    made = alice.upload(dataset, [fixture_path("scan-12.pdf"), fixture_path("note.txt")])
    scan, other = (f["id"] for f in made["files"])
    rig.wait_until(lambda: running(alice, scan, "ocr"), 60, what="ocr at work")
    alice.post(f"/batches/{made['batch']['id']}/cancel")
    assert alice.file(scan)["state"] == "cancelled"
    rig.wait_until(lambda: lively.metrics("ocr-fallback").get('docfleet_inflight{stage="ocr"}') == 0,
                   5, what="ocr has let go within 5 s")
    invariants.wait_quiet(lively)
    assert alice.file(scan)["state"] == "cancelled"
    assert alice.json(f"/files/{scan}/record")["items"] == []
    assert alice.file(other)["state"] in ("done", "cancelled")
    invariants.check_rows(lively, [scan, other])


def test_cancel_keeps_what_is_done(lively, alice, dataset):
    """The state of main decides; the stream says the same."""
    lively.stop("preview-worker")
    (file_id,) = upload(alice, dataset, {"kept.txt": note(7)}).values()
    rig.wait_until(lambda: alice.file(file_id)["pipelines"]["main"]["state"] == "done", 20)
    assert alice.file(file_id)["state"] == "processing"
    alice.post(f"/files/{file_id}/cancel")
    got = alice.file(file_id)
    assert got["state"] == "done" and got["pipelines"]["preview"]["state"] == "cancelled"
    last = alice.json(f"/files/{file_id}/timeline")["items"][-1]["detail"]
    assert (last["action"], last["state"]) == ("cancel", "done")
    assert alice.json(f"/files/{file_id}/record")["items"][0]["values"]["Invoice number"] == "AC-7"
    lively.start("preview-worker")
    alice.post(f"/files/{file_id}/retry", json={"from": "preview"})
    assert alice.wait_done(file_id)["pipelines"]["preview"]["state"] == "done"
    invariants.wait_quiet(lively)
    invariants.check_rows(lively, [file_id])


# --- retry and re-run -----------------------------------------------------------------------------

def put_back(fleet, key, data):
    fleet.s3().put_object(Bucket=fleet.bucket, Key=key, Body=data)


def lose_input(fleet, client, dataset, files):
    """Uploads, and takes the objects away before a worker sees them; gives ids and what was taken."""
    fleet.stop(*OTHERS)
    before = set(fleet.objects("uploads/"))
    ids = upload(client, dataset, files)
    lost = {k: fleet.object(k) for k in set(fleet.objects("uploads/")) - before}
    for key in lost:
        fleet.s3().delete_object(Bucket=fleet.bucket, Key=key)
    fleet.start(*OTHERS)
    return ids, lost


def test_retry_of_a_dead_file(lively, alice, dataset):
    ids, lost = lose_input(lively, alice, dataset, {f"{i}.txt": note(i) for i in range(3)})
    files = {f["name"]: f for f in alice.wait_all(dataset)}
    for file in files.values():
        for pipeline in ("main", "preview"):
            error = file["pipelines"][pipeline]["error"]
            assert (file["state"], error["code"], error["class"]) == \
                ("failed", "input_gone", "permanent"), file
        assert file["pipelines"]["main"]["error"]["stage"] == "text"
        assert file["pipelines"]["main"]["error"]["detail"]
    assert counts(alice, dataset) == {"failed": 3}
    letters = lively.sql("SELECT stage, reason, state FROM dead_letter WHERE file_id = %s", ids["0.txt"])
    assert {(r["stage"], r["state"]) for r in letters} == {(1, "open"), (4, "open")}

    # without its object a retry fails the same way
    alice.post(f"/files/{ids['0.txt']}/retry", json={})
    rig.wait_until(lambda: len(running(alice, ids["0.txt"], "text")) == 2, 20)
    assert alice.wait_done(ids["0.txt"])["state"] == "failed"

    for key, data in lost.items():
        put_back(lively, key, data)
    assert alice.post(f"/files/{ids['0.txt']}/retry", json={}).json()["retried"] == 2
    file = alice.wait_done(ids["0.txt"], states=("done",))
    assert file["generation"] == 1 and file["pipelines"]["main"]["error"] is None
    assert {p["state"] for p in file["pipelines"].values()} == {"done"}
    assert counts(alice, dataset) == {"done": 1, "failed": 2}
    got = alice.post(f"/datasets/{dataset}/files/retry", json={"filter": {"state": ["failed"]}}).json()
    assert got["retried"] == 2
    rig.wait_until(lambda: counts(alice, dataset) == {"done": 3}, 30)
    assert len(alice.json(f"/datasets/{dataset}/records")["items"]) == 3
    left = lively.sql("SELECT state FROM dead_letter WHERE file_id = ANY(%s::uuid[])",
                      list(ids.values()))
    assert {r["state"] for r in left} == {"replayed"}
    assert alice.post(f"/files/{ids['0.txt']}/retry", json={}).json()["retried"] == 0
    invariants.wait_quiet(lively)
    invariants.check_rows(lively, list(ids.values()))


def test_a_rerun_from_ai_reads_nothing_again(lively, alice, dataset, fixture_path):
    (file_id,) = upload(alice, dataset, [fixture_path("invoice-scan.pdf")]).values()
    before = alice.wait_done(file_id)
    assert before["state"] == "done" and before["artifacts"]["text"]["method"] == "ocr"
    record = alice.json(f"/files/{file_id}/record")["items"]
    text = alice.get(f"/files/{file_id}/text").text
    times = {s: len(running(alice, file_id, s)) for s in ("text", "ocr", "ai", "preview")}

    assert alice.post(f"/files/{file_id}/retry", json={"from": "ai"}).json()["retried"] == 1
    after = alice.wait_done(file_id)
    assert after["state"] == "done" and after["generation"] == before["generation"] + 1
    assert {s: len(running(alice, file_id, s)) for s in times} == dict(times, ai=times["ai"] + 1)
    again = alice.json(f"/files/{file_id}/record")["items"]
    assert len(again) == 1 and again[0]["generation"] == record[0]["generation"] + 1
    assert again[0]["values"] == record[0]["values"] and again[0]["id"] != record[0]["id"]
    assert alice.get(f"/files/{file_id}/text").text == text
    assert alice.get(f"/files/{file_id}/preview/1.webp").content[:4] == b"RIFF"
    assert after["artifacts"]["text"] == before["artifacts"]["text"]
    assert len(alice.json(f"/datasets/{dataset}/records")["items"]) == 1
    invariants.wait_quiet(lively)
    invariants.check_rows(lively, [file_id])


def test_a_rerun_leaves_other_failures_as_they_are(lively, alice, dataset, fixture_path):
    """A broken preview keeps its reason when the record is made again; its letter stays open until
    the preview itself is done again."""
    (file_id,) = upload(alice, dataset, [fixture_path("invoice.pdf")]).values()
    alice.wait_done(file_id)
    key = next(k for k in lively.objects("uploads/") if file_id in k)
    data = lively.object(key)
    lively.s3().delete_object(Bucket=lively.bucket, Key=key)
    alice.post(f"/files/{file_id}/retry", json={"from": "preview"})
    broken = alice.wait_done(file_id)
    assert broken["state"] == "done" and broken["pipelines"]["preview"]["error"]["code"] == "input_gone"
    alice.post(f"/files/{file_id}/retry", json={"from": "ai"})
    again = alice.wait_done(file_id)
    assert again["state"] == "done"
    assert again["pipelines"]["preview"]["error"] == broken["pipelines"]["preview"]["error"]
    put_back(lively, key, data)
    alice.post(f"/files/{file_id}/retry", json={"from": "preview"})
    whole = alice.wait_done(file_id)
    assert {p["state"] for p in whole["pipelines"].values()} == {"done"}
    assert lively.one("SELECT count(*) FROM dead_letter WHERE file_id = %s AND state = 'open'",
                      file_id) == 0
    invariants.wait_quiet(lively)
    invariants.check_rows(lively, [file_id])


@pytest.mark.parametrize("stage", ["text", "preview", "thumbnail"])
def test_a_rerun_from_any_stage_ends_done(lively, alice, dataset, fixture_path, stage):
    (file_id,) = upload(alice, dataset, [fixture_path("invoice.pdf")]).values()
    before = alice.wait_done(file_id)
    alice.post(f"/files/{file_id}/retry", json={"from": stage})
    after = alice.wait_done(file_id)
    assert after["state"] == "done" and after["generation"] == before["generation"] + 1
    assert {p["state"] for p in after["pipelines"].values()} == {"done"}
    assert len(running(alice, file_id, stage)) == 2
    assert after["artifacts"]["preview"]["pages"] == 1
    assert len(alice.json(f"/files/{file_id}/record")["items"]) == 1
    assert alice.get(f"/files/{file_id}/thumbnail").content[:4] == b"RIFF"


def test_a_rerun_from_ai_of_a_file_that_was_never_read_reads_it(lively, alice, dataset, fixture_path):
    """Without its text a record could only be empty: the re-run starts where the reading does."""
    (file_id,) = upload(alice, dataset, [fixture_path("encrypted.pdf")]).values()
    assert alice.wait_done(file_id)["state"] == "failed"
    alice.post(f"/files/{file_id}/retry", json={"from": "ai"})
    again = alice.wait_done(file_id)
    assert again["state"] == "failed" and again["pipelines"]["main"]["error"]["code"] == "encrypted"
    assert alice.json(f"/files/{file_id}/record")["items"] == []


# --- removal --------------------------------------------------------------------------------------

def gone(fleet, client, dataset, ids):
    """At once: from every list and every address of the API."""
    assert not {f["id"] for f in client.files(dataset)} & set(ids)
    records = client.json(f"/datasets/{dataset}/records", params={"limit": 200})["items"]
    assert not {r["fileId"] for r in records} & set(ids)
    for file_id in ids:
        for path in ("", "/text", "/record", "/preview", "/thumbnail", "/content", "/timeline"):
            assert client.request("GET", f"/files/{file_id}{path}").status_code == 404, path


def test_remove_while_it_runs(lively, alice, dataset, fixture_path):
    """One, many, by filter: rows go at once, work stops, objects go after the second pass."""
    names = ["scan-12.pdf", "chapters.pdf", "contract.docx", "mixed.pdf", "fax.tiff", "delivery.jpg",
             "invoice.pdf", "letter.odt", "order.eml", "harbour.jpg"]
    ids = upload(alice, dataset, [fixture_path(n) for n in names] +
                 [(f"note-{i}.txt", note(i)) for i in range(6)])
    rig.wait_until(lambda: running(alice, ids["scan-12.pdf"], "ocr"), 60, what="ocr at work")
    one, many = [ids["scan-12.pdf"]], [ids[n] for n in names[1:5]]
    assert alice.delete(f"/files/{one[0]}").json() == {"removed": 1}
    gone(lively, alice, dataset, one)
    remove = f"/datasets/{dataset}/files/remove"
    assert alice.post(remove, json={"ids": many + one}).json()["removed"] == len(many)
    gone(lively, alice, dataset, one + many)
    notes = [i for n, i in ids.items() if n.startswith("note-")]
    assert alice.post(remove, json={"filter": {"q": "note-"}}).json()["removed"] == len(notes)
    gone(lively, alice, dataset, one + many + notes)
    assert sum(counts(alice, dataset).values()) == len(ids) - len(one + many + notes)
    invariants.check_ledger(lively)

    kept = set(ids.values()) - set(one + many + notes)
    assert {f["id"] for f in alice.wait_all(dataset)} == kept
    assert {f["state"] for f in alice.files(dataset)} == {"done"}
    dead = one + many + notes
    rig.wait_until(lambda: not [k for k in lively.objects() if any(i in k for i in dead)], 40,
                   what="the objects of removed files go")
    rig.wait_until(lambda: lively.one("SELECT count(*) FROM file WHERE state = 6") == 0, 40,
                   what="every removal has ended")
    rest = {t: lively.one(f"SELECT count(*) FROM {t} WHERE file_id = ANY(%s::uuid[])", dead)
            for t in ("artifact", "file_page", "record")}
    assert rest == {"artifact": 0, "file_page": 0, "record": 0}
    assert alice.post(remove, json={"filter": {}}).json()["removed"] == len(kept)
    assert alice.files(dataset) == [] and counts(alice, dataset) == {}
    invariants.wait_quiet(lively)
    invariants.check_rows(lively)


def test_removed_work_stops_within_five_seconds(lively, alice, dataset, fixture_path):
    (file_id,) = upload(alice, dataset, [fixture_path("scan-12.pdf")]).values()
    rig.wait_until(lambda: running(alice, file_id, "ocr"), 60, what="ocr at work")
    alice.delete(f"/files/{file_id}")
    rig.wait_until(lambda: lively.metrics("ocr-fallback").get('docfleet_inflight{stage="ocr"}') == 0,
                   5, what="ocr has let go within 5 s")
    rig.wait_until(lambda: not [k for k in lively.objects() if file_id in k], 30,
                   what="its objects go")


def test_removal_of_a_dataset_takes_its_files(lively, alice, dataset, fixture_path):
    ids = upload(alice, dataset, [fixture_path("invoice.pdf"), fixture_path("delivery.jpg")])
    assert alice.delete(f"/datasets/{dataset}").json()["removed"] == 2
    assert alice.request("GET", f"/datasets/{dataset}/files").status_code == 404
    for file_id in ids.values():
        assert alice.request("GET", f"/files/{file_id}").status_code == 404
    rig.wait_until(lambda: not [k for k in lively.objects() if any(i in k for i in ids.values())], 40,
                   what="the objects go")
    invariants.wait_quiet(lively)
    invariants.check_rows(lively)


# --- events ---------------------------------------------------------------------------------------

class Listener(threading.Thread):
    """Reads the stream, and comes back with Last-Event-ID each time it ends or after `breaks` events."""

    def __init__(self, client, last, breaks=None):
        super().__init__(daemon=True)
        self.client, self.last, self.breaks = client, last, breaks
        self.got, self.connections, self.over = [], 0, threading.Event()

    def run(self):
        while not self.over.is_set():
            try:
                with self.client.events(last_event_id=self.last, timeout=3) as stream:
                    self.connections += 1
                    for n, event in enumerate(stream, 1):
                        self.got.append(event)
                        self.last = event["id"]
                        if self.over.is_set() or (self.breaks and n % self.breaks == 0):
                            break
            except (OSError, AssertionError):
                time.sleep(0.05)

    def finish(self):
        self.over.set()
        self.join(30)
        return self.got


def position(fleet, user):
    """Of the user's newest event; 0 is before the first."""
    return fleet.one("SELECT coalesce(max(pos), 0) FROM event JOIN account USING (user_id)"
                     " WHERE account.name = %s", user)


def is_final(event):
    return event["data"].get("detail", {}).get("final", False)


def all_have_positions(fleet):
    return fleet.one("SELECT count(*) FROM event WHERE pos IS NULL") == 0


def check_order(events):
    """A file is created first and final last; a unit runs before it is done."""
    told = {}
    for event in (e for e in events if e["event"] in ("file_created", "file_updated") and
                  e["data"].get("stage") != "clean"):
        file_id, detail = event["data"]["fileId"], event["data"].get("detail", {})
        before = told.setdefault(file_id, [])
        what = (event["data"].get("stage"), detail.get("unit"), event["data"]["state"])
        if event["event"] == "file_created":
            assert not before, before
        elif what[2] == "done" and what[0]:
            assert (*what[:2], "running") in before, (what, before)
        before.append("final" if is_final(event) else what)
    assert all(t[-1] == "final" and t.count("final") == 1 for t in told.values()), told


def test_a_client_that_comes_back_misses_nothing(lively, alice, fixture_path):
    """One listener breaks off after every seventh event, one stays; the gateway ends and is killed
    on the way. Both see what the table holds, in its order, once."""
    user = lively.client("listener")
    dataset = user.dataset()
    user.upload(dataset, {"first.txt": note(0)})
    user.wait_all(dataset)
    rig.wait_until(lambda: all_have_positions(lively), what="positions")
    start = position(lively, "listener")
    listeners = [Listener(lively.client("listener"), start, breaks=7),
                 Listener(lively.client("listener"), start)]
    for listener in listeners:
        listener.start()
    for round_ in range(3):
        user.upload(dataset, [fixture_path("mixed.pdf"), (f"r{round_}.txt", note(round_))]
                    if round_ == 0 else {f"r{round_}-{i}.txt": note(i) for i in range(4)})
        rig.wait_until(lambda: listeners[0].connections and listeners[1].connections > round_,
                       what="both listen")
        if round_ == 0:
            lively.restart("ingest-gateway")
        elif round_ == 1:
            lively.kill9("ingest-gateway")
            lively.processes.pop("ingest-gateway").stop(signal.SIGKILL)
            lively.start("ingest-gateway")
    files = user.wait_all(dataset)
    user.delete(f"/files/{files[0]['id']}")
    invariants.wait_quiet(lively)
    rig.wait_until(lambda: all_have_positions(lively), what="positions")
    truth = [r["pos"] for r in lively.sql(
        "SELECT pos FROM event WHERE pos > %s AND kind <> 'dead_letter' AND user_id ="
        " (SELECT user_id FROM file WHERE file_id = %s) ORDER BY pos", start, files[0]["id"])]
    end = truth[-1]
    try:
        for listener in listeners:
            rig.wait_until(lambda: listener.last and int(listener.last) >= end, 30,
                           what=f"event {end}")
    finally:
        seen = [listener.finish() for listener in listeners]
    for listener, events in zip(listeners, seen):
        assert [int(e["id"]) for e in events] == truth, f"{listener.connections} connections"
    assert listeners[0].connections >= len(truth) // 7 and listeners[1].connections >= 3
    assert seen[0] == seen[1]
    created = [e["data"]["fileId"] for e in seen[0] if e["event"] == "file_created"]
    assert sorted(created) == sorted(f["id"] for f in files if f["name"] != "first.txt")
    final = {e["data"]["fileId"]: e["data"]["state"] for e in seen[0] if is_final(e)}
    assert final == {f["id"]: f["state"] for f in files if f["name"] != "first.txt"}
    assert [e["data"]["fileId"] for e in seen[0] if e["event"] == "file_deleted"] == [files[0]["id"]]
    check_order(seen[0])


def test_others_see_nothing(lively, alice, dataset, fixture_path):
    bob = lively.client("bob")
    mine = bob.dataset()
    rig.wait_until(lambda: all_have_positions(lively), what="positions")
    listener = Listener(bob, position(lively, "bob"))
    listener.start()
    rig.wait_until(lambda: listener.connections, what="bob listens")
    made = alice.upload(dataset, [fixture_path("invoice.pdf")])
    file_id, batch = made["files"][0]["id"], made["batch"]["id"]
    alice.wait_done(file_id)
    for path in (f"/files/{file_id}", f"/files/{file_id}/text", f"/files/{file_id}/text?page=1",
                 f"/files/{file_id}/words?page=1", f"/files/{file_id}/record",
                 f"/files/{file_id}/preview", f"/files/{file_id}/preview/1.webp",
                 f"/files/{file_id}/preview/1/words", f"/files/{file_id}/thumbnail?size=64",
                 f"/files/{file_id}/content", f"/files/{file_id}/timeline", f"/batches/{batch}",
                 f"/datasets/{dataset}", f"/datasets/{dataset}/files", f"/datasets/{dataset}/records",
                 f"/datasets/{dataset}/summary"):
        got = bob.request("GET", path)
        assert got.status_code == 404 and got.json()["code"] == "not_found", path
    for path in (f"/files/{file_id}/retry", f"/files/{file_id}/cancel", f"/batches/{batch}/cancel"):
        assert bob.request("POST", path, json={}).status_code == 404, path
    assert bob.request("DELETE", f"/files/{file_id}").status_code == 404
    assert bob.post(f"/datasets/{mine}/files/remove", json={"ids": [file_id]}).json()["removed"] == 0
    assert alice.file(file_id)["state"] == "done"
    own = upload(bob, mine, {"bob.txt": note(1)})["bob.txt"]
    bob.wait_done(own)
    rig.wait_until(lambda: any(is_final(e) for e in listener.got), 20,
                   what="bob's own last event")
    events = listener.finish()
    assert {e["data"]["fileId"] for e in events if "fileId" in e["data"]} == {own}
    assert file_id not in json.dumps(events) and dataset not in json.dumps(events)


# --- the end --------------------------------------------------------------------------------------

def test_everything_adds_up(lively):
    invariants.wait_quiet(lively)
    invariants.check_rows(lively)
    invariants.check_objects(lively)
