# SPDX-License-Identifier: Apache-2.0
"""How Postgres runs the services' statements on a new installation.

A service keeps the plans it made for as long as a connection lives. Right after the install, when
Postgres knows the tables as empty, a pass over a whole table looks as cheap as a look by key; such a
plan costs more with each row that comes. So no statement of the services may have one.
"""
import collections
import json
import re

from lib import rig

# They grow with every file, or with every unit of work.
GROW = re.compile(r"(task|file|file_version|file_page|artifact|record|record_row|event(_\w+)?|effect|"
                  r"stage_join|dead_letter|count_delta|batch|idempotency)$")
ENTRY = re.compile(r"^\S+ \S+ \S+ \[\d+\] (\S*) LOG:  duration: [0-9.]+ ms  plan:\n((?:\t.*\n?)+)", re.M)
NODE = re.compile(r"^\t *(?:->  )?(?:Parallel )?(Seq Scan|Index Scan|Index Only Scan|Bitmap Index Scan)"
                  r"(?: Backward)?(?: using (\w+))? on (\w+)[^(]*\(cost", re.M)
# Passes over what waits now: their cost is meant to grow with that. And updates of several keys at once: to the planner a pass over a table of one page costs
# as much as one look by key, whatever the statement says. autovacuum's ANALYZE ends such a plan
# within a minute of the table's growth.
MEANT = (
    "name = 'last_pos'",
    "UPDATE task t SET state = 1, q = NULL, dispatch_seq",
    "WITH due AS (SELECT",
    "UPDATE task SET lease_until = now() + $2::bigint",
    "UPDATE task SET state = 0, q = 0, updated_at = now() FROM",
    "FROM task WHERE state IN (1, 2)",
    "FROM dead_letter WHERE state = 'open' GROUP BY 1, 2",
)


def passes(plan):
    """Nodes that read a growing table from one end to the other, or a whole index of it."""
    lines = plan.splitlines()
    for at, line in enumerate(lines):
        node = NODE.match(line)
        if not node or not GROW.match(node[3]):
            continue
        depth = len(line) - len(line.lstrip("\t -> "))
        own = []
        for after in lines[at + 1:]:
            text = after.lstrip()
            if len(after) - len(text) < depth or text.startswith("->"):
                break
            own.append(text)
        if not any(o.startswith("Index Cond") for o in own):
            yield line.strip()


def statement(plan):
    text = plan.split("Query Text: ", 1)[1]
    return " ".join(re.split(r"\n\t(?=\S.*\(cost=)", text)[0].split())


def work(fleet, client, dataset, fixture, names):
    bodies = []
    for name in names:
        with open(fixture(name), "rb") as f:
            bodies.append((name, f.read()))
    ids = [f["id"] for f in client.upload(dataset, bodies)["files"]]
    rig.wait_until(lambda: fleet.one("SELECT count(*) FROM file WHERE state IN (2, 3) AND file_id ="
                                     " ANY(%s::uuid[])", ids) == len(ids), 90, what="the files at their end")
    return ids


def test_no_pass_over_a_table_that_grows(new_fleet, fixture_path):
    fleet = new_fleet(env={"DOCFLEET_SECOND_PASS": "500ms"})
    fleet.sql(f"ALTER DATABASE {fleet.name} SET session_preload_libraries = 'auto_explain'")
    fleet.sql(f"ALTER DATABASE {fleet.name} SET auto_explain.log_min_duration = 0")
    fleet.start()
    log = fleet.servers.processes["postgres"].log_path
    client = fleet.client("alice")
    dataset = client.dataset(columns=[{"name": "Invoice number", "type": "string",
                                       "description": "number of the invoice", "required": False}])
    fleet.sql("VACUUM ANALYZE")  # the tables are known to be empty, and plans are made anew
    with open(log, encoding="utf-8", errors="replace") as f:
        f.seek(0, 2)
        ids = work(fleet, client, dataset, fixture_path, [
            "note.txt", "chapters.pdf", "invoice-scan.png", "letter.odt", "table.csv"])
        bad = work(fleet, client, dataset, lambda n: __file__, ["wrong.pdf"])
        client.request("POST", f"/files/{ids[0]}/retry")
        client.request("GET", f"/datasets/{dataset}/files")
        client.request("GET", f"/files/{bad[0]}")
        client.request("GET", f"/datasets/{dataset}/records")
        client.request("DELETE", f"/files/{ids[1]}")
        rig.wait_until(lambda: fleet.one("SELECT count(*) FROM file WHERE state = 7") == 1, 60,
                       what="the file removed")
        fleet.stop()
        text = f.read()
    found, seen = collections.defaultdict(set), set()
    for application, plan in ENTRY.findall(text):
        service = application.split(":")[1] if ":" in application else ""
        if "Query Text: " not in plan or service in ("", "ingest-gateway", "cleaner"):
            continue  # these two plan by statistics: their statements are of many kinds, and few
        sql = statement(plan)
        seen.add(sql)
        if any(m in sql for m in MEANT):
            continue
        for node in passes(plan):
            found[sql].add((service, node))
    assert len(seen) > 20, f"plans of {len(seen)} statements only: is auto_explain there?"
    assert not found, "\n\n".join(f"{sql[:600]}\n  {nodes}" for sql, nodes in found.items())


def test_a_sweep_looks_up_its_keys(new_fleet):
    """The cleaner's question about a page of the store's listing costs by the page, not by the files there are."""
    fleet = new_fleet()
    fleet.prepare()
    with open(f"{rig.ROOT}/services/cleaner/sweep.c", encoding="utf-8") as f:
        literal = re.search(r'unnamed_sql\[\] =\n((?:\s*".*"\n?)+;?)', f.read())[1]
    sql = "".join(re.findall(r'"(.*)"', literal)).replace("$1", "%s")
    user = fleet.one("INSERT INTO account (user_id, name) VALUES (gen_random_uuid(), 'many') RETURNING user_id")
    dataset = fleet.one("INSERT INTO dataset (dataset_id, user_id, name) VALUES (gen_random_uuid(), %s, 'many')"
                        " RETURNING dataset_id", user)
    fleet.sql("WITH f AS (INSERT INTO file (file_id, user_id, dataset_id, name, bytes, state) SELECT gen_random_uuid(),"
              " %s, %s, 'n' || n, 1, 2 FROM generate_series(1, 20000) n RETURNING file_id, user_id)"
              " INSERT INTO file_version (file_id, version, object_key, bytes, sha256, mime, kind)"
              " SELECT file_id, 1, 'uploads/' || user_id || '/' || file_id, 1, '', '', '' FROM f", user, dataset)
    fleet.sql("ANALYZE")
    keys = [r["object_key"] for r in fleet.sql("SELECT object_key FROM file_version LIMIT 999")]
    plan = fleet.sql("EXPLAIN (ANALYZE, FORMAT JSON) " + sql, json.dumps([*keys, "uploads/nobody's"]))[0]["QUERY PLAN"][0]

    def read(node):
        loops = node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                                        + node.get("Rows Removed by Join Filter", 0))
        return loops + sum(read(child) for child in node.get("Plans", []))
    assert plan["Plan"]["Actual Rows"] == 1
    assert read(plan["Plan"]) < 10000, json.dumps(plan, indent=1)
