#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long `make up` takes from a fresh clone with empty caches, and again when everything is there.

usage: bench_up.py

Without settings the clone lies in a temporary folder of this machine, whose Debian packages are
installed already; the caches of Maven, Go, npm and docfleet are new and empty. To measure a bare machine:

BENCH_ROOT   folder of a bare Debian 12 root (debootstrap); the clone is made inside it
BENCH_ENTER  command that runs the rest of its line inside that root
Ports are free ones. Everything is stopped and dropped afterwards; the root is left to its owner.
"""
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import bench  # noqa: E402

LIMIT = 1800


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main():
    root = os.environ.get("BENCH_ROOT", "")
    enter = shlex.split(os.environ.get("BENCH_ENTER", ""))
    work = tempfile.mkdtemp(prefix="docfleet-up-", dir=f"{root}/var/tmp" if root else None)
    inside = work[len(root):]
    subprocess.run(["git", "clone", "-q", bench.ROOT, f"{work}/clone"], check=True)
    names = ("GATEWAY_PORT", "PG_PORT", "KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "S3_PORT")
    settings = [f"{n}={free_port()}" for n in names] + ["PROBE_PORT_BASE=29201"]
    caches = (f"export DOCFLEET_CACHE_DIR={inside}/cache npm_config_cache={inside}/npm "
              f"MAVEN_OPTS=-Dmaven.repo.local={inside}/m2; cd {inside}/clone && ")

    def make(goal):
        start = time.monotonic()
        run = subprocess.run([*enter, "bash", "-c", caches + f"make {goal}"], timeout=LIMIT,
                             capture_output=True, text=True, stdin=subprocess.DEVNULL)
        took = time.monotonic() - start
        print(run.stdout[-3000:] + run.stderr[-3000:], flush=True)
        assert run.returncode == 0, f"make {goal}: exit {run.returncode}"
        print(f"make {goal}: {took:.1f} s", flush=True)
        return took

    goal = "up " + " ".join(settings)
    try:
        cold, warm = make(goal), make(goal)
        make("down")
        again = make(goal)
    finally:
        for last in ("down", "clean-data"):
            subprocess.run([*enter, "bash", "-c", caches + f"make {last}"], timeout=LIMIT,
                           capture_output=True, stdin=subprocess.DEVNULL, check=False)
        shutil.rmtree(work, ignore_errors=True)
    where = ("a bare Debian 12 root (debootstrap, minimal): installing all packages is part of the cold run"
             if root else
             "a machine that has the Debian packages; every other cache was empty before the cold run")
    bench.write_section("up", "`make up`", (
        "| run | seconds |\n|---|---|\n"
        f"| cold: fresh clone, nothing fetched or built | {cold:.0f} |\n"
        f"| warm: again, everything runs | {warm:.1f} |\n"
        f"| after `make down` | {again:.1f} |\n\n"
        f"One run each on {where}. A run ends when the six sample documents have their records."))


if __name__ == "__main__":
    main()
