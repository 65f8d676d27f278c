//! A new version's way to production: what is planned, whose requests it gets, what was seen of it, and what follows.
//!
//! Invariants:
//!
//! - Everything is pure: time comes in as an argument, and a rollout's state is a document that any replica can read,
//!   judge and write back. Of the same document and the same observations every replica makes the same decision.
//! - A key never changes sides while the share stays, and a larger share only adds keys.
//! - Observations add up: replicas' merge to what one process would have seen, in any order.
//! - A guard fails only when what was seen cannot be noise, however often it is looked at, and says what it measured.
//! - Everything is bounded: steps, cohorts, classes, buckets of a sketch, entries of a history.
//!
//! Not here: where a rollout is kept, loading versions, routing requests, the wire, the clock.
//!
//! ```
//! use ev_rollouts::{Key, Observations, Phase, Plan, Readiness, Rollout, Share, Split, View};
//!
//! let plan = Plan::default();
//! let rollout = Rollout::start("r-1", "ev-range", 3, 4, plan, "kim", 0)?;
//! let seen = Observations::default();
//! let view = View { now_ms: 1_000, observations: &seen, candidate: &Readiness::Ready, production: Some(3) };
//! let shadowing = rollout.tick(&view).expect("the candidate is loaded").rollout;
//! assert_eq!(shadowing.phase, Phase::Shadowing);
//! assert_eq!(shadowing.share(), Share::NONE);
//!
//! let (five, ten) = (Share::percent(5.0)?, Share::percent(10.0)?);
//! let split = Split::new(&rollout.id);
//! let is_canary = |share| split.takes(Key::of(b"car-17"), share);
//! assert!(!is_canary(five) || is_canary(ten));
//! # Ok::<(), ev_rollouts::RolloutError>(())
//! ```

mod confidence;
mod error;
mod guards;
mod judge;
mod observations;
mod plan;
mod rollout;
mod sketch;
mod split;

pub use error::RolloutError;
pub use guards::Guards;
pub use judge::{GuardName, GuardState, GuardStatus, judge};
pub use observations::{
    ALL, Answer, CLASSES_MAX, COHORTS_MAX, ClassPairs, Moments, Observations, Outputs, Pairs, Said, Side, Truths,
};
pub use plan::{Plan, STEPS_MAX, ShadowPlan, Step, StickyKey};
pub use rollout::{Action, Event, HISTORY_MAX, Move, Phase, REASON_BYTES_MAX, Readiness, Rollout, Transition, View};
pub use sketch::Sketch;
pub use split::{Key, Share, Split};
