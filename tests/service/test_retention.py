# SPDX-License-Identifier: Apache-2.0
"""Retention and legal hold by dataset. Time passes by changing the rows' clocks, not by waiting."""
import pytest

from lib import importing, invariants, rig
from lib.rig import always, wait_until


@pytest.fixture(scope="module")
def made(servers):
    fleet = rig.Fleet(servers)
    yield fleet
    fleet.stop()


@pytest.fixture
def fleet(made, activate):
    activate(made)
    if not made.processes:
        importing.start_fleet(made)
        made.restart("cleaner", env={"DOCFLEET_CLEAN_INTERVAL": "200ms",
                                     "DOCFLEET_SECOND_PASS": "0s"})
    return made


def filled(fleet, names=("a.txt", "b.txt"), **options):
    alice = fleet.client()
    dataset = alice.dataset()
    if options:
        alice.request("PATCH", f"/datasets/{dataset}", 200, json={"options": options})
    files = {f["name"]: f["id"] for f in alice.upload(dataset, {n: b"text" for n in names})["files"]}
    for file_id in files.values():
        alice.wait_done(file_id)
    return alice, dataset, files


def age(fleet, file_id, days):
    fleet.sql("UPDATE file SET updated_at = now() - %s * interval '1 day' WHERE file_id = %s", days,
              file_id)


def named(fleet, file_id):
    return fleet.sql("SELECT object_key FROM file_version WHERE file_id = %s AND object_key IS NOT NULL"
                     " UNION ALL SELECT object_key FROM artifact WHERE file_id = %s", file_id, file_id)


def objects_of(fleet, file_id):
    return [k for k in fleet.objects() if file_id in k]


def test_content_goes_after_its_days_and_the_record_stays(fleet):
    alice, dataset, files = filled(fleet, retentionDays=30)
    age(fleet, files["a.txt"], 31)
    age(fleet, files["b.txt"], 29)
    wait_until(lambda: not named(fleet, files["a.txt"]), 30, what="a's content removed")
    wait_until(lambda: not objects_of(fleet, files["a.txt"]), 30, what="a's objects removed")
    assert objects_of(fleet, files["b.txt"])
    assert alice.get(f"/files/{files['b.txt']}/content").content == b"text"
    gone = alice.get(f"/files/{files['a.txt']}/content", 410).json()
    assert gone["code"] == "input_gone"
    assert alice.file(files["a.txt"])["state"] == "done"
    assert len(alice.json(f"/datasets/{dataset}/records")["items"]) == 2
    alice.json(f"/files/{files['a.txt']}/record")
    again = alice.post(f"/files/{files['a.txt']}/retry", 410, json={"from": "text"}).json()
    assert again["code"] == "input_gone"
    invariants.check_rows(fleet)


def test_zero_is_as_soon_as_it_has_ended_and_never_is_never(fleet):
    alice, dataset, files = filled(fleet, retentionDays=0)
    for file_id in files.values():
        wait_until(lambda: not objects_of(fleet, file_id), 30)
        assert alice.file(file_id)["state"] == "done"
    assert len(alice.json(f"/datasets/{dataset}/records")["items"]) == 2
    for options in ({}, {"retentionDays": None}):
        alice, dataset, files = filled(fleet, **options)
        age(fleet, files["a.txt"], 36000)
        before = objects_of(fleet, files["a.txt"])
        always(lambda: objects_of(fleet, files["a.txt"]) == before, 1)


def test_whole_files_go_when_asked_for(fleet):
    alice, dataset, files = filled(fleet, retentionDays=1, retentionRemoves="file")
    age(fleet, files["a.txt"], 2)
    wait_until(lambda: [f["name"] for f in alice.files(dataset)] == ["b.txt"], 30)
    assert len(alice.json(f"/datasets/{dataset}/records")["items"]) == 1
    wait_until(lambda: not objects_of(fleet, files["a.txt"]), 30)
    invariants.wait_quiet(fleet)
    invariants.check_rows(fleet)


