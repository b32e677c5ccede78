# SPDX-License-Identifier: Apache-2.0
"""Textract behind the ocr stage: the real worker against moto, which verifies every signature, and
against a front of our own before it that does what moto cannot: throttle, refuse, page, take time.
"""
import base64
import hashlib
import http.server
import json
import sys
import threading
import urllib.request

import pytest
import requests

from lib import rig

LINES = [["Nordwind", "Paper", "Ltd"], ["Invoice", "number:", "TX-4711"],
         ["Total", "amount:", "EUR", "1,487.50"]]
SERVICES = ("ingest-gateway", "dispatcher", "text-extractor", "ocr-fallback")


def blocks(lines=tuple(map(tuple, LINES)), page=1, confidence=99.5, mark=""):
    """What Textract would answer for these lines."""
    made = [{"BlockType": "PAGE", "Id": f"p{page}{mark}", "Page": page, "Geometry": box(0, 0, 1, 1)}]
    for i, words in enumerate(lines):
        ids = [f"w{page}-{i}-{k}{mark}" for k in range(len(words))]
        made.append({"BlockType": "LINE", "Id": f"l{page}-{i}{mark}", "Page": page,
                     "Confidence": confidence, "Text": " ".join(words),
                     "Geometry": box(0.1, 0.1 + i / 20, 0.8, 0.03),
                     "Relationships": [{"Type": "CHILD", "Ids": ids}]})
        made += [{"BlockType": "WORD", "Id": ids[k], "Page": page, "Confidence": confidence,
                  "Text": word, "Geometry": box(0.1 + k / 5, 0.1 + i / 20, 0.15, 0.03)}
                 for k, word in enumerate(words)]
    return made


def box(left, top, width, height):
    return {"BoundingBox": {"Left": left, "Top": top, "Width": width, "Height": height}}


class TextractMoto(rig.Moto):
    """moto that answers with the blocks given; its stock answer is an empty list."""

    LAUNCHER = """
import json, sys, threading
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.textract.models import TextractBackend
TextractBackend.BLOCKS = json.loads(sys.argv[2])
TextractBackend.PAGES = {"Pages": 1}
ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1])).start()
threading.Event().wait()
"""

    def __init__(self, directory, answer):  # pylint: disable=super-init-not-called
        self.port = rig.free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        env = dict(rig._base_env(), INITIAL_NO_AUTH_ACTION_COUNT="1000000")
        self.process = rig.Process("moto", [sys.executable, "-c", self.LAUNCHER, str(self.port),
                                            json.dumps(answer)], f"{directory}/moto.log", env=env)
        rig.wait_until(lambda: requests.get(self.endpoint + "/moto-api/", timeout=2).ok, 30,
                       what="moto")


class Front:
    """Passes calls on to moto, after the faults that a test has put up for an action."""

    def __init__(self, target):
        self.target, self.calls, self.faults, self.results = target, [], {}, {}
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer, kind = front.answer(self.headers, body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, headers, body):
        action = headers["X-Amz-Target"].rsplit(".", 1)[-1]
        request = json.loads(body)
        status, answer = self.forward(headers, body)  # the judge of the signature sees every call
        self.calls.append((action, request, status))
        if status != 200:
            return status, answer, "text/xml"
        waiting = self.faults.get(action, [])
        for i, (wanted, name, code) in enumerate(waiting):
            if wanted(request):
                del waiting[i]
                return code, json.dumps({"__type": name, "Message": "as told"}).encode(), \
                    "application/x-amz-json-1.1"
        if action in self.results:
            answer = json.dumps(self.results[action](request, json.loads(answer))).encode()
        return status, answer, "application/x-amz-json-1.1"

    def forward(self, headers, body):
        request = urllib.request.Request(self.target, data=body, method="POST",
                                         headers=dict(headers.items()))
        try:
            with urllib.request.urlopen(request, timeout=20) as got:
                return got.status, got.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()

    def fault(self, action, name, code=400, wanted=lambda request: True):
        self.faults.setdefault(action, []).append((wanted, name, code))

    def count(self, action):
        return sum(1 for name, _, _ in self.calls if name == action)

    def documents(self):
        """The bytes that were sent to be read, by hash: how often."""
        sent = {}
        for action, request, _ in self.calls:
            if action == "DetectDocumentText":
                key = hashlib.sha256(request["Document"]["Bytes"].encode()).hexdigest()
                sent[key] = sent.get(key, 0) + 1
        return sent

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def judge(servers):
    made = TextractMoto(servers.dir, blocks())
    made.keys = made.verify_signatures()
    yield made
    made.stop()


