-- Lanes of the queue, and what the dispatcher tells of it.
-- Lane 0: what somebody waits for. 1: bulk (re-run or retry of many files), served when lane 0 is
-- empty and at every tenth turn. 2: dead letters replayed by a filter, beside lane 1 with a fifth of
-- its weight. A unit hands its lane on to what follows it.
ALTER TABLE task ADD COLUMN lane smallint NOT NULL DEFAULT 0 CHECK (lane BETWEEN 0 AND 2); -- 0 first 1 bulk 2 replay
DROP INDEX task_send;
CREATE INDEX task_send ON task (stage, lane, user_id, seq) WHERE q = 0;

-- One row a stage, written each second by its leader. A task with `cost ahead of it in its own
-- user's queue` / weight = x is sent after about curve(x) other tasks: curve is a list of
-- [x, tasks] with growing x, to be read by linear interpolation; null while unknown (first in,
-- first out). curve_bulk is the same for lanes 1 and 2. rate: tasks ended a second, null: unknown.
CREATE TABLE queue_state (
    stage       smallint PRIMARY KEY,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    rate        double precision,           -- tasks ended a second; null: unknown
    users       int NOT NULL,               -- with something waiting
    waiting     bigint NOT NULL,
    out         int NOT NULL,               -- sent or running
    curve       jsonb,                      -- [[x, tasks], ..], see the migration
    curve_bulk  jsonb                       -- of lanes 1 and 2
) WITH (fillfactor = 50);
