# SPDX-License-Identifier: Apache-2.0
"""Malformed HTTP requests, drawn from a seed: request n of seed s is the same bytes at any time.

Each family breaks one layer and leaves those below whole, so that it gets as far as that layer: a
request line, headers, lengths and chunks, addresses, JSON, multipart, foreign protocols, credentials,
pipelines, manners; and `mutated` breaks right requests anywhere. Three out of four carry credentials
that are right, since nothing behind the door is reached without.
"""
import base64
import json
import random
import struct
import zlib

UNKNOWN = "01890000-0000-7000-8000-000000000000"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
DEEP = 40  # ours is 32
BODY_MAX = 1 << 20


class Sent:
    """What goes over one connection: pieces with pauses between them, and how the client leaves.

    leave: "answer" waits for one (whether the request deserves one or not), "reset" cuts the
    connection, "shut" ends its own side first.
    whole: a server that follows the rules can tell where the request ends, so it must answer."""

    def __init__(self, family, pieces, whole=True, leave="answer", pause=0.0, uploads=()):
        self.family, self.whole, self.leave, self.pause = family, whole, leave, pause
        self.pieces = [pieces] if isinstance(pieces, bytes) else list(pieces)
        self.uploads = uploads

    @property
    def size(self):
        return sum(len(p) for p in self.pieces)


class Ground:
    """What exists on the other side: ids, credentials, routes of the description.

    Without streams no request opens one: that a client has left one shows at its second heartbeat only."""

    def __init__(self, ids, credentials, routes, jwt, streams=True):
        self.ids, self.credentials, self.jwt = ids, credentials, jwt
        self.routes = [r for r in routes if streams or "/events" not in r[1]]
        self.stream = "/api/v1/events" if streams else "/api/v1/failures"
        self.bodies = [r for r in routes if r[2]]
        self.reads = [r for r in routes if r[0] == "GET" and "/events" not in r[1]]

    def path(self, rng, pattern, method="GET"):
        """The pattern with ids that exist, mostly; what removes gets ids that are there for it."""
        kind = pattern.removeprefix("/api/v1").split("/")[1]
        doomed = self.ids.get("doomed_" + kind) if method == "DELETE" or pattern.endswith("/remove") else None
        for name, values in (("{id}", doomed or self.ids.get(kind, [UNKNOWN])), ("{run}", self.ids["runs"]),
                             ("{page}", ["1", "2", "99999"]), ("{stage}", ["text", "ai"]),
                             ("{key}", self.ids["keys"]), ("{token}", self.ids["tokens"]),
                             ("{share}", self.ids["doomed_shares"])):
            if name in pattern:
                pattern = pattern.replace(name, rng.choice(values or [UNKNOWN]) if rng.random() < 0.9 else UNKNOWN)
        return pattern


