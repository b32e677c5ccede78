# SPDX-License-Identifier: Apache-2.0
"""Every check of the rig bites: one planted violation each, taken back afterwards."""
import contextlib
import os
import signal
import subprocess
import uuid

import pytest

from chaos import checks
from chaos.ledger import Caller
from chaos.world import World
from lib import rig


@pytest.fixture(scope="module")
def world():
    import conftest
    if conftest._state["current"]:
        conftest._stop_current()
    with World(seed=1, workers={"text": 1, "ocr": 1, "ai": 1, "preview": 1}) as made:
        caller = Caller(made, made.keys(1)[0], "user0")
        data = caller.dataset("planted")
        made.files = caller.upload(data, ["a.txt", "b.txt", "pages40-c.txt", "fail-d.txt"])
        gone = caller.upload(data, ["gone.txt"])[0][0]
        made.wait_quiet()
        caller.remove(gone)
        made.wait_quiet()
        yield made


@pytest.fixture
def planted(world):
    """Forgets what the plant did to the audit."""
    with world.fleet.db() as conn:
        marks = [conn.execute(f"SELECT coalesce(max(id), 0) AS n FROM chaos.{t}").fetchone()["n"]
                 for t in ("task_step", "file_step")]
    yield
    world.fleet.sql("DELETE FROM chaos.task_step WHERE id > %s", marks[0])
    world.fleet.sql("DELETE FROM chaos.file_step WHERE id > %s", marks[1])


def fine(world):
    return world.files[0][0]


def bites(world, check, what=""):
    rows = checks.CHECKS[check](world)
    assert rows, f"{check} did not see it"
    assert what in str(rows), rows
    return rows


def test_a_quiet_world_has_no_findings(world):
    assert checks.run(world) == {}
    assert checks.amplification(world)["amplification"] == 1.0


def test_q1_a_promise_that_the_database_lost(world):
    lost = str(uuid.uuid4())
    world.ledger.add([(lost, "x.txt")], "user0", "d", 0)
    bites(world, "Q1", lost)
    del world.ledger.accepted[lost]


def test_q1_a_stuck_file_and_one_that_came_twice(world, planted):
    world.fleet.sql("UPDATE file SET state = 1 WHERE file_id = %s", fine(world))
    bites(world, "Q1", "stuck")
    bites(world, "Q6", fine(world))
    world.fleet.sql("UPDATE file SET state = 2, name = 'b.txt' WHERE file_id = %s", fine(world))
    bites(world, "Q1", "twice")
    world.fleet.sql("UPDATE file SET name = 'a.txt' WHERE file_id = %s", fine(world))
    assert not checks.q1(world)


def test_q2_terminal_twice(world, planted):
    for state in (1, 2):
        world.fleet.sql("UPDATE file SET state = %s WHERE file_id = %s", state, fine(world))
    bites(world, "Q2", "reopened without a replay")
    world.fleet.sql("DELETE FROM chaos.file_step WHERE was = 2 AND now = 1")
    bites(world, "Q2", "terminal twice")


def test_q2_a_step_that_is_not_legal(world, planted):
    for state in (3, 2):
        world.fleet.sql("UPDATE file SET state = %s WHERE file_id = %s", state, fine(world))
    bites(world, "Q2", "illegal step")


@pytest.mark.parametrize("change", ["generation = generation + 1", "file_id = gen_random_uuid()"])
def test_q3_records_that_do_not_fit(world, change):
    before = world.fleet.sql("SELECT record_id, file_id, generation FROM record WHERE file_id = %s",
                             fine(world))[0]
    world.fleet.sql(f"UPDATE record SET {change} WHERE record_id = %s", before["record_id"])
    bites(world, "Q3", fine(world))
    world.fleet.sql("UPDATE record SET file_id = %s, generation = %s WHERE record_id = %s",
                    before["file_id"], before["generation"], before["record_id"])
    assert not checks.q3(world)


def test_q4_a_unit_that_was_completed_twice(world, planted):
    for state in (2, 4):
        world.fleet.sql("UPDATE task SET state = %s WHERE file_id = %s AND stage = 1", state,
                        fine(world))
    bites(world, "Q4", fine(world))


def test_q5_orphans_missing_objects_and_open_uploads(world):
    s3, bucket = world.fleet.s3(), world.fleet.bucket
    key = world.fleet.one("SELECT object_key FROM file_version WHERE file_id = %s", fine(world))
    body = world.fleet.object(key)
    s3.put_object(Bucket=bucket, Key="elsewhere/orphan", Body=b"x")
    s3.delete_object(Bucket=bucket, Key=key)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="elsewhere/open")["UploadId"]
    found = {r["what"] for r in checks.q5(world, timeout=1)}
    s3.abort_multipart_upload(Bucket=bucket, Key="elsewhere/open", UploadId=upload)
    s3.delete_object(Bucket=bucket, Key="elsewhere/orphan")
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    assert found == {"orphan", "missing", "open upload"}
    assert not checks.q5(world, api=True)


