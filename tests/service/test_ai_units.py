# SPDX-License-Identifier: Apache-2.0
"""Long documents in the ai stage: units of ten pages, their join, and what happens when one of them
fails, is killed or costs too much. The service is a stand-in that reads the table it is shown."""
import json
import os
import re
import signal
import subprocess
import threading

import pytest

from lib import rig
from lib.ai_server import failure

SERVICES = ("ingest-gateway", "dispatcher", "text-extractor", "ocr-fallback", "ai-extractor")
SETTINGS = {"DOCFLEET_AI_BACKEND": "openai", "DOCFLEET_AI_MODEL": "m-test",
            "DOCFLEET_LEASE": "2s", "DOCFLEET_SWEEP_INTERVAL": "200ms",
            "DOCFLEET_DISPATCH_TIMEOUT": "2s", "DOCFLEET_KAFKA_SESSION_TIMEOUT": "6s"}
OCR, AI = 2, 3
COLUMNS = [{"name": "Ledger number", "type": "string"},
           {"name": "Grand total", "type": "money"},
           {"name": "Lines", "type": "rows", "itemColumns": [
               {"name": "Entry", "type": "string"}, {"name": "Article", "type": "string"},
               {"name": "Amount", "type": "money", "currency": "EUR"}]}]
PAGES = 40
UNITS = 6  # scalars, and 40 pages by nine with one page shared
JOIN = UNITS + 1


def money(text):
    return {"amount": text, "currency": None}


def read_lines(call):
    """The table as a good model reads it. A row that is cut at the end of what it sees has no
    amount; the rest of a row whose beginning it does not see is a row without entry."""
    rows, cut = [], None
    for page, line, text in call.lines():
        found = re.match(r"(L-\d{4}-\d|Postage)\s+(\D+?)(?:\s+(\d+\.\d\d))?\s*$", text)
        over = re.match(r"brought over\s+(\d+\.\d\d)\s*$", text)
        if over and cut:
            cut["i3"] = money(over[1])
            cut = None
        elif over or found:
            rows.append({"i1": found and found[1], "i2": found and found[2],
                         "i3": money(over[1]) if over else found[3] and money(found[3]),
                         "quote": text, "page": page, "line": line})
            cut = rows[-1] if found and not found[3] else None
    return rows


def read(call, name):
    if name == "Lines":
        return read_lines(call)
    made = {"value": None, "quote": None, "page": None, "line": None}
    for page, line, text in call.lines():
        if name in text:
            value = text.split(": ")[1]
            made = {"value": money("12,345.00") if name == "Grand total" else value,
                    "quote": text, "page": page, "line": line}
    return made


@pytest.fixture(scope="module")
def module_fleet(servers, provider):
    import conftest
    made = rig.Fleet(servers, dict(SETTINGS, DOCFLEET_AI_URL=provider.url), build="release-faults")
    conftest._activate(made)
    yield made.start(*SERVICES)
    conftest._stop_current()


@pytest.fixture
def ai(module_fleet, provider):
    provider.reset()
    provider.reader = read
    missing = [s for s in SERVICES if not module_fleet.running(s)]
    if missing:
        module_fleet.start(*missing)
    return provider


@pytest.fixture
def fleet(module_fleet, ai):
    return module_fleet


def ledger(pages, scans=0, made={}):
    """(PDF, rows) of tests/fixtures/make_fixtures.py."""
    if (pages, scans) not in made:
        path = os.path.join(rig.FIXTURES, f"ledger-{pages}-{scans}-{os.getpid()}.pdf")
        out = subprocess.run(["/usr/bin/python3", f"{rig.ROOT}/tests/fixtures/make_fixtures.py",
                              "--ledger", str(pages), str(scans), path], check=True,
                             capture_output=True, text=True, timeout=300).stdout
        with open(path, "rb") as f:
            made[pages, scans] = f.read(), [tuple(row) for row in json.loads(out)]
        os.unlink(path)
    return made[pages, scans]


