# SPDX-License-Identifier: Apache-2.0
"""Measured figures with their spread, written into docs/benchmarks.md between markers of a section."""
import datetime
import os
import platform
import re
import statistics
import subprocess

# Not from lib.rig: scripts without the virtual environment use this, too.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(ROOT, "docs", "benchmarks.md")
HEAD = """# Benchmarks

Figures measured by `make bench` on the machine named beside them, never estimated. A section is
rewritten as a whole by the run that measures it.
"""


def commit():
    """What the figures of a page were measured at."""
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True,
                          check=False).stdout.strip()


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = re.search(r"model name\s*:\s*(.+)", f.read())
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 ** 30
    return (f"{cores} cores ({model.group(1).strip() if model else platform.machine()}), "
            f"{memory} GiB, {datetime.date.today()}, commit {commit()}")


def spread(values):
    """min, median, p95, max of a list, as a dict."""
    ordered = sorted(values)

    def at(q):
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
    return {"n": len(ordered), "min": ordered[0], "median": statistics.median(ordered),
            "p95": at(0.95), "max": ordered[-1]}


def table(rows, unit="ms"):
    """rows: {what: spread}"""
    lines = [f"| what ({unit}) | n | min | median | p95 | max |", "|---|---|---|---|---|---|"]
    for what, s in rows.items():
        lines.append(f"| {what} | {s['n']} | " + " | ".join(
            f"{s[k]:.0f}" for k in ("min", "median", "p95", "max")) + " |")
    return "\n".join(lines)


def write_section(name, title, text):
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    body = f"{begin}\n## {title}\n\n{text.strip()}\n\nMeasured on {machine()}.\n{end}"
    page = HEAD
    if os.path.exists(PAGE):
        with open(PAGE, encoding="utf-8") as f:
            page = f.read()
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    page = pattern.sub(lambda _: body, page) if pattern.search(page) else \
        page.rstrip() + "\n\n" + body + "\n"
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(page)
    print(f"\n{title}\n{text}\n")
