# SPDX-License-Identifier: Apache-2.0
"""Ranges of pages in the ocr and preview stages: what is done is seen before the rest is, one failed
range is retried alone, and two workers share a document."""
import os
import subprocess

import pytest

from lib import rig

SERVICES = ("ingest-gateway", "dispatcher", "text-extractor", "ocr-fallback", "ai-extractor",
            "preview-worker", "thumbnail-worker")
OCR, PREVIEW = 2, 4
PAGES = 25
# A unit of a stage is held back, or given an input that no worker understands, as it is planned.
HOOK = """
CREATE TABLE IF NOT EXISTS test_hook (stage int, unit int, how text);
CREATE OR REPLACE FUNCTION test_hook_task() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE h text;
BEGIN
    SELECT how INTO h FROM docfleet.test_hook WHERE stage = NEW.stage AND unit = NEW.unit;
    IF h = 'hold' THEN NEW.q := 1; NEW.not_before := now() + interval '1 hour'; END IF;
    IF h = 'spoil' THEN NEW.input := jsonb_build_object('spoilt', NEW.input); END IF;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS test_hook ON task;
CREATE TRIGGER test_hook BEFORE INSERT ON task FOR EACH ROW EXECUTE FUNCTION test_hook_task();
"""


@pytest.fixture(scope="module")
def module_fleet(servers):
    import conftest
    made = rig.Fleet(servers, {})
    conftest._activate(made)
    made.start(*SERVICES)
    with made.db() as conn:
        conn.execute(HOOK)
    yield made
    conftest._stop_current()


@pytest.fixture
def fleet(module_fleet):
    module_fleet.sql("DELETE FROM test_hook")
    return module_fleet


@pytest.fixture(scope="module")
def scan():
    """PDF of PAGES scanned pages."""
    return ledger(PAGES, PAGES)


def ledger(pages, scans):
    path = os.path.join(rig.FIXTURES, f"ledger-{pages}-{scans}-{os.getpid()}.pdf")
    subprocess.run(["/usr/bin/python3", f"{rig.ROOT}/tests/fixtures/make_fixtures.py", "--ledger",
                    str(pages), str(scans), path], check=True, capture_output=True, timeout=600)
    with open(path, "rb") as f:
        body = f.read()
    os.unlink(path)
    return body


class Doc:
    def __init__(self, fleet, body, **hooks):
        self.fleet, self.client = fleet, fleet.client()
        for unit, how in hooks.get("units", {}).items():
            fleet.sql("INSERT INTO test_hook VALUES (%s, %s, %s)", hooks["stage"], unit, how)
        self.dataset = self.client.dataset()
        self.id = self.client.upload(self.dataset, {"ledger.pdf": body})["files"][0]["id"]

    def units(self, stage):
        return {t["unit"]: t for t in self.fleet.sql(
            "SELECT unit, state, attempts, input FROM task WHERE file_id = %s AND stage = %s"
            " ORDER BY unit", self.id, stage)}

    def states(self, stage):
        return {unit: t["state"] for unit, t in self.units(stage).items()}

    def until(self, states, stage, timeout=120):
        try:
            rig.wait_until(lambda: self.states(stage) == states, timeout, what=f"{states}")
        except rig.Timeout as e:
            raise rig.Timeout(f"{e}\n{self.units(stage)}") from None

    def pipeline(self, name="main"):
        return self.client.file(self.id)["pipelines"][name]

    def text(self):
        return self.client.get(f"/files/{self.id}/text", headers={"Accept": "text/plain"}).text

    def mend(self, stage):
        self.fleet.sql("UPDATE task SET input = input->'spoilt' WHERE file_id = %s AND stage = %s"
                       " AND input ? 'spoilt'", self.id, stage)


def sheets(text):
    """Numbers of the pages the text holds, in its order."""
    return [n for n in range(1, PAGES + 1) if f"sheet {n} of" in text]


def test_text_of_finished_ranges_is_there_before_the_rest(fleet, scan):
    doc = Doc(fleet, scan, stage=OCR, units={2: "hold"})
    doc.until({0: 4, 1: 4, 2: 0, 3: 4}, OCR)
    main = doc.pipeline()
    assert main["stage"] == "ocr" and main["state"] == "waiting"
    assert (main["pagesDone"], main["pagesTotal"]) == (15, PAGES)
    assert sheets(doc.text()) == [*range(1, 11), *range(21, 26)]
    fleet.sql("UPDATE task SET not_before = now() WHERE file_id = %s AND q = 1", doc.id)
    doc.client.wait_done(doc.id, timeout=90)
    main = doc.pipeline()
    assert main["state"] == "done" and main["pagesDone"] == main["pagesTotal"] == PAGES
    text = doc.text()
    assert sheets(text) == list(range(1, PAGES + 1))
    places = [text.index(f"sheet {n} of") for n in range(1, PAGES + 1)]
    assert places == sorted(places)


