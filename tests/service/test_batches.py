# SPDX-License-Identifier: Apache-2.0
"""Batches: counts that add up at any moment, receipts, places in the queue, and elephants."""
import csv
import hashlib
import io
import json
import threading
import time

import pytest

from lib import invariants, rig
from test_gateway import problem
from test_gateway_admin import admin, alice, gateway, kill_units  # noqa: F401


def adds_up(batch):
    states = sum(batch["byState"].values())
    assert batch["total"] == batch["accepted"] + batch["rejected"], batch
    assert batch["accepted"] == states + batch["deleted"], batch
    assert all(n >= 0 for n in batch["byState"].values()), batch


def test_counts_add_up_while_files_flow(fleet, client):
    """Every answer, and the ledger's own question, while files are worked on, removed and cancelled."""
    dataset = client.dataset()
    text = b"Invoice number: R-1\nTotal amount: 3.00 EUR\n"
    batches, ids = [], []
    for k in range(4):
        parts = [(f"{k}-{i}.txt", text) for i in range(30)] + [("empty.txt", b"")]
        answer = client.upload(dataset, parts)
        batches.append(answer["batch"]["id"])
        ids += [f["id"] for f in answer["files"] if "id" in f]
    stop, failed, asked = threading.Event(), [], [0]

    def ask():
        reader = rig.Client(client.api, client.key)
        while not stop.is_set():
            try:
                for b in batches:
                    adds_up(reader.json(f"/batches/{b}/summary"))
                    asked[0] += 1
                adds_up(reader.json(f"/batches/{batches[0]}", params={"limit": 5}))
                files = reader.json(f"/datasets/{dataset}/summary")["files"]
                assert files["total"] == sum(files["byState"].values()), files
                invariants.check_ledger(fleet)
            except Exception as e:
                failed.append(e)
                return
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for t in threads:
        t.start()
    client.post(f"/datasets/{dataset}/files/remove", json={"ids": ids[5:25]})
    client.post(f"/batches/{batches[3]}/cancel")
    client.post(f"/files/{ids[0]}/retry", json={"from": "text"})
    client.wait_all(dataset)
    stop.set()
    for t in threads:
        t.join(30)
    assert not failed, failed[0]
    assert asked[0] > 20
    total = [client.json(f"/batches/{b}") for b in batches]
    assert all(b["total"] == 31 and b["rejected"] == 1 and b["state"] == "done" for b in total)
    assert sum(b["deleted"] for b in total) == 20
    # the same truth for operators and for the metric; and it bites
    assert "add up" in fleet.ctl("ledger")
    plant = "insert into count_delta (dataset_id, batch_id, to_state, n) values (%s, %s, 2, %s)"
    fleet.sql(plant, dataset, batches[1], 1)
    with pytest.raises(AssertionError, match="add up"):
        invariants.check_ledger(fleet)
    wrong = fleet.ctl("ledger", "--json", check=False)
    assert wrong.returncode == 1 and {r["what"] for r in json.loads(wrong.stdout)} >= {"batch_accepted"}
    # A cleaner shows it once it has swept.
    fleet.restart("cleaner", env={"DOCFLEET_CLEAN_INTERVAL": "200ms"})
    rig.wait_until(lambda: fleet.metrics("cleaner").get("docfleet_ledger_mismatch", 0) > 0, 10)
    off = fleet.sql("select what, id, state, ledger - truth as n from ledger_mismatch()")
    assert {(r["what"], str(r["id"]), r["state"], r["n"]) for r in off} == {
        ("batch_state", batches[1], 2, 1), ("dataset_state", dataset, 2, 1),
        ("batch_accepted", batches[1], None, 1)}
    fleet.sql(plant, dataset, batches[1], -1)
    rig.wait_until(lambda: fleet.metrics("cleaner").get("docfleet_ledger_mismatch") == 0, 10)
    invariants.check_ledger(fleet)


