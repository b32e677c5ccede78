# SPDX-License-Identifier: Apache-2.0
"""Continuous load of a soak: many users, few elephants, open-loop arrivals, changes of mind.

Batches arrive by a seeded clock whatever the fleet does, and wait in a queue when it does not answer;
only beyond `backlog_max` unfinished files arrivals are held, and how long is part of the result.
Names steer the sleepworkers (tests/tools/sleep_worker.c): page ranges, ten times the work, failures.
"""
import queue
import random
import secrets
import threading
import time

from chaos.ledger import Caller

CLEANING_MAX = 500  # removed files that wait for the cleaner: more datasets are removed only below it
KINDS = (("pages40-", 0.02), ("x10-", 0.02), ("flaky-", 0.015), ("fail-", 0.01),
         ("fail-preview-", 0.004), ("poison-", 0.0002))


class Load:
    def __init__(self, world, users=36, elephants=4, rate=40.0, senders=12, backlog_max=6000):
        self.world, self.rate, self.backlog_max = world, rate, backlog_max
        self.random = random.Random(world.seed * 1000 + 1)
        self.users = [(f"user{i}", key) for i, key in enumerate(world.keys(users))]
        self.admin = world.fleet.user_key("chief", admin=True)
        self.elephants = elephants
        self.queue, self.stop, self.pause = queue.Queue(), threading.Event(), threading.Event()
        self.datasets, self.old, self.number = {}, [], 0
        self.backlog, self.cleaning, self.held, self.offered = 0, 0, 0.0, 0
        self.counts = {"removed": 0, "cancelled": 0, "retried": 0, "replayed": 0, "reruns": 0,
                       "datasets removed": 0, "unanswered batches": 0}
        self.busy, self.errors, self.threads = 0, [], []
        self.lock = threading.Lock()
        self.pause.set()
        for target in [self._arrive, self._watch, self._change_minds,
                       *[self._send for _ in range(senders)]]:
            self.threads.append(threading.Thread(target=self._guard, args=(target,), daemon=True))

    def start(self):
        for thread in self.threads:
            thread.start()

    def _guard(self, target):
        try:
            target()
        except BaseException as e:  # a thread's death must end the run, loudly
            self.errors.append(f"{target.__name__}: {type(e).__name__}: {e}")

    # --- epochs ---------------------------------------------------------------------------------
    def new_epoch(self):
        """Fresh datasets; what the last epoch made is removed while this one runs."""
        old = list(self.datasets.items())
        self.datasets = {}
        for name, key in self.users:
            made = Caller(self.world, key, name).dataset(f"{name}-{secrets.token_hex(3)}")
            assert made, "no dataset"
            self.datasets[name] = made
        self.old += old
        self.pause.clear()

    def drain(self, timeout=180):
        """No new arrivals, and every batch that arrived has its answer."""
        self.pause.set()
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with self.lock:
                if self.busy == 0 and self.queue.empty():
                    return True
            self.world.supervise()
            time.sleep(0.1)
        return False

    # --- arrivals -------------------------------------------------------------------------------
    def _name(self):
        self.number += 1
        r, kind = self.random.random(), ""
        for prefix, share in KINDS:
            if r < share:
                kind = prefix
                break
            r -= share
        return f"{kind}f{self.number}.txt"

    def _arrive(self):
        due = time.monotonic()
        while not self.stop.is_set():
            if self.pause.is_set():
                time.sleep(0.05)
                due = time.monotonic()
                continue
            if self.backlog > self.backlog_max:
                time.sleep(0.1)
                self.held += 0.1
                due = time.monotonic()
                continue
            big = self.random.random() < 0.06
            size = self.random.randint(80, 200) if big else self.random.randint(1, 8)
            user = self.random.choice(self.users[:self.elephants] if big
                                      else self.users[self.elephants:])
            batch = [self._name() for _ in range(size)]
            self.offered += size
            self.queue.put((user, self.datasets[user[0]], batch))
            due += size / self.rate * self.random.expovariate(1.0)
            if due > time.monotonic():
                self.stop.wait(min(due - time.monotonic(), 5))

    def _send(self):
        while not self.stop.is_set():
            with self.lock:
                try:
                    (name, key), data, batch = self.queue.get_nowait()
                    self.busy += 1
                except queue.Empty:
                    batch = None
            if batch is None:
                time.sleep(0.05)
                continue
            try:
                if Caller(self.world, key, name, self.stop).upload(data, batch) is None:
                    self.counts["unanswered batches"] += 1
            finally:
                with self.lock:
                    self.busy -= 1

    def _watch(self):
        while not self.stop.is_set():
            try:
                row = self.world.fleet.sql("""SELECT count(*) FILTER (WHERE state < 2) AS work,
                    count(*) FILTER (WHERE state = 6) AS cleaning FROM file""")[0]
                self.backlog, self.cleaning = row["work"], row["cleaning"]
            except Exception:  # the database is down as often as not
                pass
            self.stop.wait(2)

    # --- changes of mind --------------------------------------------------------------------------
    def _change_minds(self):
        r, ledger = random.Random(self.world.seed * 1000 + 2), self.world.ledger
        callers = {name: Caller(self.world, key, name, self.stop) for name, key in self.users}
        chief = Caller(self.world, self.admin, "chief", self.stop)
        while not self.stop.is_set():
            self.stop.wait(0.25)
            if self.pause.is_set():
                continue
            with self.lock:
                self.busy += 1
            try:
                self._one_change(r, ledger, callers, chief)
            finally:
                with self.lock:
                    self.busy -= 1

    def _one_change(self, r, ledger, callers, chief):
        if self.old and self.cleaning < CLEANING_MAX and r.random() < 0.5:
            name, data = self.old.pop(0)
            self._remove_dataset(callers[name], name, data)
            return
        with ledger.lock:
            recent = list(ledger.accepted)[-400:]
        if not recent:
            return
        file_id = r.choice(recent)
        caller, what = callers[ledger.accepted[file_id]["user"]], r.random()
        if what < 0.4:
            caller.remove(file_id)
            self.counts["removed"] += 1
        elif what < 0.6:
            caller.act(file_id, "cancel")
            self.counts["cancelled"] += 1
        elif what < 0.8:
            failed = caller.call("GET", f"/datasets/{ledger.accepted[file_id]['dataset']}/files",
                                 params={"state": "failed", "limit": 5}, final=(404, 400))
            # Poison ends a whole worker, and with it a rebalance: seldom more than its three times.
            items = failed.json().get("items", ()) if failed is not None else ()
            items = [i for i in items if "poison-" not in i["name"] or r.random() < 0.05]
            for item in items[:1]:
                caller.act(item["id"], "retry")
                self.counts["retried"] += 1
        elif what < 0.9:
            chief.call("POST", "/admin/dead-letters/replay", final=(404,), patience=30, json={
                "limit": 5, "filter": {"datasetId": ledger.accepted[file_id]["dataset"],
                                       **({"reason": "corrupt"} if r.random() < 0.95 else {})}})
            self.counts["replayed"] += 1
        else:
            caller.call("POST", f"/files/{file_id}/retry", json={"from": "ai"}, patience=30,
                        final=(404, 409, 410))
            self.counts["reruns"] += 1

    def _remove_dataset(self, caller, name, data):
        with self.world.ledger.lock:
            for file_id, told in self.world.ledger.accepted.items():
                if told["dataset"] == data:
                    self.world.ledger.maybe.add(file_id)
        for _ in range(50):
            answer = caller.call("DELETE", f"/datasets/{data}", final=(404,), patience=300)
            if answer is None or answer.status_code == 404 or not answer.json()["more"]:
                break
        else:
            raise AssertionError(f"dataset {data} is never gone")
        if answer is None:
            self.old.append((name, data))
            return
        self.counts["datasets removed"] += 1
        self.world.ledger.gone.add(data)

    def finish(self):
        self.stop.set()
        end = time.monotonic() + 20
        for thread in self.threads:
            thread.join(max(0, end - time.monotonic()))
