-- Times are microseconds since 1970-01-01 UTC.

-- What chunks and pages call signals: ids of a catalogue are stable only while a process lives.
CREATE TABLE signal (
    id INTEGER PRIMARY KEY CHECK (id BETWEEN 0 AND 65535),
    name TEXT COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE vehicle (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    readings BIGINT NOT NULL DEFAULT 0,
    first_us BIGINT NOT NULL DEFAULT 9223372036854775807,
    last_us BIGINT NOT NULL DEFAULT -9223372036854775808
);

CREATE TABLE source (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway TEXT COLLATE "C" NOT NULL,
    boot TEXT COLLATE "C" NOT NULL,
    seen_us BIGINT NOT NULL,
    UNIQUE (gateway, boot)
);

CREATE TABLE sequence (
    vehicle BIGINT NOT NULL,
    source BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (vehicle, source)
);

CREATE INDEX sequence_source ON sequence (source);

CREATE SEQUENCE chunk_id;

-- Readings of a vehicle on one day, counted from 1970-01-01 UTC. A partition for each day is made when it is needed.
CREATE TABLE chunk (
    id BIGINT NOT NULL,
    day BIGINT NOT NULL,
    vehicle BIGINT NOT NULL,
    first_us BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    data BYTEA NOT NULL
) PARTITION BY RANGE (day);

-- Compressed already.
ALTER TABLE chunk ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX chunk_vehicle ON chunk (vehicle, first_us, id);

-- Chunks that are not in the aggregates yet.
CREATE TABLE pending (
    chunk BIGINT PRIMARY KEY,
    day BIGINT NOT NULL,
    vehicle BIGINT NOT NULL,
    readings INTEGER NOT NULL,
    since TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE INDEX pending_vehicle ON pending (vehicle);
CREATE INDEX pending_since ON pending (since);

CREATE TABLE rollup (
    vehicle BIGINT NOT NULL,
    resolution SMALLINT NOT NULL,
    start_us BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (vehicle, resolution, start_us)
);

ALTER TABLE rollup ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX rollup_start ON rollup (resolution, start_us);
