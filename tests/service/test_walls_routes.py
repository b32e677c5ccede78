# SPDX-License-Identifier: Apache-2.0
"""The first wall: every route of openapi.yaml is asked for account A's things by another account, by
nobody, with too small a key and by a disabled account. The walk is made from the file, so a new route
is covered, or fails until `mine` says which of A's objects its path means."""
import json
import re
import secrets
import time

import pytest
import yaml
from lib import rig
from test_gateway import routes

with open(f"{rig.ROOT}/proto-schemas/openapi.yaml", encoding="utf-8") as f:
    SPEC = yaml.safe_load(f)
TOKEN = secrets.token_hex(6)
REFUSED = (401, 403, 404)
# Rows of an account and of what hangs on its files; {id} is the account.
TABLES = {
    **{t: "user_id = %(id)s" for t in ("account", "api_key", "session", "identity", "dataset", "batch",
                                      "file", "task", "record", "dead_letter", "idempotency", "import_source",
                                      "share_link")},
    **{t: "file_id in (select file_id from file where user_id = %(id)s)"
       for t in ("file_version", "artifact", "file_page", "stage_join")},
    "import_run": "import_id in (select import_id from import_source where user_id = %(id)s)",
    "schema_version": "dataset_id in (select dataset_id from dataset where user_id = %(id)s)",
}


def resolve(node):
    while isinstance(node, dict) and "$ref" in node:
        found = SPEC
        for part in node["$ref"].split("/")[1:]:
            found = found[part]
        node = found
    return node


def operations():
    """(method, path, operation, its parameters) of the whole file."""
    for path, item in SPEC["paths"].items():
        for method, op in item.items():
            if method != "parameters":
                params = [resolve(p) for p in [*item.get("parameters", ()), *op.get("parameters", ())]]
                yield method.upper(), path, op, params


ALL = list(operations())
SCOPES = routes()
PUBLIC = {(m, p) for m, p, op, _ in ALL if op.get("security") == []}


