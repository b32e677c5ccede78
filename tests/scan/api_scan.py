#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`make api-scan`: the running API against its own description with schemathesis, into docs/api-scan.md.

usage: api_scan.py [--examples N] [--seed N] [--as alice,root,nobody] [--only OPERATION] [--no-page]

A real fleet with something of every kind in it (ground.py), then for each person a run of all phases
(examples, coverage, fuzzing, stateful) with all checks and N examples an operation. The page is made of the
last run of each person (build/scan), so that they can be scanned one after the other or side by side. The
exit status is 1 when there is any finding; hooks.py says which requests are changed and why.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from run import enter  # noqa: E402

if __name__ == "__main__":
    enter(os.path.abspath(__file__), [("release", ["all", "test-programs"])])

import ground  # noqa: E402
from lib import bench, rig  # noqa: E402

OUT = os.path.join(ROOT, "build", "scan")
# Where ids of the ground go. The second list wins: what these remove must not be what others look at.
BOUND = (
    (r"^/s/[^/]+/unlock", {"path.token": "tokens", "body.password": "words"}),
    (r"^/s/", {"path.token": "tokens"}),
    (r"^/api/v1/datasets/", {"path.id": "datasets"}),
    (r"^/api/v1/files/", {"path.id": "files"}),
    (r"^/api/v1/batches/", {"path.id": "batches"}),
    (r"^/api/v1/records/", {"path.id": "records"}),
    (r"^/api/v1/imports/", {"path.id": "imports", "path.run": "runs"}),
    (r"^/api/v1/admin/users/", {"path.id": "users"}),
    (r"^/api/v1/admin/(dead-letters|quarantine)/", {"path.id": "letters"}),
    (r"^/api/v1/imports$", {"body.datasetId": "datasets"}),
)
REMOVING = (
    ("deleteDataset", {"path.id": "doomed_datasets"}),
    ("removeFiles", {"path.id": "doomed_datasets"}),
    ("deleteFile", {"path.id": "doomed_files"}),
    ("deleteImport", {"path.id": "doomed_imports"}),
    ("revokeKey", {"path.key": "doomed_keys"}),
    ("revokeShare", {"path.id": "files", "path.share": "doomed_shares"}),
)
QUERY = {"query.datasetId": "datasets", "query.fileId": "files", "query.batchId": "batches"}
# Besides the answers that schemathesis takes for a refusal: 412, 413, 414, 416 and 431 are one, too.
# And what fits the schema may meet a precondition or a range that the object does not.
REFUSALS = [400, 401, 403, 404, 405, 406, 409, 410, 412, 413, 414, 415, 416, 422, 429, 431]
CHECKS = (f"[checks.negative_data_rejection]\nexpected-statuses = {REFUSALS}\n"
          "[checks.positive_data_acceptance]\n"
          "expected-statuses = [\"2xx\", \"3xx\", 401, 403, 404, 409, 410, 412, 416, 429]\n")
EVENTS_EXAMPLES = 50  # each is a stream that is listened to for a while


def toml(value):
    return json.dumps(value)  # strings, numbers, lists and booleans look the same


def bindings(table, names):
    """One line: parameters that take an id from a dictionary four times out of five."""
    inner = ", ".join(f'{toml(k)} = {{ dictionary = {toml(v)}, probability = 0.8 }}'
                      for k, v in table.items() if v in names)
    return f"parameters = {{ {inner} }}\n" if inner else ""


