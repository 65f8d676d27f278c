//! What can be wrong with keys and signatures.

/// A key or signature cannot be read or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is no key of this kind.
    #[error("it is no {expected}: {problem}")]
    Malformed {
        /// Such as ``Ed25519 public key in PEM (`PUBLIC KEY`)``.
        expected: &'static str,
        /// What was found.
        problem: String,
    },
    /// The system has no random numbers to give.
    #[error("the system gives no random numbers")]
    NoRandomness,
}