class Ledger:
    """A document on its way to a record."""
    number = 0

    def __init__(self, fleet, pages=PAGES, wait=True, columns=None, scans=0, client=None):
        Ledger.number += 1
        # each of another user: answers to the same text are remembered, but not for others
        self.client = client or fleet.client(f"reader-{Ledger.number}")
        self.fleet, self.n = fleet, pages
        body, self.truth = ledger(pages, scans)
        self.dataset = self.client.dataset(columns=columns or COLUMNS)
        answer = self.client.upload(self.dataset, {f"ledger-{Ledger.number}.pdf": body})
        self.file_id = answer["files"][0]["id"]
        if wait:
            self.wait()

    def main(self):
        return self.fleet.one("SELECT main_state FROM file WHERE file_id = %s", self.file_id)

    def wait(self, state=2, timeout=90):
        try:
            rig.wait_until(lambda: self.main() == state, timeout, what=f"main state {state}")
        except rig.Timeout as e:
            raise rig.Timeout(f"{e}\n{self.tasks()}") from None
        return self

    def tasks(self, stage=AI):
        return {t["unit"]: t for t in self.fleet.sql(
            "SELECT unit, t.state, attempts, failures, refunds, input, last_error FROM task t"
            " JOIN file USING (file_id, generation) WHERE file_id = %s AND stage = %s ORDER BY unit",
            self.file_id, stage)}

    def join(self):
        return self.fleet.one("SELECT total, left_, failed FROM stage_join JOIN file USING"
                              " (file_id, generation) WHERE file_id = %s AND stage = %s",
                              self.file_id, AI)

    def record(self):
        return self.fleet.one("SELECT record_id, values, cells, needs_review, generation FROM record"
                              " WHERE file_id = %s", self.file_id)

    def records(self):
        return self.fleet.one("SELECT count(*) FROM record WHERE file_id = %s", self.file_id)

    def rows(self):
        rows = self.fleet.sql(
            "SELECT r.row_no, r.values, r.cells FROM record_row r JOIN record USING (record_id)"
            " WHERE file_id = %s ORDER BY row_no", self.file_id)
        assert [r["row_no"] for r in rows] == list(range(1, len(rows) + 1))
        return rows

    def lines(self):
        return [(r["values"]["i1"], r["values"]["i2"], r["values"]["i3"]["amount"])
                for r in self.rows()]

    def check(self):
        """The record is whole, its rows those of the document in their order, each found where it is."""
        record = self.record()
        assert record["values"]["c1"] == "LG-2024-07"
        assert record["values"]["c2"] == {"amount": "12345.00", "currency": "EUR"}
        assert self.lines() == self.truth
        assert record["values"]["c3"] == {"count": len(self.truth)}
        assert not record["needs_review"]
        places = [(c["page"], *c["span"]) for r in self.rows() for c in [r["cells"]["i1"]]]
        assert places == sorted(set(places)) and places[-1][0] == self.n
        return record

    def spend(self):
        return self.fleet.one("SELECT coalesce(sum(calls), 0) AS calls, coalesce(sum(tokens), 0) AS"
                              " tokens FROM spend WHERE file_id = %s", self.file_id)

    def hurry(self):
        self.fleet.sql("UPDATE task SET not_before = now() WHERE file_id = %s AND q = 1",
                       self.file_id)


# --- the way through ----------------------------------------------------------------------------------


def test_a_long_document_is_read_in_units(fleet, ai):
    doc = Ledger(fleet)
    doc.check()
    tasks = doc.tasks()
    assert list(tasks) == list(range(JOIN + 1)) and {t["state"] for t in tasks.values()} == {4}
    assert {t["attempts"] for t in tasks.values()} == {1}
    assert tasks[1]["input"]["part"] == "scalars" and tasks[JOIN]["input"]["part"] == "join"
    assert [tasks[u]["input"]["pages"] for u in range(2, JOIN)] == [
        [1, 9, 10], [10, 18, 19], [19, 27, 28], [28, 36, 37], [37, 40, 40]]
    assert doc.join() == {"total": UNITS, "left_": 0, "failed": 0}
    assert len(ai.calls) == UNITS and doc.spend() == {"calls": UNITS, "tokens": UNITS * 240}
    assert all(len(c.pages()) <= 10 for c in ai.calls if list(c.names) == ["c3"])
    ends = fleet.sql("SELECT body->'detail' AS d FROM event WHERE file_id = %s AND stage = %s AND"
                     " body->>'state' = 'done' AND body->>'unit' = %s", doc.file_id, AI, str(JOIN))
    assert ends[0]["d"]["usage"]["calls"] == UNITS
    answers = fleet.sql("SELECT unit FROM artifact WHERE file_id = %s AND kind = 'answer'",
                        doc.file_id)
    assert sorted(a["unit"] for a in answers) == list(range(1, JOIN))


