//! What is wrong with a file, before the file has a name.

use ev_models_core::LoadError;

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Not what the format demands.
    Malformed { place: String, problem: String },
    /// Sound, but beyond this backend.
    Unsupported { what: String, advice: String },
}

// === impl Problem ===

impl Problem {
    pub(super) fn malformed(place: impl Into<String>, problem: impl Into<String>) -> Problem {
        Problem::Malformed { place: place.into(), problem: problem.into() }
    }

    pub(super) fn unsupported(what: impl Into<String>, advice: impl Into<String>) -> Problem {
        Problem::Unsupported { what: what.into(), advice: advice.into() }
    }

    pub(super) fn into_error(self, file: &str) -> LoadError {
        let file = file.to_owned();
        match self {
            Problem::Malformed { place, problem } => LoadError::Malformed { file, place, problem },
            Problem::Unsupported { what, advice } => LoadError::Unsupported { file, what, advice },
        }
    }
}