@pytest.fixture
def front(judge):
    made = Front(judge.endpoint)
    yield made
    made.stop()


@pytest.fixture
def textract_fleet(new_fleet, judge):
    """textract_fleet(endpoint, NAME=value...): a fleet whose ocr stage uses Textract."""
    def make(endpoint, services=SERVICES, **settings):
        env = {"DOCFLEET_OCR_ENGINE": "textract", "DOCFLEET_TEXTRACT_ENDPOINT": endpoint,
               "DOCFLEET_TEXTRACT_ACCESS_KEY": judge.keys[0],
               "DOCFLEET_TEXTRACT_SECRET_KEY": judge.keys[1], "DOCFLEET_TEXTRACT_POLL": "200ms"}
        env.update({"DOCFLEET_" + k: v for k, v in settings.items()})
        return new_fleet(env=env).start(*services)
    return make


def upload(fleet, path):
    client = fleet.client()
    return client.upload(client.dataset(), [path])["files"][0]["id"]


def pages(fleet, file_id):
    return fleet.sql("SELECT page, engine, confidence, chars, text_key, text_start, text_bytes,"
                     " words_key, words_start, words_bytes, width FROM file_page"
                     " WHERE file_id = %s ORDER BY page", file_id)


def text_of(fleet, row):
    data = fleet.object(row["text_key"])
    return data[row["text_start"]:row["text_start"] + row["text_bytes"]].decode()


def ocr_tasks(fleet, file_id):
    return fleet.sql("SELECT unit, state, attempts, failures, refunds, outage_retries, ext_job_id,"
                     " last_error FROM task WHERE file_id = %s AND stage = 2 ORDER BY unit", file_id)


def wait_ocr(fleet, file_id, timeout=60):
    """The pages, once the stage has handed over to the next."""
    def handed_over():
        return fleet.sql("SELECT 1 FROM task WHERE file_id = %s AND stage = 3", file_id)
    try:
        rig.wait_until(handed_over, timeout, what="the ocr stage")
    except rig.Timeout as e:
        raise rig.Timeout(f"{e}\n{ocr_tasks(fleet, file_id)}") from None
    return pages(fleet, file_id)


def test_a_scan_is_read_through_textract(textract_fleet, judge, fixture_path):
    """Tesseract is off; moto verifies the signature; the whole way to the record."""
    fleet = textract_fleet(judge.endpoint, services=(*SERVICES, "ai-extractor"), TEXTRACT_PRICE="1500")
    file_id = upload(fleet, fixture_path("invoice-scan.pdf"))
    (page,) = wait_ocr(fleet, file_id)
    assert page["engine"] == "textract"
    assert page["confidence"] == pytest.approx(0.995, abs=1e-3)
    text = text_of(fleet, page)
    assert text == "\n".join(" ".join(words) for words in LINES)
    line = fleet.object(page["words_key"])[page["words_start"]:][:page["words_bytes"]]
    words = json.loads(line)["words"]
    assert [text[w[4]:w[5]] for w in words] == [w for words in LINES for w in words]
    assert words[0][:4] == pytest.approx([0.1, 0.1, 0.25, 0.13], abs=1e-3)
    rig.wait_until(lambda: fleet.one("SELECT main_state FROM file WHERE file_id = %s", file_id) == 2,
                   30, what="the main pipeline")
    assert "1487.50" in json.dumps(fleet.sql("SELECT values FROM record WHERE file_id = %s",
                                             file_id), default=str)
    metrics = fleet.metrics("ocr-fallback")
    assert metrics['docfleet_provider_calls_total{provider="textract",outcome="done"}'] == 1
    assert metrics['docfleet_provider_cost_total{provider="textract"}'] == pytest.approx(0.0015)
    assert fleet.client().json("/usage")["money"]["used"] == pytest.approx(0.0015)


def test_a_quota_of_money_holds_textract(textract_fleet, judge, fixture_path):
    """Nobody is asked for what nobody may pay."""
    fleet = textract_fleet(judge.endpoint, TEXTRACT_PRICE="1500")
    user = fleet.client().json("/auth/me")["id"]
    fleet.client("root", admin=True).request("PUT", f"/admin/users/{user}/quota", 200, json={"money": 0.001})
    file_id = upload(fleet, fixture_path("invoice-scan.png"))
    rig.wait_until(lambda: fleet.one("SELECT main_state FROM file WHERE file_id = %s", file_id) == 3, 60)
    assert not any("provider_calls_total" in name and value for name, value in fleet.metrics("ocr-fallback").items())
    assert fleet.one("SELECT reason FROM dead_letter WHERE file_id = %s", file_id) in ("quota_exceeded", "pages_failed")
    assert fleet.client().json("/usage")["money"]["used"] == 0


