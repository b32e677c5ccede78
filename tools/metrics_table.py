#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table of metrics in libcommon/metrics.c, for the page that shows it and for tests.

read() gives {name: Metric} in the table's order. Run as a program it prints the table in Markdown.
"""
import os
import re
import typing

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Metric(typing.NamedTuple):
    name: str
    type: str
    labels: list
    help: str
    group: str  # who shows it: the comment above


def read():
    with open(os.path.join(ROOT, "libcommon", "metrics.c"), encoding="utf-8") as f:
        text = f.read()
    body = re.search(r"\} metric_defs\[\] = \{\n(.*?)\n\};", text, re.S).group(1)
    found, group = {}, ""
    for comment, entry in re.findall(r'/\* (.*?) \*/|\{((?:"(?:\\.|[^"\\])*"|[^"}])*)\}', body):
        if comment:
            group = comment
            continue
        kind = re.search(r"\b(COUNTER|GAUGE|HISTOGRAM)\b", entry).group(1).lower()
        head, tail = re.split(r"\b(?:COUNTER|GAUGE|HISTOGRAM)\b", entry)
        name = re.search(r'"(\w+)"', head).group(1)
        labels, *words = re.findall(r'"((?:\\.|[^"\\])*)"', tail)
        found[name] = Metric(name, kind, labels.split(",") if labels else [], "".join(words), group)
    assert found and len(found) == len(re.findall(r"\b(?:COUNTER|GAUGE|HISTOGRAM),", body)), \
        "the table has a form that this cannot read"
    return found


def markdown():
    lines, group = [], None
    for metric in read().values():
        if metric.group != group:
            group = metric.group
            lines += ["", f"**Shown by {group}**", "", "| metric | type | labels | what |",
                      "|---|---|---|---|"]
        labels = ", ".join(f"`{n}`" for n in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.type} | {labels} | {metric.help} |")
    return "\n".join(lines[1:]) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
