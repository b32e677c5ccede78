# SPDX-License-Identifier: Apache-2.0
"""Backup, restore and verify: what comes back is what was there, byte for byte."""
import hashlib
import json
import os
import re

import psycopg
import pytest

from lib import importing, invariants, rig
from lib.rig import wait_until

TABLES = ("account", "api_key", "dataset", "schema_version", "batch", "file", "file_version",
          "artifact", "file_page", "record", "record_row", "count_base", "count_delta", "dead_letter",
          "import_source", "import_run", "import_item", "stage_join", "effect", "audit")


def rows(fleet):
    """Every row of the tables that hold what users have, as text."""
    found = {}
    for table in TABLES:
        found[table] = sorted(r["t"] for r in fleet.sql(f"SELECT t::text AS t FROM {table} t"))
    found["event"] = sorted(r["t"] for r in fleet.sql("SELECT t::text AS t FROM event t"))
    return found


def sums(fleet):
    """{key: SHA-256} of every object that a row names."""
    return {key: hashlib.sha256(fleet.object(key)).hexdigest() for key in invariants.referenced(fleet)}


@pytest.fixture
def pair(servers, activate):
    """A fleet with work done, and an empty place to restore into."""
    made = []

    def make():
        one = rig.Fleet(servers)
        made.append(one)
        return activate(one)
    yield make
    for one in made:
        one.stop()


class Empty(rig.Fleet):
    """A fleet whose database and bucket nobody has prepared."""

    def prepare(self):
        pass


def test_a_restore_loses_nothing(servers, pair, activate, tmp_path):
    old = pair()
    importing.start_fleet(old)
    alice = old.client()
    dataset = alice.dataset()
    done = alice.upload(dataset, {f"f{i}.txt": b"text %d" % i for i in range(20)})["files"]
    alice.upload(dataset, {"fail-x.txt": b"x"})
    alice.wait_all(dataset)
    source = importing.Source(old, "in/backup/")
    source.put("a.txt")
    source.run()
    gone = alice.upload(dataset, {"gone.txt": b"gone"})["files"][0]["id"]
    alice.wait_done(gone)
    alice.delete(f"/files/{gone}")
    invariants.wait_quiet(old)
    # Some work is out when the backup is made: without a worker, the dispatcher's floor of credit.
    old.stop("ai#1")
    live = [f["id"] for f in alice.upload(dataset, {f"live{i}.txt": b"l" for i in range(4)})["files"]]
    wait_until(lambda: old.one("SELECT count(*) FROM task WHERE stage = 3 AND state = 1") == 4, 120)
    old.stop("dispatcher", "text#1", "preview#1", "cleaner")
    folder = old.ctl("backup", str(tmp_path), "--objects").strip()
    manifest = json.load(open(f"{folder}/manifest.json", encoding="utf-8"))
    assert manifest["objects"]["missing"] == 0 and manifest["objects"]["copied"]
    before, objects = rows(old), sums(old)
    assert manifest["objects"]["count"] == len(objects)
    # Again: what is there already is not read again, and the newest backup is the one restored.
    again = old.ctl("backup", str(tmp_path), "--objects", check=False)
    assert again.returncode == 0 and " 0 copied now" in again.stderr, again.stderr
    old.stop()

    new = Empty(servers)
    assert "not_empty" not in new.ctl("restore", str(tmp_path))
    activate(new)
    try:
        after = rows(new)
        for table in before:
            assert after[table] == before[table], table
        assert sums(new) == objects
        report = json.loads(new.ctl("verify", "--deep", "--json").splitlines()[-1])
        assert report["ok"] and report["missing"] == 0 and report["checked"] == len(objects)
        # A second restore is refused: nothing is written over.
        refused = new.ctl("restore", str(tmp_path), check=False)
        assert refused.returncode == 1 and "already" in refused.stderr, refused.stderr
        # The work goes on where it was, and no attempt was eaten.
        importing.start_fleet(new)
        client = rig.Client(new.api, alice.key)
        for file_id in live:
            assert client.wait_done(file_id)["state"] == "done"
        # The cleaner tells how old the newest is: of the restored rows, the one before the last.
        moment = new.one("SELECT extract(epoch FROM moment)::bigint FROM backup WHERE name = %s",
                         os.path.basename(folder))
        wait_until(lambda: new.metrics("cleaner").get("docfleet_backup_last_success_seconds") == moment, 60)
        assert client.get(f"/files/{done[3]['id']}/content").content == b"text 3"
        assert new.one("SELECT max(failures) FROM task WHERE file_id = ANY(%s)", live) == 0
        assert new.one("SELECT count(*) FROM dead_letter WHERE file_id = ANY(%s)", live) == 0
        invariants.wait_quiet(new)
        invariants.check_rows(new)
    finally:
        new.stop()


