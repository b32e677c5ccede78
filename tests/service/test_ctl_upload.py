# SPDX-License-Identifier: Apache-2.0
"""docfleetctl upload against everything that may end it: nothing is lost, nothing is there twice.

Only the gateway runs here: what was accepted is what counts."""
import collections
import json
import os
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from lib import rig


class Relay:
    """Between docfleetctl and the gateway. `swallow`: answers are read and kept back; `stall`: nothing
    is passed on; `busy`: the next connections are told to come later."""

    def __init__(self, port, cert=None):
        self.target, self.mode, self.refusals = port, "pass", 0
        self.swallowed = threading.Event()
        self.seen = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.context = None
        if cert:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*cert)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                here, _ = self.socket.accept()
                if self.context:
                    here = self.context.wrap_socket(here, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            threading.Thread(target=self.serve, args=(here,), daemon=True).start()

    def serve(self, here):
        self.seen.set()
        if self.mode == "busy":
            self.refusals += 1
            self.mode = "pass" if self.refusals >= 2 else "busy"
            here.recv(65536)
            here.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
                         b"Connection: close\r\n\r\n")
            here.close()
            return
        there = socket.create_connection(("127.0.0.1", self.target))
        mode = self.mode

        def pump(source, sink, back):
            try:
                while data := source.recv(65536):
                    if mode == "stall":
                        continue
                    if back and mode == "swallow":
                        self.swallowed.set()
                        continue
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        threading.Thread(target=pump, args=(there, here, True), daemon=True).start()
        pump(here, there, False)

    @property
    def url(self):
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"


@pytest.fixture
def gateway(new_fleet):
    return new_fleet().start("ingest-gateway")


def make_folder(path, n):
    for i in range(n):
        folder = path / f"f{i % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:04}.txt").write_text(f"Invoice number: R-{i}\n")
    return path


