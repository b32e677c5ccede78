#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Mutants: bugs planted one at a time in a copy of the tree; the named test must fail for each.

usage: mutants.py [NAME...] [--list] [--keep]      (nothing: all of tests/mutants/list.py)

A mutant that survives means that the tests are too weak; one whose text no longer applies is an
error, so that the list stays true. A run of all of them is kept in build/mutants.json and told in
docs/reliability.md. The copy lies in build/mutants and
takes over the objects of build/release. Exit 1 if one survived, 2 if one could not be tried.
"""
import atexit
import filecmp
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from list import MUTANTS  # noqa: E402  (tests/mutants/list.py)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COPY = os.path.join(ROOT, "build", "mutants")
BIN = os.path.join(COPY, "build", "release")
SIM_SCHEDULES, SIM_SECONDS = 20000, 90


class Broken(Exception):
    """The mutant could not be tried."""


def run(args, timeout=600, cwd=COPY, env=None):
    try:
        return subprocess.run(args, cwd=cwd, capture_output=True, text=True, timeout=timeout,
                              env=dict(os.environ, **(env or {})))
    except subprocess.TimeoutExpired as e:
        return subprocess.CompletedProcess(args, 124, str(e.stdout or ""), "timed out")


def copy_tree():
    """The tree as it is now, with the times of its files, so that objects stay good."""
    files = run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT).stdout.split("\n")
    for name in filter(None, files):
        source, target = os.path.join(ROOT, name), os.path.join(COPY, name)
        if os.path.isfile(source) and not name.startswith("build/"):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not os.path.exists(target):
                shutil.copy2(source, target)
            elif not filecmp.cmp(source, target, shallow=False):
                shutil.copyfile(source, target)  # newer than any object made of it
    for part in ("release/obj", "release/libcommon.a", "release/flags.stamp"):
        source, target = os.path.join(ROOT, "build", part), os.path.join(COPY, "build", part)
        if not os.path.exists(target) and os.path.exists(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            run(["cp", "-a", source, target], cwd=ROOT)


class Postgres:
    """A server for modelcheck, started when first asked for."""
    def __init__(self):
        self.dir = self.port = None
        self.count = 0

    def tool(self, name, *args):
        found = sorted(d for d in os.listdir("/usr/lib/postgresql"))[-1]
        command = [f"/usr/lib/postgresql/{found}/bin/{name}", *args]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
        result = run(command, cwd="/tmp")
        if result.returncode:
            raise Broken(f"{name}: {result.stdout}{result.stderr}")

    def start(self):
        self.dir = tempfile.mkdtemp(prefix="mutants-pg")
        if os.geteuid() == 0:
            os.chown(self.dir, pwd.getpwnam("postgres").pw_uid, -1)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.tool("initdb", "-D", self.dir + "/data", "-A", "trust", "-U", "docfleet")
        atexit.register(self.stop)
        self.tool("pg_ctl", "-D", self.dir + "/data", "-w", "-l", self.dir + "/log", "-o",
                  f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off"
                  f" -c unix_socket_directories={self.dir} -c shared_buffers=64MB", "start")
        self.sql("postgres", "create database tmpl")
        self.migrate("tmpl")

    def stop(self):
        run(["true"], cwd="/")
        try:
            self.tool("pg_ctl", "-D", self.dir + "/data", "-m", "immediate", "stop")
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def url(self, name):
        return f"postgres://docfleet@127.0.0.1:{self.port}/{name}"

    def sql(self, name, text):
        result = run(["psql", "-q", self.url(name), "-c", text], cwd="/tmp")
        if result.returncode:
            raise Broken(result.stderr)

    def migrate(self, name):
        result = run([f"{ROOT}/build/release/bin/docfleetctl", "migrate"], cwd="/tmp",
                     env={"DOCFLEET_DATABASE_URL": self.url(name), "DOCFLEET_S3_ACCESS_KEY": "x",
                          "DOCFLEET_S3_SECRET_KEY": "x"})
        if result.returncode:
            raise Broken(f"docfleetctl migrate: {result.stderr}")

    def fresh(self):
        if not self.dir:
            self.start()
        self.count += 1
        self.sql("postgres", f"create database mc{self.count} template tmpl")
        return self.url(f"mc{self.count}")


POSTGRES = Postgres()


def catch(catcher):
    """Runs the catcher: the first line that says what it found, or None if it passed."""
    if catcher == "sim":
        result = run([f"{BIN}/bin/sim", "--schedules", str(SIM_SCHEDULES), "--seconds",
                      str(SIM_SECONDS)], timeout=SIM_SECONDS + 120)
        found = [x for x in result.stdout.split("\n") if "FAILED" in x]
        return (found or ["died"])[0].replace("sim: FAILED ", "") if result.returncode else None
    if catcher == "modelcheck":
        for seed in range(1, 16):
            result = run([f"{BIN}/bin/modelcheck", "--seed", str(seed), "--steps", "1500"],
                         env={"DOCFLEET_DATABASE_URL": POSTGRES.fresh()}, timeout=300)
            if result.returncode:
                return (result.stdout.strip().split("\n") or ["died"])[0]
        return None
    result = run([f"{BIN}/tests/{catcher}"], timeout=180)
    found = [x for x in result.stderr.split("\n") if "FAILED" in x or "ERROR" in x]
    return (found or ["died"])[0] if result.returncode else None


def target(catcher):
    return catcher if catcher in ("sim", "modelcheck") else f"build/release/tests/{catcher}"


def build(catcher):
    result = run(["make", "--no-print-directory", target(catcher)])
    if result.returncode:
        lines = [x for x in (result.stdout + result.stderr).split("\n") if "error" in x]
        raise Broken("does not build: " + (lines or ["?"])[0])


def plant(mutant):
    """Replaces the texts; gives what to write back."""
    before = {}
    for name, old, new in mutant["changes"]:
        path = os.path.join(COPY, name)
        with open(path, encoding="utf-8") as f:
            text = f.read()
        before.setdefault(path, text)
        if text.count(old) != 1:
            raise Broken(f"{name}: its text is there {text.count(old)} times")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace(old, new))
    return before


def try_mutant(mutant):
    before = {}
    start = time.monotonic()
    try:
        before = plant(mutant)
        build(mutant["catcher"])
        found = catch(mutant["catcher"])
        verdict = "killed" if found else "SURVIVED"
    except Broken as e:
        verdict, found = "ERROR", str(e)
    finally:
        for path, text in before.items():
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        if not before:  # a half-planted one: take the files again
            copy_tree()
    took = time.monotonic() - start
    print(f"{verdict:9}{mutant['name']:26}{mutant['catcher']:18}{took:5.0f} s  {found or 'not found'}"[:200],
          flush=True)
    return {"name": mutant["name"], "what": mutant["what"], "catcher": mutant["catcher"], "verdict": verdict,
            "seconds": round(took), "found": found}


def keep(tried):
    commit = run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT).stdout.strip()
    with open(os.path.join(ROOT, "build", "mutants.json"), "w", encoding="utf-8") as f:
        json.dump({"date": time.strftime("%Y-%m-%d", time.gmtime()), "commit": commit, "mutants": tried}, f, indent=1)
    subprocess.run([sys.executable, os.path.join(ROOT, "tests", "chaos", "report.py"), "mutants"], check=True)


def main():
    names = [a for a in sys.argv[1:] if not a.startswith("-")]
    chosen = [m for m in MUTANTS if not names or m["name"] in names]
    if "--list" in sys.argv:
        for m in chosen:
            print(f"{m['name']:26}{m['catcher']:18}{m['what']}")
        return 0
    copy_tree()
    for catcher in sorted({m["catcher"] for m in chosen}):
        build(catcher)
        found = catch(catcher)
        if found:
            print(f"{catcher} fails without a mutant: {found}")
            return 2
    tried = [try_mutant(m) for m in chosen]
    if not names:
        keep(tried)
    verdicts = [t["verdict"] for t in tried]
    print(f"mutants: {verdicts.count('killed')} killed, {verdicts.count('SURVIVED')} survived, "
          f"{verdicts.count('ERROR')} not tried")
    return 2 if "ERROR" in verdicts else 1 if "SURVIVED" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
