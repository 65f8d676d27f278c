-- All of it lies in a schema of its own, so that the registry can share a database with others.

-- Models exist from their first version on; `last_version` only grows, so a number is never given twice.
CREATE TABLE models (
    name         text COLLATE "C" NOT NULL PRIMARY KEY,
    last_version bigint NOT NULL CHECK (last_version BETWEEN 1 AND 4294967295)
);

-- Immutable: rows are inserted and deleted, never updated.
CREATE TABLE versions (
    model         text COLLATE "C" NOT NULL REFERENCES models (name),
    version       bigint NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    digest        text   NOT NULL,
    created_at_ms bigint NOT NULL,
    task          text   NOT NULL,
    backend       text   NOT NULL,
    license       text   NOT NULL,
    description   text   NOT NULL,
    size_bytes    bigint NOT NULL CHECK (size_bytes >= 0),
    PRIMARY KEY (model, version),
    UNIQUE (model, digest)
);

-- Pointers that move by compare-and-set.
CREATE TABLE aliases (
    model   text COLLATE "C" NOT NULL,
    alias   text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (model, alias),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
);

CREATE INDEX aliases_by_version ON aliases (model, version);

-- Versions that neither retention nor a call removes.
CREATE TABLE pins (
    model   text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    reason  text   NOT NULL,
    PRIMARY KEY (model, version),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
);

-- Who changed what, and when: rows are appended in the transaction of the change they tell of, each with the hash of
-- the one before. The hash covers every other column.
CREATE TABLE audit (
    sequence      bigint NOT NULL PRIMARY KEY CHECK (sequence >= 1),
    at_ms         bigint NOT NULL,
    actor         text   NOT NULL,
    action        text COLLATE "C" NOT NULL,
    model         text COLLATE "C" NOT NULL,
    version       bigint NOT NULL CHECK (version BETWEEN 0 AND 4294967295),
    alias         text COLLATE "C" NOT NULL,
    digest        text   NOT NULL,
    detail        text   NOT NULL,
    previous_hash text   NOT NULL,
    hash          text   NOT NULL
);

CREATE INDEX audit_by_model ON audit (model, sequence);

-- The last row's number and hash, so that rows missing at the end are noticed.
CREATE TABLE audit_head (
    id       bigint NOT NULL PRIMARY KEY CHECK (id = 1),
    sequence bigint NOT NULL,
    hash     text   NOT NULL
);

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;

CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
