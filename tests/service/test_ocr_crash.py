# SPDX-License-Identifier: Apache-2.0
"""Pages that break the child that reads them: a stand-in for the zygote dies on page 2 and runs out
of memory on page 4 (tests/unit/ocr_probe_zygote.c). The other pages must not notice."""
import http.server
import json
import os
import threading

import pytest

from lib import rig

SERVICES = ("ingest-gateway", "dispatcher", "text-extractor", "ocr-fallback")
PROBE = os.path.join(rig.ROOT, "build", "release", "tests", "ocr_probe_zygote")


@pytest.fixture
def broken(new_fleet, tmp_path):
    """broken(NAME=value...): a fleet whose ocr stage has the broken zygote; gives (fleet, file)."""
    def make(**settings):
        folder = tmp_path / "zygotes"
        folder.mkdir()
        (folder / "ocr-fallback-zygote").symlink_to(PROBE)
        fleet = new_fleet(env={"DOCFLEET_" + k: v for k, v in settings.items()})
        fleet.start(*(s for s in SERVICES if s != "ocr-fallback"))
        fleet.start("ocr-fallback", env={"DOCFLEET_ZYGOTE_DIR": str(folder)})
        return fleet
    return make


def upload(fleet):
    """The probe looks at no bytes; these are a picture to the gateway."""
    client = fleet.client()
    return client.upload(client.dataset(), [("a.png", b"\x89PNG\r\n\x1a\n" + b"x" * 99)])[
        "files"][0]["id"]


def pages(fleet, file_id):
    rig.wait_until(lambda: fleet.sql("SELECT 1 FROM task WHERE file_id = %s AND stage = 3",
                                     file_id), 60, what="the ocr stage")
    rows = fleet.sql("SELECT page, engine, chars FROM file_page WHERE file_id = %s ORDER BY page",
                     file_id)
    return [(row["page"], row["engine"]) for row in rows]


def test_a_crashing_page_costs_no_other(broken):
    fleet = broken()
    file_id = upload(fleet)
    assert pages(fleet, file_id) == [(1, "tesseract"), (2, "none"), (3, "tesseract"), (4, "none")]
    (task,) = fleet.sql("SELECT attempts, failures FROM task WHERE file_id = %s AND stage = 2",
                        file_id)
    assert task == {"attempts": 1, "failures": 0}
    metrics = fleet.metrics("ocr-fallback")
    assert metrics['docfleet_jail_kills_total{stage="ocr",reason="crash"}'] == 2


def test_textract_reads_what_crashes_tesseract(broken):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            answer = json.dumps({"Blocks": [{"BlockType": "LINE", "Text": "saved",
                                             "Confidence": 99.0}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        fleet = broken(TEXTRACT_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
                       TEXTRACT_ACCESS_KEY="a", TEXTRACT_SECRET_KEY="b")
        file_id = upload(fleet)
        assert pages(fleet, file_id) == [(1, "tesseract"), (2, "textract"), (3, "tesseract"),
                                         (4, "textract")]
    finally:
        server.shutdown()
        server.server_close()
