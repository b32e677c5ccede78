# SPDX-License-Identifier: Apache-2.0
"""One trace shows a file's whole life, and logs say which file, attempt and trace a line is about
and nothing that is in a document or secret."""
import base64
import json
import secrets

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

from lib import rig
from lib.collector import Collector

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def life():
    made = Collector()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def traced(servers, life):
    """A whole fleet with traces and every log line; the first tests of this file have it."""
    import conftest
    made = rig.Fleet(servers, {
        "DOCFLEET_OTLP_ENDPOINT": life.url + "/", "DOCFLEET_OTLP_HEADERS": "x-tenant=blue",
        "DOCFLEET_LOG_LEVEL": "debug", "DOCFLEET_LOG_FORMAT": "json"})
    conftest._activate(made)
    yield made.start()
    if conftest._state["current"] is made:
        conftest._stop_current()


def traceparent(flags="01"):
    trace = secrets.token_hex(16)
    return trace, secrets.token_hex(8), flags


def upload(client, files, parent):
    header = "00-" + "-".join(parent)
    up = client.upload(client.dataset(), files, headers={"traceparent": header})
    return up["files"][0]["id"]


def ended(spans, file_id):
    """Stages whose unit is done, by spans."""
    return {s.attrs["docfleet.stage"] for s in spans if s.kind == "consumer" and
            s.attrs["docfleet.file_id"] == file_id and s.attrs.get("docfleet.outcome") == "done"}


def whole(spans, caller):
    """Each service sends when it likes: is the request there, and every parent?"""
    ids = {s.id for s in spans}
    return any(s.kind == "server" for s in spans) and \
        all(s.parent in ids or s.parent == caller for s in spans)


def check_tree(spans, caller):
    """Every span's parent is there, up to the request, whose parent is the caller's span."""
    by_id = {s.id: s for s in spans}
    assert len(by_id) == len(spans), "a span id twice"
    roots = [s for s in spans if s.parent not in by_id]
    assert [s.parent for s in roots] == [caller], roots
    assert roots[0].kind == "server" and roots[0].service == "ingest-gateway"
    for span in spans:
        assert span.start <= span.end
    return roots[0], by_id


def test_one_trace_is_a_files_whole_life(traced, life, fixture_path):
    """A scan: text finds none, ocr reads it, then ai, preview and thumbnail."""
    fleet, collector = traced, life
    client, parent = fleet.client(), traceparent()
    file_id = upload(client, [fixture_path("samples/invoice-scan.pdf")], parent)
    assert client.wait_done(file_id, 180)["state"] == "done"
    want = {"text", "ocr", "ai", "preview", "thumbnail"}
    rig.wait_until(lambda: want <= ended(collector.of_trace(parent[0]), file_id), 60,
                   what="spans of all stages")
    rig.wait_until(lambda: whole(collector.of_trace(parent[0]), parent[1]), 60,
                   what="every span's parent")
    spans = collector.of_trace(parent[0])
    root, by_id = check_tree(spans, parent[1])
    assert root.name == "POST /api/v1/datasets/{id}/files"
    assert root.attrs["http.response.status_code"] == 202
    assert {s.resource["service.namespace"] for s in spans} == {"docfleet"}
    for unit in (s for s in spans if s.kind == "consumer"):
        queue = by_id[unit.parent]
        assert (queue.kind, queue.service) == ("producer", "dispatcher")
        assert by_id[queue.parent] is root
        inside = {s.name for s in spans if s.parent == unit.id}
        assert {"claim", "end of unit"} <= inside, (unit, inside)
        if unit.attrs["docfleet.stage"] != "ai":
            assert {"S3", "child"} <= inside, (unit, inside)
        assert unit.attrs["docfleet.attempt"] == 1 and not unit.links
    puts = [s for s in spans if s.parent == root.id and s.name == "S3"]
    assert puts and any(s.name == "accept" and s.parent == root.id for s in spans)
    assert "x-tenant" in {k.lower() for k in collector.requests[0][0]}
    # Nothing of the document, its name or its address is in what was sent.
    sent = b"".join(body for _, body in collector.requests)
    for word in (b"invoice-scan", b"Nordwind", b"X-Amz", b"uploads/", fleet.servers.s3_secret.encode()):
        assert word not in sent, word


def test_logs_say_where_and_never_what(traced, fixture_path):
    """Marked words in a document, its name, and every secret: none is in any log, at any level."""
    word, name = "zyxmarkedword", "qqmarkedname"
    fleet = traced
    client = fleet.client()
    text = f"Invoice number: {word}-1\nTotal amount: EUR 12.50\n" * 20
    broken = b"%PDF-1.7\n" + word.encode() + b"\n%%EOF"
    up = client.upload(client.dataset(), [(name + ".txt", text.encode()), (name + ".pdf", broken),
                                          fixture_path("invoice.pdf")])
    for item in up["files"]:
        client.wait_done(item["id"], 180)
        client.request("GET", f"/files/{item['id']}/content")
        client.request("GET", f"/files/{item['id']}/text")
    client.request("GET", "/files", params={"q": word})
    client.session.headers["Authorization"] = "Bearer dfk_marked_" + "s3cr3tmark" * 4
    client.request("GET", "/datasets", expect=401)
    dead = fleet.sql("SELECT 1 FROM dead_letter")
    assert dead, "the broken file is told about somewhere"
    keys = [k.split("_")[-1] for k in fleet._keys.values()]
    hidden = [word, name, "s3cr3tmark", "X-Amz-Signature", fleet.servers.s3_secret, *keys,
              f":{fleet.servers.pg_password}@"]
    hidden += [base64.b64encode(h.encode()).decode().rstrip("=") for h in (word, name)]
    files = {item["id"] for item in up["files"]}
    told = set()
    for service_name in rig.SERVICES:
        process = fleet.process(service_name)
        for line in process.log().splitlines():
            for secret in hidden:
                assert secret not in line, f"{service_name}: {line}"
            doc = json.loads(line)
            assert {"time", "level", "service", "msg"} <= set(doc), line
            assert doc["service"] == service_name
            if doc["msg"] == "unit done":
                assert {"file", "batch", "stage", "unit", "attempt"} <= set(doc), line
                told.add((doc["file"], doc["stage"]))
            if doc["msg"] == "request":
                assert doc["requestId"], line
    assert {stage for file, stage in told if file in files} >= {"text", "ai", "preview"}


