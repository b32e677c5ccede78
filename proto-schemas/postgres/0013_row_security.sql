-- SPDX-License-Identifier: Apache-2.0
-- Row security: the second wall behind the conditions of the gateway's own statements.
-- Roles (docs/security.md): whoever migrates owns everything and is held by none of this.
--   docfleet_gateway  ingest-gateway: sees and changes only rows of the account that its transaction
--                     names in docfleet.user_id; without the setting every statement fails. With
--                     docfleet.role = 'operator' all rows, with 'login' those that tell who one is.
--   docfleet_fleet    workers, dispatcher, cleaner: all rows, narrow rights by table.
--   docfleet_importer importer: all rows; it accepts files as the gateway does.
-- A later migration that makes a table grants on it and calls row_wall() for it, or says in
-- tests/service/test_walls_database.py why its rows are nobody's. Logins are members of these roles,
-- or these roles with LOGIN and a password; they are made here when the migrating role may do that.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['docfleet_gateway', 'docfleet_fleet', 'docfleet_importer'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'role % is missing and may not be made by this role', name
                    USING HINT = 'let an administrator run: CREATE ROLE ' || name || ' NOLOGIN';
            END;
        END IF;
    END LOOP;
END $$;

-- The policies of one table. how: 'user_id' (the column names the account), 'login' (the same, and
-- visible while one logs in), or the table whose row, by its own key of the same name, must be
-- visible (key: where the column is called otherwise). With a parent, rows may be added for one that is not visible yet: the statement that
-- accepts a batch makes both.
CREATE FUNCTION row_wall(tab text, how text, key text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    me CONSTANT text := 'user_id = (SELECT current_setting(''docfleet.user_id'')::uuid)';
    role_is CONSTANT text := '(SELECT current_setting(''docfleet.role'', true) IN (%s))';
    own text;
BEGIN
    IF how = 'user_id' THEN
        own := me || ' OR ' || format(role_is, '''operator''');
    ELSIF how = 'login' THEN
        own := me || ' OR ' || format(role_is, '''operator'', ''login''');
    ELSE
        key := coalesce(key, how || '_id');
        own := format('EXISTS (SELECT 1 FROM docfleet.%I parent WHERE parent.%I = %I.%I)', how, key,
                      tab, key);
    END IF;
    EXECUTE format('ALTER TABLE docfleet.%I ENABLE ROW LEVEL SECURITY', tab);
    IF how IN ('user_id', 'login') THEN
        EXECUTE format('CREATE POLICY gateway ON docfleet.%I TO docfleet_gateway USING (%s)'
                       ' WITH CHECK (%s)', tab, own, own);
    ELSE
        EXECUTE format('CREATE POLICY gateway_read ON docfleet.%I FOR SELECT TO docfleet_gateway'
                       ' USING (%s)', tab, own);
        EXECUTE format('CREATE POLICY gateway_change ON docfleet.%I FOR UPDATE TO docfleet_gateway'
                       ' USING (%s)', tab, own);
        EXECUTE format('CREATE POLICY gateway_drop ON docfleet.%I FOR DELETE TO docfleet_gateway'
                       ' USING (%s)', tab, own);
        EXECUTE format('CREATE POLICY gateway_add ON docfleet.%I FOR INSERT TO docfleet_gateway'
                       ' WITH CHECK (true)', tab);
    END IF;
    EXECUTE format('CREATE POLICY fleet ON docfleet.%I TO docfleet_fleet, docfleet_importer USING (true)'
                   ' WITH CHECK (true)', tab);
END $$;

SELECT row_wall(t, 'user_id') FROM unnest(ARRAY['dataset', 'batch', 'file', 'task', 'event', 'record',
    'dead_letter', 'idempotency']) AS t;
SELECT row_wall(t, 'login') FROM unnest(ARRAY['account', 'api_key', 'session', 'identity']) AS t;
SELECT row_wall(t, 'file') FROM unnest(ARRAY['file_version', 'file_page', 'artifact', 'stage_join',
    'spend']) AS t;
SELECT row_wall(t, 'dataset') FROM unnest(ARRAY['schema_version', 'count_delta', 'count_base']) AS t;
SELECT row_wall('record_row', 'record');
SELECT row_wall('import_source', 'user_id');
SELECT row_wall('import_run', 'import_source', 'import_id');
SELECT row_wall('import_item', 'import_run', 'run_id');
-- Written for any account, whoever acts; read by operators, and by everybody what is about himself.
SELECT row_wall('audit', 'user_id');
CREATE POLICY gateway_writes ON audit FOR INSERT TO docfleet_gateway WITH CHECK (true);
-- The chain is of all rows, whoever adds one.
ALTER FUNCTION audit_link() SECURITY DEFINER SET search_path = docfleet, pg_temp;

-- Lists and searches of files. Row security would come before any condition that could tell what it
-- saw (ILIKE, the name's order), and so keep the name's indexes from being used: a second of a search
-- for 1 ms. This view shows the owner's rows of its reader's account; only conditions of the
-- gateway's own text meet it.
CREATE VIEW file_visible AS
SELECT file_id, user_id, dataset_id, batch_id, parent_file_id, name, folder, bytes, version,
       generation, state, main_state, preview_state, thumb_state, accepted_at, updated_at
  FROM file WHERE user_id = (SELECT current_setting('docfleet.user_id')::uuid);

GRANT USAGE ON SCHEMA docfleet TO docfleet_gateway, docfleet_fleet, docfleet_importer;
GRANT SELECT ON migration TO docfleet_gateway, docfleet_fleet, docfleet_importer;

GRANT SELECT, INSERT, UPDATE ON account, api_key, dataset, schema_version, batch, file, file_version,
    task, idempotency, stage_control TO docfleet_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON session, identity, login_throttle, import_source, import_run,
    import_item TO docfleet_gateway;
GRANT SELECT, INSERT, UPDATE ON rate_bucket TO docfleet_gateway;
GRANT SELECT, UPDATE ON stage_join, dead_letter TO docfleet_gateway;
GRANT SELECT, INSERT ON event, count_delta, audit TO docfleet_gateway;
GRANT SELECT, UPDATE, DELETE ON record TO docfleet_gateway;
GRANT SELECT ON file_visible, count_base, artifact, file_page, record_row, spend, worker, backlog,
    queue_state, stage_shard, dispatcher_state TO docfleet_gateway;

GRANT SELECT, INSERT, UPDATE, DELETE ON task, stage_join, worker, effect, artifact, file_page, record,
    record_row, spend, count_base TO docfleet_fleet;
GRANT SELECT, INSERT, UPDATE ON event, dead_letter, backlog, queue_state, stage_shard, dispatcher_state
    TO docfleet_fleet;
GRANT SELECT, INSERT, DELETE ON count_delta TO docfleet_fleet;
GRANT UPDATE ON count_delta TO docfleet_fleet; -- FOR UPDATE SKIP LOCKED, when deltas are folded
GRANT SELECT, UPDATE, DELETE ON file TO docfleet_fleet;
GRANT SELECT, UPDATE, DELETE ON file_version TO docfleet_fleet;
GRANT SELECT, DELETE ON idempotency TO docfleet_fleet;
GRANT SELECT ON dataset, schema_version, batch, stage_control, import_source, import_run, import_item
    TO docfleet_fleet;
GRANT SELECT (user_id, weight) ON account TO docfleet_fleet;
GRANT SELECT (session_id, expires_at, ended_at), DELETE ON session TO docfleet_fleet; -- prunes them
GRANT SELECT, DELETE ON login_throttle, rate_bucket TO docfleet_fleet;

GRANT SELECT, INSERT, UPDATE, DELETE ON import_source, import_run, import_item TO docfleet_importer;
GRANT SELECT, INSERT, UPDATE ON dataset, schema_version, batch, file, file_version, task TO docfleet_importer;
GRANT SELECT, UPDATE ON stage_join, dead_letter TO docfleet_importer;
GRANT SELECT, UPDATE, DELETE ON record TO docfleet_importer;
GRANT SELECT, INSERT ON event, count_delta TO docfleet_importer;
GRANT SELECT ON count_base, artifact, file_page, record_row, stage_control TO docfleet_importer;
GRANT SELECT (user_id, name, disabled_at) ON account TO docfleet_importer;

-- Partitions are made and dropped by the cleaner, which owns none of them.
ALTER FUNCTION event_partitions(int) SECURITY DEFINER SET search_path = docfleet, pg_temp;
-- Drops the partitions whose whole week is older than what is kept; gives their names.
CREATE FUNCTION event_drop_older(days int) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = docfleet, pg_temp AS $$
DECLARE
    old text;
BEGIN
    IF days < 1 THEN
        RAISE EXCEPTION 'events are kept for a day at least';
    END IF;
    FOR old IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'docfleet.event'::regclass AND c.relname ~ '^event_\d{4}_\d{2}$'
          AND to_date(substr(c.relname, 7), 'IYYY_IW') + 7 < current_date - days
    LOOP
        EXECUTE format('DROP TABLE docfleet.%I', old);
        RETURN NEXT old;
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION event_partitions(int), event_drop_older(int), row_wall(text, text, text)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION event_partitions(int), event_drop_older(int) TO docfleet_fleet;
