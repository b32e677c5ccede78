#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`make http-fuzz`: malformed HTTP requests at a gateway under ASan and UBSan, into docs/http-fuzz.md.

usage: http_fuzz.py [--requests N] [--seed N] [--from N] [--build asan|release] [--bare] [--no-page]

The gateway stands on a real fleet (ground.py). malformed.py draws the requests, several connections
send them at once, and after every fifty a well-formed one must be answered right. At the end: the same
process, no report of a sanitizer (nor of a leak when it stops), memory, threads and descriptors as
before, every file that was accepted there with its bytes, no object that no row knows, the ledger even.
A request that was answered with 500, or not at all although it was whole, is a finding, too.
"""
import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import re
import select
import socket
import struct
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.dirname(HERE), os.path.join(os.path.dirname(HERE), "service")]

from run import enter  # noqa: E402

if __name__ == "__main__":
    enter(os.path.abspath(__file__), [("release", ["all", "test-programs"]),
                                      ("asan", ["VARIANT=asan", "ingest-gateway"])])

import requests  # noqa: E402

import ground  # noqa: E402
import malformed  # noqa: E402
from lib import bench, invariants, rig  # noqa: E402
from test_accounts import PASSWORD, set_password  # noqa: E402
from test_oidc import AUDIENCE, Liar  # noqa: E402

OUT = os.path.join(ROOT, "build", "scan")
LANES = 8
CHECK_EVERY = 50
PATIENCE = 30  # seconds for an answer to a request that is whole
# The library's own answers to what it does not speak: RFC 9110 15.6.2 and 15.6.6.
LIBRARY = {501, 505}
REPORT = re.compile(r"AddressSanitizer|LeakSanitizer|UndefinedBehaviorSanitizer|runtime error:|SUMMARY:")
BUSY = re.compile(r"lock timeout|statement timeout|no free database connection|no answer in time")
MEMORY_MAX = 48 << 20
"""What a gateway may have grown by: rings, pools and arenas that are kept, measured after as many
requests as warm it."""


def settings(liar, fleet):
    """A gateway whose every way of signing in is open, and which believes X-Forwarded-For."""
    return {**ground.NO_LIMITS, "DOCFLEET_OIDC_ISSUER": liar.issuer, "DOCFLEET_OIDC_AUDIENCE": AUDIENCE,
            "DOCFLEET_OIDC_CA_FILE": liar.ca, "DOCFLEET_OIDC_PROVISION": "true",
            "DOCFLEET_OIDC_CLIENT_ID": "docfleet", "DOCFLEET_PUBLIC_URL": fleet.url, "DOCFLEET_TRUSTED_PROXIES": "127.0.0.1",
            "DOCFLEET_MAX_FILE_SIZE": "4MiB"}


def sanitizer_env():
    """Little quarantine and few pages of fake stacks (the default keeps up to 11 MiB for each of the threads and
    touches them bit by bit: 414 MiB after 30,000 requests), so that growth is the gateway's own."""
    return {"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=4:allocator_may_return_null=1:"
                            "strict_string_checks=1:detect_stack_use_after_return=1:max_uar_stack_size_log=16:"
                            "exitcode=66",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "LSAN_OPTIONS": f"suppressions={ROOT}/tests/lsan.supp:print_suppressions=0"}


