//! What every store of telemetry does.

use std::ops::Range;

use async_trait::async_trait;
use ev_domain::{ReadingBatch, Readings, SignalId, Source, VehicleId};

use crate::{
    Admission, Aggregate, QuarantinePage, QuarantineQuery, Quarantined, Resolution, Sequence, SequenceError,
    SequenceLimits, TelemetryError,
};

/// Keeps readings, and what is known of the sources they came from.
///
/// Readings were checked by the caller: of one length, no signal twice, of the catalogue the store was opened with.
#[async_trait]
pub trait TelemetryStore: Send + Sync {
    /// How far a sequence may be from complete.
    fn sequence_limits(&self) -> SequenceLimits;

    /// Stores a group of batches in one transaction, each exactly once: whether a batch is new is decided from what is
    /// stored, and stored with it. What was stored survives a power cut when this returns. An error means that nothing
    /// of the group was stored, or with [`TelemetryError::Unreachable`] that the database did not come back in time to
    /// say so. Of a batch without readings, its number is stored.
    ///
    /// Rejects are kept in the same transaction, whatever becomes of the batches: of those of one batch and reason that
    /// begin at one reading, the first. So those of a batch that is sent again are there once.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::DiskFull`], [`TelemetryError::Storage`], [`TelemetryError::InvalidBatch`],
    /// [`TelemetryError::Unreachable`].
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the group is stored as a whole or not at all; sending it again is safe.
    async fn commit(&self, group: &[Append], rejects: &[Quarantined]) -> Result<Vec<Appended>, TelemetryError>;

    /// As [`TelemetryStore::commit`], of batches that nothing was left out of.
    async fn append(&self, group: &[Append]) -> Result<Vec<Appended>, TelemetryError> {
        self.commit(group, &[]).await
    }

    /// A page of what was rejected, the latest first.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Malformed`] and failures of the disk.
    async fn quarantined(&self, query: &QuarantineQuery) -> Result<QuarantinePage, TelemetryError>;

    /// What has come of these vehicles from a source; of a vehicle that has sent nothing, an empty sequence.
    async fn sequences(&self, source: &Source, vehicles: &[VehicleId]) -> Result<Vec<Sequence>, TelemetryError>;

    /// A page of readings in order of their time.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::UnknownVehicle`], [`TelemetryError::InvalidQuery`] and failures of the disk.
    async fn query(&self, query: &Query) -> Result<Page, TelemetryError>;

    /// A page of aggregates, by time, then by name of the signal. They agree with the readings at any moment.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::UnknownVehicle`], [`TelemetryError::InvalidQuery`] and failures of the disk.
    async fn aggregate(&self, query: &AggregateQuery) -> Result<Vec<SpanAggregate>, TelemetryError>;

    /// The latest value of every signal a vehicle ever sent, in order of the signals' names.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::UnknownVehicle`] and failures of the disk.
    async fn latest(&self, vehicle: &VehicleId) -> Result<Vec<Latest>, TelemetryError>;

    /// Vehicles by id, from the first after `after`, at most `limit`.
    async fn vehicles(&self, after: Option<&VehicleId>, limit: u32) -> Result<Vec<VehicleSummary>, TelemetryError>;

    /// One vehicle.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::UnknownVehicle`] and failures of the disk.
    async fn vehicle(&self, vehicle: &VehicleId) -> Result<VehicleSummary, TelemetryError>;

    /// A page of the gap ledger of a vehicle: what has come from each source that holes are left of, by gateway and
    /// boot, from the first after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::UnknownVehicle`] and failures of the disk.
    async fn gaps(
        &self,
        vehicle: &VehicleId,
        after: Option<&Source>,
        limit: u32,
    ) -> Result<Vec<SourceSequence>, TelemetryError>;

    /// Does what is due in the background, for some ten milliseconds at most: call it every fraction of a second.
    /// Whether more is due at once.
    async fn maintain(&self) -> Result<bool, TelemetryError>;

    /// Brings everything that waits in memory or in the journal to its final place, as before a backup or an end.
    async fn flush(&self) -> Result<(), TelemetryError>;

    /// Deletes what is older than it is to be kept: call it every hour or so.
    async fn expire(&self, horizon: &Horizon) -> Result<Expired, TelemetryError>;

    /// Ends all connections; later calls fail. What was not flushed is in the journal.
    async fn close(&self);
}

/// A batch to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// Who sent it.
    pub source: Source,
    /// The batch.
    pub batch: ReadingBatch,
    /// When it came, in microseconds since 1970-01-01 UTC by the server's clock.
    pub received_us: i64,
}

/// What became of a batch.
pub type Appended = Result<Admission, RefusedBatch>;

