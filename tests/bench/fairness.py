#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fair the fleet is, and how fast: measured on real servers with sleepworkers.

usage: make bench-fairness [PART=mouse,key,use,jain,sybil,hop,million,ocr,throughput,recovery] [QUICK=1]

Every part writes build/bench/<part>.json and its section of docs/benchmarks.md (QUICK=1: only the
JSON, with small numbers that prove nothing). At the end one line a bound says whether it is met;
the exit status is 1 when one is not, 2 when the processor was too busy for a run to count.
BENCH_SEEDS and BENCH_MICE change the number of seeds and of mice a run. BENCH_BUSY=1 lets runs on a
busy machine count and leaves the page alone, to try the bench itself; BENCH_BUILD takes other binaries.
"""
import collections
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
sys.path.insert(0, HERE)

from run import enter  # noqa: E402

if __name__ == "__main__":
    enter(os.path.abspath(__file__), [] if os.environ.get("BENCH_BUILD") else [("release", ["all", "test-programs"])])

import load  # noqa: E402
from lib import bench, rig  # noqa: E402

QUICK = os.environ.get("QUICK", "") not in ("", "0")
SEEDS = int(os.environ.get("BENCH_SEEDS", "1" if QUICK else "5"))
MICE = int(os.environ.get("BENCH_MICE", "60" if QUICK else "500"))
RATE = 9.0  # mice a second: a fifth of what 16 slots of 0.35 s do
SLEEP = (200, 500)
IDLE_LEAST = 0.15
SETTLE_S = 3.0


class Report:
    """Bounds with their verdicts, and text for the page."""

    def __init__(self):
        self.bounds, self.void = [], []

    def bound(self, part, what, value, limit, at_most=True, unit=""):
        met = value <= limit if at_most else value >= limit
        self.bounds.append({"part": part, "what": what, "value": value, "limit": limit,
                            "at_most": at_most, "unit": unit, "met": bool(met)})
        return met

    def busy(self, part, watched):
        """A sleep-stage run on a full processor measured the processor."""
        if watched["idle"] < IDLE_LEAST and not os.environ.get("BENCH_BUSY"):
            self.void.append(f"{part}: {watched['idle']:.0%} idle, {watched['foreign']:.0%} of the "
                             "processor taken by others")
            return True
        return False

    def lines(self, part=None):
        rows = []
        for b in self.bounds:
            if part in (None, b["part"]):
                rows.append(f"| {b['what']} | {number(b['value'])}{b['unit']} | "
                            f"{'≤' if b['at_most'] else '≥'} {number(b['limit'])}{b['unit']} | "
                            f"{'met' if b['met'] else '**not met**'} |")
        return rows

    def table(self, part):
        return "\n".join(["| bound | measured | wanted | |", "|---|---|---|---|", *self.lines(part)])


def number(x):
    if isinstance(x, float) and math.isinf(x):
        return "∞"
    if not isinstance(x, float):
        return f"{x:,}"
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}" if abs(x) < 1 else f"{x:.2f}"


def section(name, title, text):
    print(f"\n## {title}\n{text}\n", flush=True)
    if not QUICK and not os.environ.get("BENCH_BUSY"):
        bench.write_section(name, title, text)


def watched_line(runs):
    """What the machine did during all runs of a part."""
    if not runs:
        return ""
    return (f"Idle processor {min(r['idle'] for r in runs):.0%} to {max(r['idle'] for r in runs):.0%}, "
            f"stolen ≤ {max(r['steal'] for r in runs):.1%}, taken by other programs "
            f"≤ {max(r['foreign'] for r in runs):.0%}, the servers' data on {runs[0]['filesystem']}, fdatasync p99 "
            f"{statistics.median(r['fsync_p99_ms'] for r in runs):.1f} ms (worst run "
            f"{max(r['fsync_p99_ms'] for r in runs):.1f}), broker's longest GC pause "
            f"{max(r['gc_max_ms'] for r in runs):.0f} ms.")


def ms(x):
    return "∞" if math.isinf(x) else f"{x * 1000:,.0f}"


# --- mice beside elephants -------------------------------------------------------------------------

def elephants(world, arm):
    """Brings in what the arm is about; gives (number of elephants, backlog that is kept up)."""
    fleet = world.fleet
    if arm == "alone":
        return None
    if arm in ("N=10000", "fifo"):
        load.enter(fleet, load.add_users(fleet, 1), 10000 if not QUICK else 3000)
        return None
    if arm == "50 elephants":
        load.enter(fleet, load.add_users(fleet, 50), 200 if not QUICK else 60)
        return None
    return Feeder(fleet, load.add_users(fleet, 1), 100)  # N=100


class Feeder:
    """Keeps an elephant's backlog at n files, for it would be over in seconds."""

    def __init__(self, fleet, users, n):
        import threading
        self.fleet, self.users, self.n = fleet, users, n
        self.stop, self.thread = threading.Event(), threading.Thread(target=self.run, daemon=True)
        load.enter(fleet, users, n)
        self.thread.start()

    def run(self):
        while not self.stop.wait(0.3):
            left = self.fleet.one("SELECT count(*) FROM task WHERE stage = 1 AND user_id = %s"
                                  " AND q = 0", self.users[0].id)
            if left < self.n:
                load.enter(self.fleet, self.users, self.n - left)

    def close(self):
        self.stop.set()
        self.thread.join()


