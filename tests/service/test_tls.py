# SPDX-License-Identifier: Apache-2.0
"""Every connection of the fleet under TLS, against the real servers: it works with the right CA, and
is refused with a wrong one, an expired certificate, or one for another host."""
import concurrent.futures
import contextlib
import json
import os
import secrets
import socket
import ssl
import sys

import pytest
import requests
from cryptography import x509

from lib import rig, tls
from lib.ai_server import AiServer

pytestmark = pytest.mark.timeout(300)
KAFKA_LOGIN = {"DOCFLEET_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "DOCFLEET_KAFKA_SASL_MECHANISM": "PLAIN",
               "DOCFLEET_KAFKA_USERNAME": tls.KAFKA_USER}


class TlsFleet(rig.Fleet):
    """All secrets come from files, all servers' certificates are checked against one CA."""

    def __init__(self, servers, env=None):
        self.secret_files = {}
        super().__init__(servers, env)
        self.url = f"https://127.0.0.1:{self.gateway_port}"
        self.api = self.url + "/api/v1"

    def secret(self, name, value):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(value + "\n")
        return path

    def settings(self):
        plain = super().settings()
        for name, value in (("DATABASE_URL", plain.pop("DOCFLEET_DATABASE_URL")),
                            ("S3_ACCESS_KEY", plain.pop("DOCFLEET_S3_ACCESS_KEY")),
                            ("S3_SECRET_KEY", plain.pop("DOCFLEET_S3_SECRET_KEY")),
                            ("KAFKA_PASSWORD", tls.KAFKA_PASSWORD)):
            if name not in self.secret_files:
                self.secret_files[name] = self.secret(name, value)
            plain[f"DOCFLEET_{name}_FILE"] = self.secret_files[name]
        return {**plain, **KAFKA_LOGIN, "DOCFLEET_CA_FILE": self.servers.ca_file,
                "DOCFLEET_DATABASE_CA_FILE": self.servers.ca_file,
                "DOCFLEET_KAFKA_BROKERS": self.servers.brokers("LOGIN")}

    def client(self, user="alice", admin=False):
        made = super().client(user, admin)
        made.session.verify = self.servers.ca_file
        return made


@pytest.fixture(scope="module")
def tls_servers():
    import conftest
    if conftest._state["current"]:
        conftest._stop_current()
    made = tls.TlsServers()
    try:
        made.start()
        made.make_kafka_users()
        made.use_postgres_pair("server")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def tls_fleet(tls_servers):
    made = TlsFleet(tls_servers)
    made.pair = tls_servers.authority.issue("gateway")
    made.env = {"DOCFLEET_TLS_CERT_FILE": made.pair[0], "DOCFLEET_TLS_KEY_FILE": made.pair[1]}
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def ai_https(tls_servers):
    made = AiServer()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls_servers.pairs["server"])
    made.wrap(context)
    yield made
    made.stop()


def refused(run, *words):
    """The command failed, and says in one line why."""
    assert run.returncode != 0, run.stdout
    assert not words or any(w in run.stderr for w in words), run.stderr


# --- the whole fleet --------------------------------------------------------------------------
def test_a_file_goes_through_a_fleet_that_speaks_tls_alone(tls_fleet, fixture_path, ai_https):
    ai_https.fill = {"Total amount": ("EUR 12.50", "Total amount: EUR 12.50")}
    tls_fleet.start(env={"DOCFLEET_AI_BACKEND": "openai", "DOCFLEET_AI_MODEL": "m",
                         "DOCFLEET_AI_URL": ai_https.url})
    client = tls_fleet.client()
    up = client.upload(client.dataset(), [fixture_path("invoice.pdf")])
    done = client.wait_done(up["files"][0]["id"])
    assert done["state"] == "done", done
    assert ai_https.calls
    rows = tls_fleet.sql("SELECT a.application_name, s.ssl, s.version FROM pg_stat_ssl s"
                         " JOIN pg_stat_activity a USING (pid) WHERE a.datname = %s"
                         " AND a.application_name LIKE '%%:%%'", tls_fleet.name)
    names = {row["application_name"].split(":")[1] for row in rows}
    assert {"ingest-gateway", "dispatcher", "text-extractor", "ai-extractor"} <= names
    assert all(row["ssl"] and row["version"] == "TLSv1.3" for row in rows), rows


