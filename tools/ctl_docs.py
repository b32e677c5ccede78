#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints a page with what docfleetctl says of itself between its marks: the README with the list of
commands, docs/troubleshooting.md with the list of checks.

usage: ctl_docs.py BIN_DIR PAGE      (`make docs` writes them, a test compares them)
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PARTS = {"commands": ("help", "--markdown"), "checks": ("doctor", "--list")}


def main():
    with open(os.path.join(ROOT, sys.argv[2]), encoding="utf-8") as f:
        page = f.read()
    for name, args in PARTS.items():
        start, end = f"<!-- {name}, made by `make docs` -->\n", f"<!-- /{name} -->\n"
        if start not in page:
            continue
        said = subprocess.run([os.path.join(sys.argv[1], "docfleetctl"), *args],
                              capture_output=True, text=True, check=True).stdout
        page = re.sub(re.escape(start) + ".*?" + re.escape(end),
                      lambda m: start + "\n" + said + "\n" + end, page, flags=re.S)  # noqa: B023
    print(page, end="")


if __name__ == "__main__":
    main()
