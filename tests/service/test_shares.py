# SPDX-License-Identifier: Apache-2.0
"""Share links: whoever has one downloads one file, and nothing else, as often and as long as it says."""
import concurrent.futures
import json
import secrets

import pytest
import requests
from lib import rig
from test_gateway import problem
from test_gateway_admin import admin  # noqa: F401

TEXT = b"the shared text\n" * 40
WORD = "a word for guests"


@pytest.fixture(scope="module")
def gateway(servers):
    """Only the gateway runs: nothing takes the tasks away."""
    made = rig.Fleet(servers, {"DOCFLEET_TRUSTED_PROXIES": "127.0.0.1"})
    made.start("ingest-gateway")
    yield made
    made.stop()


@pytest.fixture
def alice(gateway):
    return gateway.client("alice-" + secrets.token_hex(4))


@pytest.fixture
def shared(gateway, alice):
    dataset = alice.dataset()
    return alice.upload(dataset, {"plan (b) é.txt": TEXT})["files"][0]["id"]


def link(client, file, **body):
    return client.post(f"/files/{file}/share", 201, json=body).json()


class Guest:
    """Somebody without an account; keeps cookies, as a browser."""

    def __init__(self, fleet, made, url=None):
        self.url, self.token = url or fleet.url, made["token"]
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, rest="", **kw):
        return self.session.get(f"{self.url}/s/{self.token}{rest}", timeout=30, **kw)

    def unlock(self, password, **kw):
        return self.session.post(f"{self.url}/s/{self.token}/unlock", json={"password": password}, timeout=30, **kw)


def test_a_links_life(gateway, alice, shared):
    made = link(alice, shared)
    assert made["shareUrl"] == f"{gateway.url}/s/{made['token']}" and not made["passwordProtected"]
    days = gateway.one("select extract(epoch from expires_at - created_at) / 86400 from share_link where share_id"
                       " = %s", made["id"])
    assert round(days) == 30
    guest = Guest(gateway, made)
    about = guest.get()
    assert about.status_code == 200 and about.headers["X-Robots-Tag"] == "noindex"
    assert about.json() == {"name": "plan (b) é.txt", "size": len(TEXT), "mime": "text/plain",
                            "expiresAt": made["expiresAt"], "downloadsLeft": None, "passwordProtected": False,
                            "downloadUrl": f"/s/{made['token']}/download"}
    got = guest.get("/download")
    assert got.content == TEXT and got.headers["Content-Disposition"].startswith("attachment;")
    assert got.headers["X-Content-Type-Options"] == "nosniff" and "sandbox" in got.headers["Content-Security-Policy"]
    assert got.headers["Referrer-Policy"] == "no-referrer" and "Set-Cookie" not in got.headers
    # parts are given, and only what begins at the first byte counts
    part = guest.get("/download", headers={"Range": "bytes=4-9"})
    assert part.status_code == 206 and part.content == TEXT[4:10]
    assert guest.get("/download", headers={"Range": "bytes=0-3"}).content == TEXT[:4]
    assert guest.session.head(f"{gateway.url}/s/{made['token']}/download", timeout=30).status_code == 200
    assert guest.get("/download", headers={"If-None-Match": got.headers["ETag"]}).status_code == 304
    listed = alice.json(f"/files/{shared}/shares")["items"]
    assert len(listed) == 1 and listed[0]["downloads"] == 2 and listed[0]["open"] and listed[0]["lastDownloadAt"]
    assert alice.json("/shares")["items"] == listed and made["token"] not in json.dumps(listed)
    alice.delete(f"/files/{shared}/shares/{made['id']}", 204)
    for rest in ("", "/download"):
        problem(guest.get(rest), 410, "share_ended")
    assert not alice.json("/shares")["items"][0]["open"] and alice.json("/shares")["items"][0]["revokedAt"]
    problem(requests.get(f"{gateway.url}/s/{'0' * 32}", timeout=10), 404, "not_found")
    problem(requests.get(f"{gateway.url}/s/{'0' * 31}", timeout=10), 404, "not_found")