def test_restore_refuses_what_is_damaged_or_foreign(servers, pair, tmp_path):
    old = pair()
    old.start("ingest-gateway")
    alice = old.client()
    alice.upload(alice.dataset(), {"a.txt": b"a", "b.txt": b"b"})
    folder = old.ctl("backup", str(tmp_path), "--objects").strip()
    listing = [json.loads(x) for x in open(f"{folder}/objects.jsonl", encoding="utf-8")]
    new = Empty(servers)
    # An object that was changed on the way.
    path = os.path.join(tmp_path, "objects", listing[0]["key"])
    good = open(path, "rb").read()
    with open(path, "wb") as f:
        f.write(b"?")
    bad = new.ctl("restore", folder, check=False)
    assert bad.returncode == 1 and "damaged" in bad.stderr
    with open(path, "wb") as f:
        f.write(good)
    # A bucket with something else in it.
    new.s3().put_object(Bucket=new.bucket, Key="uploads/other", Body=b"x")
    bad = new.ctl("restore", folder, check=False)
    assert bad.returncode == 1 and "does not have" in bad.stderr, bad.stderr
    new.s3().delete_object(Bucket=new.bucket, Key="uploads/other")
    # A dump that was cut.
    dump = open(f"{folder}/database.dump", "rb").read()
    with open(f"{folder}/database.dump", "wb") as f:
        f.write(dump[:-100])
    bad = new.ctl("restore", folder, check=False)
    assert bad.returncode == 1 and "damaged" in bad.stderr
    with open(f"{folder}/database.dump", "wb") as f:
        f.write(dump)
    # An interrupted one is started again: what is there stays.
    run = new.ctl("restore", folder, check=False)
    assert run.returncode == 0 and re.search(r"\d objects stored", run.stderr), run.stderr
    assert sums(new) == sums(old)
    # Without its manifest a folder is no backup.
    os.unlink(f"{folder}/manifest.json")
    assert Empty(servers).ctl("restore", folder, check=False).returncode != 0


def test_deletions_wait_for_a_backup(servers, pair, tmp_path):
    fleet = pair()
    importing.start_fleet(fleet)
    alice = fleet.client()
    file_id = alice.upload(alice.dataset(), {"a.txt": b"a"})["files"][0]["id"]
    alice.wait_done(file_id)
    keys = set(fleet.objects())
    with psycopg.connect(fleet.database_url, autocommit=True) as backup:
        backup.execute("SELECT pg_advisory_lock(776005, 0)")  # as docfleetctl backup does
        alice.delete(f"/files/{file_id}")
        wait_until(lambda: fleet.one("SELECT coalesce(max(outage_retries), 0) FROM task"
                                     " WHERE file_id = %s AND stage = 6", file_id) > 0, 30)
        assert set(fleet.objects()) == keys
        assert fleet.one("SELECT last_error FROM task WHERE file_id = %s AND stage = 6", file_id)
    wait_until(lambda: not fleet.objects(), 60, what="the removed file's objects gone")


