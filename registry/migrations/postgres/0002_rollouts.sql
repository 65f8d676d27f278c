-- A rollout is a document that moves by compare-and-set on its revision; what it says is not known here.
CREATE TABLE rollouts (
    id            text COLLATE "C" NOT NULL PRIMARY KEY,
    model         text COLLATE "C" NOT NULL REFERENCES models (name),
    active        boolean NOT NULL,
    revision      bigint  NOT NULL CHECK (revision >= 1),
    created_at_ms bigint  NOT NULL,
    updated_at_ms bigint  NOT NULL,
    document      text    NOT NULL
);

CREATE INDEX rollouts_by_model ON rollouts (model, id);
-- A model has at most one rollout under way.
CREATE UNIQUE INDEX rollouts_under_way ON rollouts (model) WHERE active;

-- What each server process saw; the sum over all is what a rollout is judged by.
CREATE TABLE rollout_observations (
    rollout       text COLLATE "C" NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
    replica       text COLLATE "C" NOT NULL,
    updated_at_ms bigint NOT NULL,
    document      text   NOT NULL,
    PRIMARY KEY (rollout, replica)
);