class Target:
    """The gateway under test, what is known of it before, and what came of the requests."""

    def __init__(self, fleet, made):
        self.fleet, self.ground = fleet, made
        self.process = fleet.process("ingest-gateway")
        self.address = ("127.0.0.1", fleet.gateway_port)
        self.alice = fleet.client("alice")
        self.me = self.alice.json("/auth/me")["id"]
        self.lock = threading.Lock()
        self.statuses = collections.defaultdict(collections.Counter)
        self.findings, self.accepted, self.checks = [], set(), 0

    # --- one connection ---
    def send(self, sent):
        """Everything that came back; None when the other side cut the connection without a word."""
        got = b""
        with socket.create_connection(self.address, 10) as s:
            s.settimeout(PATIENCE)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for piece in sent.pieces:
                    self.push(s, piece)
                    if sent.pause:
                        time.sleep(sent.pause)
                if sent.leave == "reset":
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return None
                if sent.leave == "shut":
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it has answered and closed before everything was sent
            try:
                got = self.listen(s, sent)
            except OSError:
                pass
        return got

    @staticmethod
    def push(s, piece):
        """Sends, unless an answer comes first: then the rest is of no interest to anyone."""
        view = memoryview(piece)
        while view:
            _, writable, _ = select.select([], [s], [], 10)
            if not writable:
                return
            view = view[s.send(view[:65536]):]

    @staticmethod
    def listen(s, sent):
        """Until the first answer is complete, or for a while: what is no whole request may get none."""
        got, end = b"", time.monotonic() + (PATIENCE * rig.patience() if sent.whole else 0.2)
        while time.monotonic() < end and len(got) < 1 << 20:
            s.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = s.recv(65536)
            except OSError:
                break  # what has come so far is the answer
            if not data:
                break
            got += data
            head, gap, body = got.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            bodiless = sent.pieces[0].startswith(b"HEAD ") or re.match(rb"HTTP/1\.[01] (204|304) ", head)
            if gap and (bodiless or (length and len(body) >= int(length.group(1)))):
                break
            if gap and not length and (b"text/event-stream" in head or body.endswith(b"0\r\n\r\n")):
                break  # a stream has no end; the last chunk has
        return got

    # --- judgement ---
    def judge(self, number, sent, got):
        status = re.match(rb"HTTP/1\.[01] (\d{3}) ", got or b"")
        code = int(status.group(1)) if status else None
        wrong = None
        if got and not status:
            wrong = f"no HTTP answer: {got[:100]!r}"
        elif code and code >= 500 and code not in LIBRARY | {503}:  # of 503 the log tells, see busy()
            wrong = f"{code}: {got[-400:]!r}"
        elif code is None and sent.whole and sent.leave == "answer":
            wrong = "no answer to a whole request"
        ids = re.findall(rb'"id":"([0-9a-f-]{36})"', got or b"") if b"\r\nLocation: " in (got or b"") and code == 202 else []
        with self.lock:
            self.statuses[sent.family][code or "none"] += 1
            self.accepted.update(i.decode() for i in ids[1:])
            if wrong:
                self.findings.append({"number": number, "family": sent.family, "what": wrong,
                                      "request": b"".join(sent.pieces)[:3000]})

    def one(self, seed, number):
        sent = malformed.make(seed, number, self.ground)
        try:
            got = self.send(sent)
        except OSError as e:
            with self.lock:
                self.findings.append({"number": number, "family": sent.family, "what": f"no connection: {e}"})
            return
        self.judge(number, sent, got)

    def well_formed(self, number):
        """Requests as they should be, right between the others."""
        self.checks += 1
        me = requests.get(f"{self.fleet.api}/auth/me", headers={"Authorization": f"Bearer {self.alice.key}"},
                          timeout=60)
        assert me.status_code == 200 and me.json()["id"] == self.me, f"after {number}: {me.status_code} {me.text}"
        session = self.ground.credentials["session"]
        if requests.get(f"{self.fleet.api}/auth/me", headers=dict(session), timeout=60).status_code == 401:
            self.ground.credentials["session"] = sign_in(self.fleet, "alice")  # a request has signed out
        if self.checks % 10 == 1:
            body = hashlib.sha256(str(number).encode()).digest() * 1000
            dataset = self.ground.ids["datasets"][0]
            file = self.alice.upload(dataset, {f"right-{number}.txt": body})["files"][0]
            assert self.alice.get(f"/files/{file['id']}/content").content == body, f"after {number}"
            self.accepted.add(file["id"])
        assert self.process.alive(), f"after {number}: ended with {self.process.popen.returncode}"

    # --- the process ---
    def measure(self):
        """(descriptors, threads, resident bytes), once every connection is gone."""
        fds = f"/proc/{self.process.pid}/fd"

        def quiet():
            links = [os.readlink(f"{fds}/{f}") for f in os.listdir(fds)]
            return not self.connections() and links
        links = rig.wait_until(quiet, 120, interval=0.25, what="the end of all connections")
        return {"descriptors": len(links), "threads": len(os.listdir(f"/proc/{self.process.pid}/task")),
                "resident": self.process.rss()}

    def connections(self):
        """Of clients, as the kernel tells."""
        port = f":{self.address[1]:04X}"
        with open("/proc/net/tcp", encoding="ascii") as f:
            rows = [line.split() for line in f][1:]
        return [r for r in rows if r[1].endswith(port) and r[3] in ("01", "08") and r[9] != "0"]


def run(target, seed, first, count):
    """Sends `count` requests from number `first` on."""
    with concurrent.futures.ThreadPoolExecutor(LANES) as lanes:
        for start in range(first, first + count, CHECK_EVERY):
            numbers = range(start, min(start + CHECK_EVERY, first + count))
            list(lanes.map(lambda n: target.one(seed, n), numbers))
            target.well_formed(numbers[-1])


