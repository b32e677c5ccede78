-- SPDX-License-Identifier: Apache-2.0
-- Token buckets of the gateway's rate limits, shared by all replicas (ADR 0029). Who leases from a
-- bucket takes tokens out of it; what has grown back is reckoned with each lease. A crash of Postgres
-- empties the table, which fills every bucket.
CREATE UNLOGGED TABLE rate_bucket (
    key         text PRIMARY KEY,               -- k:key or session, u:account, a:address, f:address
    rate        double precision NOT NULL,      -- tokens a second
    tokens      double precision NOT NULL,      -- left after the last lease
    granted     double precision NOT NULL,      -- by the last lease
    at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX rate_bucket_age ON rate_bucket (at);
