//! Load tests of evserve: requests on a fixed schedule, percentiles, and thresholds that fail.
//!
//! Invariants:
//!
//! - Open loop: a request is due when the schedule says, whether or not earlier ones were answered, and its latency counts from then. A server that stalls is charged for everything it kept waiting (no coordinated omission).
//! - The client's own lateness is reported beside the latency, so that a slow client is not taken for a slow server.
//! - [`run_ingest`] counts a batch's latency from when it was due as well; the wait for the server's credit is part of it, and reported beside it.
//! - What is in flight is bounded; a request that would exceed the bound is counted as dropped, and fails the test.
//! - Nothing is retried.
//!
//! - Tests of changing versions ([`run_swaps`] and its siblings) start a server of their own and take turns with and without the change.
//!
//! Not here: comparing servers with others (`benches`).
//!
//! ```no_run
//! use ev_loadtests::{Load, Pace, Picture, Scenario};
//!
//! # async fn example() -> Result<(), ev_loadtests::LoadError> {
//! let load = Load { scenario: Scenario::Stream, pace: Pace::Rate(20_000.0), ..Load::default() };
//! let report = ev_loadtests::run(&load).await?;
//! println!("p99 {} us", report.latency_us.p99);
//! # Ok(())
//! # }
//! ```

mod alerts;
mod awake;
mod cars;
mod driver;
mod ingest;
mod load;
mod recorder;
mod report;
mod swap;
mod thresholds;

pub use alerts::{AlertsLoad, AlertsReport, run_alerts};
pub use awake::Awake;
pub use cars::cars;
pub use driver::{LoadError, run, run_beside};
pub use ingest::{Connection, IngestLoad, IngestPace, IngestReport, IngestThresholds, Vice, run_hostile, run_ingest};
pub use load::{Load, Pace, Picture, Scenario};
pub use report::{Percentiles, Report};
pub use swap::{
    Asked, Bench, CyclesReport, MemorySample, Place, RollbackReport, RollbackRound, ServerError, ShadowReport,
    ShadowRound, Subject, SubjectError, SwapError, SwapReport, SwapRound, SwapsPlan, Undisturbed, run_cycles,
    run_rollbacks, run_shadow, run_swaps,
};
pub use thresholds::Thresholds;