def nothing_lost(target):
    """Files that were promised are there with their bytes; objects have rows; the counts add up."""
    fleet = target.fleet
    missing = invariants.lost(fleet, target.accepted)
    assert not missing, f"accepted and lost: {missing}"
    invariants.check_ledger(fleet)
    rows = fleet.sql("select v.object_key, v.bytes, v.sha256 from file_version v join file f using (file_id)"
                     " where f.state < 6 and file_id::text = any(%s)", list(target.accepted))
    for row in rows:
        body = fleet.object(row["object_key"])
        assert (len(body), hashlib.sha256(body).hexdigest()) == (row["bytes"], row["sha256"]), row
    known = {r["object_key"] for r in fleet.sql("select object_key from file_version")}

    def orphans():
        return {k for k in fleet.objects("uploads/") if k not in known}
    rig.wait_until(lambda: not orphans(), 30, what=f"no object without a row ({len(orphans())})")
    return len(rows)


def sign_in(fleet, name):
    """The headers of a browser's session."""
    got = requests.post(f"{fleet.api}/auth/login", json={"name": name, "password": PASSWORD}, timeout=60)
    assert got.status_code == 200, got.text
    cookie = got.headers["Set-Cookie"].split(";")[0]
    return [("Cookie", cookie), ("X-CSRF-Token", got.json()["csrfToken"]), ("Sec-Fetch-Site", "same-origin")]


def make_target(fleet, clients, ids, liar, streams=True):
    """All that the requests draw from."""
    with open(os.path.join(ROOT, "build", "release", "share", "openapi.json"), encoding="utf-8") as f:
        paths = json.load(f)["paths"]
    routes = [(method.upper(), path, next(iter(op.get("requestBody", {}).get("content", {})), None))
              for path, item in paths.items() for method, op in item.items()
              if method != "parameters" and "$ref" not in op.get("requestBody", {})]
    set_password(fleet, "alice")
    credentials = {name: [("Authorization", f"Bearer {client.key}")] for name, client in clients.items()}
    credentials["session"] = sign_in(fleet, "alice")
    mine = ids["alice"]
    known = {**mine, "keys": mine["doomed_keys"], "admin": mine["users"]}

    def jwt(rng, **change):
        return liar.sign(liar.claims(**{"aud": AUDIENCE, "sub": f"u{rng.randrange(20)}", **change}))
    return Target(fleet, malformed.Ground(known, credentials, routes, jwt, streams))


def findings(target, before, after, report):
    """What must not be, in words. A request is printed whole for whoever looks into it; the page leaves it out,
    as requests hold keys."""
    for f in target.findings:
        print(f"{f['family']}, request {f['number']}: {f['what']} to {f.get('request')!r}")
    found = [f"{f['family']}, request {f['number']}: {f['what']}" for f in target.findings]
    found += [f"in the log: {json.dumps(line)}" for line in target.process.log_lines()
              if line.get("level") in ("warn", "error") and found]
    if report:
        found.append(f"a sanitizer's report: {report[:4000]}")
    if after["threads"] != before["threads"]:
        found.append(f"threads: {before['threads']}, then {after['threads']}")
    if after["descriptors"] > before["descriptors"] + 8:  # connections of pools come and go
        found.append(f"descriptors: {before['descriptors']}, then {after['descriptors']}")
    if after["resident"] > before["resident"] + MEMORY_MAX:
        found.append(f"memory: {before['resident']}, then {after['resident']}")
    return found


def sanitizer_report(log):
    at = REPORT.search(log)
    return log[max(0, at.start() - 300):] if at else ""


def busy(process):
    """Requests that the gateway gave up since the machine was too slow for its time limits."""
    return sum(line.get("msg") == "request failed" and bool(BUSY.search(line.get("reason", "")))
               for line in process.log_lines())


def fuzz(target, seed, first, count, warm):
    """The whole run; gives its result, findings included. The gateway is stopped at the end."""
    fleet, process = target.fleet, target.process
    began = time.monotonic()
    run(target, seed, first, warm)
    before = target.measure()
    run(target, seed, first + warm, count - warm)
    after = target.measure()
    files = nothing_lost(target)
    answers = collections.Counter()
    for name, value in fleet.metrics("ingest-gateway").items():
        status = re.match(r'docfleet_http_requests_total\{.*status="(\d+)"', name)
        if status and value:
            answers[status.group(1)] += int(value)
            if status.group(1) >= "500" and status.group(1) != "503":
                target.findings.append({"number": "?", "family": "metrics", "what": f"{name} {value:.0f}"})
    late = busy(process)
    if answers["503"] > late:
        target.findings.append({"number": "?", "family": "metrics", "what":
                                f"{answers['503']} answers of 503, of which {late} by a machine that was too slow"})
    assert process.alive() and fleet.process("ingest-gateway") is process
    codes = fleet.stop("ingest-gateway", timeout=120)
    found = findings(target, before, after, sanitizer_report(process.log()))
    if codes["ingest-gateway"]:
        found.append(f"the gateway ended with {codes['ingest-gateway']}")
    return {"seed": seed, "first": first, "requests": count, "warm": warm, "checks": target.checks, "before": before, "after": after, "files": files,
            "accepted": len(target.accepted), "findings": found, "answers": answers, "seconds": round(time.monotonic() - began),
            "statuses": {k: {str(s): n for s, n in sorted(v.items(), key=str)} for k, v in target.statuses.items()}}


