-- What was left out of batches, and batches that were refused. '' and -1 stand for none, as NULLs are all different.
CREATE SEQUENCE quarantine_id;

CREATE TABLE quarantine (
    id BIGINT PRIMARY KEY,
    gateway TEXT COLLATE "C" NOT NULL,
    boot TEXT COLLATE "C" NOT NULL,
    vehicle TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    received_us BIGINT NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    signal TEXT COLLATE "C" NOT NULL,
    value TEXT,
    reading BIGINT NOT NULL,
    readings BIGINT NOT NULL,
    message TEXT NOT NULL,
    UNIQUE (gateway, boot, vehicle, sequence, reason, signal, reading)
);
