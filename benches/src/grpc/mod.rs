//! Servers as processes, and what loads them.
//!
//! A server is pinned to some processors and its client to others with `taskset`, so that what the server used is its own.

mod client;
mod process;

pub use client::{Calls, H2load, Latency, LoadReport, Target, load, load_beside, write_body};
pub use process::{Placement, Process, machine};
