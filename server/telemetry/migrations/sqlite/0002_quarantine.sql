-- What was left out of batches, and batches that were refused. '' and -1 stand for none, as NULLs are all different.
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    boot TEXT NOT NULL,
    vehicle TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    reason TEXT NOT NULL,
    signal TEXT NOT NULL,
    value TEXT,
    reading INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    message TEXT NOT NULL,
    UNIQUE (gateway, boot, vehicle, sequence, reason, signal, reading)
) STRICT;
