//! Alerts: the thermal rule, fleet rules, the life of an alert, and where alerts are sent.
//!
//! Invariants:
//!
//! - The rule's opinion of a pack depends on which readings came, not on their order or on repetitions, and a sensor that
//!   is wrong once, or jumps once, raises nothing by its rise.
//! - A vehicle has at most one open alert of a topic; of what the rule, a limit and a model say, the most severe counts.
//! - Everything is bounded: what is remembered of a pack, alerts, subscribers' queues, what waits for a webhook. What meets
//!   a bound is counted, and gives way by severity.
//! - Reporting never waits: not for subscribers, not for a webhook.
//! - Of a restart nobody hears: alerts that were kept ([`Alert`] and [`AlertEvent`] are serde's) go on with their ids,
//!   acknowledgements and what webhooks owe, and are not raised again. Where they are kept is not known here.
//! - Rule and [`Book`] are pure: time comes in as an argument, and ids from a seed.
//!
//! Not here: models, and when they are asked; where readings come from; the wire; which pack has which chemistry.
//!
//! ```
//! use ev_alerts::{Alerts, AlertsConfig, Filter, Pack, Page, Report, Sample};
//! use ev_domain::{RiskClass, VehicleId};
//!
//! let config = AlertsConfig::default();
//! let thresholds = config.rule.thresholds(Some("nmc"))?;
//! let alerts = Alerts::new(config.life, 7);
//!
//! let vehicle = VehicleId::new("bus-12")?;
//! let mut pack = Pack::default();
//! for (second, celsius) in (0..).zip([30.0, 31.5, 33.0, 34.5, 36.0]) {
//!     let now_us = second * 1_000_000;
//!     let sample = Sample { hottest_celsius: celsius, ..Sample::at(now_us) };
//!     if let Some(assessment) = pack.observe(&thresholds, &sample, now_us) {
//!         alerts.report(&Report::of_rule(&vehicle, &assessment), now_us);
//!     }
//! }
//! let open = alerts.list(&Filter::default(), &Page::default())?.alerts;
//! assert_eq!(open[0].class, Some(RiskClass::Alarm));
//! assert_eq!(open[0].finding.sign, "rate");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alert;
mod book;
mod config;
mod error;
mod fleet;
mod hub;
mod rule;
mod saved;
mod severity;
pub mod webhook;

pub use alert::{Acknowledgement, Alert, AlertEvent, Finding, Happening, Origin, Report, State, Topic};
pub use book::{BY_BYTES_MAX, Book, Counts, Filter, Listing, NOTE_BYTES_MAX, Page};
pub use config::{AlertsConfig, DEFAULT_TOML, LifeConfig, RaiseAfter};
pub use error::{AlertError, ConfigError, SignatureError};
pub use fleet::{FleetAction, FleetConfig, FleetRule, Level, Quantity, Side};
pub use hub::{Alerts, Notice, Subscription};
pub use rule::{Assessment, Cause, ChemistryConfig, Pack, RuleConfig, Sample, Samples, Thresholds};
