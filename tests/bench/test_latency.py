# SPDX-License-Identifier: Apache-2.0
"""How long a tiny text file takes from its 202 to its record, one file at a time."""
import os
import threading
import time

from lib import bench
from lib.rig import wait_until

FILES = int(os.environ.get("BENCH_FILES", "60"))
WARM_UP = 5


class RecordTimes:
    """Notes when the event `record_updated` of each file arrives."""

    def __init__(self, client):
        self.at, self._client, self._ready = {}, client, threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._ready.wait(10), "no event stream"

    def _listen(self):
        with self._client.events(timeout=120) as stream:
            self._ready.set()
            for event in stream:
                if event["event"] == "record_updated":
                    self.at.setdefault(event["data"]["fileId"], time.perf_counter())


def test_tiny_text_latency(client):
    dataset = client.dataset()
    times = RecordTimes(client)
    upload_ms, record_ms, total_ms = [], [], []
    for n in range(FILES + WARM_UP):
        body = f"Invoice number: L-{n}\nInvoice date: 2024-03-14\nTotal amount: EUR {n}.50\n"
        start = time.perf_counter()
        answer = client.upload(dataset, {f"tiny-{n}.txt": body.encode()})
        accepted = time.perf_counter()
        file_id = answer["files"][0]["id"]
        wait_until(lambda f=file_id: f in times.at, 20, interval=0.002, what="record_updated")
        if n >= WARM_UP:
            upload_ms.append((accepted - start) * 1e3)
            record_ms.append((times.at[file_id] - accepted) * 1e3)
            total_ms.append((times.at[file_id] - start) * 1e3)
        wait_until(lambda f=file_id: client.file(f)["state"] == "done", 20, what="done")
    rows = {"request sent to 202": bench.spread(upload_ms),
            "202 to the record (event `record_updated`)": bench.spread(record_ms),
            "request sent to the record": bench.spread(total_ms)}
    bench.write_section("latency", "A tiny text file, from upload to record", bench.table(rows) + (
        "\n\nOne file of about 70 bytes at a time through the whole fleet (gateway, dispatcher, text, "
        "ai with the `rules` backend) with Kafka, Postgres and S3 on the same machine; the clock stops "
        "when the browser's event stream delivers the record."))
    assert bench.spread(record_ms)["median"] <= 500
