# SPDX-License-Identifier: Apache-2.0
"""Conditions, compression, limits and the API page: HTTP as the gateway speaks it."""
import gzip
import os
import socket
import threading

import pytest
import requests

from lib import rig
from test_gateway import problem, raw

DIST = f"{rig.ROOT}/services/ingest-gateway/console/dist"


@pytest.fixture(scope="module")
def gateway(servers):
    made = rig.Fleet(servers)
    made.start("ingest-gateway")
    yield made
    made.stop()


@pytest.fixture
def alice(gateway):
    return gateway.client("alice")


def test_if_match_guards_datasets(alice):
    dataset = alice.dataset()
    path = f"/datasets/{dataset}"
    old = alice.get(path).headers["ETag"]
    columns = {"columns": [{"name": "A", "type": "string", "description": "a", "required": False}]}
    renamed = alice.request("PATCH", path, 200, json={"name": "two"}, headers={"If-Match": old})
    new = renamed.headers["ETag"]
    assert new != old and new == alice.get(path).headers["ETag"]
    for method, sub, body in (("PATCH", "", {"name": "three"}), ("PUT", "/schema", columns), ("DELETE", "", None)):
        for tag in (old, f"W/{new}", '"x", "y"', "nonsense", "*000", '*, "x"'):
            problem(alice.request(method, path + sub, json=body, headers={"If-Match": tag}), 412,
                    "precondition_failed")
    assert alice.json(path)["name"] == "two"
    put = alice.request("PUT", path + "/schema", 200, json=columns, headers={"If-Match": f'"x", {new}'})
    assert put.headers["ETag"] == alice.get(path).headers["ETag"]
    zipped = put.headers["ETag"][:-1] + '-gz"'
    alice.request("PATCH", path, 200, json={"name": "four"}, headers={"If-Match": zipped})
    problem(alice.request("DELETE", path, headers={"If-Match": put.headers["ETag"]}), 412, "precondition_failed")
    alice.request("DELETE", path, 202, headers={"If-Match": "*"})
    problem(alice.request("PATCH", path, json={"name": "x"}, headers={"If-Match": "*"}), 404, "not_found")


def test_of_two_writers_with_one_tag_one_wins(alice):
    path = f"/datasets/{alice.dataset()}"
    tag = alice.get(path).headers["ETag"]
    got = []

    def write(name):
        mine = rig.Client(alice.api, alice.key)
        got.append(mine.request("PATCH", path, json={"name": name}, headers={"If-Match": tag}).status_code)
    threads = [threading.Thread(target=write, args=(f"n{i}",)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert sorted(got) == [200, 412, 412, 412]


def get(url, encoding=None, **headers):
    """The answer and its body as sent."""
    if encoding is not None:
        headers["Accept-Encoding"] = encoding
    with requests.Session() as s:
        s.trust_env = False
        s.headers.clear()
        answer = s.get(url, headers=headers, stream=True, timeout=20)
        return answer, answer.raw.read(decode_content=False)


def test_gzip_where_it_helps(gateway, alice):
    url = gateway.api + "/openapi.json"
    plain, body = get(url, "identity")
    assert "Content-Encoding" not in plain.headers and plain.headers["Vary"] == "Accept-Encoding"
    for accept in ("gzip", "br, gzip;q=0.5", "*"):
        zipped, data = get(url, accept)
        assert zipped.headers["Content-Encoding"] == "gzip" and zipped.headers["Vary"] == "Accept-Encoding"
        assert gzip.decompress(data) == body and len(data) < len(body) / 3
        assert zipped.headers["ETag"] != plain.headers["ETag"]
    for accept in (None, "", "br", "gzip;q=0", "*;q=0", "gzip;q=0, *"):
        other, data = get(url, accept)
        assert "Content-Encoding" not in other.headers and data == body, accept
    for tag in (plain.headers["ETag"], zipped.headers["ETag"]):
        again, data = get(url, "gzip", **{"If-None-Match": tag})
        assert again.status_code == 304 and data == b""
        assert again.headers["ETag"] == zipped.headers["ETag"] and "Content-Encoding" not in again.headers
    auth = {"Authorization": f"Bearer {alice.key}"}
    small, _ = get(gateway.api + "/auth/me", "gzip", **auth)
    assert "Content-Encoding" not in small.headers and "Vary" not in small.headers
    made = alice.upload(alice.dataset(), {"a.json": b'{"a":1}' * 1000})["files"][0]["id"]
    whole, data = get(f"{gateway.api}/files/{made}/content", "gzip", **auth)
    assert "Content-Encoding" not in whole.headers and len(data) == 7000
    part, data = get(f"{gateway.api}/files/{made}/content", "gzip", Range="bytes=0-1999", **auth)
    assert part.status_code == 206 and "Content-Encoding" not in part.headers and len(data) == 2000
    with requests.get(gateway.api + "/events", headers=dict(auth, **{"Accept-Encoding": "gzip"}), stream=True,
                      timeout=10) as live:
        assert live.status_code == 200 and "Content-Encoding" not in live.headers


@pytest.mark.skipif(not os.path.exists(f"{DIST}/docs.html"), reason="the console is not built")
def test_api_page(gateway):
    page, body = get(gateway.url + "/docs", "gzip")
    assert page.status_code == 200 and page.headers["Content-Type"] == "text/html; charset=utf-8"
    text = gzip.decompress(body) if "Content-Encoding" in page.headers else body
    assert b"<script type=\"module\" src=\"/docs.js\"" in text and b"<style" not in text and b"onload" not in text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    for name, kind in (("docs.js", "text/javascript"), ("docs.css", "text/css")):
        got, body = get(f"{gateway.url}/{name}", "gzip")
        assert got.headers["Content-Type"].startswith(kind) and got.headers["Content-Encoding"] == "gzip"
        with open(f"{DIST}/{name}", "rb") as f:
            assert gzip.decompress(body) == f.read()
        assert get(f"{gateway.url}/{name}", "gzip", **{"If-None-Match": got.headers["ETag"]})[0].status_code == 304


def test_long_addresses_and_headers_get_problems(gateway, alice):
    problem(alice.request("GET", "/datasets?cursor=" + "a" * 9000), 414, "uri_too_long")
    problem(alice.request("GET", "/datasets", headers={"X-Long": "a" * 17000}), 431, "headers_too_large")
    problem(alice.request("GET", "/datasets", headers={f"X-{i}": "a" for i in range(120)}), 431,
            "headers_too_large")
    # beyond what the library holds in memory it answers alone; it answers with the right status
    for request, status in ((b"GET /" + b"a" * 60000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
                            (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 60000 + b"\r\n\r\n", b"431")):
        assert raw(gateway, request).split(b" ")[1] == status


def test_a_request_that_the_library_gives_up_is_forgotten(gateway):
    """Found by the HTTP fuzzer: each one stayed in memory for good, and held up the next drain by two minutes."""
    gateway.start("ingest-gateway#left")
    port = gateway.gateway_ports("ingest-gateway#left")
    for n in (5000, 9000, 15000):
        with socket.create_connection(("127.0.0.1", port), 30) as s:
            s.sendall(b"GET /api/v1/auth/me HTTP/1.1\r\nHost: x\r\nCookie: " + b";" * n + b"\r\n\r\n")
            assert s.recv(100) == b""
    assert gateway.stop("ingest-gateway#left", timeout=60) == {"ingest-gateway#left": 0}  # the grace is 120 s
