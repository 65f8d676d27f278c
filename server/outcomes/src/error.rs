//! Errors of outcomes.

use std::{error::Error, path::PathBuf};

/// The store of predictions and outcomes refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomesError {
    /// Another process writes there.
    #[error("{path} is in use: stop the other evserve, or give this one a data directory of its own")]
    InUse {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The question cannot be answered as it is asked.
    #[error("the comparison is refused: `{field}` {problem}")]
    InvalidQuestion {
        /// The field at fault.
        field: &'static str,
        /// What was found and what was expected.
        problem: String,
    },
    /// No prediction of this model was logged.
    #[error("no prediction of model `{model}` was logged")]
    UnknownModel {
        /// The model.
        model: String,
    },
    /// The database holds what evserve never writes: restore a backup, or set it aside.
    #[error("{what} in the database of predictions is malformed")]
    Malformed {
        /// Such as `an answer`.
        what: &'static str,
    },
    /// The disk has no space left. Nothing was stored; the same call succeeds once there is space.
    #[error("cannot {doing}: the disk is full; free some space and try again")]
    DiskFull {
        /// What was being done.
        doing: &'static str,
        /// What the system or the database said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The disk or the database failed; the same call may succeed later.
    #[error("cannot {doing}")]
    Storage {
        /// What was being done.
        doing: &'static str,
        /// What the system or the database said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// `SQLITE_FULL`, and `SQLITE_IOERR_SHMSIZE`: the index of the log, which is a file too, cannot grow.
const FULL: [&str; 2] = ["13", "4874"];

// === impl OutcomesError ===

impl OutcomesError {
    /// Whether space on the disk is all that is missing.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, OutcomesError::DiskFull { .. })
    }
}

/// A failure of the database.
pub(crate) fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> OutcomesError {
    move |error| {
        let full = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| FULL.contains(&&*code));
        let source = error.into();
        if full { OutcomesError::DiskFull { doing, source } } else { OutcomesError::Storage { doing, source } }
    }
}

/// A failure of a file.
pub(crate) fn io(doing: &'static str) -> impl Fn(std::io::Error) -> OutcomesError {
    move |error| {
        let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let source = error.into();
        if full { OutcomesError::DiskFull { doing, source } } else { OutcomesError::Storage { doing, source } }
    }
}
