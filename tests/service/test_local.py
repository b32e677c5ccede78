# SPDX-License-Identifier: Apache-2.0
"""What `make up` stands on (deploy/local): our own supervisor and servers, and nobody else's."""
import os
import signal
import socket
import subprocess
import time

import psycopg
import pytest

from lib import rig

LOCAL = os.path.join(rig.ROOT, "deploy", "local")
PORTS = ("PG_PORT", "KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "S3_PORT", "GATEWAY_PORT")


class Local:
    def __init__(self, folder):
        self.run_dir = str(folder)
        self.env = dict(os.environ, RUN_DIR=self.run_dir)
        for name in PORTS:
            self.env[name] = str(rig.free_port())
        self.env["PROBE_PORT_BASE"] = self._eight_free()

    @staticmethod
    def _eight_free():
        while True:
            base = rig.free_port()
            try:
                for port in range(base, base + 8):
                    with socket.socket() as s:
                        s.bind(("127.0.0.1", port))
                return str(base)
            except OSError:
                continue

    def __call__(self, script, *args, check=True, **env):
        run = subprocess.run([os.path.join(LOCAL, script), *args], env=dict(self.env, **env),
                             capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL)
        if check:
            assert run.returncode == 0, run.stdout + run.stderr
        return run

    def status(self):
        lines = self("status").stdout.splitlines()[1:]
        return {w[0]: w for w in (line.split() for line in lines) if len(w) > 5 and w[4] == "pid"}

    def database_url(self):
        with open(self.run_dir + "/secrets.env", encoding="utf-8") as f:
            password = dict(line.strip().split("=", 1) for line in f)["PG_PASSWORD"]
        return f"postgresql://docfleet:{password}@127.0.0.1:{self.env['PG_PORT']}/docfleet"


@pytest.fixture
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)  # user postgres passes through
    made = Local(folder)
    yield made
    if os.path.exists(made.run_dir):
        made("clean-data", check=False)


def test_a_taken_port_is_named_and_nothing_starts(local):
    with socket.socket() as s:
        s.bind(("127.0.0.1", int(local.env["S3_PORT"])))
        s.listen()
        run = local("servers", "up", check=False)
    assert run.returncode != 0
    assert f"port {local.env['S3_PORT']} (S3_PORT)" in run.stderr and "make up S3_PORT=" in run.stderr
    assert not os.path.exists(local.run_dir + "/supervisord.pid")


def test_nonsense_is_refused(local):
    assert "is not a port" in local("servers", "up", check=False, PG_PORT="x").stderr
    assert "nothing runs here" in local("restart", "kafka", check=False).stderr
    assert local("status", check=False).returncode == 3


def test_servers_live_twice_and_keep_their_data(local):
    # a setting of the shell that no service knows must do no harm
    local("servers", "up", DOCFLEET_NO_SUCH_NAME="1")
    first = local.status()
    assert set(first) == {"postgres", "kafka", "s3"}
    with psycopg.connect(local.database_url(), autocommit=True) as conn:
        conn.execute("create table kept (n int)")

    start = time.monotonic()
    local("servers", "up")
    assert time.monotonic() - start < rig.bound(15)
    assert {n: w[5] for n, w in local.status().items()} == {n: w[5] for n, w in first.items()}

    os.kill(int(first["s3"][5].rstrip(",")), signal.SIGKILL)
    rig.wait_until(lambda: local.status().get("s3", first["s3"])[5] != first["s3"][5], 15,
                   what="the supervisor starts S3 again")

    assert "stopped" in local("down").stdout
    assert "nothing runs here" in local("down").stdout
    local("servers", "up")
    with psycopg.connect(local.database_url()) as conn:
        assert conn.execute("select count(*) from kept").fetchone()[0] == 0
    local("clean-data")
    assert not os.path.exists(local.run_dir)
