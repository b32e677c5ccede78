-- Long documents in units of the ai stage: what a unit found is kept as an artifact until the join.
ALTER TABLE artifact DROP CONSTRAINT artifact_kind_check;
ALTER TABLE artifact ADD CONSTRAINT artifact_kind_check
    CHECK (kind IN ('text', 'words', 'parts', 'pdf', 'page', 'thumb', 'answer'));

-- What a unit's calls to a paid service used, all attempts together: booked with the most a call
-- can use before it is made, put right after it. A process that dies in between leaves the most.
CREATE TABLE spend (
    file_id     uuid NOT NULL,
    generation  int NOT NULL,
    stage       smallint NOT NULL,
    unit        int NOT NULL,
    calls       int NOT NULL,
    tokens      bigint NOT NULL,
    micros      bigint NOT NULL,                -- money, millionths of the price list's unit
    PRIMARY KEY (file_id, generation, stage, unit)
);
