# SPDX-License-Identifier: Apache-2.0
"""What a soak does to a world: kinds of faults with their weights, drawn by a seed.

A fault happens at once; if it lasts, it leaves an action for later (`end`), so that faults overlap
as they do in life. A kind that makes no sense right now (the broker is down already) gives None and
the next one is drawn.
"""
import os
import re
import time

from chaos.proxy import SYNC
from lib import rig

WORKERS, NAMED = ("text", "ocr", "ai", "preview", "thumbnail"), {}


def crash_points():
    """{"worker" or a service: [names]}, read from the sources."""
    if not NAMED:
        for folder in ("libcommon", *(f"services/{s}" for s in rig.SERVICES)):
            for name in sorted(os.listdir(os.path.join(rig.ROOT, folder))):
                if name.endswith(".c"):
                    with open(os.path.join(rig.ROOT, folder, name), encoding="utf-8") as f:
                        who = "worker" if folder == "libcommon" else folder.split("/")[1]
                        NAMED.setdefault(who, []).extend(
                            re.findall(r'\bfault_point\("([^"]+)"\)', f.read()))
    return NAMED


def points_of(world, name):
    points, service = crash_points(), name.split("#")[0]
    own = list(points.get(service, ()))
    return own + points["worker"] if world.stage_of(name) else own