def head(method, path, headers=(), version=b"HTTP/1.1", host=True):
    lines = [b"%s %s %s" % (raw(method), raw(path), version)]
    lines += [b"Host: docfleet.test"] if host else []
    lines += [raw(k) + b": " + raw(v) for k, v in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def raw(value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def junk(rng, most=200):
    return rng.randbytes(rng.randrange(1, most))


def text_junk(rng):
    return rng.choice((
        "", " ", "\t", "\x7f", "\x00", "%", "%zz", "%00", "%ff%fe", "%c0%af", "..", "../../etc/passwd", "'\"><",
        "' OR 1=1--", "${jndi:ldap://x}", "null", "undefined", "NaN", "-1", "0", "1e309", "9" * 30, "0x10", "٣",
        "\u202e", "\ufeff", "é" * 50, "a" * 300, "A" * 9000, "{}", "[]", "{{7*7}}", "\r\n", "a\r\nX-Evil: 1", "*",
        ";", ",", "=", "&", "#", "?", "\\", "/", "//", "%2f", "%5c", "%2e%2e", UNKNOWN, UNKNOWN.upper()))


# --- each family: (rng, ground, auth) -> Sent -----------------------------------------------------

def request_line(rng, ground, auth):
    path = ground.path(rng, rng.choice(ground.reads)[1])
    tail = b"\r\nHost: x\r\n" + b"".join(raw(k) + b": " + raw(v) + b"\r\n" for k, v in auth) + b"\r\n"
    line = rng.choice((
        b"", b" ", b"GET", b"GET ", b"GET /", b"GET  / HTTP/1.1", b"GET\t/\tHTTP/1.1", b"/ HTTP/1.1",
        b"GET / HTTP/1.1 extra", b"GET / http/1.1", b"GET / HTTP/9.9", b"GET / HTTP/2.0", b"GET / HTTP/1.10",
        b"GET / HTTP/-1.1", b"GET / HTTP/1.1\x00", b"GET / XTTP/1.1", b"GET / HTTP/", b"GET / HTTP/1.0",
        b"GET / HTTP/0.9", b"get / HTTP/1.1", b"G\x00T / HTTP/1.1", b"GET" * 2000 + b" / HTTP/1.1",
        b"CONNECT docfleet.test:443 HTTP/1.1", b"TRACE / HTTP/1.1", b"OPTIONS * HTTP/1.1", b"PRI * HTTP/2.0",
        b"BREW /pot HTTP/1.1", b"GET http://docfleet.test" + raw(path) + b" HTTP/1.1", b"GET //evil HTTP/1.1",
        b"GET \\ HTTP/1.1", b"GET " + junk(rng) + b" HTTP/1.1", junk(rng), b"\r\n\r\nGET / HTTP/1.1",
        b"GET " + raw(path) + b"#frag HTTP/1.1", b"GET /" + b"a" * rng.choice((8190, 8193, 33000, 70000)) + b" HTTP/1.1",
        rng.choice(METHODS).encode() + b" " + raw(path) + b" HTTP/1.1"))
    return Sent("request line", line + tail, whole=False)


def headers(rng, ground, auth):
    method, pattern, _ = rng.choice(ground.routes)
    path = ground.path(rng, pattern, method)
    names = ("Host", "Authorization", "Content-Type", "Cookie", "Accept", "Accept-Encoding", "Range", "If-Range",
             "If-Match", "If-None-Match", "Idempotency-Key", "Last-Event-ID", "traceparent", "X-Request-Id",
             "X-CSRF-Token", "Origin", "Sec-Fetch-Site", "User-Agent", "X-Forwarded-For", "X-Forwarded-Proto",
             "Expect", "Connection", "Upgrade", "TE", "Trailer", "Content-Encoding", "Content-Range", "Forwarded",
             "X-HTTP-Method-Override", "X-Original-URL", "Max-Forwards", "Via", "Keep-Alive", "Proxy-Authorization")
    name = rng.choice(names)
    value = raw(text_junk(rng))
    broken = rng.choice((
        [(name, value)], [(name, value), (name, value)], [(name + " ", "x")], [("", "x")], [(" " + name, "x")],
        [(name, b"x\x00y")], [(name, b"a\r\n b")], [(name, b"a\r b")], [(name, b"a\nX-Evil: 1")], [(name, junk(rng))],
        [(junk(rng, 20), "x")], [("X-%d" % i, "y") for i in range(rng.choice((90, 101, 500)))],
        [("X-Long", "z" * rng.choice((4000, 17000, 40000)))], [(name, "b" * 16000)], [("Cookie", "a=b")] * 60,
        [("Accept", ",".join(["text/html;q=0.1"] * 500))], [("Accept-Encoding", "gzip;q=" + text_junk(rng))],
        [("Range", rng.choice(("bytes=0-", "bytes=-5", "bytes=5-1", "bytes=a-b", "bytes=0-0,1-1", "bytes=" + ",".join(
            "%d-%d" % (i, i) for i in range(300)), "bytes=%d-" % 2**64, "lines=1-2", "bytes=--1", "bytes=0-%d" % 2**63)))],
        [("traceparent", rng.choice(("00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-" + "a" * 32 + "-" + "b" * 16 + "-01",
                                     "00-xyz", "-" * 55, "00-" + "a" * 31 + "-" + "b" * 16 + "-0")))],
        [("X-Forwarded-For", rng.choice(("1.2.3.4, " * 200, "::1", "[::1]:80", "999.1.1.1", "unknown", ",,,", "1.2.3.4\t")))],
        [("Idempotency-Key", rng.choice(("k" * 201, "k" * 200, "a b", "ü", ",", "k,k")))],
        [("Last-Event-ID", rng.choice(("9" * 18, "9" * 19, "-1", "1.5", "1;drop", " 7 ")))],
        [("If-None-Match", rng.choice(("*", '"', 'W/"', '""', '"a" "b"', '"' + "x" * 5000 + '"', ", , ,", '"a\\"b"')))],
        [("Expect", rng.choice(("100-continue, 100-continue", "200-ok", "100-Continue ")))],
        [("Connection", rng.choice(("keep-alive, close", "upgrade", "Host", "close, " * 100, "\x01")))]))
    extra = [("Content-Type", "application/json"), ("Content-Length", "2")] if rng.random() < 0.3 else []
    body = b"{}" if extra else b""
    data = head(method, path, rng.sample([*auth, *extra, *broken], len(auth) + len(extra) + len(broken)),
                host=rng.random() < 0.9)
    if rng.random() < 0.1:
        data = data.replace(b"\r\n", b"\n")
    return Sent("headers", data + body, whole=False)


def lengths(rng, ground, auth):
    method, pattern, media = rng.choice(ground.bodies)
    body = b'{"name":"x"}'
    n = len(body)
    told = rng.choice((
        [("Content-Length", rng.choice((
            "-1", "+%d" % n, "0x0c", "%d, %d" % (n, n), " ", "", "1e3", "%d " % n, str(2**31), str(2**32), str(2**63 - 1),
            str(2**63), str(2**64), str(2**64 + n), "0" * 30 + str(n), str(n - 3), str(n + 7), "%d\x0b" % n)))],
        [("Content-Length", n), ("Content-Length", n)], [("Content-Length", n), ("Content-Length", n + 1)],
        [("Content-Length", n), ("Transfer-Encoding", "chunked")], [("Transfer-Encoding", "chunked"), ("Content-Length", n)],
        [("Transfer-Encoding", rng.choice(("gzip", "gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;q=1",
                                           "Chunked", " chunked", "chunked\x0b", "", "chunked, gzip")))],
        [("Transfer-Encoding ", "chunked")], [("Transfer_Encoding", "chunked"), ("Content-Length", n)],
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
        [("Content-Encoding", "gzip"), ("Content-Length", n)], []))
    if rng.random() < 0.3:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (n, body)
    kind = [("Content-Type", media if media != "multipart/form-data" else "multipart/form-data; boundary=b")]
    return Sent("lengths", head(method, ground.path(rng, pattern, method), [*auth, *kind, *told]) + body, whole=False)


def chunks(rng, ground, auth):
    method, pattern, media = rng.choice(ground.bodies)
    body = upload(rng, ground)[1] if media.startswith("multipart") else b'{"name":"x","columns":[]}'
    size = rng.choice((b"%x" % len(body), b"%X" % len(body), b"0%x" % len(body), b"-1", b"", b"zz", b"0x5", b"f" * 16, b"f" * 17,
                       b"8" + b"0" * 15, b"%x;ext=1" % len(body), b"%x;" % len(body) + b"e" * 9000, b"%x " % len(body),
                       b"%x\x00" % len(body), b"%x" % (len(body) + 1), b"%x" % max(0, len(body) - 1), b"1 0"))
    end = rng.choice((b"\r\n0\r\n\r\n", b"\n0\n\n", b"0\r\n\r\n", b"\r\n00000\r\n\r\n", b"\r\n0\r\nX: y\r\n\r\n", b"\r\n0\r\nContent-Length: 5\r\n\r\n",
                      b"\r\n0\r\n" + b"T: t\r\n" * 4000 + b"\r\n", b"\r\n0\r\n", b"\r\n", b"", b"\r\n0\r\n" + junk(rng), b"XX0\r\n\r\n"))
    kind = "multipart/form-data; boundary=b" if media.startswith("multipart") else media
    data = head(method, ground.path(rng, pattern, method), [*auth, ("Content-Type", kind), ("Transfer-Encoding", "chunked")])
    if rng.random() < 0.2:  # many small ones, right but for the last
        step = rng.randrange(1, 4)
        small = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[i:i + step] for i in range(0, len(body), step)))
        return Sent("chunks", data + small + end.lstrip(b"\r\n"), whole=False)
    return Sent("chunks", data + size + b"\r\n" + body + end, whole=False)


