# SPDX-License-Identifier: Apache-2.0
"""What the scan with schemathesis (tests/scan) has found, each by itself: bodies that nobody looked at,
numbers beyond 64 bits, arguments longer than the description allows, and a description that said no."""
import os

import pytest
import requests
import yaml

from lib import rig
from test_gateway import UNKNOWN, problem
from test_gateway_admin import admin, alice, gateway  # noqa: F401


def description():
    with open(os.path.join(rig.ROOT, "proto-schemas", "openapi.yaml"), encoding="utf-8") as f:
        return yaml.safe_load(f)


def strange_keys(value, where=""):
    """Names that YAML has taken for something else: no, on, 1."""
    if isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(key, str):
                yield f"{where}/{key}"
            yield from strange_keys(one, f"{where}/{key}")
        for name in value.get("required", ()) if isinstance(value.get("required"), list) else ():
            if not isinstance(name, str):
                yield f"{where}/required: {name}"
    elif isinstance(value, list):
        for n, one in enumerate(value):
            yield from strange_keys(one, f"{where}/{n}")


def test_names_in_the_description_are_texts(alice):
    assert not list(strange_keys(description()))
    assert "no" in alice.json("/openapi.json")["components"]["schemas"]["ImportRun"]["properties"]


def test_every_body_is_looked_at(gateway, admin, alice):
    """Also where the handler needs nothing of it: what is no JSON object is no right request."""
    batch = alice.upload(alice.dataset(), {"a.txt": b"a"})["batch"]["id"]
    for client, path in ((alice, f"/batches/{batch}/cancel"), (alice, f"/batches/{batch}/retry"),
                         (alice, "/auth/logout-all"), (admin, "/admin/stages/text/resume"),
                         (admin, "/admin/stages/text/pause"), (alice, f"/files/{UNKNOWN}/cancel"),
                         (admin, f"/admin/quarantine/{UNKNOWN}/release")):
        for body, status in ((b"[null]", 422), (b"false", 400), (b"\xef0", 400), (b"{", 400), (b'{"a":1,"a":2}', 400)):
            got = client.request("POST", path, data=body, headers={"Content-Type": "application/json"})
            assert got.status_code == status, (path, body, got.text)
    assert not gateway.sql("select 1 from stage_control where paused")


def test_a_tiny_weight_is_refused(admin):
    for weight in (5e-324, 0.0001, 0, -1, 1001, "1", True):
        problem(admin.request("POST", "/admin/users", json={"name": "tiny", "weight": weight}), 422, "invalid_value")
    made = admin.post("/admin/users", 201, json={"name": "tiny", "weight": None, "role": None}).json()
    assert (made["weight"], made["role"]) == (1, "user")
    for name in ("a\x1b[31m", "a\nb", "a\x7f"):  # would reach the terminals of operators
        problem(admin.request("POST", "/admin/users", json={"name": name}), 422, "invalid_value")


def test_numbers_beyond_64_bits_are_shown(alice):
    """Postgres gives 1e300 back as an integer of 301 digits, which made the whole document null."""
    dataset = alice.dataset()
    options = {"big": 1e300, "days": 5, "retentionDays": 30.0}
    alice.request("PATCH", f"/datasets/{dataset}", 200, json={"options": options})
    got = alice.json(f"/datasets/{dataset}")["options"]
    assert got == {"big": 1e300, "days": 5, "retentionDays": 30}


def test_the_audit_log_keeps_what_was_meant(admin):
    user = admin.post("/admin/users", 201, json={"name": "kept"}).json()["id"]
    admin.request("PATCH", f"/admin/users/{user}", 200, json={"weight": 2, "big": 1e300, "more": "x" * 100000})
    row = admin.json("/admin/audit", params={"target": user, "action": "user.change"})["items"][0]
    assert row["detail"] == {"status": 200, "changes": {"weight": 2}}


@pytest.mark.parametrize("path,name,most", [
    ("/datasets/{d}/files", "q", 200), ("/datasets/{d}/records", "rows", 100), ("/admin/audit", "target", 80),
    ("/admin/audit", "address", 45)])
def test_arguments_have_a_length(admin, path, name, most):
    """In characters, as the description counts them."""
    path = path.format(d=admin.dataset())
    admin.get(path, params={name: "é" * most})
    problem(admin.request("GET", path, params={name: "é" * (most + 1)}), 400, "bad_request")


def test_an_argument_given_twice_is_named(alice):
    """However long its name is, and wherever that is cut: once the answer had no body."""
    for name in ("limit", "\u0287\u01dd\u026f\u0250 \u0287\u1d09s \u0279olop" * 3, "x" + "\u20ac" * 30):
        problem(alice.request("GET", "/api-keys", params=[(name, 1), (name, 2)]), 400, "bad_request")


def test_a_list_of_states_is_no_longer_than_the_states(alice):
    path = f"/datasets/{alice.dataset()}/files"
    alice.get(path, params={"state": ",".join(["done"] * 6)})
    problem(alice.request("GET", path, params={"state": ",".join(["done"] * 7)}), 400, "bad_request")
    for state in (["done"] * 7, ",".join(["done"] * 7)):
        problem(alice.request("POST", path + "/retry", json={"filter": {"state": state}}), 422, "invalid_value")


def test_arguments_have_a_form(gateway, admin):
    for path, name, value in (("/admin/audit", "since", "2026-01-31"), ("/admin/audit", "until", "2026-01-31 10:00:00"),
                              ("/events", "lastEventId", "x")):
        for headers in ({}, {"Last-Event-ID": ""}, {"Last-Event-ID": "7"}):
            got = requests.get(gateway.api + path, params={name: value}, timeout=30, stream=True,
                               headers={"Authorization": f"Bearer {admin.key}", **headers})
            with got:
                problem(got, 400, "bad_request")
    admin.get("/admin/audit", params={"since": "2026-01-31T00:00:00+02:00"})
    name = "é" * 200  # 400 bytes
    assert admin.post("/datasets", 201, json={"name": name, "columns": [{"name": "A", "type": "string"}]}).json()["name"] == name
    problem(admin.request("POST", "/datasets", json={"name": name + "é", "columns": [{"name": "A", "type": "string"}]}),
            422, "invalid_value")
