# SPDX-License-Identifier: Apache-2.0
"""Q1 to Q10: what must be empty once a world is quiet. Each gives rows of evidence; none is fine.

The plain queries are those of tests/lib/invariants.py; here they are joined by what only the rig
knows: the audit that triggers wrote, the clients' ledger, the list of injected faults, the files on
the store's disk, the processes. tests/chaos/test_checks.py plants one violation for each.
"""
import json
import os
import re
import time

from lib import invariants, rig

WORKER_FAULTS = {"kill", "freeze", "crash_point", "poison", "cut_worker", "clock"}
DEATHS = {"poison", "crash_point"}  # by themselves: written down when somebody looks
NOTICED_LATE = 30
SHARED_FAULTS = {"postgres_crash", "postgres_cut", "postgres_slow", "postgres_unknown", "pause_all"}
MARKED = re.compile(r"(?:^|-)(poison|fail)-")
REASONS = {"fail": {"corrupt"}, "poison": {"crash_loop", "child_crashed", "child_timeout"}}


def q1(world):
    """Lost or stuck: files that are not terminal, and promises the database does not know."""
    rows = [dict(r, what="stuck") for r in world.fleet.sql(invariants.STUCK)]
    rows += [{"what": "accepted and lost", "file_id": f, **world.ledger.accepted[f]}
             for f in sorted(invariants.lost(world.fleet, world.ledger.accepted))]
    rows += [dict(r, what="removed and alive") for r in world.fleet.sql(
        "SELECT file_id, name, state FROM file WHERE state < 6 AND (file_id = ANY (%s::uuid[])"
        " OR dataset_id = ANY (%s::uuid[]))", list(world.ledger.removed), list(world.ledger.gone))]
    rows += [dict(r, what="accepted twice, or never promised") for r in world.fleet.sql(
        "SELECT dataset_id, name, count(*) AS n, array_agg(file_id) AS files FROM file"
        " GROUP BY 1, 2 HAVING count(*) > 1")]
    return rows


# The state a file may leave for another; NULL is its birth. A replay leads back to processing.
_LEGAL = """(VALUES (-1, 0), (-1, 1), (0, 1), (0, 4), (0, 6), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6),
    (2, 1), (3, 1), (4, 1), (2, 6), (3, 6), (4, 6), (5, 6), (6, 7)) AS legal(was, now)"""
ILLEGAL = f"""
    SELECT 'illegal step' AS what, file_id, generation, was, now, at FROM chaos.file_step s
    WHERE was IS DISTINCT FROM now AND NOT EXISTS
      (SELECT 1 FROM {_LEGAL} WHERE legal.was = coalesce(s.was, -1) AND legal.now = s.now)"""
TERMINAL_MORE = """
    SELECT 'terminal twice' AS what, file_id, generation,
      count(*) FILTER (WHERE now IN (2, 3, 4, 5)) AS ends,
      count(*) FILTER (WHERE was IN (2, 3, 4, 5) AND now = 1) AS reopened
    FROM chaos.file_step WHERE was IS DISTINCT FROM now GROUP BY 2, 3
    HAVING count(*) FILTER (WHERE now IN (2, 3, 4, 5)) >
      1 + count(*) FILTER (WHERE was IN (2, 3, 4, 5) AND now = 1)"""
REOPENED = """
    SELECT 'reopened without a replay' AS what, s.file_id, s.n, coalesce(e.n, 0) AS asked
    FROM (SELECT file_id, count(*) AS n FROM chaos.file_step
          WHERE was IN (2, 3, 4, 5) AND now = 1 GROUP BY 1) s
    LEFT JOIN (SELECT file_id, count(*) AS n FROM event
               WHERE body->>'action' IN ('retry', 'rerun') GROUP BY 1) e USING (file_id)
    WHERE s.n > coalesce(e.n, 0)"""


def q2(world):
    """Terminal twice, or a step between states that the product does not know."""
    return [r for q in (ILLEGAL, TERMINAL_MORE, REOPENED) for r in world.fleet.sql(q)]


def q3(world):
    """Records fit their files."""
    return world.fleet.sql(invariants.RECORDS) + world.fleet.sql(
        "SELECT r.record_id, r.file_id FROM record r LEFT JOIN file f USING (file_id)"
        " WHERE f.file_id IS NULL OR f.state >= 6")


def q4(world):
    """A unit that was completed twice."""
    return world.fleet.sql(
        "SELECT file_id, stage, unit, generation, count(*) AS ends, array_agg(token) AS tokens,"
        " array_agg(owner) AS owners FROM chaos.task_step WHERE now = 4 AND was IS DISTINCT FROM 4"
        " GROUP BY 1, 2, 3, 4 HAVING count(*) > 1")


def disk_keys(world):
    """The store's listing, read from the disk below versitygw: quick with many objects."""
    root = os.path.join(world.servers.dir, "s3", world.fleet.bucket)
    keys = set()
    for folder, names, files in os.walk(root):
        names[:] = [n for n in names if not n.startswith(".sgwtmp")]
        keys.update(os.path.relpath(os.path.join(folder, f), root) for f in files)
    return keys


