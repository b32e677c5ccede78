# SPDX-License-Identifier: Apache-2.0
"""Scheduled import: each run is a version; a broken one publishes nothing; one call rolls back."""
import json

import pytest

from lib import importing, invariants, rig
from lib.importing import Source
from lib.rig import wait_until


@pytest.fixture(scope="module")
def made(servers):
    fleet = rig.Fleet(servers)
    yield fleet
    fleet.stop()


@pytest.fixture
def fleet(made, activate):
    """The module's fleet; its stages return at once."""
    activate(made)
    if not made.processes:
        importing.start_fleet(made)
    return made


@pytest.fixture
def source(fleet, request):
    return lambda **settings: Source(fleet, f"in/{request.node.name}/", **settings)


def outcomes(run):
    return {i["key"].rsplit("/", 1)[-1]: i["outcome"] for i in run["items"]}


def test_only_new_and_changed_objects_are_read(fleet, source):
    s = source()
    for name in ("a.txt", "b.txt", "deep/c.txt"):
        s.put(name)
    s.put("folder/", b"")
    first = s.run()
    assert first["state"] == "published" and first["current"] and first["trigger"] == "manual"
    assert first["counts"]["objects"] == 3 and first["counts"]["new"] == 3
    assert first["counts"]["done"] == 3
    assert s.names() == ["a.txt", "b.txt", "c.txt"]
    before = {f["name"]: f["id"] for f in s.alice.files(s.dataset)}
    assert s.alice.json(f"/datasets/{s.dataset}/summary")["files"]["total"] == 3
    assert len(s.alice.json(f"/datasets/{s.dataset}/records")["items"]) == 3

    s.put("b.txt", "another content")
    s.put("d.txt")
    second = s.run()
    assert second["counts"]["unchanged"] == 2 and second["counts"]["changed"] == 1
    assert second["counts"]["new"] == 1 and second["counts"]["objects"] == 4
    after = {f["name"]: f["id"] for f in s.alice.files(s.dataset)}
    assert sorted(after) == ["a.txt", "b.txt", "c.txt", "d.txt"]
    assert after["a.txt"] == before["a.txt"] and after["c.txt"] == before["c.txt"]
    assert after["b.txt"] != before["b.txt"]
    assert s.alice.get(f"/files/{after['b.txt']}/content").content == b"another content"
    batches = fleet.one("SELECT count(*) FROM file WHERE file_id = ANY(%s)", list(after.values()))
    assert batches == 4
    invariants.check_rows(fleet)


def test_nothing_shows_before_the_run_is_published(fleet, source):
    s = source()
    s.put("a.txt")
    s.run()
    s.put("b.txt")
    fleet.ctl("stages", "pause", "ai")
    try:
        run_id = s.ask()
        importer = importing.start(fleet)
        wait_until(lambda: s.get(run_id)["state"] == "processing", 30, what="all objects read")
        assert outcomes(s.get(run_id)) == {"a.txt": "done", "b.txt": "processing"}
        assert s.names() == ["a.txt"]
        summary = s.alice.json(f"/datasets/{s.dataset}/summary")["files"]
        assert summary["total"] == 1, summary
        assert len(s.alice.json(f"/datasets/{s.dataset}/records")["items"]) == 1
        shadow = fleet.one("SELECT shadow_id FROM import_source WHERE import_id = %s", s.id)
        s.alice.get(f"/datasets/{shadow}", 404)
        s.alice.get(f"/datasets/{shadow}/files", 404)
        assert str(shadow) not in {d["id"] for d in s.alice.json("/datasets?limit=200")["items"]}
        fleet.ctl("stages", "resume", "ai")
        assert importer.popen.wait(60) == 0
    finally:
        fleet.ctl("stages", "resume", "ai")
    assert s.names() == ["a.txt", "b.txt"]
    invariants.check_rows(fleet)


