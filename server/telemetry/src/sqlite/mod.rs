//! Telemetry in one SQLite file.
//!
//! A commit writes one row of a journal, and a chunk for each large batch; small batches are in the journal alone. What
//! else a commit changes (sequences, counts, what is to be taken into aggregates) is changed in memory and can be made
//! again from the journal. In the background a vehicle is flushed: its small batches become chunks, its aggregates take
//! in what is new, its sequences are written, and the journal row up to which this is so, all in one transaction. Rows
//! that every vehicle is past are deleted.
//!
//! So a crash at any moment loses nothing and doubles nothing: what memory held is the journal after each vehicle's row.

mod append;
mod checkpoint;
mod expire;
mod flush;
mod open;
mod quarantine;
mod read;
mod state;

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use ev_domain::{Source, VehicleId};
use sqlx::{SqlitePool, sqlite::SqliteConnection};

use crate::{
    AggregateQuery, Append, Appended, Expired, Horizon, Latest, Page, QuarantinePage, QuarantineQuery, Quarantined,
    Query, Sequence, SequenceLimits, SourceSequence, SpanAggregate, TelemetryError, TelemetryStore, VehicleSummary,
    codec::{Dictionary, Packer},
};
use state::State;

/// Where a store lies, and its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Its file, made where there is none.
    pub path: PathBuf,
    /// How far a sequence may be from complete.
    pub sequence_limits: SequenceLimits,
    /// Most vehicles.
    pub vehicles_max: u64,
    /// Vehicles, and sources, that are kept in memory though they have nothing to be flushed.
    pub vehicles_cached_max: usize,
    /// A batch of this many readings or more becomes a chunk at once.
    pub chunk_readings_min: usize,
    /// A vehicle with this many readings that are not in chunks or aggregates is flushed.
    pub flush_readings: usize,
    /// A vehicle is flushed after this time at the latest.
    pub flush_after: Duration,
    /// Readings of small batches in memory; more flush vehicles before their time, twice as many hold commits up.
    pub waiting_readings_max: usize,
    /// Bytes of the journal; more flush vehicles before their time, twice as many hold commits up.
    pub journal_bytes_max: usize,
    /// Most bytes of the file, without its log; none: as many as the disk has room for. Beyond it, commits are refused
    /// as on a full disk.
    pub file_bytes_max: Option<u64>,
    /// Rejects that are kept, the latest; for a moment, an eighth more.
    pub rejects_max: usize,
}

/// Telemetry in one SQLite file in WAL mode, synced at every commit.
#[derive(Debug)]
pub struct SqliteTelemetryStore {
    options: SqliteOptions,
    dictionary: Dictionary,
    reads: SqlitePool,
    /// Never held while waiting for anything but the state, which is never held while waiting.
    writer: tokio::sync::Mutex<Writer>,
    state: Mutex<State>,
    packer: Mutex<Packer>,
    /// One at a time does what is due in the background; it holds the writer for a transaction at a time.
    background: tokio::sync::Mutex<checkpoint::Checkpointer>,
}

/// The one connection that writes.
#[derive(Debug)]
struct Writer {
    connection: SqliteConnection,
    packer: Packer,
    /// A transaction began and its end was not seen: memory may not be what the file is.
    unsettled: bool,
    /// Commits may not be synced.
    relaxed: bool,
    /// Rejects that were kept since it was last seen whether there are too many.
    rejects_untrimmed: usize,
    closed: bool,
}

// === impl Writer ===

impl Writer {
    /// What is committed from now on survives a crash of the machine only once something later is synced. Enough for
    /// what can be made again from the journal: the log is one sequence, of which a crash loses the end.
    async fn relax(&mut self) -> Result<(), sqlx::Error> {
        if !self.relaxed {
            // First: when this is dropped halfway, nobody may take it for synced.
            self.relaxed = true;
            sqlx::query("PRAGMA synchronous = NORMAL").execute(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Begins a transaction that survives a crash of the machine, and with it what was committed before.
    fn begin_synced(&self) -> &'static str {
        if self.relaxed { "PRAGMA synchronous = FULL; BEGIN IMMEDIATE; " } else { "BEGIN IMMEDIATE; " }
    }
}

// === impl SqliteOptions ===

impl SqliteOptions {
    /// A store in this file, with the default bounds.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> SqliteOptions {
        SqliteOptions {
            path: path.into(),
            sequence_limits: SequenceLimits::default(),
            vehicles_max: 2_000_000,
            vehicles_cached_max: 200_000,
            chunk_readings_min: 64,
            flush_readings: 8_192,
            flush_after: Duration::from_secs(600),
            waiting_readings_max: 1_000_000,
            journal_bytes_max: 128 << 20,
            file_bytes_max: None,
            rejects_max: 10_000,
        }
    }
}

// === impl SqliteTelemetryStore ===

impl SqliteTelemetryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked left a state that is whole or that the next settling replaces.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TelemetryStore for SqliteTelemetryStore {
    fn sequence_limits(&self) -> SequenceLimits {
        self.options.sequence_limits
    }

