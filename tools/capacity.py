#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints docs/capacity.md: rates, memory and load from the measured figures of docs/benchmarks.md, and
the arithmetic for 1, 10 and 1,000 machines. `make docs` writes it, a test compares it."""
import math
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CORES, MEMORY = 16, 64  # of a machine in the arithmetic; GiB
PG_CORES = 32  # of the largest Postgres server the arithmetic takes
PARTITIONS = 200  # TOPICS_PARTITIONS_MAX
BUSY = 0.7  # of what a machine can do; the rest is for peaks, repeats and the system
STAGES = {"text-extractor": "text", "ocr-fallback": "ocr", "ai-extractor": "ai",
          "preview-worker": "preview", "thumbnail-worker": "thumbnail"}
CHILD_LIMIT = {"text-extractor": 512, "ocr-fallback": 512, "ai-extractor": 0, "preview-worker": 1024,
               "thumbnail-worker": 1024}  # MiB of address space, docs/adr/0003-jail.md


def section(page, name):
    text = re.search(rf"<!-- bench:{name} -->(.*?)<!-- /bench:{name} -->", page, re.S).group(1)
    return text, re.search(r"^Measured on (.*)\.$", text, re.M).group(1)


def tables(text):
    """[(head, {first cell: {column: number}})]"""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        rows = [[c.strip() for c in line.strip("|\n").split("|")] for line in block.splitlines()]
        head = rows[0]
        body = {r[0]: {h: number(c) for h, c in zip(head[1:], r[1:])} for r in rows[2:]}
        found.append((head, body))
    return found


def number(text):
    try:
        return float(text.replace(",", "").rstrip("%"))
    except ValueError:
        return 0.0


def show(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
                      *("| " + " | ".join(r) + " |" for r in rows)])


def rates(cpu):
    """Files a second that a core does of each stage alone."""
    rows = []
    for kind, cost in cpu.items():
        cells = [show(1000 / cost[p]) if cost[p] >= 1 else "–" for p in STAGES]
        rows.append([kind, *cells, show(sum(cost[p] for p in STAGES))])
    return table(["files a second and core", *STAGES.values(), "core-ms in all stages"], rows)


def memory_table(memory):
    rows = []
    for program, m in memory.items():
        limit = CHILD_LIMIT.get(program, 0)
        rows.append([program, show(m["service and zygotes at rest"]),
                     show(m["largest child"]) if m["largest child"] else "–",
                     f"{limit}" if limit else "–"])
    return table(["MiB", "at rest", "largest child seen", "limit of a child"], rows)


def load_table(cpu, load):
    rows = [[kind, show(cpu[kind]["postgres"]), show(c["commits"]), show(c["KiB of WAL"]),
             show(c["KiB of rows and indexes"]), show(cpu[kind]["kafka"]),
             show(c["orders through Kafka"] + c["events through Kafka"]),
             show(cpu[kind]["s3"]), show(c["objects written"]), show(c["KiB of objects"])]
            for kind, c in load.items()]
    return table(["a file", "Postgres: core-ms", "commits", "KiB WAL", "KiB kept", "Kafka: core-ms",
                  "records", "store: core-ms", "objects", "KiB"], rows)


def fleet(cpu, load, dispatcher, machines):
    """Of each kind alone, with all machines' cores for workers and gateways: what they do, what it
    asks of the rest, and what ends it first."""
    cores = machines * CORES * BUSY
    rows = []
    for kind, cost in cpu.items():
        work = sum(cost[p] for p in STAGES) + cost["ingest-gateway"]
        wanted = cores * 1000 / work
        limits = {"the workers' cores": wanted,
                  f"Postgres, {PG_CORES} cores": PG_CORES * BUSY * 1000 / cost["postgres"],
                  f"{PARTITIONS} partitions": most_by_partitions(cost),
                  "one dispatcher, one core":
                      1000 * BUSY / (dispatcher * load[kind]["orders through Kafka"])}
        first = min(limits, key=limits.get)
        rate = limits[first]
        rows.append([kind, show(wanted), show(rate), show(rate * 3600), first,
                     show(rate * cost["postgres"] / 1000), show(rate * load[kind]["commits"]),
                     show(rate * load[kind]["KiB of objects"] / 1024),
                     f"{max(1, math.ceil(wanted / rate)):,}"])
    return table(["kind", "workers alone: files/s", "files/s", "files/hour", "ends it first",
                  "Postgres cores", "commits/s", "store MiB/s", "fleets for all cores"], rows)


def most_by_partitions(cost):
    """A partition feeds one worker process: at most so many run of a stage, with a machine's slots."""
    slowest = max(cost[p] for p in STAGES)
    return PARTITIONS * CORES * BUSY * 1000 / slowest


