# SPDX-License-Identifier: Apache-2.0
"""How much one may ask of the gateway: rates of requests over two replicas, pages of other origins, headers."""
import concurrent.futures
import re
import socket
import subprocess
import time

import pytest
import requests

from lib import rig
from test_gateway import problem

RATE, WINDOW = 1, 20
ENV = {"DOCFLEET_TRUSTED_PROXIES": "127.0.0.1", "DOCFLEET_RATE_WINDOW": f"{WINDOW}s", "DOCFLEET_RATE_KEY": str(RATE),
       "DOCFLEET_RATE_USER": str(2 * RATE), "DOCFLEET_RATE_ADDRESS": str(4 * RATE), "DOCFLEET_RATE_FAILURES": "5",
       "DOCFLEET_CORS_ORIGINS": "https://app.example.org,http://localhost:5173"}
REPLICAS = ("ingest-gateway", "ingest-gateway#2")


@pytest.fixture(scope="module")
def gateway(servers):
    made = rig.Fleet(servers, env=ENV)
    made.start(*REPLICAS)
    yield made
    made.stop()


def limited(fleet, bucket):
    return sum(fleet.metrics(name).get(f'docfleet_http_limited_total{{bucket="{bucket}"}}', 0) for name in REPLICAS)


def ask_both(fleet, path, headers, n, keys=(None,)):
    """n requests, in turn to both replicas; gives those that passed, those that did not, and the seconds taken."""
    def one(i):
        key = keys[i // 2 % len(keys)]
        mine = dict(headers, **({"Authorization": f"Bearer {key}"} if key else {}))
        return requests.get(fleet.gateway_url(REPLICAS[i % 2]) + path, headers=mine, timeout=60)
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(one, range(n)))
    took = time.monotonic() - start
    assert {g.status_code for g in got} <= {200, 429}
    return [g for g in got if g.status_code == 200], [g for g in got if g.status_code == 429], took


