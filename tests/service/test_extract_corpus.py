# SPDX-License-Identifier: Apache-2.0
"""Every file of the shared corpus through the jailed text operation: the phrases its manifest
promises are in the text, and hostile files end in a reason. Pictures and old office files get their
text from other services and are only asked for a clean end here."""
import concurrent.futures
import csv
import json
import os
import re
import subprocess
import tempfile
import unicodedata

import pytest

from lib.rig import ROOT, SHARED

CORPUS = os.path.join(SHARED, "corpus")
BIN = os.path.join(ROOT, "build", "release", "bin")
SHARE = 0.95
LIMITS = {"JAILRUN_AS_MB": "512", "JAILRUN_CPU_S": "30", "JAILRUN_WALL_MS": "90000"}
CODES = {"encrypted", "corrupt", "unsupported_type", "expands_too_much", "too_many_pages",
         "empty_file", "file_too_large"}
OTHERS = ("image/", "application/msword", "application/vnd.ms-", "application/encrypted")


def folded(text):
    return " ".join(unicodedata.normalize("NFKC", text).split())


def manifest():
    with open(os.path.join(CORPUS, "MANIFEST.tsv"), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def extract(path):
    """(text of all pages, error code or None, what the tool said)"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [os.path.join(BIN, "jailrun"), os.path.join(BIN, "text-extractor-zygote"), "text", path,
             json.dumps({"name": os.path.basename(path)}), folder],
            capture_output=True, timeout=120, env=dict(os.environ, **LIMITS))
        pages = []
        for name in sorted(os.listdir(folder)):
            if name.endswith("-page.txt"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    pages.append(file.read())
    shown = (done.stdout + done.stderr).decode("utf-8", "replace")
    code = re.search(r"^error \w+ (\w+)", shown, re.M)
    return "\n".join(pages), code.group(1) if code and done.returncode else None, shown


@pytest.mark.skipif(not os.path.isdir(CORPUS), reason="no shared corpus")
def test_corpus_text():
    promised, contains, misses, unclean = 0, 0, [], []
    rows = manifest()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda row: extract(os.path.join(CORPUS, row["path"])), rows))
    for row, (text, code, shown) in zip(rows, results):
        if code and code not in CODES:
            unclean.append((row["path"], shown.strip().splitlines()[-2:]))
        phrases = re.findall(r'(?:text contains|subject): "(.*?)"(?:;|$)', row["expectation"])
        if row["mime"].startswith(OTHERS):
            continue
        for phrase in phrases:
            promised += 1
            contains += "text contains" in row["expectation"]
            if "\ufffd" not in phrase and folded(phrase) not in folded(text):
                misses.append((row["path"], phrase, code))
    share = 1 - len(misses) / promised
    print(f"\ncorpus text: {promised - len(misses)} of {promised} phrases, {share:.1%}; "
          f"{contains} are of 'text contains', the others subjects")
    for miss in misses:
        print("  missed:", *miss)
    assert not unclean
    assert share >= SHARE
