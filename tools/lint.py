#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The project's own checks of its C sources. One check is one line of output: ok or FAIL.

usage: lint.py [CHECK...]     checks: format tidy sizes banned layers headers migrations
                            scripts
"""
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(os.environ.get("DOCFLEET_CACHE_DIR", os.path.expanduser("~/.cache/docfleet")),
                     "lint")
JOBS = max(1, len(os.sched_getaffinity(0)))
MAX_FILE, MAX_FUNCTION = 600, 100
BANNED = re.compile(r"\b(strcpy|strcat|v?sprintf|strtok|ato[ifl]|gets|system|alloca|strncpy)\s*\(")


def run(args, **kw):
    return subprocess.run(args, cwd=ROOT, capture_output=True, text=True, **kw)


def tracked(*patterns):
    out = run(["git", "ls-files", "-co", "--exclude-standard", "--", *patterns]).stdout.split("\n")
    return sorted({f for f in out if f and os.path.isfile(os.path.join(ROOT, f))})


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def code_of(text):
    """The text with comments, strings and character constants blanked, lines kept."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m.group(0)), text, flags=re.S)


def includes(path):
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', read(path), re.M)


def closure(path, seen=None):
    """The file and every project header it reaches, sorted."""
    seen = seen if seen is not None else set()
    if path in seen or not os.path.isfile(os.path.join(ROOT, path)):
        return seen
    seen.add(path)
    for inc in includes(path):
        closure(inc, seen)
        closure(os.path.join(os.path.dirname(path), inc), seen)
    return seen


def cached(kind, path, salt, work):
    """work(path) -> problem text; a clean result is remembered by the content of all it reads."""
    digest = hashlib.sha256((kind + salt).encode())
    for part in sorted(closure(path)):
        digest.update(part.encode() + b"\0" + read(part).encode() + b"\0")
    mark = os.path.join(CACHE, kind, digest.hexdigest())
    if os.path.exists(mark):
        return ""
    problem = work(path)
    if not problem:
        os.makedirs(os.path.dirname(mark), exist_ok=True)
        open(mark, "w", encoding="utf-8").close()
    return problem


def in_parallel(work, files):
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        return [p for p in pool.map(work, files) if p]


def check_format():
    tool = os.environ.get("CLANG_FORMAT", "clang-format-19")
    files = tracked("*.c", "*.h")
    if not files:
        return []
    out = run([tool, "--dry-run", "--Werror", "--ferror-limit=1", *files])
    bad = sorted(set(re.findall(r"^([^:\n]+):\d+:\d+: error", out.stderr, re.M)))
    problems = [f"{f}: not formatted (make format)" for f in bad]
    return problems or ([out.stderr.strip()] if out.returncode else [])


def compile_commands():
    made = run(["make", "--no-print-directory", "compile_commands.json"])
    if made.returncode:
        raise RuntimeError("compile_commands.json: " + made.stderr)
    return json.loads(read("compile_commands.json"))


def check_tidy():
    version = run(["clang-tidy", "--version"]).stdout
    entries = [e for e in compile_commands() if not e["file"].startswith("tests/")]
    by_file = {e["file"]: " ".join(e["arguments"]) for e in entries}

    def work(path):
        out = run(["clang-tidy", "-p", ".", "--quiet", path], timeout=600)
        if out.returncode == 0:
            return ""
        # the findings; `clang-tidy -p . FILE` shows the path the analyzer took to each
        found = [line for line in out.stdout.split("\n") if re.search(r": (error|warning): ", line)]
        return "\n".join(found) or out.stderr.strip()

    def one(path):
        return cached("tidy", path, version + read(".clang-tidy") + read("tools/analyzer.h") + by_file[path], work)

    return in_parallel(one, sorted(by_file))


def check_sizes():
    problems = []
    files = tracked("*.c", "*.h")
    for f in files:
        lines = read(f).count("\n")
        if lines > MAX_FILE:
            problems.append(f"{f}: {lines} lines, {MAX_FILE} are allowed")
    if files:
        out = run(["ctags", "--output-format=json", "--fields=+ne", "--kinds-C=f",
                   "--language-force=C", "-f", "-", *files])
        for line in out.stdout.splitlines():
            tag = json.loads(line)
            length = tag.get("end", tag["line"]) - tag["line"] + 1
            if length > MAX_FUNCTION:
                problems.append(f"{tag['path']}:{tag['line']}: {tag['name']} has {length} lines, "
                                f"{MAX_FUNCTION} are allowed")
    return problems


