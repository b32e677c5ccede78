# SPDX-License-Identifier: Apache-2.0
"""Who one is: sign-ins and sessions, cross-site requests, guessing, keys, roles, the audit log."""
import concurrent.futures
import datetime
import json
import re
import subprocess

import psycopg
import pytest
import requests

from lib import rig
from test_gateway import problem

PASSWORD = "correct horse battery"
ENV = {"DOCFLEET_TRUSTED_PROXIES": "127.0.0.1", "DOCFLEET_SESSION_IDLE": "1h"}


@pytest.fixture(scope="module")
def gateway(servers):
    made = rig.Fleet(servers, env=ENV)
    made.start("ingest-gateway")
    yield made
    made.stop()


def set_password(fleet, name, password=PASSWORD):
    run = subprocess.run([fleet.bin("docfleetctl"), "user", "password", name], input=password + "\n", text=True,
                         env=dict(rig._base_env(), **fleet.settings()), capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr


def person(fleet, name, role="user"):
    """An account with a password and no key."""
    if not fleet.sql("select 1 from account where name = %s", name):
        fleet.ctl("user", "create", name, "--role", role, "--no-key")
        set_password(fleet, name)
    return name


class Browser:
    """A client with cookies, as a page of ours uses it; each has an address of its own."""
    count = 0

    def __init__(self, fleet, **headers):
        Browser.count += 1
        self.url, self.api, self.csrf = fleet.url, fleet.api, None
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update({"X-Forwarded-For": f"10.1.{Browser.count // 250}.{Browser.count % 250 + 1}",
                                     "Sec-Fetch-Site": "same-origin", **headers})

    def request(self, method, path, csrf=True, **kw):
        headers = dict(kw.pop("headers", {}))
        if csrf is True and self.csrf:
            headers.setdefault("X-CSRF-Token", self.csrf)
        return self.session.request(method, self.api + path, headers=headers, timeout=60,
                                    allow_redirects=False, **kw)

    def login(self, name, password=PASSWORD, **kw):
        got = self.request("POST", "/auth/login", json={"name": name, "password": password}, **kw)
        if got.status_code == 200:
            self.csrf = got.json()["csrfToken"]
        return got


def signed_in(fleet, name):
    browser = Browser(fleet)
    got = browser.login(person(fleet, name))
    assert got.status_code == 200, got.text
    return browser


def test_sign_in_and_out(gateway):
    browser = Browser(gateway)
    problem(browser.request("GET", "/auth/me"), 401, "unauthorized")
    got = browser.login(person(gateway, "ida"))
    cookie = got.headers["Set-Cookie"]
    assert re.match(r"docfleet_session=[0-9a-f]{64}; Path=/; Max-Age=\d+; HttpOnly; SameSite=Strict$", cookie)
    me = got.json()
    assert (me["name"], me["role"], me["credential"], me["keyId"]) == ("ida", "user", "session", None)
    assert me["scopes"] == ["read", "write"]
    assert browser.request("GET", "/auth/me").json() == me
    token = cookie[17:81]
    stored = gateway.one("select encode(token_sha256, 'hex') from session where session_id = %s", me["sessionId"])
    assert stored != token and token not in json.dumps(gateway.sql("select * from session"), default=str)
    listed = browser.request("GET", "/auth/sessions").json()["items"]
    assert [s["current"] for s in listed] == [True] and listed[0]["address"].startswith("10.1.")

    again = browser.login("ida")  # a new cookie, and the old one is worth nothing
    assert again.headers["Set-Cookie"] != cookie
    old = requests.get(gateway.api + "/auth/me", cookies={"docfleet_session": token}, timeout=10)
    rig.wait_until(lambda: requests.get(gateway.api + "/auth/me", cookies={"docfleet_session": token},
                                        timeout=10).status_code == 401, 10, what=f"the end of {old.status_code}")
    out = browser.request("POST", "/auth/logout", json={})
    assert out.status_code == 200 and out.json() == {"logoutUrl": None} and "Max-Age=0" in out.headers["Set-Cookie"]
    problem(browser.request("GET", "/auth/me"), 401, "unauthorized")


def test_a_cookie_is_secure_behind_https(gateway):
    browser = Browser(gateway, **{"X-Forwarded-Proto": "https"})
    cookie = browser.login(person(gateway, "ida")).headers["Set-Cookie"]
    assert cookie.startswith("__Host-docfleet_session=") and cookie.endswith("; SameSite=Strict; Secure")
    name, value = cookie.split(";")[0].split("=")
    headers = {"Cookie": f"{name}={value}", "X-Forwarded-Proto": "https"}
    assert requests.get(gateway.api + "/auth/me", headers=headers, timeout=10).status_code == 200
    headers["X-Forwarded-Proto"] = "http"  # over an open line that cookie counts for nothing
    assert requests.get(gateway.api + "/auth/me", headers=headers, timeout=10).status_code == 401


def test_cross_site_requests_change_nothing(gateway):
    browser = signed_in(gateway, "ida")
    body = {"name": "d", "columns": [{"name": "A", "type": "string"}]}
    for csrf, headers in ((False, {}), (False, {"X-CSRF-Token": "0" * 64}), (True, {"Sec-Fetch-Site": "cross-site"}),
                          (True, {"Sec-Fetch-Site": "same-site"}), (True, {"Origin": "https://evil.example"}),
                          (True, {"Origin": "null"})):
        problem(browser.request("POST", "/datasets", csrf, json=body, headers=headers), 403, "csrf")
        problem(browser.request("POST", "/auth/logout", csrf, json={}, headers=headers), 403, "csrf")
    problem(browser.login("ida", headers={"Sec-Fetch-Site": "cross-site"}), 403, "csrf")
    assert browser.request("POST", "/datasets", json=body, headers={"Origin": gateway.url}).status_code == 201
    # with a key there is nothing a browser would add by itself, so nothing is asked
    alice = gateway.client("alice")
    alice.post("/datasets", 201, json=body, headers={"Sec-Fetch-Site": "cross-site"})


def test_another_sessions_token_does_not_do(gateway):
    one, two = signed_in(gateway, "ida"), signed_in(gateway, "ida")
    problem(one.request("POST", "/auth/logout", json={}, headers={"X-CSRF-Token": two.csrf}), 403, "csrf")


def test_guessing_is_slowed_down_on_all_replicas(gateway):
    name = person(gateway, "gil")
    gateway.start("ingest-gateway#2")
    try:
        guesser = Browser(gateway)
        urls = [gateway.api, gateway.gateway_url("ingest-gateway#2") + "/api/v1"]

        def guess(i):
            return requests.post(urls[i % 2] + "/auth/login", timeout=60, headers=dict(guesser.session.headers),
                                 json={"name": name, "password": f"wrong guess {i}"})
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            got = list(pool.map(guess, range(12)))
        counts = {s: sum(g.status_code == s for g in got) for s in (401, 429, 503)}
        assert counts[401] <= 5 and counts[401] + counts[429] + counts[503] == 12 and counts[429] >= 1
        while (last := guess(1)).status_code != 429:
            assert last.status_code in (401, 503)
        body = problem(last, 429, "too_many_tries")
        assert 1 <= int(last.headers["Retry-After"]) <= 60 and name not in json.dumps(body)
        problem(guesser.login(name), 429, "too_many_tries")  # not even the right one, from there
        assert Browser(gateway).login(name).status_code == 200  # the owner, from elsewhere
        rows = gateway.sql("select * from login_throttle")
        assert all(re.match(r"[pua]:[0-9a-f]{64}$", r["key"]) for r in rows)
        gateway.sql("update login_throttle set at = at - interval '10 minutes'")
        assert guesser.login(name).status_code == 200
    finally:
        gateway.stop("ingest-gateway#2")


def test_names_cannot_be_told_by_the_answer(gateway):
    person(gateway, "ida")
    gateway.client("alice")  # has no password
    known, unknown, keys_only = (Browser(gateway).login(n, "wrong password here") for n in ("ida", "nobody", "alice"))
    assert known.status_code == unknown.status_code == keys_only.status_code == 401
    assert known.json()["detail"] == unknown.json()["detail"] == keys_only.json()["detail"]


def test_change_of_password_ends_other_sessions(gateway):
    name = person(gateway, "pat")
    one, two = signed_in(gateway, name), signed_in(gateway, name)
    for new, why in (("short", "at least 12"), ("aaaaaaaaaaaaaaaa", "over and over"), ("x" * 1025, None)):
        got = one.request("POST", "/auth/password", json={"current": PASSWORD, "new": new})
        assert got.status_code == 422 and (why is None or why in got.json()["detail"]), got.text
    problem(one.request("POST", "/auth/password", json={"current": "no", "new": "another long one"}), 403, "forbidden")
    old = one.session.cookies["docfleet_session"]
    got = one.request("POST", "/auth/password", json={"current": PASSWORD, "new": "another long one"})
    assert got.status_code == 200 and one.session.cookies["docfleet_session"] != old
    one.csrf = got.json()["csrfToken"]
    assert one.request("POST", "/auth/logout-all", json={}).status_code == 204
    for browser in (one, two):
        problem(browser.request("GET", "/auth/me"), 401, "unauthorized")
    assert Browser(gateway).login(name).status_code == 401
    assert Browser(gateway).login(name, "another long one").status_code == 200
    stored = gateway.one("select password_hash from account where name = %s", name)
    assert stored.startswith("$argon2id$v=19$m=49152,t=3,p=1$")


def test_sessions_end_in_time(gateway):
    browser = signed_in(gateway, "ida")
    session = browser.request("GET", "/auth/me").json()["sessionId"]
    for column, value in (("seen_at", "now() - interval '61 minutes'"), ("expires_at", "now()")):
        gateway.sql(f"update session set {column} = {value} where session_id = %s", session)
        rig.wait_until(lambda: browser.request("GET", "/auth/me").status_code == 401, 15, what=column)
        gateway.sql("update session set seen_at = now(), expires_at = now() + interval '1 h' where session_id = %s",
                    session)
        rig.wait_until(lambda: browser.request("GET", "/auth/me").status_code == 200, 15)
    other = signed_in(gateway, "ida")
    assert other.request("DELETE", f"/auth/sessions/{session}").status_code == 204
    problem(browser.request("GET", "/auth/me"), 401, "unauthorized")
    problem(signed_in(gateway, "eve").request("DELETE", "/auth/sessions/" + other.request(
        "GET", "/auth/me").json()["sessionId"]), 404, "not_found")


def test_roles(gateway):
    """Each route answers 403 just below its role, and something else at it."""
    with open(f"{rig.ROOT}/services/ingest-gateway/routes.c", encoding="utf-8") as f:
        table = re.findall(r'\{"([A-Z]+)", V1 "([^"]+)", SCOPE_(OPERATE|ADMIN)', f.read())
    assert len(table) >= 14
    clients = {r: rig.Client(gateway.api, gateway.ctl("user", "create", "r-" + r, "--role", r).strip())
               for r in ("user", "operator", "admin")}
    assert clients["operator"].json("/auth/me")["scopes"] == ["read", "write", "operate"]
    for method, path, scope in table:
        path = path.replace("{id}", "00000000-0000-7000-8000-000000000000").replace("{stage}", "nonsense")
        body = None if method in ("GET", "DELETE") else {}
        problem(clients["user"].request(method, path, json=body), 403, "forbidden")
        at = clients["operator"].request(method, path, json=body)
        assert (at.status_code == 403) == (scope == "ADMIN"), (method, path, at.text)
        assert clients["admin"].request(method, path, json=body).status_code not in (401, 403, 500)
    # who loses the role loses what it gave, whatever the key says
    root = gateway.client("root", admin=True)
    user = clients["admin"].json("/auth/me")["id"]
    assert root.request("PATCH", f"/admin/users/{user}", 200, json={"role": "user"}).json()["role"] == "user"
    problem(clients["admin"].request("GET", "/admin/users"), 403, "forbidden")
    me = root.json("/auth/me")["id"]
    problem(root.request("PATCH", f"/admin/users/{me}", json={"role": "user"}), 409, "conflict")


def test_a_disabled_account_can_do_nothing(gateway):
    browser = signed_in(gateway, person(gateway, "dis"))
    key = browser.request("POST", "/api-keys", json={"name": "k"}).json()["key"]
    client = rig.Client(gateway.api, key)
    client.get("/auth/me")
    root, user = gateway.client("root", admin=True), browser.request("GET", "/auth/me").json()["id"]
    root.request("PATCH", f"/admin/users/{user}", 200, json={"disabled": True})
    problem(client.request("GET", "/auth/me"), 401, "unauthorized")
    problem(browser.request("GET", "/auth/me"), 401, "unauthorized")
    problem(Browser(gateway).login("dis"), 401, "unauthorized")
    root.request("PATCH", f"/admin/users/{user}", 200, json={"disabled": False})
    client.get("/auth/me")
    problem(browser.request("GET", "/auth/me"), 401, "unauthorized")  # ended is ended


def test_keys(gateway):
    browser, alice = signed_in(gateway, "ida"), gateway.client("alice")
    made = browser.request("POST", "/api-keys", json={"name": "ci", "scopes": ["read"], "expiresInDays": 7}).json()
    listed = {k["id"]: k for k in browser.request("GET", "/api-keys").json()["items"]}[made["id"]]
    assert made["key"] not in json.dumps(listed) and listed["lastUsedAt"] is None and listed["scopes"] == ["read"]
    client = rig.Client(gateway.api, made["key"])
    client.get("/datasets")
    used = {k["id"]: k for k in browser.request("GET", "/api-keys").json()["items"]}[made["id"]]["lastUsedAt"]
    assert used
    problem(client.request("POST", "/api-keys", json={"scopes": ["read"]}), 403, "forbidden")
    for scope in ("operate", "admin"):
        problem(browser.request("POST", "/api-keys", json={"scopes": [scope]}), 403, "forbidden")
    problem(alice.request("DELETE", f"/api-keys/{made['id']}"), 404, "not_found")
    problem(alice.request("GET", f"/api-keys?userId={made['userId']}"), 403, "forbidden")
    root = gateway.client("root", admin=True)
    assert made["id"] in [k["id"] for k in root.json(f"/api-keys?userId={made['userId']}")["items"]]
    gateway.sql("update api_key set expires_at = now() where key_id = %s", made["id"])
    rig.wait_until(lambda: client.request("GET", "/datasets").status_code == 401, 30, what="the key's end")
    out = gateway.ctl("key", "list", "ida")
    assert made["id"] in out
    gateway.ctl("key", "revoke", made["id"])
    assert made["id"] not in gateway.ctl("key", "list", "ida")


def test_a_key_for_one_dataset(gateway):
    alice = gateway.client("alice")
    one, two = alice.dataset(), alice.dataset()
    made = {d: alice.upload(d, {"a.txt": b"a"}) for d in (one, two)}
    body = {"name": "one", "scopes": ["read", "write"], "datasetIds": [one]}
    key = rig.Client(gateway.api, alice.post("/api-keys", 201, json=body).json()["key"])
    for path in ("", "/files", "/summary", "/records"):
        assert key.get(f"/datasets/{one}{path}")
        problem(key.request("GET", f"/datasets/{two}{path}"), 404, "not_found")
    key.upload(one, {"b.txt": b"b"})
    problem(key.request("POST", f"/datasets/{two}/files", files={"file": ("c", b"c")}), 404, "not_found")
    for kind, at in (("files", lambda m: m["files"][0]["id"]), ("batches", lambda m: m["batch"]["id"])):
        assert key.get(f"/{kind}/{at(made[one])}")
        problem(key.request("GET", f"/{kind}/{at(made[two])}"), 404, "not_found")
    problem(key.request("DELETE", f"/files/{made[two]['files'][0]['id']}"), 404, "not_found")
    for method, path in (("GET", "/datasets"), ("POST", "/datasets"), ("GET", "/api-keys"), ("POST", "/api-keys"),
                         ("GET", "/failures"), ("GET", "/events"), ("GET", "/auth/sessions")):
        problem(key.request(method, path, json={} if method == "POST" else None), 403, "forbidden")
    assert key.json("/auth/me")["name"] == "alice"
    problem(alice.request("POST", "/api-keys", json={"datasetIds": ["x"]}), 422, "invalid_value")
    problem(alice.request("POST", "/api-keys", json={"datasetIds": []}), 422, "invalid_value")


def test_a_password_never_comes_back(gateway):
    secret = "a very secret passphrase"
    person(gateway, "sec")
    set_password(gateway, "sec", secret)
    Browser(gateway).login("sec", secret)
    Browser(gateway).login("sec", secret + "x")
    assert secret not in gateway.process("ingest-gateway").log(0)
    assert secret not in json.dumps(gateway.sql("select * from audit"), default=str)
    weak = gateway.ctl("user", "password", "sec", check=False)
    assert weak.returncode != 0


# --- the audit log --------------------------------------------------------------------------------

def rows(gateway, **filter):
    return gateway.client("root", admin=True).json("/admin/audit", params=filter)["items"]


def test_audit_tells_who_did_what(gateway):
    browser = signed_in(gateway, "ida")
    me = browser.request("GET", "/auth/me").json()
    Browser(gateway).login("ida", "wrong password here")
    alice = gateway.client("alice")
    dataset = alice.dataset()
    file = alice.upload(dataset, {"a.txt": b"a"})["files"][0]["id"]
    gone = alice.delete(f"/files/{file}")
    alice.get(f"/datasets/{dataset}/records?format=csv")
    row = rows(gateway, action="file.delete", target=file)[0]
    assert (row["actor"], row["outcome"], row["credential"], row["requestId"]) == (
        "alice", "ok", "key", gone.headers["X-Request-Id"])
    assert row["keyId"] and row["address"] == "127.0.0.1" and row["detail"]["status"] == 202
    assert rows(gateway, action="record.export", target=dataset)[0]["actor"] == "alice"
    login = rows(gateway, action="login", userId=me["id"], outcome="ok")[0]
    assert login["target"] == me["sessionId"] and login["address"].startswith("10.1.")
    failed = rows(gateway, action="login", outcome="denied")[0]
    assert failed["actor"] == "ida" and failed["userId"] is None and failed["target"] == me["id"]
    root = gateway.client("root", admin=True)
    problem(root.request("GET", "/admin/audit?since=yesterday"), 400, "bad_request")
    problem(root.request("GET", "/admin/audit?since=2026-99-99"), 400, "bad_request")
    first = root.json("/admin/audit", params={"limit": 2})
    second = root.json("/admin/audit", params={"limit": 2, "cursor": first["nextCursor"]})
    numbers = [r["number"] for r in first["items"] + second["items"]]
    assert len(numbers) == 4 and numbers == sorted(numbers, reverse=True)
    listed = gateway.ctl("audit", "list", "--action", "login", "--json", "--limit", "3",
                         env={"DOCFLEET_ADMIN_KEY": root.key}).splitlines()
    assert [json.loads(x)["action"] for x in listed] == ["login"] * len(listed) and listed


def test_audit_rows_wait_for_postgres(gateway):
    """What was done while the row could not be written is told of later, with its time."""
    client = gateway.client("audited-late")
    with psycopg.connect(gateway.database_url, autocommit=False) as blocker:
        blocker.execute("lock table docfleet.audit in share row exclusive mode")
        begun = blocker.execute("select clock_timestamp()").fetchone()[0]
        made = client.request("POST", "/datasets", json={"name": "meanwhile", "columns": [{"name": "a", "type": "string"}]})
        assert made.status_code == 201, made.text
        released = blocker.execute("select clock_timestamp()").fetchone()[0]
        assert "audit row waits for Postgres" in gateway.process("ingest-gateway").log()
    rows = rig.wait_until(lambda: gateway.sql("select at, detail, action, outcome from audit where request_id = %s",
                                              made.headers["X-Request-Id"]), 20, what="the row")
    assert len(rows) == 1 and rows[0]["action"] == "dataset.create" and rows[0]["outcome"] == "ok"
    happened = datetime.datetime.fromisoformat(rows[0]["detail"]["happenedAt"].replace("Z", "+00:00"))
    assert begun < happened < released < rows[0]["at"]
    assert gateway.metrics("ingest-gateway").get("docfleet_audit_failures_total", 0) == 0
    gateway.ctl("audit", "verify")


def test_audit_only_grows_and_shows_changes(gateway):
    for statement in ("update audit set actor = 'x'", "delete from audit", "truncate audit"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            gateway.sql(statement)
    tip = gateway.ctl("audit", "verify").strip()
    alice = gateway.client("alice")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:  # many at once make one chain
        list(pool.map(lambda i: rig.Client(alice.api, alice.key).dataset(f"c{i}"), range(12)))
    newer = gateway.ctl("audit", "verify", "--tip", tip).strip()
    assert int(newer.split(":")[0]) >= int(tip.split(":")[0]) + 12
    other = gateway.ctl("audit", "verify", "--tip", tip[:-1] + ("0" if tip[-1] != "0" else "1"), check=False)
    assert other.returncode == 1 and "noted" in other.stderr

    number = int(tip.split(":")[0])
    before = gateway.sql("select * from audit where chain = %s", number)[0]
    for change, undo, said in (
            ("update audit set actor = 'nobody' where chain = %s", "update audit set actor = %s where chain = %s",
             "was changed"),
            ("update audit set chain = -1 where chain = %s", "update audit set chain = %s where chain = -1",
             "is missing")):
        with gateway.db() as conn:  # as one who owns the database
            conn.execute("alter table audit disable trigger user")
            conn.execute(change, (number,))
        bad = gateway.ctl("audit", "verify", check=False)
        assert bad.returncode == 1 and said in bad.stderr, bad.stderr
        with gateway.db() as conn:
            conn.execute(undo, (before["actor"], number) if "actor" in undo else (number,))
            conn.execute("alter table audit enable trigger user")
    gateway.ctl("audit", "verify", "--tip", newer)
    assert "0 rows" in gateway.ctl("audit", "prune", "--older-than", "400d")
    with gateway.db() as conn:
        conn.execute("alter table audit disable trigger user")
        conn.execute("update audit set at = at - interval '500 days' where chain < %s", (number,))
        conn.execute("alter table audit enable trigger user")
    assert not gateway.ctl("audit", "prune", "--older-than", "400d").startswith("0 rows")
    gateway.ctl("audit", "verify", "--tip", newer)
