# SPDX-License-Identifier: Apache-2.0
"""Empty work through every stage against pgbench with the statements that this work runs.

The fleet's own statements are taken from the server's log with their parameters while one file goes
through, and made into a pgbench script: for a batch of files as large as the dispatcher's was, send,
claim and end of the text, ai and preview units, in the order and with the session settings of the
services; a second pgbench gives the events their positions. Both run on the same server and in
turn. What the fleet does beyond that (broker, workers, dispatcher, looking for work) is the rest.
"""
import json
import os
import re
import statistics
import subprocess
import time

import load
import psycopg
from lib import rig

# As libcommon/db.c sets them for statements that go by key.
SESSION = {"search_path": "docfleet,public", "plan_cache_mode": "force_generic_plan",
           "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"}
SLOTS = int(os.environ.get("BENCH_SLOTS", "16"))  # of each stage
CLIENTS = (16, 32)  # the faster counts
STAGES = {"text": load.TEXT, "ai": load.AI, "preview": load.PREVIEW}
LINE = re.compile(r"^\S+ \S+ \S+ \[\d+\] (\S*) LOG:  duration: [0-9.]+ ms  execute [^:]*: (.*)$")
PARAM = re.compile(r"\$(\d+) = (NULL|'(?:[^']|'')*')")


class EmptyWorld(load.World):
    def __init__(self, made):
        super().__init__(made, processes=1, slots=SLOTS, sleep=(0, 0), mice_users=0, more_slots=SLOTS)


class Progress:
    """Files that are done, with the database's clock, from the counts of one connection."""

    def __init__(self, conn, files):
        self.conn, self.files = conn, files
        self.base = self.now()[0]

    def now(self):
        row = self.conn.execute(
            "SELECT coalesce(sum(n), 0)::int AS n, extract(epoch FROM clock_timestamp())::float8 AS t"
            " FROM count_delta WHERE from_state = 1 AND to_state = 2").fetchone()
        return row["n"], row["t"]

    def reach(self, share, alive=lambda: True):
        def reached():
            assert alive(), "ended before its files were done"
            n, t = self.now()
            return (n - self.base, t) if n - self.base >= share * self.files else None
        return rig.wait_until(reached, 400, interval=0.1, what=f"{share:.0%} of the files")


# --- the fleet's side --------------------------------------------------------------------------------

def extension(servers, fleet):
    with psycopg.connect(servers.database_url("postgres"), autocommit=True) as conn:
        conn.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    fleet.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements WITH SCHEMA public")


