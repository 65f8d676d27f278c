//! Errors of this crate.

use std::fmt::{Debug, Display};

/// A setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{setting}` is {found}, expected {expected}")]
pub struct ConfigError {
    /// Its path below `alerts`.
    pub setting: &'static str,
    /// What it is.
    pub found: String,
    /// What it may be.
    pub expected: String,
}

/// An alert could not be found, listed or acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AlertError {
    /// No such alert, or it was forgotten.
    #[error("alert {id} does not exist")]
    NotFound {
        /// What was asked for.
        id: uuid::Uuid,
    },
    /// The page asked for cannot be.
    #[error("the page is refused: {problem}")]
    InvalidPage {
        /// What was found and what was expected.
        problem: &'static str,
    },
    /// A text beyond its bound.
    #[error("`{field}` has {bytes} bytes, expected at most {max_bytes}")]
    TooLong {
        /// Which text.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// Longest accepted length.
        max_bytes: usize,
    },
}

/// A webhook's signature does not prove its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not `t=SECONDS,v1=HEX`.
    #[error("the header is not `t=SECONDS,v1=HEX`")]
    Malformed,
    /// Its time is too far from now: perhaps a replay.
    #[error("the time is more than the tolerance away")]
    OutOfTolerance,
    /// Another secret, or another body.
    #[error("the signature does not match")]
    Mismatch,
}

// === impl ConfigError ===

impl ConfigError {
    pub(crate) fn new(setting: &'static str, found: impl Display, expected: impl Into<String>) -> ConfigError {
        ConfigError { setting, found: format!("`{found}`"), expected: expected.into() }
    }
}

/// NaN is in no range.
pub(crate) fn in_range<N: PartialOrd + Debug>(
    setting: &'static str,
    found: N,
    min: N,
    max: N,
) -> Result<(), ConfigError> {
    if found >= min && found <= max {
        return Ok(());
    }
    Err(ConfigError { setting, found: format!("{found:?}"), expected: format!("{min:?}..={max:?}") })
}
