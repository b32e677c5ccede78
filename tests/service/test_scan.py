# SPDX-License-Identifier: Apache-2.0
"""The scan stage against ClamAV's own daemon, with one signature of our own: the EICAR test file's."""
import os
import shutil
import signal
import socket

import pytest

from lib import invariants, rig

# In two pieces, or a scanner takes this file for what it tests.
EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
SERVICES = ("ingest-gateway", "dispatcher", "scan-worker", "text-extractor", "ai-extractor",
            "preview-worker", "thumbnail-worker", "cleaner")
STREAM_MAX = 1 << 20


class Clamd:
    def __init__(self, directory):
        self.dir = os.path.join(directory, "clamd")
        os.makedirs(self.dir + "/db")
        self.port = rig.free_port()
        with open(self.dir + "/db/local.ndb", "w", encoding="ascii") as f:
            f.write(f"Docfleet.Test.Eicar:0:*:{EICAR.encode().hex()}\n")
        with open(self.dir + "/clamd.conf", "w", encoding="ascii") as f:
            f.write(f"Foreground yes\nTCPSocket {self.port}\nTCPAddr 127.0.0.1\n"
                    f"DatabaseDirectory {self.dir}/db\nStreamMaxLength {STREAM_MAX}\n"
                    f"LocalSocket {self.dir}/clamd.sock\nTemporaryDirectory {self.dir}\n")
        self.process = None
        self.start()

    def start(self):
        self.process = rig.Process("clamd", [shutil.which("clamd", path="/usr/sbin:/usr/bin"),
                                             "--config-file", self.dir + "/clamd.conf"],
                                   self.dir + "/clamd.log", env=rig._base_env())
        rig.wait_until(self._answers, 60, what="clamd")

    def _answers(self):
        with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
            connection.sendall(b"zPING\0")
            return connection.recv(16).startswith(b"PONG")

    def stop(self):
        self.process.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def clamd(servers):
    made = Clamd(servers.dir)
    yield made
    made.stop()


@pytest.fixture
def scanned(new_fleet, clamd):
    """scanned(NAME=value...): a fleet that shows every file to the scanner first."""
    def make(address=None, services=SERVICES, **settings):
        env = {"DOCFLEET_CLAMD": address or f"127.0.0.1:{clamd.port}"}
        env.update({"DOCFLEET_" + k: v for k, v in settings.items()})
        return new_fleet(env=env).start(*services)
    return make


def stages(fleet, file_id):
    return [r["stage"] for r in fleet.sql(
        "SELECT DISTINCT stage FROM task WHERE file_id = %s ORDER BY stage", file_id)]


def test_every_file_is_scanned_before_anything_reads_it(scanned, fixture_path):
    fleet = scanned()
    client = fleet.client()
    data = client.dataset()
    answer = client.upload(data, [fixture_path("invoice.pdf"), ("bad.txt", EICAR.encode())])
    clean, bad = (f["id"] for f in answer["files"])

    done = client.wait_done(clean)
    assert done["state"] == "done" and done["pipelines"]["main"]["stage"] == "ai"
    began = [(e["stage"], e["detail"].get("state")) for e in client.json(f"/files/{clean}/timeline")["items"]
             if e.get("stage")]
    assert began[0][0] == "scan"
    assert began.index(("scan", "done")) < min(
        i for i, (stage, _) in enumerate(began) if stage != "scan")

    held = client.wait_done(bad, states=("quarantined",))
    main = held["pipelines"]["main"]
    assert (main["state"], main["stage"], main["error"]["code"]) == ("failed", "scan", "infected")
    assert "Docfleet.Test.Eicar" in main["error"]["detail"]
    assert {p["state"] for n, p in held["pipelines"].items() if n != "main"} == {"skipped"}
    assert stages(fleet, bad) == [7], "something else has been given the file"
    assert client.get(f"/files/{bad}/content", 403).json()["code"] == "quarantined"
    assert client.json(f"/datasets/{data}/summary")["files"]["byState"]["quarantined"] == 1
    assert [f["id"] for f in client.files(data, state="quarantined")] == [bad]
    invariants.check_rows(fleet)

    # No way around it for its user; it may be removed.
    client.post(f"/files/{bad}/retry", (202, 404, 409), json={"from": "text"})
    client.post(f"/files/{bad}/retry", (202, 404, 409), json={})
    assert client.file(bad)["state"] == "quarantined" and stages(fleet, bad) == [7]
    client.delete(f"/files/{bad}")
    invariants.wait_quiet(fleet)
    invariants.check_rows(fleet)