def check_banned():
    problems = []
    for f in tracked("libcommon/*", "services/*"):
        if not f.endswith((".c", ".h")):
            continue
        for number, line in enumerate(code_of(read(f)).split("\n"), 1):
            for call in BANNED.findall(line):
                problems.append(f"{f}:{number}: {call}() is banned")
    return problems


def layer_table():
    table = {}
    for line in read("tools/layers.txt").splitlines():
        words = line.split("#")[0].split()
        if words:
            for module in words[1:]:
                table[module] = int(words[0].rstrip(":"))
    return table


def check_layers():
    table, problems = layer_table(), []

    def level(path):
        module = re.sub(r"_intern$", "", os.path.splitext(os.path.basename(path))[0])
        while module not in table and "_" in module:  # store_s3 is store, task_claim is task
            module = module.rsplit("_", 1)[0]
        return table.get(module, 2)

    for f in tracked("libcommon/*.c", "libcommon/*.h", "services/**/*.c", "services/**/*.h"):
        service = f.split("/")[1] if f.startswith("services/") else None
        for inc in includes(f):
            if inc.startswith("services/"):
                if service is None:
                    problems.append(f"{f}: libcommon includes {inc}")
                elif inc.split("/")[1] != service:
                    problems.append(f"{f}: a service includes another one: {inc}")
            elif not inc.startswith("libcommon/"):
                problems.append(f"{f}: \"{inc}\" is not written from the root")
            elif service is None and level(inc) > level(f):
                problems.append(f"{f} (layer {level(f)}) includes {inc} (layer {level(inc)}); "
                                "see tools/layers.txt")
    for f in tracked("libcommon/*.h", "services/**/*.h"):
        if "#pragma once" not in read(f):
            problems.append(f"{f}: no #pragma once")
    for f in tracked("libcommon/*.c", "libcommon/*.h", "services/**/*.c", "services/**/*.h",
                     "tests/**/*.c"):
        if "SPDX-License-Identifier: Apache-2.0" not in read(f)[:200]:
            problems.append(f"{f}: no SPDX line at its head")
    return problems


def check_headers():
    """Each header compiles alone, with the include paths of all packages in use."""
    paths = []
    for entry in compile_commands():
        args = entry["arguments"]
        for i, arg in enumerate(args):
            if arg == "-isystem" and args[i + 1] not in paths:
                paths.append(args[i + 1])
    flags = [x for p in paths for x in ("-isystem", p)]
    flags += run(["pkg-config", "--cflags", "libseccomp", "libmicrohttpd"]).stdout.split()

    def work(path):
        out = run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-I.", "-Wall", "-Wextra", "-Werror",
                   "-Wno-unused-function", *flags, "-fsyntax-only", "-x", "c", "-include",
                   path, "/dev/null"])
        return out.stderr.strip() if out.returncode else ""

    return in_parallel(lambda f: cached("headers", f, " ".join(flags), work),
                       tracked("libcommon/*.h", "services/**/*.h"))


def check_migrations():
    """Each file is in docfleetctl's list, by its number."""
    listed = re.findall(r'"(proto-schemas/postgres/[^"]+)"',
                        read("services/docfleetctl/migrations.c"))
    return [f"{f}: not in services/docfleetctl/migrations.c"
            for f in tracked("proto-schemas/postgres/*.sql") if f not in listed]


def check_scripts():
    problems = []
    for f in tracked("deploy/**", "tools/**", "tests/**", ".ci/*"):
        if f.endswith(".py"):
            try:
                compile(read(f), f, "exec")
            except SyntaxError as e:
                problems.append(f"{f}:{e.lineno}: {e.msg}")
        elif read(f)[:20].startswith("#!/bin/bash") or f.endswith(".sh"):
            out = run(["bash", "-n", f])
            if out.returncode:
                problems.append(out.stderr.strip())
    return problems


CHECKS = {name[6:]: fn for name, fn in list(globals().items()) if name.startswith("check_")}


def main():
    names = sys.argv[1:] or list(CHECKS)
    failed = 0
    for name in names:
        if name not in CHECKS:
            sys.exit(f"lint.py knows {' '.join(CHECKS)}, not '{name}'")
        start = time.monotonic()
        try:
            problems = CHECKS[name]()
        except (OSError, RuntimeError, subprocess.TimeoutExpired) as e:
            problems = [str(e)]
        word = "FAIL" if problems else "ok"
        print(f"lint {name:10} {word:4} {time.monotonic() - start:6.1f} s", flush=True)
        for problem in problems:
            print("    " + problem.replace("\n", "\n    "), flush=True)
        failed += bool(problems)
    print(f"lint: {len(names) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
