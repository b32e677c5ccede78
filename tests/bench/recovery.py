# SPDX-License-Identifier: Apache-2.0
"""How soon work goes on after a loss, with the shipped defaults: no time of the fleet is shortened.

Five stages lose a worker at the same moment in each round, so twenty losses take four rounds. Their
units are entered in the database for the stage at once and sleep for longer than any recovery takes.
"""
import random
import signal
import statistics
import time

import load
import requests
from lib import rig

STAGES = ("text", "ocr", "ai", "preview", "thumbnail")
LONG_MS = 90000
EACH = 3  # units of a stage in a round


class LossWorld(load.World):
    """Two workers of every stage with two slots more than they need, or one of each."""

    def __init__(self, made, replicas, sleep_ms=LONG_MS, slots=EACH + 2, env=None):
        super().__init__(made, mice_users=0, stages=(), text=False)
        for stage in STAGES:
            self.fleet.start_sleepers(stage, replicas, slots, wait=False, env={
                "DOCFLEET_SLEEP_MIN": f"{sleep_ms}ms", "DOCFLEET_SLEEP_MAX": f"{sleep_ms}ms",
                **(env or {})})
        for name in list(self.fleet.processes):
            self.fleet.wait_ready(name)
        self.wait_joined()

    def running(self):
        """{(file, stage): (worker, attempts)} of what runs now."""
        rows = self.fleet.sql("SELECT file_id::text AS f, stage, lease_owner AS w, attempts AS n"
                              " FROM task WHERE state = 2")
        return {(r["f"], r["stage"]): (r["w"], r["n"]) for r in rows}

    def fill(self, n=EACH, want=None):
        load.enter(self.fleet, load.add_users(self.fleet, 1), n, stages=range(1, 6))
        want = want or n * len(STAGES)
        return rig.wait_until(lambda: (r := self.running()) and len(r) >= want and r, 60)

    def by_process(self, running):
        """{name of a process: units it runs}; a worker's id holds its pid."""
        pids = {str(p.pid): n for n, p in self.fleet.processes.items() if p.alive()}
        held = {}
        for key, (worker, _) in running.items():
            held.setdefault(pids.get(worker.split(":")[2]), []).append(key)
        return held


def claims_again(world, keys, since, seconds=90):
    """{unit: seconds from `since` to its next claim}; inf for one that is not claimed again."""
    numbers = {}

    def all_claimed():
        for r in load.units(world.fleet, since - 1):
            if r["claimed"] and r["claimed"] > since and (r["file"], r["stage"]) in keys:
                numbers.setdefault((r["file"], r["stage"]), r["claimed"] - since)
        return len(numbers) >= len(keys)
    try:
        rig.wait_until(all_claimed, seconds, interval=0.3)
    except rig.Timeout:
        pass
    return {k: numbers.get(k, float("inf")) for k in keys}


def kills(servers, replicas, rounds):
    """Seconds from kill -9 to the next claim, the first and the last unit of each lost worker."""
    times, losses, rng = [], 0, random.Random(replicas)
    with LossWorld(servers, replicas) as world:
        for _ in range(rounds):
            world.wait_joined()
            held = world.by_process(world.fill())
            victims = {}
            for name, keys in held.items():  # of each stage the worker that has more to lose
                stage = name.split("#")[0]
                if stage not in victims or len(keys) > len(held[victims[stage]]):
                    victims[stage] = name
            time.sleep(rng.uniform(2, 7))  # any point between two renewals
            since = load.db_now(world.fleet)
            for name in victims.values():
                world.fleet.kill9(name)
            if replicas == 1:  # as a supervisor does
                for name in victims.values():
                    world.fleet.start_again(name, wait=False)
            keys = {k for name in victims.values() for k in held[name]}
            found = claims_again(world, keys, since)
            for name in victims.values():
                losses += 1
                times.append(max(found[k] for k in held[name]))
            print(f"  {replicas} worker(s) a stage: slowest of each "
                  + ", ".join(f"{x:.1f}" for x in times[-len(victims):]) + " s", flush=True)
            load.cancel_rest(world.fleet)
            for name in victims.values():
                if not world.fleet.running(name):
                    world.fleet.start_again(name, wait=False)
    return times, losses


def terms(servers, rounds):
    """Per round: seconds until the last unclaimed order was handed back, and whether all that ran
    ended well and once."""
    back, once, ends = [], True, []
    for _ in range(rounds):
        with LossWorld(servers, 1, sleep_ms=6000, slots=2) as world:
            fleet = world.fleet
            load.enter(fleet, load.add_users(fleet, 1), 12, stages=range(1, 6))
            rig.wait_until(lambda: len(world.running()) == 2 * len(STAGES), 60)
            for stage in range(1, 6):
                world.pause(stage)  # what comes back stays where it can be seen
            time.sleep(1.5)
            ran = world.running()
            out = fleet.one("SELECT count(*) FROM task WHERE state = 1")
            assert out > 0, "nothing was sent ahead"
            since = load.db_now(fleet)
            names = [n for n in fleet.processes if "#" in n]
            for name in names:
                fleet.process(name).send(signal.SIGTERM)
            rig.wait_until(lambda f=fleet: f.one("SELECT count(*) FROM task WHERE state = 1") == 0, 30)
            for r in fleet.sql("SELECT stage, max(extract(epoch FROM updated_at))::float8 AS at FROM task"
                               " WHERE state = 0 AND dispatch_seq > 0 GROUP BY stage"):
                back.append(r["at"] - since)
            for name in names:
                fleet.process(name).popen.wait(120)
            ends.append(load.db_now(fleet) - since)
            rows = {(r["f"], r["stage"]): r for r in fleet.sql(
                "SELECT file_id::text AS f, stage, state, attempts FROM task WHERE attempts > 0")}
            once = once and all(rows[k]["state"] == 4 and rows[k]["attempts"] == 1 for k in ran)
    return back, once, ends