def test_retry_takeover_and_the_callers_no(new_fleet, collector):
    """A lost worker's unit and its next attempt are one trace, the second names the first; a caller
    that does not sample is not recorded, and its context still goes through."""
    fleet = new_fleet(env={"DOCFLEET_OTLP_ENDPOINT": collector.url, "DOCFLEET_LEASE": "3s",
                           "DOCFLEET_LOG_FORMAT": "json"})
    fleet.start("ingest-gateway", "dispatcher")
    held = {"DOCFLEET_SLEEP_MIN": "600s", "DOCFLEET_SLEEP_MAX": "600s"}
    fleet.start_sleepers("text", env=held)
    client, parent = fleet.client(), traceparent()
    file_id = upload(client, {"a.txt": b"some text\n"}, parent)
    rig.wait_until(lambda: fleet.sql("SELECT 1 FROM task WHERE file_id = %s AND stage = 1 AND state"
                                     " = 2", file_id), 60, what="the unit running")
    fleet.kill9("text#1")
    fleet.start("text-extractor")
    rig.wait_until(lambda: "text" in ended(collector.of_trace(parent[0]), file_id), 120,
                   what="the second attempt")
    units = [s for s in collector.of_trace(parent[0]) if s.name == "unit text"]
    assert len(units) == 1, "the first one's span died with its worker"
    assert units[0].attrs["docfleet.attempt"] == 2
    assert units[0].links[0][0] == parent[0] and units[0].links[0][1] != units[0].id
    lines = [x for x in fleet.process("text-extractor").log_lines() if x.get("file") == file_id]
    assert all(x["trace"] == parent[0] and x["attempt"] == "2" and x["batch"] for x in lines)

    quiet = traceparent("00")
    file_id = upload(client, {"b.txt": b"more text\n"}, quiet)
    rig.wait_until(lambda: fleet.sql("SELECT 1 FROM task WHERE file_id = %s AND stage = 1 AND state"
                                     " = 4", file_id), 120, what="the unit done")
    kept = fleet.sql("SELECT traceparent FROM task WHERE file_id = %s AND stage = 3", file_id)
    assert kept[0]["traceparent"] == "00-" + "-".join(quiet)
    assert not collector.of_trace(quiet[0])


def test_the_collector_may_be_slow_away_or_picky(new_fleet, collector):
    """What is to be tried again is; what was refused is not; work goes on, and all is counted."""
    fleet = new_fleet(env={"DOCFLEET_OTLP_ENDPOINT": collector.url}).start("ingest-gateway")
    client = fleet.client()

    def counted(outcome):
        return fleet.metrics("ingest-gateway").get(
            'docfleet_trace_spans_total{outcome="%s"}' % outcome, 0)
    collector.script = [(503, {"Retry-After": "0"}, b"")]
    client.get("/datasets")
    rig.wait_until(lambda: counted("exported") > 0, 60, what="the second try")
    assert len(collector.requests) >= 2 and not collector.script
    collector.script = [(400, {}, b"")]
    client.get("/datasets")
    rig.wait_until(lambda: counted("failed") > 0, 60, what="the refusal counted")
    partial = service.ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 1
    partial.partial_success.error_message = "no"
    collector.script = [(200, {}, partial.SerializeToString())]
    client.get("/datasets")
    rig.wait_until(lambda: counted("rejected") == 1, 60, what="the rejection counted")
    assert client.get("/datasets").status_code == 200


def test_without_an_endpoint_nothing_is_recorded_and_contexts_go_through(new_fleet):
    fleet, parent = new_fleet().start("ingest-gateway"), traceparent()
    client = fleet.client()
    file_id = upload(client, {"a.txt": b"plain\n"}, parent)
    stored = fleet.sql("SELECT DISTINCT traceparent FROM task WHERE file_id = %s", file_id)
    assert [row["traceparent"] for row in stored] == ["00-" + "-".join(parent)]
    bad = client.upload(client.dataset(), {"b.txt": b"plain\n"},
                        headers={"traceparent": "00-nonsense"})["files"][0]["id"]
    assert fleet.sql("SELECT DISTINCT traceparent FROM task WHERE file_id = %s", bad)[0][
        "traceparent"] is None
    assert not any("trace_spans" in name for name in fleet.metrics("ingest-gateway"))