def test_options_are_checked(fleet):
    alice = fleet.client()
    dataset = alice.dataset()
    for bad in ({"retentionDays": -1}, {"retentionDays": "7"}, {"retentionDays": 36501},
                {"retentionDays": 1.5}, {"retentionRemoves": "all"}):
        alice.request("PATCH", f"/datasets/{dataset}", 422, json={"options": bad})
    alice.request("PATCH", f"/datasets/{dataset}", 422, json={})
    got = alice.request("PATCH", f"/datasets/{dataset}", 200,
                        json={"name": "n", "options": {"retentionDays": 7}}).json()
    assert got["options"] == {"retentionDays": 7} and got["name"] == "n"
    assert alice.request("PATCH", f"/datasets/{dataset}", 200,
                         json={"name": "m"}).json()["options"] == {"retentionDays": 7}


def test_a_hold_keeps_everything(fleet):
    alice, dataset, files = filled(fleet, retentionDays=1)
    root = fleet.client("root", admin=True)
    alice.request("PUT", f"/datasets/{dataset}/hold", 403, json={"reason": "mine"})
    root.request("PUT", f"/datasets/{dataset}/hold", 422, json={"reason": ""})
    held = root.request("PUT", f"/datasets/{dataset}/hold", 200, json={"reason": "case 12"}).json()
    assert held["held"] and held["reason"] == "case 12"
    assert alice.json(f"/datasets/{dataset}")["legalHold"] is True
    a = files["a.txt"]
    for refused in (alice.delete(f"/files/{a}", 409),
                    alice.post(f"/datasets/{dataset}/files/remove", 409, json={"ids": [a]}),
                    alice.post(f"/datasets/{dataset}/files/remove", 409, json={"filter": {}}),
                    alice.delete(f"/datasets/{dataset}", 409)):
        assert refused.json()["code"] == "legal_hold"
    age(fleet, a, 100)
    before = objects_of(fleet, a)
    always(lambda: objects_of(fleet, a) == before, 1)
    assert len(alice.files(dataset)) == 2
    # Lifted: what retention was due for goes now.
    root.delete(f"/datasets/{dataset}/hold")
    wait_until(lambda: not objects_of(fleet, a), 30)
    alice.delete(f"/files/{files['b.txt']}")
    notes = fleet.sql("SELECT action, actor, detail->>'reason' AS reason FROM audit WHERE target = %s"
                      " AND action LIKE 'hold%%' AND outcome = 'ok' ORDER BY audit_id", dataset)
    assert [(n["action"], n["actor"], n["reason"]) for n in notes] == [
        ("hold.set", "root", "case 12"), ("hold.lift", "root", None)]


def test_what_was_removed_before_a_hold_waits_with_its_bytes(fleet):
    alice, dataset, files = filled(fleet)
    fleet.stop("cleaner")
    alice.delete(f"/files/{files['a.txt']}")
    root = fleet.client("root", admin=True)
    root.request("PUT", f"/datasets/{dataset}/hold", 200, json={"reason": "case 13"})
    fleet.start_again("cleaner")
    wait_until(lambda: fleet.sql("SELECT 1 FROM task WHERE file_id = %s AND stage = 6 AND state = 3"
                                 " AND ext_job_id = 'legal-hold'", files["a.txt"]), 30)
    assert objects_of(fleet, files["a.txt"])
    root.delete(f"/datasets/{dataset}/hold")
    fleet.sql("UPDATE task SET not_before = now() WHERE file_id = %s AND stage = 6", files["a.txt"])
    wait_until(lambda: not objects_of(fleet, files["a.txt"]), 30)
    invariants.wait_quiet(fleet)


def test_a_hold_keeps_earlier_versions_of_imports(fleet):
    source = importing.Source(fleet, "in/hold/", keepVersions=1)
    source.put("a.txt", "one")
    source.run()
    root = fleet.client("root", admin=True)
    root.request("PUT", f"/datasets/{source.dataset}/hold", 200, json={"reason": "case 14"})
    for text in ("two", "three"):
        source.put("a.txt", text)
        assert source.run()["state"] == "published"
    shadow = fleet.one("SELECT shadow_id FROM import_source WHERE import_id = %s", source.id)
    kept = "SELECT count(*) FROM file WHERE dataset_id = %s AND state < 6"
    assert fleet.one(kept, shadow) == 2
    root.delete(f"/datasets/{source.dataset}/hold")
    importing.run(fleet)
    assert fleet.one(kept, shadow) == 0
