# SPDX-License-Identifier: Apache-2.0
"""What every test of the fault matrix needs: a fleet, a load, a limit, and what must hold after.

    with matrix.arena(new_fleet, "F02", "after_commit", seed=1) as a:
        a.start()
        a.load()
        ... the fault ...
        a.quiesce(60)
        a.check()

Load: 300 files of 30 users, one of them an elephant with 200, through workers that sleep, unless a
test says otherwise. Every run leaves a line in build/chaos/matrix.json. FULL=1 runs every variant,
without it a short subset; times are scaled down (FAST) except where a test says `defaults=True`,
and the line says which.
"""
import contextlib
import hashlib
import json
import os
import random
import secrets
import signal
import threading
import time
import uuid

import psycopg
import pytest
import requests

from chaos import checks, world
from chaos.proxy import Proxy
from lib import invariants, rig

FULL, LONG = rig.FULL, rig.LONG
RESULTS = os.path.join(rig.ROOT, "build", "chaos", "matrix.json")
WORKER = {"text": "text-extractor", "ocr": "ocr-fallback", "ai": "ai-extractor",
          "preview": "preview-worker", "thumbnail": "thumbnail-worker"}
STAGE = {"text": 1, "ocr": 2, "ai": 3, "preview": 4, "thumbnail": 5, "clean": 6}
FAST = {"DOCFLEET_LEASE": "2s", "DOCFLEET_DISPATCH_TIMEOUT": "2s", "DOCFLEET_SWEEP_INTERVAL": "200ms",
        "DOCFLEET_SECOND_PASS": "500ms", "DOCFLEET_KAFKA_SESSION_TIMEOUT": "6s"}
LEASE, DISPATCH = 2.0, 2.0
full = pytest.mark.full


def seed_of(name):
    """A seed for a test: its own, the same each time, unless SEED says another."""
    return int(os.environ.get("SEED", 0)) or int(hashlib.sha256(name.encode()).hexdigest()[:6], 16)


def in_full(*values):
    """Parameters that only the whole matrix runs."""
    return [pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=full) for v in values]


