# SPDX-License-Identifier: Apache-2.0
"""Fault matrix, Postgres: gone, slow, cut in the middle, full of conflicts, deaf."""
import signal
import threading
import time

import psycopg
import pytest
import requests

from chaos import matrix
from chaos.proxy import SYNC
from lib import invariants, rig


@pytest.fixture(scope="module", autouse=True)
def synchronous(servers):
    """A commit that was answered must outlive the server's process: not the rig's usual setting."""
    before = servers.postgres_settings
    servers.postgres_settings = {**before, "synchronous_commit": "on"}
    servers.stop_server("postgres")
    servers.start_server("postgres")
    yield
    servers.postgres_settings = before
    servers.stop_server("postgres")
    servers.start_server("postgres")


def postgres_down(servers, seconds, a):
    """Immediate stop; meanwhile the gateway must say 503 and when to come again."""
    servers.processes.pop("postgres").stop(signal.SIGQUIT)
    end, told = time.monotonic() + seconds, []
    while time.monotonic() < end:
        got = requests.post(f"{a.fleet.api}/datasets/{a.datasets['user1']}/files", timeout=30,
                            headers={"Authorization": f"Bearer {a.fleet._keys['user1']}"},
                            files=[("file", ("x.txt", b"x"))])
        told.append((got.status_code, "Retry-After" in got.headers))
        time.sleep(0.5)
    servers.start_server("postgres")
    assert set(told) == {(503, True)}, f"answers without a database: {set(told)}"
    return len(told)


