# SPDX-License-Identifier: Apache-2.0
"""What row security costs a request: the same gateway as its walled role and as the tables' owner, in turn.

Accounts have many files, so that a policy that keeps an index from being used would show.
"""
import time

from lib import rig
from lib.bench import spread, write_section

ROUNDS, REQUESTS, FILES = 5, 400, 20000
COPIES_SQL = """
WITH one AS (SELECT * FROM file WHERE file_id = %s),
     ids AS (SELECT gen_random_uuid() AS id, n FROM generate_series(1, %s) n),
     files AS (INSERT INTO file (file_id, user_id, dataset_id, batch_id, name, folder, bytes, version, generation,
                                 record_generation, state, main_state, preview_state, thumb_state)
               SELECT id, user_id, dataset_id, batch_id, 'copy ' || n || '.txt', folder, bytes, version, generation,
                      record_generation, state, main_state, preview_state, thumb_state FROM one, ids),
     versions AS (INSERT INTO file_version (file_id, version, object_key, bytes, sha256, mime, kind)
                  SELECT ids.id, v.version, v.object_key || n, v.bytes, v.sha256, v.mime, v.kind
                    FROM ids, one JOIN file_version v USING (file_id))
INSERT INTO record (record_id, file_id, dataset_id, user_id, version, generation, schema_version, backend, "values",
                    cells, completeness)
SELECT gen_random_uuid(), ids.id, r.dataset_id, r.user_id, r.version, r.generation, r.schema_version, r.backend,
       r."values", r.cells, r.completeness
  FROM ids, one JOIN record r USING (file_id)
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
        fleet.sql(COPIES_SQL, file_id, FILES)
        fleet.sql("ANALYZE file, file_version, record")
        urls = {"walled": fleet.api, "owner": f"http://127.0.0.1:{fleet.gateway_ports('ingest-gateway#owner')}/api/v1"}
        # What is asked, and how many items must come
        paths = {"one file": (f"/files/{file_id}", None),
                 "a page of 50 files": (f"/datasets/{dataset}/files?limit=50", 50),
                 "a search by name": (f"/datasets/{dataset}/files?q=copy%20777", 11),
                 "a page of 50 rows": (f"/datasets/{dataset}/records?limit=50", 50)}
        took = {(what, how): [] for what in paths for how in urls}
        for _ in range(ROUNDS):
            for what, (path, items) in paths.items():
                for how, url in urls.items():
                    one = rig.Client(url, client.key)
                    answer = one.json(path)
                    assert items in (None, len(answer.get("items", ()))), f"{what}, {how}: {len(answer['items'])} items"
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
