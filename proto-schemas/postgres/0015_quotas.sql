-- SPDX-License-Identifier: Apache-2.0
-- Quotas of accounts: bytes and files that are stored, pages and money that are used in a month (UTC).
-- What is used is written by triggers, whichever statement changes a file or books a cost, as deltas
-- that the cleaner folds; so no statement waits for another of its account (ADR 0029).

-- Limits of an account; null: those of the row of nobody (all zeros), then none. -1: none.
CREATE TABLE quota (
    user_id     uuid PRIMARY KEY,
    files       bigint CHECK (files >= -1),
    bytes       bigint CHECK (bytes >= -1),
    pages       bigint CHECK (pages >= -1),     -- a month
    micros      bigint CHECK (micros >= -1),    -- a month; money as in spend
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE usage_delta (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id     uuid NOT NULL,
    files       bigint NOT NULL DEFAULT 0,
    bytes       bigint NOT NULL DEFAULT 0,
    pages       bigint NOT NULL DEFAULT 0,
    micros      bigint NOT NULL DEFAULT 0,
    at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX usage_delta_user ON usage_delta (user_id);

-- Of a month: what came and went (files, bytes), what was used (pages, micros). What is stored is the
-- sum over all months.
CREATE TABLE usage_total (
    user_id     uuid NOT NULL,
    month       date NOT NULL,                  -- its first day, UTC
    files       bigint NOT NULL DEFAULT 0,
    bytes       bigint NOT NULL DEFAULT 0,
    pages       bigint NOT NULL DEFAULT 0,
    micros      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, month)
);

ALTER TABLE spend ADD COLUMN pages int NOT NULL DEFAULT 0; -- read by the text stage, in its unit 0

CREATE FUNCTION usage_of_files() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = docfleet, pg_temp AS $$
BEGIN
    INSERT INTO usage_delta (user_id, files, bytes)
        SELECT user_id, count(*), sum(bytes) FROM added WHERE state < 6 GROUP BY user_id;
    RETURN NULL;
END $$;
CREATE TRIGGER usage_added AFTER INSERT ON file REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION usage_of_files();

CREATE FUNCTION usage_of_file() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = docfleet, pg_temp AS $$
BEGIN
    INSERT INTO usage_delta (user_id, files, bytes) VALUES (NEW.user_id,
        (NEW.state < 6)::int - (OLD.state < 6)::int,
        CASE WHEN NEW.state < 6 AND NEW.content_removed_at IS NULL THEN NEW.bytes ELSE 0 END
        - CASE WHEN OLD.state < 6 AND OLD.content_removed_at IS NULL THEN OLD.bytes ELSE 0 END);
    RETURN NULL;
END $$;
CREATE TRIGGER usage_changed AFTER UPDATE ON file FOR EACH ROW
    WHEN ((OLD.state < 6) <> (NEW.state < 6) OR OLD.bytes <> NEW.bytes
        OR (OLD.content_removed_at IS NULL) <> (NEW.content_removed_at IS NULL))
    EXECUTE FUNCTION usage_of_file();

CREATE FUNCTION usage_of_spend() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = docfleet, pg_temp AS $$
DECLARE
    was_pages bigint := 0;
    was_micros bigint := 0;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        was_pages := OLD.pages;
        was_micros := OLD.micros;
    END IF;
    IF NEW.pages <> was_pages OR NEW.micros <> was_micros THEN
        INSERT INTO usage_delta (user_id, pages, micros)
            SELECT user_id, NEW.pages - was_pages, NEW.micros - was_micros FROM file
             WHERE file_id = NEW.file_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER usage_spent AFTER INSERT OR UPDATE ON spend FOR EACH ROW
    EXECUTE FUNCTION usage_of_spend();
REVOKE EXECUTE ON FUNCTION usage_of_files(), usage_of_file(), usage_of_spend() FROM PUBLIC;

-- What is stored today.
INSERT INTO usage_total (user_id, month, files, bytes)
    SELECT user_id, date_trunc('month', now() AT TIME ZONE 'UTC')::date, count(*),
           coalesce(sum(bytes) FILTER (WHERE content_removed_at IS NULL), 0)
      FROM file WHERE state < 6 GROUP BY user_id;

SELECT row_wall(t, 'user_id') FROM unnest(ARRAY['quota', 'usage_delta', 'usage_total']) AS t;
CREATE POLICY gateway_default ON quota FOR SELECT TO docfleet_gateway
    USING (user_id = '00000000-0000-0000-0000-000000000000');
GRANT SELECT, INSERT, UPDATE ON quota TO docfleet_gateway;
GRANT SELECT ON usage_delta, usage_total TO docfleet_gateway;
GRANT SELECT ON quota TO docfleet_fleet, docfleet_importer;
GRANT SELECT ON usage_delta, usage_total TO docfleet_importer;
GRANT SELECT, DELETE ON usage_delta TO docfleet_fleet;
GRANT UPDATE ON usage_delta TO docfleet_fleet; -- FOR UPDATE SKIP LOCKED, when deltas are folded
GRANT SELECT, INSERT, UPDATE ON usage_total TO docfleet_fleet;