def test_a_wrong_secret_costs_no_file(textract_fleet, judge, fixture_path):
    """moto's refusal is XML; the unit waits until the key is right."""
    fleet = textract_fleet(judge.endpoint, TEXTRACT_SECRET_KEY="wrong" * 8)
    file_id = upload(fleet, fixture_path("invoice-scan.png"))

    def put_back():
        task = ocr_tasks(fleet, file_id)
        return task and task[0]["outage_retries"] >= 1 and task[0]
    task = rig.wait_until(put_back, 30)
    assert "SignatureDoesNotMatch" in task["last_error"]
    assert task["failures"] == 0
    fleet.restart("ocr-fallback", env={"DOCFLEET_TEXTRACT_SECRET_KEY": judge.keys[1]})
    (page,) = wait_ocr(fleet, file_id)
    assert page["engine"] == "textract" and page["width"] > 0


@pytest.mark.parametrize("name", ["ThrottlingException", "LimitExceededException",
                                  "com.amazonaws.textract#ProvisionedThroughputExceededException"])
def test_throttled_calls_are_made_later(textract_fleet, front, fixture_path, name):
    front.fault("DetectDocumentText", name)
    fleet = textract_fleet(front.endpoint, TEXTRACT_PRICE="1500")
    file_id = upload(fleet, fixture_path("invoice-scan.png"))
    (page,) = wait_ocr(fleet, file_id)
    assert fleet.one("SELECT sum(micros) FROM spend WHERE file_id = %s", file_id) == 1500  # of one call
    assert page["engine"] == "textract"
    (task,) = ocr_tasks(fleet, file_id)
    assert (task["outage_retries"], task["failures"], task["attempts"]) == (1, 0, 2)
    metrics = fleet.metrics("ocr-fallback")
    assert metrics['docfleet_provider_throttles_total{provider="textract"}'] == 1


def test_no_page_is_paid_twice(textract_fleet, front, fixture_path):
    """The last page of a unit fails for a while: the pages before it are not sent again."""
    seen = set()

    def third(request):
        seen.add(request["Document"]["Bytes"])
        return len(seen) == 3
    front.fault("DetectDocumentText", "InternalServerError", 500, third)
    fleet = textract_fleet(front.endpoint)
    file_id = upload(fleet, fixture_path("fax.tiff"))
    rows = wait_ocr(fleet, file_id)
    assert [row["engine"] for row in rows] == ["textract"] * 3
    assert sorted(front.documents().values()) == [1, 1, 2]
    assert fleet.one("SELECT count(*) FROM effect WHERE kind = 'textract'") == 3


def test_a_pdf_that_is_not_wanted_goes_as_a_picture(textract_fleet, front, fixture_path):
    def is_pdf(request):
        return base64.b64decode(request["Document"]["Bytes"]).startswith(b"%PDF")
    front.fault("DetectDocumentText", "UnsupportedDocumentException", 400, is_pdf)
    fleet = textract_fleet(front.endpoint)
    (page,) = wait_ocr(fleet, upload(fleet, fixture_path("invoice-scan.pdf")))
    assert page["engine"] == "textract"
    sent = [base64.b64decode(r["Document"]["Bytes"]) for _, r, _ in front.calls]
    assert [s[:3] for s in sent] == [b"%PD", b"\xff\xd8\xff"]


def test_a_page_nobody_can_read_fails_for_good(textract_fleet, front, fixture_path):
    front.fault("DetectDocumentText", "BadDocumentException")
    fleet = textract_fleet(front.endpoint)
    file_id = upload(fleet, fixture_path("invoice-scan.png"))
    rig.wait_until(lambda: fleet.one("SELECT main_state FROM file WHERE file_id = %s", file_id) == 3,
                   30, what="the failed pipeline")
    letter = fleet.one("SELECT reason, class FROM dead_letter WHERE file_id = %s", file_id)
    assert letter == {"reason": "corrupt", "class": "permanent"}


