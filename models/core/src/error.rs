//! Errors of backends.

/// A model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file the manifest names is not in the artifact, or cannot be read.
    #[error("cannot read `{file}`: {reason}")]
    Unreadable {
        /// Path inside the artifact.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// The file is not what its format demands.
    #[error("`{file}` is malformed at {place}: {problem}")]
    Malformed {
        /// Path inside the artifact.
        file: String,
        /// Where, such as `learner.gradient_booster.model.trees[17].left_children[3]` or a byte offset.
        place: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// The file is sound but asks for something this backend does not do.
    #[error("`{file}` is not supported: {what}; {advice}")]
    Unsupported {
        /// Path inside the artifact.
        file: String,
        /// What is not supported.
        what: String,
        /// What to do instead.
        advice: String,
    },
    /// The file and the manifest disagree.
    #[error("`{file}` does not fit its manifest: {problem}")]
    Mismatch {
        /// Path inside the artifact.
        file: String,
        /// What differs.
        problem: String,
    },
    /// The backend is not part of this build.
    #[error("backend `{backend}` is not part of this build; built in: {available}")]
    BackendMissing {
        /// The backend the manifest asks for.
        backend: String,
        /// Those that are built in.
        available: String,
    },
    /// The engine failed.
    #[error("backend `{backend}` failed: {reason}")]
    Engine {
        /// Which.
        backend: &'static str,
        /// What it said.
        reason: String,
    },
}

/// A batch could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The batch is not one float32 tensor of the model's width.
    #[error("batch has shape {found}, expected {expected}")]
    Shape {
        /// What came.
        found: String,
        /// What the model takes.
        expected: String,
    },
    /// The engine failed.
    #[error("backend `{backend}` failed: {reason}")]
    Engine {
        /// Which.
        backend: &'static str,
        /// What it said.
        reason: String,
    },
}
