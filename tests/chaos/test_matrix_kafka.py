# SPDX-License-Identifier: Apache-2.0
"""Fault matrix, Kafka: brokers that die, lose their data, forget positions, deliver twice."""
import contextlib
import random
import shutil
import signal
import threading
import time

import confluent_kafka
import confluent_kafka.admin
import pytest


from chaos import matrix
from lib import rig

TOPICS = [f"docfleet.{s}.v1" for s in ("text", "ai", "preview", "clean")]


def admin(servers):
    return confluent_kafka.admin.AdminClient({"bootstrap.servers": servers.kafka_brokers,
                                              "log_level": 0})


def ended(a):
    return a.count("state = 4 AND stage <> 6")


def first_completion(a, at):
    """Seconds from `at` until one more unit is done."""
    before = ended(a)
    rig.wait_until(lambda: ended(a) > before, 60, 0.05, what="a completion after the outage")
    return time.monotonic() - at


@pytest.mark.parametrize("outage,session", [*matrix.in_full((5, "10s"), (60, "10s"), (5, "45s")),
                                            *([(600, "10s")] if matrix.LONG else [])])
def test_f07_broker_killed_and_back(new_fleet, servers, outage, session):
    with matrix.arena(new_fleet, "F07", f"back after {outage} s, session {session}", defaults=True,
                      env={"DOCFLEET_KAFKA_SESSION_TIMEOUT": session}) as a:
        a.start(sleep=(0.2, 0.6))
        a.load()
        a.wait_done(20)
        a.pause_random(0, 1)
        with a.trickle():
            servers.processes["kafka"].kill9()
            accepted = len(a.accepted)
            time.sleep(outage)
            assert len(a.accepted) > accepted + outage / 2, "the gateway did not go on accepting"
            servers.start_server("kafka")
            # Away for longer than the group's session (10 s, and a broker takes 6 s to start): the
            # workers' client comes back as a new member, and the broker waits for the old one for a
            # session more. An outage below the session is over at once.
            a.figure("firstCompletionS", first_completion(a, time.monotonic()),
                     20 if session == "10s" else 5)
        a.quiesce(120)
        a.check(amplification=1.0, crashes=0)


def wipe(servers):
    servers.processes.pop("kafka").stop(signal.SIGKILL)
    shutil.rmtree(f"{servers.dir}/kafka")
    shutil.os.unlink(f"{servers.dir}/kafka.properties")  # the new one is formatted
    servers.start_server("kafka")


@matrix.full
def test_f09_broker_wiped(new_fleet, servers):
    with matrix.arena(new_fleet, "F09", "log dirs gone", defaults=True) as a:
        a.start(sleep=(0.2, 0.6))
        ids = a.load()
        a.wait_done(60)
        wipe(servers)
        back = time.monotonic()
        left = 3 * len(ids) - ended(a)
        rig.wait_until(lambda: set(TOPICS) <= set(admin(servers).list_topics(timeout=5).topics), 20,
                       what="topics made again by the dispatcher")
        a.figure("topicsBackS", time.monotonic() - back)
        a.quiesce(240)
        # text and preview run beside each other, ai after text: the longest way is 2 of 3
        a.figure("extraS", time.monotonic() - back - left * 0.4 / a.slots / 3 * 2, 60)
        a.check(amplification=1.0, crashes=0)


def reset_offsets(servers, group, topic, where):
    """Sets a group's positions once it has no member any more."""
    client = admin(servers)
    parts = client.list_topics(topic, timeout=10).topics[topic].partitions
    consumer = confluent_kafka.Consumer({"bootstrap.servers": servers.kafka_brokers, "log_level": 0,
                                         "group.id": "x"})
    at = []
    for p in parts:
        low, high = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, p), 10)
        at.append(confluent_kafka.TopicPartition(topic, p, low if where == "earliest" else high))
    consumer.close()

    def set_them():
        asked = client.alter_consumer_group_offsets(
            [confluent_kafka.ConsumerGroupTopicPartitions(group, at)])
        try:
            got = asked[group].result(10)
            return all(p.error is None for p in got.topic_partitions)
        except confluent_kafka.KafkaException:
            return False
    rig.wait_until(set_them, 40, what=f"offsets of {group} set")


@pytest.mark.parametrize("where", ["earliest", "latest"])
@matrix.full
def test_f11_offsets_reset(new_fleet, servers, where):
    with matrix.arena(new_fleet, "F11", where) as a:
        a.start(sleep=(0.05, 0.2))
        a.load()
        a.wait_done(40)
        # Gone without a word: what was sent to them lies in the topic, unclaimed.
        workers = [matrix.WORKER[s] for s in ("text", "ai", "preview")]
        for name in workers:
            a.fleet.kill9(name)
        for stage in ("text", "ai", "preview"):
            reset_offsets(servers, f"docfleet.{stage}", f"docfleet.{stage}.v1", where)
        for name in workers:
            a.rerun(name)
        a.quiesce(90)
        a.check(crashes=3 * a.slots)
        if where == "earliest":
            stale = sum(v for n in workers for k, v in a.fleet.metrics(n).items()
                        if k.startswith("docfleet_claims_stale_total"))
            a.figure("staleClaims", int(stale))
            assert stale > 20, "the old records were not read again"