def test_verify_finds_every_kind_of_damage(pair):
    fleet = pair()
    importing.start_fleet(fleet)
    alice = fleet.client()
    for f in alice.upload(alice.dataset(), {f"{n}.txt": b"bytes" for n in "abcd"})["files"]:
        alice.wait_done(f["id"])
    invariants.wait_quiet(fleet)
    ok = fleet.ctl("verify", "--deep", check=False)
    assert ok.returncode == 0, ok.stdout
    names = {r["name"]: r["object_key"] for r in fleet.sql(
        "SELECT name, object_key FROM file JOIN file_version USING (file_id, version)")}
    s3 = fleet.s3()
    s3.delete_object(Bucket=fleet.bucket, Key=names["a.txt"])
    s3.put_object(Bucket=fleet.bucket, Key=names["b.txt"], Body=b"longer bytes")
    s3.put_object(Bucket=fleet.bucket, Key=names["c.txt"], Body=b"BYTES")
    s3.put_object(Bucket=fleet.bucket, Key="artifacts/nobody", Body=b"x")
    shallow = fleet.ctl("verify", "--json", check=False)
    lines = [json.loads(x) for x in shallow.stdout.splitlines()]
    assert shallow.returncode == 1
    assert {(x["problem"], x["key"]) for x in lines[:-1]} == {
        ("missing", names["a.txt"]), ("wrong_size", names["b.txt"])}
    assert lines[-1]["young"] == 1 and lines[-1]["orphans"] == 0
    deep = fleet.ctl("verify", "--deep", "--json", check=False)
    lines = [json.loads(x) for x in deep.stdout.splitlines()]
    assert deep.returncode == 1
    assert {(x["problem"], x["key"]) for x in lines[:-1]} == {
        ("missing", names["a.txt"]), ("wrong_size", names["b.txt"]), ("wrong_hash", names["c.txt"])}


def shown(client, dataset):
    """What a user sees of every file: state, text, record, content."""
    found = {}
    for f in client.files(dataset):
        text = client.get(f"/files/{f['id']}/text", expect=(200, 404, 409))
        record = client.get(f"/files/{f['id']}/record", expect=(200, 404, 409))
        content = client.get(f"/files/{f['id']}/content")
        found[f["name"], f["id"]] = (
            f["state"], text.status_code, text.status_code == 200 and text.content,
            record.status_code, record.status_code == 200 and record.json(),
            hashlib.sha256(content.content).hexdigest())
    return found


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_restore_drill(servers, pair, activate, tmp_path):
    """Real services and documents; the backup is made while work is out, and everything compared."""
    old = pair()
    old.start()
    alice = old.client()
    dataset = alice.dataset()
    folder = os.path.join(rig.FIXTURES, "samples")
    documents = [os.path.join(folder, n) for n in sorted(os.listdir(folder))]
    alice.upload(dataset, documents)
    alice.upload(dataset, {f"note {i}.txt": b"Invoice number: A-%d" % i for i in range(200)})
    alice.wait_all(dataset, 900)
    second = alice.dataset()
    late = alice.upload(second, {f"late {i}.txt": b"Invoice number: B-%d" % i for i in range(100)})
    backup = old.ctl("backup", str(tmp_path), "--objects", timeout=600).strip()
    taken = json.load(open(f"{backup}/manifest.json", encoding="utf-8"))
    assert taken["objects"]["missing"] == 0
    alice.wait_all(second, 600)
    before, kept = shown(alice, dataset), sums(old)
    old.stop()
    new = Empty(servers)
    new.ctl("restore", str(tmp_path), timeout=600)
    activate(new)
    try:
        for line in open(f"{backup}/objects.jsonl", encoding="utf-8"):
            one = json.loads(line)
            body = new.object(one["key"])
            assert len(body) == one["size"] and hashlib.sha256(body).hexdigest() == one["sha256"]
            assert kept.get(one["key"], one["sha256"]) == one["sha256"]
        assert new.ctl("verify", "--deep", check=False).returncode == 0
        new.start()
        client = rig.Client(new.api, alice.key)
        assert shown(client, dataset) == before
        for f in late["files"]:
            assert client.wait_done(f["id"], 300)["state"] == "done"
        invariants.wait_quiet(new)
        invariants.check_rows(new)
    finally:
        new.stop()
