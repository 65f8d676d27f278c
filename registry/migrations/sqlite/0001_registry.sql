-- Models exist from their first version on; `last_version` only grows, so a number is never given twice.
CREATE TABLE models (
    name         TEXT    NOT NULL PRIMARY KEY,
    last_version INTEGER NOT NULL CHECK (last_version BETWEEN 1 AND 4294967295)
) STRICT;

-- Immutable: rows are inserted, never updated.
CREATE TABLE versions (
    model         TEXT    NOT NULL REFERENCES models (name),
    version       INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    digest        TEXT    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    task          TEXT    NOT NULL,
    backend       TEXT    NOT NULL,
    license       TEXT    NOT NULL,
    description   TEXT    NOT NULL,
    size_bytes    INTEGER NOT NULL CHECK (size_bytes >= 0),
    PRIMARY KEY (model, version),
    UNIQUE (model, digest)
) STRICT;

-- Pointers that move by compare-and-set.
CREATE TABLE aliases (
    model   TEXT    NOT NULL,
    alias   TEXT    NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (model, alias),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
) STRICT;

CREATE INDEX aliases_by_version ON aliases (model, version);
