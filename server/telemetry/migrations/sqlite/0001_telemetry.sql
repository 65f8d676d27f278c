-- Times are microseconds since 1970-01-01 UTC.

-- What chunks and pages call signals: ids of a catalogue are stable only while a process lives.
CREATE TABLE signal (
    id INTEGER PRIMARY KEY CHECK (id BETWEEN 0 AND 65535),
    name TEXT NOT NULL UNIQUE
) STRICT;

-- As of the journal's row `journal`; what came later is in the journal only.
CREATE TABLE vehicle (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    readings INTEGER NOT NULL,
    first_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    journal INTEGER NOT NULL
) STRICT;

CREATE TABLE source (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    boot TEXT NOT NULL,
    seen_us INTEGER NOT NULL,
    UNIQUE (gateway, boot)
) STRICT;

CREATE TABLE sequence (
    vehicle INTEGER NOT NULL,
    source INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (vehicle, source)
) STRICT, WITHOUT ROWID;

CREATE INDEX sequence_source ON sequence (source);

-- Readings of a vehicle on one day, counted from 1970-01-01 UTC.
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY,
    vehicle INTEGER NOT NULL,
    first_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    day INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;

CREATE INDEX chunk_vehicle ON chunk (vehicle, first_us);
CREATE INDEX chunk_day ON chunk (day);

CREATE TABLE rollup (
    vehicle INTEGER NOT NULL,
    resolution INTEGER NOT NULL,
    start_us INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (vehicle, resolution, start_us)
) STRICT, WITHOUT ROWID;

CREATE INDEX rollup_start ON rollup (resolution, start_us);

-- A row for each commit: which batches it brought, and the readings of the small ones.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;
