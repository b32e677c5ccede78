# SPDX-License-Identifier: Apache-2.0
"""An importer that is killed, anywhere: the next start goes on with the same run, and doubles nothing."""
import signal

import pytest

from lib import importing, invariants, rig
from lib.importing import Source
from lib.rig import wait_until

USUAL = ("import.before_put", "import.after_commit", "import.before_publish")
POINTS = (*USUAL, *(pytest.param(p, marks=pytest.mark.full) for p in (
    "import.after_list_page", "import.before_fetching", "import.before_commit",
    "import.after_publish")))


@pytest.fixture(scope="module")
def made(servers):
    fleet = rig.Fleet(servers)
    yield fleet
    fleet.stop()


@pytest.fixture
def fleet(made, activate):
    activate(made)
    if not made.processes:
        importing.start_fleet(made)
    return made


def files_of(fleet, source):
    return fleet.one("SELECT count(*) FROM file f JOIN import_source i ON f.dataset_id IN"
                     " (i.dataset_id, i.shadow_id) WHERE i.import_id = %s", source.id)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(fleet, point):
    s = Source(fleet, f"in/{point}/")
    for i in range(12):
        s.put(f"{i}.txt")
    run_id = s.ask()
    crashed = importing.start(fleet, {"DOCFLEET_CRASH_AT": point}, build="release-faults")
    assert crashed.popen.wait(60) != 0, crashed.log()
    if point != "import.after_publish":
        assert s.names() == []
    importing.run(fleet)
    run = s.get(run_id)
    assert run["state"] == "published" and run["counts"]["done"] == 12
    assert len(s.alice.json(f"/imports/{s.id}/runs")["items"]) == 1
    assert len(s.names()) == 12 and files_of(fleet, s) == 12
    invariants.wait_quiet(fleet)
    invariants.check_rows(fleet)


def test_a_run_that_kills_its_importers_is_given_up(fleet):
    s = Source(fleet, "in/loop/")
    s.put("a.txt")
    run_id = s.ask()
    for _ in range(3):
        crashed = importing.start(fleet, {"DOCFLEET_CRASH_AT": "import.before_put"},
                                  build="release-faults")
        assert crashed.popen.wait(60) != 0
    importing.run(fleet)
    assert s.get(run_id)["error"]["code"] == "crash_loop"
    assert s.run()["state"] == "published"


def test_a_stop_ends_soon_and_the_run_goes_on(fleet):
    s = Source(fleet, "in/stop/")
    s.put("a.txt")
    fleet.ctl("stages", "pause", "text")
    try:
        run_id = s.ask()
        importer = importing.start(fleet)
        wait_until(lambda: s.get(run_id)["state"] == "processing", 30)
        assert importer.stop(signal.SIGTERM, 20) == 0
        assert s.get(run_id)["state"] == "processing"
    finally:
        fleet.ctl("stages", "resume", "text")
    importing.run(fleet)
    assert s.get(run_id)["state"] == "published"


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("limit", [5, 0.5])
def test_import_drill(fleet, limit):
    """1,000 objects, 10 of them broken; importer and workers are killed half-way. 1 % is below the
    usual limit: the version is published and lists them. With a limit of 0.5 % nothing is published,
    and the dataset keeps what it had."""
    s = Source(fleet, f"in/drill-{limit}/", maxFailedPercent=limit)
    s.put("before.txt")
    assert s.run()["state"] == "published"
    for i in range(989):
        s.put(f"{i:04}.txt")
    for i in range(10):
        s.put(f"fail-{i}.txt")
    run_id = s.ask()
    half = "SELECT count(*) FROM import_item WHERE run_id = %s AND state = 'file'"
    importer = importing.start(fleet)
    wait_until(lambda: fleet.one(half, run_id) >= 400, 600, interval=0.05)
    importer.kill9()
    assert fleet.one(half, run_id) < 1000 and s.names() == ["before.txt"]
    for name in list(fleet.processes):
        fleet.kill9(name)
        fleet.start_again(name)
    second = importing.start(fleet)
    wait_until(lambda: s.get(run_id)["state"] == "processing", 600)
    second.kill9()
    assert s.names() == ["before.txt"]
    importing.run(fleet, timeout=1200)
    run = s.get(run_id)
    assert run["counts"]["objects"] == 1000 and run["counts"]["done"] == 990
    assert run["counts"]["failed"] == 10 and run["counts"]["unfetched"] == 0
    listed = s.get(run_id, outcome="failed")["items"]
    assert len(listed) == 10 and all(i["error"]["code"] == "corrupt" for i in listed)
    if limit == 5:
        assert run["state"] == "published"
        assert len(s.names()) == 1000 and len(s.names(state="failed")) == 10
        s.roll_back([r for r in s.alice.json(f"/imports/{s.id}/runs")["items"] if r["no"] == 1][0]["id"])
    else:
        assert run["state"] == "failed" and run["error"]["code"] == "too_many_failed"
    assert s.names() == ["before.txt"]
    invariants.wait_quiet(fleet)
    invariants.check_rows(fleet)
    assert files_of(fleet, s) == 1000
