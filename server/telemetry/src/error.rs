//! Errors of telemetry.

use std::{error::Error, sync::Arc};

/// A store refused or failed.
///
/// It can be cloned, because a commit that fails fails for every batch in it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// No readings of this vehicle were taken in.
    #[error("vehicle `{vehicle}` is not known")]
    UnknownVehicle {
        /// The vehicle.
        vehicle: String,
    },
    /// The question cannot be answered as it is asked.
    #[error("the query is refused: {problem}")]
    InvalidQuery {
        /// What was found and what was expected.
        problem: String,
    },
    /// A batch contradicts itself. The edge checks batches before they come here.
    #[error("the batch is refused: {problem}")]
    InvalidBatch {
        /// What was found.
        problem: String,
    },
    /// The database holds what evserve never writes: restore a backup.
    #[error("{what} in the telemetry database is malformed: {problem}")]
    Malformed {
        /// Such as `a chunk of readings`.
        what: &'static str,
        /// What was found.
        problem: String,
    },
    /// The disk has no space left. Nothing was stored; the same call succeeds once there is space.
    #[error("cannot {doing}: the disk is full; free some space and try again")]
    DiskFull {
        /// What was being done.
        doing: &'static str,
        /// What the system or the database said.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The disk or the database failed; the same call may succeed later.
    #[error("cannot {doing}")]
    Storage {
        /// What was being done.
        doing: &'static str,
        /// What the system or the database said.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The database does not answer. Whether what was being stored is there, the same call tells once it does.
    #[error("cannot {doing}: the database does not answer")]
    Unreachable {
        /// What was being done.
        doing: &'static str,
        /// What the system or the database said.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// More is on its way than may be: try again later.
    #[error("{what} is full")]
    Overloaded {
        /// What is full.
        what: &'static str,
    },
    /// The process is shutting down.
    #[error("telemetry is shutting down")]
    ShuttingDown,
}

// === impl TelemetryError ===

impl TelemetryError {
    pub(crate) fn invalid_batch(problem: &'static str) -> TelemetryError {
        TelemetryError::InvalidBatch { problem: problem.to_owned() }
    }

    pub(crate) fn malformed(what: &'static str, problem: impl ToString) -> TelemetryError {
        TelemetryError::Malformed { what, problem: problem.to_string() }
    }

    pub(crate) fn storage(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> TelemetryError {
        TelemetryError::Storage { doing, source: Arc::from(source.into()) }
    }
}
