-- SPDX-License-Identifier: Apache-2.0
-- What the leader saw at its last look: with true, nothing more of the stage is sent.
ALTER TABLE queue_state ADD COLUMN paused boolean NOT NULL DEFAULT false;