def test_a_short_document_is_one_unit(fleet, ai):
    doc = Ledger(fleet, pages=10)
    doc.check()
    assert list(doc.tasks()) == [0] and len(ai.calls) == 2


def test_without_rows_a_long_document_is_one_unit(fleet, ai):
    doc = Ledger(fleet, columns=COLUMNS[:2])
    assert list(doc.tasks()) == [0] and doc.record()["values"]["c1"] == "LG-2024-07"


def test_two_rows_columns_have_their_own_units(fleet, ai):
    doc = Ledger(fleet, pages=19, columns=[dict(COLUMNS[2], name="Lines"), dict(COLUMNS[2],
                                                                              name="Nothing")])
    assert [t["input"]["column"] for t in doc.tasks().values() if t["unit"] not in (0, 5)] == \
        [0, 0, 1, 1]
    rows = fleet.sql("SELECT column_id, count(*) AS n FROM record_row JOIN record USING (record_id)"
                     " WHERE file_id = %s GROUP BY 1", doc.file_id)
    assert rows == [{"column_id": "c1", "n": len(doc.truth)}]
    assert doc.record()["cells"]["c2"]["status"] == "empty"


def test_a_rerun_makes_no_call(fleet, ai):
    doc = Ledger(fleet)
    doc.client.post(f"/files/{doc.file_id}/retry", json={"from": "ai"})
    rig.wait_until(lambda: doc.record()["generation"] == 2, 60)
    doc.check()
    assert len(ai.calls) == UNITS and doc.records() == 1


# --- failures ---------------------------------------------------------------------------------------


def dead_range(doc, ai, page=20):
    """The unit whose pages hold this one dies; the others end. Returns the number of calls until then."""
    ai.when = lambda call: failure(422) if list(call.names) == ["c3"] and page in call.pages() \
        else None
    rig.wait_until(lambda: any(t["failures"] for t in doc.tasks().values()), 60,
                   what="a failure of the unit")
    fleet = doc.fleet
    fleet.sql("UPDATE task SET failures = 4 WHERE file_id = %s AND failures > 0", doc.file_id)

    def failed():
        doc.hurry()
        return doc.main() == 3
    rig.wait_until(failed, 60, what="the pipeline failed")
    return len(ai.calls)


@pytest.mark.parametrize("way", ["file", "dead-letters"])
def test_one_failed_range_is_retried_alone(fleet, ai, way):
    ai.when = lambda call: failure(422) if 20 in call.pages() and "c3" in call.names else None
    doc = Ledger(fleet, wait=False)
    calls = dead_range(doc, ai)
    tasks = doc.tasks()
    dead = [u for u, t in tasks.items() if t["state"] == 5]
    assert dead == [4] and JOIN not in tasks and doc.records() == 0
    assert doc.join() == {"total": UNITS, "left_": 0, "failed": 1}
    file = doc.client.file(doc.file_id)
    assert file["pipelines"]["main"]["state"] == "failed"
    assert file["pipelines"]["main"]["error"]["code"] in ("pages_failed", "provider_rejected")
    text = doc.client.get(f"/files/{doc.file_id}/text", headers={"Accept": "text/plain"}).text
    assert "L-0020-2" in text  # what was read is there
    ai.when = None
    if way == "file":
        doc.client.post(f"/files/{doc.file_id}/retry")
    else:
        fleet.ctl("dead-letters", "replay", "--file", doc.file_id, env={"DOCFLEET_ADMIN_KEY": fleet.client("root", admin=True).key})
    doc.wait()
    doc.check()
    assert len(ai.calls) == calls + 1 and doc.records() == 1
    after = doc.tasks()
    assert all(after[u]["attempts"] == tasks[u]["attempts"] for u in tasks if u not in dead)
    assert doc.join() == {"total": UNITS, "left_": 0, "failed": 0}


