# SPDX-License-Identifier: Apache-2.0
"""The ai stage with an OpenAI-compatible service: the real worker against a scripted server, which
says right things, wrong things and nothing. What is published has been found in the document."""
import signal
import struct
import time
import zlib

import pytest

from lib import rig
from lib.ai_server import failure, reply

SERVICES = ("ingest-gateway", "dispatcher", "text-extractor", "ocr-fallback", "ai-extractor")
KEY = "sk-test-0123456789"
SETTINGS = {"DOCFLEET_AI_BACKEND": "openai", "DOCFLEET_AI_MODEL": "m-test", "DOCFLEET_AI_KEY": KEY,
            "DOCFLEET_LEASE": "2s", "DOCFLEET_SWEEP_INTERVAL": "200ms",
            "DOCFLEET_DISPATCH_TIMEOUT": "2s", "DOCFLEET_KAFKA_SESSION_TIMEOUT": "6s"}
AI = 3
DONE = 2


@pytest.fixture(scope="module")
def module_fleet(servers, provider):
    import conftest
    made = rig.Fleet(servers, dict(SETTINGS, DOCFLEET_AI_URL=provider.url), build="release-faults")
    conftest._activate(made)
    yield made.start(*SERVICES)
    conftest._stop_current()


@pytest.fixture
def ai(module_fleet, provider):
    """The scripted server, forgetful; and every service of the fleet runs."""
    provider.reset()
    missing = [s for s in SERVICES if not module_fleet.running(s)]
    if missing:
        module_fleet.start(*missing)
    return provider


@pytest.fixture
def fleet(module_fleet, ai):
    return module_fleet


class Upload:
    """One document of its own content, on its way to a record."""
    number = 0

    def __init__(self, fleet, ai, columns=None, text=None, name=None, client=None, wait=True):
        Upload.number += 1
        self.fleet, self.id = fleet, f"AI-{Upload.number:05d}"
        self.text = text or (f"Nordwind Paper Ltd\nInvoice number: {self.id}\n"
                             "Invoice date: 14 March 2024\nTotal amount: EUR 1,487.50\n")
        if not ai.fill:
            ai.fill = {"Invoice number": (self.id, f"Invoice number: {self.id}"),
                       "Invoice date": ("14 March 2024", "Invoice date: 14 March 2024"),
                       "Total amount": (("1,487.50", "EUR"), "Total amount: EUR 1,487.50")}
        self.client = client or fleet.client()
        self.dataset = self.client.dataset(columns=columns)
        body = self.text if isinstance(self.text, bytes) else self.text.encode()
        answer = self.client.upload(self.dataset, {name or f"{self.id}.txt": body})
        self.file_id = answer["files"][0]["id"]
        if wait:
            self.wait()

    def task(self):
        rows = self.fleet.sql("SELECT state, attempts, failures, refunds, last_error, generation"
                              " FROM task WHERE file_id = %s AND stage = %s"
                              " ORDER BY generation DESC LIMIT 1", self.file_id, AI)
        return rows[0] if rows else None

    def wait(self, generation=1, timeout=45):
        def ended():
            row = self.fleet.one("SELECT main_state, record_generation FROM file"
                                 " WHERE file_id = %s", self.file_id)
            return row["main_state"] > DONE or (row["main_state"] == DONE and
                                                row["record_generation"] >= generation)
        try:
            rig.wait_until(ended, timeout, what=f"a record of generation {generation}")
        except rig.Timeout as e:
            raise rig.Timeout(f"{e}\n{self.task()}") from None
        assert self.fleet.one("SELECT main_state FROM file WHERE file_id = %s",
                              self.file_id) == DONE
        return self

    def code(self):
        """Why the unit was put back last."""
        lines = self.fleet.process("ai-extractor").log_lines()
        return [x["code"] for x in lines if x.get("file") == self.file_id and "code" in x][-1]

    def record(self):
        return self.fleet.one("SELECT backend, values, cells, needs_review, record_id, generation"
                              " FROM record WHERE file_id = %s", self.file_id)

    def ending(self):
        """Detail of the event that told of the unit's end, of the newest generation."""
        rows = self.fleet.sql("SELECT body->'detail' AS detail FROM event WHERE file_id = %s AND"
                              " stage = %s AND body->>'state' = 'done' ORDER BY event_id DESC",
                              self.file_id, AI)
        return rows[0]["detail"]


def all_null(record):
    return all(v is None for v in record["values"].values())


def reasons(record):
    return {cell.get("reason") for cell in record["cells"].values()}


