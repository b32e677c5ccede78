# SPDX-License-Identifier: Apache-2.0
"""What an account may use: files and bytes at the door and together, pages while they are read, and who may set it."""
import concurrent.futures
import json

import pytest

from lib import rig
from test_gateway import problem

REPLICAS = ("ingest-gateway", "ingest-gateway#2")
TEXT = b"Invoice number: 4711\nTotal amount: 3 EUR\n"


@pytest.fixture(scope="module")
def gateway(servers):
    made = rig.Fleet(servers)
    made.start(*REPLICAS)
    yield made
    made.stop()


@pytest.fixture
def root(gateway):
    return gateway.client("root", admin=True)


class Account:
    """A user of its own with a dataset and limits."""
    count = 0

    def __init__(self, fleet, **limits):
        Account.count += 1
        self.fleet, self.client = fleet, fleet.client(f"quota-{Account.count}")
        self.id, self.dataset = self.client.json("/auth/me")["id"], self.client.dataset()
        if limits:
            self.limit(**limits)

    def limit(self, **limits):
        path = f"/admin/users/{self.id}/quota"
        return self.fleet.client("root", admin=True).request("PUT", path, 200, json=limits).json()

    def used(self, kind=None):
        usage = {k: v["used"] for k, v in self.client.json("/usage").items() if k != "month"}
        return usage[kind] if kind else usage

    def upload(self, files, **kw):
        return self.client.upload(self.dataset, files, **kw)

    def check(self):
        """What is told is what the rows say."""
        rows = self.fleet.sql("select count(*) as files, coalesce(sum(bytes), 0)::bigint as bytes from file"
                              " where user_id = %s and state < 6", self.id)[0]
        used = self.used()
        assert (used["files"], used["bytes"]) == (rows["files"], rows["bytes"])
        return used


def test_without_limits_usage_is_told(gateway):
    who = Account(gateway)
    who.upload({"a.txt": b"x" * 100, "b.txt": b"y" * 23})
    usage = who.client.json("/usage")
    assert usage["files"] == {"used": 2, "limit": None} and usage["bytes"] == {"used": 123, "limit": None}
    assert usage["pages"]["used"] == 0 and usage["money"] == {"used": 0.0, "limit": None}
    assert usage["month"] == gateway.one("select to_char(now() at time zone 'UTC', 'YYYY-MM')")


def test_parts_that_do_not_fit_are_refused_alone(gateway):
    who = Account(gateway, bytes=1000)
    got = who.upload([("a.txt", b"a" * 600), ("b.txt", b"b" * 600), ("c.txt", b"c" * 400)])
    assert got["batch"] | {"id": ""} == {"id": "", "total": 3, "accepted": 2, "rejected": 1}
    error = got["files"][1]["error"]
    assert error == {"code": "quota_exceeded",
                     "detail": "quota of bytes: limit 1000, used 600, asked for 600 more"}
    assert [f.get("state") for f in got["files"]] == ["processing", None, "processing"]
    assert who.check() == {"files": 2, "bytes": 1000, "pages": 0, "money": 0.0}
    keys = {o["Key"] if isinstance(o, dict) else o for o in gateway.objects(f"uploads/{who.id}/")}
    assert len(keys) == 2, keys


def test_at_the_limit_nothing_is_read(gateway):
    who = Account(gateway, files=1)
    kept = {"Idempotency-Key": "once"}
    first = who.upload({"a.txt": b"one"}, headers=kept)
    refused = who.client.request("POST", f"/datasets/{who.dataset}/files", files=[("file", ("b.txt", b"two"))])
    body = problem(refused, 403, "quota_exceeded") or refused.json()
    assert body["detail"] == "quota of files: limit 1, used 1, asked for 1 more"
    assert body["errors"][0]["pointer"] == "/files"
    assert who.upload({"a.txt": b"one"}, headers=kept) == first  # an answer is given again
    # what is removed gives back its place
    who.client.delete(f"/files/{first['files'][0]['id']}")
    assert who.check() == {"files": 0, "bytes": 0, "pages": 0, "money": 0.0}
    assert who.upload({"b.txt": b"two"})["batch"]["accepted"] == 1
    who.limit(files=None)
    assert who.upload({"c.txt": b"three"})["batch"]["accepted"] == 1


@pytest.mark.parametrize("limits", [{"files": 5}, {"bytes": 5 * 40}])
def test_uploads_at_once_do_not_exceed_it_together(gateway, limits):
    who = Account(gateway, **limits)

    def one(i):
        client = rig.Client(gateway.gateway_url(REPLICAS[i % 2]) + "/api/v1", who.client.key)

        def answered():
            """On a machine that does much else a turn may come too late: 503, and nothing is accepted."""
            sent = client.request("POST", f"/datasets/{who.dataset}/files", files=[("file", (f"{i}.txt", b"z" * 40))])
            return (sent,) if sent.status_code != 503 else None
        (got,) = rig.wait_until(answered, 60)
        if got.status_code == 403:
            return got.json()["code"], 0
        assert got.status_code == 202, got.text
        return got.json()["files"][0].get("error", {}).get("code"), got.json()["batch"]["accepted"]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        got = list(pool.map(one, range(24)))
    assert sum(n for _, n in got) == 5
    assert {code for code, n in got if not n} == {"quota_exceeded"}
    assert who.check()["files"] == 5


