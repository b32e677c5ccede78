#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fills the generated parts of docs/observability.md: metrics, alerts, dashboards, and the last check
of the panels. `make docs` writes the page, a test compares it.

usage: observability_docs.py [RESULT.json]   with the result of a panel check, that part is renewed too
"""
import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import dashboards  # noqa: E402  pylint: disable=wrong-import-position
import metrics_table  # noqa: E402  pylint: disable=wrong-import-position

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(ROOT, "docs", "observability.md")
ALERTS = os.path.join(ROOT, "helm", "docfleet", "files", "alerts.yaml")


def alerts():
    """The file has one form, so no YAML parser is needed to list it."""
    with open(ALERTS, encoding="utf-8") as f:
        text = f.read()
    lines = ["| alert | severity | says |", "|---|---|---|"]
    for block in re.split(r"(?m)^      - alert: ", text)[1:]:
        name = block.split("\n", 1)[0].strip()
        severity = re.search(r"severity: (\w+)", block).group(1)
        says = re.search(r"description: (.*)", block).group(1).strip("'\"")
        says = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"*\1*", says)
        lines.append(f"| [{name}](runbooks.md#{name.lower()}) | {severity} | {says} |")
    return "\n".join(lines) + "\n"


def boards():
    lines = ["| dashboard | panels |", "|---|---|"]
    for name, (title, rows) in dashboards.BOARDS.items():
        panels = "; ".join(f"**{row}**: " + ", ".join(p["title"] for p in specs) for row, specs in rows)
        lines.append(f"| [{title}](../helm/docfleet/files/dashboards/{name}.json) | {panels} |")
    return "\n".join(lines) + "\n"


def checked(result):
    return (f"On {result['date']}, commit {result['commit']}: {result['panels']} panels with {result['expressions']} "
            "expressions, all of them with data.\n")


def fill(text, part, body):
    pattern = rf"(<!-- {part} -->\n).*?(<!-- end -->)"
    assert re.search(pattern, text, re.S), f"docs/observability.md has no part {part}"
    return re.sub(pattern, lambda m: m.group(1) + body + m.group(2), text, flags=re.S)


def render(text, result=None):
    text = fill(text, "metrics", metrics_table.markdown())
    text = fill(text, "alerts", alerts())
    text = fill(text, "dashboards", boards())
    return fill(text, "checked", checked(result)) if result else text


def main():
    result = None
    if len(sys.argv) > 1:
        with open(sys.argv[1], encoding="utf-8") as f:
            result = json.load(f)
    with open(PAGE, encoding="utf-8") as f:
        text = f.read()
    with open(PAGE + ".new", "w", encoding="utf-8") as f:
        f.write(render(text, result))
    os.replace(PAGE + ".new", PAGE)


if __name__ == "__main__":
    main()
