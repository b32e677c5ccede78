-- The core schema. State numbers, owners and names: docs/ARCHITECTURE.md "States".
-- Every id is a UUIDv7 made by the process that creates the row; seq, pos and event_id never leave
-- the fleet, except pos (the SSE id). Index rule: never name a column that changes during a task's
-- life in an index or its predicate, except q (HOT updates).

CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;

-- Accounts and keys ------------------------------------------------------------------------------
CREATE TABLE account (
    user_id     uuid PRIMARY KEY,
    name        text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 100),
    role        text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'operator', 'admin')),
    weight      real NOT NULL DEFAULT 1 CHECK (weight > 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz
);

CREATE TABLE api_key (
    key_id      text PRIMARY KEY,               -- the public part of dfk_<id>_<secret>
    user_id     uuid NOT NULL REFERENCES account,
    secret_sha256 bytea NOT NULL,
    name        text NOT NULL DEFAULT '',
    scopes      text[] NOT NULL DEFAULT '{read,write}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    revoked_at  timestamptz
);
CREATE INDEX api_key_user ON api_key (user_id);

-- Datasets ---------------------------------------------------------------------------------------
CREATE TABLE dataset (
    dataset_id  uuid PRIMARY KEY,
    user_id     uuid NOT NULL REFERENCES account,
    name        text NOT NULL,
    schema_version int NOT NULL DEFAULT 1,
    options     jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);
CREATE INDEX dataset_user ON dataset (user_id, dataset_id);

CREATE TABLE schema_version (
    dataset_id  uuid NOT NULL REFERENCES dataset,
    version     int NOT NULL,
    columns     jsonb NOT NULL,                 -- [{id:"c1",name,type,...}]
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (dataset_id, version)
);

