# SPDX-License-Identifier: Apache-2.0
"""Precision and recall of the `rules` backend: on real invoices and receipts through a whole fleet,
and on made documents through the extraction alone. Whatever they are, they are written down."""
import json
import os

import accuracy
from lib import bench
from lib.rig import ROOT, wait_until

SERVICES = ("ingest-gateway", "dispatcher", "text-extractor", "ocr-fallback", "ai-extractor")
SEED, COUNT = 1, 6
FROM_CORPUS = """
24 invoices (born-digital PDFs; the truth is the XML inside them) and 8 photographed receipts (SROIE) of
the shared corpus, each through gateway, text, ocr where needed, and ai with the `rules` backend, which
is no AI. *wrong* counts values that differ from the truth and values where the truth has none, *missing*
values that were left out. A credit note whose page prints minus signs and whose XML has none counts as wrong.
Rows are aligned by their amount; `rows: …` are the cells in them.
"""
FROM_MADE = """
8 layouts (two kept out of tuning but for one look that changed a general rule), 3 qualities and 2 languages, made by tests/bench/accuracy.py;
the qualities are simulated and the layouts tidy. A regression test more than a measure.
"""


def upload(client, truth, folder):
    """Every document into the dataset of its kind: {path: file id}."""
    datasets = {True: client.dataset("receipts", accuracy.CORPUS_RECEIPT_COLUMNS),
                False: client.dataset("invoices", accuracy.CORPUS_INVOICE_COLUMNS)}
    ids = {}
    for i, (path, entry) in enumerate(truth.items()):
        with open(os.path.join(folder, path), "rb") as f:
            part = (f"{i:02d}-{os.path.basename(path)}", f.read())
        answer = client.upload(datasets[accuracy.is_receipt(entry)], [part])
        ids[path] = answer["files"][0]["id"]
    return ids


def test_corpus_accuracy(new_fleet, shared):
    folder = os.path.join(shared, "corpus")
    with open(os.path.join(folder, "invoices", "ground-truth.json"), encoding="utf-8") as f:
        truth = json.load(f)
    fleet = new_fleet().start(*SERVICES)
    client = fleet.client()
    ids = upload(client, truth, folder)
    wait_until(lambda: fleet.one("SELECT count(*) FROM file WHERE main_state = 0") == 0, 1200,
               interval=0.5, what="every document read")
    records, client = {}, fleet.client()  # the old connection has been idle for too long
    for path, file_id in ids.items():
        items = client.json(f"/files/{file_id}/record")["items"]
        if items:
            records[path] = items[0]
    if os.environ.get("BENCH_RECORDS"):
        with open(os.environ["BENCH_RECORDS"], "w", encoding="utf-8") as f:
            json.dump(records, f, indent=1)
    table = accuracy.score_table(accuracy.corpus_scores(truth, records),
                                 f"rules, {len(truth)} documents, {len(records)} with a record")
    bench.write_section("accuracy", "Extraction from real documents, by type of column",
                        table + "\n" + FROM_CORPUS)
    assert len(records) == len(truth)


def test_made_accuracy():
    scores, n = accuracy.bench_scores(f"{ROOT}/build/release/bin/extract-tool", SEED, COUNT)
    bench.write_section("accuracy-made", "Extraction from made documents, by type of column",
                        accuracy.score_table(scores, f"rules, {n} documents, seed {SEED}") + "\n" +
                        FROM_MADE)