def broker(servers, rounds):
    """Seconds from the broker's first answer to the first unit that ends."""
    times = []
    with load.World(servers, sleep=(200, 500), mice_users=0) as world:
        load.enter(world.fleet, load.add_users(world.fleet, 1), 6000, stages=(load.TEXT,))
        time.sleep(5)
        for _ in range(rounds):
            servers.stop_server("kafka")
            time.sleep(12)
            assert not world.running_units()
            servers.start_kafka()
            rig.wait_until(servers.kafka_answers, 60, interval=0.05)
            since = load.db_now(world.fleet)
            def first(s=since):
                rows = [r["done"] for r in load.units(world.fleet, s) if r["done"]]
                return min(rows) if rows else None
            times.append(rig.wait_until(first, 90, interval=0.2) - since)
            print(f"  broker back: first unit ended after {times[-1]:.1f} s", flush=True)
            time.sleep(5)
    return times


def deletes(servers, rounds):
    """Seconds from the reply to DELETE to the moment its running unit has stopped."""
    times = []
    with load.World(servers, mice_users=0, stages=(), text=False) as world:
        fleet = world.fleet
        fleet.start_sleepers("text", 1, 8, env={"DOCFLEET_SLEEP_MIN": f"{LONG_MS}ms",
                                                "DOCFLEET_SLEEP_MAX": f"{LONG_MS}ms",
                                                "DOCFLEET_SLEEP_PUTS": "true"})
        world.wait_joined()
        user, poster = load.add_users(fleet, 1)[0], load.Poster(fleet)

        def inflight():
            return fleet.metrics("text#1").get('docfleet_inflight{stage="text"}', 0)
        for _ in range(rounds):
            ids = [poster.post(user, f"d{i}.txt")[0] for i in range(8)]
            rig.wait_until(lambda: inflight() == 8, 30)
            time.sleep(1)
            sent = []
            for i in ids:
                reply = requests.delete(f"{fleet.api}/files/{i}", timeout=30,
                                        headers={"Authorization": "Bearer " + user.bearer()})
                assert reply.ok, reply.text
                sent.append(time.monotonic())
            left, end = 8, time.monotonic() + 30
            while left and time.monotonic() < end:
                now = int(inflight())
                while left > now:  # which one it was is not told: the first deleted counts
                    times.append(time.monotonic() - sent[8 - left])
                    left -= 1
                time.sleep(0.05)
            times += [float("inf")] * left
        late = fleet.one("SELECT count(*) FROM artifact")
        assert late == 0, f"{late} results of removed files"
    return times


def part(servers, report):
    import fairness
    quick = fairness.QUICK
    data = {}
    for replicas, what in ((2, "one of two"), (1, "the only one, started again at once")):
        times, losses = kills(servers, replicas, 1 if quick else 4)
        data[f"kill_{replicas}"] = times
        report.bound("recovery", f"kill -9 of a worker ({what}) to its last unit running again, p99 of "
                     f"{losses}", load.quantile(times, 0.99), 20.0, unit=" s")
    back, once, ends = terms(servers, 1 if quick else 4)
    data["hand_back"], data["ended_once"], data["ends"] = back, once, ends
    report.bound("recovery", f"SIGTERM to unstarted work handed back, longest of {len(back)}", max(back), 1.0,
                 unit=" s")
    report.bound("recovery", "units running at SIGTERM that did not end in their first attempt",
                 0 if once else 1, 0)
    data["broker"] = broker(servers, 1 if quick else 4)
    report.bound("recovery", f"broker back to the first unit that ends, longest of {len(data['broker'])}",
                 max(data["broker"]), 5.0, unit=" s")
    data["delete"] = deletes(servers, 1 if quick else 3)
    report.bound("recovery", f"DELETE to the end of its running unit, longest of {len(data['delete'])}",
                 max(data["delete"]), 5.0, unit=" s")
    load.save("recovery", data)
    rows = ["| what (seconds) | n | min | median | p99 | max |", "|---|---|---|---|---|---|"]
    for name, what in (("kill_2", "kill -9, one of two workers"), ("kill_1", "kill -9, the only worker"),
                       ("hand_back", "SIGTERM, unstarted work back"), ("ends", "SIGTERM, process ended"),
                       ("broker", "broker back, first unit ends"), ("delete", "DELETE, running unit ends")):
        v = data[name]
        rows.append(f"| {what} | {len(v)} | {min(v):.2f} | {statistics.median(v):.2f} | "
                    f"{load.quantile(v, 0.99):.2f} | {max(v):.2f} |")
    fairness.section("recovery", "Recovery with the shipped defaults", report.table("recovery") + "\n\n" +
                     "\n".join(rows) + (
        f"\n\nDatabase's clock. A loss counts once, with the last of its up to {EACH} units to be claimed again; "
        f"five stages lose a worker in the same moment. p99 of fewer than 100 is the maximum. At SIGTERM the "
        f"workers run two units of 6 s each and hold orders they have not begun; \"back\" is the commit that "
        f"makes them pending again, per stage. The broker is stopped for 12 s and counts as back when it "
        f"answers a request for its topics."))
