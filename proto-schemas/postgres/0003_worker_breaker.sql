-- SPDX-License-Identifier: Apache-2.0
-- A worker whose breaker is open says so: its slots give no credit.
ALTER TABLE worker ADD COLUMN open boolean NOT NULL DEFAULT false;