def mouse_run(world, seed, arm, mice, wait_s):
    feeder = elephants(world, arm)
    time.sleep(SETTLE_S)
    rows = load.ledger(seed, mice, RATE, world.users)
    with load.Watch(world.servers, world.fleet) as watch:
        accepted, late = load.post_ledger(world.fleet, rows)
        latencies = load.wait_records(world.fleet, accepted, wait_s)
    left = world.fleet.one("SELECT count(*) FROM task WHERE stage = 1 AND state < 4")
    if feeder:
        feeder.close()
    load.cancel_rest(world.fleet)
    run = {"arm": arm, "seed": seed, "late_s": round(late, 3), "elephant_left": left,
           "watch": watch.result, **load.summary(list(latencies.values()))}
    print(f"  seed {seed} {arm:13} n {run['n']} p50 {ms(run['p50'])} p95 {ms(run['p95'])} "
          f"p99 {ms(run['p99'])} ms, unfinished {run['unfinished']}, idle {watch.result['idle']:.0%},"
          f" foreign {watch.result['foreign']:.0%}", flush=True)
    return run, sorted(latencies.values())


def part_mouse(servers, report):
    arms = ["alone", "N=10000", "N=100", "50 elephants"]
    runs, pooled, per_seed = [], collections.defaultdict(list), collections.defaultdict(dict)
    fifo_mice = min(MICE, 40 if QUICK else 100)
    for seed in range(1, SEEDS + 1):
        with load.World(servers, sleep=SLEEP, mice_users=5000) as world:
            order = arms[(seed - 1) % len(arms):] + arms[:(seed - 1) % len(arms)]
            for arm in order:
                run, values = mouse_run(world, seed, arm, MICE, 60)
                runs.append(run)
                if not report.busy(f"mouse, {arm}, seed {seed}", run["watch"]):
                    pooled[arm] += values
                    per_seed[seed][arm] = run
            if seed <= 3:  # the negative control: every late mouse waits at least 50 times p99
                world.dispatcher(scheduling="fifo")
                world.wait_joined()
                p99 = load.quantile(pooled["alone"] or [0.5], 0.99)
                run, values = mouse_run(world, seed, "fifo", fifo_mice, 55 * p99)
                runs.append(run)
                pooled["fifo"] += values
                per_seed[seed]["fifo"] = run
    load.save("mouse", {"runs": runs, "rate": RATE, "sleep_ms": SLEEP, "slots": 16})
    text = mouse_text(runs, pooled, per_seed, report)
    section("fairness-mouse", "Mice beside elephants (sleeping stages, K=16)", text)


