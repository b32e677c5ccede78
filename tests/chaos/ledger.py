# SPDX-License-Identifier: Apache-2.0
"""What clients were told: every 2xx, and every request whose answer never came.

The ledger is the only witness that the database did not lose a file it had accepted: it is kept in
the test's own memory. A request without an answer is repeated with its Idempotency-Key until it has
one, so each batch is accepted exactly once however often it was sent.
"""
import itertools
import secrets
import threading
import time

import requests


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.accepted = {}        # file id -> {"name", "user", "dataset", "at"}
        self.removed, self.cancelled, self.retried = set(), set(), set()
        self.gone = set()         # datasets whose removal was promised
        self.maybe = set()        # asked to be removed or cancelled, no answer yet
        self.requests = self.repeats = self.unanswered = 0
        self.sent_names = 0

    def add(self, ids, user, dataset, at):
        with self.lock:
            for file_id, name in ids:
                self.accepted[file_id] = {"name": name, "user": user, "dataset": dataset, "at": at}

    def mark(self, what, file_id):
        with self.lock:
            getattr(self, what).add(file_id)

    def living(self):
        with self.lock:
            return [f for f in self.accepted if f not in self.removed and f not in self.maybe]


_numbers = itertools.count(1)


def body_of(names, content):
    """A multipart body with a boundary of its own, so that a repeat is the same bytes."""
    boundary = "chaos" + secrets.token_hex(8)
    parts = []
    for name in names:
        parts.append((f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
                      f'filename="{name}"\r\nContent-Type: text/plain\r\n\r\n').encode() +
                     content(name) + b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def tiny(name):
    return f"{name} {next(_numbers)}\n".encode()


class Caller:
    """One user's client: repeats until answered, over the gateways in turn."""

    def __init__(self, world, key, user, stop=None):
        self.world, self.key, self.user = world, key, user
        self.stop = stop or threading.Event()
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {key}"
        self.turn = itertools.cycle(world.urls)

    def call(self, method, path, ok=(200, 201, 202, 204), final=(), patience=120, **kw):
        """Repeats on no answer, 5xx, 409 in progress and 429; gives the response, or None when
        patience or the run ends. `final` are statuses besides 2xx that end it too."""
        ledger, end, pause, first = self.world.ledger, time.monotonic() + patience, 0.05, True
        while time.monotonic() < end and not (self.stop.is_set() and not first):
            with ledger.lock:
                ledger.requests += 1
                ledger.repeats += 0 if first else 1
            first = False
            try:
                answer = self.session.request(method, next(self.turn) + path, timeout=20, **kw)
                if answer.status_code in ok or answer.status_code in final:
                    return answer
                if answer.status_code < 500 and answer.status_code not in (408, 409, 429):
                    raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
            except requests.RequestException:
                with ledger.lock:
                    ledger.unanswered += 1
            self.stop.wait(pause) if not self.stop.is_set() else time.sleep(pause)
            pause = min(pause * 1.7, 1.0)
        return None

    def dataset(self, name):
        answer = self.call("POST", "/datasets", json={"name": name, "columns": [
            {"name": "Total", "type": "money", "description": "total to pay", "required": False}]},
            headers={"Idempotency-Key": secrets.token_hex(12)})
        return answer.json()["id"] if answer is not None else None

    def upload(self, dataset, names, patience=600, content=tiny):
        """One batch; gives [(id, name)], or None when no answer ever came."""
        body, kind = body_of(names, content)
        answer = self.call("POST", f"/datasets/{dataset}/files", data=body, patience=patience,
                           headers={"Content-Type": kind, "Idempotency-Key": secrets.token_hex(12)})
        if answer is None:
            return None
        files = answer.json()["files"]
        ids = [(f["id"], f["name"]) for f in files if "id" in f]
        self.world.ledger.add(ids, self.user, dataset, time.time())
        return ids

    def remove(self, file_id):
        self.world.ledger.mark("maybe", file_id)
        if self.call("DELETE", f"/files/{file_id}", final=(404, 410)) is not None:
            self.world.ledger.mark("removed", file_id)

    def act(self, file_id, action):
        """cancel or retry; a file that is past it answers 409 and that is fine."""
        self.world.ledger.mark("cancelled" if action == "cancel" else "retried", file_id)
        return self.call("POST", f"/files/{file_id}/{action}", final=(404, 409, 410), patience=30)
