//! The ingestor and the SQLite store from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod crash;
mod full_disk;
mod ingest;
mod support;