def mouse_text(runs, pooled, per_seed, report):
    p99 = {arm: load.quantile(v, 0.99) for arm, v in pooled.items()}
    if not all(pooled.get(a) for a in ("alone", "N=10000", "N=100", "50 elephants")):
        report.bound("mouse", "runs that count", 0, 1, at_most=False)
        return "Every run was void: the processor was not idle enough.\n\n" + watched_line(
            [r["watch"] for r in runs])
    report.bound("mouse", "p99 beside one elephant of 10,000 / alone", p99["N=10000"] / p99["alone"], 1.5)
    report.bound("mouse", "p99 beside N=10,000 / N=100", p99["N=10000"] / p99["N=100"], 1.10)
    report.bound("mouse", "p99 beside 50 elephants / one", p99["50 elephants"] / p99["N=10000"], 1.10)
    if pooled.get("fifo"):
        # what is not through has waited at least as long as the run waited for it
        report.bound("mouse", "first in, first out (negative control): p99 / alone",
                     p99["fifo"] / p99["alone"], 50.0, at_most=False)
    rows = ["| arm | mice | p50 | p95 | p99 | max | not through | p99 of the seeds: median, worst |",
            "|---|---|---|---|---|---|---|---|"]
    for arm in ("alone", "N=10000", "N=100", "50 elephants", "fifo"):
        values = pooled.get(arm)
        if not values:
            continue
        s = load.summary(values)
        seeds = [r[arm]["p99"] for r in per_seed.values() if arm in r]
        counted = all(r[arm]["n"] >= 500 for r in per_seed.values() if arm in r)
        rows.append(f"| {arm} | {s['n']} | {ms(s['p50'])} | {ms(s['p95'])} | {ms(s['p99'])} | "
                    f"{ms(s['max'])} | {s['unfinished']} | {ms(statistics.median(seeds))}, "
                    f"{ms(max(seeds))}{'' if counted else ' (fewer than 500 each)'} |")
    ratios = [r["N=10000"]["p99"] / r["alone"]["p99"] for r in per_seed.values()
              if "alone" in r and "N=10000" in r]
    return (report.table("mouse") + "\n\n" + "\n".join(rows) + (
        f"\n\nMilliseconds from the 202 to the commit of the record on the database's clock. K = 16 "
        f"slots in 4 workers, S = {SLEEP[0]} to {SLEEP[1]} ms a unit in the text stage, evenly "
        f"distributed by the hash of the file; the ai stage ends at once, previews sleep on slots of "
        f"their own. Open loop: {MICE} mice a run at {RATE:g} a second (exponential gaps, seeds "
        f"1 to {SEEDS}), from 5,000 users, each one upload over HTTP. N=10,000: one elephant, entered "
        f"at once; N=100: its backlog is kept at 100 files; 50 elephants: 200 files each, 10,000 in "
        f"sum; the order of the arms turns from seed to seed. A run ends when its mice are in, the "
        f"rest of the elephant is cancelled. Ratio to alone by seed: median "
        f"{number(statistics.median(ratios)) if ratios else '-'}, worst "
        f"{number(max(ratios)) if ratios else '-'}. FIFO runs have {min(MICE, 100)} mice and are cut "
        f"off when every late mouse has waited 55 times the p99 of the undisturbed ones; those count "
        f"as infinitely late. {watched_line([r['watch'] for r in runs])}"))


def part_key(servers, report):
    """The same elephant with Kafka's own partition choice, for comparison only."""
    rows = ["| partition of a work order | mice | p50 | p95 | p99 | max |", "|---|---|---|---|---|---|"]
    runs = []
    with load.World(servers, sleep=SLEEP, mice_users=5000) as world:
        for seed in (1,) if QUICK else (1, 2):
            for how in ("fair", "key"):
                world.dispatcher(partitioning=how)
                run, _ = mouse_run(world, seed, "N=10000", MICE, 60)
                runs.append(dict(run, partitioning=how))
                rows.append(f"| {how}, seed {seed} | {run['n']} | " + " | ".join(
                    ms(run[k]) for k in ("p50", "p95", "p99", "max")) + " |")
    load.save("key", runs)
    section("fairness-key", "Partition by load or by user", "\n".join(rows) + (
        "\n\nMilliseconds, beside one elephant of 10,000, as above. `fair`: the worker with the least "
        f"to do; `key`: Kafka's hash of the user. {watched_line([r['watch'] for r in runs])}"))


# --- what an elephant gets -------------------------------------------------------------------------

def busy_share(rows, slots, start, end):
    """Share of slot time in [start, end] that units ran, from their claims and ends."""
    total = 0.0
    for r in rows:
        if r["stage"] == load.TEXT and r["claimed"]:
            done = r["done"] or end
            total += max(0.0, min(done, end) - max(r["claimed"], start))
    return total / (slots * (end - start))


