# SPDX-License-Identifier: Apache-2.0
"""docfleetctl doctor with one thing broken after the other: it says which, and what to do."""
import json
import os
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import confluent_kafka.admin
import pytest

from lib import rig


class Doctor:
    """`doctor(area, VALUE=...)`: the findings of an area by check, with these settings broken."""

    def __init__(self, fleet):
        self.fleet = fleet

    def __call__(self, only, **settings):
        env = {"DOCFLEET_" + k: v for k, v in settings.items()}
        run = self.fleet.ctl("doctor", "--json", "--only", only, env=env, check=False, timeout=120)
        doc = json.loads(run.stdout)
        assert run.returncode == (2 if doc["problems"] else 1 if doc["warnings"] else 0), run
        found = {}
        for c in doc["checks"]:
            found.setdefault(c["check"], []).append(c)
        return found


def states(found):
    return {f"{name} {c['state']}" for name, list_ in found.items() for c in list_}


def problem(found, check, state="problem"):
    """The one finding of a check, which must be bad and have advice."""
    bad = [c for c in found[check] if c["state"] == state]
    assert len(bad) == 1 and bad[0]["advice"], found[check]
    return bad[0]["detail"]


@pytest.fixture
def doctor(new_fleet):
    return Doctor(new_fleet())


def test_settings_and_host(doctor, tmp_path):
    assert states(doctor("settings,host")) >= {
        "values ok", "programs ok", "secrets ok", "scratch ok", "seccomp ok", "limits ok"}
    assert "SLOTZ" in problem(doctor("settings", SLOTZ="3"), "values")
    found = doctor("settings", AI_TIMEOUT="soon")  # known here, but of another program
    assert found["values"][0]["state"] == "ok"
    assert "AI_TIMEOUT" in problem(found, "programs") and "ai-extractor" in problem(found, "programs")
    secret = tmp_path / "secret"
    secret.write_text(doctor.fleet.servers.s3_secret)
    secret.chmod(0o644)
    assert str(secret) in problem(doctor("settings", AI_KEY_FILE=str(secret)), "secrets", "warning")
    gone = str(tmp_path / "gone")
    assert gone in problem(doctor("host", SCRATCH_DIR=gone), "scratch")
    assert doctor.fleet.ctl("doctor", "--only", "nothing", check=False).returncode == 2


def test_postgres(doctor):
    fleet = doctor.fleet
    well = doctor("postgres")
    bad = {c for c in states(well) if c.endswith("problem") or c.endswith("skipped")}
    assert bad == {"certificate skipped"}  # no TLS here; test_tls.py has it
    wrong = fleet.database_url.replace(":test@", ":wrong@")
    found = doctor("postgres,fleet", DATABASE_URL=wrong)
    assert "password authentication failed" in problem(found, "reach")
    assert {"schema skipped", "ledger skipped"} <= states(found)
    version, name = fleet.sql("SELECT version, name FROM migration ORDER BY version DESC")[0].values()
    fleet.sql("DELETE FROM migration WHERE version = %s", version)
    found = doctor("postgres")
    assert name in problem(found, "schema")
    assert found["schema"][0]["advice"] == "run docfleetctl migrate"
    fleet.sql("INSERT INTO migration (version, name) VALUES (%s, %s), (9999, 'later')", version, name)
    assert "newer" in problem(doctor("postgres"), "schema", "warning")
    fleet.sql("ALTER DATABASE " + fleet.name + " SET default_transaction_read_only = on")
    assert "read-only" in problem(doctor("postgres"), "writable")


def test_pooler(doctor, tmp_path):
    """Debian's pgbouncer keeps no prepared statements in transaction mode."""
    fleet, port = doctor.fleet, rig.free_port()
    (tmp_path / "users").write_text(f'"docfleet" "{fleet.servers.pg_password}"\n')
    (tmp_path / "ini").write_text(
        f"[databases]\n{fleet.name} = host=127.0.0.1 port={fleet.servers.pg_port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = plain\n"
        f"auth_file = {tmp_path}/users\npool_mode = transaction\nunix_socket_dir =\n"
        "ignore_startup_parameters = options,extra_float_digits,search_path\n")
    for path in (tmp_path, tmp_path / "users", tmp_path / "ini"):
        os.chmod(path, 0o755)
    as_user = [] if os.geteuid() else ["-u", "postgres"]
    pooler = rig.Process("pgbouncer", [shutil.which("pgbouncer", path="/usr/sbin:/usr/bin"), *as_user,
                                       str(tmp_path / "ini")], str(tmp_path / "log"))
    try:
        url = f"postgresql://docfleet:{fleet.servers.pg_password}@127.0.0.1:{port}/{fleet.name}"
        rig.wait_until(lambda: rig.psycopg.connect(url, prepare_threshold=None).close() or True, 30,
                       what="pgbouncer")
        found = doctor("postgres", DATABASE_URL=url)
        assert "goes through a pooler" in problem(found, "pooler")
        assert "DATABASE_DIRECT_URL" in found["pooler"][0]["advice"]
        found = doctor("postgres", DATABASE_URL=url, DATABASE_DIRECT_URL=fleet.database_url)
        assert found["pooler"][0]["detail"] == "a pooler, and a direct address beside it"
        assert {"pooler ok", "notify ok"} <= states(found)
    finally:
        pooler.stop()