def configuration(ids, args, keys):
    """The settings of one run; without keys it is nobody's."""
    names = {k: v for k, v in ids.items() if v}
    text = (f"seed = {args.seed}\ncontinue-on-failure = true\nrequest-timeout = 30.0\n"
            "suppress-health-check = [\"all\"]\n" + CHECKS +
            "[generation]\ndatabase = \"none\"\n"
            f"max-examples = {args.examples}\n[phases.stateful]\nmax-steps = 6\n")
    if keys:
        text += f"[auth.wfc]\npath = {toml(keys)}\nuser = {toml(args.person)}\n"
        if args.person == "alice":
            text += 'peers = ["alice", "bob"]\n'
    for name, values in names.items():
        text += f"[dictionaries.{name}]\nvalues = {toml(values)}\n"
    for operation, table in REMOVING:
        text += (f"[[operations]]\ninclude-operation-id = {toml(operation)}\n" +
                 bindings(table, names) +
                 "phases.fuzzing.extra-data-sources.responses = false\n"
                 "phases.coverage.extra-data-sources.responses = false\n")
    text += (f'[[operations]]\ninclude-operation-id = "getEvents"\nrequest-timeout = 0.3\n'
             f"max-stream-events = 3\n"
             f"generation.max-examples = {min(args.examples, EVENTS_EXAMPLES)}\n")
    for pattern, table in BOUND:
        text += f"[[operations]]\ninclude-path-regex = {toml(pattern)}\n" + \
            bindings({**table, **QUERY}, names)
    text += f'[[operations]]\ninclude-path-regex = "."\n' + bindings(QUERY, names)
    return text


def schemathesis(fleet, clients, ids, args):
    """One person's run; gives its report, and keeps it with the counts of answers."""
    folder = os.path.join(OUT, args.person)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    keys = None
    if args.person != "nobody":
        keys = os.path.join(fleet.dir, "keys.json")
        with open(keys, "w", encoding="utf-8") as f:
            json.dump({"auth": [{"name": n, "fixedHeaders": [
                {"name": "Authorization", "value": f"Bearer {c.key}"}]}
                for n, c in clients.items() if n in (args.person, "alice", "bob")]}, f)
    config = os.path.join(fleet.dir, "schemathesis.toml")
    mine = ids.get(args.person, ids["alice"])
    with open(config, "w", encoding="utf-8") as f:
        f.write(configuration(mine, args, keys))
    with open(os.path.join(fleet.dir, "ground.json"), "w", encoding="utf-8") as f:
        json.dump({"kept": [c.key.split("_")[1] for c in clients.values()] +
                   [c.json("/auth/me")["id"] for c in clients.values()],
                   "spare": {"keys": mine["doomed_keys"], "users": mine["users"]}}, f)
    log = os.path.join(folder, "output.txt")
    env = dict(os.environ, SCHEMATHESIS_HOOKS="hooks", PYTHONPATH=HERE, PYTHONHASHSEED="0",
               SCAN_GROUND=os.path.join(fleet.dir, "ground.json"),
               SCAN_COUNTS=os.path.join(folder, "counts.json"))
    command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "--no-color",
               "--config-file", config, "run", f"{fleet.api}/openapi.json", "--url", fleet.url,
               "--checks", "all", "--report-json-path", os.path.join(folder, "report.json")]
    if args.only:
        command += [word for name in args.only.split(",") for word in ("--include-operation-id", name)]
    with open(log, "w", encoding="utf-8") as out:
        subprocess.run(command, env=env, cwd=fleet.dir, stdout=out, stderr=subprocess.STDOUT,
                       check=False)
    report, counts = (read(os.path.join(folder, f"{name}.json")) for name in ("report", "counts"))
    with open(os.path.join(folder, "result.json"), "w", encoding="utf-8") as f:
        json.dump({"report": report, "counts": counts, "examples": args.examples, "seed": args.seed,
                   "date": time.strftime("%Y-%m-%d", time.gmtime()), "commit": bench.commit()}, f)
    return report


def read(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


# --- the page -------------------------------------------------------------------------------------

HEAD = """# The API against its description

Written by `make api-scan`; nothing here is estimated.

[schemathesis](https://schemathesis.readthedocs.io) {version} draws requests from `/api/v1/openapi.json`, good and
bad, and compares every answer with what the description says: all of its checks (no 5xx, documented status codes,
content types, headers and schemas, bad data refused, good data taken, methods and `Allow`, credentials asked for,
nobody else's objects, nothing usable once it is gone), in all of its phases (coverage of every constraint, random
requests, chains of calls by links), against a real fleet with documents, records, dead letters and imports in it.
"""
EXCUSED = """
## Where a check was told more

A schema cannot say everything. What fits it may be refused all the same, and only then, for the reasons listed
in [tests/scan/hooks.py](../tests/scan/hooks.py), each by its code and words: made-up cursors, JSON beyond what the
description limits (NUL, 64 bits, depth), lengths in bytes, columns that do not fit together, times no calendar
has, cron and time zones, weak passwords, a form without a file. 412, 413, 414, 416 and 431 count as refusals.
Requests that would end the scan's own keys or accounts are sent at others made for it. Each example of
`GET /api/v1/events` is a stream that is listened to for 0.3 s, so there are at most {events}.

What it does not show: that answers are *right*. That is what the other tests are for.
"""


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]) + "\n"