class World:
    """A with everything an account can have, and those who are not A."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.a = fleet.client(f"walk-a-{TOKEN}")
        self.b = fleet.client("walk-b-" + secrets.token_hex(4))
        self.admin = fleet.client("walk-root", admin=True)
        self.user = self.a.json("/auth/me")["id"]
        self.dataset = self.a.dataset(f"dataset-{TOKEN}")
        sent = self.a.upload(self.dataset, {
            f"file-{TOKEN}.txt": f"Invoice number: INV-{TOKEN}\nTotal amount: 12.50 EUR\n".encode(),
            f"broken-{TOKEN}.pdf": b"%PDF-1.4\n" + b"broken " * 50},
            headers={"Idempotency-Key": f"key-{TOKEN}"})
        self.batch, (self.file, self.broken) = sent["batch"]["id"], [x["id"] for x in sent["files"]]
        self.a.wait_all(self.dataset)
        self.record = self.a.json(f"/files/{self.file}/record")["items"][0]["id"]
        self.letter = fleet.one("select id from dead_letter where file_id = %s limit 1", self.broken)
        self.small = {scope: rig.Client(self.a.api, self.a.post(
            "/api-keys", 201, json={"scopes": [scope], "name": f"{scope}-{TOKEN}"}).json()["key"])
            for scope in ("read", "write")}
        self.key = self.a.json("/api-keys")["items"][0]["id"]
        self.session = str(fleet.one(
            "insert into session (session_id, user_id, token_sha256, method, expires_at) values"
            " (gen_random_uuid(), %s, '\\x00', 'password', now() + interval '1 day')"
            " returning session_id", self.user))
        link = self.a.post(f"/files/{self.file}/share", 201, json={"password": f"guest {TOKEN}"}).json()
        self.share, self.link = link["id"], link["token"]
        shadow = self.a.dataset(f"shadow-{TOKEN}")
        self.imported = str(fleet.one(
            "insert into import_source (import_id, user_id, dataset_id, shadow_id, name, prefix, created_by)"
            " values (gen_random_uuid(), %s, %s, %s, %s, 'in/', 'test') returning import_id",
            self.user, self.dataset, shadow, f"import-{TOKEN}"))
        self.run = str(fleet.one(
            "insert into import_run (run_id, import_id, no, trigger, state) values (gen_random_uuid(), %s,"
            " 1, 'manual', 'failed') returning run_id", self.imported))
        off = fleet.client("walk-off")
        fleet.sql("update account set disabled_at = now() where name = 'walk-off'")
        nobody = rig.Client(self.a.api, "none")
        del nobody.session.headers["Authorization"]
        wrong = rig.Client(self.a.api, self.a.key[:-4] + ("0000" if self.a.key[-4:] != "0000" else "1111"))
        self.strangers = {"other": self.b, "nobody": nobody, "wrong key": wrong, "disabled": off}
        # sleep of the machinery: what follows changes nothing by itself
        rig.wait_until(lambda: not fleet.sql("select 1 from event where pos is null limit 1"), 30)
        self.ids = {"userId": self.user, "datasetId": self.dataset, "fileId": self.file,
                    "batchId": self.batch, "recordId": self.record, "id": str(self.letter)}
        self.marks = {TOKEN, self.session, self.share, self.link, shadow, self.imported, self.run, *map(str, self.ids.values()), self.broken, self.key} | {
            str(r["x"]) for r in fleet.sql(
                "select sha256 as x from file_version join file using (file_id) where user_id = %s"
                " union select object_key from artifact join file using (file_id) where user_id = %s",
                self.user, self.user)}

    def mine(self, path):
        """The path with A's objects in it; those it names."""
        by_place = {"datasets": self.dataset, "files": self.file, "batches": self.batch,
                    "records": self.record, "users": self.user, "dead-letters": str(self.letter),
                    "api-keys": self.key, "sessions": self.session, "imports": self.imported, "runs": self.run,
                    "quarantine": self.file, "shares": self.share, "s": self.link,
                    "preview": "1", "stages": "text"}
        used = []

        def fill(found):
            place = found.group(1)
            assert place in by_place, f"{path}: tell World.mine what of A's follows /{place}/"
            if place not in ("preview", "stages"):
                used.append(by_place[place])
            return f"/{place}/{by_place[place]}"
        return re.sub(r"/([a-z-]+)/\{\w+\}", fill, path), used

    def state(self):
        with self.fleet.db() as conn:
            return {t: sorted(json.dumps(r, default=str, sort_keys=True) for r in conn.execute(
                f"select to_jsonb({t}) - 'last_used_at' as row from {t} where {where}",
                {"id": self.user}).fetchall()) for t, where in TABLES.items()}, self.fleet.objects(f"uploads/{self.user}/")

    def leaks(self, response, sent):
        text = response.text + json.dumps(dict(response.headers))
        return [m for m in self.marks if m in text and m not in sent]


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture
def world(fleet, kept):
    if "world" not in kept:
        kept["world"] = World(fleet)
    return kept["world"]


def example(schema, ids, name=""):
    """A value that the schema takes, with A's ids wherever an id is asked for."""
    schema = resolve(schema)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return next(v for v in schema["enum"] if v is not None)
    for word in ("oneOf", "anyOf"):
        if word in schema and "properties" in schema:  # one of them says what is required
            schema = {**schema, "required": [*schema.get("required", ()),
                                             *resolve(schema[word][0]).get("required", ())]}
        elif word in schema:
            return example(schema[word][0], ids, name)
    kind = schema.get("type")
    kind = next(k for k in kind if k != "null") if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        return {k: example(v, ids, k) for k, v in schema.get("properties", {}).items()
                if k in schema.get("required", ()) or k in ids or resolve(v).get("format") == "uuid"}
    if kind == "array":
        return [example(schema.get("items", {}), ids, "fileId" if name == "ids" else name)]
    if kind in ("integer", "number"):
        return max(schema.get("minimum", 1), 1)
    if kind == "boolean":
        return False
    if schema.get("format") == "uuid" or name in ids:
        return ids.get(name, ids["fileId"])
    return "x" * max(schema.get("minLength", 1), 8)


