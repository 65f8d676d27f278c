//! What can be wrong with a value, in words a caller can act on.

/// A feature's value was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct FeatureError {
    /// Field name as on the wire.
    pub field: &'static str,
    /// What is wrong with its value.
    pub problem: Problem,
}

/// What is wrong with a value; reads on after the field's name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Outside the physically plausible range.
    #[error("is {value}, expected {min} to {max}{}", suffix(unit))]
    OutOfRange {
        /// What was sent.
        value: f32,
        /// Smallest plausible value.
        min: f32,
        /// Largest plausible value.
        max: f32,
        /// Unit of all three.
        unit: &'static str,
    },
    /// NaN or infinite.
    #[error("is {value}, expected a finite number")]
    NotFinite {
        /// What was sent.
        value: f32,
    },
    /// A text beyond its bound.
    #[error("has {bytes} bytes, expected at most {max_bytes}")]
    TooLong {
        /// Length of what was sent.
        bytes: usize,
        /// Longest accepted length.
        max_bytes: usize,
    },
    /// A number where a text belongs, or the like.
    #[error("has a value of the wrong kind, expected {expected}")]
    WrongKind {
        /// The kind that belongs there.
        expected: &'static str,
    },
}

/// A unit after a number; counts and ratios, whose unit is `1`, go without.
fn suffix(unit: &str) -> String {
    if unit == "1" { String::new() } else { format!(" {unit}") }
}

/// A vehicle id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("vehicle id {0}")]
pub struct VehicleIdError(pub(crate) &'static str);

// === impl VehicleIdError ===

impl VehicleIdError {
    /// What is wrong, to be read after the name of the field that holds the id.
    #[must_use]
    pub fn problem(&self) -> &'static str {
        self.0
    }
}

/// A signal cannot be taken in as it was declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// No such name.
    #[error("signal `{name}` is unknown, expected {expected}")]
    Unknown {
        /// What was declared.
        name: String,
        /// What may be.
        expected: &'static str,
    },
    /// A unit of another quantity, or one that is not known.
    #[error("signal `{name}` is declared in `{unit}`, expected one of {expected}")]
    WrongUnit {
        /// What was declared.
        name: String,
        /// Its unit.
        unit: String,
        /// Units it may have.
        expected: String,
    },
    /// Names like this one are used in two ways.
    #[error("signal `{name}` needs its unit: `{unit}`, or `-{unit}` where it counts the other way")]
    UnitNotSaid {
        /// What was declared.
        name: String,
        /// The signal's unit.
        unit: String,
    },
}

// === impl SignalError ===

impl SignalError {
    /// So much of a name or unit is repeated in an error.
    const EXCERPT_CHARS: usize = 64;

    pub(crate) fn excerpt(text: &str) -> String {
        text.chars().take(Self::EXCERPT_CHARS).collect()
    }
}