def test_live_events_and_large_bodies_over_https(tls_fleet):
    if not tls_fleet.running("ingest-gateway"):
        tls_fleet.start("ingest-gateway")
    client = tls_fleet.client()
    dataset = client.dataset()
    body = secrets.token_bytes(20 << 20)
    stream = client.get("/events", stream=True, headers={"Accept": "text/event-stream"})
    up = client.upload(dataset, {"big.bin": body})
    file_id = up["files"][0]["id"]
    lines = stream.iter_lines()
    rig.wait_until(lambda: file_id.encode() in next(lines), 30, what="the upload's event")
    stream.close()
    got = client.get(f"/files/{file_id}/content")
    assert got.content == body


def test_an_early_answer_over_https(tls_fleet):
    """A small rest of the body is read and answered; a large one is cut off, and nothing breaks."""
    client = tls_fleet.client()
    small = requests.post(client.api + "/datasets", data=b"x" * 500_000, timeout=30,
                          verify=client.session.verify, headers={"Content-Type": "text/plain"})
    assert small.status_code in (401, 415)
    with contextlib.suppress(requests.ConnectionError):
        large = requests.post(client.api + "/datasets", data=b"x" * (8 << 20), timeout=30,
                              verify=client.session.verify)
        assert large.status_code in (401, 413, 415)
    context = ssl.create_default_context(cafile=client.session.verify)
    with socket.create_connection(("127.0.0.1", tls_fleet.gateway_port), 30) as raw:
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as conn:
            conn.sendall(b"POST /api/v1/datasets HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                         b"Content-Type: application/json\r\nContent-Length: 8388608\r\n\r\n")
            assert conn.recv(4096).split(b" ")[1] in (b"401", b"413")
    assert client.get("/datasets").status_code == 200


# --- the gateway's certificate ---------------------------------------------------------------------
def shown(port, ca_file, **limits):
    """The serial number of the certificate that is shown, and the protocol."""
    context = ssl.create_default_context(cafile=ca_file)
    for name, value in limits.items():
        setattr(context, name, value)
    with socket.create_connection(("127.0.0.1", port), 10) as raw:
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as conn:
            return conn.getpeercert()["serialNumber"], conn.version()


def test_the_gateway_speaks_tls_1_2_and_1_3_only(tls_fleet):
    port, ca = tls_fleet.gateway_port, tls_fleet.servers.ca_file
    assert shown(port, ca)[1] == "TLSv1.3"
    assert shown(port, ca, maximum_version=ssl.TLSVersion.TLSv1_2)[1] == "TLSv1.2"
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port), 10) as raw:
        with pytest.raises(ssl.SSLError):
            old.wrap_socket(raw)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/api/v1/datasets", timeout=10)


def test_a_renewed_certificate_is_taken_without_a_restart(tls_fleet):
    """Also while a connection is open; a broken pair is not taken."""
    port, ca = tls_fleet.gateway_port, tls_fleet.servers.ca_file
    gateway, before = tls_fleet.process("ingest-gateway"), shown(port, ca)[0]
    client = tls_fleet.client()
    assert client.get("/datasets")
    with open(tls_fleet.pair[0], "w", encoding="utf-8") as f:
        f.write("no certificate")
    rig.wait_until(lambda: "renewed certificate not taken" in gateway.log(), 20,
                   what="the complaint")
    assert shown(port, ca)[0] == before
    tls_fleet.servers.authority.issue("gateway")
    rig.wait_until(lambda: shown(port, ca)[0] != before, 20, what="the new certificate")
    assert client.get("/datasets") and tls_fleet.process("ingest-gateway").pid == gateway.pid
    gauge = tls_fleet.metrics("ingest-gateway")[
        'docfleet_certificate_expiry_seconds{use="gateway"}']
    assert gauge > 1e9


def certificates(fleet, only, **env):
    """Doctor's findings on certificates, by area."""
    out = fleet.ctl("doctor", "--json", "--only", only, check=False, env={f"DOCFLEET_{k}": v for k, v in env.items()})
    return {c["area"]: c["state"] for c in json.loads(out.stdout)["checks"] if c["check"] == "certificate"}


