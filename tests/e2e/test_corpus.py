# SPDX-License-Identifier: Apache-2.0
"""Real documents, hostile ones among them, as one batch through the whole fleet: every file ends,
the counts add up, the text is there, no service dies or grows.

All 383 files take about six minutes on two busy cores (most of it is OCR), so the default run takes a
fixed part, every hostile file and every fourth of the others: 138 files, about one minute.
FULL=1 (`FULL=1 make e2e K=corpus`) takes all of them.
"""
import csv
import http.client
import json
import os
import re
import secrets
import time
import unicodedata

from lib import invariants, rig

FULL = rig.FULL
TIMEOUT = float(os.environ.get("DOCFLEET_CORPUS_TIMEOUT", "1800" if FULL else "480"))
SHARE = 0.95
RSS_MAX = 512 << 20


def manifest(corpus):
    with open(os.path.join(corpus, "MANIFEST.tsv"), encoding="utf-8", newline="") as f:
        return {r["path"]: r for r in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)}


def chosen(corpus):
    """Paths of all files, or of the fixed part."""
    found = sorted(os.path.relpath(os.path.join(folder, name), corpus)
                   for folder, _, names in os.walk(corpus) for name in names)
    if FULL:
        return found
    hostile = [p for p in found if p.startswith("hostile/")]
    return hostile + [p for p in found if not p.startswith("hostile/")][::4]


def flat(path):
    """A file's name has no folder; the corpus repeats names between folders."""
    return path.replace("/", "~")


def upload(client, dataset, corpus, paths):
    """One multipart body, read from the disk as it goes out."""
    edge = "corpus" + secrets.token_hex(8)
    heads = [f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{flat(p)}"\r\n\r\n'
             .encode() for p in paths]
    end = f"--{edge}--\r\n".encode()
    sizes = [os.path.getsize(os.path.join(corpus, p)) for p in paths]
    host = re.match(r"http://([^/]+)/", client.api).group(1)
    connection = http.client.HTTPConnection(host, timeout=120)
    connection.putrequest("POST", f"/api/v1/datasets/{dataset}/files")
    for name, value in (("Authorization", "Bearer " + client.key),
                        ("Content-Type", "multipart/form-data; boundary=" + edge),
                        ("Content-Length", sum(map(len, heads)) + sum(sizes) + 2 * len(paths) + len(end))):
        connection.putheader(name, str(value))
    connection.endheaders()
    for head, path in zip(heads, paths):
        connection.send(head)
        with open(os.path.join(corpus, path), "rb") as f:
            while data := f.read(65536):
                connection.send(data)
        connection.send(b"\r\n")
    connection.send(end)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status == 202, body[:2000]
    return json.loads(body)


def folded(text):
    return " ".join(unicodedata.normalize("NFKC", text).split())


def misses_of(client, rows, by_name):
    """(number of promised phrases, those that are not in the text)"""
    promised, misses = 0, []
    for path, row in rows.items():
        for phrase in re.findall(r'text contains: "(.*?)"(?:;|$)', row["expectation"]):
            promised += 1
            file = by_name.get(flat(path))
            got = client.request("GET", f"/files/{file['id']}/text") if file else None
            if got is None or got.status_code != 200 or \
                    folded(phrase) not in folded(got.content.decode("utf-8")):
                error = file and file["pipelines"]["main"]["error"]
                misses.append((path, phrase, error and error["code"]))
    return promised, misses


def peak_rss(process):
    with open(f"/proc/{process.pid}/status", encoding="utf-8") as f:
        return int(re.search(r"VmHWM:\s+(\d+) kB", f.read()).group(1)) * 1024


def check_ends(items, codes):
    """Every pipeline that is not done says why, in a code and in words."""
    for item in items:
        assert item["state"] in ("done", "failed"), item
        assert item["state"] == item["pipelines"]["main"]["state"], item
        for name, pipeline in item["pipelines"].items():
            if pipeline["state"] == "done":
                assert pipeline["error"] is None, item
                continue
            assert pipeline["state"] == "failed" or (pipeline["state"] == "skipped" and
                                                     name != "main"), item
            error = pipeline["error"]
            assert error and error["detail"] and error["code"] in codes, item
            assert "/" not in error["code"] and "zygote" not in error["detail"], item


def error_codes():
    """Those a document may earn; the others would be a fault of ours."""
    return {"empty_file", "unsupported_type", "encrypted", "corrupt", "too_many_pages",
            "too_many_pixels", "expands_too_much", "child_crashed", "child_timeout", "pages_failed",
            "no_preview"}


def test_the_corpus_as_one_batch(new_fleet, shared):
    corpus = os.path.join(shared, "corpus")
    paths = chosen(corpus)
    rows = {p: r for p, r in manifest(corpus).items() if p in set(paths)}
    fleet = new_fleet()
    fleet.start()
    pids = {name: process.pid for name, process in fleet.processes.items()}
    client = fleet.client()
    dataset = client.dataset()
    began = time.monotonic()
    answer = upload(client, dataset, corpus, paths)
    batch = answer["batch"]
    refused = {f["name"]: f["error"]["code"] for f in answer["files"] if "error" in f}
    empty = {flat(p): "empty_file" for p in paths if not os.path.getsize(os.path.join(corpus, p))}
    assert refused == empty
    assert (batch["total"], batch["accepted"], batch["rejected"]) == \
        (len(paths), len(paths) - len(empty), len(empty))
    uploaded = time.monotonic() - began

    def over():
        by_state = client.json(f"/batches/{batch['id']}/summary")["byState"]
        return by_state["done"] + by_state["failed"] == batch["accepted"]
    try:
        rig.wait_until(over, TIMEOUT, interval=0.25, what="the batch")
    finally:
        took = time.monotonic() - began
        peaks = {name: peak_rss(p) for name, p in fleet.processes.items() if p.alive()}
        print(f"\ncorpus: {len(paths)} files, sent in {uploaded:.1f} s, over in {took:.1f} s; peak MB: "
              + ", ".join(f"{n} {v >> 20}" for n, v in peaks.items()))
        for item in client.files(dataset, state="processing"):
            print("  still on its way:", item["name"], json.dumps(item["pipelines"]))

    items = client.files(dataset)
    by_name = {i["name"]: i for i in items}
    assert set(by_name) | set(refused) == {flat(p) for p in paths}
    promised, misses = misses_of(client, rows, by_name)
    states = {s: sum(i["state"] == s for i in items) for s in ("done", "failed")}
    print(f"corpus: {states}; {promised - len(misses)} of {promised} phrases found")
    for miss in misses:
        print("  missed:", *miss)
    for item in items:
        for name, p in item["pipelines"].items():
            if p["state"] == "failed":
                print(f"  {name} failed: {item['name']}: {p['error']['code']}: {p['error']['detail']}")

    check_ends(items, error_codes())
    summary = client.json(f"/datasets/{dataset}/summary")["files"]
    got = client.json(f"/batches/{batch['id']}")
    assert summary["total"] == len(items) == got["accepted"] == got["total"] - got["rejected"]
    for state, n in states.items():
        assert summary["byState"][state] == got["byState"][state] == n
    assert {n: p.pid for n, p in fleet.processes.items() if p.alive()} == pids, "a service died"
    assert not {n: v for n, v in peaks.items() if v > RSS_MAX}
    assert len(misses) <= (1 - SHARE) * promised
    invariants.wait_quiet(fleet)
    invariants.check_rows(fleet, [i["id"] for i in items])
    invariants.check_objects(fleet)
