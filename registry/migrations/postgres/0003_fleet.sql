-- Which versions of a model are served, where somebody said so; what the document says is not known here.
CREATE TABLE version_policies (
    model         text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES models (name),
    document      text   NOT NULL,
    updated_at_ms bigint NOT NULL
);

-- What each server process says that it serves.
CREATE TABLE replicas (
    replica       text COLLATE "C" NOT NULL PRIMARY KEY,
    updated_at_ms bigint NOT NULL,
    document      text   NOT NULL
);

-- What was reported to a server that could not take it, for the one that can.
CREATE TABLE kept_outcomes (
    seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at_ms bigint NOT NULL,
    document      text   NOT NULL
);