def run_fleet(servers, world, files):
    """Files a second between the first and the last tenth, processor shares, statements."""
    fleet = world.fleet
    for stage in (load.TEXT, load.PREVIEW):
        world.pause(stage)
    time.sleep(1.5)
    load.enter(fleet, load.add_users(fleet, 20), files // 20, tell=False)
    with fleet.db() as conn:
        conn.execute("VACUUM ANALYZE")
        conn.execute("CHECKPOINT")
    extension(servers, fleet)
    for stage in (load.TEXT, load.PREVIEW):
        world.pause(stage, False)

    with fleet.db() as conn:
        progress = Progress(conn, files)
        first = progress.reach(0.1)
        conn.execute("SELECT pg_stat_statements_reset()")
        with load.Watch(servers, fleet) as watch:
            last = progress.reach(0.9)
        statements = conn.execute(
            "SELECT calls, total_exec_time AS ms, rows, query FROM pg_stat_statements WHERE dbid ="
            " (SELECT oid FROM pg_database WHERE datname = current_database()) AND query !~"
            " 'pg_stat|count_delta WHERE' ORDER BY total_exec_time DESC").fetchall()
    rig.wait_until(lambda: fleet.one("SELECT count(*) FROM task WHERE state < 4") == 0, 120)
    n = last[0] - first[0]
    return {"files_per_s": n / (last[1] - first[1]), "files": n, "watch": watch.result,
            "statements": [dict(s, query=" ".join(s["query"].split())) for s in statements]}


def per_file(run, words):
    """Calls and rows per file, mean ms, of the statements that hold the words."""
    found = [s for s in run["statements"] if all(w in s["query"] for w in words)]
    calls, rows, took = (sum(s[k] for s in found) for k in ("calls", "rows", "ms"))
    return calls / run["files"], rows / max(1, calls), took / max(1, calls)


# --- what one file runs ------------------------------------------------------------------------------

def capture(servers, world):
    """[(application, statement, {number: text or None})] of one file going through, in order."""
    fleet = world.fleet
    log = servers.processes["postgres"].log_path
    user = load.add_users(fleet, 1)

    def logging(on):
        with psycopg.connect(servers.database_url("postgres"), autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET log_min_duration_statement = " + ("0" if on else "-1"))
            conn.execute("SELECT pg_reload_conf()")
        time.sleep(1)
    logging(True)
    at = os.path.getsize(log)
    try:
        load.enter(fleet, user, 1)
        rig.wait_until(lambda: fleet.one("SELECT count(*) FROM file WHERE user_id = %s AND state = 2",
                                         user[0].id) == 1, 30)
        time.sleep(1)
    finally:
        logging(False)
    with open(log, encoding="utf-8", errors="replace") as f:
        f.seek(at)
        lines = f.read().splitlines()
    found = []
    for line, after in zip(lines, lines[1:] + [""]):
        match = LINE.match(line)
        if match:
            text = after.split("parameters: ", 1)[1] if "parameters: " in after else ""
            found.append((match[1], match[2], {
                int(n): None if v == "NULL" else v[1:-1].replace("''", "'")
                for n, v in PARAM.findall(text)}))
    return found, fleet.one("SELECT file_id::text FROM file WHERE user_id = %s", user[0].id)


class Script:
    """A pgbench script; constant parameters become variables given on the command line."""

    def __init__(self):
        self.lines, self.constants = [], {}

    def constant(self, text):
        for name, value in self.constants.items():
            if value == text:
                return name
        name = f"c{len(self.constants) + 1}"
        self.constants[name] = text
        return name

    def add(self, sql, params, variables):
        """variables: {a parameter's text: the variable that takes its place}."""
        sql = re.sub(r"(?<=[A-Za-z0-9\"]):(?=[A-Za-z])", "'||':'||'", sql)  # times in to_char

        def put(match):
            text = params.get(int(match[1]))
            if text is None:
                return "NULL"
            if text in variables:
                return ":" + variables[text]
            if '"recordId"' in text:  # each record has an id of its own
                record = json.loads(text)["record"]["recordId"]
                name = self.constant(text.replace(record, "RECORD-ID"))
                return f"replace(:{name}, 'RECORD-ID', gen_random_uuid()::text)"
            return ":" + self.constant(text)
        self.lines.append(re.sub(r"\$(\d+)", put, sql) + ";")

    def write(self, path):
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(self.lines) + "\n")
        return [x for name, value in self.constants.items() for x in ("-D", f"{name}={value}")]


def pick(found, application, words, file_id):
    return [(sql, params) for app, sql, params in found if f":{application}:" in app
            and all(w in sql for w in words) and any(file_id in (p or "") for p in params.values())]


def unit_script(found, file_id, batch):
    """Send, claim and end of `batch` files through text, ai and preview."""
    script, sends = Script(), {}
    for stage, number in STAGES.items():
        for sql, params in pick(found, "dispatcher", ["dispatch_seq + 1"], file_id):
            keys = json.loads(params[1])
            if keys[0][1] == number:
                sends[stage] = (sql, params, keys[0])
    columns = [f"max(f) FILTER (WHERE n = {i}) AS f{i}" for i in range(1, batch + 1)]
    for stage, (_, _, key) in sends.items():
        middle = ",".join(json.dumps(x) for x in key[1:-1])
        columns.append(f"'[' || string_agg('[\"' || f || '\",{middle},' || (n - 1) || ']', ',') || ']'"
                       f" AS d{stage}")
    script.lines.append(
        f"SELECT {', '.join(columns)} FROM (SELECT f, (i - s * {batch})::int AS n FROM (SELECT"
        f" nextval('bench_seq') - 1 AS s) s, bench_file WHERE i > s * {batch} AND i <= (s + 1) * {batch}"
        f" OFFSET 0) x \\gset")
    for stage, (sql, params, key) in sends.items():
        script.add(sql, params, {params[1]: "d" + stage})
        worker = pick(found, f"sleepworker-{stage}", [], file_id)
        assert len(worker) >= 2, f"no claim and end of {stage} in the log"
        for i in range(1, batch + 1):
            for sql2, params2 in worker:
                script.add(sql2, params2, {file_id: f"f{i}"})
    return script


def events_script(found):
    """The dispatcher's transaction that gives positions; a pause when there is little."""
    script = Script()
    lock = next((s, p) for a, s, p in found if ":dispatcher:" in a and "pg_advisory_xact_lock" in s)
    assign = next((s, p) for a, s, p in found if ":dispatcher:" in a and "last_pos" in s)
    script.lines.append("BEGIN;")
    script.add(*lock, {})
    script.add(*assign, {})
    script.lines += ["COMMIT;", "\\sleep 20 ms"]
    return script


# --- pgbench's side ----------------------------------------------------------------------------------

def run_pgbench(servers, found, file_id, files, batch, clients):
    """Files a second of pgbench alone on a fresh database with the same rows."""
    fleet = rig.Fleet(servers, build=load.BUILD, partitions=load.PARTITIONS)
    load.enter(fleet, load.add_users(fleet, 20), files // 20, tell=False)
    with fleet.db() as conn:
        conn.execute("CREATE TABLE bench_file AS SELECT file_id::text AS f, row_number() OVER (ORDER BY"
                     " file_id) AS i FROM file")
        conn.execute("CREATE UNIQUE INDEX ON bench_file (i)")
        conn.execute("CREATE SEQUENCE bench_seq CACHE 1")
        conn.execute("VACUUM ANALYZE")
        conn.execute("CHECKPOINT")
    env = dict(os.environ, PGOPTIONS=" ".join(f"-c {k}={v}" for k, v in SESSION.items()))
    base = [f"{rig.PG_BIN}/pgbench", "-n", "-M", "prepared"]
    unit_path, event_path = (os.path.join(fleet.dir, n) for n in ("units.sql", "events.sql"))
    units = unit_script(found, file_id, batch).write(unit_path)
    events = events_script(found).write(event_path)
    rounds = files // batch // clients
    with open(os.path.join(fleet.dir, "pgbench.log"), "w", encoding="utf-8") as out, fleet.db() as conn:
        assigner = subprocess.Popen([*base, "-c", "1", "-T", "3600", *events, "-f", event_path,
                                     fleet.database_url], env=env, stdout=out, stderr=out)
        progress = Progress(conn, rounds * batch * clients)
        worker = subprocess.Popen([*base, "-c", str(clients), "-j", "2", "-t", str(rounds), *units,
                                   "-f", unit_path, fleet.database_url], env=env, stdout=out, stderr=out)
        try:
            first = progress.reach(0.1, lambda: worker.poll() in (None, 0))
            with load.Watch(servers) as watch:
                last = progress.reach(0.9, lambda: worker.poll() in (None, 0))
            behind = conn.execute("SELECT count(*) AS n FROM event WHERE pos IS NULL").fetchone()["n"]
            worker.wait(120)
        finally:
            for process in (assigner, worker):
                process.terminate()
                process.wait()
    n = rounds * batch * clients
    finished = fleet.one("SELECT count(*) FROM file WHERE state = 2")
    with open(os.path.join(fleet.dir, "pgbench.log"), encoding="utf-8") as f:
        assert finished == n, f"pgbench ended {finished} files, not {n}: {f.read()[-3000:]}"
    with psycopg.connect(servers.database_url("postgres"), autocommit=True) as conn:
        conn.execute(f'DROP DATABASE "{fleet.name}" WITH (FORCE)')
    return {"files_per_s": (last[0] - first[0]) / (last[1] - first[1]), "files": last[0] - first[0],
            "clients": clients, "watch": watch.result, "behind": behind}


# --- the part ----------------------------------------------------------------------------------------

KINDS = (("end of a unit", ["state = 2", "lease_token", "event"], ["attempts + "]),
         ("claim", ["lease_owner", "attempts + "], []), ("send", ["dispatch_seq + "], []),
         ("positions of events", ["last_pos"], []), ("what is out", ["t.lease_token", "LEFT JOIN task"], []),
         ("heads of a user", ["LIMIT", "ORDER BY", "seq"], ["RECURSIVE"]))


def statements_table(run):
    total = sum(s["ms"] for s in run["statements"]) or 1
    rows = ["| statement of the fleet | calls a file | ms each | share of time in statements |",
            "|---|---|---|---|"]
    for s in run["statements"][:12]:
        text = re.sub(r"\s+", " ", s["query"])
        text = (text[:76] + "…").replace("|", "\\|")
        rows.append(f"| `{text}` | {s['calls'] / run['files']:.2f} | {s['ms'] / s['calls']:.3f} | "
                    f"{s['ms'] / total:.0%} |")
    return "\n".join(rows)


def shares_table(runs, other):
    names = sorted({n for r in runs for n in r["watch"]["shares"]},
                   key=lambda n: -statistics.mean(r["watch"]["shares"].get(n, 0) for r in runs))
    rows = ["| program | share of both cores | core-ms a file |", "|---|---|---|"]
    cores = len(os.sched_getaffinity(0))
    for n in names:
        share = statistics.mean(r["watch"]["shares"].get(n, 0) for r in runs)
        per = statistics.mean(r["watch"]["shares"].get(n, 0) * cores * 1000 / r["files_per_s"] for r in runs)
        if share >= 0.002:
            rows.append(f"| {n} | {share:.1%} | {per:.2f} |")
    for what in ("idle", "foreign", "steal"):
        rows.append(f"| ({what}) | {statistics.mean(r['watch'][what] for r in runs):.1%} | |")
    rows.append(f"| (the same in pgbench's runs: idle) | "
                f"{statistics.mean(r['watch']['idle'] for r in other):.1%} | |")
    return "\n".join(rows)


def part(servers, report):
    import fairness
    files, rounds = (600, 1) if fairness.QUICK else (6000, 3)
    runs, bench_runs, batch = [], [], 1
    for _ in range(rounds):
        with EmptyWorld(servers) as world:
            found, file_id = capture(servers, world)
            run = run_fleet(servers, world, files)
        runs.append(run)
        calls, rows, _ = per_file(run, ["dispatch_seq + "])
        batch = max(1, min(16, round(rows)))
        print(f"  fleet   {run['files_per_s']:.0f} files/s, batch {rows:.1f}, idle "
              f"{run['watch']['idle']:.0%}, foreign {run['watch']['foreign']:.0%}", flush=True)
        tries = [run_pgbench(servers, found, file_id, files, batch, clients) for clients in CLIENTS]
        bench_runs.append(max(tries, key=lambda r: r["files_per_s"]))
        for other in tries:
            print(f"  pgbench {other['files_per_s']:.0f} files/s with {other['clients']} clients, idle "
                  f"{other['watch']['idle']:.0%}, foreign {other['watch']['foreign']:.0%}, "
                  f"{other['behind']} events without a position", flush=True)
    load.save("throughput", {"fleet": runs, "pgbench": bench_runs, "batch": batch})
    ours = statistics.median(r["files_per_s"] for r in runs)
    theirs = statistics.median(r["files_per_s"] for r in bench_runs)
    report.bound("throughput", "empty work: fleet / pgbench with the same statements", ours / theirs, 0.5,
                 at_most=False)
    fairness.section("throughput", "Empty work through all stages, against pgbench",
                     report.table("throughput") + (
        f"\n\n| | files a second, each run | median |\n|---|---|---|\n"
        f"| fleet | {', '.join(format(r['files_per_s'], '.0f') for r in runs)} | {ours:.0f} |\n"
        f"| pgbench | {', '.join(format(r['files_per_s'], '.0f') for r in bench_runs)} | {theirs:.0f} |\n\n"
        f"{shares_table(runs, bench_runs)}\n\n{statements_table(runs[-1])}\n\n"
        f"{files:,} files of 20 users wait in the database; the fleet (dispatcher, 16 slots of text, 8 of ai, "
        f"8 of preview, handlers that return at once, no child, no store) takes them through text, ai, record "
        f"and preview, three units a file; measured between the first and the last tenth. Acceptance over "
        f"HTTP is not in it. pgbench runs send (in batches of {batch}, the fleet's average), claim and end of "
        f"the same three units and gives all events their positions, with 16 and with 32 clients, of which the "
        f"faster counts, prepared, with the services' session settings, measured between the same tenths; statements and parameters are taken from the server's log while one "
        f"file goes through. Same server, in turn, fsync and synchronous_commit on, all on one machine with "
        f"the broker. {fairness.watched_line([r['watch'] for r in runs])}"))
