# SPDX-License-Identifier: Apache-2.0
"""Bad input: each gets its reason, the files beside it go on, and nothing stays in the store."""
import json
import os
import secrets
import socket

import pytest

from lib import invariants, rig

LIMIT = 2 << 20
ENV = {"DOCFLEET_MAX_FILE_SIZE": "2MiB", "DOCFLEET_SECOND_PASS": "500ms"}

# What a bad document earns
HOSTILE = {
    "encrypted.pdf": "encrypted", "truncated.jpg": "corrupt", "truncated.pdf": "corrupt",
    "zip-bomb.docx": "expands_too_much", "pixel-bomb.png": "too_many_pixels",
    "no-format.bin": "unsupported_type",
}
# Readable or not, as the parsers see it; but they end, and nothing of them grows or gets out
BOUNDED = ("loop.pdf", "deep.json", "billion.xml", "external.xml", "slip.docx", "nested.zip")
TEXT_MAX = 1 << 20
# Odd, but readable: (mime, what the text holds)
READABLE = {
    "really-a-png.pdf": ("image/png", ""),
    "really-a-pdf.txt": ("application/pdf", "NP-2024-0187"),
    "invalid-utf8.txt": ("text/plain", "Invoice number: BAD-1"),
    "huge-page.pdf": ("application/pdf", ""), "thin-page.pdf": ("application/pdf", ""),
}
GOOD = {"tiny.txt": "T-1", "letter.odt": "Jonas Petersen", "note.txt": "MN-5521"}


@pytest.fixture(scope="module")
def small(servers):
    """One fleet with a small limit for the whole module."""
    import conftest
    fleet = rig.Fleet(servers, ENV)
    conftest._activate(fleet)
    fleet.start()
    yield fleet
    conftest._stop_current()


@pytest.fixture
def alice(small):
    return small.client()


@pytest.fixture
def dataset(alice):
    return alice.dataset()


def part(name, data):
    name = name if isinstance(name, bytes) else name.encode()
    return (b'Content-Disposition: form-data; name="file"; filename="' + name + b'"', data)


