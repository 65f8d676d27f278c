-- Who changed what, and when: rows are appended in the transaction of the change they tell of, each with the hash of
-- the one before. The hash covers every other column.
CREATE TABLE audit (
    sequence      INTEGER NOT NULL PRIMARY KEY CHECK (sequence >= 1),
    at_ms         INTEGER NOT NULL,
    actor         TEXT    NOT NULL,
    action        TEXT    NOT NULL,
    model         TEXT    NOT NULL,
    version       INTEGER NOT NULL CHECK (version BETWEEN 0 AND 4294967295),
    alias         TEXT    NOT NULL,
    digest        TEXT    NOT NULL,
    detail        TEXT    NOT NULL,
    previous_hash TEXT    NOT NULL,
    hash          TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_by_model ON audit (model, sequence);

-- The last row's number and hash, so that rows missing at the end are noticed.
CREATE TABLE audit_head (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL,
    hash     TEXT    NOT NULL
) STRICT;

CREATE TRIGGER audit_rows_stay BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

CREATE TRIGGER audit_rows_never_change BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- Versions that neither retention nor a call removes.
CREATE TABLE pins (
    model   TEXT    NOT NULL,
    version INTEGER NOT NULL,
    reason  TEXT    NOT NULL,
    PRIMARY KEY (model, version),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
) STRICT;
