//! `[predictions]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, PredictionLogConfig, invalid};

/// `[predictions]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictionsConfig {
    /// How often a battery is predicted anew at most.
    #[serde(with = "humantime_serde")]
    pub renew_interval: Duration,
    /// Share of its inputs that the thermal-risk model must know to raise an alert by itself.
    pub alert_coverage_min: f32,
    /// Probability of a class, or a higher one, from which on it raises an alert by itself.
    pub alert_probability_min: f32,
    /// Which predictions are kept, and for how long.
    pub log: PredictionLogConfig,
}

// === impl PredictionsConfig ===

impl PredictionsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let (found, day) = (self.renew_interval, Duration::from_secs(86_400));
        if !(Duration::from_millis(100)..=day).contains(&found) {
            return Err(invalid(format!("predictions.renew_interval is {found:?}, expected 100ms to 1day")));
        }
        for (name, found) in
            [("alert_coverage_min", self.alert_coverage_min), ("alert_probability_min", self.alert_probability_min)]
        {
            if !(0.0..=1.0).contains(&found) {
                return Err(invalid(format!("predictions.{name} is {found}, expected 0 to 1")));
            }
        }
        self.log.check()
    }
}