def test_a_broken_run_publishes_nothing_and_a_tolerable_one_lists_what_is_broken(fleet, source):
    s = source(maxFailedPercent=10)
    for i in range(9):
        s.put(f"{i}.txt")
    assert s.run()["state"] == "published"
    s.put("fail-a.txt")
    s.put("fail-b.txt")
    s.put("new.txt")
    broken = s.run()
    assert broken["state"] == "failed" and broken["error"]["code"] == "too_many_failed"
    assert not broken["current"] and s.state()["health"] == "failing"
    assert s.names() == [f"{i}.txt" for i in range(9)]
    assert broken["counts"]["failed"] == 2 and broken["counts"]["done"] == 10
    listed = s.get(broken["id"], outcome="failed")["items"]
    assert {i["key"].rsplit("/", 1)[-1]: i["error"]["code"] for i in listed} == \
        {"fail-a.txt": "corrupt", "fail-b.txt": "corrupt"}

    staged = [i["fileId"] for i in broken["items"] if i["key"].endswith("new.txt")][0]
    # The other side of the limit: 2 of 12 are less than 17 %. What the failed run had read is used.
    s.change(maxFailedPercent=17)
    good = s.run()
    assert good["state"] == "published" and s.state()["health"] == "ok"
    assert good["counts"]["failed"] == 2 and good["counts"]["done"] == 10
    assert outcomes(good)["new.txt"] == "done" and outcomes(good)["fail-a.txt"] == "failed"
    assert len(s.names()) == 12 and s.names(state="failed") == ["fail-a.txt", "fail-b.txt"]
    new = [i for i in good["items"] if i["key"].endswith("new.txt")][0]
    assert new["fileId"] == staged and new["tries"] == 0
    invariants.wait_quiet(fleet)
    invariants.check_rows(fleet)


def test_a_changed_object_that_is_broken_leaves_the_old_file(fleet, source):
    s = source(maxFailedPercent=50)
    for name in ("fail-later.txt", "good.txt", "other.txt"):
        s.put(name)
    first = s.run()
    assert first["counts"]["failed"] == 1
    file_id = [i["fileId"] for i in first["items"] if i["outcome"] == "failed"][0]
    s.put("fail-later.txt", "y")
    second = s.run()
    assert second["state"] == "published"
    kept = [i for i in second["items"] if i["key"].endswith("fail-later.txt")][0]
    assert kept["outcome"] == "kept" and kept["fileId"] == file_id
    assert kept["error"]["code"] == "corrupt"
    assert file_id in {f["id"] for f in s.alice.files(s.dataset)}
    third = s.run()  # unchanged: nothing is read again
    assert third["counts"]["unchanged"] == 3 and third["counts"]["kept"] == 1
    assert third["state"] == "published"


def test_objects_that_are_refused_have_a_reason(fleet, source):
    s = source(maxFailedPercent=100)
    s.put("empty.txt", b"")
    s.put("large.txt", b"x" * 2000)
    s.put("bad\u202ename.txt")
    s.put("good.txt")
    run = s.run(env={"DOCFLEET_MAX_FILE_SIZE": "1000"})
    assert run["state"] == "published"
    reasons = {i["key"].rsplit("/", 1)[-1]: (i["outcome"], i["error"] and i["error"]["code"])
               for i in run["items"]}
    assert reasons == {"empty.txt": ("rejected", "empty_file"),
                       "large.txt": ("rejected", "file_too_large"),
                       "bad\u202ename.txt": ("rejected", "invalid_name"),
                       "good.txt": ("done", None)}
    assert s.names() == ["good.txt"]
    # Unchanged, they are not looked at again.
    again = s.run(env={"DOCFLEET_MAX_FILE_SIZE": "1000"})
    assert again["counts"]["unchanged"] == 4 and again["counts"]["rejected"] == 3


