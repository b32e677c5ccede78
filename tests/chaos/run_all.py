#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`make chaos`: the whole fault matrix, then the soak, then docs/reliability.md.

usage: make chaos [ONLY=matrix|soak|report] [SEED=N] [CHAOS_FAULTS=N] [FILES=N] [SECONDS=N]

Needs nothing but the clone, as `make test` does. A step that fails hides no other; the exit code is 1
when any did. The soak alone takes an hour at its full size (1,000 faults, 100,000 files).
"""
import argparse
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.dirname(HERE))

import run  # noqa: E402


def step(name, args, **env):
    began = time.monotonic()
    rc = subprocess.run(args, cwd=ROOT, stdin=subprocess.DEVNULL,
                        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env}).returncode
    print(f"== {name}: {'ok' if rc == 0 else f'exit {rc}'}, {time.monotonic() - began:.0f} s",
          flush=True)
    return rc == 0


def matrix(python, args):
    """Every variant of every fault; SEED changes what is drawn."""
    results = os.path.join(ROOT, "build", "chaos", "matrix.json")
    if os.path.exists(results):
        os.replace(results, results + ".old")
    report = os.path.join(ROOT, "build", "chaos", "matrix.xml")
    return step("fault matrix", [
        python, "-m", "pytest", "-c", f"{ROOT}/tests/pytest.ini", f"--rootdir={ROOT}",
        "--timeout=1800", f"--junitxml={report}", f"{ROOT}/tests/chaos"], FULL="1",
        **({"SEED": str(args.seed)} if args.seed else {}))


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
    good = step("report", [python, f"{HERE}/report.py"]) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
