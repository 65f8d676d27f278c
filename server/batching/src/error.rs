//! Errors of the scheduler: of a whole submission, and of one row.

use std::{error::Error, sync::Arc, time::Duration};

use ev_models_core::{LoadError, RunError};

use crate::SettingsError;

/// Whatever made preparing a row fail; its kind is the caller's matter.
pub type PrepareError = Box<dyn Error + Send + Sync>;

/// A scheduler could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of its range.
    #[error("the settings are refused")]
    Settings(#[source] SettingsError),
    /// The engine could not make an instance.
    #[error("instance {index} could not be made")]
    Instance {
        /// Which, from 0.
        index: usize,
        /// Why.
        #[source]
        source: LoadError,
    },
    /// The system gave no thread.
    #[error("worker thread {index} could not be started")]
    Thread {
        /// Which, from 0.
        index: usize,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What of a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `max_queue_size`.
    Rows,
    /// `max_queue_bytes`.
    Bytes,
}

/// A submission was refused as a whole: none of its rows is queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// A submission has at least one row.
    #[error("the submission has no rows")]
    NoRows,
    /// More rows than the queue holds: it would be refused however often it is tried.
    #[error("the submission has {rows} rows, the queue holds at most {max}")]
    TooManyRows {
        /// Rows of the submission.
        rows: usize,
        /// `max_queue_size`.
        max: usize,
    },
    /// More bytes than the queue holds: it would be refused however often it is tried.
    #[error("the submission has {bytes} bytes, the queue holds at most {max}")]
    TooLarge {
        /// Bytes of the submission.
        bytes: usize,
        /// `max_queue_bytes`.
        max: usize,
    },
    /// The queue has no room now.
    #[error("the queue is full with {rows} rows of {bytes} bytes")]
    QueueFull {
        /// Which bound was met.
        bound: Bound,
        /// Rows waiting.
        rows: usize,
        /// Bytes waiting.
        bytes: usize,
        /// When there should be room, by the measured throughput.
        retry_after: Duration,
    },
    /// The deadline had passed already.
    #[error("the deadline has passed")]
    DeadlineExceeded,
    /// By the measured run time and what waits before it, the answer would be too late.
    #[error("the answer would take at least {} ms, more than its deadline leaves", expected.as_millis())]
    WouldMissDeadline {
        /// Least time until the answer.
        expected: Duration,
    },
    /// The scheduler takes no more work.
    #[error("the scheduler is shutting down")]
    ShuttingDown,
}

/// A row that was queued was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// Its deadline passed before it was run.
    #[error("the deadline passed in the queue")]
    DeadlineExceeded,
    /// By the measured run time it would have been answered too late, so it was not run.
    #[error("the answer would have been too late")]
    WouldMissDeadline,
    /// A more urgent row took its place in a full queue.
    #[error("more urgent rows filled the queue")]
    Displaced {
        /// When there should be room, by the measured throughput.
        retry_after: Duration,
    },
    /// The scheduler stopped before the row was answered.
    #[error("the scheduler is shutting down")]
    ShuttingDown,
    /// The row could not be prepared; its batch ran without it.
    #[error("the row could not be prepared")]
    Prepare(#[source] PrepareError),
    /// Preparing the row panicked; its batch ran without it.
    #[error("preparing the row panicked: {message}")]
    PreparePanicked {
        /// What the panic said.
        message: String,
    },
    /// The engine refused the batch the row was in.
    #[error("the batch could not be run")]
    Run(#[source] Arc<RunError>),
    /// The engine panicked on the batch the row was in, and was replaced.
    #[error("the backend panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// The engine's answer does not have a row for every row of the batch.
    #[error("output {output} has shape {found:?} for a batch of {rows} rows")]
    Output {
        /// Which output, from 0.
        output: usize,
        /// Its shape.
        found: Vec<usize>,
        /// Rows of the batch.
        rows: usize,
    },
    /// The row was dropped without an answer: a bug of this crate.
    #[error("the row was lost")]
    Lost,
}
