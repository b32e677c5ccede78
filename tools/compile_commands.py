#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compile_commands.json from lines `source|packages|flags` on stdin, with clang's flags."""
import functools
import json
import os
import re
import shlex
import subprocess
import sys


@functools.lru_cache(maxsize=None)
def package_flags(packages):
    if not packages:
        return []
    run = subprocess.run(["pkg-config", "--cflags", *packages.split()], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"pkg-config {packages}: {run.stderr.strip()}")
    return shlex.split(re.sub(r"(^|\s)-I", r"\1-isystem ", run.stdout))


def main():
    probed = open(sys.argv[1], encoding="utf-8").read()
    warn = re.search(r"^PROBED_WARN :=(.*)$", probed, re.M).group(1).split()
    base = shlex.split(sys.argv[2])
    entries, seen = [], set()
    for line in sys.stdin:
        source, packages, flags = line.rstrip("\n").split("|")
        if source in seen:
            continue
        seen.add(source)
        extra = [] if source == "libcommon/err.c" else ["-include", "tools/analyzer.h"]
        entries.append({
            "directory": os.getcwd(),
            "file": source,
            "arguments": ["clang", *base, *warn, *shlex.split(flags),
                          *package_flags(" ".join(packages.split())), *extra, "-c", source],
        })
    json.dump(entries, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