    async fn commit(&self, group: &[Append], rejects: &[Quarantined]) -> Result<Vec<Appended>, TelemetryError> {
        self.append_group(group, rejects).await
    }

    async fn quarantined(&self, query: &QuarantineQuery) -> Result<QuarantinePage, TelemetryError> {
        self.read_quarantined(query).await
    }

    async fn sequences(&self, source: &Source, vehicles: &[VehicleId]) -> Result<Vec<Sequence>, TelemetryError> {
        self.read_sequences(source, vehicles).await
    }

    async fn query(&self, query: &Query) -> Result<Page, TelemetryError> {
        self.read_page(query).await
    }

    async fn aggregate(&self, query: &AggregateQuery) -> Result<Vec<SpanAggregate>, TelemetryError> {
        self.read_aggregates(query).await
    }

    async fn latest(&self, vehicle: &VehicleId) -> Result<Vec<Latest>, TelemetryError> {
        self.read_latest(vehicle).await
    }

    async fn vehicles(&self, after: Option<&VehicleId>, limit: u32) -> Result<Vec<VehicleSummary>, TelemetryError> {
        self.read_vehicles(after, limit).await
    }

    async fn vehicle(&self, vehicle: &VehicleId) -> Result<VehicleSummary, TelemetryError> {
        self.read_vehicle(vehicle).await
    }

    async fn gaps(
        &self,
        vehicle: &VehicleId,
        after: Option<&Source>,
        limit: u32,
    ) -> Result<Vec<SourceSequence>, TelemetryError> {
        self.read_gaps(vehicle, after, limit).await
    }

    async fn maintain(&self) -> Result<bool, TelemetryError> {
        self.run_maintenance().await
    }

    async fn flush(&self) -> Result<(), TelemetryError> {
        self.flush_all().await
    }

    async fn expire(&self, horizon: &Horizon) -> Result<Expired, TelemetryError> {
        self.delete_expired(horizon).await
    }

    async fn close(&self) {
        self.reads.close().await;
        self.writer.lock().await.closed = true;
    }
}

/// `SQLITE_FULL`, and `SQLITE_IOERR_SHMSIZE`: the index of the log, which is a file too, cannot grow.
const FULL: [&str; 2] = ["13", "4874"];

/// A failure of the database while `doing` something.
fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> TelemetryError {
    move |error| match error {
        sqlx::Error::PoolClosed => TelemetryError::ShuttingDown,
        error => {
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            if code.is_some_and(|code| FULL.contains(&&*code)) {
                TelemetryError::DiskFull { doing, source: std::sync::Arc::new(error) }
            } else {
                TelemetryError::storage(doing, error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ev_domain::{Catalogue, Column, ReadingBatch, Readings, signals::SPEED};

    use super::*;

    /// What is acknowledged must be on the disk, and what the journal can make again need not.
    #[tokio::test]
    async fn commits_are_synced_after_what_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = SqliteOptions::new(directory.path().join("telemetry.db"));
        let store = SqliteTelemetryStore::open(options, &Catalogue::standard()).await.expect("a store");
        let synchronous = async || -> i64 {
            let mut writer = store.writer.lock().await;
            let asked = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut writer.connection).await;
            asked.expect("an answer")
        };
        for sequence in 1..4 {
            let name = |name: &str| VehicleId::new(name).expect("a name");
            let speed = Column { signal: SPEED, values: vec![1.0].into() };
            let readings = Readings { times_us: vec![1], columns: vec![speed] };
            let batch = ReadingBatch { vehicle: name("car"), sequence, readings };
            let source = Source { gateway: name("gateway"), boot: name("boot") };
            store.append(&[Append { source, batch, received_us: 1 }]).await.expect("stored");
            assert_eq!(synchronous().await, 2, "FULL");
            store.flush().await.expect("flushed");
            assert_eq!(synchronous().await, 1, "NORMAL");
        }
    }
}