def test_a_link_ends(gateway, alice, shared):
    user = alice.json("/auth/me")["id"]
    ways = {
        "time": lambda m: gateway.sql("update share_link set expires_at = now() where share_id = %s", m["id"]),
        "account": lambda m: gateway.sql("update account set disabled_at = now() where user_id = %s", user),
        "file": lambda m: alice.delete(f"/files/{shared}")}
    for name, end in ways.items():
        made = link(alice, shared)
        guest = Guest(gateway, made)
        assert guest.get("/download").status_code == 200
        end(made)
        for rest in ("", "/download"):
            problem(guest.get(rest), 410, "share_ended")
        problem(guest.unlock("x"), 410, "share_ended")
        gateway.sql("update account set disabled_at = null where user_id = %s", user)
        assert (guest.get("/download").status_code == 200) == (name == "account")
    assert not alice.json("/shares")["items"], "links of a removed file are not shown"
    problem(alice.request("POST", f"/files/{shared}/share", json={}), 404, "not_found")


def test_with_a_password(gateway, alice, shared):
    made, other = link(alice, shared, password=WORD), link(alice, shared, password="another word")
    guest = Guest(gateway, made)
    for rest in ("", "/download"):
        got = guest.get(rest)
        problem(got, 401, "password_required")
        assert got.json()["passwordRequired"] is True and "plan" not in got.text
    wrong = guest.unlock("another word")
    problem(wrong, 401, "wrong_password")
    assert "Set-Cookie" not in wrong.headers
    right = guest.unlock(WORD)
    assert right.status_code == 200 and right.json()["name"] == "plan (b) é.txt"
    cookie = right.headers["Set-Cookie"]
    assert cookie.startswith(f"docfleet_share_{made['id'][-12:]}=")
    assert cookie.endswith("; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict")
    assert guest.get().status_code == 200 and guest.get("/download").content == TEXT
    # the cookie is good for this link alone, until its time, and not after another password
    value = cookie.split("=", 1)[1].split(";")[0]
    until, mac = value.split(".")
    stranger = Guest(gateway, other)
    for name, bad in ((made["id"], value), (other["id"], value), (other["id"], f"{int(until) + 9999}.{mac}"),
                      (other["id"], "1." + mac), (other["id"], "x"), (other["id"], "." + mac)):
        got = stranger.session.get(f"{gateway.url}/s/{other['token']}/download", timeout=10,
                                   headers={"Cookie": f"docfleet_share_{name[-12:]}={bad}"})
        problem(got, 401, "password_required")
    gateway.start("ingest-gateway#2")  # a replica knows it, too
    try:
        there = requests.get(f"{gateway.gateway_url('ingest-gateway#2')}/s/{made['token']}/download", timeout=10,
                             headers={"Cookie": cookie.split(";")[0]})
        assert there.status_code == 200 and there.content == TEXT
    finally:
        gateway.stop("ingest-gateway#2")
    gateway.sql("update share_link set password_hash = (select password_hash from share_link where share_id = %s)"
                " where share_id = %s", other["id"], made["id"])
    problem(guest.get("/download"), 401, "password_required")
    secure = Guest(gateway, other).unlock("another word", headers={"X-Forwarded-Proto": "https"})
    assert secure.headers["Set-Cookie"].startswith("__Host-docfleet_share_") and "; Secure" in secure.headers["Set-Cookie"]
    problem(Guest(gateway, other).unlock("another word", headers={"Sec-Fetch-Site": "cross-site"}), 403, "csrf")


def test_guesses_are_slowed_down_for_this_link_alone(gateway, alice, shared):
    made, other = link(alice, shared, password=WORD), link(alice, shared, password=WORD)
    guest = Guest(gateway, made)
    for _ in range(5):
        problem(guest.unlock("wrong wrong"), 401, "wrong_password")
    got = guest.unlock(WORD)
    problem(got, 429, "too_many_tries")
    assert int(got.headers["Retry-After"]) > 1
    assert Guest(gateway, other).unlock(WORD).status_code == 200


def test_no_download_more_than_it_says(gateway, alice, shared):
    made = link(alice, shared, maxDownloads=7)
    gateway.start("ingest-gateway#2")
    try:
        guests = [Guest(gateway, made, url) for url in (gateway.url, gateway.gateway_url("ingest-gateway#2"))] * 15
        with concurrent.futures.ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(lambda g: g.get("/download", headers={"Range": "bytes=1-"}), guests))
    finally:
        gateway.stop("ingest-gateway#2")
    assert sorted(a.status_code for a in answers) == [200] * 7 + [410] * 23
    assert all(a.content == TEXT and a.headers["Accept-Ranges"] == "none" for a in answers if a.status_code == 200)
    one = alice.json(f"/files/{shared}/shares")["items"][0]
    assert (one["downloads"], one["maxDownloads"], one["open"]) == (7, 7, False)


