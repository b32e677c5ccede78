-- The ledger as one question, and dead letters as evidence.

-- Everything that does not add up, of batches accepted since a time (null: of all) and of their
-- datasets; empty when all is well. One statement, so one snapshot: it holds at any moment, also
-- while files flow.
--   ledger = what the counts say (count_base + count_delta), truth = what the rows say.
-- Rows of deleted files (state 7) are pruned after a while; then the ledger may have more of them.
CREATE FUNCTION ledger_mismatch(since timestamptz DEFAULT NULL)
RETURNS TABLE (what text, id uuid, state smallint, ledger bigint, truth bigint)
LANGUAGE sql STABLE AS $$
WITH b AS MATERIALIZED (
    SELECT batch_id, dataset_id, accepted, rejected, jsonb_array_length(rejects) AS refused
    FROM docfleet.batch WHERE since IS NULL OR created_at >= since),
d AS MATERIALIZED (
    SELECT DISTINCT dataset_id FROM b),
moves AS MATERIALIZED (
    SELECT dataset_id, batch_id, c.state, c.n FROM docfleet.count_base c JOIN d USING (dataset_id)
    UNION ALL
    SELECT dataset_id, batch_id, to_state, n FROM docfleet.count_delta JOIN d USING (dataset_id)
        WHERE to_state IS NOT NULL
    UNION ALL
    SELECT dataset_id, batch_id, from_state, -n FROM docfleet.count_delta JOIN d USING (dataset_id)
        WHERE from_state IS NOT NULL),
files AS MATERIALIZED (
    SELECT dataset_id, batch_id, f.state, count(*) AS n FROM docfleet.file f JOIN d USING (dataset_id)
    GROUP BY 1, 2, 3),
batch_said AS (SELECT batch_id, m.state, sum(n)::bigint AS n FROM moves m JOIN b USING (batch_id)
    GROUP BY 1, 2),
batch_true AS (SELECT batch_id, t.state, sum(n)::bigint AS n FROM files t JOIN b USING (batch_id)
    GROUP BY 1, 2),
dataset_said AS (SELECT dataset_id, m.state, sum(n)::bigint AS n FROM moves m GROUP BY 1, 2),
dataset_true AS (SELECT dataset_id, t.state, sum(n)::bigint AS n FROM files t GROUP BY 1, 2)
SELECT 'batch_state', batch_id, state, coalesce(s.n, 0), coalesce(t.n, 0)
    FROM batch_said s FULL JOIN batch_true t USING (batch_id, state)
    WHERE CASE WHEN state = 7 THEN coalesce(s.n, 0) < coalesce(t.n, 0)
               ELSE coalesce(s.n, 0) <> coalesce(t.n, 0) END
UNION ALL
SELECT 'dataset_state', dataset_id, state, coalesce(s.n, 0), coalesce(t.n, 0)
    FROM dataset_said s FULL JOIN dataset_true t USING (dataset_id, state)
    WHERE CASE WHEN state = 7 THEN coalesce(s.n, 0) < coalesce(t.n, 0)
               ELSE coalesce(s.n, 0) <> coalesce(t.n, 0) END
UNION ALL
SELECT 'batch_accepted', b.batch_id, NULL, coalesce(sum(s.n), 0)::bigint, b.accepted
    FROM b LEFT JOIN batch_said s USING (batch_id) GROUP BY b.batch_id, b.accepted
    HAVING coalesce(sum(s.n), 0) <> b.accepted
UNION ALL
SELECT 'batch_rejected', batch_id, NULL, rejected, refused FROM b WHERE rejected <> refused
$$;

-- What an operator needs to decide about a unit that was given up, as it was then: the rows it
-- speaks of may be gone.
ALTER TABLE dead_letter
    ADD COLUMN dataset_id uuid,
    ADD COLUMN version int,
    ADD COLUMN input_key text,              -- the object that was read
    ADD COLUMN input_etag text,
    ADD COLUMN input_bytes bigint,
    ADD COLUMN input_kind text,
    ADD COLUMN outage_retries int NOT NULL DEFAULT 0,
    ADD COLUMN worker text,                 -- who had it last
    ADD COLUMN trace text,
    ADD COLUMN replay_of uuid;              -- the letter of the same unit before this one
CREATE INDEX dead_letter_user ON dead_letter (user_id, id);

-- Units that may be out at once, as the stage's leader last reckoned.
ALTER TABLE queue_state ADD COLUMN credit int;
