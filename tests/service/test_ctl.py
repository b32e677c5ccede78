# SPDX-License-Identifier: Apache-2.0
"""docfleetctl as a user has it: a folder up, its state, its text and record, what failed."""
import json
import os
import re
import subprocess


def test_folder_to_records(fleet, client, tmp_path):
    env = {"DOCFLEET_API_KEY": client.key}
    columns = tmp_path / "columns.json"
    columns.write_text(json.dumps([{"name": "Invoice number", "type": "string",
                                    "description": "number", "required": False}]))
    folder = tmp_path / "in"
    for path, data in {"a.txt": b"Invoice number: R-17\n", "deep/a.txt": b"Invoice number: R-18\n",
                       "deep/odd \"name\".txt": b"x\n", "empty.txt": b"", ".hidden": b"no\n",
                       "deep/bad.pdf": b"%PDF-1.4 broken"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (folder / "link.txt").symlink_to("/etc/passwd")

    dataset = fleet.ctl("dataset", "create", "by hand", str(columns), env=env).strip()
    assert dataset in fleet.ctl("dataset", "list", env=env)
    run = fleet.ctl("upload", "--dataset", dataset, str(folder), env=env, check=False)
    assert run.returncode == 6  # one was refused
    assert "empty.txt: refused" in run.stderr and "1 symbolic links" in run.stderr
    assert "5 files: 4 accepted, 1 refused, 0 failed, in 2 batches" in run.stdout
    assert len(re.findall(r"^batch ", run.stdout, re.M)) == 2

    run = fleet.ctl("status", "--dataset", dataset, "--watch", env=env, timeout=120, check=False)
    out = run.stdout
    assert run.returncode == 6  # one has failed
    assert "4 files, 3 done, 1 failed" in out
    assert re.search(r"^failed  .*bad\.pdf  main: .+ \(\w+\)$", out, re.M)
    assert json.loads(fleet.ctl("status", "--dataset", dataset, "--json", env=env))["files"]["total"] == 4
    names = sorted(f["name"] for f in client.files(dataset))
    assert names == ["a.txt", "a.txt", "bad.pdf", 'odd "name".txt']

    one = next(f for f in client.files(dataset) if f["name"] == "a.txt")
    assert "Invoice number: R-1" in fleet.ctl("text", one["id"], env=env)
    assert "R-1" in fleet.ctl("record", one["id"], env=env)

    admin = {"DOCFLEET_ADMIN_KEY": fleet.client("root", admin=True).key}
    assert "bad.pdf" not in fleet.ctl("dead-letters", "list", "--stage", "ocr", env=admin)
    listed = fleet.ctl("dead-letters", "list", "--stage", "text", env=admin)
    bad = next(f for f in client.files(dataset) if f["name"] == "bad.pdf")
    assert bad["id"] in listed
    assert fleet.ctl("dead-letters", "replay", env=admin, check=False).returncode == 2
    assert "matched, 1 replayed" in fleet.ctl("dead-letters", "replay", "--file", bad["id"],
                                              "--stage", "text", env=admin)
    fleet.ctl("status", "--dataset", dataset, "--watch", env=env, timeout=120, check=False)
    assert "1 discarded" in fleet.ctl("dead-letters", "discard", "--file", bad["id"], "--stage",
                                      "text", env=admin)
    refused = fleet.ctl("dead-letters", "list", env={"DOCFLEET_ADMIN_KEY": client.key}, check=False)
    assert refused.returncode == 4 and "not an operator's" in refused.stderr


def test_waits_for_the_schema(new_fleet):
    """`migrate --wait` holds a pod back until another has applied what this version knows, and no
    longer; what a newer version added does not hold it."""
    fleet = new_fleet()
    assert fleet.ctl("migrate", "--wait") == ""
    fleet.sql("INSERT INTO migration (version, name) VALUES (9999, 'of a later version')")
    assert fleet.ctl("migrate", "--wait", "--for", "1") == ""
    last = fleet.one("DELETE FROM migration WHERE version = (SELECT max(version) FROM migration"
                     " WHERE version < 9999) RETURNING version")
    run = fleet.ctl("migrate", "--wait", "--for", "1", check=False)
    assert run.returncode == 5 and "lacks 1 migrations" in run.stderr
    waiting = subprocess.Popen([fleet.bin("docfleetctl"), "migrate", "--wait"], stderr=subprocess.PIPE,
                               text=True, env={**os.environ, **fleet.settings()})
    assert "lacks 1" in waiting.stderr.readline()
    assert waiting.poll() is None
    fleet.sql("INSERT INTO migration (version, name) VALUES (%s, 'again')", last)
    assert waiting.wait(30) == 0
    for wrong in (["--wait", "--topics"], ["--for", "3"], ["--wait", "--for", "soon"]):
        assert fleet.ctl("migrate", *wrong, check=False).returncode == 2
