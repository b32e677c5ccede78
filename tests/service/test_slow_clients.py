# SPDX-License-Identifier: Apache-2.0
"""Clients that are slow on purpose, and too many connections: everybody else is served meanwhile."""
import contextlib
import select
import socket
import time

import pytest
import requests

from lib import rig

PER_ADDRESS, ALL = 30, 100
ENV = {"DOCFLEET_MAX_CONNECTIONS": str(ALL), "DOCFLEET_MAX_CONNECTIONS_ADDRESS": str(PER_ADDRESS),
       "DOCFLEET_HEADER_TIMEOUT": "4s", "DOCFLEET_SLOW_TIMEOUT": "5m", "DOCFLEET_TRUSTED_PROXIES": "127.0.0.9"}


@pytest.fixture(scope="module")
def gateway(servers):
    made = rig.Fleet(servers, env=ENV)
    made.start("ingest-gateway")
    yield made
    made.stop()


def connect(gateway, source):
    return socket.create_connection(("127.0.0.1", gateway.gateway_port), 60, source_address=(source, 0))


@contextlib.contextmanager
def many(gateway, sources, each, send=b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "):
    with contextlib.ExitStack() as stack:
        made = []
        for source in sources:
            for _ in range(each):
                s = stack.enter_context(connect(gateway, source))
                with contextlib.suppress(OSError):
                    s.sendall(send)
                made.append(s)
        yield made


def is_open(s):
    """Nothing came, no end either; a byte is dripped, so that it is never silent."""
    try:
        if select.select([s], [], [], 0)[0]:
            return False
        s.send(b"a")
    except OSError:
        return False
    return True


def still(sockets):
    return sum(is_open(s) for s in sockets)


def cut(gateway, reason):
    return gateway.metrics("ingest-gateway").get(f'docfleet_http_connections_cut_total{{reason="{reason}"}}', 0)


def connections(gateway):
    return gateway.metrics("ingest-gateway")['docfleet_http_connections{listener="api"}']


def served(gateway, source="127.0.0.1"):
    """One request on a connection of its own; gives the seconds it took."""
    start = time.monotonic()
    with connect(gateway, source) as s:
        s.sendall(b"GET /api/v1/auth/methods HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 200 ")
    return time.monotonic() - start


def test_an_address_has_its_number_of_connections(gateway):
    before = cut(gateway, "address")
    with many(gateway, ["127.0.0.2"], PER_ADDRESS + 20) as sockets:
        rig.wait_until(lambda: cut(gateway, "address") - before == 20)
        assert still(sockets) <= PER_ADDRESS
        assert connections(gateway) <= PER_ADDRESS + 2
        assert served(gateway) < 3
        # and those that drip headers byte by byte are gone after their time
        rig.wait_until(lambda: still(sockets) == 0, 15, interval=0.2)
    assert cut(gateway, "headers") >= PER_ADDRESS
    assert cut(gateway, "address") - before == 20
    rig.wait_until(lambda: connections(gateway) <= 2)
    assert served(gateway, "127.0.0.2") < 3  # it may come again


def test_a_trusted_proxy_speaks_for_many(gateway):
    before = cut(gateway, "address")
    with many(gateway, ["127.0.0.9"], PER_ADDRESS + 5) as sockets:
        rig.wait_until(lambda: connections(gateway) >= PER_ADDRESS + 5)
        assert still(sockets) == PER_ADDRESS + 5
    assert cut(gateway, "address") == before


def test_near_the_end_of_all_connections_nobody_waits_long(gateway):
    """Four addresses take every connection and leave them idle: they keep them for 2 s, not for 30."""
    request = b"GET /api/v1/auth/methods HTTP/1.1\r\nHost: x\r\n\r\n"
    with many(gateway, [f"127.0.0.{n}" for n in (3, 4, 5, 6)], PER_ADDRESS, request):
        assert served(gateway) < 20
        assert connections(gateway) <= ALL
    rig.wait_until(lambda: connections(gateway) <= 2)


def test_slow_uploads_of_one_account_hold_up_nobody_else(gateway):
    mallory, alice = gateway.client("mallory"), gateway.client("alice")
    his, hers = mallory.dataset(), alice.dataset()
    head = (f"POST /api/v1/datasets/{his}/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {mallory.key}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n').encode()
    with many(gateway, ["127.0.0.7"], PER_ADDRESS, head + b"a" * 6000) as sockets:
        rig.wait_until(lambda: connections(gateway) >= PER_ADDRESS)
        assert still(sockets) == PER_ADDRESS  # more than there are threads for uploads
        for i in range(3):
            got = alice.upload(hers, {f"{i}.txt": b"hello"}, timeout=55)  # those go on for longer
            assert got["batch"]["accepted"] == 1
        assert still(sockets) == PER_ADDRESS


def test_slow_guests_of_one_account_hold_up_nobody_elses(gateway):
    """Those who have a share link are nobody; the threads they hold are the owner's."""
    links = []
    for name in ("mallory", "alice"):
        client = gateway.client(name)
        file = client.upload(client.dataset(), {"big.txt": b"x" * (24 << 20)})["files"][0]["id"]
        links.append(client.post(f"/files/{file}/share", 201, json={}).json()["token"])
    head = f"GET /s/{links[0]}/download HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with many(gateway, ["127.0.0.8"], PER_ADDRESS - 2, head) as sockets:
        for s in sockets:  # each has begun, or was told that there is no room
            assert s.recv(12, socket.MSG_WAITALL).startswith(b"HTTP/1.1 ")
        for _ in range(2):
            got = requests.get(f"{gateway.url}/s/{links[1]}/download", timeout=20)
            assert got.status_code == 200 and len(got.content) == 24 << 20


def test_a_body_that_hardly_moves_is_cut_off(servers):
    made = rig.Fleet(servers, env={"DOCFLEET_SLOW_TIMEOUT": "2s"})
    made.start("ingest-gateway")
    alice = made.client()
    dataset = alice.dataset()
    head = (f"POST /api/v1/datasets/{dataset}/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.key}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n').encode()
    with many(made, ["127.0.0.1"], 3, head) as sockets:
        rig.wait_until(lambda: still(sockets) == 0, 30, interval=0.2)
    assert cut(made, "slow") == 3 and cut(made, "headers") == 0
    assert made.one("select count(*) from file") == 0
    rig.wait_until(lambda: not made.objects())
    made.stop()
