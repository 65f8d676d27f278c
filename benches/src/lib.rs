//! What the benchmarks share: peers to measure against, and medians.
//!
//! Invariants:
//!
//! - A peer is measured in the same run as what it is compared with, alternating with it.
//! - Whoever lacks a peer's library still gets the other numbers, and is told what was skipped.
//!
//! Not here: the benchmarks themselves, one file per question under `benches/`.
//!
//! ```
//! let fastest_first = ev_benches::median(vec![3.0, 1.0, 2.0]);
//! assert_eq!(fastest_first, 2.0);
//! ```

#[cfg(feature = "server")]
pub mod grpc;
mod xgboost;

pub use xgboost::{Xgboost, XgboostError};

/// The middle of some measurements; NaN of none.
#[must_use]
pub fn median(mut measurements: Vec<f64>) -> f64 {
    measurements.sort_unstable_by(f64::total_cmp);
    measurements.get(measurements.len() / 2).copied().unwrap_or(f64::NAN)
}
