# SPDX-License-Identifier: Apache-2.0
"""The built images as a fleet of containers, against real servers: `make images-test`.

What a document becomes there must be what it becomes in the fleet of host programs, byte for byte;
so the same documents go through both. The result is kept for docs/images.md.
"""
import concurrent.futures
import csv
import json
import os
import re
import time
import unicodedata

import pytest

from lib import containers, invariants, rig

REPORT = os.path.join(rig.ROOT, "build", "images", "run.json")
WORKERS = ("text-extractor", "ocr-fallback", "preview-worker", "thumbnail-worker")
FILES = 50
TIMEOUT = 1500
# a few of our own, for a quick look: make images-test K=handful
HANDFUL = ("invoice.pdf", "contract.docx", "prices.xlsx", "order.eml", "harbour.jpg",
           "invoice-scan.png", "note.txt")
# one page of an office file is laid out by the fonts that are there; these are the same
SAME_RECORD = ("values", "cells", "backend", "generation")


@pytest.fixture(scope="module")
def image_fleet(servers):
    made = containers.ImageFleet(servers)
    missing = [s for s in (*rig.SERVICES, "docfleetctl") if not made.has(s)]
    if missing:
        pytest.fail(f"no images of {missing}: make images")
    try:
        start(made)
        yield made
    finally:
        made.close()


def start(fleet, tries=5):
    """As a supervisor does: what ends at its start is started again. Loading LibreOffice takes longer
    than preview-worker waits for it, where others have the processor."""
    fleet.start(wait=False)
    for name in rig.SERVICES:
        for left in range(tries, 0, -1):
            try:
                fleet.wait_ready(name, 120)
                break
            except AssertionError:
                if left == 1 or fleet.running(name):
                    raise
                fleet.processes.pop(name).stop()
                fleet.start_again(name, wait=False)


def chosen(corpus, number):
    """A fixed part of the shared documents: from each folder and kind of file in turn."""
    with open(os.path.join(corpus, "MANIFEST.tsv"), encoding="utf-8", newline="") as f:
        rows = sorted(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE),
                      key=lambda r: r["sha256"])
    groups = {}
    for row in rows:
        if os.path.exists(os.path.join(corpus, row["path"])) and int(row["bytes"]) < 3_000_000:
            kind = (row["kind"], os.path.splitext(row["path"])[1].lower())
            groups.setdefault(kind, []).append(row)
    picked = []
    while len(picked) < number and any(groups.values()):
        for _, rows in sorted(groups.items()):
            if rows and len(picked) < number:
                picked.append(rows.pop(0))
    return picked


def outcome(client, file):
    """All that users can see of a file, without ids and times."""
    def body(path):
        got = client.request("GET", f"/files/{file['id']}{path}")
        return got.content if got.status_code == 200 else got.status_code

    pipelines = {name: (p["state"], p["error"] and p["error"]["code"])
                 for name, p in file["pipelines"].items()}
    preview = client.request("GET", f"/files/{file['id']}/preview")
    pages = [(p["width"], p["height"]) for p in preview.json()["pages"]] \
        if preview.status_code == 200 else preview.status_code
    record = client.request("GET", f"/files/{file['id']}/record")
    items = record.json().get("items", [record.json()]) if record.status_code == 200 else []
    return {"state": file["state"], "pipelines": pipelines, "text": body("/text"), "pages": pages,
            "thumbnail": body("/thumbnail"),
            "records": [{k: r.get(k) for k in SAME_RECORD} for r in items]}


def run_through(fleet, files, timeout):
    """Uploads the files as one batch; gives {name: outcome} and the seconds until all had ended."""
    client = fleet.client()
    dataset = client.dataset()
    began = time.monotonic()
    answer = client.upload(dataset, files)
    assert answer["batch"]["accepted"] == len(files), answer["batch"]
    items = client.wait_all(dataset, timeout)
    took = time.monotonic() - began
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda i: outcome(client, client.file(i["id"])), items))
    invariants.check_rows(fleet, [i["id"] for i in items])
    return dict(zip([i["name"] for i in items], outcomes)), took


def differences(here, there):
    return {f"{name} {part}": (str(here[name][part])[:300], str(there[name][part])[:300])
            for name in here for part in here[name] if here[name][part] != there[name][part]}


def folded(text):
    return " ".join(unicodedata.normalize("NFKC", text).split())


def test_a_handful_of_documents(image_fleet, fixture_path):
    files = [fixture_path(name) for name in HANDFUL]
    got, _ = run_through(image_fleet, files, 300)
    for name in HANDFUL:
        assert got[name]["state"] == "done", (name, got[name]["pipelines"])
        assert {p[0] for p in got[name]["pipelines"].values()} == {"done"}, got[name]["pipelines"]
    values = got["invoice.pdf"]["records"][0]["values"]
    assert values["Invoice number"] == "NP-2024-0187" and values["Invoice date"] == "2024-03-14"
    assert "NP-2024-0187" in got["invoice-scan.png"]["text"].decode()


