-- SPDX-License-Identifier: Apache-2.0
-- Where a stage has several shards, what each one's leader saw at its last look: a pause holds when
-- no leader of the last ten seconds says otherwise. With one shard queue_state alone tells it.
CREATE TABLE stage_shard (
    stage       smallint,
    shard       smallint,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    paused      boolean NOT NULL,
    PRIMARY KEY (stage, shard)
) WITH (fillfactor = 50);
