-- SPDX-License-Identifier: Apache-2.0
-- Scheduled import (docs/import.md, ADR 0025): a source is an S3 prefix whose objects become files of
-- a dataset; each run is a version of what the source held.

-- A source has a shadow: a dataset nobody is shown (deleted_at is set from the beginning), with the
-- columns of its own. Files of a run lie there until the run is published, and lie there again once
-- a later version has replaced them; publishing and rolling back move rows between the two.
CREATE TABLE import_source (
    import_id   uuid PRIMARY KEY,
    user_id     uuid NOT NULL REFERENCES account,       -- the dataset's owner
    dataset_id  uuid NOT NULL REFERENCES dataset,
    shadow_id   uuid NOT NULL UNIQUE REFERENCES dataset,
    name        text NOT NULL,
    source      text,                           -- name of a configured store; null: the fleet's own
    prefix      text NOT NULL,
    cron        text,                           -- five fields; null: only when asked
    time_zone   text NOT NULL DEFAULT 'UTC',
    enabled     boolean NOT NULL DEFAULT true,  -- the schedule; a run by hand works without
    on_vanished text NOT NULL DEFAULT 'keep' CHECK (on_vanished IN ('keep', 'remove')),
    max_failed_percent real NOT NULL DEFAULT 5 CHECK (max_failed_percent BETWEEN 0 AND 100),
    max_unfetched int NOT NULL DEFAULT 0 CHECK (max_unfetched >= 0),
    keep_versions int NOT NULL DEFAULT 5 CHECK (keep_versions BETWEEN 1 AND 100),
    next_at     timestamptz,                    -- of the schedule
    run_no      int NOT NULL DEFAULT 0,         -- the last number that was given
    published_run uuid,
    health      text NOT NULL DEFAULT 'new' CHECK (health IN ('new', 'ok', 'failing')),
    last_success_at timestamptz,
    alert       text,                           -- to be sent; only a change of health writes one
    alert_at    timestamptz,
    alert_tries int NOT NULL DEFAULT 0,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);
CREATE INDEX import_source_user ON import_source (user_id, import_id);
CREATE INDEX import_source_dataset ON import_source (dataset_id);

-- queued -> listing -> fetching -> processing -> published or failed; skipped: it was due while
-- another was at work.
CREATE TABLE import_run (
    run_id      uuid PRIMARY KEY,
    import_id   uuid NOT NULL REFERENCES import_source ON DELETE CASCADE,
    no          int NOT NULL,
    trigger     text NOT NULL CHECK (trigger IN ('schedule', 'manual')),
    state       text NOT NULL,                  -- see above
    token       bigint NOT NULL DEFAULT 0,      -- raised by each importer that takes it up
    starts      int NOT NULL DEFAULT 0,         -- since it last got further
    code        text,                           -- why it failed
    note        text,
    counts      jsonb NOT NULL DEFAULT '{}',    -- what came of the objects, at the end
    queued_at   timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    ended_at    timestamptz,
    pruned_at   timestamptz,                    -- its list of objects is gone: no way back to it
    UNIQUE (import_id, no)
);
ALTER TABLE import_run ADD CONSTRAINT import_run_state CHECK (state IN
    ('queued', 'listing', 'fetching', 'processing', 'published', 'failed', 'skipped'));
CREATE INDEX import_run_open ON import_run (import_id)
    WHERE state IN ('queued', 'listing', 'fetching', 'processing');

-- What a run found: one row an object, and what came of it. Of a published run these are the
-- version: the files of its dataset are those that file_id names. kept: the object could not be used,
-- file_id is the file from before.
CREATE TABLE import_item (
    run_id      uuid NOT NULL REFERENCES import_run ON DELETE CASCADE,
    object_key  text NOT NULL,
    etag        text NOT NULL,
    bytes       bigint NOT NULL,
    change      text NOT NULL DEFAULT 'new',    -- new changed unchanged vanished
    state       text NOT NULL DEFAULT 'waiting', -- waiting file rejected unfetched kept gone
    tries       smallint NOT NULL DEFAULT 0,
    not_before  timestamptz,
    file_id     uuid,
    old_file_id uuid,                           -- what the version before has under this key
    code        text,
    detail      text,
    PRIMARY KEY (run_id, object_key)
);
ALTER TABLE import_item ADD CONSTRAINT import_item_change
    CHECK (change IN ('new', 'changed', 'unchanged', 'vanished'));
ALTER TABLE import_item ADD CONSTRAINT import_item_state
    CHECK (state IN ('waiting', 'file', 'rejected', 'unfetched', 'kept', 'gone'));
CREATE INDEX import_item_file ON import_item (file_id) WHERE file_id IS NOT NULL;

-- As before, and it follows the files of imports between a dataset and its shadow.
CREATE OR REPLACE FUNCTION ledger_mismatch(since timestamptz DEFAULT NULL)
RETURNS TABLE (what text, id uuid, state smallint, ledger bigint, truth bigint)
LANGUAGE sql STABLE AS $$
WITH b AS MATERIALIZED (
    SELECT batch_id, dataset_id, accepted, rejected, jsonb_array_length(rejects) AS refused
    FROM docfleet.batch WHERE since IS NULL OR created_at >= since),
d AS MATERIALIZED (
    SELECT dataset_id FROM b
    UNION SELECT i.dataset_id FROM docfleet.import_source i JOIN b ON b.dataset_id = i.shadow_id),
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
