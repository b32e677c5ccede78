# SPDX-License-Identifier: Apache-2.0
"""What one file costs, by kind: processor time of each program, memory of the largest child, what
Postgres, Kafka and the store get of it. Input of docs/capacity.md.

Processor time, not time: it hardly depends on what else the machine does. The fleet runs one slot a
stage; what it uses while idle is taken off."""
import os
import shutil
import threading
import time

import pytest

from lib import bench, rig

COPIES = int(os.environ.get("BENCH_COPIES", "8"))
KINDS = {  # name: (file, pages that are read)
    "text, 1 page": ("note.txt", 1),
    "mail": ("samples/order.eml", 1),
    "PDF with text, 1 page": ("samples/invoice.pdf", 1),
    "docx": ("samples/contract.docx", 1),
    "xlsx": ("samples/prices.xlsx", 1),
    "picture of a page": ("invoice-scan.png", 1),
    "scanned PDF, 12 pages": ("scan-12.pdf", 12),
}
WORKERS = {"text": "text-extractor", "ocr": "ocr-fallback", "ai": "ai-extractor",
           "preview": "preview-worker", "thumbnail": "thumbnail-worker"}
TICK = os.sysconf("SC_CLK_TCK")


def cpu_of(pid):
    """Seconds of a process and of its children that have ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICK


def cpu_of_tree(process):
    return cpu_of(process.pid) + sum(cpu_of(pid) for pid in process.children())


class Peaks(threading.Thread):
    """The largest child of each worker's zygotes, looked at every few milliseconds."""

    def __init__(self, fleet):
        super().__init__(daemon=True)
        self.fleet, self.peaks, self.over = fleet, {}, False

    def run(self):
        while not self.over:
            for stage, name in WORKERS.items():
                process = self.fleet.process(name)
                for pid in process.children():
                    try:
                        with open(f"/proc/{pid}/status", encoding="utf-8") as f:
                            hwm = next(x for x in f if x.startswith("VmHWM"))
                    except (OSError, StopIteration):
                        continue
                    self.peaks[stage] = max(self.peaks.get(stage, 0), int(hwm.split()[1]))
            time.sleep(0.005)


class Meter:
    """Running sums of everything, at one moment."""

    def __init__(self, servers, fleet):
        self.servers, self.fleet = servers, fleet

    def read(self):
        got = {"at": time.monotonic()}
        for name in (*WORKERS.values(), "ingest-gateway", "dispatcher"):
            got[name] = cpu_of_tree(self.fleet.process(name))
        for name, process in self.servers.processes.items():
            got[name] = cpu_of_tree(process)
        row = self.fleet.sql(
            "SELECT xact_commit, pg_current_wal_lsn() - '0/0' AS wal,"
            " pg_database_size(datname) AS size FROM pg_stat_database"
            " WHERE datname = current_database()")[0]
        got.update(commits=int(row["xact_commit"]), wal=int(row["wal"]), size=int(row["size"]))
        objects = self.fleet.objects()
        got.update(objects=len(objects), bytes=sum(objects.values()))
        got["orders"] = self.fleet.one("SELECT count(*) FROM task WHERE stage < 6")
        got["events"] = self.fleet.one("SELECT count(*) FROM event")
        return got


def idle_rates(meter, seconds):
    before = meter.read()
    time.sleep(seconds)
    after = meter.read()
    return {k: (after[k] - before[k]) / (after["at"] - before["at"]) for k in after if k != "at"}


def measure(fleet, client, meter, idle, path, copies):
    with open(path, "rb") as f:
        data = f.read()
    stem, dot, ending = os.path.basename(path).rpartition(".")
    dataset = client.dataset()
    before = meter.read()
    batch = client.upload(dataset, [(f"{stem}-{i}{dot}{ending}", data) for i in range(copies)])["batch"]
    # asked rarely: the asking costs, too
    rig.wait_until(lambda: client.json(f"/batches/{batch['id']}/summary")["state"] == "done", 1200,
                   interval=2)
    files = client.files(dataset)
    assert all(f["state"] == "done" for f in files), [f["pipelines"]["main"] for f in files]
    rig.wait_until(lambda: fleet.one("SELECT count(*) FROM event WHERE pos IS NULL") == 0, 60)
    after = meter.read()
    took = after["at"] - before["at"]
    return {k: max(0.0, after[k] - before[k] - idle.get(k, 0) * took) / copies
            for k in after if k != "at"}


@pytest.mark.timeout(3600)
def test_percore(servers, new_fleet, tmp_path):
    fleet = new_fleet({"DOCFLEET_SLOTS": "1"}).start()
    client = fleet.client()
    meter = Meter(servers, fleet)
    warm = client.dataset()
    for name, _ in KINDS.values():
        shutil.copy(os.path.join(rig.FIXTURES, name), tmp_path)
        client.upload(warm, [str(tmp_path / os.path.basename(name))])
    client.wait_all(warm, 1200)
    idle = idle_rates(meter, 20)
    peaks = Peaks(fleet)
    peaks.start()
    costs = {kind: measure(fleet, client, meter, idle, str(tmp_path / os.path.basename(name)),
                           COPIES) for kind, (name, _) in KINDS.items()}
    peaks.over = True
    peaks.join()
    programs = [*WORKERS.values(), "ingest-gateway", "dispatcher", "postgres", "kafka", "s3"]
    text = "| core-ms a file | " + " | ".join(programs) + " |\n|" + "---|" * (len(programs) + 1)
    for kind, cost in costs.items():
        text += f"\n| {kind} | " + " | ".join(f"{cost[p] * 1000:.1f}" for p in programs) + " |"
    text += ("\n\n| a file | commits | KiB of WAL | KiB of rows and indexes | orders through Kafka |"
             " events through Kafka | objects written | KiB of objects |\n|---|---|---|---|---|---|---|---|")
    for kind, c in costs.items():
        text += (f"\n| {kind} | {c['commits']:.1f} | {c['wal'] / 1024:.1f} | {c['size'] / 1024:.1f} |"
                 f" {c['orders']:.1f} | {c['events']:.1f} | {c['objects']:.1f} |"
                 f" {c['bytes'] / 1024:.0f} |")
    text += "\n\n| MiB | service and zygotes at rest | largest child |\n|---|---|---|"
    for stage, name in WORKERS.items():
        process = fleet.process(name)
        rest = process.rss() + sum(rss_of(pid) for pid in process.children())
        text += f"\n| {name} | {rest / 2 ** 20:.0f} | {peaks.peaks.get(stage, 0) / 1024:.0f} |"
    for name in ("ingest-gateway", "dispatcher"):
        text += f"\n| {name} | {fleet.process(name).rss() / 2 ** 20:.0f} | – |"
    text += (f"\n\n{COPIES} files of each kind at a time, one slot a stage, `rules` backend, tesseract, no "
             "Textract. Processor time of the program and its children as the kernel counts it, in "
             "ticks of 10 ms, less what the fleet uses while idle; a service's time is small beside a "
             "tick for small files, and rounded. Commits of workers that look for work and of the "
             "dispatcher are in it. The machine was used by others, too.")
    bench.write_section("percore", "Processor time, memory and load by kind of file", text)


def rss_of(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as f:
            return next(int(x.split()[1]) for x in f if x.startswith("Pss:")) * 1024
    except (OSError, StopIteration):
        return 0
