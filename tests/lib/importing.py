# SPDX-License-Identifier: Apache-2.0
"""What tests of imports share: a source of objects, and the importer as a scheduler starts it."""
import http.server
import json
import os
import subprocess
import threading

from lib import rig

QUICK = {"DOCFLEET_SLEEP_MIN": "0ms", "DOCFLEET_SLEEP_MAX": "0ms", "DOCFLEET_SLEEP_PUTS": "true"}
SLEEP_STAGES = ("text", "ai", "preview")


def start_fleet(fleet, slots=4):
    """A fleet whose stages return at once: what is tested is the import."""
    fleet.start("ingest-gateway", "dispatcher")
    fleet.start("cleaner", env={"DOCFLEET_SECOND_PASS": "0s"})
    for stage in SLEEP_STAGES:
        fleet.start_sleepers(stage, 1, slots, env=QUICK)


def environment(fleet, env=None):
    return dict(rig._base_env(), **{**fleet.settings(), "DOCFLEET_DATABASE_URL": fleet.database_url_of("importer")},
                DOCFLEET_SCRATCH_DIR=fleet.dir,
                DOCFLEET_IMPORT_RETRY="20ms", **(env or {}))


def start(fleet, env=None, build=None, log="importer.log"):
    return rig.Process("importer", [fleet.bin("importer", build)], os.path.join(fleet.dir, log),
                       env=environment(fleet, env), cwd=fleet.dir)


def run(fleet, env=None, build=None, timeout=120, check=0):
    """Runs the importer to its end; gives its log lines."""
    done = subprocess.run([fleet.bin("importer", build)], env=environment(fleet, env),
                          timeout=timeout, capture_output=True, text=True, cwd=fleet.dir)
    assert done.returncode == check, f"importer: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return [json.loads(line) for line in (done.stdout + done.stderr).splitlines()
            if line.startswith("{")]


class Webhook:
    """Takes alerts: `seen` has their texts, `answers` the statuses of the next ones (200 when there is none)."""

    def __init__(self):
        self.seen, self.answers, outer = [], [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # pylint: disable=invalid-name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.seen.append(json.loads(body)["text"])
                self.send_response(outer.answers.pop(0) if outer.answers else 200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-path"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Source:
    """A prefix with objects, an import of it, and what came of the runs."""

    def __init__(self, fleet, prefix, user="alice", bucket=None, **settings):
        self.fleet, self.prefix, self.bucket = fleet, prefix, bucket or fleet.bucket
        self.alice = fleet.client(user)
        self.admin = fleet.client("root", admin=True)
        self.dataset = self.alice.dataset()
        self.id = self.admin.post("/imports", 201, json={
            "name": prefix, "datasetId": self.dataset, "prefix": prefix, **settings}).json()["id"]

    def put(self, name, body=None):
        body = body if body is not None else f"content of {name}"
        self.fleet.s3().put_object(Bucket=self.bucket, Key=self.prefix + name,
                                   Body=body if isinstance(body, bytes) else body.encode())

    def drop(self, name):
        self.fleet.s3().delete_object(Bucket=self.bucket, Key=self.prefix + name)

    def ask(self):
        return self.alice.post(f"/imports/{self.id}/run", 202).json()["id"]

    def run(self, env=None, build=None):
        """Asks for a run, lets the importer do it, and gives it."""
        run_id = self.ask()
        run(self.fleet, env, build)
        return self.get(run_id)

    def get(self, run_id, **params):
        return self.alice.json(f"/imports/{self.id}/runs/{run_id}", params=dict(params, limit=200))

    def state(self):
        return self.alice.json(f"/imports/{self.id}")

    def names(self, **params):
        return sorted(f["name"] for f in self.alice.files(self.dataset, **params))

    def change(self, **settings):
        return self.admin.request("PATCH", f"/imports/{self.id}", 200, json=settings).json()

    def roll_back(self, run_id, expect=200, **body):
        return self.alice.post(f"/imports/{self.id}/runs/{run_id}/rollback", expect, json=body)
