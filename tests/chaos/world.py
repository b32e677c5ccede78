# SPDX-License-Identifier: Apache-2.0
"""A fleet that can be hurt: real servers and services with a fault proxy before each server.

    with World(seed=1, workers={"text": 2, "ai": 2, "preview": 2}) as world: ...

Every process has links of its own to Postgres, Kafka and the store, so that one worker can be cut off
while its neighbours work; `world.postgres`, `world.kafka`, `world.s3` are all of them at once, and
`world.clients` is the link between clients and gateways. Workers are sleepworkers (names "text#1")
unless real=True. What is done to the fleet is written down in world.injected, with times, so that a
check can tell what explains a repeated unit; world.audit is filled by triggers that the rig, not the
product, puts on the tables. `world.ledger` is what clients were promised.

Processes are started from one thread: they die with the thread that started them.
"""
import collections
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import confluent_kafka
import confluent_kafka.admin
import psycopg
import requests

from chaos.ledger import Ledger
from chaos.proxy import Links, Proxy
from lib import rig

SCALED = {  # of the shipped defaults; what a run used stands in its report
    "DOCFLEET_LEASE": "3s", "DOCFLEET_DISPATCH_TIMEOUT": "3s", "DOCFLEET_SWEEP_INTERVAL": "500ms",
    "DOCFLEET_SECOND_PASS": "1s", "DOCFLEET_KAFKA_SESSION_TIMEOUT": "6s",
    "DOCFLEET_CLEAN_INTERVAL": "1s", "DOCFLEET_DRAIN_GRACE": "10s"}
SLEEP = {"DOCFLEET_SLEEP_MIN": "0ms", "DOCFLEET_SLEEP_MAX": "20ms", "DOCFLEET_SLEEP_PUTS": "true"}
BROKEN_HEAP = re.compile(r"free\(\)|malloc|corrupt(ed|ion) |smashing|overflow detected|Assertion")

AUDIT = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.task_step (
    id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    file_id uuid, stage smallint, unit int, generation int, was smallint, now smallint,
    token bigint, seq int, attempts int, failures int, refunds int, owner text);
CREATE TABLE chaos.file_step (
    id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    file_id uuid, generation int, was smallint, now smallint, main smallint);
-- Of a thousand statements so many fail, as a deadlock or a lost serialization would. A sequence: it
-- is set outside of transactions and read for nothing.
CREATE SEQUENCE chaos.failing MINVALUE 0 START 0;
CREATE FUNCTION chaos.on_task() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    IF random() * 1000 < (SELECT last_value FROM chaos.failing) THEN
        RAISE EXCEPTION 'injected' USING ERRCODE =
            (ARRAY['40001', '40P01', '55P03'])[1 + floor(random() * 3)::int];
    END IF;
    INSERT INTO chaos.task_step (file_id, stage, unit, generation, was, now, token, seq, attempts,
        failures, refunds, owner)
    VALUES (NEW.file_id, NEW.stage, NEW.unit, NEW.generation,
        CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state, NEW.lease_token,
        NEW.dispatch_seq, NEW.attempts, NEW.failures, NEW.refunds, NEW.lease_owner);
    RETURN NULL; END $$;
CREATE FUNCTION chaos.on_file() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO chaos.file_step (file_id, generation, was, now, main)
    VALUES (NEW.file_id, NEW.generation, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state,
        NEW.main_state);
    RETURN NULL; END $$;
CREATE TRIGGER chaos_new AFTER INSERT ON docfleet.task FOR EACH ROW
    EXECUTE FUNCTION chaos.on_task();
CREATE TRIGGER chaos_step AFTER UPDATE ON docfleet.task FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.lease_token <> NEW.lease_token
          OR OLD.attempts <> NEW.attempts OR OLD.dispatch_seq <> NEW.dispatch_seq)
    EXECUTE FUNCTION chaos.on_task();
CREATE TRIGGER chaos_new AFTER INSERT ON docfleet.file FOR EACH ROW
    EXECUTE FUNCTION chaos.on_file();
CREATE TRIGGER chaos_step AFTER UPDATE ON docfleet.file FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.generation <> NEW.generation)
    EXECUTE FUNCTION chaos.on_file();
