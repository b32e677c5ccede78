# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the service and end-to-end tests; see tests/lib/rig.py and tests/README.md."""
import os

import pytest

from lib import rig
from lib.ai_server import AiServer

_state = {"servers": None, "shared": None, "current": None, "marks": {}}


@pytest.fixture(scope="session")
def servers():
    """Postgres, Kafka and versitygw of this session."""
    made = rig.Servers()
    _state["servers"] = made
    try:
        made.start()
        yield made
        found = made.deadlocks()
        assert not found, "\n\n".join(found)
    finally:
        if _state["current"]:
            _stop_current()
        made.stop()


def _stop_current():
    """Two fleets never run at once: they would take each other's work orders."""
    current, _state["current"] = _state["current"], None
    for process in list(current.processes.values()):
        if not process.alive():
            current.processes.pop(process.name)
    current.stop()


def _activate(made):
    if _state["current"] is not made:
        if _state["current"]:
            _stop_current()
        _state["current"] = made
    return made


@pytest.fixture
def fleet(servers):
    """The session's fleet with every service running; what a test stopped is started again."""
    if not os.path.exists(f"{rig.ROOT}/build/release/bin/docfleetctl"):
        pytest.fail("build/release/bin/docfleetctl is not built")
    if _state["shared"] is None:
        _state["shared"] = rig.Fleet(servers)
    made = _activate(_state["shared"])
    missing = [s for s in rig.SERVICES if made.has(s) and not made.running(s)]
    if missing:
        made.start(*missing)
    _state["marks"] = made.log_marks()
    return made


@pytest.fixture
def new_fleet(servers):
    """new_fleet(env={...}, build="release-faults") -> a Fleet of its own; nothing runs in it yet."""
    made = []

    def make(env=None, build="release"):
        one = rig.Fleet(servers, env, build)
        made.append(one)
        _state["marks"] = {}
        return _activate(one)
    yield make
    if made and _state["current"] in made:
        _stop_current()


@pytest.fixture
def activate():
    """activate(a Fleet of the module's own): whichever ran before is stopped first."""
    return _activate


@pytest.fixture
def client(fleet):
    return fleet.client()


@pytest.fixture(scope="module")
def provider():
    """A chat-completions service that says what a test tells it."""
    made = AiServer()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def s3proxy(servers):
    made = rig.S3Proxy(servers.dir)
    yield made
    made.stop()


@pytest.fixture
def moto(servers):
    made = rig.Moto(servers.dir)
    yield made
    made.stop()


@pytest.fixture
def fixture_path():
    """fixture_path("invoice.pdf") -> path of a document made by tests/fixtures/make_fixtures.py."""
    def path(name):
        for folder in (rig.FIXTURES, os.path.join(rig.FIXTURES, "samples"),
                       os.path.join(rig.FIXTURES, "hostile")):
            if os.path.exists(os.path.join(folder, name)):
                return os.path.join(folder, name)
        pytest.fail(f"no fixture {name}; make them: tests/fixtures/make_fixtures.py build/fixtures")
    return path


@pytest.fixture
def shared():
    """The folder of shared documents; the test is skipped, and counted, without it."""
    if not os.path.isdir(rig.SHARED):
        pytest.skip(f"{rig.SHARED} is not there (DOCFLEET_SHARED)")
    return rig.SHARED


def pytest_collection_modifyitems(config, items):
    """What belongs to the whole fault matrix alone is no test of a usual run, so it is not skipped."""
    if not rig.FULL:
        left_out = [i for i in items if i.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [i for i in items if not i.get_closest_marker("full")]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    current = _state["current"]
    used = any(isinstance(v, rig.Fleet) for v in getattr(item, "funcargs", {}).values())
    if current and (used or "new_fleet" in item.fixturenames):
        for name, state, lines in current.log_since(_state["marks"]):
            report.sections.append((f"log of {name} ({state})", "\n".join(lines)))
    made = _state["servers"]
    if made:
        for name, process in made.processes.items():
            if not process.alive():
                report.sections.append((f"log of {name} (ended)", process.log()[-3000:]))
