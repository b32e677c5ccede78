# SPDX-License-Identifier: Apache-2.0
"""The canary on a real fleet: it comes through all stages, and a stage that stands still fails it."""
import re

from lib import rig


def canary(fleet, *options):
    """One run as a user of its own."""
    return fleet.ctl("canary", *options, check=False, timeout=400,
                     env={"DOCFLEET_API_KEY": fleet.user_key("canary")})


def files(fleet):
    client = fleet.client("canary")
    dataset, = [d["id"] for d in client.json("/datasets")["items"] if d["name"] == "docfleet canary"]
    return client.json(f"/datasets/{dataset}/files")["items"]


def test_it_comes_through(fleet):
    run = canary(fleet, "--objective", f"{int(60 * rig.patience())}s")
    assert run.returncode == 0 and "the canary came through" in run.stdout, run.stdout + run.stderr
    assert files(fleet) == [], "it takes its file away"


def test_a_stage_that_stands_still_fails_it(fleet):
    fleet.stop("text-extractor")
    run = canary(fleet, "--objective", "1s")
    assert run.returncode == 5 and re.search(r"step work: file \S+ is not done after 5 s", run.stderr), run.stderr
    left, = files(fleet)
    assert left["state"] == "processing", "the file that failed stays for whoever looks"