class Arena:
    """A fleet under load, the client's ledger of what was accepted, and figures."""

    def __init__(self, new_fleet, fault, variant="", seed=None, env=None, faults=False,
                 defaults=False, proxied=()):
        self.fault, self.variant = fault, variant
        self.seed = seed or seed_of(fault + variant)
        self.random = random.Random(self.seed)
        self.defaults = defaults
        self.fleet = new_fleet(env={**({} if defaults else FAST), **(env or {})},
                               build="release-faults" if faults else "release")
        self.servers = self.fleet.servers
        with psycopg.connect(self.fleet.database_url, autocommit=True) as conn:
            conn.execute(world.AUDIT)
        self.proxy = self._proxied(proxied) if proxied else None
        self.accepted, self.figures, self.refused = {}, {}, 0
        self.users, self.datasets, self.clients = [], {}, {}
        self.began = time.monotonic()
        self.sleep, self.slots = (0.1, 0.3), 4
        self._lock = threading.Lock()

    def adopt(self, other):
        """The load and the checks on a fleet that is not this one's: a chaos.world.World."""
        self.fleet, self.servers, self.proxy = other.fleet, other.servers, None
        self.seed, self.random, self.slots = other.seed, random.Random(other.seed), other.slots
        self.accepted, self.figures, self.refused = {}, {}, 0
        self.users, self.datasets, self.clients = [], {}, {}
        self._lock = threading.Lock()

    def _proxied(self, servers):
        """A link to each of these servers for the whole fleet; the test itself goes past it."""
        proxy = Proxy(self.fleet.dir)
        if "postgres" in servers:
            self.postgres = proxy.link("postgres", self.servers.pg_port)
            self.fleet.env["DOCFLEET_DATABASE_URL"] = self.through(self.postgres)
        if "s3" in servers:
            self.s3 = proxy.link("s3", self.servers.s3_port, http=True)
            self.fleet.env["DOCFLEET_S3_ENDPOINT"] = f"http://127.0.0.1:{self.s3.port}"
        return proxy

    def through(self, link):
        """The address of the database by way of a link."""
        return self.fleet.database_url.replace(f":{self.servers.pg_port}/", f":{link.port}/")

    def end(self):
        for process in self.fleet.processes.values():
            if process.alive():
                process.send(signal.SIGCONT)
        if self.proxy:
            self.proxy.stop()

    # --- processes ------------------------------------------------------------------------------
    def start(self, stages=("text", "ai", "preview"), sleep=None, slots=None, puts=False,
              real=(), env=None):
        """Gateway, dispatcher, cleaner and one worker a stage: a sleeping one, except for `real`."""
        self.sleep, self.slots = sleep or self.sleep, slots or self.slots
        self.puts = puts
        self.fleet.start("ingest-gateway", "dispatcher", "cleaner", env=env, wait=False)
        for stage in (s for s in stages if s not in real):
            self.worker(stage, env=env, wait=False)
        for stage in real:
            self.fleet.start(WORKER[stage], env=env, wait=False)
        for name in list(self.fleet.processes):
            self.fleet.wait_ready(name)
        return self

    def worker(self, stage, replica=None, env=None, wait=True, slots=None):
        """Starts a sleeping worker; gives its name in the fleet."""
        name = WORKER[stage] + (f"#{replica}" if replica else "")
        settings = {"DOCFLEET_SLOTS": str(slots or self.slots),
                    "DOCFLEET_SLEEP_MIN": f"{int(self.sleep[0] * 1000)}ms",
                    "DOCFLEET_SLEEP_MAX": f"{int(self.sleep[1] * 1000)}ms",
                    "DOCFLEET_SLEEP_PUTS": "true" if self.puts else "false", **(env or {})}
        self.fleet.start(name, binary="sleepworker", args=[stage], env=settings, wait=wait)
        return name

    def rerun(self, name, wait=True, **changes):
        """Starts a process again, as a supervisor would, after it was killed or has crashed."""
        dead = self.fleet.processes.pop(name, None)
        if dead is not None:
            if dead.alive():
                dead.kill9()
            dead.stop(signal.SIGKILL)
        self.fleet.start_again(name, wait=wait, **changes)

    # --- users and files ------------------------------------------------------------------------
    def make_users(self, n):
        """Accounts, keys and datasets, written straight into the tables: thirty programs are slow."""
        columns = json.dumps([{"id": "c1", "name": "Invoice number", "type": "string",
                               "description": "number of the invoice", "required": False}])
        with self.fleet.db() as conn:
            for i in range(len(self.users), n):
                name, user, dataset = f"user{i}", str(uuid.uuid4()), str(uuid.uuid4())
                key_id, secret = secrets.token_hex(9), secrets.token_hex(20)
                conn.execute("INSERT INTO account (user_id, name) VALUES (%s, %s)", (user, name))
                conn.execute("INSERT INTO api_key (key_id, user_id, secret_sha256) VALUES (%s, %s, %s)",
                             (key_id, user, hashlib.sha256(secret.encode()).digest()))
                conn.execute("INSERT INTO dataset (dataset_id, user_id, name) VALUES (%s, %s, 'd')",
                             (dataset, user))
                conn.execute("INSERT INTO schema_version (dataset_id, version, columns)"
                             " VALUES (%s, 1, %s)", (dataset, columns))
                self.fleet._keys[name] = f"dfk_{key_id}_{secret}"
                self.users.append(name)
                self.datasets[name] = dataset

    def client(self, user):
        with self._lock:
            if user not in self.clients:
                self.clients[user] = self.fleet.client(user)
            return self.clients[user]

    def upload(self, user, names, body=None, **kw):
        """One request; its files go into the ledger. Gives their ids."""
        files = [(n, body(n) if body else f"{n} {self.seed}\n".encode()) for n in names]
        answer = self.client(user).upload(self.datasets[user], files, **kw)
        ids = [f["id"] for f in answer["files"] if "id" in f]
        assert len(ids) == len(names), f"not all accepted: {answer}"
        with self._lock:
            self.accepted.update({i: (user, time.monotonic()) for i in ids})
        return ids

    def upload_surely(self, user, names, body=None, patience=120):
        """Repeats with one key, as clients are told to, until the answer is 202."""
        key, end = secrets.token_hex(12), time.monotonic() + patience
        while True:
            try:
                return self.upload(user, names, body, headers={"Idempotency-Key": key})
            except (requests.RequestException, AssertionError) as e:
                told = str(e)
                if isinstance(e, AssertionError) and not any(
                        f": {n}, not" in told for n in (409, 429, 500, 502, 503, 504)):
                    raise
                self.refused += 1
                assert time.monotonic() < end, f"no 202 within {patience} s: {told[:500]}"
                time.sleep(0.3)

    def load(self, files=300, users=30, elephant=200, prefix="", body=None, surely=False, batch=1000):
        """The elephant first, then the others in a seeded order. Gives all ids."""
        self.make_users(users)
        ids = []

        def upload(user, names, body):
            one = self.upload_surely if surely else self.upload
            return [i for at in range(0, len(names), batch)
                    for i in one(user, names[at:at + batch], body)]
        if elephant:
            ids += upload("user0", [f"{prefix}e{i}.txt" for i in range(elephant)], body)
        counts = {}
        for i in range(files - elephant):
            user = self.users[1 + i % (users - 1)] if users > 1 else self.users[0]
            counts[user] = counts.get(user, 0) + 1
        order = list(counts)
        self.random.shuffle(order)
        for user in order:
            ids += upload(user, [f"{prefix}{user}-{i}.txt" for i in range(counts[user])], body)
        return ids

    @contextlib.contextmanager
    def trickle(self, every=0.2, users=10, patience=180):
        """Single files from now on, by a client that repeats with its key until it is answered 2xx.
        Only what was answered enters the ledger; 5xx and cut connections are counted."""
        self.make_users(users)
        stop, failed = threading.Event(), []
        chance = random.Random(self.seed + 1)

        def one(i):
            user, key = chance.choice(self.users[:users]), f"trickle-{self.seed}-{i}"
            end = time.monotonic() + patience
            client = rig.Client(self.fleet.api, self.fleet._keys[user])
            while True:
                try:
                    got = client.request(
                        "POST", f"/datasets/{self.datasets[user]}/files", timeout=30,
                        files=[("file", (f"t{i}.txt", f"trickle {i} {self.seed}\n".encode()))],
                        headers={"Idempotency-Key": key})
                    if got.status_code == 202:
                        with self._lock:
                            for f in got.json()["files"]:
                                self.accepted[f["id"]] = (user, time.monotonic())
                        return
                    if got.status_code == 503:
                        self.figures["sawRetryAfter"] = "Retry-After" in got.headers
                    if got.status_code < 500 and got.status_code != 429:
                        failed.append((got.status_code, got.text[:300]))
                        return
                except requests.RequestException:
                    pass
                self.refused += 1
                if time.monotonic() > end:
                    failed.append(("no answer", key))
                    return
                time.sleep(0.3)

        def run():
            i = 0
            while not stop.is_set():
                one(i)
                i += 1
                stop.wait(every)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(patience + 30)
        assert not failed, f"uploads that did not get through: {failed[:5]}"

    # --- what goes on ---------------------------------------------------------------------------
    def count(self, where="true", *params):
        return self.fleet.one(f"SELECT count(*) FROM task t WHERE {where}", *params)

    def wait_done(self, n, stage="text", timeout=60):
        """Waits until n units of a stage are done: the fault comes in the middle of work."""
        rig.wait_until(lambda: self.count("stage = %s AND state = 4", STAGE[stage]) >= n, timeout,
                       what=f"{n} units of {stage} done")

    def pause_random(self, low, high):
        time.sleep(self.random.uniform(low, high))

    def quiesce(self, limit):
        """Waits until nothing is on its way; says what is stuck otherwise."""
        began = time.monotonic()
        try:
            invariants.wait_quiet(self.fleet, limit)
        except rig.Timeout as e:
            raise AssertionError(f"{e}\n" + "\n".join(map(str, self.fleet.sql(
                "SELECT stage, state, q, count(*), max(attempts) AS attempts, "
                "max(dispatch_seq) AS seq, min(not_before) - now() AS due, "
                "max(last_error) AS error FROM task WHERE state < 4 GROUP BY 1, 2, 3"))) + "\n" +
                str(self.fleet.sql("SELECT worker_id, stage, slots, busy, partitions, "
                                   "now() - seen AS age FROM worker"))) from None
        self.figures["quietAfterS"] = round(time.monotonic() - began, 2)

    def latencies(self, mice=True):
        """Seconds from acceptance to the end of each finished file, of the mice or the elephant."""
        rows = self.fleet.sql(
            "SELECT f.file_id, extract(epoch FROM max(e.at) - f.accepted_at)::float AS s"
            " FROM file f JOIN event e USING (file_id) WHERE e.body->>'final' = 'true'"
            " GROUP BY f.file_id, f.accepted_at ORDER BY 2")
        return [r["s"] for r in rows if str(r["file_id"]) in self.accepted and
                (self.accepted[str(r["file_id"])][0] != "user0") == mice]

    def elephant_share(self):
        """How much of the elephant was done when the last mouse was: fair is little."""
        ends = {str(r["file_id"]): r["at"] for r in self.fleet.sql(
            "SELECT file_id, max(at) AS at FROM event WHERE body->>'final' = 'true' GROUP BY 1")}
        mice = max(ends[f] for f, (u, _) in self.accepted.items() if u != "user0")
        mine = [ends[f] for f, (u, _) in self.accepted.items() if u == "user0"]
        return sum(e < mice for e in mine) / len(mine)

    def totals(self):
        """Sums of the counters over the units of the pipelines (cleaning comes twice by design). An attempt
        began work: a claim that was given back untouched, since its worker was told to end, is none."""
        got = self.fleet.one(
            "SELECT count(*) FILTER (WHERE state = 4) AS done, count(*) FILTER (WHERE state = 5)"
            " AS dead, coalesce(sum(attempts), 0) AS attempts, coalesce(sum(refunds), 0) AS refunds,"
            " coalesce(sum(failures), 0) AS failures, coalesce(max(attempts), 0) AS most,"
            " coalesce(sum(dispatch_seq), 0) AS sent FROM task WHERE stage <> 6")
        untouched = self.fleet.one("SELECT count(*) FROM event WHERE body->>'code' = 'not_begun' AND stage <> 6")
        got["attempts"], got["refunds"] = got["attempts"] - untouched, got["refunds"] - untouched
        got["untouched"] = untouched
        got["crashes"] = got["attempts"] - got["refunds"] - got["failures"] - got["done"] - got["dead"]
        got["amplification"] = got["attempts"] / max(1, got["done"] + got["dead"])
        return got

    def check(self, amplification=None, crashes=None, failures=None, dead=0, objects=False,
              done=True, idle=True):
        """Q1 to Q10, then the bounds given. dead: how many files may have failed."""
        totals = self.totals()
        self.figures.update(amplification=round(float(totals["amplification"]), 4),
                            attempts=int(totals["attempts"]), refunds=int(totals["refunds"]),
                            crashes=int(totals["crashes"]), units=totals["done"])
        invariants.check_rows(self.fleet, self.accepted)
        for number, check in (("Q2", checks.q2), ("Q3", checks.q3), ("Q4", checks.q4),
                              ("Q6", checks.q6)):
            rows = check(self)
            assert not rows, f"{number}: {rows[:10]}"
        if done:
            bad = self.fleet.sql("SELECT state, errors, count(*) FROM file WHERE state NOT IN (2, 7)"
                                 " GROUP BY 1, 2")
            assert sum(r["count"] for r in bad) == dead, f"files that are not done: {bad}"
        if amplification is not None:
            assert totals["amplification"] <= amplification, f"amplification: {totals}"
        if crashes is not None:
            assert totals["crashes"] <= crashes, f"attempts that count as crashes: {totals}"
        if failures is not None:
            assert totals["failures"] <= failures, f"attempts that count as failures: {totals}"
        if idle:
            self.check_idle()
        if objects:
            invariants.check_objects(self.fleet)

    def check_idle(self):
        """Q10: nothing of the credit is in use and no scratch file is left."""
        def back():
            used = {k: v for k, v in self.fleet.metrics("dispatcher").items()
                    if k.startswith("docfleet_credit") and 'kind="used"' in k and v}
            return not used
        if self.fleet.running("dispatcher"):
            rig.wait_until(back, 15, what="all credit back")
        for folder in os.listdir(self.fleet.dir):
            if folder.startswith("scratch-"):
                left = os.listdir(os.path.join(self.fleet.dir, folder))
                assert not left, f"{folder} holds {left}"

    def figure(self, name, value, most=None):
        """Notes a figure, and checks it against its bound; see rig.bound for those in seconds."""
        self.figures[name] = round(value, 3) if isinstance(value, float) else value
        if most is not None:
            most = rig.bound(most) if name.endswith("S") else most
            self.figures[name + "Most"] = most
            assert value <= most, f"{name}: {value}, more than {most}"

    def result(self, passed):
        return {"fault": self.fault, "variant": self.variant, "seed": self.seed,
                "files": len(self.accepted), "seconds": round(time.monotonic() - self.began, 1),
                "settings": "shipped defaults" if self.defaults else "scaled down",
                "amplification": self.figures.pop("amplification", None),
                "refused": self.refused, "figures": self.figures, "passed": passed}