"""


class ChaosServers(rig.Servers):
    """Durable servers; the broker has a listener for each process, whose address is a link."""

    def __init__(self, names, **kw):
        super().__init__(durable=True, **kw)
        self.proxy = Proxy(self.dir)
        self.links = {}
        listen, told, kinds = [], [], []
        for i, name in enumerate(names):
            own = rig.free_port()
            self.links[name] = {
                "postgres": self.proxy.link(f"postgres:{name}", self.pg_port),
                "kafka": self.proxy.link(f"kafka:{name}", own),
                "s3": self.proxy.link(f"s3:{name}", self.s3_port, http=True)}
            listen.append(f"L{i}://127.0.0.1:{own}")
            told.append(f"L{i}://127.0.0.1:{self.links[name]['kafka'].port}")
            kinds.append(f"L{i}:PLAINTEXT")
        plain = f"PLAINTEXT://127.0.0.1:{self.kafka_port}"
        self.kafka_settings = {
            "listeners": ",".join([plain, f"CONTROLLER://127.0.0.1:{self.kafka_controller_port}",
                                   *listen]),
            "advertised.listeners": ",".join([plain, *told]),
            "listener.security.protocol.map": ",".join(
                ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *kinds]),
            "inter.broker.listener.name": "PLAINTEXT", "num.network.threads": "1"}

    def stop(self):
        self.proxy.stop()
        super().stop()

    def end_server(self, name, sig):
        """Ends a server at once and waits until it is gone."""
        process = self.processes.pop(name)
        process.send(sig)
        process.popen.wait(30)
        process._log.close()

    def wipe_kafka(self):
        """As a lost disk: the broker comes back empty."""
        if "kafka" in self.processes:
            self.end_server("kafka", signal.SIGKILL)
        shutil.rmtree(f"{self.dir}/kafka", ignore_errors=True)
        os.unlink(f"{self.dir}/kafka.properties")


class ChaosFleet(rig.Fleet):
    """Each process is given its own links; programs are those of the moment the world was made."""

    def __init__(self, servers, env, build, partitions):
        self.frozen_bin = os.path.join(servers.dir, "programs", "bin")
        source = os.path.join(rig.ROOT, "build", build)
        shutil.copytree(os.path.join(source, "bin"), self.frozen_bin, copy_function=_link_or_copy)
        if os.path.isdir(os.path.join(source, "share")):
            shutil.copytree(os.path.join(source, "share"),
                            os.path.join(servers.dir, "programs", "share"))
        super().__init__(servers, env, build, partitions)

    def bin(self, name, build=None):
        return super().bin(name, build) if build else os.path.join(self.frozen_bin, name)

    def start(self, *names, env=None, **kw):
        for name in names:
            links = self.servers.links.get(name)
            own = {} if not links else {
                "DOCFLEET_DATABASE_URL": self.database_url_of(name.split("#")[0]).replace(
                    f":{self.servers.pg_port}/", f":{links['postgres'].port}/"),
                "DOCFLEET_KAFKA_BROKERS": f"127.0.0.1:{links['kafka'].port}",
                "DOCFLEET_S3_ENDPOINT": f"http://127.0.0.1:{links['s3'].port}"}
            super().start(name, env={**own, **(env or {})}, **kw)
        return self


def _link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


class World:
    """workers: {stage: processes}; gateways, dispatchers, cleaners: how many of each."""

    def __init__(self, seed=1, workers=None, slots=4, gateways=1, dispatchers=1, cleaners=1,
                 real=False, spare=0, env=None, sleep=None, build="release-faults", partitions=6, servers=None):
        self.seed, self.random, self.real = seed, random.Random(seed), real
        self.slots, self.build, self.sleep = slots, build, {**SLEEP, **(sleep or {})}
        self.injected, self.unexpected, self.lock = [], [], threading.RLock()
        self.pids, self.crash_points, self.ending = {}, {}, {}
        self.roles = self._roles(workers, gateways, dispatchers, cleaners, spare)
        self.idle = {n for n, r in self.roles.items() if r.get("spare")}
        self.servers = servers or ChaosServers(list(self.roles))
        self.proxy, self.env = self.servers.proxy, {**SCALED, **(env or {})}
        self.partitions, self.ledger = partitions, Ledger()
        self.hurried, self.clock_library = 0, None
        self.explained_letters, self.allowed_reasons = set(), set()
        self.allowed_exits, self.stubs = set(), []
        self.closed = False

    def _roles(self, workers, gateways, dispatchers, cleaners, spare):
        roles = {}

        def add(service, n, **how):
            for i in range(n):
                roles[service if i == 0 and "#" not in service else f"{service}#{i + 1}"] = dict(how)
        add("ingest-gateway", gateways)
        add("dispatcher", dispatchers)
        add("cleaner", cleaners)
        if self.real:
            for service in rig.SERVICES:
                if service not in roles:
                    add(service, (workers or {}).get(service, 1))
        else:
            for stage, n in (workers or {"text": 1, "ocr": 1, "ai": 1, "preview": 1}).items():
                for i in range(n + spare):
                    roles[f"{stage}#{i + 1}"] = {
                        "binary": "sleepworker", "args": [stage], "spare": i >= n,
                        "env": {"DOCFLEET_SLOTS": str(self.slots), **self.sleep}}
        return roles

    # --- life -----------------------------------------------------------------------------------
    def start(self):
        self.servers.start()
        self.fleet = ChaosFleet(self.servers, self.env, self.build, self.partitions)
        with psycopg.connect(self.fleet.database_url, autocommit=True) as conn:
            conn.execute(AUDIT)
        self.links = self.servers.links
        self.postgres = Links([x["postgres"] for x in self.links.values()])
        self.kafka = Links([x["kafka"] for x in self.links.values()])
        self.s3 = Links([x["s3"] for x in self.links.values()])
        self.gateways = [n for n in self.roles if n.startswith("ingest-gateway")]
        self.client_links = {
            n: self.proxy.link(f"client:{n}", self.fleet.gateway_ports(n), http=True)
            for n in self.gateways}
        self.clients = Links(self.client_links.values())
        self.urls = [f"http://127.0.0.1:{x.port}/api/v1" for x in self.client_links.values()]
        for name in self.roles:
            if name not in self.idle:
                self.run(name, wait=False)
        for name in self.roles:
            if name not in self.idle:
                self.fleet.wait_ready(name)
        return self

    def stop(self):
        if self.closed:
            return
        self.closed = True
        fleet = getattr(self, "fleet", None)
        for process in list(fleet.processes.values()) if fleet else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.send(signal.SIGKILL)
        for process in list(fleet.processes.values()) if fleet else []:
            process.popen.wait(10)
        self.servers.stop()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc):
        self.stop()

    def save_logs(self, target):
        """Logs survive; the data of the servers never does."""
        os.makedirs(target, exist_ok=True)
        for folder in (self.servers.dir, self.fleet.dir):
            for name in os.listdir(folder):
                if name.endswith(".log"):
                    shutil.copy(os.path.join(folder, name), target)

    # --- what is done to the fleet ----------------------------------------------------------------
    def note(self, kind, target="", seconds=0.0, **more):
        """Writes a fault down; seconds is how long it lasts (0: a moment)."""
        entry = {"at": time.time(), "kind": kind, "target": target, "seconds": seconds,
                 "pid": self.pids.get(target), **more}
        with self.lock:
            self.injected.append(entry)
        return entry

    def run(self, name, wait=False, crash_at=None, env=None):
        """Starts a process as its role says, with a crash point if wanted."""
        role = self.roles[name]
        more = {**role.get("env", {}), **(env or {})}
        if crash_at:
            more["DOCFLEET_CRASH_AT"] = crash_at
        kw = {k: role[k] for k in ("binary", "args") if k in role}
        self.fleet.start(name, env=more, wait=wait, **kw)
        self.pids[name] = self.fleet.processes[name].pid
        self.idle.discard(name)
        self.crash_points.pop(name, None)
        if crash_at:
            self.crash_points[name] = (crash_at, time.monotonic())

    def running(self):
        return [n for n in self.roles if self.fleet.running(n)]

    def _gone(self, name, timeout=30):
        process = self.fleet.processes.pop(name)
        try:
            code = process.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.unexpected.append({"at": time.time(), "process": name, "code": "does not end",
                                    "log": process.log()[-2000:], "stacks": stacks(process.pid)})
            process.popen.kill()
            code = process.popen.wait(10)
        process._log.close()
        return code

    def kill(self, name):
        """kill -9; run() brings it back."""
        self.note("kill", name)
        self.fleet.processes[name].send(signal.SIGKILL)
        return self._gone(name)

    def terminate(self, name, timeout=30):
        """SIGTERM, as a rolling upgrade does it; gives the exit code."""
        self.note("terminate", name)
        self.fleet.processes[name].send(signal.SIGTERM)
        code = self._gone(name, timeout)
        if code != 0:
            self.unexpected.append({"at": time.time(), "process": name, "code": code,
                                    "log": "after SIGTERM"})
        return code

    def terminate_later(self, name, then, timeout=40):
        """SIGTERM without waiting; supervise() sees the end and calls then()."""
        self.note("terminate", name)
        self.ending[name] = (time.monotonic() + timeout, then)
        self.fleet.processes[name].send(signal.SIGTERM)

    def freeze(self, name, seconds=None):
        """SIGSTOP: a zombie that may come back; thaw() lets it."""
        self.note("freeze", name, seconds or 0)
        os.kill(self.fleet.processes[name].pid, signal.SIGSTOP)

    def thaw(self, name):
        if self.fleet.running(name):
            os.kill(self.fleet.processes[name].pid, signal.SIGCONT)

    def supervise(self):
        """Restarts what has ended; what no fault explains is remembered."""
        for name in list(self.fleet.processes):
            process = self.fleet.processes[name]
            if name in self.ending and self._ended(name, process):
                continue
            if process.alive():
                continue
            code, log = process.popen.returncode, process.log()
            self._gone(name)
            point, _ = self.crash_points.pop(name, (None, 0))
            if code == -signal.SIGKILL and point:
                self.note("crash_point", name, point=point)
            elif code == -signal.SIGABRT and self.roles[name].get("binary") and \
                    not BROKEN_HEAP.search(log[-2000:]):
                self.note("poison", name)
            else:
                self.unexpected.append({"at": time.time(), "process": name, "code": code,
                                        "log": log[-2000:]})
            self.run(name)

    def _ended(self, name, process):
        """Looks after a process that was told to end; false once nobody waits for it."""
        deadline, then = self.ending[name]
        point = self.crash_points.get(name)
        if process.alive() and time.monotonic() < deadline:
            return True
        del self.ending[name]
        late, log, where = process.alive(), process.log(), None
        if late:
            where = stacks(process.pid)
            process.popen.kill()
        code = self._gone(name)
        # before its first line it has begun nothing: the signal met the program's loading
        unborn = code == -signal.SIGTERM and not log
        if late or not (code == 0 or unborn or (point and code == -signal.SIGKILL)):
            self.unexpected.append({"at": time.time(), "process": name, "log": log[-2000:],
                                    "stacks": where,
                                    "code": "does not end" if late else f"{code} after SIGTERM"})
        then()
        return True

    def wrong_clock(self):
        """The library that tells a process the wrong time (wrong_clock.c)."""
        if not self.clock_library:
            made = os.path.join(self.servers.dir, "wrong_clock.so")
            subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o",
                            made, f"{rig.ROOT}/tests/chaos/wrong_clock.c"], check=True)
            self.clock_library = made
        return self.clock_library

    # servers
    def postgres_crash(self):
        """Immediate stop, as a lost machine; postgres_start() brings it back."""
        self.note("postgres_crash")
        self.servers.end_server("postgres", signal.SIGQUIT)

    def postgres_start(self):
        self.servers.start_postgres()
        rig.wait_until(self.servers.postgres_answers, 60, what="Postgres")

    def broker_kill(self):
        self.note("broker_kill")
        self.servers.end_server("kafka", signal.SIGKILL)

    def broker_wipe(self):
        self.note("broker_wipe")
        self.servers.wipe_kafka()

    def broker_start(self, topics=False):
        self.servers.start_kafka()
        rig.wait_until(self.servers.kafka_answers, 90, what="Kafka")
        if topics:
            self.make_topics()

    def make_topics(self):
        self.fleet.ctl("migrate", "--topics", "--partitions", str(self.partitions))

    def s3_kill(self):
        self.note("s3_kill")
        self.servers.end_server("s3", signal.SIGKILL)

    def s3_start(self):
        self.servers.start_s3()
        rig.wait_until(self.servers.s3_answers, 30, what="versitygw")

    # Postgres sessions
    def terminate_sessions(self, where, *params):
        """Ends sessions by a condition on pg_stat_activity a; gives how many."""
        rows = self.fleet.sql("SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE "
                              f"a.datname = current_database() AND a.pid <> pg_backend_pid() AND "
                              f"({where})", *params)
        return len(rows)

    def depose_leaders(self):
        """The session that holds a leader's lock ends: for a moment two may lead."""
        self.note("depose")
        return self.terminate_sessions(
            "EXISTS (SELECT 1 FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory' "
            "AND l.granted)")

    def deafen(self):
        """LISTEN sessions end: notifications are lost until they are back."""
        self.note("deafen")
        return self.terminate_sessions("a.query ILIKE 'LISTEN%%'")

    def sql_errors(self, permille):
        self.fleet.sql("SELECT setval('chaos.failing', %s)", permille)

    # Kafka
    def admin(self):
        return confluent_kafka.admin.AdminClient(
            {"bootstrap.servers": self.servers.kafka_brokers, "log_level": 0})

    def topic(self, stage):
        return f"docfleet.{stage}.v1"

    def produce(self, messages):
        """[(topic, key, value, partition)]; outside of the services' own way."""
        producer = confluent_kafka.Producer({"bootstrap.servers": self.servers.kafka_brokers,
                                             "log_level": 0, "message.timeout.ms": 5000})
        for topic, key, value, partition in messages:
            with contextlib.suppress(BufferError, confluent_kafka.KafkaException):
                producer.produce(topic, key=key, value=value,
                                 **({} if partition is None else {"partition": partition}))
        producer.flush(5)

    def recent_records(self, stage, n=50):
        """The last records of a stage's topic: [(key, value, partition)]."""
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.servers.kafka_brokers, "group.id": "chaos-reader",
            "enable.auto.commit": False, "log_level": 0})
        got = []
        try:
            topic = self.topic(stage)
            parts = consumer.list_topics(topic, 5).topics[topic].partitions
            at = []
            for p in parts:
                low, high = consumer.get_watermark_offsets(
                    confluent_kafka.TopicPartition(topic, p), 5)
                if high > low:
                    at.append(confluent_kafka.TopicPartition(topic, p, max(low, high - n)))
            consumer.assign(at)
            end = time.monotonic() + 2
            while at and len(got) < n * len(at) and time.monotonic() < end:
                message = consumer.poll(0.2)
                if message is None:
                    break
                if not message.error():
                    got.append((message.key(), message.value(), message.partition()))
        except confluent_kafka.KafkaException:
            pass
        finally:
            consumer.close()
        return got

    def reset_offsets(self, stage, to):
        """The group of a stage stands at the earliest or latest record. Its members are stopped for
        it, as Kafka asks; they are started again."""
        self.note("offsets", stage, to=to)
        members = [n for n in self.running() if self.stage_of(n) == stage]
        for name in members:
            self.fleet.processes[name].send(signal.SIGKILL)
            self.note("kill", name)
        for name in members:
            self._gone(name)
        admin, topic = self.admin(), self.topic(stage)
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.servers.kafka_brokers,
                                             "group.id": "chaos-reader", "log_level": 0})
        try:
            target = []
            for p in consumer.list_topics(topic, 5).topics[topic].partitions:
                low, high = consumer.get_watermark_offsets(
                    confluent_kafka.TopicPartition(topic, p), 5)
                target.append(confluent_kafka.TopicPartition(
                    topic, p, low if to == "earliest" else high))
            wanted = confluent_kafka.ConsumerGroupTopicPartitions(f"docfleet.{stage}", target)

            def moved():
                try:
                    admin.alter_consumer_group_offsets([wanted])[f"docfleet.{stage}"].result(5)
                    return True
                except confluent_kafka.KafkaException:
                    return False  # members are still in the group
            with contextlib.suppress(rig.Timeout):
                rig.wait_until(moved, 15, interval=0.3)
        except confluent_kafka.KafkaException:
            pass
        finally:
            consumer.close()
        for name in members:
            self.run(name)

    def stage_of(self, name):
        role = self.roles[name]
        if role.get("args"):
            return role["args"][0]
        return {"text-extractor": "text", "ocr-fallback": "ocr", "ai-extractor": "ai",
                "preview-worker": "preview", "thumbnail-worker": "thumbnail",
                "cleaner": "clean"}.get(name.split("#")[0])

    def lags(self):
        """[{stage, partition, committed, end}] of the worker groups' partitions that are behind."""
        admin, behind = self.admin(), []
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.servers.kafka_brokers,
                                             "group.id": "chaos-reader", "log_level": 0})
        try:
            for stage in sorted({self.stage_of(n) for n in self.roles} - {None}):
                topic = self.topic(stage)
                parts = consumer.list_topics(topic, 5).topics[topic].partitions
                asked = confluent_kafka.ConsumerGroupTopicPartitions(
                    f"docfleet.{stage}", [confluent_kafka.TopicPartition(topic, p) for p in parts])
                found = admin.list_consumer_group_offsets([asked])[f"docfleet.{stage}"].result(10)
                for part in found.topic_partitions:
                    low, high = consumer.get_watermark_offsets(
                        confluent_kafka.TopicPartition(topic, part.partition), 5)
                    at = part.offset if part.offset >= 0 else low
                    if at != high:
                        behind.append({"stage": stage, "partition": part.partition,
                                       "committed": part.offset, "end": high})
        finally:
            consumer.close()
        return behind

    # --- clients ----------------------------------------------------------------------------------
    def keys(self, n, prefix="user"):
        """API keys of n users, made once."""
        return [self.fleet.user_key(f"{prefix}{i}") for i in range(n)]

    def client(self, key):
        return rig.Client(self.random.choice(self.urls), key)

    # --- rest -------------------------------------------------------------------------------------
    def heal(self):
        """All faults end: links pass, everything thawed, running again."""
        self.proxy.reset()
        for name in list(self.fleet.processes):
            self.thaw(name)
        for server in ("postgres", "kafka", "s3"):
            if server not in self.servers.processes or \
                    not self.servers.processes[server].alive():
                getattr(self.servers, "start_" + server)()
        self.servers.wait_ready()
        self.sql_errors(0)
        self.make_topics()
        self.supervise()
        rig.wait_until(lambda: self.supervise() or not self.ending, 60, what="ends of processes")
        for name in self.roles:
            if name not in self.idle and not self.fleet.running(name):
                self.run(name)
        for name in list(self.crash_points):  # would fire in the middle of the checks
            if self.fleet.running(name):
                self.kill(name)
                self.run(name)
        rig.wait_until(self._all_ready, 90, interval=0.2, what="every process ready")

    def _all_ready(self):
        self.supervise()
        return all(requests.get(f"{self.fleet.probe(n)}/readyz", timeout=2).status_code == 200
                   for n in self.running())

    def wait_quiet(self, timeout=120, hurry=False, most=900):
        """Every file terminal and no live task; the processes are looked after meanwhile. The limit
        is on standing still: while less is left each time, it goes on (up to `most`). hurry: the
        waiting time of what is to be tried again later (up to an hour after many outages) is cut
        short, as all other times are scaled down; how often stands in world.hurried."""
        least, moved, began = None, time.monotonic(), time.monotonic()
        while True:
            self.supervise()
            if hurry:
                self.hurried += len(self.fleet.sql(
                    "UPDATE task SET not_before = now() WHERE q = 1 AND"
                    " not_before > now() + interval '5 s' RETURNING 1"))
            left = self.fleet.one(
                "SELECT (SELECT count(*) FROM file WHERE state IN (0, 1, 6))"
                " + (SELECT count(*) FROM task WHERE state < 4)")
            now = time.monotonic()
            if left == 0:
                return
            if least is None or left < least:
                least, moved = left, now
            if now - moved > timeout or now - began > most:
                raise rig.Timeout(f"{left} files and tasks are left after {now - began:.0f} s, none "
                                  f"ended for {now - moved:.0f} s")
            time.sleep(0.25 if left < 50 else 1)


def stacks(pid):
    """Where the threads of a process are that does not end, if gdb is there to tell."""
    try:
        run = subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt 12"],
                             capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    return [line[:200] for line in run.stdout.splitlines() if re.match(r"#|Thread", line)]


def busy(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])
