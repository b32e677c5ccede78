-- SPDX-License-Identifier: Apache-2.0
-- Links by which whoever has them downloads one file, without an account. Of a link's secret only the
-- digest is kept; a link that has ended stays for a while, so that its address can say so.
CREATE TABLE share_link (
    share_id    uuid PRIMARY KEY,
    file_id     uuid NOT NULL REFERENCES file ON DELETE CASCADE,
    user_id     uuid NOT NULL REFERENCES account,   -- the file's owner, who made it
    token_sha256 bytea NOT NULL UNIQUE CHECK (length(token_sha256) = 32),
    password_hash text,                             -- argon2id; null: the link alone is enough
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    max_downloads int CHECK (max_downloads > 0),    -- null: any number
    downloads   int NOT NULL DEFAULT 0 CHECK (max_downloads IS NULL OR downloads <= max_downloads),
    last_at     timestamptz,                        -- of the latest download
    revoked_at  timestamptz
);
CREATE INDEX share_link_file ON share_link (file_id);
CREATE INDEX share_link_user ON share_link (user_id, share_id);
-- A link is found by its secret before anybody knows whose it is, as a key is.
SELECT row_wall('share_link', 'login');
GRANT SELECT, INSERT, UPDATE, DELETE ON share_link TO docfleet_gateway;