def test_the_ends_of_the_servers_certificates_are_shown(tls_fleet):
    def ends():
        return {k.split('"')[1]: v for k, v in tls_fleet.metrics("ingest-gateway").items()
                if k.startswith("docfleet_certificate_expiry_seconds")}
    if not tls_fleet.running("ingest-gateway"):
        tls_fleet.start("ingest-gateway")
    rig.wait_until(lambda: {"postgres_server", "kafka_server", "store_server"} <= set(ends()), 20)
    with open(tls_fleet.servers.pairs["server"][0], "rb") as f:
        end = x509.load_pem_x509_certificate(f.read()).not_valid_after_utc.timestamp()
    assert all(ends()[f"{s}_server"] == end for s in ("postgres", "kafka", "store")), ends()
    # all end within 14 days here
    assert certificates(tls_fleet, "postgres,kafka,store,gateway") == dict.fromkeys(
        ("postgres", "kafka", "store", "gateway"), "warning")
    # a broker that wants a certificate of ours has shown its own before
    assert certificates(tls_fleet, "kafka", KAFKA_SECURITY_PROTOCOL="SSL",
                        KAFKA_BROKERS=tls_fleet.servers.brokers("MUTUAL"))["kafka"] == "warning"
    # one that is over, on one broker of two
    both = tls_fleet.servers.brokers("GOOD") + "," + tls_fleet.servers.brokers("EXPIRED")
    assert certificates(tls_fleet, "kafka", KAFKA_SECURITY_PROTOCOL="SSL", KAFKA_BROKERS=both)["kafka"] == "problem"
    assert certificates(tls_fleet, "kafka,store", KAFKA_SECURITY_PROTOCOL="PLAINTEXT",
                        S3_ENDPOINT="http://127.0.0.1:1") == {"kafka": "skipped", "store": "skipped"}


@pytest.mark.parametrize("pair", ["stranger", "expired", "elsewhere"])
def test_docfleetctl_refuses_a_gateway_it_cannot_trust(tls_fleet, pair, tmp_path):
    made = {"stranger": lambda: tls_fleet.servers.stranger.issue("g-stranger"),
            "expired": lambda: tls_fleet.servers.pairs["expired"],
            "elsewhere": lambda: tls_fleet.servers.pairs["elsewhere"]}[pair]()
    name = f"ingest-gateway#{pair}"
    tls_fleet.start(name, env={"DOCFLEET_TLS_CERT_FILE": made[0], "DOCFLEET_TLS_KEY_FILE": made[1]})
    try:
        url = f"https://127.0.0.1:{tls_fleet.gateway_ports(name)}"
        run = tls_fleet.ctl("dataset", "list", check=False,
                            env={"DOCFLEET_URL": url, "DOCFLEET_API_KEY": tls_fleet.user_key()})
        refused(run, "certificate", "SSL")
    finally:
        tls_fleet.stop(name)


def test_docfleetctl_trusts_the_gateway_of_its_ca(tls_fleet):
    run = tls_fleet.ctl("dataset", "list", env={"DOCFLEET_URL": tls_fleet.url,
                                                "DOCFLEET_API_KEY": tls_fleet.user_key()})
    assert run is not None


@pytest.mark.parametrize("env,word", [
    ({"DOCFLEET_TLS_KEY_FILE": ""}, "go together"),
    ({"DOCFLEET_TLS_CERT_FILE": "/nonexistent"}, "/nonexistent"),
    ({"DOCFLEET_TLS_KEY_FILE": "elsewhere"}, "is not the key"),
    ({"DOCFLEET_KAFKA_USERNAME": ""}, "KAFKA_USERNAME"),
    ({"DOCFLEET_KAFKA_CERT_FILE": "/x"}, "go together"),
    ({"DOCFLEET_S3_CA_FILE": "/nonexistent"}, "/nonexistent"),
    ({"DOCFLEET_DATABASE_CA_FILE": "/nonexistent"}, "/nonexistent"),
    ({"DOCFLEET_STORE_DRIVER": "libs3"}, "checks no certificate"),
])
def test_a_setup_that_cannot_work_is_refused_at_the_start(tls_fleet, env, word):
    env = {k: tls_fleet.servers.pairs["elsewhere"][1] if v == "elsewhere" else v
           for k, v in env.items()}
    tls_fleet.start("ingest-gateway#bad", env=env, wait=False)
    process = tls_fleet.process("ingest-gateway#bad")
    assert tls_fleet.wait_end("ingest-gateway#bad", 20) != 0
    assert word in process.log(), process.log()