@pytest.mark.parametrize("way", ["file", "dead-letters"])
def test_one_failed_range_of_ocr_is_retried_alone(fleet, scan, way):
    doc = Doc(fleet, scan, stage=OCR, units={2: "spoil"})
    doc.until({0: 4, 1: 4, 2: 5, 3: 4}, OCR)
    doc.client.wait_done(doc.id, timeout=60, states=("failed",))
    main = doc.pipeline()
    assert main["state"] == "failed" and main["pagesDone"] == 15
    assert sheets(doc.text()) == [*range(1, 11), *range(21, 26)]
    assert not fleet.sql("SELECT 1 FROM task WHERE file_id = %s AND stage = 3", doc.id)
    before = doc.units(OCR)
    doc.mend(OCR)
    if way == "file":
        doc.client.post(f"/files/{doc.id}/retry")
    else:
        fleet.ctl("dead-letters", "replay", "--file", doc.id,
                  env={"DOCFLEET_ADMIN_KEY": fleet.client("root", admin=True).key})
    doc.client.wait_done(doc.id, timeout=90, states=("done",))
    after = doc.units(OCR)
    assert all(after[u]["attempts"] == before[u]["attempts"] == 1 for u in (0, 1, 3))
    assert sheets(doc.text()) == list(range(1, PAGES + 1))
    assert fleet.one("SELECT count(*) FROM record WHERE file_id = %s", doc.id) == 1
    assert fleet.one("SELECT failed FROM stage_join WHERE file_id = %s AND stage = 2", doc.id) == 0


def test_pictures_of_finished_ranges_are_seen_and_a_failed_one_is_retried_alone(fleet):
    doc = Doc(fleet, ledger(PAGES, 0), stage=PREVIEW, units={1: "spoil", 2: "hold"})
    rig.wait_until(lambda: doc.states(PREVIEW).get(1) == 5, 60, what="a dead range")
    preview = doc.pipeline("preview")
    assert preview["state"] == "waiting"
    assert (preview["pagesDone"], preview["pagesTotal"]) == (10, PAGES)
    assert doc.client.get(f"/files/{doc.id}/preview/10.webp").content[:4] == b"RIFF"
    assert doc.client.request("GET", f"/files/{doc.id}/preview/11.webp").status_code == 404
    fleet.sql("UPDATE task SET not_before = now() WHERE file_id = %s AND q = 1", doc.id)
    rig.wait_until(lambda: doc.pipeline("preview")["state"] == "failed", 60)
    assert doc.client.get(f"/files/{doc.id}/preview/25.webp").content[:4] == b"RIFF"
    doc.client.wait_done(doc.id)
    assert doc.client.file(doc.id)["state"] == "done"  # a failed preview fails no file
    before = doc.units(PREVIEW)
    doc.mend(PREVIEW)
    doc.client.post(f"/files/{doc.id}/retry")
    rig.wait_until(lambda: doc.pipeline("preview")["state"] == "done", 60)
    after = doc.units(PREVIEW)
    assert all(after[u]["attempts"] == before[u]["attempts"] for u in (0, 2))
    preview = doc.pipeline("preview")
    assert preview["pagesDone"] == preview["pagesTotal"] == PAGES


def test_two_workers_share_a_scan(fleet):
    """Each worker has some of the ranges, each range is worked on once."""
    pages = int(os.environ.get("DOCFLEET_TEST_PAGES", "40"))
    body = ledger(pages, pages)
    fleet.restart("ocr-fallback", env={"DOCFLEET_SLOTS": "1"})
    fleet.start("ocr-fallback#2", env={"DOCFLEET_SLOTS": "1"})
    try:
        rig.wait_until(lambda: fleet.one("SELECT count(*) FROM worker WHERE stage = 2 AND"
                                         " cardinality(partitions) = 3") == 2, 20,
                       what="partitions for both")
        # The dispatcher looks at its workers once a second, and until then knows one of them.
        start = fleet.one("SELECT now()")
        rig.wait_until(lambda: fleet.one("SELECT updated_at > %s + interval '2 s' FROM queue_state"
                                         " WHERE stage = 2", start), 10, what="a look at the workers")
        doc = Doc(fleet, body)
        owners = set()

        def done():
            owners.update(r["lease_owner"] for r in fleet.sql(
                "SELECT DISTINCT lease_owner FROM task WHERE file_id = %s AND stage = 2 AND state"
                " IN (2, 4) AND unit > 0", doc.id))
            return doc.client.file(doc.id)["state"] == "done"
        rig.wait_until(done, 30 + 4 * pages)
        assert len(owners) == 2
        units = doc.units(OCR)
        assert len(units) == 1 + (pages + 9) // 10
        assert {t["attempts"] for t in units.values()} == {1}
        text = doc.text()
        places = [text.index(f"sheet {n} of {pages}") for n in range(1, pages + 1)]
        assert places == sorted(places)
        print("memory of the workers:", [fleet.process(n).rss() >> 20 for n in
                                         ("ocr-fallback", "ocr-fallback#2")], "MB")
    finally:
        fleet.stop("ocr-fallback#2")
        fleet.restart("ocr-fallback")