def test_a_file_that_the_scanner_holds_back(gateway, alice, shared):
    guest = Guest(gateway, link(alice, shared))
    gateway.sql("insert into task (user_id, file_id, stage, unit, generation) select user_id, file_id, 7, 0,"
                " generation from file where file_id = %s", shared)
    for rest in ("", "/download"):
        problem(guest.get(rest), 409, "not_scanned")
    gateway.sql("update task set state = 4, q = null where file_id = %s and stage = 7", shared)
    assert guest.get("/download").status_code == 200
    gateway.sql("update file set state = 5 where file_id = %s", shared)
    for rest in ("", "/download"):
        problem(guest.get(rest), 403, "quarantined")


def test_what_is_refused(gateway, alice, admin, shared):
    for body in ({"expiresInDays": 0}, {"expiresInDays": 366}, {"maxDownloads": 0}, {"maxDownloads": "3"},
                 {"password": 12345678}):
        assert alice.request("POST", f"/files/{shared}/share", json=body).status_code in (400, 422), body
    for weak in ("short", "aaaaaaaaaaaa"):
        problem(alice.request("POST", f"/files/{shared}/share", json={"password": weak}), 422, "weak_password")
    made = link(alice, shared)
    for stranger in (gateway.client("bob"), admin):  # an operator's scope gives nothing here either
        problem(stranger.request("POST", f"/files/{shared}/share", json={}), 404, "not_found")
        problem(stranger.request("GET", f"/files/{shared}/shares"), 404, "not_found")
        problem(stranger.request("DELETE", f"/files/{shared}/shares/{made['id']}"), 404, "not_found")
        assert not stranger.json("/shares")["items"]
    other = alice.upload(alice.dataset(), {"b.txt": b"b"})["files"][0]["id"]
    problem(alice.request("DELETE", f"/files/{other}/shares/{made['id']}"), 404, "not_found")
    limited = alice.post("/api-keys", 201, json={"datasetIds": [alice.file(other)["datasetId"]],
                                                 "scopes": ["read", "write"]}).json()["key"]
    limited = rig.Client(alice.api, limited)
    assert link(limited, other)
    problem(limited.request("POST", f"/files/{shared}/share", json={}), 404, "not_found")
    problem(limited.request("GET", "/shares"), 403, "forbidden")


def test_a_file_has_so_many_links(gateway, alice, shared):
    gateway.sql("insert into share_link (share_id, file_id, user_id, token_sha256, expires_at) select"
                " gen_random_uuid(), file_id, user_id, sha256((file_id::text || i)::bytea), now() + interval '1 day'"
                " from file, generate_series(1, 49) i where file_id = %s", shared)
    made = link(alice, shared)
    problem(alice.request("POST", f"/files/{shared}/share", json={}), 409, "conflict")
    alice.delete(f"/files/{shared}/shares/{made['id']}")
    assert link(alice, shared)
    pages, cursor = [], ""
    while cursor is not None:
        page = alice.json(f"/files/{shared}/shares?limit=20" + (f"&cursor={cursor}" if cursor else ""))
        pages, cursor = pages + page["items"], page["nextCursor"]
    assert len({s["id"] for s in pages}) == len(pages) == 51
    # what ended a month ago goes when the next one is made
    gateway.sql("update share_link set expires_at = now() - interval '31 days' where file_id = %s", shared)
    link(alice, shared)
    assert gateway.one("select count(*) from share_link where file_id = %s", shared) == 1 + 1  # and the revoked one


def test_a_repeated_call_makes_no_second_link(gateway, alice, shared):
    headers = {"Idempotency-Key": "k-" + secrets.token_hex(4)}
    body = {"password": WORD, "maxDownloads": 3}
    alice.post(f"/files/{shared}/share", 201, json=body, headers=headers)
    problem(alice.request("POST", f"/files/{shared}/share", json=body, headers=headers), 409, "secret_not_kept")
    problem(alice.request("POST", f"/files/{shared}/share", json={"maxDownloads": 4}, headers=headers), 409,
            "idempotency_conflict")
    assert len(alice.json(f"/files/{shared}/shares")["items"]) == 1


