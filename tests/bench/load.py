# SPDX-License-Identifier: Apache-2.0
"""A fleet under a load of known shape, and what is read off it: for the benches of this folder.

World    durable servers and a fleet of sleepworkers; accounts by the thousand; elephants (many
         files of one user, entered as the gateway enters them) and mice (one small file each,
         uploaded over HTTP at seeded times, whether or not earlier ones are through: open loop).
Watch    what the machine did meanwhile: idle and stolen processor time, fdatasync, the broker's GC.

Times of the database are read on its clock, times of replies on this machine's; the measured
difference of the two is part of each result. A file that is not through counts as infinitely late.
"""
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import math
import os
import queue
import random
import re
import secrets
import subprocess
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rig  # noqa: E402

RESULTS = os.path.join(rig.ROOT, "build", "bench")
BUILD = os.environ.get("BENCH_BUILD", "release")  # a folder of build/, or an absolute path
PARTITIONS = 24
TEXT, OCR, AI, PREVIEW = 1, 2, 3, 4
COLUMNS = [{"id": "c1", "name": "Invoice number", "type": "string", "required": False,
            "description": "number of the invoice"}]


def quantile(values, q):
    """Nearest rank; inf stays inf."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else math.nan


def summary(values):
    return {"n": len(values), "p50": quantile(values, 0.5), "p95": quantile(values, 0.95),
            "p99": quantile(values, 0.99), "max": max(values, default=math.nan),
            "unfinished": sum(1 for v in values if math.isinf(v))}


def uuid7(at=None):
    ms = int((time.time() if at is None else at) * 1000)
    return str(uuid.UUID(int=(ms << 80) | (7 << 76) | (random.getrandbits(12) << 64) | (2 << 62) |
                         random.getrandbits(62)))


# --- the machine ---------------------------------------------------------------------------------

def _cpu():
    with open("/proc/stat", encoding="ascii") as f:
        user, nice, system, idle, iowait, irq, soft, steal = map(int, f.readline().split()[1:9])
    return {"idle": idle + iowait, "iowait": iowait, "steal": steal,
            "all": user + nice + system + idle + iowait + irq + soft + steal}


TICK = os.sysconf("SC_CLK_TCK")


def _process_seconds(pid):
    """Processor time of a process and of the children it has waited for."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / TICK


class Shares:
    """Processor seconds by program: the services, Postgres by whom it serves, Kafka, the store."""

    def __init__(self, servers, fleet=None):
        self.servers, self.fleet = servers, fleet
        self.at, self.seen = time.monotonic(), self._read()

    def _pids(self):
        names = {os.getpid(): "this bench", self.servers.processes["kafka"].pid: "kafka",
                 self.servers.processes["s3"].pid: "versitygw"}
        for name, process in (self.fleet.processes if self.fleet else {}).items():
            for pid in [process.pid, *process.children()]:
                names[pid] = name.split("#")[0]
        postgres = self.servers.processes["postgres"]
        for pid in [postgres.pid, *postgres.children()]:
            names[pid] = "postgres: background"
        if self.fleet:
            for r in self.fleet.sql("SELECT pid, application_name AS name, backend_type AS type"
                                    " FROM pg_stat_activity"):
                if r["type"] == "client backend":
                    names[r["pid"]] = "postgres: for " + (r["name"].split(":")[1] if ":" in r["name"] else "this bench")
        return names

    def _read(self):
        seen = {}
        for pid, name in self._pids().items():
            with contextlib.suppress(OSError):
                seen[pid] = (name, _process_seconds(pid))
        return seen

    def table(self):
        """{program: share of all cores} since the start, largest first."""
        cores, shares = len(os.sched_getaffinity(0)), {}
        took = time.monotonic() - self.at
        for pid, (name, now) in self._read().items():
            before = self.seen.get(pid, (name, 0.0))[1]
            shares[name] = shares.get(name, 0.0) + (now - before) / took / cores
        return {k: round(v, 4) for k, v in sorted(shares.items(), key=lambda x: -x[1]) if v > 0.0005}


