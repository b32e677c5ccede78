#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints helm/docfleet/README.md: README.md.head, then a table of every value from the comments of
values.yaml that begin with `--`. `make docs` writes it, a test compares it."""
import json
import os
import sys

import yaml

CHART = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../helm/docfleet")


def rows(text):
    """(path, comment) of each documented key, in order; a comment may go on in `#` lines."""
    path, comment, section = [], [], ""
    for line in text.splitlines():
        words = line.strip()
        depth = (len(line) - len(line.lstrip())) // 2
        if words.startswith("# --"):
            comment = [words[4:].strip()]
        elif words.startswith("#"):
            if comment:
                comment.append(words[1:].strip())
            elif words.endswith("---"):
                section = words.strip("# -")
        elif words and not words.startswith("- ") and ":" in words:
            path = path[:depth] + [words.split(":")[0]]
            if comment:
                yield section, list(path), " ".join(comment)
            comment = []
        else:
            comment = []


def short(value):
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value).lower() \
        if isinstance(value, bool) else str(value)
    return f"`{text}`" if text not in ("", "{}", "[]") else "–"


def main():
    with open(f"{CHART}/values.yaml", encoding="utf-8") as f:
        text = f.read()
    values = yaml.safe_load(text)
    with open(f"{CHART}/README.md.head", encoding="utf-8") as f:
        sys.stdout.write(f.read())
    last = None
    for section, path, comment in rows(text):
        value = values
        for part in path:
            value = value[part]
        if section != last:
            print(f"\n### {section}\n\n| value | default | meaning |\n|---|---|---|")
            last = section
        print(f"| `{'.'.join(path)}` | {short(value)} | {comment.replace('|', '/')} |")


if __name__ == "__main__":
    main()