-- Batches and files ------------------------------------------------------------------------------
CREATE TABLE batch (
    batch_id    uuid PRIMARY KEY,
    user_id     uuid NOT NULL,
    dataset_id  uuid NOT NULL REFERENCES dataset,
    accepted    int NOT NULL DEFAULT 0,
    rejected    int NOT NULL DEFAULT 0,         -- total = accepted + rejected
    rejects     jsonb NOT NULL DEFAULT '[]',    -- [{name,code,detail}], what was refused at the door
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX batch_dataset ON batch (dataset_id, batch_id);

CREATE TABLE file (
    file_id     uuid PRIMARY KEY,
    user_id     uuid NOT NULL,
    dataset_id  uuid NOT NULL REFERENCES dataset,
    batch_id    uuid REFERENCES batch,
    parent_file_id uuid,
    name        text NOT NULL,
    folder      text,
    bytes       bigint NOT NULL,
    etag        text,
    version     int NOT NULL DEFAULT 1,
    generation  int NOT NULL DEFAULT 1,
    record_generation int,
    state       smallint NOT NULL,              -- 0 uploading .. 7 deleted
    main_state  smallint NOT NULL DEFAULT 0,    -- 0 live 2 done 3 failed 4 skipped 5 cancelled
    preview_state smallint NOT NULL DEFAULT 0,
    thumb_state smallint NOT NULL DEFAULT 0,
    errors      jsonb NOT NULL DEFAULT '{}',    -- pipeline -> {code,detail,class,stage,attempts}
    accepted_at timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
) WITH (fillfactor = 80);
CREATE INDEX file_list ON file (dataset_id, file_id);
CREATE INDEX file_unfinished ON file (dataset_id, state, file_id) WHERE state <> 2;
CREATE INDEX file_name_trgm ON file USING gin (name public.gin_trgm_ops);
CREATE INDEX file_name ON file (dataset_id, name text_pattern_ops, file_id);
CREATE INDEX file_batch ON file (batch_id, file_id);

CREATE TABLE file_version (
    file_id     uuid NOT NULL,
    version     int NOT NULL,
    object_key  text,                           -- null: made of chunks
    bytes       bigint NOT NULL,
    sha256      text NOT NULL,
    mime        text NOT NULL,
    kind        text NOT NULL,                  -- libcommon/filetype.h
    etag        text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (file_id, version)
);

-- Tasks: the outbox and the state machine (libcommon/task.c alone writes these) -------------------
CREATE TABLE task (
    user_id     uuid NOT NULL,
    file_id     uuid NOT NULL,
    seq         bigint GENERATED ALWAYS AS IDENTITY (CACHE 50),
    lease_token bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    not_before  timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    unit        int NOT NULL,
    generation  int NOT NULL,
    cost        int NOT NULL DEFAULT 1,
    dispatch_seq int NOT NULL DEFAULT 0,
    stage       smallint NOT NULL,              -- 1 text 2 ocr 3 ai 4 preview 5 thumbnail 6 clean
    state       smallint NOT NULL DEFAULT 0,
    q           smallint DEFAULT 0,             -- 0 send now, 1 later, null neither
    attempts    smallint NOT NULL DEFAULT 0,
    failures    smallint NOT NULL DEFAULT 0,
    refunds     smallint NOT NULL DEFAULT 0,
    outage_retries int NOT NULL DEFAULT 0,
    lease_owner text,
    ext_job_id  text,
    input       jsonb,
    result_ref  text,
    last_error  text,
    traceparent text,
    PRIMARY KEY (file_id, stage, unit, generation)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX task_send ON task (stage, user_id, seq) WHERE q = 0;
CREATE INDEX task_later ON task (not_before) WHERE q = 1;

CREATE TABLE stage_join (
    file_id     uuid NOT NULL,
    stage       smallint NOT NULL,
    generation  int NOT NULL,
    total       int NOT NULL,
    left_       int NOT NULL,
    failed      int NOT NULL DEFAULT 0,
    PRIMARY KEY (file_id, stage, generation)
);

CREATE TABLE event (
    event_id    bigint GENERATED ALWAYS AS IDENTITY (CACHE 50),
    pos         bigint,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    user_id     uuid NOT NULL,
    file_id     uuid,
    kind        text NOT NULL,
    stage       smallint,
    body        jsonb NOT NULL DEFAULT '{}'
) PARTITION BY RANGE (at);
CREATE TABLE event_default PARTITION OF event DEFAULT;
-- Weekly partitions from the current week on; kept ahead by the cleaner.
CREATE FUNCTION event_partitions(ahead int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    monday date;
BEGIN
    FOR i IN 0..ahead LOOP
        monday := date_trunc('week', now() AT TIME ZONE 'UTC')::date + 7 * i;
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS docfleet.%I PARTITION OF docfleet.event'
            ' FOR VALUES FROM (%L) TO (%L)',
            'event_' || to_char(monday, 'IYYY_IW'), monday::timestamp AT TIME ZONE 'UTC',
            (monday + 7)::timestamp AT TIME ZONE 'UTC');
    END LOOP;
END $$;
SELECT event_partitions(4);
CREATE INDEX event_user ON event (user_id, pos);
CREATE INDEX event_file ON event (file_id, event_id);
CREATE INDEX event_send ON event (at, event_id) WHERE pos IS NULL;

CREATE TABLE count_delta (
    id          bigint GENERATED ALWAYS AS IDENTITY (CACHE 50) PRIMARY KEY,
    dataset_id  uuid NOT NULL,
    batch_id    uuid,
    from_state  smallint,                       -- null: the file came into being
    to_state    smallint,
    n           int NOT NULL
);
CREATE INDEX count_delta_dataset ON count_delta (dataset_id);
CREATE INDEX count_delta_batch ON count_delta (batch_id);

CREATE TABLE count_base (
    dataset_id  uuid NOT NULL,
    batch_id    uuid,
    state       smallint NOT NULL,
    n           bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (dataset_id, batch_id, state)
);
CREATE INDEX count_base_batch ON count_base (batch_id);

CREATE TABLE worker (
    worker_id   text PRIMARY KEY,
    stage       smallint NOT NULL,
    slots       int NOT NULL,
    partitions  int[] NOT NULL DEFAULT '{}',
    busy        int NOT NULL DEFAULT 0,
    seen        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE backlog (
    stage       smallint PRIMARY KEY,
    n           bigint NOT NULL,
    oldest_at   timestamptz,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE stage_control (
    stage       smallint PRIMARY KEY,
    paused      boolean NOT NULL DEFAULT false
);

CREATE TABLE dispatcher_state (
    name        text PRIMARY KEY,
    value       bigint NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO dispatcher_state (name, value) VALUES ('last_pos', 0), ('published_pos', 0);

CREATE TABLE dead_letter (
    id          uuid PRIMARY KEY,
    file_id     uuid NOT NULL,
    user_id     uuid NOT NULL,
    stage       smallint NOT NULL,
    unit        int NOT NULL,
    generation  int NOT NULL,
    reason      text NOT NULL,
    class       text NOT NULL,
    attempts    int NOT NULL,
    failures    int NOT NULL,
    crashes     int NOT NULL,
    last_error  text NOT NULL,
    child       jsonb,                          -- {exit, signal, maxRss}
    code_version text,
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL DEFAULT now(),
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed', 'discarded')),
    actor       text,
    closed_at   timestamptz
);
CREATE INDEX dead_letter_open ON dead_letter (stage, last_at) WHERE state = 'open';
CREATE INDEX dead_letter_file ON dead_letter (file_id);

CREATE TABLE effect (
    idem_key    text PRIMARY KEY,
    kind        text NOT NULL,
    response    bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- Results of stages ------------------------------------------------------------------------------
CREATE TABLE artifact (
    artifact_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file_id     uuid NOT NULL,
    version     int NOT NULL,
    generation  int NOT NULL,
    stage       smallint NOT NULL,
    unit        int NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('text', 'words', 'parts', 'pdf', 'page', 'thumb')),
    page        int,                            -- page and thumb (its size) are numbered
    object_key  text NOT NULL,
    bytes       bigint NOT NULL,
    mime        text NOT NULL,
    meta        jsonb NOT NULL DEFAULT '{}',    -- width, height, ...
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (file_id, generation, stage, unit, kind, page)
);
CREATE INDEX artifact_key ON artifact (object_key);

-- One row a page: where its text (and words) lie inside the unit's objects.
CREATE TABLE file_page (
    file_id     uuid NOT NULL,
    version     int NOT NULL,
    page        int NOT NULL,
    generation  int NOT NULL,
    engine      text NOT NULL,                  -- native, tesseract, textract, none
    chars       int NOT NULL,
    confidence  real,
    width       real NOT NULL DEFAULT 0,
    height      real NOT NULL DEFAULT 0,
    needs_ocr   boolean NOT NULL DEFAULT false,
    text_key    text,
    text_start  bigint,
    text_bytes  bigint,
    words_key   text,
    words_start bigint,
    words_bytes bigint,
    PRIMARY KEY (file_id, version, page, generation)
);

CREATE TABLE record (
    record_id   uuid PRIMARY KEY,
    file_id     uuid NOT NULL,
    dataset_id  uuid NOT NULL,
    user_id     uuid NOT NULL,
    version     int NOT NULL,
    generation  int NOT NULL,
    schema_version int NOT NULL,
    doc_no      int NOT NULL DEFAULT 0,
    backend     text NOT NULL,
    "values"    jsonb NOT NULL,
    cells       jsonb NOT NULL,
    needs_review boolean NOT NULL DEFAULT false,
    completeness real NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (file_id, generation, schema_version, doc_no)
);
CREATE INDEX record_dataset ON record (dataset_id, record_id);

CREATE TABLE record_row (
    record_id   uuid NOT NULL REFERENCES record ON DELETE CASCADE,
    column_id   text NOT NULL,
    row_no      int NOT NULL,
    "values"    jsonb NOT NULL,
    cells       jsonb NOT NULL,
    PRIMARY KEY (record_id, column_id, row_no)
);

-- Requests ---------------------------------------------------------------------------------------
CREATE TABLE idempotency (
    user_id     uuid NOT NULL,
    key         text NOT NULL,
    body_sha256 text NOT NULL,
    status      int NOT NULL,
    response    text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE audit (
    audit_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    user_id     uuid,
    actor       text NOT NULL,
    action      text NOT NULL,
    target      text,
    detail      jsonb NOT NULL DEFAULT '{}'
);