/// A batch was not stored, and its number not counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedBatch {
    /// The number cannot be.
    #[error("{0}")]
    Sequence(SequenceError),
    /// There are as many vehicles as there may be.
    #[error("there are {max} vehicles already, and no more are taken")]
    TooManyVehicles {
        /// The limit.
        max: u64,
    },
}

/// Which readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// Which signals, in this order; none: all. A reading without any of them is left out.
    pub signals: Vec<SignalId>,
    /// Microseconds since 1970-01-01 UTC, from the first, before the second.
    pub time_us: Range<i64>,
    /// The cursor of the page before.
    pub after: Option<Cursor>,
    /// Most readings of the page, 1..=100000.
    pub limit: usize,
}

/// A place between two readings of a vehicle.
///
/// It stays right while readings come in, but for those that come at exactly its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The time of the last reading before it.
    pub time_us: i64,
    /// How many readings of exactly that time are before it.
    pub skip: u64,
}

/// Readings in order of their time.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The readings, all signals in the same order on every page when the query names them.
    pub readings: Readings,
    /// For the next page; none on the last.
    pub next: Option<Cursor>,
}

/// Which aggregates.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateQuery {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// Which signals; none: all.
    pub signals: Vec<SignalId>,
    /// Length of the spans.
    pub resolution: Resolution,
    /// Microseconds since 1970-01-01 UTC; rounded outwards to whole spans.
    pub time_us: Range<i64>,
    /// The last of the page before: its span's start, and its signal.
    pub after: Option<(i64, SignalId)>,
    /// Most aggregates of the page, 1..=100000.
    pub limit: usize,
}

/// A signal in a span of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpanAggregate {
    /// When the span begins, in microseconds since 1970-01-01 UTC.
    pub start_us: i64,
    /// The signal.
    pub signal: SignalId,
    /// What its values were.
    pub aggregate: Aggregate,
}

/// The latest value of a signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latest {
    /// The signal.
    pub signal: SignalId,
    /// Its value, in its unit.
    pub value: f32,
    /// When, in microseconds since 1970-01-01 UTC by the vehicle's clock.
    pub time_us: i64,
}

/// A vehicle and what is known of its data.
#[derive(Debug, Clone, PartialEq)]
pub struct VehicleSummary {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// Readings ever stored.
    pub readings: u64,
    /// Times of the first and the latest reading, in microseconds since 1970-01-01 UTC; none before the first.
    pub span_us: Option<(i64, i64)>,
    /// Batches that came, of those that its sources have counted.
    pub batches_received: u64,
    /// Batches that its sources have counted.
    pub batches_expected: u64,
}

/// What has come of a vehicle from a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSequence {
    /// The source.
    pub source: Source,
    /// What has come.
    pub sequence: Sequence,
}

/// How far back what is kept reaches. All in microseconds since 1970-01-01 UTC, rounded down to whole days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Readings from here on are kept, and rejects that came from here on.
    pub readings_us: i64,
    /// Minute aggregates from here on are kept.
    pub minutes_us: i64,
    /// Hour aggregates from here on are kept; those of days are kept for ever.
    pub hours_us: i64,
    /// What came of sources that sent anything from here on is kept; a source that comes back later is taken for new.
    pub sources_us: i64,
}

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Chunks of readings, or partitions of them.
    pub chunks: u64,
    /// Pages of aggregates.
    pub pages: u64,
    /// Sources.
    pub sources: u64,
    /// Rejects.
    pub rejects: u64,
}

// === impl VehicleSummary ===

impl VehicleSummary {
    /// Share of its batches that came, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn completeness(&self) -> f64 {
        if self.batches_expected == 0 { 1.0 } else { self.batches_received as f64 / self.batches_expected as f64 }
    }
}

// === impl Query ===

impl Query {
    /// Most readings of a page.
    pub const LIMIT_MAX: usize = 100_000;

    pub(crate) fn check(&self) -> Result<(), TelemetryError> {
        check_page(self.limit, &self.time_us)
    }
}

// === impl AggregateQuery ===

impl AggregateQuery {
    /// Most aggregates of a page.
    pub const LIMIT_MAX: usize = 100_000;

    pub(crate) fn check(&self) -> Result<(), TelemetryError> {
        check_page(self.limit, &self.time_us)
    }
}

fn check_page(limit: usize, time_us: &Range<i64>) -> Result<(), TelemetryError> {
    if limit == 0 || limit > Query::LIMIT_MAX {
        let problem = format!("a page of {limit}, expected 1 to {}", Query::LIMIT_MAX);
        return Err(TelemetryError::InvalidQuery { problem });
    }
    if time_us.start > time_us.end {
        let problem = "it ends before it begins".to_owned();
        return Err(TelemetryError::InvalidQuery { problem });
    }
    Ok(())
}
