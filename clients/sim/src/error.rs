//! Errors of the simulator.

use std::io;

/// Something asked of the simulator cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// Not a fault.
    #[error("`{text}` is no fault, expected VEHICLE:KIND@SECOND with KIND one of {kinds}")]
    Fault {
        /// What was given.
        text: String,
        /// Names of all kinds.
        kinds: String,
    },
    /// A recording cannot be read as one.
    #[error("line {line}: {problem}")]
    Recording {
        /// From 1.
        line: usize,
        /// What was found and what was expected.
        problem: String,
    },
    /// Reading or writing failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}