def test_kafka(doctor):
    fleet = doctor.fleet
    assert {"reach ok", "topics ok", "timestamps ok", "replicas ok"} <= states(doctor("kafka"))
    found = doctor("kafka", KAFKA_BROKERS=f"127.0.0.1:{rig.free_port()}")
    assert problem(found, "reach") and states(found) >= {"topics skipped", "groups skipped"}
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": fleet.servers.kafka_brokers})
    resource = confluent_kafka.admin.ConfigResource(
        "topic", "docfleet.ai.v1", set_config={"message.timestamp.type": "CreateTime"})
    next(iter(admin.alter_configs([resource]).values())).result(30)
    try:
        rig.wait_until(lambda: "docfleet.ai.v1" in problem(doctor("kafka"), "timestamps", "warning"), 30)
        next(iter(admin.delete_topics(["docfleet.s3.v1"]).values())).result(30)
        rig.wait_until(lambda: "docfleet.s3.v1" in problem(doctor("kafka"), "topics"), 30)
    finally:
        next(iter(admin.delete_topics(["docfleet.ai.v1"]).values())).result(30)
        rig.wait_until(lambda: fleet.ctl("migrate", "--topics", check=False).returncode == 0 and
                       "topics ok" in states(doctor("kafka")), 60, what="the topics again")


def test_store(doctor):
    fleet = doctor.fleet
    well = doctor("store")
    assert {"reach ok", "roundtrip ok", "multipart ok", "clock ok", "presigned ok"} <= states(well)
    assert fleet.objects("uploads/doctor") == {}  # it leaves nothing
    for broken in ({"S3_SECRET_KEY": "wrong"}, {"S3_BUCKET": "nobody-has-this"},
                   {"S3_ENDPOINT": f"http://127.0.0.1:{rig.free_port()}"}):
        found = doctor("store", **broken)
        assert problem(found, "reach") and "roundtrip skipped" in states(found)
    elsewhere = f"http://127.0.0.1:{rig.free_port()}"
    assert problem(doctor("store", S3_PUBLIC_ENDPOINT=elsewhere), "presigned", "warning")


class Models(BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.headers.get("Authorization") == "Bearer right" and self.path == "/v1/models"
        body = b'{"data":[{"id":"small-1"}]}' if known else b"{}"
        if self.path == "/.well-known/openid-configuration":
            known, body = True, json.dumps({"issuer": f"http://{self.headers['Host']}"}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_providers(doctor, moto):
    assert states(doctor("providers")) == {"ai skipped", "textract skipped", "oidc skipped",
                                           "clamd skipped"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Models)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ai = {"AI_BACKEND": "openai", "AI_URL": f"http://127.0.0.1:{server.server_port}/v1",
          "AI_MODEL": "small-1", "AI_KEY": "right"}
    assert "ai ok" in states(doctor("providers", **ai))
    assert "refuses the key" in problem(doctor("providers", **{**ai, "AI_KEY": "no"}), "ai")
    assert "large-2" in problem(doctor("providers", **{**ai, "AI_MODEL": "large-2"}), "ai", "warning")
    with socket.create_server(("127.0.0.1", 0)) as scanner:
        def pong():
            with scanner.accept()[0] as peer:
                peer.sendall(b"PONG\0" if peer.recv(16) == b"zPING\0" else b"?")
        threading.Thread(target=pong, daemon=True).start()
        clamd = f"127.0.0.1:{scanner.getsockname()[1]}"
        assert "clamd ok" in states(doctor("providers", CLAMD=clamd))
    assert clamd in problem(doctor("providers", CLAMD=clamd), "clamd")
    issuer = f"http://127.0.0.1:{server.server_port}"
    assert "oidc ok" in states(doctor("providers", OIDC_ISSUER=issuer))
    assert "calls itself" in problem(doctor("providers", OIDC_ISSUER=issuer + "/"), "oidc")
    server.shutdown()
    server.server_close()
    assert problem(doctor("providers", **ai), "ai")
    key, secret = moto.verify_signatures()
    textract = {"TEXTRACT_ENDPOINT": moto.endpoint, "TEXTRACT_ACCESS_KEY": key,
                "TEXTRACT_SECRET_KEY": secret}
    assert "textract ok" in states(doctor("providers", **textract))
    assert problem(doctor("providers", **{**textract, "TEXTRACT_SECRET_KEY": "no"}), "textract")


def test_fleet_and_gateway(doctor):
    fleet = doctor.fleet
    found = doctor("fleet,gateway")
    assert "none has said anything" in problem(found, "dispatcher")
    assert len(found["workers"]) == 6 and problem(found, "reach")
    fleet.start("ingest-gateway", "dispatcher")
    client = fleet.client()
    rig.wait_until(lambda: "dispatcher ok" in states(doctor("fleet")), 30)
    client.upload(client.dataset(), {"a.txt": b"Invoice number: R-1\n"})
    rig.wait_until(lambda: "no worker of text lives, and work waits" in
                   {c["detail"] for c in doctor("fleet")["workers"]}, 30)
    fleet.ctl("stages", "pause", "ocr")
    fleet.sql("INSERT INTO worker (worker_id, stage, slots, open, seen) VALUES"
              " ('w', 3, 1, true, now() + interval '1 hour')")
    fleet.sql("UPDATE batch SET accepted = accepted + 1")
    fleet.sql("UPDATE backlog SET n = 7, oldest_at = now() - interval '2 hours' WHERE stage = 6")
    found = doctor("fleet,gateway", API_KEY=client.key, ADMIN_KEY=client.key)
    told = {c["detail"] for c in found["workers"]}
    assert len(told) == 5 and not any("ai" in t.split() for t in told)
    assert problem(found, "paused", "warning") == "ocr is paused"
    assert "ai: open in 1" in problem(found, "breakers")
    assert problem(found, "ledger") == "1 counts do not"
    assert found["reach"][0]["state"] == "ok"
    assert {"keys ok", "keys problem"} <= states(found)  # the user's key is no operator's
    assert "not known" in problem(doctor("gateway", API_KEY="dfk_00_x"), "keys")
