//! Telemetry in PostgreSQL, which several replicas may share.
//!
//! Nothing is held in memory between calls: a commit locks the sequences of its vehicles, decides, and writes chunks,
//! sequences and counts in one transaction. In the background the chunks of a vehicle that are not in the aggregates
//! yet are taken in, and small ones become larger ones, also in one transaction. A partition holds a day of chunks, and
//! retention drops partitions.

mod append;
mod maintain;
mod open;
mod quarantine;
mod read;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use async_trait::async_trait;
use ev_domain::{Source, VehicleId};
use sqlx::{PgPool, postgres::PgConnectOptions};

use crate::{
    AggregateQuery, Append, Appended, Expired, Horizon, Latest, Page, QuarantinePage, QuarantineQuery, Quarantined,
    Query, Sequence, SequenceLimits, SourceSequence, SpanAggregate, TelemetryError, TelemetryStore, VehicleSummary,
    codec::Dictionary,
};

/// Where a store lies, and its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// `postgres://user:password@host/database`.
    pub url: String,
    /// How far a sequence may be from complete.
    pub sequence_limits: SequenceLimits,
    /// Most vehicles; replicas that meet new ones at the same moment may pass it by a group.
    pub vehicles_max: u64,
    /// Connections.
    pub connections_max: u32,
    /// How long a call waits for a connection.
    pub acquire_timeout: Duration,
    /// How long opening waits for a database that does not answer, or is starting; 0: not at all.
    pub open_wait: Duration,
    /// A vehicle with this many readings that are not in the aggregates is brought up to date.
    pub flush_readings: u32,
    /// A vehicle is brought up to date after this time at the latest.
    pub flush_after: Duration,
    /// Rejects that are kept, the latest; for a moment, an eighth more for each replica.
    pub rejects_max: usize,
}

/// Telemetry in PostgreSQL.
#[derive(Debug)]
pub struct PostgresTelemetryStore {
    options: PostgresOptions,
    dictionary: Dictionary,
    pool: PgPool,
    /// Days that have a partition, as far as this process knows.
    days: Mutex<BTreeSet<i64>>,
    /// Rejects that were kept since it was last seen whether there are too many.
    rejects_untrimmed: AtomicUsize,
}

// === impl PostgresOptions ===

impl PostgresOptions {
    /// A store in this database, with the default bounds.
    #[must_use]
    pub fn new(url: impl Into<String>) -> PostgresOptions {
        PostgresOptions {
            url: url.into(),
            sequence_limits: SequenceLimits::default(),
            vehicles_max: 2_000_000,
            connections_max: 8,
            acquire_timeout: Duration::from_secs(5),
            open_wait: Duration::ZERO,
            flush_readings: 8_192,
            flush_after: Duration::from_secs(600),
            rejects_max: 10_000,
        }
    }

    /// Checks what can be checked without the database.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Storage`] when the URL is none. It does not repeat the URL, which may hold a password.
    pub fn check(&self) -> Result<(), TelemetryError> {
        self.connect_options().map(drop)
    }

    fn connect_options(&self) -> Result<PgConnectOptions, TelemetryError> {
        let parsed = self.url.parse().map_err(failed("read the URL of the telemetry database"));
        parsed.map(|options: PgConnectOptions| options.application_name("evserve"))
    }
}

// === impl PostgresTelemetryStore ===

#[async_trait]
impl TelemetryStore for PostgresTelemetryStore {
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
        self.trim_rejects().await?;
        self.take_in_due().await
    }

    async fn flush(&self) -> Result<(), TelemetryError> {
        self.take_in_all().await
    }

    async fn expire(&self, horizon: &Horizon) -> Result<Expired, TelemetryError> {
        self.delete_expired(horizon).await
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// `disk_full` and `insufficient_resources`.
const FULL: [&str; 2] = ["53100", "53000"];
/// `too_many_connections`, and what a server says that is going down, has crashed, or is coming up.
const AWAY: [&str; 4] = ["53300", "57P01", "57P02", "57P03"];

/// A failure of the database while `doing` something.
fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> TelemetryError {
    move |error| match error {
        sqlx::Error::PoolClosed => TelemetryError::ShuttingDown,
        error if is_away(&error) => TelemetryError::Unreachable { doing, source: Arc::new(error) },
        error => {
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            if code.is_some_and(|code| FULL.contains(&&*code)) {
                TelemetryError::DiskFull { doing, source: Arc::new(error) }
            } else {
                TelemetryError::storage(doing, error)
            }
        }
    }
}

/// Whether it is the way to the database, or the database as a whole, that failed: later it may answer.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        error => {
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            code.is_some_and(|code| AWAY.contains(&&*code))
        }
    }
}