def part_use(servers, report):
    seconds, runs = 15 if QUICK else 40, []
    with load.World(servers, sleep=SLEEP, mice_users=0) as world:
        for _ in range(1 if QUICK else 3):
            elephant = load.add_users(world.fleet, 1)
            load.enter(world.fleet, elephant, 60 * (seconds + 10))
            time.sleep(SETTLE_S)
            start = load.db_now(world.fleet)
            with load.Watch(servers, world.fleet) as watch:
                time.sleep(seconds)
            end = load.db_now(world.fleet)
            # not those of the run before: what was cancelled there has no end
            rows = [r for r in load.units(world.fleet, start - 5) if r["user"] == elephant[0].id]
            share = busy_share(rows, world.slots, start, end)
            done = sum(1 for r in rows if r["stage"] == load.TEXT and r["done"]
                       and start <= r["done"] < end)
            runs.append({"share": share, "files_per_s": done / (end - start), "watch": watch.result})
            report.busy("use", watch.result)
            load.cancel_rest(world.fleet)
    load.save("use", runs)
    worst = min(r["share"] for r in runs)
    report.bound("use", "share of 16 slots that a lone elephant keeps running", worst, 0.95, False)
    shares = ", ".join(f"{r['share']:.1%}" for r in runs)
    speeds = ", ".join(f"{r['files_per_s']:.1f}" for r in runs)
    section("fairness-use", "A lone elephant on idle slots", report.table("use") + (
        f"\n\nShare of slot time between claim and end of a unit in {len(runs)} windows of {seconds} s: "
        f"{shares}; {speeds} files a second. K = 16 in 4 workers, S = {SLEEP[0]} to {SLEEP[1]} ms. "
        f"{watched_line([r['watch'] for r in runs])}"))