def check_bucket(name, rate, passed, refused, took):
    """Never more than the burst and what grew back; what replicas had leased and not spent is little."""
    burst = rate * WINDOW
    assert len(passed) <= burst + rate * took + 1, (len(passed), took)
    assert len(passed) >= burst - 2 * max(1, burst // 10), len(passed)
    for answer in refused:
        problem(answer, 429, "too_many_requests")
        assert 1 <= int(answer.headers["Retry-After"]) <= WINDOW
        assert answer.headers["RateLimit-Policy"] == f'"{name}";q={burst};w={WINDOW}'
        assert re.match(rf'"{name}";r=0;t=\d+$', answer.headers["RateLimit"])
    assert refused


def test_a_key_is_held_over_replicas(gateway):
    key, other = gateway.user_key("kim"), gateway.user_key("kai")
    before = limited(gateway, "key")
    passed, refused, took = ask_both(gateway, "/api/v1/datasets", {"X-Forwarded-For": "10.1.0.1"}, 50, (key,))
    check_bucket("key", RATE, passed, refused, took)
    assert limited(gateway, "key") - before == len(refused)
    assert passed[0].headers["RateLimit-Policy"] == f'"key";q={RATE * WINDOW};w={WINDOW}'
    # nobody else is held, and it is over after a while
    auth = {"Authorization": f"Bearer {other}", "X-Forwarded-For": "10.1.0.1"}
    assert requests.get(gateway.api + "/datasets", headers=auth, timeout=60).status_code == 200
    auth["Authorization"] = f"Bearer {key}"
    rig.wait_until(lambda: requests.get(gateway.api + "/datasets", headers=auth, timeout=60).status_code == 200)


def test_an_account_is_held_over_its_keys(gateway):
    first = gateway.user_key("uma")
    auth = {"Authorization": f"Bearer {first}", "X-Forwarded-For": "10.2.0.1"}
    made = [requests.post(gateway.api + "/api-keys", json={"name": n}, headers=auth, timeout=60).json()["key"]
            for n in "abcd"]
    gateway.sql("delete from rate_bucket where key like 'u:%%'")
    passed, refused, took = ask_both(gateway, "/api/v1/datasets", {"X-Forwarded-For": "10.2.0.2"}, 110, made)
    # the leases that the replicas had for the making of keys were forgotten with the row
    assert len(passed) <= 2 * RATE * WINDOW + 2 * RATE * took + 10
    names = {a.headers["RateLimit"].split(";")[0] for a in refused}
    assert '"user"' in names and limited(gateway, "user") > 0


def test_an_address_is_held_and_of_ipv6_its_net(gateway):
    path = "/api/v1/auth/methods"
    passed, refused, took = ask_both(gateway, path, {"X-Forwarded-For": "2001:db8:1:2::7"}, 110)
    check_bucket("address", 4 * RATE, passed, refused, took)
    # what this replica has leased and what grew back is soon gone; a net of its own could ask 80 times
    same = [requests.get(gateway.url + path, headers={"X-Forwarded-For": "2001:db8:1:2:ffff::1"}, timeout=60)
            for _ in range(40)]
    assert 429 in {got.status_code for got in same}
    for other in ("2001:db8:1:3::7", "10.3.0.1"):
        assert requests.get(gateway.url + path, headers={"X-Forwarded-For": other}, timeout=60).status_code == 200
    for _ in range(3 * 4 * RATE * WINDOW):  # probes are not counted
        assert requests.get(gateway.probe("ingest-gateway") + "/livez", timeout=60).status_code == 200


def test_refused_credentials_of_an_address(gateway):
    def ask(key, address):
        return requests.get(gateway.api + "/datasets", timeout=60,
                            headers={"Authorization": f"Bearer {key}", "X-Forwarded-For": address})
    known, fresh = gateway.user_key("fay"), gateway.user_key("fritz")
    assert ask(known, "10.4.0.1").status_code == 200
    wrong = [f"dfk_{'0' * 11}{i}_{'f' * 64}" for i in range(9)]
    got = [ask(key, "10.4.0.1") for key in wrong]
    assert [g.status_code for g in got] == [401] * 6 + [429] * 3 or [g.status_code for g in got] == [401] * 5 + [429] * 4
    assert "refused credentials" in got[-1].json()["detail"] and int(got[-1].headers["Retry-After"]) >= 1
    assert limited(gateway, "failures") >= 3
    # one that was good here before is looked up all the same, one never seen is not, elsewhere it is
    fay = gateway.one("select user_id from account where name = 'fay'")
    change = requests.patch(f"{gateway.api}/admin/users/{fay}", json={"weight": 2}, timeout=60,
                            headers={"Authorization": f"Bearer {gateway.user_key('root', admin=True)}",
                                     "X-Forwarded-For": "10.4.0.9"})
    assert change.status_code == 200, change.text  # which forgets what is known of her keys
    assert ask(known, "10.4.0.1").status_code == 200
    problem(ask(fresh, "10.4.0.1"), 429, "too_many_requests")
    assert ask(fresh, "10.4.0.2").status_code == 200


def test_a_request_rarely_needs_a_query(servers):
    made = rig.Fleet(servers)  # as it is by default
    made.start("ingest-gateway")
    alice = made.client()
    for _ in range(400):
        alice.get("/auth/me")
    writes = "select n_tup_ins + n_tup_upd from pg_stat_user_tables where relname = 'rate_bucket'"
    rig.wait_until(lambda: made.one(writes) >= 3)
    kinds = {row["kind"] for row in made.sql("select left(key, 1) as kind from rate_bucket")}
    made.stop()
    assert {"k", "u", "a"} <= kinds
    assert made.one(writes) <= 24, "400 requests need some leases of three buckets"


# Other origins and headers -----------------------------------------------------------------------

ALWAYS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
          "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


def cors_headers(answer):
    return {k for k in answer.headers if k.lower().startswith("access-control-")}


def test_pages_of_listed_origins_may_call(gateway):
    url, who = gateway.api + "/datasets", {"X-Forwarded-For": "10.5.0.1"}
    auth = dict(who, Authorization=f"Bearer {gateway.user_key('cora')}")
    for origin in ENV["DOCFLEET_CORS_ORIGINS"].split(","):
        asked = requests.options(url, headers={**PREFLIGHT, "Origin": origin}, timeout=60)
        assert asked.status_code == 204 and asked.headers["Access-Control-Allow-Origin"] == origin
        assert {"POST", "GET"} <= set(asked.headers["Access-Control-Allow-Methods"].split(", "))
        assert "authorization" in asked.headers["Access-Control-Allow-Headers"].lower()
        assert "Origin" in asked.headers["Vary"] and int(asked.headers["Access-Control-Max-Age"]) > 0
        got = requests.get(url, headers={**auth, "Origin": origin}, timeout=60)
        assert got.status_code == 200 and got.headers["Access-Control-Allow-Origin"] == origin
        assert "Origin" in got.headers["Vary"] and "ETag" in got.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in got.headers  # keys and tokens, no cookies
        refused = requests.get(url, headers={**who, "Origin": origin}, timeout=60)
        assert refused.status_code == 401 and refused.headers["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize("origin", ["https://app.example.org.evil.test", "http://app.example.org", "null",
                                    "https://APP.example.org", "https://app.example.org:444", "*"])