def by_status(counts):
    found = {}
    for name, n in counts.items():
        status = name.rsplit(" ", 1)[1] if not name.endswith("no answer") else "no answer"
        found[status] = found.get(status, 0) + n
    return found


PEOPLE = {"alice": "a user", "root": "an admin", "nobody": "nobody"}


def page(results):
    """What the last run of each person says; findings in full."""
    text = HEAD.format(version=next(iter(results.values()))["report"]["schemathesis_version"])
    rows, every = [], {}
    for name, result in results.items():
        report, statuses = result["report"], by_status(result["counts"])
        for status, n in statuses.items():
            every[status] = every.get(status, 0) + n
        rows.append([PEOPLE[name], f"{result['date']}, {result['commit']}, seed {result['seed']}",
                     f"{result['examples']:,}", report["operations"]["tested"], f"{sum(result['counts'].values()):,}",
                     sum(n for s, n in statuses.items() if s >= "500" and s != "no answer"),
                     statuses.get("no answer", 0), report["test_cases"]["unique_failures"],
                     sum(e["count"] for e in report["errors"]), f"{report['running_time'] / 60:.0f} min"])
    text += "\n" + table(["as", "run", "examples an operation", "operations", "requests", "5xx", "no answer",
                          "findings", "errors", "took"], rows)
    text += "\nAnswers: " + ", ".join(f"{n:,} × {s}" for s, n in sorted(every.items())) + ".\n"
    for name, result in results.items():
        for f in result["report"]["failures"]:
            text += f"\n- **{PEOPLE[name]}**: {f['title']} ({f['count']}): {', '.join(f['operations'])}"
    reached = {k.rsplit(" ", 1)[0] for r in results.values() for k in r["counts"] if k.rsplit(" ", 1)[1][0] == "2"}
    tested = {k.rsplit(" ", 1)[0] for r in results.values() for k in r["counts"]}
    text += (f"\n\n{len(reached)} of {len(tested)} operations also answered with success; never did: " +
             (", ".join(f"`{x}`" for x in sorted(tested - reached)) or "none") + ".\n")
    return text + EXCUSED.format(events=EVENTS_EXAMPLES)


def write_page():
    kept = {name: os.path.join(OUT, name, "result.json") for name in PEOPLE}
    with open(os.path.join(ROOT, "docs", "api-scan.md"), "w", encoding="utf-8") as f:
        f.write(page({name: read(path) for name, path in kept.items() if os.path.exists(path)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--as", dest="people", default="alice,root,nobody")
    parser.add_argument("--only", help="ids of operations, with commas between")
    parser.add_argument("--no-page", action="store_true")
    args = parser.parse_args()
    os.makedirs(OUT, exist_ok=True)
    servers = rig.Servers()
    results = {}
    try:
        servers.start()
        fleet, clients, ids = ground.build(servers)
        pid = fleet.process("ingest-gateway").pid
        for args.person in args.people.split(","):
            began = time.monotonic()
            report = results[args.person] = schemathesis(fleet, clients, ids, args)
            print(f"{args.person}: {report['test_cases']['generated']} cases, "
                  f"{report['test_cases']['unique_failures']} findings, "
                  f"{time.monotonic() - began:.0f} s; {OUT}/{args.person}/output.txt", flush=True)
        assert fleet.process("ingest-gateway").pid == pid and fleet.running("ingest-gateway")
        fleet.stop()
    finally:
        servers.stop()
    if not args.no_page and not args.only:
        write_page()
    return 1 if any(r["exit_code"] for r in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