def _filesystem(path):
    """Its type: where that is tmpfs, fdatasync costs nothing."""
    return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout.strip()


class Watch:
    """with Watch(servers) as w: ...; w.result"""

    def __init__(self, servers, fleet=None):
        self.servers, self.fleet, self.result = servers, fleet, {}
        self._stop, self._sync = threading.Event(), []
        self._gc = os.path.join(servers.dir, "gc.log")

    def _probe(self):
        fd = os.open(os.path.join(self.servers.dir, "fsync-probe"), os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            while not self._stop.wait(0.2):
                os.pwrite(fd, b"x" * 8192, 0)
                start = time.perf_counter()
                os.fdatasync(fd)
                self._sync.append((time.perf_counter() - start) * 1e3)
        finally:
            os.close(fd)

    def __enter__(self):
        self._shares = Shares(self.servers, self.fleet)
        self._at, self._from = _cpu(), time.monotonic()
        self._gc_from = os.path.getsize(self._gc) if os.path.exists(self._gc) else 0
        self._thread = threading.Thread(target=self._probe, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        now, pauses, shares = _cpu(), [], self._shares.table()
        spent = max(1, now["all"] - self._at["all"])
        with contextlib.suppress(OSError), open(self._gc, encoding="utf-8") as f:
            f.seek(self._gc_from)
            pauses = [float(x) for x in re.findall(r"Pause.* ([0-9.]+)ms", f.read())]
        self.result = {
            "seconds": round(time.monotonic() - self._from, 1),
            "idle": round((now["idle"] - self._at["idle"]) / spent, 3),
            "steal": round((now["steal"] - self._at["steal"]) / spent, 3),
            "filesystem": _filesystem(self.servers.dir),
            "fsync_p50_ms": round(quantile(self._sync, 0.5), 2),
            "fsync_p99_ms": round(quantile(self._sync, 0.99), 2),
            "gc_pauses": len(pauses), "gc_max_ms": max(pauses, default=0.0), "shares": shares}
        # what others on this machine took: a figure taken beside them says so
        busy = 1 - self.result["idle"] - self.result["steal"]
        self.result["foreign"] = round(max(0.0, busy - sum(shares.values())), 3)


def servers():
    """Production's durability: fsync, synchronous_commit, full pages; the broker's own defaults."""
    made = rig.Servers(durable=True, postgres_settings={
        "track_commit_timestamp": "on", "track_wal_io_timing": "on", "shared_buffers": "512MB",
        "max_wal_size": "4GB", "shared_preload_libraries": "pg_stat_statements"})
    made.kafka_jvm = [f"-Xlog:gc:file={made.dir}/gc.log:time"]
    made.start()
    return made


# --- users ---------------------------------------------------------------------------------------

class User:
    __slots__ = ("id", "dataset", "keys")

    def __init__(self, keys=1):
        self.id, self.dataset = uuid7(), uuid7()
        self.keys = [(secrets.token_hex(9), secrets.token_urlsafe(32).replace("_", "."))
                     for _ in range(keys)]

    def bearer(self, n=0):
        return "dfk_%s_%s" % self.keys[n]


def add_users(fleet, n, keys=1):
    """n accounts, each with a dataset and keys, in one transaction."""
    users = [User(keys) for _ in range(n)]
    with fleet.db() as conn, conn.transaction(), conn.cursor() as cur:
        def copy(table, rows):
            with cur.copy(f"COPY {table} FROM STDIN") as out:
                for row in rows:
                    out.write_row(row)
        copy("account (user_id, name)", ((u.id, "u-" + u.id) for u in users))
        copy("api_key (key_id, user_id, secret_sha256)",
             ((k, u.id, hashlib.sha256(s.encode()).digest()) for u in users for k, s in u.keys))
        copy("dataset (dataset_id, user_id, name)", ((u.dataset, u.id, "d") for u in users))
        copy("schema_version (dataset_id, version, columns)",
             ((u.dataset, 1, json.dumps(COLUMNS)) for u in users))
    return users


# The rows that the gateway's acceptance writes, for many files at once and without their bytes: no
# sleepworker reads them. Ids are version 7, as the gateway's are.
ENTER_SQL = """
WITH u AS (SELECT * FROM unnest(%(users)s::uuid[], %(datasets)s::uuid[]) WITH ORDINALITY
        AS x(user_id, dataset_id, nr)),
 b AS (SELECT u.*, (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
        || '7' || substr(md5(random()::text || nr), 1, 3) || '8'
        || substr(md5(random()::text || nr), 4, 15))::uuid AS batch_id FROM u),
 bi AS (INSERT INTO batch (batch_id, user_id, dataset_id, accepted)
        SELECT batch_id, user_id, dataset_id, %(n)s FROM b),
 f AS MATERIALIZED (SELECT b.*, (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint),
        12, '0') || '7' || substr(md5(random()::text || i), 1, 3) || '8'
        || substr(md5(random()::text || i), 4, 15))::uuid AS file_id
        FROM b, generate_series(1, %(n)s) AS i),
 fi AS (INSERT INTO file (file_id, user_id, dataset_id, batch_id, name, bytes, etag, state)
        SELECT file_id, user_id, dataset_id, batch_id, %(name)s, 4, 'e', 1 FROM f),
 fv AS (INSERT INTO file_version (file_id, version, object_key, bytes, sha256, mime, kind, etag)
        SELECT file_id, 1, 'none', 4, 'none', 'text/plain', 'text', 'e' FROM f),
 c AS (INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)
        SELECT dataset_id, batch_id, NULL, 1, %(n)s FROM b)
INSERT INTO task (user_id, file_id, stage, unit, generation, cost)
SELECT user_id, file_id, s, 0, 1, %(cost)s FROM f, unnest(%(stages)s::smallint[]) AS s
"""


def enter(fleet, users, n, name="elephant.txt", cost=1, stages=(TEXT, PREVIEW), tell=True):
    """n files for each of the users, with their first tasks."""
    with fleet.db() as conn:
        conn.execute(ENTER_SQL, {"users": [u.id for u in users], "n": n, "name": name,
                                 "datasets": [u.dataset for u in users], "cost": cost,
                                 "stages": list(stages)})
        for u in users[:100] if tell else ():
            for s in stages:
                conn.execute("SELECT pg_notify('docfleet_task', %s)", (f"{s}:{u.id}",))


def cancel_rest(fleet):
    """Ends the run: what still lives is cancelled, as an operator would; then the tables are clean."""
    def over():
        # again while any is left: a unit that ends meanwhile brings its file's next task
        with fleet.db() as conn:
            left = conn.execute("UPDATE task SET state = 6, q = NULL WHERE state < 4").rowcount
            conn.execute("UPDATE file SET state = 4, main_state = 5, generation = generation + 1"
                         " WHERE state = 1")
        return left == 0
    rig.wait_until(over, 60, interval=0.3, what="every task ended")
    with fleet.db() as conn:
        for table in ("task", "file", "event"):
            conn.execute(f"VACUUM ANALYZE {table}")


# --- mice ----------------------------------------------------------------------------------------

class Poster:
    """One connection that uploads a file of a user; gives its id and the time of the reply."""

    def __init__(self, fleet):
        self.fleet, self.conn = fleet, None

    def post(self, user, name, body=b"mouse", key=0, mime="text/plain"):
        boundary = "b" + secrets.token_hex(8)
        data = (f"--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\""
                f"\r\nContent-Type: {mime}\r\n\r\n").encode() + body + \
            f"\r\n--{boundary}--\r\n".encode()
        headers = {"Authorization": "Bearer " + user.bearer(key),
                   "Content-Type": f"multipart/form-data; boundary={boundary}"}
        if self.conn is None:
            self.conn = http.client.HTTPConnection("127.0.0.1", self.fleet.gateway_port, timeout=60)
        try:
            self.conn.request("POST", f"/api/v1/datasets/{user.dataset}/files", data, headers)
            response = self.conn.getresponse()
            at = time.time()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self.conn.close()
            self.conn = None
            raise
        assert response.status == 202, f"{response.status}: {answer[:300]!r}"
        return json.loads(answer)["files"][0]["id"], at


def ledger(seed, n, rate, users, name="mouse.txt", once=False):
    """[(seconds from the start, user, file name)]: exponential gaps, users at random (once: each one
    only once)."""
    rng, at, rows = random.Random(seed), 0.0, []
    order = rng.sample(users, n) if once else None
    for i in range(n):
        at += rng.expovariate(rate)
        rows.append((at, order[i] if once else users[rng.randrange(len(users))], f"{i}-{name}"))
    return rows


def post_ledger(fleet, rows, body=b"mouse", mime="text/plain", threads=24, stop=None):
    """Uploads each at its time; {file id: time of the 2xx}, and how late the worst request went."""
    work, accepted, late, failed = queue.SimpleQueue(), {}, [0.0], []

    def run():
        poster = Poster(fleet)
        while (row := work.get()) is not None:
            try:
                file_id, at = poster.post(row[1], row[2], body, mime=mime)
                accepted[file_id] = at
            except Exception as e:  # pylint: disable=broad-exception-caught
                failed.append(repr(e))

    pool = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for t in pool:
        t.start()
    start = time.monotonic() + 0.2
    for row in rows:
        wait = start + row[0] - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        late[0] = max(late[0], time.monotonic() - start - row[0])
        work.put(row)
        if stop is not None and stop():
            break
    for _ in pool:
        work.put(None)
    for t in pool:
        t.join()
    assert not failed, f"{len(failed)} uploads failed: {failed[:3]}"
    return accepted, late[0]


def record_times(fleet, ids):
    """{file id: commit time of its record}, on the database's clock."""
    rows = fleet.sql("SELECT file_id::text AS id, extract(epoch FROM pg_xact_commit_timestamp(xmin))"
                     "::float8 AS at FROM record WHERE file_id = ANY (%s::uuid[])", list(ids))
    return {r["id"]: r["at"] for r in rows}


def clock_offset(fleet):
    """Database clock minus this process's, from the quickest of some round trips."""
    best = (math.inf, 0.0)
    with fleet.db() as conn:
        for _ in range(50):
            t0 = time.time()
            at = conn.execute("SELECT extract(epoch FROM clock_timestamp())::float8 AS t").fetchone()
            t1 = time.time()
            best = min(best, (t1 - t0, at["t"] - (t0 + t1) / 2))
    return best[1]


def wait_records(fleet, accepted, seconds):
    """Waits until every accepted file has its record, at most so long; then their latencies."""
    end, ids = time.monotonic() + seconds, list(accepted)
    while True:
        done = fleet.one("SELECT count(*) FROM record WHERE file_id = ANY (%s::uuid[])", ids)
        if done >= len(ids) or time.monotonic() > end:
            break
        time.sleep(0.2)
    times, offset = record_times(fleet, ids), clock_offset(fleet)
    return {i: times[i] - offset - at if i in times else math.inf for i, at in accepted.items()}


# --- units, from the events ------------------------------------------------------------------------

UNITS_SQL = """
SELECT file_id::text AS file, user_id::text AS user, stage, (body->>'unit')::int AS unit,
  (body->>'attempt')::int AS attempt,
  extract(epoch FROM min(at) FILTER (WHERE body->>'state' = 'running'))::float8 AS claimed,
  extract(epoch FROM min(at) FILTER (WHERE body->>'state' = 'done'))::float8 AS done
FROM event WHERE kind = 'file_updated' AND stage IS NOT NULL AND at > to_timestamp(%s)
GROUP BY 1, 2, 3, 4, 5
"""


def units(fleet, since=0.0):
    """Claim and end of each attempt, on the database's clock."""
    return fleet.sql(UNITS_SQL, since)


def db_now(fleet):
    return fleet.one("SELECT extract(epoch FROM clock_timestamp())::float8")


# --- the fleet -------------------------------------------------------------------------------------

class World:
    """One database with its services. sleep: (shortest, longest) ms of a text unit."""

    def __init__(self, made, processes=4, slots=4, sleep=(200, 500), scheduling="fair",
                 partitioning="fair", mice_users=5000, stages=("ai", "preview"), text=True, more_slots=8):
        self.servers, self.slots = made, processes * slots
        self.fleet = rig.Fleet(made, build=BUILD, partitions=PARTITIONS)
        self.fleet.start("ingest-gateway", env={"DOCFLEET_LOG_LEVEL": "warn"})
        self.dispatcher(scheduling, partitioning)
        if text:
            self.fleet.start_sleepers("text", processes, slots, wait=False, env={
                "DOCFLEET_SLEEP_MIN": f"{sleep[0]}ms", "DOCFLEET_SLEEP_MAX": f"{sleep[1]}ms",
                "DOCFLEET_LOG_LEVEL": "warn"})
        for stage in stages:
            # ai ends a unit at once, so that K is the text stage's; previews wait, so that those of
            # an elephant do not take the processor
            low, high = sleep if stage == "preview" else (0, 0)
            self.fleet.start_sleepers(stage, 1, more_slots, wait=False, env={
                "DOCFLEET_SLEEP_MIN": f"{low}ms", "DOCFLEET_SLEEP_MAX": f"{high}ms",
                "DOCFLEET_LOG_LEVEL": "warn"})
        for name in list(self.fleet.processes):
            self.fleet.wait_ready(name)
        self.users = add_users(self.fleet, mice_users) if mice_users else []
        self.wait_joined()

    def dispatcher(self, scheduling="fair", partitioning="fair"):
        if self.fleet.running("dispatcher"):
            self.fleet.stop("dispatcher")
        self.fleet.start("dispatcher", env={"DOCFLEET_SCHEDULING": scheduling,
                                            "DOCFLEET_PARTITIONING": partitioning})

    def wait_joined(self):
        """All partitions of every stage that has workers are taken."""
        def joined():
            rows = self.fleet.sql("SELECT stage, sum(cardinality(partitions)) AS n FROM worker"
                                  " WHERE seen > now() - interval '5 s' GROUP BY stage")
            return rows and all(r["n"] == PARTITIONS for r in rows) and len(rows) >= self.stages()
        if self.stages() > 0:
            rig.wait_until(joined, 60, what="all partitions assigned")

    def stages(self):
        return len({n.split("#")[0] for n in self.fleet.processes if "#" in n})

    def running_units(self):
        return self.fleet.one("SELECT count(*) FROM task WHERE state = 2")

    def pause(self, stage, paused=True):
        self.fleet.sql("INSERT INTO stage_control (stage, paused) VALUES (%s, %s) ON CONFLICT (stage)"
                       " DO UPDATE SET paused = excluded.paused", stage, paused)

    def close(self):
        names = [n for n in self.fleet.processes if self.fleet.running(n)]
        with contextlib.suppress(rig.Timeout):
            self.fleet.stop(*names)
        if not os.environ.get("KEEP"):
            with contextlib.suppress(Exception):
                import psycopg
                with psycopg.connect(self.servers.database_url("postgres"), autocommit=True) as c:
                    c.execute(f'DROP DATABASE "{self.fleet.name}" WITH (FORCE)')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def save(name, data):
    os.makedirs(RESULTS, exist_ok=True)
    path = os.path.join(RESULTS, name + ".json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, indent=1, default=str)
    return path


def parallel(fn, items, threads=16):
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(fn, items))