def test_every_container_is_held(image_fleet):
    """What the kernel says of the running processes, service, zygotes and all."""
    for name in rig.SERVICES:
        container = image_fleet.process(name)
        first = container.inner_pid()
        for pid in [first, *children(first)]:
            held = containers.status_of(pid)
            assert held["Uid"].split() == [str(containers.UID)] * 4, (name, held["Name"])
            assert {held[c] for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == \
                {"0" * 16}, (name, held)
            assert held["NoNewPrivs"] == "1" and held["Seccomp"] == "2", (name, held["Name"])
            assert not held["State"].startswith("Z"), f"{name} leaves zombies"
        with open(f"/proc/{first}/mountinfo", encoding="utf-8") as f:
            mounts = {line.split()[4]: line.split()[5].split(",") for line in f}
        assert "ro" in mounts["/"] and "rw" in mounts["/scratch"], mounts


def children(pid):
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        with open(f"/proc/{parent}/task/{parent}/children", encoding="utf-8") as f:
            kids = [int(k) for k in f.read().split()]
        found += kids
        queue += kids
    return found


def test_no_shell_and_nothing_to_write_to(image_fleet):
    for name in (*rig.SERVICES, "docfleetctl"):
        root, _ = image_fleet.root(name)
        programs = sorted(os.listdir(f"{root}/opt/docfleet/bin"))
        assert programs[0] and name in programs
        assert os.listdir(f"{root}/usr/bin") == [] == os.listdir(f"{root}/usr/sbin"), name
        foreign, setuid = [], []
        for folder, _, files in os.walk(root):
            for path in (os.path.join(folder, f) for f in files):
                info = os.lstat(path)
                setuid += [path] if info.st_mode & 0o6000 else []
                if info.st_uid == containers.UID or (info.st_mode & 0o022 and not os.path.islink(path)):
                    foreign.append(path)
        assert not setuid and not foreign, (name, setuid, foreign)


def test_the_cage_under_the_default_profile(image_fleet):
    """Landlock and seccomp hold; user namespaces are refused by the profile, so office files are
    converted one at a time, and the metric says so."""
    degraded = {}
    for name in WORKERS:
        found = [v for k, v in image_fleet.metrics(name).items() if k.startswith("docfleet_jail_degraded")]
        degraded[name] = found
    assert degraded == {"text-extractor": [0.0], "ocr-fallback": [0.0], "thumbnail-worker": [0.0],
                        "preview-worker": [1.0]}


def test_health_check_of_a_container(image_fleet):
    """`--health` is what compose.yaml asks; it needs no shell."""
    for name in rig.SERVICES:
        container = image_fleet.process(name)
        told = container.execute(f"/opt/docfleet/bin/{name}", "--health")
        assert told.returncode == 0, (name, told.stdout, told.stderr)
    container = image_fleet.process("cleaner")
    told = container.runc("exec", "--cwd", "/", "--env", "DOCFLEET_PROBE_PORT=1", container.identity,
                          "/opt/docfleet/bin/cleaner", "--health")
    assert told.returncode == 1 and "probe port" in told.stdout + told.stderr


def test_hostile_files_cost_only_themselves(image_fleet, fixture_path):
    """A bomb and a damaged file fail with their reasons; the workers live on."""
    pids = {name: image_fleet.process(name).inner_pid() for name in WORKERS}
    names = ("truncated.pdf", "encrypted.pdf", "pixel-bomb.png", "zip-bomb.docx")
    got, _ = run_through(image_fleet, [fixture_path(n) for n in names], 300)
    assert "failed" in {o["state"] for o in got.values()}, {n: o["pipelines"] for n, o in got.items()}
    assert pids == {name: image_fleet.process(name).inner_pid() for name in WORKERS}


@pytest.mark.timeout(2 * TIMEOUT + 300)
def test_fifty_documents_end_as_on_the_host(servers, image_fleet, shared):
    corpus = os.path.join(shared, "corpus")
    rows = {r["path"].replace("/", "~"): r for r in chosen(corpus, FILES)}
    assert len(rows) == FILES
    files = []
    for name, row in rows.items():
        with open(os.path.join(corpus, row["path"]), "rb") as f:
            files.append((name, f.read()))
    in_containers, took = run_through(image_fleet, files, TIMEOUT)
    assert sorted(in_containers) == sorted(rows)

    promised, missed = 0, []
    for name, row in rows.items():
        for phrase in re.findall(r'text contains: "(.*?)"(?:;|$)', row["expectation"]):
            promised += 1
            text = in_containers[name]["text"]
            if not isinstance(text, bytes) or folded(phrase) not in folded(text.decode()):
                missed.append((row["path"], phrase, in_containers[name]["pipelines"]["main"]))

    marks = {n: image_fleet.process(n).inner_pid() for n in rig.SERVICES}
    assert all(marks.values()), f"containers ended: {marks}"
    codes = image_fleet.stop()
    assert set(codes.values()) == {0}, codes  # one fleet at a time: they share the topics
    host = rig.Fleet(servers)
    try:
        start(host)
        on_host, host_took = run_through(host, files, TIMEOUT)
    finally:
        host.stop()
    differ = differences(in_containers, on_host)
    states = sorted(o["state"] for o in in_containers.values())
    _, config = image_fleet.root("dispatcher")
    commit = config["Labels"]["org.opencontainers.image.revision"]
    with open(REPORT, "w", encoding="utf-8") as f:
        json.dump({
            "files": len(rows), "kinds": len({os.path.splitext(n)[1].lower() for n in rows}),
            "done": states.count("done"), "failed": states.count("failed"),
            "ocr": sum(1 for o in in_containers.values() if o["text"] != 404),
            "promised": promised, "missed": len(missed), "differ": len(differ),
            "seconds": round(took), "hostSeconds": round(host_took),
            "commit": commit[:7] + commit[40:],
            "date": time.strftime("%Y-%m-%d", time.gmtime())}, f)
    assert not differ, json.dumps(differ, indent=1)
    assert len(missed) <= promised * 0.05, missed