def start(fleet, key, *args, url=None):
    env = dict(rig._base_env(), DOCFLEET_URL=url or fleet.url, DOCFLEET_API_KEY=key,
               XDG_STATE_HOME=f"{fleet.dir}/state", XDG_CONFIG_HOME=f"{fleet.dir}/config")
    return subprocess.Popen([fleet.bin("docfleetctl"), *args], env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def names(client, dataset):
    return collections.Counter(f["name"] for f in client.files(dataset))


def test_kill9_and_the_same_command_again(gateway, tmp_path):
    client = gateway.client()
    dataset = client.dataset()
    folder = make_folder(tmp_path / "in", 900)
    args = ("upload", "--dataset", dataset, "--parallel", "2", str(folder))
    run = start(gateway, client.key, *args)
    assert run.stdout.readline().startswith("batch ")  # one has come, others are on their way
    run.kill()
    run.communicate()
    before = sum(names(client, dataset).values())
    assert 200 <= before < 900
    env = {"DOCFLEET_API_KEY": client.key}
    out = gateway.ctl(*args, env=env)
    assert "0 refused, 0 failed" in out
    there = names(client, dataset)
    assert len(there) == 900 and set(there.values()) == {1}
    assert gateway.sql("SELECT 1 FROM ledger_mismatch()") == []
    # again: nothing to do; with one file changed and one new: those two
    assert "0 accepted, 900 uploaded before" in gateway.ctl(*args, env=env)
    (folder / "f0" / "0000.txt").write_text("Invoice number: another\n")
    (folder / "f0" / "new.txt").write_text("x\n")
    os.utime(folder / "f1" / "0001.txt", (1, 1))  # touched, the same bytes
    told = json.loads(gateway.ctl(*args, "--json", env=env).splitlines()[-1])
    assert told == {"files": 901, "accepted": 2, "before": 899, "rejected": 0, "failed": 0,
                    "left": 0, "batches": 1}
    assert names(client, dataset)["0000.txt"] == 2
    # from another machine, which has no journal
    out = gateway.ctl("upload", "--dataset", dataset, "--skip-known", "--journal",
                      str(tmp_path / "j"), str(folder), env=env)
    assert "0 accepted, 901 uploaded before" in out


def test_an_answer_that_was_lost(gateway, tmp_path):
    """The gateway accepted, docfleetctl never heard of it and was killed."""
    client = gateway.client()
    relay = Relay(gateway.gateway_port)
    env = {"DOCFLEET_API_KEY": client.key}

    def lose(folder):
        dataset = client.dataset()
        relay.mode = "swallow"
        relay.swallowed.clear()
        run = start(gateway, client.key, "upload", "--dataset", dataset, str(folder), url=relay.url)
        assert relay.swallowed.wait(60)
        run.kill()
        run.communicate()
        relay.mode = "pass"
        return dataset

    folder = make_folder(tmp_path / "same", 20)
    dataset = lose(folder)
    out = gateway.ctl("upload", "--dataset", dataset, str(folder), env=env)
    assert "20 files: 20 accepted, 0 refused" in out  # the stored answer
    assert set(names(client, dataset).values()) == {1}
    assert gateway.one("SELECT count(*) FROM batch WHERE dataset_id = %s", dataset) == 1

    folder = make_folder(tmp_path / "changed", 5)  # one is not what it was, one is gone
    dataset = lose(folder)
    (folder / "f0" / "0000.txt").write_text("Invoice number: later\n")
    (folder / "f1" / "0001.txt").unlink()
    out = gateway.ctl("upload", "--dataset", dataset, str(folder), env=env)
    assert "4 files: 1 accepted, 3 uploaded before" in out
    there = names(client, dataset)
    assert there["0000.txt"] == 2 and sum(there.values()) == 6

    folder = make_folder(tmp_path / "old", 3)  # the gateway has forgotten the key meanwhile
    dataset = lose(folder)
    journal = next(p for p in (tmp_path / gateway.dir / "state/docfleet/uploads").iterdir()
                   if dataset in p.read_text())
    plan = [json.loads(line) for line in journal.read_text().splitlines()]
    plan[1]["at"] -= 25 * 3600 * 1000
    journal.write_text("".join(json.dumps(line) + "\n" for line in plan))
    gateway.sql("DELETE FROM idempotency")
    assert "0 accepted, 3 uploaded before" in gateway.ctl("upload", "--dataset", dataset,
                                                          str(folder), env=env)
    assert set(names(client, dataset).values()) == {1}


def test_interrupted_busy_and_over_tls(gateway, tmp_path):
    client = gateway.client()
    dataset = client.dataset()
    folder = make_folder(tmp_path / "in", 3)
    args = ("upload", "--dataset", dataset, str(folder))
    relay = Relay(gateway.gateway_port)
    relay.mode = "stall"
    run = start(gateway, client.key, *args, url=relay.url)
    assert relay.seen.wait(60)
    second = gateway.ctl(*args, env={"DOCFLEET_API_KEY": client.key}, check=False)
    assert second.returncode == 5 and "at work already" in second.stderr
    run.send_signal(signal.SIGINT)
    out, told = run.communicate(timeout=60)
    assert run.returncode == 130 and "goes on where it stopped" in told and "3 left" in out

    relay.mode = "busy"  # 503 twice, then it goes on
    env = {"DOCFLEET_API_KEY": client.key, "DOCFLEET_URL": relay.url}
    run = gateway.ctl(*args, env=env, check=False)
    assert run.returncode == 0 and "sending a batch again" in run.stderr and relay.refusals == 2
    assert set(names(client, dataset).values()) == {1}

    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out",
                    cert, "-days", "2", "-subj", "/CN=gateway", "-addext",
                    "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    secure = Relay(gateway.gateway_port, (cert, key))
    env["DOCFLEET_URL"] = secure.url
    refused = gateway.ctl("whoami", env=env, check=False)
    assert refused.returncode == 5 and "certificate" in refused.stderr
    assert "alice" in gateway.ctl("whoami", "--ca-file", cert, env=env)


def test_profiles_and_exit_status(gateway, tmp_path):
    client = gateway.client()
    config = tmp_path / "docfleet" / "config"
    config.parent.mkdir()
    config.write_text(f"url = {gateway.url}\napi_key = {client.key}\n\n[away]\n"
                      f"url = http://127.0.0.1:{rig.free_port()}\napi_key = {client.key}\n")
    env = dict(rig._base_env(), XDG_CONFIG_HOME=str(tmp_path))

    def run(*args, **more):
        return subprocess.run([gateway.bin("docfleetctl"), *args], env={**env, **more}, text=True,
                              capture_output=True, timeout=120)
    config.chmod(0o644)
    assert run("whoami").returncode == 2 and "chmod 600" in run("whoami").stderr
    config.chmod(0o600)
    assert "alice" in run("whoami").stdout
    assert run("--profile", "nobody", "whoami").returncode == 2
    assert run("whoami", "--profile", "away").returncode == 5
    assert run("whoami", DOCFLEET_API_KEY="dfk_0_x").returncode == 4
    assert run("status", "--dataset", "019a0000-0000-7000-8000-000000000000").returncode == 3
    made = run("keys", "create", "laptop", "--days", "2")
    assert made.stdout.startswith("dfk_") and len(made.stdout.splitlines()) == 1
    assert "laptop" in run("keys", "list").stdout
    assert run("keys", "revoke", made.stdout.strip()).returncode == 0
    assert run("whoami", DOCFLEET_API_KEY=made.stdout.strip()).returncode == 4
