# SPDX-License-Identifier: Apache-2.0
"""What the fleet sends through Kafka is what proto-schemas says, and asyncapi.yaml names the topics."""
import contextlib
import json
import os
import time

import confluent_kafka
import jsonschema
import pytest
import yaml
from referencing import Registry, Resource

from lib import rig

SCHEMAS = os.path.join(rig.ROOT, "proto-schemas", "events")
ASYNCAPI = os.path.join(rig.ROOT, "proto-schemas", "asyncapi.yaml")
RESERVED = {"progress", "folder_changed"}
WORK_MAX, EVENT_MAX = 1024, 4096


def load_schemas():
    """{CloudEvents type: schema}"""
    found = {}
    for name in sorted(os.listdir(SCHEMAS)):
        with open(os.path.join(SCHEMAS, name), encoding="utf-8") as f:
            schema = json.load(f)
        found[schema["properties"]["type"]["const"]] = schema
    return found


def load_asyncapi():
    with open(ASYNCAPI, encoding="utf-8") as f:
        return yaml.safe_load(f)


@contextlib.contextmanager
def tap(servers):
    """Everything that comes into the docfleet topics from now on: yields read() -> list."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": servers.kafka_brokers, "group.id": "contracts", "log_level": 0,
        "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    ends = []
    for name, topic in consumer.list_topics(timeout=10).topics.items():
        if name.startswith("docfleet."):
            for partition in topic.partitions:
                one = confluent_kafka.TopicPartition(name, partition)
                one.offset = consumer.get_watermark_offsets(one, 10)[1]
                ends.append(one)
    consumer.assign(ends)
    got = []

    def read(quiet=1.5, limit=30):
        """Until nothing comes for a while."""
        last, end = time.monotonic(), time.monotonic() + limit
        while time.monotonic() - last < quiet and time.monotonic() < end:
            message = consumer.poll(0.1)
            if message is not None:
                assert not message.error(), message.error()
                got.append(message)
                last = time.monotonic()
        return got
    try:
        yield read
    finally:
        consumer.close()


def test_schemas_are_valid():
    schemas = load_schemas()
    for kind, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert kind.startswith("docfleet.") and kind.endswith(".v1")
    assert set(schemas) == {f"docfleet.{k}.v1" for k in (
        "work", "file_created", "file_updated", "file_deleted", "batch_updated", "record_updated",
        "progress", "folder_changed", "dead_letter")}


def local_refs(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from local_refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from local_refs(value)


def test_asyncapi_refers_to_what_exists():
    doc = load_asyncapi()
    assert doc["asyncapi"].startswith("3.0")
    used = set()
    for ref in local_refs(doc):
        if ref.startswith("#/"):
            node = doc
            for step in ref[2:].split("/"):
                assert step in node, f"{ref} leads nowhere"
                node = node[step]
        else:
            used.add(ref)
            assert os.path.exists(os.path.join(rig.ROOT, "proto-schemas", ref)), ref
    assert used == {f"events/{name}" for name in os.listdir(SCHEMAS)}, "every schema has a message"


def test_asyncapi_names_the_topics(fleet):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": fleet.servers.kafka_brokers,
                                         "group.id": "contracts", "log_level": 0})
    topics = {t for t in consumer.list_topics(timeout=10).topics if t.startswith("docfleet.")}
    consumer.close()
    addresses = [c["address"] for c in load_asyncapi()["channels"].values()]
    assert sorted(addresses) == sorted(topics)


def messages_of_topics():
    """{topic: set of CloudEvents types that may be in it}, from asyncapi.yaml."""
    doc, found = load_asyncapi(), {}
    for channel in doc["channels"].values():
        names = set()
        for message in channel["messages"].values():
            message = doc["components"]["messages"][message["$ref"].rsplit("/", 1)[1]]
            ref = message["payload"].get("schema", {}).get("$ref")
            if ref:
                names.add("docfleet." + ref.split("/")[1].split(".")[0] + ".v1")
        found[channel["address"]] = names
    return found


def check(message, schemas, allowed):
    topic, value = message.topic(), message.value()
    event = json.loads(value)
    where = f"{topic} {value.decode()}"
    assert event["type"] in allowed[topic], where
    validator = jsonschema.Draft202012Validator(
        schemas[event["type"]], registry=Registry().with_resources(
            [(s["$id"], Resource.from_contents(s)) for s in schemas.values()]),
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    problems = [f"{e.json_path}: {e.message}" for e in validator.iter_errors(event)]
    assert not problems, f"{problems} in {where}"
    unknown = set(event["data"]) - set(schemas[event["type"]]["properties"]["data"]["properties"])
    assert not unknown, f"members no schema knows: {unknown} in {where}"
    work = event["type"] == "docfleet.work.v1"
    assert len(value) < (WORK_MAX if work else EVENT_MAX), where
    assert message.key().decode() == event["data"]["userId"], where
    headers = dict(message.headers() or [])
    assert headers["content-type"].startswith(b"application/cloudevents+json"), where
    assert set(headers) <= {"content-type", "traceparent"}, where
    if work:
        assert topic == f"docfleet.{event['data']['stage']}.v1", where
    else:
        assert event["id"] == str(event["data"]["pos"]), where
    return event


def work_of_all_kinds(client):
    """Files that end well and badly, one removed, one run again; gives the dataset."""
    dataset = client.dataset()
    answer = client.upload(dataset, [
        ("a.txt", b"Invoice number: R-17\nInvoice date: 3 March 2026\nTotal amount: 12.50 EUR\n"),
        ("broken.pdf", b"%PDF-1.4\nthis is no PDF\n"),
        ("empty.txt", b""),
        ("gone.txt", b"soon removed\n")])
    assert answer["batch"]["accepted"] == 3 and answer["batch"]["rejected"] == 1
    client.wait_all(dataset)
    ids = {f["name"]: f["id"] for f in answer["files"] if "id" in f}
    client.delete(f"/files/{ids['gone.txt']}")
    client.post(f"/files/{ids['a.txt']}/retry", json={"from": "text"})
    client.post(f"/files/{ids['broken.pdf']}/retry", json={})
    client.wait_all(dataset)
    return dataset


@pytest.fixture
def needs_workers(fleet):
    missing = [s for s in rig.SERVICES if not fleet.has(s)]
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")


def test_records_match_their_schemas(fleet, client, needs_workers):
    schemas, allowed = load_schemas(), messages_of_topics()
    with tap(fleet.servers) as read:
        work_of_all_kinds(client)
        messages = read()
    events = [check(message, schemas, allowed) for message in messages]
    seen = {e["type"].split(".")[1] for e in events}
    assert seen == {k.split(".")[1] for k in schemas} - RESERVED, "every kind was produced"
    stages = {e["data"]["stage"] for e in events if e["type"] == "docfleet.work.v1"}
    assert {"text", "ai", "preview", "clean"} <= stages

    # A position belongs to one event for good; all positions are there.
    by_pos = {}
    for event in events:
        if "pos" in event["data"]:
            assert by_pos.setdefault(event["data"]["pos"], event) == event
    positions = sorted(by_pos)
    assert positions == list(range(positions[0], positions[-1] + 1))


def test_users_see_the_same_events(fleet, client, needs_workers):
    """A server-sent event has the data of the record at that position."""
    schemas, allowed = load_schemas(), messages_of_topics()
    with tap(fleet.servers) as read, client.events() as stream:
        dataset = client.dataset()
        client.upload(dataset, [("sse.txt", b"Invoice number: 4\n")])
        client.wait_all(dataset)
        streamed = {}
        for event in stream:
            streamed[int(event["id"])] = event
            if event["data"].get("detail", {}).get("final"):
                break
        sent = {e["data"]["pos"]: e for e in (check(m, schemas, allowed) for m in read())
                if "pos" in e["data"]}
    assert streamed
    for pos, event in streamed.items():
        assert sent[pos]["type"] == f"docfleet.{event['event']}.v1"
        data = event["data"]
        for name in ("fileId", "state", "stage", "batchId"):
            assert data.get(name) == sent[pos]["data"].get(name), (name, event, sent[pos])