def test_a_join_that_died_is_retried_alone(fleet, ai):
    """The join's own death fails the pipeline; the ranges' counters do not know of it."""
    doc = Ledger(fleet, wait=False)
    ai.when = lambda call: failure(503, {"Retry-After": "1"}) if 40 in call.pages() and \
        "c3" in call.names else None
    rig.wait_until(lambda: sum(t["state"] == 4 for t in doc.tasks().values()) == UNITS, 60)
    fleet.sql("UPDATE artifact SET object_key = object_key || '-gone' WHERE file_id = %s AND unit = 3"
              " AND kind = 'answer'", doc.file_id)
    ai.when = None
    rig.wait_until(lambda: JOIN in doc.tasks() and doc.tasks()[JOIN]["attempts"], 60)

    def failed():
        fleet.sql("UPDATE task SET failures = 4 WHERE file_id = %s AND failures > 0", doc.file_id)
        fleet.sql("UPDATE task SET created_at = now() - interval '2 days' WHERE file_id = %s AND"
                  " unit = %s", doc.file_id, JOIN)
        doc.hurry()
        return doc.main() == 3
    rig.wait_until(failed, 60)
    assert doc.join() == {"total": UNITS, "left_": 0, "failed": 0} and doc.records() == 0
    fleet.sql("UPDATE artifact SET object_key = replace(object_key, '-gone', '') WHERE file_id = %s",
              doc.file_id)
    calls = len(ai.calls)
    doc.client.post(f"/files/{doc.file_id}/retry")
    doc.wait()
    doc.check()
    assert len(ai.calls) == calls
    assert doc.join() == {"total": UNITS, "left_": 0, "failed": 0}


def test_a_throttled_range_waits_and_the_others_go_on(fleet, ai):
    slow = threading.Event()
    ai.when = lambda call: failure(429, {"Retry-After": "2"}) if not slow.is_set() and \
        20 in call.pages() and "c3" in call.names else None
    doc = Ledger(fleet, wait=False)
    rig.wait_until(lambda: sum(t["state"] == 4 for t in doc.tasks().values()) == UNITS, 60)
    assert doc.tasks()[4]["refunds"] and not doc.tasks()[4]["failures"]
    assert doc.main() == 0 and doc.records() == 0
    slow.set()
    doc.wait()
    doc.check()


@pytest.mark.parametrize("point,most", [("ai.answered:3", 1), ("ai.kept:3", 0), ("work.end:4", 0),
                                        ("complete.after_commit:1", 0),
                                        ("complete.before:8", 0), ("work.end:8", 0)])
def test_a_killed_worker_pays_no_more_than_the_call_that_was_out(fleet, ai, point, most):
    fleet.restart("ai-extractor", env={"DOCFLEET_CRASH_AT": point, "DOCFLEET_SLOTS": "1"})
    doc = Ledger(fleet, wait=False)
    assert fleet.wait_end("ai-extractor", timeout=60) == -signal.SIGKILL
    fleet.start("ai-extractor")
    doc.wait()
    doc.check()
    assert UNITS <= len(ai.calls) <= UNITS + most and doc.records() == 1


def test_two_workers_share_a_document(fleet, ai):
    fleet.start("ai-extractor#2")
    doc = Ledger(fleet, pages=120)
    doc.check()
    assert len(ai.calls) == 15
    done = [sum("unit_end" in str(x) or x.get("file") == doc.file_id
                for x in fleet.process(name).log_lines())
            for name in ("ai-extractor", "ai-extractor#2")]
    fleet.stop("ai-extractor#2")
    print("log lines of each:", done)


# --- what is seen meanwhile ---------------------------------------------------------------------------


def test_progress_is_seen_while_it_runs(fleet, ai):
    asked, gate = threading.Event(), threading.Event()

    def hold(call):
        if 20 in call.pages() and "c3" in call.names:
            asked.set()
            gate.wait(60)

    ai.when = hold
    doc = Ledger(fleet, wait=False)
    try:
        assert asked.wait(60)
        rig.wait_until(lambda: sum(t["state"] == 4 for t in doc.tasks().values()) >= 2, 60)
        main = doc.client.file(doc.file_id)["pipelines"]["main"]
        assert main["stage"] == "ai" and main["state"] == "running"
        assert main["pagesTotal"] == PAGES
    finally:
        gate.set()
    doc.wait()
    main = doc.client.file(doc.file_id)["pipelines"]["main"]
    assert main["pagesDone"] == main["pagesTotal"] == PAGES


# --- ceilings ---------------------------------------------------------------------------------------


