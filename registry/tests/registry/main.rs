//! The registry over its own stores.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod audit;
mod concurrency;
mod corruption;
mod crash;
mod faults;
mod garbage;
mod hostile;
mod import;
mod listing;
mod open;
mod resume;
mod round_trip;
mod start;
mod support;
mod trust;
mod upload;