# --- what is published --------------------------------------------------------------------------------


def test_values_are_found_in_the_text(fleet, ai):
    before = fleet.metrics("ai-extractor")
    doc = Upload(fleet, ai, name="secret-name.txt")
    record = doc.record()
    assert record["backend"] == "openai:m-test"
    assert record["values"] == {"c1": doc.id, "c2": "2024-03-14",
                                "c3": {"amount": "1487.50", "currency": "EUR"}}
    for cell in record["cells"].values():
        assert cell["status"] == "ok" and cell["page"] == 1
        start, end = cell["span"]
        assert doc.text[start:end] == cell["quote"]
    assert doc.text[slice(*record["cells"]["c1"]["span"])] == doc.id
    assert not record["needs_review"]

    (call,) = ai.calls
    assert call.path == "/v1/chat/completions"
    assert call.headers["Authorization"] == f"Bearer {KEY}"
    assert call.body["model"] == "m-test" and call.body["temperature"] == 0
    assert call.body["response_format"]["json_schema"]["strict"] is True
    assert sorted(call.schema()["properties"]) == ["c1", "c2", "c3"]
    assert f"Invoice number: {doc.id}" in call.document and doc.id not in call.system
    assert "secret-name" not in str(call.body)
    first, last = call.document.splitlines()[0], call.document.splitlines()[-1]
    assert first == last and len(first) > 20

    detail = doc.ending()
    assert detail["backend"] == "openai:m-test" and "cached" not in detail
    assert detail["usage"] == {"calls": 1, "cachedCalls": 0, "promptTokens": 200,
                               "completionTokens": 40, "estimated": False}
    after = fleet.metrics("ai-extractor")

    def gained(name):
        return after.get(name, 0) - before.get(name, 0)
    assert gained('docfleet_provider_calls_total{provider="openai",outcome="done"}') == 1
    assert gained('docfleet_provider_tokens_total{provider="openai",kind="prompt"}') == 200
    assert gained('docfleet_provider_tokens_total{provider="openai",kind="completion"}') == 40
    assert gained('docfleet_provider_tokens_total{provider="openai",kind="cached"}') == 50


def test_what_is_made_up_is_never_published(fleet, ai):
    ai.fill = {"Invoice number": ("ZZ-4711", "Invoice number: ZZ-4711"),
               "Invoice date": ("2031-01-01", None),
               "Total amount": (("9,999.99", "USD"), "Total amount: EUR 1,487.50")}
    record = Upload(fleet, ai).record()
    assert all_null(record)
    assert {c["status"] for c in record["cells"].values()} == {"ungrounded"}
    assert record["cells"]["c1"]["raw"] == "ZZ-4711" and record["needs_review"]


def test_one_lie_leaves_the_rest_alone(fleet, ai):
    ai.fill = {"Invoice date": ("14 March 2024", "Invoice date: 14 March 2024"),
               "Total amount": (("1,487.51", "EUR"), "Total amount: EUR 1,487.50")}
    record = Upload(fleet, ai).record()
    assert record["values"] == {"c1": None, "c2": "2024-03-14", "c3": None}
    assert record["cells"]["c1"]["status"] == "empty"
    assert record["cells"]["c3"]["status"] == "ungrounded"


def test_rows_are_asked_alone(fleet, ai):
    columns = [{"name": "Invoice number", "type": "string"},
               {"name": "Items", "type": "rows", "itemColumns": [
                   {"name": "Item", "type": "string"}, {"name": "Amount", "type": "money"}]}]
    text = "Invoice number: R-77\nItem  Amount\nBlue pens  12.50\nDesk lamp  40.00\n"

    def row(item, amount, quote):
        return {"i1": item, "i2": {"amount": amount, "currency": None}, "quote": quote, "page": 1,
                "line": None}
    ai.fill = {"Invoice number": ("R-77", "Invoice number: R-77"),
               "Items": [row("Blue pens", "12.50", "Blue pens 12.50"),
                         row("Desk lamp", "40.00", "Desk lamp 40.00"),
                         row("Free gift", "99.00", "Free gift 99.00")]}
    doc = Upload(fleet, ai, columns=columns, text=text)
    assert sorted(sorted(c.names) for c in ai.calls) == [["c1"], ["c2"]]
    rows = fleet.sql("SELECT values FROM record_row WHERE record_id = %s ORDER BY row_no",
                     doc.record()["record_id"])
    assert [r["values"]["i1"] for r in rows] == ["Blue pens", "Desk lamp"]
    assert [r["values"]["i2"]["amount"] for r in rows] == ["12.50", "40.00"]


