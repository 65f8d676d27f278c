//! What callers notice when a model's version changes under load: swaps, rollbacks, shadows, and a thousand reloads.
//!
//! These tests start a server of their own, since its processor, its memory and its versions are what they look at.
//! Each question is answered by turns: with the change and without it, in one run, so that the machine's mood is in both.

mod absence;
mod cycles;
mod probe;
mod rollback;
mod server;
mod shadow;
mod slower;
mod subject;
mod swaps;

pub use cycles::{CyclesReport, MemorySample, run_cycles};
pub use rollback::{RollbackReport, RollbackRound, run_rollbacks};
pub use server::{Place, ServerError};
pub use shadow::{ShadowReport, ShadowRound, run_shadow};
pub use subject::{Asked, Subject, SubjectError};
pub use swaps::{SwapReport, SwapRound, SwapsPlan, Undisturbed, run_swaps};

use std::time::Duration;

use crate::LoadError;

/// What all of these tests need.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The server's program and processors.
    pub place: Place,
    /// The model that changes, and how it is asked.
    pub subject: Subject,
    /// Load while it changes, as share of what fills the server's processors, 0 to 1.
    pub load: f64,
    /// Connections of the load.
    pub connections: usize,
    /// Turns.
    pub rounds: usize,
    /// Requests a second instead of that share.
    pub rate: Option<f64>,
}

/// A test of changing versions could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// The server cannot be started or asked.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The model is not one that can be asked.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The load could not begin.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The server refused a change.
    #[error("the server refused to {what}")]
    Refused {
        /// What it was asked for.
        what: &'static str,
        /// Its words.
        #[source]
        source: Box<ev_client::Error>,
    },
    /// A rollout did not get where it should.
    #[error("the rollout is {state} after {waited:?}: {reason}")]
    Rollout {
        /// Where it is.
        state: String,
        /// How long that was waited for.
        waited: Duration,
        /// The rollout's own reason.
        reason: String,
    },
}

/// The server refused a change.
fn refused(what: &'static str) -> impl Fn(ev_client::Error) -> SwapError {
    move |source| SwapError::Refused { what, source: Box::new(source) }
}

/// The middle of some measurements; NaN of none.
fn median(mut found: Vec<f64>) -> f64 {
    found.sort_unstable_by(f64::total_cmp);
    let middle = |index: usize| found.get(index).copied().unwrap_or(f64::NAN);
    f64::midpoint(middle(found.len().saturating_sub(1) / 2), middle(found.len() / 2))
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 8.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
