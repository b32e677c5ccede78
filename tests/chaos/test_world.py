# SPDX-License-Identifier: Apache-2.0
"""What soaks have found, each again as a small test."""
import pytest

from chaos import checks
from chaos.ledger import Caller
from chaos.world import World, busy
from lib import rig


@pytest.fixture(scope="module")
def world():
    import conftest
    if conftest._state["current"]:
        conftest._stop_current()
    with World(seed=3, workers={"text": 1, "ai": 1, "preview": 1}, spare=1) as made:
        made.caller = Caller(made, made.keys(1)[0], "user0")
        made.data = made.caller.dataset("d")
        yield made


def test_a_pause_does_not_outlive_a_rebalance(world):
    """Partitions that were paused when they were taken and given again stayed paused for ever: the
    worker said that it lived, and everything sent there had to be swept."""
    world.caller.upload(world.data, [f"p{i}.txt" for i in range(5)])
    world.wait_quiet(60)
    records = world.recent_records("text")
    world.links["text#1"]["postgres"].set(delay=400)  # claims are slow: the queue fills
    world.produce([(world.topic("text"), k, v, i % world.partitions)
                   for i, (k, v, _) in enumerate(records * 200)])
    rig.always(world.fleet.process("text#1").alive, 3)
    world.run("text#2", wait=True)
    rig.wait_until(lambda: "partitions assigned" in world.fleet.process("text#2").log(), 30)
    world.links["text#1"]["postgres"].reset()
    rig.wait_until(lambda: not world.lags(), 60, what="all records read")
    world.terminate("text#2")
    world.idle.add("text#2")


def remove_topics(world, *names):
    admin = world.admin()
    for future in admin.delete_topics([world.topic(n) for n in names]).values():
        future.result(10)


def test_events_whose_topic_is_gone_do_not_spin(world):
    """The dispatcher tried again without a pause: 8,000 log lines and a core a second."""
    remove_topics(world, "events")
    pid, log = world.pids["dispatcher"], world.fleet.process("dispatcher")
    world.caller.upload(world.data, ["a.txt"])
    rig.wait_until(lambda: "events not sent" in log.log() or world.topic("events") in
                   world.admin().list_topics(timeout=5).topics, 30)
    before = busy(pid)
    rig.always(log.alive, 3)
    assert busy(pid) - before < 150, "more than half a core for nothing"
    assert log.log().count("events not sent") < 20
    world.make_topics()
    world.wait_quiet(60)
    assert not checks.run(world, ["Q1", "Q4", "Q6"])


def test_topics_are_made_again_beside_living_groups(world):
    """`docfleetctl migrate --topics` gave up on the offsets of a group that had members."""
    remove_topics(world, "text", "ai", "preview")
    rig.wait_until(lambda: world.fleet.ctl("migrate", "--topics", "--partitions", "6", check=False)
                   .returncode == 0, 60, what="topics made again")
    world.caller.upload(world.data, [f"b{i}.txt" for i in range(20)])
    world.wait_quiet(90)
    # Not Q10: a topic that was replaced under its readers counts as behind until they join anew.
    assert not checks.run(world, [c for c in checks.CHECKS if c != "Q10"])
