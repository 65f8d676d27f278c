//! Errors of rollouts.

use crate::{Action, Phase};

/// A rollout was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// A field of the plan has a value it may not have.
    #[error("`{field}` is {found}, expected {expected}")]
    InvalidPlan {
        /// Such as `steps[1].percent`.
        field: String,
        /// What was given.
        found: String,
        /// What may be given.
        expected: &'static str,
    },
    /// Candidate and production are one version.
    #[error("version {version} of model `{model}` is production already, expected another version as candidate")]
    SameVersion {
        /// Model name.
        model: String,
        /// Version number.
        version: u32,
    },
    /// The rollout is not where the action means anything.
    #[error("the rollout is {}, which {} does not apply to; it applies to rollouts that are {expected}", phase.name(), action.name())]
    NotNow {
        /// What was asked for.
        action: Action,
        /// Where the rollout is.
        phase: Phase,
        /// Where it would have to be.
        expected: &'static str,
    },
}
