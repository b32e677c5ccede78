#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints services/docfleetctl/README.md with the list of commands as the program has it.

usage: ctl_docs.py BIN_DIR      (`make docs` writes it, a test compares it)
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
START, END = "<!-- commands, made by `make docs` -->\n", "<!-- /commands -->\n"


def main():
    listed = subprocess.run([os.path.join(sys.argv[1], "docfleetctl"), "help", "--markdown"],
                            capture_output=True, text=True, check=True).stdout
    with open(os.path.join(ROOT, "services/docfleetctl/README.md"), encoding="utf-8") as f:
        page = f.read()
    print(re.sub(re.escape(START) + ".*?" + re.escape(END),
                 lambda m: START + "\n" + listed + "\n" + END, page, flags=re.S), end="")


if __name__ == "__main__":
    main()
