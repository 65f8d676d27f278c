//! What happened, as it is reported.

use uuid::Uuid;

/// What came of a prediction.
#[derive(Debug, Clone, PartialEq)]
pub enum Actual {
    /// A number, in the unit of the model's output; of an event, 1 where it happened and 0 where not.
    Number(f64),
    /// The name of a class.
    Class(String),
}

/// One outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Of the prediction's reply.
    pub prediction: Uuid,
    /// What happened.
    pub actual: Actual,
    /// When it was seen, in microseconds since 1970.
    pub observed_us: Option<i64>,
    /// Takes the place of what was reported before, which is kept beside.
    pub supersedes: bool,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reported {
    /// It was the first, and is stored.
    Stored,
    /// The same was reported before.
    Known,
    /// It took the place of another.
    Superseded {
        /// What was reported before, as [`Actual`] says it.
        before: Actual,
    },
    /// Refused: something else was reported before.
    Conflict {
        /// What that was.
        before: Actual,
    },
    /// Refused: no such prediction is kept here.
    NotLogged,
    /// Refused: it is not what the model predicts.
    Invalid {
        /// What was found and what was expected.
        problem: String,
    },
}

/// Where reports come from, at most this many bytes of it.
pub const SOURCE_BYTES_MAX: usize = 64;
/// Most reports that are stored at one time.
pub const REPORTS_MAX: usize = 10_000;
