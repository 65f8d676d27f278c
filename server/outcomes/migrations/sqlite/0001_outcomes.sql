-- What was answered, and what happened. Ids of predictions are UUIDs of version 7: their order is that of time.

-- Model versions whose predictions are here, with the columns of their rows.
CREATE TABLE version (
    id INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest TEXT NOT NULL,
    columns BLOB NOT NULL,
    UNIQUE (model, version, digest)
) STRICT;

CREATE TABLE cohort (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- The answer alone: what a comparison needs, and is kept longer than the rows.
CREATE TABLE prediction (
    id BLOB PRIMARY KEY,
    version INTEGER NOT NULL REFERENCES version (id),
    cohort INTEGER NOT NULL REFERENCES cohort (id),
    status INTEGER NOT NULL,
    answer BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Rows that are in no file yet.
CREATE TABLE staged (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL REFERENCES version (id),
    time_us INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX staged_by_version ON staged (version, seq);

-- What happened: a number, or a class by its place.
CREATE TABLE outcome (
    prediction BLOB PRIMARY KEY REFERENCES prediction (id),
    actual REAL NOT NULL,
    observed_us INTEGER,
    reported_us INTEGER NOT NULL,
    source TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What was reported first, where a later report took its place.
CREATE TABLE correction (
    seq INTEGER PRIMARY KEY,
    prediction BLOB NOT NULL,
    actual REAL NOT NULL,
    reported_us INTEGER NOT NULL,
    source TEXT NOT NULL,
    corrected_us INTEGER NOT NULL
) STRICT;
CREATE INDEX correction_by_prediction ON correction (prediction);
