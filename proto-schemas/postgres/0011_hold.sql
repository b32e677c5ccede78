-- SPDX-License-Identifier: Apache-2.0
-- Legal hold and retention by dataset (docs/retention.md).

-- While hold_at is set nothing of the dataset is removed, by anybody.
ALTER TABLE dataset
    ADD COLUMN hold_at timestamptz,
    ADD COLUMN hold_by text,
    ADD COLUMN hold_reason text;

-- Retention took the bytes (original, text, pictures); row and record stay.
ALTER TABLE file ADD COLUMN content_removed_at timestamptz;

-- A hold on a dataset holds the earlier versions of its imports, too.
CREATE FUNCTION dataset_held(id uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM docfleet.dataset d WHERE d.hold_at IS NOT NULL AND (d.dataset_id = id
        OR d.dataset_id IN (SELECT i.dataset_id FROM docfleet.import_source i WHERE i.shadow_id = id)))
$$;