def test_secrets_are_nowhere(gateway, alice, admin, shared):
    made = link(alice, shared, password=WORD)
    guest = Guest(gateway, made)
    guest.unlock("not the password")
    assert guest.unlock(WORD).status_code == 200 and guest.get("/download").status_code == 200
    actions = {r["action"]: r for r in admin.json("/admin/audit?limit=50")["items"]
               if "share" in r["action"] and made["id"] in json.dumps(r)}
    assert set(actions) == {"share.create", "share.unlock", "share.download"}
    assert actions["share.download"]["target"] == made["id"]
    kept = [json.dumps(gateway.sql(f"select * from {t}"), default=str) for t in
            ("share_link", "audit", "idempotency", "login_throttle", "event")]
    for text in (*kept, gateway.process("ingest-gateway").log()):
        assert made["token"] not in text and WORD not in text and "not the password" not in text


def test_links_switched_off(gateway, alice, shared):
    made = link(alice, shared)
    gateway.restart("ingest-gateway", env={"DOCFLEET_SHARE_DAYS_MAX": "0"})
    try:
        problem(alice.request("POST", f"/files/{shared}/share", json={}), 403, "forbidden")
        problem(Guest(gateway, made).get("/download"), 410, "share_ended")
        assert alice.json("/shares")["items"]
    finally:
        gateway.restart("ingest-gateway")


def test_browsers_get_a_page(gateway, alice, shared):
    made = link(alice, shared, password=WORD)
    guest, html = Guest(gateway, made), {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = guest.get(headers=html)
    assert page.status_code == 200 and page.headers["Content-Type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"] and "plan" not in page.text
    assert page.headers["Cache-Control"] == "no-store" and page.headers["X-Robots-Tag"] == "noindex"
    assert guest.get(headers={"Accept": "*/*"}).headers["Content-Type"] == "application/problem+json"
    alice.delete(f"/files/{shared}/shares/{made['id']}")
    gone = guest.get(headers=html)
    assert gone.status_code == 410 and gone.headers["Content-Type"].startswith("text/html")
    assert requests.get(f"{gateway.url}/s/{'0' * 32}", headers=html, timeout=10).status_code == 404


def test_from_the_command_line(gateway, alice, shared, tmp_path):
    env = {"DOCFLEET_URL": gateway.url, "DOCFLEET_API_KEY": alice.key}
    word = tmp_path / "word"
    word.write_text(WORD + "\n")
    run = gateway.ctl("share", "create", shared, "--days", "3", "--downloads", "2", "--password-file", str(word),
                      env=env, check=False)
    url = run.stdout.strip()
    assert run.returncode == 0, run.stderr
    assert "until" in run.stderr and "only this once" in run.stderr
    got = requests.get(url, timeout=10)
    problem(got, 401, "password_required")
    made = json.loads(gateway.ctl("share", "create", shared, "--json", env=env))
    assert requests.get(made["shareUrl"] + "/download", timeout=10).content == TEXT
    listed = gateway.ctl("share", "list", shared, env=env).splitlines()
    assert len(listed) == 2 and "open until" in listed[0] and "1 downloads" in listed[0]
    assert "0 of 2 downloads, password" in listed[1]
    once = json.loads(gateway.ctl("share", "create", shared, "--downloads", "1", "--json", env=env))
    assert requests.get(once["shareUrl"] + "/download", timeout=10).status_code == 200
    assert "used up" in gateway.ctl("share", "list", shared, env=env).splitlines()[0]
    gateway.sql("delete from share_link where share_id = %s", once["id"])
    assert gateway.ctl("share", "revoke", shared, made["id"], env=env).strip().endswith("is revoked")
    problem(requests.get(made["shareUrl"], timeout=10), 410, "share_ended")
    every = [json.loads(line) for line in gateway.ctl("share", "list", "--json", env=env).splitlines()]
    assert [e["open"] for e in every if e["fileId"] == shared] == [False, True]
    refused = gateway.ctl("share", "create", "no-id", env=env, check=False)
    assert refused.returncode == 2
