# SPDX-License-Identifier: Apache-2.0
"""The fault proxy does what it is told; without this no result of the rig means anything."""
import contextlib
import http.server
import socket
import threading
import time

import pytest
import requests

from chaos.proxy import Links, Proxy
from lib import rig


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    made = Proxy(str(tmp_path_factory.mktemp("p")))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def echo():
    """Answers each line with itself; remembers what it got."""
    listener = socket.create_server(("127.0.0.1", 0))
    got = []

    def serve(connection):
        with connection, contextlib.suppress(OSError):
            for line in connection.makefile("rb"):
                got.append(line)
                connection.sendall(line)

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], got
    listener.close()


@pytest.fixture(scope="module")
def tcp(proxy, echo):
    return proxy.link("echo", echo[0])


@pytest.fixture(autouse=True)
def clean(proxy):
    yield
    if proxy.links:
        proxy.reset()


class Talk:
    def __init__(self, link):
        self.socket = socket.create_connection(("127.0.0.1", link.port), 5)
        self.socket.settimeout(5)

    def say(self, line=b"hello\n", timeout=5):
        self.socket.settimeout(timeout)
        self.socket.sendall(line)
        got = b""
        while not got.endswith(b"\n"):
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError("closed")
            got += more
        return got


def test_it_passes_bytes_and_counts_them(tcp, proxy):
    talk = Talk(tcp)
    big = b"x" * 1_000_000 + b"\n"
    assert talk.say() == b"hello\n"
    assert talk.say(big) == big
    stats = proxy.stats("echo")["echo"]
    assert stats["up"] == stats["down"] == 1_000_007 and stats["open"] == 1


def test_a_cut_is_a_reset(tcp):
    talk = Talk(tcp)
    talk.say()
    assert tcp.cut() >= 1
    with pytest.raises(ConnectionError):
        talk.say()
    assert Talk(tcp).say() == b"hello\n"


def test_refused_until_reset(tcp):
    tcp.refuse()
    with pytest.raises(ConnectionRefusedError):
        Talk(tcp)
    tcp.reset()
    assert Talk(tcp).say() == b"hello\n"


def test_a_blackhole_keeps_connections_and_heals(tcp):
    talk = Talk(tcp)
    talk.say()
    tcp.blackhole()
    with pytest.raises(TimeoutError):
        talk.say(timeout=0.3)
    late = Talk(tcp)
    with pytest.raises(TimeoutError):
        late.say(timeout=0.3)
    tcp.reset()
    assert talk.socket.recv(100) == b"hello\n"
    assert late.socket.recv(100) == b"hello\n"


def test_mute_loses_answers_only(tcp, echo):
    talk = Talk(tcp)
    tcp.set(mode="mute")
    with pytest.raises(TimeoutError):
        talk.say(b"muted\n", timeout=0.3)
    assert b"muted\n" in echo[1]


def test_delay_and_bandwidth(tcp):
    talk = Talk(tcp)
    tcp.set(delay=100)
    start = time.monotonic()
    talk.say()
    assert 0.2 <= time.monotonic() - start < rig.bound(0.4)
    tcp.reset()
    tcp.set(bandwidth=100_000)
    start = time.monotonic()
    talk.say(b"y" * 30_000 + b"\n")
    assert 0.3 <= time.monotonic() - start < rig.bound(1.5)


def test_cut_after_so_many_bytes(tcp):
    tcp.set(cut_after=50)
    talk = Talk(tcp)
    with pytest.raises(ConnectionError):
        for _ in range(10):
            talk.say()


@pytest.mark.parametrize("what,arrives", [("forward", True), ("drop", False), ("reply", True)])
def test_the_outcome_of_a_statement_is_unknown(tcp, echo, what, arrives):
    line = b"COMMIT " + what.encode() + b"\n"
    talk = Talk(tcp)
    talk.say(b"BEGIN\n")
    tcp.set(match=b"COMMIT", match_p=1, match_do=what)
    with pytest.raises(ConnectionError):
        talk.say(line)
    time.sleep(0.1)
    assert (line in echo[1]) is arrives


def test_a_match_over_two_packets(tcp, echo):
    tcp.set(match=b"COMMIT", match_p=1, match_do="drop")
    talk = Talk(tcp)
    talk.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with pytest.raises(ConnectionError):
        for piece in (b"..CO", b"M", b"MIT\n"):
            talk.socket.sendall(piece)
            time.sleep(0.05)
        talk.say()


def test_shares_follow_the_seed(tcp):
    def series():
        tcp.set(match=b"dice", match_p=0.5, match_do="drop", seed=7)
        fell = []
        for _ in range(20):
            try:
                Talk(tcp).say(b"dice\n")
                fell.append(0)
            except ConnectionError:
                fell.append(1)
        return fell
    first = series()
    assert first == series() and 3 < sum(first) < 17


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stored = {}

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(b"0123456789" * 100)

    def do_PUT(self):
        self.stored[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b"")

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def web(proxy):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    link = proxy.link("web", server.server_address[1], http=True)
    link.url = f"http://127.0.0.1:{link.port}/objects/"
    yield link
    server.shutdown()


def test_http_passes_with_kept_connections(web):
    with requests.Session() as s:
        for i in range(5):
            assert s.put(web.url + f"k{i}", data=b"z" * 100_000).ok
            assert len(s.get(web.url + "k").content) == 1000
    assert len(Web.stored["/objects/k0"]) == 100_000


def test_http_errors_never_reach_the_server(web):
    web.set(error_p=1, error_code=503, method="PUT")
    answer = requests.put(web.url + "never", data=b"z" * 100_000)
    assert answer.status_code == 503 and "SlowDown" in answer.text
    assert "/objects/never" not in Web.stored
    assert requests.get(web.url + "k").ok


def test_http_swallows_the_answer_of_a_put_that_happened(web):
    web.set(swallow_p=1, method="PUT")
    with pytest.raises(requests.ConnectionError):
        requests.put(web.url + "happened", data=b"z")
    assert Web.stored["/objects/happened"] == b"z"


def test_http_truncates_flips_and_hangs(web):
    whole = b"0123456789" * 100
    web.set(truncate_p=1)
    with pytest.raises(requests.RequestException):
        requests.get(web.url + "k").content
    web.reset()
    web.set(flip_p=1)
    body = requests.get(web.url + "k").content
    assert len(body) == 1000 and sum(a != b for a, b in zip(body, whole)) == 1
    web.reset()
    web.set(hang_p=1)
    with pytest.raises(requests.RequestException):
        requests.get(web.url + "k", timeout=0.3).content


def test_http_faults_can_be_limited_to_a_path(web):
    web.set(error_p=1, path="/other/")
    assert requests.get(web.url + "k").ok
    assert requests.get(web.url.replace("objects", "other") + "k").status_code == 503


def test_many_links_at_once_and_unknown_keys(tcp, web):
    Links([tcp, web]).set(delay=5)
    with pytest.raises(AssertionError, match="no such key"):
        tcp.set(nonsense=1)