def receipt_digest(lines):
    h = hashlib.sha256()
    for line in lines:
        h.update(json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
    return h.hexdigest()


def test_receipt(fleet, client):
    dataset = client.dataset("Rechnungen März; \"neu\"")
    answer = client.upload(dataset, [
        ("a.txt", b"Invoice number: R-17\n"), ("bad.pdf", b"%PDF-1.4 broken"), ("empty.txt", b""),
        ("=cmd.txt", b"x"), ("gone.txt", b"y"), ("größe \"1\".txt", b"z")])
    batch = answer["batch"]["id"]
    ids = {f["name"]: f.get("id") for f in answer["files"]}
    early = client.json(f"/batches/{batch}/receipt")
    assert early["totals"]["total"] == 6
    client.wait_all(dataset)
    client.delete(f"/files/{ids['gone.txt']}")
    got = client.get(f"/batches/{batch}/receipt")
    receipt = got.json()
    assert receipt["format"] == "docfleet-receipt-1" and receipt["final"] is True
    name = got.headers["Content-Disposition"]
    assert name.startswith("attachment;") and ".json" in name and "filename*=UTF-8''" in name
    assert receipt_digest(receipt["lines"]) == receipt["digest"]["value"]
    totals = receipt["totals"]
    assert (totals["total"], totals["accepted"], totals["rejected"], totals["forgotten"]) == (6, 5, 1, 0)
    assert sum(totals["byState"].values()) == totals["accepted"] == \
        sum(line["kind"] == "file" for line in receipt["lines"])
    assert totals["byState"]["deleted"] == 1 and totals["byState"]["failed"] == 1
    assert [line["line"] for line in receipt["lines"]] == [1, 2, 3, 4, 5, 6]
    by_name = {line["name"]: line for line in receipt["lines"]}
    good, bad, refused = by_name["a.txt"], by_name["bad.pdf"], by_name["empty.txt"]
    assert good["sha256"] == hashlib.sha256(b"Invoice number: R-17\n").hexdigest() and good["size"] == 21
    assert good["pipelines"]["main"] == {"outcome": "done", "code": None, "reason": None, "detail": None,
                                         "attempts": 2}
    assert len(good["records"]) == 1 and good["finishedAt"] >= good["acceptedAt"]
    assert bad["pipelines"]["main"]["code"] == "corrupt" and bad["pipelines"]["main"]["reason"]
    assert refused["state"] == "refused" and refused["code"] == "empty_file" and refused["reason"]
    assert by_name["gone.txt"]["state"] == "deleted"
    again = client.json(f"/batches/{batch}/receipt")
    assert again["digest"] == receipt["digest"]

    got = client.get(f"/batches/{batch}/receipt", params={"format": "csv"})
    assert got.headers["Content-Type"].startswith("text/csv") and ".csv" in got.headers["Content-Disposition"]
    data = got.content
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert [r["name"] for r in rows[:6]] == [
        "'" + x["name"] if x["name"][0] == "=" else x["name"] for x in receipt["lines"]]
    assert rows[-2]["kind"] == "total" and rows[-2]["name"] == "6 files: 5 accepted and 1 refused"
    cut = data.rstrip(b"\r\n").rindex(b"\n") + 1
    assert rows[-1]["sha256"] == hashlib.sha256(data[:cut]).hexdigest()
    accept = client.get(f"/batches/{batch}/receipt", headers={"Accept": "text/csv"})
    assert accept.content.startswith(b"\xef\xbb\xbfline,kind")
    problem(client.request("GET", f"/batches/{batch}/receipt", params={"format": "pdf"}), 400, "bad_request")
    problem(fleet.client("bob").request("GET", f"/batches/{batch}/receipt"), 404, "not_found")

    # the tool keeps and checks it
    env = {"DOCFLEET_API_KEY": client.key}
    out = fleet.dir + "/receipt.json"
    fleet.ctl("receipt", batch, "--out", out, env=env)
    assert "6 lines" in fleet.ctl("receipt-check", out, env=env)
    with open(out, encoding="utf-8") as f:
        text = f.read()
    with open(out, "w", encoding="utf-8") as f:
        f.write(text.replace("R-17", "R-18") if "R-17" in text else text.replace('"size":21', '"size":22'))
    assert fleet.ctl("receipt-check", out, env=env, check=False).returncode == 1
    assert "sha256 of the lines" in fleet.ctl("receipt", batch, "--csv", env=env)


def test_pages_of_a_batch(gateway, alice):
    answer = alice.upload(alice.dataset(), {f"{i}.txt": b"x" for i in range(7)})
    batch = answer["batch"]["id"]
    seen, cursor = [], None
    while True:
        page = alice.json(f"/batches/{batch}", params=dict(limit=3, **({"cursor": cursor} if cursor else {})))
        adds_up(page)
        seen += [f["id"] for f in page["files"]["items"]]
        cursor = page["files"]["nextCursor"]
        if not cursor:
            break
    assert seen == sorted(f["id"] for f in answer["files"])
    assert page["receipt"]["href"] == f"/api/v1/batches/{batch}/receipt"
    assert page["oldestWaitingSeconds"] >= 0 and page["etaSeconds"] is None


def queue(gateway, stage, **row):
    row = dict({"rate": 2.0, "users": 1, "waiting": 100, "out": 2, "curve": None, "curve_bulk": None}, **row)
    gateway.sql("insert into queue_state (stage, updated_at, rate, users, waiting, out, curve, curve_bulk)"
                " values (%s, now() + interval '1 minute', %s, %s, %s, %s, %s::jsonb, %s::jsonb)"
                " on conflict (stage) do update set updated_at = excluded.updated_at, rate = excluded.rate,"
                " users = excluded.users, waiting = excluded.waiting, out = excluded.out,"
                " curve = excluded.curve, curve_bulk = excluded.curve_bulk", stage, row["rate"], row["users"],
                row["waiting"], row["out"], json.dumps(row["curve"]) if row["curve"] else None,
                json.dumps(row["curve_bulk"]) if row["curve_bulk"] else None)


def test_place_in_the_queue(gateway):
    carol = gateway.client("carol")
    dataset = carol.dataset()
    files = [f["id"] for f in carol.upload(dataset, {f"{i:02}.txt": b"x" for i in range(10)})["files"]]

    def places(pipeline="main", field="queuePosition"):
        got = {f["id"]: f["pipelines"][pipeline][field] for f in carol.files(dataset)}
        return [got[f] for f in files]
    assert places() == [None] * 10, "nobody tells of the queue"
    queue(gateway, 1)
    assert places() == list(range(1, 11)) and places(field="etaSeconds") == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert places("preview") == [None] * 10
    # among others: three of theirs go before each of ours
    queue(gateway, 1, users=4, waiting=1000, curve=[[0, 3], [10, 43]])
    assert places() == [4 + 4 * i for i in range(10)]
    assert carol.file(files[9])["pipelines"]["main"]["queuePosition"] == 40
    assert carol.file(files[9])["pipelines"]["main"]["etaSeconds"] == 20
    # twice the weight, half the way
    gateway.sql("update account set weight = 2 where name = 'carol'")
    assert places()[8] == 4 + 16
    gateway.sql("update account set weight = 1 where name = 'carol'")
    # first in, first out, with others: unknown
    queue(gateway, 1, users=4, waiting=1000)
    assert places() == [None] * 10
    # bulk has its own curve; sent work is 0; later work says when
    queue(gateway, 1, users=4, waiting=1000, curve=[[0, 0], [10, 10]], curve_bulk=[[0, 500], [10, 600]])
    gateway.sql("update task set lane = 1 where file_id = %s and stage = 1", files[1])
    gateway.sql("update task set state = 1, q = null where file_id = %s and stage = 1", files[0])
    gateway.sql("update task set q = 1, not_before = '2030-01-01' where file_id = %s and stage = 1", files[2])
    got = places()
    assert got[:4] == [0, 501, None, 1]
    assert places(field="retryAt")[2] == "2030-01-01T00:00:00.000Z" and places(field="retryAt")[3] is None
    # a paused stage has a place, but no time
    gateway.sql("insert into stage_control values (1, true) on conflict (stage) do update set paused = true")
    one = carol.file(files[3])["pipelines"]["main"]
    assert one["queuePosition"] == 1 and one["etaSeconds"] is None
    gateway.sql("update stage_control set paused = false")
    # the summary speaks of the last file; all stages must be known
    summary = carol.json(f"/datasets/{dataset}/summary")
    assert summary["etaSeconds"] is None
    for stage in (1, 4):
        queue(gateway, stage, users=1, rate=5.0)
    time.sleep(2.1)  # the summary's cache
    summary = carol.json(f"/datasets/{dataset}/summary")
    assert summary["etaSeconds"] and summary["oldestWaitingSeconds"] >= 2
    gateway.sql("delete from queue_state")


def test_bulk_retry_and_batch_retry_go_to_the_bulk_lane(gateway, alice):
    dataset = alice.dataset()
    answer = alice.upload(dataset, {f"{i}.txt": b"x" for i in range(620)})
    files = [f["id"] for f in answer["files"]]
    gateway.sql("update task set state = 5, q = null where file_id = any(%s) and stage = 4", files)
    gateway.sql("update file set preview_state = 3 where file_id = any(%s)", files)
    got = alice.post(f"/datasets/{dataset}/files/retry", json={"filter": {"q": "1"}}).json()
    n = sum("1" == str(i)[0] for i in range(620))
    assert (got["retried"], got["units"], got["more"]) == (n, n, False)
    got = alice.post(f"/batches/{answer['batch']['id']}/retry").json()
    assert (got["retried"], got["more"]) == (620 - n, False)
    lanes = gateway.sql("select lane, count(*) from task where file_id = any(%s) and stage = 4 group by 1", files)
    assert lanes == [{"lane": 1, "count": 620}]
    invariants.check_ledger(gateway)


def test_cost_is_estimated_by_size(gateway, alice):
    files = alice.upload(alice.dataset(), {"small.txt": b"x", "big.txt": b"y" * (3 << 20)})["files"]
    costs = {r["name"]: r["cost"] for r in gateway.sql(
        "select f.name, max(t.cost) as cost from file f join task t using (file_id)"
        " where f.file_id = any(%s) group by 1", [f["id"] for f in files])}
    assert costs == {"small.txt": 1, "big.txt": 3}


def elephant(gateway, client, n):
    """n files at once, by rows: what is asked for is how fast they go, not how fast they come."""
    dataset = client.dataset()
    seed = client.upload(dataset, {"seed.txt": b"x"})
    gateway.sql("insert into batch (batch_id, user_id, dataset_id, accepted) select gen_random_uuid(), user_id,"
                " dataset_id, %s from batch where batch_id = %s", n, seed["batch"]["id"])
    with gateway.db() as conn:
        conn.execute("create temp table made as select gen_random_uuid() as id from generate_series(1, %s)", [n])
        conn.execute("insert into file (file_id, user_id, dataset_id, batch_id, name, bytes, state) select m.id,"
                     " b.user_id, b.dataset_id, b.batch_id, 'e-' || m.id, 1, 1 from made m, batch b where"
                     " b.dataset_id = %s and b.accepted = %s", [dataset, n])
        conn.execute("insert into file_version (file_id, version, object_key, bytes, sha256, mime, kind) select"
                     " id, 1, 'uploads/e/' || id, 1, 'x', 'text/plain', 'text' from made")
        conn.execute("insert into task (user_id, file_id, stage, unit, generation, state, q) select f.user_id,"
                     " f.file_id, s, 0, 1, case when random() < 0.1 then 2 else 0 end, 0 from made m join file f"
                     " on f.file_id = m.id, unnest(array[1, 4]) as s")
        conn.execute("insert into count_delta (dataset_id, batch_id, to_state, n) select dataset_id, batch_id, 1,"
                     " accepted from batch where dataset_id = %s and accepted = %s", [dataset, n])
        batch = conn.execute("select batch_id from batch where dataset_id = %s and accepted = %s",
                             [dataset, n]).fetchone()["batch_id"]
    return dataset, str(batch)


@pytest.mark.parametrize("how", ["remove", "cancel"])
def test_an_elephant_goes_in_seconds(gateway, how):
    """10,000 files in every state of work: gone at once for their user, in transactions of 500."""
    dave = gateway.client("dave")
    dataset, batch = elephant(gateway, dave, 10000)
    began = time.monotonic()
    if how == "remove":
        got = dave.post(f"/datasets/{dataset}/files/remove", json={"filter": {}}).json()
        assert (got["removed"], got["more"]) == (10001, False)
    else:
        got = dave.post(f"/batches/{batch}/cancel").json()
        assert (got["cancelled"], got["more"]) == (10000, False)
    took = time.monotonic() - began
    print(f"{how}: {took:.2f} s")
    assert took < 30
    live = gateway.one("select count(*) from task join file using (file_id) where dataset_id = %s and stage < 6"
                       " and task.state < 4 and file.batch_id = %s", dataset, batch)
    assert live == 0
    together = gateway.one("select max(n) from (select count(*) as n from event where file_id is not null and"
                           " kind = %s and body->>'batchId' = %s group by xmin::text) x",
                           "file_deleted" if how == "remove" else "file_updated", batch)
    assert together <= 500
    invariants.check_ledger(gateway)


def test_a_full_queue_is_told(gateway):
    """The quota of files in work: 429 with Retry-After before a byte is taken."""
    erin = gateway.client("erin")
    dataset = erin.dataset()
    erin.upload(dataset, {"a.txt": b"x"})
    gateway.sql("insert into file (file_id, user_id, dataset_id, name, bytes, state) select gen_random_uuid(),"
                " user_id, dataset_id, 'q', 1, 1 from dataset, generate_series(1, 100000) where dataset_id = %s",
                dataset)
    got = erin.request("POST", f"/datasets/{dataset}/files", files=[("file", ("b.txt", b"x"))])
    problem(got, 429, "too_many_files")
    assert int(got.headers["Retry-After"]) > 0 and "100000 files" in got.json()["detail"]
    gateway.sql("delete from file where name = 'q'")
    erin.upload(dataset, {"b.txt": b"x"})