def test_pages_of_others_may_not(gateway, origin):
    url = gateway.api + "/datasets"
    asked = requests.options(url, headers={**PREFLIGHT, "Origin": origin, "X-Forwarded-For": "10.5.0.2"}, timeout=60)
    problem(asked, 405, "method_not_allowed")
    got = requests.get(url, headers={"Origin": origin, "X-Forwarded-For": "10.5.0.2"}, timeout=60)
    assert cors_headers(asked) == cors_headers(got) == set() and "Origin" in got.headers["Vary"]


@pytest.mark.parametrize("wrong", ["*", "null", "https://a.example.org/", "app.example.org", "https://A.example.org"])
def test_a_list_of_origins_is_exact(gateway, wrong):
    env = dict(rig._base_env(), **gateway.settings(), DOCFLEET_LISTEN="127.0.0.1:0", DOCFLEET_PROBE_PORT="0",
               DOCFLEET_CORS_ORIGINS=wrong)
    run = subprocess.run([gateway.bin("ingest-gateway")], env=env, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and "CORS_ORIGINS" in run.stdout + run.stderr


def test_every_answer_says_what_browsers_must_not_do(gateway):
    who = {"X-Forwarded-For": "10.6.0.1"}
    script = re.search(r'src="(/assets/[^"]+\.js)"', requests.get(gateway.url, headers=who, timeout=60).text)[1]
    for path in ("/", "/docs", script, "/nothing", "/api/v1/openapi.json", "/api/v1/datasets", "/api/v1/nothing"):
        got = requests.get(gateway.url + path, headers=who, timeout=60)
        assert {k: got.headers.get(k) for k in ALWAYS} == ALWAYS, path
        policy = dict((p.split(" ", 1) + [""])[:2] for p in got.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'", path
        assert policy.get("script-src", "'none'") in ("'self'", "'none'") and "unsafe" not in str(policy), path
        assert "Strict-Transport-Security" not in got.headers
    got = requests.get(gateway.url, headers={**who, "X-Forwarded-Proto": "https"}, timeout=60)
    assert got.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_an_answer_in_mid_body_carries_them_too(gateway):
    """Credentials are refused while a long body comes: the answer goes past the HTTP library."""
    with socket.create_connection(("127.0.0.1", gateway.gateway_port), timeout=60) as s:
        s.sendall(b"POST /api/v1/datasets HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.6.0.2\r\n"
                  b"Content-Type: application/json\r\nContent-Length: 900000\r\nAuthorization: Bearer dfk_a_b\r\n\r\n")
        s.sendall(b" " * 900000)
        assert b"HTTP/1.1 401" in s.recv(65536)
    with socket.create_connection(("127.0.0.1", gateway.gateway_port), timeout=60) as s:
        s.sendall(b"POST /api/v1/datasets/01a20366-c1e3-7001-8422-cf2e8c3b57ca/files HTTP/1.1\r\nHost: x\r\n"
                  b"X-Forwarded-For: 10.6.0.3\r\nContent-Type: multipart/form-data; boundary=x\r\n"
                  b"Content-Length: 90000000\r\n\r\n" + b"-" * 100000)
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    head = answer.split(b"\r\n\r\n")[0].decode()
    assert head.startswith("HTTP/1.1 401 ") and "WWW-Authenticate: Bearer" in head
    for name, value in ALWAYS.items():
        assert f"{name}: {value}" in head
