//! Takes in vehicles' readings: admits batches, stores each once, acknowledges them by how safe they are, and answers
//! questions about them.
//!
//! Invariants:
//!
//! - What was called durable is on disk: a kill or a power cut at any moment loses none of it.
//! - Each batch is stored once, however often, from however many sessions and in whatever order it comes. Whether it
//!   is new is decided from what is stored, in the transaction that stores it.
//! - The gap ledger is exact: what a source counted and did not deliver is in it, and what it cannot hold is refused
//!   and told, never dropped.
//! - What was left out of a batch is stored before the batch is called durable, and once.
//! - Aggregates agree with the readings at any moment, whatever came late, twice or out of order.
//! - Everything is bounded: batches of a gateway by its credit, readings that wait, vehicles, holes, the journal, what
//!   a subscriber may be behind.
//! - Nothing in a database makes this crate panic, nor does a batch.
//!
//! Not here: gRPC and protobuf, the catalogue's plausible ranges and units (the server checks values at the edge), the
//! wall clock (callers say what time it is), features and alerts (they are shown batches through [`Apply`]).
//!
//! ```
//! use std::sync::Arc;
//!
//! use ev_domain::{Catalogue, Column, ReadingBatch, Readings, Source, VehicleId, signals::SPEED};
//! use ev_telemetry::{Event, IngestConfig, Ingestor, SqliteOptions, SqliteTelemetryStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let options = SqliteOptions::new(directory.path().join("telemetry.db"));
//! let store = Arc::new(SqliteTelemetryStore::open(options, &Catalogue::standard()).await?);
//! let runtime = tokio::runtime::Handle::current();
//! let ingestor = Ingestor::start(store, IngestConfig::default(), Vec::new(), &runtime);
//!
//! let source = Source { gateway: VehicleId::new("depot-7")?, boot: VehicleId::new("boot-1")? };
//! let mut session = ingestor.open(source, &[]).await?;
//! let now_us = 1_767_225_600_000_000;
//! let speed = Column { signal: SPEED, values: vec![42.0].into() };
//! let readings = Readings { times_us: vec![now_us], columns: vec![speed] };
//! session.submit(ReadingBatch { vehicle: VehicleId::new("car-1")?, sequence: 1, readings }, now_us).await?;
//! assert!(matches!(session.next().await, Some(Event::Durable { sequence: 1, .. })));
//!
//! let latest = ingestor.store().latest(&VehicleId::new("car-1")?).await?;
//! assert_eq!(latest[0].value, 42.0);
//! ingestor.drain().await;
//! # Ok(())
//! # }
//! ```

mod aggregates;
mod codec;
mod collect;
mod error;
mod ingest;
mod pieces;
mod postgres;
mod quarantine;
mod rollup;
mod sequence;
mod sqlite;
mod store;

pub use error::TelemetryError;
pub use ingest::{
    AppliedBatch, Apply, Event, IngestConfig, IngestLimits, IngestStats, Ingestor, Observed, Received, Session,
    SubmitError, Subscription,
};
pub use postgres::{PostgresOptions, PostgresTelemetryStore};
pub use quarantine::{QuarantinePage, QuarantineQuery, Quarantined, Reject, RejectReason};
pub use rollup::{Aggregate, Resolution};
pub use sequence::{Admission, Sequence, SequenceError, SequenceLimits, SequenceRange};
pub use sqlite::{SqliteOptions, SqliteTelemetryStore};
pub use store::{
    AggregateQuery, Append, Appended, Cursor, Expired, Horizon, Latest, Page, Query, RefusedBatch, SourceSequence,
    SpanAggregate, TelemetryStore, VehicleSummary,
};
