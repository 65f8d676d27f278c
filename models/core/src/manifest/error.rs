//! What is wrong with a manifest.

/// A manifest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not TOML (or JSON), a missing key, an unknown key, or a value of the wrong type.
    #[error("manifest cannot be read: {reason}")]
    Syntax {
        /// The parser's words, with line and column.
        reason: String,
    },
    /// Larger than any honest manifest.
    #[error("manifest has {bytes} bytes, expected at most {max_bytes}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max_bytes: usize,
    },
    /// Readable, but not consistent.
    #[error("manifest is not valid at `{place}`: {problem}")]
    Invalid {
        /// The key, such as `inputs[3].range`.
        place: String,
        /// What was found and what was expected.
        problem: String,
    },
}