def address(rng, ground, auth):
    method, pattern, _ = rng.choice(ground.routes)
    path = ground.path(rng, pattern, method)
    bad = "".join(c for c in text_junk(rng) if c not in "\r\n \t\x00\x7f")
    where = rng.randrange(5)
    if where == 0:
        at = rng.randrange(1, len(path))
        path = path[:at] + bad + path[at:]
    elif where == 1:
        path += "/" + bad
    elif where == 2:
        path = path.replace("/api", rng.choice(("/API", "/./api", "/x/../api", "//api", "/%61pi", "/api%2f", "/api;x=1", "/api/")), 1)
    else:
        names = ("limit", "cursor", "sort", "state", "stage", "q", "batchId", "datasetId", "format", "rows", "page", "size",
                 "since", "until", "after", "column", "userId", "code", "iss", "lastEventId", "action", "")
        pairs = [rng.choice(names) + rng.choice(("=", "==", "", "[]=", "%5B%5D=", "%3D")) + bad for _ in range(rng.choice((1, 1, 2, 33)))]
        if rng.random() < 0.3:
            pairs.append("cursor=" + base64.urlsafe_b64encode(junk(rng)).decode())
        path += "?" + rng.choice(("&", "&&", ";")).join(pairs)
    return Sent("addresses", head(method, path, auth), whole=method not in ("POST", "PUT", "PATCH"))