def test_an_operator_releases_what_is_harmless(scanned):
    fleet = scanned()
    client, admin = fleet.client(), fleet.client("chief", admin=True)
    data = client.dataset()
    (bad,) = (f["id"] for f in client.upload(data, {"a.txt": EICAR.encode()})["files"])
    client.wait_done(bad, states=("quarantined",))
    (item,) = admin.json("/admin/quarantine")["items"]
    assert item["id"] == bad and "Docfleet.Test.Eicar" in item["detail"] and item["name"] == "a.txt"
    client.get("/admin/quarantine", 403)
    client.post(f"/admin/quarantine/{bad}/release", 403, json={})

    admin.post(f"/admin/quarantine/{bad}/release", 202, json={})
    assert client.wait_done(bad)["state"] == "done"
    assert "EICAR" in client.get(f"/files/{bad}/text").text
    assert admin.json("/admin/quarantine")["items"] == []
    admin.post(f"/admin/quarantine/{bad}/release", 404, json={})
    assert fleet.one("SELECT count(*) FROM audit WHERE action = 'quarantine.release'"
                     " AND outcome = 'ok'") == 1
    invariants.wait_quiet(fleet)
    invariants.check_rows(fleet)


@pytest.mark.parametrize("policy, state", [("refuse", "failed"), ("pass", "done")])
def test_a_file_that_the_scanner_does_not_take(scanned, policy, state):
    fleet = scanned(SCAN_TOO_LARGE=policy)
    client = fleet.client()
    big = b"word and word\n" * (2 * STREAM_MAX // 14)
    (file_id,) = (f["id"] for f in client.upload(client.dataset(), {"big.txt": big})["files"])
    got = client.wait_done(file_id)
    assert got["state"] == state
    if state == "failed":
        assert got["pipelines"]["main"]["error"]["code"] == "scan_too_large"
        assert stages(fleet, file_id) == [7]
        # Again from a later stage begins with the scan all the same.
        client.post(f"/files/{file_id}/retry", 202, json={"from": "ai"})
        assert client.wait_done(file_id)["state"] == "failed"
        assert stages(fleet, file_id) == [7]
    invariants.wait_quiet(fleet)
    invariants.check_rows(fleet)


def test_without_the_scanner_files_wait(scanned, clamd):
    """An outage costs no attempt, and nothing gets past it."""
    fleet = scanned(f"unix:{clamd.dir}/clamd.sock")
    client = fleet.client()
    clamd.stop()
    data = client.dataset()
    ids = [f["id"] for f in client.upload(data, {f"{n}.txt": b"some words" for n in range(3)})["files"]]
    rig.wait_until(lambda: fleet.one("SELECT min(outage_retries) FROM task WHERE stage = 7") >= 1, 60,
                   what="tries that found no scanner")
    assert client.file(ids[0])["pipelines"]["main"]["stage"] == "scan"
    assert fleet.one("SELECT count(*) FROM task WHERE stage <> 7") == 0
    clamd.start()
    for file_id in ids:
        assert client.wait_done(file_id, 120)["state"] == "done"
    assert fleet.one("SELECT max(failures) FROM task") == 0
    assert fleet.one("SELECT max(attempts - refunds) FROM task WHERE stage = 7") == 1
    invariants.check_rows(fleet)