def body_of(parts, edge=b"edge"):
    out = b"".join(b"--" + edge + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return out + b"--" + edge + b"--\r\n"


def post(client, dataset, parts, key=None):
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    if key:
        headers["Idempotency-Key"] = key
    return client.request("POST", f"/datasets/{dataset}/files", data=body_of(parts), headers=headers)


def problem(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    got = response.json()
    assert got["code"] == code and got["detail"] and got["status"] == status, got
    return got


def codes(answer):
    return {f["name"]: f["error"]["code"] for f in answer["files"] if "error" in f}


def ids(answer):
    return {f["name"]: f["id"] for f in answer["files"] if "id" in f}


def text_of(client, file_id):
    return client.get(f"/files/{file_id}/text").content.decode("utf-8")


def permanent(error):
    """A reason in words that tells nothing of how the fleet is built, found at the first attempt."""
    inner = any(word in error["detail"] for word in ("postgres", "://", "/tmp", ".c:"))
    return bool(error["detail"]) and not inner and (error["class"], error["retryable"], error["attempts"]) == \
        ("permanent", False, 1)


def remove_all(fleet, client, dataset, before):
    """Removes every file; then the store holds what it held before."""
    client.post(f"/datasets/{dataset}/files/remove", json={"filter": {}})
    assert client.files(dataset) == []
    rig.wait_until(lambda: not set(fleet.objects()) - before, 30, what="the store as before")


def nothing_came_of_it(fleet, client, dataset, before):
    assert not set(fleet.objects()) - before
    assert not fleet.s3().list_multipart_uploads(Bucket=fleet.bucket).get("Uploads")
    assert client.files(dataset) == []
    assert client.json(f"/datasets/{dataset}/summary")["files"]["total"] == 0
    assert fleet.one("SELECT count(*) FROM batch WHERE dataset_id = %s", dataset) == 0


# --- documents ------------------------------------------------------------------------------------

def test_bad_documents_fail_alone_and_say_why(small, alice, dataset, fixture_path):
    before = set(small.objects())
    pids = {n: p.pid for n, p in small.processes.items()}
    names = [*HOSTILE, *BOUNDED, *READABLE, *GOOD, "empty.txt"]
    answer = alice.upload(dataset, [fixture_path(n) for n in names])
    assert codes(answer) == {"empty.txt": "empty_file"}
    assert (answer["batch"]["accepted"], answer["batch"]["rejected"]) == (len(names) - 1, 1)
    files = {f["name"]: f for f in alice.wait_all(dataset, 180)}

    wrong = []
    for name, code in HOSTILE.items():
        error = files[name]["pipelines"]["main"]["error"] or {}
        if files[name]["state"] != "failed" or error.get("code") != code or \
                not permanent(error):
            wrong.append((name, files[name]["state"], error))
    assert not wrong, json.dumps(wrong, indent=1)
    for name, (mime, words) in READABLE.items():
        assert (files[name]["state"], files[name]["mime"]) == ("done", mime), files[name]
        assert words in text_of(alice, files[name]["id"])
    for name, words in GOOD.items():
        assert files[name]["state"] == "done", files[name]
        assert words in text_of(alice, files[name]["id"])
        assert alice.json(f"/files/{files[name]['id']}/record")["items"][0]["fileId"] == files[name]["id"]
    for name in BOUNDED:
        if files[name]["state"] == "failed":
            assert permanent(files[name]["pipelines"]["main"]["error"]), files[name]
        else:
            assert files[name]["state"] == "done", files[name]
            text = text_of(alice, files[name]["id"])
            assert len(text) < TEXT_MAX and "root:" not in text, name
    assert not os.path.exists("/tmp/docfleet-slip")

    assert {n: p.pid for n, p in small.processes.items() if p.alive()} == pids
    batch = alice.json(f"/batches/{answer['batch']['id']}")
    assert batch["total"] == len(names) and sum(batch["byState"].values()) == len(names) - 1
    invariants.wait_quiet(small)
    invariants.check_rows(small, list(ids(answer).values()))
    remove_all(small, alice, dataset, before)


# --- schemas --------------------------------------------------------------------------------------

@pytest.mark.parametrize("columns,pointer", [
    ([], "/columns"),
    ([{"name": "a", "type": "string"}, {"name": "b", "type": "colour"}], "/columns/1/type"),
], ids=["no column", "unknown type"])
def test_bad_schemas_make_no_dataset(alice, columns, pointer):
    name = "bad-" + secrets.token_hex(4)
    got = problem(alice.request("POST", "/datasets", json={"name": name, "columns": columns}), 422,
                  "invalid_schema")
    assert [e["pointer"] for e in got["errors"]] == [pointer] and got["errors"][0]["detail"]
    assert name not in [d["name"] for d in alice.json("/datasets", params={"limit": 200})["items"]]


def test_bad_schema_of_a_dataset_changes_nothing(alice, dataset):
    for columns in ([], [{"name": "a", "type": "colour"}]):
        problem(alice.request("PUT", f"/datasets/{dataset}/schema", json={"columns": columns}), 422,
                "invalid_schema")
    assert alice.json(f"/datasets/{dataset}")["schemaVersion"] == 1


# --- names and sizes ------------------------------------------------------------------------------

def test_bad_parts_are_refused_and_the_others_go_on(small, alice, dataset):
    before = set(small.objects())
    parts = [part("first.txt", b"Invoice number: P-1\n"), part("../../etc/passwd", b"x"),
             part("a/../b.txt", b"x"), part("..", b"x"), part("tab\there.txt", b"x"),
             part("bell\x07.txt", b"x"), part("line\x7f.txt", b"x"), part(b"bad-\xff\xfe.txt", b"x"),
             part(b"cut-\xc3.txt", b"x"), part("first.txt", b"again"), part("void.txt", b""),
             part("exact.bin", bytes(range(256)) * (LIMIT // 256)), part("over.bin", b"o" * (LIMIT + 1)),
             part("last.txt", b"Invoice number: P-2\n")]
    response = post(alice, dataset, parts)
    assert response.status_code == 202
    answer = response.json()
    got = [f.get("error", {}).get("code") for f in answer["files"]]
    bad = "invalid_name"
    assert got == [None, bad, bad, bad, bad, bad, bad, bad, bad, bad, "empty_file", None,
                   "file_too_large", None]
    assert all(f["error"]["detail"] for f in answer["files"] if "error" in f)
    batch = answer["batch"]
    assert (batch["total"], batch["accepted"], batch["rejected"]) == (14, 3, 11)
    assert len(set(small.objects()) - before - set(small.objects("artifacts/"))) == 3
    files = {f["name"]: f for f in alice.wait_all(dataset)}
    assert set(files) == {"first.txt", "exact.bin", "last.txt"}
    assert files["first.txt"]["state"] == files["last.txt"]["state"] == "done"
    assert "P-1" in text_of(alice, files["first.txt"]["id"])
    assert alice.json(f"/batches/{batch['id']}")["rejected"] == 11
    remove_all(small, alice, dataset, before)


def test_text_of_unknown_bytes_is_valid(small, alice, dataset):
    data = (b"Invoice number: BAD-1\n\xff\xfe\xc3\x28 stray \x80\x81 bytes\x00 and a null\n"
            b"Total amount: EUR 5.00\n")
    file_id = ids(alice.upload(dataset, {"stray.txt": data}))["stray.txt"]
    file = alice.wait_done(file_id)
    assert file["state"] == "done", file
    text = text_of(alice, file_id)
    assert "Invoice number: BAD-1" in text and "Total amount: EUR 5.00" in text and "\0" not in text
    values = alice.json(f"/files/{file_id}/record")["items"][0]["values"]
    assert values["Invoice number"] == "BAD-1"
    assert alice.get(f"/files/{file_id}/content").content == data


def test_names_are_shown_as_they_came(alice, dataset):
    names = ["naïve – Ωmega 文書.txt", "a \"quoted\" & <b>.txt", "...dots.txt", "%2e%2e%2fescape.txt"]
    answer = post(alice, dataset, [part(n.replace('"', "%22"), b"x %d" % i)
                                   for i, n in enumerate(names)]).json()
    assert codes(answer) == {}
    assert len({f["name"] for f in alice.files(dataset)}) == len(names)
    for file in alice.wait_all(dataset):
        assert file["state"] == "done"
        disposition = alice.get(f"/files/{file['id']}/content").headers["Content-Disposition"]
        assert "\n" not in disposition and "/" not in disposition.split(";", 1)[1].split("''")[0]


def test_a_body_over_the_limit_in_one_part(small, alice, dataset):
    before = set(small.objects())
    answer = post(alice, dataset, [part("huge.bin", secrets.token_bytes(1 << 16) * 64)])
    assert answer.status_code == 202
    got = answer.json()
    assert codes(got) == {"huge.bin": "file_too_large"} and got["batch"]["accepted"] == 0
    assert not set(small.objects()) - before and alice.files(dataset) == []
    assert not small.s3().list_multipart_uploads(Bucket=small.bucket).get("Uploads")


# --- cut bodies and repeated ones -----------------------------------------------------------------

def send_cut(fleet, client, dataset, data, n, key=None, chunked=False):
    """An open connection on which n bytes of the body have gone out."""
    s = socket.create_connection(("127.0.0.1", fleet.gateway_port), 20)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(data)}"
    head = (f"POST /api/v1/datasets/{dataset}/files HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {client.key}\r\n"
            + (f"Idempotency-Key: {key}\r\n" if key else "") +
            f"Content-Type: multipart/form-data; boundary=edge\r\n{length}\r\n\r\n")
    s.sendall(head.encode())
    s.sendall(b"%x\r\n" % n + data[:n] if chunked else data[:n])
    return s


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("where", ["in a header", "in a file", "before the end"])
def test_a_client_that_goes_leaves_nothing(small, alice, dataset, where, chunked):
    before = set(small.objects())
    parts = [part("one.txt", b"1" * 5000), part("two.bin", secrets.token_bytes(1 << 20)),
             part("three.txt", b"3" * 100)]
    data = body_of(parts)
    n = {"in a header": data.index(b"two.bin") + 3, "in a file": 700_000,
         "before the end": len(data) - 3}[where]
    s = send_cut(small, alice, dataset, data, n, chunked=chunked)
    rig.wait_until(lambda: set(small.objects("uploads/")) - before, what="the first part is stored")
    s.close()
    rig.wait_until(lambda: not set(small.objects()) - before, 40, what="the parts are taken back")
    nothing_came_of_it(small, alice, dataset, before)


def test_a_cut_body_is_sent_again_and_accepted_once(small, alice, dataset):
    before = set(small.objects())
    key = secrets.token_hex(8)
    parts = [part("a.txt", b"Invoice number: C-1\n"), part("b.txt", b"Invoice number: C-2\n" + b" " * 9000)]
    s = send_cut(small, alice, dataset, body_of(parts), 5000, key)
    rig.wait_until(lambda: set(small.objects("uploads/")) - before, what="the first part is stored")
    s.close()
    rig.wait_until(lambda: not set(small.objects()) - before, 40, what="the part is taken back")
    nothing_came_of_it(small, alice, dataset, before)

    first = post(alice, dataset, parts, key)
    assert first.status_code == 202 and first.json()["batch"]["accepted"] == 2
    again = post(alice, dataset, parts, key)
    assert (again.status_code, again.json()) == (202, first.json())
    files = alice.wait_all(dataset)
    assert sorted(f["name"] for f in files) == ["a.txt", "b.txt"]
    later = post(alice, dataset, parts, key)
    assert later.json() == first.json() and len(alice.files(dataset)) == 2
    assert len(set(small.objects("uploads/")) - before) == 2
    assert alice.json(f"/datasets/{dataset}/summary")["files"]["total"] == 2
    assert len(alice.json(f"/datasets/{dataset}/records")["items"]) == 2

    other = post(alice, dataset, [parts[0], part("b.txt", b"something else")], key)
    problem(other, 409, "idempotency_conflict")
    assert len(alice.files(dataset)) == 2 and len(set(small.objects("uploads/")) - before) == 2
    invariants.wait_quiet(small)
    invariants.check_rows(small)


def test_keys_of_others_do_not_meet(small, alice, dataset):
    key = secrets.token_hex(8)
    assert post(alice, dataset, [part("a.txt", b"mine")], key).status_code == 202
    bob = small.client("bob")
    other = bob.dataset()
    got = post(bob, other, [part("a.txt", b"bob's")], key)
    assert got.status_code == 202 and len(bob.files(other)) == 1


def test_the_store_holds_exactly_what_rows_name(small):
    invariants.wait_quiet(small)
    invariants.check_rows(small)
    invariants.check_objects(small)