NASTY = (None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, 2**31, 2**53, 2**63, -2**63 - 1, 10**40, "", " ", "\x00", "a\x00b", "\ud800",
         "\u202e", "x" * 101, "x" * 5000, "é" * 500, UNKNOWN, "not-a-uuid", [], {}, [[]], [None], [{}], {"": ""}, ["a"] * 1001,
         ["a"] * 101, {"a": {"a": {"a": {}}}}, "2020-13-45T99:99:99Z", "2020-01-01T00:00:00+99:99", "* * * * *", "0 0 31 2 *",
         "99 99 99 99 99", "*/0 * * * *", "Europe/Nowhere", "../../etc/passwd", "dfk_x", "'; DROP TABLE file; --", "open", "any")
FIELDS = ("name", "columns", "options", "type", "enum", "itemColumns", "description", "required", "currency", "dateOrder",
          "retentionDays", "retentionRemoves", "reason", "ids", "filter", "state", "stage", "q", "batchId", "from", "current", "new",
          "password", "scopes", "userId", "datasetIds", "expiresInDays", "datasetId", "prefix", "source", "schedule", "cron",
          "timeZone", "enabled", "onVanished", "maxFailedPercent", "maxUnfetched", "keepVersions", "keepSchedule", "weight", "role",
          "disabled", "dryRun", "limit", "class", "since", "until", "fileId", "id", "version")
RIGHT = ({"name": "fuzz", "columns": [{"name": "a", "type": "string"}, {"name": "r", "type": "rows", "itemColumns": [
    {"name": "i", "type": "money", "currency": "EUR"}]}], "options": {"retentionDays": 5}},
    {"ids": [UNKNOWN]}, {"filter": {"state": ["done"], "q": "x"}}, {"stage": "text"}, {"from": "ai"}, {"name": "k", "scopes": ["read"]},
    {"name": "n", "password": "p"}, {"current": "a", "new": "b"}, {"reason": "why"}, {"weight": 1, "role": "user", "disabled": False},
    {"filter": {"reason": "encrypted", "since": "2020-01-01T00:00:00Z"}, "dryRun": True, "limit": 5},
    {"name": "i", "datasetId": UNKNOWN, "prefix": "p/", "schedule": {"cron": "0 3 * * *", "timeZone": "Europe/Berlin"}, "enabled": False})


