//! What comes out of the pipeline: an outcome, or an error that says what to do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ev_batching::Cut;
use ev_images::Info;
use ev_models_core::RunError;

use super::tap::{Draw, Inputs};

/// The answer to one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// When the decoded request was taken up; of it comes the prediction's id.
    pub(crate) taken: Instant,
    /// The calibrated value.
    pub(crate) estimate: Estimate,
    /// The point head's own prediction, where the caller wanted it; empty otherwise.
    pub(crate) raw: Vec<f32>,
    /// Share of the model's inputs that were given and known, 0 to 1.
    pub(crate) coverage: f32,
    /// Inputs outside what the model was trained on; empty for most rows.
    pub(crate) out_of_distribution: Vec<OutOfDistribution>,
    /// Where the time went.
    pub(crate) timings: Timings,
    /// The batch it was run in; none when it ran inline.
    pub(crate) batch: Option<BatchInfo>,
    /// What the picture was; none of other rows, and of tensors.
    pub(crate) picture: Option<Info>,
    /// The random part of its prediction's id.
    pub(crate) draw: Draw,
    /// What was assembled, where somebody wants to see it.
    pub(crate) inputs: Option<Arc<Inputs>>,
}

/// The batch a row was run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchInfo {
    /// Its rows, those of other callers included.
    pub(crate) rows: usize,
    /// Why it was cut when it was.
    pub(crate) cut: Cut,
}

/// A calibrated value, in the output's unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Estimate {
    /// q10, q50 and q90, in order.
    Quantiles([f32; 3]),
    /// 0 to 1.
    Probability(f32),
    /// One a class, in the output's order, summing to 1.
    Classes(Vec<f32>),
    /// The point head's own prediction.
    Prediction(Vec<f32>),
    /// The model has no variant for this row: it does not know.
    Unknown,
}

/// An input outside what the model was trained on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutOfDistribution {
    /// Position in the model's inputs.
    pub(crate) input: usize,
    /// Why.
    pub(crate) reason: OutOfDistributionReason,
    /// What was sent.
    pub(crate) value: String,
}

/// Why an input is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutOfDistributionReason {
    /// A text that is not in the vocabulary.
    UnknownCategory,
    /// A number outside the trained range.
    OutsideTrainedRange,
    /// A text without a variant.
    NoVariant,
    /// The likeliest class is too unlikely.
    NoLikelyClass,
}

/// Where the time of a prediction went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Timings {
    /// Waiting for a place in a batch.
    pub(crate) queue: Duration,
    /// Checking and assembling.
    pub(crate) features: Duration,
    /// Running the heads and calibrating.
    pub(crate) inference: Duration,
    /// All of it.
    pub(crate) total: Duration,
}

