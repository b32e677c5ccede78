# SPDX-License-Identifier: Apache-2.0
"""The gateway alone, on real Postgres and S3: what it accepts, refuses, leaves behind and shows."""
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import threading
import time

import hypothesis
import pytest
import schemathesis

from lib import rig

UNKNOWN = "01900000-0000-7000-8000-00000000dead"


@pytest.fixture(scope="module")
def gateway(servers):
    """A fleet of which only the gateway runs: nothing takes the tasks away."""
    made = rig.Fleet(servers, env={"DOCFLEET_MAX_FILE_SIZE": "3MiB"})
    made.start("ingest-gateway")
    yield made
    made.stop()


@pytest.fixture
def alice(gateway):
    return gateway.client("alice")


@pytest.fixture
def dataset(alice):
    return alice.dataset()


def problem(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["requestId"] == response.headers["X-Request-Id"]
    return body


def multipart(parts, boundary="bnd"):
    """parts: (headers text, bytes)"""
    out = b""
    for head, data in parts:
        out += b"--" + boundary.encode() + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n"
    return out + b"--" + boundary.encode() + b"--\r\n"


def part(name, data, field=b"file"):
    name = name if isinstance(name, bytes) else name.encode()
    return (b'Content-Disposition: form-data; name="' + field + b'"; filename="' + name + b'"', data)


def post_parts(client, dataset, parts, expect=202, headers=None):
    return client.request("POST", f"/datasets/{dataset}/files", expect, data=multipart(parts),
                          headers=dict(headers or {},
                                       **{"Content-Type": "multipart/form-data; boundary=bnd"}))


def raw(gateway, data, timeout=10):
    """Sends bytes, gives what comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", gateway.gateway_port), timeout) as s:
        s.sendall(data)
        got = b""
        try:
            while chunk := s.recv(65536):
                got += chunk
        except (TimeoutError, ConnectionResetError):
            pass
        return got


# --- acceptance -----------------------------------------------------------------------------------

def test_accept_makes_rows_tasks_events_and_objects(gateway, alice, dataset):
    data = b"hello\nworld\n"
    answer = alice.upload(dataset, {"a.txt": data})
    assert answer["batch"] | {"id": ""} == {"id": "", "total": 1, "accepted": 1, "rejected": 0}
    made = answer["files"][0]
    assert made["sha256"] == hashlib.sha256(data).hexdigest() and made["size"] == len(data)
    row = gateway.one("select f.state, f.bytes, v.object_key, v.mime, v.kind from file f"
                      " join file_version v using (file_id, version) where file_id = %s", made["id"])
    assert row["state"] == 1 and row["mime"] == "text/plain"
    assert gateway.object(row["object_key"]) == data
    stages = gateway.sql("select stage, state, q from task where file_id = %s order by 1",
                         made["id"])
    assert [(t["stage"], t["state"], t["q"]) for t in stages] == [(1, 0, 0), (4, 0, 0)]
    assert gateway.one("select count(*) from event where file_id = %s", made["id"]) == 1
    summary = alice.json(f"/datasets/{dataset}/summary")
    assert summary["files"]["total"] == 1 and summary["files"]["byState"]["processing"] == 1
    assert summary["stages"]["text"]["pending"] == 1
    batch = alice.json(f"/batches/{answer['batch']['id']}")
    assert batch["total"] == 1 and batch["byState"]["processing"] == 1
    shown = alice.file(made["id"])
    assert shown["state"] == "processing" and shown["pipelines"]["main"]["state"] == "waiting"
    assert [e["kind"] for e in alice.json(f"/files/{made['id']}/timeline")["items"]] == ["file_created"]


def test_refused_parts_do_not_stop_the_others(gateway, alice, dataset):
    before = set(gateway.objects())
    parts = [part("good.txt", b"good"), part("empty.txt", b""), part("../up.txt", b"x"),
             part("a\x01b.txt", b"x"), part(b"\xff\xfe.txt", b"x"), part("n" * 256, b"x"),
             part("good.txt", b"again"), part("big.bin", b"b" * (3 * 1024 * 1024 + 1)),
             (b'Content-Disposition: form-data; name="file"', b"nameless"),
             part("also good.csv", b"a,b\n1,2\n")]
    answer = post_parts(alice, dataset, parts).json()
    codes = [f.get("error", {}).get("code") for f in answer["files"]]
    assert codes == [None, "empty_file", "invalid_name", "invalid_name", "invalid_name",
                     "invalid_name", "invalid_name", "file_too_large", "invalid_name", None]
    assert answer["files"][6]["error"]["detail"] == "two parts of the same name"
    assert answer["batch"]["total"] == 10 and answer["batch"]["accepted"] == 2
    assert len(set(gateway.objects()) - before) == 2
    batch = alice.json(f"/batches/{answer['batch']['id']}")
    assert batch["rejected"] == 8 and len(batch["rejects"]) == 8
    assert not gateway.s3().list_multipart_uploads(Bucket=gateway.bucket).get("Uploads")


def test_manifest(alice, dataset):
    data = b"some bytes"
    good = {"name": "a", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = json.dumps([good, dict(good, name="b", size=3), {"name": "c"}]).encode()
    head = (b'Content-Disposition: form-data; name="manifest"', manifest)
    answer = post_parts(alice, dataset, [head, part("a", data), part("b", data)]).json()
    assert [f.get("error", {}).get("code") for f in answer["files"]] == \
        [None, "hash_mismatch", "upload_failed"]
    late = post_parts(alice, dataset, [part("a", data), head], 400)
    problem(late, 400, "bad_request")
    problem(post_parts(alice, dataset, [(head[0], b"[nope")], 400), 400, "malformed_json")


def test_limits_of_the_request(gateway, alice, dataset):
    before = set(gateway.objects())
    many = [part(f"f{i}", b"x") for i in range(1001)]
    problem(post_parts(alice, dataset, many, 413), 413, "too_many_parts")
    fat = (b'Content-Disposition: form-data; name="file"; filename="a"\r\nX: ' + b"y" * 9000, b"x")
    problem(post_parts(alice, dataset, [fat], 431), 431, "part_header_too_large")
    problem(alice.request("POST", f"/datasets/{dataset}/files", data=b"{}",
                          headers={"Content-Type": "application/json"}), 415, "unsupported_media_type")
    problem(alice.request("POST", f"/datasets/{dataset}/files", data=b"--bnd\r\n",
                          headers={"Content-Type": "multipart/form-data; boundary=bnd"}),
            400, "malformed_multipart")
    problem(post_parts(alice, dataset, [], 422), 422, "no_files")
    assert set(gateway.objects()) == before
    assert gateway.one("select count(*) from batch where dataset_id = %s", dataset) == 0


def test_cut_body_leaves_nothing(gateway, alice, dataset):
    before = set(gateway.objects())
    body = multipart([part("one.txt", b"1" * 5000), part("two.bin", b"2" * 2000000)])
    head = (f"POST /api/v1/datasets/{dataset}/files HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {alice.key}\r\nIdempotency-Key: cut-1\r\n"
            "Content-Type: multipart/form-data; boundary=bnd\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    s = socket.create_connection(("127.0.0.1", gateway.gateway_port), 10)
    s.sendall(head + body[:1500000])
    rig.wait_until(lambda: set(gateway.objects()) - before, what="the first part is stored")
    s.close()
    rig.wait_until(lambda: set(gateway.objects()) == before, 45, what="the object is taken back")
    assert not gateway.s3().list_multipart_uploads(Bucket=gateway.bucket).get("Uploads")
    assert gateway.one("select count(*) from batch where dataset_id = %s", dataset) == 0
    again = alice.request("POST", f"/datasets/{dataset}/files", 202, data=body, headers={
        "Content-Type": "multipart/form-data; boundary=bnd", "Idempotency-Key": "cut-1"}).json()
    assert again["batch"]["accepted"] == 2


def test_idempotency_of_uploads(gateway, alice, dataset):
    files = {"a.txt": b"aaa", "b.txt": b"bbb"}
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    first = alice.upload(dataset, files, headers=headers)
    objects = set(gateway.objects())
    assert alice.upload(dataset, files, headers=headers) == first
    assert set(gateway.objects()) == objects
    other = alice.request("POST", f"/datasets/{dataset}/files", headers=headers,
                          files=[("file", ("a.txt", b"xxx"))])
    problem(other, 409, "idempotency_conflict")
    assert set(gateway.objects()) == objects
    assert alice.json(f"/datasets/{dataset}/summary")["files"]["total"] == 2


def test_idempotency_at_once(gateway, alice, dataset):
    """Two at the same time: one batch, the same answer for both, no object left over."""
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    got = []
    before = set(gateway.objects())

    def one():
        got.append(rig.Client(alice.api, alice.key).upload(dataset, {"a.bin": b"z" * 500000},
                                                           headers=headers))
    threads = [threading.Thread(target=one) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(got) == 4 and all(g == got[0] for g in got)
    assert len(set(gateway.objects()) - before) == 1


def test_idempotency_of_datasets(alice):
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    body = {"name": "once", "columns": [{"name": "x", "type": "string"}]}
    first = alice.post("/datasets", 201, json=body, headers=headers)
    second = alice.post("/datasets", 201, json=body, headers=headers)
    assert first.json() == second.json() and second.headers["Idempotent-Replayed"] == "true"
    problem(alice.request("POST", "/datasets", json=dict(body, name="twice"), headers=headers), 409,
            "idempotency_conflict")


# --- datasets -------------------------------------------------------------------------------------

def test_dataset_life(alice):
    made = alice.post("/datasets", 201, json={"name": "life", "columns": [
        {"name": "a", "type": "string"}, {"name": "b", "type": "enum", "enum": ["x", "y"]}]}).json()
    assert [c["id"] for c in made["columns"]] == ["c1", "c2"] and made["schemaVersion"] == 1
    renamed = alice.request("PATCH", f"/datasets/{made['id']}", 200, json={"name": "new"}).json()
    assert renamed["name"] == "new"
    put = alice.request("PUT", f"/datasets/{made['id']}/schema", 200,
                        json={"columns": [{"name": "only", "type": "date"}]}).json()
    assert put["schemaVersion"] == 2 and [c["name"] for c in put["columns"]] == ["only"]
    alice.upload(made["id"], {"x.txt": b"x"})
    assert alice.delete(f"/datasets/{made['id']}").json()["removed"] == 1
    problem(alice.request("GET", f"/datasets/{made['id']}"), 404, "not_found")
    assert made["id"] not in [d["id"] for d in alice.json("/datasets")["items"]]


def test_bad_schemas(alice):
    for columns in ([], None, "x", [{"name": "a", "type": "nope"}], [{"type": "string"}],
                    [{"name": "a", "type": "string"}] * 2, [{"name": "a", "type": "string"}] * 101):
        body = problem(alice.request("POST", "/datasets", json={"name": "d", "columns": columns}),
                       422, "invalid_schema")
        assert body["errors"] and body["errors"][0]["pointer"].startswith("/columns")
    for name in ("", " ", "a\nb", 5, None, "x" * 201):
        problem(alice.request("POST", "/datasets", json={"name": name, "columns": [
            {"name": "a", "type": "string"}]}), 422, "invalid_value")


def test_dataset_pages(gateway):
    client = gateway.client("pager")
    made = [client.dataset() for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = client.json("/datasets", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        seen += [d["id"] for d in page["items"]]
        cursor = page["nextCursor"]
        if not cursor:
            break
    assert seen == made[::-1]


# --- lists ----------------------------------------------------------------------------------------

def test_file_lists(alice, dataset):
    names = ["b.txt", "a.txt", "C.txt", "Invoice 100%_1.txt", "ä.txt"]
    for i, name in enumerate(names):
        alice.upload(dataset, {name: b"x" * (10 - i)})

    def listed(**params):
        got, cursor = [], None
        while True:
            page = alice.json(f"/datasets/{dataset}/files",
                              params=dict(params, limit=2, **({"cursor": cursor} if cursor else {})))
            got += [f["name"] for f in page["items"]]
            cursor = page["nextCursor"]
            if not cursor:
                return got
    assert listed() == names[::-1] and listed(sort="createdAt") == names
    assert listed(sort="name") == sorted(names) and listed(sort="name:desc") == sorted(names)[::-1]
    assert listed(sort="size") == names[::-1] and listed(sort="-size") == names
    assert listed(q="VOICE") == ["Invoice 100%_1.txt"] and listed(q="a.") == ["a.txt"]
    assert listed(q="100%_") == ["Invoice 100%_1.txt"] and listed(q="%") == []
    assert len(listed(state="processing,failed")) == 5 and listed(state="done") == []
    assert len(listed(stage="text")) == 5 and listed(stage="ocr") == []
    for bad in ({"state": "nope"}, {"sort": "nope"}, {"limit": "0"}, {"limit": "201"},
                {"cursor": "x"}, {"stage": "clean"}):
        problem(alice.request("GET", f"/datasets/{dataset}/files", params=bad), 400, "bad_request")
    cursor = alice.json(f"/datasets/{dataset}/files", params={"limit": 1})["nextCursor"]
    problem(alice.request("GET", f"/datasets/{dataset}/files",
                          params={"cursor": cursor, "sort": "name"}), 400, "bad_request")


# --- bytes ----------------------------------------------------------------------------------------

def test_content(gateway, alice, dataset):
    data = os.urandom(1500000)
    name = 'a "q" €.bin'
    made = alice.upload(dataset, [(name.replace('"', "'"), data)])["files"][0]
    path = f"/files/{made['id']}/content"
    whole = alice.get(path)
    etag = f'"{made["sha256"]}"'
    assert whole.content == data and whole.headers["ETag"] == etag
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in whole.headers["Content-Security-Policy"]
    assert whole.headers["Content-Disposition"].startswith("attachment; filename=")
    assert "filename*=UTF-8''" in whole.headers["Content-Disposition"]
    for spec, want in (("bytes=0-0", data[:1]), ("bytes=100-1400000", data[100:1400001]),
                       ("bytes=-7", data[-7:]), ("bytes=1499999-", data[-1:])):
        got = alice.get(path, 206, headers={"Range": spec})
        assert got.content == want
    got = alice.get(path, 206, headers={"Range": "bytes=5-9"})
    assert got.headers["Content-Range"] == "bytes 5-9/1500000" and got.headers["Content-Length"] == "5"
    bad = alice.get(path, 416, headers={"Range": "bytes=1500000-"})
    assert bad.headers["Content-Range"] == "bytes */1500000"
    assert alice.get(path, 200, headers={"Range": "bytes=0-1,3-4"}).content == data
    assert alice.get(path, 200, headers={"Range": "bytes=0-1", "If-Range": '"x"'}).content == data
    assert alice.get(path, 304, headers={"If-None-Match": etag}).content == b""
    head = alice.request("HEAD", path, 200)
    assert head.headers["Content-Length"] == "1500000" and head.content == b""


def test_results_as_rows_say(gateway, alice, dataset):
    """Text, words, pictures and records as stages leave them."""
    made = alice.upload(dataset, {"doc.txt": b"x"})["files"][0]["id"]
    s3 = gateway.s3()
    s3.put_object(Bucket=gateway.bucket, Key="artifacts/t", Body="Aé one..second".encode())
    words = json.dumps({"page": 1, "width": 100, "height": 200,
                        "words": [[0.1, 0.1, 0.2, 0.2, 0, 2, 1], [0.3, 0.1, 0.4, 0.2, 3, 6, 0.5]]})
    s3.put_object(Bucket=gateway.bucket, Key="artifacts/w", Body=words.encode())
    s3.put_object(Bucket=gateway.bucket, Key="artifacts/p", Body=b"RIFFwebp")
    for page, start, size, key in ((1, 0, 7, "artifacts/w"), (2, 9, 6, None), (3, 0, 0, None)):
        gateway.sql("insert into file_page (file_id, version, page, generation, engine, chars, width,"
                    " height, text_key, text_start, text_bytes, words_key, words_start, words_bytes)"
                    " values (%s,1,%s,1,'native',6,100,200,%s,%s,%s,%s,0,%s)", made, page,
                    "artifacts/t" if size else None, start, size, key, len(words) if key else None)
    for kind, page in (("page", 1), ("thumb", 256)):
        gateway.sql("insert into artifact (file_id, version, generation, stage, unit, kind, page,"
                    " object_key, bytes, mime, meta) values (%s,1,1,4,0,%s,%s,'artifacts/p',8,"
                    "'image/webp','{\"width\":80,\"height\":60}')", made, kind, page)
    assert alice.get(f"/files/{made}/text?page=1").text == "Aé one"
    assert alice.get(f"/files/{made}/text").content.decode() == "Aé one\fsecond\f"
    pages = alice.get(f"/files/{made}/text", headers={"Accept": "application/json"}).json()["pages"]
    assert [p["page"] for p in pages] == [1, 2, 3] and pages[0]["engine"] == "native"
    got = alice.json(f"/files/{made}/preview/1/words")
    assert [w["text"] for w in got["words"]] == ["Aé", "one"] and got["width"] == 100
    assert got["words"][0]["box"] == pytest.approx([0.1, 0.1, 0.2, 0.2])
    preview = alice.json(f"/files/{made}/preview")
    assert preview["total"] == 1 and preview["pages"][0]["textHref"]
    picture = alice.get(preview["pages"][0]["href"])
    assert picture.content == b"RIFFwebp" and picture.headers["Content-Type"] == "image/webp"
    assert alice.get(f"/files/{made}/thumbnail?size=256").content == b"RIFFwebp"
    problem(alice.request("GET", f"/files/{made}/thumbnail?size=64"), 404, "not_found")
    problem(alice.request("GET", f"/files/{made}/thumbnail?size=65"), 400, "bad_request")
    problem(alice.request("GET", f"/files/{made}/text?page=9"), 404, "not_found")
    shown = alice.file(made)["artifacts"]
    assert shown["text"]["pages"] == 2 and shown["preview"]["pages"] == 1
    assert shown["thumbnail"] == {"href": f"/api/v1/files/{made}/thumbnail", "width": 80, "height": 60}


def test_records(gateway):
    alice = gateway.client("recorder")
    dataset = alice.dataset(columns=[
        {"name": "No", "type": "string"}, {"name": "Lines", "type": "rows", "itemColumns": [
            {"name": "what", "type": "string"}, {"name": "n", "type": "integer"}]},
        {"name": "Sum", "type": "money"}])
    files = alice.upload(dataset, {f"f{i}.txt": b"x%d" % i for i in range(3)})["files"]
    for i, f in enumerate(files):
        record = gateway.one(
            "insert into record (record_id, file_id, dataset_id, user_id, version, generation,"
            " schema_version, backend, \"values\", cells) select gen_random_uuid(), file_id,"
            " dataset_id, user_id, 1, 1, 1, 'rules', %s::jsonb, '{}' from file where file_id = %s"
            " returning record_id", 
            json.dumps({"c1": f"=N{i}", "c3": {"amount": "-1.50", "currency": "EUR"}}), f["id"])
        gateway.sql("insert into record_row (record_id, column_id, row_no, \"values\", cells)"
                    " select %s, 'c2', k, jsonb_build_object('i1', 'a,b', 'i2', -k), '{}'"
                    " from generate_series(0, %s) k", record, 200 if i == 2 else 1)
        gateway.sql("update file set record_generation = 1, main_state = 2 where file_id = %s", f["id"])
    one = alice.json(f"/files/{files[0]['id']}/record")["items"]
    assert one[0]["values"] == {
        "No": "=N0", "Lines": [{"what": "a,b", "n": 0}, {"what": "a,b", "n": -1}],
        "Sum": {"amount": "-1.50", "currency": "EUR"}}
    big = alice.json(f"/files/{files[2]['id']}/record")["items"][0]["values"]["Lines"]
    assert big["count"] == 201
    rows = alice.json(big["href"], params={"limit": 200})
    assert len(rows["items"]) == 200 and rows["nextAfter"] == 199
    assert len(alice.json(f"/datasets/{dataset}/records", params={"limit": 2})["items"]) == 2
    lines = alice.get(f"/datasets/{dataset}/records?format=ndjson").text.splitlines()
    assert len(lines) == 3 and json.loads(lines[0])["backend"] == "rules"
    csv = alice.get(f"/datasets/{dataset}/records", headers={"Accept": "text/csv"}).content.decode("utf-8-sig")
    assert csv.splitlines()[0] == "id,fileId,file,No,Sum,Sum currency"
    assert "\"'=N0\",-1.50,EUR\r\n" in csv
    by_row = alice.get(f"/datasets/{dataset}/records?format=csv&rows=Lines").text
    assert by_row.count("\"a,b\",-1\r\n") == 3 and by_row.count("\r\n") == 1 + 201 + 4
    problem(alice.request("GET", f"/datasets/{dataset}/records?format=xml"), 400, "bad_request")


# --- actions --------------------------------------------------------------------------------------

def test_remove_cancel_retry(gateway, alice, dataset):
    ids = [f["id"] for f in alice.upload(dataset, {f"{i}.txt": b"%d" % i for i in range(6)})["files"]]
    assert alice.post(f"/files/{ids[0]}/cancel").json() == {"cancelled": 1}
    assert alice.file(ids[0])["state"] == "cancelled"
    assert alice.post(f"/files/{ids[0]}/retry", json={"from": "text"}).json()["retried"] == 1
    assert alice.file(ids[0])["state"] == "processing"
    problem(alice.request("POST", f"/files/{ids[0]}/retry", json={"from": "x"}), 422, "invalid_value")
    assert alice.delete(f"/files/{ids[0]}").json() == {"removed": 1}
    problem(alice.request("GET", f"/files/{ids[0]}"), 404, "not_found")
    problem(alice.request("DELETE", f"/files/{ids[0]}"), 404, "not_found")
    remove = f"/datasets/{dataset}/files/remove"
    assert alice.post(remove, json={"ids": ids[:2] + [UNKNOWN]}).json()["removed"] == 1
    problem(alice.request("POST", remove, json={"filter": {"stat": "done"}}), 422, "invalid_value")
    problem(alice.request("POST", remove, json={}), 422, "invalid_value")
    assert alice.post(remove, json={"filter": {"q": "2.txt"}}).json()["removed"] == 1
    assert alice.post(remove, json={"filter": {"state": ["processing"]}}).json()["removed"] == 3
    assert alice.json(f"/datasets/{dataset}/summary")["files"]["total"] == 0
    assert alice.json(f"/datasets/{dataset}/files")["items"] == []
    batch = alice.upload(dataset, {"x.txt": b"x", "y.txt": b"y"})["batch"]["id"]
    assert alice.post(f"/batches/{batch}/cancel").json()["cancelled"] == 2
    assert alice.json(f"/batches/{batch}/summary")["byState"]["cancelled"] == 2


# --- who may --------------------------------------------------------------------------------------

def test_others_things_are_absent(gateway, alice, dataset):
    mine = alice.upload(dataset, {"m.txt": b"m"})
    file, batch = mine["files"][0]["id"], mine["batch"]["id"]
    bob = gateway.client("bob")
    for method, path, body in (
            ("GET", f"/datasets/{dataset}", None), ("PATCH", f"/datasets/{dataset}", {"name": "b"}),
            ("DELETE", f"/datasets/{dataset}", None), ("GET", f"/datasets/{dataset}/files", None),
            ("GET", f"/datasets/{dataset}/summary", None), ("GET", f"/datasets/{dataset}/records", None),
            ("GET", f"/datasets/{dataset}/records?format=csv", None),
            ("PUT", f"/datasets/{dataset}/schema", {"columns": [{"name": "a", "type": "string"}]}),
            ("POST", f"/datasets/{dataset}/files/remove", {"ids": [file]}),
            ("POST", f"/datasets/{dataset}/files/retry", {}),
            ("GET", f"/files/{file}", None), ("DELETE", f"/files/{file}", None),
            ("GET", f"/files/{file}/content", None), ("GET", f"/files/{file}/text", None),
            ("GET", f"/files/{file}/text?page=1", None), ("GET", f"/files/{file}/words", None),
            ("GET", f"/files/{file}/record", None), ("GET", f"/files/{file}/timeline", None),
            ("GET", f"/files/{file}/preview", None), ("GET", f"/files/{file}/preview/1.webp", None),
            ("GET", f"/files/{file}/thumbnail", None), ("POST", f"/files/{file}/retry", {}),
            ("POST", f"/files/{file}/cancel", {}), ("GET", f"/batches/{batch}", None),
            ("GET", f"/batches/{batch}/summary", None), ("POST", f"/batches/{batch}/cancel", {}),
            ("POST", f"/batches/{batch}/retry", {})):
        problem(bob.request(method, path, json=body), 404, "not_found")
    problem(bob.request("POST", f"/datasets/{dataset}/files", files={"file": ("a", b"x")}), 404, "not_found")
    assert alice.file(file)["state"] == "processing"


def test_credentials_and_scopes(gateway, alice):
    for key in ("", "x", alice.key[:-1] + ("0" if alice.key[-1] != "0" else "1"), "dfk_nobody_" + "0" * 64):
        got = rig.Client(alice.api, key).request("GET", "/datasets")
        problem(got, 401, "unauthorized")
        assert got.headers["WWW-Authenticate"] == "Bearer"
    made = alice.post("/api-keys", 201, json={"scopes": ["read"], "name": "ro"}).json()
    reader = rig.Client(alice.api, made["key"])
    assert reader.json("/auth/me")["scopes"] == ["read"]
    problem(reader.request("POST", "/datasets", json={}), 403, "forbidden")
    problem(alice.request("POST", "/api-keys", json={"scopes": ["admin"]}), 403, "forbidden")
    problem(alice.request("GET", "/admin/stages"), 403, "forbidden")
    assert made["id"] in [k["id"] for k in alice.json("/api-keys")["items"]]
    alice.delete(f"/api-keys/{made['id']}", 204)
    problem(reader.request("GET", "/auth/me"), 401, "unauthorized")


def test_admin(gateway, alice, dataset):
    admin = gateway.client("root", admin=True)
    user = admin.post("/admin/users", 201, json={"name": "made-" + secrets.token_hex(3)}).json()
    key = admin.post("/api-keys", 201, json={"userId": user["id"]}).json()["key"]
    assert rig.Client(alice.api, key).json("/auth/me")["id"] == user["id"]
    problem(admin.request("POST", "/admin/users", json={"name": user["name"]}), 409, "name_taken")
    assert [s["stage"] for s in admin.json("/admin/stages")["items"]][:2] == ["text", "ocr"]
    file = alice.upload(dataset, {"d.txt": b"d"})["files"][0]["id"]
    gateway.sql("update task set state = 5, q = null where file_id = %s and stage = 1", file)
    gateway.sql("update file set state = 3, main_state = 3 where file_id = %s", file)
    gateway.sql("insert into dead_letter (id, file_id, user_id, stage, unit, generation, reason, class,"
                " attempts, failures, crashes, last_error, first_at) select gen_random_uuid(), file_id,"
                " user_id, 1, 0, 1, 'corrupt', 'permanent', 1, 0, 0, 'x', now() from file where file_id = %s",
                file)
    letters = admin.json("/admin/dead-letters", params={"fileId": file})["items"]
    assert letters[0]["stage"] == "text" and letters[0]["reason"] == "corrupt"
    body = {"filter": {"fileId": file}, "dryRun": True}
    assert admin.post("/admin/dead-letters/replay", json=body).json()["matched"] == 1
    assert alice.file(file)["state"] == "failed"
    got = admin.post("/admin/dead-letters/replay", json=dict(body, dryRun=False)).json()
    assert got["replayed"] == 1 and alice.file(file)["state"] == "processing"
    problem(admin.request("POST", "/admin/dead-letters/discard", json={}), 422, "invalid_value")


# --- the contract ---------------------------------------------------------------------------------

def routes():
    """(method, path): scope, out of the gateway's table; without the console, which has all the rest."""
    with open(f"{rig.ROOT}/services/ingest-gateway/routes.c", encoding="utf-8") as f:
        found = re.findall(r'\{"([A-Z]+)", (V1 )?"([^"]+)",\s+SCOPE_([A-Z]+)', f.read())
    return {(m, ("/api/v1" if v1 else "") + p): s.lower() for m, v1, p, s in found if p != "/"}


def test_description_names_every_route(gateway, alice):
    paths = alice.json("/openapi.json")["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item if method != "parameters"}
    assert described == set(routes())


def test_description_names_every_scope(gateway, alice):
    paths = alice.json("/openapi.json")["paths"]
    for (method, path), scope in routes().items():
        op = paths[path][method.lower()]
        assert op["x-scope"] == scope, (method, path)
        assert (op.get("security") == []) == (scope == "none"), (method, path)


def check_operation(op, ids, session):
    @hypothesis.settings(max_examples=3, deadline=None, database=None, derandomize=True,
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=op.as_strategy())
    def run(case):
        kind = op.path.removeprefix("/api/v1").split("/")[1]
        if "{id}" in op.path and kind in ids:
            case.path_parameters["id"] = ids[kind]
        elif kind == "s":
            case.path_parameters["token"] = ids[kind]
        response = case.call(session=session)
        case.validate_response(response, checks=[
            schemathesis.checks.not_a_server_error,
            schemathesis.checks.response_schema_conformance,
            schemathesis.checks.content_type_conformance])
    run()


def test_answers_match_the_description(gateway, alice, dataset):
    """Generated requests, good and bad; what comes back is what the description says."""
    schema = schemathesis.openapi.from_url(f"{gateway.api}/openapi.json")
    file = alice.upload(dataset, {"s.txt": b"schema"})
    ids = {"datasets": dataset, "files": file["files"][0]["id"], "batches": file["batch"]["id"],
           "records": UNKNOWN}
    ids["s"] = alice.post(f"/files/{ids['files']}/share", 201, json={}).json()["token"]
    seen = set()
    for operation in schema.get_all_operations():
        op = operation.ok()
        if not op.path.endswith("/events") and op.method != "delete":
            check_operation(op, ids, alice.session)
            seen.add(op.path)
    assert len(seen) > 30


# --- the protocol ---------------------------------------------------------------------------------

def test_addresses_and_methods(gateway, alice, dataset):
    problem(alice.request("GET", "/nothing"), 404, "not_found")
    problem(alice.request("GET", "/files/not-a-uuid"), 404, "not_found")
    problem(alice.request("GET", f"/files/{UNKNOWN}/preview/0.webp"), 404, "not_found")
    got = alice.request("DELETE", f"/datasets/{dataset}/files")
    problem(got, 405, "method_not_allowed")
    assert got.headers["Allow"] == "GET, HEAD, POST"
    problem(alice.request("POST", "/datasets", data="{}", headers={"Content-Type": "text/plain"}), 415,
            "unsupported_media_type")
    for text in ("", "{", "[1]", '{"a":1,"a":2}', "[" * 40 + "]" * 40):
        got = alice.request("POST", "/datasets", data=text, headers={"Content-Type": "application/json"})
        assert got.status_code in (400, 422) and got.json()["code"] in ("malformed_json", "invalid_json")
    big = alice.request("POST", "/datasets", data=b" " * (1 << 20) + b"{}",
                        headers={"Content-Type": "application/json"})
    problem(big, 413, "body_too_large")
    for query in ("limit=1&limit=2", "q=%zz", "q=%00", "q=%ff"):
        got = raw(gateway, f"GET /api/v1/datasets/{dataset}/files?{query} HTTP/1.1\r\nHost: x\r\n"
                           f"Authorization: Bearer {alice.key}\r\nConnection: close\r\n\r\n".encode())
        assert got.startswith(b"HTTP/1.1 400") and b'"bad_request"' in got
    assert alice.get("/openapi.json").json()["openapi"] == "3.1.0"
    one = alice.get(f"/datasets/{dataset}")
    assert alice.get(f"/datasets/{dataset}", 304, headers={"If-None-Match": one.headers["ETag"]}).content == b""
    mine = alice.get("/datasets", headers={"X-Request-Id": "abc-12345678"})
    assert mine.headers["X-Request-Id"] == "abc-12345678"


def test_smuggling_is_refused(gateway):
    base = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n"
    for extra in (b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                  b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                  b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"Content-Length : 5\r\n\r\nhello",
                  b"Host: y\r\n\r\n", b"Content-Length: -1\r\n\r\n", b"Content-Length: +1\r\n\r\nx",
                  b"Bad Name: x\r\n\r\n", b"X: a\r\n b\r\nY Z: c\r\n\r\n"):
        got = raw(gateway, base + extra)
        assert got.startswith(b"HTTP/1.1 400"), (extra, got[:200])
        assert b" 200 OK" not in got and b"\r\nConnection: close\r\n" in got, extra
    assert raw(gateway, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_early_answer_to_a_large_body(gateway, dataset):
    """The answer arrives although the body is still on its way, with Expect and without."""
    for expect in (b"", b"Expect: 100-continue\r\n"):
        s = socket.create_connection(("127.0.0.1", gateway.gateway_port), 10)
        s.sendall(f"POST /api/v1/datasets/{dataset}/files HTTP/1.1\r\nHost: x\r\n".encode() + expect +
                  b"Authorization: Bearer dfk_no_0123456789012345678\r\n"
                  b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 50000000\r\n\r\n")
        if not expect:
            try:
                for _ in range(40):
                    s.sendall(b"x" * 65536)
            except (BrokenPipeError, ConnectionResetError):
                pass
        got = s.recv(65536)
        assert got.startswith(b"HTTP/1.1 401"), got[:100]
        s.close()


def test_console_paths_are_safe(gateway):
    for path in ("/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/assets/../index.html", "/.git/config",
                 "//etc/passwd", "/..%2f..%2fetc/passwd"):
        got = raw(gateway, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert got.split(b" ")[1] in (b"400", b"404"), (path, got[:100])
    page = raw(gateway, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    if os.path.exists(f"{rig.ROOT}/services/ingest-gateway/console/dist/index.html"):
        assert b"200 OK" in page and b"default-src 'none'; script-src 'self'" in page


# --- events ---------------------------------------------------------------------------------------

def give_positions(gateway):
    """What the dispatcher does, without it."""
    gateway.sql("update event set pos = o.n from (select event_id as id, nextval('test_pos') as n from"
                " (select event_id from event where pos is null order by event_id) e) o"
                " where event.event_id = o.id")


@pytest.fixture(scope="module")
def positions(gateway):
    gateway.sql("create sequence test_pos")
    give_positions(gateway)


def test_events_live_and_resumed(gateway, dataset, positions):
    alice = gateway.client("alice")
    give_positions(gateway)
    with alice.events() as stream:
        made = alice.upload(dataset, {"e1.txt": b"1"})["files"][0]["id"]
        give_positions(gateway)
        both = {e["event"]: e for e in (next(stream), next(stream))}
        assert set(both) == {"file_created", "batch_updated"}
        created = both["file_created"]["data"]
        assert created["fileId"] == made and created["datasetId"] == dataset
        assert created["state"] == "processing"
        first = min(both.values(), key=lambda e: int(e["id"]))
    alice.upload(dataset, {"e2.txt": b"2"})
    give_positions(gateway)
    with alice.events(last_event_id=first["id"]) as stream:
        kinds = [next(stream) for _ in range(3)]
        assert sorted(k["event"] for k in kinds[1:]) == ["batch_updated", "file_created"]
        ids = [int(k["id"]) for k in kinds]
        assert ids == sorted(ids) and ids[0] > int(first["id"])
    with gateway.client("bob").events(last_event_id=0) as stream:
        bob = gateway.client("bob")
        bob.upload(bob.dataset(), {"b.txt": b"b"})
        give_positions(gateway)
        assert next(stream)["data"].get("fileId") != made


def test_a_stream_begins_before_its_answer(gateway, positions):
    """Whatever happens once the answer is there is in the stream: no gap of some milliseconds."""
    carol = gateway.client("carol")
    me = carol.request("GET", "/auth/me").json()["id"]
    with gateway.db() as conn:
        for n in range(10):
            with carol.events(timeout=10) as stream:
                conn.execute("insert into event (user_id, kind, body, pos) values"
                             " (%s, 'batch_updated', %s, nextval('test_pos'))",
                             (me, json.dumps({"batchId": str(n)})))
                conn.commit()
                assert next(stream)["data"]["batchId"] == str(n)


def test_events_reset(gateway, positions):
    alice = gateway.client("alice")
    with alice.events(last_event_id=987654321) as stream:
        assert next(stream)["event"] == "reset"
    problem(alice.request("GET", "/events", headers={"Last-Event-ID": "x"}), 400, "bad_request")


# --- outages and the end --------------------------------------------------------------------------

def test_store_and_postgres_outage(gateway, servers, alice, dataset):
    servers.stop_server("s3")
    try:
        got = alice.request("POST", f"/datasets/{dataset}/files", files={"file": ("a.txt", b"x")})
        problem(got, 503, "store_unavailable")
        assert got.headers["Retry-After"]
    finally:
        servers.start_server("s3")
    servers.stop_server("postgres")
    try:
        got = alice.request("GET", f"/datasets/{dataset}/files")
        assert got.status_code == 503 and got.headers["Retry-After"]
        assert "postgres" not in got.text.lower()
    finally:
        servers.start_server("postgres")
    rig.wait_until(lambda: alice.request("GET", "/datasets").ok, 20, what="the gateway is back")


def test_drain(gateway, alice, dataset):
    """SIGTERM: an upload that is on its way ends well, the stream ends, the exit is clean."""
    body = multipart([part("slow.bin", b"s" * 300000)])
    s = socket.create_connection(("127.0.0.1", gateway.gateway_port), 20)
    s.sendall((f"POST /api/v1/datasets/{dataset}/files HTTP/1.1\r\nHost: x\r\n"
               f"Authorization: Bearer {alice.key}\r\nContent-Type: multipart/form-data; boundary=bnd\r\n"
               f"Content-Length: {len(body)}\r\n\r\n").encode() + body[:1000])
    time.sleep(0.3)
    with alice.events() as stream:
        gateway.process("ingest-gateway").send(signal.SIGTERM)
        assert list(stream) == []
    with pytest.raises(OSError):
        for _ in range(50):
            socket.create_connection(("127.0.0.1", gateway.gateway_port), 1).close()
            time.sleep(0.05)
    s.sendall(body[1000:])
    got = s.recv(65536)
    assert got.startswith(b"HTTP/1.1 202") and b"Connection: close" in got
    assert gateway.wait_end("ingest-gateway") == 0
    gateway.start("ingest-gateway")