def test_the_command_line_shows_and_sets_it(gateway):
    who = Account(gateway)
    key = gateway.user_key("root", admin=True)
    admin, own = {"DOCFLEET_ADMIN_KEY": key}, {"DOCFLEET_API_KEY": who.client.key}
    out = gateway.ctl("users", "quota", who.id, "--files", "7", "--bytes", "2KiB", "--money", "1.5", env=admin)
    assert out.splitlines() == ["files  0 of 7", "bytes  0 of 2048", "pages  0 of any this month",
                                "money  0 of 1.5 this month"]
    assert gateway.ctl("usage", env=own) == out
    told = json.loads(gateway.ctl("users", "quota", who.id, "--money", "none", "--files", "default", "--json", env=admin))
    assert told["limits"] == {"files": None, "bytes": 2048, "pages": None, "money": "none"}
    for wrong in (("--files", "many"), ("--bytes", "-1"), ("--money", "x"), ("--pages", "1.5")):
        assert gateway.ctl("users", "quota", who.id, *wrong, env=admin, check=False).returncode == 2
    row = gateway.one("select detail from audit where action = 'user.quota' and target = %s order by chain desc limit 1",
                      who.id)
    assert row["limits"] == {"files": None, "money": "none"}


def test_a_default_holds_for_all_without_their_own(gateway, root):
    who, free = Account(gateway), Account(gateway, files="none")
    key = {"DOCFLEET_ADMIN_KEY": gateway.user_key("root", admin=True)}
    try:
        assert "files  1\n" in gateway.ctl("users", "quota", "--files", "1", env=key)
        who.upload({"a.txt": b"one"})
        problem(who.client.request("POST", f"/datasets/{who.dataset}/files", files=[("file", ("b.txt", b"two"))]),
                403, "quota_exceeded")
        assert free.upload({"a.txt": b"one", "b.txt": b"two"})["batch"]["accepted"] == 2
        assert root.json("/admin/quota") == {"limits": {"files": 1, "bytes": None, "pages": None, "money": None}}
    finally:
        root.request("PUT", "/admin/quota", 200, json={"files": None})
    assert who.upload({"b.txt": b"two"})["batch"]["accepted"] == 1


def test_wrong_limits_are_refused(gateway, root):
    who = Account(gateway)
    for body in ({}, {"files": -1}, {"bytes": 1.5}, {"pages": "some"}, {"money": 1e12}, {"files": True}):
        problem(root.request("PUT", f"/admin/users/{who.id}/quota", json=body), 422, "invalid_value")
    for missing in ("00000000-0000-0000-0000-000000000000", "01a20366-c1e3-7001-8422-cf2e8c3b57ca"):
        problem(root.request("PUT", f"/admin/users/{missing}/quota", json={"files": 1}), 404, "not_found")
        problem(root.request("GET", f"/admin/users/{missing}/quota"), 404, "not_found")
    problem(who.client.request("PUT", f"/admin/users/{who.id}/quota", json={"files": 9}), 403, "forbidden")


def test_pages_are_counted_once_and_held(fleet, fixture_path):
    """The whole fleet: a document above the pages that are left fails, and goes on when there are more."""
    who = Account(fleet)
    done = who.upload([fixture_path("invoice.pdf"), ("note.txt", TEXT)])
    who.client.wait_all(who.dataset)
    pages = fleet.one("select count(distinct (p.file_id, p.page)) from file_page p join file using (file_id)"
                      " where user_id = %s", who.id)
    assert who.used("pages") == pages >= 2
    who.limit(pages=float(pages + 1))
    late = who.upload([("one.txt", TEXT + b"one"), fixture_path("invoice-scan.png")])
    states = sorted(who.client.wait_done(f["id"])["state"] for f in late["files"])
    assert states == ["done", "failed"] and who.used("pages") == pages + 1
    failed = [f for f in map(who.client.file, (f["id"] for f in late["files"])) if f["state"] == "failed"][0]
    error = failed["pipelines"]["main"]["error"]
    assert error["code"] == "quota_exceeded" and error["class"] == "permanent" and error["retryable"] \
        and "usage" in error["advice"]
    who.limit(pages="none")
    who.client.post(f"/files/{failed['id']}/retry", 202, json={})
    assert who.client.wait_done(failed["id"])["state"] == "done"
    assert who.used("pages") == pages + 2
    # a new generation reads them again; the cleaner's folding changes nothing of it
    who.client.post(f"/files/{done['files'][1]['id']}/retry", 202, json={"from": "text"})
    assert who.client.wait_done(done["files"][1]["id"])["state"] == "done"
    rig.wait_until(lambda: who.used("pages") == pages + 3)
    before = who.check()
    fleet.restart("cleaner", env={"DOCFLEET_CLEAN_INTERVAL": "500ms"})
    rig.wait_until(lambda: not fleet.one("select count(*) from usage_delta where user_id = %s", who.id), 60)
    assert who.check() == before