def test_q6_a_task_that_is_still_out(world, planted):
    where = "file_id = %s AND stage = 1"
    world.fleet.sql(f"UPDATE task SET state = 2, lease_until = now() + interval '1 h' WHERE {where}",
                    fine(world))
    bites(world, "Q6", fine(world))
    world.fleet.sql(f"UPDATE task SET state = 4, lease_until = NULL WHERE {where}", fine(world))


def test_q7_letters_without_a_task_and_deaths_without_a_cause(world):
    world.fleet.sql(
        "INSERT INTO dead_letter (id, file_id, user_id, stage, unit, generation, reason, class,"
        " attempts, failures, crashes, last_error, first_at) SELECT gen_random_uuid(), file_id,"
        " user_id, 1, 0, 1, 'strange', 'permanent', 1, 0, 0, 'planted', now() FROM file"
        " WHERE file_id = %s", fine(world))
    rows = bites(world, "Q7", "died without a cause")
    assert "no dead task" in str(rows)
    world.fleet.sql("DELETE FROM dead_letter WHERE reason = 'strange'")
    world.fleet.sql("UPDATE dead_letter SET state = 'replayed' WHERE state = 'open'")
    bites(world, "Q7", "no letter")
    world.fleet.sql("UPDATE dead_letter SET state = 'open'")
    assert not checks.q7(world)


def test_q8_a_crash_that_nothing_explains(world, planted):
    where = "file_id = %s AND stage = 1"
    world.fleet.sql("UPDATE task SET state = 2, attempts = attempts + 1,"
                    f" lease_owner = 'h:sleepworker-text:4194303:aa' WHERE {where}", fine(world))
    world.fleet.sql(f"UPDATE task SET state = 0, q = NULL WHERE {where}", fine(world))
    bites(world, "Q8", "without a cause")
    world.pids["text#1"], before = 4194303, world.pids["text#1"]
    world.note("kill", "text#1")
    assert not checks.q8(world)
    world.injected.pop()
    world.pids["text#1"] = before
    world.fleet.sql(f"UPDATE task SET state = 4, attempts = attempts - 1 WHERE {where}", fine(world))


def test_q9_a_paid_call_too_many(world):
    class Stub:
        def violations(self, kills):
            return [{"what": "two starts of one token", "kills": kills}]
    world.stubs.append(Stub())
    bites(world, "Q9", "two starts")
    world.stubs.clear()


def test_q10_scratch_files_processes_and_lag(world):
    path = os.path.join(world.fleet.dir, "scratch-text#1", "left")
    with open(path, "w", encoding="utf-8") as f:
        f.write("x")
    stray = subprocess.Popen([world.fleet.bin("faultproxy"), world.servers.dir + "/stray.sock"])
    world.terminate("ocr#1")
    world.produce([(world.topic("ocr"), b"nobody", b"garbage", 0)])
    found = {r["what"] for r in checks.q10(world, timeout=1)}
    stray.kill()
    stray.wait()
    os.unlink(path)
    world.run("ocr#1", wait=True)
    assert found == {"scratch file", "process left", "lag"}
    assert not checks.q10(world)


def test_the_ledger_of_counts(world):
    world.fleet.sql("INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"
                    " SELECT dataset_id, batch_id, 1, 2, 1 FROM file WHERE file_id = %s", fine(world))
    bites(world, "ledger")
    world.fleet.sql("INSERT INTO count_delta (dataset_id, batch_id, from_state, to_state, n)"
                    " SELECT dataset_id, batch_id, 2, 1, 1 FROM file WHERE file_id = %s", fine(world))
    assert not checks.ledger(world)


def test_a_process_that_died_by_itself(world):
    world.fleet.processes["ai#1"].send(signal.SIGSEGV)
    rig.wait_until(lambda: not world.fleet.running("ai#1"), 5)
    world.supervise()
    bites(world, "processes", "ai#1")
    world.unexpected.clear()
    rig.wait_until(lambda: world.fleet.running("ai#1"), 5)


def test_evidence_names_the_file_and_what_it_went_through(world):
    told = checks.evidence(world, {"Q1": [{"file_id": fine(world)}]})
    with contextlib.suppress(KeyError):
        assert [s["now"] for s in told[fine(world)]["fileSteps"]] == [1, 2]
    assert told[fine(world)]["promised"]["name"] == "a.txt"
