#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/reliability.md from what the runs left in build/chaos: figures are copied, never typed.

usage: report.py [matrix|soak|mutants ...]     reads build/chaos/matrix.json, soak*.json and build/mutants.json

Renews the named sections (nothing: all); one that has no results here stays as it is in the page.
"""
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEAD = """# Reliability

What the fleet went through and what came of it. `make chaos` measures and writes this page; nothing here
is estimated. How it is measured: docs/adr/0014-chaos-rig.md; the simulation of the same code under fake time:
docs/adr/0012-simulation.md.

Three kinds of evidence: the **matrix** tries each fault alone under load, the **soak** mixes all of them for
as long as it takes, **mutants** show that bugs planted on purpose are found. After each, when all is quiet,
nothing may be lost, doubled, stuck or left behind: ten checks over the database, an audit written by
triggers, the store's listing, Kafka's offsets, the processes, and the clients' own list of what they were
promised.
"""
OUTSIDE = """## What is outside the claim

- One Postgres, one store and (but for the rows with three brokers) one broker: the loss of their *disks* is
  not survived, except Kafka's, whose wipe is part of the test. A backup restored from before a 2xx forgets
  that file.
- Faults of the machine's memory, and bytes that change below TLS and the store's own checksums.
- Sleeping workers stand for the real ones in the soak: they use the same frame, leases, statements and store
  calls, but parse nothing. The real parsers and engines are in the matrix rows that say so.
- Two cores run the fleet, its servers, the load and the faults: times of a soak are those of a crowded
  machine, and prove nothing about speed.
