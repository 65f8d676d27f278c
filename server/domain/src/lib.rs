//! The EV vocabulary every other room speaks: features and signals with units and
//! plausible ranges, readings, and vehicle ids.
//!
//! Invariants:
//!
//! - A name has one meaning, one unit and one plausible range, here and nowhere else.
//! - A value that passed [`Feature::check`] is finite and physically possible.
//!
//! Not here: what a model was trained on (that is the manifest's), the wire (that is `ev-proto`'s), any I/O.
//!
//! ```
//! use ev_domain::{Feature, Value};
//!
//! assert!(Feature::StateOfChargePercent.check(Value::Number(81.0)).is_ok());
//! let error = Feature::StateOfChargePercent.check(Value::Number(810.0)).unwrap_err();
//! assert_eq!(error.to_string(), "`state_of_charge_percent` is 810, expected 0 to 100 %");
//! ```

mod error;
mod features;
mod naming;
mod overlay;
mod readings;
mod risk;
pub mod signals;
mod units;
mod vehicle;

pub use error::{FeatureError, Problem, SignalError, VehicleIdError};
pub use features::{Feature, FeatureKind, FeatureSpec, Value};
pub use naming::Naming;
pub use overlay::OverlayError;
pub use readings::{Column, ReadingBatch, Readings, Source, Values};
pub use risk::{Action, RiskClass, Severity};
pub use signals::{Binding, Catalogue, Signal, SignalId, SignalKind};
pub use vehicle::VehicleId;
