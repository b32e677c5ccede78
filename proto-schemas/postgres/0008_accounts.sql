-- SPDX-License-Identifier: Apache-2.0
-- Accounts that sign in: passwords, sessions, identities at other issuers, and what slows down
-- guessing; keys that say when they were used; an audit log that only grows.

ALTER TABLE account
    ADD COLUMN password_hash text,              -- argon2id with its parameters; null: no password
    ADD COLUMN password_at timestamptz;

ALTER TABLE api_key
    ADD COLUMN last_used_at timestamptz,        -- to the minute
    ADD COLUMN dataset_ids uuid[];              -- null: all of the account's

CREATE TABLE session (
    session_id  uuid PRIMARY KEY,
    user_id     uuid NOT NULL REFERENCES account,
    token_sha256 bytea NOT NULL UNIQUE,         -- of the cookie's random value, which is kept nowhere
    method      text NOT NULL CHECK (method IN ('password', 'oidc')),
    address     text NOT NULL DEFAULT '',       -- at the sign-in
    agent       text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(), -- to the minute
    expires_at  timestamptz NOT NULL,           -- whatever is done until then
    ended_at    timestamptz
);
CREATE INDEX session_account ON session (user_id) WHERE ended_at IS NULL;
CREATE INDEX session_expiry ON session (expires_at);

-- Who an account is at an OpenID Connect issuer. Never found by name or mail address.
CREATE TABLE identity (
    issuer      text NOT NULL,
    subject     text NOT NULL,
    user_id     uuid NOT NULL REFERENCES account,
    created_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identity_account ON identity (user_id);

-- Leaky buckets of failed sign-ins, shared by all replicas. Keys are digests: no names, no addresses.
CREATE TABLE login_throttle (
    key         text PRIMARY KEY,
    level       real NOT NULL,
    refused     boolean NOT NULL DEFAULT false,
    at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX login_throttle_age ON login_throttle (at);

-- Audit ------------------------------------------------------------------------------------------
-- Each row holds the digest of the one before it, so that a changed or missing row shows
-- (`docfleetctl audit verify`). Rows from before this migration are no part of the chain.
ALTER TABLE audit
    ADD COLUMN outcome text NOT NULL DEFAULT 'ok' CHECK (outcome IN ('ok', 'denied', 'failed')),
    ADD COLUMN credential text NOT NULL DEFAULT '',
    ADD COLUMN key_id text,
    ADD COLUMN session_id uuid,
    ADD COLUMN address text,
    ADD COLUMN request_id text,
    ADD COLUMN chain bigint UNIQUE,
    ADD COLUMN hash text;                       -- SHA-256, hex
CREATE INDEX audit_user ON audit (user_id, chain);
CREATE INDEX audit_action ON audit (action, chain);

-- What is hashed, as one text: every column but the hash itself.
CREATE FUNCTION audit_text(a audit) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_array(a.chain, extract(epoch FROM a.at), a.user_id, a.actor, a.action, a.target,
        a.detail, a.outcome, a.credential, a.key_id, a.session_id, a.address, a.request_id)::text
$$;

CREATE FUNCTION audit_link() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last record;
BEGIN
    -- until the end of the transaction: the order of the chain is the order of commits
    PERFORM pg_advisory_xact_lock(776002, 8);
    SELECT a.chain, a.hash INTO last FROM docfleet.audit a WHERE a.chain IS NOT NULL
        ORDER BY a.chain DESC LIMIT 1;
    NEW.chain := coalesce(last.chain, 0) + 1;
    NEW.at := clock_timestamp();
    NEW.hash := encode(sha256(convert_to(coalesce(last.hash, '') || docfleet.audit_text(NEW), 'UTF8')), 'hex');
    RETURN NEW;
END $$;
CREATE TRIGGER audit_link BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_link();

-- Only the table's owner may drop old rows, and says so first: `docfleetctl audit prune`.
CREATE FUNCTION audit_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('docfleet.audit_prune', true) = 'on'
       AND pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_keep BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_keep();
CREATE TRIGGER audit_keep_all BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_keep();