class Doubler:
    """Sends every work order once more, after up to `within` seconds, to any partition."""

    def __init__(self, servers, within, seed):
        self.servers, self.within, self.random = servers, within, random.Random(seed)
        self.stop, self.copied, self.due = threading.Event(), 0, []
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": servers.kafka_brokers, "group.id": f"doubler-{seed}",
            "enable.auto.commit": False, "log_level": 0})
        self.producer = confluent_kafka.Producer({"bootstrap.servers": servers.kafka_brokers,
                                                  "log_level": 0})
        ends = []
        for topic in TOPICS:
            for p in self.consumer.list_topics(topic, 10).topics[topic].partitions:
                part = confluent_kafka.TopicPartition(topic, p)
                part.offset = self.consumer.get_watermark_offsets(part, 10)[1]
                ends.append(part)
        self.consumer.assign(ends)
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stop.is_set() or self.due:
            message = self.consumer.poll(0.05)
            if message is not None and not message.error() and \
                    not any(k == "copy" for k, _ in message.headers() or ()):
                self.due.append((time.monotonic() + self.random.uniform(0, self.within), message))
            now = time.monotonic()
            late = self.stop.is_set()
            for item in [d for d in self.due if late or d[0] <= now]:
                self.due.remove(item)
                m = item[1]
                self.producer.produce(m.topic(), m.value(), m.key(),
                                      partition=self.random.randrange(6),
                                      headers=[*(m.headers() or []), ("copy", b"1")])
                self.copied += 1
            self.producer.poll(0)
        self.producer.flush(10)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(30)
        self.consumer.close()


@pytest.mark.parametrize("within", [2, *matrix.in_full(30)])
def test_f20_every_record_twice_and_reordered(new_fleet, servers, within):
    with matrix.arena(new_fleet, "F20", f"copies within {within} s") as a:
        a.start(sleep=(0.05, 0.15))
        a.worker("text", replica=2)
        with Doubler(servers, within, a.seed) as doubler:
            a.load()
            a.quiesce(120)
        a.figure("copies", doubler.copied)
        assert doubler.copied >= 900
        names = [n for n in a.fleet.processes if n.split("#")[0] in matrix.WORKER.values()]
        rig.wait_until(lambda: sum(
            v for n in names for k, v in a.fleet.metrics(n).items()
            if k.startswith("docfleet_claims_stale_total")) >= 900, 40, what="copies refused")
        a.check(amplification=1.0, crashes=0)


GARBAGE = [
    ("empty", b"", b"k"), ("no key", b"{}", None), ("junk", b"\xff\xfe\x00\x80junk", b"\xff\x00"),
    ("not json", b"{{{{", b"*"), ("version", b'{"specversion":"9.0","type":"docfleet.work.v9"}', b"*"),
    ("alien user", b'{"specversion":"1.0","type":"docfleet.work.v1","id":"1","source":"x","data":'
                   b'{"userId":"*","fileId":"*","stage":"text","unit":0,"generation":1,'
                   b'"dispatchSeq":1,"cost":1}}', b"*"),
    ("nul", b'{"type":"docfleet.work.v1\\u0000","data":{"userId":"\\u0000"}}', b"\0"),
    ("deep", b"[" * 20000, b"d"), ("number", b"1e999", b"n"), ("large", b"x" * 900_000, b"l"),
]


def test_f28_garbage_in_the_topics(new_fleet, servers):
    with matrix.arena(new_fleet, "F28", "") as a:
        a.start(sleep=(0.02, 0.1))
        producer = confluent_kafka.Producer({"bootstrap.servers": servers.kafka_brokers,
                                             "message.max.bytes": 20_000_000, "log_level": 0})
        a.make_users(30)
        sent, other = 0, a.random
        with a.trickle(every=0.1):
            a.load(files=300)
            for _ in range(8):
                for topic in TOPICS[:3]:
                    for _, value, key in other.sample(GARBAGE, len(GARBAGE)):
                        producer.produce(topic, value, key, partition=other.randrange(6))
                        sent += 1
                producer.flush(10)
                time.sleep(0.2)
        a.quiesce(60)
        names = [matrix.WORKER[s] for s in ("text", "ai", "preview")]
        rig.wait_until(lambda: sum(
            v for n in names for k, v in a.fleet.metrics(n).items()
            if k.startswith("docfleet_records_skipped_total")) >= sent, 20, what="garbage counted")
        a.figure("garbage", sent)
        a.check(amplification=1.0, crashes=0)


