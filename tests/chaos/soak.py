#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The full run: continuous load, a seeded fault every few seconds, checks at each quiescence.

usage: soak.py [--seed N] [--faults N] [--files N] [--seconds N] [--rate FILES_PER_SECOND]

Ends when both the faults and the files are reached, or when the time is over. Every 125 faults
load and faults stop, the world gets quiet (there is a limit to it), and Q1 to Q10 are asked; then it
goes on. Writes build/chaos/soak-SEED.json, which report.py turns into docs/reliability.md. Exit code 1
on any finding, with its evidence in the JSON and the logs of all processes beside it.
"""
import argparse
import collections
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import confluent_kafka  # noqa: E402
import psycopg  # noqa: E402
import requests  # noqa: E402

from chaos import checks  # noqa: E402
from chaos.faults import WEIGHTS, Faults  # noqa: E402
from chaos.load import Load  # noqa: E402
from chaos.world import SCALED, SLEEP, World  # noqa: E402
from lib import rig  # noqa: E402

OUT = os.path.join(rig.ROOT, "build", "chaos")
TROUBLE = (OSError, psycopg.Error, requests.RequestException, confluent_kafka.KafkaException,
           rig.Timeout, AssertionError)
# A sweep lists the whole store, which versitygw does by walking all keys for each page: with tens of
# thousands of files that is all it does. Each check sweeps as well.
SOAK = {"DOCFLEET_CLEAN_INTERVAL": "300s"}
QUIET_LIMIT = 120  # seconds in which nothing ends


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next((x.split(":")[1].strip() for x in f if x.startswith("model name")), "?")
    return {"cpus": len(os.sched_getaffinity(0)), "model": model, "kernel": platform.release(),
            "memoryGiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30)}


def commit():
    run = subprocess.run(["git", "describe", "--always", "--dirty=+", "--abbrev=12"], cwd=rig.ROOT,
                         capture_output=True, text=True)
    return run.stdout.strip() or "?"


def cpu_idle():
    with open("/proc/stat", encoding="utf-8") as f:
        numbers = [int(x) for x in f.readline().split()[1:]]
    return numbers[3], sum(numbers), numbers[7]


class Soak:
    def __init__(self, args):
        self.args, self.dice = args, random.Random(args.seed)
        self.later_list, self.epochs, self.kinds = [], [], collections.Counter()
        self.skipped, self.trouble = collections.Counter(), []
        self.findings, self.started = {}, time.time()
        self.result = {
            "seed": args.seed, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": machine(), "commit": commit(), "settings": {**SCALED, **SLEEP, **SOAK},
            "arguments": vars(args), "weights": WEIGHTS}

    # --- the clock of faults ----------------------------------------------------------------------
    def later(self, seconds, action):
        self.later_list.append((time.monotonic() + seconds, action))

    def run_due(self, everything=False):
        now = time.monotonic()
        due = [x for x in self.later_list if everything or x[0] <= now]
        self.later_list = [x for x in self.later_list if x not in due]
        for at, action in sorted(due, key=lambda x: x[0]):
            try:
                action()
            except TROUBLE as e:  # the server it needs is down: again in a moment
                self.trouble.append(f"{type(e).__name__}: {str(e)[:200]}")
                if not everything:
                    self.later(1, action)

    def turn(self, seconds):
        """Lets time pass: looks after processes, ends what is over."""
        end = time.monotonic() + seconds
        while True:
            self.run_due()
            self.world.supervise()
            if self.load.errors:
                raise RuntimeError(f"the load broke: {self.load.errors}")
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(0.1, left))

    def inject(self):
        """Draws until a fault fits; gives what it was."""
        for _ in range(20):
            kind = self.dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            try:
                what = getattr(self.faults, kind)()
            except TROUBLE as e:
                self.trouble.append(f"{kind}: {type(e).__name__}: {str(e)[:200]}")
                what = None
            if what is not None:
                self.kinds[kind] += 1
                return f"{kind} {what}"
            self.skipped[kind] += 1
        return None

    # --- epochs -------------------------------------------------------------------------------------
    def quiesce(self):
        began, files = time.monotonic(), len(self.world.ledger.accepted)
        self.load.pause.set()
        self.run_due(everything=True)
        self.world.heal()
        self.later_list.clear()
        for fault in self.world.injected:  # what was cut short has ended now
            fault["seconds"] = min(fault["seconds"], time.time() - fault["at"])
        self.faults.down.clear(), self.faults.frozen.clear(), self.faults.limited.clear()
        healed = time.monotonic() - began
        drained = self.load.drain()
        answered = time.monotonic() - began
        found, quiet, took = {}, True, {}
        try:
            self.world.wait_quiet(QUIET_LIMIT, hurry=True)
        except rig.Timeout as e:
            quiet, found["quiet"] = False, [{"what": str(e)}]
        until_quiet = time.monotonic() - began
        if not drained:
            found["drain"] = [{"what": "uploads without an answer after the faults had ended"}]
        if quiet:
            found.update(checks.run(self.world, took=took))
        else:
            found.update(checks.run(self.world, ["Q1", "Q2", "Q3", "Q4", "Q6", "Q7", "Q8"]))
        self.epochs.append({
            "at": round(time.time() - self.started, 1), "files": files,
            "faults": sum(self.kinds.values()), "secondsToQuiet": round(until_quiet, 1),
            "seconds": round(time.monotonic() - began, 1), "checkSeconds": took,
            "hurried": self.world.hurried, "findings": found})
        say(f"healed after {healed:.0f} s, answered after {answered:.0f} s, "
            f"quiet after {until_quiet:.0f} s, checked in "
            f"{time.monotonic() - began - until_quiet:.0f} s: {files} files, "
            f"{sum(self.kinds.values())} faults, findings: {', '.join(found) or 'none'}")
        if found:
            self.findings = found
            self.result["evidence"] = checks.evidence(self.world, found)
        return not found

    def enough(self):
        return sum(self.kinds.values()) >= self.args.faults and \
            len(self.world.ledger.accepted) >= self.args.files

    def run(self):
        a = self.args
        workers = {"text": 2, "ocr": 1, "ai": 2, "preview": 2}
        self.world = World(seed=a.seed, workers=workers, slots=8, gateways=2, dispatchers=2,
                           cleaners=2, spare=1, sleep={"DOCFLEET_SLEEP_PUTS": "false"},
                           env={"DOCFLEET_SLOTS": "8", **SOAK})
        for stage in ("preview", "ocr"):  # objects to look for; the others need no store
            for name, role in self.world.roles.items():
                if name.startswith(stage + "#"):
                    role["env"]["DOCFLEET_SLEEP_PUTS"] = "true"
        with self.world:
            self.load = Load(self.world, rate=a.rate, users=a.users)
            self.faults = Faults(self.world, self.dice, self.later)
            self.load.new_epoch()
            self.load.start()
            say(f"seed {a.seed}: the world is up")
            self.begin, idle = time.monotonic(), cpu_idle()
            try:
                good = self.loop()
            finally:
                self.load.finish()
                self.figures(idle)
            if not good:
                self.keep_logs()
        return good

    def loop(self):
        a, end, told, since = self.args, self.begin + self.args.seconds, 0, 0
        due = time.monotonic()
        while True:
            due = max(due + self.dice.uniform(a.every_min, a.every_max), time.monotonic() + 0.5)
            self.turn(due - time.monotonic())
            what = self.inject()
            since += what is not None
            if a.verbose:
                say(f"  {what}")
            elif time.monotonic() - told > 30:
                told = time.monotonic()
                say(f"{len(self.world.ledger.accepted)} files, {sum(self.kinds.values())} faults, "
                    f"{self.load.backlog} unfinished, last: {what}")
            over = self.enough() or time.monotonic() >= end
            if since >= a.epoch or over:
                since = 0
                if not self.quiesce():
                    return False
                if over:
                    return True
                self.load.new_epoch()
                due = time.monotonic()

    def figures(self, idle):
        world, now = self.world, cpu_idle()
        total = max(1, now[1] - idle[1])
        counts = {}
        try:
            counts = {
                "amplification": checks.amplification(world),
                "crashes": collections.Counter(c["why"] or "?" for c in checks.crashes(world)),
                "files": world.fleet.sql("SELECT state, count(*) AS n FROM file GROUP BY 1 ORDER BY 1"),
                "letters": world.fleet.sql(
                    "SELECT reason, state, count(*) AS n FROM dead_letter GROUP BY 1, 2")}
        except psycopg.Error as e:
            counts = {"error": str(e)}
        self.result.update({
            "seconds": round(time.monotonic() - self.begin, 1),
            "accepted": len(world.ledger.accepted), "offered": self.load.offered,
            "users": len(self.load.users), "heldSeconds": round(self.load.held, 1),
            "requests": world.ledger.requests, "repeats": world.ledger.repeats,
            "unanswered": world.ledger.unanswered, "actions": self.load.counts,
            "faults": sum(self.kinds.values()), "faultsByKind": dict(self.kinds.most_common()),
            "notPossible": dict(self.skipped), "epochs": self.epochs, "findings": self.findings,
            "unexpected": world.unexpected, "trouble": self.trouble[-50:],
            "cpuIdle": round((now[0] - idle[0]) / total, 3),
            "cpuSteal": round((now[2] - idle[2]) / total, 4),
            "links": {k: v for k, v in world.proxy.stats().items() if v["accepted"]},
            **counts})

    def keep_logs(self):
        folder = os.path.join(OUT, f"logs-{self.args.seed}")
        self.world.save_logs(folder)
        self.result["logs"] = os.path.relpath(folder, rig.ROOT)

    def write(self):
        os.makedirs(OUT, exist_ok=True)
        path = os.path.join(OUT, f"soak-{self.args.seed}.json")
        with open(path + ".new", "w", encoding="utf-8") as f:
            json.dump(self.result, f, indent=1, default=str)
        os.replace(path + ".new", path)
        return os.path.relpath(path, rig.ROOT)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1000000)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--files", type=int, default=100000)
    parser.add_argument("--seconds", type=int, default=3900)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--users", type=int, default=36)
    parser.add_argument("--epoch", type=int, default=125, help="faults between quiescences")
    parser.add_argument("--every-min", type=float, default=2.0)
    parser.add_argument("--every-max", type=float, default=4.2)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(3))
    soak, good = Soak(args), False
    try:
        good = soak.run()
    except (Exception, SystemExit) as e:
        soak.result["broke"] = f"{type(e).__name__}: {e}"
        say(soak.result["broke"])
        raise
    finally:
        soak.result["good"] = good
        path = soak.write()
        say(f"{'no finding' if good else 'FAILED'}: {soak.result.get('accepted', 0)} files, "
            f"{soak.result.get('faults', 0)} faults, seed {args.seed}; {path}")
        if not good:
            print(json.dumps(soak.findings, indent=1, default=str)[:6000])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
