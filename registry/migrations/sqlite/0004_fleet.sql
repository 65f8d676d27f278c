-- Which versions of a model are served, where somebody said so; what the document says is not known here.
CREATE TABLE version_policies (
    model         TEXT    NOT NULL PRIMARY KEY REFERENCES models (name),
    document      TEXT    NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT;

-- What each server process says that it serves.
CREATE TABLE replicas (
    replica       TEXT    NOT NULL PRIMARY KEY,
    updated_at_ms INTEGER NOT NULL,
    document      TEXT    NOT NULL
) STRICT;

-- What was reported to a server that could not take it, for the one that can.
CREATE TABLE kept_outcomes (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at_ms INTEGER NOT NULL,
    document      TEXT    NOT NULL
) STRICT;