def test_a_ceiling_on_a_file_parks_what_is_left(fleet, ai):
    ai.usage = (5000, 1000)
    fleet.restart("ai-extractor", env={"DOCFLEET_AI_FILE_TOKENS": "30000", "DOCFLEET_SLOTS": "1"})
    doc = Ledger(fleet, wait=False)
    rig.wait_until(lambda: any(t["refunds"] for t in doc.tasks().values()), 60)
    parked = [t for t in doc.tasks().values() if t["refunds"]][0]
    assert parked["state"] == 0 and parked["failures"] == 0 and "ceiling" in parked["last_error"]
    assert 0 < doc.spend()["tokens"] <= 30000
    codes = {x["code"] for x in fleet.process("ai-extractor").log_lines()
             if x.get("file") == doc.file_id and "code" in x}
    assert codes == {"budget"}
    wait = fleet.one("SELECT extract(epoch FROM max(not_before) - now())::int FROM task"
                     " WHERE file_id = %s AND q = 1", doc.file_id)
    assert 3000 < wait <= 3600
    calls = len(ai.calls)
    fleet.restart("ai-extractor")
    rig.wait_until(lambda: doc.hurry() or doc.main() == 2, 60)
    doc.check()
    assert len(ai.calls) == UNITS and calls < UNITS


def test_a_ceiling_on_money(fleet, ai):
    # 200 + 40 tokens at 10.00 and 30.00 a million: 0.0032 a call
    fleet.restart("ai-extractor", env={
        "DOCFLEET_AI_PROMPT_PRICE": "10000", "DOCFLEET_AI_COMPLETION_PRICE": "30000",
        "DOCFLEET_AI_FILE_COST": "400", "DOCFLEET_AI_UNIT_COST": "300", "DOCFLEET_SLOTS": "1"})
    doc = Ledger(fleet)
    assert fleet.one("SELECT sum(micros) FROM spend WHERE file_id = %s", doc.file_id) == \
        UNITS * 3200
    name = 'docfleet_provider_cost_total{provider="openai"}'
    assert abs(fleet.metrics("ai-extractor")[name] - UNITS * 0.0032) < 1e-6
    fleet.restart("ai-extractor", env={
        "DOCFLEET_AI_PROMPT_PRICE": "10000", "DOCFLEET_AI_COMPLETION_PRICE": "30000",
        "DOCFLEET_AI_UNIT_COST": "100", "DOCFLEET_SLOTS": "1"})
    doc = Ledger(fleet, pages=11, wait=False)
    rig.wait_until(lambda: any(t["refunds"] for t in doc.tasks().values()), 60)
    assert all(t["state"] != 4 or t["unit"] == 0 for t in doc.tasks().values())
    assert doc.spend()["calls"] == 0
    fleet.restart("ai-extractor")
    rig.wait_until(lambda: doc.hurry() or doc.main() == 2, 60)


def test_a_quota_of_money(fleet, ai):
    """0.35 a call, and money for one: no second is made, and what lacks it fails, until there is more."""
    ai.usage = (20000, 5000)
    fleet.restart("ai-extractor", env={"DOCFLEET_AI_PROMPT_PRICE": "10000", "DOCFLEET_AI_COMPLETION_PRICE": "30000",
                                       "DOCFLEET_SLOTS": "1"})
    payer = fleet.client("payer")
    user = payer.json("/auth/me")["id"]
    root = fleet.client("root", admin=True)
    root.request("PUT", f"/admin/users/{user}/quota", 200, json={"money": 0.4})
    calls = len(ai.calls)
    doc = Ledger(fleet, wait=False, client=payer)
    rig.wait_until(lambda: doc.main() == 3, 60)
    rig.wait_until(lambda: fleet.one("select count(*) from dead_letter where file_id = %s", doc.file_id) == UNITS - 1)
    assert len(ai.calls) - calls == 1
    usage = payer.json("/usage")["money"]
    assert usage["used"] == pytest.approx(0.35) and usage["limit"] == pytest.approx(0.4)
    letters = fleet.sql("select reason, class, last_error from dead_letter where file_id = %s", doc.file_id)
    assert {(row["reason"], row["class"]) for row in letters} == {("quota_exceeded", "permanent")}
    assert "quota of money: limit" in letters[0]["last_error"]
    root.request("PUT", f"/admin/users/{user}/quota", 200, json={"money": None})
    payer.post(f"/files/{doc.file_id}/retry", 202, json={})
    rig.wait_until(lambda: doc.main() == 2, 60)
    doc.check()


def test_money_ceilings_need_prices(fleet):
    fleet.stop("ai-extractor")
    fleet.start("ai-extractor", env={"DOCFLEET_AI_FILE_COST": "5"}, wait=False)
    process = fleet.process("ai-extractor")
    assert fleet.wait_end("ai-extractor") not in (0, None)
    assert "DOCFLEET_AI_PROMPT_PRICE" in process.log()