# --- the page -------------------------------------------------------------------------------------

HEAD = """# Malformed HTTP requests

Written by `make http-fuzz`; nothing here is estimated. The last run: {date}, commit {commit}.

{requests:,} requests, seed {seed}, at a gateway {build}, eight connections at once. Each is broken in one layer and
whole in those below it, three of four with credentials that are right (a key, a session, a token of an issuer), so
that they get as far as that layer. The gateway stands on {stands}. After
every fifty a well-formed request must be answered right ({checks} times), after every five hundred a file must go in
and come out. It took {minutes} minutes.

| | before | after |
|---|---|---|
| process | the same | the same |
| threads | {b[threads]} | {a[threads]} |
| descriptors, once all connections are gone | {b[descriptors]} | {a[descriptors]} |
| resident memory | {b_mib} MiB | {a_mib} MiB |

*Before* is after the first {warm:,} requests, which warm pools and caches. {accepted} files were accepted, {files} of
them are still there and have the bytes of their SHA-256 in the store; no object is without a row; the ledger adds up.
"""


def page(r):
    stands = ("real Postgres and S3, without Kafka and workers (`--bare`)" if r["bare"] else
              "real Postgres, Kafka and S3, with documents that a fleet has read")
    text = HEAD.format(**r, stands=stands, b=r["before"], a=r["after"], b_mib=r["before"]["resident"] >> 20,
                       a_mib=r["after"]["resident"] >> 20, minutes=round(r["seconds"] / 60),
                       date=time.strftime("%Y-%m-%d", time.gmtime()),
                       commit=bench.commit())
    text = text.replace("at a gateway asan", "at a gateway built with AddressSanitizer and UBSan")
    text = text.replace("at a gateway release", "at a release build of the gateway")
    text += "\nThe gateway counted these answers: " + ", ".join(
        f"{n:,} × {s}" for s, n in sorted(r["answers"].items())) + ". What the clients saw of them before they left:\n\n"
    statuses = sorted({s for found in r["statuses"].values() for s in found})
    text += "| broken | " + " | ".join(statuses) + " |\n|---|" + "---|" * len(statuses) + "\n"
    for family, found in sorted(r["statuses"].items()):
        text += f"| {family} | " + " | ".join(f"{found.get(s, 0):,}" if found.get(s) else "" for s in statuses) + " |\n"
    text += ("\n*none*: the request was cut, or what came is no request that has an answer; 501 and 505 are the HTTP "
             "library's own answers to versions and codings it does not speak.\n\n")
    if r["findings"]:
        return text + "**Findings:**\n\n" + "\n".join(f"- {f[:500]}" for f in r["findings"]) + "\n"
    return text + ("No finding: no report of a sanitizer, no leak at the end, no 500, no whole request without an "
                   "answer.\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--build", default="asan")
    parser.add_argument("--bare", action="store_true",
                        help="the gateway on Postgres and the store alone, for a machine with little time")
    parser.add_argument("--no-page", action="store_true")
    args = parser.parse_args()
    os.makedirs(OUT, exist_ok=True)
    servers = ground.Alone() if args.bare else rig.Servers()
    try:
        servers.start()
        liar = Liar(servers.dir)
        if args.bare:
            fleet = ground.Gateway(servers)
            fleet.env = settings(liar, fleet)
            fleet.start("ingest-gateway", build=args.build, env=sanitizer_env())
            clients, ids = ground.bare(fleet)
        else:
            fleet, clients, ids = ground.build(servers, lambda fleet: settings(liar, fleet), args.build,
                                               sanitizer_env())
        target = make_target(fleet, clients, ids, liar)
        result = fuzz(target, args.seed, args.first, args.requests, min(2000, args.requests // 4))
        fleet.stop()
    finally:
        servers.stop()
    result["build"], result["bare"] = args.build, args.bare
    with open(os.path.join(OUT, "http-fuzz.json"), "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
    if not args.no_page:
        with open(os.path.join(ROOT, "docs", "http-fuzz.md"), "w", encoding="utf-8") as f:
            f.write(page(result))
    for text in result["findings"]:
        print(text)
    print(f"{result['requests']} requests, {len(result['findings'])} findings, {result['seconds']} s")
    return 1 if result["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