def call(world, client, method, path, op, params, ids, target, query=False):
    """Sends the operation to `target`; gives the answer and the text that was sent."""
    kw = {}
    body = resolve(op.get("requestBody", {})).get("content", {})
    if "application/json" in body:
        kw["json"] = example(body["application/json"].get("schema", {}), ids)
    elif "multipart/form-data" in body:
        kw["files"] = {"file": ("planted.txt", b"planted")}
    kw["params"] = {p["name"]: example(p["schema"], ids, p["name"]) for p in params
                    if p["in"] == "query" and p.get("required")}
    if query:
        kw["params"] |= {p["name"]: ids.get(p["name"], ids["fileId"]) for p in params
                        if p["in"] == "query" and resolve(p["schema"]).get("format") == "uuid"}
    response = client.request(method, target, allow_redirects=False, stream=path.endswith("/events"), **kw)
    if path.endswith("/events"):
        response._content = b""  # test_streams_carry_ones_own_events_alone looks into them
        response.close()
    return response, target + json.dumps(kw.get("json", "")) + json.dumps(kw.get("params", ""))


def test_the_walk_knows_every_route(world):
    assert {(m, p) for m, p, _, _ in ALL} == set(SCOPES)
    assert {k for k, scope in SCOPES.items() if scope == "none"} == PUBLIC
    for _, path, _, _ in ALL:
        world.mine(path)


@pytest.mark.parametrize("who", ["other", "nobody", "wrong key", "disabled"])
def test_nobody_reaches_the_things_of_another(world, who):
    before, client, failures = world.state(), world.strangers[who], []
    for method, path, op, params in ALL:
        target, used = world.mine(path)
        response, sent = call(world, client, method, path, op, params, world.ids, target)
        ok = response.status_code in REFUSED if used else response.status_code < 500
        if (method, path) in PUBLIC:
            ok = response.status_code < 500
        elif who != "other":
            ok = response.status_code == 401
        elif SCOPES[method, path] in ("operate", "admin"):
            ok = response.status_code == 403
        leaks = world.leaks(response, sent)
        if not ok or leaks:
            failures.append((method, path, response.status_code, leaks, response.text[:200]))
    assert not failures
    assert world.state() == before


def test_as_another_lists_and_filters_show_nothing(world):
    """A's ids in the query of every list, and in the bodies and queries of B's own dataset."""
    before, failures = world.state(), []
    for method, path, op, params in ALL:
        own = path.startswith("/api/v1/datasets/{id}") and method != "DELETE"
        if "{" in path and not own:
            continue
        target = path.replace("{id}", world.b.dataset()) if own else path
        response, sent = call(world, world.b, method, path, op, params, world.ids, target, query=True)
        leaks = world.leaks(response, sent)
        if response.status_code >= 500 or leaks:
            failures.append((method, path, response.status_code, leaks, response.text[:200]))
    assert not failures
    assert world.state() == before


@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_key_does_what_its_scopes_say(world, scope):
    """A's own key: with `read` no change, with `write` nothing is read; operators' routes never."""
    before, failures = world.state(), []
    for method, path, op, params in ALL:
        if SCOPES[method, path] in ("none", scope):
            continue
        target, _ = world.mine(path)
        response, sent = call(world, world.small[scope], method, path, op, params, world.ids, target)
        if response.status_code != 403 or world.leaks(response, sent):
            failures.append((method, path, response.status_code, response.text[:200]))
    assert not failures
    assert world.state() == before


def test_streams_carry_ones_own_events_alone(world):
    own = world.b.dataset()
    with world.b.events(last_event_id=0) as theirs, world.a.events() as mine:
        file = world.a.upload(world.dataset, {f"more-{TOKEN}.txt": b"more"})["files"][0]["id"]
        assert any(e["data"].get("fileId") == file for e in mine)  # it has been published
        last = world.b.upload(own, {"b.txt": b"b"})["files"][0]["id"]
        end, seen = time.monotonic() + 30, []
        for event in theirs:
            seen.append(event)
            if event["data"].get("fileId") == last or time.monotonic() > end:
                break
    assert seen[-1]["data"].get("fileId") == last
    text = json.dumps(seen)
    assert not [m for m in world.marks | {file} if m in text]