# --- Kafka -----------------------------------------------------------------------------------------
def topics(fleet, **env):
    return fleet.ctl("migrate", "--topics", check=False,
                     env={k if k == "LD_PRELOAD" else "DOCFLEET_" + k: v
                          for k, v in env.items()})


def test_kafka_with_a_login_and_with_a_client_certificate(tls_fleet):
    brokers = tls_fleet.servers.brokers
    run = topics(tls_fleet, KAFKA_SASL_MECHANISM="PLAIN")
    assert run.returncode == 0, run.stderr
    cert, key = tls_fleet.servers.authority.issue("worker", host="worker")
    run = topics(tls_fleet, KAFKA_SECURITY_PROTOCOL="SSL", KAFKA_BROKERS=brokers("MUTUAL"),
                 KAFKA_CERT_FILE=cert, KAFKA_KEY_FILE=key)
    assert run.returncode == 0, run.stderr
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        run = topics(tls_fleet, KAFKA_SASL_MECHANISM=mechanism, LD_PRELOAD=tls.newer_librdkafka())
        assert run.returncode == 0, run.stderr
        assert "SCRAM" not in run.stderr


def test_kafka_refused(tls_fleet):
    """A client tries for 15 s before it gives up: all at once. Debian's librdkafka says itself that it
    cannot do SCRAM with a broker of these days."""
    servers, plain = tls_fleet.servers, {"KAFKA_SECURITY_PROTOCOL": "SSL"}
    cases = [
        ({**plain, "KAFKA_BROKERS": "GOOD", "KAFKA_CA_FILE": servers.stranger.ca_file},
         ("certificate verify failed",)),
        ({**plain, "KAFKA_BROKERS": "EXPIRED"}, ("certificate verify failed", "expired")),
        ({**plain, "KAFKA_BROKERS": "ELSEWHERE"}, ("certificate verify failed", "mismatch")),
        # TLS 1.3 closes without a word that librdkafka passes on
        ({**plain, "KAFKA_BROKERS": "MUTUAL"}, ()),
        ({"KAFKA_BROKERS": "LOGIN", "KAFKA_PASSWORD": "wrong"}, ("uthentication",)),
    ]
    if tls.system_librdkafka() < (2, 6, 1):
        cases.append(({"KAFKA_BROKERS": "LOGIN", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"},
                      ("2.6.1 cannot use SCRAM",)))

    def attempt(case):
        env, words = case
        return topics(tls_fleet, **dict(env, KAFKA_BROKERS=servers.brokers(env["KAFKA_BROKERS"]))), \
            words
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        for run, words in pool.map(attempt, cases):
            refused(run, *words)


# --- Postgres --------------------------------------------------------------------------------------
@pytest.fixture
def postgres_pair(tls_servers):
    yield tls_servers.use_postgres_pair
    tls_servers.use_postgres_pair("server")


def migrate(fleet, **env):
    return fleet.ctl("migrate", check=False, env={"DOCFLEET_" + k: v for k, v in env.items()})


def test_postgres_by_its_ca_file_and_by_the_uri(tls_fleet):
    servers = tls_fleet.servers
    assert migrate(tls_fleet).returncode == 0
    url = f"{tls_fleet.database_url}?sslmode=verify-full&sslrootcert={servers.ca_file}"
    assert migrate(tls_fleet, DATABASE_URL=url, DATABASE_CA_FILE="", CA_FILE="").returncode == 0
    refused(migrate(tls_fleet, DATABASE_CA_FILE=servers.stranger.ca_file), "certificate verify")
    refused(migrate(tls_fleet, DATABASE_URL=url.replace(servers.ca_file, servers.stranger.ca_file)),
            "certificate verify")


@pytest.mark.parametrize("pair,words", [("expired", ("certificate verify failed", "expired")),
                                        ("elsewhere", ("does not match host name",))])
def test_postgres_refused(tls_fleet, postgres_pair, pair, words):
    postgres_pair(pair)
    run = rig.wait_until(lambda: (lambda r: r if r.returncode else None)(migrate(tls_fleet)), 20,
                         what="the reload")
    refused(run, *words)


# --- the object store, Textract, the AI service ---------------------------------------------------
@pytest.mark.parametrize("pair", ["server", "stranger", "expired", "elsewhere"])
def test_the_store(tls_fleet, pair):
    servers, port = tls_fleet.servers, rig.free_port()
    env = dict(rig._base_env(), ROOT_ACCESS_KEY=servers.s3_key, ROOT_SECRET_KEY=servers.s3_secret)
    process = rig.Process("s3-" + pair, [
        rig.fetched("versitygw") + "/versitygw", "--port", f"127.0.0.1:{port}", "--health",
        "/health", "--quiet", *servers.s3_pair("server" if pair == "stranger" else pair), "posix",
        *(["--sidecar", f"{servers.dir}/s3-sidecar"]
          if os.path.isdir(f"{servers.dir}/s3-sidecar") else []), f"{servers.dir}/s3"],
        f"{servers.dir}/s3-{pair}.log", env=env)
    try:
        rig.wait_until(lambda: requests.get(f"https://127.0.0.1:{port}/health", timeout=2,
                                            verify=False).ok, 20, what="versitygw")
        env = {"DOCFLEET_S3_ENDPOINT": f"https://127.0.0.1:{port}"}
        if pair == "stranger":
            env["DOCFLEET_S3_CA_FILE"] = servers.stranger.ca_file
        run = tls_fleet.ctl("bucket", "create", check=False, env=env)
        if pair == "server":
            assert run.returncode == 0, run.stderr
        else:
            refused(run, "certificate", "SSL")
    finally:
        process.stop()


@pytest.mark.parametrize("good", [True, False])
def test_textract_and_an_untrusted_provider_costs_no_file(tls_fleet, fixture_path, good):
    """An untrusted certificate is the setup's fault: the unit waits, it does not die."""
    port, pair = rig.free_port(), tls_fleet.servers.pairs["server" if good else "expired"]
    env = dict(rig._base_env(), INITIAL_NO_AUTH_ACTION_COUNT="1000000")
    moto = rig.Process("moto", [sys.executable, "-m", "moto.server", "-p", str(port), "--ssl",
                                "--ssl-cert", pair[0], "--ssl-key", pair[1]],
                       f"{tls_fleet.servers.dir}/moto-{good}.log", env=env)
    try:
        rig.wait_until(lambda: requests.get(f"https://127.0.0.1:{port}/moto-api/", timeout=2,
                                            verify=False).ok, 30, what="moto")
        names = ("ingest-gateway", "dispatcher", "text-extractor")
        missing = [n for n in names if not tls_fleet.running(n)]
        if missing:
            tls_fleet.start(*missing)
        if tls_fleet.running("ocr-fallback"):
            tls_fleet.stop("ocr-fallback")
        tls_fleet.start("ocr-fallback", env={
            "DOCFLEET_OCR_ENGINE": "textract",
            "DOCFLEET_TEXTRACT_ENDPOINT": f"https://127.0.0.1:{port}",
            "DOCFLEET_TEXTRACT_ACCESS_KEY_FILE": tls_fleet.secret("textract-key", "key"),
            "DOCFLEET_TEXTRACT_SECRET_KEY_FILE": tls_fleet.secret("textract-secret", "secret")})
        client = tls_fleet.client()
        up = client.upload(client.dataset(), [fixture_path("invoice-scan.png")])
        file_id = up["files"][0]["id"]
        calls = 'docfleet_provider_calls_total{provider="textract",outcome="%s"}'
        if good:
            rig.wait_until(lambda: tls_fleet.metrics("ocr-fallback").get(calls % "done"), 60,
                           what="a call to Textract")
        else:
            task = rig.wait_until(lambda: next(iter(tls_fleet.sql(
                "SELECT * FROM task WHERE file_id = %s AND stage = 2 AND outage_retries > 0",
                file_id)), None), 60, what="the unit put back")
            assert task["state"] == 0 and task["failures"] == 0
            assert "certificate" in tls_fleet.process("ocr-fallback").log()
    finally:
        moto.stop()
        tls_fleet.stop("ocr-fallback")
