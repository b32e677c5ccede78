# SPDX-License-Identifier: Apache-2.0
"""What row security costs a request: the same gateway as its walled role and as the tables' owner, in turn.

Accounts have many files, so that a policy that keeps an index from being used would show.
"""
import time

from lib import rig
from lib.bench import spread, write_section

ROUNDS, REQUESTS, FILES = 5, 400, 20000
OTHERS_SQL = """
INSERT INTO file (file_id, user_id, dataset_id, batch_id, name, folder, bytes, version, generation, state, main_state,
                  preview_state, thumb_state)
SELECT gen_random_uuid(), f.user_id, f.dataset_id, f.batch_id, 'copy ' || n || '.txt', f.folder, f.bytes, 1,
       f.generation, f.state, f.main_state, f.preview_state, f.thumb_state
  FROM file f, generate_series(1, %s) n WHERE f.file_id = %s
"""


def test_walls(servers):
    fleet = rig.Fleet(servers, env={"DOCFLEET_RATE_KEY": "0", "DOCFLEET_RATE_USER": "0", "DOCFLEET_RATE_ADDRESS": "0"})
    try:
        fleet.start("ingest-gateway", "dispatcher", "text-extractor", "ai-extractor", "preview-worker",
                    "thumbnail-worker")
        fleet.start("ingest-gateway#owner", env={"DOCFLEET_DATABASE_URL": fleet.database_url})
        client = fleet.client()
        dataset = client.dataset()
        file_id = client.upload(dataset, {"one.txt": b"Invoice number: 4711\nTotal amount: 3 EUR\n"})["files"][0]["id"]
        client.wait_all(dataset)
        fleet.sql(OTHERS_SQL, FILES, file_id)
        fleet.sql("ANALYZE file")
        urls = {"walled": fleet.api, "owner": f"http://127.0.0.1:{fleet.gateway_ports('ingest-gateway#owner')}/api/v1"}
        paths = {"one file": f"/files/{file_id}", "a page of 50 files": f"/datasets/{dataset}/files",
                 "a search by name": f"/datasets/{dataset}/files?name=copy%20777",
                 "a page of rows": f"/datasets/{dataset}/records"}
        took = {(what, how): [] for what in paths for how in urls}
        for _ in range(ROUNDS):
            for what, path in paths.items():
                for how, url in urls.items():
                    one = rig.Client(url, client.key)
                    one.json(path)
                    for _ in range(REQUESTS):
                        began = time.perf_counter()
                        one.json(path)
                        took[what, how].append((time.perf_counter() - began) * 1000)
        lines = ["| request | with row security, p50 / p95 (ms) | as the owner, p50 / p95 (ms) | p50 ratio |",
                 "|---|---|---|---|"]
        for what in paths:
            on, off = spread(took[what, "walled"]), spread(took[what, "owner"])
            lines.append(f"| {what} | {on['median']:.2f} / {on['p95']:.2f} | {off['median']:.2f} / {off['p95']:.2f}"
                         f" | {on['median'] / off['median']:.2f} |")
        write_section("walls", "Row security",
                      f"One client, {REQUESTS} requests of a kind in {ROUNDS} rounds, in turn with and without; an account"
                      f" with {FILES + 1} files (ADR 0024).\n\n" + "\n".join(lines))
        print("\n".join(lines))
    finally:
        fleet.stop()