# --- three brokers -------------------------------------------------------------------------------
class Trio:
    """The session's servers, but with three brokers of their own."""

    def __init__(self, servers):
        self._servers, self._dir = servers, f"{servers.dir}/trio"
        shutil.os.makedirs(self._dir, exist_ok=True)
        self.ports = [(rig.free_port(), rig.free_port()) for _ in range(3)]
        self.kafka_brokers = ",".join(f"127.0.0.1:{p}" for p, _ in self.ports)
        self.brokers = {}
        self.cluster = "MkU3OEVBNTcwNTJENDM2Qk"

    def __getattr__(self, name):
        return getattr(self._servers, name)

    def start_broker(self, i):
        lines = rig.broker_properties(i + 1, self.ports, f"{self._dir}/data{i}", **{
            "broker.session.timeout.ms": 6000, "controller.quorum.election.timeout.ms": 1000})
        self.brokers[i] = rig.start_broker(
            f"kafka-{i}", f"{self._dir}/broker{i}.properties", lines, f"{self._dir}/broker{i}.log",
            jvm=["-Xmx384m"], cluster=self.cluster)

    def kill(self, i):
        self.brokers.pop(i).stop(signal.SIGKILL)

    def start(self):
        for i in range(3):
            self.start_broker(i)
        self.wait(3)

    def wait(self, n):
        def up():
            with contextlib.suppress(confluent_kafka.KafkaException):
                return len(admin(self).list_topics(timeout=3).brokers) >= n
        rig.wait_until(up, 90, what=f"{n} brokers")

    def stop(self):
        for i in list(self.brokers):
            self.kill(i)

    def in_sync(self):
        topics = admin(self).list_topics(timeout=5).topics
        return all(len(p.isrs) == 3 for t in topics.values() for p in t.partitions.values())

    def leaders(self):
        topics = admin(self).list_topics(timeout=5).topics
        return {(t, p): m.leader for t in TOPICS for p, m in topics[t].partitions.items()}

    def coordinator(self, group):
        client, found = admin(self), []

        def told():  # whoever was asked may have ceased to be it at that moment
            try:
                found.append(client.describe_consumer_groups([group])[group].result(10).coordinator.id - 1)
            except confluent_kafka.KafkaException:
                return False
            return True
        rig.wait_until(told, 30, what="the coordinator")
        return found[0]


@pytest.fixture(scope="module")
def trio(servers):
    made = Trio(servers)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def trio_fleet(trio):
    """As new_fleet, on three brokers."""
    import conftest
    made = []

    def make(env=None, build="release"):
        made.append(rig.Fleet(trio, env, build))
        return conftest._activate(made[-1])
    yield make
    if made and conftest._state["current"] in made:
        conftest._stop_current()
    for i in range(3):
        if i not in trio.brokers:
            trio.start_broker(i)
    trio.wait(3)


@matrix.full
def test_f08_leader_and_coordinator_moves(trio_fleet, trio):
    with matrix.arena(trio_fleet, "F08", "each broker restarted in turn", defaults=True) as a:
        a.start(sleep=(0.2, 0.6))
        rig.wait_until(trio.in_sync, 30, what="three replicas in sync")
        with a.trickle():
            a.load()
            moved = set()
            for _ in range(2):
                # the coordinator of a group, then the broker that leads most
                for who in (trio.coordinator("docfleet.text"),
                            max(range(3), key=lambda b: list(trio.leaders().values()).count(b + 1))):
                    before = trio.leaders()
                    trio.kill(who)
                    time.sleep(4)
                    trio.start_broker(who)
                    rig.wait_until(lambda: len(admin(trio).list_topics(timeout=3).brokers) == 3, 60)
                    rig.wait_until(trio.in_sync, 60, what="in sync again")
                    now = trio.leaders()
                    moved |= {k for k in now if now[k] != before[k]}
        a.figure("leadersMoved", len(moved))
        assert moved
        a.quiesce(120)
        a.check(amplification=1.0, crashes=0)


@matrix.full
def test_f10_two_of_three_brokers_down(trio_fleet, trio):
    with matrix.arena(trio_fleet, "F10", "no quorum, no min ISR", defaults=True) as a:
        a.start(sleep=(0.2, 0.6))
        rig.wait_until(trio.in_sync, 30, what="three replicas in sync")
        a.load()
        a.wait_done(30)
        with a.trickle():
            down = a.random.sample(range(3), 2)
            for i in down:
                trio.kill(i)
            before = len(a.accepted)
            time.sleep(20)
            a.figure("acceptedMeanwhile", len(a.accepted) - before)
            assert len(a.accepted) > before + 10, "the gateway did not go on accepting"
            for i in down:
                trio.start_broker(i)
            trio.wait(3)
            a.figure("firstCompletionS", first_completion(a, time.monotonic()))
        a.quiesce(120)
        a.check(amplification=1.0, crashes=0)