/// A field that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Field name.
    pub(crate) field: String,
    /// Stable reason, such as `OUT_OF_RANGE`.
    pub(crate) reason: &'static str,
    /// What was sent, what is expected, what to do.
    pub(crate) description: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PredictError {
    /// Fields were refused.
    #[error("{}", summary(.0))]
    Invalid(Vec<Violation>),
    /// No model of this name.
    #[error("no model `{name}` is registered; registered: {known}")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// Names that exist.
        known: String,
    },
    /// No such version.
    #[error("model `{name}` has no version {version}; it has: {known}")]
    UnknownVersion {
        /// Model name.
        name: String,
        /// What was asked for.
        version: String,
        /// Versions that exist.
        known: String,
    },
    /// No such alias.
    #[error("model `{name}` has no alias `{alias}`; it has: {known}")]
    UnknownAlias {
        /// Model name.
        name: String,
        /// What was asked for.
        alias: String,
        /// Aliases that exist.
        known: String,
    },
    /// The version exists, and nobody asked for it to be served.
    #[error("version {version} of model `{name}` is not served, those that are: {served}; {reason}")]
    NotServed {
        /// Model name.
        name: String,
        /// Version number.
        version: u32,
        /// Versions that are.
        served: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The version exists but cannot serve.
    #[error("version {version} of model `{name}` does not serve: {reason}")]
    NotServable {
        /// Model name.
        name: String,
        /// Version number.
        version: u32,
        /// Why, and what to do.
        reason: String,
    },
    /// The version is being loaded.
    #[error("version {version} of model `{name}` is still loading")]
    Loading {
        /// Model name.
        name: String,
        /// Version number.
        version: u32,
    },
    /// The model answers another question.
    #[error("model `{name}` is for task `{found}`, expected `{expected}`")]
    WrongTask {
        /// Model name.
        name: String,
        /// Its task.
        found: &'static str,
        /// The service's task.
        expected: &'static str,
    },
    /// A batch without rows.
    #[error("the batch has no rows, expected at least one")]
    EmptyBatch,
    /// A batch with too many rows.
    #[error("the batch has {rows} rows, expected at most {max}; split it, or use the stream")]
    TooManyRows {
        /// Rows sent.
        rows: usize,
        /// The bound.
        max: usize,
    },
    /// The row is good, but its batch is answered as a whole and another row is bad.
    #[error("another row of the batch was refused; correct or leave out that row")]
    Abandoned,
    /// The caller's deadline passed.
    #[error("the deadline passed before the answer was ready")]
    DeadlineExceeded,
    /// By what runs take and what waits before it, the answer would come after the caller's deadline.
    #[error("the answer would have been ready only after the deadline; nothing was run")]
    WouldMissDeadline,
    /// The model's queue has no room.
    #[error("the model's queue is full with {rows} rows of {bytes} bytes; try again in {retry_after:?}")]
    QueueFull {
        /// Rows waiting.
        rows: usize,
        /// Bytes waiting.
        bytes: usize,
        /// When there should be room.
        retry_after: Duration,
    },
    /// More urgent rows took its place in a full queue.
    #[error("more urgent requests filled the model's queue; try again in {retry_after:?}")]
    Displaced {
        /// When there should be room.
        retry_after: Duration,
    },
    /// Nothing is known of the vehicle.
    #[error(
        "nothing is known of vehicle `{vehicle}`: stream its readings to ev.telemetry.v1.TelemetryIngest, write its \
         features with ev.features.v1.FeatureStore, or give the fields without `vehicle_id`"
    )]
    UnknownVehicle {
        /// What was asked for.
        vehicle: String,
    },
    /// The feature store cannot say what is known of the vehicle.
    #[error("the features of vehicle `{vehicle}` cannot be read: {problem}")]
    FeaturesUnavailable {
        /// What was asked for.
        vehicle: String,
        /// Why.
        problem: String,
    },
    /// The server is going away.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The backend failed.
    #[error("the model could not be run")]
    Backend(#[source] RunError),
    /// The backend panicked; its instance was replaced.
    #[error("the model could not be run")]
    Panicked,
}

// === impl Outcome ===

impl Outcome {
    /// Whether the likeliest class is too unlikely to be relied on.
    pub(crate) fn is_unknown(&self) -> bool {
        self.out_of_distribution.iter().any(|field| field.reason == OutOfDistributionReason::NoLikelyClass)
    }
}

// === impl Estimate ===

impl Estimate {
    /// q10, q50 and q90; NaN where the output is of another kind.
    ///
    /// A task's service is only reached by models whose output kind is the task's, which registration checks.
    #[must_use]
    pub(crate) fn quantiles(&self) -> [f32; 3] {
        match self {
            Estimate::Quantiles(quantiles) => *quantiles,
            _ => [f32::NAN; 3],
        }
    }
}

// === impl PredictError ===

impl PredictError {
    /// Whether the caller, or the end of the server, is why there is no answer, whichever version was asked.
    pub(crate) fn is_of_caller(&self) -> bool {
        !matches!(
            self,
            PredictError::Backend(_)
                | PredictError::Panicked
                | PredictError::DeadlineExceeded
                | PredictError::WouldMissDeadline
                | PredictError::QueueFull { .. }
                | PredictError::Displaced { .. }
        )
    }

    /// The same error for every row of a refused submission.
    pub(super) fn for_each_row(self) -> impl Fn() -> PredictError {
        move || match &self {
            PredictError::QueueFull { rows, bytes, retry_after } => {
                PredictError::QueueFull { rows: *rows, bytes: *bytes, retry_after: *retry_after }
            }
            PredictError::WouldMissDeadline => PredictError::WouldMissDeadline,
            PredictError::ShuttingDown => PredictError::ShuttingDown,
            error => PredictError::Backend(RunError::Engine { backend: "batch", reason: error.to_string() }),
        }
    }
}

fn summary(violations: &[Violation]) -> String {
    match violations {
        [] => "the request is not valid".to_owned(),
        [one] => format!("`{}` {}", one.field, one.description),
        [first, rest @ ..] => {
            format!("`{}` {} (and {} more field violations)", first.field, first.description, rest.len())
        }
    }
}