def write_result(line):
    """One JSON object a line; whoever reads takes the last of each fault and variant."""
    os.makedirs(os.path.dirname(RESULTS), exist_ok=True)
    with open(RESULTS, "a", encoding="utf-8") as f:
        f.write(json.dumps(line, default=str) + "\n")


@contextlib.contextmanager
def arena(new_fleet, fault, variant="", **kw):
    """An Arena whose result is written whatever happens."""
    a = Arena(new_fleet, fault, variant, **kw)
    passed = False
    try:
        yield a
        passed = True
    finally:
        a.end()
        write_result(a.result(passed))


@contextlib.contextmanager
def resulting(fault, variant):
    """For a test that has no Arena of its own: the figures are what it puts into the dict."""
    figures, passed, began = {}, False, time.monotonic()
    try:
        yield figures
        passed = True
    finally:
        write_result({"fault": fault, "variant": variant, "seed": seed_of(variant),
                      "files": figures.pop("files", 0),
                      "seconds": round(time.monotonic() - began, 1), "settings": "scaled down",
                      "amplification": figures.pop("amplification", None), "refused": 0,
                      "figures": figures, "passed": passed})


@contextlib.contextmanager
def hooked(fleet, *statements, undo=()):
    """Runs statements (triggers, say) as the owner of the schema, and undoes them."""
    with fleet.db() as conn:
        for statement in statements:
            conn.execute(statement)
    try:
        yield
    finally:
        with contextlib.suppress(psycopg.Error), fleet.db() as conn:
            for statement in undo:
                conn.execute(statement)
