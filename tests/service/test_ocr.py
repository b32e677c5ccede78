# SPDX-License-Identifier: Apache-2.0
"""The ocr stage with tesseract in its jail: scans, pictures, ranges of pages, and bad input."""
import json

import pytest

from lib import rig


@pytest.fixture
def ocr(fleet):
    return Ocr(fleet)


class Ocr:
    def __init__(self, fleet):
        self.fleet, self.client = fleet, fleet.client()

    def upload(self, *paths):
        dataset = self.client.dataset()
        return [f["id"] for f in self.client.upload(dataset, list(paths))["files"]]

    def tasks(self, file_id):
        return self.fleet.sql("SELECT unit, state, cost, input, failures, attempts FROM task"
                              " WHERE file_id = %s AND stage = 2 ORDER BY unit", file_id)

    def wait(self, file_id, timeout=90):
        """The main pipeline's end: its state, the pages' rows."""
        def ended():
            state = self.fleet.one("SELECT main_state FROM file WHERE file_id = %s", file_id)
            return state in (2, 3, 4, 5) and (state,)
        try:
            (state,) = rig.wait_until(ended, timeout, what="the main pipeline")
        except rig.Timeout as e:
            raise rig.Timeout(f"{e}\n{self.tasks(file_id)}") from None
        return state, self.fleet.sql("SELECT * FROM file_page WHERE file_id = %s ORDER BY page",
                                     file_id)

    def text(self, row):
        data = self.fleet.object(row["text_key"])
        return data[row["text_start"]:row["text_start"] + row["text_bytes"]].decode()

    def words(self, row):
        data = self.fleet.object(row["words_key"])
        return json.loads(data[row["words_start"]:row["words_start"] + row["words_bytes"]])


def test_a_scan_has_text_and_words(ocr, fixture_path):
    (file_id,) = ocr.upload(fixture_path("invoice-scan.pdf"))
    state, (page,) = ocr.wait(file_id)
    assert (state, page["engine"]) == (2, "tesseract")
    assert page["confidence"] > 0.8 and page["width"] > 0 and not page["needs_ocr"]
    text = ocr.text(page)
    assert "NP-2024-0187" in text and "Total amount" in text
    words = ocr.words(page)["words"]
    covered = [text[w[4]:w[5]] for w in words]
    assert covered == text.split()
    assert all(0 <= w[0] <= w[2] <= 1 and 0 <= w[1] <= w[3] <= 1 and 0 <= w[6] <= 1 for w in words)


def test_ranges_of_pages(ocr, fixture_path):
    """12 pages: a plan and two ranges, joined once."""
    (file_id,) = ocr.upload(fixture_path("scan-12.pdf"))
    state, pages = ocr.wait(file_id)
    assert state == 2
    assert [(p["page"], p["engine"]) for p in pages] == [(n, "tesseract") for n in range(1, 13)]
    tasks = ocr.tasks(file_id)
    assert [(t["unit"], t["cost"]) for t in tasks][1:] == [(1, 10), (2, 2)]
    assert tasks[1]["input"] == {"pages": list(range(1, 11))}
    assert ocr.fleet.one("SELECT count(*) FROM task WHERE file_id = %s AND stage = 3 AND unit = 0",
                         file_id) == 1
    assert all("Chapter" in ocr.text(p) for p in pages)


def test_only_pages_without_text_are_read(ocr, fixture_path):
    (file_id,) = ocr.upload(fixture_path("mixed.pdf"))
    state, pages = ocr.wait(file_id)
    assert state == 2
    engines = [p["engine"] for p in pages]
    assert set(engines) == {"native", "tesseract"}
    assert all(ocr.text(p).strip() for p in pages)


@pytest.mark.parametrize("name", ["small.png", "small.gif", "small.bmp", "small.webp",
                                  "delivery.jpg", "invoice-scan.png"])
def test_pictures(ocr, fixture_path, name):
    (file_id,) = ocr.upload(fixture_path(name))
    state, (page,) = ocr.wait(file_id)
    assert (state, page["engine"]) == (2, "tesseract")


def test_a_fax_of_three_pages(ocr, fixture_path):
    (file_id,) = ocr.upload(fixture_path("fax.tiff"))
    state, pages = ocr.wait(file_id)
    assert (state, len(pages)) == (2, 3)
    assert {p["engine"] for p in pages} == {"tesseract"}


def test_bad_pictures_fail_alone(ocr, fixture_path):
    """Each says why at once; the good one beside them is read; no process dies."""
    pid = ocr.fleet.process("ocr-fallback").pid
    with open(fixture_path("delivery.jpg"), "rb") as f:
        jpeg = f.read()
    ids = ocr.upload(("cut.jpg", jpeg[:200]), ("noise.png", b"\x89PNG\r\n\x1a\n" + b"x" * 500),
                     fixture_path("pixel-bomb.png"), fixture_path("delivery.jpg"))
    states = [ocr.wait(i)[0] for i in ids]
    assert states == [3, 3, 3, 2]
    reasons = [ocr.fleet.one("SELECT reason FROM dead_letter WHERE file_id = %s"
                             " AND stage = 2", i)
               for i in ids[:3]]
    assert reasons == ["corrupt", "corrupt", "too_many_pixels"]
    assert all(t["attempts"] == 1 for i in ids[:3] for t in ocr.tasks(i))
    assert ocr.fleet.process("ocr-fallback").pid == pid and ocr.fleet.running("ocr-fallback")


def test_a_rerun_reads_again(ocr, fixture_path):
    (file_id,) = ocr.upload(fixture_path("delivery.jpg"))
    assert ocr.wait(file_id)[0] == 2
    ocr.client.post(f"/files/{file_id}/retry", json={"from": "ocr"})
    rig.wait_until(lambda: len(ocr.fleet.sql(
        "SELECT 1 FROM file_page WHERE file_id = %s AND generation = 2", file_id)) == 1, 30)
    assert ocr.wait(file_id)[0] == 2
