-- SPDX-License-Identifier: Apache-2.0
-- What `docfleetctl backup` has made, so that somebody can see when the last one was.
CREATE TABLE backup (
    backup_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,                  -- of the folder
    moment      timestamptz NOT NULL,           -- what it holds is of then
    finished_at timestamptz NOT NULL DEFAULT now(),
    objects     bigint NOT NULL,
    bytes       bigint NOT NULL,
    missing     bigint NOT NULL,                -- objects that rows name and the store has not
    copied      boolean NOT NULL                -- with the objects' bytes
);
GRANT SELECT ON backup TO docfleet_fleet;