def q5(world, timeout=180, api=None):
    """The store holds exactly what rows name, after a sweep without grace."""
    cleaners = [n for n in world.roles if n.startswith("cleaner")]
    for name in cleaners:
        world.terminate(name)
    # A whole sweep of a large store takes seconds: one cleaner does it.
    world.run(cleaners[0], wait=True, env={"DOCFLEET_ORPHAN_GRACE": "0s",
                                           "DOCFLEET_CLEAN_INTERVAL": "200ms"})
    named = invariants.referenced(world.fleet)
    read = (lambda: set(world.fleet.objects())) if api else (lambda: disk_keys(world))
    try:
        rig.wait_until(lambda: not read() - named, timeout, interval=0.5)
    except rig.Timeout:
        pass
    have = read()
    rows = [{"what": "orphan", "key": k} for k in sorted(have - named)[:50]]
    rows += [{"what": "missing", "key": k} for k in sorted(named - have)[:50]]
    pending = world.fleet.s3().list_multipart_uploads(Bucket=world.fleet.bucket)
    rows += [{"what": "open upload", "key": u["Key"]} for u in pending.get("Uploads", [])]
    world.terminate(cleaners[0])
    for name in cleaners:
        world.run(name)
    return rows


def q6(world):
    """A file without a task, or a task that is out although all is quiet."""
    return world.fleet.sql(invariants.IDLE) + world.fleet.sql(
        "SELECT file_id, stage, unit, generation, state, lease_owner, lease_until FROM task"
        " WHERE state < 4")


def marks(name):
    return set(MARKED.findall(name or ""))


def q7(world):
    """Open letters fit dead tasks, with a reason that what was injected explains."""
    rows = world.fleet.sql(invariants.LETTERS)
    innocent = []
    for r in world.fleet.sql("SELECT d.id, d.file_id, d.stage, d.unit, d.generation, d.reason,"
                             " d.last_error, f.name FROM dead_letter d JOIN file f USING (file_id)"
                             " WHERE NOT (d.id = ANY (%s))", list(world.explained_letters)):
        wanted = set().union(*(REASONS[m] for m in marks(r["name"])))
        if r["reason"] in wanted:
            continue
        if r["reason"] == "crash_loop" and not any(
                not c["why"] for c in crashes(world, str(r["file_id"]))):
            world.explained_letters.add(r["id"])  # three kills of one unit, all of them ours
            continue
        if r["reason"] in world.allowed_reasons:
            continue
        innocent.append(dict(r, what="died without a cause"))
    return rows + innocent


# A lease that was taken back: the row leaves `running` with the counters it was claimed with.
CRASHES = """
    WITH touched AS (SELECT DISTINCT file_id, stage, unit, generation FROM chaos.task_step
                     WHERE was = 2 AND now = 0 AND id > %s
                       AND (%s::uuid IS NULL OR file_id = %s::uuid)),
    steps AS (SELECT s.*, lag(s.attempts - s.failures - s.refunds) OVER w AS before,
                lag(s.owner) OVER w AS held_by, lag(s.at) OVER w AS claimed_at
              FROM chaos.task_step s JOIN touched USING (file_id, stage, unit, generation)
              WINDOW w AS (PARTITION BY s.file_id, s.stage, s.unit, s.generation ORDER BY s.id))
    SELECT file_id, stage, unit, generation, id, held_by, extract(epoch FROM claimed_at)::float8
      AS claimed, extract(epoch FROM at)::float8 AS at FROM steps
    WHERE was = 2 AND now = 0 AND id > %s AND attempts - failures - refunds >= before"""


def crashes(world, file_id=None, since=0):
    """Leases that ran out, each with the injected fault that explains it or None."""
    lease = seconds(world.env["DOCFLEET_LEASE"])
    rows = world.fleet.sql(CRASHES, since, file_id, file_id, since)
    with world.lock:
        injected = list(world.injected)
    by_pid = {}
    for fault in injected:
        if fault["kind"] in WORKER_FAULTS and fault["pid"]:
            by_pid.setdefault(fault["pid"], []).append(fault)
    shared = [f for f in injected if f["kind"] in SHARED_FAULTS]
    for r in rows:
        pid = int(r["held_by"].split(":")[2]) if r["held_by"] else 0
        near = [f for f in by_pid.get(pid, []) if
                f["at"] <= r["at"] + (NOTICED_LATE if f["kind"] in DEATHS else 1) and
                f["at"] + f["seconds"] >= r["claimed"] - 1]
        near += [f for f in shared if f["at"] <= r["at"] and
                 f["at"] + f["seconds"] + 4 * lease + 10 >= r["claimed"]]
        r["why"] = near[0]["kind"] if near else None
    return rows


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def amplification(world, since=0, until=2 ** 62):
    """Claims / ended units, in a range of audit ids; a claim handed back untouched counts too."""
    row = world.fleet.sql(
        "SELECT count(*) FILTER (WHERE now = 2 AND was = 1) AS starts,"
        " count(*) FILTER (WHERE was = 2 AND now IN (4, 5)) AS ends FROM chaos.task_step"
        " WHERE id > %s AND id <= %s AND stage <> 6", since, until)[0]
    return {**row, "amplification": round(row["starts"] / row["ends"], 5) if row["ends"] else None}


