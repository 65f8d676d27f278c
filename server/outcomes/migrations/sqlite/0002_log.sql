-- Who this log is, among those of other servers.
CREATE TABLE log (id TEXT NOT NULL) STRICT;
INSERT INTO log (id) VALUES (lower(hex(randomblob(16))));