def white_picture(width=240, height=120):
    """A PNG without a mark on it."""
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xff" * width) * height)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) +
            chunk(b"IEND", b""))


def test_a_picture_without_text_has_null_cells_and_costs_nothing(fleet, ai):
    doc = Upload(fleet, ai, text=white_picture(), name="white.png")
    assert fleet.one("SELECT sum(chars) FROM file_page WHERE file_id = %s", doc.file_id) == 0
    assert all_null(doc.record()) and reasons(doc.record()) == {"no_text"}
    assert not ai.calls and doc.record()["backend"] == "openai:m-test"


def test_an_empty_page_has_null_cells_and_costs_nothing(fleet, ai, fixture_path):
    with open(fixture_path("blank.pdf"), "rb") as f:
        doc = Upload(fleet, ai, text=f.read(), name="blank.pdf")
    assert all_null(doc.record()) and reasons(doc.record()) == {"no_text"}
    assert not ai.calls and "usage" not in doc.ending()


# --- a service that does not do as it should -------------------------------------------------------------


def test_429_puts_the_unit_back_for_as_long_as_the_service_says(fleet, ai):
    name = 'docfleet_provider_throttles_total{provider="openai"}'
    before = fleet.metrics("ai-extractor").get(name, 0)
    ai.script = [failure(429, {"Retry-After": "3"}, type="rate_limit_error")]
    start = time.monotonic()
    doc = Upload(fleet, ai, wait=False)
    rig.wait_until(lambda: (doc.task() or {}).get("refunds") == 1, 20, what="the unit put back")
    task = doc.task()
    assert task["state"] == 0 and task["failures"] == 0 and doc.code() == "provider_unavailable"
    doc.wait()
    assert time.monotonic() - start >= 3
    assert not all_null(doc.record()) and len(ai.calls) == 2
    assert fleet.metrics("ai-extractor")[name] - before == 1


def test_a_used_up_quota_is_a_matter_of_budget(fleet, ai):
    ai.script = [failure(429, {"retry-after-ms": "1200"}, code="insufficient_quota")]
    doc = Upload(fleet, ai, wait=False)
    rig.wait_until(lambda: (doc.task() or {}).get("refunds") == 1, 20, what="the unit put back")
    assert doc.code() == "budget"
    assert not all_null(doc.wait().record()) and doc.task()["failures"] == 0


@pytest.mark.parametrize("status", [500, 503, 401])
def test_an_error_of_the_service_is_tried_again_with_another_seed(fleet, ai, status):
    ai.script = [failure(status, {"Retry-After": "1"}, type="server_error")]
    doc = Upload(fleet, ai)
    assert not all_null(doc.record())
    task = doc.task()
    assert (task["attempts"], task["refunds"], task["failures"]) == (2, 1, 0)
    assert len({call.seed for call in ai.calls}) == len(ai.calls) == 2


def test_an_answer_that_is_no_completion_is_tried_again(fleet, ai):
    ai.script = [lambda call: (200, {"Retry-After": "1"}, b"<html>gateway</html>")]
    doc = Upload(fleet, ai)
    assert not all_null(doc.record()) and len(ai.calls) == 2


@pytest.mark.parametrize("content", ["I think the total is 5", '{"c1": 1}', '{"c1": {"val'])
def test_an_answer_of_the_wrong_shape_gets_one_repair(fleet, ai, content):
    ai.script = [reply(content)]
    doc = Upload(fleet, ai)
    assert not all_null(doc.record())
    first, second = ai.calls
    assert first.repair is None and "not accepted" in second.repair
    assert "Nordwind" not in second.repair and content not in second.repair


def test_two_answers_of_the_wrong_shape_leave_the_cells_empty(fleet, ai):
    ai.script = [reply("no"), reply("still no")]
    doc = Upload(fleet, ai)
    record = doc.record()
    assert all_null(record) and reasons(record) == {"invalid_answer"} and record["needs_review"]
    assert len(ai.calls) == 2 and doc.task()["attempts"] == 1


def test_an_answer_cut_by_its_length_is_asked_in_halves(fleet, ai):
    ai.script = [reply('{"c1": {"value": "', finish="length")]
    record = Upload(fleet, ai).record()
    assert [len(c.names) for c in ai.calls] == [3, 1, 2]
    assert None not in record["values"].values()


