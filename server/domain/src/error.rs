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
