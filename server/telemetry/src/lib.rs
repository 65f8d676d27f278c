//! Takes in vehicle readings.

mod aggregates;
mod codec;
mod collect;
mod error;
mod ingest;
mod pieces;
mod rollup;
mod sequence;
mod sqlite;
mod store;

pub use error::TelemetryError;
pub use ingest::{
    AppliedBatch, Apply, Event, IngestConfig, IngestLimits, IngestStats, Ingestor, Observed, Quarantined, Received,
    Reject, RejectReason, Session, SubmitError, Subscription,
};
pub use rollup::{Aggregate, Resolution};
pub use sequence::{Admission, Sequence, SequenceError, SequenceLimits, SequenceRange};
pub use sqlite::{SqliteOptions, SqliteTelemetryStore};
pub use store::{
    AggregateQuery, Append, Appended, Cursor, Expired, Horizon, Latest, Page, Query, RefusedBatch, SourceSequence,
    SpanAggregate, TelemetryStore, VehicleSummary,
};
