# SPDX-License-Identifier: Apache-2.0
"""Fault matrix, paid services: throttled, lost, lying, silent; nothing is bought twice."""
import collections
import json
import time

import pytest

from chaos import matrix
from chaos.test_matrix_store import body, number
from lib import rig
from lib.ai_server import completion, failure
from service.test_textract import blocks, front, judge  # noqa: F401  (two are fixtures)


def textract(judge, front, **more):
    return {"DOCFLEET_OCR_ENGINE": "textract", "DOCFLEET_TEXTRACT_ENDPOINT": front.endpoint,
            "DOCFLEET_TEXTRACT_ACCESS_KEY": judge.keys[0], "DOCFLEET_TEXTRACT_POLL": "200ms",
            "DOCFLEET_TEXTRACT_SECRET_KEY": judge.keys[1],
            **{"DOCFLEET_TEXTRACT_" + k: v for k, v in more.items()}}


def scans(a, fixture_path, names, copies):
    """Scans of many users, each of its own bytes."""
    a.make_users(10)
    made = []
    for i in range(copies):
        for name in names:
            with open(fixture_path(name), "rb") as f:
                data = f.read()
            made += a.upload(a.users[i % 10], [f"{i}-{name}"],
                             lambda n, d=data: d + (f"\n%{n}\n".encode() if n.endswith("pdf") else b""))
    return made


@matrix.full
def test_f29_textract_throttled(new_fleet, judge, front, fixture_path):
    with matrix.arena(new_fleet, "F29", "throttled for 8 s", env=textract(judge, front)) as a:
        a.start(stages=("ai", "preview"), real=("text", "ocr"))
        until = time.monotonic() + 12
        throttled = []

        def wanted(_):
            if time.monotonic() < until:
                throttled.append(1)
                return True
            return False
        for _ in range(10000):
            front.fault("DetectDocumentText", "ThrottlingException", 400, wanted)
        scans(a, fixture_path, ["invoice-scan.pdf"], 20)
        a.quiesce(150)
        a.figure("throttled", len(throttled))
        assert throttled
        paid = front.documents()
        a.figure("pagesPaid", len(paid))
        a.check(crashes=0, failures=0)


@pytest.mark.parametrize("how", ["lost", "expired", "duplicate"])
@matrix.full
def test_f29_textract_jobs(new_fleet, judge, front, fixture_path, how):
    with matrix.arena(new_fleet, "F29", f"job {how}", faults=True,
                      env=textract(judge, front, ASYNC="true")) as a:
        a.start(stages=("ai", "preview"), real=("text",))
        env = {"DOCFLEET_CRASH_AT": "complete.before:2"} if how == "duplicate" else {}
        a.fleet.start("ocr-fallback", env=env)
        answers = blocks([["page", "read"]])
        polls = collections.Counter()

        def result(request, answer):
            polls[request["JobId"]] += 1
            if polls[request["JobId"]] <= 2:
                return dict(answer, JobStatus="IN_PROGRESS", Blocks=[])
            return {"JobStatus": "SUCCEEDED", "DocumentMetadata": {"Pages": 10}, "Blocks": answers}
        front.results["GetDocumentTextDetection"] = result
        if how in ("lost", "expired"):
            for _ in range(2):
                front.fault("GetDocumentTextDetection", "InvalidJobIdException", 400)
        scans(a, fixture_path, ["scan-12.pdf"], 3)
        if how == "duplicate":
            a.fleet.wait_end("ocr-fallback", timeout=60)
            a.fleet.start_again("ocr-fallback", env=None)
        a.quiesce(120)
        starts = collections.Counter(r["ClientRequestToken"] for name, r, status in front.calls
                                     if name == "StartDocumentTextDetection" and status == 200)
        a.figure("starts", sum(starts.values()))
        # A unit that died between the call and its row asks again, with the token that it had: for AWS that
        # is the same job. Two units to each of the three files.
        a.figure("startsPerToken", max(starts.values()), 2)
        a.figure("tokens", len(starts), 6)
        a.check(crashes=4 if how == "duplicate" else 0, done=False)
        bad = a.fleet.sql("SELECT reason FROM dead_letter")
        assert not bad, f"died: {bad}"


def filled(call):
    """An honest answer, whatever the document is."""
    line = next(x for x in call.document.splitlines() if "Invoice number:" in x)
    value = line.split("Invoice number:")[1].strip()
    return completion({k: {"value": value, "quote": f"Invoice number: {value}", "page": 1,
                           "line": None} for k in call.schema()["properties"]})


def hang(call):
    time.sleep(6)
    return 200, {}, b""


FAULTS = {
    "429": lambda call: (429, {"Retry-After": "2"}, {"error": {"message": "slow down"}}),
    "500": lambda call: (500, {}, {"error": {"message": "as told"}}),
    "not json": lambda call: completion("{ this is not json"),
    "empty": lambda call: (200, {}, b""),
    "cut": lambda call: (200, {"Content-Length": "4096"}, b'{"choices": [{"mess'),
    "hang": hang,
}


@pytest.mark.parametrize("fault", ["429", *matrix.in_full("500", "not json", "empty", "hang")])
@matrix.full
def test_f30_ai_service(new_fleet, provider, fault):
    """The service fails for a while, wholly; then it answers."""
    provider.reset()
    env = {"DOCFLEET_AI_BACKEND": "openai", "DOCFLEET_AI_MODEL": "m", "DOCFLEET_AI_KEY": "k",
           "DOCFLEET_AI_URL": provider.url, "DOCFLEET_AI_TIMEOUT": "3s"}
    with matrix.arena(new_fleet, "F30", fault, env=env) as a:
        # enough slots for ten calls within the twelve seconds, though each hangs for three
        a.start(stages=("preview",), real=("text", "ai"), env={"DOCFLEET_SLOTS": "8"})
        state = {"until": None, "calls": [], "good": collections.Counter()}

        def answer(call):
            with provider._lock:
                state["calls"].append(time.monotonic())
                state["until"] = state["until"] or time.monotonic() + 12
                broken = time.monotonic() < state["until"]
                if not broken:
                    state["good"][call.document] += 1
            return FAULTS[fault](call) if broken else filled(call)
        provider.answer = answer
        a.load(files=100, users=20, elephant=60, body=body)
        opened, worker = False, "ai-extractor"
        end = time.monotonic() + 14
        while time.monotonic() < end:
            opened = opened or any(k.startswith("docfleet_breaker_state") and v > 0
                                   for k, v in a.fleet.metrics(worker).items())
            time.sleep(0.2)
        broken_calls = len(state["calls"])
        a.figure("callsWhileBroken", broken_calls)
        a.figure("breakerOpened", opened)
        a.quiesce(240)
        if fault != "not json":  # that is an answer of the model, not of a broken service
            assert opened, "the breaker did not open"
            a.figure("failures", int(a.totals()["failures"]), 0)
            wrong = [(r["name"], r["values"]) for r in a.fleet.sql(
                "SELECT f.name, r.values FROM record r JOIN file f USING (file_id)")
                if r["values"].get("c1") != number(r["name"])]
            assert not wrong, f"values that are not right: {wrong[:5]}"
            a.figure("paidTwice", sum(n - 1 for n in state["good"].values()), 0)
        a.check(crashes=0)
        del provider.answer
        json.dumps(a.figures)
