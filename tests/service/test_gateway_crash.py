# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the gateway inside an upload: sent again with its Idempotency-Key, it counts once."""
import secrets
import signal

import pytest
import requests

from lib import rig


@pytest.fixture(scope="module")
def faulty(servers):
    """Only the gateway, built with crash points; nothing takes the tasks away."""
    made = rig.Fleet(servers, build="release-faults")
    yield made
    made.stop()


@pytest.mark.parametrize("point,rows_after", [
    ("gateway.after_put", 0), ("gateway.before_commit", 0), ("gateway.after_commit", 1)])
def test_killed_upload_counts_once(faulty, point, rows_after):
    faulty.start("ingest-gateway")
    client = faulty.client()
    dataset = client.dataset()
    faulty.restart("ingest-gateway", env={"DOCFLEET_CRASH_AT": f"{point}:1"})
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    files = {"a.txt": b"a" * 10000, "b.txt": b"b"}
    client = faulty.client()
    with pytest.raises(requests.ConnectionError):
        client.upload(dataset, files, headers=headers)
    assert faulty.wait_end("ingest-gateway") == -signal.SIGKILL
    batches = "select count(*) from batch where dataset_id = %s"
    assert faulty.one(batches, dataset) == rows_after
    faulty.start("ingest-gateway")
    client = faulty.client()
    answer = client.upload(dataset, files, headers=headers)
    assert answer["batch"]["accepted"] == 2
    assert client.upload(dataset, files, headers=headers) == answer
    assert faulty.one(batches, dataset) == 1
    named = {r["object_key"] for r in faulty.sql(
        "select object_key from file join file_version using (file_id) where dataset_id = %s", dataset)}
    assert len(named) == 2 and named <= set(faulty.objects())
    assert client.json(f"/datasets/{dataset}/summary")["files"]["total"] == 2
    faulty.stop("ingest-gateway")
