//! From readings to rows: [`Aggregator`] keeps, for each vehicle, what its views need, and computes rows that changed.
//!
//! The state of a vehicle is a fold over its readings in the order of their times. Readings of the last while are held
//! beside the state as it was before them, so that a late one is put in its place and everything after it is folded
//! again: what comes out is, bit for bit, what the readings give in order.

mod acc;
mod aggregator;
mod fold;
mod history;
mod program;
mod session;
mod vehicle;
mod window;

use std::time::Duration;

pub(crate) use acc::Aggregate;
pub use aggregator::{Aggregator, AggregatorSettings, Applied, Counts};
pub(crate) use program::{Direction, Program, ProgramBuilder, SessionSpec, Source};

/// A duration in whole microseconds; beyond 292,000 years, those.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