@pytest.mark.parametrize("mode", ["keep", "remove"])
def test_vanished_objects_are_noted(fleet, source, mode):
    s = source(onVanished=mode)
    s.put("a.txt")
    s.put("b.txt")
    s.run()
    s.drop("b.txt")
    run = s.run()
    assert run["state"] == "published" and run["counts"]["vanished"] == 1
    assert s.names() == (["a.txt", "b.txt"] if mode == "keep" else ["a.txt"])
    s.put("b.txt")
    s.run()
    assert s.names() == ["a.txt", "b.txt"]
    for name in ("a.txt", "b.txt"):
        s.drop(name)
    last = s.run()
    if mode == "remove":  # never empties a dataset on the word of an empty listing
        assert last["state"] == "failed" and last["error"]["code"] == "source_empty"
    assert s.names() == ["a.txt", "b.txt"]
    invariants.wait_quiet(fleet)
    invariants.check_rows(fleet)


def test_roll_back_and_forward(fleet, source):
    s = source(schedule={"cron": "0 3 * * *", "timeZone": "Europe/Berlin"})
    s.put("a.txt", "one")
    first = s.run()
    s.put("a.txt", "two")
    s.put("b.txt")
    second = s.run()

    def content():
        files = {f["name"]: f["id"] for f in s.alice.files(s.dataset)}
        return {n: s.alice.get(f"/files/{i}/content").text for n, i in files.items()}
    assert content() == {"a.txt": "two", "b.txt": "content of b.txt"}
    answer = s.roll_back(first["id"]).json()
    assert answer["published"]["runId"] == first["id"] and answer["enabled"] is False
    assert content() == {"a.txt": "one"}
    assert len(s.alice.json(f"/datasets/{s.dataset}/records")["items"]) == 1
    assert s.alice.json(f"/datasets/{s.dataset}/summary")["files"]["total"] == 1
    invariants.wait_quiet(fleet)
    invariants.check_rows(fleet)
    s.roll_back(first["id"])  # twice is once
    assert s.roll_back(second["id"], keepSchedule=True).json()["enabled"] is False
    assert content() == {"a.txt": "two", "b.txt": "content of b.txt"}
    s.roll_back(first["id"])
    # The next run brings the newest back without reading an object again.
    third = s.run()
    assert content() == {"a.txt": "two", "b.txt": "content of b.txt"}
    assert all(i["tries"] == 0 for i in third["items"])
    # Only a published, kept version is one.
    for n in range(3):
        s.put("a.txt", f"three {n}")
        s.run()
    s.change(keepVersions=1)
    s.put("a.txt", "four")
    s.run()
    assert s.roll_back(first["id"], 409).json()["code"] == "version_gone"
    invariants.wait_quiet(fleet)
    assert content()["a.txt"] == "four"
    invariants.check_rows(fleet)
    # Files of versions that are not kept are gone with their bytes.
    shadow = fleet.one("SELECT shadow_id FROM import_source WHERE import_id = %s", s.id)
    assert fleet.one("SELECT count(*) FROM file WHERE dataset_id = %s AND state < 6", shadow) == 0


def test_a_file_removed_by_hand_stays_away_until_its_object_changes(fleet, source):
    s = source()
    s.put("a.txt")
    s.put("b.txt")
    s.run()
    file_id = [f["id"] for f in s.alice.files(s.dataset) if f["name"] == "a.txt"][0]
    s.alice.delete(f"/files/{file_id}")
    run = s.run()
    assert run["counts"]["removed"] == 1 and s.names() == ["b.txt"]
    s.run()
    assert s.names() == ["b.txt"]
    s.put("a.txt", "new")
    s.run()
    assert s.names() == ["a.txt", "b.txt"]