def main():
    with open(os.path.join(ROOT, "docs", "benchmarks.md"), encoding="utf-8") as f:
        page = f.read()
    text, measured = section(page, "percore")
    empty_text, empty_measured = section(page, "throughput")
    (_, cpu), (_, load), (_, memory) = tables(text)
    runs = next(body for head, body in tables(empty_text) if "median" in head)
    shares = next(body for head, body in tables(empty_text) if "core-ms a file" in head)
    pg = sum(v["core-ms a file"] for k, v in shares.items() if k.startswith("postgres"))
    dispatcher = shares["dispatcher"]["core-ms a file"] / 3  # an order; three units a file there
    ocr_page = next(cost["ocr-fallback"] for kind, cost in cpu.items() if "12 pages" in kind) / 12
    print(f"""# Capacity

What a core does, what a file costs, and what that means for 1, 10 and 1,000 machines. Made by
`make docs` (tools/capacity.py) from [benchmarks.md](benchmarks.md); nothing is entered by hand but what
is called an assumption.

- Costs by kind of file: measured on {measured}, by `make bench-percore`.
- Empty work and its statements: measured on {empty_measured}.

Both were taken on small machines that did other things beside. Measure your own documents before you
buy machines: `make bench-percore` takes a quarter of an hour, and pages differ by more than a factor of ten.

## Rates by stage and kind of file
{rates(cpu)}

One slot keeps one core busy, so this is also the rate of a slot. OCR takes {show(ocr_page)} core-ms for a
page of these scans; dense pages take several times as much. The `rules` backend is nearly free; with an AI
service the ai stage waits for it instead, and its slots, not cores, are the limit: rate = slots / seconds a call.

## Memory
{memory_table(memory)}

Give a worker *at rest* + slots × *largest child* + a reserve, and as limit *at rest* + slots × *limit of a
child*: then a bomb ends in the jail and not by the kernel's hand on the whole pod. Scratch space: slots × the
largest file.

## What a file asks of Postgres, Kafka and the store
{load_table(cpu, load)}

Records are work orders below 1 KB and events below 4 KB. "KiB kept" grows with the number of files and
is pruned after the times in [operations.md](operations.md#data); the store keeps originals and artifacts.
Empty work, three units a file, ran at {show(runs['fleet']['median'])} files a second on two cores with everything
on them, and cost Postgres {show(pg)} core-ms a file; pgbench with the same statements came to
{show(runs['pgbench']['median'])}. So the table is the careful end: its files came in a trickle, one slot a stage, and under load
Postgres and the dispatcher do many at a time. The arithmetic takes Postgres from the table and the dispatcher, which
costs {show(dispatcher)} core-ms an order there, from the run under load.

## Arithmetic
Assumptions: a machine has {CORES} cores and {MEMORY} GiB, {BUSY:.0%} of which are planned with; machines run workers and
gateways; Postgres, Kafka and the store run beside them. Postgres has at most {PG_CORES} cores. All files are of one
kind; for a mix, add up core-ms a file by share. *Workers alone* is what the cores would do if nothing else
ended it first.
""")
    for machines in (1, 10, 1000):
        cores = machines * CORES
        title = f"{machines:,} machine{'s' if machines > 1 else ''}"
        print(f"### {title}\n{cores:,} cores.\n\n{fleet(cpu, load, dispatcher, machines)}\n")
    print(f"""## What comes first, and what to do
1. **Postgres.** It ends every row at 1,000 machines: one server keeps the cores of the last column's part busy. One server first gets cores and fast commits: its disk
   must do the commits/s of the table (commits are grouped; an fsync of 1 ms is enough for thousands). Then: files in
   larger batches, longer documents in larger units, a pooler for connections, read replicas for lists. Past
   one server, several fleets, each with users of its own, as many as the last column says: nothing is shared between
   users. Commits are those of a trickle; under load several units end in one.
2. **The dispatcher.** One leads a stage; `DOCFLEET_SHARDS` splits the users of a stage among several.
3. **Partitions.** A partition feeds one worker process: more workers of a stage than partitions stand idle. Make topics
   with `docfleetctl migrate --topics --partitions N`, N the most workers of a stage you will ever run, at most
   {PARTITIONS}; and use slots before replicas.
4. **The store.** Several objects a file; a bucket on AWS takes 3,500 writes a second for a prefix, and
   originals and artifacts have prefixes of their own by user and by file.
5. **Kafka** carries a few records of a kilobyte for each file: three brokers do.""")


if __name__ == "__main__":
    main()