def worsen(rng, value):
    """The value with one place of it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        made = dict(value)
        key = rng.choice(list(made))
        made[key] = worsen(rng, made[key])
        return made
    if isinstance(value, list) and value and rng.random() < 0.8:
        made = list(value)
        at = rng.randrange(len(made))
        made[at] = worsen(rng, made[at])
        return made * rng.choice((1, 1, 1, 120))
    if isinstance(value, dict) and rng.random() < 0.5:
        return {**value, rng.choice(FIELDS): rng.choice(NASTY)}
    return rng.choice(NASTY)


def broken_json(rng, value):
    text = json.dumps(value, ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")
    n = rng.choice((DEEP, 1000, 100000))
    return rng.choice((
        text[:rng.randrange(len(text))], text + b"}", text + text, b"\xef\xbb\xbf" + text, text.replace(b'"', b"'"),
        text.replace(b":", b"=", 1), b"[" * n + b"]" * n, b'{"name":' * n + b"1" + b"}" * n, b'{"name":' + b"[" * n, b"", b"null", b"0",
        b'"x"', b"[]", b"\x00", text.replace(b" ", b"\x00"), b'{"name":"\xff\xfe"}', b'{"name":"\\ud800"}', b'{"name":"\\u0000"}',
        b'{"name":1e999}', b'{"limit":' + b"9" * 5000 + b"}", b'{"name":NaN}', b'{"name":"a","name":"b"}', b'{"name":"' + b"x" * 60000 + b'"}',
        b'{"name":"\x01"}', b'{"name":"\\x41"}', b"{" + b'"a":1,' * 20000 + b'"b":2}', b" " * (BODY_MAX + 5), b"{/*c*/}", junk(rng, 2000),
        text.decode("utf-8", "replace").encode("utf-16"), b'{"name":-}', b'{"name":01}', b'{"name":.5}', zlib.compress(text)))


def json_bodies(rng, ground, auth):
    method, pattern, media = rng.choice([r for r in ground.bodies if r[2] == "application/json"])
    value = rng.choice(RIGHT) if rng.random() < 0.7 else {rng.choice(FIELDS): rng.choice(NASTY) for _ in range(rng.randrange(6))}
    for _ in range(rng.randrange(4)):
        value = worsen(rng, value)
    body = broken_json(rng, value) if rng.random() < 0.5 else json.dumps(value).encode()
    kind = rng.choice((media,) * 6 + ("application/json; charset=utf-16", "text/plain", "APPLICATION/JSON", "application/json;", "*/*"))
    return Sent("JSON", head(method, ground.path(rng, pattern, method), [
        *auth, ("Content-Type", kind), ("Content-Length", len(body))]) + body)


def upload(rng, ground):
    """(path, body with boundary b) of files that are right."""
    parts = [b'--b\r\nContent-Disposition: form-data; name="file"; filename="f%d.txt"\r\n\r\nfuzz %d\r\n' % (i, rng.getrandbits(60))
             for i in range(rng.randrange(1, 4))]
    return ground.path(rng, "/api/v1/datasets/{id}/files"), b"".join(parts) + b"--b--\r\n"


def multipart(rng, ground, auth):
    path, body = upload(rng, ground)
    name = raw(text_junk(rng)).replace(b"\r\n", b"")
    lead = b'Content-Disposition: form-data; name="file"; filename="f0.txt"'
    n = rng.choice((10, 1001, 3000))
    body = rng.choice((
        body[:rng.randrange(len(body))], body[3:], body.replace(b"--b", b"--c"), body.replace(b"\r\n", b"\n"),
        body.replace(lead, b"X: y"), body.replace(lead, lead + b"\r\n" + lead), body.replace(b'name="file"', b'name="' + name + b'"'),
        body.replace(b'"f0.txt"', b'"' + name + b'"'), body.replace(b'"f0.txt"', b'"' + name), body.replace(b'="f0.txt"', b"*=utf-8''" + name),
        body.replace(b'="f0.txt"', b"*=" + rng.choice((b"utf-16''%ff", b"''", b"'", b"utf-8'en'%zz", b"utf-8''" + b"%41" * 3000))),
        body.replace(b'"f0.txt"', b'"' + b"n" * 5000 + b'"'), body.replace(lead, lead + b"; filename=" + name),
        body.replace(lead, lead + b"; x=y" * 900), body.replace(lead, b"A: b\r\n" * 900 + lead), body.replace(lead, lead + b"\r\n folded"),
        body.replace(lead, lead + b"\r\nContent-Type: " + name), body.replace(lead, lead + b"\r\nContent-Transfer-Encoding: base64"),
        body.replace(lead, lead + b"\r\n\x00: y"), body.replace(b"--b--", b"--b" + b" " * 300 + b"--"), b"p" * 9000 + body, body + b"e" * 9000,
        b"".join(b'--b\r\nContent-Disposition: form-data; name="file"; filename="%d"\r\n\r\n%d\r\n' % (i, i) for i in range(n)) + b"--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="manifest"\r\n\r\n' + broken_json(rng, [{"name": "f0.txt", "size": 1, "sha256": "x"}]) +
        b"\r\n" + body,
        b'--b\r\nContent-Disposition: form-data; name="manifest"\r\n\r\n' + json.dumps(worsen(rng, [
            {"name": "f0.txt", "size": 3, "sha256": "0" * 64}])).encode() + b"\r\n" + body,
        b"--b\r\n\r\n--b\r\n\r\n--b--", b"--b--\r\n", b"--b" * 500, b"\r\n--b\r\n" * 500, junk(rng, 3000), b"", body + body,
        body.replace(b"fuzz", b"\r\n--b\r\nfuzz", 1), body.replace(b"fuzz", b"\r\n--" * 300), body.replace(b"fuzz", b"\r" * 600)))
    kind = rng.choice((b"multipart/form-data; boundary=b",) * 8 + (
        b'multipart/form-data; boundary="b"', b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/mixed; boundary=b",
        b'multipart/form-data; boundary="b', b"multipart/form-data; boundary=" + b"b" * 71, b"multipart/form-data; boundary=b; boundary=c",
        b"multipart/form-data; BOUNDARY=b; x=" + name.replace(b"\x00", b"").replace(b"\x7f", b""), b'multipart/form-data; boundary="b\\"'))
    extra = [("Idempotency-Key", "k%d" % rng.randrange(50))] if rng.random() < 0.3 else []
    short = rng.random() < 0.1  # fewer bytes come than were told
    told = len(body) + (rng.randrange(1, 5000) if short else 0)
    data = head("POST", path, [*auth, ("Content-Type", kind), ("Content-Length", told), *extra])
    return Sent("multipart", [data, body], whole=not short, leave=rng.choice(("reset", "shut", "answer")) if short else "answer")


def protocols(rng, ground, auth):
    """Other protocols on our port, and headers of theirs on our addresses."""
    dataset = rng.choice(ground.ids["datasets"])
    tus = [("Tus-Resumable", rng.choice(("1.0.0", "0.2.2", "", "9" * 40))), ("Upload-Length", rng.choice(("-1", "5", str(2**64), "x", ""))),
           ("Upload-Offset", rng.choice(("0", "-5", str(2**63), "a"))), ("Upload-Metadata", rng.choice((
               "filename", "filename ***", "filename " + base64.b64encode(junk(rng)).decode(), ",,,", "a b,a b", "datasetId " + "A" * 5000))),
           ("Upload-Checksum", rng.choice(("sha1 x", "md5", "sha256 " + "A" * 400))), ("Upload-Concat", "final;/a /b /c"), ("Upload-Defer-Length", "2")]
    s3 = [("x-amz-date", rng.choice(("20200101T000000Z", "x", ""))), ("x-amz-content-sha256", rng.choice((
        "UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "z"))), ("x-amz-decoded-content-length", "-1"), ("x-amz-copy-source", "/a/../b"),
        ("Authorization", "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/s3/aws4_request, SignedHeaders=host;;host, Signature=" + "f" * 64)]
    draft = [("Upload-Draft-Interop-Version", rng.choice(("6", "-1", "?"))), ("Upload-Complete", rng.choice(("?0", "?1", "1"))),
             ("Upload-Incomplete", "?1"), ("Content-Range", rng.choice(("bytes 0-5/*", "bytes 5-0/3", "bytes */0", "x")))]
    ws = [("Upgrade", rng.choice(("websocket", "h2c", "TLS/1.0"))), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", rng.choice(("13", "0", "x"))),
          ("Sec-WebSocket-Key", base64.b64encode(rng.randbytes(16)).decode()), ("HTTP2-Settings", "AAMAAABkAAQAAP__")]
    event = json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": text_junk(rng)}, "object": {"key": text_junk(rng)}}}]})
    pick = rng.randrange(7)
    if pick == 0:
        return Sent("foreign protocols", rng.choice((
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">HBBBI", 0, 0, 4, 0, 0), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200),
            b"SSH-2.0-x\r\n", b"EHLO x\r\n", b"*1\r\n$4\r\nPING\r\n", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack(">IHHI", 20, 18, 3, 1), b"<policy-file-request/>\x00")), whole=False)
    method, path, more = (
        (rng.choice(("POST", "PATCH", "HEAD", "OPTIONS", "DELETE")), "/api/v1/tus/" + rng.choice(("", UNKNOWN, "..", "x")), tus),
        (rng.choice(("PUT", "GET", "POST")), "/bucket/key" + rng.choice(("?uploads", "?partNumber=0&uploadId=", "?X-Amz-Signature=x&X-Amz-Expires=-1", "")), s3),
        (rng.choice(("POST", "PATCH", "HEAD")), f"/api/v1/datasets/{dataset}/files", draft + tus),
        ("GET", rng.choice(("/api/v1/sync/ws", ground.stream, "/", "/api/v1/auth/me")), ws),
        ("POST", "/api/v1/webhooks/s3", [("Content-Type", "application/json")]),
        (rng.choice(("POST", "GET", "PUT")), rng.choice(("/api/v1/upload/init", "/api/v1/upload/start", f"/api/v1/upload/{UNKNOWN}/chunk/-1", "/s/x/unlock")),
         [("X-Chunk-Hash", "0" * 63), ("Content-Type", "application/json")]))[pick - 1]
    body = rng.choice((b"", event.encode(), b"{}", junk(rng)))
    more = rng.sample(more, rng.randrange(1, len(more) + 1))
    stream = path == ground.stream
    return Sent("foreign protocols", head(method, path, [*(auth if pick != 2 else []), *more, ("Content-Length", len(body))]) + body,
                whole=not stream, leave="reset" if stream else "answer")


def credentials(rng, ground, auth):
    method, pattern, _ = rng.choice(ground.reads)
    path = ground.path(rng, pattern, method)
    jwt = ground.jwt(rng)
    parts = jwt.split(".")
    key = ground.credentials["alice"][0][1][7:]
    cookie = ground.credentials["session"][0][1]

    def b64(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    header = json.loads(base64.urlsafe_b64decode(parts[0] + "=="))
    claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    made = rng.choice((
        [("Authorization", "Bearer " + v) for v in (rng.choice((
            "", " ", "x", "..", "...", "a.b.c", "." * 5000, jwt + ".", jwt[:-5], jwt[5:], jwt + "A", jwt.replace(".", "..", 1), parts[0] + ".." + parts[2],
            parts[0] + "." + b64(junk(rng)) + "." + parts[2], b64(junk(rng)) + "." + parts[1] + "." + parts[2], parts[0] + "." + parts[1] + "." + b64(junk(rng, 600)),
            b64(b"[" * 3000) + "." + parts[1] + "." + parts[2], b64(json.dumps({**header, "alg": rng.choice(("none", "None", "HS256", "RS257", "", "A" * 500))}).encode()) +
            "." + parts[1] + "." + parts[2], b64(json.dumps({**header, rng.choice(("kid", "jku", "jwk", "x5u", "crit", "b64", "typ", "zip")): rng.choice(NASTY)},
                                                            default=str).encode("utf-8", "replace")) + "." + parts[1] + "." + parts[2],
            ground.jwt(rng, **{rng.choice(("exp", "nbf", "iat", "aud", "iss", "sub", "scope", "preferred_username", "groups", "azp")): rng.choice(
                [v for v in NASTY if not isinstance(v, str) or "\ud800" not in v])}),
            "A" * 9000, key[:-1], key + "0", key.upper(), "dfk_", "dfk__", "dfk_" + "a" * 40 + "_" + "0" * 64, "dfk_a_" + "0" * 300, key.replace("_", "-"), key + "\t")),)],
        [("Authorization", rng.choice(("Basic", "Basic " + "A" * 3000, "Basic ***", "Digest username=", "bearer " + key, "Bearer" + key, "BEARER  " + key, "Negotiate",
                                       "AWS4-HMAC-SHA256 Credential=" + "/" * 300, "AWS a:b", key, ",")))],
        [("Authorization", "Bearer " + key), ("Authorization", "Bearer x")],
        [("Cookie", rng.choice((cookie[:-1], cookie + "0", cookie + ";" + cookie, "docfleet_session=", "docfleet_session", "docfleet_session=" + "g" * 64, ";" * 5000,
                                "=" * 100, "docfleet_session=\"" + "0" * 64 + "\"", "a=" * 3000 + ";" + cookie, "__Host-" + cookie, cookie.upper(), " ;,; " + cookie)))],
        [("Cookie", cookie), ("X-CSRF-Token", rng.choice(("", "0" * 64, "x" * 5000)))],
        [("Cookie", cookie), ("Authorization", "Bearer " + key)],
        [("Cookie", cookie), ("Origin", rng.choice(("null", "", "://", "http://", "https://" + "o" * 3000))), ("Sec-Fetch-Site", rng.choice(("cross-site", "x", "")))]))
    if "claims" in claims:
        made.append(("X-Claims", "1"))
    if rng.random() < 0.15:
        path = "/api/v1/auth/oidc/callback?" + "&".join(f"{k}={rng.choice(('', 'x', 'A' * 2100, '%zz', '%00'))}" for k in ("code", "state", "iss", "error"))
    # Thousands of cookies are more than the library has memory for: it closes without an answer.
    many = any(name == "Cookie" and value.count(";") > 1000 for name, value in made)
    return Sent("credentials", head(method, path, made), whole=not many)


def pipelines(rng, ground, auth):
    good = [head("GET", ground.path(rng, rng.choice(ground.reads)[1]), auth) for _ in range(3)]
    body = b'{"name":"x"}'
    post = head("POST", "/api/v1/datasets", [*auth, ("Content-Type", "application/json"), ("Content-Length", len(body))]) + body
    bad = rng.choice((b"GET\r\n\r\n", junk(rng), b"\x00" * 50, head("GET", "/api/v1/%zz", auth), head("POST", "/api/v1/datasets", [*auth, ("Content-Length", "-1")]),
                      b"GET /api/v1/auth/me HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"))
    smuggled = head("POST", "/api/v1/datasets", [*auth, ("Content-Type", "application/json"), ("Content-Length", "5"), ("Transfer-Encoding", "chunked")]) + \
        b"0\r\n\r\nGET /api/v1/admin/users HTTP/1.1\r\nHost: x\r\n\r\n"
    pieces = rng.choice((good + [bad], [good[0], bad, good[1]], [post, post, good[0]], [head("GET", "/api/v1/auth/me", [*auth, ("Connection", "close")]), good[0]],
                         [good[0]] * 40, [smuggled], [head("GET", "/api/v1/auth/me", [*auth, ("Content-Length", len(good[0]))]), good[0], good[1]],
                         [head("HEAD", "/api/v1/openapi.json"), good[0], bad], [post[:-3], good[0]]))
    return Sent("pipelines", b"".join(pieces) if rng.random() < 0.7 else pieces, whole=False, leave=rng.choice(("answer", "reset", "shut")))


def manners(rng, ground, auth):
    """Right requests from clients that are slow, silent, gone, or do not listen."""
    path, body = upload(rng, ground)
    data = head("POST", path, [*auth, ("Content-Type", "multipart/form-data; boundary=b"), ("Content-Length", len(body))])
    read = head("GET", ground.path(rng, rng.choice(ground.reads)[1]), auth)
    content = head("GET", f"/api/v1/files/{rng.choice(ground.ids['files'])}/content", auth)
    events = head("GET", ground.stream, [*auth, ("Last-Event-ID", "0")])
    waits = head("POST", path, [*auth, ("Content-Type", "multipart/form-data; boundary=b"), ("Content-Length", len(body)), ("Expect", "100-continue")])
    cut = rng.randrange(1, len(body))
    pieces, whole, leave = rng.choice((
        ([b""], False, "reset"), ([b""], False, "shut"), ([read[:rng.randrange(1, len(read))]], False, "reset"), ([read[:-2]], False, "shut"), ([read], False, "reset"),
        ([read], False, "shut"), ([read[i:i + 7] for i in range(0, len(read), 7)], True, "answer"), ([data, body[:cut]], False, "reset"), ([data, body[:cut]], False, "shut"),
        ([data], False, "reset"), ([data, body], False, "reset"), ([data, body], False, "shut"), ([data, *(body[i:i + 11] for i in range(0, len(body), 11))], True, "answer"),
        ([content], False, "reset"), ([content] * 5, False, "reset"), ([events], False, "reset"), ([events], False, "shut"), ([waits], False, "reset"),
        ([waits, body], False, "reset"), ([waits, body], False, "answer"), ([head("GET", "/api/v1/openapi.json")] * 10, False, "reset")))
    return Sent("manners", pieces, whole, leave, pause=rng.choice((0, 0, 0.002, 0.02)))


def mutated(rng, ground, auth):
    """A right request with bytes changed anywhere."""
    method, pattern, media = rng.choice(ground.routes)
    path = ground.path(rng, pattern, method)
    if media and media.startswith("multipart"):
        path, body = upload(rng, ground)
        more = [("Content-Type", "multipart/form-data; boundary=b"), ("Content-Length", len(body))]
    elif media:
        body = json.dumps(rng.choice(RIGHT)).encode()
        more = [("Content-Type", media), ("Content-Length", len(body)), ("Idempotency-Key", "m%d" % rng.randrange(50))]
    else:
        body, more = b"", [("Accept", "text/csv, application/json"), ("Range", "bytes=0-10"), ("If-None-Match", '"x"')]
    data = bytearray(head(method, path, [*auth, *more]) + body)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, n = rng.randrange(len(data)), rng.randrange(1, 40)
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice(b"\x00\r\n :;,\"%\\{}[]\xff\x7f\t0")
        elif kind == 2:
            del data[at:at + n]
        elif kind == 3:
            data[at:at] = data[at:at + n]
        elif kind == 4:
            data[at:at] = junk(rng, 20)
        else:
            data[at:at] = raw(text_junk(rng))[:200]
        if not data:
            data = bytearray(b"\r\n")
    return Sent("mutations", bytes(data), whole=False, leave=rng.choice(("answer", "answer", "answer", "shut", "reset")))


FAMILIES = (request_line, headers, lengths, chunks, address, json_bodies, multipart, protocols, credentials, pipelines,
            manners, mutated)


def make(seed, number, ground):
    """Request `number` of a seed."""
    rng = random.Random(f"{seed}/{number}")
    family = FAMILIES[number % len(FAMILIES)]
    who = rng.choice(("alice", "alice", "root", "session", "jwt", "nobody"))
    auth = [("Authorization", "Bearer " + ground.jwt(rng))] if who == "jwt" else ground.credentials.get(who, [])
    return family(rng, ground, auth)