def test_schedules_and_skipped_runs(fleet, source):
    s = source(schedule={"cron": "*/5 * * * *", "timeZone": "America/New_York"})
    s.put("a.txt")
    assert s.state()["nextAt"] > fleet.one("SELECT to_char(now() AT TIME ZONE 'UTC',"
                                           " 'YYYY-MM-DD\"T\"HH24:MI')")
    fleet.sql("UPDATE import_source SET next_at = now() - interval '1 hour' WHERE import_id = %s",
              s.id)
    importing.run(fleet)
    runs = s.alice.json(f"/imports/{s.id}/runs")["items"]
    assert [(r["trigger"], r["state"]) for r in runs] == [("schedule", "published")]
    # Due while one is at work: noted, not done.
    run_id = s.ask()
    fleet.sql("UPDATE import_source SET next_at = now() - interval '1 hour' WHERE import_id = %s",
              s.id)
    assert s.ask() == run_id
    importing.run(fleet)
    runs = s.alice.json(f"/imports/{s.id}/runs")["items"]
    assert [(r["no"], r["state"]) for r in runs] == [(3, "skipped"), (2, "published"),
                                                     (1, "published")]
    assert "at work" in runs[0]["note"]
    # Paused: nothing is due.
    s.change(enabled=False)
    fleet.sql("UPDATE import_source SET next_at = now() - interval '1 hour' WHERE import_id = %s",
              s.id)
    importing.run(fleet)
    assert len(s.alice.json(f"/imports/{s.id}/runs")["items"]) == 3


def test_who_may_do_what(fleet, source):
    s = source()
    bob, root = fleet.client("bob"), s.admin
    bob.get(f"/imports/{s.id}", 404)
    bob.post(f"/imports/{s.id}/run", 404)
    bob.get(f"/imports/{s.id}/runs", 404)
    assert s.id not in {i["id"] for i in bob.json("/imports")["items"]}
    assert s.id in {i["id"] for i in root.json("/imports?limit=200")["items"]}
    s.put("a.txt")
    run = s.run()
    bob.get(f"/imports/{s.id}/runs/{run['id']}", 404)
    bob.post(f"/imports/{s.id}/runs/{run['id']}/rollback", 404)
    s.alice.request("PATCH", f"/imports/{s.id}", 403, json={"prefix": "in/other/"})
    s.alice.delete(f"/imports/{s.id}", 403)
    s.alice.post("/imports", 403, json={"name": "x", "datasetId": s.dataset, "prefix": "in/"})
    for bad in ({"prefix": "uploads/"}, {"prefix": ""}, {"prefix": "art"}, {"prefix": "in/\n"},
                {"source": "A B"}, {"schedule": {"cron": "* * * *"}}, {"maxFailedPercent": 101},
                {"schedule": {"cron": "* * * * *", "timeZone": "Mars/Base"}}, {"onVanished": "?"},
                {"keepVersions": 0}, {"name": " "}, {"schedule": {"cron": "0 0 30 2 *"}}):
        problem = root.request("PATCH", f"/imports/{s.id}", 422, json=bad).json()
        assert problem["code"] in ("invalid_value", "invalid_json"), (bad, problem)
    for percent, kept in ((5.9e-133, 0), (1e-5, 1e-5), (99.999999, 100), (100, 100)):
        got = root.request("PATCH", f"/imports/{s.id}", 200, json={"maxFailedPercent": percent}).json()
        assert got["maxFailedPercent"] == pytest.approx(kept, rel=1e-5)
    root.delete(f"/imports/{s.id}")
    root.get(f"/imports/{s.id}", 404)
    assert s.names() == ["a.txt"]
    actions = {r["action"] for r in fleet.sql("SELECT action FROM audit WHERE target = %s", s.id)}
    assert {"import.create", "import.run", "import.delete"} <= actions


def test_a_source_with_keys_of_its_own(fleet, servers, tmp_path):
    fleet.s3().create_bucket(Bucket="archive-" + fleet.name)
    s = Source(fleet, "2026/", bucket="archive-" + fleet.name, source="archive")
    s.put("a.txt")
    unknown = s.run()
    assert unknown["error"]["code"] == "source_unknown"
    config = {"endpoint": servers.s3_endpoint, "bucket": "archive-" + fleet.name,
              "accessKey": servers.s3_key, "secretKey": servers.s3_secret}
    path = tmp_path / "sources.json"
    path.write_text(json.dumps({"archive": config}))
    env = {"DOCFLEET_IMPORT_SOURCES_FILE": str(path)}
    assert s.run(env=env)["state"] == "published" and s.names() == ["a.txt"]
    assert servers.s3_secret not in json.dumps(fleet.sql("SELECT * FROM import_source"), default=str)
    # Wrong keys: three tries, then the run fails and the dataset keeps what it has.
    path.write_text(json.dumps({"archive": {**config, "secretKey": "wrong"}}))
    s.put("b.txt")
    denied = s.run(env=env)
    assert denied["state"] == "failed" and denied["error"]["code"] == "store_denied"
    assert denied["error"]["detail"] == "the file store did not let this step in"
    assert s.names() == ["a.txt"]