def jain(values):
    squares = sum(v * v for v in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def jain_windows(rows, cost, users, size=200):
    """Jain's index by cost of every window of `size` completions: by what ended in it, and by the
    service that was given in it (a unit's cost spread over the time it ran)."""
    done = sorted((r for r in rows if r["stage"] == load.TEXT and r["done"]), key=lambda r: r["done"])
    ended, served = [], []
    for at in range(0, len(done) - size + 1, max(1, size // 20)):
        part = done[at:at + size]
        start, end = part[0]["done"], part[-1]["done"]
        sums = dict.fromkeys(users, 0.0)
        for r in part:
            sums[r["user"]] += cost[r["user"]]
        ended.append(jain(list(sums.values())))
        sums = dict.fromkeys(users, 0.0)
        for r in done:
            if r["done"] > start and r["claimed"] < end:
                inside = min(r["done"], end) - max(r["claimed"], start)
                sums[r["user"]] += cost[r["user"]] * inside / max(1e-6, r["done"] - r["claimed"])
        served.append(jain(list(sums.values())))
    return ended, served


def part_jain(servers, report):
    seconds, runs = 20 if QUICK else 75, []
    with load.World(servers, sleep=SLEEP, mice_users=0) as world:
        for told in (10, 1):  # does the estimate of the size hold, or is it found out afterwards?
            users = load.add_users(world.fleet, 10)
            load.enter(world.fleet, users[1:], 8 * seconds, tell=False)
            load.enter(world.fleet, users[:1], 4 * (seconds + 20), name="x10-elephant.txt", cost=told)
            time.sleep(20)  # the first of them had all slots until the others were found
            start = load.db_now(world.fleet)
            with load.Watch(servers, world.fleet) as watch:
                time.sleep(seconds)
            time.sleep(6)
            # units that ended in the window may have begun before it
            rows = [r for r in load.units(world.fleet, start - 30)
                    if r["claimed"] and (r["done"] or start) >= start]
            cost = {u.id: 10 if u is users[0] else 1 for u in users}
            ended, served = jain_windows(rows, cost, [u.id for u in users])
            sums = collections.Counter()
            for r in rows:
                if r["done"] and r["stage"] == load.TEXT:
                    sums[r["user"]] += cost[r["user"]]
            whole = jain([sums[u.id] for u in users])
            runs.append({"told": told, "windows": len(ended), "ended_min": min(ended, default=0),
                         "ended_median": statistics.median(ended or [0]), "whole": whole,
                         "served_min": min(served, default=0),
                         "served_median": statistics.median(served or [0]),
                         "x10_share": sums[users[0].id] / max(1, sum(sums.values())),
                         "watch": watch.result})
            report.busy("jain", watch.result)
            load.cancel_rest(world.fleet)
    load.save("jain", runs)
    known, guessed = runs
    report.bound("jain", "Jain's index by cost over 10 users, worst of any 200 completions "
                 "(service given, sizes known)", known["served_min"], 0.98, False)
    report.bound("jain", "the same by what ended in the window", known["ended_min"], 0.98, False)
    report.bound("jain", "service given, sizes found out afterwards", guessed["served_min"], 0.98, False)
    section("fairness-jain", "Share by cost of ten backlogged users", report.table("jain") + (
        "\n\n| sizes | windows | by service: worst, median | by ends: worst, median | whole run | share of "
        "the user with 10x files |\n|---|---|---|---|---|---|\n" + "\n".join(
            f"| {'known' if r['told'] == 10 else 'all told as 1'} | {r['windows']} | "
            f"{r['served_min']:.3f}, {r['served_median']:.3f} | {r['ended_min']:.3f}, "
            f"{r['ended_median']:.3f} | {r['whole']:.3f} | {r['x10_share']:.1%} |" for r in runs) +
        f"\n\nNine users with files of cost 1 and one with files ten times as long and costly, all with a "
        f"backlog; K = 16, S = {SLEEP[0]} to {SLEEP[1]} ms a unit of cost; windows of 200 completions, "
        f"one every 10. *By service* spreads a unit's cost over the time it ran; *by ends* counts it whole "
        f"where it ended: two large files more or less are 20 of 22 there. "
        f"{watched_line([r['watch'] for r in runs])}"))


def part_sybil(servers, report):
    """One account with 100 keys against one with a single key, both with the same files."""
    files = 200 if QUICK else 1000
    with load.World(servers, sleep=SLEEP, mice_users=0) as world:
        fleet = world.fleet
        many, one = load.add_users(fleet, 1, keys=100)[0], load.add_users(fleet, 1)[0]
        world.pause(load.TEXT)
        world.pause(load.PREVIEW)
        time.sleep(1.5)

        def send(n):
            poster = load.Poster(fleet)
            for i in range(files // 10):
                poster.post(many if n < 10 else one, f"s{n}-{i}.txt", key=(n * 10 + i % 10) % 100
                            if n < 10 else 0)
        load.parallel(send, range(20), 8)
        world.pause(load.TEXT, False)
        time.sleep(SETTLE_S)
        seconds = files * 2 * 0.35 / world.slots * 0.7
        start = load.db_now(fleet)
        with load.Watch(servers, fleet) as watch:
            time.sleep(seconds)
        end = load.db_now(fleet)
        got = collections.Counter(r["user"] for r in load.units(fleet, start)
                                  if r["stage"] == load.TEXT and r["done"] and r["done"] <= end)
        gain = got[many.id] / max(1, got[one.id]) - 1
    report.busy("sybil", watch.result)
    load.save("sybil", {"gain": gain, "done": [got[many.id], got[one.id]], "watch": watch.result})
    report.bound("sybil", "gain of one account with 100 keys over one with one", gain, 0.05)
    section("fairness-sybil", "A hundred keys of one account", report.table("sybil") + (
        f"\n\nTwo accounts with {files} uploaded files each, one through 100 keys in turn; files done in "
        f"{seconds:.0f} s while both had a backlog: {got[many.id]} and {got[one.id]}. "
        f"{watched_line([watch.result])}"))


# --- hops ------------------------------------------------------------------------------------------

def part_hop(servers, report):
    files = 40 if QUICK else 600
    with load.World(servers, sleep=(0, 0), mice_users=50) as world:
        fleet, poster = world.fleet, load.Poster(world.fleet)
        with load.Watch(servers, fleet) as watch:
            for i in range(files + 10):
                file_id, _ = poster.post(world.users[i % 50], "hop.txt")
                with fleet.db() as conn:
                    rig.wait_until(lambda c=conn, f=file_id: c.execute(
                        "SELECT state FROM file WHERE file_id = %s", (f,)).fetchone()["state"] == 2,
                        20, interval=0.01)
        rows = load.units(fleet)
    ended = {(r["file"], r["stage"]): r for r in rows}
    hops = sorted(ended[(f, load.AI)]["claimed"] - r["done"] for (f, s), r in ended.items()
                  if s == load.TEXT and (f, load.AI) in ended and r["done"])[:files]
    first = load.summary([r["done"] - r["claimed"] for r in rows if r["done"] and r["claimed"]])
    s = load.summary(hops)
    report.busy("hop", watch.result)
    load.save("hop", {"hop": s, "unit": first, "watch": watch.result})
    report.bound("hop", "text done to ai claimed, idle, p50", s["p50"] * 1000, 20.0, unit=" ms")
    report.bound("hop", "text done to ai claimed, idle, p99", s["p99"] * 1000, 100.0, unit=" ms")
    section("fairness-hop", "Hop between two stages, idle fleet", report.table("hop") + (
        f"\n\n{s['n']} files, one at a time; from the statement that ends the text unit to the one that "
        f"claims the ai unit, so both commits, the notification, the dispatcher, the broker and the "
        f"worker are in it. p95 {ms(s['p95'])} ms, longest {ms(s['max'])} ms. An empty unit takes "
        f"{ms(first['p50'])} ms from claim to end (p99 {ms(first['p99'])}). "
        f"{watched_line([watch.result])}"))


# --- a million waiting files -----------------------------------------------------------------------

def histogram(metrics, name, stage, q):
    """Upper bound of the bucket that holds the quantile; None without such a metric."""
    rows = []
    for key, value in metrics.items():
        if key.startswith(name + "_bucket") and f'stage="{stage}"' in key:
            le = key.split('le="')[1].split('"')[0]
            rows.append((math.inf if le == "+Inf" else float(le), value))
    rows.sort()
    if not rows or rows[-1][1] == 0:
        return None
    return next(le for le, n in rows if n >= q * rows[-1][1])


def peak_rss(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as f:
        return next(int(x.split()[1]) * 1024 for x in f if x.startswith("VmHWM"))


def part_million(servers, report):
    users, each = (1000, 20) if QUICK else (10000, 100)
    with load.World(servers, sleep=SLEEP, mice_users=200, stages=("ai",)) as world:
        fleet = world.fleet
        crowd = load.add_users(fleet, users)
        fleet.stop("dispatcher")
        with fleet.db() as conn:  # an index for looking by name only: its upkeep is not the question
            conn.execute("DROP INDEX file_name_trgm")
        start = time.monotonic()
        for i in range(0, users, 500):
            load.enter(fleet, crowd[i:i + 500], each, stages=(load.TEXT,), tell=False)
        with fleet.db() as conn:
            conn.execute("VACUUM ANALYZE task")
        filled = time.monotonic() - start
        print(f"  {users * each:,} tasks entered in {filled:.0f} s", flush=True)
        world.dispatcher()
        dispatcher = fleet.process("dispatcher")
        time.sleep(8)
        since = load.db_now(fleet)
        with load.Watch(servers, fleet) as watch:
            accepted, _ = load.post_ledger(fleet, load.ledger(1, 30 if QUICK else 200, 4.0, world.users,
                                                                once=True))
            latencies = load.summary(list(load.wait_records(fleet, accepted, 60).values()))
        seconds = load.db_now(fleet) - since
        metrics = fleet.metrics("dispatcher")
        rows = [r for r in load.units(fleet, since) if r["stage"] == load.TEXT and r["done"]]
        waiting = fleet.one("SELECT count(*) FROM task WHERE stage = 1 AND q = 0")
        rss = peak_rss(dispatcher)
    pick = {q: histogram(metrics, "docfleet_dispatch_pick_seconds", "text", q) for q in (0.5, 0.99)}
    busy = busy_share(rows, 16, since, since + seconds)
    report.busy("million", watch.result)
    load.save("million", {"tasks": users * each, "users": users, "rss": rss, "pick": pick,
                          "mice": latencies, "busy": busy, "watch": watch.result,
                          "fill_s": filled, "waiting": waiting, "metrics": metrics})
    report.bound("million", f"pick p99 with {users * each:,} waiting tasks of {users:,} users",
                 math.inf if pick[0.99] is None else pick[0.99] * 1000, 5.0, unit=" ms")
    report.bound("million", "dispatcher's memory, highest", rss / 2 ** 20, 64.0, unit=" MiB")
    section("fairness-million", f"{users * each:,} waiting tasks of {users:,} users", report.table("million") + (
        f"\n\nEntered with SQL in the text stage ({filled:.0f} s); the dispatcher then starts and "
        f"dispatches for K = 16 for {seconds:.0f} s, {busy:.1%} of the slots' time in use, {len(rows)} units "
        f"done. The pick is from the choice of a batch to its order (`docfleet_dispatch_pick_seconds`; p50 ≤ "
        f"{number((pick[0.5] or math.inf) * 1000)} ms; bounds of its buckets). New users meanwhile, one file "
        f"each, 202 to record: p50 {ms(latencies['p50'])}, p95 {ms(latencies['p95'])} ms, "
        f"{latencies['unfinished']} not through. {watched_line([watch.result])}"))


# --- real OCR ----------------------------------------------------------------------------------------

SCAN = """
import sys
from PIL import Image
page = Image.open(sys.argv[1])
page.crop((0, 0, page.width, page.height * 18 // 100)).save(sys.argv[2], quality=80)
"""


class OcrWorld(load.World):
    """Real text, ocr and ai workers; ocr has two slots. No previews: they would be a third."""

    def __init__(self, made):
        super().__init__(made, mice_users=5000, stages=(), text=False)
        for stage in (load.PREVIEW, 5):
            self.pause(stage)
        self.fleet.start("text-extractor", "ocr-fallback", "ai-extractor",
                         env={"DOCFLEET_SLOTS": "2", "DOCFLEET_LOG_LEVEL": "warn",
                              "DOCFLEET_OCR_ENGINE": "tesseract"})
        rig.wait_until(lambda: self.fleet.one(
            "SELECT count(*) FROM (SELECT stage FROM worker GROUP BY stage HAVING"
            " sum(cardinality(partitions)) = %s) x", load.PARTITIONS) == 3, 60)
        self.slots = 2

    def copies(self, users, n, body):
        """An elephant of scans: one is uploaded, the others are files with the same object."""
        file_id, _ = load.Poster(self.fleet).post(users[0], "scan.jpg", body, mime="image/jpeg")
        load.enter(self.fleet, users, n, name="scan.jpg", stages=(load.TEXT,), tell=False)
        with self.fleet.db() as conn:
            conn.execute("UPDATE file_version v SET object_key = o.object_key, sha256 = o.sha256,"
                         " bytes = o.bytes, mime = o.mime, kind = o.kind FROM file_version o"
                         " WHERE o.file_id = %s AND v.object_key = 'none'", (file_id,))
            conn.execute("UPDATE file f SET bytes = v.bytes FROM file_version v WHERE v.file_id ="
                         " f.file_id AND f.user_id = %s", (users[0].id,))


def ocr_waits(rows, mice):
    """Waits of the mice for a slot of ocr, and the length of a unit, in seconds."""
    ended = {r["file"]: r["done"] for r in rows if r["stage"] == load.TEXT}
    unit = [r["done"] - r["claimed"] for r in rows if r["stage"] == load.OCR and r["done"]
            and r["claimed"]]
    waits = [r["claimed"] - ended[r["file"]] for r in rows if r["stage"] == load.OCR
             and r["file"] in mice and r["claimed"] and ended.get(r["file"])]
    return waits, unit


def part_ocr(servers, report):
    seeds, mice = (1, 15) if QUICK else (3, 175)
    scan = os.path.join(servers.dir, "scan.jpg")
    subprocess.run(["/usr/bin/python3", "-c", SCAN, os.path.join(rig.FIXTURES, "delivery.jpg"), scan],
                   check=True)
    with open(scan, "rb") as f:
        body = f.read()
    runs, pooled, waits, lengths = [], collections.defaultdict(list), collections.defaultdict(list), []
    with OcrWorld(servers) as world:
        fleet = world.fleet
        load.post_ledger(fleet, load.ledger(9, 6, 5.0, world.users), body, "image/jpeg")
        rig.wait_until(lambda: fleet.one("SELECT count(*) FROM record") == 6, 120)
        alone_s = min(
            r["done"] - r["claimed"] for r in load.units(fleet) if r["stage"] == load.OCR and r["done"])
        rate = 0.25 * 2 / alone_s
        for seed in range(1, seeds + 1):
            for arm in ("alone", "elephant"):
                if arm == "elephant":
                    world.copies(load.add_users(fleet, 1), int(2 / alone_s * (mice / rate + 60)), body)
                time.sleep(SETTLE_S)
                since = load.db_now(fleet)
                with load.Watch(servers, fleet) as watch:
                    accepted, late = load.post_ledger(
                        fleet, load.ledger(seed, mice, rate, world.users, "scan.jpg"), body, "image/jpeg")
                    values = load.wait_records(fleet, accepted, 120)
                rows = load.units(fleet, since - 1)
                wait, unit = ocr_waits(rows, accepted)
                lengths += unit if arm == "elephant" else []
                pooled[arm] += values.values()
                waits[arm] += wait
                run = {"arm": arm, "seed": seed, "late_s": late, "watch": watch.result,
                       "unit_s": statistics.mean(unit) if unit else None,
                       **load.summary(list(values.values()))}
                runs.append(run)
                print(f"  seed {seed} {arm:9} p50 {ms(run['p50'])} p99 {ms(run['p99'])} ms, unit "
                      f"{ms(run['unit_s'] or math.nan)} ms", flush=True)
                load.cancel_rest(fleet)
    load.save("ocr", {"runs": runs, "rate": rate, "alone_s": alone_s})
    unit = statistics.mean(lengths) if lengths else math.inf
    s = {arm: load.summary(v) for arm, v in pooled.items()}
    w = load.summary(waits["elephant"])
    report.bound("ocr", "p99 beside an elephant of scans / alone", s["elephant"]["p99"] / s["alone"]["p99"], 2.0)
    report.bound("ocr", "p99 of the wait for a slot, in units", w["p99"] / unit, 1.5)
    section("fairness-ocr", "Mice beside an elephant of scans (real OCR, K=2)", report.table("ocr") + (
        "\n\n| arm | mice | p50 | p95 | p99 | max | not through |\n|---|---|---|---|---|---|---|\n" + "\n".join(
            f"| {arm} | {x['n']} | " + " | ".join(ms(x[k]) for k in ("p50", "p95", "p99", "max")) +
            f" | {x['unfinished']} |" for arm, x in s.items()) +
        f"\n\nMilliseconds from the 202 to the record, text, ocr (Tesseract) and ai (`rules`) with the real "
        f"programs; K = 2 slots of ocr on {len(os.sched_getaffinity(0))} cores, so that the processor is the "
        f"resource and there is no idle time to ask for. A scan is a page of a few lines: {ms(alone_s)} ms in "
        f"ocr alone, {ms(unit)} ms on average beside the elephant. Mice at {rate:.2f} a second, {seeds} seeds, "
        f"arms in turn, p99 of all seeds together. Previews are paused. Wait for a slot of ocr beside the "
        f"elephant: p50 {ms(w['p50'])}, p99 {ms(w['p99'])} ms; a unit is not interrupted, so half a unit over "
        f"two slots is the least. Not to be mixed with the figures of sleeping stages. "
        f"{watched_line([r['watch'] for r in runs])}"))


# --- all -------------------------------------------------------------------------------------------

PARTS = {"hop": part_hop, "use": part_use, "mouse": part_mouse, "key": part_key, "jain": part_jain,
         "sybil": part_sybil, "million": part_million, "ocr": part_ocr,
         "throughput": "throughput", "recovery": "recovery"}


def main():
    wanted = [p for p in os.environ.get("PART", "").split(",") if p] or list(PARTS)
    unknown = set(wanted) - set(PARTS)
    if unknown:
        sys.exit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    report, failed = Report(), []
    servers = load.servers()
    try:
        for name in wanted:
            start = time.monotonic()
            print(f"== {name}", flush=True)
            try:
                fn = PARTS[name]
                if isinstance(fn, str):
                    fn = importlib.import_module(fn).part
                fn(servers, report)
            except Exception as e:  # pylint: disable=broad-exception-caught
                import traceback
                traceback.print_exc()
                failed.append(f"{name}: {e}")
            print(f"== {name}: {time.monotonic() - start:.0f} s", flush=True)
    finally:
        servers.stop()
    load.save("bounds", {"bounds": report.bounds, "void": report.void, "failed": failed})
    print(f"\n{'QUICK: these figures prove nothing' if QUICK else 'Bounds'}")
    for b in report.bounds:
        print(f"{'met    ' if b['met'] else 'NOT MET'}  {b['part']:10} {b['what']}: "
              f"{number(b['value'])}{b['unit']} (wanted {'≤' if b['at_most'] else '≥'} "
              f"{number(b['limit'])}{b['unit']})")
    for text in report.void:
        print(f"VOID     {text}")
    for text in failed:
        print(f"FAILED   {text}")
    print(json.dumps({"met": sum(b["met"] for b in report.bounds), "bounds": len(report.bounds),
                      "void": len(report.void), "failed": len(failed)}))
    if failed or any(not b["met"] for b in report.bounds):
        sys.exit(1)
    sys.exit(2 if report.void else 0)


if __name__ == "__main__":
    main()