def test_poor_readings_go_to_textract_and_the_better_one_stays(textract_fleet, front,
                                                               fixture_path):
    """auto with a bar that tesseract cannot reach."""
    answers = iter([blocks(), blocks(confidence=12.0)])
    front.results["DetectDocumentText"] = lambda request, answer: dict(answer, Blocks=next(answers))
    fleet = textract_fleet(front.endpoint, OCR_ENGINE="auto", OCR_MIN_CONFIDENCE="100")
    (page,) = wait_ocr(fleet, upload(fleet, fixture_path("invoice-scan.png")))
    assert page["engine"] == "textract" and "TX-4711" in text_of(fleet, page)
    (page,) = wait_ocr(fleet, upload(fleet, fixture_path("delivery.jpg")))
    assert page["engine"] == "tesseract" and "Delivery notice" in text_of(fleet, page)
    assert front.count("DetectDocumentText") == 2


def test_good_readings_cost_nothing(textract_fleet, front, fixture_path):
    fleet = textract_fleet(front.endpoint, OCR_ENGINE="auto")
    (page,) = wait_ocr(fleet, upload(fleet, fixture_path("invoice-scan.png")))
    assert page["engine"] == "tesseract" and page["confidence"] > 0.8
    assert not front.calls


def test_a_poor_reading_does_not_wait_for_ever(textract_fleet, fixture_path):
    """Nothing listens there: after two tries tesseract's text is taken, with its confidence."""
    fleet = textract_fleet(f"http://127.0.0.1:{rig.free_port()}", OCR_ENGINE="auto",
                           OCR_MIN_CONFIDENCE="100")
    file_id = upload(fleet, fixture_path("delivery.jpg"))
    (page,) = wait_ocr(fleet, file_id)
    assert page["engine"] == "tesseract" and 0 < page["confidence"] < 1
    assert ocr_tasks(fleet, file_id)[0]["outage_retries"] == 2


def test_a_job_reads_the_pages_of_a_pdf(textract_fleet, front, fixture_path):
    """Jobs: one start, some waiting without a slot, results in pieces, the object gone after."""
    answers = []
    for page in range(1, 11):
        answers += blocks([["page", f"P{page}"]], page=page)
    polls = []

    def result(request, answer):
        polls.append(request)
        if len(polls) <= 2:
            return dict(answer, JobStatus="IN_PROGRESS", Blocks=[])
        at = int(request.get("NextToken", "0"))
        more = {"NextToken": str(at + 7)} if at + 7 < len(answers) else {}
        return {"JobStatus": "SUCCEEDED", "DocumentMetadata": {"Pages": 10},
                "Blocks": answers[at:at + 7], **more}
    front.results["GetDocumentTextDetection"] = result
    fleet = textract_fleet(front.endpoint, TEXTRACT_ASYNC="true")
    file_id = upload(fleet, fixture_path("scan-12.pdf"))
    rows = wait_ocr(fleet, file_id)
    assert [(row["page"], row["engine"]) for row in rows] == [(n, "textract") for n in range(1, 13)]
    assert [text_of(fleet, row) for row in rows] == \
        [f"page P{n}" for n in range(1, 11)] + ["page P1", "page P2"]
    tasks = ocr_tasks(fleet, file_id)
    assert [task["unit"] for task in tasks] == [0, 1, 2]
    assert front.count("StartDocumentTextDetection") == 2
    starts = [r for a, r, _ in front.calls if a == "StartDocumentTextDetection"]
    assert len({r["ClientRequestToken"] for r in starts}) == 2
    assert all(r["DocumentLocation"]["S3Object"]["Bucket"] == fleet.bucket for r in starts)
    keys = {r["DocumentLocation"]["S3Object"]["Name"] for r in starts}
    assert not keys & set(fleet.objects())
    assert sum(task["refunds"] for task in tasks) >= 2  # waiting is no failure
    assert all(task["failures"] == 0 for task in tasks)


def test_a_failed_job_leaves_the_page_to_tesseract(textract_fleet, front, fixture_path):
    front.results["GetDocumentTextDetection"] = \
        lambda request, answer: dict(answer, JobStatus="FAILED", Blocks=[])
    fleet = textract_fleet(front.endpoint, OCR_ENGINE="auto", OCR_MIN_CONFIDENCE="100",
                           TEXTRACT_ASYNC="true")
    front.fault("DetectDocumentText", "BadDocumentException")
    front.fault("DetectDocumentText", "BadDocumentException")
    (page,) = wait_ocr(fleet, upload(fleet, fixture_path("invoice-scan.pdf")))
    assert page["engine"] == "tesseract" and "Nordwind" in text_of(fleet, page)