@pytest.fixture
def hook():
    made = importing.Webhook()
    yield made
    made.stop()


def test_alerts_tell_of_changes_only(fleet, source, hook):
    s = source(maxFailedPercent=0)
    env = {"DOCFLEET_IMPORT_ALERT_URL": hook.url, "DOCFLEET_IMPORT_ALERT_PRIVATE": "true"}
    s.put("a.txt")
    s.run(env=env)
    assert hook.seen == []
    s.put("fail-x.txt")
    hook.answers = [500, 503]  # it is tried again
    s.run(env=env)
    assert len(hook.seen) == 3 and len(set(hook.seen)) == 1
    assert "failed" in hook.seen[0] and "1 of 2 objects are broken" in hook.seen[0]
    s.run(env=env)
    assert len(hook.seen) == 3
    s.drop("fail-x.txt")
    s.run(env=env)
    assert len(hook.seen) == 4 and "works again" in hook.seen[3]
    # An address inside is refused unless it is allowed; the message waits for the next start.
    s.put("fail-x.txt", "other")
    lines = importing.run(fleet, {**env, "DOCFLEET_IMPORT_ALERT_PRIVATE": "false"}) if s.ask() else []
    assert len(hook.seen) == 4
    assert any(line["msg"] == "an alert was not delivered" for line in lines), lines
    assert not any("secret-path" in json.dumps(line) for line in lines)
    importing.run(fleet, env)
    assert len(hook.seen) == 5 and "failed" in hook.seen[4]
    importing.run(fleet, env)
    assert len(hook.seen) == 5


def test_two_importers_do_not_do_the_same(fleet, source):
    s = source()
    for i in range(40):
        s.put(f"{i}.txt")
    run_id = s.ask()
    importers = [importing.start(fleet, log=f"importer-{n}.log") for n in range(3)]
    for importer in importers:
        assert importer.popen.wait(60) == 0
    assert s.get(run_id)["state"] == "published"
    assert fleet.one("SELECT count(*) FROM file f JOIN import_source i ON f.dataset_id IN"
                     " (i.dataset_id, i.shadow_id) WHERE i.import_id = %s", s.id) == 40
    begun = sum(importer.log().count('"a run begins"') for importer in importers)
    assert begun == 1
    invariants.wait_quiet(fleet)
    invariants.check_rows(fleet)


def test_a_quota_refuses_objects_of_a_run(fleet, source):
    """What fits comes in; what does not is a refused object of the run, with the reason."""
    s = source(maxFailedPercent=100)
    user = s.alice.json("/auth/me")["id"]
    used = s.alice.json("/usage")
    for i in range(6):
        s.put(f"{i}.txt")
    s.admin.request("PUT", f"/admin/users/{user}/quota", 200, json={"files": used["files"]["used"] + 4})
    try:
        run = s.run()
        assert run["counts"]["objects"] == 6 and run["counts"]["done"] == 4, run["counts"]
        refused = [i for i in run["items"] if i["outcome"] == "rejected"]
        assert len(refused) == 2, run["items"]
        assert all("quota of files: limit" in json.dumps(i) and "quota_exceeded" in json.dumps(i) for i in refused)
        assert s.alice.json("/usage")["files"]["used"] == used["files"]["used"] + 4
    finally:
        s.admin.request("PUT", f"/admin/users/{user}/quota", 200, json={"files": None})
