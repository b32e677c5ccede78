#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`make chaos`: the whole fault matrix, then the soak, then docs/reliability.md.

usage: make chaos [ONLY=matrix|soak|report] [SEED=N] [CHAOS_FAULTS=N] [FILES=N] [SECONDS=N]

Needs nothing but the clone, as `make test` does. A step that fails hides no other; the exit code is 1
when any did. The soak alone takes an hour at its full size (1,000 faults, 100,000 files).
"""
import argparse
import concurrent.futures
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROCESSES = "test_matrix_processes.py"
sys.path.insert(0, os.path.dirname(HERE))

import run  # noqa: E402


def step(name, args, out=None, **env):
    began = time.monotonic()
    rc = subprocess.run(args, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out,
                        stderr=subprocess.STDOUT if out else None,
                        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env}).returncode
    print(f"== {name}: {'ok' if rc == 0 else f'exit {rc}'}, {time.monotonic() - began:.0f} s",
          flush=True)
    return rc == 0


def matrix(python, args):
    """Every variant of every fault; SEED changes what is drawn. Two lanes with servers of their own,
    since most of the time is waiting: the faults of processes beside all others."""
    folder = os.path.join(ROOT, "build", "chaos")
    os.makedirs(folder, exist_ok=True)
    results = os.path.join(folder, "matrix.json")
    if os.path.exists(results):
        os.replace(results, results + ".old")
    files = sorted(f for f in os.listdir(HERE) if f.startswith("test_") and f.endswith(".py"))
    lanes = {"processes": [PROCESSES], "others": [f for f in files if f != PROCESSES]}

    def lane(name):
        log = os.path.join(folder, f"matrix-{name}.log")
        with open(log, "w", encoding="utf-8") as out:
            return step(f"fault matrix, {name} ({log})", [
                python, "-m", "pytest", "-c", f"{ROOT}/tests/pytest.ini", f"--rootdir={ROOT}",
                "--timeout=1800", f"--junitxml={folder}/matrix-{name}.xml",
                *(os.path.join(HERE, f) for f in lanes[name])], out=out, FULL="1",
                **({"SEED": str(args.seed)} if args.seed else {})), log
    with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
        ends = list(pool.map(lane, lanes))
    for _, log in ends:
        with open(log, encoding="utf-8", errors="replace") as f:
            print("".join(line for line in f if line.startswith(("FAILED", "ERROR")) or " passed" in line),
                  end="", flush=True)
    return all(good for good, _ in ends)


def soak(python, args):
    words = [f"--{k}={v}" for k, v in (("seed", args.seed), ("faults", args.faults),
                                       ("files", args.files), ("seconds", args.seconds)) if v]
    return step("soak", [python, f"{HERE}/soak.py", *words])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=["matrix", "soak", "report"])
    for name in ("seed", "faults", "files", "seconds"):
        parser.add_argument(f"--{name}", type=int)
    args = parser.parse_args()
    good = True
    if args.only != "report":
        run.packages()
        good = run.build([("release", ["all", "test-programs"]),
                          ("faults", ["FAULTS=1", "all", "test-programs"])])
    python = run.prepare()
    if not (good and python):
        return 1
    if args.only in (None, "matrix"):
        good = matrix(python, args)
    if args.only in (None, "soak"):
        good = soak(python, args) and good
    sections = [args.only] if args.only in ("matrix", "soak") else []
    good = step("report", [python, f"{HERE}/report.py", *sections]) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
