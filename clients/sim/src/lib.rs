//! A seeded fleet of simulated vehicles: what their sensors say, and what is true.
//!
//! Invariants:
//!
//! - The same configuration and seed give the same readings, bit for bit on one platform; a vehicle's do not depend on
//!   how many others there are.
//! - Truth never passes a sensor, and no sensor knows the truth's future.
//! - Nothing here knows a network or a clock: time is the simulation's own.
//!
//! The physics are small and stated: an equivalent circuit with one RC pair, modules as lumped masses with one cell of its
//! own, and the decomposition reactions of Hatchard and Kim. [`pack`] and [`kinetics`] name the source of each constant;
//! the constants were fixed before any rule or model was run on the results.
//!
//! Not here: propagation from cell to cell, venting and fire, and what a battery management does about a fault.
//!
//! ```
//! use evsim::{Fleet, FleetConfig};
//!
//! let fleet = Fleet::new(FleetConfig { vehicles: 2, seed: 7, ..FleetConfig::default() });
//! let emissions: Vec<_> = fleet.take(6).collect();
//! assert_eq!(emissions[0].batch.vehicle_id, "sim-0");
//! assert_eq!(emissions[1].batch.vehicle_id, "sim-1");
//! assert!(emissions.iter().all(|emission| emission.truth.hottest_cell_celsius < 60.0));
//! ```

pub mod batch;
pub mod chemistry;
mod day;
mod error;
pub mod fault;
mod fleet;
pub mod kinetics;

pub mod output;
pub mod pack;
pub mod replay;

mod road;
mod transport;
mod vehicle;

pub use batch::{Batch, Column, Signal, Truth};
pub use chemistry::Chemistry;
pub use day::Start;
pub use error::SimError;
pub use fault::{Fault, FaultKind, Short};
pub use fleet::{Emission, Fleet, FleetConfig, ONSET_CELSIUS};
pub use vehicle::{Vehicle, VehicleConfig};
