-- A rollout is a document that moves by compare-and-set on its revision; what it says is not known here.
CREATE TABLE rollouts (
    id            TEXT    NOT NULL PRIMARY KEY,
    model         TEXT    NOT NULL REFERENCES models (name),
    active        INTEGER NOT NULL CHECK (active IN (0, 1)),
    revision      INTEGER NOT NULL CHECK (revision >= 1),
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    document      TEXT    NOT NULL
) STRICT;

CREATE INDEX rollouts_by_model ON rollouts (model, id);
-- A model has at most one rollout under way.
CREATE UNIQUE INDEX rollouts_under_way ON rollouts (model) WHERE active = 1;

-- What each server process saw; the sum over all is what a rollout is judged by.
CREATE TABLE rollout_observations (
    rollout       TEXT    NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
    replica       TEXT    NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    document      TEXT    NOT NULL,
    PRIMARY KEY (rollout, replica)
) STRICT;
