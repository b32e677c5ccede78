# SPDX-License-Identifier: Apache-2.0
"""What must hold once a fleet is quiet: nothing lost, nothing doubled, nothing left behind."""
from lib.rig import wait_until

LIVE = (0, 1, 6)


def quiet(fleet):
    """No file is on its way and no task is live."""
    return (fleet.one("SELECT count(*) FROM file WHERE state = ANY(%s)", list(LIVE)) == 0 and
            fleet.one("SELECT count(*) FROM task WHERE state < 4") == 0)


def wait_quiet(fleet, timeout=90):
    wait_until(lambda: quiet(fleet), timeout, interval=0.1, what="every file in a terminal state")


# Each query's rows are violations, at quiescence. The chaos rig (tests/chaos/checks.py) runs them too.
STUCK = "SELECT file_id, name, state FROM file WHERE state IN (0, 1, 6)"
# A retry or a re-run gives a file a new life, in which each thing may end once more.
_LIVES = """
    WITH e AS (SELECT *, count(*) FILTER (WHERE body->>'action' IN ('retry', 'rerun', 'release'))
               OVER (PARTITION BY file_id ORDER BY at, event_id) AS life
               FROM event WHERE file_id IS NOT NULL) """
TERMINAL_TWICE = _LIVES + """
    SELECT file_id, life, array_agg(body->>'state') AS states FROM e
    WHERE body->>'final' = 'true' GROUP BY 1, 2 HAVING count(*) > 1"""
# A re-run keeps the record until it has a new one: of a re-run that was cancelled or failed, the old.
RECORDS = """
    SELECT f.file_id, f.name, f.generation, f.main_state, f.record_generation, r.record_id,
           r.generation AS of
    FROM file f LEFT JOIN record r USING (file_id)
    WHERE f.state < 6 AND ((f.main_state = 2 AND r.record_id IS NULL)
          OR (f.main_state <> 2 AND r.generation >= f.generation)
          OR r.generation <> f.record_generation)"""
UNIT_TWICE = _LIVES + """
    SELECT file_id, life, stage, body->>'unit' AS unit, count(*) FROM e
    WHERE kind = 'file_updated' AND stage IS NOT NULL AND body->>'state' = 'done'
    GROUP BY 1, 2, 3, 4 HAVING count(*) > 1"""
IDLE = """
    SELECT f.file_id, f.name FROM file f WHERE f.state = 1 AND NOT EXISTS
      (SELECT 1 FROM task t WHERE t.file_id = f.file_id AND t.state < 4)"""
# The cleaner discards the letters of a removed file, a re-run those of what it does again. A letter
# that someone discarded leaves its task dead.
LETTERS = """
    WITH t AS (SELECT t.file_id, t.stage, t.unit, t.generation, f.generation AS newest
               FROM task t JOIN file f USING (file_id) WHERE t.state = 5 AND f.state < 6),
         d AS (SELECT file_id, stage, unit, generation FROM dead_letter WHERE state = 'open')
    (SELECT 'no letter' AS what, file_id, stage, unit, generation FROM t
       WHERE generation = newest EXCEPT SELECT 'no letter', file_id, stage, unit, generation
         FROM dead_letter WHERE state IN ('open', 'discarded'))
    UNION ALL (SELECT 'no dead task', * FROM d
       EXCEPT SELECT 'no dead task', file_id, stage, unit, generation FROM t)"""
LEDGER = "SELECT * FROM ledger_mismatch()"


def lost(fleet, accepted):
    """Files that a client was promised and the database does not know."""
    return set(accepted) - {str(r["file_id"]) for r in fleet.sql("SELECT file_id FROM file")}


def check_rows(fleet, accepted=None):
    """I1, I2, I4, I5, I6 of the reliability design, and the ledger, by SQL."""
    missing = lost(fleet, accepted or ())
    assert not missing, f"accepted and lost: {missing}"
    for what, query in (("stuck files", STUCK), ("terminal twice", TERMINAL_TWICE),
                        ("records that do not fit their files", RECORDS),
                        ("units that ended twice", UNIT_TWICE), ("files without a task", IDLE),
                        ("dead tasks and open letters differ", LETTERS)):
        rows = fleet.sql(query)
        assert not rows, f"{what}: {rows}"
    check_ledger(fleet)


def check_ledger(fleet):
    """Counts of every dataset and batch against the rows themselves, at any moment."""
    rows = fleet.sql(LEDGER)
    assert not rows, f"the ledger does not add up: {rows}"


def referenced(fleet):
    rows = fleet.sql("""
        SELECT object_key AS k FROM artifact
        UNION SELECT object_key FROM file_version v JOIN file f USING (file_id)
        WHERE f.state < 6 AND object_key IS NOT NULL""")
    return {r["k"] for r in rows}


def check_objects(fleet, timeout=20):
    """I3: after a sweep with no grace the store holds exactly what rows name."""
    fleet.restart("cleaner", env={"DOCFLEET_ORPHAN_GRACE": "0s", "DOCFLEET_CLEAN_INTERVAL": "200ms"})
    named = referenced(fleet)
    wait_until(lambda: not set(fleet.objects()) - named, timeout, interval=0.2,
               what="a store without orphans")
    missing = named - set(fleet.objects())
    assert not missing, f"rows name objects that are not there: {missing}"
    pending = fleet.s3().list_multipart_uploads(Bucket=fleet.bucket).get("Uploads", [])
    assert not pending, f"unfinished uploads: {pending}"
