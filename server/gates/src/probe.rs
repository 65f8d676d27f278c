//! How gates ask a loaded version.

use std::time::Duration;

/// Most time that generated rows are run for, by the measured cost of a row.
pub const PROBE_TIME: Duration = Duration::from_secs(2);
/// Most rows that are generated at random.
pub const ROWS_MAX: usize = 4096;
/// Most rows that are tried in search of classes that random rows have not met.
pub const SEARCH_ROWS_MAX: usize = 8192;

/// A value of an input.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// FP32, one value.
    Number(f32),
    /// FP32 with a shape.
    Vector(Vec<f32>),
    /// BYTES.
    Text(String),
    /// BOOL.
    Flag(bool),
}

/// A value for each of the manifest's inputs, in their order; none for one that is not given.
pub type Row = Vec<Option<Value>>;

/// A loaded version that answers rows. It serves nobody while it does.
pub trait Probe {
    /// The answer to a row, in the output's unit: the median of quantiles, a probability, one probability a class in the
    /// manifest's order, or the prediction. None where the version refuses the row or has no estimate for it.
    fn predict(&self, row: &Row) -> Option<Vec<f64>>;
}

/// What was measured when the version was loaded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// The golden requests that were reproduced, but for those that are pictures.
    pub golden: Vec<Row>,
    /// How many were reproduced, pictures too.
    pub golden_count: usize,
    /// Cost of a row, which bounds how many are asked for; none where it was not measured.
    pub row: Option<Duration>,
    /// Whether that is what it costs where it serves: of a build that is not optimised it says nothing.
    pub row_counts: bool,
    /// Bytes that an instance takes at least; none where that is not known.
    pub instance_bytes: Option<u64>,
}

/// The version that is judged.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// It loads and reproduces its golden requests.
    Loaded {
        /// It, as it answers.
        probe: &'a dyn Probe,
        /// What was found.
        measured: &'a Measured,
    },
    /// It does not.
    Refused {
        /// Why.
        reason: &'a str,
    },
}

// === impl Value ===

impl Value {
    /// The value as a number: a flag is 0 or 1; none of texts and vectors.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(f64::from(*number)),
            Value::Flag(flag) => Some(f64::from(u8::from(*flag))),
            Value::Text(_) | Value::Vector(_) => None,
        }
    }
}

// === impl Measured ===

impl Measured {
    /// Rows that fit into [`PROBE_TIME`], at most `max`.
    pub(crate) fn rows(&self, max: usize) -> usize {
        let Some(row) = self.row.filter(|row| !row.is_zero()) else { return max };
        usize::try_from(PROBE_TIME.as_nanos() / row.as_nanos()).unwrap_or(max).min(max)
    }
}