- A paid call may be repeated once for each kill between its answer and its being stored.
"""


def read(path):
    try:
        with open(path, encoding="utf-8") as f:
            return f.read()
    except FileNotFoundError:
        return None


def cell(value):
    return str(value).replace("|", "\\|").replace("\n", " ")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cell(c) for c in row) + " |" for row in rows]) + "\n"


def bound(zeros, n):
    """A count out of n; of none, the 95 % bound on the rate."""
    if zeros:
        return f"**{zeros}** in {n:,}"
    return f"0 in {n:,} (95 %: at most {3 / n:.1e})" if n else "0 in 0"


# --- matrix -------------------------------------------------------------------------------------------

def matrix(folder):
    text = read(os.path.join(folder, "matrix.json"))
    if not text:
        return ""
    last = {}
    for line in text.splitlines():
        row = json.loads(line)
        last[row["fault"], row["variant"]] = row
    rows = []
    for (fault, variant), r in sorted(last.items()):
        figures = {k: v for k, v in r.get("figures", {}).items() if v not in (None, "")}
        told = ", ".join(f"{k} {v}" for k, v in list(figures.items())[:6])
        rows.append([fault, variant or "–", r.get("files", "–"), r.get("settings", ""),
                     r.get("amplification") if r.get("amplification") is not None else "–", told,
                     r["seed"], "passed" if r["passed"] else "**FAILED**"])
    failed = sum(r[-1] != "passed" for r in rows)
    return (f"## Fault matrix\n\n{len(rows)} variants of {len({r[0] for r in rows})} faults, "
            f"{len(rows) - failed} passed, {failed} failed. Amplification: attempts that began work for "
            "each unit that ended; some faults repeat work by their nature.\n\n" +
            table(["fault", "injected", "files", "times", "amplification", "figures", "seed", "result"],
                  rows) + "\n")


# --- soak ---------------------------------------------------------------------------------------------

def pick_soak(folder):
    """The run that was written last."""
    runs = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if name.startswith("soak") and name.endswith(".json"):
            run = json.loads(read(os.path.join(folder, name)))
            if "epochs" in run:
                runs.append(run)
    return max(runs, key=lambda r: r["at"]) if runs else None


def rows_found(run, check, word=""):
    rows = [r for e in run["epochs"] for r in e["findings"].get(check, ())]
    return sum(word in json.dumps(r) for r in rows)


def verdicts(run):
    files, units = run["accepted"], (run.get("amplification") or {}).get("ends") or 0
    lost = rows_found(run, "Q1", "accepted and lost") + rows_found(run, "Q1", "stuck")
    return table(["what", "found"], [
        ["files that were accepted and lost, or are stuck", bound(lost, files)],
        ["files accepted twice", bound(rows_found(run, "Q1", "accepted twice"), files)],
        ["files that ended twice (I1)", bound(rows_found(run, "Q2"), files)],
        ["files whose record does not fit (I2, I6)", bound(rows_found(run, "Q3"), files)],
        ["units completed twice (I4)", bound(rows_found(run, "Q4"), units)],
        ["orphans in the store, objects missing, open uploads (I3)",
         bound(rows_found(run, "Q5"), files)],
        ["files without a task (I5)", bound(rows_found(run, "Q6"), files)],
        ["units that died without a cause", bound(rows_found(run, "Q7"), units)],
        ["attempts eaten by outages (I8)", bound(rows_found(run, "Q8"), units)],
        ["lag, credits, processes, scratch files left", rows_found(run, "Q10")],
        ["counts that do not add up", rows_found(run, "ledger")],
        ["processes that ended and nobody told them to", rows_found(run, "processes")]])


def soak(folder):
    run = pick_soak(folder)
    if not run:
        return ""
    a, m = run.get("amplification") or {}, run["machine"]
    quiet = sorted(e["secondsToQuiet"] for e in run["epochs"])
    head = (f"## Soak\n\n**{run['accepted']:,} files of {run['users']} users, {run['faults']:,} faults in "
            f"{run['seconds'] / 60:.0f} minutes**, seed {run['seed']}: "
            f"{'no finding' if run['good'] else '**FAILED**, see the findings below'}. "
            "Continuous open-loop load, a fault every 2 to 5 s, "
            f"{len(run['epochs'])} quiescences with all checks.\n\n")
    figures = table(["figure", "value"], [
        ["files a second over the whole run, quiescences included",
         round(run["accepted"] / run["seconds"], 1)],
        ["units ended / attempts / amplification",
         f"{a.get('ends')} / {a.get('starts')} / {a.get('amplification')}"],
        ["leases that ran out, by the fault that explains them",
         ", ".join(f"{k} {v}" for k, v in (run.get("crashes") or {}).items()) or "none"],
        ["seconds from the last fault to quiet, median and most",
         f"{quiet[len(quiet) // 2]} / {quiet[-1]}" if quiet else "–"],
        ["requests, repeated, without an answer",
         f"{run['requests']} / {run['repeats']} / {run['unanswered']}"],
        ["changes of mind", ", ".join(f"{k} {v}" for k, v in run["actions"].items())],
        ["dead letters", ", ".join(f"{x['reason']} {x['state']} {x['n']}"
                                   for x in run.get("letters", ())) or "none"],
        ["arrivals held because too much was unfinished", f"{run['heldSeconds']} s"],
        ["processor idle / stolen", f"{run['cpuIdle']:.0%} / {run['cpuSteal']:.1%}"],
        ["machine", f"{m['cpus']} × {m['model']}, {m['memoryGiB']} GiB, {m['kernel']}"],
        ["when, commit", f"{run['at']}, {run['commit']}"],
        ["settings other than shipped", ", ".join(
            f"{k.removeprefix('DOCFLEET_')} {v}" for k, v in run["settings"].items())],
        ["units told to be tried again at once at a quiescence",
         run["epochs"][-1].get("hurried", 0) if run["epochs"] else 0]])
    kinds = table(["fault", "times"], list(run["faultsByKind"].items()))
    out = head + verdicts(run) + "\n" + figures + "\nFaults by kind:\n\n" + kinds + "\n"
    out += "".join(f"{note}\n\n" for note in run.get("notes", ()))  # what somebody did by hand meanwhile
    if not run["good"]:
        found = {k: v[:5] for k, v in run["findings"].items()}
        out += "Findings:\n\n```json\n" + json.dumps(found, indent=1, default=str)[:6000] + "\n```\n\n"
    return out


# --- mutants ------------------------------------------------------------------------------------------

def mutants():
    text = read(os.path.join(ROOT, "build", "mutants.json"))
    if not text:
        return ""
    run = json.loads(text)
    rows = [[m["name"], m["what"], {"sim": "simulator", "modelcheck": "model and SQL"}.get(m["catcher"], m["catcher"]),
             "found" if m["verdict"] == "killed" else f"**{m['verdict'].lower()}**", m["seconds"]]
            for m in run["mutants"]]
    killed = sum(m["verdict"] == "killed" for m in run["mutants"])
    return ("## Mutants\n\n"
            f"Bugs planted on purpose, one at a time; each must be found, or the tests are too weak. {killed} of {len(rows)} "
            f"were found (`make mutants`, {run['date']}, commit {run['commit']}).\n\n" +
            table(["mutant", "what is broken", "sought by", "", "s"], rows) + "\n")


def section(page, title):
    """A section of the page as it is, or nothing."""
    at = page.find(f"\n## {title}\n")
    end = page.find("\n## ", at + 1)
    return page[at + 1:end] if at >= 0 else ""


def main():
    folder, path = os.path.join(ROOT, "build", "chaos"), os.path.join(ROOT, "docs", "reliability.md")
    made = {"matrix": ("Fault matrix", lambda: matrix(folder)), "soak": ("Soak", lambda: soak(folder)),
            "mutants": ("Mutants", mutants)}
    chosen = sys.argv[1:] or list(made)
    if set(chosen) - set(made):
        print(__doc__, file=sys.stderr)
        return 2
    new = {name: make() for name, (_, make) in made.items() if name in chosen}
    if not any(new.values()):
        print(f"no results in {folder}: make chaos", file=sys.stderr)
        return 1
    page = read(path) or ""
    parts = [new.get(name) or section(page, title) for name, (title, _) in made.items()]
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write("\n".join([HEAD, *[p for p in parts if p], OUTSIDE]))
    os.replace(path + ".new", path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