def test_a_prompt_that_does_not_fit_is_asked_in_halves(fleet, ai):
    ai.script = [failure(400, type="exceed_context_size_error", n_prompt_tokens=9, n_ctx=8)]
    record = Upload(fleet, ai).record()
    assert len(ai.calls) == 3 and None not in record["values"].values()


@pytest.mark.parametrize("entry,reason", [
    (reply(None, refusal="I cannot help with that"), "refused"),
    (reply(None, finish="content_filter"), "content_filter")], ids=["refusal", "filter"])
def test_a_refusal_is_said_and_not_asked_again(fleet, ai, entry, reason):
    ai.script = [entry]
    record = Upload(fleet, ai).record()
    assert all_null(record) and reasons(record) == {reason} and len(ai.calls) == 1


def test_a_rejected_request_is_no_outage(fleet, ai):
    ai.script = [failure(422, type="invalid_request_error")]
    doc = Upload(fleet, ai)
    assert doc.task()["failures"] == 1 and not all_null(doc.record())


# --- paid once -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point,most", [("ai.answered", 2), ("ai.kept", 1), ("work.end", 1),
                                        ("complete.after_commit", 1)])
def test_a_killed_worker_pays_at_most_once_more(fleet, ai, point, most):
    fleet.restart("ai-extractor", env={"DOCFLEET_CRASH_AT": f"{point}:1"})
    doc = Upload(fleet, ai, wait=False)
    assert fleet.wait_end("ai-extractor", timeout=30) == -signal.SIGKILL
    fleet.start("ai-extractor")
    assert not all_null(doc.wait().record())
    assert len(ai.calls) == most
    assert bool(doc.ending().get("cached")) == (point in ("ai.kept", "work.end"))
    assert fleet.one("SELECT count(*) FROM record WHERE file_id = %s", doc.file_id) == 1


def rerun(doc, generation):
    doc.client.post(f"/files/{doc.file_id}/retry", json={"from": "ai"})
    return doc.wait(generation)


def test_a_rerun_makes_no_call(fleet, ai):
    doc = Upload(fleet, ai)
    before = doc.record()
    again = rerun(doc, 2).record()
    assert len(ai.calls) == 1
    assert again["generation"] == 2 and again["values"] == before["values"]
    assert doc.ending()["cached"] is True
    assert doc.ending()["usage"]["cachedCalls"] == 1 and doc.ending()["usage"]["calls"] == 0


def test_a_rerun_asks_again_what_could_not_be_repaired(fleet, ai):
    ai.script = [reply("no"), reply("still no")]
    doc = Upload(fleet, ai)
    assert all_null(doc.record())
    assert not all_null(rerun(doc, 2).record())
    assert len(ai.calls) == 3 and "cached" not in doc.ending()


def test_another_user_model_or_column_is_another_question(fleet, ai):
    doc = Upload(fleet, ai)
    Upload(fleet, ai, text=doc.text)
    assert len(ai.calls) == 1  # the same user, text and columns: another file is no other question
    Upload(fleet, ai, text=doc.text, client=fleet.client("bob"))
    assert len(ai.calls) == 2
    Upload(fleet, ai, text=doc.text, columns=[{"name": "Invoice number", "type": "string"}])
    assert len(ai.calls) == 3
    fleet.restart("ai-extractor", env={"DOCFLEET_AI_MODEL": "m-other"})
    assert rerun(doc, 2).record()["backend"] == "openai:m-other"
    assert len(ai.calls) == 4
    fleet.restart("ai-extractor")


# --- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env,word", [
    ({"DOCFLEET_AI_URL": ""}, "DOCFLEET_AI_URL"),
    ({"DOCFLEET_AI_MODEL": ""}, "DOCFLEET_AI_MODEL"),
    ({"DOCFLEET_AI_URL": "ftp://x/v1"}, "DOCFLEET_AI_URL"),
    ({"DOCFLEET_AI_KEY": "a\nb"}, "DOCFLEET_AI_KEY"),
    ({"DOCFLEET_AI_SCHEMA_MODE": "xml"}, "AI_SCHEMA_MODE"),
], ids=["url", "model", "scheme", "key", "mode"])
def test_a_worker_does_not_start_with_settings_that_cannot_work(fleet, env, word):
    fleet.stop("ai-extractor")
    fleet.start("ai-extractor", env=env, wait=False)
    process = fleet.process("ai-extractor")
    assert fleet.wait_end("ai-extractor") not in (0, None)
    assert word in process.log()


def test_the_key_is_in_no_log(fleet):
    for service in SERVICES:
        with open(fleet.log_path(service), encoding="utf-8", errors="replace") as f:
            assert KEY not in f.read()