def q8(world):
    """Attempts that an outage ate: a crash was counted and no fault explains it."""
    return [dict(r, what="lease ran out without a cause") for r in crashes(world) if not r["why"]]


def q9(world):
    """Paid calls of the stubs: at most one a unit, and one more for each kill."""
    rows = []
    for stub in world.stubs:
        rows += stub.violations(len([f for f in world.injected if f["kind"] in WORKER_FAULTS]))
    return rows


def q10(world, timeout=20):
    """Nothing is left over: lag, credits, processes, scratch files."""
    rows = []

    def idle():
        rows.clear()
        rows.extend({"what": "lag", **behind} for behind in world.lags())
        rows.extend(_credits(world))
        return not rows
    try:
        rig.wait_until(idle, timeout, interval=0.5)
    except rig.Timeout:
        pass
    known = {p.pid for p in world.fleet.processes.values()}
    for p in world.fleet.processes.values():
        known.update(p.children())
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            continue
        if program.startswith(world.fleet.frozen_bin) and int(pid) not in known:
            rows.append({"what": "process left", "pid": pid, "program": program})
    for folder in os.listdir(world.fleet.dir):
        if folder.startswith("scratch-"):
            left = os.listdir(os.path.join(world.fleet.dir, folder))
            rows += [{"what": "scratch file", "path": f"{folder}/{name}"} for name in left[:20]]
    return rows


def _credits(world):
    """Credits in use by the metric of who leads: the standby keeps no figures that count."""
    used = {}
    for name in world.running():
        if name.startswith("dispatcher"):
            for key, value in world.fleet.metrics(name).items():
                stage = re.match(r'docfleet_credit\{stage="(\w+)",shard="\d+",kind="used"\}', key)
                if stage:
                    used.setdefault(stage[1], []).append(value)
    return [{"what": "credits in use", "stage": s, "n": v} for s, v in used.items() if min(v) > 0]


def ledger(world):
    """The counts of every batch and dataset add up."""
    return world.fleet.sql(invariants.LEDGER)


def unexpected(world):
    """Processes that ended and nobody told them to."""
    return [u for u in world.unexpected if u["code"] not in world.allowed_exits]


CHECKS = {"Q1": q1, "Q2": q2, "Q3": q3, "Q4": q4, "Q5": q5, "Q6": q6, "Q7": q7, "Q8": q8, "Q9": q9,
          "Q10": q10, "ledger": ledger, "processes": unexpected}


def run(world, names=None, took=None):
    """{check: rows} of those that found something; the seconds of each go into `took`."""
    found, took = {}, {} if took is None else took
    for name in names or CHECKS:
        began = time.monotonic()
        rows = CHECKS[name](world)
        took[name] = round(time.monotonic() - began, 1)
        if rows:
            found[name] = json.loads(json.dumps(rows, default=str))
    return found


def evidence(world, found, files=5):
    """For the first files that a finding names: their audit and events."""
    ids = []
    for rows in found.values():
        for r in rows:
            for value in [r.get("file_id"), r.get("key"), *(r.get("files") or ())]:
                match = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", str(value))
                if match and match[0] not in ids:
                    ids.append(match[0])
    told = {}
    for file_id in ids[:files]:
        told[file_id] = {what: world.fleet.sql(query, file_id) for what, query in (
            ("file", "SELECT * FROM file WHERE file_id = %s"),
            ("fileSteps", "SELECT * FROM chaos.file_step WHERE file_id = %s ORDER BY id"),
            ("tasks", "SELECT * FROM task WHERE file_id = %s ORDER BY stage, unit"),
            ("taskSteps", "SELECT * FROM chaos.task_step WHERE file_id = %s ORDER BY id"),
            ("letters", "SELECT * FROM dead_letter WHERE file_id = %s"),
            ("artifacts", "SELECT * FROM artifact WHERE file_id = %s"),
            ("events", "SELECT at, kind, stage, body FROM event WHERE file_id = %s ORDER BY at"))}
        told[file_id]["promised"] = world.ledger.accepted.get(file_id)
        told[file_id]["log"] = log_lines(world, file_id)
    return json.loads(json.dumps(told, default=str))


def log_lines(world, text, limit=40):
    lines = []
    for name in sorted(os.listdir(world.fleet.dir)):
        if name.endswith(".log"):
            with open(os.path.join(world.fleet.dir, name), encoding="utf-8", errors="replace") as f:
                lines += [f"{name}: {line.strip()[:400]}" for line in f if text in line][-limit:]
    return lines[-limit:]