class Faults:
    def __init__(self, world, dice, later):
        """later(seconds, action) runs an action after a time."""
        self.world, self.dice, self.later = world, dice, later
        self.down, self.frozen, self.limited = set(), set(), set()

    def _pick(self, *kinds):
        names = [n for n in self._able() if not kinds or n.split("#")[0] in kinds]
        return self.dice.choice(names) if names else None

    def _able(self):
        """Processes that nothing is being done to; a crash point is given 15 s to be reached."""
        def armed(name):
            return time.monotonic() - self.world.crash_points.get(name, ("", 0))[1] < 15
        return sorted(n for n in self.world.running() if n not in self.frozen and not armed(n) and
                      n not in self.world.ending)

    def _again(self, name, low=0.1, high=2.0):
        def start():
            if not self.world.fleet.running(name) and name not in self.world.idle:
                self.world.run(name)
        self.later(self.dice.uniform(low, high), start)

    # --- processes ------------------------------------------------------------------------------
    def kill(self):
        name = self._pick()
        if name:
            self.world.kill(name)
            self._again(name)
        return name

    def crash_point(self):
        """Restarts a process with a point at which it dies later, in the middle of its work."""
        name = self._pick()
        points = points_of(self.world, name) if name else None
        if not points:
            return None
        point = f"{self.dice.choice(points)}:{self.dice.randint(1, 40)}"
        self.world.kill(name)
        self.world.run(name, crash_at=point)
        return f"{name} {point}"

    def terminate(self):
        name = self._pick()
        if name:
            self.world.terminate_later(name, lambda: self.world.run(name))
        return name

    def rolling(self):
        """Every process of one kind, one after the other."""
        kind = self.dice.choice(["ingest-gateway", "dispatcher", "text", "ai", "preview"])
        names = [n for n in self._able() if n.split("#")[0] == kind]

        def following(left):
            if left and left[0] in self._able():
                def then():
                    self.world.run(left[0])
                    following(left[1:])
                self.world.terminate_later(left[0], then)
            elif left:
                following(left[1:])
        following(names)
        return f"{kind} {len(names)}" if names else None

    def freeze(self):
        name, seconds = self._pick(), self.dice.choice([1, 2, 4, 8, 12, 20])
        if name:
            self.world.freeze(name, seconds)
            self.frozen.add(name)

            def thaw():
                self.world.thaw(name)
                self.frozen.discard(name)
            self.later(seconds, thaw)
        return name and f"{name} {seconds} s"

    def scale(self):
        """One worker more or one fewer, at times all of a stage."""
        stage = self.dice.choice(["text", "ocr", "ai", "preview"])
        idle = sorted(n for n in self.world.idle if n.split("#")[0] == stage)
        running = [n for n in self._able() if n.split("#")[0] == stage]
        if idle and self.dice.random() < 0.6:
            self.world.note("scale_up", idle[0])
            self.world.run(idle[0])
            return f"up {idle[0]}"
        gone = running if self.dice.random() < 0.2 else running[:1]
        for name in gone:
            def away(name=name, seconds=self.dice.uniform(2, 10)):
                self.world.idle.add(name)
                self.later(seconds, lambda: name in self.world.idle and self.world.run(name))
            self.world.terminate_later(name, away)
        return f"down {' '.join(gone)}" if gone else None

    def clock(self):
        """A process whose wall clock is an hour off, or runs away. Not one that signs requests to
        the store: that refuses them by their time."""
        name = self._pick("text", "ai", "dispatcher")
        if not name:
            return None
        offset, rate = self.dice.choice([("3600", "1"), ("-3600", "1"), ("0", "1.5")])
        self.world.kill(name)
        self.world.run(name, env={"LD_PRELOAD": self.world.wrong_clock(),
                                  "WRONG_CLOCK_OFFSET": offset, "WRONG_CLOCK_RATE": rate})
        self.world.note("clock", name)

        def right(pid=self.world.pids[name]):
            if self.world.fleet.running(name) and self.world.pids[name] == pid and \
                    name not in self.world.ending:
                self.world.kill(name)
                self.world.run(name)
        self.later(self.dice.uniform(5, 20), right)
        return f"{name} {offset} s x{rate}"

    # --- servers ----------------------------------------------------------------------------------
    def _server(self, name, stop, start, low, high, ready=None):
        """Down for a while; the next server goes down only when this one answers again."""
        if self.down:
            return None
        seconds, servers = round(self.dice.uniform(low, high), 1), self.world.servers
        answers = ready or getattr(servers, {"s3": "s3_answers", "kafka": "kafka_answers",
                                             "postgres": "postgres_answers"}[name])
        stop()
        fault = self.world.injected[-1]
        fault["seconds"] = 300  # until it is known
        self.down.add(name)

        def look():
            if name in servers.processes and not answers():
                self.later(0.5, look)
            else:
                self.down.discard(name)
                fault["seconds"] = time.time() - fault["at"]

        def back():
            if name not in servers.processes:
                start()
            self.later(0.5, look)
        self.later(seconds, back)
        return f"{seconds} s"

    def broker_kill(self):
        return self._server("kafka", self.world.broker_kill, self.world.servers.start_kafka, 0, 8)

    def broker_wipe(self):
        def ready():
            if not self.world.servers.kafka_answers():
                return False
            self.world.make_topics()
            return True
        return self._server("kafka", self.world.broker_wipe, self.world.servers.start_kafka, 0, 3,
                            ready)

    def postgres_crash(self):
        return self._server("postgres", self.world.postgres_crash,
                            self.world.servers.start_postgres, 1, 10)

    def s3_kill(self):
        return self._server("s3", self.world.s3_kill, self.world.servers.start_s3, 0.2, 5)

    # --- the network --------------------------------------------------------------------------------
    def _link(self, kind, links, seconds, what, target="", **keys):
        links.set(**keys)
        self.world.note(kind, target, seconds)
        self.limited.add(target or kind)

        def back():
            links.reset()
            self.limited.discard(target or kind)
        self.later(seconds, back)
        return f"{target} {what} {seconds} s"

    def _free(self, *targets):
        return not self.limited.intersection(targets)

    def postgres_cut(self):
        """Every connection, or those of one process, is reset."""
        name = self._pick() if self.dice.random() < 0.5 else None
        links = self.world.links[name]["postgres"] if name else self.world.postgres
        self.world.note("postgres_cut", name or "")
        return f"{name or 'all'} {links.cut()}"

    def postgres_unknown(self):
        """Statements are cut before, after, or instead of their answer."""
        if not self._free("postgres_unknown", "postgres_slow"):
            return None
        p, seconds = self.dice.choice([0.02, 0.05, 0.2]), self.dice.randint(2, 5)
        return self._link("postgres_unknown", self.world.postgres, seconds, p, match=SYNC,
                          match_p=p, match_do="any", seed=self.dice.randint(1, 10 ** 6))

    def postgres_slow(self):
        if not self._free("postgres_unknown", "postgres_slow"):
            return None
        delay, seconds = self.dice.choice([20, 100, 250]), self.dice.randint(2, 6)
        return self._link("postgres_slow", self.world.postgres, seconds, f"{delay} ms",
                          delay=delay, jitter=delay)

    def cut_worker(self):
        """One process loses Postgres, or Kafka, and keeps the other."""
        name, what = self._pick(), self.dice.choice(["postgres", "kafka"])
        how, seconds = self.dice.choice(["blackhole", "mute", "refuse"]), self.dice.randint(1, 10)
        if not name or not self._free(name, "postgres_unknown", "postgres_slow"):
            return None
        link = self.world.links[name][what]
        if how == "refuse":
            link.cut()
        return self._link("cut_worker", link, seconds, f"{what} {how}", name, mode=how)

    def kafka_cut(self):
        self.world.note("kafka_cut")
        return str(self.world.kafka.cut())

    def s3_faults(self):
        if not self._free("s3_faults"):
            return None
        keys = self.dice.choice([
            {"error_p": 0.2, "error_code": 500}, {"error_p": 0.5, "error_code": 503},
            {"hang_p": 0.05}, {"truncate_p": 0.2}, {"flip_p": 0.2, "path": "/uploads/"},
            {"swallow_p": 0.2, "method": "PUT"}, {"swallow_p": 0.2, "method": "DELETE"},
            {"swallow_p": 0.1}, {"delay": 200, "jitter": 300}])
        what = " ".join(f"{k}={v}" for k, v in keys.items())
        return self._link("s3_faults", self.world.s3, self.dice.randint(2, 6), what,
                          seed=self.dice.randint(1, 10 ** 6), **keys)

    def client_faults(self):
        """Answers to clients are lost: they ask again with the same key."""
        if not self._free("client_faults"):
            return None
        keys = self.dice.choice([{"swallow_p": 0.5}, {"truncate_p": 0.5}, {"error_p": 0.3},
                                 {"swallow_p": 1, "method": "POST"}])
        self.world.clients.cut()
        return self._link("client_faults", self.world.clients, self.dice.randint(1, 4), str(keys),
                          seed=self.dice.randint(1, 10 ** 6), **keys)

    # --- inside ---------------------------------------------------------------------------------------
    def depose(self):
        return None if "postgres" in self.down else str(self.world.depose_leaders())

    def deafen(self):
        return None if "postgres" in self.down else str(self.world.deafen())

    def sql_errors(self):
        if "postgres" in self.down:
            return None
        permille, seconds = self.dice.choice([20, 100, 300]), self.dice.randint(1, 4)
        self.world.note("sql_errors", "", seconds)
        self.world.sql_errors(permille)
        self.later(seconds, lambda: self.world.sql_errors(0))
        return f"{permille}/1000 {seconds} s"

    def duplicates(self):
        """Records of a stage once more, in another order and other partitions."""
        if "kafka" in self.down:
            return None
        stage = self.dice.choice(WORKERS[:4] + ("clean",))
        records = self.world.recent_records(stage, 30)
        self.dice.shuffle(records)
        self.world.note("duplicates", stage, n=len(records))
        self.world.produce([(self.world.topic(stage), k, v,
                             p if self.dice.random() < 0.5 else
                             self.dice.randrange(self.world.partitions)) for k, v, p in records])
        return f"{stage} {len(records)}"

    def garbage(self):
        if "kafka" in self.down:
            return None
        stage = self.dice.choice(WORKERS[:4])
        junk = [b"", b"{}", b"null", b"\x00\xff\xfe", b"*", b"{" * 5000, b'{"data":{"seq":-1}}',
                os.urandom(300)]
        self.world.note("garbage", stage)
        self.world.produce([(self.world.topic(stage), self.dice.choice([b"*", b"", b"a\x00b", None]),
                             j, self.dice.randrange(self.world.partitions)) for j in junk])
        return stage

    def offsets(self):
        stage = self.dice.choice(["text", "ocr", "ai", "preview"])
        if "kafka" in self.down or any(n.split("#")[0] == stage for n in self.frozen):
            return None
        self.world.reset_offsets(stage, self.dice.choice(["earliest", "latest"]))
        return stage


WEIGHTS = {
    "kill": 16, "crash_point": 16, "terminate": 9, "rolling": 2, "freeze": 8, "scale": 5,
    "broker_kill": 2, "broker_wipe": 0.6, "postgres_crash": 4, "s3_kill": 3, "postgres_cut": 6,
    "postgres_unknown": 5, "postgres_slow": 3, "cut_worker": 7, "kafka_cut": 3, "s3_faults": 7,
    "client_faults": 4, "depose": 4, "deafen": 3, "sql_errors": 4, "duplicates": 4, "garbage": 3,
    "offsets": 1, "clock": 2}