@pytest.mark.parametrize("outage,unit", [(5, 3), *matrix.in_full((5, 36), (60, 36))])
@matrix.full
def test_f12_postgres_stopped_at_once(new_fleet, servers, outage, unit):
    with matrix.arena(new_fleet, "F12", f"{outage} s, units of {unit} s", defaults=unit == 36) as a:
        a.start(sleep=(unit - 0.5, unit + 0.5), slots=48)
        ids = a.load(files=90, elephant=60) if unit < 36 else a.load(files=48, elephant=30, users=10)
        rig.wait_until(lambda: a.count("state = 2") >= 40, 20, what="units that run")
        time.sleep(unit / 2)
        a.figure("refusals", postgres_down(servers, outage, a))
        a.quiesce(60 + 3 * unit * (1 + len(ids) // 48))
        a.check(amplification=1.02, crashes=0)


@pytest.mark.parametrize("seconds", [6])
@matrix.full
def test_f12_postgres_reads_only(new_fleet, seconds):
    """As after a failover, before the replica is promoted."""
    with matrix.arena(new_fleet, "F12", "read-only for a while", env={"DOCFLEET_LEASE": "15s"}) as a:
        a.start(sleep=(0.2, 0.6))
        a.load()
        a.wait_done(20)
        name = a.fleet.name

        def turn(to):
            with psycopg.connect(a.servers.database_url("postgres"), autocommit=True) as conn:
                conn.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {to}')
                conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                             " WHERE datname = %s", (name,))
        turn("on")
        time.sleep(seconds)
        turn("off")
        a.quiesce(90)
        a.check(amplification=1.02, crashes=0)


@pytest.mark.parametrize("who,p", [("everybody", 0.02), *matrix.in_full(("gateway", 0.05))])
def test_f13_connections_cut_at_commit(new_fleet, who, p):
    """At any statement's end, half of them after the server has done it: nobody knows which. COMMIT
    and the statements that are their own transaction are the same to the proxy."""
    with matrix.arena(new_fleet, "F13", f"{who} {p}", proxied=("postgres",)) as a:
        a.start(sleep=(0.05, 0.2), puts=True)
        a.make_users(30)
        link = a.postgres
        if who == "gateway":
            link = a.proxy.link("gateway", a.servers.pg_port)
            a.rerun("ingest-gateway", env={"DOCFLEET_DATABASE_URL": a.through(link)})
        link.set(match=SYNC, match_p=p, match_do="any", seed=a.seed)
        with a.trickle(every=0.3):
            a.load(surely=True)
            time.sleep(6)
        link.reset()
        a.figure("cut", link.total("matched"))
        a.quiesce(90)
        # an outage is no crash, whichever half of the exchange was lost
        a.check(crashes=0, objects=True)


def test_f13_commit_that_lands_late(new_fleet):
    """The answer is lost while the server is still at the commit: what the gateway does then must
    hold whichever way it ends."""
    with matrix.arena(new_fleet, "F13", "commit lands after the client has gone",
                      proxied=("postgres",)) as a:
        a.start(sleep=(0.01, 0.05))
        a.make_users(2)
        slow = ("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " PERFORM pg_sleep(3); RETURN NULL; END $$",
                "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON batch DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION slow()")
        with matrix.hooked(a.fleet, *slow, undo=("DROP FUNCTION slow() CASCADE",)):
            done = []
            thread = threading.Thread(target=lambda: done.append(
                a.upload_surely("user1", ["late.txt"])))
            thread.start()
            rig.wait_until(lambda: a.fleet.sql(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND"
                " wait_event = 'PgSleep'"), 10, what="the commit under way")
            a.postgres.cut()
            thread.join(60)
        assert done, "the upload never ended"
        a.quiesce(30)
        a.check(objects=True)
        assert a.fleet.one("SELECT count(*) FROM file") == 1


@matrix.full
def test_f14_postgres_slow(new_fleet):
    with matrix.arena(new_fleet, "F14", "500 ms a query for 20 s", proxied=("postgres",),
                      defaults=True) as a:
        a.start(sleep=(0.1, 0.3), slots=12)
        a.load()
        a.wait_done(20)
        a.postgres.set(delay=250, jitter=50)
        time.sleep(20)
        a.postgres.reset()
        a.quiesce(120)
        a.figure("elephantDoneBeforeLastMouse", a.elephant_share(), 0.5)
        a.check(amplification=1.0, crashes=0)


CONFLICTS = (
    "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF random() < 0.1 THEN RAISE EXCEPTION 'as told' USING ERRCODE ="
    "  (ARRAY['40001', '40P01', '55P03', '57014', '53300'])[1 + floor(random() * 5)::int];"
    " END IF; RETURN NEW; END $$",
    "CREATE TRIGGER conflict BEFORE UPDATE ON task FOR EACH ROW EXECUTE FUNCTION conflict()",
    "CREATE TRIGGER conflict BEFORE INSERT ON count_delta FOR EACH ROW EXECUTE FUNCTION conflict()")


@matrix.full
def test_f15_conflicts(new_fleet):
    with matrix.arena(new_fleet, "F15", "10 % of updates") as a:
        a.start(sleep=(0.02, 0.1), puts=True)
        a.make_users(30)
        undo = ("DROP FUNCTION conflict() CASCADE",)
        with matrix.hooked(a.fleet, *CONFLICTS, undo=undo), a.trickle(every=0.3):
            a.load(surely=True)
            a.wait_done(280, stage="ai", timeout=150)
        a.quiesce(60)
        a.check(amplification=1.0, crashes=0, objects=True)


@pytest.mark.parametrize("side", ["postgres", "kafka"])
@matrix.full
def test_f32_one_sided_cut(side):
    """One worker loses one of its two servers for longer than a lease; its twin has both."""
    from chaos.world import World
    with matrix.resulting("F32", f"worker and {side}") as figures, \
            World(seed=matrix.seed_of(side), workers={"text": 2, "ai": 1, "preview": 1},
                  sleep={"DOCFLEET_SLEEP_MIN": "100ms", "DOCFLEET_SLEEP_MAX": "300ms"}) as world:
        a = matrix.Arena.__new__(matrix.Arena)
        a.adopt(world)
        a.load()
        a.wait_done(10)
        link = world.links["text#1"][side]
        link.set(mode="blackhole")
        time.sleep(8)
        taken = a.fleet.one("SELECT count(*) FROM event WHERE body->>'reason' = 'worker_lost'")
        figures.update(takenBack=taken, up=link.total("up"))
        if side == "postgres":
            assert taken > 0, "the worker that was cut off kept its units"
        link.reset()
        link.cut()
        a.quiesce(90)
        a.check(crashes=0 if side == "kafka" else taken + 4, idle=False)
        figures.update(a.figures, files=len(a.accepted))


@pytest.mark.parametrize("load", ["idle", *matrix.in_full("backlog")])
def test_f35_notification_lost(new_fleet, load):
    """Whoever makes work tells nobody: the gateway's own session for it leads nowhere."""
    with matrix.arena(new_fleet, "F35", load, defaults=True) as a:
        deaf = a.fleet.database_url.replace(f":{a.servers.pg_port}/", f":{rig.free_port()}/")
        a.start(sleep=(0.1, 0.2) if load == "backlog" else (0.01, 0.02))
        a.rerun("ingest-gateway", env={"DOCFLEET_DATABASE_DIRECT_URL": deaf})
        a.make_users(30)
        if load == "backlog":
            a.upload("user0", [f"e{i}.txt" for i in range(300)])
            a.wait_done(10)
        waits = []
        for i in range(10 if load == "idle" else 3):
            user = f"user{1 + i}"
            (file_id,) = a.upload(user, [f"m{i}.txt"])
            # by the audit: the row itself soon says when the unit was claimed, and not when it was sent
            sent = rig.wait_until(lambda f=file_id: a.fleet.sql(
                "SELECT extract(epoch FROM s.at - m.at)::float AS s FROM chaos.task_step m JOIN"
                " chaos.task_step s USING (file_id, stage) WHERE file_id = %s AND stage = 1 AND"
                " m.was IS NULL AND s.was = 0 AND s.now = 1", f), 20, 0.01, what="the file found")
            waits.append(sent[0]["s"])
            if load == "idle":
                rig.wait_until(lambda: invariants.quiet(a.fleet), 20)
        a.figure("foundS", max(waits), 0.3 if load == "idle" else 6)
        a.quiesce(120)
        a.check(amplification=1.0, crashes=0)
