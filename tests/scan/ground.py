# SPDX-License-Identifier: Apache-2.0
"""What both scans stand on: a fleet with something of every kind in it, so that generated requests hit
things that exist.

Everything is there twice: to be looked at and changed, and (`doomed_...`) to be removed, since a scan
that has deleted its only dataset tests nothing but 404.
"""
import os

from lib import importing, rig

FEW = ("samples/invoice.pdf", "note.txt", "hostile/encrypted.pdf")
MANY = FEW + ("samples/contract.docx", "samples/order.eml", "table.csv",
              "hostile/pixel-bomb.png")
PEOPLE = {"alice": "user", "bob": "user", "opal": "operator", "root": "admin"}
DOOMED = 40


# Behind a 429 nothing else is tried; tests/service/test_limits.py tries the limits.
NO_LIMITS = {f"DOCFLEET_RATE_{name}": "0" for name in ("KEY", "USER", "ADDRESS", "FAILURES")}


def document(name):
    with open(os.path.join(rig.FIXTURES, name), "rb") as f:
        return os.path.basename(name), f.read()


def client_of(fleet, name, role):
    if role == "operator":
        out = fleet.ctl("user", "create", name, "--role", role)
        return rig.Client(fleet.api, out.strip().splitlines()[-1].strip())
    return fleet.client(name, admin=role == "admin")


def column(kind, n):
    made = {"name": f"{kind} {n}", "type": kind, "description": f"some {kind}", "required": False}
    if kind == "enum":
        made["enum"] = ["a", "b"]
    if kind == "rows":
        made["itemColumns"] = [{"name": "item", "type": "string"}, {"name": "price", "type": "money"}]
    return made


def belongings(fleet, client, admin, name, doomed=DOOMED):
    """Datasets, files, batches, keys and an import of one account; gives {kind: [ids]}."""
    kinds = ("string", "number", "integer", "boolean", "date", "datetime", "money", "enum", "rows")
    ids = {"datasets": [client.dataset(), client.dataset(
        columns=[column(k, i) for i, k in enumerate(kinds)])]}
    ids["files"], ids["batches"] = [], []
    for dataset in ids["datasets"]:
        got = client.upload(dataset, [document(d) for d in (MANY if name == "alice" else FEW)])
        ids["files"] += [f["id"] for f in got["files"] if "id" in f]
        ids["batches"].append(got["batch"]["id"])
    ids["doomed_datasets"] = [client.dataset() for _ in range(doomed)]
    got = client.upload(client.dataset(), {f"{i}.txt": b"doomed %d" % i for i in range(doomed)})
    ids["doomed_files"] = [f["id"] for f in got["files"]]
    ids["doomed_keys"] = [client.post("/api-keys", 201, json={"name": f"doomed {i}"}).json()["id"]
                          for i in range(doomed)]
    links = [client.post(f"/files/{file}/share", 201, json=body).json()
             for body in ({}, {"password": "a word for guests"}) for file in ids["files"][:2]]
    ids["tokens"], ids["words"] = [made["token"] for made in links], ["a word for guests"]
    ids["doomed_shares"] = [client.post(f"/files/{file}/share", 201, json={}).json()["id"]
                            for file in ids["files"] for _ in range(5)]
    source = importing.Source(fleet, f"in-{name}/", user=name)
    source.put("one.txt")
    source.put("two.pdf", document(FEW[0])[1])
    ids["imports"] = [source.id]
    ids["doomed_imports"] = [admin.post("/imports", 201, json={
        "name": f"doomed {i}", "datasetId": source.dataset, "prefix": f"no-{name}-{i}/"}).json()["id"]
        for i in range(doomed)]
    return ids, source


class Alone(rig.Servers):
    """Postgres and the store without Kafka: the gateway does its work all the same."""

    def start(self):
        self._init_postgres()
        self.start_postgres()
        self.start_s3()
        rig.wait_until(self.postgres_answers, 60, what="Postgres")
        rig.wait_until(self.s3_answers, 60, what="versitygw")


class Gateway(rig.Fleet):
    """A fleet of one gateway, on servers without Kafka."""

    def prepare(self):
        self.ctl("migrate")
        self.ctl("bucket", "create")


def bare(fleet):
    """Only what the gateway itself makes, for a fleet without workers: (clients, {"alice": {kind: [ids]}})."""
    clients = {name: client_of(fleet, name, PEOPLE[name]) for name in ("alice", "root")}
    ids, source = belongings(fleet, clients["alice"], clients["root"], "alice", doomed=5)
    ids.update(runs=[source.ask()], records=[], letters=[], users=[
        clients["root"].post("/admin/users", 201, json={"name": "doomed"}).json()["id"]])
    return clients, {"alice": ids}


def build(servers, env=None, gateway_build="release", gateway_env=None):
    """A fleet that has worked, now with stages that return at once, and what is in it: (fleet, clients,
    {person: {kind: [ids]}})."""
    fleet = rig.Fleet(servers)
    fleet.env.update(NO_LIMITS, **(env(fleet) if env else {}))
    fleet.start("ingest-gateway", build=gateway_build, env=gateway_env)
    fleet.start(*(s for s in rig.SERVICES if s != "ingest-gateway"))
    clients = {name: client_of(fleet, name, role) for name, role in PEOPLE.items()}
    admin = clients["root"]
    ids, sources = {}, {}
    for name in ("alice", "bob", "root"):
        ids[name], sources[name] = belongings(fleet, clients[name], admin, name)
    for name, source in sources.items():
        run = source.ask()
        importing.run(fleet)
        source.ask()  # one that is open
        ids[name]["runs"] = [run]
    doomed_users = [admin.post("/admin/users", 201, json={"name": f"doomed-{i}"}).json()["id"]
                    for i in range(DOOMED)]
    for name in ids:
        for dataset in ids[name]["datasets"]:
            clients[name].wait_all(dataset, 600)
        ids[name]["records"] = [str(r["record_id"]) for r in fleet.sql(
            "select record_id from record join file using (file_id) where file_id::text = any(%s)",
            ids[name]["files"])]
        ids[name]["users"] = doomed_users
        ids[name]["letters"] = [str(r["id"]) for r in fleet.sql("select id from dead_letter")]
        assert ids[name]["records"] and ids[name]["letters"], "documents were not read"
    workers = [s for s in fleet.processes if s not in ("ingest-gateway", "dispatcher", "cleaner")]
    fleet.stop(*workers, timeout=60)
    for stage in importing.SLEEP_STAGES:
        fleet.start_sleepers(stage, 1, 4, env=importing.QUICK)
    return fleet, clients, ids
