//! Views as they are written in TOML.

use std::time::Duration;

use serde::Deserialize;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ViewsFile {
    pub(super) sessions: SessionSettings,
    pub(super) views: Vec<ViewFile>,
}

/// What a charge and a discharge are; the default file explains them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionSettings {
    /// Least current that counts as load, in amperes, above 0.
    pub current_min_a: f32,
    /// Load that counts as a session lasts at least so long.
    #[serde(with = "humantime_serde")]
    pub duration_min: Duration,
    /// A session ends when there was no load for so long.
    #[serde(with = "humantime_serde")]
    pub end_after: Duration,
    /// How long a current or flag says what is happening.
    #[serde(with = "humantime_serde")]
    pub signal_age_max: Duration,
    /// Longest time between two readings that counts in durations and integrals.
    #[serde(with = "humantime_serde")]
    pub gap_max: Duration,
    /// State of charge on one side of a full session, percent.
    pub full_low_percent: f32,
    /// State of charge on its other side, percent.
    pub full_high_percent: f32,
}

/// One view.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ViewFile {
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(with = "humantime_serde")]
    pub(super) ttl: Duration,
    #[serde(default)]
    pub(super) written: bool,
    pub(super) features: Vec<FeatureFile>,
}

/// One feature.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FeatureFile {
    pub(super) name: String,
    pub(super) kind: Option<KindName>,
    pub(super) default: Option<DefaultValue>,
    #[serde(default)]
    pub(super) derived: bool,
    pub(super) signal: Option<String>,
    #[serde(default)]
    pub(super) optional: bool,
    pub(super) aggregate: Option<AggregateName>,
    #[serde(default, with = "humantime_serde")]
    pub(super) window: Option<Duration>,
    pub(super) session: Option<SessionName>,
    pub(super) during: Option<Part>,
    pub(super) at_least: Option<f32>,
    pub(super) at_most: Option<f32>,
    pub(super) steady_percent: Option<f32>,
    #[serde(default)]
    pub(super) over_new: bool,
    pub(super) from: Option<f32>,
    pub(super) to: Option<f32>,
}

/// What a fleet's own feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KindName {
    Number,
    Text,
    Flag,
}

/// What stands in for a feature that was never written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum DefaultValue {
    Flag(bool),
    Number(f32),
    Text(String),
}

/// An aggregate's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AggregateName {
    Last,
    First,
    Mean,
    Min,
    Max,
    Delta,
    Rate,
    Drop,
    Std,
    Duration,
    Integral,
    TimeBetween,
}

/// Which session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SessionName {
    LastDischarge,
    RunningDischarge,
    LastCharge,
    RunningCharge,
}

/// Which part of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    Load,
    Rest,
}
